"""One step of training: forward, loss, backward, clipping, Adam. Here in NumPy; `torch_learner` has it in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..fast.numerics import Array
from ..layers.network import Network, Read
from ..layers.optim import Adam, Optimizer, clip_grad_norm
from . import objective
from .objective import Batch, Part
from .processes import SingleProcess

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


class Learner:
    """What the loop knows of a model and its optimizer; `NumPyLearner` and `TorchLearner` fill it in.

    Parameters
    ----------
    problem : Problem
    group : SingleProcess, optional
        The processes that share the batches.
    """

    def __init__(self, problem: Problem, group: SingleProcess | None = None) -> None:
        self.problem, self.group = problem, group or SingleProcess()

    def step(self, batch: Batch) -> Result:
        """Learn from a batch; change nothing if the result is not finite."""
        raise NotImplementedError

    def outputs(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Array]]:
        """Run the model over batches in order, each state going on from the last; what it saw of each, its output."""
        raise NotImplementedError

    def evaluate(self, batches: Iterable[Batch]) -> float:
        """Return the mean loss over batches, which are one text, or one split, in order; learn nothing."""
        total = count = 0.0
        for batch, y in self.outputs(batches):
            value, _, rows = objective.loss(self.problem.parts, y, batch)
            total, count = total + float(value) * rows, count + rows
        total, count = self.group.total(total, count)
        return total / count

    def state_dict(self) -> dict[str, Array]:
        """Return everything that has to be saved to go on later: `model.…`, `optimizer.…` and `state.…`."""
        raise NotImplementedError

    def load_state_dict(self, tensors: dict[str, Array]) -> None:
        """Go on from what `state_dict` of a learner of the same problem returned, in whatever backend."""
        raise NotImplementedError

    def load_model(self, model: Weights) -> None:
        """Take the model's weights alone."""
        raise NotImplementedError


class NumPyLearner(Learner):
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
        super().__init__(problem)
        self.model = problem.initial_network() if model is None else model
        self.optimizer = optimizer or Adam(self.model.state_dict(), lr=problem.lr, weight_decay=problem.weight_decay)
        self.state: Any = None  # carried on

    def step(self, batch: Batch) -> Result:
        """See `Learner`."""
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
        """See `Learner`."""
        state = None
        for batch in batches:
            y, state = self.model(batch.x, None if batch.fresh else state, batch.lengths, self.problem.read)
            yield batch, y

    def state_dict(self) -> dict[str, Array]:
        """See `Learner`."""
        return pack(self.model.state_dict(), self.optimizer.state_dict(), self.state)

    def load_state_dict(self, tensors: dict[str, Array]) -> None:
        """See `Learner`."""
        model, optimizer, self.state = unpack(tensors)
        self.load_model(model)
        self.optimizer.load_state_dict(optimizer)

    def load_model(self, model: Weights) -> None:
        """See `Learner`."""
        self.model.load_state_dict(model)


def pack(model: dict[str, Array], optimizer: dict[str, Array], state: Any) -> dict[str, Array]:
    """Copy the three parts of a learner into one dictionary, under three prefixes.

    The state is h, (h, c) or, before the first window, None.
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
