"""Recurrent networks in PyTorch with the time loop in plain sight.

`RNNFromScratch` and its siblings are one layer with a readout each. `RNN`, `LSTM`, `GRU` and their cells stand in for
torch.nn's classes. Below them, `rnn`, `lstm`, `gru`, their variants and `deep` have the equations, line by line those
of `numpy_rnn`, which computes the same, and the gradients by hand. `bptt` has the gradients by hand in PyTorch: what
the drop-ins use, unless they are told `bptt="autograd"`.

`import torch_rnn` lets the C library keep freed memory, as `import numpy_rnn` does: see `numpy_rnn.memory`.

Examples
--------
>>> import torch
>>> from torch_rnn import RNNFromScratch
>>> rnn = RNNFromScratch(10, 20, 5)
>>> x = torch.randn(3, 6, 10)
>>> outputs, hidden = rnn(x)
>>> outputs.shape
torch.Size([3, 6, 5])
>>> hidden.shape
torch.Size([3, 20])
"""

from numpy_rnn import memory

from .cells import GRUCell, LSTMCell, RNNCell
from .graphs import CudaGraphs
from .modules import GRU, LSTM, RNN
from .scratch import GRUFromScratch, LSTMFromScratch, RNNFromScratch

memory.keep_freed_memory()

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "CudaGraphs",
    "GRUCell",
    "GRUFromScratch",
    "LSTMCell",
    "LSTMFromScratch",
    "RNNCell",
    "RNNFromScratch",
]
