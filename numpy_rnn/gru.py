"""Gated recurrent unit with the reset gate *after* the product (Cho et al. 2014, arXiv:1406.1078 v1;
cuDNN's form); torch.nn.GRU's equations and gate order r, z, n.

Forward, for t = 0 … T-1; u is the input's side, v the state's side, three blocks of H rows each:

    (1)   u_t     = W_ih x_t + b_ih             v_t = W_hh h_t + b_hh
    (2)   r, z    = σ(u_r + v_r), σ(u_z + v_z)
    (3)   n       = tanh(u_n + r ∘ v_n)
    (4)   h_{t+1} = (1 - z) ∘ n + z ∘ h_t        z keeps the old state

Backward, for t = T-1 … 0. dh_{t+1} arrives with what the loss sends it directly, plus what step t+1 has sent
back.

    (4')  dn      = dh_{t+1} ∘ (1 - z)          dz = dh_{t+1} ∘ (h_t - n)
          dh_t   += dh_{t+1} ∘ z
    (3')  du_n    = dn ∘ (1 - n²)               dv_n = du_n ∘ r               dr = du_n ∘ v_n
    (2')  du_r = dv_r = dr ∘ r ∘ (1 - r)        du_z = dv_z = dz ∘ z ∘ (1 - z)
    (1')  dh_t   += W_hhᵀ dv_t
          dx_t    = W_ihᵀ du_t
          dW_ih   = Σ_t du_t x_tᵀ        db_ih = Σ_t du_t
          dW_hh   = Σ_t dv_t h_tᵀ        db_hh = Σ_t dv_t

Here the two biases differ: the third block of b_hh stands inside the product with r and cannot be merged.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .cell import Cell, trajectory
from .numerics import Array, linear, linear_db, linear_dW, linear_dx, sigmoid


class Params(NamedTuple):
    """Parameters of one cell, or their gradients."""

    W_ih: Array  # (3H, I)
    W_hh: Array  # (3H, H)
    b_ih: Array  # (3H,)
    b_hh: Array  # (3H,)


class State(NamedTuple):
    """State of B sequences, or a trajectory of states, or gradients of either."""

    h: Array  # (B, H); a trajectory: (T+1, B, H)


class Tape(NamedTuple):
    """What backward needs."""

    params: Params
    x: Array  # (T, B, I)
    h: Array  # (T+1, B, H)
    gates: Array  # (T, B, 3H): r, z, n
    v_n: Array  # (T, B, H)


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
    W_hh_T = np.ascontiguousarray(W_hh.T)  # transposed once, not at every step
    T, B, _ = x.shape
    H = s0.h.shape[1]

    u = linear(x, W_ih, b_ih)  # (1)
    h = trajectory(T, s0.h, u, W_hh, b_hh)
    gates = np.empty((T, B, 3 * H), h.dtype)
    v_n = np.empty((T, B, H), h.dtype)
    for t in range(T):
        u_r, u_z, u_n = np.split(u[t], 3, axis=1)
        v_r, v_z, v_n[t] = np.split(h[t] @ W_hh_T + b_hh, 3, axis=1)  # (1)
        r, z, n = np.split(gates[t], 3, axis=1)
        r[:], z[:] = sigmoid(u_r + v_r), sigmoid(u_z + v_z)  # (2)
        n[:] = np.tanh(u_n + r * v_n[t])  # (3)
        h[t + 1] = (1 - z) * n + z * h[t]  # (4)
    return State(h), Tape(params, x, h, gates, v_n)


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
    (W_ih, W_hh, _, _), x, h, gates, v_n = tape
    T = x.shape[0]

    # The running gradient dh enters (4') … (2') only as a factor. What it is multiplied with is known
    # beforehand, for all steps at once.
    r, z, n = np.split(gates, 3, axis=2)
    dun_dh = (1 - z) * (1 - n**2)  # (4') (3')
    duz_dh = (h[:-1] - n) * (z * (1 - z))  # (4') (2')
    dur_dh = dun_dh * v_n * (r * (1 - r))  # (3') (2')
    dvn_dh = dun_dh * r  # (3')

    du = np.empty(gates.shape, np.result_type(gates, dstates.h))
    dv = np.empty_like(du)
    du_r, du_z, du_n = np.split(du, 3, axis=2)
    dv_r, dv_z, dv_n = np.split(dv, 3, axis=2)
    dh = dstates.h[T].copy()
    for t in reversed(range(T)):
        du_n[t], dv_n[t] = dh * dun_dh[t], dh * dvn_dh[t]  # (4') (3')
        du_r[t] = dv_r[t] = dh * dur_dh[t]  # (3') (2')
        du_z[t] = dv_z[t] = dh * duz_dh[t]  # (4') (2')
        dh = dstates.h[t] + dh * z[t] + dv[t] @ W_hh  # (4') (1')

    grads = Params(linear_dW(du, x), linear_dW(dv, h[:-1]), linear_db(du), linear_db(dv))  # (1')
    return grads, linear_dx(du, W_ih), State(dh)  # (1')


GRU = Cell("gru", 3, Params, State, forward, backward)
