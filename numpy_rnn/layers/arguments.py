"""What a user hands in is checked once, at the public edge; each mistake gets one sentence: what came, what should.

Every check raises ValueError.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..fast.numerics import Array


def check_size(name: str, value: Any, *, least: int = 1) -> int:
    """Return `value` as an int; ValueError if it is no whole number of at least `least`.

    Examples
    --------
    >>> check_size("hidden_size", -3)
    Traceback (most recent call last):
        ...
    ValueError: hidden_size is -3, expected a whole number of at least 1
    """
    try:
        size = operator.index(value)
    except TypeError:
        size = least - 1
    if size < least or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}, expected a whole number of at least {least}")
    return size


def check_probability(name: str, value: Any) -> float:
    """Return `value` as a float; ValueError if it is no number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating)) or not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}, expected a number from 0 to 1")
    return float(value)


def check_bool(name: str, value: Any) -> bool:
    """Return `value` if it is True or False, else ValueError: a misplaced positional argument must not pass as true."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} is {value!r}, expected True or False")
    return bool(value)


def check_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return `dtype` as NumPy's; ValueError if it is not floating-point or complex, or in the other byte order."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise ValueError(f"dtype is {dtype!r}, expected a floating-point dtype such as np.float32") from None
    if not np.issubdtype(found, np.inexact) or not found.isnative:
        raise ValueError(f"dtype is {found}, expected a floating-point dtype such as np.float32")
    return found


def check_array(name: str, value: Any, dtype: np.dtype[Any], shape: tuple[int, ...], meaning: str) -> Array:
    """Return `value` if it is an array of exactly this dtype and shape, where -1 stands for any size; else ValueError.

    Nothing is broadcast and nothing converted: either would be a wrong gradient that nobody sees. `meaning` is the
    shape in words.

    Examples
    --------
    >>> _ = check_array("h_0", np.zeros(4), np.dtype(float), (1, 3, 4), "(layers, batch, hidden_size)")
    Traceback (most recent call last):
        ...
    ValueError: h_0 has shape (4,), expected (1, 3, 4) = (layers, batch, hidden_size)
    """
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{name} is a {type(value).__name__}, expected a NumPy array of dtype {dtype}")
    if value.shape != shape and not _fits(value.shape, shape):
        wanted = str(shape).replace("-1", "any")
        raise ValueError(f"{name} has shape {value.shape}, expected {wanted} = {meaning}")
    if value.dtype != dtype:
        # "float32" in the other byte order reads the same, its code does not.
        got = value.dtype if value.dtype.isnative else value.dtype.str
        raise ValueError(f"{name} has dtype {got}, expected {dtype}, the parameters' dtype")
    return value


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and False not in [want in (-1, got) for got, want in zip(shape, wanted)]


def check_lengths(lengths: Any, T: int, B: int) -> NDArray[np.intp] | None:
    """Return `lengths` as an integer array (B,); ValueError if one is not from 0 to T. None stays None."""
    if lengths is None:
        return None
    found = np.asarray(lengths)
    if found.shape != (B,):
        raise ValueError(f"lengths has shape {found.shape}, expected ({B},), one for each sequence of the batch")
    if B > 0 and not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"lengths has dtype {found.dtype}, expected integers")
    wrong = np.flatnonzero((found < 0) | (found > T))
    if wrong.size:
        raise ValueError(f"lengths[{wrong[0]}] is {found[wrong[0]]}, expected 0 to {T}, the number of steps")
    return found.astype(np.intp)


def check_keys(got: Collection[str], expected: Collection[str], what: str = "") -> None:
    """Refuse with a ValueError what came if a name is unknown or missing."""
    for problem, names in (("unknown", set(got) - set(expected)), ("missing", set(expected) - set(got))):
        if names:
            raise ValueError(f"{problem} {what}{', '.join(sorted(names))}; expected {', '.join(sorted(expected))}")


def check_shapes(got: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], what: str = "") -> None:
    """Refuse with a ValueError what came if a name is unknown or missing or has another shape."""
    check_keys(got, expected, what)
    for name, shape in expected.items():
        if got[name] != shape:
            raise ValueError(f"{what}{name} has shape {got[name]}, expected {shape}")
