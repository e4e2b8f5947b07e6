"""Backpropagation through time by hand inside autograd: what `bptt="manual"` runs.

Autograd over the explicit loop records every operation of every step. Here a layer's whole time loop is one node of
autograd's graph, whose backward is written out:

* on a CPU, in float32 and float64, by the loops of `numpy_rnn.fast`, which see the tensors' own memory as arrays;
* elsewhere by `rnn`, `lstm` and `gru` of this package, the same equations in PyTorch.

By hand are values and first derivatives, and who asks for more is told so in a sentence. What PyTorch has to see
operation by operation goes through the loop: autocast, `torch.compile`, `torch.export`, `torch.jit.trace`, complex
numbers, operands of several dtypes, half precision on a CPU, and on other devices the cells' variants.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor

from numpy_rnn.fast.cell import upstream
from numpy_rnn.fast.registry import CELLS

from ..cell import Cell
from ..deep import by_loop
from . import gru, lstm, rnn


class Passes(NamedTuple):
    """A cell's two passes by hand, over T ≥ 1 steps of B sequences.

    `forward(params, x, s0) -> (y, s_n, saved)`: h after every step (T, B, R), the final state in memory of its own, and
    what backward needs besides, tensors last.

    `backward(params, x, s0, y, saved, dy, ds_n) -> (dx, grads, ds0)` changes nothing that it is given.
    """

    forward: Callable[..., tuple[Tensor, Any, tuple[Any, ...]]]
    backward: Callable[..., tuple[Tensor, Any, Any]]


BY_TORCH = {
    "rnn_tanh": Passes(rnn.forward, rnn.backward),
    "rnn_relu": Passes(partial(rnn.forward, relu=True), partial(rnn.backward, relu=True)),
    "lstm": Passes(lstm.forward, lstm.backward),
    "gru": Passes(gru.forward, gru.backward),
}


@functools.cache
def by_numpy(name: str) -> Passes:
    """The passes of the cell of that name in `numpy_rnn.fast`."""
    cell = CELLS[name]

    def forward(params: Any, x: Tensor, s0: Any) -> tuple[Tensor, Any, tuple[Any, ...]]:
        with np.errstate(all="ignore"):
            states, tape = cell.forward(cell.Params(*map(array, params)), array(x), cell.State(*map(array, s0)))
        # What the tape holds beside operands is saved as tensors: autograd frees them when backward has run.
        own = {field: z for field, z in tape._asdict().items() if isinstance(z, np.ndarray) and field != "x"}
        tape = tape._replace(params=None, x=None, **dict.fromkeys(own))
        s_n = type(s0)(*(torch.tensor(s[-1]) for s in states))
        return tensor(states.h[1:]), s_n, (tape, list(own), *map(torch.from_numpy, own.values()))

    def backward(
        params: Any, x: Tensor, s0: Any, y: Tensor, saved: tuple[Any, ...], dy: Tensor, ds_n: Any
    ) -> tuple[Tensor, Any, Any]:
        tape, fields, *own = saved
        tape = tape._replace(params=cell.Params(*map(array, params)), x=array(x), **dict(zip(fields, map(array, own))))
        with np.errstate(all="ignore"):
            dstates = upstream(cell, array(dy), cell.State(*map(array, ds_n)), array(x).dtype)
            grads, dx, ds0 = cell.backward(tape, dstates)
        return tensor(dx), type(params)(*map(tensor, grads)), type(s0)(*map(tensor, ds0))

    return Passes(forward, backward)


def array(z: Tensor) -> Any:
    """The tensor's memory as an array."""
    return z.detach().numpy()


def tensor(z: Any) -> Tensor:
    """An array's memory as a tensor, in one piece."""
    return torch.from_numpy(np.ascontiguousarray(z))


def run(cell: Cell, params: Any, x: Tensor, s0: Any) -> tuple[Tensor, Any]:
    """Outputs and final state as `by_loop` gives them, their gradients by hand."""
    passes = passes_for(cell, params, x, s0)
    if passes is None:
        return by_loop(cell, params, x, s0)
    y, *others = Forward.apply(cell, passes, x, *params, *s0)  # type: ignore[no-untyped-call]
    return y, cell.State(*others[: len(s0)])


def passes_for(cell: Cell, params: Any, x: Tensor, s0: Any) -> Passes | None:
    """Who computes these operands by hand; None if PyTorch has to see every operation on them, or if nobody can."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or autocast(x):  # type: ignore
        return None
    if not x.is_floating_point() or any(z.dtype != x.dtype for z in (*params, *s0)):
        return None
    if x.device.type == "cpu":
        return by_numpy(cell.name) if x.dtype in (torch.float32, torch.float64) else None
    return BY_TORCH.get(cell.name)


def autocast(x: Tensor) -> bool:
    """Whether the operations on x choose their dtype themselves."""
    return torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type)


class FirstDerivatives(torch.autograd.Function):
    """What is by hand and neither differentiated again nor vectorized."""

    @staticmethod
    def vmap(*_: Any) -> NoReturn:
        """Refused."""
        refuse("torch.func.vmap")

    @staticmethod
    def jvp(*_: Any) -> NoReturn:
        """Refused."""
        refuse("a forward-mode derivative")


class Forward(FirstDerivatives):
    """(cell, passes, x, *params, *s0) -> (y, *s_n, *saved)."""

    @staticmethod
    def forward(cell: Cell, passes: Passes, *operands: Tensor) -> tuple[Any, ...]:
        """By hand."""
        params, x, s0 = named(cell, operands)
        y, s_n, saved = passes.forward(params, x, s0)
        return (y, *s_n, *saved)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        """Keep what backward needs; autograd sees to it that none of it is changed in between."""
        ctx.cell, ctx.passes, *operands = inputs
        saved = output[1 + len(ctx.cell.State._fields) :]
        ctx.others = [z for z in saved if not isinstance(z, Tensor)]
        tensors = saved[len(ctx.others) :]
        ctx.mark_non_differentiable(*tensors)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*operands, output[0], *tensors)

    @staticmethod
    def backward(ctx: Any, *doutputs: Tensor | None) -> tuple[Tensor | None, ...]:
        """By hand, as a Function in its turn: so whoever differentiates or transforms it is told that he cannot."""
        tensors = ctx.saved_tensors
        _, _, s0 = named(ctx.cell, tensors)
        y_and_s_n = tensors[operand_count(ctx.cell)], *s0  # of the final state the shapes
        arrived = [torch.zeros_like(z) if d is None else d for d, z in zip(doutputs, y_and_s_n)]
        gradients = Backward.apply(ctx.cell, ctx.passes, ctx.others, *arrived, *tensors)  # type: ignore[no-untyped-call]
        return None, None, *gradients


class Backward(FirstDerivatives):
    """(cell, passes, others, dy, *ds_n, x, *params, *s0, y, *tensors) -> (dx, *grads, *ds0)."""

    @staticmethod
    def forward(cell: Cell, passes: Passes, others: list[Any], *tensors: Tensor) -> tuple[Tensor, ...]:
        """By hand."""
        n = 1 + len(cell.State._fields)
        (dy, *ds_n), tensors = tensors[:n], tensors[n:]
        try:
            _ = [z.untyped_storage() for z in (dy, *ds_n)]
        except (NotImplementedError, RuntimeError):  # one of PyTorch's stand-ins for a batch of tensors
            refuse("is_grads_batched")
        params, x, s0 = named(cell, tensors)
        y, *saved = tensors[operand_count(cell) :]
        dx, grads, ds0 = passes.backward(params, x, s0, y, (*others, *saved), dy, cell.State(*ds_n))
        return dx, *grads, *ds0

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        """Keep nothing: there is no next derivative."""

    @staticmethod
    def backward(*_: Any) -> NoReturn:
        """Refused."""
        refuse("a second derivative")


def operand_count(cell: Cell) -> int:
    """How many operands there are: x, the parameters, the initial state."""
    return 1 + len(cell.Params._fields) + len(cell.State._fields)


def named(cell: Cell, tensors: Sequence[Tensor]) -> tuple[Any, Tensor, Any]:
    """What (x, *params, *s0, …) begins with, as params, x, s0."""
    x, *rest = tensors[: operand_count(cell)]
    n = len(cell.Params._fields)
    return cell.Params(*rest[:n]), x, cell.State(*rest[n:])


def refuse(what: str) -> NoReturn:
    """Say what is not by hand, and what to do."""
    raise RuntimeError(f'bptt="manual" gives first derivatives only, and this is {what}: use bptt="autograd"')
