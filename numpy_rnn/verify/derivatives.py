"""Directional derivatives of any function of arrays, by methods that know how far they can be trusted.

Two methods:

complex step          f(θ + iεv) = f(θ) + iε J v + O(ε²), so with ε = 1e-30 the imaginary part over ε is J v to the
                      last place: no difference is taken, nothing cancels. Needs an f that takes complex numbers
                      and is analytic (no abs, no conjugate). W. Squire, G. Trapp, SIAM Review 40 (1998).
central differences   (f(θ + hv) - f(θ - hv)) / 2h for falling h, extrapolated to h = 0 (L. F. Richardson, Phil.
                      Trans. A 210, 1911). For code that cannot take complex numbers. The rounding of f, which a
                      small h enlarges, is measured by differences of high order (R. W. Hamming, Introduction to
                      Applied Numerical Analysis, 1971; J. J. Moré, S. M. Wild, SIAM J. Sci. Comput. 33, 2011).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..fast.numerics import Array

Function = Callable[..., Any]  # of arrays; returns an array or a sequence of arrays
STEP = 1e-30  # of the complex step: its square vanishes beside 1 in every dtype


class Derivative(NamedTuple):
    """J v, one array for each output of f, and how far each entry of it may be off."""

    values: tuple[Array, ...]
    doubt: tuple[Array, ...]


def complex_step(f: Function, inputs: Sequence[Array], directions: Sequence[Array | None]) -> Derivative:
    """J v by a complex step, and its rounding; raises as `jvp_complex_step` does.

    All inputs are made complex, moved or not: a buffer made after one of them takes what comes of the others.
    """
    moved = [
        x if not differentiable(x) else x + (0j if v is None else 1j * STEP * v) for x, v in zip(inputs, directions)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        warnings.filterwarnings("ignore", "Casting complex values to real", UserWarning)  # torch's word for the same
        try:
            outputs = as_tuple(f(*moved))
        except np.exceptions.ComplexWarning as warning:
            raise TypeError(str(warning)) from None
    if not any(np.iscomplexobj(y) for y in outputs):
        raise TypeError("the function returns real numbers for complex ones")
    values = tuple(y.imag / STEP for y in outputs)
    return Derivative(values, tuple(np.full(d.shape, 10 * rounding(y) * largest(d)) for d, y in zip(values, outputs)))


def jvp_complex_step(f: Function, inputs: Sequence[Array], directions: Sequence[Array | None]) -> tuple[Array, ...]:
    """Directional derivative J v by a complex step.

    Parameters
    ----------
    f : function of arrays
        Analytic; returns an array or a sequence of arrays.
    inputs : arrays
    directions : arrays, shapes of inputs, or None for zero

    Returns
    -------
    tuple of arrays
        One for each output of f.

    Raises
    ------
    TypeError
        If f does not take complex numbers or drops their imaginary part.

    Examples
    --------
    >>> (d,) = jvp_complex_step(np.sin, [np.array([1.0])], [np.array([1.0])])
    >>> d[0].item(), np.cos(1.0).item()
    (0.5403023058681398, 0.5403023058681398)
    """
    return complex_step(f, inputs, directions).values


def jvp_central_differences(
    f: Function,
    inputs: Sequence[Array],
    directions: Sequence[Array | None],
    first_step: float = 1e-2,
    levels: int = 5,
) -> tuple[Array, ...]:
    """Directional derivative J v by central differences with Richardson extrapolation.

    The error of a central difference is a series in h²: with the steps h, h/2, h/4 … each further level removes one
    more term. For each entry the place in the table is taken where neighbours are closest. Where they are not close,
    a kink (relu has one) lies within reach of h, and the entry is computed again with a smaller one.

    Parameters
    ----------
    f : function of arrays
        Smooth, or smooth but for kinks; returns an array or a sequence of arrays.
    inputs : arrays
    directions : arrays, shapes of inputs, or None for zero
    first_step : float
        h of the coarsest level.
    levels : int

    Returns
    -------
    tuple of arrays
        One for each output of f.

    Examples
    --------
    >>> (d,) = jvp_central_differences(np.sin, [np.array([1.0])], [np.array([1.0])])
    >>> bool(abs(d[0] - np.cos(1.0)) < 1e-11)
    True
    """
    return central_differences(f, inputs, directions, first_step, levels).values


def central_differences(
    f: Function,
    inputs: Sequence[Array],
    directions: Sequence[Array | None],
    first_step: float = 1e-2,
    levels: int = 5,
    noise: Sequence[float] | None = None,
) -> Derivative:
    """J v as `jvp_central_differences` has it; `noise` is the rounding of each output of f, see `noise_of`."""
    found, doubt = extrapolated(f, inputs, directions, first_step, levels, noise)
    scale = max(map(largest, found), default=0.0)
    rounded = [10 * e / first_step for e in noise or [0.0] * len(found)]
    unsure = [d > max(1e-8 * scale, e) for d, e in zip(doubt, rounded)]
    if levels > 1 and first_step > 1e-5 and any(map(np.any, unsure)):
        finer, finer_doubt = extrapolated(f, inputs, directions, first_step / 100, levels, noise)
        better = [b < a for a, b in zip(doubt, finer_doubt)]
        found = [np.where(which, b, a) for which, a, b in zip(better, found, finer)]
        doubt = [np.minimum(a, b) for a, b in zip(doubt, finer_doubt)]
    return Derivative(tuple(found), tuple(doubt))


def extrapolated(
    f: Function,
    inputs: Sequence[Array],
    directions: Sequence[Array | None],
    first_step: float,
    levels: int,
    noise: Sequence[float] | None = None,
) -> tuple[list[Array], list[Array]]:
    """Richardson's table for J v: of each output the best entries, and how far they may be off.

    That is as far as their neighbours in the table are away, and what the rounding of f becomes by division by h.
    """

    def difference(h: float) -> tuple[Array, ...]:
        sides = (as_tuple(f(*(x if v is None else x + s * h * v for x, v in zip(inputs, directions)))) for s in (1, -1))
        return tuple((above - below) / (2 * h) for above, below in zip(*(map(wide, side) for side in sides)))

    rows = [[d] for d in difference(first_step)]
    table: list[list[tuple[Array, Array]]] = [[] for _ in rows]  # of each output: value, and how far it may be off
    for level in range(1, levels):
        for k, d in enumerate(difference(first_step / 2**level)):
            row = [d]
            for m, coarser in enumerate(rows[k], start=1):
                row.append(row[-1] + (row[-1] - coarser) / (4**m - 1))
                apart = np.maximum(np.abs(row[-1] - row[-2]), np.abs(row[-1] - coarser))
                table[k].append((row[-1], apart + (2 * noise[k] / (first_step / 2**level) if noise else 0)))
            rows[k] = row
    if levels == 1:
        return [row[0] for row in rows], [np.full(row[0].shape, np.inf) for row in rows]
    values, doubts = zip(*map(_chosen, table)) if table else ((), ())
    return list(values), list(doubts)


def _chosen(table: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """The place of the table that suits most entries; an entry that a kink makes worse there has its own best place.

    Taken one by one, entries would now and then find two neighbours that agree by chance, and be trusted too much.
    """
    values, doubts = (np.stack(of) for of in zip(*table))
    if values[0].size == 0:
        return values[0], doubts[0]
    if values[0].size == 1:
        place = int(np.argmin(doubts.reshape(len(table))))
        return values[place], np.sort(doubts, axis=0)[min(1, len(table) - 1)]
    medians = np.median(doubts.reshape(len(table), -1), axis=1)
    place = int(np.argmin(medians))
    kink = doubts[place] > 10 * medians[place]
    found = np.take_along_axis(values, np.argmin(doubts, axis=0)[None], axis=0)[0]
    doubt = np.sort(doubts, axis=0)[min(1, len(table) - 1)]  # the least may be least by chance
    return np.where(kink, found, values[place]), np.where(kink, doubt, doubts[place])


def noise_of(
    f: Function, inputs: Sequence[Array], directions: Sequence[Array | None], distance: float = 1e-5
) -> list[float]:
    """How much rounding makes each output of f jitter: the standard deviation, from differences of fourth order.

    Nine calls 1e-5 of the inputs apart: there a smooth function has no fourth difference to speak of. A function
    that computes in float32 shows it here, whatever the dtype of what it returns. The largest tenth, where a kink may
    lie, is left out.
    """
    steps = [None if v is None else distance * own_size(x) * v for x, v in zip(inputs, directions)]
    calls = [as_tuple(f(*(x if v is None else x + k * v for x, v in zip(inputs, steps)))) for k in range(-4, 5)]
    found = []
    for values in zip(*calls):
        measured = jitter_of([wide(y) for y in values], 0.9)
        found.append(max(measured, rounding(values[0]) * largest(values[0]) / 4))
    return found


def own_size(x: Array) -> Array:
    """The size of each number, and where it is 0, of the largest."""
    return np.where(x == 0, largest(x) or 1.0, np.abs(x))


def jitter_of(values: Sequence[Array], quantile: float) -> float:
    """What is not smooth in values at points of equal distance: the standard deviation that normal noise would have.

    A fourth difference of noise has the variance 1² + 4² + 6² + 4² + 1² = 70, and of a smooth function next to nothing.
    """
    if len(values) == 0:
        return 0.0
    with np.errstate(invalid="ignore"):
        fourth = np.abs(np.diff(np.stack(values), n=4, axis=0))
    fourth = fourth[np.isfinite(fourth)]
    if fourth.size == 0:
        return 0.0
    deviations = {0.9: 1.64, 1.0: 1.0}[quantile]  # of normal numbers nine tenths are below 1.64 deviations
    return float(np.quantile(fourth, quantile) / (deviations * np.sqrt(70)))


def length_of(f: Function, inputs: Sequence[Array], k: int, step: float, noise: Sequence[float], v: Array) -> float:
    """The scale on which f varies with input k: differences with `step` times this length are near their limit.

    From 1 (or from the input's size, if that is above 100) down to a 10⁻¹⁴th; the first at which differences agree with
    those of a tenth of the length.
    """
    directions: list[Array | None] = [None] * len(inputs)
    directions[k] = v
    size = largest(inputs[k])
    length = size if size > 100 else 1.0
    best, least = length, np.inf
    coarse, doubt = extrapolated(f, inputs, directions, step * length, 5, noise)
    for _ in range(14):
        fine, fine_doubt = extrapolated(f, inputs, directions, step * length / 10, 5, noise)
        scale = max(map(largest, coarse), default=0.0)
        sure = [
            (np.abs(a - b) <= 3 * (da + db) + 1e-8 * scale) & (da <= 1e-3 * scale)
            for a, b, da, db in zip(coarse, fine, doubt, fine_doubt)
        ]
        if scale == 0:  # f is flat here, perhaps between two numbers that are rounded
            return best
        if np.mean(np.concatenate([a.reshape(-1) for a in sure])) > 0.9:
            return length
        unsure = max(map(largest, doubt)) / scale
        if unsure < least:
            best, least = length, unsure
        length, coarse, doubt = length / 10, fine, fine_doubt
    return best


def hessian_vector_product(
    gradient: Callable[..., Any], inputs: Sequence[Array], directions: Sequence[Array | None]
) -> tuple[Array, ...]:
    """Second derivatives, by a complex step *through* a hand-written gradient: exact to the last place.

    Parameters
    ----------
    gradient : function of arrays
        `gradient(*inputs)` returns the gradients of a scalar by the inputs, in their order; analytic. With a loss on
        top of a network, the loss's gradient must be computed inside, from the outputs of the (complex) forward.
    inputs : arrays
    directions : arrays, shapes of inputs, or None for zero
        v.

    Returns
    -------
    tuple of arrays, shapes of the gradients
        H v.

    Raises
    ------
    TypeError
        If the gradient does not take complex numbers or drops their imaginary part.

    Examples
    --------
    Of f(x) = Σ x³ the gradient is 3x², and H v = 6 x ∘ v:

    >>> (Hv,) = hessian_vector_product(lambda x: 3 * x**2, [np.array([1.0, 2.0])], [np.array([1.0, 10.0])])
    >>> Hv.tolist()
    [6.0, 120.0]
    """
    return jvp_complex_step(gradient, inputs, directions)


def as_tuple(outputs: Any) -> tuple[Array, ...]:
    """What a function returned, one array or several, as a tuple of arrays."""
    return tuple(map(np.asarray, outputs)) if isinstance(outputs, (tuple, list)) else (np.asarray(outputs),)


def differentiable(x: Array) -> bool:
    """Whether it makes sense to differentiate by `x`."""
    return bool(np.issubdtype(x.dtype, np.floating))


def wide(a: Array) -> Array:
    """The array in float64; integers and complex numbers as they are."""
    return a.astype(np.float64) if differentiable(a) else a


def rounding(a: Array) -> float:
    """Distance from 1 to the next number in the array's dtype, at least that of float64."""
    inexact = np.issubdtype(a.dtype, np.inexact)
    return max(float(np.finfo(a.dtype).eps), float(np.finfo(float).eps)) if inexact else float(np.finfo(float).eps)


def largest(a: Array) -> float:
    """The largest absolute value, 0 where there is none."""
    return float(np.max(np.abs(a), initial=0))


def inner(a: Sequence[Array], b: Sequence[Array]) -> float:
    """⟨a, b⟩, summed over all arrays."""
    return float(sum(np.sum(x * y) for x, y in zip(a, b)))
