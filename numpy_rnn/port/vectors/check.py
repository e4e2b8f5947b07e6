"""Holds what a port computed against a case: the first number that differs, and what it comes from."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ...fast.numerics import Array
from ...verify.zoo import Mistake
from .document import GIVEN, array
from .explain import Explanation, explain
from .first import First, first_of

# Relative to the largest entry of a tensor: how far a correct port may be off in the arithmetic that it uses.
TIERS = {"f64": 1e-12, "f32": 1e-5, "fast-math": 1e-4, "f16": 0.03, "bf16": 0.2}
NOISE = 16  # times the measured noise of float64 or float32 is allowed in any case
LOOSER = ("f32", "fast-math")  # tolerances that are worth a hint; the others let real mistakes pass


class Report(NamedTuple):
    """What there is to say of a port's numbers for one case."""

    case: str
    checked: tuple[str, ...]
    wrong: tuple[str, ...]
    missing: tuple[str, ...]  # results of the case that were not given
    unknown: Mapping[str, str | None]  # names that the case has not, and the nearest that it has
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]  # got and expected
    first: First | None
    explanation: Explanation
    looser: str  # the tightest of `LOOSER` by which everything that was given agrees, if it does not by the tier
    reference: bool  # whether it is all of the case itself, to the bit, what was given to the port included

    @property
    def agrees(self) -> bool:
        """Whether everything that was given is right, and something was that had to be computed."""
        return bool(self.checked) and not (self.wrong or self.unknown or self.shapes)

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        """Mistakes of the zoo that `explanation` names."""
        return tuple(cause.mistake for cause in (*self.explanation.causes, *self.explanation.behind))


def check(found: Mapping[str, Any], given: Mapping[str, Any], tier: str | float = "f64") -> Report:
    """Compare a port's tensors with a case.

    Parameters
    ----------
    found : mapping
        The case's document.
    given : mapping of str to array
        Any of its tensors, by name.
    tier : str or float
        A key of `TIERS`, or a relative error.

    Raises
    ------
    ValueError
        If the tier is unknown.
    """
    if isinstance(tier, str) and tier not in TIERS:
        raise ValueError(f"tolerance is {tier!r}, expected one of {', '.join(TIERS)}, or a number")
    tensors = found["tensors"]
    unknown = {name: _nearest(name, tensors) for name in given if name not in tensors}
    arrays = {name: np.asarray(value, np.float64) for name, value in given.items() if name in tensors}
    shapes = {
        name: (a.shape, tuple(tensors[name]["shape"]))
        for name, a in arrays.items()
        if a.shape != tuple(tensors[name]["shape"])
    }
    arrays = {name: arrays[name] for name in tensors if name in arrays and name not in shapes}
    expected = {name: array(tensors[name]) for name in arrays}
    bounds = {name: _bound(tensors[name], tier) for name in arrays}
    wrong = {name: w for name, a in arrays.items() if (w := apart(a, expected[name], bounds[name])).any()}
    results = [name for name, tensor in tensors.items() if tensor["role"] == "result"]
    first = first_of(found, arrays, expected, wrong) if wrong else None
    return Report(
        found["name"],
        # To hand back what was given is no answer.
        tuple(name for name in arrays if tensors[name]["role"] not in GIVEN),
        tuple(wrong),
        tuple(name for name in results if name not in given),
        unknown,
        shapes,
        first,
        explain(found, arrays, expected, wrong, bounds, first, apart) if first else Explanation(),
        _looser(tensors, arrays, expected, bounds) if wrong else "",
        set(arrays) == set(tensors) and all(np.array_equal(a, expected[n], True) for n, a in arrays.items()),
    )


def apart(got: Array, expected: Array, bound: float) -> Array:
    """Where two arrays differ by more than `bound` times the largest finite entry of the second.

    What is no number agrees with its like alone.

    Examples
    --------
    >>> apart(np.array([1.0, np.nan, np.inf]), np.array([1.1, np.nan, -np.inf]), 0.2).tolist()
    [False, False, True]
    """
    finite = np.isfinite(expected)
    scale = float(np.max(np.abs(expected[finite]), initial=0)) or 1.0
    with np.errstate(all="ignore"):
        near = np.abs(got - expected) <= bound * scale
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    different: Array = ~np.where(finite, near, same)
    return different


def _bound(tensor: Mapping[str, Any], tier: str | float) -> float:
    bound: float = TIERS[tier] if isinstance(tier, str) else tier
    noise = tensor.get("noise", {})
    measured: float = noise.get("float64" if bound < 1e-8 else "float32", 0.0)
    return max(bound, NOISE * measured)


def _looser(
    tensors: Mapping[str, Any], arrays: Mapping[str, Array], expected: Mapping[str, Array], bounds: Mapping[str, float]
) -> str:
    """The first looser tolerance by which all agrees."""
    for tier in LOOSER:
        loose = {name: _bound(tensors[name], tier) for name in arrays}
        if all(loose[n] >= bounds[n] and not apart(a, expected[n], loose[n]).any() for n, a in arrays.items()):
            return tier
    return ""


def _nearest(name: str, known: Mapping[str, Any]) -> str | None:
    """The known name that somebody may have meant."""
    close = difflib.get_close_matches(name, known, n=1)
    return close[0] if close else None
