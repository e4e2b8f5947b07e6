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
    concatenation over directions     splitting (`directions`: both at once, while a layer is small)
    one x read by both directions     sum of both gradients
    sorting by length                 sorting back
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import directions
from .cell import Cell, Grads, States, upstream
from .directions import apart, beside, joined, parted, states_apart, states_beside
from .numerics import Array

Lengths = NDArray[np.intp]
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
    """How time is cut: the falling lengths, and the blocks that cover them."""

    lengths: Lengths | None
    blocks: Sequence[Block]


class Snapshot(NamedTuple):
    """What a block can be run from again: the arguments of the cell's forward."""

    params: Any
    x: Array  # (stop - start, n, I)
    s0: States  # fields (n, ·)


class Run(NamedTuple):
    """What backward needs of directions that ran together: one, or all that a layer has."""

    params: Any  # the cell's Params, those of `joined` for several directions
    blocks: list[Any]  # of each block the cell's Tape, or a Snapshot; nothing


class Tape(NamedTuple):
    """What backward needs."""

    cell: Cell
    params: Sequence[Sequence[Any]]  # [L][D] of the cell's Params
    x: Array  # (T, B, I)
    s0: States  # fields (L·D, B, ·)
    lengths: Lengths | None  # (B,)
    masks: Sequence[Array] | None  # L-1 of (T, B, D·R)
    cut: Cut
    runs: list[list[Run]]  # [L][D], or [L][1] where directions ran together


Order = NDArray[np.intp] | None  # sequences in another order; None: as they are


def order_of(lengths: Lengths | None) -> tuple[Order, Order]:
    """The sorting of a batch by falling length, and its inverse; sequences of equal length keep their order.

    Examples
    --------
    >>> order_of(np.array([3, 7, 5]))[0].tolist()
    [1, 2, 0]
    """
    if lengths is None:
        return None, None
    order = np.argsort(-lengths, kind="stable")
    return order, np.argsort(order)


def blocks_of(lengths: Lengths | None, T: int, B: int) -> list[Block]:
    """Rectangles that cover sequences of the given falling lengths, in the order of time.

    None has more than BLOCK_COLUMNS columns, unless it would have less than √T steps: so a run that keeps snapshots
    needs memory for at most √T of them and the tape of one block.

    Examples
    --------
    >>> blocks_of(np.array([7, 5, 3, 3, 0]), T=8, B=5)
    [Block(start=0, stop=3, n=4), Block(start=3, stop=5, n=2), Block(start=5, stop=7, n=1)]
    >>> blocks_of(None, T=1_000_000, B=2)[:2]
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
    keep: Keep = "tapes",
    share: bool = True,
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
    keep : "tapes", "snapshots" or "nothing"
        What is kept of each block for `backward`; nothing means that there will be none.
    share : bool
        Whether the directions of a small layer may run together, see `directions`.

    Returns
    -------
    y : array (T, B, D·R)
        Output of the last layer, both directions side by side; 0 after a sequence's end.
    s_n : the cell's State
        Final states, fields (L·D, B, ·).
    tape : Tape
        What `backward` needs.
    """
    order, back = order_of(lengths)
    falling = None if lengths is None else lengths[order]
    cut = Cut(falling, blocks_of(falling, *x.shape[:2]))
    tape = Tape(cell, params, x, s0, lengths, masks, cut, [])
    y, starts = _sorted(x, order), _states_sorted(s0, order)

    finals: list[States] = []
    for l, layer in enumerate(params):
        if l > 0 and masks is not None:
            y = y * _sorted(masks[l - 1], order)
        run = _together if share and directions.share(layer, x.shape[1]) else _alone
        y, s_n, runs = run(tape, l, y, starts, keep)
        finals.append(s_n)
        tape.runs.append(runs)
    if _shared(tape) and not _finite(y):  # what is not finite in one direction has become NaN in the other
        return forward(cell, params, x, s0, lengths, masks, keep, share=False)
    y = y if y.base is None else y.copy()  # not what the tape holds: who gets y may change it
    return _sorted(y, back), _states_sorted(_of_all(finals), back), tape


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
    lengths, masks = tape.lengths, tape.masks
    order, back = order_of(lengths)
    dtype = gradient_dtype(tape, dy, ds_n)
    received = dy, ds_n
    dy, ends = _sorted(dy, order), _states_sorted(ds_n, order)

    grads: list[list[Grads]] = []  # last layer first
    initials: list[States] = []
    for l in reversed(range(len(tape.params))):
        run = _together_backward if _shared(tape) else _alone_backward
        layer_grads, dy, ds0 = run(tape, l, dy, ends, dtype)
        grads.append(layer_grads)
        initials.append(ds0)
        if l > 0 and masks is not None:
            dy = dy * _sorted(masks[l - 1], order)
    if _shared(tape) and not _finite(dy):
        _, _, tape = forward(tape.cell, tape.params, tape.x, tape.s0, lengths, masks, share=False)
        return backward(tape, *received)
    return grads[::-1], _sorted(dy, back), _states_sorted(_of_all(initials[::-1]), back)


def _shared(tape: Tape) -> bool:
    """Whether directions ran together: those of one layer if those of all."""
    return len(tape.runs[0]) < len(tape.params[0])


def _finite(z: Array) -> bool:
    """Whether all of z is finite, and its squares' sum, too: one product, the quickest way to look at each number."""
    return math.isfinite(abs(np.vdot(z, z)))


def gradient_dtype(tape: Tape, dy: Array, ds_n: States) -> np.dtype[Any]:
    """The dtype that gradients have: that of all operands together, forward's and backward's."""
    params = [p for layer in tape.params for direction in layer for p in direction]
    return np.result_type(dy, *ds_n, tape.x, *tape.s0, *params)


def _sorted(x: Array, order: Order) -> Array:
    """The sequences of x (·, B, ·) in another order."""
    return x if order is None else x[:, order]


def _states_sorted(states: States, order: Order) -> States:
    """The same of states, fields (·, B, ·)."""
    return states if order is None else type(states)(*(s[:, order] for s in states))


def _of_all(states: Sequence[States]) -> States:
    """States of all layers, fields (L·D, B, ·), from those of each, fields (D, B, ·)."""
    return states[0] if len(states) == 1 else type(states[0])(*map(np.concatenate, zip(*states)))


def _alone(tape: Tape, l: int, x: Array, s0: States, keep: Keep) -> tuple[Array, States, list[Run]]:
    """Layer l, each direction by itself, from its states in s0 to final ones, fields (D, B, ·)."""
    cell, layer, (lengths, blocks) = tape.cell, tape.params[l], tape.cut
    outputs, finals, runs = [], [], []
    for d, p in enumerate(layer):
        start = cell.State(*[s[l * len(layer) + d] for s in s0])
        y, s_n, kept = _run(cell, p, reverse(x, lengths) if d else x, start, blocks, keep)
        outputs.append(reverse(y, lengths) if d else y)
        finals.append(s_n)
        runs.append(Run(p, kept))
    return beside(outputs), cell.State(*map(np.array, zip(*finals))), runs


def _alone_backward(
    tape: Tape, l: int, dy: Array, ds_n: States, dtype: np.dtype[Any]
) -> tuple[list[Grads], Array, States]:
    """Transpose of `_alone`."""
    cell, runs, (lengths, blocks) = tape.cell, tape.runs[l], tape.cut
    grads, dxs, initials = [], [], []
    for d, ((p, kept), dy_d) in enumerate(zip(runs, apart(dy, len(runs)))):
        end = cell.State(*[ds[l * len(runs) + d] for ds in ds_n])
        g, dx, ds0 = _run_backward(cell, p, kept, reverse(dy_d, lengths) if d else dy_d, end, blocks, dtype)
        grads.append(g)
        dxs.append(reverse(dx, lengths) if d else dx)
        initials.append(ds0)
    return grads, sum(dxs[1:], start=dxs[0]), cell.State(*map(np.array, zip(*initials)))


def _together(tape: Tape, l: int, x: Array, s0: States, keep: Keep) -> tuple[Array, States, list[Run]]:
    """As `_alone`, both directions as one cell, see `directions`."""
    cell, (lengths, blocks) = tape.cell, tape.cut
    p = joined(tape.params[l], cell.gates)
    y, s_n, kept = _run(cell, p, beside((x, reverse(x, lengths))), states_beside(s0, l), blocks, keep)
    return _turned(y, lengths), states_apart(s_n), [Run(p, kept)]


def _together_backward(
    tape: Tape, l: int, dy: Array, ds_n: States, dtype: np.dtype[Any]
) -> tuple[list[Grads], Array, States]:
    """Transpose of `_together`."""
    cell, ((p, kept),), (lengths, blocks) = tape.cell, tape.runs[l], tape.cut
    g, dx, ds0 = _run_backward(cell, p, kept, _turned(dy, lengths), states_beside(ds_n, l), blocks, dtype)
    I = dx.shape[2] // 2
    dx = dx[:, :, :I] + reverse(dx[:, :, I:], lengths)
    return parted(g, tape.params[l], cell.gates), dx, states_apart(ds0)


def _turned(y: Array, lengths: Lengths | None) -> Array:
    """Both directions side by side, (T, B, 2·R), the second one turned round. Its own transpose."""
    R = y.shape[2] // 2
    turned = y.copy()
    turned[:, :, R:] = reverse(y[:, :, R:], lengths)
    return turned


def _run(
    cell: Cell, params: Any, x: Array, s0: States, blocks: Sequence[Block], keep: Keep
) -> tuple[Array, States, list[Any]]:
    """One layer in one direction: block after block, each from the states where the one before it ended."""
    T, B, _ = x.shape
    if blocks == [(0, T, B)]:  # that is all: there is nothing to put together
        states, tape = cell.forward(params, x, s0)
        if keep != "tapes":
            tape = Snapshot(params, x, cell.State(*[s.copy() for s in s0]))
        s_n = cell.State(*[trajectory[-1] for trajectory in states])
        return np.ascontiguousarray(states.h[1:]), s_n, [] if keep == "nothing" else [tape]

    dtype = np.result_type(x, *params, *s0)
    y = np.zeros((T, B, s0.h.shape[1]), dtype)
    s = cell.State(*(s.astype(dtype) for s in s0))  # a copy: sequences are brought up to date as they run
    tapes: list[Any] = []
    for start, stop, n in blocks:
        snapshot = Snapshot(params, x[start:stop, :n], cell.State(*[s[:n].copy() for s in s]))
        states, tape = cell.forward(*snapshot)
        y[start:stop, :n] = states.h[1:]
        for running, trajectory in zip(s, states):
            running[:n] = trajectory[-1]
        if keep != "nothing":
            tapes.append(tape if keep == "tapes" else snapshot)
    return y, s, tapes


def _taped(cell: Cell, kept: Any) -> Any:
    """The cell's tape of a block, of which it or a snapshot was kept."""
    return cell.forward(*kept)[1] if isinstance(kept, Snapshot) else kept


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
        return cell.backward(_taped(cell, tapes[0]), upstream(cell, dy, ds_n, dtype))

    dx = np.zeros((T, B, params.W_ih.shape[1]), dtype)
    ds = cell.State(*[ds.astype(dtype) for ds in ds_n])
    grads: Grads = None
    for (start, stop, n), tape in zip(reversed(blocks), reversed(tapes)):
        dstates = upstream(cell, dy[start:stop, :n], cell.State(*[running[:n] for running in ds]), dtype)
        block_grads, dx[start:stop, :n], ds0 = cell.backward(_taped(cell, tape), dstates)
        for running, initial in zip(ds, ds0):
            running[:n] = initial
        for total, g in zip(grads or (), block_grads):
            total += g
        grads = grads or block_grads
    if grads is None:  # no step at all
        grads = cell.Params(*(np.zeros(p.shape, dtype) for p in params))
    return grads, dx, ds
