"""The floor by torch's libraries: the same matrix products, each by the quickest of `torch.mm` into a tensor that is
there already and what `torch_rnn.bptt.products` calls besides: oneDNN, in float32 on a CPU, and NumPy where a step is
small.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_rnn.bptt import products
from torch_rnn.bptt.passes import columns_at_a_time

from ..points import GATES
from ..problem import Problem
from . import Ready, floor


def by_mm(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Write a b into c."""
    return torch.mm(a, b, out=c)


def by_onednn(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Make a b, which takes a tensor of its own."""
    return products.linear(a, products.dense(b.T))


class Ordered:
    """By oneDNN, which gets b in its own order: put into it where it is not the last product's."""

    def __init__(self) -> None:
        self.last, self.M = (0, torch.Size()), torch.empty(0)

    def __call__(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """Make a b, which takes a tensor of its own."""
        this = b.data_ptr(), b.shape
        if this != self.last:
            self.last, self.M = this, products.ordered(b.T, len(a))
        return products.linear(a, self.M)


class ByNumPy:
    """Write a b into c, by NumPy, which gets b in its own order: made where it is not the last product's."""

    def __init__(self) -> None:
        self.last: object = None
        self.M: Any = None

    def __call__(self, a: Tensor, b: Tensor, c: Tensor) -> Any:
        """Write a b into c; an array in its memory."""
        this = b.data_ptr(), b.shape, a.shape
        if this != self.last:
            self.last, self.M = this, products.TimesByNumPy(b, a.shape[0])
        return self.M.put(products.array(c), products.array(a))


def in_pieces(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Write a b into c, as torch_rnn does where that is a gradient of all inputs: some rows at a time."""
    products.product(a[None], b, c[None])
    return c


def in_chunks(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Make a b, as torch_rnn does where that is a weight's gradient: some steps at a time, in a tensor of its own."""
    da, x, most = a.T[None], b[None], columns_at_a_time(a.shape[0])
    dW = products.zeros_for(c, min(most, len(b)))
    for k in range(0, len(b), most):
        products.add_outer(da[:, k : k + most], x[:, k : k + most], dW)
    return products.laid_out(dW, c)


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Lay out the operands of all layers and directions."""
    torch.set_num_threads(threads)
    serial: tuple[Any, ...] = (by_mm,)
    at_once: tuple[Any, ...] = (by_mm,)
    if problem.dtype == "float32" and products.onednn_is_there():
        serial, at_once = (by_mm, by_onednn, Ordered()), (by_mm, by_onednn, in_pieces, in_chunks)
    if products.is_small(problem.point.B, GATES[problem.cell] * problem.point.H**2):
        serial += (ByNumPy(),)
    return floor.prepare(problem, threads, device, floor.Library(serial, at_once, torch.from_numpy))
