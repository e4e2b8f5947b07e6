"""Which sequences, or which windows of a text, each step of training and each validation sees."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..fast.numerics import Array
from ..layers.arguments import check_size
from .objective import Batch
from .settings import Config
from .task import Split, Task

WINDOW = 512  # symbols that a network reads at a time when it is scored; how many changes nothing but memory
VALIDATION_AT_MOST = 500_000  # symbols; more would cost minutes and add nothing to the second digit


class Batches:
    """The training split in another random order every epoch, cut into batches; the last one may be smaller.

    A text is read in order instead, in `Streams`: an epoch is once through all. A step's number alone says what it
    sees, and a resumed run needs no more than that.
    """

    def __init__(self, split: Split, config: Config) -> None:
        self.split, self.config = split, config
        self.streams = Streams(split.text, config.batch, config.seq_len) if config.seq_len else None
        self.per_epoch = self.streams.windows if self.streams else -(-len(split.x) // config.batch)

    def batch(self, step: int) -> Batch:
        """Return what training step `step` (0, 1, …) sees."""
        if self.streams:
            return self.streams.batch(step)
        epoch, k = divmod(step, self.per_epoch)
        order = np.random.default_rng([self.config.seed, epoch]).permutation(len(self.split.x))
        which = order[k * self.config.batch : (k + 1) * self.config.batch]
        return as_batch(self.split.take(which), self.config.dtype)


class Streams:
    """A text (n,) cut into B streams of equal length, which are read side by side in windows of T symbols.

    Step k of training sees window k of every stream, and after the last window the first one again.

    Raises
    ------
    ValueError
        If there are too few symbols for one window.

    Examples
    --------
    >>> streams = Streams(np.arange(21), B=2, T=5)
    >>> batch = streams.batch(1)
    >>> batch.x.T.tolist(), batch.target[0].T.tolist(), batch.fresh
    ([[5, 6, 7, 8, 9], [15, 16, 17, 18, 19]], [[6, 7, 8, 9, 10], [16, 17, 18, 19, 20]], False)
    """

    def __init__(self, symbols: Array, B: int, T: int) -> None:
        self.T, B = check_size("seq_len", T), check_size("batch", B)
        self.symbols, self.targets = _cut(symbols, B)
        self.windows = len(self.symbols) // T
        if self.windows == 0:
            raise ValueError(
                f"the text has {len(symbols)} symbols to train on, expected at least {B * T + 1} "
                f"for batch {B} and sequence length {T}"
            )

    def batch(self, step: int) -> Batch:
        """Return what training step `step` (0, 1, …) sees."""
        window = step % self.windows
        steps = slice(window * self.T, (window + 1) * self.T)
        return Batch(self.symbols[steps], (self.targets[steps],), fresh=window == 0)


def validation_batches(symbols: Array, B: int, T: int) -> Iterator[Batch]:
    """Cut a text (n,) into batches that are read once, in order, the last one shorter if need be.

    Every stream but the first begins in the middle of things with a zero state, so a short text is cut into fewer
    than B streams, each of at least four windows. No more than `VALIDATION_AT_MOST` symbols are used.
    """
    symbols = symbols[:VALIDATION_AT_MOST]
    x, y = _cut(symbols, max(1, min(B, len(symbols) // (4 * T))))
    for start in range(0, len(x), T):
        yield Batch(x[start : start + T], (y[start : start + T],), fresh=start == 0)


def _cut(symbols: Array, B: int) -> tuple[Array, Array]:
    """Cut a text into B streams, (length, B), and what follows each of their symbols."""
    length = (len(symbols) - 1) // B
    return symbols[: B * length].reshape(B, length).T, symbols[1 : B * length + 1].reshape(B, length).T


def as_batch(split: Split, dtype: str) -> Batch:
    """Lay sequences out in steps, no longer than the longest of them."""
    T = split.x.shape[1] if split.lengths is None else int(split.lengths.max())
    x = split.x[:, :T].swapaxes(0, 1)
    at_every_step = split.x.shape[:2]

    def of_steps(t: Array) -> Array:
        if np.issubdtype(t.dtype, np.floating):
            return t.astype(dtype)
        return t[:, :T].T if t.shape == at_every_step else t

    x = x.astype(dtype) if np.issubdtype(x.dtype, np.floating) else x
    return Batch(x, tuple(map(of_steps, split.target)), split.lengths)


def in_order(split: Split, config: Config) -> Iterator[Batch]:
    """Cut a split into batches that are read once, in order; a text as one stream."""
    if config.seq_len:
        yield from validation_batches(split.text, 1, WINDOW)
        return
    for start in range(0, len(split.x), 8 * config.batch):
        yield as_batch(split.take(slice(start, start + 8 * config.batch)), config.dtype)


def validation_of(task: Task, config: Config) -> Iterator[Batch]:
    """What is measured after every interval: a text in several streams, which begin with a zero state, to save time."""
    if config.seq_len:
        return validation_batches(task.validation.text, config.batch, config.seq_len)
    return in_order(task.validation, config)
