"""The plain recurrent cell and its transpose; equations (1) and (2) are those of `torch_rnn.rnn`.

Backward, for t = T-1 … 0. Every h_{t+1} arrives with dh_{t+1}: what the loss sends it directly, plus what
step t+1 has sent back.

    (2')  da_t    = dh_{t+1} ∘ f'(a_t)                        f' from the output: 1 - h², or 1 where h > 0
    (1')  dh_t   += W_hhᵀ da_t
          dx_t    = W_ihᵀ da_t
          dW_ih   = Σ_t da_t x_tᵀ        db_ih = Σ_t da_t
          dW_hh   = Σ_t da_t h_tᵀ        db_hh = Σ_t da_t
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import fused
from ..rnn import Params, State
from .calls import Calls, calls_for
from .parts import add_sum, before, walk, walk_backwards
from .passes import Part, Room, Saved
from .products import add_outer, add_outer_before, affine, product


class Nonlinearity(NamedTuple):
    """An activation and its derivative, the latter as a function of the activation's *output*."""

    f: Callable[[Calls, Any], Any]  # in place
    df: Callable[[Tensor, Tensor], Tensor]  # writes to its second argument and returns it


def _tanh_derivative(h: Tensor, out: Tensor) -> Tensor:
    return torch.addcmul(h.new_ones(()), h, h, value=-1, out=out)


def _relu_derivative(h: Tensor, out: Tensor) -> Tensor:
    return torch.gt(h, 0, out=out)


TANH = Nonlinearity(lambda by, a: by.tanh(a, a), _tanh_derivative)
RELU = Nonlinearity(lambda by, a: by.relu(a, a), _relu_derivative)


def forward(params: Params, x: Tensor, s0: State, nonlinearity: Nonlinearity = TANH) -> tuple[Tensor, State, Saved]:
    """Run the cell over T steps; arguments and results as `passes.Manual` says."""
    W_ih, W_hh, b_ih, b_hh = params
    a = affine(W_ih, x, b_ih + b_hh)  # (1), all of it that needs no state
    y = fused.forward("rnn", W_hh, (s0.h, a), (), RELU=nonlinearity is RELU)
    if y is None:
        y = a  # h_{t+1} will stand where a_t does
        by, f = calls_for(y, W_hh, s0.h), nonlinearity.f
        h_t, W_T = by.see(s0.h), by.times(W_hh.T, x.shape[1], x.shape[0])
        for a_t in walk(by.see(a)):
            W_T.add(a_t, h_t)  # (1)
            h_t = f(by, a_t)  # (2)
    return y, State(y[-1].clone()), ()


def backward(params: Params, part: Part, grads: Params, room: Room, nonlinearity: Nonlinearity = TANH) -> State:
    """Backpropagation through time: the transpose of `forward`; see `passes.Manual`."""
    W_ih, W_hh, _, _ = params
    x, _, y, _, dy, ds_n, dx, _ = part
    by_kernel = fused.backward("rnn", W_hh, [y], dy, ds_n, blocks=1, RELU=nonlinearity is RELU)
    da, ds0 = by_kernel or walk_back(W_hh, y, dy, ds_n, nonlinearity, room)
    add_outer(da, x, grads.W_ih)  # (1')
    add_outer_before(da, part.h, grads.W_hh)  # (1')
    add_sum(da, grads.b_ih, grads.b_hh)  # (1')
    product(da, W_ih, out=dx)  # (1')
    return ds0


def walk_back(
    W_hh: Tensor, y: Tensor, dy: Tensor, ds_n: State, nonlinearity: Nonlinearity, room: Room
) -> tuple[Tensor, State]:
    """The loop backwards: da (T, B, H), and the gradient of the initial state."""
    # (2') is a product with f', which needs no gradient: all steps at once, where da_t will stand.
    da = nonlinearity.df(y, room("da", *y.shape))
    by = calls_for(y, W_hh, dy, ds_n.h)
    ds = State((dy[-1] + ds_n.h).contiguous())
    dh, dy_0 = by.see(ds.h), by.see(torch.zeros_like(ds.h))
    W = room.times(by, "W_hh", W_hh, y.shape[1], y.shape[0])
    for da_t, dy_before in zip(walk_backwards(by.see(da)), before(by.see(dy), dy_0)):
        by.mul(da_t, dh, da_t)  # (2')
        W.sum(dh, dy_before, da_t)  # (1')
    return da, ds
