"""What a user gets wrong: one sentence with what came and what was expected, from forward and from backward."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

import numpy_rnn

f32 = np.float32
x = np.zeros((6, 3, 4), f32)
h = np.zeros((1, 3, 5), f32)
RNN, LSTM, GRU = numpy_rnn.RNN(4, 5, rng=0), numpy_rnn.LSTM(4, 5, rng=0), numpy_rnn.GRU(4, 5, batch_first=True, rng=0)
PROJECTION = numpy_rnn.LSTM(4, 5, proj_size=2, rng=0)
SCRATCH, LSTM_SCRATCH = numpy_rnn.RNNFromScratch(4, 5, 2, rng=0), numpy_rnn.LSTMFromScratch(4, 5, 2, rng=0)


def tape(layer, *args):
    return layer.forward(*args)[2]


def state(**changes):
    return {**RNN.state_dict(), **changes}


TABLE = {
    # x
    "rank 1": (
        lambda: RNN(np.zeros(4, f32)),
        "x has shape (4,), expected (steps, batch, input_size) or, for a single sequence, (steps, input_size), "
        "with input_size 4",
    ),
    "features": (
        lambda: RNN(np.zeros((6, 3, 5), f32)),
        "x has shape (6, 3, 5), expected (any, any, 4) = (steps, batch, input_size)",
    ),
    "features, batch first": (
        lambda: GRU(np.zeros((6, 3, 5), f32)),
        "x has shape (6, 3, 5), expected (any, any, 4) = (batch, steps, input_size)",
    ),
    "features, single": (
        lambda: RNN(np.zeros((6, 5), f32)),
        "x has shape (6, 5), expected (any, 4) = (steps, input_size)",
    ),
    "float64 into float32": (
        lambda: RNN(x.astype(float)),
        "x has dtype float64, expected float32, the parameters' dtype",
    ),
    "integers": (lambda: RNN(x.astype(int)), "x has dtype int64, expected float32, the parameters' dtype"),
    "other byte order": (lambda: RNN(x.astype(">f4")), "x has dtype >f4, expected float32, the parameters' dtype"),
    "other byte order of h_0": (
        lambda: RNN(x, h.astype(">f4")),
        "h_0 has dtype >f4, expected float32, the parameters'",
    ),
    "other byte order of dh_n": (lambda: RNN.backward(tape(RNN, x), None, h.astype(">f4")), "dh_n has dtype >f4, exp"),
    "other byte order of doutput": (
        lambda: RNN.backward(tape(RNN, x), np.zeros((6, 3, 5), ">f4")),
        "doutput has dtype >f4, expected float32",
    ),
    "a list": (lambda: RNN([[1.0] * 4]), "x is a list, expected a NumPy array of dtype float32"),
    "a tensor": (lambda: RNN(torch.zeros(6, 3, 4)), "x is a Tensor, expected a NumPy array of dtype float32"),
    # h_0
    "h_0 that would broadcast": (
        lambda: RNN(x, np.zeros((1, 1, 5), f32)),
        "h_0 has shape (1, 1, 5), expected (1, 3, 5) = (num_layers * num_directions, batch, hidden_size)",
    ),
    "h_0 of a single sequence": (
        lambda: RNN(x[:, 0], h),
        "h_0 has shape (1, 3, 5), expected (1, 5) = (num_layers * num_directions, hidden_size)",
    ),
    "dtype of h_0": (lambda: RNN(x, h.astype(float)), "h_0 has dtype float64, expected float32"),
    "h_0 alone for an LSTM": (lambda: LSTM(x, h), "h_0 is a ndarray, expected the pair (h_0, c_0)"),
    "three states for an LSTM": (lambda: LSTM(x, (h, h, h)), "h_0 is 3 values, expected the pair (h_0, c_0)"),
    "c_0": (lambda: LSTM(x, (h, h[:, :1])), "c_0 has shape (1, 1, 5), expected (1, 3, 5)"),
    "h_0 of a projection": (
        lambda: PROJECTION(x, (h, h)),
        "h_0 has shape (1, 3, 5), expected (1, 3, 2) = (num_layers * num_directions, batch, proj_size)",
    ),
    # lengths
    "too long": (lambda: RNN(x, None, [6, 7, 1]), "lengths[1] is 7, expected 0 to 6, the number of steps"),
    "negative": (lambda: RNN(x, None, [6, 1, -1]), "lengths[2] is -1, expected 0 to 6, the number of steps"),
    "count": (
        lambda: RNN(x, None, [6, 1]),
        "lengths has shape (2,), expected (3,), one for each sequence of the batch",
    ),
    "fractions": (lambda: RNN(x, None, [6.0, 1.0, 2.0]), "lengths has dtype float64, expected integers"),
    "of a single sequence": (lambda: RNN(x[:, 0], None, [6]), "lengths came with a single sequence, expected a batch"),
    # backward
    "doutput": (
        lambda: RNN.backward(tape(RNN, x), np.zeros((6, 1, 5), f32)),
        "doutput has shape (6, 1, 5), expected (6, 3, 5) = shape of output",
    ),
    "doutput, batch first": (
        lambda: GRU.backward(tape(GRU, x), np.zeros((3, 6, 5), f32)),
        "doutput has shape (3, 6, 5), expected (6, 3, 5) = shape of output",
    ),
    "dh_n": (lambda: RNN.backward(tape(RNN, x), None, h[0]), "dh_n has shape (3, 5), expected (1, 3, 5)"),
    "dc_n": (lambda: LSTM.backward(tape(LSTM, x), None, (h, h[0])), "dc_n has shape (3, 5), expected (1, 3, 5)"),
    "dh_n alone": (lambda: LSTM.backward(tape(LSTM, x), None, h), "dh_n is a ndarray, expected the pair (dh_n, dc_n)"),
    "another layer's tape": (
        lambda: RNN.backward(tape(numpy_rnn.RNN(4, 5, num_layers=2), x), None),
        "the tape comes from RNN(input_size=4, hidden_size=5, num_layers=2,",
    ),
    "no tape": (lambda: RNN.backward(None, None), "the tape comes from a NoneType, expected one from this model's own"),
    # constructors
    "input_size": (lambda: numpy_rnn.RNN(-4, 5), "input_size is -4, expected a whole number of at least 1"),
    "hidden_size": (lambda: numpy_rnn.LSTM(4, 0), "hidden_size is 0, expected a whole number of at least 1"),
    "fractional size": (lambda: numpy_rnn.GRU(4, 5.5), "hidden_size is 5.5, expected a whole number of at least 1"),
    "num_layers": (lambda: numpy_rnn.GRU(4, 5, num_layers=0), "num_layers is 0, expected a whole number of at least 1"),
    "dropout": (lambda: numpy_rnn.GRU(4, 5, dropout=1.5), "dropout is 1.5, expected a number from 0 to 1"),
    "dropout True": (lambda: numpy_rnn.GRU(4, 5, dropout=True), "dropout is True, expected a number from 0 to 1"),
    "bias": (lambda: numpy_rnn.GRU(4, 5, 1, 0.5), "bias is 0.5, expected True or False"),
    "nonlinearity": (
        lambda: numpy_rnn.RNN(4, 5, nonlinearity="selu"),
        "nonlinearity is 'selu', expected 'tanh' or 'relu'",
    ),
    "proj_size": (
        lambda: numpy_rnn.LSTM(4, 5, proj_size=5),
        "proj_size is 5, expected less than hidden_size, 5, or 0 for no projection",
    ),
    "negative proj_size": (
        lambda: numpy_rnn.LSTM(4, 5, proj_size=-1),
        "proj_size is -1, expected a whole number of at",
    ),
    "peephole and projection": (
        lambda: numpy_rnn.LSTM(4, 5, proj_size=2, peephole=True),
        "peephole=True came with proj_size=2, expected one of the two at most",
    ),
    "integer dtype": (lambda: numpy_rnn.RNN(4, 5, dtype=int), "dtype is int64, expected a floating-point dtype"),
    "unknown dtype": (
        lambda: numpy_rnn.RNN(4, 5, dtype="float31"),
        "dtype is 'float31', expected a floating-point dtype",
    ),
    # load_state_dict
    "unknown key": (
        lambda: RNN.load_state_dict(state(weight_xx_l0=h)),
        "unknown weight_xx_l0; expected bias_hh_l0, bias_ih_l0, weight_hh_l0, weight_ih_l0",
    ),
    "missing key": (lambda: RNN.load_state_dict({}), "missing bias_hh_l0, bias_ih_l0, weight_hh_l0, weight_ih_l0"),
    "shape": (
        lambda: RNN.load_state_dict(state(weight_ih_l0=np.zeros((4, 5)))),
        "weight_ih_l0 has shape (4, 5), expected (5, 4)",
    ),
    "words": (
        lambda: RNN.load_state_dict(state(bias_ih_l0=np.array(["a"] * 5))),
        "bias_ih_l0 is a ndarray of dtype <U1, expected an array of numbers",
    ),
    "complex": (
        lambda: RNN.load_state_dict(state(bias_ih_l0=np.zeros(5, complex))),
        "bias_ih_l0 has dtype complex128, which float32 cannot hold",
    ),
    # FromScratch
    "scratch rank": (
        lambda: SCRATCH(np.zeros(4, f32)),
        "x has shape (4,), expected (batch, steps, input_size) or, for a single sequence, (steps, input_size), ",
    ),
    "scratch hidden": (
        lambda: SCRATCH(x, np.zeros((1, 5), f32)),
        "hidden has shape (1, 5), expected (6, 5) = (batch, hidden_size)",
    ),
    "scratch pair": (lambda: LSTM_SCRATCH(x, np.zeros((6, 5), f32)), "hidden is a ndarray, expected the pair (h, c)"),
    "scratch doutputs": (
        lambda: SCRATCH.backward(tape(SCRATCH, x), np.zeros((6, 2), f32)),
        "doutputs has shape (6, 2), expected (6, 3, 2) = shape of output",
    ),
    "scratch tape": (
        lambda: SCRATCH.backward(tape(LSTM_SCRATCH, x), None),
        "the tape comes from LSTMFromScratch(input_size=4, hidden_size=5, output_size=2, dtype=float32), expected one",
    ),
    "scratch size": (
        lambda: numpy_rnn.RNNFromScratch(4, 5, -2),
        "output_size is -2, expected a whole number of at least 1",
    ),
}


@pytest.mark.parametrize(("call", "message"), TABLE.values(), ids=TABLE)
def test_one_clear_sentence(call, message):
    with pytest.raises(ValueError, match="^" + re.escape(message)) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_refused_load_changes_nothing():
    layer = numpy_rnn.RNN(4, 5, rng=0)
    before = {k: v.copy() for k, v in layer.state_dict().items()}
    bad = {**numpy_rnn.RNN(4, 5, rng=1).state_dict(), "bias_hh_l0": np.zeros(4)}
    with pytest.raises(ValueError, match="bias_hh_l0"):
        layer.load_state_dict(bad)
    assert all(np.array_equal(before[k], v) for k, v in layer.state_dict().items())
