"""A step's calls by NumPy and by PyTorch: the same numbers, each library where it should be, and no word from either."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import (
    CELLS,
    assert_all_close,
    assert_backward_can_be_run_again,
    by_numpy,
    random_operands,
    results,
    spread,
    turned,
)
from torch.utils.flop_counter import FlopCounterMode

from torch_rnn import bptt
from torch_rnn.blocks import blocks_of
from torch_rnn.bptt import calls, passes, products

T, B, I, H, R = 5, 6, 7, 8, 3
each_cell = pytest.mark.parametrize("name", CELLS)
WAYS = ("NumPy", "NumPy in parts", "tanh by NumPy", "PyTorch")
LIBRARIES = {
    "NumPy": {"BY_NUMPY"},
    "NumPy in parts": {"BY_NUMPY"},
    "tanh by NumPy": {"TANH_BY_NUMPY"},
    "PyTorch": {"BY_TORCH"},
}


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Each way that a step can be computed; afterwards, that it was."""
    monkeypatch.setattr(calls, "MANY", 1)
    monkeypatch.setattr(calls, "LEAST", 1)
    if request.param == "NumPy in parts":
        monkeypatch.setattr(products, "ONE_THREAD", 3 * 4 * H * H)  # of three sequences, or of one
        monkeypatch.setattr(products, "LEAST_ROWS", 1)
    if request.param == "tanh by NumPy":
        monkeypatch.setattr(calls, "is_small", lambda B, numbers: False)
    if request.param == "PyTorch":
        monkeypatch.setattr(calls, "numpy_has", lambda *operands: False)
    chosen, calls_for = set(), calls.calls_for

    def watched(*operands):
        found = calls_for(*operands)
        chosen.update(name for name in ("BY_NUMPY", "TANH_BY_NUMPY", "BY_TORCH") if getattr(calls, name) is found)
        return found

    for module in (bptt.rnn, bptt.lstm, bptt.lstm_projection, bptt.lstm_peephole, bptt.gru, bptt.gru_reset_before):
        monkeypatch.setattr(module, "calls_for", watched)
    yield request.param
    assert chosen == LIBRARIES[request.param]


def operands_of(name, dtype=torch.float64, rows=None, B=B):
    """Of the sizes above."""
    return random_operands(name, (T, B, I, H, R), dtype, rows)


def by_hand(name, operands, upstream, blocks=None):
    """Outputs, final state and all gradients."""
    return results(name, bptt.by_hand, operands, upstream, blocks)


def by_loop(name, operands, upstream, blocks=None):
    """The same by autograd over the loop."""
    return results(name, bptt.by_loop, operands, upstream, blocks)


@each_cell
@pytest.mark.parametrize("columns", [2048, 2 * B, 1], ids=lambda n: f"{n} columns at a time")
@pytest.mark.parametrize("sequences", [B, 1], ids=lambda n: f"B = {n}")
def test_values_and_gradients_equal_numpys(name, columns, sequences, way, monkeypatch):
    monkeypatch.setattr(passes, "columns_at_a_time", lambda numbers: columns)
    operands, upstream = operands_of(name, B=sequences)
    values, gradients = by_numpy(name, operands, upstream)
    assert_all_close(by_hand(name, operands, upstream), [*values, *gradients], 1e-13)


@each_cell
def test_a_last_chunk_of_few_steps_is_by_the_other_library(name, monkeypatch):
    monkeypatch.setattr(passes, "columns_at_a_time", lambda numbers: 3 * B)
    monkeypatch.setattr(calls, "MANY", 3)
    operands, upstream = operands_of(name)
    values, gradients = by_numpy(name, operands, upstream)
    assert_all_close(by_hand(name, operands, upstream), [*values, *gradients], 1e-13)


@each_cell
def test_sequences_of_different_lengths(name, way):
    blocks = blocks_of(torch.tensor([6, 6, 4, 3, 3, 1]))
    operands, upstream = operands_of(name, rows=sum(T * n for T, n in blocks))
    wanted = by_loop(name, operands, upstream, blocks)
    assert_all_close(by_hand(name, operands, upstream, blocks=blocks), wanted, 1e-13)


@each_cell
def test_float32(name, way):
    operands, upstream = operands_of(name, torch.float32)
    values, gradients = by_numpy(name, operands, upstream)
    got = by_hand(name, operands, upstream)
    assert all(z.dtype is torch.float32 for z in got)
    for z, w in zip(got, [*values, *gradients]):
        assert np.linalg.norm(z.detach().double().numpy() - w) <= 4e-6 * np.linalg.norm(w)


@each_cell
def test_backward_can_be_run_again_and_changes_no_argument(name, way):
    assert_backward_can_be_run_again(name, *operands_of(name))


def mirrored(z):
    """The same numbers, held as their negatives."""
    return torch._neg_view(-z)


@each_cell
@pytest.mark.parametrize("laid_out", [turned, spread, mirrored])
def test_operands_laid_out_in_other_ways(name, laid_out, way):
    operands, upstream = operands_of(name)
    others = [laid_out(z.detach()).requires_grad_() for z in operands]
    got = by_hand(name, others, [laid_out(z) for z in upstream])
    assert_all_close(got, by_loop(name, operands, upstream), 1e-13)


@each_cell
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e300, -1e300])
def test_what_overflows_is_as_by_the_loop_and_no_warning(name, value, way):
    operands, upstream = operands_of(name)
    with torch.no_grad():
        operands[0][1, 2, 3] = operands[2][1, 2] = value  # x and W_hh
        upstream[0][3, 1] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = by_hand(name, operands, upstream)
    wanted = by_loop(name, operands, upstream)
    fields = len(CELLS[name][0].State._fields)
    for z, w in zip(got[: 1 + fields], wanted):  # of gradients some are NaN in one order of products and not in another
        torch.testing.assert_close(z, w, rtol=1e-12, atol=1e-12, equal_nan=True)


class OfItsOwn(torch.Tensor):
    """As libraries have them."""


def test_which_steps_are_for_numpy(monkeypatch):
    c, W = torch.empty(9, 2, 16), torch.empty(64, 16)
    assert calls.calls_for(c, W) is calls.BY_NUMPY
    assert calls.calls_for(c.double(), W.double()) is calls.BY_NUMPY
    assert calls.calls_for(c, torch.nn.Parameter(W)) is calls.BY_NUMPY
    for other in (c.half(), c.bfloat16(), c.to("meta"), c.as_subclass(OfItsOwn)):
        assert calls.calls_for(other, W) is calls.BY_TORCH
    assert calls.calls_for(c, W, c[0].as_subclass(OfItsOwn)) is calls.BY_TORCH
    with FlopCounterMode(display=False):
        assert calls.calls_for(c, W) is calls.BY_TORCH
    assert calls.calls_for(torch.empty(9, 16, 512), torch.empty(2048, 512)) is calls.TANH_BY_NUMPY
    assert calls.calls_for(torch.empty(7, 2, 16), W) is calls.BY_TORCH  # a few small steps
    assert calls.calls_for(torch.empty(7, 32, 16), W) is calls.TANH_BY_NUMPY


def test_tanh_is_numpys_unless_there_are_many_threads(monkeypatch):
    large = 20 * calls.GRAIN
    for threads, numbers, quick in (
        (1, large, True),
        (8, large, True),
        (9, large, False),
        (64, 8 * calls.GRAIN, True),
        (1, 511, False),
    ):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert calls.tanh_is_quick(numbers) == quick
    a = torch.linspace(-3, 3, large)
    used, original = [], calls._tanh
    monkeypatch.setattr(calls, "_tanh", lambda a, out: used.append(threads) or original(a, out))
    for threads in (1, 9):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        torch.testing.assert_close(calls.tanh(a, torch.empty_like(a)), torch.tanh(a), rtol=1e-6, atol=1e-7)
    assert used == [1]


def test_which_products_of_a_step_are_small(monkeypatch):
    for quicker, most in ((False, products.BY_NUMPY // 2), (True, products.BY_NUMPY)):
        monkeypatch.setattr(products, "onednn_is_quicker", lambda quicker=quicker: quicker)
        for numbers in (1, 100, products.IN_CACHE):
            assert products.is_small(most // numbers // 64 * 64, numbers)
            assert not products.is_small(most // numbers + 64, numbers)
    assert products.is_small(1, products.ONE_THREAD)
    assert not products.is_small(1, products.ONE_THREAD + 1)
    assert not products.is_small(8, products.IN_CACHE + 1)  # of so many numbers no more than a few rows at a time
    assert not products.is_small(17, products.IN_CACHE)  # cannot be made in parts of four
    assert products.is_small(16, products.IN_CACHE)


@given(st.integers(0, 300), st.integers(1, 2**20))
def test_parts_are_equal_and_small_enough_for_one_thread(rows, numbers):
    parts = products.row_parts(rows, numbers)
    assert rows % parts == 0
    assert rows // parts * numbers <= products.ONE_THREAD or rows // parts <= 1


@pytest.mark.parametrize("by", ["BY_TORCH", "TANH_BY_NUMPY", "BY_NUMPY"])
def test_each_function_of_each_library(by):
    by = getattr(calls, by)
    generator = torch.Generator().manual_seed(0)
    a, b, c, M = (torch.randn(*n, generator=generator, dtype=torch.float64) for n in ((4, 6), (4, 6), (4, 5), (6, 5)))
    out, wide = torch.full((4, 6), torch.nan, dtype=torch.float64), torch.full((4, 5), torch.nan, dtype=torch.float64)

    def check(wanted, result, where):
        torch.testing.assert_close(where, wanted, rtol=1e-14, atol=1e-14)
        assert result is not None
        torch.testing.assert_close(torch.as_tensor(result), wanted, rtol=1e-14, atol=1e-14)

    A, B_, C, OUT, WIDE = map(by.see, (a, b, c, out, wide))
    check(a * b, by.mul(A, B_, OUT), out)
    check(2 * a * b, by.add_mul(A, B_, OUT), out)
    check(a * b + a, by.mul_add(A, B_, A, OUT), out)
    check(torch.lerp(a, b, a), by.lerp(A, B_, A, OUT), out)
    check(torch.tanh(a), by.tanh(A, OUT), out)
    check(torch.relu(a), by.relu(A, OUT), out)
    check((torch.relu(a)) * b + a, by.mul_add(OUT, B_, A, OUT), out)  # in place of its first operand
    times = by.times(M, 4, 9)
    check(a @ M, times.put(WIDE, A), wide)
    check(2 * a @ M, times.add(WIDE, A), wide)
    check(c + a @ M, times.sum(WIDE, C, A), wide)
    gates = by.gates(by.see(torch.arange(24.0).view(1, 2, 12)), 3)
    assert [torch.as_tensor(z).tolist() for z in gates] == torch.arange(24.0).view(1, 2, 3, 4).permute(
        2, 0, 1, 3
    ).tolist()
