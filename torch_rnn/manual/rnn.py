"""The plain recurrent cell by hand; equations (1) and (2) are those of `torch_rnn.rnn`.

Backward, for t = T-1 … 0. Every h_{t+1} arrives with dh_{t+1}: what the loss sends it directly, plus what step t+1
has sent back.

    (2')  da_t    = dh_{t+1} ∘ f'(a_t)                        f' from the output: 1 - h², or 1 where h > 0
    (1')  dh_t   += W_hhᵀ da_t
          dx_t    = W_ihᵀ da_t
          dW_ih   = Σ_t da_t x_tᵀ        db_ih = Σ_t da_t
          dW_hh   = Σ_t da_t h_tᵀ        db_hh = Σ_t da_t
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear

from ..cell import Params, State
from .steps import backwards, before, forwards, sum_of_outer_products


def loop(a: Tensor, W_hh: Tensor, s0: State, relu: bool) -> Tensor:
    """Walk through a (T, B, H), which comes without W_hh h_t; return h after every step."""
    f = torch.relu_ if relu else torch.tanh_
    y, h_t, W_hh_T = torch.empty_like(a), s0.h, W_hh.T
    for a_t, h_next in forwards(a, y):
        h_t = f(torch.addmm(a_t, h_t, W_hh_T, out=h_next))  # (1) (2)
    return y


def loop_back(W_hh: Tensor, y: Tensor, dy: Tensor, ds_n: State, relu: bool) -> tuple[Tensor, State]:
    """Walk backwards; return da (T, B, H) and the gradient of the initial state."""
    da = (y > 0).to(y.dtype) if relu else 1 - y * y  # (2'): f' of all steps, where da_t will stand
    dh = ds_n.h
    for da_t, dy_t in backwards(da, dy):
        da_t *= dh + dy_t  # (2')
        dh = da_t @ W_hh  # (1')
    return da, State(dh)


def forward(
    params: Params, x: Tensor, s0: State, relu: bool = False, loop: Callable[..., Tensor] = loop
) -> tuple[Tensor, State, tuple[Tensor, ...]]:
    """Run the cell over T steps; see `manual.Passes`."""
    W_ih, W_hh, b_ih, b_hh = params
    y = loop(linear(x, W_ih, b_ih + b_hh), W_hh, s0, relu)  # (1), all of it that needs no state
    return y, State(y[-1].clone()), ()


def backward(
    params: Params, x: Tensor, s0: State, y: Tensor, saved: tuple[Tensor, ...], dy: Tensor, ds_n: State,
    relu: bool = False, loop: Callable[..., tuple[Tensor, State]] = loop_back,
) -> tuple[Tensor, Params, State]:  # fmt: skip
    """Backpropagation through time: the transpose of `forward`; see `manual.Passes`."""
    da, ds0 = loop(params.W_hh, y, dy, ds_n, relu)
    dW_ih, dW_hh = sum_of_outer_products(da, x), sum_of_outer_products(da, before(s0.h, y))  # (1')
    db = da.sum((0, 1))  # (1')
    return da @ params.W_ih, Params(dW_ih, dW_hh, db, db.clone()), ds0  # (1')
