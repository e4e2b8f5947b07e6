"""What a cell is: parameters, a state, and a forward pass; autograd is the backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor


class Params(NamedTuple):
    """Parameters of a cell of G gates, or their gradients; some cells have more."""

    W_ih: Tensor  # (G·H, I)
    W_hh: Tensor  # (G·H, H)
    b_ih: Tensor  # (G·H,)
    b_hh: Tensor  # (G·H,)


class State(NamedTuple):
    """State of B sequences, or a trajectory of states, or gradients of either; the LSTMs' has c, too."""

    h: Tensor  # (B, H); a trajectory: (T+1, B, H)


class Cell(NamedTuple):
    """A recurrent cell as a value: its types and its function.

    `forward(params, x, s0) -> states` takes x (T, B, I) and the initial state, fields (B, ·), and returns the
    whole trajectory, fields (T+1, B, ·), with states[0] = s0.
    """

    name: str
    gates: int  # G: how many blocks of H rows stand in W_ih
    Params: type[Any]
    State: type[Any]
    forward: Callable[[Any, Tensor, Any], Any]
