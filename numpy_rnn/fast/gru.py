"""The same numbers as `numpy_rnn.textbook.gru` and `gru_reset_before`, for a batch.

(1) … (1') are the equations of `textbook.gru`. Those of the reset before the product are alike; lines that it alone has
are marked.

What is laid out otherwise, beside what all cells share (see `numpy_rnn.fast`):

* One tanh serves r and z, σ(a) = (1 + tanh(a/2)) / 2: one call instead of two.
* Both biases of r and z are added before the loop; that of v_n cannot, where it stands inside the product with r.
* v_n stands before r and z, so that one call adds W_hh h_t to all three. With the reset before the product q = r ∘ h
  stands there, and both sides of each sum receive the same gradient: one du = dv serves for both.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from .cell import Cell, Params, State, allocate_trajectory
from .numerics import Array, layout_for_matvec, linear_columns, merge_steps, reversed_steps, split_gates, sum_columns


class Tape(NamedTuple):
    """What backward needs."""

    params: Params
    reset_after: bool
    x: Array  # (T, B, I)
    h: Array  # (T+1, H, B)
    vrzn: Array  # (T, 4H, B): v_n or q, r, z, n


def _prepare_for_tanh(W: Array) -> Array:
    """Halve the rows of gates r and z in a W or b, so that a tanh serves as their σ.

    σ(a) = (1 + tanh(a/2)) / 2, and half a number is exact in binary.
    """
    W = W.copy()
    W[: 2 * len(W) // 3] *= 0.5
    return W


def forward(params: Params, x: Array, s0: State, reset_after: bool = True) -> tuple[State, Tape]:
    """Run the cell over T steps, as `Cell` says."""
    (T, B, _), H = x.shape, s0.h.shape[1]
    h = allocate_trajectory(T, s0.h, x, *params)
    half = np.array(0.5, h.dtype)  # an array: a scalar would be converted at every call

    W_ih, W_hh, b_ih, b_hh = map(_prepare_for_tanh, params)
    vrzn = np.empty((T, 4 * H, B), h.dtype)
    if reset_after:
        b = np.append(b_ih[: 2 * H] + b_hh[: 2 * H], b_ih[2 * H :])  # of r and z both biases, of n the input side's
        vrzn[:, :H] = b_hh[2 * H :, None]  # (1): of v_n
        W_h, sums = np.concatenate([W_hh[2 * H :], W_hh[: 2 * H]]), vrzn[:, : 3 * H]
    else:
        b, W_h, sums = b_ih + b_hh, W_hh[: 2 * H], vrzn[:, H : 3 * H]
        W_hn = layout_for_matvec(W_hh[2 * H :], B)
    linear_columns(W_ih, x, b, vrzn[:, H:])  # (1): u
    W_h = layout_for_matvec(W_h, B)
    h_t = h[0]
    for sum_t, rz_t, v_n, r, z, n, h_next in zip(sums, vrzn[:, H : 3 * H], *split_gates(vrzn, 4), h[1:]):
        sum_t += W_h.dot(h_t)  # (1) (2)
        np.tanh(rz_t, rz_t)  # (2)
        rz_t *= half
        rz_t += half
        if reset_after:
            n += r * v_n  # (3)
        else:
            q = np.multiply(r, h_t, v_n)  # (3) of gru_reset_before
            n += W_hn.dot(q)
        np.tanh(n, n)  # (3)
        np.subtract(h_t, n, h_next)  # (4)
        h_next *= z
        h_next += n
        h_t = h_next
    return State(h.swapaxes(1, 2)), Tape(params, reset_after, x, h, vrzn)


def backward(tape: Tape, dstates: State) -> tuple[Params, Array, State]:
    """Backpropagation through time, the transpose of `forward`, as `Cell` says."""
    (W_ih, W_hh, _, _), reset_after, x, h, vrzn = tape
    (T, B, I), rz = x.shape, 2 * len(W_hh) // 3
    W_h_T = layout_for_matvec((W_hh if reset_after else W_hh[:rz]).T, B)  # once, not at every step
    dh_loss = np.ascontiguousarray(dstates.h.swapaxes(1, 2))

    # The running gradients dh and dq enter (4') … (2') only as factors. What they are multiplied with is known
    # beforehand, for all steps at once, and waits where du and dv will stand.
    v_n, r, z, n = split_gates(vrzn, 4)
    dv = np.empty(vrzn[:, len(W_hh) // 3 :].shape, np.result_type(vrzn, dh_loss))
    dv_r, dv_z, dv_n = split_gates(dv, 3)
    np.multiply(h[:-1] - n, z * (1 - z), out=dv_z)  # (4') (2')
    du_n = np.empty(h[1:].shape, dv.dtype) if reset_after else dv_n
    np.multiply(1 - z, 1 - n**2, out=du_n)  # (4') (3')
    if reset_after:
        np.multiply(du_n, r, out=dv_n)  # (3')
        np.multiply(du_n * v_n, r * (1 - r), out=dv_r)  # (3') (2')
    else:
        W_hn_T = layout_for_matvec(W_hh[rz:].T, B)
        np.multiply(h[:-1], r * (1 - r), out=dv_r)  # (3') (2') of gru_reset_before

    dh = dh_loss[T].astype(dv.dtype)
    for dv_t, dv_r_t, dv_z_t, dv_n_t, du_n_t, r_t, z_t, dh_loss_t in reversed_steps(
        dv if reset_after else dv[:, :rz], dv_r, dv_z, dv_n, du_n, r, z, dh_loss[:-1]
    ):
        dv_z_t *= dh  # (4') (2')
        du_n_t *= dh  # (4') (3')
        if reset_after:
            dv_r_t *= dh  # (3') (2')
            dv_n_t *= dh  # (4') (3')
            dh *= z_t  # (4')
        else:
            dq = W_hn_T.dot(du_n_t)  # (3') of gru_reset_before
            dv_r_t *= dq  # (3') (2')
            dh *= z_t  # (4')
            dh += dq * r_t  # (3')
        dh += W_h_T.dot(dv_t)  # (1')
        dh += dh_loss_t

    dv, h = merge_steps(dv), merge_steps(h[:-1])
    if reset_after:
        du = np.concatenate([dv[:rz], merge_steps(du_n)])  # (2')
        dW_hh = dv @ h.T  # (1')
    else:
        du = dv
        dW_hh = np.concatenate([dv[:rz] @ h.T, dv[rz:] @ merge_steps(v_n).T])  # (1') (3')
    grads = Params(du @ x.reshape(T * B, I), dW_hh, sum_columns(du), sum_columns(dv))  # (1')
    dx = (du.T @ W_ih).reshape(T, B, I)  # (1')
    return grads, dx, State(dh.T)


GRU = Cell("gru", 3, Params, State, forward, backward)
GRU_RESET_BEFORE = Cell("gru_reset_before", 3, Params, State, partial(forward, reset_after=False), backward)
