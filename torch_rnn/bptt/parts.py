"""What the cells share beside the products: walks through the steps, sums, derivatives of activations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

import torch
from torch import Tensor

# Numbers of a row from which on MKL's tanh, which PyTorch calls row by row where these are apart, wakes its threads for
# each row: 16 rows of 128 take 30 µs, by way of one piece 6.
LONG_ROW = 100
# Steps of a trajectory that are views at a time: a view takes 650 bytes, as many as 160 numbers.
STRETCH = 32


def stretches(*trajectories: Tensor) -> list[tuple[Tensor, ...]]:
    """Tensors (T, …) together in parts of no more than `STRETCH` steps, from the first to the last ones.

    Examples
    --------
    >>> [len(z) for (z,) in stretches(torch.empty(70))]
    [32, 32, 6]
    """
    T = len(trajectories[0])
    if T <= STRETCH:  # most often; to cut out all of a tensor takes a microsecond
        return [trajectories]
    return [tuple(z[k : k + STRETCH] for z in trajectories) for k in range(0, T, STRETCH)]


def steps(*trajectories: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Walk through tensors (T, …) together, step by step.

    Examples
    --------
    >>> [(int(a), int(b)) for a, b in steps(torch.tensor([1, 2]), torch.tensor([10, 20]))]
    [(1, 10), (2, 20)]
    """
    return chain.from_iterable(zip(*(z.unbind() for z in some)) for some in stretches(*trajectories))


def backwards(*trajectories: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Walk through tensors (T, …) together, from the last step to the first.

    Examples
    --------
    >>> [(int(a), int(b)) for a, b in backwards(torch.tensor([1, 2]), torch.tensor([10, 20]))]
    [(2, 20), (1, 10)]
    """
    return chain.from_iterable(zip(*(z.unbind()[::-1] for z in some)) for some in reversed(stretches(*trajectories)))


def before(z: Tensor, first: Tensor) -> Iterator[Tensor]:
    """What stood before each step, from the last step to the first: z[T-2], …, z[0], first.

    Examples
    --------
    >>> [int(v) for v in before(torch.tensor([1, 2, 3]), torch.tensor(0))]
    [2, 1, 0]
    """
    return chain(chain.from_iterable(some.unbind()[::-1] for (some,) in reversed(stretches(z[:-1]))), [first])


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
