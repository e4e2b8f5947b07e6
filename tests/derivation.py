"""What the names in docs/derivation and in the docstrings stand for: values that the code computes on random cases.

States, gates, outputs and the gradients that a caller gets are those of `numpy_rnn`'s cells. What these do not keep,
such as pre-activations and the gradients of gates, is what `numpy_rnn.zoo.textbook` notes on its way. δz is the change
of z when all parameters, inputs and initial states change in one random direction, by a complex step through the code.
Jacobian matrices are complex steps through the cells, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from formulas import FormulaError, Indices, Scope, Steps
from support import CELLS, assert_close, random_params, random_state, rng_of

import numpy_rnn
from numpy_rnn import deep, gradflow, losses, optim, rtrl, truncated
from numpy_rnn.numerics import abreast, columns, linear, linear_db, linear_dW, linear_dx, sigmoid
from numpy_rnn.vectors import trace

T, B, I, H, R = 4, 3, 2, 5, 7  # 3H = 15, 4H = 20: all sizes differ
STEP = 1e-30
GATES = {"rnn": "", "lstm": "ifgo", "gru": "rzn"}


def moved(tree: Any, direction: Any) -> Any:
    """A tree of arrays, one complex step in a direction."""
    return type(tree)(*(z + 1j * STEP * d for z, d in zip(tree, direction)))


def textbook(name: str, params: Any, x: Any, s0: Any, dstates: Any = None) -> dict[str, Any]:
    """Everything that the textbook notes, as columns (T, ·, B): forward, and backward where there are dstates."""
    found: dict[str, list[Any]] = {}
    for b in range(x.shape[1]):
        notes = trace.Notes(lambda call: {})
        cell = trace.noting_machine(name, (), notes).cell
        _, tape = cell.forward(params, x[:, b], *(s[b] for s in s0))
        if dstates is not None:
            cell.backward(tape, *(ds[:, b] for ds in dstates))
        for part, steps in notes.steps.items():
            for key in steps[0].values if steps else ():
                if steps[0].values[key].ndim == 1 and (part == "forward" or key.startswith("d")):
                    found.setdefault(key, []).append(
                        np.stack([s.values[key] for s in sorted(steps, key=lambda s: s.t)])
                    )
    return {key: np.stack(value, axis=2) for key, value in found.items()}


def case(name: str, T: int = T) -> tuple[Any, Any, Any, Any, Any]:
    cell, rng = CELLS[name][0], rng_of(name, T)
    params = random_params(cell, I, H, R, rng)
    dstates = random_state(cell, (T + 1, B), H, R, rng)
    return cell, params, rng.standard_normal((T, B, I)), random_state(cell, (B,), H, R, rng), dstates


def cell_scope(name: str) -> Scope:
    """A cell, T steps of B sequences, with every state's upstream gradient random."""
    cell, params, x, s0, dstates = case(name)
    states, tape = cell.forward(params, x, s0)
    grads, dx, ds0 = cell.backward(tape, dstates)
    noted = textbook(name, params, x, s0, dstates)

    rng = rng_of("direction", name)
    direction = random_params(cell, I, H, R, rng)
    δx, δs0 = rng.standard_normal(x.shape), random_state(cell, (B,), H, R, rng)
    changed = moved(params, direction), x + 1j * STEP * δx, moved(s0, δs0)
    δstates = [s.imag / STEP for s in cell.forward(*changed)[0]]
    δnoted = {key: z.imag / STEP for key, z in textbook(name, *changed).items()}

    values: dict[str, Any] = {"T": T, "x": Steps(columns(x)), "dx": Steps(columns(dx)), "δx": Steps(columns(δx))}
    values["δL"] = sum(np.sum(ds * δ) for ds, δ in zip(dstates, δstates))
    for key, z in {**noted, **{f"δ{key}": z for key, z in δnoted.items()}}.items():
        values[key] = Steps(z)
    for key, of_params in (("", params), ("d", grads), ("δ", direction)):
        for field, p in zip(cell.Params._fields, of_params):
            values[key + field] = p if p.ndim == 2 else p[:, None]
    for field, s, ds, first, δ in zip(cell.State._fields, states, dstates, ds0, δstates):
        values[field], values[f"δ{field}"] = Steps(columns(s)), Steps(columns(δ))
        values[f"d{field}"] = Steps(np.concatenate([first.T[None], noted[f"d{field}"]]))
        values["ℓ" if field == "h" else f"ℓ{field}"] = Steps(columns(ds))
    values |= gates_of(name, tape, values)
    received = {f"d{field}": Steps(columns(ds)) for field, ds in zip(cell.State._fields, dstates)}
    functions = NONLINEARITIES.get(name, {"σ'": lambda a: sigmoid(a + 1j * STEP).imag / STEP})
    return Scope({**values, "H": H}, {"t": range(T)}, functions=functions, received=received)


NONLINEARITIES: dict[str, dict[str, Callable[[Any], Any]]] = {
    "rnn_tanh": {"f": np.tanh, "f'": lambda a: 1 / np.cosh(a) ** 2},
    "rnn_relu": {"f": lambda a: np.maximum(a, 0), "f'": lambda a: (a > 0) * 1.0},
}


def logit(s: Any) -> Any:
    """The inverse of σ."""
    return np.log(s) - np.log1p(-s)


def gates_of(name: str, tape: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Names of the gates as the cell's tape has them, of blocks of the parameters, and of blocks put together."""
    family = name.split("_")[0]
    gates, found = GATES[family], {}

    def stacked(base: str, parts: str) -> Steps:
        return Steps(np.concatenate([values[f"{base}_{gate}"].array for gate in parts], axis=1))

    if gates and name != "lstm_peephole":
        order = {"lstm": "ifog"}.get(family, gates)
        found |= {gate: Steps(tape.gates[:, k * H : (k + 1) * H]) for k, gate in enumerate(order)}
    if name == "lstm_peephole":
        found |= {
            f"{key}P_{gate}": values[f"{key}P"][k * H : (k + 1) * H]
            for key in ("", "d", "δ")
            for k, gate in enumerate("ifo")
        }
    for key in ("", "d", "δ"):
        for side in "ih":
            for k, gate in enumerate(gates):
                for part in ("W", "b"):
                    found[f"{key}{part}_{side}{gate}"] = values[f"{key}{part}_{side}h"][k * H : (k + 1) * H]
    if family == "lstm":
        found |= {key: stacked(key, gates) for key in ("a", "da", "δa")}
        if name == "lstm_projection":
            found |= {"m": Steps(values["o"].array * np.tanh(values["c"].array[1:]))}
    if name == "gru":
        values |= {"dv_r": values["du_r"], "dv_z": values["du_z"]}
        found |= {"v_n": Steps(tape.v_n)} | {key: stacked(key, gates) for key in ("u", "v", "du", "dv", "δu", "δv")}
    if name == "gru_reset_before":
        r, z, n = (found[gate].array for gate in "rzn")
        q = r * values["h"].array[:-1]
        u_r, u_z, u_n = (values[f"u_{gate}"].array for gate in "rzn")
        found |= {
            "q": Steps(q),
            "v_r": Steps(logit(r) - u_r),
            "v_z": Steps(logit(z) - u_z),
            "v_n": Steps(np.arctanh(n) - u_n),
        }
        found |= {f"da_{gate}": values[f"du_{gate}"] for gate in "rzn"} | {
            "u": stacked("u", gates),
            "da": stacked("du", gates),
        }
        for key in ("", "d", "δ"):
            for part in ("W", "b"):
                found[f"{key}{part}_h{{r,z}}"] = values[f"{key}{part}_hh"][: 2 * H]
    return found


# ---- page 1: the chain rule


def chain_scope(I: int, O: int, S: int) -> Scope:
    """h = tanh(W x + b) for S columns, and a loss that reads h twice; sizes of 1 give plain numbers."""
    rng = rng_of("chain", I, O, S)

    def draw(*shape: int) -> Any:
        return rng.standard_normal(shape)

    W, x, b, δW, δx, δb = draw(O, I), draw(1, S, I), draw(O), draw(O, I), draw(1, S, I), draw(O)
    dh_1, dh_2 = draw(O, S), draw(O, S)
    a = linear(x, W, b)
    δa = linear(x + 1j * STEP * δx, W + 1j * STEP * δW, b + 1j * STEP * δb).imag / STEP
    δh = np.tanh(a + 1j * STEP * δa).imag / STEP
    # The same as one step of the plain recurrent cell, whose W_hh is 0.
    params = numpy_rnn.rnn.Params(W, np.zeros((O, O)), b, np.zeros(O))
    states, tape = numpy_rnn.rnn.forward(params, x, numpy_rnn.rnn.State(np.zeros((S, O))))
    upstream = np.stack([np.zeros((S, O)), (dh_1 + dh_2).T])
    grads, dx, _ = numpy_rnn.rnn.backward(tape, numpy_rnn.rnn.State(upstream))
    da = np.concatenate(
        [numpy_rnn.rnn.backward(*one_sequence(tape, upstream, s))[0].b_ih[:, None] for s in range(S)], axis=1
    )
    assert_close("linear_dx", linear_dx(da.T[None], W), dx, 1e-14)
    assert_close("linear_dW", linear_dW(da.T[None], x), grads.W_ih, 1e-14)
    assert_close("linear_db", linear_db(da.T[None]), grads.b_ih, 1e-14)
    values = {
        **{"W": W, "x": x[0].T, "b": b[:, None], "a": a[0].T, "h": states.h[1].T},
        **{"δW": δW, "δx": δx[0].T, "δb": δb[:, None], "δa": δa[0].T, "δh": δh[0].T, "dh": dh_1 + dh_2, "da": da},
        **{"dW": grads.W_ih, "dx": dx[0].T, "db": grads.b_ih[:, None], "dh_1": dh_1, "dh_2": dh_2},
        **{"δL": np.sum((dh_1 + dh_2) * δh[0].T), "ones": np.ones((S, 1))},
    }
    if I == O == S == 1:
        values = {name.replace("W", "w"): np.asarray(value).reshape(()) for name, value in values.items()}
    return Scope(values, {"i": range(O), "j": range(I), "s": range(S)})


def one_sequence(tape: Any, dh: Any, b: int) -> tuple[Any, Any]:
    """A plain cell's tape and upstream gradient, of sequence b alone."""
    one = tape._replace(x=tape.x[:, b : b + 1], h=np.ascontiguousarray(tape.h[:, :, b : b + 1]))
    return one, numpy_rnn.rnn.State(dh[:, b : b + 1])


# ---- page 2: the plain cell: one unit; all columns abreast; outputs; sequences of different lengths


def unit_scope(cell: Any, parameters: Sequence[float], x: Any, h_0: float, dh: Any) -> Scope:
    """One unit, one input, one sequence: every quantity is a number."""
    w, u, b_ih, b_hh = parameters
    x, dh, s0 = np.reshape(x, (-1, 1, 1)), np.reshape(dh, (-1, 1, 1)), np.array([[h_0]])
    params = numpy_rnn.rnn.Params(np.array([[w]]), np.array([[u]]), np.array([b_ih]), np.array([b_hh]))
    states, tape = cell.forward(params, x, numpy_rnn.rnn.State(s0))
    grads, dx, ds0 = cell.backward(tape, numpy_rnn.rnn.State(dh))
    noted = textbook(cell.name, params, x, (s0,), (dh,))

    def flat(z: Any) -> Steps:
        return Steps(z.reshape(-1))

    values = {
        **{"T": len(x), "w": w, "u": u, "b": b_ih + b_hh, "x": flat(x), "h": flat(states.h), "a": flat(noted["a"])},
        **{"dh": flat(np.concatenate([ds0.h[None], noted["dh"]])), "da": flat(noted["da"]), "dx": flat(dx)},
        **{"dw": grads.W_ih[0, 0], "du": grads.W_hh[0, 0], "db": grads.b_ih[0], "ℓ": flat(dh)},
        "L": np.sum(dh * states.h),  # linear in the states
    }
    return Scope(values, {"t": range(len(x))}, functions=NONLINEARITIES[cell.name])


def random_unit_scope() -> Scope:
    rng = rng_of("unit")
    draw = rng.standard_normal
    return unit_scope(numpy_rnn.rnn.TANH, draw(4), draw(T), draw(), draw(T + 1))


def numbers_scope() -> Scope:
    return unit_scope(numpy_rnn.rnn.RELU, (2.0, 3.0, -1.0, 0.0), [3.0, -2.0], 2.0, [0.0, 0.0, 2.0])


def abreast_scope() -> Scope:
    scope = cell_scope("rnn_tanh")
    values = dict(scope.values)
    for name, columns_of in (("D", values["da"].array), ("X", values["x"].array), ("Y", values["h"].array[:-1])):
        values[name] = abreast(np.ascontiguousarray(columns_of))
    values["ones"] = np.ones((T * B, 1))
    values["dX"] = abreast(np.ascontiguousarray(values["dx"].array))
    return Scope(values)


def output_scope() -> Scope:
    """The article's class: an output after every step."""
    model = numpy_rnn.RNNFromScratch(I, H, R, dtype=np.float64, rng=0)
    rng = rng_of("outputs")
    x, h_0, dy = rng.standard_normal((B, T, I)), rng.standard_normal((B, H)), rng.standard_normal((B, T, R))
    y, _, tape = model.forward(x, h_0)
    grads, dx, _ = model.backward(tape, dy)
    ℓ = np.concatenate([np.zeros((1, B, H)), linear_dx(dy.swapaxes(0, 1), model.h2o.weight)])
    _, same, _ = model.cell.backward(tape.cell, numpy_rnn.rnn.State(ℓ))
    assert_close("dx", same, dx.swapaxes(0, 1), 1e-14)
    values = {
        **{
            "W_ho": model.h2o.weight,
            "b_o": model.h2o.bias[:, None],
            "h": Steps(columns(tape.h)),
            "ℓ": Steps(columns(ℓ)),
        },
        **{"y": Steps(y.transpose(1, 2, 0)), "dy": Steps(dy.transpose(1, 2, 0))},
        **{"dW_ho": grads["h2o.weight"], "db_o": grads["h2o.bias"][:, None]},
    }
    return Scope(values, {"t": range(T)})


def length_scopes() -> list[Scope]:
    """Sequences of 0, 2 and T steps in one batch, as `deep` runs them; each seen alone, its state held after its end."""
    cell, params, x, s0, dstates = case("rnn_tanh")
    lengths = [2, T, 0]
    dh = dstates.h.copy()
    y, s_n, tape = deep.forward(cell, [[params]], x, cell.State(s0.h[None]), np.array(lengths))
    ((grads,),), dx, ds0 = deep.backward(tape, dh[1:], cell.State(dh[:1]))
    scopes, total = [], np.zeros_like(params.W_hh)
    for b, n in enumerate(lengths):
        received = np.zeros((T + 1, H, 1))  # outputs of valid steps; what is sent to the final state, at the very end
        received[1 : n + 1, :, 0] = dh[1 : n + 1, b]
        received[T, :, 0] += dh[0, b]
        h = np.concatenate([s0.h[b][None], y[:n, b], np.repeat(s_n.h[0, b][None], T - n, axis=0)])[:, :, None]
        da, running = np.zeros((T, H, 1)), np.zeros((T + 1, H, 1))
        upstream = received[: n + 1].copy()
        upstream[n] = received[n:].sum(axis=0)
        states = cell.forward(params, x[:n, b : b + 1], cell.State(s0.h[b : b + 1]))[1]
        noted = (
            textbook("rnn_tanh", params, x[:n, b : b + 1], (s0.h[b : b + 1],), (upstream[:, None, :, 0],)) if n else {}
        )
        assert len(states.h) == n + 1
        running[n:] = np.cumsum(received[n:][::-1], axis=0)[::-1]
        if n:
            da[:n], running[1 : n + 1] = noted["da"], noted["dh"]
        running[0] = ds0.h[0, b][:, None]
        total += np.sum(da @ h[:-1].swapaxes(1, 2), axis=0)
        a = x[:, b] @ params.W_ih.T + params.b_ih + params.b_hh + h[:-1, :, 0] @ params.W_hh.T
        values = {"n": n, "T": T, "h": Steps(h), "a": Steps(a[:, :, None]), "W_hh": params.W_hh, "W_ih": params.W_ih}
        values |= {"da": Steps(da), "dh": Steps(running), "dx": Steps(dx[:, b][:, :, None])}
        scopes.append(
            Scope(values, {"t": range(T)}, functions=NONLINEARITIES["rnn_tanh"], received={"dh": Steps(received)})
        )
    assert_close("dW_hh", total, grads.W_hh, 1e-13)
    return scopes


# ---- page 6: truncation and clipping


def window_scopes() -> list[Scope]:
    """Windows (k1, k2) over 8 steps of one layer: overlapping, side by side, and all of them from step 0 on."""
    return [window_scope(k1, k2) for k1, k2 in ((3, 5), (3, 3), (3, 11))]


def window_scope(k1: int, k2: int, steps: int = 8) -> Scope:
    cell, params, x, s0, dstates = case("rnn_tanh", steps)
    dstates.h[0] = 0  # an output stands after each step; there is none of the initial state
    dy, ds_n = dstates.h[1:].copy(), dstates.h[:1] * 0
    _, _, tape = deep.forward(cell, [[params]], x, cell.State(s0.h[None]))
    ((grads,),), dx, ds0 = truncated.backward(tape, dy, cell.State(ds_n), k1, k2)
    windows = truncated.windows(steps, k1, k2)
    states, _ = cell.forward(params, x, s0)
    noted = []
    for back, start, stop in windows:
        sent = dstates.h[back : stop + 1].copy()
        sent[: start - back + 1] = 0
        one = textbook("rnn_tanh", params, x[back:stop], (states.h[back],), (sent,))
        first = params.W_hh.T @ one["da"][0] + columns(sent)[0]
        noted.append((one["da"], np.concatenate([first[None], one["dh"]])))
    full = textbook("rnn_tanh", params, x, s0, dstates)
    a = full["a"]
    names = ("b", "s", "e")
    values: dict[str, Any] = {name: np.array([w[k] for w in windows]) for k, name in enumerate(names)}
    nothing = np.ones((H, B))  # outside a window nothing is defined: a formula must not look there

    def inside_window(part: int) -> Callable[[int, int], Any]:
        return lambda w, t: (
            noted[w][part][t - windows[w].back] if 0 <= t - windows[w].back < len(noted[w][part]) else nothing
        )

    values["da"], values["dh"] = inside_window(0), inside_window(1)
    values |= {"T": steps, "k1": k1, "k2": k2, "x": Steps(columns(x)), "h": Steps(columns(states.h)), "a": Steps(a)}
    values |= {
        "W_hh": params.W_hh,
        "W_ih": params.W_ih,
        "dW_ih": grads.W_ih,
        "dW_hh": grads.W_hh,
        "dx": Steps(columns(dx)),
    }
    values |= {
        "db_ih": grads.b_ih[:, None],
        "db_hh": grads.b_hh[:, None],
        "dh_0": ds0.h[0].T,
        "ℓ": Steps(columns(dstates.h)),
    }

    def inside(at: Indices) -> range:
        return range(windows[at["w"]].back, windows[at["w"]].stop)

    return Scope(
        values, {"t": inside, "w": range(len(windows)), "m": range(steps)}, functions=NONLINEARITIES["rnn_tanh"]
    )


def in_one_column(arrays: dict[str, Any]) -> Any:
    return np.concatenate([z.ravel() for z in arrays.values()])[:, None]


def clip_scopes() -> list[Scope]:
    """Gradients longer and shorter than allowed, and the step that an optimizer takes with them."""
    scopes = []
    for max_norm in (1.5, 100.0):
        rng = rng_of("clip", max_norm)
        grads = {"W": rng.standard_normal((H, I)), "b": rng.standard_normal(H)}
        before = in_one_column(grads)
        norm = optim.clip_grad_norm(grads, max_norm)
        after = in_one_column(grads)
        params = {name: rng.standard_normal(g.shape) for name, g in grads.items()}
        old = in_one_column(params)
        optim.SGD(params, lr=0.1).step(grads)
        values = {
            "g": before,
            "ĝ": after,
            "norm": norm,
            "max_norm": max_norm,
            "lr": 0.1,
            "δθ": in_one_column(params) - old,
        }
        scopes.append(Scope(values))
    return scopes


def cut_scope() -> Scope:
    g = rng_of("cut").standard_normal((H, 1))
    cut = {"g": g.copy()}
    optim.clip_grad_value(cut, 0.5)
    return Scope({"g": g, "ĝ": cut["g"], "v": 0.5})


# ---- losses


def loss_scopes(loss: Callable[..., Any]) -> dict[str, list[Scope]]:
    """By an equation's number: a loss's values on random rows, one of which is ignored; mean and sum."""
    rng = rng_of("loss", loss.__name__)
    found: dict[str, list[Scope]] = {}
    for reduction in ("mean", "sum"):
        if loss is losses.mean_squared_error:
            y, target = rng.standard_normal((2, B, R, 1))
            y, target = y.reshape(-1, 1), target.reshape(-1, 1)
            value, dy = loss(y, target, reduction)
            N = y.size if reduction == "mean" else 1
            scope = Scope({"y": y, "target": target, "loss": value, "dy": dy, "N": N})
            scopes = {"1": [scope], "1'": [scope]}
        else:
            scopes = softmax_scopes(rng.standard_normal((T, R)), reduction)
        for number, of_one in scopes.items():
            found.setdefault(number, []).extend(of_one)
    return found


def softmax_scopes(z: Any, reduction: Any) -> dict[str, list[Scope]]:
    """Rows by themselves, whose l and p are the loss of the row alone with its own and with every other target."""
    cross_entropy = losses.softmax_cross_entropy
    targets = np.array([3, -100, *range(len(z) - 2)])
    value, dz = cross_entropy(z, targets, reduction=reduction)
    kept = [row for row, k in enumerate(targets) if k >= 0]
    rows, l, dl = [], [], []
    for row in kept:
        k, K = targets[row], z.shape[1]
        p = np.exp([-cross_entropy(z[row : row + 1], [j], reduction="sum")[0] for j in range(K)])
        one, dz_alone = cross_entropy(z[row : row + 1], [k], reduction="sum")
        l.append(one)
        dl.append(dz[row, k] / dz_alone[0, k])  # the chain rule
        values = {"z": z[row][:, None], "p": p[:, None], "dz": dz[row][:, None], "k": k, "m": np.max(z[row])}
        rows.append(Scope({**values, "l": one, "dl": dl[-1]}, {"j": range(K)}))
    N = len(kept) if reduction == "mean" else 1
    whole = [Scope({"l": np.array(l)[:, None], "loss": value, "N": N, "dl": np.array(dl)[:, None]})]
    return {"1": rows, "1'": rows, "2": whole, "2'": [Scope({**whole[0].values, "dl": d}) for d in dl]}


# ---- page 7: why gradients vanish; page 8: real-time recurrent learning


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
        found = []
        for k, p in enumerate(params):
            for entry in range(p.size):
                direction = type(params)(*(np.zeros_like(q) for q in params))
                direction[k].ravel()[entry] = 1
                unmoved = later == 0
                found.append(
                    run(
                        max(later - 1, 0),
                        later,
                        params if unmoved else moved(params, direction),
                        at(max(later - 1, 0)),
                        upper,
                    )
                )
        size = sum(s.shape[2] for s in states)
        initial = np.eye(size) if later == 0 else np.zeros((size, size))
        return np.concatenate([np.stack(found, axis=1), initial], axis=1)

    return jacobian


def unchanged(params: Any) -> Any:
    return params


def alone(name: str, b: int, change: Callable[[Any], Any] = unchanged) -> tuple[Any, Any, Any, Any, Any, Any]:
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


def jacobian_scopes(name: str, change: Callable[[Any], Any] = unchanged, saturated: bool = False) -> list[Scope]:
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
    cell = numpy_rnn.rnn.RELU
    W = np.array([[2.0, -2.0], [2.0, -2.0]])
    params = numpy_rnn.rnn.Params(np.zeros((2, 1)), W, np.array([10.0, -1e6]), np.zeros(2))
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
        params = numpy_rnn.lstm.Params(np.zeros((4, 1)), np.zeros((4, 1)), bias, np.zeros(4))
        states, _ = numpy_rnn.lstm.forward(params, np.zeros((steps, 1, 1)), numpy_rnn.lstm.State(*np.ones((2, 1, 1))))
        c = states.c.reshape(-1)
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
    made = {
        "x": x,
        "y": y,
        "w": w,
        "sum": x + y,
        "prod": x * y,
        "sig": rtrl.sigma(x),
        "tan": rtrl.tanh(x),
        "a": rtrl.linear(W, w, b),
    }
    names = {"sum": "p", "prod": "q", "sig": "s", "tan": "g"}
    values: dict[str, Any] = {}
    for key, z in made.items():
        values[names.get(key, key)], values[f"P{names.get(key, key)}"] = z.value.T, z.P[:, 0].T
    values |= {"W": W.value, "b": b.value[:, None], "Pb": b.P.T, "PW": lambda j: W.P[:, :, j].T}
    return Scope(values, {"j": range(I)}, columns="?")


# ---- pages: which scopes a number's formulas are evaluated in


def scopes_of(page: str) -> dict[str, list[Scope]]:
    """By page, then by the letter that a number begins with; a digit is "": the equations of a cell's docstring."""
    makers: dict[str, dict[str, Callable[[], Scope | Sequence[Scope]]]] = {
        "1-chain-rule": {
            "S": lambda: chain_scope(1, 1, 1),
            "V": lambda: chain_scope(I, H, 1),
            "B": lambda: chain_scope(I, H, B),
        },
        "2-rnn": {
            "U": random_unit_scope,
            "P": numbers_scope,
            "": lambda: [cell_scope("rnn_tanh"), cell_scope("rnn_relu")],
            "F": lambda: cell_scope("rnn_tanh"),
            "A": abreast_scope,
            "Y": output_scope,
            "M": length_scopes,
        },
        "3-lstm": {"": lambda: cell_scope("lstm")},
        "4-gru": {"": lambda: cell_scope("gru")},
        "5-gru-reset-before": {"": lambda: cell_scope("gru_reset_before")},
        "6-truncation-and-clipping": {"W": window_scopes, "N": clip_scopes, "Q": cut_scope},
        "7-vanishing-gradients": {
            "J": plain_scopes,
            "E": linear_scopes,
            "X": half_scope,
            "C": memory_scopes,
            "K": lambda: jacobian_scopes("lstm", lambda p: p._replace(W_hh=p.W_hh * 0)),
            "H": decay_scopes,
            "G": lambda: jacobian_scopes("gru"),
            "T": flow_scopes,
        },
        "8-real-time-recurrent-learning": {"R": rtrl_scopes, "D": dual_scope},
    }
    made = {letter: maker() for letter, maker in makers[page].items()}
    return {letter: list(found) if isinstance(found, list) else [found] for letter, found in made.items()}
