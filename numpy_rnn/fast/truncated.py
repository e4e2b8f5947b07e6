"""Truncated backpropagation through time with windows (k1, k2), as a linear operator on the upstream gradients.

BPTT(h; h') of Williams & Peng (Neural Computation 2, 1990), with k1 = h' and k2 = h: after every k1 steps, and at the
end, the loss of the steps since the last time is carried back through the last k2 steps and no further.

**Specification.** Cut the T steps into windows [s_w, e_w) = [w·k1, min((w+1)·k1, T)), and let b_w = max(0, e_w - k2).
For each window take the part of the loss that stems from the outputs of steps s_w … e_w - 1, and from the final states
of the sequences that end with one of these steps. Its gradient is the full one of the network that starts at step b_w
from states that count as constants. The result is the sum over windows, for parameters and x; the initial states
receive it from the windows with b_w = 0 alone, which start there.

Steps are counted in the batch: a sequence that ends inside a window reaches back less than k2 steps from its end.

k2 ≥ k1 is required: else the losses of some steps would silently go nowhere. k1 = k2 are disjoint windows, the usual
practice (`detach` at the edges). k2 ≥ T is full backpropagation, whatever k1 is. As equations, with the numbers that
stand at the lines below, it is on page 6 of docs/learn/derivation.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from . import deep
from .cell import Grads, States
from .numerics import Array


class Window(NamedTuple):
    """The losses of steps start … stop-1 go back to step `back`."""

    back: int
    start: int
    stop: int


def windows(T: int, k1: int, k2: int) -> list[Window]:
    """Windows of T steps.

    Examples
    --------
    >>> windows(7, k1=3, k2=4)
    [Window(back=0, start=0, stop=3), Window(back=2, start=3, stop=6), Window(back=3, start=6, stop=7)]
    """
    stops = [min(start + k1, T) for start in range(0, T, k1)] or [0]  # (W1)
    return [Window(max(0, stop - k2), w * k1, stop) for w, stop in enumerate(stops)]  # (W1)


def backward(tape: deep.Tape, dy: Array, ds_n: States, k1: int, k2: int) -> tuple[list[list[Grads]], Array, States]:
    """As `deep.backward`, truncated: k1 steps from one window's end to the next, each reaching back k2 ≥ k1 steps.

    Each window is run forward again from the states at its start, so between windows only states are kept.
    """
    cell, params, x = tape.cell, tape.params, tape.x
    T, B, _ = x.shape
    lengths = np.full(B, T) if tape.lengths is None else tape.lengths
    cuts = windows(T, k1, k2)
    states = _states_at(tape, sorted({window.back for window in cuts}))
    dtype = deep.gradient_dtype(tape, dy, ds_n)
    dx = np.zeros(x.shape, dtype)
    ds0 = cell.State(*(np.zeros(ds.shape, dtype) for ds in ds_n))
    grads = [[cell.Params(*(np.zeros(p.shape, dtype) for p in p_l))] for (p_l,) in params]
    for back, start, stop in cuts:
        _, _, window = _forward(tape, back, stop, states[back])
        dy_w = np.where(np.arange(back, stop)[:, None, None] >= start, dy[back:stop], 0)  # (W2)
        ends = (start < lengths) & (lengths <= stop) | ((lengths == 0) & (start == 0))
        ds_w = cell.State(*(np.where(ends[:, None], ds, 0) for ds in ds_n))
        grads_w, dx_w, ds0_w = deep.backward(window, dy_w, ds_w)  # (W2)
        dx[back:stop] += dx_w  # (W4)
        ds0 = cell.State(*map(np.add, ds0, ds0_w)) if back == 0 else ds0  # (W4)
        grads = [[cell.Params(*map(np.add, g, g_w))] for (g,), (g_w,) in zip(grads, grads_w)]  # (W3)
    return grads, dx, ds0


def _forward(tape: deep.Tape, start: int, stop: int, s: States) -> tuple[Array, States, deep.Tape]:
    """Run steps start … stop-1 of the taped run again, from the states `s`."""
    lengths = None if tape.lengths is None else np.clip(tape.lengths - start, 0, stop - start)
    masks = None if tape.masks is None else [mask[start:stop] for mask in tape.masks]
    return deep.forward(tape.cell, tape.params, tape.x[start:stop], s, lengths, masks)


def _states_at(tape: deep.Tape, steps: list[int]) -> dict[int, States]:
    """States of all layers before each of the given rising steps, the first of which is 0."""
    states = {0: tape.s0}
    for start, stop in pairwise(steps):
        _, states[stop], _ = _forward(tape, start, stop, states[start])
    return states
