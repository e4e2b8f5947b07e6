"""The same numbers as `numpy_rnn.textbook.lstm`, `lstm_projection` and `lstm_peephole`, for a batch.

(1) … (1') are the equations of `textbook.lstm`. Lines that one of the others alone has are marked, with its equation's
number. Which cell it is follows from the parameters.

What is laid out otherwise, beside what all cells share (see `numpy_rnn.fast`):

* One tanh serves all four gates, σ(a) = (1 + tanh(a/2)) / 2: one call instead of four. With peepholes o waits for
  c_{t+1} and is computed once more.
* The gates stand in the order o, i, f, g, and c beside them: σ of three gates is one piece of memory, and i ∘ g and
  f ∘ c are one product.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .cell import Cell, Params, allocate_trajectory
from .numerics import Array, layout_for_matvec, linear_columns, merge_steps, reversed_steps, split_gates, sum_columns


class ProjectionParams(NamedTuple):
    """Parameters of a cell whose state h is projected to R units, or their gradients."""

    W_ih: Array  # (4H, I)
    W_hh: Array  # (4H, R)
    b_ih: Array  # (4H,)
    b_hh: Array  # (4H,)
    W_hr: Array  # (R, H)


class PeepholeParams(NamedTuple):
    """Parameters of a cell whose gates see c, or their gradients."""

    W_ih: Array  # (4H, I)
    W_hh: Array  # (4H, H)
    b_ih: Array  # (4H,)
    b_hh: Array  # (4H,)
    P: Array  # (3H,): i, f, o


class State(NamedTuple):
    """State of B sequences, or a trajectory of states, or gradients of either; R = H without a projection."""

    h: Array  # (B, R); a trajectory: (T+1, B, R)
    c: Array  # (B, H); a trajectory: (T+1, B, H)


class Tape(NamedTuple):
    """What backward needs."""

    params: Any  # the cell's Params
    x: Array  # (T, B, I)
    h: Array  # (T+1, B, R), rows
    tanh_c: Array  # (T, H, B), of c[1:]
    oifgc: Array  # (T+1, 5H, B): the gates o, i, f, g, of the last step undefined, and c


def _prepare_for_tanh(W: Array) -> Array:
    """Order the rows of a W or b as gates o, i, f, g and halve the first three, so that one tanh serves all four.

    σ(a) = (1 + tanh(a/2)) / 2, and half a number is exact in binary.
    """
    H = len(W) // 4
    W = np.concatenate([W[3 * H :], W[: 3 * H]])
    W[: 3 * H] *= 0.5
    return W


def _additions(params: Any) -> tuple[Array | None, Array | None]:
    """W_hr and P (3H, 1), None where the cell has none."""
    P = getattr(params, "P", None)
    return getattr(params, "W_hr", None), None if P is None else P[:, None]


def forward(params: Any, x: Array, s0: State) -> tuple[State, Tape]:
    """Run the cell over T steps, as `Cell` says."""
    (T, B, _), H = x.shape, s0.c.shape[1]
    W_hr, P = _additions(params)
    h = allocate_trajectory(T, s0.h, x, *params, s0.c)
    tanh_c = np.empty((T, H, B), h.dtype)
    half = np.array(0.5, h.dtype)  # an array: a scalar would be converted at every call
    # Side by side, so that one call serves all that it can: tanh for o, i, f, g; σ for o, i, f; a product for i ∘ g
    # and f ∘ c. Where a result goes is the last argument: to name it, out=…, would take a fifth of a call's time.
    oifgc = np.empty((T + 1, 5 * H, B), h.dtype)
    oifg, oif, if_, gc = oifgc[:, : 4 * H], oifgc[:, : 3 * H], oifgc[:, H : 3 * H], oifgc[:, 3 * H :]
    o, c = oifgc[:, :H], oifgc[:, 4 * H :]
    c[0] = s0.c.T
    ig_fc = np.empty((2 * H, B), h.dtype)
    ig, fc = ig_fc[:H], ig_fc[H:]

    W_ih, W_hh, b = map(_prepare_for_tanh, (params.W_ih, params.W_hh, params.b_ih + params.b_hh))
    linear_columns(W_ih, x, b, oifg[:T])  # (1), all of it that needs no state
    W_hh, Wh = layout_for_matvec(W_hh, B), np.empty((4 * H, B), h.dtype)
    W_hr = None if W_hr is None else layout_for_matvec(W_hr, B)
    h_t = h[0]
    for a, oif_t, if_t, gc_t, o_t, c_next, tanh_c_t, h_next in zip(oifg, oif, if_, gc, o, c[1:], tanh_c, h[1:]):
        a += W_hh.dot(h_t, Wh)  # (1)
        if P is not None:
            a_o = o_t.copy()
            if_t += half * P[: 2 * H] * np.concatenate([gc_t[H:]] * 2)  # (2) of lstm_peephole
        np.tanh(a, a)  # (2)
        oif_t *= half
        oif_t += half
        np.multiply(if_t, gc_t, ig_fc)  # (3)
        np.add(fc, ig, c_next)  # (3)
        if P is not None:
            o_t[:] = half + half * np.tanh(a_o + half * P[2 * H :] * c_next)  # (4) of lstm_peephole
        np.tanh(c_next, tanh_c_t)  # (4)
        if W_hr is None:
            np.multiply(o_t, tanh_c_t, h_next)  # (4)
        else:
            h_next[:] = W_hr.dot(o_t * tanh_c_t)  # (4) (5) of lstm_projection
        h_t = h_next
    h = np.ascontiguousarray(h.swapaxes(1, 2))
    return State(h, c.swapaxes(1, 2)), Tape(params, x, h, tanh_c, oifgc)


def backward(tape: Tape, dstates: State) -> tuple[Any, Array, State]:
    """Backpropagation through time, the transpose of `forward`, as `Cell` says."""
    params, x, h, tanh_c, oifgc = tape
    (T, B, I), (_, _, R), H = x.shape, h.shape, tanh_c.shape[1]
    W_hr, P = _additions(params)
    W_hh_T = layout_for_matvec(params.W_hh.T, B)  # once, not at every step
    W_hr_T = None if W_hr is None else layout_for_matvec(W_hr.T, B)
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
    dc_dm, dc_dc = o * (1 - tanh_c**2), f  # (4') (3')
    if P is not None:
        P_i, P_f, P_o = np.split(P, 3)
        dc_dm, dc_dc = dc_dm + da_o * P_o, f + da_i * P_i + da_f * P_f  # (4') (2') of lstm_peephole

    dh, dc = dh_loss[T].astype(da.dtype), dc_loss[T].astype(da.dtype)
    dhs: Any = [None] * T if W_hr is None else np.empty((T, R, B), da.dtype)  # dh of every step: dW_hr needs it
    for da_t, da_i_t, da_f_t, da_g_t, da_o_t, dc_dm_t, dc_dc_t, dh_loss_t, dc_loss_t, dh_next in reversed_steps(
        da, da_i, da_f, da_g, da_o, dc_dm, dc_dc, dh_loss[:-1], dc_loss[:-1], dhs
    ):
        dm = dh
        if W_hr_T is not None:
            dh_next[:] = dh
            dm = W_hr_T.dot(dh)  # (5') of lstm_projection
        da_o_t *= dm  # (4') (2')
        dc += dm * dc_dm_t  # (4')
        da_i_t *= dc  # (3') (2')
        da_f_t *= dc  # (3') (2')
        da_g_t *= dc  # (3') (2')
        dc *= dc_dc_t  # (3')
        dc += dc_loss_t
        dh = W_hh_T.dot(da_t, dh)  # (1')
        dh += dh_loss_t

    more = []
    if P is not None:
        more = [np.concatenate([z.sum(axis=(0, 2)) for z in (da_i * c, da_f * c, da_o * oifgc[1:, 4 * H :])])]
    elif W_hr is not None:
        more = [merge_steps(dhs) @ merge_steps(o * tanh_c).T]  # (5') of lstm_projection
    da = merge_steps(da)
    db = sum_columns(da)  # (1')
    grads = [da @ x.reshape(T * B, I), da @ h[:-1].reshape(T * B, R), db, db.copy(), *more]  # (1')
    dx = (da.T @ params.W_ih).reshape(T, B, I)  # (1')
    return type(params)(*grads), dx, State(dh.T, dc.T)


LSTM = Cell("lstm", 4, Params, State, forward, backward)
LSTM_PROJECTION = Cell("lstm_projection", 4, ProjectionParams, State, forward, backward)
LSTM_PEEPHOLE = Cell("lstm_peephole", 4, PeepholeParams, State, forward, backward)
