"""LSTM whose gates also see the memory c (Gers & Schmidhuber, IJCNN 2000; Gers, Schraudolph & Schmidhuber, JMLR 3,
2002); ONNX's LSTM operator with its input P. Gates i and f see the old c, gate o the new one, each unit its own.

Forward, for t = 0 … T-1; P has three blocks of H weights, P_i, P_f, P_o:

    (1)   a_t     = W_ih x_t + b_ih + W_hh h_t + b_hh         rows of a_t: a_i, a_f, a_g, a_o
    (2)   i, f    = σ(a_i + P_i ∘ c_t), σ(a_f + P_f ∘ c_t)     g = tanh(a_g)
    (3)   c_{t+1} = f ∘ c_t + i ∘ g
    (4)   o       = σ(a_o + P_o ∘ c_{t+1})
    (5)   h_{t+1} = o ∘ tanh(c_{t+1})

Backward, for t = T-1 … 0; dh_{t+1} and dc_{t+1} arrive with what the loss sends them directly, plus what step
t+1 has sent back. dc has six sources now: the loss, step t+1, h_{t+1}, and the three peepholes.

    (5')  do      = dh_{t+1} ∘ tanh(c_{t+1})
          dc_{t+1} += dh_{t+1} ∘ o ∘ (1 - tanh²(c_{t+1}))
    (4')  da_o    = do ∘ o ∘ (1 - o)
          dc_{t+1} += da_o ∘ P_o               dP_o = Σ_t da_o ∘ c_{t+1}
    (3')  di      = dc_{t+1} ∘ g               df = dc_{t+1} ∘ c_t
          dg      = dc_{t+1} ∘ i               dc_t += dc_{t+1} ∘ f
    (2')  da_i    = di ∘ i ∘ (1 - i)           da_f = df ∘ f ∘ (1 - f)           da_g = dg ∘ (1 - g²)
          dc_t   += da_i ∘ P_i + da_f ∘ P_f    dP_i = Σ_t da_i ∘ c_t             dP_f = Σ_t da_f ∘ c_t
    (1')  dh_t   += W_hhᵀ da_t
          dx_t    = W_ihᵀ da_t
          dW_ih   = Σ_t da_t x_tᵀ        db_ih = Σ_t da_t
          dW_hh   = Σ_t da_t h_tᵀ        db_hh = Σ_t da_t
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .cell import Cell, trajectory
from .lstm import State
from .numerics import Array, linear, linear_db, linear_dW, linear_dx, sigmoid


class Params(NamedTuple):
    """Parameters of one cell, or their gradients."""

    W_ih: Array  # (4H, I)
    W_hh: Array  # (4H, H)
    b_ih: Array  # (4H,)
    b_hh: Array  # (4H,)
    P: Array  # (3H,): i, f, o


class Tape(NamedTuple):
    """What backward needs."""

    params: Params
    x: Array  # (T, B, I)
    h: Array  # (T+1, B, H)
    c: Array  # (T+1, B, H)
    tanh_c: Array  # (T, B, H), of c[1:]
    gates: Array  # (T, B, 4H): i, f, g, o


def forward(params: Params, x: Array, s0: State) -> tuple[State, Tape]:
    """Run the cell over T steps.

    Parameters
    ----------
    params : Params
    x : array (T, B, I)
    s0 : State
        Initial state, h and c (B, H).

    Returns
    -------
    states : State
        The trajectory, h and c (T+1, B, H), with h[0] = s0.h and c[0] = s0.c.
    tape : Tape
        What `backward` needs.
    """
    W_ih, W_hh, b_ih, b_hh, P = params
    P_i, P_f, P_o = np.split(P, 3)
    W_hh_T = np.ascontiguousarray(W_hh.T)  # transposed once, not at every step
    T, B, _ = x.shape
    H = s0.c.shape[1]

    a_x = linear(x, W_ih, b_ih + b_hh)  # (1), all of it that needs no state
    h = trajectory(T, s0.h, a_x, W_hh, s0.c, P)
    c = trajectory(T, s0.c, h)
    tanh_c = np.empty((T, B, H), h.dtype)
    gates = np.empty((T, B, 4 * H), h.dtype)
    for t in range(T):
        a_i, a_f, a_g, a_o = np.split(a_x[t] + h[t] @ W_hh_T, 4, axis=1)  # (1)
        i, f, g, o = np.split(gates[t], 4, axis=1)
        i[:], f[:], g[:] = sigmoid(a_i + P_i * c[t]), sigmoid(a_f + P_f * c[t]), np.tanh(a_g)  # (2)
        c[t + 1] = f * c[t] + i * g  # (3)
        o[:] = sigmoid(a_o + P_o * c[t + 1])  # (4)
        tanh_c[t] = np.tanh(c[t + 1])
        h[t + 1] = o * tanh_c[t]  # (5)
    return State(h, c), Tape(params, x, h, c, tanh_c, gates)


def backward(tape: Tape, dstates: State) -> tuple[Params, Array, State]:
    """Backpropagation through time: the transpose of `forward`.

    Parameters
    ----------
    tape : Tape
        As `forward` returned it.
    dstates : State
        Gradient of the loss by every state of the trajectory, h and c (T+1, B, H).

    Returns
    -------
    grads : Params
        Gradients of the parameters.
    dx : array (T, B, I)
    ds0 : State
        Gradient of the initial state, h and c (B, H).
    """
    (W_ih, W_hh, _, _, P), x, h, c, tanh_c, gates = tape
    P_i, P_f, P_o = np.split(P, 3)
    T = x.shape[0]

    # What the running gradients dh and dc are multiplied with, for all steps at once.
    i, f, g, o = np.split(gates, 4, axis=2)
    do_dh = tanh_c * (o * (1 - o))  # (5') (4')
    dc_dh = o * (1 - tanh_c**2) + do_dh * P_o  # (5') (4')
    di_dc = g * (i * (1 - i))  # (3') (2')
    df_dc = c[:-1] * (f * (1 - f))  # (3') (2')
    dg_dc = i * (1 - g**2)  # (3') (2')
    dc_dc = f + di_dc * P_i + df_dc * P_f  # (3') (2')

    da = np.empty(gates.shape, np.result_type(gates, dstates.h, dstates.c))
    da_i, da_f, da_g, da_o = np.split(da, 4, axis=2)
    dh, dc = dstates.h[T].copy(), dstates.c[T].copy()
    for t in reversed(range(T)):
        da_o[t] = dh * do_dh[t]  # (5') (4')
        dc = dc + dh * dc_dh[t]  # (5') (4')
        da_i[t] = dc * di_dc[t]  # (3') (2')
        da_f[t] = dc * df_dc[t]  # (3') (2')
        da_g[t] = dc * dg_dc[t]  # (3') (2')
        dc = dstates.c[t] + dc * dc_dc[t]  # (3') (2')
        dh = dstates.h[t] + da[t] @ W_hh  # (1')

    db = linear_db(da)  # (1')
    dP = np.concatenate([linear_db(da_i * c[:-1]), linear_db(da_f * c[:-1]), linear_db(da_o * c[1:])])  # (2') (4')
    grads = Params(linear_dW(da, x), linear_dW(da, h[:-1]), db, db.copy(), dP)  # (1')
    return grads, linear_dx(da, W_ih), State(dh, dc)  # (1')


LSTM_PEEPHOLE = Cell("lstm_peephole", 4, Params, State, forward, backward)
