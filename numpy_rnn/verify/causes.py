"""What a wrong gradient looks like beside the right one: a factor, the transpose, one step alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from ..fast.numerics import Array
from .derivatives import differentiable, largest


def causes(got: Array, right: Array, tolerance: float, sizes: Sequence[int] = ()) -> Iterator[str]:
    """Say in what simple way a gradient differs from the right one, if it does so in one.

    Parameters
    ----------
    got, right : array, equal shapes
    tolerance : float
        Relative to the largest entry.
    sizes : sequence of int
        Of the problem: a factor that is one of them, or a product of two, is a sum taken for a mean.

    Examples
    --------
    >>> W = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> list(causes(W.T, W, 1e-6)), list(causes(2 * W, W, 1e-6, sizes=[2]))
    (['the transpose of the right values'], ['2 times the right values: a sum where a mean is right?'])
    """
    if not (np.isfinite(got).all() and np.isfinite(right).all()):
        yield "not finite" if np.isfinite(right).all() else "the function is not finite"
        return

    def equal(a: Array, b: Array) -> bool:
        return a.shape == b.shape and largest(a - b) <= tolerance * max(largest(b), np.finfo(float).tiny)

    squares = float(np.sum(right * right))
    factor = float(np.sum(got * right)) / squares if squares > 0 else 0.0
    if not got.any():
        yield "zero everywhere"
    elif abs(factor - 1) < 1e-6 and equal(got, right):
        yield f"right to {largest(got - right) / largest(right):.0e}: a small number added somewhere, or fewer digits?"
    elif factor and equal(got, factor * right):
        yield times(factor, sizes)
    elif right.ndim == 2 and equal(got.T, right):
        yield "the transpose of the right values"
    elif right.ndim > 1 and equal(got.reshape(-1), right.T.reshape(-1)):
        yield "the right numbers in another order: reshaped where they had to be transposed"
    elif equal(got, np.clip(right, -largest(got), largest(got))):
        yield f"the right values, clipped to ±{largest(got):.6g}"
    elif right.size > 1 and equal(got, np.full_like(right, np.sum(right))):
        yield "the same number everywhere, the sum of the right ones: a sum without its axis?"
    elif right.ndim > 0 and len(right) > 1:
        yield from _along_the_first_axis(got, right, equal)


def times(factor: float, sizes: Sequence[int]) -> str:
    """A factor, and where it may come from."""
    if factor == 0:
        return "zero everywhere"
    if np.isclose(factor, -1, rtol=1e-6):
        return "the right values with the other sign"
    counts = {n for n in sizes if n > 1} | {m * n for m in set(sizes) for n in set(sizes) if m * n > 1}
    for value, said in ((factor, "a sum where a mean is right?"), (1 / factor, "a mean where the sum is right?")):
        if any(np.isclose(value, n, rtol=1e-6) for n in counts):
            return f"{factor:.6g} times the right values: {said}"
    return f"{factor:.6g} times the right values"


def _along_the_first_axis(got: Array, right: Array, equal: Callable[[Array, Array], bool]) -> Iterator[str]:
    """Steps or rows that are right, and those that are not."""
    n = len(right)
    if equal(got, right[::-1]):
        yield "the right values in reverse order"
        return
    if equal(got[1:], right[:-1]) or equal(got[:-1], right[1:]):
        yield f"the right values, one step too {'late' if equal(got[1:], right[:-1]) else 'early'}"
        return
    scale = largest(right)
    good = [bool(equal(g, r) or largest(g - r) <= 1e-9 * scale) for g, r in zip(got, right)]
    if good == [False] * (n - 1) + [True]:
        rest = "wrong before it: is what step t + 1 sends back to step t right?" if got[:-1].any() else "zero before it"
        yield f"right at the last of {n} alone, {rest}"
        return
    for blocks in (4, 3, 2):  # gates
        size = n // blocks
        if (n % blocks == 0 and size > 1) or n == blocks:
            bad = [k for k in range(blocks) if not all(good[k * size : (k + 1) * size])]
            if len(bad) == 1:
                yield f"wrong in rows {bad[0] * size} … {(bad[0] + 1) * size - 1} alone, block {bad[0] + 1} of {blocks}"
                return


def hints(inputs: Mapping[str, Array]) -> list[str]:
    """Inputs that hide mistakes, because what is multiplied with them vanishes."""
    zero = [name for name, x in inputs.items() if differentiable(x) and x.size and not x.any()]
    if not zero:
        return []
    are = "is" if len(zero) == 1 else "are"
    return [f"{', '.join(zero)} {are} zero, which hides mistakes in whatever is multiplied with it: try random numbers"]
