"""What the cells share beside the products: walks through the steps, sums, derivatives of activations."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor

# Steps of a trajectory that are views at a time: a view takes 650 bytes, as many as 160 numbers.
STRETCH = 32


def walk(z: Any) -> Iterator[Any]:
    """The steps of a trajectory (T, …), a tensor or an array, from the first to the last one.

    Examples
    --------
    >>> [int(v) for v in walk(torch.tensor([1, 2, 3]))]
    [1, 2, 3]
    """
    if not isinstance(z, Tensor):
        return iter(z)
    T = z.shape[0]
    if T <= STRETCH:  # most often; to cut out all of a tensor takes a microsecond
        return iter(z.unbind())
    return chain.from_iterable(z[k : k + STRETCH].unbind() for k in range(0, T, STRETCH))


def walk_backwards(z: Any) -> Iterator[Any]:
    """From the last one to the first.

    Examples
    --------
    >>> [int(v) for v in walk_backwards(torch.tensor([1, 2, 3]))]
    [3, 2, 1]
    """
    if not isinstance(z, Tensor):
        return iter(z[::-1])
    T = z.shape[0]
    if T <= STRETCH:
        return iter(z.unbind()[::-1])
    starts = reversed(range(0, T, STRETCH))
    return chain.from_iterable(z[k : k + STRETCH].unbind()[::-1] for k in starts)


def steps(*trajectories: Any) -> Iterator[tuple[Any, ...]]:
    """Walk through tensors or arrays (T, …) together, step by step.

    Examples
    --------
    >>> [(int(a), int(b)) for a, b in steps(torch.tensor([1, 2]), torch.tensor([10, 20]))]
    [(1, 10), (2, 20)]
    """
    return zip(*map(walk, trajectories))


def backwards(*trajectories: Any) -> Iterator[tuple[Any, ...]]:
    """Walk through tensors or arrays (T, …) together, from the last step to the first.

    Examples
    --------
    >>> [(int(a), int(b)) for a, b in backwards(torch.tensor([1, 2]), torch.tensor([10, 20]))]
    [(2, 20), (1, 10)]
    """
    return zip(*map(walk_backwards, trajectories))


def before(z: Any, first: Any) -> Iterator[Any]:
    """What stood before each step, from the last step to the first: z[T-2], …, z[0], first.

    Examples
    --------
    >>> [int(v) for v in before(torch.tensor([1, 2, 3]), torch.tensor(0))]
    [2, 1, 0]
    """
    return chain(walk_backwards(z[:-1]), [first])


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
