"""A language model: which symbol comes next? Characters or bytes in, a recurrent layer, a score for each symbol out.

    (1)   x_t      = E[s_t]                    row s_t of the embedding, for the symbol s_t
    (2)   h_{t+1}  = rnn, lstm or gru (x_t, h_t)
    (3)   logits_t = W h_{t+1} + b             one for each symbol of the vocabulary

`numpy_rnn.language` is the same and, by hand, its transpose.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .modules import GRU, LSTM, RNN

CELLS: dict[str, Any] = {"rnn": RNN, "lstm": LSTM, "gru": GRU}


class LanguageModel(nn.Module):
    """Embedding, recurrent layer and linear head over a vocabulary of K symbols.

    Parameters
    ----------
    cell : "rnn", "lstm" or "gru"
    vocabulary_size : int
        K, the number of symbols.
    hidden_size : int
        H, units of each layer.
    num_layers : int
        L.
    embedding_size : int or None
        I, numbers that stand for a symbol; None for as many as H.
    device, dtype : as torch.nn's modules take them

    Raises
    ------
    ValueError
        If the cell is unknown.

    Examples
    --------
    >>> model = LanguageModel("gru", vocabulary_size=5, hidden_size=8)
    >>> logits, h_n = model(torch.tensor([[0], [1], [2]]))
    >>> logits.shape, h_n.shape
    (torch.Size([3, 1, 5]), torch.Size([1, 1, 8]))
    """

    def __init__(
        self,
        cell: str,
        vocabulary_size: int,
        hidden_size: int,
        num_layers: int = 1,
        embedding_size: int | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"cell is {cell!r}, expected {', '.join(CELLS)}")
        I, where = embedding_size or hidden_size, {"device": device, "dtype": dtype}
        self.embedding = nn.Embedding(vocabulary_size, I, **where)
        self.rnn = CELLS[cell](I, hidden_size, num_layers, **where)
        self.head = nn.Linear(hidden_size, vocabulary_size, **where)

    def forward(self, symbols: Tensor, h_0: Any = None) -> tuple[Tensor, Any]:
        """Run the model.

        Parameters
        ----------
        symbols : int64 tensor (T, B)
            0 … K-1.
        h_0 : tensor (L, B, H), optional
            Initial states, zeros by default. LSTM: the pair (h_0, c_0).

        Returns
        -------
        logits : tensor (T, B, K)
            Scores of the symbol that follows each step; softmax makes them probabilities.
        h_n : tensor (L, B, H)
            Final states. LSTM: the pair (h_n, c_n).
        """
        x = self.embedding(symbols)  # (1)
        y, h_n = self.rnn(x, h_0)  # (2)
        return self.head(y), h_n  # (3)
