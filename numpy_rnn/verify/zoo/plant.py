"""Shorthand in which the mistakes are written down: which cells, which lines."""

from __future__ import annotations

from .mistake import LAYERS, Change

RNN = ("rnn_tanh", "rnn_relu")
LSTM = ("lstm", "lstm_projection", "lstm_peephole")
LSTM_SQUARE = ("lstm", "lstm_peephole")  # those whose h is as wide as c
GRU = ("gru", "gru_reset_before")
ALL = RNN + LSTM + GRU

Changes = dict[str, tuple[Change, ...]]


def in_cells(cells: tuple[str, ...], *lines: tuple[str, str]) -> Changes:
    """The same (original, broken) lines in the modules of several cells."""
    return {cell: tuple(Change(cell, *line) for line in lines) for cell in cells}


def in_layers(*lines: tuple[str, str], cells: tuple[str, ...] = ALL) -> Changes:
    """(original, broken) lines in the module that all cells share."""
    return {cell: tuple(Change(LAYERS, *line) for line in lines) for cell in cells}
