"""Products with matrices of weights, by the library that is quicker at them.

PyTorch has float32 products on a CPU from MKL, which on AMD's processors does without AVX-512, even where they have it.
oneDNN, which comes with PyTorch as well and computes torch.nn's LSTM, uses it: large products take half the time there.
On Intel's processors both use it, and everything stays with `torch.mm`. Which library it is depends on the processor
and on sizes alone, so that results are the same each time; those of the two differ by float32's rounding.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Multiplications a thread from which on a product is quicker by oneDNN: its calls take 12 µs, those of `addmm` 2.
LARGE = 2**20
# How many times that where the result has to be copied to its place, or a matrix turned first; and where both operands
# of a sum of outer products have to be, which is not so soon quicker if it is narrow: the fewest rows and columns.
COPIED, BOTH_TURNED, BROAD = 4, 8, 128
# Rows of such a sum at a time: each time they need memory.
ROWS = 256
# Products with one matrix for which it pays to turn this beforehand, and the most numbers in it: of larger ones the
# memory for another is not worth the 4 % that it saves.
MANY, SMALL = 8, 2**18
PLAIN = Tensor, torch.nn.Parameter

# x Wᵀ + b into a new tensor, and W in the order that such products of n rows read it in: what `torch.compile` calls.
# Private to PyTorch; without them everything is by `torch.mm`.
_linear: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
_ordered: Any = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)


def onednn(multiplications: int, *operands: Tensor) -> bool:
    """Whether a product of so many multiplications is for oneDNN, with the first operand's dtype and device.

    `torch.backends.mkldnn.flags(enabled=False)` keeps it out, as from the rest of PyTorch; so do tensors of a class of
    their own and modes that watch every operation (one that counts multiplications, say): these know `torch.mm`.
    """
    return (
        multiplications >= LARGE
        and operands[0].dtype is torch.float32
        and operands[0].device.type == "cpu"
        and onednn_is_quicker()
        and multiplications >= LARGE * torch.get_num_threads()
        and torch._C._get_mkldnn_enabled()
        and all(type(z) in PLAIN for z in operands)
        and not torch._C._len_torch_dispatch_stack()
    )


@cache
def onednn_is_quicker() -> bool:
    """Whether oneDNN is there, and MKL does without instructions that the processor has."""
    avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return onednn_is_there() and avx512 and torch._C.has_mkl and made_by_amd()


def onednn_is_there() -> bool:
    """Whether this PyTorch has oneDNN, and the calls of it that are needed here."""
    return torch._C._has_mkldnn and _linear is not None and _ordered is not None


def made_by_amd() -> bool:
    """Whether the processor says so, or Linux for it."""
    about = Path("/proc/cpuinfo")
    try:
        text = about.read_text(encoding="utf-8", errors="replace") if about.exists() else platform.processor()
    except OSError:
        text = platform.processor()
    return "AuthenticAMD" in text


def dense(W: Tensor) -> Tensor:
    """W itself, or a copy if there is something between its numbers: then oneDNN would take a hundred times as long."""
    return W if W.is_contiguous() or W.T.is_contiguous() else W.contiguous()


def linear(x: Tensor, W: Tensor, b: Tensor | None = None) -> Tensor:
    """W x + b of every row, by oneDNN: x (…, I), W (O, I), dense or ordered, and b (O,) give (…, O)."""
    return _linear(x, W, b, "none", [], "")  # type: ignore[no-any-return]


def ordered(W: Tensor, rows: int) -> Tensor:
    """W (O, I) as `linear` is quickest with it, for x of so many rows; only it can read this."""
    return _ordered(W, rows)  # type: ignore[no-any-return]


def add_transposed(da: Tensor, x: Tensor, out: Tensor) -> None:
    """Add daᵀ x to `out`: da (N, O), x (N, I), out (O, I).

    Examples
    --------
    >>> dW = torch.ones(4, 3)
    >>> add_transposed(torch.ones(2, 4), torch.ones(2, 3), dW)
    >>> dW[0]
    tensor([3., 3., 3.])
    """
    if min(out.shape) >= BROAD and onednn(out.numel() * len(x) // BOTH_TURNED, da, x):
        da_T, x_T = da.T, dense(x.T)
        for rows in (slice(k, k + ROWS) for k in range(0, len(out), ROWS)):
            out[rows].add_(linear(da_T[rows], x_T))
    else:
        out.addmm_(da.T, x)


class Times:
    """x M of one step after another, by torch.mm."""

    __slots__ = ("M",)

    def __init__(self, M: Tensor) -> None:
        self.M = M

    def put(self, out: Tensor, x: Tensor) -> Tensor:
        """Write x M to `out`."""
        return torch.mm(x, self.M, out=out)

    def add(self, out: Tensor, x: Tensor) -> Tensor:
        """Add x M to `out`."""
        return out.addmm_(x, self.M)

    def sum(self, out: Tensor, b: Tensor, x: Tensor) -> Tensor:
        """Write b + x M to `out`."""
        return torch.addmm(b, x, self.M, out=out)


class TimesByOneDNN(Times):
    """The same by oneDNN, which is given Mᵀ."""

    __slots__ = ()

    def put(self, out: Tensor, x: Tensor) -> Tensor:
        """Write x M to `out`."""
        return out.copy_(linear(x, self.M))

    def add(self, out: Tensor, x: Tensor) -> Tensor:
        """Add x M to `out`."""
        return out.add_(linear(x, self.M))

    def sum(self, out: Tensor, b: Tensor, x: Tensor) -> Tensor:
        """Write b + x M to `out`."""
        return torch.add(b, linear(x, self.M), out=out)


def times(M: Tensor, B: int, T: int) -> Times:
    """Products of states (B, I) with M (I, O), of which there will be T.

    Examples
    --------
    >>> M = times(torch.ones(3, 4), B=2, T=5)
    >>> M.add(torch.ones(2, 4), torch.ones(2, 3))[0]
    tensor([4., 4., 4., 4.])
    """
    order = T >= MANY and M.numel() <= SMALL
    if not onednn(B * M.numel() // (1 if order else COPIED), M):
        return Times(M)
    return TimesByOneDNN(ordered(M.T, B) if order else dense(M.T))
