"""The loops of `torch_rnn.manual`, each as one kernel where that fits; arguments and results are those of the loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..manual import gru, lstm, rnn
from .tiles import chip, obstacle, precision, tile


def rnn_loop(a: Tensor, W_hh: Tensor, s0: Any, relu: bool) -> Tensor:
    """(1) and (2) of the plain cell."""
    if obstacle("rnn", a.shape[1], W_hh, *s0, a):
        return rnn.loop(a, W_hh, s0, relu)
    return forward("rnn", W_hh, (*s0, a), RELU=relu)


def rnn_loop_back(W_hh: Tensor, y: Tensor, dy: Tensor, ds_n: Any, relu: bool) -> tuple[Tensor, Any]:
    """(2') and (1') of the plain cell."""
    if obstacle("rnn", y.shape[1], W_hh, y, dy, *ds_n):
        return rnn.loop_back(W_hh, y, dy, ds_n, relu)
    return backward("rnn", W_hh, (y,), dy, ds_n, blocks=1, RELU=relu)


def lstm_loop(a: Tensor, W_hh: Tensor, s0: Any) -> tuple[Tensor, Tensor]:
    """(1) … (4) of the LSTM."""
    if obstacle("lstm", a.shape[1], W_hh, *s0, a):
        return lstm.loop(a, W_hh, s0)
    c = a.new_empty(*a.shape[:2], W_hh.shape[1])
    return forward("lstm", W_hh, (*s0, a, c)), c


def lstm_loop_back(W_hh: Tensor, gates: Tensor, c_0: Tensor, c: Tensor, dy: Tensor, ds_n: Any) -> tuple[Tensor, Any]:
    """(4') … (1') of the LSTM."""
    if obstacle("lstm", c.shape[1], W_hh, gates, c_0, c, dy, *ds_n):
        return lstm.loop_back(W_hh, gates, c_0, c, dy, ds_n)
    return backward("lstm", W_hh, (gates, c_0, c), dy, ds_n, blocks=4)


def gru_loop(u: Tensor, W_hh: Tensor, b_n: Tensor, s0: Any) -> tuple[Tensor, Tensor]:
    """(1) … (4) of the GRU."""
    if obstacle("gru", u.shape[1], W_hh, *s0, b_n, u):
        return gru.loop(u, W_hh, b_n, s0)
    v_n = u.new_empty(*u.shape[:2], W_hh.shape[1])
    return forward("gru", W_hh, (*s0, b_n, u, v_n)), v_n


def gru_loop_back(
    W_hh: Tensor, gates: Tensor, v_n: Tensor, h_0: Tensor, y: Tensor, dy: Tensor, ds_n: Any
) -> tuple[Tensor, Any]:
    """(4') … (1') of the GRU."""
    if obstacle("gru", y.shape[1], W_hh, gates, v_n, h_0, y, dy, *ds_n):
        return gru.loop_back(W_hh, gates, v_n, h_0, y, dy, ds_n)
    return backward("gru", W_hh, (gates, v_n, h_0, y), dy, ds_n, blocks=4)


LOOPS = {"rnn": (rnn_loop, rnn_loop_back), "lstm": (lstm_loop, lstm_loop_back), "gru": (gru_loop, gru_loop_back)}


def forward(cell: str, W_hh: Tensor, operands: Sequence[Tensor], **constants: Any) -> Tensor:
    """Run the kernel forward on its operands, the last of them (T, B, ·); return the states after each step."""
    (T, B, _), H = operands[-1].shape, W_hh.shape[1]
    y = unwritten(W_hh, T, B, H)
    launch((cell, "forward"), T, B, (W_hh, *operands, y), **constants)
    return y


def backward(
    cell: str, W_hh: Tensor, reads: Sequence[Tensor], dy: Tensor, ds_n: Any, blocks: int, **constants: Any
) -> tuple[Tensor, Any]:
    """Run the kernel backwards; return da (T, B, blocks · H), W_hh's rows last, and the initial state's gradient."""
    T, B, H = dy.shape
    da = unwritten(W_hh, T, B, blocks * H)
    # The running gradients are float32 whatever the others are.
    ds = [torch.empty(z.shape, dtype=torch.float32, device=z.device).copy_(z) for z in ds_n]
    launch((cell, "backward"), T, B, (W_hh, *reads, dy, *ds, da), **constants)
    dh, *rest = (z.to(dy.dtype) for z in ds)
    return da, type(ds_n)(dh.addmm(da[0, :, -len(W_hh) :], W_hh), *rest)  # (1') of the first step


def unwritten(like: Tensor, *shape: int) -> Tensor:
    """Memory for numbers that programs will tell one another: each is a NaN that no computation gives."""
    bits = torch.int32 if like.dtype.itemsize == 4 else torch.int16
    return torch.full(shape, -1, dtype=bits, device=like.device).view(like.dtype)


def launch(name: tuple[str, str], T: int, B: int, operands: Sequence[Tensor], **constants: Any) -> None:
    """Launch a kernel on its operands, W_hh first, on their device's current stream."""
    from . import kernels  # not before it is needed: it imports Triton

    kernel, W_hh, H = kernels.KERNELS[name], operands[0], operands[0].shape[1]
    how = precision(W_hh.dtype)
    size = tile(name, W_hh.dtype, how, H, B, chip(W_hh.device))
    assert size is not None  # `obstacle` has asked
    operands = [z.contiguous() for z in operands]
    grid = -(-H // size.units), -(-B // size.rows)
    constants |= dict(H=H, ROWS=size.rows, UNITS=size.units, PARTS=size.parts, DEPTH=size.depth, GROUP=size.group)
    constants |= dict(PRECISION=how, FACTOR=kernels.FACTORS[W_hh.dtype], num_warps=size.parts)
    steps = (T,) if name[1] == "backward" else ()
    if W_hh.device.type == "cpu":
        # Triton's interpreter runs one program after the other, so none may wait for another: each step is a launch.
        # And it multiplies the bits of bfloat16 as if they were integers.
        constants["FACTOR"] = kernels.FACTORS[torch.float32]
        for t in range(T) if name[1] == "forward" else reversed(range(T)):
            kernel[grid](*operands, *steps, t, t + 1, B, **constants)
        return
    with torch.cuda.device_of(W_hh):  # type: ignore[no-untyped-call, unused-ignore]
        # Programs that wait for one another have to run at the same time: a cooperative launch does that or fails.
        kernel[grid](*operands, *steps, 0, T, B, launch_cooperative_grid=grid[0] > 1, **constants)
