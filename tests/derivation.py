"""What the names in docs/learn/derivation and in the losses' docstrings stand for: values that the code computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from cases import NONLINEARITIES, STEP, B, H, I, R, T, case, cell_scope, textbook
from flows import (
    decay_scopes,
    dual_scope,
    flow_scopes,
    half_scope,
    jacobian_scopes,
    linear_scopes,
    memory_scopes,
    plain_scopes,
    rtrl_scopes,
)
from formulas import Indices, Scope, Steps
from support import assert_close, columns, rng_of

import numpy_rnn
from numpy_rnn.fast import deep, rnn, truncated
from numpy_rnn.fast.numerics import linear, linear_db, linear_dW, linear_dx, merge_steps
from numpy_rnn.layers import losses, optim

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
    params = rnn.Params(W, np.zeros((O, O)), b, np.zeros(O))
    states, tape = rnn.forward(params, x, rnn.State(np.zeros((S, O))))
    upstream = np.stack([np.zeros((S, O)), (dh_1 + dh_2).T])
    grads, dx, _ = rnn.backward(tape, rnn.State(upstream))
    da = np.concatenate([rnn.backward(*one_sequence(tape, upstream, s))[0].b_ih[:, None] for s in range(S)], axis=1)
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
    one = tape._replace(x=tape.x[:, b : b + 1], h=tape.h[:, b : b + 1])
    return one, rnn.State(dh[:, b : b + 1])


# ---- page 2: the plain cell: one unit; all columns abreast; outputs; sequences of different lengths


def unit_scope(cell: Any, parameters: Sequence[float], x: Any, h_0: float, dh: Any) -> Scope:
    """One unit, one input, one sequence: every quantity is a number."""
    w, u, b_ih, b_hh = parameters
    x, dh, s0 = np.reshape(x, (-1, 1, 1)), np.reshape(dh, (-1, 1, 1)), np.array([[h_0]])
    params = rnn.Params(np.array([[w]]), np.array([[u]]), np.array([b_ih]), np.array([b_hh]))
    states, tape = cell.forward(params, x, rnn.State(s0))
    grads, dx, ds0 = cell.backward(tape, rnn.State(dh))
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
    return unit_scope(rnn.TANH, draw(4), draw(T), draw(), draw(T + 1))


def numbers_scope() -> Scope:
    return unit_scope(rnn.RELU, (2.0, 3.0, -1.0, 0.0), [3.0, -2.0], 2.0, [0.0, 0.0, 2.0])


def abreast_scope() -> Scope:
    scope = cell_scope("rnn_tanh")
    values = dict(scope.values)
    for name, columns_of in (("D", values["da"].array), ("X", values["x"].array), ("Y", values["h"].array[:-1])):
        values[name] = merge_steps(np.ascontiguousarray(columns_of))
    values["ones"] = np.ones((T * B, 1))
    values["dX"] = merge_steps(np.ascontiguousarray(values["dx"].array))
    return Scope(values)


def output_scope() -> Scope:
    """The article's class: an output after every step."""
    model = numpy_rnn.RNNFromScratch(I, H, R, dtype=np.float64, rng=0)
    rng = rng_of("outputs")
    x, h_0, dy = rng.standard_normal((B, T, I)), rng.standard_normal((B, H)), rng.standard_normal((B, T, R))
    y, _, tape = model.forward(x, h_0)
    grads, dx, _ = model.backward(tape, dy)
    ℓ = np.concatenate([np.zeros((1, B, H)), linear_dx(dy.swapaxes(0, 1), model.h2o.weight)])
    _, same, _ = model.cell.backward(tape.cell, rnn.State(ℓ))
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
    values |= {"W_hh": params.W_hh, "W_ih": params.W_ih, "dW_ih": grads.W_ih, "dW_hh": grads.W_hh}
    values |= {"db_ih": grads.b_ih[:, None], "db_hh": grads.b_hh[:, None], "dh_0": ds0.h[0].T}
    values |= {"dx": Steps(columns(dx)), "ℓ": Steps(columns(dstates.h))}

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
        values = {"g": before, "ĝ": after, "norm": norm, "max_norm": max_norm, "lr": 0.1}
        scopes.append(Scope({**values, "δθ": in_one_column(params) - old}))
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
