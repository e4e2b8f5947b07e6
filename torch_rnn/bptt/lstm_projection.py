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
from .calls import calls_for
from .lstm import factors
from .parts import add_sum, backwards, before, steps
from .passes import Part, Room, Saved
from .products import add_outer, add_outer_before, affine, product


def forward(params: Params, x: Tensor, s0: State) -> tuple[Tensor, State, Saved]:
    """Run the cell over T steps; arguments and results as `passes.Manual` says."""
    W_ih, W_hh, b_ih, b_hh, W_hr = params
    T, B, R, H = *x.shape[:2], *W_hr.shape
    a = affine(W_ih, x, b_ih + b_hh)  # (1), all of it that needs no state; the gates will stand where a_i … a_o do
    c, m, y = (x.new_empty(T, B, size) for size in (H, H, R))
    by = calls_for(c, W_hh, *s0, W_hr)
    (h_t, c_t), W_T, W_r_T = map(by.see, s0), by.times(W_hh.T, B, T), by.times(W_hr.T, B, T)
    sigmoids, gates = (a[:, :, : 2 * H], a[:, :, 3 * H :]), by.see(a)
    seen = gates, *by.gates(gates, 4), *map(by.see, (c, m, y))
    for a_if, a_o, a_t, i, f, g, o, c_next, m_t, h_next in steps(*sigmoids, *seen):
        W_T.add(a_t, h_t)  # (1)
        a_if.sigmoid_(), by.tanh(g, g), a_o.sigmoid_()  # (2)
        by.mul(f, c_t, c_next), by.add_mul(i, g, c_next)  # (3)
        by.tanh(c_next, m_t), by.mul(m_t, o, m_t)  # (4)
        W_r_T.put(h_next, m_t)  # (5)
        h_t, c_t = h_next, c_next
    return y, State(y[-1].clone(), c[-1].clone()), (a, c, m)


def backward(params: Params, part: Part, grads: Params, room: Room) -> State:
    """Backpropagation through time: the transpose of `forward`; see `passes.Manual`."""
    W_ih, W_hh, _, _, W_hr = params
    x, s0, _, saved, dy, ds_n, dx, _ = part
    gates, c, m = saved
    i, f, g, o = gates.chunk(4, dim=2)
    da, dc_dh = factors(i, f, g, o, s0.c, c, room)
    dh, ds0 = walk_back(da, dc_dh, f, W_hh, W_hr, dy, ds_n, room)
    add_outer(da, x, grads.W_ih)  # (1')
    add_outer_before(da, part.h, grads.W_hh)  # (1')
    add_sum(da, grads.b_ih, grads.b_hh)  # (1')
    add_outer(dh, m, grads.W_hr)  # (5')
    product(da, W_ih, out=dx)  # (1')
    return ds0


def walk_back(
    da: Tensor, dc_dh: Tensor, f: Tensor, W_hh: Tensor, W_hr: Tensor, dy: Tensor, ds_n: State, room: Room
) -> tuple[Tensor, State]:
    """The loop backwards, as `lstm.walk_back`: dh (T, B, R) after every step, which dW_hr needs, and that of s0."""
    (T, B, H), R = dc_dh.shape, len(W_hr)
    by = calls_for(dc_dh, W_hh, dy, *ds_n, W_hr)
    all_dh, dm = room("dh", T, B, R), f.new_empty(B, H)
    torch.add(dy[-1], ds_n.h, out=all_dh[-1])
    ds = State(f.new_empty(B, R), ds_n.c.clone(memory_format=torch.contiguous_format))
    dh_0, dc, da, dc_dh, f, dh, dm, dy, dy_0 = map(by.see, (*ds, da, dc_dh, f, all_dh, dm, dy, torch.zeros_like(ds.h)))
    da_ifg, da_o = da.reshape(T, B, 4, H)[:, :, :3], da[:, :, 3 * H :]
    dc_wide = dc[:, None]  # a view that stands beside three gates
    W, W_r = room.times(by, "W_hh", W_hh, B, T), room.times(by, "W_hr", W_hr, B, T)
    walk = zip(backwards(da, da_ifg, da_o, dc_dh, f, dh), before(dy, dy_0), before(dh, dh_0))
    for (da_t, da_ifg_t, da_o_t, dc_dh_t, f_t, dh_next), dy_before, dh_t in walk:
        W_r.put(dm, dh_next)  # (5')
        by.mul(da_o_t, dm, da_o_t)  # (4') (2')
        by.add_mul(dm, dc_dh_t, dc)  # (4')
        by.mul(da_ifg_t, dc_wide, da_ifg_t)  # (3') (2')
        by.mul(dc, f_t, dc)  # (3')
        W.sum(dh_t, dy_before, da_t)  # (1')
    return all_dh, ds
