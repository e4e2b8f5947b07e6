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
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..blocks import Blocks, apart, joined
from ..cell import Cell
from .passes import Manual, Part, backward_by_blocks, backward_by_chunks, chunk_columns, forward_by_blocks
from .products import laid_out, zeros_for

F = TypeVar("F", bound=Callable[..., Any])

# Inside a Function autograd records nothing, yet each operation asks it first, which is a tenth of a small one, and for
# each view it is noted whose view it is, which is a quarter. Within these neither is done. They are private to PyTorch;
# without them all is as right, and slower.
below_autograd: Any = getattr(torch._C, "_AutoDispatchBelowAutograd", nullcontext)
exclude: Any = getattr(torch._C, "_ExcludeDispatchKeyGuard", nullcontext)
VIEWS = torch._C.DispatchKeySet(torch._C.DispatchKey.ADInplaceOrView)


def by_loop(cell: Cell, params: Any, x: Tensor, s0: Any, blocks: Blocks | None = None) -> tuple[Tensor, Any]:
    """Outputs and final state by the explicit loop: h after every step, and the cell's State.

    x is (T, B, I) and the outputs (T, B, R); or, for sequences of different lengths, x holds the rows (N, I) of
    `blocks`, and so do the outputs (N, R), while the states still have B sequences.
    """
    if blocks is None:
        states = cell.forward(params, x, s0)
        return states.h[1:], cell.State(*(s[-1] for s in states))
    outputs, s = [], s0
    for (_, n), part in zip(blocks, apart(x, blocks)):
        y, s_n = by_loop(cell, params, part, cell.State(*(z[:n] for z in s)))
        outputs.append(y)
        s = cell.State(*(torch.cat([ended, z[n:]]) for ended, z in zip(s_n, s)))
    return joined(outputs), s


def by_hand(
    cell: Cell, manual: Manual, params: Any, x: Tensor, s0: Any, blocks: Blocks | None = None
) -> tuple[Tensor, Any]:
    """Outputs and final state as `by_loop` gives them, their gradients by hand."""
    if needs_the_loop(x, *params, *s0):
        return by_loop(cell, params, x, s0, blocks)
    y, *rest = (Forward.apply if transformed() else untransformed)(cell, manual, blocks, x, *params, *s0)
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


def signed(function: F) -> F:
    """Let a function know its signature: `Function.apply` asks for it at every call, and to make it takes 25 µs."""
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function


def untransformed(cell: Cell, manual: Manual, blocks: Blocks | None, *operands: Tensor) -> tuple[Tensor, ...]:
    """`Forward.apply` where no `torch.func` transforms: it need not bind operands to names then, 12 µs a call."""
    outputs: tuple[Tensor, ...] = quick_apply(cell, manual, blocks, *map(torch._C._functorch.unwrap_if_dead, operands))
    return outputs


class Forward(torch.autograd.Function):
    """(cell, manual, blocks, x, *params, *s0) -> (y, *s_n, *saved)."""

    @staticmethod
    @signed
    def forward(cell: Cell, manual: Manual, blocks: Blocks | None, *operands: Tensor) -> tuple[Tensor, ...]:
        """By hand."""
        params, x, s0 = _named(cell, operands)
        with below_autograd(), exclude(VIEWS), np.errstate(all="ignore"):
            if blocks is None:
                y, s_n, saved = manual.forward(params, x, s0)
            else:
                y, s_n, saved = forward_by_blocks(manual, params, x, s0, blocks)
        return (y, *s_n, *saved)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what backward and jvp need."""
        ctx.cell, ctx.manual, ctx.blocks, *operands = inputs
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
            return (None,) * (3 + n)
        operands, y = tensors[:n], tensors[n]
        _, _, s0 = _named(cell, operands)
        doutputs = _filled(doutputs[: ctx.count], (y, *s0))
        if any(map(torch._C._functorch.is_legacy_batchedtensor, doutputs)):
            # torch.autograd.grad(…, is_grads_batched=True): a vmap that asks no Function for its rule.
            return None, None, None, *_transposed_loop(cell, ctx.blocks)(*doutputs, *operands)
        wants_dx = ctx.needs_input_grad[3]
        run: Any = Backward.apply if differentiated() else Backward.forward
        return None, None, None, *run(cell, ctx.manual, ctx.blocks, wants_dx, *doutputs, *tensors)

    @staticmethod
    def jvp(ctx: Any, _cell: None, _manual: None, _blocks: None, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """By the loop."""
        n = _count(ctx.cell)
        operands, saved = ctx.saved_tensors[:n], ctx.saved_tensors[n:]
        pushed = _pushed(_loop(ctx.cell, ctx.blocks), operands, _filled(tangents, operands))
        return *pushed, *(None for _ in saved)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], cell: Cell, manual: Manual, blocks: Blocks | None, *operands: Tensor
    ) -> tuple[Any, Any]:
        """By the loop. Nothing is saved, as backward will be vectorized, too."""
        outputs = torch.func.vmap(_loop(cell, blocks), in_dims[3:])(*operands)
        return outputs, (0,) * len(outputs)


# What `Function.apply` calls in its turn.
quick_apply: Any = getattr(super(torch.autograd.Function, Forward), "apply", Forward.apply)


class Backward(torch.autograd.Function):
    """(cell, manual, blocks, whether dx is wanted, dy, *ds_n, x, *params, *s0, y, *saved) -> (dx, *grads, *ds0).

    y and what was saved follow from x, the parameters and the initial state: the derivatives by these are the total
    ones, and there are none by y and the saved tensors.
    """

    @staticmethod
    @signed
    def forward(
        cell: Cell, manual: Manual, blocks: Blocks | None, wants_dx: bool, *tensors: Tensor
    ) -> tuple[Tensor | None, ...]:
        """By hand."""
        (dy, *ds_n), operands, (y, *saved) = _parts(cell, tensors)
        params, x, s0 = _named(cell, operands)
        dx = x.new_empty(x.shape) if wants_dx else None
        columns = len(y) if blocks else chunk_columns(y, manual.blocks)
        grads = [zeros_for(p, columns) for p in params]
        whole = Part(x, s0, y, tuple(saved), dy, cell.State(*ds_n), dx)
        with below_autograd(), exclude(VIEWS), np.errstate(all="ignore"):
            if blocks is None:
                ds0 = backward_by_chunks(manual, params, whole, cell.Params(*grads))
            else:
                ds0 = backward_by_blocks(manual, params, whole, blocks, cell.Params(*grads))
        for k, p in enumerate(params):  # one after the other, so that only one of them needs its memory twice
            grads[k] = laid_out(grads[k], p)
        return dx, *grads, *ds0

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        """Keep what backward and jvp need."""
        ctx.cell, _, ctx.blocks, _, *tensors = inputs
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
        pull = torch.func.vjp(_transposed_loop(ctx.cell, ctx.blocks), *tensors)[1]
        return None, None, None, None, *pull(_filled(tangents, operands)), *[None] * ctx.computed

    @staticmethod
    def jvp(
        ctx: Any, _cell: None, _manual: None, _blocks: None, _wants_dx: None, *tangents: Tensor | None
    ) -> tuple[Tensor, ...]:
        """By the loop."""
        tensors = ctx.saved_tensors
        return _pushed(_transposed_loop(ctx.cell, ctx.blocks), tensors, _filled(tangents, tensors))

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[Any, ...],
        cell: Cell,
        manual: Manual,
        blocks: Blocks | None,
        wants_dx: bool,
        *tensors: Tensor,
    ) -> tuple[Any, Any]:
        """By the loop."""
        n = len(tensors) - len(_parts(cell, tensors)[2])
        gradients = torch.func.vmap(_transposed_loop(cell, blocks), in_dims[4 : 4 + n])(*tensors[:n])
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


def _loop(cell: Cell, blocks: Blocks | None) -> Callable[..., tuple[Tensor, ...]]:
    """(x, *params, *s0) -> (y, *s_n)."""

    def loop(*operands: Tensor) -> tuple[Tensor, ...]:
        y, s_n = by_loop(cell, *_named(cell, operands), blocks)
        return (y, *s_n)

    return loop


def _transposed_loop(cell: Cell, blocks: Blocks | None) -> Callable[..., tuple[Tensor, ...]]:
    """(dy, *ds_n, x, *params, *s0) -> (dx, *grads, *ds0)."""

    def transposed(*tensors: Tensor) -> tuple[Tensor, ...]:
        doutputs, operands, _ = _parts(cell, tensors)
        pull = torch.func.vjp(_loop(cell, blocks), *operands)[1]
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
