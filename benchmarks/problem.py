"""What the contestants compute, and how their results are compared with the reference."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .points import GATES, Point

Array = NDArray[Any]

DTYPES = {"cpu": ("float32", "float64"), "cuda": ("float32", "tf32", "bfloat16", "float16")}
# Inference; the forward pass that keeps what backward needs; that one and the gradients by parameters, x and h_0.
MODES = ("forward", "training-forward", "forward-backward")

# A larger error is a mistake, not rounding: 50 times what correct contestants show on a CPU, 9 times what cuDNN shows
# in float32, 3 to 4 times what an H200 shows in TF32 and bfloat16. Float16 rounds to 11 bits, as TF32 does.
BOUNDS = {"float64": 1e-10, "float32": 1e-4, "tf32": 5e-3, "bfloat16": 4e-2, "float16": 5e-3}


class Setting(NamedTuple):
    """What all contestants measure in turns."""

    cell: str
    point: Point
    dtype: str
    threads: int
    device: str = "cpu"

    def __str__(self) -> str:
        """Describe the setting.

        Examples
        --------
        >>> str(Setting("lstm", Point(6, 3, 10, 20), "float32", 2))
        'lstm 6x3x10x20 float32, 2 threads'
        """
        where = self.device if self.device != "cpu" else f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.cell} {self.point} {self.dtype}, {where}"


class Problem(NamedTuple):
    """A setting's numbers. They are exact in float32, so that every dtype computes with the same ones."""

    setting: Setting
    parameters: dict[str, Array]  # under torch.nn's names
    x: Array  # (T, B, I)
    states: tuple[Array, ...]  # initial h, and c of an LSTM: (L·D, B, H)
    doutput: Array  # (T, B, D·H)
    dstates: tuple[Array, ...]  # gradients by the final states


def make_problem(setting: Setting) -> Problem:
    """Draw weights and biases uniformly from ±1/√H and everything else, the initial states too, from N(0, 1).

    Examples
    --------
    >>> problem = make_problem(Setting("gru", Point(5, 2, 3, 4, D=2), "float64", 1))
    >>> problem.parameters["weight_hh_l0_reverse"].shape, problem.doutput.shape
    ((12, 4), (5, 2, 8))
    """
    cell, point = setting.cell, setting.point
    T, B, I, H, L, D = point
    rng = np.random.default_rng(zlib.crc32(f"{cell} {point}".encode()))
    dtype = "float64" if setting.dtype == "float64" else "float32"

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape, "float32").astype(dtype, copy=False)

    def uniform(*shape: int) -> Array:
        return rng.uniform(-1 / math.sqrt(H), 1 / math.sqrt(H), shape).astype("float32").astype(dtype)

    parameters: dict[str, Array] = {}
    GH = GATES[cell] * H
    for layer in range(L):
        for suffix in ("", "_reverse")[:D]:
            shapes = {
                "weight_ih": (GH, D * H if layer else I),
                "weight_hh": (GH, H),
                "bias_ih": (GH,),
                "bias_hh": (GH,),
            }
            parameters |= {f"{name}_l{layer}{suffix}": uniform(*shape) for name, shape in shapes.items()}
    states, dstates = (tuple(normal(L * D, B, H) for _ in range(1 + (cell == "lstm"))) for _ in range(2))
    return Problem(setting, parameters, normal(T, B, I), states, normal(T, B, D * H), dstates)


def names(problem: Problem) -> list[str]:
    """Name the results of a call, in order; a forward call returns only those of the first row.

    Examples
    --------
    >>> names(make_problem(Setting("lstm", Point(5, 2, 3, 4), "float64", 1)))  # doctest: +NORMALIZE_WHITESPACE
    ['output', 'h_n', 'c_n',
     'dx', 'dh_0', 'dc_0', 'dweight_ih_l0', 'dweight_hh_l0', 'dbias_ih_l0', 'dbias_hh_l0']
    """
    states = ("h", "c")[: len(problem.states)]
    gradients = ["dx", *(f"d{s}_0" for s in states), *(f"d{name}" for name in problem.parameters)]
    return ["output", *(f"{s}_n" for s in states), *gradients]


def bound(setting: Setting) -> float:
    """How large an error may be; sums of more than 10 000 terms lose more digits, as √(T·B).

    Examples
    --------
    >>> bound(Setting("rnn", Point(100, 16, 64, 64), "float32", 2))
    0.0001
    """
    T, B, *_, L, _ = setting.point
    return BOUNDS[setting.dtype] * L * max(1.0, math.sqrt(T * B / 10_000))


def worst_error(results: Sequence[Array], reference: Sequence[Array]) -> tuple[float, int]:
    """Largest max|a - b| / max|b| over the results, and which of them it is; infinite for NaN and wrong shapes.

    Examples
    --------
    >>> worst_error([np.array([1.0, 2.5]), np.array([2.0])], [np.array([1.0, 2.0]), np.array([2.0])])
    (0.25, 0)
    """
    return max((_error(a, b), k) for k, (a, b) in enumerate(zip(results, reference)))


def _error(a: Array, b: Array) -> float:
    if a.shape != b.shape:
        return math.inf
    error = float(np.max(np.abs(a - b))) / (float(np.max(np.abs(b))) or 1.0)
    return math.inf if math.isnan(error) else error
