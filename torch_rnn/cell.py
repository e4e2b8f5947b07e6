"""What a cell is: parameters, a state, and a forward pass; autograd is the backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor


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
