"""A training run from its first step to its last: steps, validations, saves, the best weights, an end at any time."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable

import numpy as np

from ..fast.numerics import Array
from ..layers.files import MissingLibraryError
from .batches import Batches, validation_of
from .checkpoint import Checkpoint
from .learner import History, Learner, NumPyLearner, Problem, Weights
from .objective import Batch
from .processes import SingleProcess
from .settings import Config
from .task import Task


class DivergedError(ArithmeticError):
    """The loss or the gradient is infinite or not a number."""


Watch = Callable[[History, bool], bool]  # of a step, and whether it was validated: whether it should be the last
Save = Callable[[dict[str, Array], Weights], None]  # of the learner's state and the best weights


def fit(
    learner: Learner,
    batch_of: Callable[[int], Batch],
    validation: Callable[[], Iterable[Batch]],
    history: History,
    best: Weights,
    steps: int,
    interval: int,
    patience: int = 0,
    watch: Watch = lambda history, validated: False,
    save: Save = lambda tensors, best: None,
) -> Weights:
    """Train until so many steps have been taken since the beginning, validations get no better, or `watch` says stop.

    Parameters
    ----------
    batch_of, validation : function
        What step 0, 1, … sees, and what is measured on after every `interval` steps.
    history, best : History, dict of str to array
        Of earlier runs, or empty; the history grows.
    patience : int
        Validations without a better one after which the run ends; 0: never.
    watch : function of History and bool
        Called after every step, told whether it was validated; true ends the run.
    save : function of two dicts of str to array
        Called after every validation and at the end, whichever end it is but a divergence: what was saved last is good.

    Returns
    -------
    dict of str to array
        The model's weights after its best validation.

    Raises
    ------
    DivergedError
        If a loss or the norm of the gradient is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is looked at instead
        while history.steps < steps and not stalled(history, patience):
            result = learner.step(batch_of(history.steps))
            _check_finite(history.steps + 1, {"loss": result.loss, "gradient norm": result.norm})
            history.training.append(result)
            due = history.steps % interval == 0 or history.steps == steps
            if due:
                loss = learner.evaluate(validation())
                _check_finite(history.steps, {"validation loss": loss})
                history.validation.append((history.steps, loss))
            stop = watch(history, due)
            if due or stop:
                tensors = learner.state_dict()
                if due and best_validation(history) == len(history.validation) - 1:
                    best = {name.removeprefix("model."): a for name, a in tensors.items() if name.startswith("model.")}
                save(tensors, best)
            if stop:
                break
    return best


def best_validation(history: History) -> int:
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
    return 0 < patience < n and n - 1 - best_validation(history) >= patience


def _check_finite(step: int, numbers: dict[str, float]) -> None:
    if not all(map(math.isfinite, numbers.values())):
        found = ", ".join(f"{name} {number:g}" for name, number in numbers.items())
        raise DivergedError(f"training diverged at step {step}: {found}")


class Run:
    """A run of a task, ready to start or to go on.

    `steps` are all that are to be taken, `interval` those between two validations, by default an epoch. A run that goes
    on from a checkpoint `before` ends as if there had been only one.

    Raises
    ------
    ValueError
        If the task and the config do not fit.
    MissingLibraryError
        If the backend is not installed.
    """

    def __init__(
        self,
        config: Config,
        task: Task,
        steps: int,
        interval: int | None = None,
        backend: str = "numpy",
        device: str = "cpu",
        group: SingleProcess | None = None,
        before: Checkpoint | None = None,
    ) -> None:
        self.config, self.task, self.steps, self.backend = config, task, steps, backend
        self.group = group or SingleProcess()
        self.batches = Batches(task.train, config)
        self.interval = interval or self.batches.per_epoch
        self.learner = learner_of(config, task, backend, device, self.group)
        self.history, self.best = History([], []), Weights()
        self.saved = 0  # steps that the last checkpoint holds
        self.sha256 = task.fingerprint
        if before is not None:
            self.learner.load_state_dict(before.tensors)
            self.history, self.best, self.saved = before.history, before.best, before.history.steps

    @property
    def complete(self) -> bool:
        """Whether all steps, or all that patience allowed, have been taken."""
        return self.history.steps >= self.steps or stalled(self.history, self.config.patience)

    def train(
        self,
        watch: Watch = lambda history, validated: False,
        save: Callable[[Checkpoint], None] | None = None,
    ) -> None:
        """Take the steps that are left; see `fit`. Of several processes the first one saves."""

        def keep(tensors: dict[str, Array], best: Weights) -> None:
            if save is not None:
                if self.group.rank == 0:
                    about = self.config, self.task.sizes, self.steps, self.backend, self.sha256, self.task.vocabulary
                    save(Checkpoint(*about, self.history, tensors, best))
                self.group.most(0)  # so that none counts on a file before it is there
                self.saved = self.history.steps

        self.best = fit(
            self.learner,
            lambda step: self.batches.batch(step)._replace(lr=self.config.learning_rate(step, self.steps)),
            lambda: validation_of(self.task, self.config),
            self.history,
            self.best,
            self.steps,
            self.interval,
            self.config.patience,
            watch,
            keep,
        )


def problem(config: Config, task: Task) -> Problem:
    """What a learner of the task is made from.

    Raises
    ------
    ValueError
        If a text were to be read from both ends.
    """
    if config.seq_len and config.bidirectional:
        raise ValueError("a network that reads a text from its end, too, has seen the symbol that it is asked for")
    return Problem(
        network=config.network(**task.sizes),
        parts=task.parts,
        read=task.read,
        carried=config.seq_len > 0,
        lr=config.lr,
        weight_decay=config.weight_decay,
        clip=config.clip,
        seed=config.seed,
        dtype=config.dtype,
    )


def require(backend: str) -> None:
    """Import what a backend needs; `MissingLibraryError` if it is PyTorch, and that is not installed."""
    if backend != "numpy":
        try:
            importlib.import_module("torch")
        except ModuleNotFoundError:
            raise MissingLibraryError(f"--backend {backend} needs PyTorch: pip install 'numpy-rnn[torch]'") from None


def learner_of(
    config: Config, task: Task, backend: str, device: str = "cpu", group: SingleProcess | None = None
) -> Learner:
    """Make the learner of a backend; "both" is NumPy followed by PyTorch, in lockstep."""
    require(backend)
    what = problem(config, task)
    if backend == "numpy":
        return NumPyLearner(what)
    from .lockstep import Lockstep
    from .torch_learner import TorchLearner

    learner = TorchLearner(what, device, group)
    return learner if backend == "torch" else Lockstep(NumPyLearner(what), learner)
