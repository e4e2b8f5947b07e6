"""The floor: the matrix products that nobody can do without, into arrays that are there already; by NumPy's BLAS or, as
torch_floor, by torch's.

Forward: the input products of all steps at once, and one recurrent product after the other. Backward: one transposed
recurrent product after the other, then dW_hh, dW_ih and dx, each at once for all steps. The operands are the
trajectories that a layer has to read and write anyway. Sequences that have ended take no part.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..points import GATES
from ..problem import Array, Problem
from . import Ready

Product = Callable[..., Any]
Operands = list[tuple[Any, Any, Any]]
Layout = Callable[[list[int], Array, Array, Array], Operands]


class Serial(NamedTuple):
    """Products that come one after the other: `product(a, b, c)` for all operands."""

    product: Product
    operands: Operands

    def run(self) -> None:
        """Do them all."""
        product = self.product
        for a, b, c in self.operands:
            product(a, b, c)


class Library(NamedTuple):
    """Who multiplies: functions that, called with (a, b, c), make a b, in c if they can.

    `serial` are for one step after another, `at_once` for all steps; `of` makes their operands of arrays.
    """

    serial: tuple[Product, ...] = (np.matmul, np.dot)
    at_once: tuple[Product, ...] = (np.matmul,)
    of: Callable[[Array], Any] = np.asarray


NUMPY = Library()


def prepare(problem: Problem, threads: int, device: str, library: Library = NUMPY) -> Ready:
    """Lay out the operands of all layers and directions, the recurrent ones as rows or columns: the quicker."""
    forward, both = products(problem, library, (rows, columns))
    return Ready({"forward": forward, "training-forward": forward, "forward-backward": both}, lambda _: {})


def products(
    problem: Problem, library: Library, layouts: Sequence[Layout]
) -> tuple[Callable[[], None], Callable[[], None]]:
    """All products of forward, and those of forward and backward, the recurrent ones in the quickest of the layouts."""
    T, B, _, H, L, D, _ = problem.point
    GH, dtype = GATES[problem.cell] * H, problem.dtype
    lengths = problem.point.lengths or [T] * B
    alive = [sum(n > t for n in lengths) for t in range(max(lengths))]
    N = sum(alive)
    h, a, dh = np.full((N, H), 0.5, dtype), np.full((N, GH), 0.5, dtype), np.empty((N, H), dtype)
    W_hh, dW_hh = np.full((GH, H), 0.1, dtype), np.empty((GH, H), dtype)
    layers = []
    for l in range(L):
        x, W_ih = np.full((N, problem.point.inputs(l)), 0.5, dtype), np.full((GH, problem.point.inputs(l)), 0.1, dtype)
        layers += [(x, W_ih, np.empty_like(x), np.empty_like(W_ih))] * D
    # The same numbers for every layer and direction: only the sizes count.
    up = fastest(library.serial, library.of, *(layout(alive, h, W_hh.T, a) for layout in layouts))
    down = fastest(library.serial, library.of, *(layout(alive, a, W_hh, dh) for layout in layouts))
    inputs = [fastest(library.at_once, library.of, [(x, W_ih.T, a)]) for x, W_ih, _, _ in layers]
    gradients = [
        [
            fastest(library.at_once, library.of, [operands])
            for operands in ((a.T, h, dW_hh), (a.T, x, dW_ih), (a, W_ih, dx))
        ]
        for x, W_ih, dx, dW_ih in layers
    ]

    def forward() -> None:
        for product in inputs:
            product.run()
            up.run()

    def both() -> None:
        forward()
        for transposed in gradients:
            down.run()
            for product in transposed:
                product.run()

    return forward, both


def fastest(functions: Sequence[Product], of: Callable[[Array], Any], *layouts: Operands) -> Serial:
    """The same products in any of the layouts, by any of the functions: whichever is fastest."""
    serials = [[(of(a), of(b), of(c)) for a, b, c in operands] for operands in layouts]
    candidates = [Serial(product, operands) for product, operands in itertools.product(functions, serials)]
    return min(candidates, key=_trial)


def rows(alive: list[int], a: Array, W: Array, c: Array) -> Operands:
    """(B, ·) @ (·, ·) for each step, W made contiguous."""
    W = np.ascontiguousarray(W)
    return [(a[i:k], W, c[i:k]) for i, k in _slices(alive)]


def columns(alive: list[int], a: Array, W: Array, c: Array) -> Operands:
    """(·, ·) @ (·, B) for each step, on the same memory."""
    W = np.ascontiguousarray(W.T)
    return [
        (W, a[i:k].reshape(a.shape[1], k - i), c[i:k].reshape(c.shape[1], k - i))  # any numbers will do
        for i, k in _slices(alive)
    ]


def _slices(alive: list[int]) -> Iterator[tuple[int, int]]:
    ends = list(itertools.accumulate(alive))
    return zip([0, *ends], ends)


def _trial(serial: Serial) -> float:
    """Shortest time of a few of the products."""
    return shortest(Serial(serial.product, serial.operands[:50]).run)


def shortest(call: Callable[[], Any]) -> float:
    """Seconds that a call takes, the shortest of a few."""
    times = []
    for _ in range(4):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
