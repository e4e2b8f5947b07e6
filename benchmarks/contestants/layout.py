"""The floor, and what it costs to get there: the products, with the copies that go with their layout.

Users hold vectors as rows. The recurrent products are quickest with vectors as columns (on OpenBLAS, by a twentieth to
two fifths), and then a number has to be copied wherever rows and columns meet: the product of x with W_ih and the
output y forward, the gradient dy and all columns abreast backward, each once. As rows nothing is copied, and the
products take longer. Both are tried here, and the quicker counts. One sequence is a row and a column at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numpy_rnn.numerics import STRIPE

from ..points import GATES
from ..problem import Array, Problem
from . import Ready
from .floor import NUMPY, columns, products, rows, shortest

Pairs = list[tuple[Array, Array]]


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Lay out the operands of both ways, and try them."""
    by_rows = products(problem, NUMPY, [rows])
    multiply_up, multiply = products(problem, NUMPY, [columns])
    up, down = copies(problem)

    def forward() -> None:
        multiply_up()
        copy(up)

    def both() -> None:
        multiply()
        copy(up)
        copy(down)

    up_quicker, quicker = (min(ways, key=shortest) for ways in zip(by_rows, (forward, both)))
    return Ready({"forward": up_quicker, "training-forward": up_quicker, "forward-backward": quicker}, lambda _: {})


def copy(pairs: Pairs) -> None:
    """Copy the second of each pair to the first."""
    for to, of in pairs:
        np.copyto(to, of)


def copies(problem: Problem) -> tuple[Pairs, Pairs]:
    """What forward and what backward have to copy, of all layers and directions, as `numpy_rnn` does it."""
    T, B, _, H, L, D, _ = problem.point
    if B == 1:
        return [], []
    T = sum(problem.point.lengths or [T] * B) // B  # as many numbers, in a rectangle
    R = GATES[problem.cell] * H
    blocks = R + H if problem.cell == "gru" else R  # of the gates' gradients; n has two

    def numbers(*shape: int) -> Array:
        return np.full(shape, 0.5, problem.dtype)

    up = [
        (numbers(T, R, B), numbers(R, T, B).swapaxes(0, 1)),  # W_ih x: all columns of a row, to all rows of a column
        (numbers(T, B, H), numbers(T, H, B).swapaxes(1, 2)),  # y
    ]
    rows_of_dy, columns_of_dy = numbers(T, B, H).swapaxes(1, 2), numbers(T, H, B)
    stripes = [slice(b, b + STRIPE) for b in range(0, B, STRIPE)]
    down = [(numbers(blocks, T, B), numbers(T, blocks, B).swapaxes(0, 1))]  # da, columns abreast
    down += [(columns_of_dy[:, :, s], rows_of_dy[:, :, s]) for s in stripes]
    # The last axis as one item, where it stays the last: NumPy copies items several times as fast.
    up[0], down[0] = (_items(*up[0]), _items(*down[0]))
    return up * (L * D), down * (L * D)


def _items(*arrays: Array) -> Any:
    return tuple(z.view(f"V{z.shape[-1] * z.itemsize}")[..., 0] for z in arrays)
