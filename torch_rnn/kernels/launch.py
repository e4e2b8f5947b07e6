"""How a kernel is launched: one program for some units of some sequences, all at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton.language as tl
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from . import gru, lstm, rnn

KERNELS = {
    (module.__name__.split(".")[-1], way): getattr(module, way)
    for module in (rnn, lstm, gru)
    for way in ("forward", "backward")
}
FACTORS = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


def launch(
    name: tuple[str, str], T: int, B: int, operands: Sequence[Tensor], tile: Any, precision: str, **constants: Any
) -> None:
    """Launch a kernel on contiguous operands, W_hh first, on their device's current stream.

    Parameters
    ----------
    name : (str, str)
        Cell and way.
    T, B : int
    operands : tensors
    tile : torch_rnn.fused.Tile
    precision : str
        "tf32x3", "tf32" or "ieee", for products of float32.
    **constants : any
        Options of this cell's kernels.
    """
    kernel, W_hh = KERNELS[name], operands[0]
    H = W_hh.shape[1]
    grid = -(-H // tile.units), -(-B // tile.rows)
    constants |= dict(H=H, ROWS=tile.rows, UNITS=tile.units, PARTS=tile.parts, DEPTH=tile.depth, GROUP=tile.group)
    constants |= dict(PRECISION=precision, FACTOR=FACTORS[W_hh.dtype], num_warps=tile.parts)
    steps = (T,) if name[1] == "backward" else ()
    if isinstance(kernel, InterpretedFunction):
        # It runs one program after the other, so none may wait for another: each step is a launch.
        # And it multiplies the bits of bfloat16 as if they were integers.
        constants["FACTOR"] = tl.float32
        for t in range(T) if name[1] == "forward" else reversed(range(T)):
            kernel[grid](*operands, *steps, t, t + 1, B, **constants)
        return
    with torch.cuda.device_of(W_hh):
        # Programs that wait for one another have to run at the same time: a cooperative launch does that or fails.
        kernel[grid](*operands, *steps, 0, T, B, launch_cooperative_grid=grid[0] > 1, **constants)
