"""The passes alone, by the functions that torch_rnn calls: what stands between the products in its passes by hand.

Every activation, sum and product of forward and backward once, for all steps in one call and into tensors that are
there already, on as many threads as torch takes for it. What `addmm` does on its way, such as adding a bias, counts
with the products. With the products (torch-floor) and the calls (torch-calls) it bounds torch_rnn's time from below.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from torch_rnn.bptt.calls import tanh

from ..points import GATES
from ..problem import Problem
from . import Ready

aten = torch.ops.aten


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Lay out a trajectory: one row a gate, as long as there are units, steps and sequences."""
    torch.set_num_threads(threads)
    T, B, _, H, L, D, _ = problem.point
    N = sum(problem.point.lengths or [T] * B) * H
    generator = torch.Generator().manual_seed(0)

    def numbers(rows: int) -> Tensor:
        return torch.randn(rows, N, generator=generator, dtype=getattr(torch, problem.dtype)) * 0.1

    G = GATES[problem.cell]
    forward, backward = PASSES[problem.cell]
    a, da, s = numbers(G), numbers(4 if problem.cell == "gru" else G), numbers(6)

    def up() -> None:
        for _ in range(L * D):
            forward(a, s)

    def both() -> None:
        up()
        for _ in range(L * D):
            backward(a, da, s)

    return Ready({"forward": up, "training-forward": up, "forward-backward": both}, lambda _: {})


def rnn_forward(a: Tensor, s: Tensor) -> None:
    """The activation: h = tanh(a)."""
    tanh(a[0], out=s[0])


def rnn_backward(a: Tensor, da: Tensor, s: Tensor) -> None:
    """The factor 1 - h², then the loop's own da *= dh; the biases' gradient."""
    h, dh, *_ = s
    torch.addcmul(h.new_ones(()), h, h, value=-1, out=da[0])
    da[0].mul_(dh)
    da.sum()


def lstm_forward(a: Tensor, s: Tensor) -> None:
    """Gates, then c = f c + i g, tanh c and h; a becomes i, f, g, o."""
    c, c_next, h, *_ = s
    i, f, g, o = a
    a[:2].sigmoid_()
    tanh(g, out=g)
    o.sigmoid_()
    torch.mul(f, c, out=c_next)
    c_next.addcmul_(i, g)
    tanh(c_next, out=h)
    h.mul_(o)


def lstm_backward(a: Tensor, da: Tensor, s: Tensor) -> None:
    """The factors of da and dc, then the loop's own products; the biases' gradient."""
    c, c_next, tanh_c, dh, dc, _ = s
    i, f, g, o = a
    da_i, da_f, da_g, da_o = da
    tanh(c_next, out=tanh_c)
    for gate, factor, out in ((i, g, da_i), (f, c, da_f), (o, tanh_c, da_o)):
        aten.sigmoid_backward.grad_input(factor, gate, grad_input=out)
    aten.tanh_backward.grad_input(i, g, grad_input=da_g)
    aten.tanh_backward.grad_input(o, tanh_c, grad_input=tanh_c)
    da_o.mul_(dh)
    dc.addcmul_(dh, tanh_c)
    da[:3].mul_(dc)
    dc.mul_(f)
    da.sum()


def gru_forward(a: Tensor, s: Tensor) -> None:
    """Gates, then n and h = n + z (h - n); a becomes r, z, n."""
    h, v_n, h_next, *_ = s
    r, z, n = a
    a[:2].sigmoid_()
    n.addcmul_(r, v_n)
    tanh(n, out=n)
    torch.lerp(n, h, z, out=h_next)


def gru_backward(a: Tensor, da: Tensor, s: Tensor) -> None:
    """The factors of du and dv, then the loop's own sums and products; the biases' gradient."""
    h, v_n, dh, dy, *_ = s
    r, z, n = a
    du_n, dv_r, dv_z, dv_n = da
    torch.sub(1, z, out=dv_z)
    aten.tanh_backward.grad_input(dv_z, n, grad_input=du_n)
    torch.mul(du_n, r, out=dv_n)
    torch.mul(du_n, v_n, out=dv_r)
    aten.sigmoid_backward.grad_input(dv_r, r, grad_input=dv_r)
    torch.sub(h, n, out=dv_z)
    aten.sigmoid_backward.grad_input(dv_z, z, grad_input=dv_z)
    da.mul_(dh)
    torch.addcmul(dy, dh, z, out=dy)
    da.sum()


Pass = Callable[..., None]
PASSES: dict[str, tuple[Pass, Pass]] = {
    "rnn": (rnn_forward, rnn_backward),
    "lstm": (lstm_forward, lstm_backward),
    "gru": (gru_forward, gru_backward),
}
