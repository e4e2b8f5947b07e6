"""Sequences of different lengths as rectangles, in the layout of a `PackedSequence`.

Sorted by falling length, the first n sequences are all alive from one step to another, and that is a **block**:

        step  0 1 2 3 4 5 6
    longest   A A A B B C C        block A: 3 steps of 4 sequences
              A A A B B .          block B: 2 steps of 2 (its initial states are A's final ones)
              A A A .              block C: 2 steps of 1
    shortest  A A A .

Packed data hold one row for each letter, step after step: so a block's rows follow one another, and are a tensor
(steps, n, ·) without being copied. Nothing is computed in the padding, for there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Block(NamedTuple):
    """Some steps of the n longest sequences."""

    steps: int
    n: int


Blocks = tuple[Block, ...]


def batch_sizes_of(lengths: Tensor) -> Tensor:
    """How many sequences are alive at each step, as in a PackedSequence.

    Examples
    --------
    >>> batch_sizes_of(torch.tensor([7, 5, 3, 3, 0])).tolist()
    [4, 4, 4, 2, 2, 1, 1]
    """
    steps = torch.arange(int(lengths.max()) if len(lengths) else 0, device=lengths.device)
    return (lengths > steps[:, None]).sum(1)


def blocks_of(batch_sizes: Tensor) -> Blocks:
    """Rectangles that cover the rows, in the order of time.

    Examples
    --------
    >>> blocks_of(torch.tensor([4, 4, 4, 2, 2, 1, 1]))
    (Block(steps=3, n=4), Block(steps=2, n=2), Block(steps=2, n=1))
    """
    ns, steps = torch.unique_consecutive(batch_sizes, return_counts=True)
    return tuple(map(Block, steps.tolist(), ns.tolist()))


def places(batch_sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Step t and sequence b of each row, the longest sequence being the first.

    Examples
    --------
    >>> [index.tolist() for index in places(torch.tensor([2, 2, 1]))]
    [[0, 0, 1, 1, 2], [0, 1, 0, 1, 0]]
    """
    sequences = torch.arange(int(batch_sizes[0]) if len(batch_sizes) else 0, device=batch_sizes.device)
    alive = sequences < batch_sizes[:, None]
    t, b = alive.nonzero(as_tuple=True)
    return t, b


def turned(batch_sizes: Tensor) -> Tensor:
    """Which rows come instead of which if each sequence is turned round within its own length.

    Examples
    --------
    >>> turned(torch.tensor([2, 2, 1])).tolist()  # steps 0, 1, 2 of the longer sequence are rows 0, 2, 4
    [4, 3, 2, 1, 0]
    """
    t, b = places(batch_sizes)
    lengths, first_rows = torch.bincount(b), batch_sizes.cumsum(0) - batch_sizes
    return first_rows[lengths[b] - 1 - t] + b


def apart(rows: Tensor, blocks: Blocks) -> list[Tensor]:
    """The blocks of rows (N, ·), each (steps, n, ·); they share the rows' memory.

    Examples
    --------
    >>> [z.shape for z in apart(torch.empty(16, 3), (Block(3, 4), Block(2, 2)))]
    [torch.Size([3, 4, 3]), torch.Size([2, 2, 3])]
    """
    pieces = rows.split_with_sizes([steps * n for steps, n in blocks])
    return [piece.view(*block, *piece.shape[1:]) for piece, block in zip(pieces, blocks)]


def joined(parts: Sequence[Tensor]) -> Tensor:
    """The rows (N, ·) of blocks (steps, n, ·).

    Examples
    --------
    >>> joined([torch.empty(3, 4, 3), torch.empty(2, 2, 3)]).shape
    torch.Size([16, 3])
    """
    return torch.cat([part.flatten(0, 1) for part in parts])
