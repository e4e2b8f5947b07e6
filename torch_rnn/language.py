"""A language model: which symbol comes next? Characters or bytes in, a recurrent layer, a score for each symbol out.

The model is `network.Network`, whose equations stand there, read at every step. `numpy_rnn.train.language` is the same
with its transpose by hand.
"""

from __future__ import annotations

from typing import Any

import torch

from .network import Network


class LanguageModel(Network):
    """Embedding, recurrent layer and linear head over a vocabulary of K symbols.

    Parameters
    ----------
    vocabulary_size : int
        K, the number of symbols.
    embedding_size : int or None
        I, numbers that stand for a symbol; None for as many as H.
    cell, hidden_size, num_layers, device, dtype
        As `Network` takes them.

    Examples
    --------
    >>> model = LanguageModel("gru", vocabulary_size=5, hidden_size=8)
    >>> logits, h_n = model(torch.tensor([[0], [1], [2]]))
    >>> logits.shape, h_n.shape
    (torch.Size([3, 1, 5]), torch.Size([1, 1, 8]))
    """

    def __init__(
        self, cell: str, vocabulary_size: int, hidden_size: int, num_layers: int = 1,
        embedding_size: int | None = None, device: Any = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        I, K = embedding_size or hidden_size, vocabulary_size
        super().__init__(cell, I, hidden_size, K, num_layers, symbols=K, device=device, dtype=dtype)
