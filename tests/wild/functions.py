"""Correct functions that are hard to judge: kinks, saturation, scales, caches, hidden float32, numbers that vanish.

`FUNCTIONS` maps what is special about each to f, its gradient, inputs by a seed, and the verdict that is right.
"""

from __future__ import annotations

import numpy as np


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def drawn(W=1.0, x=1.0, dtype=float):
    def inputs(seed):
        rng = np.random.default_rng(seed)  # the very seed that gradcheck gets
        return {"W": (W * rng.standard_normal((5, 3))).astype(dtype), "x": (x * rng.standard_normal(3)).astype(dtype)}

    return inputs


def dense(f, derivative, buffer=False):
    """y = f(W x), perhaps through a real buffer, which complex steps cannot pass."""

    def forward(W, x):
        y = f(W @ x)
        if buffer:
            kept = np.zeros(len(W))
            kept[:] = y
            return kept
        return y

    def vjp(inputs, upstream):
        W, x = inputs
        da = upstream[0] * derivative(W @ x)
        return np.outer(da, x), W.T @ da

    return forward, vjp


def stable_sigmoid(a):
    return np.where(a >= 0, 1 / (1 + np.exp(-np.abs(a))), np.exp(-np.abs(a)) / (1 + np.exp(-np.abs(a))))


def sigmoid_derivative(a):
    return sigmoid(a) * (1 - sigmoid(a))


def tanh_derivative(a):
    return 1 - np.tanh(a) ** 2


class Cached:
    """Backward destroys what forward kept."""

    def forward(self, W, x):
        self.kept, self.W, self.x = np.tanh(W @ x), W, x
        return self.kept.copy()

    def backward(self, inputs, upstream):
        self.kept *= -self.kept
        self.kept += 1
        self.kept *= upstream[0]
        return np.outer(self.kept, self.x), self.W.T @ self.kept


def in_float32(inputs, upstream):
    """Computes in float32, returns float64."""
    W, x = (a.astype(np.float32) for a in inputs)
    da = (upstream[0] * tanh_derivative(inputs[0] @ inputs[1])).astype(np.float32)
    return np.outer(da, x).astype(float), (W.T @ da).astype(float)


def normalized(x, b):
    """The mean takes b away again, so that its gradient is all rounding."""
    z = x + b
    return (z - z.mean()) / np.sqrt(((z - z.mean()) ** 2).mean())


def normalized_vjp(inputs, upstream):
    x, b = inputs
    y = normalized(x, b)
    std = np.sqrt(((x + b - (x + b).mean()) ** 2).mean())
    dz = (upstream[0] - upstream[0].mean() - y * (upstream[0] * y).mean()) / std
    return dz, dz.sum()


def largest_of_time(x):
    return np.tanh(x).max(axis=0)


def largest_of_time_vjp(inputs, upstream):
    y = np.tanh(inputs[0])
    first = y == y.max(axis=0)
    return (first * upstream[0] * (1 - y**2),)


def only_real(x):
    """As code that was written for real numbers."""
    if np.iscomplexobj(x):
        raise TypeError("must be real number, not complex")
    return x


KEPT = np.array([1, 1, 0, 1])


def relu(x):
    return np.maximum(x, 0)


_cached = Cached()
_tanh = dense(np.tanh, tanh_derivative)
FUNCTIONS = {
    "a stable sigmoid": (*dense(stable_sigmoid, sigmoid_derivative), drawn(), "correct"),
    "saturated gates": (*dense(sigmoid, sigmoid_derivative), drawn(W=20), "correct"),
    "a clip as in Keras' hard sigmoid": (
        *dense(lambda a: np.clip(0.2 * a + 0.5, 0, 1), lambda a: 0.2 * (np.abs(a) < 2.5)),
        drawn(),
        "correct",
    ),
    "small weights, buffer": (*dense(np.tanh, tanh_derivative, buffer=True), drawn(W=1e-8), "correct"),
    "large inputs, buffer": (*dense(np.tanh, tanh_derivative, buffer=True), drawn(1e-3, 1e3), "correct"),
    "large inputs": (*_tanh, drawn(1e-6, 1e6), "correct"),
    "float32 parameters": (*_tanh, drawn(dtype=np.float32), "correct"),
    "float32 weights, float64 input": (
        *_tanh,
        lambda seed: {"W": drawn(dtype=np.float32)(seed)["W"], "x": drawn()(seed)["x"]},
        "correct",
    ),
    "minus infinity at padding": (
        lambda x: np.where(KEPT, np.tanh(x), -np.inf),
        lambda inputs, up: (up[0] * KEPT * tanh_derivative(inputs[0]),),
        lambda seed: {"x": np.random.default_rng(seed).standard_normal(4)},
        "correct",
    ),
    "a logarithm near 0": (
        lambda p: -np.log(p),
        lambda inputs, up: (-up[0] / inputs[0],),
        lambda seed: {"p": np.geomspace(1e-12, 1e3, 8) * np.random.default_rng(seed).uniform(0.5, 1.5, 8)},
        "correct",
    ),
    "a quick oscillation": (
        lambda w: np.sin(1e4 * w),
        lambda inputs, up: (1e4 * up[0] * np.cos(1e4 * inputs[0]),),
        lambda seed: {"w": np.random.default_rng(seed).standard_normal(5)},
        "correct",
    ),
    "a quick oscillation in real numbers": (
        lambda x: only_real(x) + 1e-4 * np.sin(1e4 * x),
        lambda inputs, up: (up[0] * (1 + np.cos(1e4 * inputs[0])),),
        lambda seed: {"x": np.random.default_rng(seed).standard_normal(4)},
        "not decided",
    ),
    "a quotient in real numbers": (
        lambda x: 1 / only_real(x),
        lambda inputs, up: (-up[0] / inputs[0] ** 2,),
        lambda seed: {"x": np.geomspace(1e-4, 10, 6) * np.random.default_rng(seed).uniform(0.5, 1.5, 6)},
        "correct",
    ),
    "gates that are 0 and 1": (
        lambda x: sigmoid(x),
        lambda inputs, up: (up[0] * sigmoid_derivative(inputs[0]),),
        lambda seed: {"x": np.array([-1e3, -40.0, 40.0, 900.0]) + np.random.default_rng(seed).standard_normal(4)},
        "not decided",
    ),
    "rounded to six decimals": (
        lambda w: np.round(np.tanh(w), 6),
        lambda inputs, up: (up[0] * tanh_derivative(inputs[0]),),
        lambda seed: {"w": np.random.default_rng(seed).standard_normal(3)},
        "not decided",
    ),
    "a cache that backward destroys": (_cached.forward, _cached.backward, drawn(), "correct"),
    "a maximum over time": (
        largest_of_time,
        largest_of_time_vjp,
        lambda seed: {"x": np.random.default_rng(seed).standard_normal((6, 4))},
        "correct",
    ),
    "an input that is not used": (
        lambda W, x, z: _tanh[0](W, x),
        lambda inputs, up: (*_tanh[1](inputs[:2], up), np.zeros(2)),
        lambda seed: {**drawn()(seed), "z": np.ones(2)},
        "correct",
    ),
    "a gradient that is all rounding": (
        normalized,
        normalized_vjp,
        lambda seed: {"x": np.random.default_rng(seed).standard_normal(7), "b": np.array(0.3)},
        "correct",
    ),
    "float32 inside the gradient": (_tanh[0], in_float32, drawn(), "not decided"),
    "float32 inside, float64 returned": (
        lambda W, x: np.tanh((np.real(W).astype("f") @ np.real(x).astype("f")).astype(float)),
        _tanh[1],
        drawn(),
        "not decided",
    ),
    "relu at 0": (
        relu,
        lambda inputs, up: (up[0] * (inputs[0] > 0),),
        lambda seed: {"x": np.array([0.0, 1.0, -1.0])},
        "not decided",
    ),
    "whole numbers with a gradient": (
        *_tanh,
        lambda seed: {"W": np.arange(-3, 3).reshape(2, 3), "x": drawn()(seed)["x"]},
        "not decided",
    ),
}
