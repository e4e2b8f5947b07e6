"""Twenty-four recurrent layers as they are found in public, rebuilt: right ones, and wrong ones whose mistake is known.

Own code, one for each kind, in its own style and layout. Each runs a case and returns what its author would hand over,
under the names of `zoo.diagnose`. `IMPLEMENTATIONS` has all of them, each with the truth about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from wild.students import gru_class, lstm_in_columns, rnn_in_rows, rnn_stack

from numpy_rnn.verify import zoo


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def stable_sigmoid(z):
    """As scipy's expit: no overflow, no complex numbers."""
    e = np.exp(-np.abs(np.asarray(z, float)))
    return np.where(z >= 0, 1 / (1 + e), e / (1 + e))


def gates_in(order, a):
    """The rows of torch's i f g o in another order."""
    blocks = dict(zip("ifgo", np.split(a, 4)))
    return np.concatenate([blocks[gate] for gate in order])


def results(output, h_n, c_n=None, **gradients):
    found = {"output": output, "h_n": h_n[None], **gradients}
    return found if c_n is None else {**found, "c_n": c_n[None]}


# ---- LSTM


def batched_lstm(case):
    """One matrix (1 + I + H, 4H) with the bias in its first row; activations in arrays over all steps."""
    p = case.params[0][0]
    (T, B, I), H = case.x.shape, p.W_hh.shape[1]
    WLSTM = np.vstack([gates_in("ifog", w).T for w in ((p.b_ih + p.b_hh)[:, None], p.W_ih, p.W_hh)])
    Hin, Hout = np.zeros((T, B, 1 + I + H)), np.zeros((T, B, H))
    IFOGf, C, Ct = np.zeros((T, B, 4 * H)), np.zeros((T, B, H)), np.zeros((T, B, H))
    for t in range(T):
        Hin[t, :, 0] = 1
        Hin[t, :, 1 : 1 + I] = case.x[t]
        Hin[t, :, 1 + I :] = Hout[t - 1] if t else case.s0[0][0]
        IFOG = Hin[t] @ WLSTM
        IFOGf[t, :, : 3 * H] = sigmoid(IFOG[:, : 3 * H])
        IFOGf[t, :, 3 * H :] = np.tanh(IFOG[:, 3 * H :])
        prev = C[t - 1] if t else case.s0[1][0]
        C[t] = IFOGf[t, :, :H] * IFOGf[t, :, 3 * H :] + IFOGf[t, :, H : 2 * H] * prev
        Ct[t] = np.tanh(C[t])
        Hout[t] = IFOGf[t, :, 2 * H : 3 * H] * Ct[t]
    dIFOG, dC, dHin = np.zeros_like(IFOGf), np.zeros_like(C), np.zeros_like(Hin)
    dW, dHout = np.zeros_like(WLSTM), case.doutput.copy()
    dHout[T - 1] += case.ds_n[0][0]
    dC[T - 1] += case.ds_n[1][0]
    dh0 = dc0 = None
    for t in reversed(range(T)):
        i, f, o, g = np.split(IFOGf[t], 4, axis=1)
        dC[t] += (1 - Ct[t] ** 2) * o * dHout[t]
        prev = C[t - 1] if t else case.s0[1][0]
        parts = [g * dC[t] * i * (1 - i), prev * dC[t] * f * (1 - f), Ct[t] * dHout[t] * o * (1 - o)]
        dIFOG[t] = np.hstack([*parts, i * dC[t] * (1 - g**2)])
        dW += Hin[t].T @ dIFOG[t]
        dHin[t] = dIFOG[t] @ WLSTM.T
        if t:
            dC[t - 1] += f * dC[t]
            dHout[t - 1] += dHin[t, :, 1 + I :]
        else:
            dc0, dh0 = f * dC[t], dHin[t, :, 1 + I :]
    W = np.concatenate([np.split(dW, 4, axis=1)[k] for k in (0, 1, 3, 2)], axis=1).T
    gradients = {"dW_ih": W[:, 1 : 1 + I], "dW_hh": W[:, 1 + I :], "db_ih": W[:, 0], "db_hh": W[:, 0]}
    return results(Hout, Hout[-1], C[-1], dx=dHin[:, :, 1 : 1 + I], dh_0=dh0[None], dc_0=dc0[None], **gradients)


def lstm_steps(case, order="ifog", given="ifgo", forget=0.0, squash=sigmoid, slip=""):
    """A function for a step and one for its transpose, batch first, (N, T, D); dc is changed in place."""
    p = case.params[0][0]
    H = p.W_hh.shape[1]
    moved = (lambda w: w) if given == order else (lambda w: gates_in(order, w))
    Wx, Wh, b = moved(p.W_ih).T, moved(p.W_hh).T, moved(p.b_ih + p.b_hh)

    def step(x, h, c):
        a = dict(zip(order, np.split(x @ Wx + h @ Wh + b, 4, axis=1)))
        i, f, o, g = squash(a["i"]), squash(a["f"] + forget), squash(a["o"]), np.tanh(a["g"])
        new = f * c + i * g
        return o * np.tanh(new), new, (x, h, c, i, f, o, g, new)

    def step_backward(dh, dc, cache):
        x, h, c, i, f, o, g, new = cache
        t = np.tanh(new)
        if slip != "dc lacks dh":
            dc += dh * o * (1 - t**2)
        d = {"i": dc * g * i * (1 - i), "f": dc * c * f * (1 - f), "o": dh * t * o * (1 - o), "g": dc * i * (1 - g**2)}
        da = np.hstack([d[gate] for gate in order])
        return da @ Wx.T, da @ Wh.T, dc * f, x.T @ da, h.T @ da, da.sum(axis=0)

    x = case.x.swapaxes(0, 1)
    (N, T, _), h, c = x.shape, case.s0[0][0], case.s0[1][0]
    hs, caches = np.zeros((N, T, H)), []
    for t in range(T):
        h, c, cache = step(x[:, t], h, c)
        hs[:, t] = h
        caches.append(cache)
    h_n, c_n = h, c
    dh, dc = case.ds_n[0][0].copy(), case.ds_n[1][0].copy()
    dx, dWx, dWh, db = np.zeros_like(x), np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b)
    for t in reversed(range(T)):
        dx[:, t], dh, dc, *parts = step_backward(dh + case.doutput[t], dc, caches[t])
        if slip == "dedented":
            continue
        for total, part in zip((dWx, dWh, db), parts):
            total += part
    if slip == "dedented":  # the lines that add up stand after the loop
        for total, part in zip((dWx, dWh, db), parts):
            total += part
    where = [order.index(gate) for gate in given] if given != order else range(4)
    dWx, dWh, db = (np.concatenate([np.split(w.T, 4)[k] for k in where]) for w in (dWx, dWh, db))
    gradients = {"dW_ih": dWx, "dW_hh": dWh, "db_ih": db, "db_hh": db}
    return results(hs.swapaxes(0, 1), h_n, c_n, dx=dx.swapaxes(0, 1), dh_0=dh[None], dc_0=dc[None], **gradients)


def with_expit(case):
    return lstm_steps(case, squash=stable_sigmoid)


def time_layers(case):
    """A class for a step and one for all of them, gates f g i o in one matrix, states in float32 buffers."""

    class Step:
        def __init__(self, Wx, Wh, b):
            self.params, self.grads = [Wx, Wh, b], [np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b)]

        def forward(self, x, h, c):
            Wx, Wh, b = self.params
            f, g, i, o = np.split(x @ Wx + h @ Wh + b, 4, axis=1)
            f, g, i, o = sigmoid(f), np.tanh(g), sigmoid(i), sigmoid(o)
            self.cache = (x, h, c, i, f, g, o, f * c + g * i)
            return o * np.tanh(self.cache[-1]), self.cache[-1]

        def backward(self, dh, dc):
            Wx, Wh, _ = self.params
            x, h, c, i, f, g, o, c_next = self.cache
            t = np.tanh(c_next)
            ds = dc + dh * o * (1 - t**2)
            parts = [ds * c * f * (1 - f), ds * i * (1 - g**2), ds * g * i * (1 - i), dh * t * o * (1 - o)]
            dA = np.hstack(parts)
            for grad, value in zip(self.grads, (x.T @ dA, h.T @ dA, dA.sum(axis=0))):
                grad[...] = value
            return dA @ Wx.T, dA @ Wh.T, ds * f

    p = case.params[0][0]
    params = [np.asarray(gates_in("fgio", w).T, "f") for w in (p.W_ih, p.W_hh, p.b_ih + p.b_hh)]
    T, B, _ = case.x.shape
    h, c = np.asarray(case.s0[0][0], "f"), np.asarray(case.s0[1][0], "f")
    hs, layers = np.empty((T, B, h.shape[1]), dtype="f"), []
    for t in range(T):
        layers.append(Step(*params))
        h, c = layers[-1].forward(np.asarray(case.x[t], "f"), h, c)
        hs[t] = h
    h_n, c_n = h, c
    dxs, totals = np.empty(case.x.shape, dtype="f"), [0, 0, 0]
    dh, dc = np.asarray(case.ds_n[0][0], "f"), np.asarray(case.ds_n[1][0], "f")
    for t in reversed(range(T)):
        dxs[t], dh, dc = layers[t].backward(np.asarray(case.doutput[t], "f") + dh, dc)
        totals = [total + grad for total, grad in zip(totals, layers[t].grads)]
    dWx, dWh, db = (np.concatenate([np.split(w.T, 4)[k] for k in (2, 0, 1, 3)]) for w in totals)
    gradients = {"dW_ih": dWx, "dW_hh": dWh, "db_ih": db, "db_hh": db}
    return results(hs, h_n, c_n, dx=dxs, dh_0=dh[None], dc_0=dc[None], **gradients)


def batch_first_by_mistake(case):
    """A layer that takes (B, T, I), called with (T, B, I): it walks along the second axis."""
    p = case.params[0][0]
    N, S, _ = case.x.shape
    h = c = np.zeros((N, p.W_hh.shape[1]))
    hs = []
    for s in range(S):
        i, f, g, o = np.split(case.x[:, s] @ p.W_ih.T + h @ p.W_hh.T + p.b_ih + p.b_hh, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        hs.append(h)
    return {"output": np.stack(hs, axis=1)}


# ---- RNN


def rnn_steps(case, calls=1):
    """An object with `forward`, `backward` and gradients that add up until somebody sets them to zero."""

    class Layer:
        def __init__(self, Wx, Wh, b):
            self.Wx, self.Wh, self.b = Wx, Wh, b
            self.dWx, self.dWh, self.db = np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b)

        def forward(self, x, h0):
            self.x, self.h = x, [h0]
            for x_t in x:
                self.h += [np.tanh(x_t @ self.Wx + self.h[-1] @ self.Wh + self.b)]
            return np.stack(self.h[1:])

        def backward(self, dout, dh):
            dx = []
            for t in range(len(self.x) - 1, -1, -1):
                da = (dout[t] + dh) * (1 - self.h[t + 1] ** 2)
                self.dWx += self.x[t].T @ da
                self.dWh += self.h[t].T @ da
                self.db += da.sum(axis=0)
                dx.append(da @ self.Wx.T)
                dh = da @ self.Wh.T
            return np.stack(dx[::-1]), dh

    p = case.params[0][0]
    layer = Layer(p.W_ih.T, p.W_hh.T, p.b_ih + p.b_hh)
    for _ in range(calls):
        y = layer.forward(case.x, case.s0[0][0])
        dx, dh = layer.backward(case.doutput, case.ds_n[0][0])
    gradients = {"dW_ih": layer.dWx.T, "dW_hh": layer.dWh.T, "db_ih": layer.db, "db_hh": layer.db}
    return results(y, y[-1], dx=dx, dh_0=dh[None], **gradients)


def two_epochs(case):
    return rnn_steps(case, calls=2)


def characters(case, clip=None):
    """Dictionaries of states by step, -1 for the first, column vectors of one sequence; what comes back is clipped."""
    p = case.params[0][0]
    bh = (p.b_ih + p.b_hh)[:, None]
    xs, hs = {}, {-1: case.s0[0][0].T}
    for t in range(len(case.x)):
        xs[t] = case.x[t].T
        hs[t] = np.tanh(p.W_ih @ xs[t] + p.W_hh @ hs[t - 1] + bh)
    dWxh, dWhh, dbh = np.zeros_like(p.W_ih), np.zeros_like(p.W_hh), np.zeros_like(bh)
    dhnext = case.ds_n[0][0].T
    for t in reversed(range(len(case.x))):
        dh = case.doutput[t].T + dhnext
        dhraw = (1 - hs[t] * hs[t]) * dh
        dbh += dhraw
        dWxh += np.dot(dhraw, xs[t].T)
        dWhh += np.dot(dhraw, hs[t - 1].T)
        dhnext = np.dot(p.W_hh.T, dhraw)
    if clip:
        for dparam in (dWxh, dWhh, dbh):
            np.clip(dparam, -clip, clip, out=dparam)
    y = np.stack([hs[t].T for t in range(len(case.x))])
    return results(y, y[-1], dW_ih=dWxh, dW_hh=dWhh, db_ih=dbh[:, 0], db_hh=dbh[:, 0])


def clipped_characters(case):
    return characters(case, clip=5)


def truncated_loops(case, K=4):
    """For each step's loss, a loop back over at most K steps."""
    p = case.params[0][0]
    s = np.zeros((len(case.x) + 1, *case.s0[0][0].shape))
    s[-1] = case.s0[0][0]
    for t in range(len(case.x)):
        s[t] = np.tanh(case.x[t] @ p.W_ih.T + s[t - 1] @ p.W_hh.T + p.b_ih + p.b_hh)
    dU, dW = np.zeros_like(p.W_ih), np.zeros_like(p.W_hh)
    for t in np.arange(len(case.x))[::-1]:
        delta = case.doutput[t] * (1 - s[t] ** 2)
        for step in np.arange(max(0, t - K), t + 1)[::-1]:
            dU += delta.T @ case.x[step]
            dW += delta.T @ s[step - 1]
            delta = (delta @ p.W_hh) * (1 - s[step - 1] ** 2)
    return {"output": s[:-1], "dW_ih": dU, "dW_hh": dW}


# ---- GRU


def list_of_caches(case, reset="after"):
    """A function a step that returns its cache, in rows; reset after the product with W_hn, or before it."""
    p = case.params[0][0]
    (Wr, Wz, Wn), (Ur, Uz, Un) = np.split(p.W_ih, 3), np.split(p.W_hh, 3)
    (br, bz, bn), (cr, cz, cn) = np.split(p.b_ih, 3), np.split(p.b_hh, 3)
    h, caches, hs = case.s0[0][0], [], []
    for x in case.x:
        r, z = sigmoid(x @ Wr.T + br + h @ Ur.T + cr), sigmoid(x @ Wz.T + bz + h @ Uz.T + cz)
        s = h @ Un.T + cn if reset == "after" else (r * h) @ Un.T + cn
        n = np.tanh(x @ Wn.T + bn + (r * s if reset == "after" else s))
        caches.append((x, h, r, z, n, s))
        h = (1 - z) * n + z * h
        hs.append(h)
    grads = {name: [0, 0, 0] for name in ("dW_ih", "dW_hh", "db_ih", "db_hh")}
    dh, dxs = case.ds_n[0][0], []
    for dy, (x, h, r, z, n, s) in zip(case.doutput[::-1], caches[::-1]):
        dh = dh + dy
        dan = dh * (1 - z) * (1 - n * n)
        daz = dh * (h - n) * z * (1 - z)
        ds = dan * r if reset == "after" else dan
        dar = (dan * s if reset == "after" else (ds @ Un) * h) * r * (1 - r)
        seen = h if reset == "after" else r * h
        for k, (da, dv, v) in enumerate(((dar, dar, h), (daz, daz, h), (dan, ds, seen))):
            for name, g in (("dW_ih", da.T @ x), ("dW_hh", dv.T @ v), ("db_ih", da.sum(0)), ("db_hh", dv.sum(0))):
                grads[name][k] = grads[name][k] + g
        dxs.append(dar @ Wr + daz @ Wz + dan @ Wn)
        dh = dh * z + dar @ Ur + daz @ Uz + (ds @ Un if reset == "after" else (ds @ Un) * r)
    stacked = {name: np.concatenate(g) for name, g in grads.items()}
    return results(np.stack(hs), hs[-1], dx=np.stack(dxs[::-1]), dh_0=dh[None], **stacked)


def reset_before(case):
    return list_of_caches(case, reset="before")


# ---- the table


class Implementation(NamedTuple):
    """An implementation, where the like of it is found, and the truth about it."""

    title: str
    cell: str
    run: Callable[[Any], dict[str, Any]]
    truth: str = ""  # "" if it is right
    names: frozenset[str] = frozenset()  # of the zoo's mistakes that it makes
    says: str = ""  # where it is no mistake of the zoo: what `diagnose` has to say
    sizes: Mapping[str, Any] = MappingProxyType({})

    def case(self):
        """A problem of its own."""
        case = zoo.random_case(self.title, self.cell, **{"T": 6, "B": 3, "I": 2, "H": 4, **self.sizes})
        if self.sizes.get("zero_state"):
            case = case._replace(ds_n=tuple(np.zeros_like(ds) for ds in case.ds_n))
        return case


def wrong(title, cell, run, truth, *names, says="", **sizes):
    return Implementation(title, cell, run, truth, frozenset(names), says, sizes)


def with_slip(run, slip, **options):
    def sloppy(case):
        return run(case, slip=slip, **options)

    return sloppy


RAGGED = {"L": 2, "D": 2, "lengths": (4, 6, 2)}
IMPLEMENTATIONS = [
    Implementation("batched LSTM, one matrix, bias in its first row", "lstm", batched_lstm),
    Implementation("LSTM step by step, batch first, dc changed in place", "lstm", lstm_steps),
    Implementation("LSTM with a sigmoid that takes no complex numbers", "lstm", with_expit),
    Implementation("LSTM of time layers, float32 buffers, gates f g i o", "lstm", time_layers),
    Implementation("LSTM in columns, four matrices, a list of caches", "lstm", lstm_in_columns),
    Implementation("RNN class, h @ W", "rnn_tanh", rnn_steps),
    Implementation("RNN of characters, dictionaries of states", "rnn_tanh", characters, sizes={"B": 1}),
    Implementation("RNN of relu in one array, torch's weights transposed", "rnn_relu", rnn_in_rows),
    Implementation("GRU, a list of caches, torch's weights", "gru", list_of_caches),
    Implementation("GRU with the reset before the product", "gru_reset_before", reset_before),
    Implementation("stack, two directions, sorted by length and put back", "rnn_tanh", rnn_stack, sizes=RAGGED),
    wrong(
        "LSTM in columns, each gate's gradient one long line",
        "lstm",
        with_slip(lstm_in_columns, "second term alone derived"),
        "the parentheses around dc and what comes from h are missing",
        "lstm-da-derivative-of-dc_h-alone",
    ),
    wrong(
        "LSTM whose sums over time stand after the loop",
        "lstm",
        with_slip(lstm_steps, "dedented"),
        "dW and db hold the first step's part alone",
        "weight-gradient-of-the-first-step-alone",
        "bias-gradient-of-the-first-step-alone",
    ),
    wrong(
        "LSTM with derivative functions that apply σ and tanh",
        "lstm",
        with_slip(lstm_in_columns, "activated twice"),
        "σ' and tanh' of activated values",
        "lstm-derivatives-of-activated-values",
    ),
    wrong(
        "LSTM of one cell object for all steps",
        "lstm",
        with_slip(lstm_in_columns, "one cache"),
        "the cell's cache is the last step's",
        "cache-of-the-last-step",
    ),
    wrong(
        "LSTM with an epsilon in the sigmoid",
        "lstm",
        with_slip(lstm_steps, "dc lacks dh", squash=lambda z: sigmoid(z + 1e-10)),
        "dc lacks what comes from h",
        "lstm-dc-from-h-dropped",
        says="Apart from that",
    ),
    wrong(
        "LSTM of gates f g i o that is handed torch's i f g o",
        "lstm",
        with_slip(lstm_steps, "", order="fgio", given="fgio"),
        "the gates stand in another order",
        "lstm-gates-fgio",
    ),
    wrong(
        "LSTM with TensorFlow 1's weights",
        "lstm",
        with_slip(lstm_steps, "", order="igfo", given="igfo", forget=-1.0),
        "order i g f o, and the forget bias of 1 is lost",
        "lstm-gates-igfo",
        "lstm-forget-bias-lost",
    ),
    wrong(
        "LSTM that takes (B, T, I), called with (T, B, I)",
        "lstm",
        batch_first_by_mistake,
        "batch and time have changed places",
        says="batch and time have changed places",
    ),
    wrong(
        "RNN of characters with clipping",
        "rnn_tanh",
        clipped_characters,
        "the parameter gradients are clipped to ±5",
        "gradients-clipped",
        B=1,
    ),
    wrong(
        "RNN with a loop back from each step's loss",
        "rnn_tanh",
        truncated_loops,
        "truncated to 4 steps",
        says="the loss of each step reaches 4 steps back only",
        T=8,
        zero_state=True,
    ),
    wrong(
        "RNN class, trained without setting gradients to zero",
        "rnn_tanh",
        two_epochs,
        "gradients are those of two calls",
        "gradients-of-two-calls",
    ),
    wrong(
        "GRU class, np.sum without an axis",
        "gru",
        with_slip(gru_class, "np.sum without axis"),
        "each gate's bias gradient is one number",
        "bias-gradient-summed-over-each-gate",
    ),
    wrong(
        "GRU with Keras' old default, torch's weights",
        "gru",
        reset_before,
        "the reset gate acts before the product",
        "gru-reset-before-for-after",
    ),
]
