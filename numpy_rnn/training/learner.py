"""One step of training: forward, loss, backward, clipping, Adam. Here in NumPy; `torch` has the same in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from ..language import LanguageModel
from ..losses import softmax_cross_entropy
from ..numerics import Array
from ..optim import Adam, clip_grad_norm
from .text import Batch

B_contra = TypeVar("B_contra", contravariant=True)  # what a step sees


@dataclass(frozen=True)
class Config:
    """What determines a run, together with its text: two runs with the same config and text end the same."""

    cell: str
    layers: int
    hidden: int
    embedding: int
    seq_len: int
    batch: int
    lr: float
    clip: float  # 0: none
    seed: int
    dtype: str
    symbols: str


class Result(NamedTuple):
    """What a step of training has to report."""

    loss: float  # mean over the batch, in natural units
    norm: float  # of the gradient, before clipping

    @property
    def finite(self) -> bool:
        """Whether it makes sense to go on."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)


class Learner(Protocol[B_contra]):
    """What the training loop knows of a model and its optimizer."""

    def step(self, batch: B_contra) -> Result:
        """Learn from a batch; change nothing if the result is not finite."""

    def evaluate(self, batches: Iterable[B_contra]) -> float:
        """Return the mean loss over batches, which are one text, or one split, in order; learn nothing."""

    def state_dict(self) -> dict[str, Array]:
        """Return everything that has to be saved to go on later: `model.…`, `optimizer.…` and `state.…`."""

    def load_state_dict(self, tensors: dict[str, Array]) -> None:
        """Go on from what `state_dict` of a learner with the same config returned, in whatever backend."""


def initial_model(config: Config, vocabulary_size: int) -> LanguageModel:
    """Make the model that a run starts from, in every backend.

    Parameters
    ----------
    config : Config
    vocabulary_size : int

    Returns
    -------
    LanguageModel
    """
    return LanguageModel(
        config.cell,
        vocabulary_size,
        config.hidden,
        config.layers,
        config.embedding,
        dtype=np.dtype(config.dtype),
        rng=config.seed,
    )


class NumPyLearner:
    """Training in NumPy, by the gradients written by hand.

    Parameters
    ----------
    config : Config
    vocabulary_size : int
    """

    def __init__(self, config: Config, vocabulary_size: int) -> None:
        self.model = initial_model(config, vocabulary_size)
        self.optimizer = Adam(self.model.state_dict(), lr=config.lr)
        self.max_norm = config.clip or math.inf
        self.state: Any = None

    def step(self, batch: Batch) -> Result:
        """Learn from a batch; change nothing if the result is not finite."""
        state = None if batch.fresh else self.state
        logits, state, tape = self.model.forward(batch.symbols, state)
        loss, dlogits = softmax_cross_entropy(logits, batch.targets)
        grads, _ = self.model.backward(tape, dlogits)
        result = Result(float(loss), float(clip_grad_norm(grads, self.max_norm)))
        if result.finite:
            self.state = state
            self.optimizer.step(grads)
        return result

    def evaluate(self, batches: Iterable[Batch]) -> float:
        """Return the mean loss over batches, which are one text after the other; learn nothing."""
        total, count, state = 0.0, 0, None
        for batch in batches:
            logits, state = self.model(batch.symbols, None if batch.fresh else state)
            total += float(softmax_cross_entropy(logits, batch.targets, reduction="sum")[0])
            count += batch.targets.size
        return total / count

    def state_dict(self) -> dict[str, Array]:
        """Return everything that has to be saved to go on later: `model.…`, `optimizer.…` and `state.…`."""
        return pack(self.model.state_dict(), self.optimizer.state_dict(), self.state)

    def load_state_dict(self, tensors: dict[str, Array]) -> None:
        """Go on from what `state_dict` of a learner with the same config returned, in whatever backend."""
        model, optimizer, self.state = unpack(tensors)
        self.model.load_state_dict(model)
        self.optimizer.load_state_dict(optimizer)


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
