"""What is reported of a network or a baseline in the end, by the same code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...layers.losses import mean_squared_error, softmax_cross_entropy
from ..objective import Part
from ..task import Outputs, Task


class Metric(NamedTuple):
    """Something that is reported."""

    name: str
    higher: bool  # whether more is better
    digits: int


def metrics(parts: Sequence[Part]) -> list[Metric]:
    """What is reported of each part, the most telling first.

    Examples
    --------
    >>> [metric.name for metric in metrics([Part("rain", "classes", 2)])]
    ['rain accuracy (%)', 'rain log loss (nats)']
    """
    found = []
    for part in parts:
        if part.kind == "symbols":
            found.append(Metric(f"bits per {part.unit}", False, 3))
        elif part.kind == "numbers":
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
    outputs : list of array (rows, O), of symbols (rows,)
        Of each part, see `Part` and `Outputs`.

    Returns
    -------
    dict of str to float
        With the names of `metrics`.
    """
    found: list[float] = []
    for part, rows, right in zip(task.parts, outputs, task.answers(task.test)):
        rows = np.asarray(rows, np.float64)
        if part.kind == "symbols":
            found.append(float(rows.mean()))
        elif part.kind == "numbers":
            found.append(part.scale * math.sqrt(mean_squared_error(rows, right)[0]))
        else:
            found.append(100 * float(np.mean(rows.argmax(axis=1) == right)))
            found.append(float(softmax_cross_entropy(rows, right)[0]))
    return {metric.name: value for metric, value in zip(metrics(task.parts), found)}
