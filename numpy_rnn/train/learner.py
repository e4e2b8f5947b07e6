"""One step of training: forward, loss, backward, clipping, Adam. Here in NumPy; `torch_learner` has it in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..fast.numerics import Array
from ..layers.losses import Reduction
from ..layers.network import Network, Read
from ..layers.optim import Adam, Optimizer, clip_grad_norm
from . import objective
from .objective import Batch, Part

Weights = dict[str, Array]


class Problem(NamedTuple):
    """What is to be learnt, by which network and how: what a learner is made from, in every backend."""

    network: dict[str, Any]  # arguments of `Network`
    parts: tuple[Part, ...]
    read: Read
    carried: bool  # whether states are carried from one batch to the next, as through a text
    lr: float
    weight_decay: float
    clip: float  # of the gradient's norm; 0: none
    seed: int
    dtype: str

    @property
    def max_norm(self) -> float:
        """The largest norm that a gradient may have."""
        return self.clip or math.inf

    @property
    def measured(self) -> Reduction:
        """How a batch counts in a validation: a text by what all its symbols cost, sequences by their mean."""
        return "sum" if self.carried else "mean"

    def initial_network(self) -> Network:
        """Make the network that training starts from, in every backend."""
        return Network(**self.network, dtype=np.dtype(self.dtype), rng=self.seed)


class Result(NamedTuple):
    """What a step of training has to report."""

    loss: float  # mean over the batch, in natural units
    norm: float  # of the gradient, before clipping

    @property
    def finite(self) -> bool:
        """Whether it makes sense to go on."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)


class Learner(Protocol):
    """What the training loop knows of a model and its optimizer."""

    def step(self, batch: Batch) -> Result:
        """Learn from a batch; change nothing if the result is not finite."""

    def evaluate(self, batches: Iterable[Batch]) -> float:
        """Return the mean loss over batches, which are one text, or one split, in order; learn nothing."""

    def state_dict(self) -> dict[str, Array]:
        """Return everything that has to be saved to go on later: `model.…`, `optimizer.…` and `state.…`."""

    def load_state_dict(self, tensors: dict[str, Array]) -> None:
        """Go on from what `state_dict` of a learner of the same problem returned, in whatever backend."""


class NumPyLearner:
    """Training in NumPy, by the gradients written by hand.

    Parameters
    ----------
    problem : Problem
    model : Network, optional
        Changed in place; by default the problem's own.
    optimizer : Optimizer, optional
        Of the model's parameters; by default Adam.
    """

    def __init__(self, problem: Problem, model: Network | None = None, optimizer: Optimizer | None = None) -> None:
        self.problem = problem
        self.model = problem.initial_network() if model is None else model
        self.optimizer = optimizer or Adam(self.model.state_dict(), lr=problem.lr, weight_decay=problem.weight_decay)
        self.state: Any = None  # carried on

    def step(self, batch: Batch) -> Result:
        """Learn from a batch; change nothing if the result is not finite."""
        p = self.problem
        y, state, tape = self.model.forward(batch.x, None if batch.fresh else self.state, batch.lengths, p.read)
        loss, dy, _ = objective.loss(p.parts, y, batch)
        grads = self.model.backward(tape, dy)[0]
        result = Result(float(loss), float(clip_grad_norm(grads, p.max_norm)))
        if result.finite:
            self.state = state if p.carried else None
            self.optimizer.lr = self.optimizer.lr if batch.lr is None else batch.lr
            self.optimizer.step(grads)
        return result

    def outputs(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Array]]:
        """Run the model over batches in order, each state going on from the last; its output for each of them."""
        state = None
        for batch in batches:
            y, state = self.model(batch.x, None if batch.fresh else state, batch.lengths, self.problem.read)
            yield batch, y

    def evaluate(self, batches: Iterable[Batch]) -> float:
        """Return the mean loss over batches, which are one text, or one split, in order; learn nothing."""
        total, count, summed = 0.0, 0, self.problem.measured
        for batch, y in self.outputs(batches):
            value, _, rows = objective.loss(self.problem.parts, y, batch, summed)
            total, count = total + float(value) * (1 if summed == "sum" else rows), count + rows
        return total / count

    def state_dict(self) -> dict[str, Array]:
        """Return everything that has to be saved to go on later: `model.…`, `optimizer.…` and `state.…`."""
        return pack(self.model.state_dict(), self.optimizer.state_dict(), self.state)

    def load_state_dict(self, tensors: dict[str, Array]) -> None:
        """Go on from what `state_dict` of a learner of the same problem returned, in whatever backend."""
        model, optimizer, self.state = unpack(tensors)
        self.load_model(model)
        self.optimizer.load_state_dict(optimizer)

    def load_model(self, model: Weights) -> None:
        """Take the model's weights alone."""
        self.model.load_state_dict(model)


def pack(model: dict[str, Array], optimizer: dict[str, Array], state: Any) -> dict[str, Array]:
    """Put the three parts of a learner into one dictionary, under three prefixes; the state is h or (h, c).

    Parameters
    ----------
    model, optimizer : dict of str to array
    state : array, pair of arrays or None
        What the recurrent layers carry from one window to the next; None before the first.

    Returns
    -------
    dict of str to array
        Copies.
    """
    states = () if state is None else state if isinstance(state, tuple) else (state,)
    return {
        **{f"model.{name}": value.copy() for name, value in model.items()},
        **{f"optimizer.{name}": value.copy() for name, value in optimizer.items()},
        **{f"state.{name}": value.copy() for name, value in zip("hc", states)},
    }


def unpack(tensors: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array], Any]:
    """Undo `pack`."""
    model, optimizer, states = (
        {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        for prefix in ("model.", "optimizer.", "state.")
    )
    values = tuple(states[name] for name in "hc" if name in states)
    return model, optimizer, None if not values else values[0] if len(values) == 1 else values
