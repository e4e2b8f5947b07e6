"""The models from scratch, in NumPy and in torch: the article's example, and torch.nn's layers followed by a Linear."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import assert_all_close
from torch import nn

import numpy_rnn
import torch_rnn

B, T, I, H, O = 3, 6, 4, 7, 5  # all distinct
PAIRS = {
    "RNN": (torch_rnn.RNNFromScratch, nn.RNN),
    "LSTM": (torch_rnn.LSTMFromScratch, nn.LSTM),
    "GRU": (torch_rnn.GRUFromScratch, nn.GRU),
}
each = pytest.mark.parametrize("name", PAIRS)


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    torch.manual_seed(0)


def states(name, *shape, **options):
    """A random initial state of that shape: h, or the pair (h, c)."""
    h, c = (torch.randn(*shape, **options) for _ in range(2))
    return (h, c) if name == "LSTM" else h


def flat(results):
    outputs, hidden = results
    return [outputs, *(hidden if isinstance(hidden, tuple) else [hidden])]


def in_numpy(model):
    """The class of the same name with the same parameters."""
    ours = getattr(numpy_rnn, type(model).__name__)(I, H, O, dtype=np.float64)
    ours.load_state_dict(model.state_dict())
    return ours


def arrays(tensors):
    return [None if z is None else z.detach().numpy() for z in tensors]


def test_the_articles_example():
    from torch_rnn import RNNFromScratch

    rnn = RNNFromScratch(10, 20, 5)
    x = torch.randn(3, 6, 10)
    outputs, hidden = rnn(x)
    assert outputs.shape == (3, 6, 5)
    assert hidden.shape == (3, 20)
    assert [name for name, _ in rnn.named_parameters()] == [
        f"{layer}.{kind}" for layer in ("i2h", "h2h", "h2o") for kind in ("weight", "bias")
    ]


@each
@pytest.mark.parametrize("batch", [(B,), ()], ids=["batch", "one sequence"])
@pytest.mark.parametrize("given", [True, False], ids=["state given", "from zero"])
def test_values_and_gradients_equal_torchs(name, batch, given):
    ours, theirs = PAIRS[name][0](I, H, O, dtype=torch.float64), PAIRS[name][1](I, H, batch_first=True).double()
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(ours.i2h.weight)
        theirs.bias_ih_l0.copy_(ours.i2h.bias)
        theirs.weight_hh_l0.copy_(ours.h2h.weight)
        theirs.bias_hh_l0.copy_(ours.h2h.bias)
    readout = nn.Linear(H, O).double()
    readout.load_state_dict(ours.h2o.state_dict())
    x = torch.randn(*batch, T, I, dtype=torch.float64, requires_grad=True)
    hidden = states(name, *batch, H, dtype=torch.float64, requires_grad=True)
    hidden_leaves = list(hidden) if name == "LSTM" else [hidden]

    def torchs():
        h_0 = tuple(s[None] for s in hidden_leaves)
        y, h_n = theirs(x, (h_0 if name == "LSTM" else h_0[0]) if given else None)
        return readout(y), tuple(s[0] for s in h_n) if name == "LSTM" else h_n[0]

    got, expected = flat(ours(x, hidden) if given else ours(x)), flat(torchs())
    upstream = [torch.randn_like(y) for y in expected]
    wanted = [x, *(hidden_leaves if given else [])]
    grads = torch.autograd.grad(got, [*wanted, *ours.parameters()], upstream)
    # Torch registers weight_ih, weight_hh, bias_ih, bias_hh in that order.
    w_ih, w_hh, b_ih, b_hh = theirs.parameters()
    theirs_grads = torch.autograd.grad(expected, [*wanted, w_ih, b_ih, w_hh, b_hh, *readout.parameters()], upstream)
    assert_all_close(got, expected, 1e-12)
    assert_all_close(grads, theirs_grads, 1e-12)

    def one_or_pair(states):
        return tuple(arrays(states)) if name == "LSTM" else arrays(states)[0]

    by_hand = in_numpy(ours)
    outputs, h_n, tape = by_hand.forward(*arrays([x]), one_or_pair(hidden_leaves) if given else None)
    grads, dx, dhidden = by_hand.backward(tape, *arrays(upstream[:1]), one_or_pair(upstream[1:]))
    assert list(grads) == list(by_hand.state_dict()) == list(ours.state_dict())
    assert_all_close(flat((outputs, h_n)), expected, 1e-12)
    assert_all_close(flat((dx, dhidden))[: len(wanted)], list(theirs_grads[: len(wanted)]), 1e-12)
    assert_all_close(list(grads.values()), list(theirs_grads[len(wanted) :]), 1e-12)


@each
def test_a_sequence_in_two_parts_is_a_sequence(name):
    model = PAIRS[name][0](I, H, O, dtype=torch.float64)
    x = torch.randn(B, T, I, dtype=torch.float64)
    first, hidden = model(x[:, :2])
    second, hidden = model(x[:, 2:], hidden)
    assert_all_close((torch.cat([first, second], dim=1), hidden), model(x), 1e-12)


@each
@pytest.mark.parametrize("batch", [(B,), ()], ids=["batch", "one sequence"])
def test_no_step_leaves_the_state_as_it_was(name, batch):
    model = PAIRS[name][0](I, H, O, dtype=torch.float64)
    hidden = states(name, *batch, H, dtype=torch.float64)
    numbers = tuple(arrays(hidden)) if name == "LSTM" else hidden.numpy()
    by_hand = in_numpy(model)
    for outputs, after in (
        model(torch.randn(*batch, 0, I).double(), hidden),
        by_hand(np.ones((*batch, 0, I)), numbers),
    ):
        assert outputs.shape == (*batch, 0, O)
        assert_all_close(after, hidden, 0.0)
    grads, _, dhidden = by_hand.backward(by_hand.forward(np.ones((*batch, 0, I)), numbers)[2], None, numbers)
    assert_all_close(dhidden, hidden, 0.0)
    assert not any(g.any() for g in grads.values())


@each
def test_device_and_dtype(name):
    model = PAIRS[name][0](I, H, O, device="meta", dtype=torch.float64)
    assert all(p.is_meta and p.dtype == torch.float64 for p in model.parameters())
    assert model(torch.empty(B, T, I, device="meta", dtype=torch.float64))[0].shape == (B, T, O)


@each
def test_the_same_seed_gives_the_same_parameters_as_three_linear_layers(name):
    G = {"RNN": 1, "LSTM": 4, "GRU": 3}[name]
    torch.manual_seed(3)
    model = PAIRS[name][0](I, H, O)
    torch.manual_seed(3)
    layers = [nn.Linear(I, G * H), nn.Linear(H, G * H), nn.Linear(H, O)]
    assert_all_close(list(model.parameters()), [p for layer in layers for p in layer.parameters()], 0.0)


BAD_CALLS = {
    "rank 1": (lambda m, s: m(torch.randn(I)), r"x has shape \(4,\), expected \(B, T, 4\) or \(T, 4\)"),
    "rank 4": (lambda m, s: m(torch.randn(1, B, T, I)), "x has shape"),
    "too few features": (lambda m, s: m(torch.randn(B, T, I - 1)), "x has shape"),
    "another dtype": (lambda m, s: m(torch.randn(B, T, I).double()), "x has dtype torch.float64"),
    "integers": (lambda m, s: m(torch.ones(B, T, I, dtype=torch.int64)), "x has dtype torch.int64"),
    "state of batch 1": (lambda m, s: m(torch.randn(B, T, I), s(1, H)), r"has shape \(1, 7\), expected \(3, 7\)"),
    "state of one unit": (lambda m, s: m(torch.randn(B, T, I), s(B, 1)), r"has shape \(3, 1\), expected \(3, 7\)"),
    "state without batch": (lambda m, s: m(torch.randn(B, T, I), s(H)), r"has shape \(7,\), expected \(3, 7\)"),
    "state of rank 3": (lambda m, s: m(torch.randn(B, T, I), s(1, B, H)), r"has shape \(1, 3, 7\), expected \(3, 7\)"),
    "state with batch": (lambda m, s: m(torch.randn(T, I), s(1, H)), r"has shape \(1, 7\), expected \(7,\)"),
    "state of another dtype": (lambda m, s: m(torch.randn(B, T, I), s(B, H, dtype=torch.float64)), "has dtype"),
}


@each
@pytest.mark.parametrize(("call", "message"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_input_is_refused(name, call, message):
    with pytest.raises(ValueError, match=message):
        call(PAIRS[name][0](I, H, O), lambda *shape, **options: states(name, *shape, **options))


@pytest.mark.parametrize("hidden", [torch.zeros(B, H), torch.zeros(2, B, H), (torch.zeros(B, H),), 0.0])
def test_a_state_that_is_no_pair_is_refused(hidden):
    with pytest.raises(ValueError, match=r"hidden must be the pair \(h, c\)"):
        torch_rnn.LSTMFromScratch(I, H, O)(torch.randn(B, T, I), hidden)


@pytest.mark.parametrize("name", ["h", "c"])
def test_each_state_of_the_pair_is_checked(name):
    good, bad = torch.zeros(B, H), torch.zeros(1, H)
    with pytest.raises(ValueError, match=f"^{name} has shape"):
        torch_rnn.LSTMFromScratch(I, H, O)(torch.randn(B, T, I), (bad, good) if name == "h" else (good, bad))


@each
@pytest.mark.parametrize("sizes", [(0, H, O), (I, -1, O), (I, H, 0)], ids=str)
def test_sizes_must_be_positive(name, sizes):
    with pytest.raises(ValueError, match="_size must be greater than zero, got"):
        PAIRS[name][0](*sizes)


def test_initial_values_follow_torchs_linear():
    model = numpy_rnn.RNNFromScratch(400, 100, 25, rng=0)
    for linear, inputs in ((model.i2h, 400), (model.h2h, 100), (model.h2o, 100)):
        for values in linear:
            assert 0.9 / np.sqrt(inputs) < np.abs(values).max() <= 1 / np.sqrt(inputs)


def test_the_maps_are_the_models_own():
    model = numpy_rnn.RNNFromScratch(I, H, O, rng=0)
    model.h2h.weight[...] = 0
    assert not model.state_dict()["h2h.weight"].any()
