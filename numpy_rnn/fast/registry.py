"""The cells by their names, and how their parameters are called and shaped.

Whoever needs to know which cells there are asks here; no other module keeps a list of them.
"""

from __future__ import annotations

from typing import Any

from . import gru, gru_reset_before, lstm, lstm_peephole, lstm_projection, rnn
from .cell import Cell

CELLS: dict[str, Cell] = {
    cell.name: cell
    for cell in (
        rnn.TANH,
        rnn.RELU,
        lstm.LSTM,
        lstm_projection.LSTM_PROJECTION,
        lstm_peephole.LSTM_PEEPHOLE,
        gru.GRU,
        gru_reset_before.GRU_RESET_BEFORE,
    )
}

TORCH_NAMES = {
    "W_ih": "weight_ih",
    "W_hh": "weight_hh",
    "b_ih": "bias_ih",
    "b_hh": "bias_hh",
    "W_hr": "weight_hr",
    "P": "weight_peephole",
}


def parameter_shapes(cell: Cell, I: int, H: int, R: int) -> Any:
    """Shapes of one cell's parameters, as the cell's Params; the state h has R units."""
    GH = cell.gates * H
    shapes = {"W_ih": (GH, I), "W_hh": (GH, R), "b_ih": (GH,), "b_hh": (GH,), "W_hr": (R, H), "P": (3 * H,)}
    return cell.Params(*(shapes[field] for field in cell.Params._fields))


def parameter_name(field: str, layer: int, direction: int) -> str:
    """torch.nn's name of a parameter.

    Examples
    --------
    >>> parameter_name("W_hh", layer=1, direction=1)
    'weight_hh_l1_reverse'
    """
    return f"{TORCH_NAMES[field]}_l{layer}{'_reverse' if direction else ''}"
