"""What a cell is: parameters, a state, a forward pass and its transpose. `deep` needs to know no more.

A cell sees a rectangle of data: T steps of B sequences, all of them alive for the whole time. Layers,
directions and sequences of different lengths are the business of `deep`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from .numerics import Array, copy_blocked

Grads = Any  # a cell's Params, holding gradients
States = Any  # a cell's State, holding arrays (B, ·) at one moment or (T+1, B, ·) along a trajectory


class Params(NamedTuple):
    """Parameters of a cell of G gates, or their gradients; some cells have more."""

    W_ih: Array  # (G·H, I)
    W_hh: Array  # (G·H, H)
    b_ih: Array  # (G·H,)
    b_hh: Array  # (G·H,)


class State(NamedTuple):
    """State of B sequences, or a trajectory of states, or gradients of either; the LSTMs' has c, too."""

    h: Array  # (B, H); a trajectory: (T+1, B, H)


class Cell(NamedTuple):
    """A recurrent cell as a value: its types and its two functions.

    `forward(params, x, s0) -> (states, tape)` takes x (T, B, I) and the initial state, fields (B, ·); it
    returns the whole trajectory, fields (T+1, B, ·) with states[0] = s0, and what backward needs.

    `backward(tape, dstates) -> (grads, dx, ds0)` takes a gradient for every state of the trajectory and
    returns those of the parameters, of x and of s0.

    `vectors` says how trajectories lie in memory: as columns, (T+1, ·, B), or as rows, (T+1, B, ·). Backward takes
    dstates either way, and need not copy them if they lie alike.
    """

    name: str
    gates: int  # G: how many blocks of H rows stand in W_ih
    Params: type[Any]
    State: type[Any]
    forward: Callable[[Any, Array, Any], tuple[Any, Any]]
    backward: Callable[[Any, Any], tuple[Any, Array, Any]]
    vectors: Literal["columns", "rows"] = "columns"


def allocate_trajectory(T: int, state: Array, *operands: Array) -> Array:
    """Room for the states 0 … T as columns (T+1, H, B), the first of them `state` (B, H).

    `operands` is whatever else they are computed from: a complex number in any of them makes the trajectory complex.
    """
    B, H = state.shape
    states = np.empty((T + 1, H, B), np.result_type(state, *operands))
    states[0] = state.T
    return states


def upstream(cell: Cell, dy: Array, ds_n: States, dtype: DTypeLike) -> States:
    """What the loss sends directly to every state of a trajectory, laid out as the cell's backward wants it.

    dy (T, B, R) is its gradient by the outputs, which are h_1 … h_T, ds_n that by the final states, fields (B, ·).
    Fields of the result are (T+1, B, ·).
    """
    T = len(dy)
    if cell.vectors == "rows":
        dstates = cell.State(*[np.empty((T + 1, *ds.shape), dtype) for ds in ds_n])
        dstates.h[1:] = dy
    else:
        dstates = cell.State(*[np.empty((T + 1, *ds.shape[::-1]), dtype).swapaxes(1, 2) for ds in ds_n])
        copy_blocked(dy, dstates.h[1:])
    dstates.h[0] = 0
    for dstate in dstates[1:]:  # the outputs are h: no other state reaches the loss but by the last one
        dstate[:] = 0
    for dstate, ds in zip(dstates, ds_n):
        dstate[-1] += ds
    return dstates
