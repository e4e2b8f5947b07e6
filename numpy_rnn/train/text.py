"""Text to learn from: where it comes from, how it is split, and which piece of it each step of training sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..fast.numerics import Array
from ..layers.arguments import check_size
from .language import Vocabulary, codes_of
from .objective import Batch

VALIDATION_AT_MOST = 500_000  # symbols; more would cost minutes and add nothing to the second digit


class Text(NamedTuple):
    """A text as indices into its vocabulary, the last tenth kept for validation."""

    vocabulary: Vocabulary
    training: Array  # (number of symbols,)
    validation: Array  # (number of symbols,)


def default_text() -> str:
    """Return the language reference that every CPython carries for `help()`: half a megabyte of English and code.

    Python's versions differ in it a little; within one it is the same everywhere.

    Raises
    ------
    ValueError
        If this Python was packaged without it.

    Examples
    --------
    >>> default_text().split()[:3]
    ['The', '"assert"', 'statement']
    """
    try:
        from pydoc_data.topics import topics
    except ModuleNotFoundError:
        raise ValueError("this Python was packaged without its language reference: give a text of your own") from None
    return "".join(topics[name] for name in sorted(topics))


def read_text(path: str | Path | None, kind: str) -> Text:
    """Read a file, or take the default text.

    Parameters
    ----------
    path : path or None
        UTF-8; for `kind` "bytes", any file. None: `default_text()`.
    kind : "characters" or "bytes"
        What counts as a symbol.

    Raises
    ------
    ValueError
        If the file is empty, too short to split, or not UTF-8.
    OSError
        If it cannot be read.
    """
    data = default_text().encode() if path is None else Path(path).read_bytes()
    try:
        codes = codes_of(data, kind)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte {error.start} is {data[error.start]:#04x}); symbols can be bytes instead"
        ) from None
    name = "the text" if path is None else path
    if len(codes) == 0:
        raise ValueError(f"{name} is empty")
    n = len(codes) // 10
    if n < 2:
        raise ValueError(f"{name} has {len(codes)} {kind}, expected at least 20: the last tenth is for validation")
    vocabulary = Vocabulary.of(codes, kind)
    indices = vocabulary.encode(codes)
    return Text(vocabulary, indices[:-n], indices[-n:])


class Streams:
    """A text cut into B streams of equal length, which are read side by side in windows of T symbols.

    Step k of training sees window k of every stream, and after the last window the first one again. So a
    step's number alone says what it sees, and a resumed run needs no more than that.

    Parameters
    ----------
    symbols : integer array (number of symbols,)
    B, T : int
        Streams, and symbols in a window.

    Raises
    ------
    ValueError
        If there are too few symbols for one window.

    Examples
    --------
    >>> import numpy as np
    >>> streams = Streams(np.arange(21), B=2, T=5)
    >>> batch = streams.batch(1)
    >>> batch.x.T.tolist(), batch.target[0].T.tolist(), batch.fresh
    ([[5, 6, 7, 8, 9], [15, 16, 17, 18, 19]], [[6, 7, 8, 9, 10], [16, 17, 18, 19, 20]], False)
    """

    def __init__(self, symbols: Array, B: int, T: int) -> None:
        self.T, B = check_size("seq_len", T), check_size("batch", B)
        length = (len(symbols) - 1) // B
        self.windows = length // T
        if self.windows == 0:
            raise ValueError(
                f"the text has {len(symbols)} symbols to train on, expected at least {B * T + 1} "
                f"for batch {B} and sequence length {T}"
            )
        self.symbols = symbols[: B * length].reshape(B, length).T
        self.targets = symbols[1 : B * length + 1].reshape(B, length).T

    def batch(self, step: int) -> Batch:
        """Return what training step `step` (0, 1, …) sees."""
        window = step % self.windows
        steps = slice(window * self.T, (window + 1) * self.T)
        return Batch(self.symbols[steps], (self.targets[steps],), fresh=window == 0)


def validation_batches(symbols: Array, B: int, T: int) -> Iterator[Batch]:
    """Cut a text into batches that are read once, in order, the last one shorter if need be.

    Every stream but the first begins in the middle of things with a zero state, so a short text is cut into fewer
    than B streams, each of at least four windows.

    Parameters
    ----------
    symbols : integer array (number of symbols,)
        At least 2; no more than `VALIDATION_AT_MOST` are used.
    B, T : int
    """
    symbols = symbols[:VALIDATION_AT_MOST]
    B = max(1, min(B, len(symbols) // (4 * T)))
    length = (len(symbols) - 1) // B
    x = symbols[: B * length].reshape(B, length).T
    y = symbols[1 : B * length + 1].reshape(B, length).T
    for start in range(0, length, T):
        yield Batch(x[start : start + T], (y[start : start + T],), fresh=start == 0)
