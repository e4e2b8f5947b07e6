"""Holds what a port computed against a case: the first number that differs, and the name of the mistake.

Numbers are compared in the order in which a program computes them: layer after layer, step after step, and backwards
the other way round. So the first difference is where the port went wrong, and not where it became large.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..numerics import Array
from ..zoo import Mistake, mistakes
from ..zoo.case import CELLS
from .document import GIVEN, array, case_of, tensors_of

# Relative to the largest entry of a tensor: how far a correct port may be off in the arithmetic that it uses.
TIERS = {"f64": 1e-12, "f32": 1e-5, "fast-math": 1e-4, "f16": 0.03, "bf16": 0.2}
NOISE = 16  # times the measured noise of float64 or float32 is allowed in any case
JUMP = 100  # times as large as at the step before: a difference that has not grown by itself


class First(NamedTuple):
    """The first number that differs."""

    tensor: str
    where: tuple[int, ...]
    axes: tuple[str, ...]
    got: float
    expected: float
    equation: str
    agree: tuple[str, ...]  # what the equation reads and the port got right, as far as it was given
    kind: str  # "jump", "drift", or "" where there are no steps before it

    def __str__(self) -> str:
        place = ", ".join(f"{axis} {i}" for axis, i in zip(self.axes, self.where))
        text = f"{self.tensor} at {place} is {self.got:.9g}, expected {self.expected:.9g}"
        if self.equation:
            text += f", by {self.equation}"
        if self.agree:
            text += f"; {', '.join(self.agree)} agree"
        return text + (f"; a {self.kind}" if self.kind else "")


class Report(NamedTuple):
    """What there is to say of a port's numbers for one case."""

    case: str
    checked: tuple[str, ...]
    wrong: tuple[str, ...]
    missing: tuple[str, ...]  # results of the case that were not given
    unknown: Mapping[str, str | None]  # names that the case has not, and the nearest that it has
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]  # got and expected
    first: First | None
    mistakes: tuple[Mistake, ...]  # each of them alone makes just these numbers

    @property
    def agrees(self) -> bool:
        """Whether everything that was given is right, and something was that had to be computed."""
        return bool(self.checked) and not (self.wrong or self.unknown or self.shapes)


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

    Returns
    -------
    Report

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
    first = _first(found, arrays, expected, wrong) if wrong else None
    return Report(
        found["name"],
        tuple(
            name for name in arrays if tensors[name]["role"] not in GIVEN
        ),  # to hand back what was given is no answer
        tuple(wrong),
        tuple(name for name in results if name not in given),
        unknown,
        shapes,
        first,
        _explained(found, arrays, bounds) if wrong else (),
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


def _nearest(name: str, known: Mapping[str, Any]) -> str | None:
    """The known name that somebody may have meant."""
    close = difflib.get_close_matches(name, known, n=1)
    return close[0] if close else None


def _when(found: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Array]]:
    """Keys that sort a tensor's entries by time, with where they hold: phase, layer, step, place in the step."""
    tensor, order = found["tensors"][name], list(found["tensors"])
    lengths, T = found["lengths"], found["sizes"]["T"]
    place = order.index(name)
    if tensor["role"] not in ("forward", "backward", "running"):
        # Results come when all steps are done; output and dx, which have steps, step by step.
        phase = 1 if tensor["role"] == "result" and name in ("output", "h_n", "c_n") else 4
        yield (0 if tensor["role"] in GIVEN else phase, 0, 0, place), np.ones(shape, bool)
        return
    if "sequence" not in tensor["axes"] and tensor["role"] == "forward":  # a step of an optimizer
        for t in range(T):
            at = np.zeros(shape, bool)
            at[t] = True
            yield (0, 0, t, place), at
        return
    forward, reverse = tensor["role"] == "forward", name.endswith("_reverse")
    layer = int(name.split("_l")[-1].removesuffix("_reverse")) if "_l" in name else 0
    for t in range(T):
        if tensor["role"] == "running":
            at = np.zeros(shape, bool)
            at[t] = True
            yield (2, -layer, T - 1 - t, place), at
            continue
        for b, n in enumerate(lengths):
            if t < n:
                at = np.zeros(shape, bool)
                at[t, b] = True
                own = n - 1 - t if reverse else t  # the step of the direction
                yield (0 if forward else 2, layer if forward else -layer, own if forward else n - 1 - own, place), at


def _first(
    found: Mapping[str, Any], arrays: Mapping[str, Array], expected: Mapping[str, Array], wrong: Mapping[str, Array]
) -> First:
    """The earliest of all differences."""
    _, name, at = min(
        (key, name, place)
        for name, differs in wrong.items()
        for key, where in _when(found, name, differs.shape)
        for place in [tuple(int(i) for i in index) for index in np.argwhere(where & differs)[:1]]
    )
    tensor = found["tensors"][name]
    equation = tensor.get("equation", "")
    read = [n for n in arrays if n not in wrong and n != name and _names(equation, n)]
    return First(
        name,
        at,
        tuple(tensor["axes"]),
        float(arrays[name][at]),
        float(expected[name][at]),
        equation,
        tuple(read),
        _kind(found, name, at, arrays[name], expected[name]),
    )


def _names(equation: str, name: str) -> bool:
    """Whether an equation reads a tensor."""
    stem = name.split("_l")[0]
    text = equation.split("=", 1)[-1]
    words = "".join(c if c.isalnum() or c == "_" else " " for c in text).split()
    return stem in words


def _kind(found: Mapping[str, Any], name: str, at: tuple[int, ...], got: Array, expected: Array) -> str:
    """Whether the difference comes at once, or has grown from step to step."""
    if found["tensors"][name]["axes"][:1] != ["step"] or got.shape[0] < 2:
        return ""
    error = np.abs(got - expected).reshape(len(got), -1).max(axis=1)
    backwards = found["tensors"][name]["role"] != "forward"
    before = at[0] + 1 if backwards != name.endswith("_reverse") else at[0] - 1
    if not 0 <= before < len(got):
        return "jump"
    return "jump" if not error[at[0]] <= JUMP * error[before] else "drift"


def _explained(
    found: Mapping[str, Any], arrays: Mapping[str, Array], bounds: Mapping[str, float]
) -> tuple[Mistake, ...]:
    """Mistakes that make just the numbers that were given, on the way and in the end; or, if none does, in the end."""
    if found["cell"] not in CELLS:
        return ()
    case = case_of(found)
    results = {name for name in arrays if found["tensors"][name]["role"] == "result"}
    everywhere, in_the_end = [], []
    for mistake in mistakes(case.cell):
        with np.errstate(all="ignore"):
            try:
                made = tensors_of(case, mistake)
            except (ValueError, IndexError):
                continue  # it does not run on this case
        same = {
            name
            for name, a in arrays.items()
            if name in made
            and made[name].value.shape == a.shape
            and not apart(a, made[name].value.astype(np.float64), bounds[name]).any()
        }
        if len(same) == len(arrays):
            everywhere.append(mistake)
        if results and results <= same:
            in_the_end.append(mistake)
    return tuple(everywhere or in_the_end)
