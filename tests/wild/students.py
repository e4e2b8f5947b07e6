"""Layers as students write them, each with slips that can be switched on by what was done.

Own code, of kinds that were seen in public; nothing of the textbook or of `numpy_rnn.fast` is called. Each function runs
a case of the zoo and returns its numbers under the zoo's names.
"""

from __future__ import annotations

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def relu(z):
    return np.maximum(z, 0)


def lstm_in_columns(case, slip="", calls=1):
    """As in courses: a weight matrix and a line for each gate, vectors as columns (units, sequences), a list of caches."""
    p = case.params[0][0]
    n = p.W_hh.shape[1]
    order = "figo" if "order f i g o" in slip else "ifgo"
    bias = p.b_ih + p.b_hh
    W, U, b = {}, {}, {}
    for k, gate in enumerate(order):
        rows = slice(k * n, (k + 1) * n)
        W[gate], U[gate], b[gate] = p.W_ih[rows], p.W_hh[rows], bias[rows, None]
    if slip == "recurrent weights not loaded":
        U = {gate: np.zeros_like(u) for gate, u in U.items()}
    if slip == "reshaped gate by gate":  # columns of a file that should have been transposed
        W = {gate: w.T.reshape(w.shape) for gate, w in W.items()}
        U = {gate: u.T.reshape(u.shape) for gate, u in U.items()}
    if slip == "reshaped":
        w, u = p.W_ih.reshape(p.W_ih.shape[::-1]), p.W_hh.reshape(p.W_hh.shape[::-1])
        W = {gate: v.T for gate, v in zip("ifgo", np.split(w, 4, axis=1))}
        U = {gate: v.T for gate, v in zip("ifgo", np.split(u, 4, axis=1))}
    forget = 1 if "bias added" in slip else -1 if "bias lost" in slip else 0
    act = relu if slip == "relu" else np.tanh
    dact = (lambda y: y > 0) if slip == "relu" else (lambda y: 1 - y**2)
    h, c = (s[0].T.copy() for s in case.s0)
    if slip == "begins with zeros":
        h, c = np.zeros_like(h), np.zeros_like(c)
    kept_dh = kept_dc = 0
    grads = None
    for call in range(calls):
        if slip != "state kept" and call:
            h, c = (s[0].T.copy() for s in case.s0)
        caches, outputs = [], []
        for x in case.x:
            xt = x.T
            z = {gate: W[gate] @ xt + U[gate] @ h + b[gate] for gate in "ifgo"}
            if slip == "bias outside":
                z = {gate: z[gate] - b[gate] for gate in z}
            i, f, g, o = sigmoid(z["i"]), sigmoid(z["f"] + forget), act(z["g"]), sigmoid(z["o"])
            if slip == "bias outside":
                i, f, g, o = i + b["i"], f + b["f"], g + b["g"], o + b["o"]
            c_next = (f + 1 if slip == "forget bias after the sigmoid" else f) * c + i * g
            h_next = o * act(c_next)
            caches.append((xt, h, c, i, f, g, o, c_next))
            h, c = h_next, c_next
            outputs.append(h.T)
        dh, dc = (ds[0].T.copy() for ds in case.ds_n)
        if slip == "begins backward with zeros":
            dh, dc = np.zeros_like(dh), np.zeros_like(dc)
        if slip == "running gradient kept":
            dh, dc = dh + kept_dh, dc + kept_dc
        if grads is None or slip != "gradients kept":
            grads = {f"{kind}{gate}": 0.0 for kind in "WUb" for gate in "ifgo"}
        dx = []
        for t in reversed(range(len(case.x))):
            xt, hp, cp, i, f, g, o, cn = caches[-1] if slip == "one cache" else caches[t]
            th = act(cn)
            up = case.doutput[t].T
            dh = dh + up
            late = dh * o * dact(th)
            if slip == "(1 - tanh)²":
                late = dh * o * (1 - th) ** 2
            whole = dc + late
            si, sf, so = i * (1 - i), f * (1 - f), o * (1 - o)
            dg_, df_ = dact(g), sf
            if slip == "activated twice":
                si, sf, so = (sigmoid(y) * (1 - sigmoid(y)) for y in (i, f, o))
                df_, dg_ = sf, 1 - np.tanh(g) ** 2
                whole = dc + dh * o * (1 - np.tanh(th) ** 2)
            if slip == "sigmoid' for the candidate":
                dg_ = g * (1 - g)
            do = (up if slip == "o from the upstream" else dh) * th * so
            di, df, dg = whole * g * si, whole * cp * df_, whole * i * dg_
            if slip == "second term alone derived":
                di, df, dg = dc * g + late * g * si, dc * cp + late * cp * sf, dc * i + late * i * dg_
            if slip == "first term alone derived":
                di, df, dg = late * g + dc * g * si, late * cp + dc * cp * sf, late * i + dc * i * dg_
            if slip == "second term alone derived, in the input gate":
                di = dc * g + late * g * si
            if slip == "second term alone derived, in two gates":
                di, df = dc * g + late * g * si, dc * cp + late * cp * sf
            if slip == "factor on the second term":
                di, df, dg = (dc + late * g) * si, (dc + late * cp) * sf, (dc + late * i) * dg_
            if slip == "no parentheses":
                di, df, dg = dc + late * g * si, dc + late * cp * sf, dc + late * i * dg_
            if slip == "gates anew":
                zi, zf = (W[q] @ xt + U[q] @ hp + b["o"] for q in "if")
                di = whole * g * sigmoid(zi) * (1 - sigmoid(zi))
                df = whole * cp * sigmoid(zf) * (1 - sigmoid(zf))
            if slip == "bias outside":
                di, df = (whole * y * (v - b[q]) * (1 - v + b[q]) for y, v, q in ((g, i, "i"), (cp, f, "f")))
                dg, do = whole * i * (1 - (g - b["g"]) ** 2), dh * th * (o - b["o"]) * (1 - o + b["o"])
            d = {"i": di, "f": df, "g": dg, "o": do}
            for q in "ifgo":
                of = f if q == "f" and slip == "the gate in dW" else d[q]
                grads[f"W{q}"] = grads[f"W{q}"] + of @ xt.T
                grads[f"U{q}"] = grads[f"U{q}"] + of @ hp.T
                db = (
                    {"i": whole * g, "f": whole * cp, "g": whole * i, "o": dh * th}[q]
                    if slip == "bias outside"
                    else d[q]
                )
                if slip == "np.sum without axis":
                    grads[f"b{q}"] = grads[f"b{q}"] + np.full(n, np.sum(db))
                else:
                    grads[f"b{q}"] = grads[f"b{q}"] + np.sum(db, axis=1)
            back = dict(d)
            if slip == "the gate goes back":
                back["f"] = f
            dx.append(sum(W[q].T @ back[q] for q in "ifgo").T)
            dh = sum(d.values()) if slip == "W_hh forgotten" else sum(U[q].T @ back[q] for q in "ifgo")
            carried = f + 1 if slip == "forget bias after the sigmoid" else i if slip == "dc *= i" else f
            dc = dc + late * f if slip == "parentheses of c_prev" else whole * carried
        kept_dh, kept_dc = dh, dc
    both = np.concatenate([grads[f"b{q}"] for q in order])
    return {
        "output": np.stack(outputs),
        "h_n": h.T[None],
        "c_n": c.T[None],
        "dx": np.stack(dx[::-1]),
        "dh_0": dh.T[None],
        "dc_0": dc.T[None],
        "dW_ih": np.concatenate([grads[f"W{q}"] for q in order]),
        "dW_hh": np.concatenate([grads[f"U{q}"] for q in order]),
        "db_ih": both,
        "db_hh": both,
    }


def rnn_in_rows(case, slip=""):
    """As in exercises: rows (sequences, units), h @ Wh, states in one array, tanh or relu."""
    p = case.params[0][0]
    Wx, Wh, b = p.W_ih.T.copy(), p.W_hh.T.copy(), p.b_ih + p.b_hh
    rectified = case.cell == "rnn_relu"
    T, B, _ = case.x.shape
    h, z = np.zeros((T + 1, B, len(b))), np.zeros((T, B, len(b)))
    h[0] = 0 if slip == "begins with zeros" else case.s0[0][0]
    if slip == "recurrent weights not loaded":
        Wh = np.zeros_like(Wh)
    if slip == "reshaped":
        Wx = p.W_ih.reshape(Wx.shape)
    for t in range(T):
        z[t] = case.x[t] @ Wx + h[t] @ Wh + b
        h[t + 1] = relu(z[t]) if rectified else np.tanh(z[t])
        if slip == "bias outside":
            h[t + 1] = (relu(z[t] - b) if rectified else np.tanh(z[t] - b)) + b
    dx, dWx, dWh, db = np.zeros_like(case.x), 0, 0, 0
    after = np.zeros_like(h[0]) if slip == "begins backward with zeros" else case.ds_n[0][0]
    for t in reversed(range(T)):
        dh = case.doutput[t] + after
        s = T - 1 if slip == "one cache" else t
        slope = (h[s + 1] > 0) if rectified else 1 - h[s + 1] ** 2
        if slip == "h >= 0":
            slope = h[t + 1] >= 0
        if slip == "a >= 0":
            slope = z[t] >= 0
        if slip == "sigmoid'":
            slope = h[t + 1] * (1 - h[t + 1])
        if slip == "activated twice":
            slope = 1 - np.tanh(h[t + 1]) ** 2
        if slip == "bias outside":
            slope = (z[t] > b) if rectified else 1 - (h[t + 1] - b) ** 2
        if slip == "one bias in backward":
            slope = 1 - np.tanh(z[t] - p.b_hh) ** 2
        dz = dh * slope
        if slip == "parentheses":
            dz = dh * 1 - h[t + 1] ** 2
        dx[t] = dz @ Wx.T
        dWx, dWh = dWx + case.x[s].T @ dz, dWh + h[s].T @ dz
        if slip == "np.sum without axis":
            db = db + np.sum(dz)
        else:
            db = db + np.sum(dh if slip == "bias outside" else dz, axis=0)
        after = dz if slip == "W_hh forgotten" else dh @ Wh.T if slip == "dh for da" else dz @ Wh.T
    db = db + np.zeros(len(b))
    return {
        "output": h[1:],
        "h_n": h[-1:],
        "dx": dx,
        "dh_0": after[None],
        "dW_ih": dWx.T,
        "dW_hh": dWh.T,
        "db_ih": db,
        "db_hh": db,
    }


class GRU:
    """A class for a layer, whose attributes are what backward needs; reset after the product, gates r, z, n."""

    def __init__(self, case, slip=""):
        self.case, self.slip = case, slip
        p = case.params[0][0]
        self.W = dict(zip("rzn", np.split(p.W_ih, 3)))
        self.U = dict(zip("rzn", np.split(p.W_hh, 3)))
        self.b = dict(zip("rzn", np.split(p.b_ih, 3)))
        self.d = dict(zip("rzn", np.split(p.b_hh, 3)))
        if slip == "recurrent weights not loaded":
            self.U = {q: 0 * u for q, u in self.U.items()}
        if slip == "reshaped gate by gate":
            self.W = {q: w.reshape(w.shape[::-1]).T for q, w in self.W.items()}
            self.U = {q: u.T for q, u in self.U.items()}

    def forward(self):
        h, self.tape, outputs = self.case.s0[0][0], [], []
        for x in self.case.x:
            u = {q: x @ self.W[q].T + self.b[q] for q in "rzn"}
            v = {q: h @ self.U[q].T + self.d[q] for q in "rzn"}
            r, z = sigmoid(u["r"] + v["r"]), sigmoid(u["z"] + v["z"])
            n = np.tanh(u["n"] + r * v["n"])
            self.tape.append((x, h, r, z, n, v["n"]))
            h = n + z * (h - n)
            outputs.append(h)
        return np.array(outputs), h

    def backward(self):
        W, U, slip = self.W, self.U, self.slip
        gW, gU, gb, gd = (dict.fromkeys("rzn", 0) for _ in range(4))
        dh, dxs = self.case.ds_n[0][0], []
        for t in reversed(range(len(self.tape))):
            x, h, r, z, n, vn = self.tape[-1 if slip == "one cache" else t]
            dh = dh + self.case.doutput[t]
            dn = dh * (1 - z) * (1 - n**2)
            if slip == "sigmoid' for the candidate":
                dn = dh * (1 - z) * n * (1 - n)
            dz = dh * (h - n) * z * (1 - z)
            if slip == "parentheses":
                dz = (dh * h - n) * z * (1 - z)
            dr = dn * vn * r * (1 - r)
            if slip == "gates anew":
                a = x @ W["r"].T + h @ U["r"].T + self.b["z"] + self.d["z"]
                dr = dn * vn * sigmoid(a) * (1 - sigmoid(a))
            du, dv = {"r": dr, "z": dz, "n": dn}, {"r": dr, "z": dz, "n": dn * r}
            for q in "rzn":
                gW[q], gU[q] = gW[q] + du[q].T @ x, gU[q] + dv[q].T @ h
                if slip == "np.sum without axis":
                    gb[q], gd[q] = gb[q] + np.full(n.shape[1], du[q].sum()), gd[q] + np.full(n.shape[1], dv[q].sum())
                else:
                    gb[q], gd[q] = gb[q] + du[q].sum(axis=0), gd[q] + dv[q].sum(axis=0)
            if slip == "the gate goes back":
                du, dv = {**du, "z": z}, {**dv, "z": z}
            dxs.insert(0, sum(du[q] @ W[q] for q in "rzn"))
            dh = dh * z + (sum(dv.values()) if slip == "W_hh forgotten" else sum(dv[q] @ U[q] for q in "rzn"))
        grads = {"dW_ih": gW, "dW_hh": gU, "db_ih": gb, "db_hh": gd}
        stacked = {name: np.concatenate([g[q] for q in "rzn"]) for name, g in grads.items()}
        return {**stacked, "dx": np.array(dxs), "dh_0": dh[None]}

    def run(self):
        outputs, h = self.forward()
        return {"output": outputs, "h_n": h[None], **self.backward()}


def gru_class(case, slip=""):
    return GRU(case, slip).run()


def rnn_stack(case, slip=""):
    """Layers of tanh in both directions over padded sequences of different lengths, one sequence after the other."""
    T, B, _ = case.x.shape
    lengths, L, D = list(case.all_lengths), len(case.params), len(case.params[0])
    x, s0, masks = case.x, case.s0[0], [*(case.masks or [])]
    order = np.argsort(-np.array(lengths), kind="stable") if slip.startswith("sorted") else np.arange(B)
    back = np.argsort(order)
    x, s0, lengths = x[:, order], s0[:, order], [lengths[b] for b in order]
    masks = [m[:, order] for m in masks]
    states, inputs = {}, []
    h_n, y = np.zeros_like(s0), x
    for l in range(L):
        y = y * masks[l - 1] if l and masks else y
        inputs.append(y)
        out = []
        for d in range(D):
            p, o = case.params[l][d], np.zeros((T, B, s0.shape[2]))
            for b, length in enumerate(lengths):
                steps = list(range(length))
                turned = steps[::-1] if d else steps
                read = steps if slip.startswith("reads forwards") else turned
                written = steps if slip == "reads forwards" else turned
                h = [s0[l * D + d, b]]
                for t, s in zip(read, written):
                    h.append(np.tanh(p.W_ih @ y[t, b] + p.b_ih + p.W_hh @ h[-1] + p.b_hh))
                    o[s, b] = h[-1]
                states[l, d, b] = h, read, written
                h_n[l * D + d, b] = h[-1]
            out.append(o)
        y = np.concatenate(out, axis=2)
    output = y
    dy, ds_n, dh_0 = case.doutput, case.ds_n[0], np.zeros_like(s0)
    if slip == "sorted":
        output, h_n = y, h_n
    else:
        output, h_n = y[:, back], h_n[:, back]
        dy, ds_n = dy[:, order], ds_n[:, order]
    grads = [[[np.zeros_like(w) for w in p] for p in layer] for layer in case.params]
    for l in reversed(range(L)):
        dx = np.zeros_like(inputs[l])
        for d in range(D):
            p, half = case.params[l][d], dy[:, :, d * s0.shape[2] : (d + 1) * s0.shape[2]]
            for b in range(B):
                h, read, written = states[l, d, b]
                dh = ds_n[l * D + d, b]
                if slip == "dh_n at max(lengths)" and lengths[b] < max(lengths):
                    dh = 0 * dh
                for k in reversed(range(len(read))):
                    da = (half[written[k], b] + dh) * (1 - h[k + 1] ** 2)
                    dx[read[k], b] += da @ p.W_ih
                    for total, g in zip(grads[l][d], (np.outer(da, inputs[l][read[k], b]), np.outer(da, h[k]), da, da)):
                        total += g
                    dh = da @ p.W_hh
                dh_0[l * D + d, b] = dh
        dy = dx * masks[l - 1] if l and masks else dx
    if slip != "sorted":
        dy, dh_0 = dy[:, back], dh_0[:, back]
    if slip == "layers swapped":
        grads = swapped(grads)
    if slip == "layers summed":
        total = [[add(a, b) for a, b in zip(p, q)] for p, q in zip(*grads)]
        grads = [
            [[t if t.shape == g.shape else g for t, g in zip(*two)] for two in zip(total, layer)] for layer in grads
        ]
    return case.named(output, [h_n], dy, [dh_0], grads)


def add(a, b):
    return a + b if a.shape == b.shape else np.zeros(0)


def swapped(grads):
    """The gradients of two layers exchanged, where that is possible."""
    first, second = ([[*p] for p in layer] for layer in grads)
    for p, q in zip(first, second):
        for k, (a, b) in enumerate(zip(p, q)):
            if a.shape == b.shape:
                p[k], q[k] = b, a
    return [first, second]


# What was done, by cell and function: the zoo's names of it.
SLIPS = {
    ("lstm", lstm_in_columns): {
        "": set(),
        "second term alone derived": {"lstm-da-derivative-of-dc_h-alone"},
        "first term alone derived": {"lstm-da-derivative-of-dc_c-alone"},
        "second term alone derived, in the input gate": {"lstm-da_i-derivative-of-dc_h-alone"},
        "second term alone derived, in two gates": {
            "lstm-da_i-derivative-of-dc_h-alone",
            "lstm-da_f-derivative-of-dc_h-alone",
        },
        "factor on the second term": {"lstm-dc-factor-of-dc_h-alone"},
        "no parentheses": {"lstm-da-product-with-dc_h-alone"},
        "parentheses of c_prev": {"lstm-f-carries-dc_h-alone"},
        "(1 - tanh)²": {"lstm-tanh-c-derivative-squared-as-a-whole"},
        "the gate goes back": {"lstm-f-sent-back-for-da_f"},
        "the gate in dW": {"lstm-f-for-da_f-in-dW"},
        "o from the upstream": {"lstm-do-from-the-upstream-alone"},
        "one cache": {"cache-of-the-last-step"},
        "np.sum without axis": {"bias-gradient-summed-over-each-gate"},
        "W_hh forgotten": {"da-sent-back-without-W_hh"},
        "activated twice": {"lstm-derivatives-of-activated-values"},
        "dc *= i": {"lstm-dc-carried-by-i"},
        "sigmoid' for the candidate": {"sigmoid-derivative-for-tanh"},
        "gates anew": {"lstm-derivative-of-i-anew-with-b_o", "lstm-derivative-of-f-anew-with-b_o"},
        "state kept": {"state-kept-between-calls"},
        "running gradient kept": {"running-gradient-kept-between-calls"},
        "gradients kept": {"gradients-of-two-calls"},
        "begins with zeros": {"h_0-and-c_0-ignored"},
        "begins backward with zeros": {"dh_n-and-dc_n-ignored"},
        "relu": {"lstm-relu-for-tanh"},
        "bias outside": {"bias-after-the-activation"},
        "forget bias after the sigmoid": {"lstm-forget-bias-after-the-sigmoid"},
        "recurrent weights not loaded": {"W_hh-not-loaded"},
        "bias added": {"lstm-forget-bias-added"},
        "bias lost": {"lstm-forget-bias-lost"},
        "bias added, order f i g o": {"lstm-forget-bias-added", "lstm-gates-figo"},
        "bias lost, order f i g o": {"lstm-forget-bias-lost", "lstm-gates-figo"},
    },
    ("rnn_tanh", rnn_in_rows): {
        "": set(),
        "W_hh forgotten": {"da-sent-back-without-W_hh"},
        "dh for da": {"rnn-dh-sent-back-for-da"},
        "sigmoid'": {"sigmoid-derivative-for-tanh"},
        "activated twice": {"tanh-derivative-of-the-activated-value"},
        "parentheses": {"tanh-derivative-without-parentheses"},
        "one bias in backward": {"derivative-anew-without-b_hh"},
        "one cache": {"cache-of-the-last-step"},
        "np.sum without axis": {"bias-gradient-summed-over-units"},
        "bias outside": {"bias-after-the-activation"},
        "recurrent weights not loaded": {"W_hh-not-loaded"},
        "begins with zeros": {"h_0-ignored"},
        "begins backward with zeros": {"dh_n-ignored"},
    },
    ("rnn_relu", rnn_in_rows): {
        "": set(),
        "h >= 0": {"relu-derivative-at-zero"},
        "a >= 0": {"relu-derivative-one-where-a-is-zero"},
        "W_hh forgotten": {"da-sent-back-without-W_hh"},
        "bias outside": {"bias-after-the-activation"},
    },
    ("gru", gru_class): {
        "": set(),
        "one cache": {"cache-of-the-last-step"},
        "sigmoid' for the candidate": {"sigmoid-derivative-for-tanh"},
        "parentheses": {"gru-dz-without-parentheses"},
        "gates anew": {"gru-derivative-of-r-anew-with-b_z"},
        "np.sum without axis": {"bias-gradient-summed-over-each-gate"},
        "the gate goes back": {"gru-z-sent-back-for-du_z"},
        "W_hh forgotten": {"da-sent-back-without-W_hh"},
        "recurrent weights not loaded": {"W_hh-not-loaded"},
    },
    ("rnn_tanh", rnn_stack): {
        "": set(),
        "sorted and put back": set(),
        "sorted": {"batch-in-sorted-order"},
        "dh_n at max(lengths)": {"dh_n-lands-in-the-padding"},
        "layers swapped": {"gradients-of-layers-swapped"},
        "layers summed": {"gradients-of-layers-summed"},
        "reads forwards": {"reverse-not-reversed"},
        "reads forwards, writes backwards": {"reverse-input-not-turned"},
    },
}
TWICE = {"state kept", "running gradient kept", "gradients kept"}  # which shows in a second call alone
# Loaded weights tell by outputs alone; their gradients are of other parameters than those that were handed in.
LOADED = {
    ("lstm", lstm_in_columns, "reshaped"): {"W_ih-in-the-other-layout", "W_hh-in-the-other-layout"},
    ("lstm", lstm_in_columns, "reshaped gate by gate"): {"W_ih-reshaped-for-transposed-by-gate", "W_hh-transposed"},
    ("rnn_tanh", rnn_in_rows, "reshaped"): {"W_ih-in-the-other-layout"},
    ("gru", gru_class, "reshaped gate by gate"): {"W_ih-in-the-other-layout-by-gate", "W_hh-transposed"},
}
