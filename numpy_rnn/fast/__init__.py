"""The same numbers as `numpy_rnn.textbook`, for whole batches, at speed: what the layers call.

One module a cell, held against its textbook twin to 1e-12 by tests/test_textbook.py; `deep` runs cells over layers,
directions and sequences of different lengths. Nobody needs to open them to understand what is computed.
"""

from . import deep, gru, gru_reset_before, lstm, lstm_peephole, lstm_projection, memory, numerics, rnn, truncated

__all__ = [
    "deep",
    "gru",
    "gru_reset_before",
    "lstm",
    "lstm_peephole",
    "lstm_projection",
    "memory",
    "numerics",
    "rnn",
    "truncated",
]
