"""torch_rnn as it is by default: backpropagation through time by hand, inside autograd."""

from __future__ import annotations

import torch_rnn

from ..problem import Problem
from . import Ready
from .torch_layers import prepare_with


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Build torch_rnn.RNN, LSTM or GRU."""
    return prepare_with(torch_rnn, problem, threads, device, bptt="manual")
