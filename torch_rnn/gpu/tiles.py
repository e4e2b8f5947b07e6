"""What a program of a kernel owns, and where kernels can run at all."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

DEVICES = () if torch.version.hip else ("cuda",)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
OLDEST = (8, 0)  # the compute capability whose tensor cores know TF32 and bfloat16
GATES = {"rnn": 1, "lstm": 4, "gru": 3}


class Tile(NamedTuple):
    """What a program owns, and how it computes it.

    Its part of W_hh is cut into tiles of `parts` · `depth`, a part for each warp; so are the states, of which a program
    waits for `group` tiles at a time.
    """

    rows: int
    units: int
    parts: int
    depth: int
    group: int
    shared: int  # bytes of shared memory that are needed, about


class Chip(NamedTuple):
    """What bounds the programs that run at the same time: multiprocessors, and each one's shared memory in bytes."""

    multiprocessors: int
    shared: int


def obstacle(cell: str, B: int, W_hh: Tensor, *others: Tensor) -> str | None:
    """Why no kernel can run with B sequences and these operands, in a few words; None if one can."""
    device, dtype = W_hh.device, W_hh.dtype
    if device.type not in DEVICES:
        return f"on {device.type}"
    if dtype not in DTYPES:
        return f"no kernel for {dtype}"
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < OLDEST:
        return f"{torch.cuda.get_device_name(device)} has no tensor cores for these products"
    on, product = chip(device), precision(dtype)
    if not all(tile((cell, way), dtype, product, W_hh.shape[1], B, on) for way in ("forward", "backward")):
        return f"{B} sequences and W_hh {tuple(W_hh.shape)} do not fit {on.multiprocessors} multiprocessors"
    for z in (W_hh, *others):
        if type(z) not in (Tensor, Parameter):  # a distributed or fake tensor has no memory of its own to point to
            return f"an operand is a {type(z).__name__}"
        if z.device != device or z.dtype != dtype:
            return f"operands differ: {dtype} on {device}, {z.dtype} on {z.device}"
        if z.numel() == 0:
            return "an operand is empty"
    return None


@functools.cache
def tile(name: tuple[str, str], dtype: torch.dtype, precision: str, H: int, B: int, chip: Chip) -> Tile | None:
    """What each program owns; None if they cannot all run at the same time.

    The fewer numbers a program waits for and multiplies, the shorter is a step: so it has few sequences and units, as
    long as there are multiprocessors for so many programs. These sizes were the quickest of some hundred on an H200.

    Examples
    --------
    >>> tile(("lstm", "forward"), torch.bfloat16, "ieee", 192, 20, Chip(132, 232448))
    Tile(rows=16, units=8, parts=4, depth=16, group=28, shared=20480)
    """
    cell, way = name
    N = GATES[cell] * H if way == "backward" else H
    gates = 1 if way == "backward" or cell == "rnn" else 4  # columns of the product, for each unit
    smallest = 16 if gates == 1 and dtype.itemsize == 2 else 8
    for rows in (16, 32):
        parts = 8 if rows == 32 and dtype.itemsize == 4 else 4
        # The depth that leaves least of the last tile empty, and of such the largest.
        depths = (16, 32, 64)[: 3 if parts == 4 else 2]
        depth = min(depths, key=lambda depth: (-(-N // (parts * depth)) * parts * depth, -depth))
        tiles = -(-N // (parts * depth))
        for units in (8, 16, 32):
            if units < smallest or -(-H // units) * -(-B // rows) > chip.multiprocessors:
                continue
            columns = units * gates
            # A thread has 255 registers: those for the sums, and half as many for the numbers that it waits for.
            group = max(1, (128 - rows * columns // 32) * 128 // (rows * depth * dtype.itemsize))
            matrix = tiles * parts * depth * columns * dtype.itemsize * (2 if precision == "tf32x3" else 1)
            states = min(tiles, group) * rows * parts * depth * dtype.itemsize
            shared = matrix + max(states, parts * rows * columns * 4)
            if shared <= chip.shared:
                return Tile(rows, units, parts, depth, group, shared)
    return None


def precision(dtype: torch.dtype) -> str:
    """How factors are multiplied, in Triton's words: float32 by three products of TF32 unless one may do."""
    if dtype != torch.float32:
        return "ieee"
    matmul = torch.backends.cuda.matmul
    # The newer of PyTorch's two settings, where there is one: to read the older may raise.
    tf32 = matmul.fp32_precision == "tf32" if hasattr(matmul, "fp32_precision") else matmul.allow_tf32
    return "tf32" if tf32 else "tf32x3"


@functools.cache
def chip(device: torch.device) -> Chip:
    """What the GPU has."""
    found = torch.cuda.get_device_properties(device)
    # What every GPU with TF32 has, where PyTorch does not say.
    return Chip(found.multi_processor_count, getattr(found, "shared_memory_per_block_optin", 101376))
