"""Layers × directions × lengths × dropout masks, once, for any cell. Nothing here knows of gates.

Sequences of different lengths come as the rows of a `PackedSequence`, sorted by falling length. There the first n
sequences are all alive from one step to another, and that is a **block**:

        step  0 1 2 3 4 5 6
    longest   A A A B B C C        block A: 3 steps of 4 sequences
              A A A B B .          block B: 2 steps of 2 (its initial states are A's final ones)
              A A A .              block C: 2 steps of 1
    shortest  A A A .

Packed data hold one row for each letter, step after step: so a block's rows follow one another, and are a tensor
(steps, n, ·) without being copied. A sequence's final state is the state it had when it ended.

`numpy_rnn.fast.deep` is the same, over padded arrays, and, by hand, its transpose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .cell import Cell

States = Any  # a cell's State, fields (B, ·) or (L·D, B, ·)
Run = Callable[[Cell, Any, Tensor, Any], tuple[Tensor, Any]]


class Block(NamedTuple):
    """Some steps of the n longest sequences."""

    steps: int
    n: int


def by_loop(cell: Cell, params: Any, x: Tensor, s0: States) -> tuple[Tensor, States]:
    """Outputs (T, B, R) and final state of a cell by its explicit loop, which autograd differentiates."""
    states = cell.forward(params, x, s0)
    return states.h[1:], cell.State(*(s[-1] for s in states))


def forward(
    cell: Cell,
    params: Sequence[Sequence[Any]],
    x: Tensor,
    s0: States,
    batch_sizes: Tensor | None = None,
    masks: Sequence[Tensor] | None = None,
    run: Run = by_loop,
) -> tuple[Tensor, States]:
    """Run a stack of layers, each in one direction or two; return the last layer's output and the final states.

    Of L layers, `params` has D of the cell's Params each; the second direction reads each sequence from its end. x is
    (T, B, I), or with `batch_sizes`, those of a PackedSequence, the rows (N, I) of packed sequences, and y is laid out
    alike. States have fields (L·D, B, ·), index layer · D + direction. The output of each layer but the last is
    multiplied with its mask: for dropout, 0 or 1 / (1 - p). `run` runs a cell over some steps of some sequences.
    """
    initials = [cell.State(*s) for s in zip(*(s.unbind() for s in s0))]
    finals: list[States] = []
    blocks, backwards = None, None
    if batch_sizes is not None:
        blocks = blocks_of(batch_sizes)
        backwards = rows_reversed(batch_sizes).to(x.device) if len(params[0]) > 1 else None

    for l, layer in enumerate(params):
        if l > 0 and masks is not None:
            x = x * masks[l - 1]
        outputs = []
        for d, p in enumerate(layer):
            start = initials[len(finals)]  # not by next: compiled by PyTorch 2.4, that gave the first one every time
            x_d = reverse(x, backwards) if d else x
            y, s_n = run(cell, p, x_d, start) if blocks is None else by_blocks(run, cell, p, x_d, start, blocks)
            outputs.append(reverse(y, backwards) if d else y)
            finals.append(s_n)
        x = torch.cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]
    return x, cell.State(*map(torch.stack, zip(*finals)))


def reverse(x: Tensor, backwards: Tensor | None) -> Tensor:
    """Turn each sequence round: whole steps, or the rows of packed sequences."""
    return x.flip(0) if backwards is None else x[backwards]


def by_blocks(
    run: Run, cell: Cell, params: Any, x: Tensor, s0: States, blocks: Sequence[Block]
) -> tuple[Tensor, States]:
    """Outputs (N, R) and final states: block after block, each from the states where the one before it ended."""
    outputs, s = [], s0
    for part, (steps, n) in zip(x.split_with_sizes([steps * n for steps, n in blocks]), blocks):
        y, s_n = run(cell, params, part.view(steps, n, -1), cell.State(*(z[:n] for z in s)))
        outputs.append(y.flatten(0, 1))
        s = cell.State(*(torch.cat([now, z[n:]]) for now, z in zip(s_n, s)))  # the others have ended before
    return torch.cat(outputs), s


def blocks_of(batch_sizes: Tensor) -> list[Block]:
    """Rectangles that cover the rows, in the order of time.

    Examples
    --------
    >>> blocks_of(torch.tensor([4, 4, 4, 2, 2, 1, 1]))
    [Block(steps=3, n=4), Block(steps=2, n=2), Block(steps=2, n=1)]
    """
    ns, steps = torch.unique_consecutive(batch_sizes, return_counts=True)
    return list(map(Block, steps.tolist(), ns.tolist()))


def rows_reversed(batch_sizes: Tensor) -> Tensor:
    """Which rows come instead of which if each sequence is turned round within its own length.

    Examples
    --------
    >>> rows_reversed(torch.tensor([2, 2, 1])).tolist()  # steps 0, 1, 2 of the longer sequence are rows 0, 2, 4
    [4, 3, 2, 1, 0]
    """
    sequences = torch.arange(int(batch_sizes[0]), device=batch_sizes.device)
    t, b = (sequences < batch_sizes[:, None]).nonzero(as_tuple=True)  # step and sequence of each row
    lengths, first_rows = torch.bincount(b), batch_sizes.cumsum(0) - batch_sizes
    return first_rows[lengths[b] - 1 - t] + b
