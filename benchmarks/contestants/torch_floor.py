"""The floor by torch's BLAS: the same matrix products by torch.mm, into tensors that are there already."""

from __future__ import annotations

import torch
from torch import Tensor

from ..problem import Problem
from . import Ready, floor


def product(a: Tensor, b: Tensor, c: Tensor) -> None:
    """Write a b into c."""
    torch.mm(a, b, out=c)


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Lay out the operands of all layers and directions."""
    torch.set_num_threads(threads)
    return floor.prepare(problem, threads, device, floor.Library((product,), torch.from_numpy))
