"""What the cells share: products over all steps, walks through them, derivatives of activations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

import torch
from torch import Tensor

from .products import COPIED, add_transposed, dense, linear, onednn

# Numbers of a row from which on MKL's tanh, which PyTorch calls row by row where these are apart, wakes its threads for
# each row: 16 rows of 128 take 30 µs, by way of one piece 6.
LONG_ROW = 100
# Steps of a trajectory that are views at a time: a view takes 650 bytes, as many as 160 numbers.
STRETCH = 32


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
    T, B, I = x.shape
    if onednn(x.numel() * len(W), x, W):
        return linear(x, dense(W), b)
    a = x.new_empty(T, B, len(W))
    torch.addmm(b, x.reshape(T * B, I), W.T, out=a.view(T * B, len(W)))
    return a


def steps(*trajectories: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Walk through tensors (T, …) together, step by step.

    Examples
    --------
    >>> [(int(a), int(b)) for a, b in steps(torch.tensor([1, 2]), torch.tensor([10, 20]))]
    [(1, 10), (2, 20)]
    """
    starts = range(0, len(trajectories[0]), STRETCH)
    return chain.from_iterable(zip(*(z[k : k + STRETCH].unbind() for z in trajectories)) for k in starts)


def backwards(*trajectories: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Walk through tensors (T, …) together, from the last step to the first.

    Examples
    --------
    >>> [(int(a), int(b)) for a, b in backwards(torch.tensor([1, 2]), torch.tensor([10, 20]))]
    [(2, 20), (1, 10)]
    """
    starts = reversed(range(0, len(trajectories[0]), STRETCH))
    return chain.from_iterable(zip(*(z[k : k + STRETCH].unbind()[::-1] for z in trajectories)) for k in starts)


def before(z: Tensor, first: Tensor) -> Iterator[Tensor]:
    """What stood before each step, from the last step to the first: z[T-2], …, z[0], first.

    Examples
    --------
    >>> [int(v) for v in before(torch.tensor([1, 2, 3]), torch.tensor(0))]
    [2, 1, 0]
    """
    starts = reversed(range(0, len(z) - 1, STRETCH))
    return chain(chain.from_iterable(z[k : min(k + STRETCH, len(z) - 1)].unbind()[::-1] for k in starts), [first])


def add_outer(da: Tensor, x: Tensor, out: Tensor) -> None:
    """Add Σ da_t x_tᵀ over steps and sequences to `out`, as one product.

    Parameters
    ----------
    da : tensor (T, B, O)
    x : tensor (T, B, I)
    out : tensor (O, I)

    Examples
    --------
    >>> dW = torch.ones(4, 3)
    >>> add_outer(torch.ones(2, 1, 4), torch.ones(2, 1, 3), dW)
    >>> dW[0]
    tensor([3., 3., 3.])
    """
    add_transposed(da.flatten(0, 1), x.reshape(-1, x.shape[2]), out)


def add_outer_before(da: Tensor, h_0: Tensor, y: Tensor, out: Tensor) -> None:
    """Add Σ da_t h_tᵀ over steps and sequences to `out`, where h_t = y_{t-1}: step t meets the state before it.

    Parameters
    ----------
    da : tensor (T, B, O)
    h_0 : tensor (B, R)
    y : tensor (T, B, R)
    out : tensor (O, R)

    Examples
    --------
    >>> dW, y = torch.zeros(1, 1), torch.tensor([[[1.0]], [[2.0]], [[4.0]]])
    >>> add_outer_before(torch.ones(3, 1, 1), torch.tensor([[10.0]]), y, dW)
    >>> dW
    tensor([[13.]])
    """
    add_transposed(da[0], h_0, out)
    add_transposed(da[1:].flatten(0, 1), y[:-1].flatten(0, 1), out)


def add_sum(da: Tensor, *outs: Tensor) -> None:
    """Add Σ da_t over steps and sequences to each of the biases' gradients.

    Examples
    --------
    >>> db = torch.ones(4)
    >>> add_sum(torch.ones(3, 2, 4), db)
    >>> db
    tensor([7., 7., 7., 7.])
    """
    db = da.sum((0, 1))
    for out in outs:
        out.add_(db)


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
    if onednn(da.numel() * I // COPIED, da, W):
        dx = linear(da, dense(W.T))
        out.add_(dx) if add else out.copy_(dx)
    else:
        out.addmm_(da, W) if add else torch.mm(da, W, out=out)


def tanh_for(z: Tensor) -> Callable[[Tensor], Tensor]:
    """The quickest tanh in place for a step of one gate, a block of columns; see `LONG_ROW`.

    Parameters
    ----------
    z : tensor (T, B, H)
        Of the gate's sizes, dtype and device.

    Returns
    -------
    function
        Puts tanh a in the place of a (B, H) and returns it.

    Examples
    --------
    >>> gates = torch.tensor([[0.0, 1.0], [0.0, 2.0]])
    >>> tanh_ = tanh_for(torch.empty(5, 2, 1))
    >>> tanh_(gates[:, 1:])
    tensor([[0.7616],
            [0.9640]])
    """
    _, B, H = z.shape
    by_mkl = z.device.type == "cpu" and z.dtype in (torch.float32, torch.float64) and torch.get_num_threads() > 1
    if not by_mkl or B < 3 or H < LONG_ROW:
        return Tensor.tanh_
    room = z.new_empty(B, H)  # in one piece
    return lambda a: a.copy_(room.copy_(a).tanh_())


def dsigmoid(d: Tensor, s: Tensor, out: Tensor) -> Tensor:
    """Write d ∘ s ∘ (1 - s) to `out`: what reaches a when d arrives at s = σ(a).

    Examples
    --------
    >>> dsigmoid(torch.tensor([8.0]), torch.tensor([0.5]), out=torch.empty(1))
    tensor([2.])
    """
    return torch.ops.aten.sigmoid_backward.grad_input(d, s, grad_input=out)  # type: ignore[no-any-return]


def dtanh(d: Tensor, h: Tensor, out: Tensor) -> Tensor:
    """Write d ∘ (1 - h²) to `out`: what reaches a when d arrives at h = tanh(a).

    Examples
    --------
    >>> dtanh(torch.tensor([8.0]), torch.tensor([0.5]), out=torch.empty(1))
    tensor([6.])
    """
    return torch.ops.aten.tanh_backward.grad_input(d, h, grad_input=out)  # type: ignore[no-any-return]
