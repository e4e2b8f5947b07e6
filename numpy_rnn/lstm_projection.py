"""LSTM whose output is a projection of the memory (LSTMP; Sak, Senior & Beaufays 2014, arXiv:1402.1128);
torch.nn.LSTM's equations with `proj_size`. The state h has R = proj_size units, the memory c has H.

Forward, for t = 0 … T-1:

    (1)   a_t     = W_ih x_t + b_ih + W_hh h_t + b_hh         rows of a_t: a_i, a_f, a_g, a_o
    (2)   i, f, o = σ(a_i), σ(a_f), σ(a_o)     g = tanh(a_g)
    (3)   c_{t+1} = f ∘ c_t + i ∘ g
    (4)   m_t     = o ∘ tanh(c_{t+1})
    (5)   h_{t+1} = W_hr m_t

Backward, for t = T-1 … 0; dh_{t+1} and dc_{t+1} arrive with what the loss sends them directly, plus what step
t+1 has sent back.

    (5')  dm      = W_hrᵀ dh_{t+1}              dW_hr = Σ_t dh_{t+1} m_tᵀ
    (4')  do      = dm ∘ tanh(c_{t+1})
          dc_{t+1} += dm ∘ o ∘ (1 - tanh²(c_{t+1}))
    (3')  di      = dc_{t+1} ∘ g               df = dc_{t+1} ∘ c_t
          dg      = dc_{t+1} ∘ i               dc_t += dc_{t+1} ∘ f
    (2')  da_i    = di ∘ i ∘ (1 - i)           da_f = df ∘ f ∘ (1 - f)
          da_g    = dg ∘ (1 - g²)              da_o = do ∘ o ∘ (1 - o)
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
    W_hh: Array  # (4H, R)
    b_ih: Array  # (4H,)
    b_hh: Array  # (4H,)
    W_hr: Array  # (R, H)


class Tape(NamedTuple):
    """What backward needs."""

    params: Params
    x: Array  # (T, B, I)
    h: Array  # (T+1, B, R)
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
        Initial state, h (B, R) and c (B, H).

    Returns
    -------
    states : State
        The trajectory, h (T+1, B, R) and c (T+1, B, H), with h[0] = s0.h and c[0] = s0.c.
    tape : Tape
        What `backward` needs.
    """
    W_ih, W_hh, b_ih, b_hh, W_hr = params
    W_hh_T, W_hr_T = np.ascontiguousarray(W_hh.T), np.ascontiguousarray(W_hr.T)
    T, B, _ = x.shape
    H = s0.c.shape[1]

    a_x = linear(x, W_ih, b_ih + b_hh)  # (1), all of it that needs no state
    h = trajectory(T, s0.h, a_x, W_hh, s0.c, W_hr)
    c = trajectory(T, s0.c, h)
    tanh_c = np.empty((T, B, H), h.dtype)
    gates = np.empty((T, B, 4 * H), h.dtype)
    for t in range(T):
        a_i, a_f, a_g, a_o = np.split(a_x[t] + h[t] @ W_hh_T, 4, axis=1)  # (1)
        i, f, g, o = np.split(gates[t], 4, axis=1)
        i[:], f[:], g[:], o[:] = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)  # (2)
        c[t + 1] = f * c[t] + i * g  # (3)
        tanh_c[t] = np.tanh(c[t + 1])
        m = o * tanh_c[t]  # (4)
        h[t + 1] = m @ W_hr_T  # (5)
    return State(h, c), Tape(params, x, h, c, tanh_c, gates)


def backward(tape: Tape, dstates: State) -> tuple[Params, Array, State]:
    """Backpropagation through time: the transpose of `forward`.

    Parameters
    ----------
    tape : Tape
        As `forward` returned it.
    dstates : State
        Gradient of the loss by every state of the trajectory, h (T+1, B, R) and c (T+1, B, H).

    Returns
    -------
    grads : Params
        Gradients of the parameters.
    dx : array (T, B, I)
    ds0 : State
        Gradient of the initial state, h (B, R) and c (B, H).
    """
    (W_ih, W_hh, _, _, W_hr), x, h, c, tanh_c, gates = tape
    T = x.shape[0]

    # What the running gradients dm and dc are multiplied with, for all steps at once.
    i, f, g, o = np.split(gates, 4, axis=2)
    dc_dm = o * (1 - tanh_c**2)  # (4')
    do_dm = tanh_c * (o * (1 - o))  # (4') (2')
    di_dc = g * (i * (1 - i))  # (3') (2')
    df_dc = c[:-1] * (f * (1 - f))  # (3') (2')
    dg_dc = i * (1 - g**2)  # (3') (2')

    da = np.empty(gates.shape, np.result_type(gates, dstates.h, dstates.c))
    da_i, da_f, da_g, da_o = np.split(da, 4, axis=2)
    dh = np.empty(dstates.h.shape, da.dtype)  # of every step: (5') needs them all for dW_hr
    dh[T], dc = dstates.h[T], dstates.c[T].copy()
    for t in reversed(range(T)):
        dm = dh[t + 1] @ W_hr  # (5')
        da_o[t] = dm * do_dm[t]  # (4') (2')
        dc = dc + dm * dc_dm[t]  # (4')
        da_i[t] = dc * di_dc[t]  # (3') (2')
        da_f[t] = dc * df_dc[t]  # (3') (2')
        da_g[t] = dc * dg_dc[t]  # (3') (2')
        dc = dstates.c[t] + dc * f[t]  # (3')
        dh[t] = dstates.h[t] + da[t] @ W_hh  # (1')

    db = linear_db(da)  # (1')
    dW_hr = linear_dW(dh[1:], o * tanh_c)  # (5')
    grads = Params(linear_dW(da, x), linear_dW(da, h[:-1]), db, db.copy(), dW_hr)  # (1')
    return grads, linear_dx(da, W_ih), State(dh[0], dc)  # (1')


LSTM_PROJECTION = Cell("lstm_projection", 4, Params, State, forward, backward)
