"""torch_rnn, backpropagation through time by hand, step by step: without the kernel for the whole loop."""

from __future__ import annotations

import os

import torch_rnn
from torch_rnn import fused

from ..problem import Problem
from . import Ready
from .torch_layers import prepare_with


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Build torch_rnn.RNN, LSTM or GRU."""
    os.environ[fused.SWITCH] = "0"
    return prepare_with(torch_rnn, problem, threads, device, bptt="manual")
