"""LSTM whose gates also see the memory, and its transpose; equations (1) … (5) are those of `torch_rnn.lstm_peephole`.

Backward, for t = T-1 … 0; dh_{t+1} and dc_{t+1} arrive with what the loss sends them directly, plus what step
t+1 has sent back.

    (5')  do      = dh_{t+1} ∘ tanh(c_{t+1})
          dc_{t+1} += dh_{t+1} ∘ o ∘ (1 - tanh²(c_{t+1}))
    (4')  da_o    = do ∘ o ∘ (1 - o)
          dc_{t+1} += da_o ∘ P_o               dP_o = Σ_t da_o ∘ c_{t+1}
    (3')  di      = dc_{t+1} ∘ g               df = dc_{t+1} ∘ c_t
          dg      = dc_{t+1} ∘ i               dc_t += dc_{t+1} ∘ f
    (2')  da_i    = di ∘ i ∘ (1 - i)           da_f = df ∘ f ∘ (1 - f)           da_g = dg ∘ (1 - g²)
          dc_t   += da_i ∘ P_i + da_f ∘ P_f    dP_i = Σ_t da_i ∘ c_t             dP_f = Σ_t da_f ∘ c_t
    (1') as in `lstm`

The peepholes add paths from dh_{t+1} to dc_{t+1} and from there to dc_t. All are factors known beforehand, so the loop
backwards is that of `lstm`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..lstm import State
from ..lstm_peephole import Params
from .calls import calls_for
from .lstm import factors, walk_back
from .parts import add_sum, steps
from .passes import Part, Room, Saved
from .products import add_outer, add_outer_before, affine, product


def forward(params: Params, x: Tensor, s0: State) -> tuple[Tensor, State, Saved]:
    """Run the cell over T steps; arguments and results as `passes.Manual` says."""
    W_ih, W_hh, b_ih, b_hh, P = params
    T, B, H = *x.shape[:2], W_hh.shape[1]
    a = affine(W_ih, x, b_ih + b_hh)  # (1), all of it that needs no state; the gates will stand where a_i … a_o do
    y, c = (x.new_empty(T, B, H) for _ in range(2))
    by = calls_for(c, W_hh, *s0, P)
    (h_t, c_t), P, W_T = map(by.see, s0), by.see(P), by.times(W_hh.T, B, T)
    P_if, P_o = P[: 2 * H].reshape(2, H), P[2 * H :]
    sigmoids, gates = (a[:, :, : 2 * H], a[:, :, 3 * H :]), by.see(a)
    seen = gates, gates.reshape(T, B, 4, H)[:, :, :2], *by.gates(gates, 4), by.see(c), by.see(y)
    for a_if, a_o, a_t, if_, i, f, g, o, c_next, h_next in steps(*sigmoids, *seen):
        W_T.add(a_t, h_t)  # (1)
        by.add_mul(P_if, c_t[:, None], if_), a_if.sigmoid_(), by.tanh(g, g)  # (2)
        by.mul(f, c_t, c_next), by.add_mul(i, g, c_next)  # (3)
        by.add_mul(P_o, c_next, o), a_o.sigmoid_()  # (4)
        by.tanh(c_next, h_next), by.mul(h_next, o, h_next)  # (5)
        h_t, c_t = h_next, c_next
    return y, State(y[-1].clone(), c[-1].clone()), (a, c)


def backward(params: Params, part: Part, grads: Params, room: Room) -> State:
    """Backpropagation through time: the transpose of `forward`; see `passes.Manual`."""
    W_ih, W_hh, _, _, P = params
    x, s0, _, saved, dy, ds_n, dx, _ = part
    gates, c = saved
    i, f, g, o = gates.chunk(4, dim=2)
    P_i, P_f, P_o = P.chunk(3)

    da, dc_dh = factors(i, f, g, o, s0.c, c, room)
    da_i, da_f, _, da_o = da.chunk(4, dim=2)
    dc_dh.addcmul_(da_o, P_o)  # (4')
    dc_dc = torch.addcmul(f, da_i, P_i, out=room("dc_dc", *c.shape)).addcmul_(da_f, P_f)  # (3') (2')
    ds0 = walk_back(da, dc_dh, dc_dc, W_hh, dy, ds_n, room)

    dP_i, dP_f, dP_o = grads.P.chunk(3)
    products = dc_dc  # of every step, where this stood
    for d, dP in (da_i, dP_i), (da_f, dP_f):
        torch.mul(d[0], s0.c, out=products[0]), torch.mul(d[1:], c[:-1], out=products[1:])
        dP.add_(products.sum((0, 1)))  # (2')
    dP_o.add_(torch.mul(da_o, c, out=products).sum((0, 1)))  # (4')
    add_outer(da, x, grads.W_ih)  # (1')
    add_outer_before(da, part.h, grads.W_hh)  # (1')
    add_sum(da, grads.b_ih, grads.b_hh)  # (1')
    product(da, W_ih, out=dx)  # (1')
    return ds0
