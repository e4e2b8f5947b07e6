"""The RNN that everybody has read: a dictionary of columns for each step, gradients added up step by step.

Written in the manner of the well-known example min-char-rnn for one layer, not copied from it: sequences are the
columns of each matrix, no clipping, no output layer, and dx and dh_0 are returned as everyone else's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..problem import Array, Problem, named
from . import Ready, UnfitError


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Collect weights and data; the two biases are one here."""
    if problem.cell != "rnn":
        raise UnfitError("is a plain RNN")
    if problem.point.L > 1 or problem.point.D > 1 or problem.point.ragged:
        raise UnfitError("written for one layer, one direction and equal lengths")
    T = problem.point.T
    W_ih, W_hh, b_ih, b_hh = problem.parameters.values()
    b = (b_ih + b_hh)[:, None]
    x, dy = problem.x, problem.doutput
    h_0, dh_n = problem.states[0][0].T, problem.dstates[0][0].T

    def forward() -> Any:
        xs, hs = {}, {-1: h_0}
        for t in range(T):
            xs[t] = x[t].T
            hs[t] = np.tanh(np.dot(W_ih, xs[t]) + np.dot(W_hh, hs[t - 1]) + b)
        return xs, hs

    def both() -> Any:
        xs, hs = forward()
        dW_ih, dW_hh, db = np.zeros_like(W_ih), np.zeros_like(W_hh), np.zeros_like(b)
        dxs, dh_next = {}, dh_n
        for t in reversed(range(T)):
            dh = dy[t].T + dh_next
            da = (1 - hs[t] * hs[t]) * dh
            dW_ih += np.dot(da, xs[t].T)
            dW_hh += np.dot(da, hs[t - 1].T)
            db += da.sum(axis=1, keepdims=True)
            dxs[t] = np.dot(W_ih.T, da)
            dh_next = np.dot(W_hh.T, da)
        return xs, hs, dxs, dh_next, (dW_ih, dW_hh, db[:, 0], db[:, 0])

    def arrays(result: Any) -> dict[str, Array]:
        hs = result[1]
        output, final = np.stack([hs[t].T for t in range(T)]), (hs[T - 1].T[None],)
        if len(result) == 2:
            return named(output, final)
        dxs, dh, grads = result[2:]
        dx = np.stack([dxs[t].T for t in range(T)])
        return named(output, final, dx, (dh.T[None],), dict(zip(problem.parameters, grads)))

    # It always keeps what backward needs, so there is one forward.
    return Ready({"forward": forward, "training-forward": forward, "forward-backward": both}, arrays)
