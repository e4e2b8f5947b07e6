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

The backward pass of each piece is its transpose:

    blocks chained by their states    the same chain, walked from the end
    reverse(x, lengths)               itself
    x ∘ mask                          dx ∘ mask
    concatenation over directions     splitting
    one x read by both directions     sum of both gradients
    sorting by length                 sorting back
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .cell import Cell, Grads, States
from .numerics import Array

Lengths = NDArray[np.intp]


class Block(NamedTuple):
    """Steps start … stop-1 of the n longest sequences."""

    start: int
    stop: int
    n: int


class Tape(NamedTuple):
    """What backward needs."""

    cell: Cell
    params: Sequence[Sequence[Any]]  # [L][D] of the cell's Params
    x: Array  # (T, B, I)
    s0: States  # fields (L·D, B, ·)
    lengths: Lengths | None  # (B,)
    masks: Sequence[Array] | None  # L-1 of (T, B, D·R)
    tapes: list[list[list[Any]]]  # [L][D][block] of the cell's Tape


class Order(NamedTuple):
    """How the sequences are sorted by falling length, and how to put them back."""

    to: NDArray[np.intp] | slice
    back: NDArray[np.intp] | slice


def order_of(lengths: Lengths | None) -> Order:
    """The sorting of a batch by falling length; sequences of equal length keep their order.

    Examples
    --------
    >>> order_of(np.array([3, 7, 5])).to.tolist()
    [1, 2, 0]
    """
    if lengths is None:
        return Order(slice(None), slice(None))
    to = np.argsort(-lengths, kind="stable")
    return Order(to, np.argsort(to))


def blocks_of(lengths: Lengths | None, T: int, B: int) -> list[Block]:
    """Rectangles that cover sequences of the given falling lengths, in the order of time.

    Examples
    --------
    >>> blocks_of(np.array([7, 5, 3, 3, 0]), T=8, B=5)
    [Block(start=0, stop=3, n=4), Block(start=3, stop=5, n=2), Block(start=5, stop=7, n=1)]
    >>> blocks_of(None, T=8, B=5)
    [Block(start=0, stop=8, n=5)]
    """
    if lengths is None:
        return [Block(0, T, B)]
    stops = np.unique(lengths[lengths > 0]).tolist()
    starts = [0, *stops[:-1]]
    return [Block(start, stop, int(np.sum(lengths >= stop))) for start, stop in zip(starts, stops)]


def reverse(x: Array, lengths: Lengths | None) -> Array:
    """Turn each sequence round within its own length; what stands after it stays. Its own transpose.

    Parameters
    ----------
    x : array (T, B, ·)
    lengths : array (B,) or None
        None: all T.

    Returns
    -------
    array (T, B, ·)

    Examples
    --------
    >>> reverse(np.array([[[1]], [[2]], [[0]]]), np.array([2]))[:, 0, 0].tolist()
    [2, 1, 0]
    """
    if lengths is None:
        return x[::-1]
    t = np.arange(x.shape[0])[:, None]
    return x[np.where(t < lengths, lengths - 1 - t, t), np.arange(x.shape[1])]


def forward(
    cell: Cell,
    params: Sequence[Sequence[Any]],
    x: Array,
    s0: States,
    lengths: Lengths | None = None,
    masks: Sequence[Array] | None = None,
) -> tuple[Array, States, Tape]:
    """Run a stack of layers, each in one direction or two.

    Parameters
    ----------
    cell : Cell
    params : L sequences of D of the cell's Params
        The second direction, if there is one, reads each sequence from its end.
    x : array (T, B, I)
    s0 : the cell's State
        Initial states, fields (L·D, B, ·), index layer · D + direction.
    lengths : array (B,), optional
        Valid steps of each sequence, 0 … T, in any order. All T by default.
    masks : L-1 arrays (T, B, D·R), optional
        What the output of each layer but the last is multiplied with: for dropout, 0 or 1 / (1 - p).

    Returns
    -------
    y : array (T, B, D·R)
        Output of the last layer, both directions side by side; 0 after a sequence's end.
    s_n : the cell's State
        Final states, fields (L·D, B, ·).
    tape : Tape
        What `backward` needs.
    """
    tape = Tape(cell, params, x, s0, lengths, masks, [])
    order = order_of(lengths)
    lengths = None if lengths is None else lengths[order.to]
    blocks = blocks_of(lengths, *x.shape[:2])
    y, s0 = x[:, order.to], cell.State(*(s[:, order.to] for s in s0))

    finals = []
    for l, layer in enumerate(params):
        if l > 0 and masks is not None:
            y = y * masks[l - 1][:, order.to]
        outputs, tapes = [], []
        for d, p in enumerate(layer):
            s = cell.State(*(s[l * len(layer) + d] for s in s0))
            output, s_n, block_tapes = _run(cell, p, reverse(y, lengths) if d else y, s, blocks)
            outputs.append(reverse(output, lengths) if d else output)
            finals.append(s_n)
            tapes.append(block_tapes)
        y = np.concatenate(outputs, axis=2)
        tape.tapes.append(tapes)
    return y[:, order.back], _stack(cell, finals, order), tape


def backward(tape: Tape, dy: Array, ds_n: States) -> tuple[list[list[Grads]], Array, States]:
    """Transpose of `forward`.

    Parameters
    ----------
    tape : Tape
        As `forward` returned it.
    dy : array (T, B, D·R)
        Gradient of the loss by the output. What stands after a sequence's end is ignored.
    ds_n : the cell's State
        Gradient by the final states, fields (L·D, B, ·).

    Returns
    -------
    grads : L lists of D of the cell's Params
    dx : array (T, B, I)
        0 after a sequence's end.
    ds0 : the cell's State
        Fields (L·D, B, ·).
    """
    cell, params, _, _, lengths, masks, tapes = tape
    order = order_of(lengths)
    lengths = None if lengths is None else lengths[order.to]
    blocks = blocks_of(lengths, *dy.shape[:2])
    dtype = gradient_dtype(tape, dy, ds_n)
    dy, ds_n = dy[:, order.to], cell.State(*(ds[:, order.to] for ds in ds_n))

    grads: list[list[Grads]] = []  # last layer first
    initials: list[States] = []
    for l, layer in reversed(list(enumerate(params))):
        D = len(layer)
        results = []
        for d, doutput in enumerate(np.split(dy, D, axis=2)):
            ds = cell.State(*(ds[l * D + d] for ds in ds_n))
            doutput = reverse(doutput, lengths) if d else doutput
            results.append(_run_backward(cell, layer[d], tapes[l][d], doutput, ds, blocks, dtype))
        grads.append([g for g, _, _ in results])
        dxs = [reverse(dx, lengths) if d else dx for d, (_, dx, _) in enumerate(results)]
        dy = sum(dxs[1:], start=dxs[0])
        initials[:0] = [ds0 for _, _, ds0 in results]
        if l > 0 and masks is not None:
            dy = dy * masks[l - 1][:, order.to]
    return grads[::-1], dy[:, order.back], _stack(cell, initials, order)


def gradient_dtype(tape: Tape, dy: Array, ds_n: States) -> np.dtype[Any]:
    """The dtype that gradients have: that of all operands together, forward's and backward's."""
    params = (p for layer in tape.params for direction in layer for p in direction)
    return np.result_type(dy, *ds_n, tape.x, *tape.s0, *params)


def _stack(cell: Cell, states: Sequence[States], order: Order) -> States:
    """States of the L·D runs as one, in the caller's order of sequences."""
    return cell.State(*(np.stack(s)[:, order.back] for s in zip(*states)))


def _run(cell: Cell, params: Any, x: Array, s0: States, blocks: Sequence[Block]) -> tuple[Array, States, list[Any]]:
    """One layer in one direction: block after block, each from the states where the one before it ended."""
    dtype = np.result_type(x, *params, *s0)
    y = np.zeros((*x.shape[:2], s0.h.shape[1]), dtype)
    s = cell.State(*(s.astype(dtype) for s in s0))  # a copy: sequences are brought up to date as they run
    tapes = []
    for start, stop, n in blocks:
        states, tape = cell.forward(params, x[start:stop, :n], cell.State(*(s[:n] for s in s)))
        y[start:stop, :n] = states.h[1:]
        for running, trajectory in zip(s, states):
            running[:n] = trajectory[-1]
        tapes.append(tape)
    return y, s, tapes


def _run_backward(
    cell: Cell,
    params: Any,
    tapes: Sequence[Any],
    dy: Array,
    ds_n: States,
    blocks: Sequence[Block],
    dtype: np.dtype[Any],
) -> tuple[Grads, Array, States]:
    """Transpose of `_run`: the same blocks from the last to the first."""
    dx = np.zeros((*dy.shape[:2], params.W_ih.shape[1]), dtype)
    ds = cell.State(*(ds.astype(dtype) for ds in ds_n))
    grads = cell.Params(*(np.zeros(p.shape, dtype) for p in params))
    for (start, stop, n), tape in zip(reversed(blocks), reversed(tapes)):
        dstates = cell.State(*(np.zeros((stop - start + 1, n, ds.shape[1]), dtype) for ds in ds))
        dstates.h[1:] = dy[start:stop, :n]
        for direct, running in zip(dstates, ds):
            direct[-1] += running[:n]
        block_grads, dx[start:stop, :n], ds0 = cell.backward(tape, dstates)
        for running, initial in zip(ds, ds0):
            running[:n] = initial
        for total, g in zip(grads, block_grads):
            total += g
    return grads, dx, ds
