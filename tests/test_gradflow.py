"""Temporal Jacobians against complex steps and autograd; what they are made of; what the tables sum up to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import CELLS, assert_all_close, assert_close, random_params, random_state, rng_of, tensor

from numpy_rnn.fast import deep, truncated
from numpy_rnn.study import gradflow
from numpy_rnn.study.gradflow import flat

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
    J = gradflow.step_jacobians(cell, params, x, s0).J
    S = flat(s0).shape[1]
    for t in range(T + 1):
        by_hand = gradflow.temporal_jacobians(J, t)
        assert by_hand.shape == (t + 1, B, S, S)
        for k in range(t + 1):
            numeric = np.empty((B, S, S))
            for j in range(S):
                s_k = parts(cell, s0, flat(states)[k] + 1e-30j * np.eye(S)[j])
                later, _ = cell.forward(params, x[k:t], s_k)
                numeric[:, :, j] = flat(later)[t - k].imag / 1e-30
            assert_close(f"∂s_{t}/∂s_{k}", by_hand[k], numeric, 1e-13)


@CELL_NAMES
def test_the_jacobian_over_all_steps_is_that_of_autograd(name, problem):
    cell, params, x, s0, _ = problem
    mirror = CELLS[name][1]
    units = [s.shape[1] for s in s0]

    def last(vector):
        states = mirror.forward(mirror.Params(*map(tensor, params)), tensor(x), mirror.State(*vector.split(units, -1)))
        return torch.cat([s[-1] for s in states], -1)

    expected = torch.autograd.functional.jacobian(last, tensor(flat(s0)))
    by_hand = gradflow.temporal_jacobians(gradflow.step_jacobians(cell, params, x, s0).J)[0]
    for b in range(B):
        assert_close(f"sequence {b}", by_hand[b], expected[b, :, b], 1e-13)


@CELL_NAMES
def test_a_step_is_what_goes_through_the_recurrent_weights_and_what_does_not(name, problem):
    cell, params, x, s0, _ = problem
    J, E, A = gradflow.step_jacobians(cell, params, x, s0)
    if name == "gru_reset_before":
        assert A is None
        with pytest.raises(ValueError, match="A is None"):
            gradflow.bound(gradflow.Steps(J, E, A), params.W_hh)
        return
    through = np.zeros_like(J)
    through[..., : params.W_hh.shape[1]] = A @ params.W_hh
    assert_close("(T3)", J, E + through, 1e-15)
    assert (E == 0).all() == name.startswith("rnn")
    # A by complex steps in b_hh, which stands beside W_hh h_t.
    states, _ = cell.forward(params, x, s0)
    for t in range(T):
        for j in range(len(params.b_hh)):
            b_hh = params.b_hh + 1e-30j * np.eye(len(params.b_hh))[j]
            later, _ = cell.forward(params._replace(b_hh=b_hh), x[t : t + 1], cell.State(*(s[t] for s in states)))
            assert_close(f"A_{t}, column {j}", A[t, :, :, j], flat(later)[1].imag / 1e-30, 1e-12)


@CELL_NAMES
def test_no_gradient_is_longer_than_the_bound(name, problem):
    cell, params, x, s0, _ = problem
    steps = gradflow.step_jacobians(cell, params, x, s0)
    if steps.A is None:
        return
    norms, bound = gradflow.norms(gradflow.temporal_jacobians(steps.J)), gradflow.bound(steps, params.W_hh)
    assert norms.shape == bound.shape == (T + 1, B)
    assert (norms <= bound * (1 + 1e-12)).all()
    E, A, W = (np.linalg.norm(M, 2) for M in (steps.E[1, 0], steps.A[1, 0], params.W_hh))
    np.testing.assert_allclose(bound[1, 0] / bound[2, 0], E + A * W, rtol=1e-13)


@CELL_NAMES
def test_contributions_sum_to_the_gradient_and_their_band_is_truncated(problem):
    cell, params, x, s0, dstates = problem
    dstates = dstates._replace(**{f: np.zeros_like(d) for f, d in dstates._asdict().items() if f != "h"})
    dstates.h[0] = 0  # the loss reads the outputs, as a layer's does
    _, tape = cell.forward(params, x, s0)
    grads, _, _ = cell.backward(tape, dstates)
    end = cell.State(*(np.zeros_like(s)[None] for s in s0))
    _, _, deep_tape = deep.forward(cell, [[params]], x, cell.State(*(s[None] for s in s0)))
    t, k = np.indices((T, T))
    for field in cell.Params._fields:
        table = gradflow.contributions(cell, params, x, s0, dstates, lambda g, field=field: getattr(g, field))
        assert table.shape == (T, T, *getattr(params, field).shape)
        assert not table[k > t].any()
        assert all(table[i, j].any() for i, j in zip(*np.tril_indices(T)))
        assert_close(f"d{field}", table.sum(axis=(0, 1)), getattr(grads, field), 1e-13)
        for k2 in range(1, T + 1):
            band = table[(k <= t) & (t - k < k2)].sum(axis=0)
            (cut,), *_ = truncated.backward(deep_tape, dstates.h[1:], end, k1=1, k2=k2)
            assert_close(f"d{field}, {k2} steps back", band, getattr(cut[0], field), 1e-13)


def test_contributions_reach_final_states_and_can_be_numbers():
    cell, rng = CELLS["lstm"][0], rng_of("contributions")
    params, x = random_params(cell, I, H, R, rng), rng.standard_normal((T, B, I))
    s0, dstates = random_state(cell, (B,), H, R, rng), random_state(cell, (T + 1, B), H, R, rng)
    grads, _, _ = cell.backward(cell.forward(params, x, s0)[1], dstates)  # what arrives at s_0 uses no parameter
    whole = gradflow.contributions(cell, params, x, s0, dstates)
    assert_close("dW_hh", whole.sum(axis=(0, 1)), grads.W_hh, 1e-13)
    norms = gradflow.contributions(cell, params, x, s0, dstates, lambda g: np.linalg.norm(g.W_hh))
    np.testing.assert_allclose(norms, np.linalg.norm(whole, axis=(2, 3)), rtol=1e-14)
    assert norms.shape == (T, T)


@pytest.mark.parametrize("name", [name for name in CELLS if name != "rnn_relu"])  # whose determinants are 0
def test_lyapunov_exponents_sum_to_the_logarithm_of_the_determinants(problem):
    cell, params, x, s0, _ = problem
    J = gradflow.step_jacobians(cell, params, x, s0).J
    exponents = gradflow.lyapunov_exponents(J)
    assert (np.diff(exponents, axis=1) <= 0).all()
    _, logarithm = np.linalg.slogdet(J)
    assert_close("sum", exponents.sum(axis=1), logarithm.mean(axis=0), 1e-11)


def test_lyapunov_exponents_of_a_long_run_are_those_of_the_singular_values():
    """Of one matrix with known eigenvalues, 1/T ln σ_i(Mᵀ…M) goes to ln |eigenvalue|; QR keeps even the smallest."""
    rng = rng_of("lyapunov")
    P = rng.standard_normal((3, 3))
    M = P @ np.diag([1.25, 0.5, 0.01]) @ np.linalg.inv(P)
    (exponents,) = gradflow.lyapunov_exponents(np.broadcast_to(M, (4000, 1, 3, 3)))
    np.testing.assert_allclose(exponents, np.log([1.25, 0.5, 0.01]), atol=3e-3)
    (largest,) = gradflow.norms(gradflow.temporal_jacobians(np.broadcast_to(M, (200, 1, 3, 3))))[0]
    assert abs(np.log(largest) / 200 - np.log(1.25)) < 3e-2
    sheared = np.array([[1.0, 10.0], [0.0, 0.5]])[None, None]  # of one step: how long the first unit vector becomes
    np.testing.assert_allclose(gradflow.lyapunov_exponents(sheared), np.log([[1.0, 0.5]]))
    assert gradflow.lyapunov_exponents(np.zeros((2, 1, 2, 2))).tolist() == [[-np.inf, -np.inf]]


def test_singular_values_are_numpys_and_nan_where_a_gradient_has_exploded():
    M = rng_of("sigma").standard_normal((2, 3, 4, 5))
    M[1, 2, 0, 0] = np.inf
    sigma = gradflow.singular_values(M)
    assert sigma.shape == (2, 3, 4)
    np.testing.assert_allclose(sigma[0, 1], np.linalg.svd(M[0, 1], compute_uv=False))
    assert np.isnan(sigma[1, 2]).all()
    assert np.isfinite(gradflow.norms(M)).sum() == 5


def test_the_horizon_is_where_a_gradient_falls_below_a_fraction():
    norms = 0.5 ** np.arange(11)[::-1, None] * [1.0, 7.0]  # of ∂s_10/∂s_k
    assert gradflow.horizon(norms).tolist() == [7, 7]  # 2^-7 < 1 % < 2^-6
    assert gradflow.horizon(norms, 0.3).tolist() == [2, 2]
    assert gradflow.horizon(np.ones((4, 1))).tolist() == [np.inf]


def test_without_steps_there_is_the_unit_matrix():
    cell, rng = CELLS["lstm"][0], rng_of("none")
    s0 = random_state(cell, (B,), H, R, rng)
    steps = gradflow.step_jacobians(cell, random_params(cell, I, H, R, rng), np.zeros((0, B, I)), s0)
    assert steps.J.shape == steps.E.shape == (0, B, 2 * H, 2 * H)
    assert (gradflow.temporal_jacobians(steps.J) == np.eye(2 * H)).all()
    assert gradflow.bound(steps, np.zeros((4 * H, H))).tolist() == [[1.0] * B]


def test_all_that_is_here_equals_what_a_gradient_does():
    """Dh_k by backward is (∂s_t/∂s_k)ᵀ times what arrives at s_t."""
    cell, rng = CELLS["gru"][0], rng_of("adjoint")
    params, x = random_params(cell, I, H, R, rng), rng.standard_normal((T, B, I))
    s0 = random_state(cell, (B,), H, R, rng)
    dstates = cell.State(np.zeros((T + 1, B, H)))
    dstates.h[T] = rng.standard_normal((B, H))
    _, _, ds0 = cell.backward(cell.forward(params, x, s0)[1], dstates)
    whole = gradflow.temporal_jacobians(gradflow.step_jacobians(cell, params, x, s0).J)[0]
    assert_all_close(ds0.h, np.einsum("bij,bi->bj", whole, dstates.h[T]), 1e-14)
