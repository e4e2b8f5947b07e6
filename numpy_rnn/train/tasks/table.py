"""Many runs in one table: task × cell × backend, over several seeds, beside the baselines; as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ..settings import Config
from ..task import Task
from .trial import Metric, Outcome, metrics, scores

# What suits each task; all else stands in `DEFAULTS`.
SIZES: dict[str, dict[str, Any]] = {
    "weather": {"hidden": 32, "lr": 0.005, "patience": 8},
    "stocks": {"hidden": 8, "lr": 0.003, "patience": 8},
    "tags": {"hidden": 48, "lr": 0.005, "patience": 3, "bidirectional": True},
    # lr and clip were chosen by the validation split alone.
    "language": {
        "symbols": "characters",
        "hidden": 512,
        "embedding": 64,
        "seq_len": 64,
        "lr": 0.004,
        "clip": 0.25,
        "patience": 2,
    },
}
EPOCHS = {"weather": 20, "stocks": 20, "tags": 6, "language": 5}  # at most
DEFAULTS: dict[str, Any] = {
    "symbols": "",
    "cell": "gru",
    "layers": 1,
    "bidirectional": False,
    "embedding": 16,
    "batch": 32,
    "seq_len": 0,
    "schedule": "cosine",
    "clip": 1.0,
    "weight_decay": 0.0,
    "seed": 0,
    "dtype": "float32",
}


def default_config(task: str, **changes: Any) -> Config:
    """The settings that a task is run with, unless others are asked for.

    Examples
    --------
    >>> default_config("weather", cell="lstm").hidden
    32
    """
    return Config(**{"task": task, **DEFAULTS, **SIZES[task], **changes})


class Row(NamedTuple):
    """What a table says of one network or one baseline."""

    name: str
    backend: str  # "": a baseline
    scores: list[dict[str, float]]  # of every seed; of a baseline one
    seconds: list[float]

    def text(self, metric: Metric) -> str:
        """Mean and, of several seeds, standard deviation."""
        values = [s[metric.name] for s in self.scores]
        spread = f" ± {statistics.stdev(values):.{metric.digits}f}" if len(values) > 1 else ""
        return f"{statistics.fmean(values):.{metric.digits}f}{spread}"


def network_row(cell: str, backend: str, outcomes: Sequence[Outcome]) -> Row:
    """Put the runs of one network, each with another seed, into a row."""
    return Row(cell, backend, [o.scores for o in outcomes], [o.seconds for o in outcomes])


def baseline_rows(task: Task) -> list[Row]:
    """Score the baselines of a task on its test split."""
    return [Row(name, "", [scores(task, outputs)], []) for name, outputs in task.baselines(task).items()]


def verdict(task: Task, rows: Iterable[Row]) -> list[str]:
    """Say of each metric, in a sentence, whether the networks' mean beats the best baseline."""
    rows = list(rows)
    return [_sentence(metric, rows) for metric in metrics(task.parts)]


def _sentence(metric: Metric, rows: Sequence[Row]) -> str:
    def mean(row: Row) -> float:
        return statistics.fmean(s[metric.name] for s in row.scores)

    best = max if metric.higher else min
    baseline = best((row for row in rows if not row.backend), key=mean)
    networks = [row for row in rows if row.backend]
    winners = [row for row in networks if (mean(row) > mean(baseline) if metric.higher else mean(row) < mean(baseline))]
    found = f"{baseline.name} ({baseline.text(metric)})"
    if not winners:
        return f"{metric.name}: nothing beats {found}"
    every = len(winners) == len(networks) > 1
    who = f"all {len(networks)} networks" if every else ", ".join(f"{row.name} in {row.backend}" for row in winners)
    return f"{metric.name}: {who} beat{'s' * (len(winners) == 1)} {found}"


def markdown(task: Task, rows: Iterable[Row]) -> str:
    """A task's rows and verdicts as Markdown."""
    rows, shown = list(rows), metrics(task.parts)
    heads = ["", "backend", *(metric.name for metric in shown), "seconds"]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        seconds = f"{statistics.fmean(row.seconds):.1f}" if row.seconds else ""
        lines.append([row.name, row.backend, *(row.text(metric) for metric in shown), seconds])
    body = [f"| {' | '.join(line)} |" for line in lines]
    body[1] = body[1].replace(" ", "")
    sentences = [f"* {sentence}." for sentence in verdict(task, rows)]
    return "\n".join([f"**{task.name}**: {task.question}. Data: {task.source}.", "", *body, "", *sentences, ""])
