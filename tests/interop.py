"""Known answers of other systems: run by `make interop`, in an environment of its own, never by the tests.

Every system builds a cell in its own way, draws its own parameters, runs a short batch, and, where it can, differentiates.
What it said goes to tests/interop.json, with its version: parameters, gradients and states by the system's names, and x, y.
`test_conventions.py` converts these with `numpy_rnn.port.conventions` and computes the same, with none of the systems installed.
Nothing of numpy_rnn is called here, so that a mistake there cannot be repeated here.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ["TF_USE_LEGACY_KERAS"] = "1"  # tensorflow has TF1's cells through tf_keras only, Keras 3 has none
T, B, I, H = 4, 2, 3, 5
rng = np.random.default_rng(6)
ANSWERS: dict[str, Callable[[], dict[str, Any]]] = {}


def answer(name: str) -> Any:
    """Register a function that makes a known answer; the name is system/cell."""

    def register(function: Any) -> Any:
        ANSWERS[name] = function
        return function

    return register


def draw(*shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


def plain(value: Any) -> Any:
    """Arrays as nested lists of numbers that are float32's."""
    if isinstance(value, dict):
        return {name: plain(v) for name, v in value.items()}
    return np.asarray(value, np.float32).astype(np.float64).tolist()


def in_jax(step: Any, params: Any, state: Any) -> dict[str, Any]:
    """Run a step function over x, and differentiate Σ y·G by the parameters, x and the initial state."""
    import jax

    x, G = draw(T, B, I), draw(T, B, H)

    def loss(params: Any, x: Any, state: Any) -> Any:
        outputs = []
        for t in range(T):
            state, y = step(params, state, x[t])
            outputs.append(y)
        y = jax.numpy.stack(outputs)
        return (y * G).sum(), (y, state)

    (grads, dx, dstate), (y, last) = jax.grad(loss, (0, 1, 2), has_aux=True)(params, x, state)
    return {
        "x": x,
        "y": y,
        "doutput": G,
        "params": params,
        "grads": grads,
        "dx": dx,
        "s0": state,
        "s_n": last,
        "ds0": dstate,
    }


def named_states(found: dict[str, Any], order: str) -> dict[str, Any]:
    """States by name, given the order in which the system has them."""
    for key in ("s0", "s_n", "ds0"):
        parts = found[key] if isinstance(found[key], (tuple, list)) else (found[key],)
        found[key] = dict(zip(order, parts))
    return found


# ---- Flax linen


def flax(cls: str, order: str) -> dict[str, Any]:
    import flax.linen as nn
    import jax

    cell = getattr(nn, cls)(features=H, bias_init=nn.initializers.normal(0.5))
    state = tuple(draw(B, H) for _ in order) if len(order) > 1 else draw(B, H)
    tree = cell.init(jax.random.key(1), state, draw(B, I))["params"]
    flat = {f"{layer}.{name}": np.asarray(value) for layer, parts in tree.items() for name, value in parts.items()}

    def step(params: Any, state: Any, x: Any) -> Any:
        nested: dict[str, Any] = {}
        for name, value in params.items():
            layer, leaf = name.split(".")
            nested.setdefault(layer, {})[leaf] = value
        return cell.apply({"params": nested}, state, x)

    return named_states(in_jax(step, flat, state), order)


answer("flax/lstm")(lambda: flax("OptimizedLSTMCell", "ch"))
answer("flax/gru")(lambda: flax("GRUCell", "h"))


# ---- Equinox


def equinox(cls: str, names: tuple[str, ...], order: str) -> dict[str, Any]:
    import equinox as eqx
    import jax

    cell = getattr(eqx.nn, cls)(I, H, key=jax.random.key(2))
    params = {name: np.asarray(getattr(cell, name)) for name in names}
    params["bias"] = draw(*params["bias"].shape)
    state = tuple(draw(B, H) for _ in order) if len(order) > 1 else draw(B, H)

    def step(params: Any, state: Any, x: Any) -> Any:
        c = eqx.tree_at(lambda c: [getattr(c, name) for name in names], cell, [params[name] for name in names])
        new = jax.vmap(c)(x, state)
        return new, new[0] if len(order) > 1 else new

    return named_states(in_jax(step, params, state), order)


answer("equinox/lstm")(lambda: equinox("LSTMCell", ("weight_ih", "weight_hh", "bias"), "hc"))
answer("equinox/gru")(lambda: equinox("GRUCell", ("weight_ih", "weight_hh", "bias", "bias_n"), "h"))


# ---- Haiku


def haiku(cls: str, order: str) -> dict[str, Any]:
    import haiku as hk
    import jax

    def run(x: Any, state: Any) -> Any:
        core = getattr(hk, cls)(H)
        made = hk.LSTMState(*state) if len(order) > 1 else state
        y, new = core(x, made)
        return y, tuple(new) if len(order) > 1 else new

    transformed = hk.without_apply_rng(hk.transform(run))
    state = tuple(draw(B, H) for _ in order) if len(order) > 1 else draw(B, H)
    tree = transformed.init(jax.random.key(3), draw(B, I), state)
    flat = {name: draw(*value.shape) * 0.5 for parts in tree.values() for name, value in parts.items()}
    if cls == "LSTM":  # so that taking off the 1 that is added at run time is exact
        flat["b"] = np.round(flat["b"] * 64) / 64

    def step(params: Any, state: Any, x: Any) -> Any:
        nested = {module: {name: params[name] for name in parts} for module, parts in tree.items()}
        y, new = transformed.apply(nested, x, state)
        return new, y

    return named_states(in_jax(step, flat, state), order)


answer("haiku/lstm")(lambda: haiku("LSTM", "hc"))
answer("haiku/gru_reset_before")(lambda: haiku("GRU", "h"))


# ---- Keras


def keras(cls: str, order: str, **options: Any) -> dict[str, Any]:
    import keras as k

    layer = getattr(k.layers, cls)(H, return_sequences=True, return_state=True, bias_initializer="normal", **options)
    x, states = draw(B, T, I), [draw(B, H) for _ in order]
    layer(x, initial_state=states)
    params = {w.name: draw(*w.shape) * 0.5 for w in layer.weights}
    layer.set_weights([params[w.name] for w in layer.weights])
    y, *last = [k.ops.convert_to_numpy(v) for v in layer(x, initial_state=states)]
    return {
        "x": x.swapaxes(0, 1),
        "y": y.swapaxes(0, 1),
        "params": params,
        "s0": dict(zip(order, states)),
        "s_n": dict(zip(order, last)),
    }


answer("keras/rnn_tanh")(lambda: keras("SimpleRNN", "h"))
answer("keras/rnn_relu")(lambda: keras("SimpleRNN", "h", activation="relu"))
answer("keras/lstm")(lambda: keras("LSTM", "hc"))
answer("keras/gru")(lambda: keras("GRU", "h"))
answer("keras/gru_reset_before")(lambda: keras("GRU", "h", reset_after=False))


# ---- ONNX Runtime


def onnx(op: str, gates: int, order: str, peepholes: bool = False, **attributes: Any) -> dict[str, Any]:
    import onnx as o
    import onnxruntime

    shapes = {"W": (1, gates * H, I), "R": (1, gates * H, H), "B": (1, 2 * gates * H)}
    if peepholes:
        shapes["P"] = (1, 3 * H)
    params = {name: draw(*shape) * 0.5 for name, shape in shapes.items()}
    x, states = draw(T, B, I), {s: draw(1, B, H) for s in order}
    names = ["X", "W", "R", "B", "", *(f"initial_{s}" for s in order), *(["P"] if peepholes else [])]
    given = {"X": x, **params, **{f"initial_{s}": v for s, v in states.items()}}
    outputs = ["Y", *(f"Y_{s}" for s in order)]
    node = o.helper.make_node(op, names, outputs, hidden_size=H, **attributes)
    info = o.helper.make_tensor_value_info
    graph = o.helper.make_graph(
        [node],
        op,
        [info(name, o.TensorProto.FLOAT, value.shape) for name, value in given.items()],
        [info(name, o.TensorProto.FLOAT, None) for name in outputs],
    )
    model = o.helper.make_model(graph, opset_imports=[o.helper.make_opsetid("", 14)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y, *last = session.run(None, given)
    return {
        "x": x,
        "y": y[:, 0],
        "params": params,
        "s0": {s: v[0] for s, v in states.items()},
        "s_n": {s: v[0] for s, v in zip(order, last)},
    }


answer("onnx/rnn_tanh")(lambda: onnx("RNN", 1, "h"))
answer("onnx/rnn_relu")(lambda: onnx("RNN", 1, "h", activations=["Relu"]))
answer("onnx/lstm")(lambda: onnx("LSTM", 4, "hc"))
answer("onnx/lstm_peephole")(lambda: onnx("LSTM", 4, "hc", peepholes=True))
answer("onnx/gru")(lambda: onnx("GRU", 3, "h", linear_before_reset=1))
answer("onnx/gru_reset_before")(lambda: onnx("GRU", 3, "h"))


# ---- torch, for the flat buffer that cuDNN reads


def torch_flat(cls: str, order: str) -> dict[str, Any]:
    import torch

    torch.manual_seed(4)
    layer = getattr(torch.nn, cls)(I, H)
    flat = torch.cat([p.detach().flatten() for p in layer.parameters()])  # as flatten_parameters lays them out
    x, states = torch.tensor(draw(T, B, I)), [torch.tensor(draw(1, B, H)) for _ in order]
    y, last = layer(x, tuple(states) if len(order) > 1 else states[0])
    last = last if len(order) > 1 else (last,)
    return {
        "x": x,
        "y": y.detach(),
        "params": {"weights": flat},
        "s0": {s: v[0] for s, v in zip(order, states)},
        "s_n": {s: v[0].detach() for s, v in zip(order, last)},
    }


answer("cudnn/rnn_tanh")(lambda: torch_flat("RNN", "h"))
answer("cudnn/lstm")(lambda: torch_flat("LSTM", "hc"))
answer("cudnn/gru")(lambda: torch_flat("GRU", "h"))


# ---- MLX


def mlx(cls: str, order: str) -> dict[str, Any]:
    import mlx.core as mx
    import mlx.nn as nn

    mx.random.seed(5)
    layer = getattr(nn, cls)(I, H)  # every bias is random already
    params = layer.parameters()
    x, G, states = mx.array(draw(T, B, I)), mx.array(draw(T, B, H)), [mx.array(draw(B, H)) for _ in order]

    def loss(params: Any, x: Any, states: Any) -> Any:
        layer.update(params)
        every = layer(x.swapaxes(0, 1), *states)  # all states; those of the RNN and the GRU without a tuple
        y, *rest = [v.swapaxes(0, 1) for v in (every if len(order) > 1 else (every,))]
        return (y * G).sum(), y, [v[-1] for v in (y, *rest)]

    (_, y, last), (grads, dx, dstates) = mx.value_and_grad(loss, (0, 1, 2))(params, x, states)
    return {
        "x": x,
        "y": y,
        "doutput": G,
        "params": params,
        "grads": grads,
        "dx": dx,
        "s0": dict(zip(order, states)),
        "s_n": dict(zip(order, last)),
        "ds0": dict(zip(order, dstates)),
    }


answer("mlx/rnn_tanh")(lambda: mlx("RNN", "h"))
answer("mlx/lstm")(lambda: mlx("LSTM", "hc"))
answer("mlx/gru")(lambda: mlx("GRU", "h"))


# ---- TensorFlow 1, whose cells TensorFlow 2 still has


def tf1(cls: str, order: str) -> dict[str, Any]:
    import tensorflow as tf

    cell = getattr(tf.compat.v1.nn.rnn_cell, cls)(H)
    cell.build((B, I))
    names = [w.name.split("/")[-1].removesuffix(":0") for w in cell.weights]
    drawn = [draw(*w.shape) * 0.5 for w in cell.weights]
    params = dict(zip(names, drawn))
    params["bias"] = np.round(params["bias"] * 64) / 64  # so that taking off the 1 that is added at run time is exact
    cell.set_weights([params[name] for name in names])
    x, G, states = tf.constant(draw(T, B, I)), tf.constant(draw(T, B, H)), [tf.constant(draw(B, H)) for _ in order]
    with tf.GradientTape() as tape:
        tape.watch([x, *states])
        outputs, last = [], tuple(states)
        for t in range(T):
            output, last = cell(x[t], last)
            outputs.append(output)
        y = tf.stack(outputs)
        loss = tf.reduce_sum(y * G)
    grads, dx, dstates = tape.gradient(loss, (cell.weights, x, states))
    return {
        "x": x,
        "y": y,
        "doutput": G,
        "params": params,
        "grads": dict(zip(names, grads)),
        "dx": dx,
        "s0": dict(zip(order, states)),
        "s_n": dict(zip(order, last)),
        "ds0": dict(zip(order, dstates)),
    }


answer("tf1/lstm")(lambda: tf1("BasicLSTMCell", "ch"))


PACKAGES = {"haiku": "dm-haiku", "onnx": "onnxruntime", "cudnn": "torch", "tf1": "tf_keras"}


def main(path: Path) -> int:
    """Ask every system that is installed; say which is not."""
    found, problems = {}, 0
    for name, make in ANSWERS.items():
        system = name.split("/")[0]
        package = PACKAGES.get(system, system)
        try:
            version = importlib.metadata.version(package)
            found[name] = {"version": f"{package} {version}", **{k: plain(v) for k, v in make().items()}}
            print(f"{name}: {package} {version}")
        except importlib.metadata.PackageNotFoundError:
            print(f"{name}: {package} is not installed")
            problems += 1
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in found.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).parent / "interop.json"))
