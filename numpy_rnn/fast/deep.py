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

Long rectangles are cut once more, in time, so that the arrays of a block stay in the processor's cache. Of each block
forward keeps the cell's tape; or, to save memory, only a **snapshot**, the state at its start, from which backward
runs the block again (Chen et al. 2016, arXiv:1604.06174; Gruslys et al. 2016, arXiv:1606.03401); or nothing. The
blocks are the same in each case, and so is every bit of the results.

The backward pass of each piece is its transpose:

    blocks chained by their states    the same chain, walked from the end
    reverse(x, lengths)               itself
    x ∘ mask                          dx ∘ mask
    concatenation over directions     splitting
    one x read by both directions     sum of both gradients
    sorting by length                 sorting back
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .cell import Cell, Grads, States, upstream
from .numerics import Array

Lengths = NDArray[np.intp]
Order = NDArray[np.intp]  # sequences of a batch in another order
Keep = Literal["tapes", "snapshots", "nothing"]

# Columns (steps × sequences) of a block: so many that adding up the weight gradients block by block costs about a
# hundredth of the products that make them; so few that a long sequence needs little memory at a time.
BLOCK_COLUMNS = 4096


class Block(NamedTuple):
    """Steps start … stop-1 of the n longest sequences."""

    start: int
    stop: int
    n: int


class Cut(NamedTuple):
    """How a batch is sorted by falling length, and the blocks into which it is cut then."""

    order: Order | None  # None: all sequences have T steps and stay where they are
    inverse: Order | None
    lengths: Lengths | None  # falling
    blocks: Sequence[Block]

    def sorted(self, x: Array) -> Array:
        """The sequences of x (·, B, ·) by falling length."""
        return x if self.order is None else x[:, self.order]

    def unsorted(self, x: Array) -> Array:
        """Undo `sorted`."""
        return x if self.order is None else x[:, self.inverse]


class Tape(NamedTuple):
    """What backward needs."""

    cell: Cell
    params: Sequence[Sequence[Any]]  # [L][D] of the cell's Params
    x: Array  # (T, B, I)
    s0: States  # fields (L·D, B, ·)
    lengths: Lengths | None  # (B,)
    masks: Sequence[Array] | None  # L-1 of (T, B, D·R)
    cut: Cut
    kept: list[list[Any]]  # [L·D] of each block the cell's Tape, or a snapshot: its forward, to be called again


def cut_time(lengths: Lengths | None, T: int, B: int) -> Cut:
    """Sort a batch by falling length and cut it into blocks; sequences of equal length keep their order.

    Examples
    --------
    >>> cut_time(np.array([3, 7, 5]), T=8, B=3).order.tolist()
    [1, 2, 0]
    """
    if lengths is None:
        return Cut(None, None, None, cut_blocks(None, T, B))
    order = np.argsort(-lengths, kind="stable")
    return Cut(order, np.argsort(order), lengths[order], cut_blocks(lengths[order], T, B))


def cut_blocks(lengths: Lengths | None, T: int, B: int) -> list[Block]:
    """Rectangles that cover sequences of the given falling lengths, in the order of time.

    None has more than BLOCK_COLUMNS columns, unless it would have less than √T steps: so a run that keeps snapshots
    needs memory for at most √T of them and the tape of one block.

    Examples
    --------
    >>> cut_blocks(np.array([7, 5, 3, 3, 0]), T=8, B=5)
    [Block(start=0, stop=3, n=4), Block(start=3, stop=5, n=2), Block(start=5, stop=7, n=1)]
    >>> cut_blocks(None, T=1_000_000, B=2)[:2]
    [Block(start=0, stop=2048, n=2), Block(start=2048, stop=4096, n=2)]
    """
    if lengths is None and 0 < T * B <= BLOCK_COLUMNS:  # most often
        return [Block(0, T, B)]
    stops = [T] if lengths is None else np.unique(lengths[lengths > 0]).tolist()
    blocks = []
    for start, stop in zip([0, *stops], stops):
        n = B if lengths is None else int(np.sum(lengths >= stop))
        steps = max(math.isqrt(T), BLOCK_COLUMNS // max(1, n), 1)
        blocks += [Block(t, min(t + steps, stop), n) for t in range(start, stop, steps)]
    return blocks


def reverse(x: Array, lengths: Lengths | None) -> Array:
    """Turn each sequence of x (T, B, ·) round within its length; what stands after it stays. Its own transpose.

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
    keep: Keep = "tapes",
) -> tuple[Array, States, Tape]:
    """Run a stack of layers, each in one direction or two; return output, final states and what `backward` needs.

    Of L layers, `params` has D of the cell's Params each; the second direction reads each sequence from its end. x is
    (T, B, I); states have fields (L·D, B, ·), index layer · D + direction; `lengths` (B,) are from 0 to T, in any
    order. The output (T, B, D·R), both directions side by side, is 0 after a sequence's end; that of each layer but the
    last is multiplied with its mask: for dropout, 0 or 1 / (1 - p). `keep` says what is kept of each block.
    """
    cut = cut_time(lengths, *x.shape[:2])
    tape = Tape(cell, params, x, s0, lengths, masks, cut, [])
    y = cut.sorted(x)
    starts = [cell.State(*s) for s in zip(*map(cut.sorted, s0))]  # [L·D], fields (B, ·)
    finals: list[States] = []
    for l, layer in enumerate(params):
        if l > 0 and masks is not None:
            y = y * cut.sorted(masks[l - 1])
        outputs = []
        for d, p in enumerate(layer):
            x_d = reverse(y, cut.lengths) if d else y
            output, s_n, kept = _run(cell, p, x_d, starts[len(finals)], cut.blocks, keep)
            outputs.append(reverse(output, cut.lengths) if d else output)
            finals.append(s_n)
            tape.kept.append(kept)
        y = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=2)
    y = y if y.base is None else y.copy()  # not what the tape holds: who gets y may change it
    return cut.unsorted(y), _concat_layers(cell, cut, finals), tape


def backward(tape: Tape, dy: Array, ds_n: States) -> tuple[list[list[Grads]], Array, States]:
    """Transpose of `forward`: gradients by the parameters (L lists of D), by x and by s0.

    dy (T, B, D·R) is the gradient of the loss by y, ignored after a sequence's end, ds_n that by s_n; dx is 0 there.
    """
    cell, cut, D = tape.cell, tape.cut, len(tape.params[0])
    dtype = gradient_dtype(tape, dy, ds_n)
    dy = cut.sorted(dy)
    grads: list[list[Grads]] = [[] for _ in tape.params]
    ds0 = [cell.State(*ds) for ds in zip(*map(cut.sorted, ds_n))]  # [L·D], fields (B, ·): so far by the final states
    for l, layer in reversed(list(enumerate(tape.params))):
        dxs = []
        for d, (p, dy_d) in enumerate(zip(layer, [dy] if D == 1 else np.split(dy, D, axis=2))):
            k, dy_d = l * D + d, reverse(dy_d, cut.lengths) if d else dy_d
            g, dx, ds0[k] = _run_backward(cell, p, tape.kept[k], dy_d, ds0[k], cut.blocks, dtype)
            grads[l].append(g)
            dxs.append(reverse(dx, cut.lengths) if d else dx)
        dy = dxs[0] if D == 1 else dxs[0] + dxs[1]
        if l > 0 and tape.masks is not None:
            dy = dy * cut.sorted(tape.masks[l - 1])
    return grads, cut.unsorted(dy), _concat_layers(cell, cut, ds0)


def gradient_dtype(tape: Tape, dy: Array, ds_n: States) -> np.dtype[Any]:
    """The dtype that gradients have: that of all operands together, forward's and backward's."""
    params = [p for layer in tape.params for direction in layer for p in direction]
    return np.result_type(dy, *ds_n, tape.x, *tape.s0, *params)


def _concat_layers(cell: Cell, cut: Cut, states: Sequence[States]) -> States:
    """States of all layers and directions, fields (L·D, B, ·), in the batch's own order."""
    return cell.State(*[cut.unsorted(np.array(field)) for field in zip(*states)])


def _run(
    cell: Cell, params: Any, x: Array, s0: States, blocks: Sequence[Block], keep: Keep
) -> tuple[Array, States, list[Any]]:
    """One direction of a layer: block after block, each from the states where the one before it ended."""
    T, B, _ = x.shape
    if blocks == [(0, T, B)]:  # that is all: there is nothing to put together
        states, tape = cell.forward(params, x, s0)
        if keep == "snapshots":
            tape = partial(cell.forward, params, x, cell.State(*[s.copy() for s in s0]))
        s_n = cell.State(*[trajectory[-1] for trajectory in states])
        return np.ascontiguousarray(states.h[1:]), s_n, [] if keep == "nothing" else [tape]

    dtype = np.result_type(x, *params, *s0)
    y = np.zeros((T, B, s0.h.shape[1]), dtype)
    s = cell.State(*(s.astype(dtype) for s in s0))  # a copy: sequences are brought up to date as they run
    tapes: list[Any] = []
    for start, stop, n in blocks:
        snapshot = partial(cell.forward, params, x[start:stop, :n], cell.State(*[s[:n].copy() for s in s]))
        states, tape = snapshot()
        y[start:stop, :n] = states.h[1:]
        for running, trajectory in zip(s, states):
            running[:n] = trajectory[-1]
        if keep != "nothing":
            tapes.append(tape if keep == "tapes" else snapshot)
    return y, s, tapes


def _tape_of(kept: Any) -> Any:
    """The cell's tape of a block, of which it or a snapshot was kept."""
    return kept()[1] if isinstance(kept, partial) else kept


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
    T, B, _ = dy.shape
    if blocks == [(0, T, B)]:
        return cell.backward(_tape_of(tapes[0]), upstream(cell, dy, ds_n, dtype))

    dx = np.zeros((T, B, params.W_ih.shape[1]), dtype)
    ds = cell.State(*[ds.astype(dtype) for ds in ds_n])
    grads: Grads = None
    for (start, stop, n), tape in zip(reversed(blocks), reversed(tapes)):
        dstates = upstream(cell, dy[start:stop, :n], cell.State(*[running[:n] for running in ds]), dtype)
        block_grads, dx[start:stop, :n], ds0 = cell.backward(_tape_of(tape), dstates)
        for running, initial in zip(ds, ds0):
            running[:n] = initial
        for total, g in zip(grads or (), block_grads):
            total += g
        grads = grads or block_grads
    if grads is None:  # no step at all
        grads = cell.Params(*(np.zeros(p.shape, dtype) for p in params))
    return grads, dx, ds
