"""Gated recurrent unit with the reset gate *after* the product (Cho et al. 2014, arXiv:1406.1078 v1;
cuDNN's form); torch.nn.GRU's equations and gate order r, z, n.

For t = 0 … T-1; u is the input's side, v the state's side, three blocks of H rows each:

    (1)   u_t     = W_ih x_t + b_ih             v_t = W_hh h_t + b_hh
    (2)   r, z    = σ(u_r + v_r), σ(u_z + v_z)
    (3)   n       = tanh(u_n + r ∘ v_n)
    (4)   h_{t+1} = (1 - z) ∘ n + z ∘ h_t        z keeps the old state

`numpy_rnn.fast.gru` has the same equations and, by hand, their transposes.
"""

from __future__ import annotations

import torch
from torch import Tensor, sigmoid, tanh
from torch.nn.functional import linear

from .cell import Cell, Params, State


def forward(params: Params, x: Tensor, s0: State) -> State:
    """Run the cell over T steps of x (T, B, I) from s0; return all states, as `cell.Cell` says."""
    W_ih, W_hh, b_ih, b_hh = params

    u = linear(x, W_ih, b_ih)  # (1)
    h = [s0.h]
    for u_t in u:
        u_r, u_z, u_n = u_t.chunk(3, dim=1)
        v_r, v_z, v_n = linear(h[-1], W_hh, b_hh).chunk(3, dim=1)  # (1)
        r, z = sigmoid(u_r + v_r), sigmoid(u_z + v_z)  # (2)
        n = tanh(u_n + r * v_n)  # (3)
        h.append((1 - z) * n + z * h[-1])  # (4)
    return State(torch.stack(h))


GRU = Cell("gru", 3, Params, State, forward)
