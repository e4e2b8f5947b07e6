"""A whole run on a task: `training.loop` with a schedule, early stopping, and the best weights kept."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...layers.files import MissingLibraryError
from ..learner import NumPyLearner, Weights
from ..loop import History, Observer, Silent, State, fit
from ..schedule import learning_rate
from ..threads import fitting_threads
from .objective import scores
from .settings import Batches, Config, answers, problem, validation_of
from .task import Outputs, Task


class Outcome(NamedTuple):
    """What came of a run."""

    history: History
    complete: bool  # whether all epochs, or all that patience allowed, have been run
    best: Weights  # of the best validation
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
        return NumPyLearner(problem(config, task))
    from ..torch_learner import TorchLearner

    return TorchLearner(problem(config, task))


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

    start = time.perf_counter()
    best, complete = fit(
        learner,
        batches.batch,
        lambda: validation_of(task, config),
        save,
        history,
        best,
        batches.steps,
        batches.per_epoch,
        config.patience,
        observer or Silent(),
    )
    seconds = time.perf_counter() - start
    if best:
        learner.load_model(best)
    # A text is read as one stream: products of one row, which are not worth a second thread.
    with fitting_threads(1 if config.window else config.batch, config.hidden):
        outputs = answers(learner, task, task.test, config)
    return Outcome(history, complete, best, outputs, scores(task, outputs), seconds)
