"""Three tasks that need a memory, as generators of random sequences, with the score of one who has none.

adding   (Hochreiter & Schmidhuber, Neural Computation 9, 1997, section 5.4, in the form of Le, Jaitly & Hinton,
         arXiv 1504.00941 v2, and Arjovsky, Shah & Bengio, arXiv 1511.06464 v4): T numbers, two of them marked; what is
         their sum? The numbers are uniform in [0, 1), one mark is in the first half, one in the second. Who always
         answers 1 has a mean squared error of Var(u + v) = 1/6 = 0.167.
copying  (Arjovsky, Shah & Bengio, as above, after Hochreiter & Schmidhuber): ten symbols of eight kinds, T - 1 blanks,
         a delimiter, ten blanks; answer with T + 10 blanks and then the ten symbols. Who knows when, but not what, has
         a cross-entropy of 10 ln 8 / (T + 20).
lag      one symbol of eight kinds, then blanks only; which was it? Nothing has to be told apart, added or ordered: the
         one difficulty is the lag. Guessing is right one time in eight.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ...fast.numerics import Array
from ...layers.arguments import check_size
from ...layers.losses import mean_squared_error, softmax_cross_entropy

KINDS = 8  # of symbols to remember
COPIED = 10  # symbols of a sequence to copy
BLANK, DELIMITER = KINDS, KINDS + 1


class Batch(NamedTuple):
    """Sequences and what the model should say at their ends."""

    x: Array  # (T, B, I)
    target: Array  # (n, B, O) numbers, or (n, B) classes from 0 to O-1, for the last n steps


class Task(NamedTuple):
    """What there is to learn, and how it is judged."""

    name: str
    input_size: int  # I
    output_size: int  # O
    batch: Callable[[int, int, np.random.Generator, DTypeLike], Batch]  # of lag, B, rng and dtype
    loss: Callable[[Array, Array], tuple[Any, Array]]  # of the model's output and the target: loss, gradient
    score: Callable[[Array, Array], float]  # what is reported
    measure: str  # the score's name and unit
    baseline: Callable[[int], float]  # of the lag: the score without a memory
    solved: Callable[[int], float]  # of the lag: the score that counts as solved
    rising: bool = False  # whether a higher score is better

    def solves(self, score: float, lag: int) -> bool:
        """Whether a score is as good as `solved`, or better; NaN is not."""
        return score >= self.solved(lag) if self.rising else score <= self.solved(lag)


def adding(lag: int, B: int, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Batch:
    """Sequences of the adding problem.

    Parameters
    ----------
    lag : int
        T, steps of a sequence, at least 2. The marks are T/2 steps apart on average.
    B : int
        Sequences.
    rng : numpy.random.Generator
    dtype : dtype

    Returns
    -------
    Batch
        x (T, B, 2): a number in [0, 1), and 1 where it is marked, otherwise 0. target (1, B, 1): the marked ones' sum.

    Raises
    ------
    ValueError
        If T or B is too small.

    Examples
    --------
    >>> x, target = adding(6, 1, np.random.default_rng(0), np.float64)
    >>> x[:, 0].round(2).T.tolist()
    [[0.64, 0.27, 0.04, 0.02, 0.81, 0.91], [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]]
    >>> target.round(2).item()
    1.08
    """
    T = _checked(lag, B, least=2)
    numbers = rng.random((T, B))
    marks = np.zeros((T, B))
    marks[rng.integers(0, T // 2, B), np.arange(B)] = 1
    marks[rng.integers(T // 2, T, B), np.arange(B)] = 1
    sums = np.sum(numbers * marks, axis=0)
    return Batch(np.stack((numbers, marks), axis=-1).astype(dtype), sums[None, :, None].astype(dtype))


def copying(lag: int, B: int, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Batch:
    """Sequences of the copying problem.

    Parameters
    ----------
    lag : int
        T, steps from the last symbol to the first one of its copy, less one; at least 1.
    B : int
        Sequences.
    rng : numpy.random.Generator
    dtype : dtype

    Returns
    -------
    Batch
        x (T+20, B, 10): symbols one-hot, 0 … 7 to copy, 8 the blank, 9 the delimiter. target (T+20, B): symbols.

    Raises
    ------
    ValueError
        If T or B is too small.

    Examples
    --------
    >>> x, target = copying(3, 1, np.random.default_rng(0))
    >>> x[:, 0].argmax(axis=-1).tolist()
    [6, 5, 4, 2, 2, 0, 0, 0, 1, 6, 8, 8, 9, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8]
    >>> target[:, 0].tolist()
    [8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 6, 5, 4, 2, 2, 0, 0, 0, 1, 6]
    """
    T = _checked(lag, B, least=1)
    symbols = rng.integers(0, KINDS, (COPIED, B))
    seen = np.full((T + 2 * COPIED, B), BLANK)
    target = seen.copy()
    seen[:COPIED] = symbols
    seen[-COPIED - 1] = DELIMITER
    target[-COPIED:] = symbols
    return Batch(_one_hot(seen, DELIMITER + 1, dtype), target)


def recall(lag: int, B: int, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Batch:
    """Sequences that begin with a symbol and end with the question which it was.

    Parameters
    ----------
    lag : int
        Steps from the symbol to the answer, at least 0.
    B : int
        Sequences.
    rng : numpy.random.Generator
    dtype : dtype

    Returns
    -------
    Batch
        x (lag+1, B, 8): the symbol one-hot, then zeros. target (1, B): the symbol.

    Raises
    ------
    ValueError
        If the lag or B is too small.

    Examples
    --------
    >>> x, target = recall(2, 4, np.random.default_rng(0))
    >>> x.shape, x.sum(axis=(1, 2)).tolist(), target.tolist()
    ((3, 4, 8), [4.0, 0.0, 0.0], [[6, 5, 4, 2]])
    """
    T = _checked(lag, B, least=0)
    symbols = rng.integers(0, KINDS, (1, B))
    x = np.zeros((T + 1, B, KINDS), dtype)
    x[:1] = _one_hot(symbols, KINDS, dtype)
    return Batch(x, symbols)


def accuracy(logits: Array, target: Array) -> float:
    """Fraction of the targets that have the largest logit; where the logits are NaN, NaN.

    Examples
    --------
    >>> accuracy(np.array([[0.1, 0.9], [0.7, 0.3]]), np.array([1, 1]))
    0.5
    """
    return float(np.mean(logits.argmax(axis=-1) == target)) if np.isfinite(logits).all() else math.nan


def _squared_error(y: Array, target: Array) -> float:
    return float(mean_squared_error(y, target)[0])


def _cross_entropy(logits: Array, target: Array) -> float:
    return float(softmax_cross_entropy(logits, target)[0])


def _one_hot(symbols: Array, kinds: int, dtype: DTypeLike) -> Array:
    return np.eye(kinds, dtype=dtype)[symbols]


def _checked(lag: int, B: int, *, least: int) -> int:
    check_size("batch", B)
    return check_size("lag", lag, least=least)


def _adding_baseline(lag: int) -> float:
    return 2 / 12  # the variance of a number uniform in [0, 1) is 1/12, and the two are independent


def _copying_baseline(lag: int) -> float:
    return COPIED * math.log(KINDS) / (lag + 2 * COPIED)


SOLVED = 0.05  # a loss of a twentieth of the baseline, an accuracy of 95 %

TASKS = {
    task.name: task
    for task in (
        Task(
            name="adding",
            input_size=2,
            output_size=1,
            batch=adding,
            loss=mean_squared_error,
            score=_squared_error,
            measure="mean squared error",
            baseline=_adding_baseline,
            solved=lambda lag: SOLVED * _adding_baseline(lag),
        ),
        Task(
            name="copying",
            input_size=DELIMITER + 1,
            output_size=KINDS + 1,
            batch=copying,
            loss=softmax_cross_entropy,
            score=_cross_entropy,
            measure="cross-entropy, nats a step",
            baseline=_copying_baseline,
            solved=lambda lag: SOLVED * _copying_baseline(lag),
        ),
        Task(
            name="lag",
            input_size=KINDS,
            output_size=KINDS,
            batch=recall,
            loss=softmax_cross_entropy,
            score=accuracy,
            measure="accuracy",
            baseline=lambda lag: 1 / KINDS,
            solved=lambda lag: 1 - SOLVED,
            rising=True,
        ),
    )
}
