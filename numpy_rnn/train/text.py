"""Text to learn from: where it comes from, and how it is split."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ..fast.numerics import Array
from .language import Vocabulary, codes_of


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
    """Read a UTF-8 file (of bytes, any file) or, for None, take `default_text()`; `kind` is what counts as a symbol.

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
