"""GRU with the reset gate after the product, for one sequence: x (T, I), h_0 (H,). Gate order r, z, n."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..fast.numerics import Array, sigmoid


def forward(params: Any, x: Array, h_0: Array) -> tuple[Any, Any]:
    """States h_0 … h_T, and what backward needs."""
    W_ih, W_hh, b_ih, b_hh = params
    h, gates = [h_0], []
    for t in range(len(x)):
        u_r, u_z, u_n = (W_ih @ x[t] + b_ih).reshape(3, -1)
        v_r, v_z, v_n = (W_hh @ h[t] + b_hh).reshape(3, -1)
        r, z = sigmoid(u_r + v_r), sigmoid(u_z + v_z)
        n = np.tanh(u_n + r * v_n)
        h.append((1 - z) * n + z * h[t])
        gates.append((r, z, n, v_n))
    return (np.stack(h),), (params, x, h, gates)


def backward(tape: Any, dh_out: Array) -> tuple[Any, Array, Any]:
    """Gradients, given what the loss sends to each state directly, dh_out (T+1, H)."""
    (W_ih, W_hh, *_), x, h, gates = tape
    dW_ih, dW_hh, db_ih, db_hh = (np.zeros_like(w) for w in tape[0])
    dx = np.zeros_like(x)
    dh = dh_out.copy()
    for t in reversed(range(len(x))):
        r, z, n, v_n = gates[t]
        dn = dh[t + 1] * (1 - z)
        dz = dh[t + 1] * (h[t] - n)
        dh[t] += dh[t + 1] * z
        du_n = dn * (1 - n**2)
        dv_n = du_n * r
        dr = du_n * v_n
        du_r = dr * r * (1 - r)
        du_z = dz * z * (1 - z)
        du = np.concatenate([du_r, du_z, du_n])
        dv = np.concatenate([du_r, du_z, dv_n])
        dh[t] += W_hh.T @ dv
        dx[t] = W_ih.T @ du
        dW_ih += np.outer(du, x[t])
        dW_hh += np.outer(dv, h[t])
        db_ih += du
        db_hh += dv
    return (dW_ih, dW_hh, db_ih, db_hh), dx, (dh[0],)
