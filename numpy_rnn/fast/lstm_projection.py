"""The same numbers as `numpy_rnn.textbook.lstm_projection`, for a batch; (1) … (1') are its equations.

What is laid out otherwise, beside what all cells share (see `numpy_rnn.fast`):

* One tanh serves all four gates, as in `lstm`, and these stand in the order o, i, f, g.
* dh of every step is kept, so that dW_hr is one product as well.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .cell import Cell, allocate_trajectory
from .lstm import State, prepare_for_tanh
from .numerics import Array, layout_for_matvec, linear_columns, merge_steps, reversed_steps, split_gates, sum_columns


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
    h: Array  # (T+1, B, R), rows
    c: Array  # (T+1, H, B)
    tanh_c: Array  # (T, H, B), of c[1:]
    gates: Array  # (T, 4H, B): o, i, f, g


def forward(params: Params, x: Array, s0: State) -> tuple[State, Tape]:
    """Run the cell over T steps, as `Cell` says."""
    (T, B, _), H = x.shape, s0.c.shape[1]
    h = allocate_trajectory(T, s0.h, x, *params, s0.c)
    c = allocate_trajectory(T, s0.c, h)
    tanh_c = np.empty_like(c[1:])
    half = np.array(0.5, h.dtype)  # an array: a scalar would be converted at every call

    W_ih, W_hh, b = map(prepare_for_tanh, (params.W_ih, params.W_hh, params.b_ih + params.b_hh))
    gates = np.empty((T, 4 * H, B), h.dtype)
    linear_columns(W_ih, x, b, gates)  # (1), all of it that needs no state
    W_hh, W_hr = layout_for_matvec(W_hh, B), layout_for_matvec(params.W_hr, B)
    for a, oif_t, o, i, f, g, c_t, c_next, tanh_c_t, h_t, h_next in zip(
        gates, gates[:, : 3 * H], *split_gates(gates, 4), c, c[1:], tanh_c, h, h[1:]
    ):
        a += W_hh.dot(h_t)  # (1)
        np.tanh(a, a)  # (2)
        oif_t *= half
        oif_t += half
        np.add(f * c_t, i * g, c_next)  # (3)
        np.tanh(c_next, tanh_c_t)  # (4)
        m = o * tanh_c_t  # (4)
        h_next[:] = W_hr.dot(m)  # (5)
    h = np.ascontiguousarray(h.swapaxes(1, 2))
    return State(h, c.swapaxes(1, 2)), Tape(params, x, h, c, tanh_c, gates)


def backward(tape: Tape, dstates: State) -> tuple[Params, Array, State]:
    """Backpropagation through time, the transpose of `forward`, as `Cell` says."""
    (W_ih, W_hh, _, _, W_hr), x, h, c, tanh_c, gates = tape
    (T, B, I), R = x.shape, h.shape[2]
    W_hh_T, W_hr_T = layout_for_matvec(W_hh.T, B), layout_for_matvec(W_hr.T, B)
    dh_loss, dc_loss = (np.ascontiguousarray(ds.swapaxes(1, 2)) for ds in dstates)

    # What the running gradients dm and dc are multiplied with, for all steps at once, waits where da will stand.
    da = np.empty(gates.shape, np.result_type(gates, dh_loss, dc_loss))
    da_i, da_f, da_g, da_o = split_gates(da, 4)
    o, i, f, g = split_gates(gates, 4)
    np.multiply(g, i * (1 - i), out=da_i)  # (3') (2')
    np.multiply(c[:-1], f * (1 - f), out=da_f)  # (3') (2')
    np.multiply(i, 1 - g**2, out=da_g)  # (3') (2')
    np.multiply(tanh_c, o * (1 - o), out=da_o)  # (4') (2')
    dc_dm = o * (1 - tanh_c**2)  # (4')

    dh = dh_loss.astype(da.dtype)  # of every step: (5') needs them all for dW_hr
    dc = dc_loss[T].astype(da.dtype)
    for da_t, da_i_t, da_f_t, da_g_t, da_o_t, dc_dm_t, f_t, dh_t, dh_next, dc_loss_t in reversed_steps(
        da, da_i, da_f, da_g, da_o, dc_dm, f, dh[:-1], dh[1:], dc_loss[:-1]
    ):
        dm = W_hr_T.dot(dh_next)  # (5')
        da_o_t *= dm  # (4') (2')
        dc += dm * dc_dm_t  # (4')
        da_i_t *= dc  # (3') (2')
        da_f_t *= dc  # (3') (2')
        da_g_t *= dc  # (3') (2')
        dc *= f_t  # (3')
        dc += dc_loss_t
        dh_t += W_hh_T.dot(da_t)  # (1')

    da = merge_steps(da)
    db = sum_columns(da)  # (1')
    dW_hr = merge_steps(dh[1:]) @ merge_steps(o * tanh_c).T  # (5')
    grads = Params(da @ x.reshape(T * B, I), da @ h[:-1].reshape(T * B, R), db, db.copy(), dW_hr)  # (1')
    dx = (da.T @ W_ih).reshape(T, B, I)  # (1')
    return grads, dx, State(dh[0].T, dc.T)


LSTM_PROJECTION = Cell("lstm_projection", 4, Params, State, forward, backward)
