"""torch_rnn as it is by default, in CUDA graphs: captured once, behind a plain call."""

from __future__ import annotations

import torch_rnn

from ..problem import Problem
from . import Ready, UnfitError
from .torch_bptt import no_loop_in_its_place
from .torch_layers import prepare_with


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Wrap the layer; the first call of each mode captures."""
    no_loop_in_its_place()
    return graphed(problem, threads, device)


def graphed(problem: Problem, threads: int, device: str) -> Ready:
    """The same, with whatever else is set."""
    if problem.point.ragged:
        raise UnfitError("packing reads the lengths on the CPU, which a CUDA graph cannot hold")
    return prepare_with(torch_rnn, problem, threads, device, torch_rnn.CudaGraphs, bptt="manual")
