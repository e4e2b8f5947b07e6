"""A whole run on a task, and how its best weights score on the test split."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..checkpoint import Checkpoint
from ..language import costs
from ..learner import Weights
from ..loop import History, Observer
from ..objective import spans
from ..run import Batches, Run, in_order
from ..settings import Config
from ..task import Outputs, Split, Task
from ..threads import fitting_threads
from .scores import scores


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
    observer: Callable[[Run], Observer] | None = None,
    before: Checkpoint | None = None,
    save: Callable[[Checkpoint], None] | None = None,
) -> Outcome:
    """Train a network on a task, and score the weights of its best validation on the test split.

    Parameters
    ----------
    config : Config
    task : Task
    epochs : int
        At most.
    backend : "numpy" or "torch"
    observer : function of Run, optional
        Makes who is told of the progress, and may stop it.
    before : Checkpoint, optional
        Where an earlier run stopped; this one then ends as if there had been only one.
    save : function of Checkpoint, optional
        Called after every epoch, and where the observer stops the run.

    Raises
    ------
    DivergedError
        If a loss or a gradient is not finite. What was saved last is good.
    MissingLibraryError
        If the backend is not installed.
    """
    steps = epochs * Batches(task.train, config).per_epoch
    run = Run(config, task, steps, backend=backend, before=before)
    start = time.perf_counter()
    run.train(observer and observer(run), save)
    seconds = time.perf_counter() - start
    learner: Any = run.learner
    if run.best:
        learner.load_model(run.best)
    # A text is read as one stream: products of one row, which are not worth a second thread.
    with fitting_threads(1 if config.seq_len else config.batch, config.hidden):
        outputs = answers(learner, task, task.test, config)
    return Outcome(run.history, run.complete, run.best, outputs, scores(task, outputs), seconds)


def answers(learner: Any, task: Task, split: Split, config: Config) -> Outputs:
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


def epochs(history: History, config: Config, per_epoch: int, steps: int) -> list[Epoch]:
    """Sum a history up, epoch by epoch; `steps` are those of the whole run."""
    found = []
    for k, (step, validation) in enumerate(history.validation):
        losses, norms = np.array(history.training[k * per_epoch : step]).T
        lr = config.learning_rate(step - 1, steps)
        found.append(Epoch(k + 1, step, lr, losses.mean().item(), validation, norms.mean().item(), norms.max().item()))
    return found
