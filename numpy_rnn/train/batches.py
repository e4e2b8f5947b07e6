"""Which sequences, or which windows of a text, each step of training and each validation sees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..fast.numerics import Array
from .settings import Config
from .task import Split

WINDOW = 512  # symbols that a network reads at a time when it is scored; how many changes nothing but memory
VALIDATION_AT_MOST = 500_000  # symbols; more would cost minutes and add nothing to the second digit


class Batch(NamedTuple):
    """What one step of training sees: B sequences, or windows of B streams of text."""

    x: Array  # (T, B, I) numbers or (T, B) symbols
    target: tuple[Array, ...]  # of each part (B, O), (B,) or, asked at every step, (T, B)
    lengths: Array | None = None  # (B,), None: all T
    fresh: bool = True  # sequences begin here: states are zero rather than carried on from the batch before

    @property
    def valid(self) -> Array:
        """Which steps belong to the sequences: bool (T, B)."""
        T, B = self.x.shape[:2]
        return np.ones((T, B), bool) if self.lengths is None else np.arange(T)[:, None] < self.lengths


class Streams:
    """A text (n,) cut into B streams of equal length, which are read side by side in windows of T symbols.

    Examples
    --------
    >>> streams = Streams(np.arange(21), B=2, T=4)
    >>> batch = streams.window(1)
    >>> batch.x.T.tolist(), batch.target[0].T.tolist(), batch.fresh
    ([[4, 5, 6, 7], [14, 15, 16, 17]], [[5, 6, 7, 8], [15, 16, 17, 18]], False)
    >>> [len(batch.x) for batch in streams]
    [4, 4, 2]
    """

    def __init__(self, symbols: Array, B: int, T: int) -> None:
        length = (len(symbols) - 1) // B
        self.T = T
        self.x, self.target = (symbols[k : k + B * length].reshape(B, length).T for k in (0, 1))

    def window(self, k: int) -> Batch:
        """Return window 0, 1, … of all streams."""
        steps = slice(k * self.T, (k + 1) * self.T)
        return Batch(self.x[steps], (self.target[steps],), fresh=k == 0)

    def __iter__(self) -> Iterator[Batch]:
        """Read all once, in order; the last window may be shorter."""
        return map(self.window, range(-(-len(self.x) // self.T)))


class Batches:
    """The training split in another random order every epoch, cut into batches; the last one may be smaller.

    A text is read in order instead, in windows of its `Streams`: an epoch is once through all. A step's number alone
    says what it sees, and a resumed run needs no more than that.

    Raises
    ------
    ValueError
        If a text has too few symbols for one window.
    """

    def __init__(self, split: Split, config: Config) -> None:
        self.split, self.config = split, config
        self.per_epoch = -(-len(split.x) // config.batch)
        if config.seq_len:
            self.streams = Streams(split.text, config.batch, config.seq_len)
            self.per_epoch = len(self.streams.x) // config.seq_len
        if not self.per_epoch:
            raise ValueError(
                f"the text has {len(split.text)} symbols to train on, expected at least "
                f"{config.batch * config.seq_len + 1} for batch {config.batch} and sequence length {config.seq_len}"
            )

    def batch(self, step: int) -> Batch:
        """Return what training step `step` (0, 1, …) sees."""
        epoch, k = divmod(step, self.per_epoch)
        if self.config.seq_len:
            return self.streams.window(k)
        order = np.random.default_rng([self.config.seed, epoch]).permutation(len(self.split.x))
        return batch_of(self.split, order[k * self.config.batch : (k + 1) * self.config.batch], self.config.dtype)


def batch_of(split: Split, which: Array | slice, dtype: str) -> Batch:
    """Lay some sequences out in steps, no longer than the longest of them."""
    lengths = None if split.lengths is None else split.lengths[which]
    T = split.x.shape[1] if lengths is None else int(lengths.max())

    def laid_out(a: Array, at_every_step: bool) -> Array:
        a = a[which][:, :T].swapaxes(0, 1) if at_every_step else a[which]
        return a.astype(dtype) if a.dtype.kind == "f" else a

    # Numbers are asked once; classes asked at every step are (N, T).
    target = tuple(laid_out(t, t.dtype.kind != "f" and t.ndim == 2) for t in split.target)
    return Batch(laid_out(split.x, True), target, lengths)


def in_order(split: Split, config: Config) -> Iterator[Batch]:
    """Cut a split into batches that are read once, in order; a text as one stream."""
    if config.seq_len:
        return iter(Streams(split.text, 1, WINDOW))
    starts = range(0, len(split.x), 8 * config.batch)
    return (batch_of(split, slice(start, start + 8 * config.batch), config.dtype) for start in starts)


def validation_batches(split: Split, config: Config) -> Iterator[Batch]:
    """What is measured after every interval: a text, or its beginning, in several streams, to save time.

    Every stream but the first begins in the middle of things with a zero state, so a short text is cut into fewer
    than `batch` streams, each of at least four windows.
    """
    if not config.seq_len:
        return in_order(split, config)
    text = split.text[:VALIDATION_AT_MOST]
    return iter(Streams(text, max(1, min(config.batch, len(text) // (4 * config.seq_len))), config.seq_len))
