"""time = a + b·T: what a call costs however short the sequence is, and what a step costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .results import Results


class Fit(NamedTuple):
    """Seconds per call and per step."""

    a: float
    b: float
    deviation: float  # largest of |a + b·T - time| / time

    def __call__(self, T: float) -> float:
        """Seconds that the fit gives for T steps."""
        return self.a + self.b * T


class Line(NamedTuple):
    """A fit and what was fitted."""

    cell: str
    dtype: str
    threads: int
    contestant: str
    mode: str
    B: int
    I: int
    H: int
    steps: tuple[int, ...]
    fit: Fit


def line(steps: Sequence[float], seconds: Sequence[float]) -> Fit:
    """Fit time = a + b·T by least squares of the relative error, so that short sequences count as much as long ones.

    Parameters
    ----------
    steps : at least two different T
    seconds : time of each

    Returns
    -------
    Fit

    Examples
    --------
    >>> a, b, _ = line([100, 1000, 10_000], [3e-6 + 2e-6 * T for T in (100, 1000, 10_000)])
    >>> print(f"{a * 1e6:.3f} µs + {b * 1e6:.3f} µs a step")
    3.000 µs + 2.000 µs a step
    """
    T, t = np.asarray(steps, float), np.asarray(seconds, float)
    (a, b), *_ = np.linalg.lstsq(np.stack([1 / t, T / t], axis=1), np.ones(len(t)), rcond=None)
    return Fit(float(a), float(b), float(np.max(np.abs((a + b * T) / t - 1))))


def lines(results: Results) -> list[Line]:
    """Fits of everything that was measured at three or more T, all else equal."""
    families: dict[tuple[Any, ...], dict[int, float]] = {}
    for m in results.measurements:
        T, *others = m.sizes[:4]
        if m.status == "ok" and m.sizes[4:] == (1, 1, False):
            key = (m.cell, m.dtype, m.threads, m.contestant, m.mode, *others)
            families.setdefault(key, {})[T] = m.seconds
    found = []
    for key, at in families.items():
        if len(at) >= 3:
            steps = sorted(at)
            found.append(Line._make((*key, tuple(steps), line(steps, [at[T] for T in steps]))))
    return found
