"""When the kernels of `torch_rnn.kernels` run in place of `torch_rnn.bptt`'s loops, and their launch.

On an NVIDIA GPU each step of a loop launches several small kernels, and a small layer waits for these launches. One
kernel for all steps needs Triton (`pip install 'numpy-rnn[gpu]'`; PyTorch for CUDA brings it along). With
TORCH_RNN_FUSED=1 in the environment it runs wherever `obstacle` finds none. That it has to be switched on will end when
a GPU has run it: neither the interpreter nor the compiler would notice two threads in each other's way.

Should Triton fail to build or to launch a kernel, the loop computes it, and a warning says so, once for each kernel.

The kernels' results are tested in Triton's interpreter, on a CPU, and that its compiler takes them. Their speed is
unmeasured as yet: `LARGEST` and `TILES` follow from published rates and the compiler's counts alone.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

SWITCH = "TORCH_RNN_FUSED"
DEVICES = () if torch.version.hip else ("cuda",)

# Bytes of W_hh. Every program reads all of W_hh at every step, from the second-level cache where it is larger than the
# first, at some 64 bytes a clock: 1 MiB takes about 10 µs. cuDNN needs 7 to 15 µs a step where W_hh is as large (its
# kernels that keep W_hh on the chip end below), and a loop in a CUDA graph 4 to 8 µs and more as W_hh grows. In float32
# the limit is H = 256 for an LSTM, 295 for a GRU, 512 for an RNN; in half precision √2 times as many.
LARGEST = 2**20

PROGRAMS = 128  # about as many multiprocessors as a large GPU has


class Tile(NamedTuple):
    """Sizes of the blocks of a kernel, powers of two of at least 16 (but rows), and how the compiler uses them.

    A program keeps a tile (rows, units) of each gate in registers, and `stages` tiles (depth, units) of W_hh, for each
    gate, on their way through shared memory.
    """

    rows: int
    units: int
    depth: int
    stages: int = 3
    warps: int = 4


# By the way products are computed. On tensor cores a product has 16 rows, used or not. Without them, as exact float32
# asks for, each row costs; so a program has few, as long as there are multiprocessors for more programs. What the
# compiler reports for H = 192, compute capability 8.0 and 9.0: at most 128 registers a thread of the 255 that there
# are, at most one of them spilled, at most 36 KiB of shared memory of the 64 that the smallest GPU has. Where H is no
# multiple of 16, numbers are read one by one: up to 255 registers, some spilled.
TILES = {
    "ieee": (Tile(4, 32, 32), Tile(8, 32, 32), Tile(16, 32, 16)),
    "tf32": (Tile(16, 32, 32),),
    "half": (Tile(16, 32, 64),),
}
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

_failed: set[tuple[Any, ...]] = set()


def forward(cell: str, W_hh: Tensor, reads: Sequence[Tensor], writes: Sequence[Tensor], **constants: Any) -> bool:
    """Run the loop forward if that can be one kernel.

    Parameters
    ----------
    cell : "rnn", "lstm" or "gru"
    W_hh : tensor (G·H, H)
    reads, writes : tensors
        Operands of the kernel `forward` in `torch_rnn.kernels.<cell>`, in this order. Those it writes, the first of
        them (T, B, ·), are contiguous.
    **constants : any
        Options of this cell's kernels.

    Returns
    -------
    bool
        Whether it has run. If not, nothing is written.
    """
    if obstacle(W_hh, *reads, *writes):
        return False
    T, B, _ = writes[0].shape
    return _done((cell, "forward"), W_hh, (T, B), reads, writes, constants)


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
        How many blocks of H columns da has.
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
    if obstacle(W_hh, *reads, dy, *ds_n):
        return None
    T, B, H = dy.shape
    da = dy.new_empty(T, B, blocks * H)
    # The running gradients are float32 whatever the others are.
    ds = [torch.empty(z.shape, dtype=torch.float32, device=z.device).copy_(z) for z in ds_n]
    if not _done((cell, "backward"), W_hh, (T, B), (*reads, dy), (*ds, da), constants):
        return None
    return da, type(ds_n)(*(z.to(dy.dtype) for z in ds))


def obstacle(W_hh: Tensor, *others: Tensor) -> str | None:
    """Why no kernel can run with these operands, in a few words; None if one can.

    Examples
    --------
    >>> obstacle(torch.zeros(4, 4))
    'on cpu'
    """
    device, dtype = W_hh.device, W_hh.dtype
    if device.type not in DEVICES:
        return f"on {device.type}"
    if os.environ.get(SWITCH) != "1":
        return f"not switched on by {SWITCH}=1"
    if not _has_triton():
        return "Triton is not installed: pip install 'numpy-rnn[gpu]'"
    if dtype not in DTYPES:
        return f"no kernel for {dtype}"
    if (size := W_hh.numel() * W_hh.element_size()) > LARGEST:
        return f"W_hh has {size} bytes, more than {LARGEST}"
    for z in (W_hh, *others):
        # A wrapper of torch.func, a fake or a distributed tensor has no memory of its own to point to.
        if type(z) not in (Tensor, Parameter) or torch._C._functorch.is_functorch_wrapped_tensor(z):
            return f"an operand is a {type(z).__name__} of its own kind"
        if z.device != device or z.dtype != dtype:
            return f"operands differ: {dtype} on {device}, {z.dtype} on {z.device}"
        if z.numel() == 0:
            return "an operand is empty"
    return None


def tile(dtype: torch.dtype, B: int) -> tuple[Tile, str]:
    """Sizes of the blocks for B sequences, and the precision of the products in Triton's words.

    Examples
    --------
    >>> tile(torch.bfloat16, 20)
    (Tile(rows=16, units=32, depth=64, stages=3, warps=4), 'ieee')
    """
    precision = "tf32" if dtype == torch.float32 and _tf32() else "ieee"
    choice = TILES[precision if dtype == torch.float32 else "half"]
    return next((t for t in choice if t.rows * PROGRAMS >= B), choice[-1]), precision


def _tf32() -> bool:
    """Whether PyTorch's own products may use TF32."""
    matmul = torch.backends.cuda.matmul
    # The newer of PyTorch's two settings, where there is one: to read the older may raise.
    return bool(matmul.fp32_precision == "tf32" if hasattr(matmul, "fp32_precision") else matmul.allow_tf32)


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


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
        launch(name, *sizes, operands, *tile(W_hh.dtype, sizes[1]), **constants)
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
