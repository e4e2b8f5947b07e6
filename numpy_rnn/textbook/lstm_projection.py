"""LSTM with a projection, for one sequence: x (T, I), h_0 (R,), c_0 (H,). Gate order i, f, g, o."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..fast.numerics import Array, sigmoid


def forward(params: Any, x: Array, h_0: Array, c_0: Array) -> tuple[Any, Any]:
    """States h_0 … h_T and c_0 … c_T, and what backward needs."""
    W_ih, W_hh, b_ih, b_hh, W_hr = params
    h, c, gates = [h_0], [c_0], []
    for t in range(len(x)):
        a = W_ih @ x[t] + b_ih + W_hh @ h[t] + b_hh
        a_i, a_f, a_g, a_o = a.reshape(4, -1)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
        c.append(f * c[t] + i * g)
        m = o * np.tanh(c[t + 1])
        h.append(W_hr @ m)
        gates.append((i, f, g, o))
    return (np.stack(h), np.stack(c)), (params, x, h, c, gates)


def backward(tape: Any, dh_out: Array, dc_out: Array) -> tuple[Any, Array, Any]:
    """Gradients, given what the loss sends to each state directly, dh_out (T+1, R) and dc_out (T+1, H)."""
    (W_ih, W_hh, *_, W_hr), x, h, c, gates = tape
    dW_ih, dW_hh, db_ih, db_hh, dW_hr = (np.zeros_like(w) for w in tape[0])
    dx = np.zeros_like(x)
    dh, dc = dh_out.copy(), dc_out.copy()
    for t in reversed(range(len(x))):
        i, f, g, o = gates[t]
        tanh_c = np.tanh(c[t + 1])
        dm = W_hr.T @ dh[t + 1]
        dW_hr += np.outer(dh[t + 1], o * tanh_c)
        do = dm * tanh_c
        dc[t + 1] += dm * o * (1 - tanh_c**2)
        di = dc[t + 1] * g
        df = dc[t + 1] * c[t]
        dg = dc[t + 1] * i
        dc[t] += dc[t + 1] * f
        da_i = di * i * (1 - i)
        da_f = df * f * (1 - f)
        da_g = dg * (1 - g**2)
        da_o = do * o * (1 - o)
        da = np.concatenate([da_i, da_f, da_g, da_o])
        dh[t] += W_hh.T @ da
        dx[t] = W_ih.T @ da
        dW_ih += np.outer(da, x[t])
        dW_hh += np.outer(da, h[t])
        db_ih += da
        db_hh += da
    return (dW_ih, dW_hh, db_ih, db_hh, dW_hr), dx, (dh[0], dc[0])
