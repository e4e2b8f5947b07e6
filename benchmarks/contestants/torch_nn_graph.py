"""torch.nn inside a CUDA graph: cuDNN's kernels without the cost of launching them one by one."""

from __future__ import annotations

import torch

from ..cuda import captured
from ..problem import Problem
from . import Ready, UnfitError
from .torch_layers import prepare_with


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Capture each mode once; a call replays it and returns the tensors that the graph writes into."""
    if problem.point.ragged:
        raise UnfitError("packing reads the lengths on the CPU, which a CUDA graph cannot hold")
    eager = prepare_with(torch.nn, problem, threads, device)
    return Ready({mode: captured(call) for mode, call in eager.calls.items()}, eager.arrays)
