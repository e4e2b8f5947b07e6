"""GRU with the reset gate before the product, for one sequence: x (T, I), h_0 (H,). Gate order r, z, n."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..fast.numerics import Array, sigmoid


def forward(params: Any, x: Array, h_0: Array) -> tuple[Any, Any]:
    """States h_0 … h_T, and what backward needs."""
    W_ih, W_hh, b_ih, b_hh = params
    (W_hr, W_hz, W_hn), (b_hr, b_hz, b_hn) = np.split(W_hh, 3), np.split(b_hh, 3)
    h, gates = [h_0], []
    for t in range(len(x)):
        u_r, u_z, u_n = (W_ih @ x[t] + b_ih).reshape(3, -1)
        r, z = sigmoid(u_r + W_hr @ h[t] + b_hr), sigmoid(u_z + W_hz @ h[t] + b_hz)
        n = np.tanh(u_n + W_hn @ (r * h[t]) + b_hn)
        h.append((1 - z) * n + z * h[t])
        gates.append((r, z, n))
    return (np.stack(h),), (params, x, h, gates)


def backward(tape: Any, dh_out: Array) -> tuple[Any, Array, Any]:
    """Gradients, given what the loss sends to each state directly, dh_out (T+1, H)."""
    (W_ih, W_hh, *_), x, h, gates = tape
    W_hr, W_hz, W_hn = np.split(W_hh, 3)
    dW_ih, dW_hh, db_ih, db_hh = (np.zeros_like(w) for w in tape[0])
    dW_hr, dW_hz, dW_hn = np.split(dW_hh, 3)  # views: what is added to them is added to dW_hh
    dx = np.zeros_like(x)
    dh = dh_out.copy()
    for t in reversed(range(len(x))):
        r, z, n = gates[t]
        dn = dh[t + 1] * (1 - z)
        dz = dh[t + 1] * (h[t] - n)
        dh[t] += dh[t + 1] * z
        du_n = dn * (1 - n**2)
        dq = W_hn.T @ du_n  # by q = r ∘ h
        dr = dq * h[t]
        dh[t] += dq * r
        du_r = dr * r * (1 - r)
        du_z = dz * z * (1 - z)
        du = np.concatenate([du_r, du_z, du_n])
        dh[t] += W_hr.T @ du_r + W_hz.T @ du_z
        dx[t] = W_ih.T @ du
        dW_ih += np.outer(du, x[t])
        dW_hr += np.outer(du_r, h[t])
        dW_hz += np.outer(du_z, h[t])
        dW_hn += np.outer(du_n, r * h[t])
        db_ih += du
        db_hh += du
    return (dW_ih, dW_hh, db_ih, db_hh), dx, (dh[0],)
