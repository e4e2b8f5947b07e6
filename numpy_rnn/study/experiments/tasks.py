"""Three tasks that need a memory, as generators of random sequences, with the score of one who has none.

adding   (Hochreiter & Schmidhuber, Neural Computation 9, 1997, section 5.4, in the form of Le, Jaitly & Hinton,
         arXiv 1504.00941 v2, and Arjovsky, Shah & Bengio, arXiv 1511.06464 v4): T numbers, two of them marked; what is
         their sum? The numbers are uniform in [0, 1), one mark is in the first half, one in the second. Always
         answering 1 gives a mean squared error of Var(u + v) = 1/6 = 0.167.
copying  (Arjovsky, Shah & Bengio, as above, after Hochreiter & Schmidhuber): ten symbols of eight kinds, T - 1 blanks,
         a delimiter, ten blanks; answer with T + 10 blanks and then the ten symbols. Knowing when to answer, but not
         what, gives a cross-entropy of 10 ln 8 / (T + 20).
lag      one symbol of eight kinds, then blanks only; which was it? Nothing has to be told apart, added or ordered: the
         one difficulty is the lag. Guessing is right one time in eight.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from ...fast.numerics import Array
from ...layers.arguments import check_size
from ...train.batches import Batch
from ...train.learner import loss
from ...train.task import Part

KINDS = 8  # of symbols to remember
COPIED = 10  # symbols of a sequence to copy
BLANK, DELIMITER = KINDS, KINDS + 1
SOLVED = 0.05  # a loss of a twentieth of the baseline, an accuracy of 95 %


class Task(NamedTuple):
    """What there is to learn, and how it is judged."""

    name: str
    input_size: int  # I
    parts: tuple[Part, ...]  # what is asked
    read: Literal["every", "last"]  # whether it is asked at every step, or at the end
    batch: Callable[[int, int, np.random.Generator], Batch]  # of lag, B and rng
    measure: str  # the score's name and unit
    baseline: Callable[[int], float]  # of the lag: the score without a memory
    rising: bool = False  # whether the score is an accuracy rather than the loss

    @property
    def sizes(self) -> dict[str, int]:
        """Arguments of `Network`."""
        return {"input_size": self.input_size, "output_size": self.parts[0].size, "symbols": 0}

    def score(self, y: Array, batch: Batch) -> float:
        """Judge a network's output."""
        return accuracy(y, batch.target[0]) if self.rising else loss(self.parts, y, batch)[0]

    def solves(self, score: float, lag: int) -> bool:
        """Whether a score counts as solved; NaN does not."""
        return score >= 1 - SOLVED if self.rising else score <= SOLVED * self.baseline(lag)


def adding(lag: int, B: int, rng: np.random.Generator) -> Batch:
    """Sequences of the adding problem.

    Parameters
    ----------
    lag : int
        T, steps of a sequence, at least 2. The marks are T/2 steps apart on average.
    B : int
        Sequences.
    rng : numpy.random.Generator

    Returns
    -------
    Batch
        x (T, B, 2): a number in [0, 1), and 1 where it is marked, otherwise 0. target (B, 1): the marked ones' sum.

    Raises
    ------
    ValueError
        If T or B is too small.

    Examples
    --------
    >>> batch = adding(6, 1, np.random.default_rng(0))
    >>> batch.x[:, 0].astype(float).round(2).T.tolist()
    [[0.64, 0.27, 0.04, 0.02, 0.81, 0.91], [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]]
    >>> round(batch.target[0].item(), 2)
    1.08
    """
    T, B = check_size("lag", lag, least=2), check_size("batch", B)
    numbers = rng.random((T, B))
    marks = np.zeros((T, B))
    marks[rng.integers(0, T // 2, B), np.arange(B)] = 1
    marks[rng.integers(T // 2, T, B), np.arange(B)] = 1
    sums = np.sum(numbers * marks, axis=0)
    return Batch(np.stack((numbers, marks), axis=-1).astype(np.float32), (sums[:, None].astype(np.float32),))


def copying(lag: int, B: int, rng: np.random.Generator) -> Batch:
    """Sequences of the copying problem.

    Parameters
    ----------
    lag : int
        T, steps from the last symbol to the first one of its copy, less one; at least 1.
    B, rng : as `adding` takes them

    Returns
    -------
    Batch
        x (T+20, B, 10): symbols one-hot, 0 … 7 to copy, 8 the blank, 9 the delimiter. target (T+20, B): symbols.

    Examples
    --------
    >>> batch = copying(3, 1, np.random.default_rng(0))
    >>> batch.x[:, 0].argmax(axis=-1).tolist()
    [6, 5, 4, 2, 2, 0, 0, 0, 1, 6, 8, 8, 9, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8]
    >>> batch.target[0][:, 0].tolist()
    [8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 6, 5, 4, 2, 2, 0, 0, 0, 1, 6]
    """
    T, B = check_size("lag", lag, least=1), check_size("batch", B)
    symbols = rng.integers(0, KINDS, (COPIED, B))
    seen = np.full((T + 2 * COPIED, B), BLANK)
    target = seen.copy()
    seen[:COPIED] = symbols
    seen[-COPIED - 1] = DELIMITER
    target[-COPIED:] = symbols
    return Batch(np.eye(DELIMITER + 1, dtype=np.float32)[seen], (target,))


def recall(lag: int, B: int, rng: np.random.Generator) -> Batch:
    """Sequences that begin with a symbol and end with the question which it was.

    Parameters
    ----------
    lag : int
        Steps from the symbol to the answer, at least 0.
    B, rng : as `adding` takes them

    Returns
    -------
    Batch
        x (lag+1, B, 8): the symbol one-hot, then zeros. target (B,): the symbol.

    Examples
    --------
    >>> batch = recall(2, 4, np.random.default_rng(0))
    >>> batch.x.shape, batch.x.sum(axis=(1, 2)).tolist(), batch.target[0].tolist()
    ((3, 4, 8), [4.0, 0.0, 0.0], [6, 5, 4, 2])
    """
    T, B = check_size("lag", lag, least=0), check_size("batch", B)
    symbols = rng.integers(0, KINDS, B)
    x = np.zeros((T + 1, B, KINDS), np.float32)
    x[0] = np.eye(KINDS)[symbols]
    return Batch(x, (symbols,))


def accuracy(logits: Array, target: Array) -> float:
    """Fraction of the targets that have the largest logit; where the logits are NaN, NaN.

    Examples
    --------
    >>> accuracy(np.array([[0.1, 0.9], [0.7, 0.3]]), np.array([1, 1]))
    0.5
    """
    return float(np.mean(logits.argmax(axis=-1) == target)) if np.isfinite(logits).all() else math.nan


_TASKS = (
    Task(
        name="adding",
        input_size=2,
        parts=(Part("sum", "numbers", 1),),
        read="last",
        batch=adding,
        measure="mean squared error",
        baseline=lambda lag: 2 / 12,  # the variance of a number uniform in [0, 1) is 1/12; the two are independent
    ),
    Task(
        name="copying",
        input_size=DELIMITER + 1,
        parts=(Part("symbol", "classes", KINDS + 1),),
        read="every",
        batch=copying,
        measure="cross-entropy, nats a step",
        baseline=lambda lag: COPIED * math.log(KINDS) / (lag + 2 * COPIED),
    ),
    Task(
        name="lag",
        input_size=KINDS,
        parts=(Part("symbol", "classes", KINDS),),
        read="last",
        batch=recall,
        measure="accuracy",
        baseline=lambda lag: 1 / KINDS,
        rising=True,
    ),
)
TASKS = {task.name: task for task in _TASKS}
