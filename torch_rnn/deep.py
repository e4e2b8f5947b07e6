"""Layers × directions × lengths × dropout masks, once, for any cell. Nothing here knows of gates.

Sequences of different lengths are cut into `blocks`: so nothing is computed in the padding and nothing there is read,
be it NaN. A sequence's final state is the state it had when it ended; a sequence of length 0 is in no block, and its
final state is its initial state.

`numpy_rnn.fast.deep` is the same, over padded arrays, and, by hand, its transpose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .blocks import Blocks, batch_sizes_of, blocks_of, places, turned
from .bptt import by_loop
from .cell import Cell

Run = Callable[[Cell, Any, Tensor, Any, Blocks | None], tuple[Tensor, Any]]
States = Any  # a cell's State, fields (B, ·) or (L·D, B, ·)


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
        What runs a cell over all blocks.

    Returns
    -------
    y : tensor (T, B, D·R)
        Output of the last layer, both directions side by side; 0 after a sequence's end.
    s_n : the cell's State
        Final states, fields (L·D, B, ·).
    """
    if lengths is None:
        return stack(cell, params, x, s0, None, masks, run)
    lengths, order = torch.sort(lengths, descending=True, stable=True)
    batch_sizes, order = batch_sizes_of(lengths), order.to(x.device)
    if not len(batch_sizes):
        return x.new_zeros(*x.shape[:2], len(params[0]) * s0[0].shape[-1]), s0
    t, b = (index.to(x.device) for index in places(batch_sizes))
    b = order[b]
    masks = masks and [mask[t, b] for mask in masks]
    y, s_n = stack(cell, params, x[t, b], cell.State(*(s[:, order] for s in s0)), batch_sizes, masks, run)
    back = torch.argsort(order)
    return y.new_zeros(*x.shape[:2], y.shape[1]).index_put((t, b), y), cell.State(*(s[:, back] for s in s_n))


def stack(
    cell: Cell,
    params: Sequence[Sequence[Any]],
    x: Tensor,
    s0: States,
    batch_sizes: Tensor | None,
    masks: Sequence[Tensor] | None = None,
    run: Run = by_loop,
) -> tuple[Tensor, States]:
    """As `forward`, but sequences of different lengths, sorted by them, come and go as the rows of packed data.

    Parameters
    ----------
    x : tensor (T, B, I), or (N, I) with `batch_sizes`
    batch_sizes : int64 tensor on the CPU, or None
        How many sequences are alive at each step, as in a PackedSequence.
    masks : L-1 tensors (T, B, D·R) or (N, D·R), optional
    """
    blocks = backwards = None
    if batch_sizes is not None:
        blocks = blocks_of(batch_sizes)
        backwards = turned(batch_sizes).to(x.device) if len(params[0]) > 1 else None

    def reverse(z: Tensor) -> Tensor:
        return z.flip(0) if backwards is None else z[backwards]

    initials = [cell.State(*s) for s in zip(*(s.unbind() for s in s0))]
    finals: list[Any] = []
    y = x
    for l, layer in enumerate(params):
        if l > 0 and masks is not None:
            y = y * masks[l - 1]
        outputs = []
        for d, p in enumerate(layer):
            s = initials[len(finals)]  # not by next: compiled by PyTorch 2.4, that gave the first state every time
            output, s_n = run(cell, p, reverse(y) if d else y, s, blocks)
            outputs.append(reverse(output) if d else output)
            finals.append(s_n)
        y = torch.cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]
    return y, cell.State(*map(torch.stack, zip(*finals)))
