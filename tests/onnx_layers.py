"""A layer's weights as one ONNX operator, and that operator run by ONNX Runtime.

Written from the operators' specification (RNN-14, LSTM-14, GRU-14 of the ONNX standard) for the tests alone: nothing
of the package is called, so that a mistake there cannot be repeated here.

ONNX's gate orders are i o f c (LSTM; peepholes i o f) and z r h (GRU). Both biases stand in one row, those of the
input first. The outputs are Y (T, D, B, H), Y_h and Y_c (D, B, H).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

# Skips whatever imports this file, and this file's own collection, where the extra is not installed.
onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'numpy-rnn[dev]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'numpy-rnn[dev]'")

# Which of our blocks of rows (RNN; LSTM i f g o; GRU r z n) stands at each place of ONNX's.
GATES = {"RNN": (0,), "LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}
PEEPHOLES = (0, 2, 1)  # of our i f o
TYPES = {np.dtype(np.float32): onnx.TensorProto.FLOAT, np.dtype(np.int32): onnx.TensorProto.INT32}
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")  # their order; RNN and GRU have six


class Operator(NamedTuple):
    """One ONNX recurrent operator: name, attributes, and the weights that it is given as inputs."""

    op: str
    attributes: dict[str, Any]
    weights: dict[str, np.ndarray]


def permuted(rows: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """The blocks of rows in another order."""
    blocks = np.split(rows, len(order))
    return np.concatenate([blocks[k] for k in order])


def operator(
    op: str,
    state: Mapping[str, np.ndarray],
    H: int,
    layer: int = 0,
    directions: Sequence[str] = ("",),
    order: Sequence[int] | None = None,
    **attributes: Any,
) -> Operator:
    """The ONNX operator that holds one layer of a state_dict.

    Parameters
    ----------
    op : "RNN", "LSTM" or "GRU"
    state : mapping of str to array
        Parameters by torch's names.
    H : int
    layer : int
    directions : suffixes of the parameters' names
        ("",) forward, ("_reverse",) reverse, ("", "_reverse") both.
    order : sequence of int, optional
        The gates' order, where a test wants a wrong one.
    **attributes
        Of the operator, beside hidden_size and direction.

    Returns
    -------
    Operator
    """
    order = GATES[op] if order is None else order

    def get(name: str, suffix: str) -> np.ndarray:
        return state[f"{name}_l{layer}{suffix}"]

    weights = {
        "W": np.stack([permuted(get("weight_ih", d), order) for d in directions]),
        "R": np.stack([permuted(get("weight_hh", d), order) for d in directions]),
    }
    if f"bias_ih_l{layer}" in state:
        biases = [[permuted(get(name, d), order) for name in ("bias_ih", "bias_hh")] for d in directions]
        weights["B"] = np.stack([np.concatenate(both) for both in biases])
    if f"weight_peephole_l{layer}" in state:
        weights["P"] = np.stack([permuted(get("weight_peephole", d), PEEPHOLES) for d in directions])
    direction = "bidirectional" if len(directions) == 2 else "reverse" if directions[0] else "forward"
    return Operator(op, {"hidden_size": H, "direction": direction, **attributes}, weights)


def run(
    operator: Operator,
    x: np.ndarray,
    states: Sequence[np.ndarray] | None = None,
    lengths: Sequence[int] | None = None,
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """What ONNX Runtime computes, in torch's layout.

    Parameters
    ----------
    operator : Operator
    x : array (T, B, I), float32
    states : arrays (D, B, H), optional
        initial_h and, for an LSTM, initial_c.
    lengths : B whole numbers, optional

    Returns
    -------
    output : array (T, B, D·H)
    finals : tuple of arrays (D, B, H)
        Y_h and, for an LSTM, Y_c.
    """
    op, attributes, weights = operator
    values = {"X": x, **weights, **dict(zip(("initial_h", "initial_c"), states or ()))}
    if lengths is not None:
        values["sequence_lens"] = np.array(lengths, np.int32)
    outputs = ["Y", "Y_h", "Y_c"] if op == "LSTM" else ["Y", "Y_h"]
    used = [name if name in values else "" for name in INPUTS]  # "": an optional input that is left out
    used = used[: 1 + max(k for k, name in enumerate(used) if name)]
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT  # the only floating-point kernels that there are
    graph = helper.make_graph(
        [helper.make_node(op, used, outputs, **attributes)],
        "layer",
        [helper.make_tensor_value_info(name, TYPES[v.dtype], v.shape) for name, v in values.items()],
        [helper.make_tensor_value_info(name, float32, [None] * rank) for name, rank in zip(outputs, (4, 3, 3))],
    )
    # The lowest opset and format that have these operators in their present form, so any newer runtime reads them.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    Y, *finals = session_of(model.SerializeToString()).run(None, values)
    T, D, B, H = Y.shape
    return Y.transpose(0, 2, 1, 3).reshape(T, B, D * H), tuple(finals)


def session_of(model: bytes) -> Any:
    """ONNX Runtime with the model loaded: on the CPU, one thread, silent but for fatal errors."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
