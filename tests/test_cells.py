"""Each cell on its own: what test_textbook.py, which has its numbers, does not ask."""

from __future__ import annotations

import numpy as np
import pytest
from support import CELLS, assert_all_close, random_params, random_state, rng_of

from numpy_rnn.fast import numerics, registry

CELL_NAMES = pytest.mark.parametrize("name", CELLS)


def problem(name, T, B, I, H, R, dtype=np.float64):
    cell = CELLS[name][0]
    rng = rng_of(name, T, B, I, H, R)
    params = random_params(cell, I, H, R, rng, dtype)
    x = rng.standard_normal((T, B, I)).astype(dtype)
    s0 = random_state(cell, (B,), H, R, rng, dtype)
    dstates = random_state(cell, (T + 1, B), H, R, rng, dtype)
    return cell, params, x, s0, dstates


def test_a_cell_is_found_by_its_name_in_any_case():
    assert [registry.cell_name(name) for name in CELLS] == list(CELLS)
    assert registry.cell_name("Gru_Reset_BEFORE") == "gru_reset_before"
    assert registry.cell_name("rnn") == registry.cell_name("rnn", ["rnn_relu", "rnn_tanh"]) == "rnn_tanh"
    assert registry.cell_name("RNN_tanh", ["gru", "rnn"]) == "rnn"
    with pytest.raises(ValueError, match=r"^cell is 'Lstmm', expected rnn, lstm$"):
        registry.cell_name("Lstmm", ["rnn", "lstm"])


@CELL_NAMES
def test_backward_is_linear_over_the_complex_numbers(name):
    """Also where the imaginary part arrives at one field of the state alone, and all else is real."""
    cell, params, x, s0, dstates = problem(name, 4, 2, 3, 5, 2)
    _, tape = cell.forward(params, x, s0)
    for field in cell.State._fields:
        imaginary = cell.State(*(d[::-1] if f == field else 0 * d for f, d in zip(cell.State._fields, dstates)))
        mixed = dstates._replace(**{field: getattr(dstates, field) + 1j * getattr(imaginary, field)})
        (a, b), (c, d), (e, f) = zip(cell.backward(tape, dstates), cell.backward(tape, imaginary))
        expected = [u + 1j * v for u, v in zip((*a, c, *e), (*b, d, *f))]
        grads, dx, ds0 = cell.backward(tape, mixed)
        assert_all_close([*grads, dx, *ds0], expected, 1e-14, field)


@CELL_NAMES
def test_gradients_of_states_may_lie_in_memory_either_way(name):
    cell, params, x, s0, dstates = problem(name, 4, 2, 3, 5, 2)
    tape = cell.forward(params, x, s0)[1]
    as_rows = cell.State(*map(np.ascontiguousarray, dstates))
    as_columns = cell.State(*(np.ascontiguousarray(ds.swapaxes(1, 2)).swapaxes(1, 2) for ds in dstates))
    assert not any(ds.flags.c_contiguous for ds in as_columns)
    first, second = cell.backward(tape, as_rows), cell.backward(tape, as_columns)
    for a, b in zip((*first[0], first[1], *first[2]), (*second[0], second[1], *second[2])):
        assert np.array_equal(a, b)


@CELL_NAMES
def test_saturated_gates_stay_finite(name):
    cell, params, x, s0, dstates = problem(name, 4, 2, 3, 5, 2)
    if name == "rnn_relu":
        x = x / 1e4  # nothing saturates, values just grow
    with np.errstate(all="raise", under="ignore"):
        states, tape = cell.forward(params, x * 1e4, s0)
        grads, dx, ds0 = cell.backward(tape, dstates)
    assert all(np.isfinite(a).all() for a in (*states, *grads, dx, *ds0))


@pytest.mark.parametrize("wide", range(3))
def test_a_linear_map_is_as_wide_as_its_widest_operand(wide):
    operands = [np.full(shape, 1 / 3, np.float32) for shape in ((4, 2, 3), (5, 3), (5,))]
    operands[wide] = operands[wide].astype(np.complex128)
    assert numerics.linear(*operands).dtype == np.complex128
    widest, out = [a.astype(np.clongdouble) for a in operands], np.empty((4, 2, 5), np.clongdouble)
    assert numerics.linear(*operands, out) is out
    assert np.array_equal(out, numerics.linear(*widest))


def test_linear_maps_stay_in_float32():
    x, W, b = (np.ones(shape, np.float32) for shape in ((2, 1, 3), (4, 3), 4))
    da = numerics.linear(x, W, b)
    results = (da, numerics.linear_dx(da, W), numerics.linear_dW(da, x), numerics.linear_db(da))
    assert {a.dtype.name for a in results} == {"float32"}


@pytest.mark.parametrize("B", [0, 1, 3, 300])
def test_affine_and_abreast_of_any_width(B):
    rng = rng_of("affine", B)
    W, x, b = (rng.standard_normal(shape) for shape in ((4, 3), (700, B, 3), 4))
    room = np.full((700, 6, B), np.nan, np.complex128)
    a = room[:, 1:5]
    numerics.linear_columns(W, x, b, a)
    assert np.isnan(room[:, [0, 5]]).all()
    np.testing.assert_allclose(a, np.einsum("oi,tbi->tob", W, x) + b[:, None], rtol=1e-14, atol=1e-14)
    assert np.array_equal(numerics.merge_steps(a), a.swapaxes(0, 1).reshape(4, 700 * B))
    assert numerics.merge_steps(a).dtype == a.dtype
