"""How a kernel is launched: one program for some rows of the batch."""

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
        "ieee" or "tf32", for products of float32.
    **constants : any
        Options of this cell's kernels.
    """
    kernel, W_hh = KERNELS[name], operands[0]
    # The interpreter multiplies the bits of bfloat16 as if they were integers.
    factor = tl.float32 if isinstance(kernel, InterpretedFunction) else FACTORS[W_hh.dtype]
    with torch.cuda.device_of(W_hh):
        kernel[-(-B // tile.rows),](
            *operands,
            T,
            B,
            H=W_hh.shape[1],
            ROWS=tile.rows,
            UNITS=tile.units,
            DEPTH=tile.depth,
            STAGES=tile.stages,
            PRECISION=precision,
            FACTOR=factor,
            num_warps=tile.warps,
            **constants,
        )
