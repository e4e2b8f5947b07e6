"""The same numbers as `numpy_rnn.textbook.lstm`, for a batch; (1) … (1') are its equations.

What is laid out otherwise, beside what all cells share (see `numpy_rnn.fast`):

* One tanh serves all four gates, σ(a) = (1 + tanh(a/2)) / 2: one call instead of four.
* The gates stand in the order o, i, f, g, and c beside them: σ of three gates is one piece of memory, and i ∘ g and
  f ∘ c are one product.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .cell import Cell, Params, allocate_trajectory
from .numerics import Array, layout_for_matvec, linear_columns, merge_steps, reversed_steps, split_gates, sum_columns


class State(NamedTuple):
    """State of B sequences, or a trajectory of states, or gradients of either."""

    h: Array  # (B, H); a trajectory: (T+1, B, H)
    c: Array  # (B, H); a trajectory: (T+1, B, H)


class Tape(NamedTuple):
    """What backward needs."""

    params: Params
    x: Array  # (T, B, I)
    h: Array  # (T+1, B, H), rows
    tanh_c: Array  # (T, H, B), of c[1:]
    oifgc: Array  # (T+1, 5H, B): the gates o, i, f, g, of the last step undefined, and c


def prepare_for_tanh(W: Array) -> Array:
    """Order the rows of a W or b as gates o, i, f, g and halve the first three, so that one tanh serves all four.

    σ(a) = (1 + tanh(a/2)) / 2, and half a number is exact in binary.
    """
    H = len(W) // 4
    W = np.concatenate([W[3 * H :], W[: 3 * H]])
    W[: 3 * H] *= 0.5
    return W


def forward(params: Params, x: Array, s0: State) -> tuple[State, Tape]:
    """Run the cell over T steps, as `Cell` says."""
    (T, B, _), H = x.shape, s0.h.shape[1]
    h = allocate_trajectory(T, s0.h, x, *params, s0.c)
    tanh_c = np.empty_like(h[1:])
    half = np.array(0.5, h.dtype)  # an array: a scalar would be converted at every call
    # Side by side, so that one call serves all that it can: tanh for o, i, f, g; σ for o, i, f; a product for i ∘ g
    # and f ∘ c. Where a result goes is the last argument: to name it, out=…, would take a fifth of a call's time.
    oifgc = np.empty((T + 1, 5 * H, B), h.dtype)
    oifg, oif, if_, gc = oifgc[:, : 4 * H], oifgc[:, : 3 * H], oifgc[:, H : 3 * H], oifgc[:, 3 * H :]
    o, c = oifgc[:, :H], oifgc[:, 4 * H :]
    c[0] = s0.c.T
    ig_fc = np.empty((2 * H, B), h.dtype)
    ig, fc = ig_fc[:H], ig_fc[H:]

    W_ih, W_hh, b = map(prepare_for_tanh, (params.W_ih, params.W_hh, params.b_ih + params.b_hh))
    linear_columns(W_ih, x, b, oifg[:T])  # (1), all of it that needs no state
    W_hh, Wh = layout_for_matvec(W_hh, B), np.empty((4 * H, B), h.dtype)
    h_t = h[0]
    for a, oif_t, if_t, gc_t, o_t, c_next, tanh_c_t, h_next in zip(oifg, oif, if_, gc, o, c[1:], tanh_c, h[1:]):
        a += W_hh.dot(h_t, Wh)  # (1)
        np.tanh(a, a)  # (2)
        oif_t *= half
        oif_t += half
        np.multiply(if_t, gc_t, ig_fc)  # (3)
        np.add(fc, ig, c_next)  # (3)
        np.tanh(c_next, tanh_c_t)  # (4)
        np.multiply(o_t, tanh_c_t, h_next)  # (4)
        h_t = h_next
    h = np.ascontiguousarray(h.swapaxes(1, 2))
    return State(h, c.swapaxes(1, 2)), Tape(params, x, h, tanh_c, oifgc)


def backward(tape: Tape, dstates: State) -> tuple[Params, Array, State]:
    """Backpropagation through time, the transpose of `forward`, as `Cell` says."""
    (W_ih, W_hh, _, _), x, h, tanh_c, oifgc = tape
    (T, B, I), H = x.shape, h.shape[2]
    W_hh_T = layout_for_matvec(W_hh.T, B)  # once, not at every step
    dh_loss, dc_loss = (np.ascontiguousarray(ds.swapaxes(1, 2)) for ds in dstates)

    # The running gradients dh and dc enter (4') … (2') only as factors. What they are multiplied with is known
    # beforehand, for all steps at once, and waits where da will stand.
    da = np.empty((T, 4 * H, B), np.result_type(oifgc, dh_loss, dc_loss))
    da_i, da_f, da_g, da_o = split_gates(da, 4)
    o, i, f, g, c = split_gates(oifgc[:-1], 5)
    np.multiply(g, i * (1 - i), out=da_i)  # (3') (2')
    np.multiply(c, f * (1 - f), out=da_f)  # (3') (2')
    np.multiply(i, 1 - g**2, out=da_g)  # (3') (2')
    np.multiply(tanh_c, o * (1 - o), out=da_o)  # (4') (2')
    dc_dh = o * (1 - tanh_c**2)  # (4')

    dh, dc = dh_loss[T].astype(da.dtype), dc_loss[T].astype(da.dtype)
    for da_t, da_i_t, da_f_t, da_g_t, da_o_t, dc_dh_t, f_t, dh_loss_t, dc_loss_t in reversed_steps(
        da, da_i, da_f, da_g, da_o, dc_dh, f, dh_loss[:-1], dc_loss[:-1]
    ):
        da_o_t *= dh  # (4') (2')
        dc += dh * dc_dh_t  # (4')
        da_i_t *= dc  # (3') (2')
        da_f_t *= dc  # (3') (2')
        da_g_t *= dc  # (3') (2')
        dc *= f_t  # (3')
        dc += dc_loss_t
        dh = W_hh_T.dot(da_t, dh)  # (1')
        dh += dh_loss_t

    da = merge_steps(da)
    db = sum_columns(da)  # (1')
    grads = Params(da @ x.reshape(T * B, I), da @ h[:-1].reshape(T * B, H), db, db.copy())  # (1')
    dx = (da.T @ W_ih).reshape(T, B, I)  # (1')
    return grads, dx, State(dh.T, dc.T)


LSTM = Cell("lstm", 4, Params, State, forward, backward)
