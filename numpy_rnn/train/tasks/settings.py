"""A task as the training engine takes it: what a step sees, what a learner is made from, a network's answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..learner import Problem
from ..objective import Batch, spans
from ..schedule import learning_rate
from ..text import Streams, validation_batches
from .bits import WINDOW, costs
from .task import Outputs, Split, Task


@dataclass(frozen=True)
class Config:
    """What determines a run, together with the task's data: two runs with the same config and data end the same."""

    task: str
    cell: str
    hidden: int
    layers: int
    bidirectional: bool
    embedding: int  # numbers that stand for a symbol, where symbols come in
    batch: int  # sequences, or streams of a text, of a step
    window: int  # symbols that a step sees of each stream of a text; 0: whole sequences
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

    A text is read in order instead, in B streams side by side, window after window: an epoch is once through all.
    A step's number alone says what it sees, and a resumed run needs no more than that.

    Parameters
    ----------
    split : Split
    config : Config
    """

    def __init__(self, split: Split, config: Config) -> None:
        self.split, self.config = split, config
        self.streams = Streams(split.text, config.batch, config.window) if config.window else None
        self.per_epoch = self.streams.windows if self.streams else -(-len(split.x) // config.batch)

    @property
    def steps(self) -> int:
        """How many steps a whole run has."""
        return self.per_epoch * self.config.epochs

    def batch(self, step: int) -> Batch:
        """Return what training step `step` (0, 1, …) sees."""
        lr = learning_rate(self.config, step, self.steps)
        if self.streams:
            return self.streams.batch(step)._replace(lr=lr)
        epoch, k = divmod(step, self.per_epoch)
        order = np.random.default_rng([self.config.seed, epoch]).permutation(len(self.split.x))
        which = order[k * self.config.batch : (k + 1) * self.config.batch]
        return as_batch(self.split.take(which), self.config.dtype, lr)


def as_batch(split: Split, dtype: str, lr: float | None = None) -> Batch:
    """Lay sequences out in steps, no longer than the longest of them."""
    T = split.x.shape[1] if split.lengths is None else int(split.lengths.max())
    x = split.x[:, :T].swapaxes(0, 1)
    numbers = np.issubdtype(x.dtype, np.floating)
    whole = split.x.shape[:2]  # of targets at every step
    target = tuple(
        t.astype(dtype) if np.issubdtype(t.dtype, np.floating) else t[:, :T].T if t.shape == whole else t
        for t in split.target
    )
    return Batch(x.astype(dtype) if numbers else x, target, split.lengths, lr=lr)


def in_order(split: Split, config: Config) -> Iterator[Batch]:
    """Cut a split into batches that are read once, in order; a text as one stream."""
    if config.window:
        yield from validation_batches(split.text, 1, WINDOW)
        return
    for start in range(0, len(split.x), 8 * config.batch):
        yield as_batch(split.take(slice(start, start + 8 * config.batch)), config.dtype)


def validation_of(task: Task, config: Config) -> Iterator[Batch]:
    """What is measured after every epoch: a text in several streams, which begin with a zero state, to save time."""
    if config.window:
        return validation_batches(task.validation.text, config.batch, config.window)
    return in_order(task.validation, config)


def network_arguments(config: Config, task: Task) -> dict[str, Any]:
    """What the network's constructor is told, in every backend."""
    return dict(
        cell=config.cell,
        input_size=config.embedding if task.symbols else task.train.x.shape[2],
        hidden_size=config.hidden,
        output_size=task.output_size,
        num_layers=config.layers,
        bidirectional=config.bidirectional,
        symbols=task.symbols,
    )


def problem(config: Config, task: Task) -> Problem:
    """What a learner of the task is made from.

    Raises
    ------
    ValueError
        If a text were to be read from both ends.
    """
    if config.window and config.bidirectional:
        raise ValueError("a network that reads a text from its end, too, has seen the symbol that it is asked for")
    return Problem(
        network=network_arguments(config, task),
        parts=task.parts,
        read=task.read,
        carried=config.window > 0,
        lr=config.lr,
        weight_decay=config.weight_decay,
        clip=config.clip,
        seed=config.seed,
        dtype=config.dtype,
    )


def answers(learner: Any, task: Task, split: Split, config: Config) -> Outputs:
    """A network's answers on a split, one row for every question, in the order of `Task.answers`."""
    rows = []
    for batch, y in learner.outputs(in_order(split, config)):
        if config.window:
            rows.append(costs(y[:, 0], batch.target[0][:, 0]))
        else:
            rows.append(y.swapaxes(0, 1)[batch.valid.T] if y.ndim == 3 else y)
    if config.window:
        return [np.concatenate(rows)]
    everything = np.concatenate(rows)
    return [everything[:, span] for _, span in spans(task.parts)]
