"""Random problems that hide nothing: sizes distinct, states non-zero, biases distinct, upstream gradients random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import numpy_rnn
import torch_rnn.gru
import torch_rnn.gru_reset_before
import torch_rnn.lstm
import torch_rnn.lstm_peephole
import torch_rnn.lstm_projection
import torch_rnn.rnn
from numpy_rnn.fast.cell import Cell
from numpy_rnn.train.loop import Silent
from numpy_rnn.verify import case
from numpy_rnn.verify.case import output_units
from numpy_rnn.verify.difference import difference
from torch_rnn import bptt

# The same cell in both packages.
CELLS = {
    cell.name: (cell, mirror)
    for cell, mirror in (
        (numpy_rnn.fast.rnn.TANH, torch_rnn.rnn.TANH),
        (numpy_rnn.fast.rnn.RELU, torch_rnn.rnn.RELU),
        (numpy_rnn.fast.lstm.LSTM, torch_rnn.lstm.LSTM),
        (numpy_rnn.fast.lstm_projection.LSTM_PROJECTION, torch_rnn.lstm_projection.LSTM_PROJECTION),
        (numpy_rnn.fast.lstm_peephole.LSTM_PEEPHOLE, torch_rnn.lstm_peephole.LSTM_PEEPHOLE),
        (numpy_rnn.fast.gru.GRU, torch_rnn.gru.GRU),
        (numpy_rnn.fast.gru_reset_before.GRU_RESET_BEFORE, torch_rnn.gru_reset_before.GRU_RESET_BEFORE),
    )
}


def rng_of(*words: object) -> np.random.Generator:
    """A generator that depends on the words alone."""
    return np.random.default_rng(list(repr(words).encode()))


def columns(x):
    """The rows of every step as columns, (T, B, R) to (T, R, B), as the documents write them."""
    return x.swapaxes(1, 2)


def random_params(cell: Cell, I: int, H: int, R: int, rng: np.random.Generator, dtype: Any = np.float64) -> Any:
    return case.random_params(cell, I, H, R, lambda *shape: (rng.standard_normal(shape) * 0.5).astype(dtype))


def random_state(
    cell: Cell, lead: tuple[int, ...], H: int, R: int, rng: np.random.Generator, dtype: Any = np.float64
) -> Any:
    return case.random_state(cell, lead, H, R, lambda *shape: rng.standard_normal(shape).astype(dtype))


def tensor(a: np.ndarray) -> torch.Tensor:
    return torch.tensor(a, requires_grad=True)


def assert_close(name: str, got: Any, expected: Any, tolerance: float) -> None:
    """max|got - expected| ≤ tolerance · max|expected|; shapes equal; a NaN fails."""
    if isinstance(expected, torch.Tensor):
        expected = expected.detach().cpu().numpy()
    if isinstance(got, torch.Tensor):
        got = got.detach().cpu().numpy()
    worst = difference(got, expected)
    assert worst.error <= tolerance, f"{name}, shapes {got.shape} and {expected.shape}, is off by {worst}"


def assert_all_close(got: Any, expected: Any, tolerance: float, name: str = "") -> None:
    """`assert_close` for every array in nested tuples, lists and dicts."""
    if isinstance(expected, dict):
        assert set(got) == set(expected)
        for key in expected:
            assert_all_close(got[key], expected[key], tolerance, f"{name}[{key}]")
    elif isinstance(expected, (tuple, list)):
        assert len(got) == len(expected)
        for k, (a, b) in enumerate(zip(got, expected)):
            field = getattr(expected, "_fields", range(len(expected)))[k]
            assert_all_close(a, b, tolerance, f"{name}.{field}")
    else:
        assert_close(name, got, expected, tolerance)


def function_of(name: str, run: Any = bptt.by_hand, *blocks: Any) -> Callable[..., tuple[Any, ...]]:
    """(x, *params, *s0) -> (y, *s_n) of torch_rnn; of sequences of different lengths if their blocks are given."""
    cell = CELLS[name][1]
    n = len(cell.Params._fields)

    def call(x: Any, *rest: Any) -> tuple[Any, ...]:
        y, s_n = run(cell, cell.Params(*rest[:n]), x, cell.State(*rest[n:]), *blocks)
        return (y, *s_n)

    return call


def by_numpy(name: str, operands: Sequence[Any], upstream: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The same and its gradients by numpy_rnn in float64; upstream are those of y and of the final states."""
    cell = CELLS[name][0]
    x, *rest = (z.detach().double().numpy() for z in operands)
    dy, *ds_n = (z.double().numpy() for z in upstream)
    n = len(cell.Params._fields)
    states, tape = cell.forward(cell.Params(*rest[:n]), x, cell.State(*rest[n:]))
    dstates = cell.State(*(np.zeros_like(s) for s in states))
    dstates.h[1:] = dy
    for direct, ds in zip(dstates, ds_n):
        direct[-1] += ds
    grads, dx, ds0 = cell.backward(tape, dstates)
    return [states.h[1:], *(s[-1] for s in states)], [dx, *grads, *ds0]


def random_operands(
    name: str, sizes: Sequence[int], dtype: Any = torch.float64, rows: int | None = None
) -> tuple[list[Any], list[Any]]:
    """x, the parameters and the initial state as leaves, and random gradients of the outputs and the final state.

    sizes are T, B, I, H, R; with rows, x and the gradients of the outputs are those of packed sequences.
    """
    T, B, I, H, R = sizes
    cell, rng = CELLS[name][0], rng_of(name, T, B)
    own = (rows,) if rows else (T, B)
    params = random_params(cell, I, H, R, rng)
    s0, ds_n = (random_state(cell, (B,), H, R, rng) for _ in range(2))
    x, dy = rng.standard_normal((*own, I)), rng.standard_normal((*own, output_units(cell, H, R)))
    leaves = [torch.tensor(a, dtype=dtype, requires_grad=True) for a in (x, *params, *s0)]
    return leaves, [torch.tensor(a, dtype=dtype) for a in (dy, *ds_n)]


def results(name: str, run: Any, operands: Sequence[Any], upstream: Sequence[Any], blocks: Any = None) -> list[Any]:
    """Outputs, final state and all gradients."""
    outputs = function_of(name, run, blocks)(*operands)
    return [*outputs, *torch.autograd.grad(outputs, operands, upstream)]


def turned(z: Any) -> Any:
    """The same numbers, those of a column side by side."""
    return z.mT.contiguous().mT if z.ndim > 1 else z


def spread(z: Any) -> Any:
    """The same numbers, other ones between those of a row and the next."""
    return torch.stack([z, torch.full_like(z, torch.nan)], dim=-2).flatten(-2)[..., : z.shape[-1]]


def assert_backward_can_be_run_again(name: str, operands: Sequence[Any], upstream: Sequence[Any]) -> None:
    """With the same result, no argument or output changed, and no two of the results in the same memory."""
    before = [z.clone() for z in (*operands, *upstream)]
    outputs = function_of(name)(*operands)
    values = [z.clone() for z in outputs]
    first = torch.autograd.grad(outputs, operands, upstream, retain_graph=True)
    assert_all_close(torch.autograd.grad(outputs, operands, upstream), first, 0.0)
    assert_all_close([*operands, *upstream], before, 0.0)
    assert_all_close(outputs, values, 0.0)
    spaces = {z.untyped_storage().data_ptr() for z in (*outputs, *first)}
    assert len(spaces) == len(outputs) + len(first)  # no two share memory


class StopAfter(Silent):
    """Wants to stop when so many steps have been taken."""

    def __init__(self, steps):
        self.left = steps

    def stepped(self, history):
        self.left -= 1

    def wants_to_stop(self):
        return self.left <= 0
