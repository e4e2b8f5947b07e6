"""torch_rnn, backpropagation through time by hand, the loop over all steps one Triton kernel."""

from __future__ import annotations

import os
import warnings

import torch

import torch_rnn
from torch_rnn import fused

from ..problem import Problem
from . import Ready, UnfitError
from .torch_layers import DTYPES, prepare_with


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Build torch_rnn.RNN, LSTM or GRU; the first call of each mode compiles. A kernel that fails is an error here."""
    os.environ[fused.SWITCH] = "1"
    warnings.filterwarnings("error", "torch_rnn.fused", RuntimeWarning)  # else its loop would be timed in its name
    dtype = DTYPES.get(problem.dtype) or getattr(torch, problem.dtype)
    W_hh = torch.empty(problem.parameters["weight_hh_l0"].shape, dtype=dtype, device=device)
    if why := fused.obstacle(W_hh):
        raise UnfitError(f"no fused kernel: {why}")
    return prepare_with(torch_rnn, problem, threads, device, bptt="manual")
