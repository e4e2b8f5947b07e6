"""What a step calls: NumPy's functions where steps are small, PyTorch's elsewhere.

A step is a dozen calls, and while it is small, a call of NumPy takes a third of one of PyTorch: a product of two small
tensors 0.2 µs instead of 0.8, a view 0.05 instead of 0.3, a product of small matrices by OpenBLAS 0.8 instead of 3.3 by
MKL. So on a CPU small steps see their tensors as arrays, in the same memory. And tanh is NumPy's at almost any size:
MKL, to which PyTorch leaves it, takes nine times as long for a number. (Times of an AMD Zen 5.) σ is always PyTorch's,
for NumPy has none.

The two are libraries of functions and nothing more: the equations are in the files of the cells, once for both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .products import MANY, Times, TimesByNumPy, array, is_small, numpy_has, times

# Numbers from which on NumPy's tanh is quicker, though tensors have to be seen as arrays first, which is half a
# microsecond each. Threads of PyTorch's that are as quick as NumPy, which has one, and the least that each one takes.
LEAST, THREADS, GRAIN = 2**9, 8, 2**15

Function = Callable[..., Any]


class Calls(NamedTuple):
    """A library's functions; those of a step write to their last argument and return it."""

    see: Callable[[Tensor], Any]  # what the others take in a tensor's place, in its memory
    gates: Callable[[Any, int], Any]  # the gates (T, B, H) of a trajectory (T, B, n H)
    times: Callable[[Tensor, int, int], Times]  # products of T states (B, I) with M (I, O), M not seen
    mul: Function  # a ∘ b
    add_mul: Function  # adds a ∘ b
    mul_add: Function  # a ∘ b + c, to a or elsewhere
    lerp: Function  # a + weight ∘ (b - a), to none of them
    tanh: Function
    relu: Function  # max(a, 0)


BY_TORCH = Calls(
    see=lambda z: z,
    gates=lambda a, n: a.chunk(n, dim=2),
    times=times,
    mul=lambda a, b, out: torch.mul(a, b, out=out),
    add_mul=lambda a, b, out: out.addcmul_(a, b),
    mul_add=lambda a, b, c, out: torch.addcmul(c, a, b, out=out),
    lerp=lambda a, b, weight, out: torch.lerp(a, b, weight, out=out),
    tanh=lambda a, out: torch.tanh(a, out=out),
    relu=lambda a, out: torch.clamp(a, min=0, out=out),
)


def _tanh(a: Tensor, out: Tensor) -> Tensor:
    np.tanh(a.numpy(), out.numpy())
    return out


TANH_BY_NUMPY = BY_TORCH._replace(tanh=_tanh)


def _gates(a: Any, n: int) -> list[Any]:
    H = a.shape[2] // n
    return [a[:, :, k * H : (k + 1) * H] for k in range(n)]


def _lerp(a: Any, b: Any, weight: Any, out: Any) -> Any:
    np.subtract(b, a, out)
    return np.add(np.multiply(out, weight, out), a, out)


# To name where a result goes, out=…, would take a fifth of a call's time.
BY_NUMPY = Calls(
    see=array,
    gates=_gates,
    times=lambda M, B, T: TimesByNumPy(M, B),
    mul=np.multiply,
    add_mul=lambda a, b, out: np.add(out, a * b, out),
    mul_add=lambda a, b, c, out: np.add(np.multiply(a, b, out), c, out),
    lerp=_lerp,
    tanh=np.tanh,
    relu=lambda a, out: np.maximum(a, 0, out=out),
)


def calls_for(c: Tensor, W_hh: Tensor, *others: Tensor) -> Calls:
    """The quicker functions for the steps of a trajectory (T, B, H) of one gate, with W_hh and other operands.

    Examples
    --------
    >>> [calls_for(torch.empty(9, 2, H), torch.empty(4 * H, H)) is BY_NUMPY for H in (4, 512)]
    [True, False]
    """
    if not numpy_has(c, W_hh, *others):
        return BY_TORCH
    T, B, H = c.shape
    if T >= MANY and is_small(B, W_hh.numel()):  # for a few steps it does not pay to see tensors as arrays
        return BY_NUMPY
    return TANH_BY_NUMPY if tanh_is_quick(B * H) else BY_TORCH


def tanh_is_quick(numbers: int) -> bool:
    """Whether NumPy's tanh is quicker for so many numbers than that of PyTorch's threads."""
    return numbers >= LEAST and min(torch.get_num_threads(), numbers // GRAIN) <= THREADS


def tanh(a: Tensor, out: Tensor) -> Tensor:
    """Write tanh a of all steps at once to `out`, by the library that is quicker.

    Examples
    --------
    >>> tanh(torch.tensor([0.0, 1.0]), out=torch.empty(2))
    tensor([0.0000, 0.7616])
    """
    if numpy_has(a) and tanh_is_quick(a.numel()):
        return _tanh(a, out)
    return torch.tanh(a, out=out)
