"""Gated recurrent unit with the reset gate *before* the product (Cho et al. 2014, arXiv:1406.1078 v3); ONNX's GRU
operator at its default linear_before_reset = 0. Gate order r, z, n, and z keeps the old state, as torch's.

Forward, for t = 0 … T-1; u is the input's side, v the state's side, three blocks of H rows each:

    (1)   u_t     = W_ih x_t + b_ih             [v_r; v_z] = W_h{r,z} h_t + b_h{r,z}
    (2)   r, z    = σ(u_r + v_r), σ(u_z + v_z)
    (3)   q_t     = r ∘ h_t                     v_n = W_hn q_t + b_hn
          n       = tanh(u_n + v_n)
    (4)   h_{t+1} = (1 - z) ∘ n + z ∘ h_t        z keeps the old state

Backward, for t = T-1 … 0. dh_{t+1} arrives with what the loss sends it directly, plus what step t+1 has sent
back.

    (4')  dn      = dh_{t+1} ∘ (1 - z)          dz = dh_{t+1} ∘ (h_t - n)
          dh_t   += dh_{t+1} ∘ z
    (3')  da_n    = dn ∘ (1 - n²)               dq_t = W_hnᵀ da_n
          dr      = dq_t ∘ h_t                  dh_t += dq_t ∘ r
    (2')  da_r    = dr ∘ r ∘ (1 - r)            da_z = dz ∘ z ∘ (1 - z)
    (1')  dh_t   += W_h{r,z}ᵀ [da_r; da_z]
          dx_t    = W_ihᵀ da_t
          dW_ih   = Σ_t da_t x_tᵀ        db_ih = Σ_t da_t
          dW_h{r,z} = Σ_t [da_r; da_z] h_tᵀ     dW_hn = Σ_t da_n q_tᵀ        db_hh = Σ_t da_t

Both sides of each sum receive the same gradient here, so one da serves for u and v, and the two biases could be
one; they are two as everywhere.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .cell import Cell, trajectory
from .gru import Params, State
from .numerics import Array, linear, linear_db, linear_dW, linear_dx, sigmoid


class Tape(NamedTuple):
    """What backward needs."""

    params: Params
    x: Array  # (T, B, I)
    h: Array  # (T+1, B, H)
    gates: Array  # (T, B, 3H): r, z, n


def forward(params: Params, x: Array, s0: State) -> tuple[State, Tape]:
    """Run the cell over T steps.

    Parameters
    ----------
    params : Params
    x : array (T, B, I)
    s0 : State
        Initial state, h (B, H).

    Returns
    -------
    states : State
        The trajectory, h (T+1, B, H), with h[0] = s0.h.
    tape : Tape
        What `backward` needs.
    """
    W_ih, W_hh, b_ih, b_hh = params
    T, B, _ = x.shape
    H = s0.h.shape[1]
    W_hrz_T, W_hn_T = np.ascontiguousarray(W_hh[: 2 * H].T), np.ascontiguousarray(W_hh[2 * H :].T)

    a_x = linear(x, W_ih, b_ih + b_hh)  # (1) (3), all of it that needs no state
    h = trajectory(T, s0.h, a_x, W_hh)
    gates = np.empty((T, B, 3 * H), h.dtype)
    for t in range(T):
        a_rz, a_n = np.split(a_x[t], [2 * H], axis=1)
        r, z, n = np.split(gates[t], 3, axis=1)
        rz = gates[t, :, : 2 * H]
        rz[:] = sigmoid(a_rz + h[t] @ W_hrz_T)  # (1) (2)
        q = r * h[t]  # (3)
        n[:] = np.tanh(a_n + q @ W_hn_T)  # (3)
        h[t + 1] = (1 - z) * n + z * h[t]  # (4)
    return State(h), Tape(params, x, h, gates)


def backward(tape: Tape, dstates: State) -> tuple[Params, Array, State]:
    """Backpropagation through time: the transpose of `forward`.

    Parameters
    ----------
    tape : Tape
        As `forward` returned it.
    dstates : State
        Gradient of the loss by every state of the trajectory, h (T+1, B, H).

    Returns
    -------
    grads : Params
        Gradients of the parameters.
    dx : array (T, B, I)
    ds0 : State
        Gradient of the initial state, h (B, H).
    """
    (W_ih, W_hh, _, _), x, h, gates = tape
    T, _, H = h[1:].shape
    W_hrz, W_hn = W_hh[: 2 * H], W_hh[2 * H :]

    # What the running gradients dh and dq are multiplied with, for all steps at once.
    r, z, n = np.split(gates, 3, axis=2)
    dan_dh = (1 - z) * (1 - n**2)  # (4') (3')
    daz_dh = (h[:-1] - n) * (z * (1 - z))  # (4') (2')
    dar_dq = h[:-1] * (r * (1 - r))  # (3') (2')

    da = np.empty(gates.shape, np.result_type(gates, dstates.h))
    da_r, da_z, da_n = np.split(da, 3, axis=2)
    da_rz = da[:, :, : 2 * H]
    dh = dstates.h[T].copy()
    for t in reversed(range(T)):
        da_n[t] = dh * dan_dh[t]  # (4') (3')
        dq = da_n[t] @ W_hn  # (3')
        da_r[t] = dq * dar_dq[t]  # (3') (2')
        da_z[t] = dh * daz_dh[t]  # (4') (2')
        dh = dstates.h[t] + dh * z[t] + dq * r[t] + da_rz[t] @ W_hrz  # (4') (3') (1')

    q = r * h[:-1]  # (3)
    dW_hh = np.concatenate([linear_dW(da_rz, h[:-1]), linear_dW(da_n, q)])  # (1')
    db = linear_db(da)  # (1')
    return Params(linear_dW(da, x), dW_hh, db, db.copy()), linear_dx(da, W_ih), State(dh)  # (1')


GRU_RESET_BEFORE = Cell("gru_reset_before", 3, Params, State, forward, backward)
