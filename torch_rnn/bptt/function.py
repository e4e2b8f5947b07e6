"""Forward and backward by hand as `torch.autograd.Function`s, once, for any cell.

By hand are the values and their first derivatives, which is what training needs. Whatever differentiates or vectorizes
these in turn (second derivatives, forward-mode derivatives, `torch.func.vmap`) goes through the explicit loop of the
cell, where PyTorch knows every operation; so do autocast, which chooses a dtype for each operation of the loop,
operands of several dtypes, complex numbers, and `torch.compile`, `torch.export` and `torch.jit.trace`, which look into
the loop.

Second derivatives are those of `torch.func.vjp`, which refuses to work while somebody's hooks on saved tensors are
active (`torch.autograd.graph.save_on_cpu`, a checkpoint): there they need `bptt="autograd"`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from ..cell import Cell

Saved = tuple[Tensor, ...]
Wanted = Tensor | None  # where a gradient goes; None: nobody wants it
F = TypeVar("F", bound=Callable[..., Any])

# Numbers of a gate that backward works on at a time on a CPU, and columns (steps × sequences) at least: so few that
# their gradients need little memory and stay in the cache, so many that adding to those of the weights costs little.
CHUNK_NUMBERS, CHUNK_COLUMNS = 2**16, 512

# Inside a Function autograd records nothing, yet each operation asks it first, which is a tenth of a small one. Within
# this none does. It is private to PyTorch; without it all is as right, and slower.
below_autograd: Any = getattr(torch._C, "_AutoDispatchBelowAutograd", nullcontext)


class Manual(NamedTuple):
    """A cell's two passes by hand.

    `forward(params, x, s0) -> (y, s_n, saved)` takes x (T, B, I) with T ≥ 1 and the initial state, fields (B, ·); it
    returns the outputs y (T, B, R), which are h after every step, the final state in memory of its own, and what
    backward needs besides.

    `backward(params, x, s0, y, saved, dy, ds_n, dx, grads, room) -> ds0` takes the gradients of y and of the final
    state and returns that of the initial state; those of the parameters it adds to grads, that of x it writes to dx,
    unless this is None. No other argument of the two is changed. What it needs for itself stands in room.

    What is saved are tensors (T, B, ·), so any stretch of steps can go backwards by itself; `states(y, saved)` are the
    states after every step, fields of the State.
    """

    forward: Callable[..., tuple[Tensor, Any, Saved]]
    backward: Callable[..., Any]
    states: Callable[[Tensor, Saved], tuple[Tensor, ...]]


def by_loop(cell: Cell, params: Any, x: Tensor, s0: Any) -> tuple[Tensor, Any]:
    """Outputs and final state by the explicit loop: h after every step (T, B, R), and the cell's State."""
    states = cell.forward(params, x, s0)
    return states.h[1:], cell.State(*(s[-1] for s in states))


def by_hand(cell: Cell, manual: Manual, params: Any, x: Tensor, s0: Any) -> tuple[Tensor, Any]:
    """Outputs and final state as `by_loop` gives them, their gradients by hand."""
    if needs_the_loop(x, *params, *s0):
        return by_loop(cell, params, x, s0)
    y, *rest = Forward.apply(cell, manual, x, *params, *s0)  # type: ignore[no-untyped-call]
    return y, cell.State(*rest[: len(cell.State._fields)])


def needs_the_loop(x: Tensor, *others: Tensor) -> bool:
    """Whether PyTorch has to see every operation on `x`."""
    if torch.compiler.is_compiling():  # first: older compilers cannot look into what `autocast` asks
        return True
    if torch._C._get_tracing_state() is not None:
        return True
    return autocast(x) or x.is_complex() or any(z.dtype != x.dtype for z in others)


def autocast(x: Tensor) -> bool:
    """Whether the operations on `x` choose their dtype themselves."""
    device = x.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def differentiated() -> bool:
    """Whether somebody differentiates or vectorizes what is computed now; else a Function costs 60 µs for nothing."""
    return torch.is_grad_enabled() or transformed()


def transformed() -> bool:
    """Whether `torch.func` or forward-mode differentiation sees what is computed now."""
    return torch._C._functorch.peek_interpreter_stack() is not None or torch.autograd.forward_ad._current_level >= 0


def chunk_length(y: Tensor) -> int:
    """Steps that backward works on at a time.

    On a GPU it is all of them: 5 to 15 % of forward + backward at 100 steps in a CUDA graph, a quarter without. In half
    precision, too: a sum over many chunks would be rounded to 8 or 11 bits after each, and soon not grow any more.

    Examples
    --------
    >>> chunk_length(torch.empty(1000, 4, 64))
    250
    """
    T, B, R = y.shape
    if y.device.type != "cpu" or y.dtype.itemsize < 4:
        return T
    most = max(1, max(CHUNK_COLUMNS, CHUNK_NUMBERS // max(1, R)) // max(1, B))
    return math.ceil(T / math.ceil(T / most))


def signed(function: F) -> F:
    """Let a function know its signature: `Function.apply` asks for it at every call, and to make it takes 25 µs."""
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function


class Room:
    """Memory that backward needs for one chunk of steps after another, the first of which is the longest.

    If each chunk took its own, it would not get the former one's, in which small tensors have settled by then: an LSTM
    of 64 units needed 4.8 MiB instead of 3.9 for 100 steps of 16 sequences.

    Examples
    --------
    >>> room = Room(like=torch.empty(0))
    >>> first, second = room("da", 3, 2, 4), room("da", 2, 2, 4)
    >>> second.shape, second.data_ptr() == first.data_ptr()
    (torch.Size([2, 2, 4]), True)
    """

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.pieces: dict[str, Tensor] = {}

    def __call__(self, name: str, T: int, *sizes: int) -> Tensor:
        """A tensor (T, *sizes) that is not initialized, in one piece."""
        if name not in self.pieces:
            self.pieces[name] = self.like.new_empty(T, *sizes)
        piece = self.pieces[name]
        return piece if len(piece) == T else piece[:T]


class Forward(torch.autograd.Function):
    """(cell, manual, x, *params, *s0) -> (y, *s_n, *saved)."""

    @staticmethod
    @signed
    def forward(cell: Cell, manual: Manual, *operands: Tensor) -> tuple[Tensor, ...]:
        """By hand."""
        with below_autograd():
            y, s_n, saved = manual.forward(*_named(cell, operands))
        return (y, *s_n, *saved)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what backward and jvp need."""
        ctx.cell, ctx.manual, *operands = inputs
        ctx.count = 1 + len(ctx.cell.State._fields)
        saved = output[ctx.count :]
        ctx.mark_non_differentiable(*saved)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*operands, output[0], *saved)
        ctx.save_for_forward(*operands, *saved)

    @staticmethod
    def backward(ctx: Any, *doutputs: Tensor | None) -> tuple[Tensor | None, ...]:
        """By a Function in its turn."""
        cell, tensors, n = ctx.cell, ctx.saved_tensors, _count(ctx.cell)
        if all(d is None for d in doutputs):  # from Backward, of whose operands y is one only in form
            return (None,) * (2 + n)
        operands, y = tensors[:n], tensors[n]
        _, _, s0 = _named(cell, operands)
        doutputs = _filled(doutputs[: ctx.count], (y, *s0))
        if any(map(torch._C._functorch.is_legacy_batchedtensor, doutputs)):
            # torch.autograd.grad(…, is_grads_batched=True): a vmap that asks no Function for its rule.
            return None, None, *_transposed_loop(cell)(*doutputs, *operands)
        wants_dx = ctx.needs_input_grad[2]
        run: Any = Backward.apply if differentiated() else Backward.forward
        return None, None, *run(cell, ctx.manual, wants_dx, *doutputs, *tensors)

    @staticmethod
    def jvp(ctx: Any, _cell: None, _manual: None, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """By the loop."""
        n = _count(ctx.cell)
        operands, saved = ctx.saved_tensors[:n], ctx.saved_tensors[n:]
        return *_pushed(_loop(ctx.cell), operands, _filled(tangents, operands)), *(None for _ in saved)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], cell: Cell, manual: Manual, *operands: Tensor) -> tuple[Any, Any]:
        """By the loop. Nothing is saved, as backward will be vectorized, too."""
        outputs = torch.func.vmap(_loop(cell), in_dims[2:])(*operands)
        return outputs, (0,) * len(outputs)


class Backward(torch.autograd.Function):
    """(cell, manual, whether dx is wanted, dy, *ds_n, x, *params, *s0, y, *saved) -> (dx, *grads, *ds0).

    y and what was saved follow from x, the parameters and the initial state: the derivatives by these are the total
    ones, and there are none by y and the saved tensors.
    """

    @staticmethod
    @signed
    def forward(cell: Cell, manual: Manual, wants_dx: bool, *tensors: Tensor) -> tuple[Tensor | None, ...]:
        """By hand."""
        (dy, *ds_n), operands, (y, *saved) = _parts(cell, tensors)
        params, x, s0 = _named(cell, operands)
        dx = x.new_empty(x.shape) if wants_dx else None
        ds, grads, room = cell.State(*ds_n), cell.Params(*map(torch.zeros_like, params)), Room(like=x)
        length = chunk_length(y)
        with below_autograd():
            for stop in range(len(x), 0, -length):  # the shortest last
                start = max(0, stop - length)
                steps = slice(start, stop)
                s = cell.State(*(z[start - 1] for z in manual.states(y, tuple(saved)))) if start else s0
                parts = x[steps], s, y[steps], [z[steps] for z in saved], dy[steps], ds, dx if dx is None else dx[steps]
                ds = manual.backward(params, *parts, grads, room)
        return dx, *grads, *ds

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        """Keep what backward and jvp need."""
        ctx.cell, _, _, *tensors = inputs
        ctx.set_materialize_grads(False)
        doutputs, operands, computed = _parts(ctx.cell, tensors)
        ctx.computed = len(computed)
        ctx.save_for_backward(*doutputs, *operands)
        ctx.save_for_forward(*doutputs, *operands)

    @staticmethod
    def backward(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """By the loop."""
        tensors = ctx.saved_tensors
        _, operands, _ = _parts(ctx.cell, tensors)
        pull = torch.func.vjp(_transposed_loop(ctx.cell), *tensors)[1]
        return None, None, None, *pull(_filled(tangents, operands)), *[None] * ctx.computed

    @staticmethod
    def jvp(ctx: Any, _cell: None, _manual: None, _wants_dx: None, *tangents: Tensor | None) -> tuple[Tensor, ...]:
        """By the loop."""
        tensors = ctx.saved_tensors
        return _pushed(_transposed_loop(ctx.cell), tensors, _filled(tangents, tensors))

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], cell: Cell, manual: Manual, wants_dx: bool, *tensors: Tensor
    ) -> tuple[Any, Any]:
        """By the loop."""
        n = len(tensors) - len(_parts(cell, tensors)[2])
        gradients = torch.func.vmap(_transposed_loop(cell), in_dims[3 : 3 + n])(*tensors[:n])
        return gradients, (0,) * len(gradients)


def _count(cell: Cell) -> int:
    """How many operands there are: x, the parameters, the initial state."""
    return 1 + len(cell.Params._fields) + len(cell.State._fields)


def _named(cell: Cell, operands: Sequence[Tensor]) -> tuple[Any, Tensor, Any]:
    """(x, *params, *s0) as params, x, s0."""
    x, *rest = operands
    n = len(cell.Params._fields)
    return cell.Params(*rest[:n]), x, cell.State(*rest[n:])


def _parts(cell: Cell, tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    """(dy, *ds_n, x, *params, *s0, y, *saved) as gradients of outputs, operands, and what follows from these."""
    n = 1 + len(cell.State._fields)
    m = n + _count(cell)
    return tensors[:n], tensors[n:m], tensors[m:]


def _filled(gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Zeros for what is None."""
    return tuple(z.new_zeros(()).expand_as(z) if g is None else g for g, z in zip(gradients, like))


def _loop(cell: Cell) -> Callable[..., tuple[Tensor, ...]]:
    """(x, *params, *s0) -> (y, *s_n)."""

    def loop(*operands: Tensor) -> tuple[Tensor, ...]:
        y, s_n = by_loop(cell, *_named(cell, operands))
        return (y, *s_n)

    return loop


def _transposed_loop(cell: Cell) -> Callable[..., tuple[Tensor, ...]]:
    """(dy, *ds_n, x, *params, *s0) -> (dx, *grads, *ds0)."""

    def transposed(*tensors: Tensor) -> tuple[Tensor, ...]:
        doutputs, operands, _ = _parts(cell, tensors)
        pull = torch.func.vjp(_loop(cell), *operands)[1]
        return pull(tuple(doutputs))  # type: ignore[no-any-return]

    return transposed


def _pushed(
    function: Callable[..., tuple[Tensor, ...]], primals: Sequence[Tensor], tangents: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """The forward-mode derivative, as the transpose of the transpose: so it works within forward mode, too."""
    outputs, pull = torch.func.vjp(function, *primals)[:2]
    pull_back = torch.func.vjp(pull, tuple(torch.zeros_like(z) for z in outputs))[1]
    (pushed,) = pull_back(tangents)
    return pushed  # type: ignore[no-any-return]
