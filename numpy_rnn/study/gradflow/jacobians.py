"""How gradients flow through time: Jacobians of any cell, what makes them shrink and grow, and how far they reach.

A state s_t is all that a cell carries from one step to the next: h, or h and c side by side, S numbers.

    (T1)  J_t = ∂s_{t+1}/∂s_t                               — one step
    (T2)  ∂s_m/∂s_k = Π_{t=m-1…k} J_t                       — J_{m-1} J_{m-2} … J_k; the unit matrix for k = m
    (T3)  J_t = E_t + A_t W_hh (∂h_t/∂s_t)                  — the last factor takes h_t out of s_t
          A_t = ∂s_{t+1}/∂b_hh                              — in step t, by W_hh h_t + b_hh; E_t: every other way
    (T4)  ‖∂s_m/∂s_k‖ ≤ Π_{t=m-1…k} (‖E_t‖ + ‖A_t‖ ‖W_hh‖)

So A_t W_hh stands in the columns of h. The plain RNN has no other way: E_t = 0 and A_t = diag f'(a_t), so its
gradients shrink at least as fast as powers of max f' · ‖W_hh‖ once that is below 1, and can only explode if it is
above (Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063v2, section 2.1; Hochreiter 1991). E_t is what LSTM and GRU add:
c_{t+1} = f ∘ c_t + …, and h_{t+1} = z ∘ h_t + ….

    (T5)  dW_hh = Σ_t Σ_{k=0…t} C_{t,k}                     — the loss by s_{t+1}, W_hh's use at step k
          C_{t,k} = A_kᵀ (∂s_{t+1}/∂s_{k+1})ᵀ dstates_{t+1} h_kᵀ
          G_n = Σ_t Σ_{k=max(0, t-n+1)…t} C_{t,k}           — a band: dW_hh truncated, n steps back
    (T6)  Σ_{i=1…j} λ_i ≤ 1/T · Σ_{i=1…j} log(σ_i)          — σ_1 ≥ σ_2 ≥ …: singular values of ∂s_T/∂s_0
          Σ_{i=1…S} λ_i = 1/T · Σ_t log(|det(J_t)|)
    (T7)  J_t Q_t = Q_{t+1} R_{t+1}                         — QR decompositions; Q_0 = 1
          λ_i = 1/T · Σ_t log(|R_{t+1,i,i}|)                — put in order: λ_1 ≥ λ_2 ≥ …

As T grows, each λ_i comes to be 1/T · log(σ_i): the Lyapunov exponents.

The Jacobians are the hand-written backward itself, asked for one unit after the other: nothing is derived anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...fast.cell import Cell, States
from ...fast.numerics import Array


class Steps(NamedTuple):
    """The Jacobian of every step (T1), and what it is made of (T3)."""

    J: Array  # (T, B, S, S)
    E: Array  # (T, B, S, S), what does not go through W_hh
    A: Array | None  # (T, B, S, G·H); None where W_hh stands behind itself within a step


def flat(states: States) -> Array:
    """Put the fields of a state side by side: (…, S).

    Examples
    --------
    >>> from numpy_rnn.fast.lstm import State
    >>> flat(State(np.zeros((5, 2, 3)), np.ones((5, 2, 3)))).shape
    (5, 2, 6)
    """
    return np.concatenate(states, axis=-1)


def step_jacobians(cell: Cell, params: Any, x: Array, s0: States) -> Steps:
    """Jacobians of each step of each sequence, by the cell's own backward (T1), (T3).

    Parameters
    ----------
    cell : Cell
    params : the cell's Params
    x : array (T, B, I)
    s0 : the cell's State
        Initial states, fields (B, ·).

    Returns
    -------
    Steps
        S is H, for the LSTM 2·H, with a projection R + H. A is None for the GRU with the reset before the product:
        there r, which W_hh has made, is multiplied by W_hh once more.
    """
    states, _ = cell.forward(params, x, s0)
    T, B, _ = x.shape
    S, (GH, R) = flat(s0).shape[1], params.W_hh.shape
    twice = cell.name == "gru_reset_before"
    J, E, A = (np.empty((T, B, S, n), states.h.dtype) for n in (S, S, GH))
    for t in range(T):
        tape, rows = _step_for_each_unit(cell, params, x[t], cell.State(*(s[t] for s in states)))
        J[t] = _jacobian(cell, tape, rows, params.W_hh)
        E[t] = _jacobian(cell, tape, rows, np.zeros_like(params.W_hh))  # (T3), without A
        # A_t M with the columns of the unit matrix for M, R of them at a time.
        for k in range(0, 0 if twice else GH, R):
            A[t, :, :, k : k + R] = (_jacobian(cell, tape, rows, np.eye(GH, R, -k)) - E[t])[..., :R][..., : GH - k]
    return Steps(J, E, None if twice else A)


def _step_for_each_unit(cell: Cell, params: Any, x_t: Array, s_t: States) -> tuple[Any, States]:
    """One step of B·S sequences, each of the B as often as there are units, and the unit that each is asked for."""
    B, S = flat(s_t).shape
    s_t = cell.State(*(np.repeat(s, S, axis=0) for s in s_t))
    _, tape = cell.forward(params, np.repeat(x_t, S, axis=0)[None], s_t)
    units = np.tile(np.eye(S, dtype=s_t.h.dtype), (B, 1))
    return tape, cell.State(*np.split(units, np.cumsum([s.shape[1] for s in s_t])[:-1], axis=1))


def _jacobian(cell: Cell, tape: Any, rows: States, W_hh: Array) -> Array:
    """∂s_{t+1}/∂s_t (B, S, S), row by row: the gradient of each unit of s_{t+1}, W_hh exchanged on the way back."""
    tape = tape._replace(params=tape.params._replace(W_hh=W_hh.astype(rows.h.dtype)))
    dstates = cell.State(*(np.stack([np.zeros_like(row), row]) for row in rows))
    _, _, ds = cell.backward(tape, dstates)
    S = flat(ds).shape[1]
    return flat(ds).reshape(-1, S, S)  # (T1)


def temporal_jacobians(J: Array) -> Array:
    """∂s_T/∂s_k for all k (T2).

    Parameters
    ----------
    J : array (T, B, S, S)
        Of each step, as `step_jacobians` returns them.

    Returns
    -------
    array (T+1, B, S, S)
        Index k; the last one is the unit matrix.

    Examples
    --------
    >>> temporal_jacobians(np.full((3, 1, 1, 1), 0.5)).ravel().tolist()
    [0.125, 0.25, 0.5, 1.0]
    """
    products = np.empty((len(J) + 1, *J.shape[1:]), J.dtype)
    products[-1] = np.eye(J.shape[-1])
    for k in reversed(range(len(J))):
        products[k] = products[k + 1] @ J[k]  # (T2)
    return products


def norms(M: Array) -> Array:
    """Spectral norms ‖M‖ = σ₁(M), by how much M stretches a vector at most.

    Parameters
    ----------
    M : array (…, S, S')

    Returns
    -------
    array (…)

    Examples
    --------
    >>> norms(np.array([[0.0, 3.0], [-2.0, 0.0]])).round(12).item()
    3.0
    """
    return singular_values(M)[..., 0]


def singular_values(M: Array) -> Array:
    """Singular values σ₁ ≥ σ₂ ≥ … of matrices (…, S, S'), (…, min(S, S')); NaN where a matrix is not finite.

    Examples
    --------
    >>> singular_values(np.array([[0.0, 3.0], [-2.0, 0.0]])).round(12).tolist()
    [3.0, 2.0]
    """
    finite: Array = np.isfinite(M).all(axis=(-2, -1), keepdims=True)  # type: ignore[assignment]
    sigma: Array = np.linalg.svd(np.where(finite, M, 0), compute_uv=False)
    return np.where(finite[..., 0], sigma, np.nan)


def horizon(norms: Array, fraction: float = 0.01) -> Array:
    """How many steps back a gradient falls below a fraction of what it was, for the first time.

    Parameters
    ----------
    norms : array (T+1, …)
        Of ∂s_T/∂s_k, index k: the last one is where the gradient starts.
    fraction : float

    Returns
    -------
    array (…)
        Steps; infinity where it does not within T.

    Examples
    --------
    >>> horizon(np.array([0.001, 0.01, 0.1, 1.0]), 0.05).item()
    2.0
    """
    backwards = norms[::-1]
    below = backwards < fraction * backwards[0]
    return np.where(below.any(axis=0), below.argmax(axis=0), np.inf)


def lyapunov_exponents(J: Array) -> Array:
    """Rates at which neighbouring trajectories part or meet, in natural logarithms a step (T6), (T7).

    The largest is the rate of the norm: gradients explode above 0 and vanish below. By QR decompositions, as the
    product of many matrices itself keeps no more than its largest singular values (Benettin, Galgani, Giorgilli &
    Strelcyn, Meccanica 15, 1980; for recurrent networks Engelken, Wolf & Abbott 2023, arXiv:2006.02427v2).

    Parameters
    ----------
    J : array (T, B, S, S)
        Of each step; T ≥ 1.

    Returns
    -------
    array (B, S)
        λ₁ ≥ λ₂ ≥ …; -∞ for what is lost altogether.

    Examples
    --------
    >>> J = np.broadcast_to(np.diag([0.5, 1.0]), (20, 1, 2, 2))
    >>> np.exp(lyapunov_exponents(J)).round(12).tolist()
    [[1.0, 0.5]]
    """
    T, B, S, _ = J.shape
    Q = np.broadcast_to(np.eye(S), (B, S, S))
    total = np.zeros((B, S))
    with np.errstate(divide="ignore"):
        for J_t in J:
            Q, R = np.linalg.qr(J_t @ Q)  # (T7)
            total += np.log(np.abs(np.diagonal(R, axis1=1, axis2=2)))  # (T7)
    return -np.sort(-total / T, axis=1)


def contributions(
    cell: Cell,
    params: Any,
    x: Array,
    s0: States,
    dstates: States,
    measure: Callable[[Any], Any] = lambda grads: grads.W_hh,
) -> Array:
    """The table whose sum is a gradient: the loss by s_{t+1} through the use of the parameters at step k (T5).

    Sums over a band t - k2 < k ≤ t are truncated backpropagation, k2 steps back from the loss of every step
    (`truncated` with k1 = 1).

    Parameters
    ----------
    cell : Cell
    params : the cell's Params
    x : array (T, B, I)
    s0 : the cell's State
        Initial states, fields (B, ·).
    dstates : the cell's State
        Gradient of the loss by every state of the trajectory, fields (T+1, B, ·). What it says of s_0 uses no
        parameter.
    measure : function of the cell's Params
        What is kept of each contribution; by default all of dW_hh. For long sequences a number, such as
        ``lambda grads: np.linalg.norm(grads.W_hh)``.

    Returns
    -------
    array (T, T, …)
        Index t, k; 0 for k > t.
    """
    T = len(x)
    states, _ = cell.forward(params, x, s0)
    tapes = [
        cell.forward(params, x[k : k + 1], cell.State(*(s[k] for s in states)))[1] for k in range(T)
    ]  # one a step: so each use of the parameters has gradients of its own
    table: list[list[Any]] = []
    for t in range(T):
        ds = cell.State(*(d[t + 1] for d in dstates))
        row: list[Any] = []
        for tape in reversed(tapes[: t + 1]):
            grads, _, ds = cell.backward(tape, cell.State(*(np.stack([np.zeros_like(d), d]) for d in ds)))
            row.append(np.array(measure(grads)))  # (T5)
        table.append(row[::-1] + [np.zeros_like(row[0])] * (T - 1 - t))
    return np.array(table)
