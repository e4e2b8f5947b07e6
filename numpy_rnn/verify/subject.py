"""Somebody's function and its gradient, called so that nothing is shared with them and nothing is believed unseen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..fast.numerics import Array
from .derivatives import Function, differentiable, largest, rounding

VJP = Callable[[Any, Any], Any]


class Arrays(tuple[Array, ...]):
    """Arrays by position and, where they have names, by name."""

    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, arrays: Sequence[Array], names: Sequence[str]) -> Arrays:
        """Copies of arrays: whoever gets them may do with them what they like."""
        found = cls(np.array(a) for a in arrays)
        found.names = tuple(names)
        return found

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self.names.index(key) if isinstance(key, str) else key)


class Subject:
    """Somebody's function and gradient: called with copies, asked twice, and believed only in what they return."""

    def __init__(self, f: Function, vjp: VJP | None, names: Sequence[str], given: Sequence[Array]) -> None:
        self.f, self.vjp, self.names = f, vjp, list(names)
        self.outputs: list[str] | None = None  # their names; none before the first call
        self.remarks: dict[str, None] = {}  # each once, in order
        self.undecided: list[str] = []
        self.finite: list[Array] = []  # masks of the outputs to look at, if not all
        self.warnings: dict[str, Any] = {}  # NumPy's, as the caller has them
        self.unfit = False  # for a verdict: what it returns differs from call to call, or is not finite
        first, again = self(*given), self(*given)
        if not _same(first, again):
            self.unfit = True
            self.undecided.append(
                "f returns other values when called again with the same inputs (a state kept between calls? dropout?): "
                "make it start anew at each call, or fix its random numbers"
            )
        # Where f is not finite, as at padding, it has no derivative.
        kept = [np.isfinite(y) for y in first]
        if not all(map(np.all, kept)):
            self.finite = kept
            self.remarks.setdefault("outputs of f that are not finite are left out")
            if not any(map(np.any, kept)):
                self.unfit = True
                self.undecided.append("f is not finite at these inputs")
        self.values = tuple(np.where(k, y, 0) for k, y in zip(kept, first)) if self.finite else first

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        """Outputs of f, or only the loss where f returns the gradients, too."""
        mine = Arrays.of(arrays, self.names)
        with np.errstate(**self.warnings):
            found = self.f(*mine)
        if self.outputs is None:
            self.outputs = list(map(str, found)) if isinstance(found, Mapping) else []
            self._note_changes("f", arrays, mine)
        if isinstance(found, (Mapping, Iterator)):
            found = tuple(found.values()) if isinstance(found, Mapping) else tuple(found)
        if self.vjp is None:
            if not isinstance(found, (tuple, list)):
                raise ValueError("f returns one array, expected a loss and its gradients, since there is no vjp")
            found = found[:1]
        several = isinstance(found, (tuple, list))
        outputs = tuple(_numbers(f"output {k} of f", y) for k, y in enumerate(found if several else (found,)))
        return tuple(np.where(kept, y, 0) for kept, y in zip(self.finite, outputs)) if self.finite else outputs

    def gradients(self, given: Sequence[Array], upstream: Sequence[Array]) -> list[Array | None]:
        """What the gradient under test returns, once; f comes first, since an object may keep what backward needs."""
        if self.vjp is None:
            with np.errstate(**self.warnings):
                found = self.f(*Arrays.of(given, self.names))
            found = list(found.values())[1:] if isinstance(found, Mapping) else list(found)[1:]
            if len(found) == 1 and isinstance(found[0], (Mapping, tuple, list)):
                (found,) = found
            return checked(self.names, given, found, who="f")
        self(*given)
        mine, theirs = Arrays.of(given, self.names), Arrays.of(upstream, self.outputs or [])
        with np.errstate(**self.warnings):
            found = checked(self.names, given, self.vjp(mine, theirs))
        for k, (u, after) in enumerate(zip(upstream, theirs)):
            if not _same([u], [after]):
                self.remarks.setdefault(f"vjp changes upstream {k} in place: copy it first, the caller may need it")
        self._note_changes("vjp", given, mine)
        return found

    def _note_changes(self, who: str, given: Sequence[Array], mine: Sequence[Array]) -> None:
        for name, a, b in zip(self.names, given, mine):
            if not _same([a], [b]):
                self.remarks.setdefault(f"{who} changes its input {name} in place")

    def judged(self, given: Sequence[Array], upstream: Sequence[Array]) -> list[Array | None]:
        """The gradients to judge: those of one call, or what a call adds where they add up from call to call."""
        first, second = self.gradients(given, upstream), self.gradients(given, upstream)
        for name, x, g in zip(self.names, given, first):
            if g is not None and g.any() and not differentiable(x):
                self.undecided.append(
                    f"{name} holds no floating-point numbers ({x.dtype}), so its gradient is not checked: hand over "
                    f"{name}.astype(float), or return None for it"
                )
        if _same(_there(first), _there(second)):
            return first
        third = self.gradients(given, upstream)
        steps = [[_minus(b, a) for a, b in zip(*pair)] for pair in ((first, second), (second, third))]
        said = "vjp returns other gradients when called again"
        if _same(_there(steps[0]), _there(steps[1]), 1e-9):
            self.remarks.setdefault(f"{said}: each adds to those of the calls before; what one call adds is judged")
            return [g if _same(_there([g]), _there([h])) else step for g, h, step in zip(first, second, steps[0])]
        self.unfit = True
        self.undecided.append(f"{said} with the same arguments (a state kept between calls? dropout?)")
        return first


def _there(arrays: Sequence[Array | None]) -> list[Array]:
    return [a for a in arrays if a is not None]


def _minus(b: Array | None, a: Array | None) -> Array | None:
    return None if a is None or b is None else np.asarray(b - a)


def _same(first: Sequence[Array], again: Sequence[Array], tolerance: float = 0.0) -> bool:
    """Whether arrays are equal up to the rounding of a sum in another order; NaN equals NaN."""
    if len(first) != len(again):
        return False
    for a, b in zip(first, again):
        if a.shape != b.shape:
            return False
        if not differentiable(a):
            if not np.array_equal(a, b):
                return False
            continue
        scale = max(largest(a[np.isfinite(a)]), largest(b[np.isfinite(b)]))
        allowed = max(tolerance, 100 * rounding(a)) * scale
        if not np.allclose(a, b, rtol=0, atol=allowed, equal_nan=True):
            return False
    return True


def _numbers(name: str, value: Any) -> Array:
    """A copy of an array of numbers; ValueError if it is none."""
    try:
        found = np.array(value)
    except (TypeError, ValueError, RuntimeError) as error:  # arrays of several shapes, or another library's
        raise ValueError(f"{name} is no array of numbers: {str(error).splitlines()[0]}") from None
    if found.dtype.kind not in "biufc":
        raise ValueError(f"{name} is {type(value).__name__}, expected an array of numbers")
    return found.astype(int) if found.dtype == bool else found


def named(inputs: Mapping[str, Array] | Sequence[Array]) -> tuple[list[str], tuple[Array, ...]]:
    """Names and copies of inputs that may come without names."""
    if not isinstance(inputs, Mapping):
        inputs = {f"input {k}": a for k, a in enumerate(inputs)}
    for name, a in inputs.items():
        _numbers(str(name), a)
    return list(map(str, inputs)), tuple(map(np.array, inputs.values()))


def checked(names: Sequence[str], inputs: Sequence[Array], gradients: Any, who: str = "vjp") -> list[Array | None]:
    """Copies of the gradients, if there is one of the right shape (or None) for each input; a dict has them by name."""
    if isinstance(gradients, Mapping):
        if unknown := [name for name in gradients if str(name) not in names]:
            raise ValueError(f"{who} returned a gradient of {unknown[0]!r}, expected some of {', '.join(names)}")
        gradients = [gradients.get(name) for name in names]
    elif len(inputs) == 1 and (isinstance(gradients, np.ndarray) or np.isscalar(gradients)):
        gradients = [gradients]
    if not isinstance(gradients, Sequence):
        came = type(gradients).__name__
        raise ValueError(f"{who} returned {came}, expected {len(inputs)} gradients, in a sequence or by name in a dict")
    if len(gradients) != len(inputs):
        raise ValueError(f"{who} returned {len(gradients)} gradients, expected {len(inputs)}, one for each input")
    found = [None if g is None else np.array(g) for g in gradients]
    for name, x, g in zip(names, inputs, found):
        if g is not None and g.shape != x.shape:
            raise ValueError(f"the gradient of {name} has shape {g.shape}, expected {x.shape}, that of {name}")
    return found
