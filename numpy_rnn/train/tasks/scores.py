"""How runs and baselines score on a task's test split, by the same code; tables of both."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ...fast.numerics import Array
from ...layers.losses import mean_squared_error, softmax_cross_entropy
from ..task import Outputs, Part, Task


class Metric(NamedTuple):
    """Something that is reported of a part of the answer."""

    name: str
    higher: bool  # whether more is better
    digits: int
    score: Callable[[Part, Array, Array], float]  # of the part, its rows and what would be right


METRICS = {
    "symbols": [Metric("bits per {unit}", False, 3, lambda part, rows, right: rows.mean())],
    "numbers": [
        Metric(
            "{name} RMSE ({unit})",
            False,
            3,
            lambda part, rows, right: part.scale * math.sqrt(mean_squared_error(rows, right)[0]),
        )
    ],
    "classes": [
        Metric("{name} accuracy (%)", True, 2, lambda part, rows, right: 100 * np.mean(rows.argmax(axis=1) == right)),
        Metric("{name} log loss (nats)", False, 4, lambda part, rows, right: softmax_cross_entropy(rows, right)[0]),
    ],
}


def metrics(*parts: Part) -> list[Metric]:
    """What is reported of each part, the most telling first.

    Examples
    --------
    >>> [metric.name for metric in metrics(Part("rain", "classes", 2))]
    ['rain accuracy (%)', 'rain log loss (nats)']
    """
    return [m._replace(name=m.name.format(**part._asdict())) for part in parts for m in METRICS[part.kind]]


def scores(task: Task, outputs: Outputs) -> dict[str, float]:
    """Score answers on the test split, a network's and a baseline's alike, under the names of `metrics`."""
    found = {}
    for part, rows, right in zip(task.parts, outputs, task.answers(task.test)):
        for metric in metrics(part):
            found[metric.name] = float(metric.score(part, np.asarray(rows, float), right))
    return found


class Row(NamedTuple):
    """What a table says of one network or one baseline."""

    name: str
    backend: str  # "": a baseline
    scores: list[dict[str, float]]  # of every seed; of a baseline one
    seconds: list[float]

    def mean(self, metric: Metric) -> float:
        """Mean over the seeds."""
        return statistics.fmean(s[metric.name] for s in self.scores)

    def text(self, metric: Metric) -> str:
        """Mean and, of several seeds, standard deviation."""
        values = [s[metric.name] for s in self.scores]
        spread = f" ± {statistics.stdev(values):.{metric.digits}f}" if len(values) > 1 else ""
        return f"{self.mean(metric):.{metric.digits}f}{spread}"


def baseline_rows(task: Task) -> list[Row]:
    """Score the baselines of a task on its test split."""
    return [Row(name, "", [scores(task, outputs)], []) for name, outputs in task.baselines(task).items()]


def table_lines(task: Task, rows: Iterable[Row]) -> list[list[str]]:
    """The lines of a table of networks and baselines, the first one with the heads."""
    shown = metrics(*task.parts)
    lines = [["", "backend", *(metric.name for metric in shown), "seconds"]]
    for row in rows:
        seconds = f"{statistics.fmean(row.seconds):.1f}" if row.seconds else ""
        lines.append([row.name, row.backend, *(row.text(metric) for metric in shown), seconds])
    return lines


def verdict(task: Task, rows: Sequence[Row]) -> list[str]:
    """Say of each metric, in a sentence, whether the networks' mean beats the best baseline."""
    found = []
    networks = [row for row in rows if row.backend]
    for metric in metrics(*task.parts):
        sign = 1 if metric.higher else -1
        best = max((row for row in rows if not row.backend), key=lambda row: sign * row.mean(metric))
        winners = [row for row in networks if sign * row.mean(metric) > sign * best.mean(metric)]
        who = ", ".join(f"{row.name} in {row.backend}" for row in winners) or "nothing"
        if len(winners) == len(networks) > 1:
            who = f"all {len(networks)} networks"
        beats = "beat" if len(winners) > 1 else "beats"
        found.append(f"{metric.name}: {who} {beats} {best.name} ({best.text(metric)})")
    return found


def markdown(task: Task, rows: Sequence[Row]) -> str:
    """A task's rows and verdicts as Markdown."""
    heads, *lines = (f"| {' | '.join(line)} |" for line in table_lines(task, rows))
    rule = "|---" * (heads.count("|") - 1) + "|"
    sentences = [f"* {sentence}." for sentence in verdict(task, rows)]
    title = f"**{task.name}**: {task.question}. Data: {task.source}."
    return "\n".join([title, "", heads, rule, *lines, "", *sentences, ""])
