"""Recurrent networks in pure NumPy, with backpropagation through time written by hand.

Start with `numpy_rnn.textbook`: every cell as a page of code, one numbered equation a line. `RNN`, `LSTM` and `GRU`
take torch.nn's arguments and hold torch.nn's parameters; `RNNFromScratch`, `LSTMFromScratch` and `GRUFromScratch` are
the smallest complete models. They compute by `numpy_rnn.fast`, which gives the textbook's numbers for whole batches.

>>> import numpy as np, numpy_rnn
>>> model = numpy_rnn.RNNFromScratch(10, 20, 5, rng=0)
>>> outputs, hidden, tape = model.forward(np.ones((3, 6, 10), np.float32))
>>> grads, dx, dhidden = model.backward(tape, np.ones_like(outputs))
>>> grads["h2h.weight"].shape
(20, 20)
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from . import fast, layers, textbook, verify
from .fast.memory import keep_freed_memory
from .layers.module import Module
from .layers.recurrent import GRU, LSTM, RNN
from .layers.scratch import GRUFromScratch, LSTMFromScratch, RNNFromScratch

try:
    __version__ = version("numpy-rnn")
except PackageNotFoundError:  # run from a source tree that nobody installed
    __version__ = "0+unknown"

load = Module.load

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUFromScratch",
    "LSTMFromScratch",
    "RNNFromScratch",
    "__version__",
    "fast",
    "keep_freed_memory",
    "layers",
    "load",
    "textbook",
    "verify",
]
