"""A run: what each step of it sees, who learns from that, and how far it is."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator

import numpy as np

from ..fast.numerics import Array
from ..layers.files import MissingLibraryError
from .checkpoint import Checkpoint
from .learner import Learner, NumPyLearner, Problem, Weights
from .lockstep import Lockstep
from .loop import History, Observer, State, fit, stalled
from .objective import Batch
from .processes import SingleProcess
from .settings import Config
from .task import Split, Task
from .text import Streams, validation_batches

WINDOW = 512  # symbols that a network reads at a time when it is scored; how many changes nothing but memory


class Batches:
    """The training split in another random order every epoch, cut into batches; the last one may be smaller.

    A text is read in order instead, in B streams side by side, window after window: an epoch is once through all.
    A step's number alone says what it sees, and a resumed run needs no more than that.
    """

    def __init__(self, split: Split, config: Config) -> None:
        self.split, self.config = split, config
        self.streams = Streams(split.text, config.batch, config.seq_len) if config.seq_len else None
        self.per_epoch = self.streams.windows if self.streams else -(-len(split.x) // config.batch)

    def batch(self, step: int) -> Batch:
        """Return what training step `step` (0, 1, …) sees."""
        if self.streams:
            return self.streams.batch(step)
        epoch, k = divmod(step, self.per_epoch)
        order = np.random.default_rng([self.config.seed, epoch]).permutation(len(self.split.x))
        which = order[k * self.config.batch : (k + 1) * self.config.batch]
        return as_batch(self.split.take(which), self.config.dtype)


def as_batch(split: Split, dtype: str) -> Batch:
    """Lay sequences out in steps, no longer than the longest of them."""
    T = split.x.shape[1] if split.lengths is None else int(split.lengths.max())
    x = split.x[:, :T].swapaxes(0, 1)
    at_every_step = split.x.shape[:2]

    def of_steps(t: Array) -> Array:
        if np.issubdtype(t.dtype, np.floating):
            return t.astype(dtype)
        return t[:, :T].T if t.shape == at_every_step else t

    x = x.astype(dtype) if np.issubdtype(x.dtype, np.floating) else x
    return Batch(x, tuple(map(of_steps, split.target)), split.lengths)


def in_order(split: Split, config: Config) -> Iterator[Batch]:
    """Cut a split into batches that are read once, in order; a text as one stream."""
    if config.seq_len:
        yield from validation_batches(split.text, 1, WINDOW)
        return
    for start in range(0, len(split.x), 8 * config.batch):
        yield as_batch(split.take(slice(start, start + 8 * config.batch)), config.dtype)


def validation_of(task: Task, config: Config) -> Iterator[Batch]:
    """What is measured after every interval: a text in several streams, which begin with a zero state, to save time."""
    if config.seq_len:
        return validation_batches(task.validation.text, config.batch, config.seq_len)
    return in_order(task.validation, config)


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
    """Import what a backend needs.

    Raises
    ------
    MissingLibraryError
        If it is PyTorch, and that is not installed.
    """
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
    from .torch_learner import TorchLearner

    learner = TorchLearner(what, device, group)
    return learner if backend == "torch" else Lockstep(NumPyLearner(what), learner, config.dtype)


class Run:
    """A run, ready to start or to go on.

    Parameters
    ----------
    config : Config
    task : Task
    steps : int
        How many to take in all.
    interval : int, optional
        Steps between two validations; an epoch by default.
    backend : "numpy", "torch" or "both"
    device : "cpu" or "cuda"
        Where PyTorch computes.
    group : SingleProcess, optional
        The processes that share the batches.
    before : Checkpoint, optional
        What an earlier run has saved; this one then ends as if there had been only one.

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

    def train(self, observer: Observer | None = None, save: Callable[[Checkpoint], None] | None = None) -> None:
        """Take the steps that are left; see `fit`. Of several processes the first one saves."""

        def keep(state: State) -> None:
            if save is not None:
                if self.group.rank == 0:
                    save(self._checkpoint(state))
                self.group.most(0)  # so that none counts on a file before it is there
                self.saved = state.history.steps

        self.best = fit(
            self.learner,
            lambda step: self.batches.batch(step)._replace(lr=self.config.learning_rate(step, self.steps)),
            lambda: validation_of(self.task, self.config),
            self.history,
            self.best,
            self.steps,
            self.interval,
            self.config.patience,
            observer,
            keep,
        )

    def _checkpoint(self, state: State) -> Checkpoint:
        task = self.task
        return Checkpoint(self.config, task.sizes, self.steps, self.backend, self.sha256, task.vocabulary, *state)
