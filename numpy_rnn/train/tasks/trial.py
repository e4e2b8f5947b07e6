"""A whole run on a task, and how its best weights, and the baselines, score on the test split."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ...layers.losses import mean_squared_error, softmax_cross_entropy
from ..batches import Batches, in_order
from ..checkpoint import Checkpoint
from ..language import costs
from ..learner import History, Learner, Weights
from ..loop import Run, Watch
from ..objective import Part, spans
from ..settings import Config
from ..task import Outputs, Split, Task
from ..threads import fitting_threads


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
    """Score answers on the test split, a network's and a baseline's alike, under the names of `metrics`."""
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


class Outcome(NamedTuple):
    """What came of a run."""

    history: History
    complete: bool  # whether all epochs, or all that patience allowed, have been run
    best: Weights  # of the best validation
    outputs: Outputs  # the best model's answers on the test split
    scores: dict[str, float]
    seconds: float  # of training, validation included


def trial(
    config: Config,
    task: Task,
    epochs: int,
    backend: str = "numpy",
    watch: Watch = lambda history, validated: False,
    before: Checkpoint | None = None,
    save: Callable[[Checkpoint], None] | None = None,
) -> Outcome:
    """Make a run of at most so many epochs, and `finish` it."""
    return finish(run_of(config, task, epochs, backend, before), watch, save)


def run_of(config: Config, task: Task, epochs: int, backend: str, before: Checkpoint | None = None) -> Run:
    """Make a run of at most so many epochs; see `Run`."""
    return Run(config, task, epochs * Batches(task.train, config).per_epoch, backend=backend, before=before)


def finish(
    run: Run,
    watch: Watch = lambda history, validated: False,
    save: Callable[[Checkpoint], None] | None = None,
) -> Outcome:
    """Train to the end, or until `watch` says stop, and score the weights of the best validation on the test split.

    Raises
    ------
    DivergedError
        If a loss or a gradient is not finite. What was saved last is good.
    """
    config, task = run.config, run.task
    start = time.perf_counter()
    run.train(watch, save)
    seconds = time.perf_counter() - start
    if run.best:
        run.learner.load_model(run.best)
    # A text is read as one stream: products of one row, which are not worth a second thread.
    with fitting_threads(1 if config.seq_len else config.batch, config.hidden):
        outputs = answers(run.learner, task, task.test, config)
    return Outcome(run.history, run.complete, run.best, outputs, scores(task, outputs), seconds)


def answers(learner: Learner, task: Task, split: Split, config: Config) -> Outputs:
    """A network's answers on a split, one row for every question, in the order of `Task.answers`."""
    rows = []
    for batch, y in learner.outputs(in_order(split, config)):
        if config.seq_len:
            rows.append(costs(y[:, 0], batch.target[0][:, 0]))
        else:
            rows.append(y.swapaxes(0, 1)[batch.valid.T] if y.ndim == 3 else y)
    everything = np.concatenate(rows)
    return [everything] if config.seq_len else [everything[:, span] for _, span in spans(task.parts)]


class Epoch(NamedTuple):
    """What is reported of an epoch."""

    epoch: int
    step: int
    lr: float  # of its last step
    training: float  # mean loss
    validation: float
    norm: float  # of the gradient before clipping, mean
    largest_norm: float


def epochs_of(history: History, config: Config, per_epoch: int, steps: int) -> list[Epoch]:
    """Sum a history up, epoch by epoch; `steps` are those of the whole run."""
    found = []
    for k, (step, validation) in enumerate(history.validation):
        losses, norms = np.array(history.training[k * per_epoch : step]).T
        lr = config.learning_rate(step - 1, steps)
        found.append(Epoch(k + 1, step, lr, losses.mean().item(), validation, norms.mean().item(), norms.max().item()))
    return found
