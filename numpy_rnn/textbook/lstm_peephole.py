"""LSTM with peepholes, for one sequence: x (T, I), h_0 and c_0 (H,). Gate order i, f, g, o; peepholes i, f, o."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..fast.numerics import Array, sigmoid


def forward(params: Any, x: Array, h_0: Array, c_0: Array) -> tuple[Any, Any]:
    """States h_0 … h_T and c_0 … c_T, and what backward needs."""
    W_ih, W_hh, b_ih, b_hh, P = params
    P_i, P_f, P_o = np.split(P, 3)
    h, c, gates = [h_0], [c_0], []
    for t in range(len(x)):
        a = W_ih @ x[t] + b_ih + W_hh @ h[t] + b_hh
        a_i, a_f, a_g, a_o = a.reshape(4, -1)
        i, f, g = sigmoid(a_i + P_i * c[t]), sigmoid(a_f + P_f * c[t]), np.tanh(a_g)
        c.append(f * c[t] + i * g)
        o = sigmoid(a_o + P_o * c[t + 1])
        h.append(o * np.tanh(c[t + 1]))
        gates.append((i, f, g, o))
    return (np.stack(h), np.stack(c)), (params, x, h, c, gates)


def backward(tape: Any, dh_out: Array, dc_out: Array) -> tuple[Any, Array, Any]:
    """Gradients, given what the loss sends to each state directly, dh_out and dc_out (T+1, H)."""
    (W_ih, W_hh, *_, P), x, h, c, gates = tape
    P_i, P_f, P_o = P.reshape(3, -1)
    dW_ih, dW_hh, db_ih, db_hh, dP = (np.zeros_like(w) for w in tape[0])
    dP_i, dP_f, dP_o = np.split(dP, 3)  # views: what is added to them is added to dP
    dx = np.zeros_like(x)
    dh, dc = dh_out.copy(), dc_out.copy()
    for t in reversed(range(len(x))):
        i, f, g, o = gates[t]
        tanh_c = np.tanh(c[t + 1])
        do = dh[t + 1] * tanh_c
        dc[t + 1] += dh[t + 1] * o * (1 - tanh_c**2)
        da_o = do * o * (1 - o)
        dc[t + 1] += da_o * P_o
        dP_o += da_o * c[t + 1]
        di = dc[t + 1] * g
        df = dc[t + 1] * c[t]
        dg = dc[t + 1] * i
        dc[t] += dc[t + 1] * f
        da_i = di * i * (1 - i)
        da_f = df * f * (1 - f)
        da_g = dg * (1 - g**2)
        dc[t] += da_i * P_i + da_f * P_f
        dP_i += da_i * c[t]
        dP_f += da_f * c[t]
        da = np.concatenate([da_i, da_f, da_g, da_o])
        dh[t] += W_hh.T @ da
        dx[t] = W_ih.T @ da
        dW_ih += np.outer(da, x[t])
        dW_hh += np.outer(da, h[t])
        db_ih += da
        db_hh += da
    return (dW_ih, dW_hh, db_ih, db_hh, dP), dx, (dh[0], dc[0])
