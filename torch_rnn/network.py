"""The network of everything that is trained here: symbols or numbers in, recurrent layers, a linear head.

    (1)   x_t  = E[s_t]                      row s_t of the embedding, where symbols come in; otherwise x comes in
    (2)   h    = the layers' (x, s0)         L layers in D directions; h_{t+1} both directions side by side
    (3)   r    = h_{t+1} at every step, or   read "every"
                 [h_n→ ; h_n←], or           read "last": where each direction ended, of the last layer
                 h_{t+1} of the last n       read n
    (4)   y    = W r + b

`numpy_rnn.layers.network` is the same and, by hand, its transpose.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from numpy_rnn.fast.registry import FAMILIES, NETWORK_CELLS, USER_FACING, cell_name

from . import modules


class Network(nn.Module):
    """Recurrent layers between an optional embedding and a linear head.

    Parameters
    ----------
    cell, input_size, hidden_size, output_size, num_layers, bidirectional, symbols
        As `numpy_rnn.layers.network.Network` takes them.
    bptt : {"autograd", "manual"}
        As `RNN`, `LSTM` and `GRU` take it.
    device, dtype : as torch.nn's modules take them

    Raises
    ------
    ValueError
        If the cell is unknown.

    Examples
    --------
    >>> network = Network("gru", input_size=3, hidden_size=8, output_size=4)
    >>> y, h_n = network(torch.ones(5, 2, 3), lengths=torch.tensor([5, 3]), read="last")
    >>> y.shape, h_n.shape
    (torch.Size([2, 4]), torch.Size([1, 2, 8]))
    """

    def __init__(
        self, cell: str, input_size: int, hidden_size: int, output_size: int, num_layers: int = 1,
        bidirectional: bool = False, symbols: int = 0, bptt: str = "autograd", device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        name = cell_name(cell, NETWORK_CELLS)
        kind = USER_FACING[FAMILIES.get(name, name)]
        where = {"device": device, "dtype": dtype}
        self.directions = 1 + bidirectional
        self.embedding = nn.Embedding(symbols, input_size, **where) if symbols else None
        options = {**kind.arguments, "bidirectional": bidirectional, "bptt": bptt, **where}
        self.rnn = getattr(modules, kind.cls)(input_size, hidden_size, num_layers, **options)
        self.head = nn.Linear(self.directions * hidden_size, output_size, **where)

    def forward(
        self, x: Tensor, h_0: Any = None, lengths: Tensor | None = None, read: str | int = "every"
    ) -> tuple[Tensor, Any]:
        """Run the network; arguments and results are those of `numpy_rnn.layers.network.Network`, without the tape.

        Each sequence has at least one step: `lengths` is a tensor (B,) of numbers from 1 to T.
        """
        if lengths is None:
            h, h_n = self.rnn(x if self.embedding is None else self.embedding(x), h_0)  # (1) (2)
        else:
            packed = pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
            if self.embedding is not None:
                packed = packed._replace(data=self.embedding(packed.data))  # (1)
            h, h_n = self.rnn(packed, h_0)  # (2)
            h, _ = pad_packed_sequence(h, total_length=len(x))
        if read == "every":
            r = h  # (3)
        elif read == "last":
            last = (h_n[0] if isinstance(h_n, tuple) else h_n)[-self.directions :]
            r = last.transpose(0, 1).flatten(1)  # (3)
        else:
            r = h[len(h) - int(read) :]  # (3)
        return self.head(r), h_n  # (4)
