"""What is minimised, with its gradient, and what is reported in the end.

The loss is the sum over the parts of an answer: the mean squared error in standard units, the cross-entropy in natural
units. Rows are questions: sequences, or their valid steps; padding is in no row and gets a gradient of 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..losses import mean_squared_error, softmax_cross_entropy
from ..numerics import Array
from .task import Outputs, Part, Task


class Batch(NamedTuple):
    """What one step of training sees."""

    x: Array  # (T, B, I) numbers or (T, B) symbols
    lengths: Array | None  # (B,), None: all T
    target: tuple[Array, ...]  # of each part (B, O), (B,) or, asked at every step, (T, B)
    lr: float  # the learning rate of this step

    @property
    def valid(self) -> Array:
        """Which steps belong to the sequences: bool (T, B)."""
        T, B = self.x.shape[:2]
        return np.ones((T, B), bool) if self.lengths is None else np.arange(T)[:, None] < self.lengths


class Metric(NamedTuple):
    """Something that is reported."""

    name: str
    higher: bool  # whether more is better
    digits: int


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
    """Mean loss of a batch and its gradient.

    Parameters
    ----------
    parts : sequence of Part
    y : array (T, B, O) or (B, O)
        The network's output.
    batch : Batch

    Returns
    -------
    loss : scalar
    dy : array, shape of y
    rows : int
        How many questions the mean is taken over.
    """
    where: Any = batch.valid if y.ndim == 3 else slice(None)
    rows = y[where]
    total, drows = 0.0, np.empty_like(rows)
    for (part, span), target in zip(spans(parts), batch.target):
        function: Any = mean_squared_error if part.kind == "numbers" else softmax_cross_entropy
        value, drows[:, span] = function(rows[:, span], target[where])
        total += value
    dy = np.zeros_like(y)
    dy[where] = drows
    return total, dy, len(rows)


def metrics(parts: Sequence[Part]) -> list[Metric]:
    """What is reported of each part, the most telling first.

    Examples
    --------
    >>> [metric.name for metric in metrics([Part("rain", "classes", 2)])]
    ['rain accuracy (%)', 'rain log loss (nats)']
    """
    found = []
    for part in parts:
        if part.kind == "numbers":
            found.append(Metric(f"{part.name} RMSE ({part.unit})", False, 3))
        else:
            found.append(Metric(f"{part.name} accuracy (%)", True, 2))
            found.append(Metric(f"{part.name} log loss (nats)", False, 4))
    return found


def scores(task: Task, outputs: Outputs) -> dict[str, float]:
    """Score answers on the test split, a network's and a baseline's alike.

    Parameters
    ----------
    task : Task
    outputs : list of array (rows, O)
        Of each part, see `Part`.

    Returns
    -------
    dict of str to float
        With the names of `metrics`.
    """
    found: list[float] = []
    for part, rows, right in zip(task.parts, outputs, task.answers(task.test)):
        rows = np.asarray(rows, np.float64)
        if part.kind == "numbers":
            found.append(part.scale * math.sqrt(mean_squared_error(rows, right)[0]))
        else:
            found.append(100 * float(np.mean(rows.argmax(axis=1) == right)))
            found.append(float(softmax_cross_entropy(rows, right)[0]))
    return {metric.name: value for metric, value in zip(metrics(task.parts), found)}
