"""One step of training on a task: forward, loss, backward, clipping, Adam; `torch_learner` has it in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..network import Network
from ..numerics import Array
from ..optim import Adam, clip_grad_norm
from ..training.learner import Result, pack, unpack
from . import objective
from .objective import Batch
from .task import Outputs, Split, Task

SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True)
class Config:
    """What determines a run, together with the task's data: two runs with the same config and data end the same."""

    task: str
    cell: str
    hidden: int
    layers: int
    bidirectional: bool
    embedding: int  # numbers that stand for a symbol, where symbols come in
    batch: int
    epochs: int  # at most
    patience: int  # epochs without a better validation after which it ends; 0: never
    lr: float
    schedule: str
    clip: float  # of the gradient's norm; 0: none
    weight_decay: float
    seed: int
    dtype: str


class Batches:
    """The training split in another random order every epoch, cut into batches; the last one may be smaller.

    A step's number alone says what it sees, and a resumed run needs no more than that.

    Parameters
    ----------
    split : Split
    config : Config
    """

    def __init__(self, split: Split, config: Config) -> None:
        self.split, self.config = split, config
        self.per_epoch = -(-len(split.x) // config.batch)

    @property
    def steps(self) -> int:
        """How many steps a whole run has."""
        return self.per_epoch * self.config.epochs

    def batch(self, step: int) -> Batch:
        """Return what training step `step` (0, 1, …) sees."""
        epoch, k = divmod(step, self.per_epoch)
        order = np.random.default_rng([self.config.seed, epoch]).permutation(len(self.split.x))
        which = order[k * self.config.batch : (k + 1) * self.config.batch]
        return as_batch(self.split.take(which), self.config.dtype, learning_rate(self.config, step, self.steps))


def learning_rate(config: Config, step: int, steps: int) -> float:
    """The learning rate of a step: constant, or half a cosine from lr down to almost 0, without restarts.

    (S1)  lr_k = lr (1 + cos(π k / n)) / 2     step k of n; Loshchilov & Hutter, ICLR 2017, arXiv 1608.03983 v5, (5)
    """
    if config.schedule == "constant":
        return config.lr
    return config.lr * (1 + math.cos(math.pi * step / steps)) / 2  # (S1)


def as_batch(split: Split, dtype: str, lr: float = 0.0) -> Batch:
    """Lay sequences out in steps, no longer than the longest of them."""
    T = split.x.shape[1] if split.lengths is None else int(split.lengths.max())
    x = split.x[:, :T].swapaxes(0, 1)
    numbers = np.issubdtype(x.dtype, np.floating)
    whole = split.x.shape[:2]  # of targets at every step
    target = tuple(
        t.astype(dtype) if np.issubdtype(t.dtype, np.floating) else t[:, :T].T if t.shape == whole else t
        for t in split.target
    )
    return Batch(x.astype(dtype) if numbers else x, split.lengths, target, lr)


def in_order(split: Split, config: Config) -> Iterator[Batch]:
    """Cut a split into batches that are read once, in order."""
    for start in range(0, len(split.x), 8 * config.batch):
        yield as_batch(split.take(slice(start, start + 8 * config.batch)), config.dtype)


def model_arguments(config: Config, task: Task) -> dict[str, Any]:
    """What the model's constructor is told, in every backend."""
    return dict(
        cell=config.cell,
        input_size=config.embedding if task.symbols else task.train.x.shape[2],
        hidden_size=config.hidden,
        output_size=task.output_size,
        num_layers=config.layers,
        bidirectional=config.bidirectional,
        symbols=task.symbols,
    )


def initial_model(config: Config, task: Task) -> Network:
    """Make the model that a run starts from, in every backend."""
    return Network(**model_arguments(config, task), dtype=np.dtype(config.dtype), rng=config.seed)


class TaskLearner:
    """Training in NumPy, by the gradients written by hand.

    Parameters
    ----------
    config : Config
    task : Task
    """

    def __init__(self, config: Config, task: Task) -> None:
        self.parts, self.read = task.parts, task.read
        self.model = initial_model(config, task)
        self.optimizer = Adam(self.model.state_dict(), lr=config.lr, weight_decay=config.weight_decay)
        self.max_norm = config.clip or math.inf

    def step(self, batch: Batch) -> Result:
        """Learn from a batch; change nothing if the result is not finite."""
        y, _, tape = self.model.forward(batch.x, lengths=batch.lengths, read=self.read)
        loss, dy, _ = objective.loss(self.parts, y, batch)
        grads, _, _ = self.model.backward(tape, dy)
        result = Result(float(loss), float(clip_grad_norm(grads, self.max_norm)))
        if result.finite:
            self.optimizer.lr = batch.lr
            self.optimizer.step(grads)
        return result

    def output(self, batch: Batch) -> Array:
        """Return the model's output (T, B, O) or (B, O)."""
        return self.model(batch.x, lengths=batch.lengths, read=self.read)[0]

    def evaluate(self, batches: Iterable[Batch]) -> float:
        """Return the mean loss over batches; learn nothing."""
        return mean_loss(self, batches)

    def state_dict(self) -> dict[str, Array]:
        """Return everything that has to be saved to go on later: `model.…` and `optimizer.…`."""
        return pack(self.model.state_dict(), self.optimizer.state_dict(), None)

    def load_state_dict(self, tensors: dict[str, Array]) -> None:
        """Go on from what `state_dict` of a learner with the same config returned, in whatever backend."""
        model, optimizer, _ = unpack(tensors)
        self.load_model(model)
        self.optimizer.load_state_dict(optimizer)

    def load_model(self, model: dict[str, Array]) -> None:
        """Take the model's weights alone."""
        self.model.load_state_dict(model)


def mean_loss(learner: Any, batches: Iterable[Batch]) -> float:
    """Mean loss over all rows of some batches."""
    total, count = 0.0, 0
    for batch in batches:
        value, _, rows = objective.loss(learner.parts, learner.output(batch), batch)
        total, count = total + float(value) * rows, count + rows
    return total / count


def answers(learner: Any, task: Task, split: Split, config: Config) -> Outputs:
    """A network's answers on a split, one row for every question, in the order of `Task.answers`."""
    rows = []
    for batch in in_order(split, config):
        y = learner.output(batch)
        rows.append(y.swapaxes(0, 1)[batch.valid.T] if y.ndim == 3 else y)
    everything = np.concatenate(rows)
    return [everything[:, span] for _, span in objective.spans(task.parts)]
