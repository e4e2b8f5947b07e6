"""The plain recurrent cell with tanh, for one sequence: x (T, I), h_0 (H,)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..fast.numerics import Array


def forward(params: Any, x: Array, h_0: Array) -> tuple[Any, Any]:
    """States h_0 … h_T, and what backward needs."""
    W_ih, W_hh, b_ih, b_hh = params
    h = [h_0]
    for t in range(len(x)):
        a = W_ih @ x[t] + b_ih + W_hh @ h[t] + b_hh
        h.append(np.tanh(a))
    return (np.stack(h),), (params, x, h)


def backward(tape: Any, dh_out: Array) -> tuple[Any, Array, Any]:
    """Gradients, given what the loss sends to each state directly, dh_out (T+1, H)."""
    (W_ih, W_hh, *_), x, h = tape
    dW_ih, dW_hh, db_ih, db_hh = (np.zeros_like(w) for w in tape[0])
    dx = np.zeros_like(x)
    dh = dh_out.copy()
    for t in reversed(range(len(x))):
        da = dh[t + 1] * (1 - h[t + 1] ** 2)
        dh[t] += W_hh.T @ da
        dx[t] = W_ih.T @ da
        dW_ih += np.outer(da, x[t])
        dW_hh += np.outer(da, h[t])
        db_ih += da
        db_hh += da
    return (dW_ih, dW_hh, db_ih, db_hh), dx, (dh[0],)
