"""The same numbers as `numpy_rnn.textbook.lstm_peephole`, for a batch; (1) … (1') are its equations.

Nothing is laid out otherwise than in all cells (see `numpy_rnn.fast`). The gates need c_t or c_{t+1}, so one tanh
cannot serve them all, and their order i, f, g, o stays.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..textbook.functions import sigmoid
from .cell import Cell, allocate_trajectory
from .lstm import State
from .numerics import (
    Array,
    layout_for_matvec,
    linear_columns,
    merge_steps,
    reversed_steps,
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
    """Run the cell over T steps, as `Cell` says."""
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
    """Backpropagation through time, the transpose of `forward`, as `Cell` says."""
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
