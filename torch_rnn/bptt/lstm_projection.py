"""LSTM whose output is a projection of the memory, and its transpose; equations (1) … (5) are those of
`torch_rnn.lstm_projection`.

Backward, for t = T-1 … 0; dh_{t+1} and dc_{t+1} arrive with what the loss sends them directly, plus what step
t+1 has sent back.

    (5')  dm      = W_hrᵀ dh_{t+1}              dW_hr = Σ_t dh_{t+1} m_tᵀ
    (4')  do      = dm ∘ tanh(c_{t+1})
          dc_{t+1} += dm ∘ o ∘ (1 - tanh²(c_{t+1}))
    (3') (2') (1') as in `lstm`
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..lstm import State
from ..lstm_projection import Params
from .lstm import factors
from .parts import add_sum, backwards, before, steps, tanh_for
from .passes import Part, Room, Saved
from .products import add_outer, add_outer_before, affine, product, times


def forward(params: Params, x: Tensor, s0: State) -> tuple[Tensor, State, Saved]:
    """Run the cell over T steps; arguments and results as `passes.Manual` says."""
    W_ih, W_hh, b_ih, b_hh, W_hr = params
    T, B, R, H = *x.shape[:2], *W_hr.shape
    a = affine(W_ih, x, b_ih + b_hh)  # (1), all of it that needs no state; the gates will stand where a_i … a_o do
    c, m, y = (x.new_empty(T, B, size) for size in (H, H, R))
    (h_t, c_t), W_T, W_r_T, tanh_ = s0, times(W_hh.T, B, T), times(W_hr.T, B, T), tanh_for(c)
    for a_t, a_if, i, f, g, o, c_next, m_t, h_next in steps(a, a[:, :, : 2 * H], *a.chunk(4, dim=2), c, m, y):
        W_T.add(a_t, h_t)  # (1)
        a_if.sigmoid_(), tanh_(g), o.sigmoid_()  # (2)
        torch.mul(f, c_t, out=c_next).addcmul_(i, g)  # (3)
        torch.tanh(c_next, out=m_t).mul_(o)  # (4)
        W_r_T.put(h_next, m_t)  # (5)
        h_t, c_t = h_next, c_next
    return y, State(h_t.clone(), c_t.clone()), (a, c, m)


def backward(params: Params, part: Part, grads: Params, room: Room) -> State:
    """Backpropagation through time: the transpose of `forward`; see `passes.Manual`."""
    W_ih, W_hh, _, _, W_hr = params
    x, s0, _, saved, dy, ds_n, dx, _ = part
    gates, c, m = saved
    T, B, H = c.shape
    i, f, g, o = gates.chunk(4, dim=2)
    da, dc_dh = factors(i, f, g, o, s0.c, c, room)
    da_ifg, da_o = da.view(T, B, 4, H)[:, :, :3], da[:, :, 3 * H :]

    # dh of every step is kept: dW_hr needs it.
    dh = room("dh", T, B, W_hr.shape[0])
    torch.add(dy[-1], ds_n.h, out=dh[-1])
    dh_0, dm, dc = torch.empty_like(ds_n.h), torch.empty_like(ds_n.c), ds_n.c.clone()
    dc_wide = dc[:, None]  # a view that stands beside three gates
    W, W_r = room.times("W_hh", W_hh, B, T), room.times("W_hr", W_hr, B, T)
    walk = zip(backwards(da, da_ifg, da_o, dc_dh, f, dh), before(dy, torch.zeros_like(dh_0)), before(dh, dh_0))
    for (da_t, da_ifg_t, da_o_t, dc_dh_t, f_t, dh_next), dy_before, dh_t in walk:
        W_r.put(dm, dh_next)  # (5')
        da_o_t.mul_(dm)  # (4') (2')
        dc.addcmul_(dm, dc_dh_t)  # (4')
        da_ifg_t.mul_(dc_wide)  # (3') (2')
        dc.mul_(f_t)  # (3')
        W.sum(dh_t, dy_before, da_t)  # (1')

    add_outer(da, x, grads.W_ih)  # (1')
    add_outer_before(da, part.h, grads.W_hh)  # (1')
    add_sum(da, grads.b_ih, grads.b_hh)  # (1')
    add_outer(dh, m, grads.W_hr)  # (5')
    product(da, W_ih, out=dx)  # (1')
    return State(dh_0, dc)
