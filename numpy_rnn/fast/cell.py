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
    """Room for the states 0 … T of a trajectory, as columns, the first of them filled with `state`.

    Parameters
    ----------
    T : int
        Number of steps.
    state : array (B, H)
        The initial state.
    *operands : array
        Whatever else the states are computed from. The dtype is the one that all of them together
        lead to, so a complex number in any operand makes the trajectory complex.

    Returns
    -------
    array (T+1, H, B)
    """
    B, H = state.shape
    states = np.empty((T + 1, H, B), np.result_type(state, *operands))
    states[0] = state.T
    return states


def upstream(cell: Cell, dy: Array, ds_n: States, dtype: DTypeLike) -> States:
    """What the loss sends directly to every state of a trajectory, laid out as the cell's backward wants it.

    Parameters
    ----------
    cell : Cell
    dy : array (T, B, R)
        Gradient of the loss by the outputs, which are h_1 … h_T.
    ds_n : the cell's State
        Gradient by the final states, fields (B, ·).
    dtype : dtype

    Returns
    -------
    the cell's State
        Fields (T+1, B, ·).
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
