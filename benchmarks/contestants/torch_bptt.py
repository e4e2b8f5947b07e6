"""torch_rnn as it is by default: backpropagation through time by hand, inside autograd.

On a GPU the whole loop is one kernel where `torch_rnn.fused` finds that it fits.
"""

from __future__ import annotations

import warnings

import torch_rnn

from ..problem import Problem
from . import Ready
from .torch_layers import prepare_with


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Build torch_rnn.RNN, LSTM or GRU."""
    no_loop_in_its_place()
    return prepare_with(torch_rnn, problem, threads, device, bptt="manual")


def no_loop_in_its_place() -> None:
    """Let a kernel that fails be an error: its loop would be timed in its name."""
    warnings.filterwarnings("error", "torch_rnn.fused", RuntimeWarning)
