"""For NVIDIA GPUs, on request: a whole time loop as one Triton kernel, and CUDA graphs behind a plain call.

Nothing imports this package but you. `enable()` puts the kernels into `torch_rnn.manual`: from then on layers and cells
with `bptt="manual"` run them on a GPU wherever they fit, and the loops of `manual` elsewhere. `CudaGraphs` wraps a
layer by any way. What an H200 said of either, and what has changed since, stands in docs/use/gpu.md.

Kernels need Triton (`pip install 'numpy-rnn[gpu]'`; PyTorch for CUDA brings it along) and a GPU of compute capability
8.0 or newer, and compute in float32, bfloat16 and float16.
"""

from __future__ import annotations

import importlib.metadata
from functools import partial

from .. import manual
from . import loops
from .graphs import CudaGraphs

OLDEST_TRITON = (3, 6)  # the oldest that was tried: tuples of tiles and cooperative launches are young

_BY_LOOPS = dict(manual.BY_TORCH)
_BY_KERNELS = {
    name: manual.Passes(partial(passes.forward, loop=forward), partial(passes.backward, loop=backward))
    for name, passes in _BY_LOOPS.items()
    for forward, backward in [loops.LOOPS[name.split("_")[0]]]
}


def enable() -> None:
    """Let `bptt="manual"` run the kernels on a GPU.

    Raises
    ------
    RuntimeError
        If Triton is not installed, or too old.
    """
    try:
        version = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        raise RuntimeError("the GPU kernels need Triton: pip install 'numpy-rnn[gpu]'") from None
    if tuple(int(n) for n in version.split(".")[:2]) < OLDEST_TRITON:
        raise RuntimeError(f"the GPU kernels need Triton {'.'.join(map(str, OLDEST_TRITON))}, this is {version}")
    manual.BY_TORCH.update(_BY_KERNELS)


def disable() -> None:
    """Undo `enable`."""
    manual.BY_TORCH.update(_BY_LOOPS)


__all__ = ["CudaGraphs", "disable", "enable"]
