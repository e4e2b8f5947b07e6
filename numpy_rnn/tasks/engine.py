"""A whole run on a task: `training.loop` with a schedule, early stopping, and the best weights kept."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..files import MissingLibraryError
from ..numerics import Array
from ..training.loop import History, Observer, run
from .learner import Batches, Config, TaskLearner, answers, in_order, learning_rate
from .objective import scores
from .task import Outputs, Task

Weights = dict[str, Array]


class State(NamedTuple):
    """What a run needs to go on: what its file holds."""

    history: History
    tensors: dict[str, Array]  # the learner's `state_dict()`
    best: Weights  # the model after its best validation; nothing before the first


class Outcome(NamedTuple):
    """What came of a run."""

    history: History
    complete: bool  # whether all epochs, or all that patience allowed, have been run
    outputs: Outputs  # the best model's answers on the test split
    scores: dict[str, float]
    seconds: float  # of training, validation included


class Epoch(NamedTuple):
    """What is reported of an epoch."""

    epoch: int
    step: int
    lr: float  # of its last step
    training: float  # mean loss
    validation: float
    norm: float  # of the gradient before clipping, mean
    largest_norm: float


def best_epoch(history: History) -> int:
    """Which validation (0, 1, …) had the smallest loss; the first of several."""
    return int(np.argmin([loss for _, loss in history.validation]))


def stalled(history: History, patience: int) -> bool:
    """Whether the last `patience` validations were no better than one before them; never for a patience of 0.

    Examples
    --------
    >>> history = History([], [(10, 0.5), (20, 0.4), (30, 0.4), (40, 0.6)])
    >>> stalled(history, 2), stalled(history, 3), stalled(history, 0)
    (True, False, False)
    """
    n = len(history.validation)
    return 0 < patience < n and n - 1 - best_epoch(history) >= patience


def epochs(history: History, config: Config, per_epoch: int) -> list[Epoch]:
    """Sum a history up, epoch by epoch."""
    steps, found = per_epoch * config.epochs, []
    for k, (step, validation) in enumerate(history.validation):
        results = history.training[k * per_epoch : step]
        losses, norms = (np.array(values) for values in zip(*results))
        found.append(
            Epoch(
                k + 1,
                step,
                learning_rate(config, step - 1, steps),
                float(losses.mean()),
                validation,
                float(norms.mean()),
                float(norms.max()),
            )
        )
    return found


def require(backend: str) -> None:
    """Import what a backend needs.

    Raises
    ------
    MissingLibraryError
        If it is PyTorch, and that is not installed.
    """
    if backend == "numpy":
        return
    try:
        importlib.import_module("torch")
    except ModuleNotFoundError:
        raise MissingLibraryError(f"--backend {backend} needs PyTorch: pip install 'numpy-rnn[torch]'") from None


def learner_of(config: Config, task: Task, backend: str) -> Any:
    """Make the learner."""
    require(backend)
    if backend == "numpy":
        return TaskLearner(config, task)
    from .torch_learner import TorchTaskLearner

    return TorchTaskLearner(config, task)


class Silent:
    """An observer that does not look."""

    def stepped(self, history: History) -> None:
        """Take note of a step."""

    def validated(self, history: History) -> None:
        """Take note of a validation."""

    def wants_to_stop(self) -> bool:
        """Say whether this step should be the last."""
        return False


class _Patient:
    """Passes everything on to an observer, and stops when patience is over."""

    def __init__(self, observer: Observer, history: History, patience: int) -> None:
        self.stepped, self.validated = observer.stepped, observer.validated
        self._observer, self._history, self._patience = observer, history, patience

    def wants_to_stop(self) -> bool:
        """Say whether this step should be the last."""
        return self._observer.wants_to_stop() or stalled(self._history, self._patience)


def train(
    config: Config,
    task: Task,
    backend: str = "numpy",
    observer: Observer | None = None,
    before: State | None = None,
    save: Callable[[State], None] = lambda state: None,
) -> Outcome:
    """Train a network on a task, and score the weights of its best validation on the test split.

    Parameters
    ----------
    config : Config
    task : Task
    backend : "numpy" or "torch"
    observer : Observer, optional
        Who is told of the progress, and may stop it.
    before : State, optional
        Where an earlier run stopped; this one then ends as if there had been only one.
    save : function of State
        Called after every epoch, and where the observer stops the run.

    Returns
    -------
    Outcome

    Raises
    ------
    DivergedError
        If a loss or a gradient is not finite. What was saved last is good.
    MissingLibraryError
        If the backend is not installed.
    """
    learner, batches = learner_of(config, task, backend), Batches(task.train, config)
    history, best = History([], []), Weights()
    if before is not None:
        history, best = before.history, before.best
        learner.load_state_dict(before.tensors)

    def keep(history: History) -> None:
        nonlocal best
        tensors = learner.state_dict()
        validated = history.validation and history.validation[-1][0] == history.steps
        if validated and best_epoch(history) == len(history.validation) - 1:
            best = {name.removeprefix("model."): a for name, a in tensors.items() if name.startswith("model.")}
        save(State(history, tensors, best))

    start = time.perf_counter()
    if not stalled(history, config.patience):
        run(
            learner,
            batches.batch,
            lambda: in_order(task.validation, config),
            keep,
            history,
            batches.steps,
            batches.per_epoch,
            _Patient(observer or Silent(), history, config.patience),
        )
    seconds = time.perf_counter() - start
    complete = history.steps >= batches.steps or stalled(history, config.patience)
    if best:
        learner.load_model(best)
    outputs = answers(learner, task, task.test, config)
    return Outcome(history, complete, outputs, scores(task, outputs), seconds)
