"""torch_rnn's explicit time loop, run eagerly, with autograd for its backward."""

from __future__ import annotations

import torch_rnn

from ..problem import Problem
from . import Ready
from .torch_layers import prepare_with


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Build torch_rnn.RNN, LSTM or GRU."""
    return prepare_with(torch_rnn, problem, threads, device, bptt="autograd")
