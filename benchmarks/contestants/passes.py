"""The passes alone: what stands between the products in the cells' code, number by number, by NumPy's own functions.

Every sum, product and tanh of `numpy_rnn`'s forward and backward once, for all steps in one call and into arrays that
are there already: neither the calls count, nor the memory that a step allocates, nor any copy from rows to columns.
With the floor (the products) and the calls it bounds `numpy_rnn`'s time from below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..points import GATES
from ..problem import Array, Problem
from . import Ready


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Lay out a trajectory: one row a gate, as long as there are units, steps and sequences."""
    T, B, _, H, L, D, _ = problem.point
    N = sum(problem.point.lengths or [T] * B) * H
    rng = np.random.default_rng(0)

    def numbers(*shape: int) -> Array:
        return (0.1 * rng.standard_normal(shape)).astype(problem.dtype)

    G = GATES[problem.cell]
    forward, backward = PASSES[problem.cell.split("_")[0]]
    a, Wh, da, b, s = (numbers(G, N), numbers(G, N), numbers(G, N), numbers(G, 1), numbers(6, N))

    def up() -> None:
        for _ in range(L * D):
            forward(a, Wh, b, s)

    def both() -> None:
        up()
        for _ in range(L * D):
            backward(a, da, s)

    return Ready({"forward": up, "training-forward": up, "forward-backward": both}, lambda _: {})


def _sigmoid_of_tanh(a: Array) -> None:
    np.tanh(a, out=a)
    np.multiply(a, 0.5, out=a)
    np.add(a, 0.5, out=a)


def rnn_forward(a: Array, Wh: Array, b: Array, s: Array) -> None:
    """Bias, product, activation: a += b, a += W_hh h, h = tanh(a)."""
    np.add(a, b, out=a)
    np.add(a, Wh, out=a)
    np.tanh(a[0], out=s[0])


def rnn_backward(a: Array, da: Array, s: Array) -> None:
    """The factors, then the loop: da = 1 - h²; da *= dh, dh += what the loss sends."""
    h, dh, dh_loss, free, *_ = s
    np.multiply(h, h, out=free)
    np.subtract(1, free, out=da[0])
    np.multiply(da[0], dh, out=da[0])
    np.add(dh, dh_loss, out=free)


def lstm_forward(a: Array, Wh: Array, b: Array, s: Array) -> None:
    """Gates, then c = f c + i g, tanh c and h; a becomes i, f, o, g."""
    c, tanh_c, h, free, other, _ = s
    np.add(a, b, out=a)
    np.add(a, Wh, out=a)
    _sigmoid_of_tanh(a[:3])
    np.tanh(a[3], out=a[3])
    i, f, o, g = a
    np.multiply(f, c, out=free)
    np.multiply(i, g, out=other)
    np.add(free, other, out=free)
    np.tanh(free, out=tanh_c)
    np.multiply(o, tanh_c, out=h)


def lstm_backward(a: Array, da: Array, s: Array) -> None:
    """The factors of da and dc, then the loop's own sums and products."""
    c, tanh_c, dh, dc, free, other = s
    i, f, o, g = a
    for gate, factor, out in ((i, g, da[0]), (f, c, da[1]), (o, tanh_c, da[2])):
        np.subtract(1, gate, out=free)
        np.multiply(gate, free, out=free)
        np.multiply(factor, free, out=out)
    for squared, factor, out in ((g, i, da[3]), (tanh_c, o, other)):
        np.multiply(squared, squared, out=free)
        np.subtract(1, free, out=free)
        np.multiply(factor, free, out=out)
    np.multiply(da[2], dh, out=da[2])
    np.multiply(dh, other, out=free)
    np.add(dc, free, out=free)
    for out in (da[0], da[1], da[3]):
        np.multiply(out, free, out=out)
    np.multiply(free, f, out=free)
    np.add(free, c, out=free)  # what the loss sends to c
    np.add(dh, c, out=free)  # and to h


def gru_forward(a: Array, Wh: Array, b: Array, s: Array) -> None:
    """Gates, then n and h = z (h - n) + n; a becomes r, z, n."""
    h, v_n, free, *_ = s
    np.add(a, b, out=a)
    np.add(Wh[2], b[2], out=v_n)
    np.add(a[:2], Wh[:2], out=a[:2])
    _sigmoid_of_tanh(a[:2])
    r, z, n = a
    np.multiply(r, v_n, out=free)
    np.add(n, free, out=n)
    np.tanh(n, out=n)
    np.subtract(h, n, out=free)
    np.multiply(free, z, out=free)
    np.add(free, n, out=free)


def gru_backward(a: Array, da: Array, s: Array) -> None:
    """The factors of dv and du_n, then the loop's own sums and products."""
    h, v_n, dh, du_n, free, other = s
    r, z, n = a
    np.subtract(1, z, out=other)
    np.multiply(n, n, out=free)
    np.subtract(1, free, out=free)
    np.multiply(other, free, out=du_n)
    np.multiply(du_n, r, out=da[2])
    np.multiply(z, other, out=other)
    np.subtract(h, n, out=free)
    np.multiply(free, other, out=da[1])
    np.subtract(1, r, out=other)
    np.multiply(r, other, out=other)
    np.multiply(du_n, v_n, out=free)
    np.multiply(free, other, out=da[0])
    np.multiply(da, dh, out=da)
    np.multiply(du_n, dh, out=du_n)
    np.multiply(dh, z, out=free)
    np.add(free, other, out=free)  # W_hhᵀ dv
    np.add(free, h, out=free)  # what the loss sends


PASSES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "rnn": (rnn_forward, rnn_backward),
    "lstm": (lstm_forward, lstm_backward),
    "gru": (gru_forward, gru_backward),
}
