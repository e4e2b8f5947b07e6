"""Recurrent networks in PyTorch with the time loop in plain sight.

`RNNFromScratch` and its siblings are one layer with a readout each. `RNN`, `LSTM`, `GRU` and their cells stand in for
torch.nn's classes. Below them, `rnn`, `lstm`, `gru`, their variants and `deep` have the equations, line by line those
of `numpy_rnn.textbook`, and autograd differentiates them. `manual` has the gradients by hand, for who asks with
`bptt="manual"`. `gpu`, which nothing here imports, is for NVIDIA GPUs.

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

from .cells import GRUCell, LSTMCell, RNNCell
from .modules import GRU, LSTM, RNN
from .scratch import GRUFromScratch, LSTMFromScratch, RNNFromScratch

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "GRUFromScratch",
    "LSTMCell",
    "LSTMFromScratch",
    "RNNCell",
    "RNNFromScratch",
]
