"""torch_rnn's explicit loop, compiled: torch.compile unrolls it, so it is for sequences that are not long."""

from __future__ import annotations

from functools import partial

import torch

import torch_rnn

from ..problem import Problem
from . import Ready, UnfitError
from .torch_layers import prepare_with

LONGEST = 100  # steps; compiling takes seconds for each hundred


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Compile on the first call."""
    if problem.point.T > LONGEST:
        raise UnfitError(f"the unrolled loop is compiled for at most {LONGEST} steps")
    if problem.point.ragged:
        raise UnfitError("packing reads the lengths in Python, which breaks the graph")
    # All cells share one `forward`, of which torch.compile keeps eight versions and then gives up; and sizes that were
    # others before, it would take for variable ones.
    torch.compiler.reset()
    return prepare_with(torch_rnn, problem, threads, device, partial(torch.compile, fullgraph=True), bptt="autograd")
