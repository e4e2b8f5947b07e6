"""Long short-term memory with a forget gate (Hochreiter & Schmidhuber, Neural Computation 9, 1997; Gers,
Schmidhuber & Cummins, Neural Computation 12, 2000); torch.nn.LSTM's equations and gate order i, f, g, o.

For t = 0 … T-1:

    (1)   a_t     = W_ih x_t + b_ih + W_hh h_t + b_hh         rows of a_t: a_i, a_f, a_g, a_o
    (2)   i, f, o = σ(a_i), σ(a_f), σ(a_o)     g = tanh(a_g)
    (3)   c_{t+1} = f ∘ c_t + i ∘ g
    (4)   h_{t+1} = o ∘ tanh(c_{t+1})

`numpy_rnn.fast.lstm` has the same equations and, by hand, their transposes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, sigmoid, tanh
from torch.nn.functional import linear

from .cell import Cell, Params


class State(NamedTuple):
    """State of B sequences, or a trajectory of states, or gradients of either."""

    h: Tensor  # (B, H); a trajectory: (T+1, B, H)
    c: Tensor  # (B, H); a trajectory: (T+1, B, H)


def forward(params: Params, x: Tensor, s0: State) -> State:
    """Run the cell over T steps of x (T, B, I) from s0; return all states, as `cell.Cell` says."""
    W_ih, W_hh, b_ih, b_hh = params

    a_x = linear(x, W_ih, b_ih)  # (1), all of it that needs no state
    h, c = [s0.h], [s0.c]
    for a_x_t in a_x:
        a_i, a_f, a_g, a_o = (a_x_t + linear(h[-1], W_hh, b_hh)).chunk(4, dim=1)  # (1)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), tanh(a_g), sigmoid(a_o)  # (2)
        c.append(f * c[-1] + i * g)  # (3)
        h.append(o * tanh(c[-1]))  # (4)
    return State(torch.stack(h), torch.stack(c))


LSTM = Cell("lstm", 4, Params, State, forward)
