"""torch.nn: on the CPU, float32 LSTM is oneDNN's; on a GPU all is cuDNN's, called eagerly."""

from __future__ import annotations

import torch

from ..problem import Problem
from . import Ready
from .torch_layers import prepare_with


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Build torch.nn.RNN, LSTM or GRU."""
    return prepare_with(torch.nn, problem, threads, device)
