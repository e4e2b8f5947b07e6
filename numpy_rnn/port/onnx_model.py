"""Any of our layers as an ONNX model: by ONNX's own operators, or, with a projection, as a Scan over the equations.

    inputs    x (T, B, I), h_0 (L·D, B, R), for an LSTM c_0 (L·D, B, H); with `lengths` int32 (B,)
    outputs   output (T, B, D·R), h_n, for an LSTM c_n

Operators of opset 14 (https://onnx.ai/onnx/operators). Needs the package onnx; ONNX Runtime or any other runs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..fast.numerics import Array
from ..fast.registry import CELLS, TORCH_NAMES
from ..layers.files import MissingLibraryError
from .conventions import ConventionError, to_system

OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn_tanh": ("RNN", {"activations": ["Tanh"]}),
    "rnn_relu": ("RNN", {"activations": ["Relu"]}),
    "lstm": ("LSTM", {}),
    "lstm_peephole": ("LSTM", {}),
    "gru": ("GRU", {"linear_before_reset": 1}),
    "gru_reset_before": ("GRU", {"linear_before_reset": 0}),
}


def model(cell: str, state: Mapping[str, Array], *, lengths: bool = False) -> Any:
    """Make an ONNX model of a layer.

    Parameters
    ----------
    cell : str
        Name of a cell, such as "lstm" or "gru_reset_before".
    state : mapping of str to array
        The layer's `state_dict()`, layers and directions as there are. Numbers become float32.
    lengths : bool
        Whether the model takes the sequences' lengths. Not with a projection.

    Raises
    ------
    ConventionError
        If a parameter is missing, or lengths are asked for with a projection.
    MissingLibraryError
        If onnx is not installed.
    """
    if cell == "lstm_projection" and lengths:
        raise ConventionError("a projection becomes a Scan, which knows no lengths")
    graph = _Graph(cell, {name: np.asarray(a, np.float32) for name, a in state.items()}, lengths)
    return graph.model()


class _Graph:
    """A graph under construction."""

    def __init__(self, cell: str, state: Mapping[str, Array], lengths: bool) -> None:
        try:
            import onnx
        except ModuleNotFoundError:
            raise MissingLibraryError("an ONNX model needs onnx: pip install onnx") from None
        self.onnx, self.helper = onnx, onnx.helper
        self.cell, self.state, self.lengths = cell, state, lengths
        self.D = 2 if any(name.endswith("_reverse") for name in state) else 1
        self.L = len({name.removesuffix("_reverse") for name in state if name.startswith("weight_hh_l")})
        self.states = CELLS[cell].State._fields
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def model(self) -> Any:
        """Layer upon layer."""
        if not self.L:
            raise ConventionError(f"there is no weight_hh_l0 among {', '.join(self.state)}")
        y = "x"
        finals: dict[str, list[str]] = {s: [] for s in self.states}
        for l in range(self.L):
            make = self._projection if self.cell == "lstm_projection" else self._operator
            y, last = make(l, y)
            for s, name in last.items():
                finals[s].append(name)
        self.node("Identity", [y], ["output"])
        for s, names in finals.items():
            self.node("Concat", names, [f"{s}_n"], axis=0)
        return self._model()

    def node(self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        """Add an operation."""
        self.nodes.append(self.helper.make_node(op, inputs, outputs, **attributes))

    def constant(self, name: str, value: Array) -> str:
        """Add numbers; returns their name."""
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def params(self, l: int, d: int) -> dict[str, Array]:
        """The parameters of a layer and direction by our names; biases that are not there are zero."""
        suffix = f"_l{l}{'_reverse' if d else ''}"
        found = {f: self.state[n + suffix] for f, n in TORCH_NAMES.items() if n + suffix in self.state}
        if missing := {"W_ih", "W_hh"} - set(found):
            raise ConventionError(f"{', '.join(TORCH_NAMES[f] + suffix for f in sorted(missing))} is missing")
        zero = np.zeros(len(found["W_ih"]), np.float32)
        return {"b_ih": zero, "b_hh": zero, **found}

    def initial(self, l: int, s: str, d: int | None = None) -> str:
        """Rows of an initial state: those of a layer, or of one of its directions."""
        first = l * self.D + (d or 0)
        rows = [first, first + (self.D if d is None else 1)]
        name = f"{s}_0_{first}_{rows[1]}"
        where = [self.constant(f"{name}_{k}", np.array([row])) for k, row in enumerate(rows)]
        self.node("Slice", [f"{s}_0", *where], [name])
        return name

    def _operator(self, l: int, x: str) -> tuple[str, dict[str, str]]:
        """A layer by ONNX's own operator."""
        op, attributes = OPERATORS[self.cell]
        attributes = {k: v * self.D if k == "activations" else v for k, v in attributes.items()}
        directions = [to_system("onnx", self.cell, self.params(l, d)) for d in range(self.D)]
        weights = {k: self.constant(f"{k}_l{l}", np.concatenate([p[k] for p in directions])) for k in directions[0]}
        inputs = [x, weights["W"], weights["R"], weights["B"], "lengths" if self.lengths else ""]
        inputs += [self.initial(l, s) for s in self.states] + ([weights["P"]] if "P" in weights else [])
        H = directions[0]["R"].shape[2]
        last = {s: f"{s}_n_l{l}" for s in self.states}
        way = "bidirectional" if self.D == 2 else "forward"
        self.node(op, inputs, [f"Y_l{l}", *last.values()], hidden_size=H, direction=way, **attributes)
        self.node("Transpose", [f"Y_l{l}"], [f"Y_l{l}_rows"], perm=[0, 2, 1, 3])
        shape = self.constant(f"shape_l{l}", np.array([0, 0, -1]))
        self.node("Reshape", [f"Y_l{l}_rows", shape], [f"y_l{l}"])
        return f"y_l{l}", last

    def _projection(self, l: int, x: str) -> tuple[str, dict[str, str]]:
        """A layer of LSTMs with projection: a Scan over one step's equations for each direction."""
        outputs: list[str] = []
        finals: dict[str, list[str]] = {s: [] for s in self.states}
        for d in range(self.D):
            tag = f"l{l}_{d}"
            start = []
            for s in self.states:
                axis = self.constant(f"axis_{s}_{tag}", np.array([0]))
                self.node("Squeeze", [self.initial(l, s, d), axis], [f"{s}_{tag}"])
                start.append(f"{s}_{tag}")
            self.node(
                "Scan",
                [*start, x],
                [*(f"{s}_last_{tag}" for s in self.states), f"y_{tag}"],
                body=self._step(l, d),
                num_scan_inputs=1,
                scan_input_directions=[d],
                scan_output_directions=[d],
            )
            outputs.append(f"y_{tag}")
            for s in self.states:
                axis = self.constant(f"new_axis_{s}_{tag}", np.array([0]))
                self.node("Unsqueeze", [f"{s}_last_{tag}", axis], [f"{s}_row_{tag}"])
                finals[s].append(f"{s}_row_{tag}")
        self.node("Concat", outputs, [f"y_l{l}"], axis=2)
        last = {s: f"{s}_n_l{l}" for s in self.states}
        for s, names in finals.items():
            self.node("Concat", names, [last[s]], axis=0)
        return f"y_l{l}", last

    def _step(self, l: int, d: int) -> Any:
        """One step: h (B, R), c (B, H) and x_t (B, ·) to h, c and h again."""
        node, tensor = self.helper.make_node, self.onnx.numpy_helper.from_array
        p = self.params(l, d)
        if "W_hr" not in p:
            raise ConventionError(f"weight_hr_l{l} is missing")
        constants = {"W_ih_T": p["W_ih"].T, "W_hh_T": p["W_hh"].T, "b": p["b_ih"] + p["b_hh"], "W_hr_T": p["W_hr"].T}
        nodes = [
            node("MatMul", ["x_t", "W_ih_T"], ["a_x"]),
            node("MatMul", ["h", "W_hh_T"], ["a_h"]),
            node("Add", ["a_x", "a_h"], ["a_sum"]),
            node("Add", ["a_sum", "b"], ["a"]),
            node("Split", ["a"], ["a_i", "a_f", "a_g", "a_o"], axis=1),
            *(node("Sigmoid", [f"a_{gate}"], [gate]) for gate in "ifo"),
            node("Tanh", ["a_g"], ["g"]),
            node("Mul", ["f", "c"], ["kept"]),
            node("Mul", ["i", "g"], ["new"]),
            node("Add", ["kept", "new"], ["c_next"]),
            node("Tanh", ["c_next"], ["tanh_c"]),
            node("Mul", ["o", "tanh_c"], ["m"]),
            node("MatMul", ["m", "W_hr_T"], ["h_next"]),
            node("Identity", ["h_next"], ["h_out"]),
        ]
        info = self.helper.make_tensor_value_info
        kind, R, H = self.onnx.TensorProto.FLOAT, *p["W_hr"].shape
        given = [("h", R), ("c", H), ("x_t", p["W_ih"].shape[1])]
        return self.helper.make_graph(
            nodes,
            f"step_l{l}_{d}",
            [info(name, kind, ["B", size]) for name, size in given],
            [info(name, kind, ["B", size]) for name, size in (("h_next", R), ("c_next", H), ("h_out", R))],
            [tensor(np.ascontiguousarray(value), name) for name, value in constants.items()],
        )

    def _model(self) -> Any:
        info, kind = self.helper.make_tensor_value_info, self.onnx.TensorProto.FLOAT
        first = self.params(0, 0)
        R, rows = first["W_hh"].shape[1], self.L * self.D
        units = {"h": R, "c": len(first["W_hh"]) // CELLS[self.cell].gates}
        given = [info("x", kind, ["T", "B", first["W_ih"].shape[1]])]
        given += [info(f"{s}_0", kind, [rows, "B", units[s]]) for s in self.states]
        given += [info("lengths", self.onnx.TensorProto.INT32, ["B"])] if self.lengths else []
        made = [info("output", kind, ["T", "B", self.D * R])]
        made += [info(f"{s}_n", kind, [rows, "B", units[s]]) for s in self.states]
        graph = self.helper.make_graph(self.nodes, self.cell, given, made, self.constants)
        opset = self.helper.make_opsetid("", 14)
        found = self.helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="numpy-rnn")
        self.onnx.checker.check_model(found)
        return found
