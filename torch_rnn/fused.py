"""When the kernels of `torch_rnn.kernels` run in place of `torch_rnn.bptt`'s loops, and their launch.

On an NVIDIA GPU each step of a loop launches several small kernels, and a small layer waits for these launches. One
kernel for all steps needs Triton (`pip install 'numpy-rnn[gpu]'`; PyTorch for CUDA brings it along). It runs wherever
`obstacle` finds none; TORCH_RNN_FUSED=0 in the environment keeps the loops.

Should Triton fail to build or to launch a kernel, the loop computes it, and a warning says so, once for each kernel.

On a CPU the kernels' results are tested in Triton's interpreter, and that its compiler takes them; what threads do to
one another only a GPU can tell. docs/use/gpu.md has what an H200 said.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils._python_dispatch import _get_current_dispatch_mode

SWITCH = "TORCH_RNN_FUSED"
DEVICES = () if torch.version.hip else ("cuda",)

OLDEST_TRITON = (3, 6)  # the oldest that was tried: tuples of tiles and cooperative launches are young
OLDEST = (8, 0)  # the compute capability whose tensor cores know TF32 and bfloat16
GATES = {"rnn": 1, "lstm": 4, "gru": 3}


class Tile(NamedTuple):
    """What a program owns, and how it computes it.

    Its part of W_hh is cut into tiles of `parts` · `depth`, a part for each warp; so are the
    states, of which a program waits for `group` tiles at a time.
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


DTYPES = (torch.float32, torch.bfloat16, torch.float16)

_failed: set[tuple[Any, ...]] = set()


def forward(
    cell: str, W_hh: Tensor, reads: Sequence[Tensor], writes: Sequence[Tensor], **constants: Any
) -> Tensor | None:
    """Run the loop forward if that can be one kernel.

    Parameters
    ----------
    cell : "rnn", "lstm" or "gru"
    W_hh : tensor (G·H, H)
    reads, writes : tensors
        Operands of the kernel `forward` in `torch_rnn.kernels.<cell>`, in this order, the last of them (T, B, ·).
        Those it writes are contiguous.
    **constants : any
        Options of this cell's kernels.

    Returns
    -------
    tensor (T, B, H) or None
        The states after each step; or None, if the kernel has not run. Then nothing is written.
    """
    (T, B, _), H = (*reads, *writes)[-1].shape, W_hh.shape[1]
    if obstacle(cell, B, W_hh, *reads, *writes):
        return None
    y = unwritten(W_hh, T, B, H)
    return y if _done((cell, "forward"), W_hh, (T, B), reads, (*writes, y), constants) else None


def backward(
    cell: str, W_hh: Tensor, reads: Sequence[Tensor], dy: Tensor, ds_n: Any, blocks: int, **constants: Any
) -> tuple[Tensor, Any] | None:
    """Run the loop backwards if that can be one kernel.

    Parameters
    ----------
    cell : "rnn", "lstm" or "gru"
    W_hh : tensor (G·H, H)
    reads : tensors
        What the kernel `backward` in `torch_rnn.kernels.<cell>` reads before dy.
    dy : tensor (T, B, H)
        Gradient of the outputs.
    ds_n : State
        Gradient of the final state.
    blocks : int
        How many blocks of H columns da has. Its last ones are those of the pre-activations with W_hh.
    **constants : any
        Options of this cell's kernels.

    Returns
    -------
    da : tensor (T, B, blocks · H)
        Gradients of the pre-activations.
    ds0 : State
        Gradient of the initial state.

    Or None, if it has not run.
    """
    T, B, H = dy.shape
    if obstacle(cell, B, W_hh, *reads, dy, *ds_n):
        return None
    da = unwritten(W_hh, T, B, blocks * H)
    # The running gradients are float32 whatever the others are.
    ds = [torch.empty(z.shape, dtype=torch.float32, device=z.device).copy_(z) for z in ds_n]
    if not _done((cell, "backward"), W_hh, (T, B), (*reads, dy), (*ds, da), constants):
        return None
    dh, *rest = (z.to(dy.dtype) for z in ds)
    return da, type(ds_n)(dh.addmm(da[0, :, -len(W_hh) :], W_hh), *rest)  # (1') of the first step


def unwritten(like: Tensor, *shape: int) -> Tensor:
    """Memory for numbers that programs will tell one another: each is a NaN that no computation gives."""
    bits = torch.int32 if like.dtype.itemsize == 4 else torch.int16
    return torch.full(shape, -1, dtype=bits, device=like.device).view(like.dtype)


def obstacle(cell: str, B: int, W_hh: Tensor, *others: Tensor) -> str | None:
    """Why no kernel can run with B sequences and these operands, in a few words; None if one can.

    Examples
    --------
    >>> obstacle("rnn", 3, torch.zeros(4, 4))
    'on cpu'
    """
    device, dtype = W_hh.device, W_hh.dtype
    if device.type not in DEVICES:
        return f"on {device.type}"
    if os.environ.get(SWITCH) == "0":
        return f"switched off by {SWITCH}=0"
    if why := _without_triton():
        return why
    if dtype not in DTYPES:
        return f"no kernel for {dtype}"
    if _get_current_dispatch_mode() is not None:  # which would not see the kernel
        return "somebody looks into the operations"
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < OLDEST:
        return f"{torch.cuda.get_device_name(device)} has no tensor cores for these products"
    on, way_of_product = chip(device), precision(dtype)
    if not all(tile((cell, way), dtype, way_of_product, W_hh.shape[1], B, on) for way in ("forward", "backward")):
        return f"{B} sequences and W_hh {tuple(W_hh.shape)} do not fit {on.multiprocessors} multiprocessors"
    for z in (W_hh, *others):
        # A wrapper of torch.func, a fake or a distributed tensor has no memory of its own to point to.
        if type(z) not in (Tensor, Parameter) or torch._C._functorch.is_functorch_wrapped_tensor(z):
            return f"an operand is a {type(z).__name__} of its own kind"
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

    Parameters
    ----------
    name : (str, str)
        Cell and way.
    dtype : torch.dtype
    precision : str
        As `precision` says.
    H, B : int
    chip : Chip

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
    """How factors are multiplied, in Triton's words: float32 by three products of TF32 unless one may do.

    A number of float32 is the sum of two of TF32's, but for 2⁻²² of it. Of the four products of two such sums the
    least is as small, and left out.
    """
    if dtype != torch.float32:
        return "ieee"
    return "tf32" if _tf32() else "tf32x3"


@functools.cache
def chip(device: torch.device) -> Chip:
    """What the GPU has."""
    found = torch.cuda.get_device_properties(device)
    # What every GPU with TF32 has, where PyTorch does not say.
    return Chip(found.multi_processor_count, getattr(found, "shared_memory_per_block_optin", 101376))


def _tf32() -> bool:
    """Whether PyTorch's own products may use TF32."""
    matmul = torch.backends.cuda.matmul
    # The newer of PyTorch's two settings, where there is one: to read the older may raise.
    return bool(matmul.fp32_precision == "tf32" if hasattr(matmul, "fp32_precision") else matmul.allow_tf32)


@functools.cache
def _without_triton() -> str | None:
    """Why Triton cannot build the kernels, if so."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed: pip install 'numpy-rnn[gpu]'"
    version: str = importlib.import_module("triton").__version__
    if tuple(int(n) for n in version.split(".")[:2]) < OLDEST_TRITON:
        return f"Triton {version} is older than {'.'.join(map(str, OLDEST_TRITON))}"
    return None


def _done(
    name: tuple[str, str],
    W_hh: Tensor,
    sizes: tuple[int, int],
    reads: Sequence[Tensor],
    writes: Sequence[Tensor],
    constants: dict[str, Any],
) -> bool:
    """Launch a kernel unless it failed before; whether it has run."""
    key = (*name, W_hh.dtype, W_hh.device, W_hh.shape)
    if key in _failed:
        return False
    try:
        from .kernels.launch import launch

        operands = (W_hh.contiguous(), *(z.contiguous() for z in reads), *writes)
        how = precision(W_hh.dtype)
        launch(
            name,
            *sizes,
            operands,
            tile(name, W_hh.dtype, how, W_hh.shape[1], sizes[1], chip(W_hh.device)),
            how,
            **constants,
        )
    except torch.cuda.OutOfMemoryError:  # which another time may not come
        raise
    except Exception as error:  # of any kind: the compiler has many, and each is less than a result
        _failed.add(key)
        why = (str(error).strip().splitlines() or [""])[0]
        warnings.warn(
            f"torch_rnn.fused: no {' '.join(name)} kernel here, the loop computes it ({type(error).__name__}: {why})",
            RuntimeWarning,
            stacklevel=3,
        )
        return False
    return True
