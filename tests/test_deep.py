"""Layers × directions × lengths × masks for every cell, against the mirror's autograd; padding may hold anything."""

from __future__ import annotations

import math
import traceback
from functools import partial

import numpy as np
import pytest
import torch
from support import CELLS, assert_all_close, padded, random_params, random_state, rng_of, tensor

import numpy_rnn
import torch_rnn
from numpy_rnn.fast import deep, numerics, rnn
from numpy_rnn.verify.case import output_units
from torch_rnn.deep import by_loop

T, B, I, H, R = 6, 4, 3, 5, 2
LENGTHS = {
    "full": None,
    "ragged": np.array([4, 0, 6, 4]),
    "all short": np.array([2, 1, 3, 0]),
    "empty": np.zeros(4, int),
}


def problem(name, L, D, T=T):
    cell = CELLS[name][0]
    rng = rng_of(name, L, D, T)
    R_out = output_units(cell, H, R)
    params = [[random_params(cell, I if l == 0 else D * R_out, H, R, rng) for _ in range(D)] for l in range(L)]
    x = rng.standard_normal((T, B, I))
    s0, ds_n = (random_state(cell, (L * D, B), H, R, rng) for _ in range(2))
    masks = [(rng.random((T, B, D * R_out)) > 0.3) / 0.7 for _ in range(L - 1)]
    dy = rng.standard_normal((T, B, D * R_out))
    return cell, params, x, s0, masks, dy, ds_n


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("keep", ["tapes", "snapshots"])
@pytest.mark.parametrize(("L", "D"), [(1, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("name", CELLS)
def test_what_a_caller_does_with_states_and_outputs_does_not_reach_the_tape(name, L, D, keep, lengths):
    cell, params, x, s0, masks, dy, ds_n = problem(name, L, D)
    wanted = deep.backward(deep.forward(cell, params, x, s0, lengths, masks)[2], dy, ds_n)
    y, s_n, tape = deep.forward(cell, params, x, s0, lengths, masks, keep)
    assert {isinstance(block, partial) for kept in tape.kept for block in kept} <= {keep == "snapshots"}
    for a in (y, *s_n, *s0):
        a[:] = np.nan
    grads, dx, ds0 = deep.backward(tape, dy, ds_n)
    for a, b in zip((dx, *ds0), (wanted[1], *wanted[2])):
        assert np.array_equal(a, b)
    for layer, expected in zip(grads, wanted[0]):
        for direction, p in zip(layer, expected):
            assert all(map(np.array_equal, direction, p))


@pytest.mark.parametrize("name", CELLS)
def test_an_empty_batch_is_no_mistake(name):
    cell, params, x, s0, _, dy, ds_n = problem(name, 2, 2)
    x, dy = x[:, :0], dy[:, :0]
    s0, ds_n = (cell.State(*(s[:, :0] for s in states)) for states in (s0, ds_n))
    y, s_n, tape = deep.forward(cell, params, x, s0)
    grads, dx, ds0 = deep.backward(tape, dy, ds_n)
    for a, like in zip((y, dx, *s_n, *ds0), (dy, x, *s0, *s0), strict=True):
        assert a.shape == like.shape
    for g, p in zip(flatten([grads]), flatten([params]), strict=True):
        assert g.shape == p.shape
        assert not g.any()


@pytest.mark.parametrize("package", ["numpy", "torch"])
def test_an_expanding_relu_does_not_overflow_in_the_padding(package):
    """Were padding computed, 3^2000 would overflow there and 0 · ∞ would reach the weights' gradient."""
    cell, mirror = CELLS["rnn_relu"]
    params = cell.Params(np.ones((1, 1)), np.full((1, 1), 3.0), np.zeros(1), np.zeros(1))
    x, s0 = np.ones((2000, 2, 1)), cell.State(np.ones((1, 2, 1)))
    lengths = np.array([3, 2])
    if package == "numpy":
        y, s_n, tape = deep.forward(cell, [[params]], x, s0, lengths)
        grads, _, _ = deep.backward(tape, np.ones_like(y), cell.State(np.ones((1, 2, 1))))
        dW_hh = grads[0][0].W_hh
    else:
        tparams = mirror.Params(*map(tensor, params))
        y, s_n = padded(mirror, [[tparams]], torch.tensor(x), mirror.State(torch.tensor(s0.h)), lengths, None, by_loop)
        (dW_hh,) = torch.autograd.grad(y.sum() + s_n.h.sum(), [tparams.W_hh])
    assert s_n.h[0, :, 0].tolist() == [40.0, 13.0]  # 1 → 4 → 13 → 40
    # With w = W_hh: h_1 = w + 1, h_2 = w² + w + 1, h_3 = w³ + w² + w + 1, so h_1', h_2', h_3' = 1, 7, 34; each
    # counts once as an output and the last once more as the final state.
    assert dW_hh.item() == (1 + 7 + 34 + 34) + (1 + 7 + 7)


def flatten(nest):
    return [nest] if isinstance(nest, np.ndarray) else [a for part in nest for a in flatten(part)]


@pytest.mark.parametrize("name", CELLS)
def test_one_operand_of_another_dtype_widens_the_result(name):
    """A complex number in any single operand must not lose its imaginary part; the derivative is then exact."""
    cell, params, x, s0, masks, dy, ds_n = problem(name, 2, 2)
    lengths = np.array([4, 0, 6, 3])
    _, _, tape = deep.forward(cell, params, x, s0, lengths, masks)
    grads, dx, ds0 = deep.backward(tape, dy, ds_n)
    rng = rng_of(name, "directions")
    step = 1e-30

    def moved(arrays, k):
        v = rng.standard_normal(arrays[k].shape)
        return v, [a + 1j * step * v if j == k else a for j, a in enumerate(arrays)]

    def agree(derivative_of, expected):
        y, s = derivative_of
        slope = sum(np.sum(a.imag * d) for a, d in zip((y, *s), (dy_valid, *ds_n))) / step
        assert abs(slope - expected) < 1e-12 * max(1, abs(expected))

    dy_valid = np.where(np.arange(T)[:, None, None] < lengths[:, None], dy, 0)
    v, (moved_x,) = moved([x], 0)
    agree(deep.forward(cell, params, moved_x, s0, lengths, masks)[:2], np.sum(v * dx))
    for k in range(len(s0)):
        v, moved_s0 = moved(list(s0), k)
        agree(deep.forward(cell, params, x, cell.State(*moved_s0), lengths, masks)[:2], np.sum(v * ds0[k]))
    for l, layer in enumerate(params):
        for d, p in enumerate(layer):
            for k in range(len(p)):
                v, moved_p = moved(list(p), k)
                changed = [
                    [cell.Params(*moved_p) if (m, e) == (l, d) else q for e, q in enumerate(r)]
                    for m, r in enumerate(params)
                ]
                agree(deep.forward(cell, changed, x, s0, lengths, masks)[:2], np.sum(v * grads[l][d][k]))


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("operand", ["x", "params", "s0"])
def test_backward_carries_a_complex_number_of_any_operand_of_forward(name, operand):
    """A complex step through forward and backward gives second derivatives; real upstream gradients must not cut it."""
    cell, params, x, s0, masks, dy, ds_n = problem(name, 2, 2)
    step = 1e-30
    moved = {"x": x, "params": params, "s0": s0}
    if operand == "params":  # of the last layer alone
        moved["params"] = [params[0], [cell.Params(*(p + 1j * step for p in q)) for q in params[1]]]
    elif operand == "s0":
        moved["s0"] = cell.State(*(s + 1j * step for s in s0))
    else:
        moved["x"] = x + 1j * step
    _, _, tape = deep.forward(cell, moved["params"], moved["x"], moved["s0"], np.array([4, 0, 6, 3]), masks)
    for grads, dx, ds0 in (deep.backward(tape, dy, ds_n),):
        second = [a.imag / step for a in flatten([grads, dx, ds0])]
        assert all(np.isfinite(a).all() for a in second)
        assert max(np.abs(a).max() for a in second) > 1e-3
        real = deep.backward(deep.forward(cell, params, x, s0, np.array([4, 0, 6, 3]), masks)[2], dy, ds_n)
        assert_all_close([a.real for a in flatten([grads, dx, ds0])], flatten(list(real)), 1e-13)


def test_sequences_of_equal_length_keep_their_order():
    lengths = np.array([2, 3] * 50)
    cut = deep.cut_time(lengths, T=3, B=100)
    assert cut.order.tolist() == [*range(1, 100, 2), *range(0, 100, 2)]
    assert np.array_equal(cut.lengths, lengths[cut.order])
    x = rng_of("order").standard_normal((3, 100, 2))
    assert np.array_equal(cut.unsorted(cut.sorted(x)), x)


def test_blocks_cover_each_valid_step_once_and_are_never_empty():
    for lengths in ([0, 0, 0], [4, 4, 0], [5, 3, 3, 1], [1], []):
        blocks = deep.cut_blocks(np.array(lengths, int), T=6, B=len(lengths))
        assert all(stop > start and n > 0 for start, stop, n in blocks)
        covered = [(t, b) for start, stop, n in blocks for t in range(start, stop) for b in range(n)]
        assert sorted(covered) == sorted((t, b) for b, length in enumerate(lengths) for t in range(length))


def test_reverse_leaves_what_stands_after_the_end():
    x = np.arange(1, 13).reshape(4, 3, 1)
    lengths = np.array([4, 0, 2])
    turned = deep.reverse(x, lengths)[:, :, 0].T.tolist()
    assert turned == [[10, 7, 4, 1], [2, 5, 8, 11], [6, 3, 9, 12]]
    assert np.array_equal(deep.reverse(deep.reverse(x, lengths), lengths), x)


@pytest.mark.parametrize("lengths", [None, np.array([4, 0, 11, 9])], ids=["full", "ragged"])
@pytest.mark.parametrize("name", CELLS)
def test_blocks_of_time_change_nothing_and_snapshots_not_a_bit(name, lengths, monkeypatch):
    cell, params, x, s0, masks, dy, ds_n = problem(name, L=2, D=2, T=11)
    whole = deep.forward(cell, params, x, s0, lengths, masks)
    expected = (*whole[:2], *deep.backward(whole[2], dy, ds_n))
    monkeypatch.setattr(deep, "BLOCK_COLUMNS", 1)  # blocks of √11 = 3 steps
    y, s_n, tape = deep.forward(cell, params, x, s0, lengths, masks)
    assert len(tape.kept[-1]) >= 4
    cut = (y, s_n, *deep.backward(tape, dy, ds_n))
    assert_all_close(cut, expected, 1e-14)

    y, s_n, tape = deep.forward(cell, params, x, s0, lengths, masks, "snapshots")
    assert {type(block) for kept in tape.kept for block in kept} == {partial}
    again = (y, s_n, *deep.backward(tape, dy, ds_n))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(flatten(list(again)), flatten(list(cut)), strict=True))

    y, s_n, tape = deep.forward(cell, params, x, s0, lengths, masks, "nothing")
    assert all(a.tobytes() == b.tobytes() for a, b in zip((y, *s_n), (cut[0], *cut[1]), strict=True))
    assert tape.kept == [[]] * 4


@pytest.mark.parametrize("name", CELLS)
def test_a_wide_batch_is_its_parts_side_by_side(name):
    """Wider than the stripes in which sequences are copied; the parts are narrower."""
    cell = CELLS[name][0]
    rng, wide = rng_of(name, "wide"), 2 * numerics.STRIPE + 5
    R_out = output_units(cell, H, R)
    params = [[random_params(cell, I, H, R, rng)]]
    x, dy = rng.standard_normal((T, wide, I)), rng.standard_normal((T, wide, R_out))
    s0, ds_n = (random_state(cell, (1, wide), H, R, rng) for _ in range(2))

    def run(part):
        y, s_n, tape = deep.forward(cell, params, x[:, part], cell.State(*(s[:, part] for s in s0)))
        [[grads]], dx, ds0 = deep.backward(tape, dy[:, part], cell.State(*(ds[:, part] for ds in ds_n)))
        return [y, *s_n, dx, *ds0], grads

    by_sequence, grads = run(slice(None))
    parts = [run(slice(b, b + 7)) for b in range(0, wide, 7)]
    joined = [np.concatenate(arrays, axis=1) for arrays in zip(*(arrays for arrays, _ in parts))]
    assert_all_close(by_sequence, joined, 1e-13)
    assert_all_close(grads, cell.Params(*(sum(g) for g in zip(*(grads for _, grads in parts)))), 1e-13)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2 * numerics.STRIPE + 3, numerics.TILE), (300, 70)])
def test_transposed_whatever_the_number_of_stripes(shape):
    W = np.arange(math.prod(shape), dtype=float).reshape(shape)
    W_T = numerics.transposed_copy(W)
    assert np.array_equal(W_T, W.T)
    assert W_T.flags.c_contiguous


@pytest.mark.parametrize("B", [1, 2])
def test_a_matrix_for_products_is_laid_out_once(B):
    W = np.arange(12.0).reshape(3, 4)
    for wanted in (W, W.T):
        got = numerics.layout_for_matvec(wanted, B)
        assert np.array_equal(got, wanted)
        assert got.flags.f_contiguous if B == 1 else got.flags.c_contiguous
        assert numerics.layout_for_matvec(got, B) is got


def test_tapes_are_kept_unless_otherwise_asked():
    cell, params, x, s0, *_ = problem("gru", L=1, D=1)
    _, _, tape = deep.forward(cell, params, x, s0)
    assert type(tape.kept[0][0]).__module__ == "numpy_rnn.fast.gru"


def test_blocks_are_of_the_square_root_of_time_or_of_a_fixed_size():
    def longest(T, B):
        return max(stop - start for start, stop, _ in deep.cut_blocks(None, T, B))

    assert longest(100, 2) == 100
    assert longest(10**6, 1) == deep.BLOCK_COLUMNS
    assert longest(10**6, 2**16) == 1000
    assert deep.cut_blocks(None, 2, 5000) == [deep.Block(0, 1, 5000), deep.Block(1, 2, 5000)]
    assert deep.cut_blocks(None, 0, 5000) == []
    assert sum(stop - start for start, stop, _ in deep.cut_blocks(None, 12_345, 3)) == 12_345


@pytest.mark.parametrize("D", [1, 2])
@pytest.mark.parametrize("lengths", [None, [6, 4, 0, 6]], ids=["full", "ragged"])
def test_a_layer_reaches_its_equations_in_four_frames(D, lengths, monkeypatch):
    """Whoever steps into `layer(x)` with a debugger should not get lost on the way to the equation."""
    layer = numpy_rnn.RNN(I, H, num_layers=2, bidirectional=D == 2, dtype=float, rng=0)
    x, depths, outside = np.ones((T, B, I)), set(), len(traceback.extract_stack())

    def tanh(a, out):
        depths.add(len(traceback.extract_stack()) - 1 - outside)  # without this function's own
        return np.tanh(a, out)

    monkeypatch.setattr(
        layer, "cell", rnn.TANH._replace(forward=partial(rnn.forward, nonlinearity=rnn.Nonlinearity(tanh, None)))
    )
    layer(x, None, lengths)
    layer.forward(x, None, lengths)
    assert depths == {4}


def test_a_module_reaches_its_equations_in_six_frames(monkeypatch):
    """Two of them are torch.nn.Module's own; with packed sequences there are two more of ours."""
    layer = torch_rnn.RNN(I, H, num_layers=2, bidirectional=True)
    depths, outside = [], len(traceback.extract_stack())

    def tanh(a):
        depths.append(len(traceback.extract_stack()) - 1 - outside)  # without this function's own
        return torch.tanh(a)

    cell = torch_rnn.rnn.TANH._replace(forward=partial(torch_rnn.rnn.forward, f=tanh))
    monkeypatch.setattr(torch_rnn.RNN, "_cell", property(lambda self: cell))
    layer(torch.ones(T, B, I))
    assert set(depths) == {6}
    depths.clear()
    layer(torch.nn.utils.rnn.pack_padded_sequence(torch.ones(T, B, I), [T, *[3] * (B - 1)]))
    assert set(depths) == {8}
