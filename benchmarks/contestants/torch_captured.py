"""torch_rnn as it is by default, a whole call inside one CUDA graph, as torch_nn_graph does it with torch.nn."""

from __future__ import annotations

import torch_rnn

from ..problem import Problem
from . import Ready
from .torch_bptt import no_loop_in_its_place
from .torch_nn_graph import captured_layer


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Capture each mode once; a call replays it."""
    no_loop_in_its_place()
    return captured_layer(torch_rnn, problem, threads, device, bptt="manual")
