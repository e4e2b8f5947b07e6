"""LSTM whose gates also see the memory c (Gers & Schmidhuber, IJCNN 2000; Gers, Schraudolph & Schmidhuber, JMLR 3,
2002); ONNX's LSTM operator with its input P. Gates i and f see the old c, gate o the new one, each unit its own.

For t = 0 … T-1; P has three blocks of H weights, P_i, P_f, P_o:

    (1)   a_t     = W_ih x_t + b_ih + W_hh h_t + b_hh         rows of a_t: a_i, a_f, a_g, a_o
    (2)   i, f    = σ(a_i + P_i ∘ c_t), σ(a_f + P_f ∘ c_t)     g = tanh(a_g)
    (3)   c_{t+1} = f ∘ c_t + i ∘ g
    (4)   o       = σ(a_o + P_o ∘ c_{t+1})
    (5)   h_{t+1} = o ∘ tanh(c_{t+1})

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
    W_hh: Tensor  # (4H, H)
    b_ih: Tensor  # (4H,)
    b_hh: Tensor  # (4H,)
    P: Tensor  # (3H,): i, f, o


def forward(params: Params, x: Tensor, s0: State) -> State:
    """Run the cell over T steps of x (T, B, I) from s0; return all states, as `cell.Cell` says."""
    W_ih, W_hh, b_ih, b_hh, P = params
    P_i, P_f, P_o = P.chunk(3)

    a_x = linear(x, W_ih, b_ih)  # (1), all of it that needs no state
    h, c = [s0.h], [s0.c]
    for a_x_t in a_x:
        a_i, a_f, a_g, a_o = (a_x_t + linear(h[-1], W_hh, b_hh)).chunk(4, dim=1)  # (1)
        i, f, g = sigmoid(a_i + P_i * c[-1]), sigmoid(a_f + P_f * c[-1]), tanh(a_g)  # (2)
        c.append(f * c[-1] + i * g)  # (3)
        o = sigmoid(a_o + P_o * c[-1])  # (4)
        h.append(o * tanh(c[-1]))  # (5)
    return State(torch.stack(h), torch.stack(c))


LSTM_PEEPHOLE = Cell("lstm_peephole", 4, Params, State, forward)
