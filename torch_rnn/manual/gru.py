"""Gated recurrent unit with the reset gate after the product, by hand; (1) … (4) are those of `torch_rnn.gru`.

Backward, for t = T-1 … 0. dh_{t+1} arrives with what the loss sends it directly, plus what step t+1 has sent back.
u is the input's side, v the state's side; of r and z both receive the same.

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

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear

from ..cell import Params, State
from .steps import backwards, before, forwards, sum_of_outer_products


def loop(u: Tensor, W_hh: Tensor, b_n: Tensor, s0: State) -> tuple[Tensor, Tensor]:
    """Walk through u (T, B, 3H), b_hh of r and z in it, and leave r, z, n there; return h after every step, and v_n."""
    (T, B, _), H = u.shape, W_hh.shape[1]
    y, v_n = u.new_empty(T, B, H), u.new_empty(T, B, H)
    h_t, W_rz_T, W_n_T = s0.h, W_hh[: 2 * H].T, W_hh[2 * H :].T
    for rz, r, z, n, v_n_t, h_next in forwards(u[..., : 2 * H], *u.chunk(3, -1), v_n, y):
        rz.addmm_(h_t, W_rz_T).sigmoid_()  # (1) (2)
        torch.addmm(b_n, h_t, W_n_T, out=v_n_t)  # (1)
        n.addcmul_(r, v_n_t).tanh_()  # (3)
        torch.lerp(n, h_t, z, out=h_next)  # (4): n + z ∘ (h_t - n)
        h_t = h_next
    return y, v_n


def loop_back(
    W_hh: Tensor, gates: Tensor, v_n: Tensor, h_0: Tensor, y: Tensor, dy: Tensor, ds_n: State
) -> tuple[Tensor, State]:
    """Walk backwards; return du_n, dv_r = du_r, dv_z = du_z, dv_n as one tensor (T, B, 4H), in which du and dv each are
    in one piece, and the gradient of the initial state.

    dh enters (4') … (2') as a factor only. What it is multiplied with is known before the loop, for all steps.
    """
    r, z, n = gates.chunk(3, -1)
    du_n = (1 - z) * (1 - n * n)  # (4') (3')
    dv_r = du_n * v_n * r * (1 - r)  # (3') (2')
    dv_z = (before(h_0, y) - n) * z * (1 - z)  # (4') (2')
    d = torch.cat([du_n, dv_r, dv_z, du_n * r], -1)  # (3')
    H, dh = y.shape[-1], ds_n.h
    for d_t, dv_t, z_t, dy_t in backwards(d.view(*y.shape[:2], 4, H), d[..., H:], z, dy):
        dh = dh + dy_t
        d_t *= dh[:, None]  # (4') (3') (2')
        dh = torch.addmm(dh * z_t, dv_t, W_hh)  # (4') (1')
    return d, State(dh)


def forward(
    params: Params, x: Tensor, s0: State, loop: Callable[..., tuple[Tensor, Tensor]] = loop
) -> tuple[Tensor, State, tuple[Tensor, ...]]:
    """Run the cell over T steps; see `manual.Passes`."""
    W_ih, W_hh, b_ih, b_hh = params
    H = W_hh.shape[1]
    b = torch.cat([b_ih[: 2 * H] + b_hh[: 2 * H], b_ih[2 * H :]])  # of n, b_hh stands inside the product with r
    gates = linear(x, W_ih, b)  # (1): u; the gates will stand there
    y, v_n = loop(gates, W_hh, b_hh[2 * H :], s0)
    return y, State(y[-1].clone()), (gates, v_n)


def backward(
    params: Params, x: Tensor, s0: State, y: Tensor, saved: tuple[Tensor, ...], dy: Tensor, ds_n: State,
    loop: Callable[..., tuple[Tensor, State]] = loop_back,
) -> tuple[Tensor, Params, State]:  # fmt: skip
    """Backpropagation through time: the transpose of `forward`; see `manual.Passes`."""
    gates, v_n = saved
    d, ds0 = loop(params.W_hh, gates, v_n, s0.h, y, dy, ds_n)
    H = y.shape[-1]
    du, dv = torch.cat([d[..., H : 3 * H], d[..., :H]], -1), d[..., H:]
    dW_ih, dW_hh = sum_of_outer_products(du, x), sum_of_outer_products(dv, before(s0.h, y))  # (1')
    return du @ params.W_ih, Params(dW_ih, dW_hh, du.sum((0, 1)), dv.sum((0, 1))), ds0  # (1')
