"""JAX: a scan over time, compiled; the input product stands before the loop, as someone who knows JAX writes it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ..environment import pin
from ..problem import Array, Problem, named
from . import Ready, UnfitError

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_ENABLE_X64", "1")


def step_of(cell: str, jnp: Any, sigmoid: Callable[[Any], Any]) -> Callable[..., tuple[Any, ...]]:
    """One step of a cell: from the state and the input product u to the next state."""

    def rnn(state: Any, u: Any, W: Any, b: Any) -> tuple[Any, ...]:
        return (jnp.tanh(u + state[0] @ W.T + b),)

    def lstm(state: Any, u: Any, W: Any, b: Any) -> tuple[Any, ...]:
        h, c = state
        i, f, g, o = jnp.split(u + h @ W.T + b, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
        return sigmoid(o) * jnp.tanh(c), c

    def gru(state: Any, u: Any, W: Any, b: Any) -> tuple[Any, ...]:
        (h,) = state
        u_r, u_z, u_n = jnp.split(u, 3, axis=-1)
        v_r, v_z, v_n = jnp.split(h @ W.T + b, 3, axis=-1)
        z = sigmoid(u_z + v_z)
        return ((1 - z) * jnp.tanh(u_n + sigmoid(u_r + v_r) * v_n) + z * h,)

    return {"rnn": rnn, "lstm": lstm, "gru": gru}[cell]


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Compile the three modes."""
    if problem.point.L > 1 or problem.point.D > 1 or problem.point.ragged:
        raise UnfitError("written for one layer, one direction and equal lengths")
    pin(threads)  # XLA makes as many threads as there are cores to run on
    import jax
    import jax.numpy as jnp

    step = step_of(problem.cell, jnp, jax.nn.sigmoid)
    parameters = {name: jnp.asarray(p) for name, p in problem.parameters.items()}
    x, dy = jnp.asarray(problem.x), jnp.asarray(problem.doutput)
    states, dstates = (tuple(jnp.asarray(s[0]) for s in ss) for ss in (problem.states, problem.dstates))

    def layer(p: Any, x: Any, state: Any) -> Any:
        u = x @ p["weight_ih_l0"].T + p["bias_ih_l0"]

        def body(state: Any, u: Any) -> Any:
            state = step(state, u, p["weight_hh_l0"], p["bias_hh_l0"])
            return state, state[0]

        final, output = jax.lax.scan(body, state, u)
        return output, final

    def with_gradients(p: Any, x: Any, state: Any, upstream: Any) -> Any:
        results, back = jax.vjp(layer, p, x, state)
        return results, back(upstream)

    inference = jax.jit(layer)
    training = jax.jit(lambda *arguments: jax.vjp(layer, *arguments))
    both: Any = jax.jit(with_gradients)
    ready: Any = jax.block_until_ready

    def arrays(result: Any) -> dict[str, Array]:
        (output, final), gradients = (result[0], result[1]) if isinstance(result[0], tuple) else (result, None)
        final = [np.asarray(s)[None] for s in final]
        if not isinstance(gradients, tuple):  # training-forward returns the function that gives them
            return named(np.asarray(output), final)
        dp, dx, ds = gradients
        numpy = {name: np.asarray(dp[name]) for name in problem.parameters}
        return named(np.asarray(output), final, np.asarray(dx), [np.asarray(d)[None] for d in ds], numpy)

    calls: dict[str, Callable[[], Any]] = {
        "forward": lambda: ready(inference(parameters, x, states)),
        "training-forward": lambda: ready(training(parameters, x, states)),
        "forward-backward": lambda: ready(both(parameters, x, states, (dy, dstates))),
    }
    for compiles in calls.values():
        compiles()
    return Ready(calls, arrays)
