"""Temporal Jacobians against complex steps; what they are made of; what the tables sum up to."""

from __future__ import annotations

import numpy as np
import pytest
from support import CELLS, assert_close, random_params, random_state, rng_of

from numpy_rnn.fast import deep, truncated
from numpy_rnn.study.gradflow import jacobians
from numpy_rnn.study.gradflow.jacobians import flat

T, B, I, H, R = 7, 2, 4, 6, 5
CELL_NAMES = pytest.mark.parametrize("name", CELLS)


@pytest.fixture(name="problem")
def fixture_problem(name):
    cell, rng = CELLS[name][0], rng_of("gradflow", name)
    params, x = random_params(cell, I, H, R, rng), rng.standard_normal((T, B, I))
    return cell, params, x, random_state(cell, (B,), H, R, rng), random_state(cell, (T + 1, B), H, R, rng)


def parts(cell, s0, vector):
    """The fields of a state that is given as one vector."""
    return cell.State(*np.split(vector, np.cumsum([s.shape[-1] for s in s0])[:-1], axis=-1))


@CELL_NAMES
def test_every_temporal_jacobian_is_that_of_a_complex_step(problem):
    cell, params, x, s0, _ = problem
    states, _ = cell.forward(params, x, s0)
    J = jacobians.step_jacobians(cell, params, x, s0).J
    S = flat(s0).shape[1]
    for t in range(T + 1):
        by_hand = jacobians.temporal_jacobians(J[:t])
        assert by_hand.shape == (t + 1, B, S, S)
        for k in range(t + 1):
            numeric = np.empty((B, S, S))
            for j in range(S):
                s_k = parts(cell, s0, flat(states)[k] + 1e-30j * np.eye(S)[j])
                later, _ = cell.forward(params, x[k:t], s_k)
                numeric[:, :, j] = flat(later)[t - k].imag / 1e-30
            assert_close(f"∂s_{t}/∂s_{k}", by_hand[k], numeric, 1e-13)


@CELL_NAMES
def test_a_step_is_what_goes_through_the_recurrent_weights_and_what_does_not(name, problem):
    cell, params, x, s0, _ = problem
    J, E, A = jacobians.step_jacobians(cell, params, x, s0)
    assert (A is None) == (name == "gru_reset_before")
    if A is not None:
        through = np.zeros_like(J)
        through[..., : params.W_hh.shape[1]] = A @ params.W_hh
        assert_close("(T3)", J, E + through, 1e-15)
        assert (E == 0).all() == name.startswith("rnn")


@CELL_NAMES
def test_contributions_sum_to_the_gradient_and_their_band_is_truncated(problem):
    cell, params, x, s0, dstates = problem
    _, tape = cell.forward(params, x, s0)
    grads, _, _ = cell.backward(tape, dstates)  # what arrives at s_0 uses no parameter
    whole = jacobians.contributions(cell, params, x, s0, dstates)
    assert_close("dW_hh", whole.sum(axis=(0, 1)), grads.W_hh, 1e-13)

    dstates = dstates._replace(**{f: np.zeros_like(d) for f, d in dstates._asdict().items() if f != "h"})
    dstates.h[0] = 0  # the loss reads the outputs, as a layer's does
    end = cell.State(*(np.zeros_like(s)[None] for s in s0))
    _, _, deep_tape = deep.forward(cell, [[params]], x, cell.State(*(s[None] for s in s0)))
    t, k = np.indices((T, T))
    for field in cell.Params._fields:
        table = jacobians.contributions(cell, params, x, s0, dstates, lambda g, field=field: getattr(g, field))
        assert not table[k > t].any()
        for k2 in (1, 3, T):
            band = table[(k <= t) & (t - k < k2)].sum(axis=0)
            (cut,), *_ = truncated.backward(deep_tape, dstates.h[1:], end, k1=1, k2=k2)
            assert_close(f"d{field}, {k2} steps back", band, getattr(cut[0], field), 1e-13)


@pytest.mark.parametrize("name", [name for name in CELLS if name != "rnn_relu"])  # whose determinants are 0
def test_lyapunov_exponents_sum_to_the_logarithm_of_the_determinants(problem):
    cell, params, x, s0, _ = problem
    J = jacobians.step_jacobians(cell, params, x, s0).J
    exponents = jacobians.lyapunov_exponents(J)
    assert (np.diff(exponents, axis=1) <= 0).all()
    _, logarithm = np.linalg.slogdet(J)
    assert_close("sum", exponents.sum(axis=1), logarithm.mean(axis=0), 1e-11)


def test_lyapunov_exponents_of_a_long_run_are_those_of_the_singular_values():
    """Of one matrix with known eigenvalues, 1/T ln σ_i(Mᵀ…M) goes to ln |eigenvalue|; QR keeps even the smallest."""
    rng = rng_of("lyapunov")
    P = rng.standard_normal((3, 3))
    M = P @ np.diag([1.25, 0.5, 0.01]) @ np.linalg.inv(P)
    (exponents,) = jacobians.lyapunov_exponents(np.broadcast_to(M, (4000, 1, 3, 3)))
    np.testing.assert_allclose(exponents, np.log([1.25, 0.5, 0.01]), atol=3e-3)
    (largest,) = jacobians.norms(jacobians.temporal_jacobians(np.broadcast_to(M, (200, 1, 3, 3))))[0]
    assert abs(np.log(largest) / 200 - np.log(1.25)) < 3e-2
    sheared = np.array([[1.0, 10.0], [0.0, 0.5]])[None, None]  # of one step: how long the first unit vector becomes
    np.testing.assert_allclose(jacobians.lyapunov_exponents(sheared), np.log([[1.0, 0.5]]))
    assert jacobians.lyapunov_exponents(np.zeros((2, 1, 2, 2))).tolist() == [[-np.inf, -np.inf]]


def test_singular_values_are_numpys_and_nan_where_a_gradient_has_exploded():
    M = rng_of("sigma").standard_normal((2, 3, 4, 5))
    M[1, 2, 0, 0] = np.inf
    sigma = jacobians.singular_values(M)
    assert sigma.shape == (2, 3, 4)
    np.testing.assert_allclose(sigma[0, 1], np.linalg.svd(M[0, 1], compute_uv=False))
    assert np.isnan(sigma[1, 2]).all()
    assert np.isfinite(jacobians.norms(M)).sum() == 5


def test_the_horizon_is_where_a_gradient_falls_below_a_fraction():
    norms = 0.5 ** np.arange(11)[::-1, None] * [1.0, 7.0]  # of ∂s_10/∂s_k
    assert jacobians.horizon(norms).tolist() == [7, 7]  # 2^-7 < 1 % < 2^-6
    assert jacobians.horizon(norms, 0.3).tolist() == [2, 2]
    assert jacobians.horizon(np.ones((4, 1))).tolist() == [np.inf]
