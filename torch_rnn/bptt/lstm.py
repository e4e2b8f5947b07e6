"""Long short-term memory and its transpose; equations (1) … (4) are those of `torch_rnn.lstm`.

Backward, for t = T-1 … 0. dh_{t+1} and dc_{t+1} arrive with what the loss sends them directly, plus what step
t+1 has sent back; the cell has two paths into the past, and dc takes both.

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

import torch
from torch import Tensor

from .. import fused
from ..lstm import Params, State
from .calls import calls_for, tanh
from .parts import add_sum, backwards, before, dsigmoid, dtanh, steps
from .passes import Part, Room, Saved
from .products import add_outer, add_outer_before, affine, product


def forward(params: Params, x: Tensor, s0: State) -> tuple[Tensor, State, Saved]:
    """Run the cell over T steps; arguments and results as `passes.Manual` says."""
    W_ih, W_hh, b_ih, b_hh = params
    T, B, H = *x.shape[:2], W_hh.shape[1]
    a = affine(W_ih, x, b_ih + b_hh)  # (1), all of it that needs no state; the gates will stand where a_i … a_o do
    c = x.new_empty(T, B, H)
    y = fused.forward("lstm", W_hh, s0, (a, c))
    if y is None:
        y = torch.empty_like(c)
        by = calls_for(c, W_hh, *s0)
        (h_t, c_t), W_T = map(by.see, s0), by.times(W_hh.T, B, T)
        sigmoids, gates = (a[:, :, : 2 * H], a[:, :, 3 * H :]), by.see(a)
        for a_if, a_o, a_t, i, f, g, o, c_next, h_next in steps(
            *sigmoids, gates, *by.gates(gates, 4), by.see(c), by.see(y)
        ):
            W_T.add(a_t, h_t)  # (1)
            a_if.sigmoid_(), by.tanh(g, g), a_o.sigmoid_()  # (2)
            by.mul(f, c_t, c_next), by.add_mul(i, g, c_next)  # (3)
            by.tanh(c_next, h_next), by.mul(h_next, o, h_next)  # (4)
            h_t, c_t = h_next, c_next
    return y, State(y[-1].clone(), c[-1].clone()), (a, c)


def backward(params: Params, part: Part, grads: Params, room: Room) -> State:
    """Backpropagation through time: the transpose of `forward`; see `passes.Manual`."""
    W_ih, W_hh, _, _ = params
    x, s0, _, saved, dy, ds_n, dx, _ = part
    gates, c = saved
    by_kernel = fused.backward("lstm", W_hh, (gates, s0.c, c), dy, ds_n, blocks=4)
    da, ds0 = by_kernel or by_factors(W_hh, gates, s0.c, c, dy, ds_n, room)
    add_outer(da, x, grads.W_ih)  # (1')
    add_outer_before(da, part.h, grads.W_hh)  # (1')
    add_sum(da, grads.b_ih, grads.b_hh)  # (1')
    product(da, W_ih, out=dx)  # (1')
    return ds0


def by_factors(
    W_hh: Tensor, gates: Tensor, c_0: Tensor, c: Tensor, dy: Tensor, ds_n: State, room: Room
) -> tuple[Tensor, State]:
    """The loop backwards: da (T, B, 4H), and the gradient of the initial state."""
    i, f, g, o = gates.chunk(4, dim=2)
    da, dc_dh = factors(i, f, g, o, c_0, c, room)
    return da, walk_back(da, dc_dh, f, W_hh, dy, ds_n, room)


def factors(i: Tensor, f: Tensor, g: Tensor, o: Tensor, c_0: Tensor, c: Tensor, room: Room) -> tuple[Tensor, Tensor]:
    """What dc and dh are multiplied with on their way to the gates and to c, for all steps at once.

    Parameters
    ----------
    i, f, g, o, c : tensors (T, B, H)
        c after every step.
    c_0 : tensor (B, H)
    room : Room
        Where the results stand.

    Returns
    -------
    da : tensor (T, B, 4H)
        Factor of dc in da_i, da_f, da_g, and of dh in da_o.
    dc_dh : tensor (T, B, H)
        Factor of dh in dc.
    """
    T, B, H = c.shape
    da, tanh_c = room("da", T, B, 4 * H), room("dc_dh", T, B, H)
    da_i, da_f, da_g, da_o = da.chunk(4, dim=2)
    dsigmoid(g, i, out=da_i)  # (3') (2')
    dsigmoid(c_0, f[0], out=da_f[0])  # (3') (2')
    dsigmoid(c[:-1], f[1:], out=da_f[1:])  # (3') (2')
    dtanh(i, g, out=da_g)  # (3') (2')
    dsigmoid(tanh(c, tanh_c), o, out=da_o)  # (4') (2')
    return da, dtanh(o, tanh_c, out=tanh_c)  # (4')


def walk_back(da: Tensor, dc_dh: Tensor, dc_dc: Tensor, W_hh: Tensor, dy: Tensor, ds_n: State, room: Room) -> State:
    """The loop backwards: multiply what `factors` made with the running gradients, and let these run.

    Parameters
    ----------
    da : tensor (T, B, 4H)
        Factors, in place of which the gradients of the pre-activations come.
    dc_dh, dc_dc : tensors (T, B, H)
        Factors of dh_{t+1} in dc_{t+1}, and of dc_{t+1} in dc_t.
    W_hh : tensor (4H, H)
    dy : tensor (T, B, H)
    ds_n : State
    room : Room

    Returns
    -------
    State
        Gradient of the initial state.
    """
    T, B, H = dc_dh.shape
    by = calls_for(dc_dh, W_hh, dy, *ds_n)
    ds = State((dy[-1] + ds_n.h).contiguous(), ds_n.c.clone(memory_format=torch.contiguous_format))
    dh, dc, da, dc_dh, dc_dc, dy, dy_0 = map(by.see, (*ds, da, dc_dh, dc_dc, dy, torch.zeros_like(ds.h)))
    da_ifg, da_o = da.reshape(T, B, 4, H)[:, :, :3], da[:, :, 3 * H :]
    dc_wide = dc[:, None]  # a view that stands beside three gates
    W = room.times(by, "W_hh", W_hh, B, T)
    walk = zip(backwards(da, da_ifg, da_o, dc_dh, dc_dc), before(dy, dy_0))
    for (da_t, da_ifg_t, da_o_t, dc_dh_t, dc_dc_t), dy_before in walk:
        by.mul(da_o_t, dh, da_o_t)  # (4') (2')
        by.add_mul(dh, dc_dh_t, dc)  # (4')
        by.mul(da_ifg_t, dc_wide, da_ifg_t)  # (3') (2')
        by.mul(dc, dc_dc_t, dc)  # (3')
        W.sum(dh, dy_before, da_t)  # (1')
    return ds
