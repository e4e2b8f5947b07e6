"""The loop: step after step, now and then a validation and a file, and a clean end whenever it comes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from .learner import Learner, Result

Batch = TypeVar("Batch")


class History(NamedTuple):
    """What has happened since the first step."""

    training: list[Result]  # one for each step
    validation: list[tuple[int, float]]  # after how many steps, mean loss

    @property
    def steps(self) -> int:
        """How many steps have been taken."""
        return len(self.training)

    def recent_loss(self, steps: int = 100) -> float:
        """Return the mean training loss of the last steps."""
        recent = self.training[-steps:]
        return sum(result.loss for result in recent) / max(len(recent), 1)


class Observer(Protocol):
    """Whom the loop keeps informed, and who may stop it."""

    def stepped(self, history: History) -> None:
        """Take note of a step."""

    def validated(self, history: History) -> None:
        """Take note of a validation."""

    def wants_to_stop(self) -> bool:
        """Say whether this step should be the last."""


class DivergedError(ArithmeticError):
    """The loss or the gradient is infinite or not a number."""


def run(
    learner: Learner[Batch],
    batch_of: Callable[[int], Batch],
    validation: Callable[[], Iterable[Batch]],
    save: Callable[[History], None],
    history: History,
    steps: int,
    interval: int,
    observer: Observer,
) -> bool:
    """Train until `steps` steps have been taken since the beginning, or until the observer wants to stop.

    Parameters
    ----------
    learner : Learner
    batch_of : function of int
        What step 0, 1, … sees.
    validation : function
        Batches to measure on.
    save : function of History
        Writes a file to resume from. Called after every `interval` steps and at the end, whichever end it is but
        a divergence: then the file of the last good save stays.
    history : History
        Of earlier runs; grows with this one.
    steps, interval : int
    observer : Observer

    Returns
    -------
    bool
        Whether all steps have been taken.

    Raises
    ------
    DivergedError
        If a loss or the norm of the gradient is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is looked at instead
        while history.steps < steps:
            result = learner.step(batch_of(history.steps))
            _check_finite(history.steps + 1, {"loss": result.loss, "gradient norm": result.norm})
            history.training.append(result)
            observer.stepped(history)
            due = history.steps % interval == 0 or history.steps == steps
            if due:
                loss = learner.evaluate(validation())
                _check_finite(history.steps, {"validation loss": loss})
                history.validation.append((history.steps, loss))
            stop = observer.wants_to_stop()
            if due or stop:
                save(history)
            if due:
                observer.validated(history)
            if stop:
                break
    return history.steps >= steps


def _check_finite(step: int, numbers: dict[str, float]) -> None:
    if not all(map(math.isfinite, numbers.values())):
        found = ", ".join(f"{name} {number:g}" for name, number in numbers.items())
        raise DivergedError(f"training diverged at step {step}: {found}")
