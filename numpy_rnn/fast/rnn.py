"""The plain recurrent cell of Elman (Cognitive Science 14, 1990), with tanh or relu; torch.nn.RNN's equations.

Forward, for t = 0 … T-1 (the state before step t is h_t, the state after it h_{t+1}):

    (1)   a_t     = W_ih x_t + b_ih + W_hh h_t + b_hh
    (2)   h_{t+1} = f(a_t)                                    f = tanh or relu

Backward, for t = T-1 … 0. Every h_{t+1} arrives with dh_{t+1}: what the loss sends it directly, plus what
step t+1 has sent back.

    (2')  da_t    = dh_{t+1} ∘ f'(a_t)                        f' from the output: 1 - h², or 1 where h > 0
    (1')  dh_t   += W_hhᵀ da_t
          dx_t    = W_ihᵀ da_t
          dW_ih   = Σ_t da_t x_tᵀ        db_ih = Σ_t da_t
          dW_hh   = Σ_t da_t h_tᵀ        db_hh = Σ_t da_t

The code holds vectors as rows, one a sequence of the batch, as users do: x_t is (B, I), and W x is `x @ W.T`.
Σ_t da_t x_tᵀ sums over sequences too: it is one product of the rows of all steps. One bias would do, since both have
the same gradient; two are kept so that parameters are those of torch, ONNX and cuDNN.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from .cell import Cell
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


class Params(NamedTuple):
    """Parameters of one cell, or their gradients."""

    W_ih: Array  # (H, I)
    W_hh: Array  # (H, H)
    b_ih: Array  # (H,)
    b_hh: Array  # (H,)


class State(NamedTuple):
    """State of B sequences, or a trajectory of states, or gradients of either."""

    h: Array  # (B, H); a trajectory: (T+1, B, H)


class Tape(NamedTuple):
    """What backward needs."""

    params: Params
    nonlinearity: Nonlinearity
    x: Array  # (T, B, I)
    h: Array  # (T+1, B, H)


def forward(params: Params, x: Array, s0: State, nonlinearity: Nonlinearity = tanh_unit) -> tuple[State, Tape]:
    """Run the cell over T steps.

    Parameters
    ----------
    params : Params
    x : array (T, B, I)
    s0 : State
        Initial state, h (B, H).
    nonlinearity : Nonlinearity
        `tanh_unit` or `relu_unit`.

    Returns
    -------
    states : State
        The trajectory, h (T+1, B, H), with h[0] = s0.h.
    tape : Tape
        What `backward` needs.
    """
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
    """Backpropagation through time: the transpose of `forward`.

    Parameters
    ----------
    tape : Tape
        As `forward` returned it.
    dstates : State
        Gradient of the loss by every state of the trajectory, h (T+1, B, H).

    Returns
    -------
    grads : Params
        Gradients of the parameters.
    dx : array (T, B, I)
    ds0 : State
        Gradient of the initial state, h (B, H).
    """
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
