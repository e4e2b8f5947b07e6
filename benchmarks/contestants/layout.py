"""The floor, and what it costs to get there: the products, with the copies that go with their layout.

Users hold vectors as rows. The recurrent products are quickest with vectors as columns (on OpenBLAS, by a twentieth to
two fifths), and then a number has to be copied wherever rows and columns meet: the product of x with W_ih and the
output y forward, the gradient dy and all columns abreast backward, each once. As rows nothing is copied, and the
products take longer. Both are tried here, and the quicker counts. One sequence is a row and a column at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from numpy_rnn.fast import numerics

from ..points import GATES
from ..problem import Array, Problem
from . import Ready
from .floor import NUMPY, columns, products, rows, shortest

Calls = list[Callable[[], Any]]


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Lay out the operands of both ways, and try them."""
    by_rows = products(problem, NUMPY, [rows])
    multiply_up, multiply = products(problem, NUMPY, [columns])
    up, down = copies(problem)

    def forward() -> None:
        multiply_up()
        for copy in up:
            copy()

    def both() -> None:
        multiply()
        for copy in up + down:
            copy()

    up_quicker, quicker = (min(ways, key=shortest) for ways in zip(by_rows, (forward, both)))
    return Ready({"forward": up_quicker, "training-forward": up_quicker, "forward-backward": quicker}, lambda _: {})


def copies(problem: Problem) -> tuple[Calls, Calls]:
    """What forward and what backward have to copy, of all layers and directions, by `numpy_rnn`'s own functions."""
    T, B, _, H, L, D, _ = problem.point
    if B == 1:
        return [], []
    T = sum(problem.point.lengths or [T] * B) // B  # as many numbers, in a rectangle
    R = GATES[problem.cell] * H
    blocks = R + H if problem.cell == "gru" else R  # of the gates' gradients; n has two

    def numbers(*shape: int) -> Array:
        return np.full(shape, 0.5, problem.dtype)

    Wx, h = numbers(R, T, B), numbers(T, H, B)
    up: Calls = [partial(numerics.abreast, Wx), partial(numerics.rows, h)]
    da, dy, dh = numbers(T, blocks, B), numbers(T, B, H), numbers(T, H, B)
    down: Calls = [partial(numerics.abreast, da), partial(numerics.copy_stripes, dy, numerics.columns(dh))]
    return up * (L * D), down * (L * D)
