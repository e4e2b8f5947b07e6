"""Recurrent networks in pure NumPy, with backpropagation through time written by hand.

`RNN`, `LSTM` and `GRU` take torch.nn's arguments and hold torch.nn's parameters; `RNNFromScratch`, `LSTMFromScratch`
and `GRUFromScratch` are the smallest complete models. Beneath them are modules of pure functions, one a cell: `rnn`,
`lstm`, `lstm_projection`, `lstm_peephole`, `gru`, `gru_reset_before`; each numbers its equations and their transposes.

>>> import numpy as np, numpy_rnn
>>> model = numpy_rnn.RNNFromScratch(10, 20, 5, rng=0)
>>> outputs, hidden, tape = model.forward(np.ones((3, 6, 10), np.float32))
>>> grads, dx, dhidden = model.backward(tape, np.ones_like(outputs))
>>> grads["h2h.weight"].shape
(20, 20)
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from . import (
    deep,
    gradcheck,
    gru,
    gru_reset_before,
    language,
    losses,
    lstm,
    lstm_peephole,
    lstm_projection,
    memory,
    optim,
    rnn,
    rtrl,
    truncated,
)
from .module import Module
from .modules import GRU, LSTM, RNN
from .scratch import GRUFromScratch, LSTMFromScratch, RNNFromScratch

try:
    __version__ = version("numpy-rnn")
except PackageNotFoundError:  # run from a source tree that nobody installed
    __version__ = "0+unknown"

load = Module.load
memory.keep_freed_memory()

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUFromScratch",
    "LSTMFromScratch",
    "RNNFromScratch",
    "__version__",
    "deep",
    "gradcheck",
    "gru",
    "gru_reset_before",
    "language",
    "load",
    "losses",
    "lstm",
    "lstm_peephole",
    "lstm_projection",
    "memory",
    "optim",
    "rnn",
    "rtrl",
    "truncated",
]
