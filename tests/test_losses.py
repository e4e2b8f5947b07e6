"""Losses against torch.nn.functional, their gradients against the complex step, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from numpy_rnn.layers.losses import mean_squared_error, softmax_cross_entropy

TOLERANCE = {np.float64: 2e-15, np.float32: 1e-6}  # relative to the largest number; measured: 5e-16 and 4e-7


def close(got, want, tolerance):
    want = want.detach().numpy()
    assert np.shape(got) == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(np.abs(want).max(), 1e-300))


def draw(seed, shape, K, scale=3.0, ignored=0.3):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, K, shape)
    return rng.normal(0, scale, (*shape, K)), np.where(rng.random(shape) < ignored, -100, targets)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("shape", [(), (5,), (4, 3), (2, 3, 4)])
@pytest.mark.parametrize("K", [1, 2, 103])
def test_cross_entropy_is_torchs(dtype, reduction, shape, K):
    logits, targets = draw(1, shape, K, ignored=0.3 if shape else 0.0)
    logits = logits.astype(dtype)
    z = torch.tensor(logits.reshape(-1, K), requires_grad=True)
    want = F.cross_entropy(z, torch.tensor(targets.reshape(-1)), reduction=reduction)
    want.backward()
    loss, dlogits = softmax_cross_entropy(logits, targets, reduction=reduction)
    assert loss.dtype == dtype
    close(loss, want, TOLERANCE[dtype])
    close(dlogits.reshape(-1, K), z.grad, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_cross_entropy_of_huge_logits(dtype):
    logits = np.array([[1000.0, 0.0, -1000.0], [-3e4, -3e4, -3e4]], dtype)
    z = torch.tensor(logits, requires_grad=True)
    want = F.cross_entropy(z, torch.tensor([2, 1]))
    want.backward()
    loss, dlogits = softmax_cross_entropy(logits, [2, 1])
    close(loss, want, TOLERANCE[dtype])
    close(dlogits, z.grad, TOLERANCE[dtype])


def test_cross_entropy_with_another_ignored_index():
    logits, _ = draw(2, (6,), 4)
    targets = np.array([0, 1, 2, 3, 2, 2])
    z = torch.tensor(logits, requires_grad=True)
    want = F.cross_entropy(z, torch.tensor(targets), ignore_index=2)
    want.backward()
    loss, dlogits = softmax_cross_entropy(logits, targets, ignore_index=2)
    close(loss, want, 2e-15)
    close(dlogits, z.grad, 2e-15)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("rows", [0, 3])
def test_nothing_to_average_is_torchs_nan(reduction, rows):
    logits, targets = np.ones((rows, 4)), np.full(rows, -100)
    want = F.cross_entropy(torch.tensor(logits), torch.tensor(targets), reduction=reduction)
    loss, dlogits = softmax_cross_entropy(logits, targets, reduction=reduction)
    np.testing.assert_array_equal(loss, want.numpy())
    np.testing.assert_array_equal(dlogits, np.zeros((rows, 4)))


def test_nan_in_ignored_rows_is_harmless():
    logits, targets = draw(3, (5,), 4, ignored=0)
    targets[2] = -100
    loss, dlogits = softmax_cross_entropy(logits, targets)
    logits[2] = np.nan
    again, dagain = softmax_cross_entropy(logits, targets)
    assert again == loss
    np.testing.assert_array_equal(dagain, dlogits)


def complex_step(f, x):
    """Gradient of a real function by the imaginary part of f(x + ih): exact to rounding."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        z = x.astype(complex)
        z[index] += 1e-30j
        gradient[index] = f(z).imag / 1e-30
    return gradient


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_are_those_of_the_values(reduction):
    logits, targets = draw(4, (3, 2), 5)
    _, dlogits = softmax_cross_entropy(logits, targets, reduction=reduction)
    by_step = complex_step(lambda z: softmax_cross_entropy(z, targets, reduction=reduction)[0], logits)
    np.testing.assert_allclose(dlogits, by_step, rtol=0, atol=1e-15)

    y, target = np.random.default_rng(5).normal(size=(2, 3, 4))
    _, dy = mean_squared_error(y, target, reduction)
    np.testing.assert_allclose(dy, complex_step(lambda z: mean_squared_error(z, target, reduction)[0], y), rtol=1e-14)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("shape", [(), (7,), (4, 3, 2)])
def test_mean_squared_error_is_torchs(dtype, reduction, shape):
    y, target = np.random.default_rng(6).normal(size=(2, *shape)).astype(dtype)
    y, target = np.asarray(y), np.asarray(target)
    z = torch.tensor(y, requires_grad=True)
    want = F.mse_loss(z, torch.tensor(target), reduction=reduction)
    want.backward()
    loss, dy = mean_squared_error(y, target, reduction)
    assert loss.dtype == dtype
    close(loss, want, TOLERANCE[dtype])
    close(np.asarray(dy), z.grad, TOLERANCE[dtype])


def test_mean_squared_error_of_nothing():
    assert np.isnan(mean_squared_error(np.ones((0, 2)), np.ones((0, 2)))[0])
    assert mean_squared_error(np.ones((0, 2)), np.ones((0, 2)), "sum")[0] == 0


@pytest.mark.parametrize(
    ("logits", "targets", "options", "message"),
    [
        (np.ones((2, 3)), [0, 3], {}, r"targets\[1\] is 3, expected 0 to 2 or ignore_index = -100"),
        (np.ones((2, 2, 3)), [[0, 0], [-1, 0]], {}, r"targets\[1, 0\] is -1, expected 0 to 2"),
        (np.ones((2, 3)), [0, -100], {"ignore_index": 0}, r"targets\[1\] is -100"),
        (np.ones((2, 3)), [0, 1, 2], {}, r"targets has shape \(3,\), expected \(2,\)"),
        (np.ones((2, 3, 4)), [0, 1], {}, r"^targets has shape \(2,\), expected \(2, 3\), that of logits without K$"),
        (np.ones((2, 3)), [0.0, 1.0], {}, "targets has dtype float64, expected integers"),
        (np.ones((2, 3)), [True, False], {}, "targets has dtype bool, expected integers"),
        (np.ones((2, 3), int), [0, 1], {}, "logits has dtype int64, expected floating-point"),
        (np.ones((2, 0)), [0, 1], {}, r"logits has shape \(2, 0\)"),
        (np.float64(1), 0, {}, r"logits has shape \(\)"),
        (np.ones((2, 3)), [0, 1], {"reduction": "none"}, "reduction is 'none', expected 'mean' or 'sum'"),
    ],
)
def test_cross_entropy_refuses(logits, targets, options, message):
    with pytest.raises(ValueError, match=message):
        softmax_cross_entropy(logits, targets, **options)


@pytest.mark.parametrize(
    ("y", "target", "reduction", "message"),
    [
        (np.ones((2, 3)), np.ones(3), "mean", r"target has shape \(3,\), expected \(2, 3\)"),
        (np.ones(2, int), np.ones(2, int), "mean", "y and target have dtype int64 and int64"),
        (np.ones(2), np.ones(2), "max", "reduction is 'max'"),
    ],
)
def test_mean_squared_error_refuses(y, target, reduction, message):
    with pytest.raises(ValueError, match=message):
        mean_squared_error(y, target, reduction)


def test_one_of_the_two_may_hold_integers():
    whole, half = np.array([1, 2]), np.array([1.5, 2.5])
    for y, target in ((whole, half), (half, whole)):
        loss, dy = mean_squared_error(y, target)
        assert loss == 0.25
        assert np.array_equal(dy, y - target)
