"""torch.nn inside a CUDA graph: cuDNN's kernels without the cost of launching them one by one."""

from __future__ import annotations

from typing import Any

import torch

from ..cuda import captured
from ..problem import Problem
from . import Ready, UnfitError
from .torch_layers import prepare_with


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Capture each mode once; a call replays it and returns the tensors that the graph writes into."""
    return captured_layer(torch.nn, problem, threads, device)


def captured_layer(library: Any, problem: Problem, threads: int, device: str, **options: Any) -> Ready:
    """The same for a layer of any library."""
    if problem.point.ragged:
        raise UnfitError("packing reads the lengths on the CPU, which a CUDA graph cannot hold")
    eager = prepare_with(library, problem, threads, device, **options)
    return Ready({mode: captured(call) for mode, call in eager.calls.items()}, eager.arrays)
