"""Who is measured: one function a contestant.

Each takes a problem and returns a function without arguments for every mode that it knows. What can be done before a
layer sees its data belongs outside of these: converting weights, building a graph, compiling. A call returns the
output, the final states and, with backward, dx and the gradients of the initial states and of the parameters: the order
of `problem.names`. No library is imported before it is needed.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .points import GATES
from .problem import Array, Problem

Calls = dict[str, Callable[[], tuple[Any, ...]]]


class UnfitError(Exception):
    """A contestant does not take part in a setting; the message says why."""


def numpy_rnn(problem: Problem) -> Calls:
    """numpy_rnn: pure NumPy, the backward pass written by hand."""
    import numpy_rnn

    cell, (_, _, I, H, L, D), dtype = problem.setting[:3]
    layer = getattr(numpy_rnn, cell.upper())(I, H, num_layers=L, bidirectional=D == 2, dtype=dtype)
    layer.load_state_dict(problem.parameters)
    x, state, doutput, dstate = problem.x, _hidden(problem.states), problem.doutput, _hidden(problem.dstates)

    def forward() -> tuple[Any, ...]:
        output, final = layer(x, state)
        return output, *_flat(final)

    def training_forward() -> tuple[Any, ...]:
        output, final, _ = layer.forward(x, state)
        return output, *_flat(final)

    def forward_backward() -> tuple[Any, ...]:
        output, final, tape = layer.forward(x, state)
        grads, dx, dinitial = layer.backward(tape, doutput, dstate)
        return output, *_flat(final), dx, *_flat(dinitial), *(grads[name] for name in problem.parameters)

    return {"forward": forward, "training-forward": training_forward, "forward-backward": forward_backward}


def _hidden(states: tuple[Any, ...]) -> Any:
    """The state as a layer takes it: h, or the pair (h, c)."""
    return states if len(states) > 1 else states[0]


def _flat(hidden: Any) -> tuple[Any, ...]:
    return hidden if isinstance(hidden, tuple) else (hidden,)


def torch_nn(problem: Problem) -> Calls:
    """torch.nn: on a CPU float32 LSTM is oneDNN's; on a GPU all is cuDNN's."""
    import torch

    return _torch_layer(torch.nn, problem)


def torch_rnn_loop(problem: Problem) -> Calls:
    """torch_rnn as it is by default: the explicit loop under autograd."""
    import torch_rnn

    return _torch_layer(torch_rnn, problem, bptt="autograd")


def torch_rnn_manual(problem: Problem) -> Calls:
    """torch_rnn with the hand-written backward pass inside autograd."""
    import torch_rnn

    return _torch_layer(torch_rnn, problem, bptt="manual")


def _torch_layer(library: Any, problem: Problem, **options: Any) -> Calls:
    """torch.nn and torch_rnn have the same constructor, parameters and results."""
    import torch

    cell, (_, _, I, H, L, D), dtype_name, threads, device = problem.setting
    torch.set_num_threads(threads)
    if device == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = dtype_name == "tf32"
    dtype = torch.float32 if dtype_name == "tf32" else getattr(torch, dtype_name)

    def tensor(a: Array) -> torch.Tensor:
        return torch.tensor(a, dtype=dtype, device=device)

    layer = getattr(library, cell.upper())(I, H, num_layers=L, bidirectional=D == 2, **options).to(device, dtype)
    layer.load_state_dict({name: tensor(p) for name, p in problem.parameters.items()})
    weights = [layer.get_parameter(name) for name in problem.parameters]
    x, initial = tensor(problem.x).requires_grad_(), tuple(tensor(s).requires_grad_() for s in problem.states)
    upstream = [tensor(g) for g in (problem.doutput, *problem.dstates)]

    def training_forward() -> tuple[Any, ...]:
        output, final = layer(x, _hidden(initial))
        return output, *_flat(final)

    def forward() -> tuple[Any, ...]:
        with torch.inference_mode():
            return training_forward()

    def forward_backward() -> tuple[Any, ...]:
        results = training_forward()
        return *results, *torch.autograd.grad(results, [x, *initial, *weights], upstream)

    return {"forward": forward, "training-forward": training_forward, "forward-backward": forward_backward}


def torch_rnn_gpu(problem: Problem) -> Calls:
    """torch_rnn with its kernels for NVIDIA's GPUs."""
    importlib.import_module("torch_rnn.gpu").enable()
    return torch_rnn_manual(problem)


def in_cuda_graphs(prepare: Callable[[Problem], Calls]) -> Callable[[Problem], Calls]:
    """The same contestant in a CUDA graph for each mode, which launches all of its kernels at once."""

    def captured(problem: Problem) -> Calls:
        return {mode: capture(call) for mode, call in prepare(problem).items()}

    return captured


def capture(call: Callable[[], tuple[Any, ...]]) -> Callable[[], tuple[Any, ...]]:
    """Capture what a call launches, and make a function that replays it into the same tensors."""
    import torch

    if not torch.cuda.is_available():  # as at a worker's first call, which is for the CPU
        return call
    stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call, unused-ignore]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # libraries set themselves up in their first calls, which no graph can hold
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()

    def replay() -> tuple[Any, ...]:
        graph.replay()
        return results

    return replay


def jax_scan(problem: Problem) -> Calls:
    """JAX: a compiled scan over time, with the input product before the loop, as people who know JAX write it."""
    one_layer(problem)
    os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
    if hasattr(os, "sched_setaffinity"):  # XLA makes as many threads as there are cores for it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: problem.setting.threads])
    import jax
    import jax.numpy as jnp

    step = jax_step(problem.setting.cell)

    def layer(p: Any, x: Any, state: Any) -> Any:
        u = x @ p["weight_ih_l0"].T + p["bias_ih_l0"]

        def body(state: Any, u_t: Any) -> Any:
            state = step(state, u_t, state[0] @ p["weight_hh_l0"].T + p["bias_hh_l0"])
            return state, state[0]

        final, output = jax.lax.scan(body, state, u)
        return output, final

    def with_gradients(p: Any, x: Any, state: Any, upstream: Any) -> Any:
        results, transpose = jax.vjp(layer, p, x, state)
        return results, transpose(upstream)

    inference, training, both = jax.jit(layer), jax.jit(lambda *a: jax.vjp(layer, *a)), jax.jit(with_gradients)
    p, x, doutput = jax.tree.map(jnp.asarray, (problem.parameters, problem.x, problem.doutput))
    state, dstate = (tuple(jnp.asarray(s[0]) for s in states) for states in (problem.states, problem.dstates))

    ready: Any = jax.block_until_ready

    def forward() -> tuple[Any, ...]:
        output, final = ready(inference(p, x, state))
        return output, *(s[None] for s in final)

    def training_forward() -> tuple[Any, ...]:
        (output, final), _ = ready(training(p, x, state))
        return output, *(s[None] for s in final)

    def forward_backward() -> tuple[Any, ...]:
        (output, final), (dp, dx, ds) = ready(both(p, x, state, (doutput, dstate)))
        return output, *(s[None] for s in final), dx, *(s[None] for s in ds), *(dp[name] for name in problem.parameters)

    return {"forward": forward, "training-forward": training_forward, "forward-backward": forward_backward}


def jax_step(cell: str) -> Callable[..., tuple[Any, ...]]:
    """One step: the next state, of the state, the input side u and the hidden side v of the pre-activation."""
    import jax.numpy as jnp
    from jax.nn import sigmoid

    def rnn(state: Any, u: Any, v: Any) -> tuple[Any, ...]:
        return (jnp.tanh(u + v),)

    def gru(state: Any, u: Any, v: Any) -> tuple[Any, ...]:
        (u_r, u_z, u_n), (v_r, v_z, v_n) = jnp.split(u, 3, axis=-1), jnp.split(v, 3, axis=-1)
        z = sigmoid(u_z + v_z)
        return ((1 - z) * jnp.tanh(u_n + sigmoid(u_r + v_r) * v_n) + z * state[0],)

    def lstm(state: Any, u: Any, v: Any) -> tuple[Any, ...]:
        i, f, g, o = jnp.split(u + v, 4, axis=-1)
        c = sigmoid(f) * state[1] + sigmoid(i) * jnp.tanh(g)
        return sigmoid(o) * jnp.tanh(c), c

    return {"rnn": rnn, "gru": gru, "lstm": lstm}[cell]


def onnxruntime(problem: Problem) -> Calls:
    """ONNX Runtime: the layer as one operator of the ONNX standard. It has float32 kernels, and no backward."""
    one_layer(problem)
    if problem.setting.dtype != "float32":
        raise UnfitError("has float32 kernels only")
    import onnxruntime  # type: ignore[import-untyped, import-not-found, unused-ignore]

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads, options.inter_op_num_threads = problem.setting.threads, 1
    session = onnxruntime.InferenceSession(onnx_model(problem), options, providers=["CPUExecutionProvider"])
    feeds = {"X": problem.x, **dict(zip(("initial_h", "initial_c"), problem.states))}

    def forward() -> tuple[Any, ...]:
        output, *final = session.run(None, feeds)  # (T, D, B, H), (D, B, H)
        return output[:, 0], *final

    return {"forward": forward}


def onnx_model(problem: Problem) -> bytes:
    """Write a model of one node; its gates stand in ONNX's order, LSTM i o f c, GRU z r h."""
    from onnx import TensorProto, helper, numpy_helper

    cell, (T, B, I, H, *_) = problem.setting[:2]
    order = {"rnn": (0,), "gru": (1, 0, 2), "lstm": (0, 3, 1, 2)}[cell]

    def reorder(name: str) -> Array:
        gates = np.split(problem.parameters[f"{name}_l0"], len(order))
        return np.concatenate([gates[k] for k in order])

    biases = np.concatenate([reorder("bias_ih"), reorder("bias_hh")])
    weights = {"W": reorder("weight_ih")[None], "R": reorder("weight_hh")[None], "B": biases[None]}
    inputs, outputs = {"X": (T, B, I), "initial_h": (1, B, H)}, {"Y": (T, 1, B, H), "Y_h": (1, B, H)}
    if cell == "lstm":
        inputs["initial_c"] = outputs["Y_c"] = (1, B, H)
    attributes: dict[str, Any] = {"hidden_size": H} | (
        {"linear_before_reset": 1} if cell == "gru" else {}
    )  # torch's GRU
    names = ["X", "W", "R", "B", "", *list(inputs)[1:]]  # "": the lengths are left out
    node = helper.make_node(cell.upper(), names, list(outputs), **attributes)
    described = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in side.items()]
        for side in (inputs, outputs)
    )
    initializers = [numpy_helper.from_array(w, name) for name, w in weights.items()]
    graph = helper.make_graph([node], "layer", next(described), next(described), initializers)
    # The lowest opset and format that have these operators in their present form: any newer runtime reads them.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    return bytes(model.SerializeToString())


def floor(problem: Problem) -> Calls:
    """The matrix products that nobody can do without, by NumPy's BLAS, into arrays that are there already.

    The recurrent products, one after the other, are tried with vectors as rows and as columns, by `matmul` and `dot`:
    the quickest way counts.
    """
    one_layer(problem)
    cell, (T, B, I, H, *_), dtype = problem.setting[:3]
    GH = GATES[cell] * H
    x, h, a, dh = (np.full((T, B, n), 0.5, dtype) for n in (I, H, GH, H))
    W_ih, W_hh = np.full((GH, I), 0.1, dtype), np.full((GH, H), 0.1, dtype)
    dx, dW_ih, dW_hh = np.empty_like(x), np.empty_like(W_ih), np.empty_like(W_hh)

    def quickest(vectors: Array, W: Array, out: Array) -> Callable[[], None]:
        W, W_T = np.ascontiguousarray(W), np.ascontiguousarray(W.T)
        rows = [(vectors[t], W_T, out[t]) for t in range(T)]
        columns = [(W, vectors[t].reshape(-1, B), out[t].reshape(-1, B)) for t in range(T)]
        ways = itertools.product((np.matmul, np.dot), (rows, columns))
        product, operands = min(ways, key=lambda way: min(_seconds(way[0], way[1][:50]) for _ in range(8)))
        return lambda: _multiply(product, operands)

    up, down = quickest(h, W_hh, a), quickest(a, W_hh.T, dh)
    flat_x, flat_h, flat_a, flat_dx = (z.reshape(T * B, -1) for z in (x, h, a, dx))

    def forward() -> tuple[Any, ...]:
        np.matmul(flat_x, W_ih.T, out=flat_a)
        up()
        return ()

    def forward_backward() -> tuple[Any, ...]:
        forward()
        down()
        np.matmul(flat_a.T, flat_h, out=dW_hh)
        np.matmul(flat_a.T, flat_x, out=dW_ih)
        np.matmul(flat_a, W_ih, out=flat_dx)
        return ()

    return {"forward": forward, "training-forward": forward, "forward-backward": forward_backward}


def _multiply(product: Any, operands: list[tuple[Array, Array, Array]]) -> None:
    for a, b, out in operands:
        product(a, b, out)


def _seconds(product: Any, operands: list[tuple[Array, Array, Array]]) -> float:
    start = time.perf_counter()
    _multiply(product, operands)
    return time.perf_counter() - start


def one_layer(problem: Problem) -> None:
    """Take part with one layer and one direction only."""
    if problem.setting.point[4:] != (1, 1):
        raise UnfitError("written for one layer and one direction")


class Contestant(NamedTuple):
    """A function of this module and what it needs."""

    prepare: Callable[[Problem], Calls]
    packages: tuple[str, ...]
    devices: tuple[str, ...] = ("cpu",)


BOTH = ("cpu", "cuda")
CONTESTANTS = {
    "numpy_rnn": Contestant(numpy_rnn, ("numpy",)),
    "torch_rnn": Contestant(torch_rnn_loop, ("torch",), BOTH),
    "torch_rnn-manual": Contestant(torch_rnn_manual, ("torch",), BOTH),
    "torch_rnn-gpu": Contestant(torch_rnn_gpu, ("torch",), ("cuda",)),
    "torch_rnn-gpu-graph": Contestant(in_cuda_graphs(torch_rnn_gpu), ("torch",), ("cuda",)),
    "torch.nn": Contestant(torch_nn, ("torch",), BOTH),
    "torch.nn-graph": Contestant(in_cuda_graphs(torch_nn), ("torch",), ("cuda",)),
    "jax": Contestant(jax_scan, ("jax", "jaxlib")),
    "onnxruntime": Contestant(onnxruntime, ("onnx", "onnxruntime")),
    "floor": Contestant(floor, ("numpy",)),
}
OURS = ("numpy_rnn", "torch_rnn", "torch_rnn-manual")
BEFORE = "-before"  # behind one of these names: the same, imported from another checkout


def contestant(name: str) -> Contestant:
    """The contestant of that name."""
    return CONTESTANTS[name.removesuffix(BEFORE)]


def missing(name: str) -> str | None:
    """The package that a contestant lacks here, if any."""
    return next((p for p in contestant(name).packages if importlib.util.find_spec(p) is None), None)
