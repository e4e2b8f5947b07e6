"""The plain recurrent cell of Elman (Cognitive Science 14, 1990), with tanh or relu; torch.nn.RNN's equations.

For t = 0 … T-1 (the state before step t is h_t, the state after it h_{t+1}):

    (1)   a_t     = W_ih x_t + b_ih + W_hh h_t + b_hh
    (2)   h_{t+1} = f(a_t)                                    f = tanh or relu

`numpy_rnn.fast.rnn` has the same equations and, by hand, their transposes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import linear

from .cell import Cell, Params, State


def forward(params: Params, x: Tensor, s0: State, f: Callable[[Tensor], Tensor] = torch.tanh) -> State:
    """Run the cell over T steps of x (T, B, I) from s0, f its nonlinearity; return all states, as `cell.Cell` says."""
    W_ih, W_hh, b_ih, b_hh = params

    a_x = linear(x, W_ih, b_ih)  # (1), all of it that needs no state
    h = [s0.h]
    for a_x_t in a_x:
        a = a_x_t + linear(h[-1], W_hh, b_hh)  # (1)
        h.append(f(a))  # (2)
    return State(torch.stack(h))


TANH = Cell("rnn_tanh", 1, Params, State, forward)
RELU = Cell("rnn_relu", 1, Params, State, partial(forward, f=torch.relu))
