"""LSTM whose output is a projection of the memory (LSTMP; Sak, Senior & Beaufays 2014, arXiv:1402.1128);
torch.nn.LSTM's equations with `proj_size`. The state h has R = proj_size units, the memory c has H.

For t = 0 … T-1:

    (1)   a_t     = W_ih x_t + b_ih + W_hh h_t + b_hh         rows of a_t: a_i, a_f, a_g, a_o
    (2)   i, f, o = σ(a_i), σ(a_f), σ(a_o)     g = tanh(a_g)
    (3)   c_{t+1} = f ∘ c_t + i ∘ g
    (4)   m_t     = o ∘ tanh(c_{t+1})
    (5)   h_{t+1} = W_hr m_t

`numpy_rnn.fast.lstm` has the same equations and, by hand, their transposes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, sigmoid, tanh
from torch.nn.functional import linear

from .cell import Cell
from .lstm import State


class Params(NamedTuple):
    """Parameters of one cell, or their gradients."""

    W_ih: Tensor  # (4H, I)
    W_hh: Tensor  # (4H, R)
    b_ih: Tensor  # (4H,)
    b_hh: Tensor  # (4H,)
    W_hr: Tensor  # (R, H)


def forward(params: Params, x: Tensor, s0: State) -> State:
    """Run the cell over T steps of x (T, B, I) from s0; return all states, as `cell.Cell` says."""
    W_ih, W_hh, b_ih, b_hh, W_hr = params

    a_x = linear(x, W_ih, b_ih)  # (1), all of it that needs no state
    h, c = [s0.h], [s0.c]
    for a_x_t in a_x:
        a_i, a_f, a_g, a_o = (a_x_t + linear(h[-1], W_hh, b_hh)).chunk(4, dim=1)  # (1)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), tanh(a_g), sigmoid(a_o)  # (2)
        c.append(f * c[-1] + i * g)  # (3)
        m = o * tanh(c[-1])  # (4)
        h.append(linear(m, W_hr))  # (5)
    return State(torch.stack(h), torch.stack(c))


LSTM_PROJECTION = Cell("lstm_projection", 4, Params, State, forward)
