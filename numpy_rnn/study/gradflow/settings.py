"""What `numpy-rnn gradflow` compares: cells and initial weights under which gradients vanish, explode or hold.

W_ih and the biases are those that the layers start with, uniform in ±1/√H as torch.nn's. Of W_hh each setting says
what it is; its scale is the largest singular value ‖W_hh‖, so that for the plain RNN ‖∂h_{t+1}/∂h_t‖ ≤ max f' · ‖W_hh‖.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ...fast import registry
from ...fast.cell import Cell, States
from ...fast.numerics import Array, linear, linear_dx
from ...fast.registry import FAMILIES
from ...layers.losses import softmax_cross_entropy
from ...layers.network import Network
from ...layers.optim import clip_grad_norm
from ...verify.case import random_params, random_state
from . import jacobians

Change = Callable[[Any, np.random.Generator], Any]  # of initial parameters

SCALES = np.linspace(0.25, 3.0, 12)  # of W_hh, for clipping
MAX_NORM = 1.0  # what is clipped to
MAPPED = 40  # steps of the tables of contributions, at most


class Sizes(NamedTuple):
    """How large problems are, and what their numbers are drawn from: the same for all cells."""

    T: int
    B: int
    I: int
    H: int
    seed: int


class Problem(NamedTuple):
    """A cell with parameters, and what it reads."""

    cell: Cell
    params: Any
    x: Array  # (T, B, I)
    s0: States  # fields (B, ·)


class Flow(NamedTuple):
    """What is measured of a problem."""

    group: str
    setting: str
    norm_W_hh: float
    spectral_radius: float  # of W_hh; where there are gates, of the rows that make the candidate
    activation: float  # mean of A_t's singular values (root mean square), the activations' factor
    other: float  # the same of E_t, what goes past W_hh
    lyapunov_exponent: float  # λ₁, mean over sequences
    norms: Array  # (T+1, B), ‖∂s_T/∂s_k‖ by k

    @property
    def horizon(self) -> float:
        """Steps back until the gradient of the median sequence falls below 1 %; infinity if it does not."""
        return float(jacobians.horizon(np.median(self.norms, axis=1)))

    def after(self, steps: int) -> float:
        """By what the gradient has been multiplied so many steps back, in the median sequence."""
        return float(np.median(self.norms[-1 - steps]))


class Clipping(NamedTuple):
    """Length of the gradient of all parameters before and after clipping, by the scale of W_hh."""

    cell: str
    scales: Array  # (N,), ‖W_hh‖ of each gate
    norms: Array  # (N,)
    clipped: Array  # (N,)


class Reach(NamedTuple):
    """‖C_{t,k}‖: how much of dW_hh comes from the loss by h_{t+1} through the use of W_hh at step k; one sequence."""

    label: str
    table: Array  # (T, T), index t, k; 0 for k > t


Job = Callable[[], Flow | Clipping | Reach]


def usual(params: Any, rng: np.random.Generator) -> Any:
    """Change nothing."""
    return params


def orthogonal(scale: float) -> Change:
    """W_hh = scale · a random orthogonal matrix, for each gate its own (Saxe, McClelland & Ganguli 2014,
    arXiv:1312.6120v3), all alike likely (Mezzadri 2007, arXiv:math-ph/0609050v2).
    """

    def change(params: Any, rng: np.random.Generator) -> Any:
        GH, H = params.W_hh.shape
        Q, R = np.linalg.qr(rng.standard_normal((GH // H, H, H)))
        signs = np.sign(np.diagonal(R, axis1=1, axis2=2))
        return params._replace(W_hh=scale * (Q * signs[:, None]).reshape(GH, H))

    return change


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

# By group and label: the cell, and how its initial weights differ from the usual ones.
SETTINGS: dict[tuple[str, str], tuple[str, Change]] = {
    (WEIGHTS, "contracting: 0.5 · orthogonal"): ("rnn_tanh", orthogonal(0.5)),
    (WEIGHTS, "uniform ± 1/√H"): ("rnn_tanh", usual),
    (WEIGHTS, "orthogonal"): ("rnn_tanh", orthogonal(1.0)),
    (WEIGHTS, "expanding: 2 · orthogonal"): ("rnn_tanh", orthogonal(2.0)),
    (WEIGHTS, "identity, relu"): ("rnn_relu", identity),
    (USUAL, "RNN"): ("rnn_tanh", usual),
    (USUAL, "LSTM"): ("lstm", usual),
    (USUAL, "GRU"): ("gru", usual),
    (FORGET, "forget bias 0"): ("lstm", forget_bias(0.0)),
    (FORGET, "forget bias 1"): ("lstm", forget_bias(1.0)),
    (FORGET, "forget bias 3"): ("lstm", forget_bias(3.0)),
}


def family(cell: str) -> str:
    """The name under which commands know a cell and its variants: rnn, lstm or gru."""
    return cell.partition("_")[0]


def problem(cell: str, change: Change, sizes: Sizes) -> Problem:
    """A cell with initial weights, B sequences of noise, and zero initial states."""
    T, B, I, H, seed = sizes
    noise, rng = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    kind = registry.CELLS[cell]
    params = random_params(kind, I, H, H, lambda *shape: rng.uniform(-1, 1, shape) / np.sqrt(H))
    s0 = random_state(kind, (B,), H, H, lambda *shape: np.zeros(shape))
    return Problem(kind, change(params, rng), noise.standard_normal((T, B, I)), s0)


def flow(group: str, setting: str, p: Problem) -> Flow:
    """Measure how gradients flow from the last state to all before it.

    Parameters
    ----------
    group, setting : str
    p : Problem
        Where its steps have no A, see `jacobians.step_jacobians`, the activation is NaN.
    """
    steps = jacobians.step_jacobians(*p)
    H = p.params.W_hh.shape[1]
    candidate = p.params.W_hh[2 * H : 3 * H] if p.cell.gates > 1 else p.params.W_hh  # g of the LSTM, n of the GRU
    return Flow(
        group,
        setting,
        norm_W_hh=float(jacobians.norms(p.params.W_hh)),
        spectral_radius=float(np.abs(np.linalg.eigvals(candidate)).max()),
        activation=math.nan if steps.A is None else typical_stretch(steps.A),
        other=typical_stretch(steps.E),
        lyapunov_exponent=float(jacobians.lyapunov_exponents(steps.J)[:, 0].mean()),
        norms=jacobians.norms(jacobians.temporal_jacobians(steps.J)),
    )


def typical_stretch(M: Array) -> float:
    """By how much matrices stretch a vector of the smaller side, as a root mean square over directions."""
    return float(np.sqrt(np.mean(np.sum(M**2, axis=(-2, -1)) / min(M.shape[-2:]))))


def clipping(cell: str, sizes: Sizes, scales: Array = SCALES) -> Clipping:
    """Clip the gradient of a loss that reads the last state alone, W_hh being scale · orthogonal.

    The loss's gradient by that state has length 1; clipping is that of Pascanu, Mikolov & Bengio 2013.
    """
    lengths = []
    for scale in scales:
        p = problem(FAMILIES[cell], orthogonal(float(scale)), sizes)
        dh = np.random.default_rng([sizes.seed, 2]).standard_normal(p.s0.h.shape) / np.sqrt(p.s0.h.size)
        _, tape = p.cell.forward(*p[1:])
        grads, _, _ = p.cell.backward(tape, _of_outputs(p, np.concatenate([np.zeros((sizes.T, *dh.shape)), dh[None]])))
        clipped = grads._asdict()
        before = clip_grad_norm(clipped, MAX_NORM)
        lengths.append((before, np.sqrt(sum(np.sum(g**2) for g in clipped.values()))))
    return Clipping(cell.upper(), scales, *np.array(lengths).T)


def reach(cell: str, sizes: Sizes) -> Reach:
    """How far back a random loss reaches that is of the same size at every step."""
    p = problem(FAMILIES[cell], usual, sizes._replace(T=min(sizes.T, MAPPED), B=1))
    dh = np.random.default_rng([sizes.seed, 2]).standard_normal((len(p.x), *p.s0.h.shape))
    return _reach(cell.upper(), p, dh)


def _reach(label: str, p: Problem, dh: Array) -> Reach:
    """How far back a loss reaches whose gradient by h_1 … h_T is dh (T, B, H)."""
    dstates = _of_outputs(p, np.concatenate([np.zeros_like(dh[:1]), dh]))
    return Reach(label, jacobians.contributions(*p, dstates, lambda grads: np.linalg.norm(grads.W_hh)))


def _of_outputs(p: Problem, dh: Array) -> States:
    """Gradients by whole states, of a loss that reads h alone."""
    return p.cell.State(dh, *(np.zeros((len(dh), *s.shape)) for s in p.s0[1:]))


def initial_jobs(cells: Sequence[str], sizes: Sizes) -> list[Job]:
    """What is to be measured of some families of cells as they start."""
    jobs: list[Job] = [
        partial(flow, *names, problem(cell, change, sizes))
        for names, (cell, change) in SETTINGS.items()
        if family(cell) in cells
    ]
    for cell in (cell for cell in FAMILIES if cell in cells):
        jobs += [partial(clipping, cell, sizes), partial(reach, cell, sizes)]
    return jobs


def trained_jobs(before: Network, after: Network, symbols: Array) -> list[Job]:
    """What is to be measured of a language model before and after training, while it reads symbols (T, B).

    Each layer is a group of flows, and reads what the one below it gives.
    """
    models = {"before": before, "after": after}
    layers = zip(*(layer_problems(model, symbols) for model in models.values()))
    return [
        *(
            partial(flow, f"{family(p.cell.name).upper()}, layer {l}", f"{label} training", p)
            for l, both in enumerate(layers, start=1)
            for label, p in zip(models, both)
        ),
        *(partial(trained_reach, label, model, symbols[:MAPPED, :1]) for label, model in models.items()),
    ]


def trained_reach(label: str, model: Network, symbols: Array) -> Reach:
    """How far back a language model's own loss reaches in its last layer, on one sequence (T, 1)."""
    p = layer_problems(model, symbols[:-1])[-1]
    states, _ = p.cell.forward(*p[1:])
    weight, bias = (model.state_dict()[f"head.{name}"].astype(float) for name in ("weight", "bias"))
    _, dlogits = softmax_cross_entropy(linear(states.h[1:], weight, bias), symbols[1:], reduction="sum")
    return _reach(label, p, linear_dx(dlogits, weight))


def layer_problems(model: Network, symbols: Array) -> list[Problem]:
    """Of each layer of a language model what it computes when the model reads a text, from zero states, in float64.

    Parameters
    ----------
    model : Network
    symbols : integer array (T, B)
    """
    x, cell, found = model.state_dict()["embedding.weight"][symbols].astype(float), model.rnn.cell, []
    for (params,) in model.rnn.params():
        p = type(params)(*(w.astype(float) for w in params))
        s0 = cell.State(*(np.zeros((symbols.shape[1], p.W_hh.shape[1])) for _ in cell.State._fields))
        found.append(Problem(cell, p, x, s0))
        x = np.ascontiguousarray(cell.forward(p, x, s0)[0].h[1:])
    return found
