"""The same numbers as `numpy_rnn.textbook.gru`, for a batch; (1) … (1') are its equations.

What is laid out otherwise, beside what all cells share (see `numpy_rnn.fast`):

* One tanh serves r and z, σ(a) = (1 + tanh(a/2)) / 2: one call instead of two.
* Both biases of r and z are added before the loop; that of v_n cannot, for it stands inside the product with r.
* v_n stands before r and z, so that one call adds W_hh h_t to all three.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .cell import Cell, Params, State, allocate_trajectory
from .numerics import Array, layout_for_matvec, linear_columns, merge_steps, reversed_steps, split_gates, sum_columns


class Tape(NamedTuple):
    """What backward needs."""

    params: Params
    x: Array  # (T, B, I)
    h: Array  # (T+1, H, B)
    vrzn: Array  # (T, 4H, B): v_n, r, z, n


def prepare_for_tanh(W: Array) -> Array:
    """Halve the rows of gates r and z in a W or b, so that a tanh serves as their σ.

    σ(a) = (1 + tanh(a/2)) / 2, and half a number is exact in binary.
    """
    W = W.copy()
    W[: 2 * len(W) // 3] *= 0.5
    return W


def forward(params: Params, x: Array, s0: State) -> tuple[State, Tape]:
    """Run the cell over T steps, as `Cell` says."""
    (T, B, _), H = x.shape, s0.h.shape[1]
    h = allocate_trajectory(T, s0.h, x, *params)
    half = np.array(0.5, h.dtype)  # an array: a scalar would be converted at every call

    W_ih, W_hh, b_ih, b_hh = map(prepare_for_tanh, params)
    b = np.append(b_ih[: 2 * H] + b_hh[: 2 * H], b_ih[2 * H :])  # of r and z both biases, of n the input side's
    # v_n stands before r and z, so that one call adds the hidden side to all three.
    vrzn = np.empty((T, 4 * H, B), h.dtype)
    vrzn[:, :H] = b_hh[2 * H :, None]  # (1): of v_n
    linear_columns(W_ih, x, b, vrzn[:, H:])  # (1): u
    W_hh = layout_for_matvec(np.concatenate([W_hh[2 * H :], W_hh[: 2 * H]]), B)
    h_t = h[0]
    for v_rz_t, rz_t, v_n, r, z, n, h_next in zip(vrzn[:, : 3 * H], vrzn[:, H : 3 * H], *split_gates(vrzn, 4), h[1:]):
        v_rz_t += W_hh.dot(h_t)  # (1) (2)
        np.tanh(rz_t, rz_t)  # (2)
        rz_t *= half
        rz_t += half
        n += r * v_n  # (3)
        np.tanh(n, n)
        np.subtract(h_t, n, h_next)  # (4)
        h_next *= z
        h_next += n
        h_t = h_next
    return State(h.swapaxes(1, 2)), Tape(params, x, h, vrzn)


def backward(tape: Tape, dstates: State) -> tuple[Params, Array, State]:
    """Backpropagation through time, the transpose of `forward`, as `Cell` says."""
    (W_ih, W_hh, _, _), x, h, vrzn = tape
    (T, B, I), H = x.shape, h.shape[1]
    W_hh_T = layout_for_matvec(W_hh.T, B)  # once, not at every step
    dh_loss = np.ascontiguousarray(dstates.h.swapaxes(1, 2))

    # The running gradient dh enters (4') … (2') only as a factor. What it is multiplied with is known beforehand,
    # for all steps at once, and waits where du and dv will stand.
    v_n, r, z, n = split_gates(vrzn, 4)
    dv = np.empty((T, 3 * H, B), np.result_type(vrzn, dh_loss))
    dv_r, dv_z, dv_n = split_gates(dv, 3)
    du_n = np.multiply(1 - z, 1 - n**2, dtype=dv.dtype)  # (4') (3')
    np.multiply(du_n, r, out=dv_n)  # (3')
    np.multiply(du_n * v_n, r * (1 - r), out=dv_r)  # (3') (2')
    np.multiply(h[:-1] - n, z * (1 - z), out=dv_z)  # (4') (2')

    dh = dh_loss[T].astype(dv.dtype)
    for dv_t, dv_r_t, dv_z_t, dv_n_t, du_n_t, z_t, dh_loss_t in reversed_steps(
        dv, dv_r, dv_z, dv_n, du_n, z, dh_loss[:-1]
    ):
        dv_r_t *= dh  # (3') (2')
        dv_z_t *= dh  # (4') (2')
        dv_n_t *= dh  # (4') (3')
        du_n_t *= dh  # (4') (3')
        dh *= z_t  # (4')
        dh += W_hh_T.dot(dv_t)  # (1')
        dh += dh_loss_t

    dv, du_n = merge_steps(dv), merge_steps(du_n)
    du = np.concatenate([dv[: -len(du_n)], du_n])  # (2')
    dW_ih, dW_hh = du @ x.reshape(T * B, I), dv @ merge_steps(h[:-1]).T  # (1')
    grads = Params(dW_ih, dW_hh, sum_columns(du), sum_columns(dv))  # (1')
    dx = (du.T @ W_ih).reshape(T, B, I)  # (1')
    return grads, dx, State(dh.T)


GRU = Cell("gru", 3, Params, State, forward, backward)
