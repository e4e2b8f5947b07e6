"""torch_rnn, backpropagation through time by hand, inside a CUDA graph: many small kernels launched as one."""

from __future__ import annotations

from ..problem import Problem
from . import Ready, torch_bptt
from .torch_nn_graph import captured_modes


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Capture each mode once."""
    return captured_modes(torch_bptt.prepare(problem, threads, device), problem)
