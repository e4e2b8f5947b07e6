"""The floor by the libraries that come with torch: the same matrix products, each by the quickest of `torch.mm` into a
tensor that is there already and, in float32 on a CPU, oneDNN, as `torch_rnn.bptt.products` calls it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torch_rnn.bptt import products
from torch_rnn.bptt.passes import columns_at_a_time

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
    library = floor.Library((by_mm,), (by_mm,), torch.from_numpy)
    if problem.dtype == "float32" and products.onednn_is_there():
        serial, at_once = (by_mm, by_onednn, Ordered()), (by_mm, by_onednn, in_pieces, in_chunks)
        library = floor.Library(serial, at_once, torch.from_numpy)
    return floor.prepare(problem, threads, device, library)
