"""RNNFromScratch, LSTMFromScratch, GRUFromScratch in NumPy against the same classes in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import assert_all_close, rng_of

import numpy_rnn
import torch_rnn

CLASSES = ["RNNFromScratch", "LSTMFromScratch", "GRUFromScratch"]
I, H, O, B, T = 4, 6, 3, 2, 5


def pair(cls, dtype=np.float64):
    ours = getattr(numpy_rnn, cls)(I, H, O, dtype=dtype, rng=0)
    theirs = getattr(torch_rnn, cls)(I, H, O).to(torch.float64)
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    return ours, theirs


@pytest.mark.parametrize("lead", [(B, T), (T,), (B, 0)], ids=["batch", "single", "no steps"])
@pytest.mark.parametrize("cls", CLASSES)
def test_equals_torch(cls, lead):
    ours, theirs = pair(cls)
    rng = rng_of(cls, lead)
    x = rng.standard_normal((*lead, I))
    _, hidden = ours(x)
    n = len(hidden) if isinstance(hidden, tuple) else 1
    shape = (*lead[:-1], H)
    states, dstates = (tuple(rng.standard_normal(shape) for _ in range(n)) for _ in range(2))
    one = lambda s: s if n > 1 else s[0]  # noqa: E731
    outputs, hidden, tape = ours.forward(x, one(states))
    doutputs = rng.standard_normal(outputs.shape)
    grads, dx, dhidden = ours.backward(tape, doutputs, one(dstates))

    tx, ts = torch.tensor(x, requires_grad=True), tuple(torch.tensor(s, requires_grad=True) for s in states)
    toutputs, thidden = theirs(tx, one(ts))
    finals = thidden if n > 1 else (thidden,)
    named = dict(theirs.named_parameters())
    reached = [(a, torch.tensor(d)) for a, d in zip([toutputs, *finals], [doutputs, *dstates]) if a.requires_grad]
    tdx, *rest = torch.autograd.grad(
        [a for a, _ in reached],
        [tx, *ts, *named.values()],
        [d for _, d in reached],
        allow_unused=True,
        materialize_grads=True,
    )
    assert_all_close([outputs, hidden], [toutputs, thidden], 1e-13)
    assert_all_close([dx, dhidden, grads], [tdx, one(tuple(rest[:n])), dict(zip(named, rest[n:]))], 1e-12)


@pytest.mark.parametrize("cls", CLASSES)
def test_state_dicts_load_both_ways(cls):
    ours, theirs = pair(cls)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    again = getattr(numpy_rnn, cls)(I, H, O, rng=1)
    again.load_state_dict(theirs.state_dict())
    assert_all_close(again.state_dict(), {k: v.astype(np.float32) for k, v in ours.state_dict().items()}, 0)


def test_initial_values_follow_torchs_linear():
    model = numpy_rnn.RNNFromScratch(400, 100, 25, rng=0)
    for linear, inputs in ((model.i2h, 400), (model.h2h, 100), (model.h2o, 100)):
        for values in linear:
            assert 0.9 / np.sqrt(inputs) < np.abs(values).max() <= 1 / np.sqrt(inputs)


def test_the_maps_are_the_models_own():
    model = numpy_rnn.RNNFromScratch(I, H, O, rng=0)
    model.h2h.weight[...] = 0
    assert not model.state_dict()["h2h.weight"].any()
