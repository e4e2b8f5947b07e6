"""HIPS autograd: a plain loop in its NumPy, differentiated by recording every operation."""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp  # type: ignore[import-untyped, import-not-found, unused-ignore]
import numpy as np
from autograd import make_vjp

from ..problem import Array, Problem, named
from . import Ready, UnfitError


def sigmoid(a: Any) -> Any:
    """Logistic function by tanh, which never overflows."""
    return 0.5 * (anp.tanh(0.5 * a) + 1)


def trajectory(cell: str, arguments: Any) -> Any:
    """All states h after the steps and, for an LSTM, the last c, as one array (T, B, H) or (T + 1, B, H).

    One array, because a function of autograd's returns one.
    """
    W_ih, W_hh, b_ih, b_hh, x, h, *c = (arguments[k] for k in range(len(arguments)))
    H = W_hh.shape[1]
    u = anp.dot(x, W_ih.T) + b_ih
    W_T = W_hh.T
    states = []
    for t in range(u.shape[0]):
        v = anp.dot(h, W_T) + b_hh
        if cell == "rnn":
            h = anp.tanh(u[t] + v)
        elif cell == "lstm":
            a = u[t] + v
            i, f, o = sigmoid(a[:, :H]), sigmoid(a[:, H : 2 * H]), sigmoid(a[:, 3 * H :])
            c = [f * c[0] + i * anp.tanh(a[:, 2 * H : 3 * H])]
            h = o * anp.tanh(c[0])
        else:
            r, z = (sigmoid(u[t][:, k * H : k * H + H] + v[:, k * H : k * H + H]) for k in (0, 1))
            n = anp.tanh(u[t][:, 2 * H :] + r * v[:, 2 * H :])
            h = (1 - z) * n + z * h
        states.append(h)
    return anp.stack(states + c)


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Collect the arguments; there is nothing to build."""
    if problem.point.L > 1 or problem.point.D > 1 or problem.point.ragged:
        raise UnfitError("written for one layer, one direction and equal lengths")
    T, cell = problem.point.T, problem.cell
    arguments = (*problem.parameters.values(), problem.x, *(s[0] for s in problem.states))
    upstream = np.concatenate([problem.doutput, *problem.dstates[1:]])
    upstream[T - 1] += problem.dstates[0][0]  # the last output is the final state, too

    def forward() -> Any:
        return (trajectory(cell, arguments),)

    def training() -> Any:
        back, value = make_vjp(lambda a: trajectory(cell, a))(arguments)
        return value, back

    def both() -> Any:
        value, back = training()
        return value, back, back(upstream)

    def arrays(result: Any) -> dict[str, Array]:
        output, final = result[0][:T], (result[0][T - 1 : T], result[0][T:])[: len(problem.states)]
        if len(result) < 3:
            return named(output, final)
        *dp, dx = result[2][:5]
        return named(output, final, dx, [d[None] for d in result[2][5:]], dict(zip(problem.parameters, dp)))

    return Ready({"forward": forward, "training-forward": training, "forward-backward": both}, arrays)
