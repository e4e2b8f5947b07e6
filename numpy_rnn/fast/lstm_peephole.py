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

The code holds vectors as columns, one a sequence of the batch: x_t is (I, B), and W x is `W @ x`. Σ_t da_t x_tᵀ sums
over sequences too: it is one product of all columns abreast.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .cell import Cell, allocate_trajectory
from .lstm import State
from .numerics import (
    Array,
    layout_for_matvec,
    linear_columns,
    merge_steps,
    reversed_steps,
    sigmoid,
    split_gates,
    sum_columns,
)


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
    h: Array  # (T+1, B, H), rows
    c: Array  # (T+1, H, B)
    tanh_c: Array  # (T, H, B), of c[1:]
    gates: Array  # (T, 4H, B): i, f, g, o


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
    P_i, P_f, P_o = np.split(P[:, None], 3)
    (T, B, _), H = x.shape, s0.h.shape[1]
    h = allocate_trajectory(T, s0.h, x, *params, s0.c)
    c = allocate_trajectory(T, s0.c, h)
    tanh_c = np.empty_like(c[1:])

    gates = np.empty((T, 4 * H, B), h.dtype)
    linear_columns(W_ih, x, b_ih + b_hh, gates)  # (1), all of it that needs no state
    W_hh = layout_for_matvec(W_hh, B)
    for a, i, f, g, o, c_t, c_next, tanh_c_t, h_t, h_next in zip(
        gates, *split_gates(gates, 4), c, c[1:], tanh_c, h, h[1:]
    ):
        a += W_hh.dot(h_t)  # (1)
        i[:], f[:], g[:] = sigmoid(i + P_i * c_t), sigmoid(f + P_f * c_t), np.tanh(g)  # (2)
        np.add(f * c_t, i * g, c_next)  # (3)
        o[:] = sigmoid(o + P_o * c_next)  # (4)
        np.tanh(c_next, tanh_c_t)  # (5)
        np.multiply(o, tanh_c_t, h_next)  # (5)
    h = np.ascontiguousarray(h.swapaxes(1, 2))
    return State(h, c.swapaxes(1, 2)), Tape(params, x, h, c, tanh_c, gates)


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
    (T, B, I), H = x.shape, h.shape[2]
    P_i, P_f, P_o = np.split(P[:, None], 3)
    W_hh_T = layout_for_matvec(W_hh.T, B)  # once, not at every step
    dh_loss, dc_loss = (np.ascontiguousarray(ds.swapaxes(1, 2)) for ds in dstates)

    # What the running gradients dh and dc are multiplied with, for all steps at once, waits where da will stand.
    da = np.empty(gates.shape, np.result_type(gates, dh_loss, dc_loss))
    da_i, da_f, da_g, da_o = split_gates(da, 4)
    i, f, g, o = split_gates(gates, 4)
    np.multiply(g, i * (1 - i), out=da_i)  # (3') (2')
    np.multiply(c[:-1], f * (1 - f), out=da_f)  # (3') (2')
    np.multiply(i, 1 - g**2, out=da_g)  # (3') (2')
    np.multiply(tanh_c, o * (1 - o), out=da_o)  # (5') (4')
    dc_dh = o * (1 - tanh_c**2) + da_o * P_o  # (5') (4')
    dc_dc = f + da_i * P_i + da_f * P_f  # (3') (2')

    dh, dc = dh_loss[T].astype(da.dtype), dc_loss[T].astype(da.dtype)
    for da_t, da_i_t, da_f_t, da_g_t, da_o_t, dc_dh_t, dc_dc_t, dh_loss_t, dc_loss_t in reversed_steps(
        da, da_i, da_f, da_g, da_o, dc_dh, dc_dc, dh_loss[:-1], dc_loss[:-1]
    ):
        da_o_t *= dh  # (5') (4')
        dc += dh * dc_dh_t  # (5') (4')
        da_i_t *= dc  # (3') (2')
        da_f_t *= dc  # (3') (2')
        da_g_t *= dc  # (3') (2')
        dc *= dc_dc_t  # (3') (2')
        dc += dc_loss_t
        dh = W_hh_T.dot(da_t)  # (1')
        dh += dh_loss_t

    dP = np.concatenate([z.sum(axis=(0, 2)) for z in (da_i * c[:-1], da_f * c[:-1], da_o * c[1:])])  # (2') (4')
    da = merge_steps(da)
    db = sum_columns(da)  # (1')
    grads = Params(da @ x.reshape(T * B, I), da @ h[:-1].reshape(T * B, H), db, db.copy(), dP)  # (1')
    dx = (da.T @ W_ih).reshape(T, B, I)  # (1')
    return grads, dx, State(dh.T, dc.T)


LSTM_PEEPHOLE = Cell("lstm_peephole", 4, Params, State, forward, backward)
