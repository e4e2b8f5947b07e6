"""Steps of optimizers as cases: SGD with momentum, Adam, and a gradient clipped to a norm; torch.optim's semantics.

    sgd     d = g + weight_decay p        b = momentum b + d, in the first step b = d        p = p - lr b
    adam    m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g²
            p = p - lr m_hat / (√v_hat + eps),   m_hat = m / (1 - beta1ᵗ), v_hat = v / (1 - beta2ᵗ), t = 1, 2, …
    clip    norm = √Σ g²        scale = min(1, max_norm / (norm + 1e-6))        clipped = scale g

The hyperparameters have few binary digits, so that they are the same in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...fast.numerics import Array

STEPS, SHAPE = 4, (2, 3)
Values = dict[str, Array]


class Rule(NamedTuple):
    """An optimizer: its hyperparameters, what it computes in a step, and by which equations."""

    hyperparameters: dict[str, float]
    step: Callable[
        [int, Values, Any], Values
    ]  # (t = 0, 1, …, p and what the step before left, g) -> this step's values
    equations: dict[str, str]  # by name, in the order of execution


def _sgd(t: int, s: Values, g: Any) -> Values:
    d = g + s["weight_decay"] * s["p"]
    b = d if t == 0 else s["momentum"] * s["b"] + d
    return {"d": d, "b": b, "p": s["p"] - s["lr"] * b}


def _adam(t: int, s: Values, g: Any) -> Values:
    zero = np.zeros_like(g)
    m = s["beta1"] * s.get("m", zero) + (1 - s["beta1"]) * g
    v = s["beta2"] * s.get("v", zero) + (1 - s["beta2"]) * g**2
    m_hat, v_hat = m / (1 - s["beta1"] ** (t + 1)), v / (1 - s["beta2"] ** (t + 1))
    p = s["p"] - s["lr"] * m_hat / (np.sqrt(v_hat) + s["eps"])
    return {"m": m, "v": v, "m_hat": m_hat, "v_hat": v_hat, "p": p}


def _clip(t: int, s: Values, g: Any) -> Values:
    norm = np.sqrt((g**2).sum())
    scale = np.minimum(1, s["max_norm"] / (norm + g.dtype.type(1) / 1_000_000))
    return {"norm": norm, "scale": scale, "clipped": scale * g}


RULES = {
    "sgd": Rule(
        {"lr": 0.125, "momentum": 0.875, "weight_decay": 0.0625},
        _sgd,
        {"d": "d = g[t] + weight_decay * p", "b": "b = momentum * b + d; b = d for t = 0", "p": "p = p - lr * b"},
    ),
    "adam": Rule(
        {"lr": 0.125, "beta1": 0.875, "beta2": 0.9375, "eps": 2.0**-20},
        _adam,
        {
            "m": "m = beta1 * m + (1 - beta1) * g[t]",
            "v": "v = beta2 * v + (1 - beta2) * g[t] ** 2",
            "m_hat": "m_hat = m / (1 - beta1 ** (t + 1))",
            "v_hat": "v_hat = v / (1 - beta2 ** (t + 1))",
            "p": "p = p - lr * m_hat / (sqrt(v_hat) + eps)",
        },
    ),
    "clip": Rule(
        {"max_norm": 4.0},
        _clip,
        {
            "norm": "norm = sqrt(sum(g[t] ** 2))",
            "scale": "scale = min(1, max_norm / (norm + 1e-6))",
            "clipped": "clipped = scale * g[t]",
        },
    ),
}


class Problem(NamedTuple):
    """A stated problem for an optimizer."""

    rule: str
    p_0: Array  # SHAPE
    g: Array  # (STEPS, *SHAPE)

    def astype(self, dtype: Any) -> Problem:
        """The same problem in another dtype."""
        return Problem(self.rule, self.p_0.astype(dtype), self.g.astype(dtype))


def problem(rule: str) -> Problem:
    """Numbers with few binary digits; the gradient of one step is small, so that clipping does not always act."""
    rng = np.random.default_rng(list(rule.encode()))
    g = np.round(rng.standard_normal((STEPS, *SHAPE)) * 128) / 64
    g[1] /= 8
    return Problem(rule, np.round(rng.standard_normal(SHAPE) * 64) / 64, g)


def run(given: Problem) -> Values:
    """All values of all steps, stacked: (STEPS, …), in the order of execution."""
    rule, dtype = RULES[given.rule], given.p_0.dtype
    state: Values = {name: dtype.type(value) for name, value in rule.hyperparameters.items()}
    state["p"] = given.p_0
    steps = []
    for t in range(STEPS):
        state |= rule.step(t, state, given.g[t])
        steps.append({name: state[name] for name in rule.equations})
    return {name: np.array([step[name] for step in steps]) for name in rule.equations}
