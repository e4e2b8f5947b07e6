"""Long short-term memory by hand; equations (1) … (4) are those of `torch_rnn.lstm`.

Backward, for t = T-1 … 0. dh_{t+1} and dc_{t+1} arrive with what the loss sends them directly, plus what step t+1
has sent back; the cell has two paths into the past, and dc takes both.

    (4')  do      = dh_{t+1} ∘ tanh(c_{t+1})
          dc_{t+1} += dh_{t+1} ∘ o ∘ (1 - tanh²(c_{t+1}))
    (3')  di      = dc_{t+1} ∘ g               df = dc_{t+1} ∘ c_t
          dg      = dc_{t+1} ∘ i               dc_t += dc_{t+1} ∘ f
    (2')  da_i    = di ∘ i ∘ (1 - i)           da_f = df ∘ f ∘ (1 - f)
          da_g    = dg ∘ (1 - g²)              da_o = do ∘ o ∘ (1 - o)
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

from ..cell import Params
from ..lstm import State
from .steps import backwards, before, forwards, sum_of_outer_products


def loop(a: Tensor, W_hh: Tensor, s0: State) -> tuple[Tensor, Tensor]:
    """Walk through a (T, B, 4H), W_hh h_t not in it, and leave the gates there; return h and c after every step."""
    (T, B, _), H = a.shape, W_hh.shape[1]
    y, c = a.new_empty(T, B, H), a.new_empty(T, B, H)
    (h_t, c_t), W_hh_T = s0, W_hh.T
    for a_t, i_f, i, f, g, o, c_next, h_next in forwards(a, a[..., : 2 * H], *a.chunk(4, -1), c, y):
        a_t.addmm_(h_t, W_hh_T)  # (1)
        i_f.sigmoid_(), g.tanh_(), o.sigmoid_()  # (2)
        torch.mul(f, c_t, out=c_next).addcmul_(i, g)  # (3)
        torch.tanh(c_next, out=h_next).mul_(o)  # (4)
        h_t, c_t = h_next, c_next
    return y, c


def loop_back(W_hh: Tensor, gates: Tensor, c_0: Tensor, c: Tensor, dy: Tensor, ds_n: State) -> tuple[Tensor, State]:
    """Walk backwards; return da (T, B, 4H) and the gradient of the initial state.

    dh and dc enter (4') … (2') as factors only. What they are multiplied with is known before the loop, for all steps.
    """
    i, f, g, o = gates.chunk(4, -1)
    tanh_c = c.tanh()
    da = torch.cat(
        [
            g * i * (1 - i),  # (3') (2'): of dc
            before(c_0, c) * f * (1 - f),  # (3') (2'): of dc
            i * (1 - g * g),  # (3') (2'): of dc
            tanh_c * o * (1 - o),  # (4') (2'): of dh
        ],
        -1,
    )
    dc_dh = o * (1 - tanh_c * tanh_c)  # (4')
    dh, dc = ds_n.h, ds_n.c.clone()
    da_ifg, da_o = da.view(*c.shape[:2], 4, c.shape[2])[:, :, :3], da.chunk(4, -1)[3]
    for da_t, da_ifg_t, da_o_t, dc_dh_t, f_t, dy_t in backwards(da, da_ifg, da_o, dc_dh, f, dy):
        dh = dh + dy_t
        da_o_t *= dh  # (4') (2')
        dc.addcmul_(dh, dc_dh_t)  # (4')
        da_ifg_t *= dc[:, None]  # (3') (2')
        dc *= f_t  # (3')
        dh = da_t @ W_hh  # (1')
    return da, State(dh, dc)


def forward(
    params: Params, x: Tensor, s0: State, loop: Callable[..., tuple[Tensor, Tensor]] = loop
) -> tuple[Tensor, State, tuple[Tensor, ...]]:
    """Run the cell over T steps; see `manual.Passes`."""
    W_ih, W_hh, b_ih, b_hh = params
    gates = linear(x, W_ih, b_ih + b_hh)  # (1), all of it that needs no state; the gates will stand there
    y, c = loop(gates, W_hh, s0)
    return y, State(y[-1].clone(), c[-1].clone()), (gates, c)


def backward(
    params: Params, x: Tensor, s0: State, y: Tensor, saved: tuple[Tensor, ...], dy: Tensor, ds_n: State,
    loop: Callable[..., tuple[Tensor, State]] = loop_back,
) -> tuple[Tensor, Params, State]:  # fmt: skip
    """Backpropagation through time: the transpose of `forward`; see `manual.Passes`."""
    gates, c = saved
    da, ds0 = loop(params.W_hh, gates, s0.c, c, dy, ds_n)
    dW_ih, dW_hh = sum_of_outer_products(da, x), sum_of_outer_products(da, before(s0.h, y))  # (1')
    db = da.sum((0, 1))  # (1')
    return da @ params.W_ih, Params(dW_ih, dW_hh, db, db.clone()), ds0  # (1')
