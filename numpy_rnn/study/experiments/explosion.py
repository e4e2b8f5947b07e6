"""Training with and without clipping: from the same weights, on the same sequences, with plain gradient descent.

The gradient that has come back over k steps holds a product of k factors W_hhᵀ f'(a_t). Where these are larger than 1
on average it grows exponentially with k. tanh holds it down, since tanh' is near 0 where the states are large; relu
does not, so that one step along such a gradient throws the weights so far that the next states, which grow as W_hhᵏ,
are no longer numbers. Scaling the gradient to a norm of at most 1 keeps its direction and takes a step of bounded
length (Pascanu, Mikolov & Bengio, ICML 2013, arXiv 1211.5063 v2, section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ...layers.optim import SGD
from .tasks import TASKS
from .training import Settings, descend, prepared


class Descent(NamedTuple):
    """What a training step by step had to report."""

    settings: Settings
    losses: list[float]  # before each step
    norms: list[float]  # of the gradient, before clipping
    complete: bool  # it was not interrupted

    @property
    def burst(self) -> int | None:
        """The first step, counted from 1, at which the loss or the gradient's norm was infinite or not a number."""
        finite = all(map(math.isfinite, (*self.losses[-1:], *self.norms[-1:])))
        return None if finite else len(self.losses)

    @property
    def largest_norm(self) -> float:
        """The largest finite norm of a gradient."""
        return max(filter(math.isfinite, self.norms), default=math.nan)


def descent(settings: Settings, stepped: Callable[[int, float], bool] = lambda step, norm: True) -> Descent:
    """Train by gradient descent until the steps are used up or a number is no longer finite.

    Parameters
    ----------
    settings : Settings
        `clip` of 0 for none; `interval` has no meaning here.
    stepped : function of int and float
        Called after each step with their number and the gradient's norm; returns whether to go on.

    Returns
    -------
    Descent

    Raises
    ------
    ValueError
        If a setting is out of range.

    Examples
    --------
    >>> without = Settings("adding", "irnn", 100, 32, 32, steps=50, lr=0.3, clip=0, seed=0, interval=1)
    >>> descent(without).burst
    2
    >>> from dataclasses import replace
    >>> descent(replace(without, clip=1)).burst is None
    True
    """
    task = TASKS[settings.task]
    model, learning, _ = prepared(settings)
    optimizer = SGD(model.state_dict(), settings.lr)
    found = Descent(settings, [], [], True)
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is what is looked for
        for step in range(1, settings.steps + 1):
            batch = task.batch(settings.lag, settings.batch, learning, model.dtype)
            loss, norm = descend(model, task, batch, optimizer, settings.clip)
            found.losses.append(loss)
            found.norms.append(norm)
            go_on = stepped(step, norm)
            if found.burst or not go_on:
                return found._replace(complete=go_on)
    return found
