"""What the contestants compute with, and how a result is compared with the reference."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .points import GATES, Point, parse

Array = NDArray[Any]

CELLS = tuple(GATES)
CPU_DTYPES = ("float32", "float64")
# On a GPU: float32 with TF32 off, the same numbers with TF32 on, and the narrow types, which are there for their speed.
CUDA_DTYPES = ("float32", "tf32", "bfloat16", "float16", "float64")
# Inference; forward that keeps what backward needs; that and the gradients of all parameters, x and initial states.
MODES = ("forward", "training-forward", "forward-backward")

# More is a mistake, not rounding: some 50 times what correct contestants show on a CPU, 9 times what cuDNN shows in
# float32. Of the coarser types less, or half a value would pass: 3 to 4 times the most that an H200 has shown of TF32
# and bfloat16, 1.6e-3 and 1.1e-2. Float16, not measured there, rounds to 11 bits as TF32 does, 8 times as finely as
# bfloat16.
BOUNDS = {"float64": 1e-10, "float32": 1e-4, "tf32": 5e-3, "bfloat16": 4e-2, "float16": 5e-3}


class Setting(NamedTuple):
    """What is measured at a time, by all contestants in turns."""

    cell: str
    point: Point
    dtype: str
    threads: int
    device: str = "cpu"

    def to_json(self) -> dict[str, Any]:
        """As plain values, the point by its name."""
        return {**self._asdict(), "point": self.point.name}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Setting:
        """Undo `to_json`."""
        fields = {name: values[name] for name in cls._fields}
        return cls(**{**fields, "point": parse(fields["point"])})

    @property
    def label(self) -> str:
        """For people.

        Examples
        --------
        >>> Setting("lstm", Point(6, 3, 10, 20), "float32", 2).label
        'lstm 6x3x10x20 float32, 2 threads'
        """
        where = f"{self.threads} thread{'s' if self.threads > 1 else ''}" if self.device == "cpu" else self.device
        return f"{self.cell} {self.point.name} {self.dtype}, {where}"


class Problem(NamedTuple):
    """One setting's numbers. Every contestant gets the same, whatever the dtype: they are exact in float32."""

    cell: str
    point: Point
    dtype: str  # of the computation; the arrays are float64 for "float64", else float32
    parameters: dict[str, Array]  # torch.nn's names
    x: Array  # (T, B, I)
    states: tuple[Array, ...]  # initial ones, (L·D, B, H): h, and c of an LSTM
    doutput: Array  # (T, B, D·H)
    dstates: tuple[Array, ...]  # gradients by the final states


def make(cell: str, point: Point, dtype: str) -> Problem:
    """Draw a problem: weights uniform in ±1/√H, everything else standard normal, the initial states not zero.

    Examples
    --------
    >>> problem = make("gru", Point(5, 2, 3, 4, D=2), "float64")
    >>> problem.parameters["weight_hh_l0_reverse"].shape, problem.doutput.shape
    ((12, 4), (5, 2, 8))
    """
    rng = np.random.default_rng(zlib.crc32(f"{cell} {point.name}".encode()))
    T, B, I, H, L, D, _ = point
    array_type = "float64" if dtype == "float64" else "float32"

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape, dtype=np.float32).astype(array_type, copy=False)

    def uniform(*shape: int) -> Array:
        bound = 1 / math.sqrt(H)
        return rng.uniform(-bound, bound, shape).astype(np.float32).astype(array_type)

    parameters, GH = {}, GATES[cell] * H
    for l in range(L):
        for suffix in ("", "_reverse")[:D]:
            parameters[f"weight_ih_l{l}{suffix}"] = uniform(GH, point.inputs(l))
            parameters[f"weight_hh_l{l}{suffix}"] = uniform(GH, H)
            parameters[f"bias_ih_l{l}{suffix}"] = uniform(GH)
            parameters[f"bias_hh_l{l}{suffix}"] = uniform(GH)
    n_states = 2 if cell == "lstm" else 1
    return Problem(
        cell,
        point,
        dtype,
        parameters,
        normal(T, B, I),
        tuple(normal(L * D, B, H) for _ in range(n_states)),
        normal(T, B, D * H),
        tuple(normal(L * D, B, H) for _ in range(n_states)),
    )


def named(
    output: Any, states: Any, dx: Any = None, dstates: Any = (), gradients: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Give the results of a call their names; `gradients` are those by the parameters, under the parameters' names.

    Examples
    --------
    >>> named(1, (2, 3))
    {'output': 1, 'h_n': 2, 'c_n': 3}
    """
    results = {"output": output, **dict(zip(("h_n", "c_n"), states))}
    if gradients is not None:
        results |= {"dx": dx, **dict(zip(("dh_0", "dc_0"), dstates))}
        results |= {f"d{name}": g for name, g in gradients.items()}
    return results


def bound(dtype: str, point: Point) -> float:
    """How large an error may be; sums over more than 10 000 terms may lose more, as √(T·B).

    Examples
    --------
    >>> bound("float32", Point(100, 16, 64, 64))
    0.0001
    """
    return BOUNDS[dtype] * point.L * max(1.0, math.sqrt(point.T * point.B / 10_000))


def worst_error(results: Mapping[str, Array], reference: Mapping[str, Array], mode: str) -> tuple[float, str]:
    """Worst of max|a - b| / max|b| over the tensors of a result, and the tensor's name.

    Returns
    -------
    error : float
        Infinite for a tensor that is missing or has another shape, and for NaN.
    tensor : str

    Examples
    --------
    >>> one = {"output": np.array([1.0, 2.0]), "h_n": np.array([2.0])}
    >>> worst_error({"output": np.array([1.0, 2.5]), "h_n": np.array([2.0])}, one, "forward")
    (0.25, 'output')
    >>> worst_error({"output": np.array([1.0, 2.0])}, one, "forward")
    (inf, 'h_n')
    """
    wanted = [name for name in reference if mode == "forward-backward" or not name.startswith("d")]
    return max((_error(results.get(name), reference[name]), name) for name in wanted)


def _error(a: Array | None, b: Array) -> float:
    if a is None or a.shape != b.shape:
        return math.inf
    largest = float(np.max(np.abs(b)))
    error = float(np.max(np.abs(a - b))) / (largest or 1.0)
    return error if error == error else math.inf
