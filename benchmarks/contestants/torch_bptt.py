"""torch_rnn as it is by default but for the fused kernel: backpropagation through time by hand, inside autograd."""

from __future__ import annotations

import os

import torch_rnn
from torch_rnn import fused

from ..problem import Problem
from . import Ready
from .torch_layers import prepare_with


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Build torch_rnn.RNN, LSTM or GRU."""
    os.environ[fused.SWITCH] = "0"  # the fused kernel is a contestant of its own
    return prepare_with(torch_rnn, problem, threads, device, bptt="manual")
