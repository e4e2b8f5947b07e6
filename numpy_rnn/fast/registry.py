"""The cells by name, how users ask for each, and how their parameters are called and shaped.

Whatever needs to know which cells there are asks here; no other module keeps a list of them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from . import gru, lstm, rnn
from .cell import Cell

CELLS: dict[str, Cell] = {
    cell.name: cell
    for cell in (
        rnn.TANH,
        rnn.RELU,
        lstm.LSTM,
        lstm.LSTM_PROJECTION,
        lstm.LSTM_PEEPHOLE,
        gru.GRU,
        gru.GRU_RESET_BEFORE,
    )
}


class Kind(NamedTuple):
    """A cell as users ask for it: a class of numpy_rnn and the arguments that choose the cell."""

    cls: str
    arguments: dict[str, Any]
    in_torch_nn: bool = True
    from_scratch: str | None = None  # the class of the whole model that is built on this cell


USER_FACING = {
    "rnn_tanh": Kind("RNN", {"nonlinearity": "tanh"}, from_scratch="RNNFromScratch"),
    "rnn_relu": Kind("RNN", {"nonlinearity": "relu"}),
    "lstm": Kind("LSTM", {}, from_scratch="LSTMFromScratch"),
    "lstm_projection": Kind("LSTM", {"proj_size": 3}),  # any size from 1 to H - 1 chooses it
    "lstm_peephole": Kind("LSTM", {"peephole": True}, in_torch_nn=False),
    "gru": Kind("GRU", {}, from_scratch="GRUFromScratch"),
    "gru_reset_before": Kind("GRU", {"reset_after": False}, in_torch_nn=False),
}
# The plain cell of each family, by the name that commands and networks call it.
FAMILIES = {"rnn": "rnn_tanh", "lstm": "lstm", "gru": "gru"}
# The cells of a network, plain ones first: those that a name alone chooses; a projection needs a size, too.
NETWORK_CELLS = (
    *FAMILIES,
    *(n for n, kind in USER_FACING.items() if n not in FAMILIES.values() and "proj_size" not in kind.arguments),
)

TORCH_NAMES = {
    "W_ih": "weight_ih",
    "W_hh": "weight_hh",
    "b_ih": "bias_ih",
    "b_hh": "bias_hh",
    "W_hr": "weight_hr",
    "P": "weight_peephole",
}


def cell_name(name: str, names: Collection[str] = tuple(CELLS)) -> str:
    """Find which of `names` is meant by a name in any case; rnn and rnn_tanh are the same cell.

    Raises
    ------
    ValueError
        If it is none of them.

    Examples
    --------
    >>> cell_name("LSTM"), cell_name("rnn"), cell_name("RNN", ["rnn", "lstm"])
    ('lstm', 'rnn_tanh', 'rnn')
    """
    given = str(name).lower()
    alias = {"rnn": "rnn_tanh", "rnn_tanh": "rnn"}.get(given, given)
    for candidate in (given, alias):
        if candidate in names:
            return candidate
    raise ValueError(f"cell is {name!r}, expected {', '.join(names)}")


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
