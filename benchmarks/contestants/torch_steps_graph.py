"""torch_rnn, by hand and step by step, in CUDA graphs: captured once, behind a plain call."""

from __future__ import annotations

import os

from torch_rnn import fused

from ..problem import Problem
from . import Ready
from .torch_bptt_graph import graphed


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Wrap the layer; the first call of each mode captures."""
    os.environ[fused.SWITCH] = "0"
    return graphed(problem, threads, device)
