"""Gated recurrent unit with the reset gate after the product, and its transpose; equations (1) … (4) are those of
`torch_rnn.gru`.

Backward, for t = T-1 … 0. dh_{t+1} arrives with what the loss sends it directly, plus what step t+1 has sent
back. u is the input's side, v the state's side; of r and z both receive the same.

    (4')  dn      = dh_{t+1} ∘ (1 - z)         dz = dh_{t+1} ∘ (h_t - n)
          dh_t   += dh_{t+1} ∘ z
    (3')  du_n    = dn ∘ (1 - n²)              dv_n = du_n ∘ r              dr = du_n ∘ v_n
    (2')  du_r    = dv_r = dr ∘ r ∘ (1 - r)    du_z = dv_z = dz ∘ z ∘ (1 - z)
    (1')  dh_t   += W_hhᵀ dv_t
          dx_t    = W_ihᵀ du_t
          dW_ih   = Σ_t du_t x_tᵀ        db_ih = Σ_t du_t
          dW_hh   = Σ_t dv_t h_tᵀ        db_hh = Σ_t dv_t
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import fused
from ..gru import Params, State
from .calls import calls_for
from .parts import backwards, before, dsigmoid, dtanh, steps
from .passes import Part, Room, Saved
from .products import add_outer, add_outer_before, affine, product


def forward(params: Params, x: Tensor, s0: State) -> tuple[Tensor, State, Saved]:
    """Run the cell over T steps; arguments and results as `passes.Manual` says."""
    W_ih, W_hh, b_ih, b_hh = params
    T, B, H = *x.shape[:2], W_hh.shape[1]
    b_n = b_hh[2 * H :]
    b = torch.cat([b_ih[: 2 * H] + b_hh[: 2 * H], b_ih[2 * H :]])  # of r and z both biases, of n the input side's
    u = affine(W_ih, x, b)  # (1); r, z, n will stand where u_r, u_z, u_n do
    v_n = x.new_empty(T, B, H)
    y = fused.forward("gru", W_hh, (s0.h, b_n), (u, v_n))
    if y is None:
        y, by = torch.empty_like(v_n), calls_for(v_n, W_hh, s0.h)
        sigmoids, gates = u[:, :, : 2 * H], by.see(u)
        h_t, b_n = by.see(s0.h), by.see(b_n)
        W_rz_T, W_n_T = (by.times(W.T, B, T) for W in (W_hh[: 2 * H], W_hh[2 * H :]))
        seen = gates[:, :, : 2 * H], *by.gates(gates, 3), by.see(v_n), by.see(y)
        for u_rz, rz, r, z, n, v_n_t, h_next in steps(sigmoids, *seen):
            W_rz_T.add(rz, h_t)  # (1)
            u_rz.sigmoid_()  # (2)
            W_n_T.sum(v_n_t, b_n, h_t)  # (1)
            by.add_mul(r, v_n_t, n)  # (3)
            by.tanh(n, n)  # (3)
            by.lerp(n, h_t, z, h_next)  # (4): n + z ∘ (h_t - n)
            h_t = h_next
    return y, State(y[-1].clone()), (u, v_n)


def backward(params: Params, part: Part, grads: Params, room: Room) -> State:
    """Backpropagation through time: the transpose of `forward`; see `passes.Manual`."""
    W_ih, W_hh, _, _ = params
    x, s0, y, saved, dy, ds_n, dx, _ = part
    gates, v_n = saved
    H = W_hh.shape[1]
    by_kernel = fused.backward("gru", W_hh, (gates, v_n, s0.h, y), dy, ds_n, blocks=4)
    d, ds0 = by_kernel or walk_back(W_hh, gates, v_n, s0.h, y, dy, ds_n, room)
    du, dv = d[:, :, : 3 * H], d[:, :, H:]  # blocks: n of u, then r, z, then n of v
    add_outer(du, x, grads.W_ih[2 * H :], grads.W_ih[: 2 * H])  # (1')
    add_outer_before(dv, part.h, grads.W_hh)  # (1')
    db = d.sum((0, 1))  # (1')
    grads.b_ih.add_(torch.cat([db[H : 3 * H], db[:H]]))  # (1')
    grads.b_hh.add_(db[H:])  # (1')
    product(du[:, :, H:], W_ih[: 2 * H], out=dx)  # (1')
    product(du[:, :, :H], W_ih[2 * H :], out=dx, add=True)  # (1')
    return ds0


def walk_back(
    W_hh: Tensor, gates: Tensor, v_n: Tensor, h_0: Tensor, y: Tensor, dy: Tensor, ds_n: State, room: Room
) -> tuple[Tensor, State]:
    """The loop backwards: blocks as `factors` has them, and the gradient of the initial state."""
    T, B, H = y.shape
    r, z, n = gates.chunk(3, dim=2)
    d = factors(r, z, n, v_n, h_0, y, room)
    by, ds = calls_for(y, W_hh, dy, ds_n.h), State(dy[-1] + ds_n.h)
    dh, dv, z, dy, dy_0 = map(by.see, (ds.h, d, z, dy, torch.zeros_like(ds.h)))
    dh_wide = dh[:, None]  # a view that stands beside four blocks
    W = room.times(by, "W_hh", W_hh, B, T)
    walk = zip(backwards(dv.reshape(T, B, 4, H), dv[:, :, H:], z), before(dy, dy_0))
    for (d_t, dv_t, z_t), dy_before in walk:
        by.mul(d_t, dh_wide, d_t)  # (4') (3') (2')
        by.mul_add(dh, z_t, dy_before, dh)  # (4')
        W.add(dh, dv_t)  # (1')
    return d, ds


def factors(r: Tensor, z: Tensor, n: Tensor, v_n: Tensor, h_0: Tensor, y: Tensor, room: Room) -> Tensor:
    """What dh is multiplied with on its way to u and v, for all steps at once.

    Parameters
    ----------
    r, z, n, v_n, y : tensors (T, B, H)
    h_0 : tensor (B, H)
    room : Room
        Where the result stands.

    Returns
    -------
    tensor (T, B, 4H)
        Blocks du_n, dv_r = du_r, dv_z = du_z, dv_n: so du and dv each are in one piece.
    """
    T, B, H = y.shape
    d = room("d", T, B, 4 * H)
    du_n, dv_r, dv_z, dv_n = d.chunk(4, dim=2)
    one_less_z = torch.neg(z, out=dv_z).add_(1)  # where dv_z will stand: memory is what the backward pass is short of
    dtanh(one_less_z, n, out=du_n)  # (4') (3')
    torch.mul(du_n, r, out=dv_n)  # (3')
    dsigmoid(torch.mul(du_n, v_n, out=dv_r), r, out=dv_r)  # (3') (2')
    torch.sub(h_0, n[0], out=dv_z[0])  # (4')
    torch.sub(y[:-1], n[1:], out=dv_z[1:])  # (4')
    dsigmoid(dv_z, z, out=dv_z)  # (2')
    return d
