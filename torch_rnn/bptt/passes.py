"""Which steps go forward and backward together: blocks of sequences of different lengths, and chunks of these.

Whatever takes part stands in tensors (steps, n, ·), of which any stretch of steps can go backwards by itself, the last
one first: it hands the gradient of its initial state to the one before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..blocks import Blocks, apart, joined
from .calls import Calls
from .products import Times

Saved = tuple[Tensor, ...]
Wanted = Tensor | None  # where a gradient goes; None: nobody wants it

# Columns (steps × sequences) that backward works on at a time on a CPU, at least: so few that their gradients need
# little memory and stay in the cache, so many that adding to those of the weights costs little. And their numbers.
COLUMNS, NUMBERS = 512, 2**18
COPIED = 2**14  # numbers up to which a copy takes less than another product


class Part(NamedTuple):
    """Some steps, and the gradients that arrive there: what `Manual.backward` goes back through.

    dy and ds_n are the gradients of the outputs y and of the final state; that of x is to be written to dx, unless this
    is None. `earlier` are the outputs one step before each of y, None where y begins with the first step.
    """

    x: Tensor
    s0: Any
    y: Tensor
    saved: Saved
    dy: Tensor
    ds_n: Any
    dx: Wanted
    earlier: Tensor | None = None

    @property
    def h(self) -> tuple[Tensor, ...]:
        """The state h before each step (T, B, R), in one piece, or the initial one and the others."""
        if self.earlier is not None:
            return (self.earlier,)
        h = self.s0.h[None], self.y[:-1]
        return (torch.cat(h),) if self.y.numel() <= COPIED else h


class Manual(NamedTuple):
    """A cell's two passes by hand.

    `forward(params, x, s0) -> (y, s_n, saved)` takes x (T, B, I) with T ≥ 1 and the initial state, fields (B, ·); it
    returns the outputs y (T, B, R), which are h after every step, the final state in memory of its own, and what
    backward needs besides.

    `backward(params, part, grads, room) -> ds0` goes back through a `Part` and returns the gradient of its initial
    state; those of the parameters it adds to grads. Nothing else that it is given is changed, but for dx. What it needs
    for itself stands in room.

    What is saved are tensors (T, B, ·), so any stretch of steps can go backwards by itself; `states(y, saved)` are the
    states after every step, fields of the State. Chunks are as long as if each step needed room for `blocks` (B, R).
    """

    forward: Callable[..., tuple[Tensor, Any, Saved]]
    backward: Callable[..., Any]
    states: Callable[[Tensor, Saved], tuple[Tensor, ...]]
    blocks: int


def columns_at_a_time(numbers: int) -> int:
    """Columns that backward works on at a time, if it needs room for so many numbers of each.

    Examples
    --------
    >>> [columns_at_a_time(numbers) for numbers in (64, 256, 1024)]
    [4096, 1024, 512]
    """
    return max(COLUMNS, NUMBERS // max(1, numbers))


def chunk_length(y: Tensor, blocks: int) -> int:
    """Steps that backward works on at a time.

    On a GPU it is all of them: 5 to 15 % of forward + backward at 100 steps in a CUDA graph, a quarter without. In half
    precision, too: a sum over many chunks would be rounded to 8 or 11 bits after each, and soon not grow any more.

    Examples
    --------
    >>> chunk_length(torch.empty(1000, 4, 64), blocks=4)
    250
    """
    T, B, R = y.shape
    if y.device.type != "cpu" or y.dtype.itemsize < 4:
        return T
    most = max(1, columns_at_a_time(blocks * R) // max(1, B))
    return math.ceil(T / math.ceil(T / most))


class Room:
    """Memory that backward needs for one chunk of steps after another, none of which has more columns than said.

    If each chunk took its own, it would not get the former one's, in which small tensors have settled by then: an LSTM
    of 64 units needed 4.8 MiB instead of 3.9 for 100 steps of 16 sequences.

    Examples
    --------
    >>> room = Room(like=torch.empty(0), columns=6)
    >>> first, second = room("da", 3, 2, 4), room("da", 2, 1, 4)
    >>> second.shape, second.data_ptr() == first.data_ptr()
    (torch.Size([2, 1, 4]), True)
    """

    def __init__(self, like: Tensor, columns: int) -> None:
        self.like, self.columns = like, columns
        self.pieces: dict[str, Tensor] = {}
        self.products: dict[str, tuple[int, Calls | None, Times | None]] = {}

    def __call__(self, name: str, T: int, B: int, size: int) -> Tensor:
        """A tensor (T, B, size) that is not initialized, in one piece."""
        piece = self.pieces.get(name)
        if piece is None:
            piece = self.pieces[name] = self.like.new_empty(self.columns, size)
        return (piece if self.columns == T * B else piece[: T * B]).view(T, B, size)

    def times(self, by: Calls, name: str, M: Tensor, B: int, T: int) -> Times:
        """`by.times`, once for chunks of as many sequences that follow one another and call the same library."""
        rows, library, found = self.products.get(name, (0, None, None))
        if found is None or rows != B or library is not by:
            found = by.times(M, B, T)
            self.products[name] = B, by, found
        return found


def chunk_columns(y: Tensor, blocks: int) -> int:
    """Columns (steps × sequences) of the longest chunk."""
    return chunk_length(y, blocks) * y.shape[1]


def forward_by_blocks(manual: Manual, params: Any, x: Tensor, s0: Any, blocks: Blocks) -> tuple[Tensor, Any, Saved]:
    """Block after block, each from the states where the one before it ended; what is saved are those of all blocks."""
    outputs: list[Tensor] = []
    saved: list[Tensor] = []
    State, s = type(s0), type(s0)(*(z.clone() for z in s0))
    for (_, n), part in zip(blocks, apart(x, blocks)):
        y, s_n, kept = manual.forward(params, part, State(*(z[:n] for z in s)))
        for z, z_n in zip(s, s_n):
            z[:n] = z_n  # the others have ended before
        outputs.append(y)
        saved += kept
    return joined(outputs), s, tuple(saved)


def backward_by_chunks(manual: Manual, params: Any, part: Part, grads: Any, room: Room | None = None) -> Any:
    """`manual.backward` from the last steps to the first, some at a time; see `chunk_length`."""
    room = room or Room(part.x, chunk_columns(part.y, manual.blocks))
    x, s0, y, saved, dy, ds, dx, _ = part
    length, T = chunk_length(y, manual.blocks), x.shape[0]
    if length == T:  # most often; to cut out all of a tensor takes a microsecond
        return manual.backward(params, part, grads, room)
    for stop in range(T, 0, -length):  # the shortest last
        start = max(0, stop - length)
        steps = slice(start, stop)
        s = type(s0)(*(z[start - 1] for z in manual.states(y, saved))) if start else s0
        some, wanted = tuple(z[steps] for z in saved), None if dx is None else dx[steps]
        earlier = y[start - 1 : stop - 1] if start else None
        chunk = Part(x[steps], s, y[steps], some, dy[steps], ds, wanted, earlier)
        ds = manual.backward(params, chunk, grads, room)
    return ds


def backward_by_blocks(manual: Manual, params: Any, part: Part, blocks: Blocks, grads: Any) -> Any:
    """The transpose of `forward_by_blocks`: from the last block to the first."""
    State, ds = type(part.s0), type(part.s0)(*(z.clone() for z in part.ds_n))
    x, y, dy = (apart(z, blocks) for z in (part.x, part.y, part.dy))
    room = Room(part.x, max(chunk_columns(z, manual.blocks) for z in y))
    dx = [None] * len(blocks) if part.dx is None else apart(part.dx, blocks)
    each = len(part.saved) // len(blocks)
    saved = [part.saved[k * each : (k + 1) * each] for k in range(len(blocks))]
    s0 = [part.s0, *(State(*(z[-1] for z in manual.states(*block))) for block in zip(y[:-1], saved))]
    half = part.x.dtype.itemsize < 4
    totals = [z.float() for z in grads] if half else []  # a sum over many blocks would soon not grow any more
    for k in reversed(range(len(blocks))):
        n = blocks[k].n
        own = type(grads)(*map(torch.zeros_like, grads)) if half else grads
        s, ds_n = (State(*(z[:n] for z in state)) for state in (s0[k], ds))
        ds_0 = backward_by_chunks(manual, params, Part(x[k], s, y[k], saved[k], dy[k], ds_n, dx[k]), own, room)
        for z, z_0 in zip(ds, ds_0):
            z[:n] = z_0  # the others end before
        for total, z in zip(totals, own):
            total += z
    for z, total in zip(grads, totals):
        z.copy_(total)
    return ds
