"""Real-time recurrent learning: the gradient of backpropagation through time, computed *forwards* in time.

R. J. Williams, D. Zipser, "A learning algorithm for continually running fully recurrent neural networks", Neural
Computation 1 (1989). Beside each state walks its derivative by everything that it depends on: the parameters, the
initial state, and the inputs so far; call them θ.

    (R1)  P_0     = ∂s_0/∂θ                               1 where θ is an entry of s_0, else 0
    (R2)  P_{t+1} = (∂s_{t+1}/∂s_t) P_t + ∂s_{t+1}/∂θ     the second term with s_t held fixed
    (R3)  dθ      = Σ_t ⟨dstates_t, P_t⟩

There is no way back and nothing is transposed, so this is a second derivation of what `backward` computes, and it must
give the same numbers. It costs (number of θ) × H² a step: it is for small H.

The recursion for P is the chain rule applied to each forward equation in turn. `Dual` carries a value together with its
derivative by all of θ and knows that rule for sums (D1), products (D2), functions of entries (D3) and linear maps (D4),
so that the cells below read like the forward equations (1), (2), … of their modules. The numbers are those of
docs/learn/derivation, page 8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..fast.cell import Cell, Grads, States
from ..fast.numerics import Array
from ..textbook.functions import sigmoid


@dataclass(frozen=True)
class Dual:
    """A value and its derivative by N variables."""

    value: Array  # any shape
    P: Array  # (N, shape of value)

    def __add__(self, other: Dual) -> Dual:
        return Dual(self.value + other.value, self.P + other.P)  # (D1)

    def __mul__(self, other: Dual) -> Dual:
        return Dual(self.value * other.value, self.P * other.value + self.value * other.P)  # (D2)

    def __rsub__(self, constant: float) -> Dual:
        return Dual(constant - self.value, -self.P)

    def split(self, parts: int) -> list[Dual]:
        """Cut the last axis into equal parts."""
        return list(map(Dual, np.split(self.value, parts, axis=-1), np.split(self.P, parts, axis=-1)))


def linear(W: Dual, x: Dual, b: Dual) -> Dual:
    """W x + b for W (O, I), x (B, I) and b (O,)."""
    P = x.P @ W.value.T + x.value @ W.P.swapaxes(1, 2) + b.P[:, None]  # (D4)
    return Dual(x.value @ W.value.T + b.value, P)


def sigma(a: Dual) -> Dual:
    """σ(a); σ' = σ (1 - σ)."""
    s = sigmoid(a.value)
    return Dual(s, s * (1 - s) * a.P)  # (D3)


def tanh(a: Dual) -> Dual:
    """tanh(a); tanh' = 1 - tanh²."""
    s = np.tanh(a.value)
    return Dual(s, (1 - s**2) * a.P)  # (D3)


def relu(a: Dual) -> Dual:
    """max(a, 0); its derivative is 1 where a > 0."""
    return Dual(np.maximum(a.value, 0), (a.value > 0) * a.P)


def rnn_step(f: Callable[[Dual], Dual], p: Any, x: Dual, h: Dual) -> tuple[Dual]:
    """Equations (1), (2) of `numpy_rnn.textbook.rnn`."""
    return (f(linear(p.W_ih, x, p.b_ih) + linear(p.W_hh, h, p.b_hh)),)


def lstm_step(p: Any, x: Dual, h: Dual, c: Dual) -> tuple[Dual, Dual]:
    """Equations (1) … (4) of `textbook.lstm`, and (5) of `textbook.lstm_projection` where there is a W_hr."""
    a_i, a_f, a_g, a_o = (linear(p.W_ih, x, p.b_ih) + linear(p.W_hh, h, p.b_hh)).split(4)
    c = sigma(a_f) * c + sigma(a_i) * tanh(a_g)
    m = sigma(a_o) * tanh(c)
    if "W_hr" in p._fields:
        N, R = len(m.P), len(p.W_hr.value)
        m = linear(p.W_hr, m, Dual(np.zeros(R), np.zeros((N, R))))
    return m, c


def lstm_peephole_step(p: Any, x: Dual, h: Dual, c: Dual) -> tuple[Dual, Dual]:
    """Equations (1) … (5) of `numpy_rnn.textbook.lstm_peephole`."""
    a_i, a_f, a_g, a_o = (linear(p.W_ih, x, p.b_ih) + linear(p.W_hh, h, p.b_hh)).split(4)
    P_i, P_f, P_o = Dual(p.P.value, p.P.P[:, None]).split(3)  # an axis for the batch
    i, f = sigma(a_i + P_i * c), sigma(a_f + P_f * c)
    c = f * c + i * tanh(a_g)
    return sigma(a_o + P_o * c) * tanh(c), c


def gru_step(p: Any, x: Dual, h: Dual) -> tuple[Dual]:
    """Equations (1) … (4) of `numpy_rnn.textbook.gru`."""
    u_r, u_z, u_n = linear(p.W_ih, x, p.b_ih).split(3)
    v_r, v_z, v_n = linear(p.W_hh, h, p.b_hh).split(3)
    r, z = sigma(u_r + v_r), sigma(u_z + v_z)
    n = tanh(u_n + r * v_n)
    return ((1 - z) * n + z * h,)


def gru_reset_before_step(p: Any, x: Dual, h: Dual) -> tuple[Dual]:
    """Equations (1) … (4) of `numpy_rnn.textbook.gru_reset_before`."""
    u_r, u_z, u_n = linear(p.W_ih, x, p.b_ih).split(3)
    (W_r, W_z, W_n), (b_r, b_z, b_n) = rows(p.W_hh), p.b_hh.split(3)
    r, z = sigma(u_r + linear(W_r, h, b_r)), sigma(u_z + linear(W_z, h, b_z))
    n = tanh(u_n + linear(W_n, r * h, b_n))
    return ((1 - z) * n + z * h,)


def reaching(s: Sequence[Dual], dstates: States, t: int) -> Array:
    """⟨dstates_t, P_t⟩, an array (N,): what the loss sends to state t, by all of θ."""
    return sum((np.tensordot(z.P, dz[t], axes=2) for z, dz in zip(s, dstates)), start=np.zeros(len(s[0].P)))


def rows(W: Dual) -> list[Dual]:
    """The three blocks of rows of a matrix."""
    return list(map(Dual, np.split(W.value, 3), np.split(W.P, 3, axis=1)))


STEPS: dict[str, Callable[..., tuple[Dual, ...]]] = {
    "rnn_tanh": partial(rnn_step, tanh),
    "rnn_relu": partial(rnn_step, relu),
    "lstm": lstm_step,
    "lstm_projection": lstm_step,
    "lstm_peephole": lstm_peephole_step,
    "gru": gru_step,
    "gru_reset_before": gru_reset_before_step,
}


def gradients(cell: Cell, params: Any, x: Array, s0: States, dstates: States) -> tuple[Grads, Array, States]:
    """What `cell.backward` returns, by real-time recurrent learning.

    Parameters
    ----------
    cell : Cell
        One of this project's.
    params : the cell's Params
    x : array (T, B, I)
    s0 : the cell's State
        Fields (B, ·).
    dstates : the cell's State
        Gradient of the loss by every state of the trajectory, fields (T+1, B, ·).

    Returns
    -------
    grads : the cell's Params
    dx : array (T, B, I)
    ds0 : the cell's State

    Raises
    ------
    ValueError
        If the cell is none of this project's: each needs its equations here.
    """
    if cell.name not in STEPS:
        raise ValueError(f"the cell is {cell.name!r}, expected one of {', '.join(STEPS)}")
    step = STEPS[cell.name]
    variables = [*params, x, *s0]
    offsets = np.cumsum([0, *(v.size for v in variables)])
    N = int(offsets[-1])

    def dual(value: Array, offset: int) -> Dual:
        """A variable: its derivative by its own entries, which begin at `offset`, is the identity."""
        P = np.zeros((N, *value.shape))
        P.reshape(N, -1)[offset + np.arange(value.size), np.arange(value.size)] = 1
        return Dual(value, P)

    n = len(params)
    p = cell.Params(*map(dual, params, offsets))
    s = tuple(map(dual, s0, offsets[n + 1 :]))  # (R1)
    total = reaching(s, dstates, 0)  # (R3)
    for t, x_t in enumerate(x):
        s = step(p, dual(x_t, int(offsets[n]) + t * x_t.size), *s)  # (R2)
        total += reaching(s, dstates, t + 1)  # (R3)
    parts = [g.reshape(v.shape) for g, v in zip(np.split(total, offsets[1:-1]), variables)]
    return cell.Params(*parts[:n]), parts[n], cell.State(*parts[n + 1 :])
