"""torch_rnn, its loop by hand (not the fused kernel) in CUDA graphs: captured once, behind a plain call."""

from __future__ import annotations

import os

import torch_rnn
from torch_rnn import fused

from ..problem import Problem
from . import Ready, UnfitError
from .torch_layers import prepare_with


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Wrap the layer; the first call of each mode captures."""
    if problem.point.ragged:
        raise UnfitError("packing reads the lengths on the CPU, which a CUDA graph cannot hold")
    os.environ[fused.SWITCH] = "0"  # the fused kernel is a contestant of its own
    return prepare_with(torch_rnn, problem, threads, device, torch_rnn.CudaGraphs, bptt="manual")
