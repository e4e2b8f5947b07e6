"""Gated recurrent unit with the reset gate *before* the product (Cho et al. 2014, arXiv:1406.1078 v3); ONNX's GRU
operator at its default linear_before_reset = 0. Gate order r, z, n, and z keeps the old state, as torch's.

For t = 0 … T-1; u is the input's side, v the state's side, three blocks of H rows each:

    (1)   u_t     = W_ih x_t + b_ih             [v_r; v_z] = W_h{r,z} h_t + b_h{r,z}
    (2)   r, z    = σ(u_r + v_r), σ(u_z + v_z)
    (3)   q_t     = r ∘ h_t                     v_n = W_hn q_t + b_hn
          n       = tanh(u_n + v_n)
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
    H = s0.h.shape[1]
    W_hrz, W_hn = W_hh.tensor_split((2 * H,))
    b_hrz, b_hn = b_hh.tensor_split((2 * H,))

    u = linear(x, W_ih, b_ih)  # (1)
    h = [s0.h]
    for u_t in u:
        u_r, u_z, u_n = u_t.chunk(3, dim=1)
        v_r, v_z = linear(h[-1], W_hrz, b_hrz).chunk(2, dim=1)  # (1)
        r, z = sigmoid(u_r + v_r), sigmoid(u_z + v_z)  # (2)
        q = r * h[-1]  # (3)
        n = tanh(u_n + linear(q, W_hn, b_hn))  # (3)
        h.append((1 - z) * n + z * h[-1])  # (4)
    return State(torch.stack(h))


GRU_RESET_BEFORE = Cell("gru_reset_before", 3, Params, State, forward)
