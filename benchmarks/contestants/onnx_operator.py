"""ONNX Runtime: the layer as one operator of the ONNX standard. Inference and float32 only: it has no other kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..problem import Array, Problem, named
from . import Ready, UnfitError

# Which of torch's blocks of rows stands at each place of ONNX's: LSTM i o f c, GRU z r h.
ORDER = {"rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Build a session with the weights inside."""
    if problem.dtype != "float32":
        raise UnfitError("has float32 kernels only")
    if problem.point.L > 1 or problem.point.D > 1 or problem.point.ragged:
        raise UnfitError("written for one layer, one direction and equal lengths")
    import onnxruntime  # type: ignore[import-untyped, import-not-found, unused-ignore]

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(_model(problem), options, providers=["CPUExecutionProvider"])
    feeds = {"X": problem.x, **dict(zip(("initial_h", "initial_c"), problem.states))}

    def forward() -> Any:
        return session.run(None, feeds)

    def arrays(result: Any) -> dict[str, Array]:
        Y, *finals = result  # (T, D, B, H), (D, B, H)
        return named(Y[:, 0], finals)

    return Ready({"forward": forward}, arrays)


def _model(problem: Problem) -> bytes:
    from onnx import TensorProto, checker, helper, numpy_helper

    T, B, I, H = problem.point[:4]
    order = ORDER[problem.cell]

    def rows(name: str) -> Array:
        blocks = np.split(problem.parameters[f"{name}_l0"], len(order))
        return np.concatenate([blocks[k] for k in order])

    weights = {
        "W": rows("weight_ih")[None],
        "R": rows("weight_hh")[None],
        "B": np.concatenate([rows("bias_ih"), rows("bias_hh")])[None],
    }
    inputs, outputs = {"X": (T, B, I), "initial_h": (1, B, H)}, {"Y": (T, 1, B, H), "Y_h": (1, B, H)}
    attributes: dict[str, Any] = {"hidden_size": H}
    if problem.cell == "lstm":
        inputs["initial_c"] = outputs["Y_c"] = (1, B, H)
    if problem.cell == "gru":
        attributes["linear_before_reset"] = 1  # torch's: reset after the product
    names = ["X", "W", "R", "B", "", *list(inputs)[1:]]  # "": sequence_lens, left out
    node = helper.make_node(problem.cell.upper(), names, list(outputs), **attributes)
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.ascontiguousarray(w), name) for name, w in weights.items()],
    )
    # The lowest opset and format that have these operators in their present form, so any newer runtime reads them.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    checker.check_model(model)
    return bytes(model.SerializeToString())
