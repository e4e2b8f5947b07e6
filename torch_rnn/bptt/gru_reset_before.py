"""Gated recurrent unit with the reset gate before the product, and its transpose; equations (1) … (4) are those of
`torch_rnn.gru_reset_before`.

Backward, for t = T-1 … 0. dh_{t+1} arrives with what the loss sends it directly, plus what step t+1 has sent
back.

    (4')  dn      = dh_{t+1} ∘ (1 - z)          dz = dh_{t+1} ∘ (h_t - n)
          dh_t   += dh_{t+1} ∘ z
    (3')  da_n    = dn ∘ (1 - n²)               dq_t = W_hnᵀ da_n
          dr      = dq_t ∘ h_t                  dh_t += dq_t ∘ r
    (2')  da_r    = dr ∘ r ∘ (1 - r)            da_z = dz ∘ z ∘ (1 - z)
    (1')  dh_t   += W_h{r,z}ᵀ [da_r; da_z]
          dx_t    = W_ihᵀ da_t
          dW_ih   = Σ_t da_t x_tᵀ        db_ih = Σ_t da_t
          dW_h{r,z} = Σ_t [da_r; da_z] h_tᵀ     dW_hn = Σ_t da_n q_tᵀ        db_hh = Σ_t da_t
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..gru import Params, State
from .calls import calls_for
from .parts import add_sum, backwards, before, dsigmoid, dtanh, steps
from .passes import Part, Room, Saved
from .products import add_outer, add_outer_before, affine, product


def forward(params: Params, x: Tensor, s0: State) -> tuple[Tensor, State, Saved]:
    """Run the cell over T steps; arguments and results as `passes.Manual` says."""
    W_ih, W_hh, b_ih, b_hh = params
    T, B, H = *x.shape[:2], W_hh.shape[1]
    a = affine(W_ih, x, b_ih + b_hh)  # (1): u and the biases of v; r, z, n will stand here
    y, q = (x.new_empty(T, B, H) for _ in range(2))
    by = calls_for(q, W_hh, s0.h)
    W_rz_T, W_n_T = (by.times(W.T, B, T) for W in (W_hh[: 2 * H], W_hh[2 * H :]))
    h_t, gates = by.see(s0.h), by.see(a)
    seen = gates[:, :, : 2 * H], *by.gates(gates, 3), by.see(q), by.see(y)
    for a_rz, rz, r, z, n, q_t, h_next in steps(a[:, :, : 2 * H], *seen):
        W_rz_T.add(rz, h_t)  # (1)
        a_rz.sigmoid_()  # (2)
        by.mul(r, h_t, q_t)  # (3)
        W_n_T.add(n, q_t)  # (3)
        by.tanh(n, n)  # (3)
        by.lerp(n, h_t, z, h_next)  # (4): n + z ∘ (h_t - n)
        h_t = h_next
    return y, State(y[-1].clone()), (a, q)


def backward(params: Params, part: Part, grads: Params, room: Room) -> State:
    """Backpropagation through time: the transpose of `forward`; see `passes.Manual`."""
    W_ih, W_hh, _, _ = params
    x, s0, y, saved, dy, ds_n, dx, _ = part
    gates, q = saved
    H = y.shape[2]
    r, z, n = gates.chunk(3, dim=2)
    da = factors(r, z, n, s0.h, y, room)
    ds0 = walk_back(da, W_hh, r, z, dy, ds_n, room)
    add_outer(da, x, grads.W_ih)  # (1')
    add_sum(da, grads.b_ih, grads.b_hh)  # (1')
    add_outer_before(da[:, :, : 2 * H], part.h, grads.W_hh[: 2 * H])  # (1')
    add_outer(da[:, :, 2 * H :], q, grads.W_hh[2 * H :])  # (1')
    product(da, W_ih, out=dx)  # (1')
    return ds0


def walk_back(da: Tensor, W_hh: Tensor, r: Tensor, z: Tensor, dy: Tensor, ds_n: State, room: Room) -> State:
    """The loop backwards: da instead of what `factors` made, and the gradient of the initial state."""
    T, B, H = z.shape
    by = calls_for(z, W_hh, dy, ds_n.h)
    W_rz, W_n = room.times(by, "W_rz", W_hh[: 2 * H], B, T), room.times(by, "W_n", W_hh[2 * H :], B, T)
    ds, dq = State(dy[-1] + ds_n.h), z.new_empty(B, H)
    dh, dq, da, r, z, dy, dy_0 = map(by.see, (ds.h, dq, da, r, z, dy, torch.zeros_like(ds.h)))
    da_r, _, da_n = by.gates(da, 3)
    da_rz, da_zn = da[:, :, : 2 * H], da.reshape(T, B, 3, H)[:, :, 1:]
    dh_wide = dh[:, None]  # a view that stands beside two blocks
    walk = zip(backwards(da_zn, da_n, da_r, da_rz, r, z), before(dy, dy_0))
    for (da_zn_t, da_n_t, da_r_t, da_rz_t, r_t, z_t), dy_before in walk:
        by.mul(da_zn_t, dh_wide, da_zn_t)  # (4') (3') (2')
        W_n.put(dq, da_n_t)  # (3')
        by.mul(da_r_t, dq, da_r_t)  # (3') (2')
        by.mul_add(dh, z_t, dy_before, dh)  # (4')
        by.add_mul(dq, r_t, dh)  # (3')
        W_rz.add(dh, da_rz_t)  # (1')
    return ds


def factors(r: Tensor, z: Tensor, n: Tensor, h_0: Tensor, y: Tensor, room: Room) -> Tensor:
    """What dh is multiplied with on its way to a_z and a_n, and dq on its way to a_r, for all steps at once.

    Parameters
    ----------
    r, z, n, y : tensors (T, B, H)
    h_0 : tensor (B, H)
    room : Room
        Where the result stands.

    Returns
    -------
    tensor (T, B, 3H)
        Blocks r, z, n.
    """
    T, B, H = y.shape
    da = room("da", T, B, 3 * H)
    da_r, da_z, da_n = da.chunk(3, dim=2)
    one_less_z = torch.neg(z, out=da_z).add_(1)  # where da_z will stand
    dtanh(one_less_z, n, out=da_n)  # (4') (3')
    dsigmoid(h_0, r[0], out=da_r[0])  # (3') (2')
    dsigmoid(y[:-1], r[1:], out=da_r[1:])  # (3') (2')
    torch.sub(h_0, n[0], out=da_z[0])  # (4')
    torch.sub(y[:-1], n[1:], out=da_z[1:])  # (4')
    dsigmoid(da_z, z, out=da_z)  # (2')
    return da
