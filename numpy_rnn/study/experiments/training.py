"""Training on a task: fresh sequences at every step, and now and then a score on sequences kept aside."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...layers.optim import Adam, Optimizer, clip_grad_norm
from .model import SequenceModel
from .tasks import TASKS, Batch, Task

# Of Adam: the best of 0.001, 0.003 and 0.01, as docs/learn/experiments.md tells; the chrono cells and "irnn" at copying
# have those of a task or cell that is next to them.
LEARNING_RATES = {
    "adding": {"rnn": 0.003, "lstm": 0.01, "gru": 0.01, "lstm-chrono": 0.01, "gru-chrono": 0.01, "irnn": 0.003},
    "copying": {"rnn": 0.01, "lstm": 0.01, "gru": 0.01, "lstm-chrono": 0.01, "gru-chrono": 0.01, "irnn": 0.003},
    "lag": {"rnn": 0.01, "lstm": 0.003, "gru": 0.01, "lstm-chrono": 0.01, "gru-chrono": 0.01, "irnn": 0.003},
}
KEPT_ASIDE = 500  # sequences that nothing is learnt from


@dataclass(frozen=True)
class Settings:
    """What determines a run: two runs with the same settings end the same."""

    task: str
    cell: str
    lag: int
    hidden: int
    batch: int
    steps: int
    lr: float
    clip: float  # largest norm of the gradient; 0: no limit
    seed: int
    interval: int  # steps between two scores


class Run(NamedTuple):
    """What came of a training."""

    settings: Settings
    curve: list[tuple[int, float]]  # after how many steps, score on the sequences kept aside
    complete: bool  # it was not interrupted
    seconds: float

    @property
    def score(self) -> float:
        """The last one."""
        return self.curve[-1][1]

    @property
    def steps(self) -> int:
        """How many were taken: fewer than were granted if the task was solved before, or the loss not finite."""
        return self.curve[-1][0]

    @property
    def solved(self) -> bool:
        """Whether the last score is as good as the task asks."""
        return TASKS[self.settings.task].solves(self.score, self.settings.lag)


def train(settings: Settings, stepped: Callable[[int, float], bool] = lambda step, score: True) -> Run:
    """Train a model until the task is solved, the steps are used up or a number is no longer finite.

    Parameters
    ----------
    settings : Settings
    stepped : function of int and float
        Called after each step with their number and the last score; returns whether to go on.

    Returns
    -------
    Run

    Raises
    ------
    ValueError
        If a setting is out of range.
    """
    task = TASKS[settings.task]
    model, learning, aside = prepared(settings)
    kept = task.batch(settings.lag, KEPT_ASIDE, aside, model.dtype)
    optimizer = Adam(model.state_dict(), settings.lr)
    start = time.perf_counter()
    curve = [(0, scored(model, task, kept))]
    go_on = True
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is looked at instead
        for step in range(1, settings.steps + 1):
            batch = task.batch(settings.lag, settings.batch, learning, model.dtype)
            finite = all(map(math.isfinite, descend(model, task, batch, optimizer, settings.clip)))
            go_on = stepped(step, curve[-1][1])
            if step % settings.interval == 0 or step == settings.steps or not (finite and go_on):
                curve.append((step, scored(model, task, kept)))
                if task.solves(curve[-1][1], settings.lag):
                    break
            if not (finite and go_on):
                break
    return Run(settings, curve, go_on, time.perf_counter() - start)


def prepared(settings: Settings) -> tuple[SequenceModel, np.random.Generator, np.random.Generator]:
    """The initial model, the source of sequences to learn from and that of those kept aside, all independent."""
    initial, learning, aside = (np.random.default_rng([settings.seed, k]) for k in range(3))
    task = TASKS[settings.task]
    sizes = (task.input_size, settings.hidden, task.output_size)
    return SequenceModel(settings.cell, *sizes, max(settings.lag, 2), rng=initial), learning, aside


def descend(model: SequenceModel, task: Task, batch: Batch, optimizer: Optimizer, clip: float) -> tuple[float, float]:
    """Take a step of training: forward, loss, backward, clipping, step.

    Parameters
    ----------
    model : SequenceModel
    task : Task
    batch : Batch
    optimizer : Optimizer
        Made from the model's parameters.
    clip : float
        Largest norm of the gradient; 0: no limit.

    Returns
    -------
    loss : float
        Before the step.
    norm : float
        That of the gradient before clipping.
    """
    y, _, tape = model.forward(batch.x, read=len(batch.target))
    loss, dy = task.loss(y, batch.target)
    grads, _, _ = model.backward(tape, dy)
    norm = clip_grad_norm(grads, clip or math.inf)
    optimizer.step(grads)
    return float(loss), float(norm)


def scored(model: SequenceModel, task: Task, batch: Batch) -> float:
    """The model's score on a batch."""
    y, _ = model(batch.x, read=len(batch.target))
    return task.score(y, batch.target)
