"""The loop: step after step, now and then a validation and a file, the best weights kept, a clean end at any time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import numpy as np

from ..fast.numerics import Array
from .learner import Learner, Result, Weights
from .objective import Batch


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


class State(NamedTuple):
    """What a run needs to go on: what its file holds."""

    history: History
    tensors: dict[str, Array]  # the learner's `state_dict()`
    best: Weights  # the model after its best validation; nothing before the first


class DivergedError(ArithmeticError):
    """The loss or the gradient is infinite or not a number."""


def fit(
    learner: Learner,
    batch_of: Callable[[int], Batch],
    validation: Callable[[], Iterable[Batch]],
    history: History,
    best: Weights,
    steps: int,
    interval: int,
    patience: int = 0,
    observer: Observer | None = None,
    save: Callable[[State], None] = lambda state: None,
) -> Weights:
    """Train until so many steps have been taken since the beginning, validations get no better, or the observer stops.

    Parameters
    ----------
    learner : Learner
    batch_of : function of int
        What step 0, 1, … sees.
    validation : function
        Batches to measure on.
    history : History
        Of earlier runs; grows with this one.
    best : dict of str to array
        Of earlier runs; nothing at first.
    steps, interval : int
        How many steps to take in all, and how many there are between two validations.
    patience : int
        Validations without a better one after which the run ends; 0: never.
    observer : Observer, optional
    save : function of State
        Writes a file to resume from. Called after every validation and at the end, whichever end it is but a
        divergence: then what was saved last is good.

    Returns
    -------
    dict of str to array
        The model's weights after its best validation.

    Raises
    ------
    DivergedError
        If a loss or the norm of the gradient is not finite.
    """
    observer = observer or Silent()
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is looked at instead
        while history.steps < steps and not stalled(history, patience):
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
                tensors = learner.state_dict()
                if due and best_validation(history) == len(history.validation) - 1:
                    best = {name.removeprefix("model."): a for name, a in tensors.items() if name.startswith("model.")}
                save(State(history, tensors, best))
            if due:
                observer.validated(history)
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


class Silent:
    """An observer that does not look."""

    def stepped(self, history: History) -> None:
        """Take note of a step."""

    def validated(self, history: History) -> None:
        """Take note of a validation."""

    def wants_to_stop(self) -> bool:
        """Say whether this step should be the last."""
        return False


def _check_finite(step: int, numbers: dict[str, float]) -> None:
    if not all(map(math.isfinite, numbers.values())):
        found = ", ".join(f"{name} {number:g}" for name, number in numbers.items())
        raise DivergedError(f"training diverged at step {step}: {found}")
