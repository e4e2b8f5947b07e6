"""Layers × directions × lengths × dropout masks, once, for any cell. Nothing here knows of gates.

Sequences of different lengths are cut into **blocks**: sorted by falling length, the first n sequences are all alive
from one step to another, and that rectangle is what a cell gets.

        step  0 1 2 3 4 5 6
    longest   A A A B B C C        block A: steps 0…2 of 4 sequences
              A A A B B .          block B: steps 3, 4 of 2 (its initial states are A's final ones)
              A A A .              block C: steps 5, 6 of 1
    shortest  A A A .

So nothing is computed in the padding and nothing there is read, be it NaN. A sequence's final state is the state it
had when it ended; a sequence of length 0 is in no block, and its final state is its initial state.

`numpy_rnn.deep` is the same and, by hand, its transpose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from .bptt import by_loop
from .cell import Cell

Run = Callable[[Cell, Any, Tensor, Any], tuple[Tensor, Any]]
States = Any  # a cell's State, fields (B, ·) or (L·D, B, ·)


class Block(NamedTuple):
    """Steps start … stop-1 of the n longest sequences."""

    start: int
    stop: int
    n: int


def blocks_of(lengths: Tensor | None, T: int, B: int) -> list[Block]:
    """Rectangles that cover sequences of the given falling lengths, in the order of time.

    Examples
    --------
    >>> blocks_of(torch.tensor([7, 5, 3, 3, 0]), T=8, B=5)
    [Block(start=0, stop=3, n=4), Block(start=3, stop=5, n=2), Block(start=5, stop=7, n=1)]
    >>> blocks_of(None, T=8, B=5)
    [Block(start=0, stop=8, n=5)]
    """
    if lengths is None:
        return [Block(0, T, B)]
    stops = torch.unique(lengths[lengths > 0]).tolist()
    starts = [0, *stops[:-1]]
    return [Block(start, stop, int((lengths >= stop).sum())) for start, stop in zip(starts, stops)]


def reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Turn each sequence round within its own length; what stands after it stays.

    Parameters
    ----------
    x : tensor (T, B, ·)
    lengths : tensor (B,) or None
        None: all T.

    Returns
    -------
    tensor (T, B, ·)

    Examples
    --------
    >>> reverse(torch.tensor([[[1]], [[2]], [[0]]]), torch.tensor([2]))[:, 0, 0].tolist()
    [2, 1, 0]
    """
    if lengths is None:
        return x.flip(0)
    t = torch.arange(x.shape[0], device=x.device)[:, None]
    lengths = lengths.to(x.device)
    return x[torch.where(t < lengths, lengths - 1 - t, t), torch.arange(x.shape[1], device=x.device)]


def forward(
    cell: Cell,
    params: Sequence[Sequence[Any]],
    x: Tensor,
    s0: States,
    lengths: Tensor | None = None,
    masks: Sequence[Tensor] | None = None,
    run: Run = by_loop,
) -> tuple[Tensor, States]:
    """Run a stack of layers, each in one direction or two.

    Parameters
    ----------
    cell : Cell
    params : L sequences of D of the cell's Params
        The second direction, if there is one, reads each sequence from its end.
    x : tensor (T, B, I)
    s0 : the cell's State
        Initial states, fields (L·D, B, ·), index layer · D + direction.
    lengths : int64 tensor (B,) on the CPU, optional
        Valid steps of each sequence, 0 … T, in any order. All T by default.
    masks : L-1 tensors (T, B, D·R), optional
        What the output of each layer but the last is multiplied with: for dropout, 0 or 1 / (1 - p).
    run : `bptt.by_loop` or `bptt.by_hand`
        What runs a cell over a block.

    Returns
    -------
    y : tensor (T, B, D·R)
        Output of the last layer, both directions side by side; 0 after a sequence's end.
    s_n : the cell's State
        Final states, fields (L·D, B, ·).
    """
    order = back = None
    if lengths is not None:
        lengths, order = torch.sort(lengths, descending=True, stable=True)
        back = torch.argsort(order)
    blocks = blocks_of(lengths, *x.shape[:2])
    y, s0 = _sorted(x, order), cell.State(*(_sorted(s, order) for s in s0))

    initials = [cell.State(*s) for s in zip(*(s.unbind() for s in s0))]
    finals: list[Any] = []
    for l, layer in enumerate(params):
        if l > 0 and masks is not None:
            y = y * _sorted(masks[l - 1], order)
        outputs = []
        for d, p in enumerate(layer):
            s = initials[len(finals)]  # not by next: compiled by PyTorch 2.4, that gave the first state every time
            output, s_n = _run(run, cell, p, reverse(y, lengths) if d else y, s, blocks)
            outputs.append(reverse(output, lengths) if d else output)
            finals.append(s_n)
        y = torch.cat(outputs, dim=2) if len(outputs) > 1 else outputs[0]
    return _sorted(y, back), cell.State(*(_sorted(torch.stack(s), back) for s in zip(*finals)))


def _sorted(x: Tensor, order: Tensor | None) -> Tensor:
    """The sequences of x (·, B, ·) in another order."""
    return x if order is None else x[:, order.to(x.device)]


def _run(run: Run, cell: Cell, params: Any, x: Tensor, s0: States, blocks: Sequence[Block]) -> tuple[Tensor, States]:
    """One layer in one direction: block after block, each from the states where the one before it ended."""
    T, B, _ = x.shape
    if list(blocks) == [Block(0, T, B)]:
        return run(cell, params, x, s0)
    outputs, s, end = [], s0, 0
    for start, end, n in blocks:
        output, s_n = run(cell, params, x[start:end, :n], cell.State(*(s[:n] for s in s)))
        outputs.append(pad(output, (0, 0, 0, B - n)))
        s = cell.State(*(torch.cat([ended, s[n:]]) for ended, s in zip(s_n, s)))
    outputs.append(s0.h.new_zeros(T - end, *s0.h.shape))
    return torch.cat(outputs), s
