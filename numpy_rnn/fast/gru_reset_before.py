"""The same numbers as `numpy_rnn.textbook.gru_reset_before`, for a batch; (1) … (1') are its equations.

What is laid out otherwise, beside what all cells share (see `numpy_rnn.fast`):

* One tanh serves r and z, as in `gru`.
* Both sides of each sum receive the same gradient, so one da serves for u and v.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .cell import Cell, Params, State, allocate_trajectory
from .gru import prepare_for_tanh
from .numerics import Array, layout_for_matvec, linear_columns, merge_steps, reversed_steps, split_gates, sum_columns


class Tape(NamedTuple):
    """What backward needs."""

    params: Params
    x: Array  # (T, B, I)
    h: Array  # (T+1, H, B)
    gates: Array  # (T, 3H, B): r, z, n


def forward(params: Params, x: Array, s0: State) -> tuple[State, Tape]:
    """Run the cell over T steps, as `Cell` says."""
    (T, B, _), H = x.shape, s0.h.shape[1]
    h = allocate_trajectory(T, s0.h, x, *params)
    half = np.array(0.5, h.dtype)  # an array: a scalar would be converted at every call

    W_ih, W_hh, b = map(prepare_for_tanh, (params.W_ih, params.W_hh, params.b_ih + params.b_hh))
    W_hrz, W_hn = (layout_for_matvec(W, B) for W in (W_hh[: 2 * H], W_hh[2 * H :]))
    gates = np.empty((T, 3 * H, B), h.dtype)
    linear_columns(W_ih, x, b, gates)  # (1) (3), all of it that needs no state
    for rz_t, r, z, n, h_t, h_next in zip(gates[:, : 2 * H], *split_gates(gates, 3), h, h[1:]):
        rz_t += W_hrz.dot(h_t)  # (1)
        np.tanh(rz_t, rz_t)  # (2)
        rz_t *= half
        rz_t += half
        q = r * h_t  # (3)
        n += W_hn.dot(q)
        np.tanh(n, n)
        np.subtract(h_t, n, h_next)  # (4)
        h_next *= z
        h_next += n
    return State(h.swapaxes(1, 2)), Tape(params, x, h, gates)


def backward(tape: Tape, dstates: State) -> tuple[Params, Array, State]:
    """Backpropagation through time, the transpose of `forward`, as `Cell` says."""
    (W_ih, W_hh, _, _), x, h, gates = tape
    T, B, I = x.shape
    rz = 2 * len(W_hh) // 3
    W_hrz_T, W_hn_T = (layout_for_matvec(W.T, B) for W in (W_hh[:rz], W_hh[rz:]))
    dh_loss = np.ascontiguousarray(dstates.h.swapaxes(1, 2))

    # What the running gradients dh and dq are multiplied with, for all steps at once, waits where da will stand.
    r, z, n = split_gates(gates, 3)
    da = np.empty(gates.shape, np.result_type(gates, dh_loss))
    da_r, da_z, da_n = split_gates(da, 3)
    np.multiply(1 - z, 1 - n**2, out=da_n)  # (4') (3')
    np.multiply(h[:-1] - n, z * (1 - z), out=da_z)  # (4') (2')
    np.multiply(h[:-1], r * (1 - r), out=da_r)  # (3') (2')

    dh = dh_loss[T].astype(da.dtype)
    for da_rz_t, da_r_t, da_z_t, da_n_t, r_t, z_t, dh_loss_t in reversed_steps(
        da[:, :rz], da_r, da_z, da_n, r, z, dh_loss[:-1]
    ):
        da_n_t *= dh  # (4') (3')
        dq = W_hn_T.dot(da_n_t)  # (3')
        da_r_t *= dq  # (3') (2')
        da_z_t *= dh  # (4') (2')
        dh *= z_t  # (4')
        dh += dq * r_t  # (3')
        dh += W_hrz_T.dot(da_rz_t)  # (1')
        dh += dh_loss_t

    q = r * h[:-1]  # (3)
    da = merge_steps(da)
    db = sum_columns(da)  # (1')
    dW_hh = np.concatenate([da[:rz] @ merge_steps(h[:-1]).T, da[rz:] @ merge_steps(q).T])  # (1')
    dx = (da.T @ W_ih).reshape(T, B, I)  # (1')
    return Params(da @ x.reshape(T * B, I), dW_hh, db, db.copy()), dx, State(dh.T)


GRU_RESET_BEFORE = Cell("gru_reset_before", 3, Params, State, forward, backward)
