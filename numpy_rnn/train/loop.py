"""A training run from its first step to its last: steps, validations, saves, the best weights, an end at any time."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable

import numpy as np

from ..fast.numerics import Array
from ..layers.files import MissingLibraryError
from .batches import Batches, in_order, validation_batches
from .checkpoint import Checkpoint
from .language import costs
from .learner import DivergedError, History, Learner, Weights, part_of
from .processes import SingleProcess
from .settings import Config
from .task import Outputs, Split, Task, spans
from .threads import fitting_threads

Watch = Callable[[History, bool], bool]  # of a step, and whether it was validated: whether it should be the last
Save = Callable[[Checkpoint], None]


class Run:
    """A run of a task, ready to start or to go on, with as many threads as it is worth.

    Parameters
    ----------
    config, task : Config, Task
    steps : int
        How many are to be taken in all.
    interval : int, optional
        Steps between two validations, by default an epoch.
    backend : str
        "numpy", "torch" or "both", which is NumPy with PyTorch beside it, in lockstep.
    device, group : str, SingleProcess
        As `TorchLearner` takes them.
    before : Checkpoint, optional
        Where to go on from; the run ends as if there had been only one.

    Raises
    ------
    ValueError
        If the task does not fit the config, or the checkpoint was trained on other data.
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
        self.sha256 = task.fingerprint
        self.learner = Learner(config, task)
        if backend != "numpy":
            require(backend)
            from .torch_learner import Lockstep, TorchLearner

            both = backend == "both"
            self.learner = Lockstep(config, task) if both else TorchLearner(config, task, device, self.group)
        self.history, self.best = History([], []), Weights()
        self.saved = 0  # steps that the last checkpoint holds
        self.seconds = 0.0  # of training, validations included
        if before is not None:
            if before.sha256 != self.sha256:
                raise ValueError(f"the checkpoint was trained on other data than {task.source}: they differ in SHA-256")
            self.learner.load_state_dict(before.tensors)
            self.history, self.best, self.saved = before.history, before.best, before.history.steps

    @property
    def complete(self) -> bool:
        """Whether all steps, or all that patience allowed, have been taken."""
        return self.history.steps >= self.steps or self.history.stalled(self.config.patience)

    def train(self, watch: Watch = lambda history, validated: False, save: Save | None = None) -> None:
        """Train until all steps have been taken, validations get no better, or `watch` says stop.

        Parameters
        ----------
        watch : function of History and bool
            Called after every step, told whether it was validated; true ends the run.
        save : function of Checkpoint, optional
            Called after every validation and at the end, whichever end it is but a divergence: what was saved last is
            good. Of several processes the first one saves.

        Raises
        ------
        DivergedError
            If a loss or the norm of the gradient is not finite.
        """
        history, config, start = self.history, self.config, time.perf_counter()
        threads = fitting_threads(config.batch, config.hidden)
        with threads, np.errstate(over="ignore", invalid="ignore"):  # what comes of it is looked at instead
            stop = False
            while not (stop or self.complete):
                step = history.steps
                result = self.learner.step(self.batches.batch(step), config.learning_rate(step, self.steps))
                _check_finite(step + 1, {"loss": result.loss, "gradient norm": result.norm})
                history.training.append(result)
                due = history.steps % self.interval == 0 or history.steps == self.steps
                if due:
                    loss = self.learner.evaluate(validation_batches(self.task.validation, config))
                    _check_finite(history.steps, {"validation loss": loss})
                    history.validation.append((history.steps, loss))
                stop = watch(history, due)
                if due or stop:
                    self._keep(due and history.best == len(history.validation) - 1, save)
        self.seconds = time.perf_counter() - start

    def _keep(self, best: bool, save: Save | None) -> None:
        """Keep the weights if they are the best, and save the run."""
        tensors = self.learner.state_dict()
        if best:
            self.best = part_of(tensors, "model")
        if save is not None:
            if self.group.rank == 0:
                about = self.config, self.task.sizes, self.steps, self.backend, self.sha256, self.task.vocabulary
                save(Checkpoint(*about, self.history, tensors, self.best))
            self.group.most(0)  # so that none counts on a file before it is there
            self.saved = self.history.steps

    def test(self) -> Outputs:
        """Return the answers on the test split of the weights with the best validation, which the model takes."""
        if self.best:
            self.learner.load_model(self.best)
        # A text is read as one stream: products of one row, which are not worth a second thread.
        with fitting_threads(1 if self.config.seq_len else self.config.batch, self.config.hidden):
            return answers(self.learner, self.task.test)

    def epochs(self) -> list[dict[str, float]]:
        """Sum up what has happened, epoch by epoch, if each was validated.

        The learning rate is that of the last step, the loss of the training and the gradient's norm are means.
        """
        found, n = [], self.batches.per_epoch
        for k, (step, validation) in enumerate(self.history.validation):
            losses, norms = np.array(self.history.training[k * n : step]).T
            epoch = {"epoch": k + 1, "step": step, "lr": self.config.learning_rate(step - 1, self.steps)}
            epoch |= {"training": losses.mean().item(), "validation": validation}
            found.append(epoch | {"norm": norms.mean().item(), "largest_norm": norms.max().item()})
        return found


def answers(learner: Learner, split: Split) -> Outputs:
    """A learner's answers on a split, one row for every question, in the order of `Task.answers`."""
    rows, text = [], learner.config.seq_len > 0
    for batch, y in learner.outputs(in_order(split, learner.config)):
        if text:
            rows.append(costs(y[:, 0], batch.target[0][:, 0]))
        else:
            rows.append(y.swapaxes(0, 1)[batch.valid.T] if y.ndim == 3 else y)
    everything: Array = np.concatenate(rows)
    return [everything] if text else [everything[:, span] for _, span in spans(learner.task.parts)]


def _check_finite(step: int, numbers: dict[str, float]) -> None:
    if not all(map(math.isfinite, numbers.values())):
        found = ", ".join(f"{name} {number:g}" for name, number in numbers.items())
        raise DivergedError(f"training diverged at step {step}: {found}")


def require(backend: str) -> None:
    """Import what a backend needs; `MissingLibraryError` if it is PyTorch, and that is not installed."""
    if backend != "numpy":
        try:
            importlib.import_module("torch")
        except ModuleNotFoundError:
            raise MissingLibraryError(f"--backend {backend} needs PyTorch: pip install 'numpy-rnn[torch]'") from None
