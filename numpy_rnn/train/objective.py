"""What a step of training sees, and what is minimised, with its gradient.

The loss is the sum over the parts of an answer: the mean squared error of numbers, the cross-entropy of classes in
natural units. Rows are questions: sequences, or their valid steps; padding is in no row and gets a gradient of 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from ..fast.numerics import Array
from ..layers.losses import mean_squared_error, softmax_cross_entropy


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


class Batch(NamedTuple):
    """What one step of training sees: B sequences, or windows of B streams of text."""

    x: Array  # (T, B, I) numbers or (T, B) symbols
    target: tuple[Array, ...]  # of each part (B, O), (B,) or, asked at every step, (T, B)
    lengths: Array | None = None  # (B,), None: all T
    fresh: bool = True  # sequences begin here: states are zero rather than carried on from the batch before
    lr: float | None = None  # the learning rate of this step; None: the optimizer's own

    @property
    def valid(self) -> Array:
        """Which steps belong to the sequences: bool (T, B)."""
        T, B = self.x.shape[:2]
        return np.ones((T, B), bool) if self.lengths is None else np.arange(T)[:, None] < self.lengths

    def share(self, which: slice) -> Batch:
        """Some of its sequences."""
        # Classes that are asked at every step are the only targets with two axes of integers.
        target = tuple(t[:, which] if t.ndim == 2 and t.dtype.kind == "i" else t[which] for t in self.target)
        lengths = None if self.lengths is None else self.lengths[which]
        return self._replace(x=self.x[:, which], target=target, lengths=lengths)


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


def loss(parts: Sequence[Part], y: Array, batch: Batch) -> tuple[Any, Array, int]:
    """Mean loss of a batch, its gradient by the output y, (T, B, O) or (B, O), and how many questions it has."""
    where: Any = batch.valid if y.ndim == 3 and batch.lengths is not None else ...
    rows = y[where]
    total, drows = 0.0, np.empty_like(rows)
    for (part, span), target in zip(spans(parts), batch.target):
        function: Any = mean_squared_error if part.kind == "numbers" else softmax_cross_entropy
        value, drows[..., span] = function(rows[..., span], target[where])
        total += value
    dy = np.zeros_like(y)
    dy[where] = drows
    return total, dy, rows[..., 0].size
