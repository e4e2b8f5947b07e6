"""What `numpy-rnn gradflow` compares: cells and initial weights under which gradients vanish, explode or hold.

W_ih and the biases are those that the layers start with, uniform in ±1/√H as torch.nn's. Of W_hh each setting says
what it is; its scale is the largest singular value ‖W_hh‖, so that for the plain RNN ‖∂h_{t+1}/∂h_t‖ ≤ max f' · ‖W_hh‖.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...fast import gru, lstm, registry, rnn
from ...fast.cell import Cell, States
from ...fast.numerics import Array, linear, linear_dx
from ...fast.registry import FAMILIES
from ...layers.arguments import check_size
from ...layers.losses import softmax_cross_entropy
from ...layers.network import Network
from ...layers.optim import clip_grad_norm
from ...verify.case import random_params, random_state
from . import jacobians

CELLS = {family: registry.CELLS[name] for family, name in FAMILIES.items()}
LABELS = {family: family.upper() for family in FAMILIES}

Change = Callable[[Any, np.random.Generator], Any]  # of initial parameters


class Setting(NamedTuple):
    """A cell and how its initial weights differ from the usual ones."""

    group: str
    label: str
    cell: Cell
    change: Change


class Problem(NamedTuple):
    """A cell with parameters, and what it reads."""

    cell: Cell
    params: Any
    x: Array  # (T, B, I)
    s0: States  # fields (B, ·)


class Flow(NamedTuple):
    """What is measured of a problem."""

    group: str
    label: str
    norms: Array  # (T+1, B), ‖∂s_T/∂s_k‖ by k
    weight: float  # ‖W_hh‖
    radius: (
        float  # the largest eigenvalue's absolute value, of the block that makes the candidate where there are gates
    )
    activation: float  # mean of A_t's singular values (root mean square), the activations' factor
    other: float  # the same of E_t, what goes past W_hh
    exponent: float  # λ₁, mean over sequences

    @property
    def horizon(self) -> float:
        """Steps back until the gradient of the median sequence falls below 1 %; infinity if it does not."""
        return float(jacobians.horizon(np.median(self.norms, axis=1)))

    def after(self, steps: int) -> float:
        """By what the gradient has been multiplied so many steps back, in the median sequence."""
        return float(np.median(self.norms[-1 - steps]))


def usual(params: Any, rng: np.random.Generator) -> Any:
    """Change nothing."""
    return params


def orthogonal(scale: float) -> Change:
    """W_hh = scale · a random orthogonal matrix, for each gate its own (Saxe, McClelland & Ganguli 2014,
    arXiv:1312.6120v3).
    """

    def change(params: Any, rng: np.random.Generator) -> Any:
        H = params.W_hh.shape[1]
        blocks = [_orthogonal(H, rng) for _ in range(len(params.W_hh) // H)]
        return params._replace(W_hh=scale * np.concatenate(blocks))

    return change


def _orthogonal(H: int, rng: np.random.Generator) -> Array:
    """Draw an orthogonal matrix, all alike likely (Mezzadri 2007, arXiv:math-ph/0609050v2)."""
    Q, R = np.linalg.qr(rng.standard_normal((H, H)))
    orthogonal: Array = Q * np.sign(np.diagonal(R))
    return orthogonal


def identity(params: Any, rng: np.random.Generator) -> Any:
    """W_hh = 1, for relu (Le, Jaitly & Hinton 2015, arXiv:1504.00941v2)."""
    return params._replace(W_hh=np.eye(len(params.W_hh)))


def forget_bias(bias: float) -> Change:
    """The LSTM's forget gates start with this bias, both of torch's together (Gers, Schmidhuber & Cummins 2000;
    Jozefowicz, Zaremba & Sutskever 2015).
    """

    def change(params: Any, rng: np.random.Generator) -> Any:
        H = params.W_hh.shape[1]
        b_ih, b_hh = params.b_ih.copy(), params.b_hh.copy()
        b_ih[H : 2 * H], b_hh[H : 2 * H] = bias, 0
        return params._replace(b_ih=b_ih, b_hh=b_hh)

    return change


WEIGHTS = "What the recurrent weights do to the plain RNN"
USUAL = "RNN, LSTM and GRU as they start"
FORGET = "What the LSTM's forget bias does"

SETTINGS: Sequence[Setting] = (
    Setting(WEIGHTS, "contracting: 0.5 · orthogonal", rnn.TANH, orthogonal(0.5)),
    Setting(WEIGHTS, "uniform ± 1/√H", rnn.TANH, usual),
    Setting(WEIGHTS, "orthogonal", rnn.TANH, orthogonal(1.0)),
    Setting(WEIGHTS, "expanding: 2 · orthogonal", rnn.TANH, orthogonal(2.0)),
    Setting(WEIGHTS, "identity, relu", rnn.RELU, identity),
    Setting(USUAL, "RNN", rnn.TANH, usual),
    Setting(USUAL, "LSTM", lstm.LSTM, usual),
    Setting(USUAL, "GRU", gru.GRU, usual),
    Setting(FORGET, "forget bias 0", lstm.LSTM, forget_bias(0.0)),
    Setting(FORGET, "forget bias 1", lstm.LSTM, forget_bias(1.0)),
    Setting(FORGET, "forget bias 3", lstm.LSTM, forget_bias(3.0)),
)


def problem(cell: Cell, change: Change, T: int, B: int, I: int, H: int, seed: int) -> Problem:
    """A cell with initial weights, B sequences of noise, and zero initial states.

    Parameters
    ----------
    cell : Cell
    change : Change
        What makes the parameters differ from the usual ones.
    T, B, I, H : int
        Steps, sequences, inputs, units.
    seed : int
        The same seed gives all cells the same inputs.
    """
    T, B, I, H = (check_size(name, size) for name, size in (("T", T), ("B", B), ("I", I), ("H", H)))
    noise, rng = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    params = random_params(cell, I, H, H, lambda *shape: rng.uniform(-1, 1, shape) / np.sqrt(H))
    s0 = random_state(cell, (B,), H, H, lambda *shape: np.zeros(shape))
    return Problem(cell, change(params, rng), noise.standard_normal((T, B, I)), s0)


def flow(group: str, label: str, p: Problem) -> Flow:
    """Measure how gradients flow from the last state to all before it.

    Parameters
    ----------
    group, label : str
    p : Problem
        Of a cell whose steps have an A, see `jacobians.step_jacobians`.
    """
    steps = jacobians.step_jacobians(*p)
    H = p.params.W_hh.shape[1]
    candidate = p.params.W_hh[2 * H : 3 * H] if p.cell.gates > 1 else p.params.W_hh  # g of the LSTM, n of the GRU
    assert steps.A is not None
    return Flow(
        group,
        label,
        jacobians.norms(jacobians.temporal_jacobians(steps.J)),
        float(jacobians.norms(p.params.W_hh)),
        float(np.abs(np.linalg.eigvals(candidate)).max()),
        _typical(steps.A),
        _typical(steps.E),
        float(jacobians.lyapunov_exponents(steps.J)[:, 0].mean()),
    )


def _typical(M: Array) -> float:
    """By how much matrices stretch a vector of the smaller side, as a root mean square over directions."""
    return float(np.sqrt(np.mean(np.sum(M**2, axis=(-2, -1)) / min(M.shape[-2:]))))


def flows(T: int, B: int, I: int, H: int, seed: int, cells: Sequence[str] = tuple(CELLS)) -> Iterator[Flow]:
    """Measure all settings of some cells, one after the other."""
    for setting in SETTINGS:
        if setting.cell.name.partition("_")[0] in cells:
            yield flow(setting.group, setting.label, problem(setting.cell, setting.change, T, B, I, H, seed))


class Clipping(NamedTuple):
    """Length of the gradient of all parameters before and after clipping, by the scale of W_hh."""

    label: str
    scales: Array  # (N,), ‖W_hh‖ of each gate
    norms: Array  # (N,)
    clipped: Array  # (N,)


def clipping(cell: str, scales: Array, T: int, B: int, I: int, H: int, seed: int, max_norm: float = 1.0) -> Clipping:
    """Clip the gradient of a loss that reads the last state alone, W_hh being scale · orthogonal.

    Parameters
    ----------
    cell : "rnn", "lstm" or "gru"
    scales : array (N,)
    T, B, I, H, seed : int
    max_norm : float
        What the length is clipped to (Pascanu, Mikolov & Bengio 2013).
    """
    before, after = [], []
    for scale in scales:
        c, params, x, s0 = problem(CELLS[cell], orthogonal(float(scale)), T, B, I, H, seed)
        _, tape = c.forward(params, x, s0)
        dstates = c.State(*(np.zeros((T + 1, *s.shape)) for s in s0))
        dstates.h[T] = np.random.default_rng([seed, 2]).standard_normal(s0.h.shape) / np.sqrt(B * H)  # of length 1
        grads, _, _ = c.backward(tape, dstates)
        clipped = grads._asdict()
        before.append(float(clip_grad_norm(clipped, max_norm)))
        after.append(float(np.sqrt(sum(np.sum(g**2) for g in clipped.values()))))
    return Clipping(LABELS[cell], np.asarray(scales), np.array(before), np.array(after))


def reach(cell: str, T: int, I: int, H: int, seed: int) -> Array:
    """‖C_{t,k}‖: how much of dW_hh stems from the loss by h_{t+1} through the use of W_hh at step k, for one sequence.

    The loss is random, and of the same size at every step.

    Parameters
    ----------
    cell : "rnn", "lstm" or "gru"
    T, I, H, seed : int

    Returns
    -------
    array (T, T)
        Index t, k; 0 for k > t.
    """
    c, params, x, s0 = problem(CELLS[cell], usual, T, 1, I, H, seed)
    dstates = c.State(*(np.zeros((T + 1, *s.shape)) for s in s0))
    dstates.h[1:] = np.random.default_rng([seed, 2]).standard_normal(dstates.h[1:].shape)
    return jacobians.contributions(c, params, x, s0, dstates, _dW_hh)


class Trained(NamedTuple):
    """A language model before and after training, and text for it to read."""

    before: Network
    after: Network
    symbols: Array  # (T, B)


def trained_flows(trained: Trained) -> Iterator[Flow]:
    """Measure each layer of a language model before and after training, on the same text.

    Yields
    ------
    Flow
        One group a layer; a layer reads what the one below it gives.
    """
    layers = [layer_problems(model, trained.symbols) for model in (trained.before, trained.after)]
    for l, both in enumerate(zip(*layers), start=1):
        for label, p in zip(("before training", "after training"), both):
            yield flow(f"{LABELS[p.cell.name.partition('_')[0]]}, layer {l}", label, p)


def trained_reaches(trained: Trained, T: int) -> dict[str, Array]:
    """`reach` of the last layer, before and after training, on the first T steps of one sequence, by its own loss."""
    found = {}
    for label, model in (("before", trained.before), ("after", trained.after)):
        *_, (cell, params, x, s0) = layer_problems(model, trained.symbols[:T, :1])
        states, _ = cell.forward(params, x, s0)
        head = model.state_dict()
        logits = linear(states.h[1:-1], head["head.weight"].astype(float), head["head.bias"].astype(float))
        _, dlogits = softmax_cross_entropy(logits, trained.symbols[1:T, :1], reduction="sum")
        dstates = cell.State(*(np.zeros(s[:-1].shape) for s in states))
        dstates.h[1:] = linear_dx(dlogits, head["head.weight"].astype(float))
        found[label] = jacobians.contributions(cell, params, x[:-1], s0, dstates, _dW_hh)
    return found


def layer_problems(model: Network, symbols: Array) -> list[Problem]:
    """Of each layer of a language model what it computes when the model reads a text, from zero states, in float64.

    Parameters
    ----------
    model : Network
    symbols : integer array (T, B)
    """
    x, found = model.state_dict()["embedding.weight"][symbols].astype(float), []
    for (params,) in model.rnn.params():
        p = type(params)(*(w.astype(float) for w in params))
        H = p.W_hh.shape[1]
        s0 = model.rnn.cell.State(*(np.zeros((symbols.shape[1], H)) for _ in model.rnn.cell.State._fields))
        found.append(Problem(model.rnn.cell, p, x, s0))
        states, _ = model.rnn.cell.forward(p, x, s0)
        x = np.ascontiguousarray(states.h[1:])
    return found


def _dW_hh(grads: Any) -> Any:
    return np.linalg.norm(grads.W_hh)
