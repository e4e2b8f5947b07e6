"""The shells RNN, LSTM, GRU: torch.nn's parameters, shapes and numbers."""

from __future__ import annotations

import copy
import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from support import assert_all_close, rng_of

import numpy_rnn
import torch_rnn
from numpy_rnn.fast import deep
from numpy_rnn.fast.registry import USER_FACING

I, H = 4, 5


def data(ours, name, T=6, B=3):
    rng = rng_of(name, T, B)
    x = rng.standard_normal((T, B, I))
    output, h_n = ours(x)
    states = h_n if isinstance(h_n, tuple) else (h_n,)
    draw = [rng.standard_normal(a.shape) for a in (*states, output, *states)]
    n = len(states)
    return x, tuple(draw[:n]), draw[n], tuple(draw[n + 1 :])


def packed(state):
    return state if len(state) > 1 else state[0]


@pytest.mark.parametrize("name", USER_FACING)
@pytest.mark.parametrize("library", [torch.nn, torch_rnn], ids=["torch.nn", "torch_rnn"])
def test_state_dicts_load_both_ways(name, library):
    cls, variant, in_torch_nn, *_ = USER_FACING[name]
    if library is torch.nn and not in_torch_nn:
        pytest.skip("torch.nn has no such cell")
    theirs = getattr(library, cls)(I, H, 2, bidirectional=True, **variant, dtype=torch.float64)
    ours, fresh = (
        getattr(numpy_rnn, cls)(I, H, 2, bidirectional=True, **variant, dtype=np.float64, rng=seed) for seed in (0, 1)
    )
    swapped = {name: a.numpy().astype(">f8") for name, a in theirs.state_dict().items()}
    for state in (theirs.state_dict(), swapped):  # in the other byte order, too
        ours.load_state_dict(state)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        assert_all_close(ours.state_dict(), dict(theirs.state_dict()), 0)
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in fresh.state_dict().items()})
    assert_all_close(dict(theirs.state_dict()), fresh.state_dict(), 0)


def test_state_dict_is_live_and_load_copies():
    layer = numpy_rnn.RNN(I, H, rng=0)
    other = numpy_rnn.RNN(I, H, rng=1)
    other.load_state_dict(layer.state_dict())
    layer.state_dict()["weight_hh_l0"][...] = 0
    assert not layer.state_dict()["weight_hh_l0"].any()
    assert other.state_dict()["weight_hh_l0"].any()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_runs_with_its_own_parameters(copied):
    layer = numpy_rnn.GRU(2, 3, num_layers=2, bidirectional=True, bias=False, dtype=np.float64, rng=0)
    x = rng_of("copy").standard_normal((4, 2, 2))
    before = layer(x)[0]
    twin = copied(layer)
    assert twin(x)[0].tobytes() == before.tobytes()
    for parameter in twin.state_dict().values():
        parameter *= 2
    assert layer(x)[0].tobytes() == before.tobytes()
    assert np.abs(twin(x)[0] - before).max() > 0.01


def test_absent_biases_are_zero_and_stay_so():
    layer = numpy_rnn.LSTM(2, 3, bias=False, rng=0)
    ((params,),) = layer.params()
    with pytest.raises(ValueError, match="read-only"):
        params.b_ih[0] = 1
    assert params.W_ih is layer.state_dict()["weight_ih_l0"]
    assert not params.b_ih.any()
    assert not params.b_hh.any()


def test_a_bfloat16_tensor_loads():
    theirs = torch.nn.GRU(I, H, dtype=torch.bfloat16)
    ours = numpy_rnn.GRU(I, H)
    ours.load_state_dict(theirs.state_dict())
    assert np.array_equal(ours.state_dict()["weight_ih_l0"], theirs.weight_ih_l0.detach().float().numpy())


def test_the_same_seed_gives_the_same_layer_in_every_dtype():
    single, double = (numpy_rnn.LSTM(I, H, 2, dtype=dtype, rng=7).state_dict() for dtype in ("float32", "float64"))
    for name, parameter in double.items():
        assert np.array_equal(parameter.astype(np.float32), single[name])
        assert np.abs(parameter).max() <= 1 / np.sqrt(H)
    assert not np.array_equal(single["bias_ih_l0"], single["bias_hh_l0"])


class TestDropout:
    """Between layers, while training, by masks that the tape holds."""

    def layer(self, p=0.4):
        return numpy_rnn.GRU(I, H, num_layers=3, dropout=p, bidirectional=True, dtype=np.float64, rng=3)

    def test_masks_on_the_tape_explain_the_output_and_the_gradients(self):
        ours = self.layer()
        x, h_0, doutput, dh_n = data(ours, "dropout", T=7)
        output, h_n, tape = ours.forward(x, *h_0)
        y, s_n, again = deep.forward(ours.cell, ours.params(), x, ours.cell.State(*h_0), None, tape.deep.masks)
        assert_all_close((output, h_n), (y, s_n.h), 0)
        grads, dx, ds_0 = deep.backward(again, doutput, ours.cell.State(*dh_n))
        flat = [g for layer in grads for direction in layer for g in direction]
        assert_all_close(ours.backward(tape, doutput, *dh_n), (dict(zip(ours.state_dict(), flat)), dx, ds_0.h), 0)

    def test_masks_are_drawn_per_layer_step_sequence_and_unit(self):
        ours = self.layer()
        x = np.zeros((200, 10, I))
        _, _, tape = ours.forward(x)
        masks = np.stack(tape.deep.masks)
        assert masks.shape == (2, 200, 10, 2 * H)
        assert np.array_equal(np.unique(masks), [0, 1 / 0.6])
        assert abs((masks == 0).mean() - 0.4) < 0.01  # 40 000 draws: 4 standard deviations
        for axis in range(4):  # not one mask repeated along any axis
            assert (masks != np.flip(masks, axis)).mean() > 0.4

    def test_none_in_evaluation(self):
        ours = self.layer()
        x, *_ = data(ours, "dropout")
        assert not np.array_equal(ours(x)[0], ours(x)[0])
        assert ours.eval() is ours
        assert np.array_equal(ours(x)[0], ours(x)[0])
        assert ours.forward(x)[2].deep.masks is None
        assert not np.array_equal(ours.train()(x)[0], ours(x)[0])

    def test_the_same_seed_gives_the_same_masks(self):
        x = np.ones((5, 2, I))
        assert np.array_equal(self.layer()(x)[0], self.layer()(x)[0])

    def test_everything_dropped(self):
        ours = self.layer(p=1.0)
        masks = ours.forward(np.ones((5, 2, I)))[2].deep.masks
        assert not any(m.any() for m in masks)

    def test_warns_where_it_does_nothing(self):
        with pytest.warns(UserWarning, match="between layers"):
            numpy_rnn.RNN(I, H, dropout=0.5)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            numpy_rnn.RNN(I, H, num_layers=2, dropout=0.5)


def test_runs_in_flight_do_not_disturb_each_other():
    ours = numpy_rnn.LSTM(I, H, num_layers=2, dtype=np.float64, rng=0)
    x, h_0, doutput, dh_n = data(ours, "flight")
    alone = ours.backward(ours.forward(x, h_0)[2], doutput, dh_n)
    tapes = [ours.forward(k * x, h_0)[2] for k in (1.0, 2.0, 3.0)]
    later = [ours.backward(tape, doutput, dh_n) for tape in reversed(tapes)]
    assert_all_close(later[-1], alone, 0)
    with np.testing.assert_raises(AssertionError):
        assert_all_close(later[0], alone, 1e-3)


def test_repr_says_how_to_make_it():
    layer = numpy_rnn.LSTM(I, H, bidirectional=True, dtype=np.float64)
    again = eval(repr(layer), {"LSTM": numpy_rnn.LSTM, "float64": np.float64})
    assert again.config == layer.config
    assert again.dtype == layer.dtype


def test_memory_of_long_sequences():
    """Beyond input and output, a run without a tape takes the same memory however long it is; snapshots take √T."""

    def peak(T, run):
        x = np.ones((T, 1, 3), np.float32)
        tracemalloc.start()
        try:
            kept = run(x)
            size, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        return most - kept[0].nbytes, size - kept[0].nbytes

    layer = numpy_rnn.LSTM(3, 16, rng=0)
    short, long = (peak(T, layer)[0] for T in (2 * deep.BLOCK_COLUMNS, 4 * deep.BLOCK_COLUMNS))
    assert long < 1.1 * short + 10_000
    snapshots = peak(4 * deep.BLOCK_COLUMNS, lambda x: layer.forward(x, snapshots=True))[1]
    tape = peak(4 * deep.BLOCK_COLUMNS, layer.forward)[1]
    assert snapshots < 0.05 * tape


def test_snapshots_is_true_or_false():
    with pytest.raises(ValueError, match="snapshots is 7, expected True or False"):
        numpy_rnn.RNN(3, 4).forward(np.ones((5, 1, 3), np.float32), snapshots=7)
