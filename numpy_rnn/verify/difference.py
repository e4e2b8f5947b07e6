"""When two numbers count as the same, by the dtype they were computed in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..fast.numerics import Array
from .case import Case

# Relative to the largest entry of a tensor. Correct results are off by some units in the last place, times some growth
# along the sequence: on the zoo's cases the textbook itself by 1.2e-15, 6e-7 and 5e-3. Every mistake but those of
# precision moves some tensor of some case by 8e-2 or more.
TOLERANCES = {"float64": 1e-12, "float32": 1e-5, "float16": 0.03}
FORWARD = ("output", "h_n", "c_n", "loss")


class Difference(NamedTuple):
    """Two numbers that should be one."""

    tensor: str
    where: tuple[int, ...]
    got: float
    expected: float
    step: int | None  # of the sequence, where the tensor has steps

    def __str__(self) -> str:
        place = f"[{', '.join(map(str, self.where))}]" if self.where else ""
        at = "" if self.step is None else f" (step {self.step})"
        for digits in (9, 12, 17):  # until they differ
            got, expected = (f"{value:.{digits}g}" for value in (self.got, self.expected))
            if got != expected:
                break
        return f"{self.tensor}{place}{at} is {got}, expected {expected}"


def tolerance_of(array: Array, dtype: Any = None) -> float:
    """Largest relative error that counts as agreement; whole numbers count as float64."""
    name = np.dtype(dtype or array.dtype).name
    return TOLERANCES.get(name, TOLERANCES["float64"])


class Worst(NamedTuple):
    """Where two arrays are furthest apart."""

    error: float  # relative to the largest entry of what was expected
    where: tuple[int, ...]
    got: float  # there; complex where the arrays are
    expected: float


def difference(got: Array, expected: Array, scale: float | None = None) -> Worst:
    """Largest difference of two arrays, relative to the largest entry of the second, and where it is.

    Parameters
    ----------
    got, expected : array, any equal shape
    scale : float, optional
        What the difference is divided by; max|expected| by default, 1 where that is 0.

    Returns
    -------
    Worst
        The error is infinite where a NaN stands on one side, or if the shapes differ.

    Examples
    --------
    >>> difference(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0]))
    Worst(error=0.25, where=(2,), got=3.0, expected=4.0)
    """
    if got.shape != expected.shape:
        return Worst(np.inf, (), np.nan, np.nan)
    if got.size == 0:
        return Worst(0.0, (), np.nan, np.nan)
    with np.errstate(all="ignore"):
        apart = np.abs(got - expected)
        largest = float(np.max(np.abs(expected))) if scale is None else scale
    where = tuple(int(i) for i in np.unravel_index(np.argmax(apart), apart.shape))  # argmax stops at a NaN
    worst = float(apart[where]) / (largest if largest > 0 else 1)
    return Worst(np.inf if np.isnan(worst) else worst, where, got[where].item(), expected[where].item())


def error(got: Array, expected: Array, scale: float | None = None) -> float:
    """Only the error of `difference`."""
    return difference(got, expected, scale).error


def worst_error(got: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """The largest `error` of several tensors."""
    return max((error(got[name], expected[name]) for name in expected), default=0.0)


def first_difference(
    case: Case, got: Mapping[str, Array], expected: Mapping[str, Array], tolerances: Mapping[str, float]
) -> Difference | None:
    """The difference that a program running this case meets first; of equals, the largest."""
    for name in (name for name in expected if name in got):
        a, b = got[name].astype(np.float64), expected[name]
        scale = np.max(np.abs(b), initial=0)
        with np.errstate(all="ignore"):
            apart = np.where(np.isnan(a - b), np.inf, np.abs(a - b))
        wrong = apart > tolerances[name] * (scale if scale > 0 else 1)
        if not wrong.any():
            continue
        when = _time_of(case, name, a.shape)
        wrong &= when == when[wrong].min()
        index = tuple(int(i) for i in np.unravel_index(np.argmax(np.where(wrong, apart, -1)), a.shape))
        return Difference(name, index, float(a[index]), float(b[index]), index[0] if name in ("output", "dx") else None)
    return None


def _time_of(case: Case, name: str, shape: tuple[int, ...]) -> Array:
    """For every entry of a tensor, when it is computed; entries of tensors without steps all at once."""
    if name not in ("output", "dx"):
        return np.zeros(shape)
    T = shape[0]
    t, lengths = np.arange(T)[:, None, None], np.array(case.all_lengths)[None, :, None]
    if name == "dx":
        return np.broadcast_to(T - 1 - t, shape)
    half = shape[2] // len(case.params[0])
    when = np.where(np.arange(shape[2]) < half, t, lengths - 1 - t)
    return np.where(t < lengths, when, T)  # the padding last
