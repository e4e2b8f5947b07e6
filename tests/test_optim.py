"""Optimizers and clipping against torch.optim and torch.nn.utils, over 100 steps with random gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from numpy_rnn.layers.optim import SGD, Adagrad, Adam, clip_grad_norm, clip_grad_value

SHAPES = {"weight": (5, 3), "bias": (5,), "scale": (), "nothing": (0, 4)}
# After 100 steps, relative to each tensor's largest number; the largest differences measured are 8e-16 and 4e-7.
TOLERANCE = {np.float64: 2e-15, np.float32: 1e-6}
VARIANTS = [
    (SGD, {"lr": 0.1}),
    (SGD, {"lr": 0.1, "weight_decay": 0.03}),
    (SGD, {"lr": 0.1, "momentum": 0.9}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.4}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.03}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.03}),
    (Adagrad, {}),
    (Adagrad, {"lr": 0.1, "weight_decay": 0.03, "lr_decay": 0.05}),
    (Adagrad, {"lr": 0.1, "initial_accumulator_value": 0.2, "eps": 1e-3}),
    (Adam, {}),
    (Adam, {"lr": 0.05, "weight_decay": 0.03}),
    (Adam, {"lr": 0.05, "betas": (0.7, 0.95), "eps": 1e-3}),
    (Adam, {"lr": 0.05, "betas": (0.3, 0.5)}),
    (Adam, {"lr": 0.05, "betas": (0.0, 0.0)}),
]


def ids(value):
    return value.__name__ if isinstance(value, type) else str(value)


def draw(rng, dtype):
    # Sizes from tiny to large, and now and then a gradient of exactly zero.
    values = {n: np.asarray(rng.normal(size=s) * 10.0 ** rng.integers(-6, 2, s)) for n, s in SHAPES.items()}
    return {n: np.asarray(np.where(rng.random(v.shape) < 0.1, 0, v), dtype) for n, v in values.items()}


def assert_close(got, want, tolerance):
    for name in SHAPES:
        w = want[name].detach().numpy()
        np.testing.assert_allclose(got[name], w, rtol=0, atol=tolerance * np.abs(w).max(initial=0), err_msg=name)
        assert got[name].dtype == w.dtype


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("kind", "options"), VARIANTS, ids=ids)
def test_100_steps_are_torchs(kind, options, dtype):
    rng = np.random.default_rng(7)
    params = draw(rng, dtype)
    live = dict(params)
    reference = {name: torch.tensor(p, requires_grad=True) for name, p in params.items()}
    optimizer = kind(params, **{"lr": 1e-3, **options})
    theirs = getattr(torch.optim, kind.__name__)(reference.values(), **{"lr": 1e-3, **options})
    for _ in range(100):
        grads = draw(rng, dtype)
        before = {name: g.copy() for name, g in grads.items()}
        for name, g in grads.items():
            reference[name].grad = torch.tensor(g)
        optimizer.step(grads)
        theirs.step()
        for name, g in grads.items():
            np.testing.assert_array_equal(g, before[name])
    assert_close(live, reference, TOLERANCE[dtype])


@pytest.mark.parametrize(("kind", "options"), VARIANTS, ids=ids)
@pytest.mark.parametrize("after", [0, 1, 50])
def test_a_resumed_optimizer_goes_on_bit_for_bit(kind, options, after):
    options = {"lr": 1e-3, **options}
    rng = np.random.default_rng(8)
    params, gradients = draw(rng, np.float32), [draw(rng, np.float32) for _ in range(80)]
    straight = {name: p.copy() for name, p in params.items()}
    optimizer = kind(straight, **options)
    for grads in gradients:
        optimizer.step(grads)

    first = kind(params, **options)
    for grads in gradients[:after]:
        first.step(grads)
    saved, copies = first.state_dict(), {name: p.copy() for name, p in params.items()}
    if after:
        first.step(gradients[0])  # what was saved must not change any more
    second = kind(copies, **options)
    second.load_state_dict(saved)
    for grads in gradients[after:]:
        second.step(grads)
    for name, p in straight.items():
        np.testing.assert_array_equal(copies[name], p, err_msg=name)


def test_lr_may_change_between_steps():
    p = {"w": np.zeros(1, np.float32)}
    optimizer = SGD(p, lr=1.0)
    optimizer.step({"w": np.ones(1, np.float32)})
    optimizer.lr = np.float64(0.5)
    optimizer.step({"w": np.ones(1, np.float32)})
    assert p["w"].item() == -1.5
    assert p["w"].dtype == np.float32


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e-8, 1e9, np.inf])
def test_clipping_by_norm_is_torchs(dtype, max_norm):
    grads = draw(np.random.default_rng(9), dtype)
    reference = {name: torch.zeros(g.shape, dtype=torch.tensor(g).dtype) for name, g in grads.items()}
    for name, p in reference.items():
        p.grad = torch.tensor(grads[name])
    want = torch.nn.utils.clip_grad_norm_(reference.values(), max_norm)
    live = dict(grads)
    norm = clip_grad_norm(grads, max_norm)
    np.testing.assert_allclose(norm, want.numpy(), rtol=TOLERANCE[dtype])
    assert_close(live, {name: p.grad for name, p in reference.items()}, TOLERANCE[dtype])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_clipping_by_norm_of_what_is_not_finite_is_torchs(bad):
    grads = {"a": np.array([1.0, bad]), "b": np.array([2.0])}
    reference = {name: torch.zeros(g.shape) for name, g in grads.items()}
    for name, p in reference.items():
        p.grad = torch.tensor(grads[name], dtype=torch.float32)
    want = torch.nn.utils.clip_grad_norm_(reference.values(), 1.0)
    with np.errstate(invalid="ignore"):
        norm = clip_grad_norm(grads, 1.0)
    np.testing.assert_array_equal(norm, want.numpy())
    for name, p in reference.items():
        np.testing.assert_array_equal(grads[name], p.grad.numpy())


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_clipping_by_value_is_torchs(dtype):
    grads = draw(np.random.default_rng(10), dtype)
    grads["bias"][0] = np.nan
    reference = {name: torch.zeros(g.shape, dtype=torch.tensor(g).dtype) for name, g in grads.items()}
    for name, p in reference.items():
        p.grad = torch.tensor(grads[name])
    torch.nn.utils.clip_grad_value_(reference.values(), 0.01)
    live = dict(grads)
    clip_grad_value(grads, 0.01)
    for name, p in reference.items():
        np.testing.assert_array_equal(live[name], p.grad.numpy(), err_msg=name)


def test_nothing_to_clip():
    assert clip_grad_norm({}, 1.0) == 0
    clip_grad_value({}, 1.0)


W = {"w": np.ones(2)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(W, lr=-1), "lr is -1, expected a finite number of 0 or more"),
        (lambda: SGD(W, lr=np.nan), "lr is nan"),
        (lambda: SGD(W, lr=np.inf), "lr is inf"),
        (lambda: SGD(W, lr=1, momentum=-0.1), "momentum is -0.1"),
        (lambda: SGD(W, lr=1, weight_decay=-0.1), "^weight_decay is -0.1"),
        (lambda: SGD(W, lr=1, momentum=0.9, dampening=np.inf), "^dampening is inf"),
        (lambda: Adam(W, weight_decay=-0.1), "^weight_decay is -0.1"),
        (lambda: Adagrad(W, lr_decay=-1), "^lr_decay is -1"),
        (lambda: Adagrad(W, weight_decay=-1), "^weight_decay is -1"),
        (lambda: Adagrad(W, initial_accumulator_value=-1), "^initial_accumulator_value is -1"),
        (lambda: Adagrad(W, eps=np.nan), "^eps is nan"),
        (lambda: Adagrad(W).load_state_dict({}), "missing optimizer state step, sum.w"),
        (lambda: SGD(W, lr=1, nesterov=True), "nesterov needs a momentum"),
        (lambda: SGD(W, lr=1, momentum=0.9, dampening=0.1, nesterov=True), "a dampening of 0, got 0.9 and 0.1"),
        (lambda: Adam(W, betas=(1.0, 0.9)), r"betas\[0\] is 1.0, expected 0 or more and less than 1"),
        (lambda: Adam(W, betas=(0.9, np.nan)), r"betas\[1\] is nan"),
        (lambda: Adam(W, eps=-1e-8), "eps is -1e-08"),
        (lambda: Adam({}), r"^there are no parameters to optimize$"),
        (lambda: Adam({"w": np.ones(2, int)}), "w is not an array of floating-point numbers"),
        (lambda: Adam({"w": [1.0]}), "w is not an array of floating-point numbers"),
        (lambda: clip_grad_norm({}, -1.0), "max_norm is -1.0, expected a number of 0 or more"),
        (lambda: clip_grad_norm({}, np.nan), "max_norm is nan"),
        (lambda: clip_grad_value({}, -1.0), "value is -1.0"),
        (lambda: Adam(W).step({}), "missing gradient w; expected w"),
        (lambda: Adam(W).step({"w": np.ones(2), "v": np.ones(2)}), "unknown gradient v; expected w"),
        (lambda: Adam({**W, "u": np.ones(1)}).step({}), r"^missing gradient u, w; expected u, w$"),
        (lambda: Adam(W).step({"w": np.ones((2, 1))}), r"gradient w has shape \(2, 1\), expected \(2,\)"),
        (lambda: Adam(W).load_state_dict({}), "missing optimizer state exp_avg.w, exp_avg_sq.w, step"),
        (
            lambda: Adam(W).load_state_dict({"step": np.ones(1), "exp_avg.w": np.ones(3), "exp_avg_sq.w": np.ones(2)}),
            r"optimizer state exp_avg.w has shape \(3,\), expected \(2,\)",
        ),
        (lambda: SGD(W, lr=1).load_state_dict({"momentum_buffer.w": np.ones(2)}), "unknown optimizer state"),
        (lambda: SGD(W, lr=1, momentum=0.9).load_state_dict({"m": np.ones(2)}), "unknown optimizer state m"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    np.testing.assert_array_equal(W["w"], np.ones(2))


@pytest.mark.parametrize("kind", [Adam, Adagrad])
def test_torchs_default_settings(kind):
    ours, theirs = np.array([1.0, -2.0]), torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    theirs.grad = torch.tensor([0.5, 1e-9], dtype=torch.float64)  # so small that it shows eps
    getattr(torch.optim, kind.__name__)([theirs]).step()
    kind({"w": ours}).step({"w": np.array([0.5, 1e-9])})
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-15)


@pytest.mark.parametrize("kind", [Adam, Adagrad, lambda params: SGD(params, 0.1, momentum=0.9)])
def test_the_memory_has_the_parameters_dtype_wherever_it_comes_from(kind):
    params, wide = {"w": np.ones(2, np.float32)}, {"w": np.ones(2)}
    first, second = kind(wide), kind(params)
    first.step({"w": np.ones(2)})
    second.load_state_dict(first.state_dict())
    second.step({"w": np.ones(2)})
    memory = second.state_dict()
    assert {v.dtype for k, v in memory.items() if k != "step"} == {np.dtype(np.float32)}
    step = memory.get("step", np.zeros(1, np.int64))
    assert (step.dtype, step.shape) == (np.int64, (1,))
    fresh = kind(params)
    fresh.step({"w": np.ones(2)})
    assert {v.dtype for k, v in fresh.state_dict().items() if k != "step"} == {np.dtype(np.float32)}
