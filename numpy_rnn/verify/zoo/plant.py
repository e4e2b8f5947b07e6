"""Shorthand in which the mistakes are written down: which cells, which lines."""

from __future__ import annotations

from ...fast.registry import CELLS, USER_FACING
from .mistake import LAYERS, Change, textbook_module

ALL = tuple(USER_FACING)
RNN, LSTM, GRU = (tuple(name for name in ALL if USER_FACING[name].cls == cls) for cls in ("RNN", "LSTM", "GRU"))
LSTM_SQUARE = tuple(name for name in LSTM if "W_hr" not in CELLS[name].Params._fields)  # those whose h is as wide as c

Changes = dict[str, tuple[Change, ...]]


def in_cells(cells: tuple[str, ...], *lines: tuple[str, str]) -> Changes:
    """The same (original, broken) lines in the modules of several cells."""
    return {cell: tuple(Change(textbook_module(cell), *line) for line in lines) for cell in cells}


def in_layers(*lines: tuple[str, str], cells: tuple[str, ...] = ALL) -> Changes:
    """(original, broken) lines in the module that all cells share."""
    return {cell: tuple(Change(LAYERS, *line) for line in lines) for cell in cells}
