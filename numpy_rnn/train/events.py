"""What TensorBoard shows of a run: event files with the losses, the gradient's norm and the learning rate of each step.

The library tensorboardX writes them: it needs neither PyTorch nor TensorBoard itself.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..layers.files import MissingLibraryError
from .loop import History, Observer


def writer_class() -> Any:
    """Return tensorboardX's SummaryWriter.

    Raises
    ------
    MissingLibraryError
        If it is not installed.
    """
    try:
        return importlib.import_module("tensorboardX").SummaryWriter
    except ModuleNotFoundError:
        raise MissingLibraryError("--tensorboard needs tensorboardX: pip install 'numpy-rnn[tensorboard]'") from None


@contextmanager
def recorded(observer: Observer, folder: Path | None, done: int, lr: Callable[[int], float]) -> Iterator[Observer]:
    """Let an observer be one who writes event files, too.

    Parameters
    ----------
    observer : Observer
    folder : path or None
        Where they go, each run's in a file of its own; None: nowhere.
    done : int
        Steps of an earlier run that this one goes on from. TensorBoard forgets what that one did after them.
    lr : function of int
        The learning rate of step 0, 1, …

    Yields
    ------
    Observer

    Raises
    ------
    MissingLibraryError
        If tensorboardX is not installed.
    OSError
        If the folder cannot be made.
    """
    if folder is None:
        yield observer
        return
    with writer_class()(str(folder), purge_step=done + 1 if done else None) as writer:
        yield _Recorder(observer, writer, lr)


class _Recorder:
    """Passes everything on to an observer, and writes it down."""

    def __init__(self, observer: Observer, writer: Any, lr: Callable[[int], float]) -> None:
        self.wants_to_stop = observer.wants_to_stop
        self._observer, self._writer, self._lr = observer, writer, lr

    def stepped(self, history: History) -> None:
        """Take note of a step."""
        (loss, norm), step = history.training[-1], history.steps
        self._writer.add_scalar("loss/training", loss, step)
        self._writer.add_scalar("gradient_norm", norm, step)
        self._writer.add_scalar("learning_rate", self._lr(step - 1), step)
        self._observer.stepped(history)

    def validated(self, history: History) -> None:
        """Take note of a validation."""
        step, loss = history.validation[-1]
        self._writer.add_scalar("loss/validation", loss, step)
        self._observer.validated(history)
