"""The same numbers as `numpy_rnn.textbook.rnn`, with tanh or relu, for a batch; (1) … (1') are its equations.

What is laid out otherwise, beside what all cells share (see `numpy_rnn.fast`):

* Vectors stand as rows, as users hold them: there are no gates, so nothing has to be copied.
* a_t is computed where h_{t+1} will stand, so that a step takes no memory of its own.
* f'(a_t) of all steps is one call before the loop back, from the output: 1 - h² or h > 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from .cell import Cell, Params, State
from .numerics import Array, linear, linear_db, linear_dW, linear_dx, relu, reversed_steps, transposed_copy


class Nonlinearity(NamedTuple):
    """An activation and its derivative, the latter as a function of the activation's *output*."""

    f: Callable[[Array, Array], Array]  # f(a, out)
    df: Callable[[Array, Array], Array]  # df(h, out)


def _tanh_derivative(h: Array, out: Array) -> Array:
    return np.subtract(1, np.multiply(h, h, out), out)  # (F2) of docs/learn/derivation


def _relu_derivative(h: Array, out: Array) -> Array:
    return np.greater(h, 0, out)


tanh_unit = Nonlinearity(np.tanh, _tanh_derivative)
relu_unit = Nonlinearity(relu, _relu_derivative)


class Tape(NamedTuple):
    """What backward needs."""

    params: Params
    nonlinearity: Nonlinearity
    x: Array  # (T, B, I)
    h: Array  # (T+1, B, H)


def forward(params: Params, x: Array, s0: State, nonlinearity: Nonlinearity = tanh_unit) -> tuple[State, Tape]:
    """Run the cell over T steps, as `Cell` says."""
    W_ih, W_hh, b_ih, b_hh = params
    h = np.empty((len(x) + 1, *s0.h.shape), np.result_type(x, *params, *s0))
    h[0] = s0.h
    a = linear(x, W_ih, b_ih + b_hh, h[1:])  # (1), all of it that needs no state: a_t waits where h_{t+1} will stand
    W_hh_T = transposed_copy(W_hh)  # once, not at every step
    Wh = np.empty_like(h[0])  # where each step's product goes
    f = nonlinearity.f
    h_t = h[0]
    for a_t in a:
        a_t += h_t.dot(W_hh_T, Wh)  # (1)
        f(a_t, a_t)  # (2)
        h_t = a_t  # which is h_{t+1} now
    return State(h), Tape(params, nonlinearity, x, h)


def backward(tape: Tape, dstates: State) -> tuple[Params, Array, State]:
    """Backpropagation through time, the transpose of `forward`, as `Cell` says."""
    (W_ih, W_hh, _, _), nonlinearity, x, h = tape
    # (2') is a product with f', which needs no gradient: all steps at once, where da_t will stand.
    da = np.empty(h[1:].shape, np.result_type(h, dstates.h))
    nonlinearity.df(h[1:], da)  # (2')
    dh = dstates.h[-1].astype(da.dtype, "C")
    for da_t, dh_loss_t in reversed_steps(da, dstates.h[:-1]):
        da_t *= dh  # (2')
        dh = da_t.dot(W_hh, dh)  # (1')
        dh += dh_loss_t

    db = linear_db(da)  # (1')
    grads = Params(linear_dW(da, x), linear_dW(da, h[:-1]), db, db.copy())  # (1')
    dx = linear_dx(da, W_ih)  # (1')
    return grads, dx, State(dh)


TANH = Cell("rnn_tanh", 1, Params, State, forward, backward, "rows")
RELU = Cell("rnn_relu", 1, Params, State, partial(forward, nonlinearity=relu_unit), backward, "rows")
