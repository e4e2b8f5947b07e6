"""Products: of all steps at once, and of one after the other; by the library that is quicker at them.

PyTorch has float32 products on a CPU from MKL, which on AMD's processors does without AVX-512, even where they have it.
oneDNN, which comes with PyTorch as well and computes torch.nn's LSTM, uses it: large products take half the time there.
On Intel's processors both use it, and everything stays with `torch.mm`. Which library it is depends on the processor,
on sizes and on the number of threads alone, so that results are the same each time; those of the two differ by
float32's rounding.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Multiplications a thread from which on a product is quicker by oneDNN: its calls take 12 µs, those of `addmm` 2.
LARGE = 2**20
# How many times that where it has to turn a matrix first; where it makes a result piece by piece, in other memory; and
# where it has to turn an operand besides, for a weight's gradient, which must not be narrow: its rows and columns.
TURNED, PIECES, ADDED, BROAD = 4, 8, 12, 128
# Numbers in a matrix up to which it pays to turn it for some products beforehand (memory for another of larger ones is
# not worth the 4 % that it saves), and for how many; with few sequences it pays for MKL, too. Numbers in a piece.
SMALL, MANY, FEW, PIECE_NUMBERS = 2**18, 8, 3, 2**18
# Numbers in a weight's gradient up to which the sum of products by oneDNN is quicker turned: for each of them x has to
# be turned then, otherwise da, which has more columns; and in the end the sum.
SUMMED_TURNED = 2**20
PLAIN = frozenset((Tensor, torch.nn.Parameter))
# Multiplications up to which OpenBLAS, which NumPy calls, has one thread. With that it is quicker than PyTorch's
# libraries, some rows at a time, up to so many multiplications in all (half as many where MKL has AVX-512), while the
# matrix has no more numbers than stay in a core's cache and each part no fewer rows.
ONE_THREAD, BY_NUMPY, IN_CACHE, LEAST_ROWS = 2**18, 2**21, 2**16, 4

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
        and plain(*operands)
    )


def plain(*operands: Tensor) -> bool:
    """Whether these are tensors of no class of their own, and no mode watches every operation."""
    return PLAIN.issuperset(map(type, operands)) and not torch._C._len_torch_dispatch_stack()


def numpy_has(*operands: Tensor) -> bool:
    """Whether NumPy has the first one's numbers, and nobody has to see what is done with them."""
    z = operands[0]
    return (z.dtype is torch.float32 or z.dtype is torch.float64) and z.device.type == "cpu" and plain(*operands)


def array(z: Tensor) -> Any:
    """A tensor as an array in the same memory."""
    return z.numpy(force=True)


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


def pieces(out: Tensor) -> Iterator[slice]:
    """Rows of a matrix that together are not much memory, from the first to the last ones.

    Examples
    --------
    >>> [*pieces(torch.empty(600, 1024))]
    [slice(0, 256, None), slice(256, 512, None), slice(512, 768, None)]
    """
    each = max(1, PIECE_NUMBERS // out.shape[1])
    return (slice(k, k + each) for k in range(0, len(out), each))


def affine(W: Tensor, x: Tensor, b: Tensor) -> Tensor:
    """W x_t + b of every step as one product.

    Parameters
    ----------
    W : tensor (O, I)
    x : tensor (T, B, I)
    b : tensor (O,)

    Returns
    -------
    tensor (T, B, O)
        In one piece of memory, and no view of another tensor: PyTorch has rules for outputs of a Function that are.

    Examples
    --------
    >>> affine(torch.ones(4, 3), torch.ones(5, 2, 3), torch.zeros(4)).shape
    torch.Size([5, 2, 4])
    """
    (T, B, I), O = x.shape, W.shape[0]
    if onednn(T * B * I * O, x, W):
        return linear(x, dense(W), b)
    a = x.new_empty(T, B, O)
    torch.addmm(b, x.reshape(T * B, I), W.T, out=a.view(T * B, O))
    return a


def zeros_for(W: Tensor, columns: int) -> Tensor:
    """Zeros for the gradient of W, to which products of so many columns (steps × sequences) will be added at a time.

    These may be turned, if that is quicker; `laid_out` turns the sum.
    """
    high = W.dim() == 2 and W.shape[0] > W.shape[1] and W.numel() <= SUMMED_TURNED
    if high and W.is_contiguous() and onednn_adds(columns, W.shape, W):
        return W.new_zeros(W.shape[::-1]).T
    return torch.zeros_like(W)


def laid_out(dW: Tensor, W: Tensor) -> Tensor:
    """A gradient from `zeros_for`, laid out as W is."""
    return dW.contiguous() if W.is_contiguous() else dW


def onednn_adds(columns: int, shape: torch.Size, *operands: Tensor) -> bool:
    """Whether a product of so many columns for a weight's gradient of such a shape is for oneDNN."""
    return min(shape) >= BROAD and onednn(columns * math.prod(shape) // ADDED, *operands)


def add_outer(da: Tensor, x: Tensor, *outs: Tensor) -> None:
    """Add Σ da_t x_tᵀ over steps and sequences to `outs`, one below the other.

    Parameters
    ----------
    da : tensor (T, B, O)
    x : tensor (T, B, I)
    outs : tensors (·, I), of O rows in all
        As `zeros_for` makes them, or rows of one.

    Examples
    --------
    >>> dW = torch.ones(4, 3)
    >>> add_outer(torch.ones(2, 1, 4), torch.ones(2, 1, 3), dW[1:], dW[:1])
    >>> dW[0]
    tensor([3., 3., 3.])
    """
    da, x = da.flatten(0, 1), x.reshape(-1, x.shape[2])
    x_T, row, (columns, O) = x.T, 0, da.shape
    for out in outs:
        rows = out.shape[0]
        da_out = da if rows == O else da[:, row : row + rows]
        row += rows
        if not onednn_adds(columns, out.shape, da, x):
            out.addmm_(da_out.T, x)
        elif out.stride(0) == 1:  # turned
            x_T = x_T.contiguous()
            for some in pieces(out):
                out.T[:, some].add_(linear(x_T, da_out[:, some].contiguous().T))
        else:
            x_T = dense(x_T)
            for some in pieces(out):
                out[some].add_(linear(da_out[:, some].contiguous().T, x_T))


def add_outer_before(da: Tensor, h: tuple[Tensor, ...], out: Tensor) -> None:
    """Add Σ da_t h_tᵀ over steps and sequences to `out`, where h_t is the state before step t.

    Parameters
    ----------
    da : tensor (T, B, O)
    h : tensors (·, B, R), of T steps in all
        As `passes.Part` has them.
    out : tensor (O, R)

    Examples
    --------
    >>> dW, y = torch.zeros(1, 1), torch.tensor([[[1.0]], [[2.0]], [[4.0]]])
    >>> add_outer_before(torch.ones(3, 1, 1), (torch.tensor([[[10.0]]]), y[:-1]), dW)
    >>> dW
    tensor([[13.]])
    """
    start = 0
    for z in h:
        stop = start + z.shape[0]
        add_outer(da[start:stop], z, out)
        start = stop


def product(da: Tensor, W: Tensor, out: Tensor | None, add: bool = False) -> None:
    """Write Wᵀ da_t of every step to `out`, or add it, as one product; nothing if that is None.

    Parameters
    ----------
    da : tensor (T, B, O)
    W : tensor (O, I)
    out : tensor (T, B, I), contiguous, or None

    Examples
    --------
    >>> dx = torch.zeros(5, 2, 3)
    >>> product(torch.ones(5, 2, 4), torch.ones(4, 3), out=dx)
    >>> dx[0, 0]
    tensor([4., 4., 4.])
    """
    if out is None:
        return
    T, B, I = out.shape
    da, out = da.flatten(0, 1), out.view(T * B, I)
    if onednn(da.numel() * I // PIECES, da, W):
        W_T = dense(W.T)
        for rows in pieces(out):
            dx = linear(da[rows], W_T)
            out[rows].add_(dx) if add else out[rows].copy_(dx)
    else:
        out.addmm_(da, W) if add else torch.mm(da, W, out=out)


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


class TimesByNumPy(Times):
    """The same by NumPy, for states that are arrays, some rows at a time; see `row_parts`."""

    __slots__ = ("shape",)

    def __init__(self, M: Tensor, B: int) -> None:
        self.M: Any = np.ascontiguousarray(array(M))
        parts = row_parts(B, M.numel())
        self.shape = (parts, B // parts, -1) if parts > 1 else None

    def put(self, out: Any, x: Any) -> Any:
        """Write x M to `out`."""
        if self.shape is None:
            return x.dot(self.M, out)
        np.matmul(x.reshape(self.shape), self.M, out.reshape(self.shape))
        return out

    def add(self, out: Any, x: Any) -> Any:
        """Add x M to `out`."""
        xM = x.dot(self.M) if self.shape is None else (x.reshape(self.shape) @ self.M).reshape(out.shape)
        return np.add(out, xM, out)

    def sum(self, out: Any, b: Any, x: Any) -> Any:
        """Write b + x M to `out`."""
        return np.add(self.put(out, x), b, out)


def is_small(B: int, numbers: int) -> bool:
    """Whether a step's product of a state (B, ·) with so many numbers is for NumPy.

    Examples
    --------
    >>> is_small(16, 64 * 256), is_small(16, 1024 * 1024)
    (True, False)
    """
    most = BY_NUMPY if onednn_is_quicker() else BY_NUMPY // 2
    return B * numbers <= ONE_THREAD or (
        numbers <= IN_CACHE and B * numbers <= most and B // row_parts(B, numbers) >= LEAST_ROWS
    )


def row_parts(B: int, numbers: int) -> int:
    """How many parts of as many rows a product of a state (B, ·) is made in, so that OpenBLAS keeps to one thread.

    Its threads and those of PyTorch would wait for each other, and it knows nothing of `torch.set_num_threads`.

    Examples
    --------
    >>> [row_parts(B, numbers=128 * 512) for B in (4, 8, 12, 32)]
    [1, 2, 3, 8]
    """
    return next(k for k in range(1, max(B, 1) + 1) if B % k == 0 and (B // k * numbers <= ONE_THREAD or k == B))


def times(M: Tensor, B: int, T: int) -> Times:
    """Products of states (B, I) with M (I, O), of which there will be T.

    Examples
    --------
    >>> M = times(torch.ones(3, 4), B=2, T=5)
    >>> M.add(torch.ones(2, 4), torch.ones(2, 3))[0]
    tensor([4., 4., 4., 4.])
    """
    order = T >= MANY and M.numel() <= SMALL
    if not onednn(B * M.numel() // (1 if order else TURNED), M):
        return Times(M.contiguous() if B <= FEW and T >= MANY else M)
    return TimesByOneDNN(ordered(M.T, B) if order else dense(M.T))
