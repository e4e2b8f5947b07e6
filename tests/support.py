"""Random problems that hide nothing: sizes distinct, states non-zero, biases distinct, upstream gradients random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import numpy_rnn
import torch_rnn.deep
import torch_rnn.gru
import torch_rnn.gru_reset_before
import torch_rnn.lstm
import torch_rnn.lstm_peephole
import torch_rnn.lstm_projection
import torch_rnn.rnn
from numpy_rnn.fast.cell import Cell
from numpy_rnn.fast.cell import upstream as cell_upstream
from numpy_rnn.verify import case
from numpy_rnn.verify.difference import difference
from torch_rnn import manual

# The same cell in both packages.
CELLS = {
    cell.name: (cell, mirror)
    for cell, mirror in (
        (numpy_rnn.fast.rnn.TANH, torch_rnn.rnn.TANH),
        (numpy_rnn.fast.rnn.RELU, torch_rnn.rnn.RELU),
        (numpy_rnn.fast.lstm.LSTM, torch_rnn.lstm.LSTM),
        (numpy_rnn.fast.lstm.LSTM_PROJECTION, torch_rnn.lstm_projection.LSTM_PROJECTION),
        (numpy_rnn.fast.lstm.LSTM_PEEPHOLE, torch_rnn.lstm_peephole.LSTM_PEEPHOLE),
        (numpy_rnn.fast.gru.GRU, torch_rnn.gru.GRU),
        (numpy_rnn.fast.gru.GRU_RESET_BEFORE, torch_rnn.gru_reset_before.GRU_RESET_BEFORE),
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


def padded(cell: Any, params: Any, x: Any, s0: Any, lengths: Any, masks: Any, run: Any) -> tuple[Any, Any]:
    """`torch_rnn.deep.forward` as numpy_rnn's: over padded sequences of any lengths, 0 among them, in any order."""
    if lengths is None:
        return torch_rnn.deep.forward(cell, params, x, s0, None, masks, run)
    lengths, order = torch.sort(torch.as_tensor(lengths), descending=True, stable=True)
    steps = torch.arange(int(lengths.max()))
    alive = steps[:, None] < lengths
    if not len(steps):
        return x.new_zeros(*x.shape[:2], len(params[0]) * s0.h.shape[-1]), s0
    t, b = alive.nonzero(as_tuple=True)
    there, n = (t, order[b]), int(alive[0].sum())
    rows, start = x[there], cell.State(*(s[:, order[:n]] for s in s0))
    masks = masks and [mask[there] for mask in masks]
    y, s_n = torch_rnn.deep.forward(cell, params, rows, start, alive.sum(1), masks, run)
    outputs = y.new_zeros(*x.shape[:2], y.shape[1]).index_put(there, y)
    return outputs, cell.State(*(s.index_copy(1, order[:n], ended) for s, ended in zip(s0, s_n)))


def function_of(name: str, run: Any = manual.run) -> Callable[..., tuple[Any, ...]]:
    """(x, *params, *s0) -> (y, *s_n) of torch_rnn."""
    cell = CELLS[name][1]
    n = len(cell.Params._fields)

    def call(x: Any, *rest: Any) -> tuple[Any, ...]:
        y, s_n = run(cell, cell.Params(*rest[:n]), x, cell.State(*rest[n:]))
        return (y, *s_n)

    return call


def by_numpy(name: str, operands: Sequence[Any], upstream: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The same and its gradients by numpy_rnn in float64; upstream are those of y and of the final states."""
    cell = CELLS[name][0]
    x, *rest = (z.detach().double().numpy() for z in operands)
    dy, *ds_n = (z.double().numpy() for z in upstream)
    n = len(cell.Params._fields)
    states, tape = cell.forward(cell.Params(*rest[:n]), x, cell.State(*rest[n:]))
    grads, dx, ds0 = cell.backward(tape, cell_upstream(cell, dy, cell.State(*ds_n), np.float64))
    return [states.h[1:], *(s[-1] for s in states)], [dx, *grads, *ds0]


def stop_after(steps):
    """What ends a run after so many steps of its own."""
    left = iter(range(steps - 1, -1, -1))
    return lambda history, validated: next(left) == 0
