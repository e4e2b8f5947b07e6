"""What the names on pages 7 and 8 of docs/learn/derivation stand for: Jacobian matrices, and what is made of them.

Jacobian matrices are complex steps through the cells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from cases import GATES, NONLINEARITIES, STEP, B, H, I, T, case, moved, textbook
from formulas import Indices, Scope, Steps
from support import assert_close, columns, rng_of

from numpy_rnn.fast import deep, lstm, rnn, truncated
from numpy_rnn.study.gradflow import jacobians as gradflow
from numpy_rnn.study.notation import FormulaError
from numpy_rnn.verify import rtrl


def jacobians(cell: Any, params: Any, x: Any, states: Any) -> Callable[..., Any]:
    """∂(a state at one moment)/∂(a state at an earlier one) of a single sequence, or by θ within one step.

    A state field depends on all fields of the earlier state; s is all of them, one above the other.
    """
    fields = cell.State._fields

    def at(t: int) -> Any:
        return cell.State(*(s[t] for s in states))

    def jacobian(top: tuple[Any, ...], bottom: tuple[Any, ...]) -> Any:
        (upper, later), (lower, *earlier) = top, bottom
        if lower == "θ":
            return by_parameters(later, upper)
        if lower == "b_hh":  # in the one step that makes the later state
            units = 1j * STEP * np.eye(len(params.b_hh))
            changed = (params._replace(b_hh=params.b_hh + unit) for unit in units)
            return np.stack([run(later - 1, later, p, at(later - 1), upper) for p in changed], axis=1)
        first = earlier[0]
        found = []
        moved_fields = fields if lower == "s" else (lower,)
        for field in moved_fields:
            k = fields.index(field)
            for unit in range(states[k].shape[2]):
                direction = cell.State(*(np.zeros_like(s) for s in at(first)))
                direction[k][0, unit] = 1
                found.append(run(first, later, params, moved(at(first), direction), upper))
        return np.stack(found, axis=1)

    def run(first: int, later: int, p: Any, s: Any, upper: str) -> Any:
        end = cell.State(*(z[-1, 0] for z in cell.forward(p, x[first:later], s)[0]))
        return (np.concatenate(end) if upper == "s" else getattr(end, upper)).imag / STEP

    def by_parameters(later: int, upper: str) -> Any:
        """Of the parameters, then of the initial state, on which only state 0 depends directly."""
        size, start, found = sum(s.shape[2] for s in states), max(later - 1, 0), []
        for k, p in enumerate(params):
            for entry in range(p.size):
                direction = type(params)(*(np.zeros_like(q) for q in params))
                direction[k].ravel()[entry] = float(later > 0)
                found.append(run(start, later, moved(params, direction), at(start), upper))
        return np.concatenate([np.stack(found, axis=1), float(later == 0) * np.eye(size)], axis=1)

    return jacobian


def alone(
    name: str, b: int, change: Callable[[Any], Any] = lambda params: params
) -> tuple[Any, Any, Any, Any, Any, Any]:
    """One sequence of a case: cell, params, x, states, dstates, everything noted."""
    cell, params, x, s0, dstates = case(name)
    params = change(params)
    x, s0 = x[:, b : b + 1], cell.State(*(s[b : b + 1] for s in s0))
    dstates = cell.State(*(s[:, b : b + 1] for s in dstates))
    states, _ = cell.forward(params, x, s0)
    return cell, params, x, states, dstates, textbook(name, params, x, s0, dstates)


def later(at: Indices) -> range:
    """Moments m after k."""
    return range(at["k"] + 1, T + 1)


def largest(W: Any) -> Any:
    """The largest eigenvalue of WᵀW, the square of W's largest singular value."""
    return np.linalg.eigvalsh(W.T @ W)[-1]


def jacobian_scopes(
    name: str, change: Callable[[Any], Any] = lambda params: params, saturated: bool = False
) -> list[Scope]:
    """Each sequence of a case, with its Jacobian matrices; where units are saturated, γ is the largest f' there is."""
    scopes = []
    for b in range(B):
        cell, params, x, states, dstates, noted = alone(name, b, change)
        _, tape = cell.forward(params, x, cell.State(*(s[0] for s in states)))
        _, _, ds0 = cell.backward(tape, dstates)
        values: dict[str, Any] = {"T": T, "γ": 1.0, "W_hh": params.W_hh, "λ₁": np.sqrt(largest(params.W_hh))}
        for k, gate in enumerate(GATES[name.split("_")[0]]):
            values[f"W_h{gate}"] = params.W_hh[k * H : (k + 1) * H]
        values |= {key: Steps(z) for key, z in noted.items()}
        for field, s, ds, first in zip(cell.State._fields, states, dstates, ds0):
            values[field], values["ℓ" if field == "h" else f"ℓ{field}"] = Steps(columns(s)), Steps(columns(ds))
            values[f"d{field}"] = Steps(np.concatenate([first.T[None], noted[f"d{field}"]]))
        values |= made_of(cell, params, x, states)
        if name in NONLINEARITIES:
            slopes = NONLINEARITIES[name]["f'"](noted["a"])
            values |= {"μ": np.min(slopes), "γ": np.max(slopes) if saturated else 1.0}
        scopes.append(
            Scope(
                values,
                {"t": range(T), "k": range(T), "m": later, "p": range(T - 1)},
                functions=NONLINEARITIES.get(name, {}),
                jacobian=jacobians(cell, params, x, states),
            )
        )
    return scopes


def made_of(cell: Any, params: Any, x: Any, states: Any) -> dict[str, Any]:
    """A step's Jacobian and its parts as `gradflow` finds them; for the LSTM the blocks of A, too."""
    found = gradflow.step_jacobians(cell, params, x, cell.State(*(s[0] for s in states)))
    J, E, A = (M[:, 0] for M in found)
    values: dict[str, Any] = {"J": Steps(J), "E": Steps(E), "A": Steps(A), "O": np.zeros((H, H))}
    if cell.name == "lstm":
        C = {f"C{gate}": A[:, H:, k * H : (k + 1) * H] for k, gate in enumerate("ifg")}
        values |= {key: Steps(block) for key, block in C.items()}
        values["D"] = Steps(A[:, :H, :H] @ np.linalg.inv(C["Ci"]))  # ∂h_{t+1}/∂c_{t+1}
    return values


def flow_scopes() -> list[Scope]:
    """What `gradflow` says of one sequence of each cell whose steps have an A and determinants that are not 0.

    Those of relu are 0, and those of a projection to more numbers than there are units.
    """
    return [flow_scope(name) for name in ("rnn_tanh", "lstm", "lstm_peephole", "gru")]


def flow_scope(name: str) -> Scope:
    cell, params, x, states, dstates, _ = alone(name, 1)
    dstates = dstates._replace(**{f: np.zeros_like(d) for f, d in dstates._asdict().items() if f != "h"})
    dstates.h[0] = 0  # the loss reads outputs, as a layer's does
    s0 = cell.State(*(s[0] for s in states))
    grads, _, _ = cell.backward(cell.forward(params, x, s0)[1], dstates)
    table = gradflow.contributions(cell, params, x, s0, dstates)
    values = {**made_of(cell, params, x, states), "T": T, "W_hh": params.W_hh, "dW_hh": grads.W_hh, "b_hh": None}
    values |= {"h": Steps(columns(states.h)), "dstates": Steps(np.concatenate([columns(d) for d in dstates], axis=1))}
    values["s"] = Steps(np.concatenate([columns(s) for s in states], axis=1))
    values |= {"C": lambda t, k: table[t, k], "G": lambda n: truncated_dW(cell, params, x, s0, dstates, n)}

    J = values["J"].array
    S = J.shape[1]
    Q, R = [np.eye(S)], []
    for J_t in J:
        for kind, factor in zip((Q, R), np.linalg.qr(J_t @ Q[-1])):
            kind.append(factor)
    # The exponents are the code's, put back into the order of the decomposition's columns.
    order = np.argsort(-np.sum([np.log(np.abs(np.diag(M))) for M in R], axis=0))
    λ = np.empty(S)
    λ[order] = gradflow.lyapunov_exponents(J[:, None])[0]
    σ = gradflow.singular_values(gradflow.temporal_jacobians(J[:, None])[0, 0])

    def of_R(t: int, *entry: int) -> Any:
        if not 1 <= t <= T:
            raise FormulaError(f"R has no moment {t}")
        return R[t - 1][entry[0] - 1, entry[1] - 1] if entry else R[t - 1]

    values |= {"Q": Steps(np.stack(Q)), "R": of_R, "S": S, "λ": lambda i: λ[i - 1], "σ": lambda i: σ[i - 1]}
    indices = {
        **{"t": range(T), "k": lambda at: range(at["t"] + 1 if "t" in at else T), "n": range(1, T + 1)},
        **{"m": later, "i": range(1, S + 1), "j": range(1, S)},
    }
    return Scope(values, indices, functions={"det": np.linalg.det}, jacobian=jacobians(cell, params, x, states))


def truncated_dW(cell: Any, params: Any, x: Any, s0: Any, dstates: Any, k2: int) -> Any:
    """The gradient by W_hh, the loss of every step carried back over k2 steps."""
    _, _, tape = deep.forward(cell, [[params]], x, cell.State(*(s[None] for s in s0)))
    end = cell.State(*(np.zeros_like(s)[None] for s in s0))
    ((grads,),), *_ = truncated.backward(tape, dstates.h[1:], end, k1=1, k2=k2)
    return grads.W_hh


def scaled(p: Any, norm: float, bias: float) -> Any:
    """Parameters with W_hh of a certain norm and one bias for all units."""
    return p._replace(W_hh=p.W_hh * (norm / np.linalg.norm(p.W_hh, 2)), b_ih=p.b_ih * 0 + bias)


def expanded(p: Any, on: bool = True) -> Any:
    """All directions stretched, and all units of a relu cell on."""
    return p._replace(W_hh=1.3 * np.eye(H) + np.abs(p.W_hh) / H, b_ih=p.b_ih + 100 * on)


def plain_scopes() -> list[Scope]:
    """The plain cell: random; contracting, σ_max(W_hh) being between 1 and 1/γ; expanding with relu, and with tanh."""
    return [
        *jacobian_scopes("rnn_tanh"),
        jacobian_scopes("rnn_tanh", lambda p: scaled(p, 1.3, 4.0), saturated=True)[0],
        jacobian_scopes("rnn_relu", expanded)[0],
        jacobian_scopes("rnn_tanh", lambda p: expanded(p, on=False))[0],
    ]


def linear_scopes() -> list[Scope]:
    """Relu cells all of whose units are on, which are linear networks: contracting, and expanding."""
    scopes = [jacobian_scopes("rnn_relu", change)[0] for change in (lambda p: scaled(p, 0.5, 100), expanded)]
    for scope in scopes:
        Λ, V = np.linalg.eig(scope.values["W_hh"])
        scope.values = {**scope.values, "V": V, "Λ": np.diag(Λ)}
    return scopes


def memory_scopes() -> list[Scope]:
    """The LSTM with random weights, and with a forget gate that is fully open."""

    def opened(p: Any) -> Any:
        return p._replace(b_ih=np.concatenate([p.b_ih[:H], p.b_ih[H : 2 * H] + 1e3, p.b_ih[2 * H :]]))

    return [*jacobian_scopes("lstm"), jacobian_scopes("lstm", opened)[0]]


def half_scope() -> Scope:
    """Two relu units, the first on and the second off."""
    cell = rnn.RELU
    W = np.array([[2.0, -2.0], [2.0, -2.0]])
    params = rnn.Params(np.zeros((2, 1)), W, np.array([10.0, -1e6]), np.zeros(2))
    x = np.zeros((T, 1, 1))
    states, _ = cell.forward(params, x, cell.State(np.ones((1, 2))))
    values = {"W_hh": W, "D": np.diag([1.0, 0.0]), "T": T}
    return Scope(values, {"k": range(T), "m": later}, jacobian=jacobians(cell, params, x, states))


def decay_scopes() -> list[Scope]:
    """The memory of an LSTM whose forget gate is σ(b_f) whatever comes, with nothing written into it."""
    scopes = []
    for b_f in (0.0, 1.0, 2.0):
        steps = 200
        bias = np.array([-1e9, b_f, 0.0, 0.0])
        params = lstm.Params(np.zeros((4, 1)), np.zeros((4, 1)), bias, np.zeros(4))
        c = lstm.forward(params, np.zeros((steps, 1, 1)), lstm.State(*np.ones((2, 1, 1))))[0].c.reshape(-1)
        values = {"b_f": b_f, "c": Steps(c), "n": 20 * np.log(1 / 2) / np.log(c[20] / c[0])}
        scopes.append(Scope(values, {"t": range(20)}))
    return scopes


def rtrl_scopes() -> list[Scope]:
    """Single sequences of the plain cell and of the LSTM; θ is every parameter, then the initial state."""
    scopes = []
    for name in ("rnn_tanh", "lstm"):
        cell, params, x, states, dstates, _ = alone(name, 1)
        s0 = cell.State(*(s[0] for s in states))
        grads, _, ds0 = rtrl.gradients(cell, params, x, s0, dstates)
        own, _, own_ds0 = cell.backward(cell.forward(params, x, s0)[1], dstates)
        dθ = np.concatenate([np.ravel(g) for g in (*grads, *ds0)])
        assert_close("dθ", dθ, np.concatenate([np.ravel(g) for g in (*own, *own_ds0)]), 1e-12)
        jacobian = jacobians(cell, params, x, states)
        walked = rtrl_walk(name, params, x, s0)
        ds = []
        for t in range(T + 1):
            state = cell.State(*(s[t] for s in states))
            _, tape = cell.forward(params, x[t:], state)
            rest = cell.backward(tape, cell.State(*(d[t:] for d in dstates)))[2]
            ds.append(np.concatenate([z[0] for z in rest])[:, None])
        values = {
            **{"T": T, "P": Steps(walked), "dθ": dθ[:, None], "ds": Steps(np.stack(ds))},
            **{"F": lambda t, jacobian=jacobian: jacobian(("s", t), ("θ",)), "θ": None},
            **{field: Steps(columns(s)) for field, s in zip(cell.State._fields, states)},
            "s": Steps(np.concatenate([columns(s) for s in states], axis=1)),
            "dstates": Steps(np.concatenate([columns(d) for d in dstates], axis=1)),
        }
        indices = {"t": range(T), "m": range(T + 1), "k": range(T + 1)}
        scopes.append(Scope(values, indices, {"t": range(T + 1)}, jacobian=jacobian))
    return scopes


def rtrl_walk(name: str, params: Any, x: Any, s0: Any) -> Any:
    """P_0 … P_T, (T+1, S, N), as `rtrl` carries them along with its own steps."""
    variables = [*params, *s0]
    offsets = np.cumsum([0, *(v.size for v in variables)])
    N = int(offsets[-1])
    duals = []
    for v, offset in zip(variables, offsets):
        P = np.zeros((N, *v.shape))
        P.reshape(N, -1)[offset + np.arange(v.size), np.arange(v.size)] = 1
        duals.append(rtrl.Dual(v, P))
    p, s = type(params)(*duals[: len(params)]), tuple(duals[len(params) :])
    found = [s]
    for x_t in x:
        s = rtrl.STEPS[name](p, rtrl.Dual(x_t, np.zeros((N, *x_t.shape))), *s)
        found.append(s)
    return np.stack([np.concatenate([z.P[:, 0].T for z in s]) for s in found])


def dual_scope() -> Scope:
    """Values with their derivatives by N variables, and what `rtrl` makes of them."""
    N, rng = 6, rng_of("dual")

    def dual(*shape: int) -> rtrl.Dual:
        return rtrl.Dual(rng.standard_normal(shape), rng.standard_normal((N, *shape)))

    x, y, w, W, b = dual(1, H), dual(1, H), dual(1, I), dual(H, I), dual(H)
    made = {"x": x, "y": y, "w": w, "p": x + y, "q": x * y, "s": rtrl.sigma(x), "g": rtrl.tanh(x)}
    values: dict[str, Any] = {}
    for key, z in {**made, "a": rtrl.linear(W, w, b)}.items():
        values[key], values[f"P{key}"] = z.value.T, z.P[:, 0].T
    values |= {"W": W.value, "b": b.value[:, None], "Pb": b.P.T, "PW": lambda j: W.P[:, :, j].T}
    return Scope(values, {"j": range(I)}, columns="?")
