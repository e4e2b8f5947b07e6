"""One step of training: forward, loss, backward, clipping, Adam. Here in NumPy; `torch_learner` has it in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..fast.numerics import Array
from ..layers.losses import mean_squared_error, softmax_cross_entropy
from ..layers.network import Network
from ..layers.optim import Adam, Optimizer, clip_grad_norm
from .batches import Batch
from .processes import SingleProcess
from .settings import Config
from .task import Asked, Part, spans

Weights = dict[str, Array]


class DivergedError(ArithmeticError):
    """The loss or the gradient is infinite or not a number."""


class DisagreementError(ArithmeticError):
    """The losses of NumPy and PyTorch have drifted apart."""


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

    @property
    def best(self) -> int:
        """Which validation (0, 1, …) had the smallest loss; the first of several; -1 before the first."""
        return int(np.argmin([loss for _, loss in self.validation])) if self.validation else -1

    def recent_loss(self, steps: int = 100) -> float:
        """Return the mean training loss of the last steps."""
        recent = self.training[-steps:]
        return sum(result.loss for result in recent) / max(len(recent), 1)

    def stalled(self, patience: int) -> bool:
        """Whether the last `patience` validations were no better than one before them; never for a patience of 0.

        Examples
        --------
        >>> history = History([], [(10, 0.5), (20, 0.4), (30, 0.4), (40, 0.6)])
        >>> history.stalled(2), history.stalled(3), history.stalled(0)
        (True, False, False)
        """
        return 0 < patience < len(self.validation) - self.best


def loss(parts: Sequence[Part], y: Array, batch: Batch) -> tuple[float, Array, int]:
    """Mean loss of a batch, its gradient by the output y, (T, B, O) or (B, O), and how many questions it has.

    The loss is the sum over the parts of an answer: the mean squared error of numbers, the cross-entropy of classes in
    natural units. Rows are questions: sequences, or their valid steps; padding is in no row and gets a gradient of 0.
    """
    where: Any = batch.valid if y.ndim == 3 and batch.lengths is not None else ...
    rows = y[where]
    drows, total = np.empty_like(rows), 0.0
    for (part, span), target in zip(spans(parts), batch.target):
        function: Any = mean_squared_error if part.kind == "numbers" else softmax_cross_entropy
        value, drows[..., span] = function(rows[..., span], target[where])
        total += value
    dy = np.zeros_like(y)
    dy[where] = drows
    return float(total), dy, rows[..., 0].size


class Learner:
    """A model and its optimizer, in NumPy, trained by the gradients written by hand.

    Parameters
    ----------
    config : Config
    task : Asked
        A text, which is read in windows, has its states carried from one batch to the next.
    model : Network, optional
        Changed in place; by default as the config says.
    optimizer : Optimizer, optional
        Of the model's parameters; by default Adam.

    Raises
    ------
    ValueError
        If a text were to be read from both ends.
    """

    difference: float | None = None  # of two learners in lockstep, the largest of their losses' so far

    def __init__(
        self, config: Config, task: Asked, model: Network | None = None, optimizer: Optimizer | None = None
    ) -> None:
        if config.seq_len and config.bidirectional:
            raise ValueError("a network that reads a text from its end, too, has seen the symbol that it is asked for")
        self.config, self.task, self.group = config, task, SingleProcess()
        self.model: Any = model or config.initial_network(task.sizes)
        self.optimizer: Any = optimizer or Adam(self.model.state_dict(), config.lr, weight_decay=config.weight_decay)
        self.max_norm = config.clip or math.inf
        self.state: Any = None  # carried on

    def step(self, batch: Batch, lr: float) -> Result:
        """Learn from a batch; change nothing if the result is not finite."""
        before = None if batch.fresh else self.state
        y, state, tape = self.model.forward(batch.x, before, batch.lengths, self.task.read)
        value, dy, _ = loss(self.task.parts, y, batch)
        grads = self.model.backward(tape, dy)[0]
        result = Result(value, float(clip_grad_norm(grads, self.max_norm)))
        if result.finite:
            self.state = state if self.config.seq_len else None
            self.optimizer.lr = lr
            self.optimizer.step(grads)
        return result

    def outputs(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Array]]:
        """Run the model over batches in order, each state going on from the last; what it saw of each, its output."""
        state = None
        for batch in batches:
            y, state = self.model(batch.x, None if batch.fresh else state, batch.lengths, self.task.read)
            yield batch, y

    def evaluate(self, batches: Iterable[Batch]) -> float:
        """Return the mean loss over batches, which are one text, or one split, in order; learn nothing."""
        total = count = 0.0
        for batch, y in self.outputs(batches):
            if not y.size:  # of a short text a process may have no stream
                continue
            value, _, rows = loss(self.task.parts, y, batch)
            total, count = total + value * rows, count + rows
        total, count = self.group.reduced([total, count], "SUM")
        return float(total / count)

    def state_dict(self) -> dict[str, Array]:
        """Return everything that has to be saved to go on later: `model.…`, `optimizer.…` and `state.…`."""
        return pack(self.model.state_dict(), self.optimizer.state_dict(), self.state)

    def load_state_dict(self, tensors: dict[str, Array]) -> None:
        """Go on from what `state_dict` of a learner of the same task returned, in whatever backend."""
        model, optimizer, self.state = unpack(tensors)
        self.load_model(model)
        self.optimizer.load_state_dict(optimizer)

    def load_model(self, model: Weights) -> None:
        """Take the model's weights alone."""
        self.model.load_state_dict(model)


def pack(model: dict[str, Array], optimizer: dict[str, Array], state: Any) -> dict[str, Array]:
    """Copy the three parts of a learner into one dictionary, under three prefixes.

    The state is h, (h, c) or, before the first window, None.
    """
    states = dict(zip("hc", state if isinstance(state, tuple) else (state,))) if state is not None else {}
    parts = {"model": model, "optimizer": optimizer, "state": states}
    return {f"{part}.{name}": value.copy() for part, named in parts.items() for name, value in named.items()}


def part_of(tensors: dict[str, Array], part: str) -> dict[str, Array]:
    """Take from what `pack` returned one part, without the prefix."""
    prefix = part + "."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def unpack(tensors: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array], Any]:
    """Undo `pack`."""
    model, optimizer, states = (part_of(tensors, part) for part in ("model", "optimizer", "state"))
    state = (states["h"], states["c"]) if "c" in states else states.get("h")
    return model, optimizer, state
