"""What the kernels of torch_rnn.gpu are asked, on a CPU and on a GPU. It may not import them: who does so first decides
whether they are the interpreter's.
"""

from __future__ import annotations

import numpy as np
import torch
from support import CELLS, function_of, rng_of

from numpy_rnn.verify.case import random_params

NAMES = ["rnn_tanh", "rnn_relu", "lstm", "gru"]


def problem(name, T, B, I, H, scale=1.0):
    """Params at torch's initial scale, x, s0, dy, ds_n, all float64 arrays."""
    cell, rng = CELLS[name][0], rng_of(name, T, B, I, H)
    params = random_params(cell, I, H, H, lambda *shape: rng.uniform(-scale, scale, shape) / np.sqrt(H))
    s0, ds_n = (cell.State(*rng.standard_normal((len(cell.State._fields), B, H))) for _ in range(2))
    return params, rng.standard_normal((T, B, I)), s0, rng.standard_normal((T, B, H)), ds_n


def rounded(given, dtype):
    """The same problem in numbers that a narrower type has."""
    params, x, s0, dy, ds_n = given

    def to(a):
        return torch.tensor(a).to(dtype)

    return [to(a).requires_grad_() for a in (x, *params, *s0)], [to(a) for a in (dy, *ds_n)]


def results(name, operands, upstream):
    """Values, then gradients."""
    outputs = function_of(name)(*operands)
    return outputs, torch.autograd.grad(outputs, operands, upstream)


def ways(name):
    """The kernels of a cell."""
    cell = name.split("_")[0]
    return [f"{cell} forward", f"{cell} backward"]
