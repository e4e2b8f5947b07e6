"""What a task is: sequences in three splits, what is asked of each, and what a recurrent network has to beat."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np

from ..fast.numerics import Array
from .language import Vocabulary

Outputs = list[Array]  # of each part of the answer (rows, O), see `Part`; of symbols (rows,), bits that each one costs


class Part(NamedTuple):
    """One thing that is asked: numbers, one of some classes, or the next symbol of a text, which is a class, too.

    The outputs for a part are rows (n, O). Of numbers they are the prediction, in standard units; of classes and
    symbols they are logits, or log-probabilities, which are logits too.
    """

    name: str
    kind: Literal["numbers", "classes", "symbols"]
    size: int  # O: how many numbers, classes or symbols
    scale: float = 1.0  # of numbers: units in a standard unit
    offset: float = 0.0  # of numbers: what 0 in standard units is
    unit: str = ""
    labels: tuple[str, ...] = ()  # of classes


def spans(parts: Sequence[Part]) -> Iterator[tuple[Part, slice]]:
    """Which of a network's outputs belong to which part.

    Examples
    --------
    >>> [(part.name, span) for part, span in spans([Part("a", "numbers", 1), Part("b", "classes", 3)])]
    [('a', slice(0, 1, None)), ('b', slice(1, 4, None))]
    """
    start = 0
    for part in parts:
        yield part, slice(start, start + part.size)
        start += part.size


class Split(NamedTuple):
    """N sequences of at most T steps, with what is asked of each."""

    x: Array  # (N, T, I) numbers, NaN after a sequence's end; or (N, T) symbols, -1 there
    lengths: Array | None  # (N,), None: all T
    target: tuple[Array, ...]  # of each part: numbers (N, O), classes (N,) or, asked at every step, (N, T), -1 after it

    @property
    def valid(self) -> Array:
        """Which steps belong to the sequences: bool (N, T)."""
        N, T = self.x.shape[:2]
        return np.ones((N, T), bool) if self.lengths is None else np.arange(T) < self.lengths[:, None]

    @property
    def text(self) -> Array:
        """The one sequence of a text, from its first symbol to the last that is asked: (n,)."""
        return np.append(self.x[0], self.target[0][0, -1])


class Asked(Protocol):
    """What a learner knows of a task."""

    @property
    def read(self) -> Literal["every", "last"]:
        """Whether an answer is asked at every step, or once, from the final states."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """What is asked."""

    @property
    def sizes(self) -> dict[str, int]:
        """What the network's sizes follow from, as `Config.network` takes it."""


class Task(NamedTuple):
    """Real sequences and a question."""

    name: str
    question: str
    source: str
    train: Split
    validation: Split
    test: Split
    read: Literal["every", "last"]  # whether an answer is asked at every step, or once, from the final states
    parts: tuple[Part, ...]
    symbols: int  # how many different ones come in; 0: numbers come in
    baselines: Callable[[Task], dict[str, Outputs]]  # their answers on the test split, rows as in `answers`
    vocabulary: Vocabulary | None = None  # of a text, whose splits are one sequence each, and are asked what comes next

    @property
    def sizes(self) -> dict[str, int]:
        """What the network's sizes follow from, as `Config.network` takes it."""
        inputs = 0 if self.symbols else self.train.x.shape[2]
        return {"input_size": inputs, "output_size": sum(p.size for p in self.parts), "symbols": self.symbols}

    def answers(self, split: Split) -> list[Array]:
        """Of each part what would be right, one row for every question, sequence by sequence."""
        return [t[split.valid] if self.read == "every" else t for t in split.target]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all sequences and answers, to know the data again."""
        digest = hashlib.sha256(self.vocabulary.codes.tobytes() if self.vocabulary else b"")
        for split in (self.train, self.validation, self.test):
            for array in (split.x, split.valid, *split.target):
                digest.update(repr((array.shape, array.dtype.str)).encode() + array.tobytes())
        return digest.hexdigest()


def padded(sequences: Sequence[Array], fill: float) -> tuple[Array, Array]:
    """N sequences (T_n, ...) as one array (N, T, ...) of the longest one's T, filled up behind, and their lengths.

    Examples
    --------
    >>> x, lengths = padded([np.array([1.0, 2.0]), np.array([3.0])], np.nan)
    >>> x.tolist(), lengths.tolist()
    ([[1.0, 2.0], [3.0, nan]], [2, 1])
    """
    lengths = np.array([len(s) for s in sequences])
    x = np.full((len(sequences), lengths.max(), *sequences[0].shape[1:]), fill, sequences[0].dtype)
    for row, s in zip(x, sequences):
        row[: len(s)] = s
    return x, lengths
