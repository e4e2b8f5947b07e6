"""Correct layers as people write them: buffers, lists, classes, in place, float32, loss inside. Each has a gradient.

Own code, of kinds that were seen in public implementations. `LAYERS` maps what is special about each to a function, its
gradient and its number of gates. All take x (T, B, I), h0 (B, H), Wx (I, G·H), Wh (H, G·H) and b (G·H,).
"""

from __future__ import annotations

import numpy as np

NAMES = ("x", "h0", "Wx", "Wh", "b")


def inputs(seed, gates, T=4, B=2, I=3, H=4):
    rng = np.random.default_rng(seed)
    shapes = ((T, B, I), (B, H), (I, gates * H), (H, gates * H), (gates * H,))
    return {name: 0.7 * rng.standard_normal(shape) for name, shape in zip(NAMES, shapes)}


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def real_sigmoid(a):
    """As scipy.special.expit, which takes no complex numbers."""
    if np.iscomplexobj(a):
        raise TypeError("ufunc 'expit' not supported for the input types")
    return sigmoid(a)


# ---- the plain RNN


def buffer(x, h0, Wx, Wh, b, f=np.tanh, dtype=float):
    """States go into an array that was made beforehand."""
    h = np.zeros((len(x), *h0.shape), dtype)
    for t in range(len(x)):
        h[t] = f(x[t] @ Wx + (h[t - 1] if t else h0) @ Wh + b)
    return h


def rnn_backward(x, h0, Wx, Wh, b, h, dh, df):
    dx, dWx, dWh, db, after = (np.zeros_like(a) for a in (x, Wx, Wh, b, h0))
    for t in reversed(range(len(x))):
        da = (dh[t] + after) * df(h[t])
        dx[t], after = da @ Wx.T, da @ Wh.T
        dWx += x[t].T @ da
        dWh += (h[t - 1] if t else h0).T @ da
        db += da.sum(axis=0)
    return dx, after, dWx, dWh, db


def tanh_derivative(h):
    return 1 - h**2


def rnn(forward=buffer, **options):
    def vjp(inputs, upstream):
        h = buffer(*inputs, **options)
        return rnn_backward(*inputs, h, upstream[0], tanh_derivative)

    return (lambda *a: forward(*a, **options)), vjp


def into_a_list(x, h0, Wx, Wh, b):
    h, found = h0, []
    for x_t in x:
        h = np.tanh(x_t @ Wx + h @ Wh + b)
        found.append(h)
    return np.stack(found)


def in_place(x, h0, Wx, Wh, b):
    """The initial state is overwritten."""
    found = []
    for x_t in x:
        h0[...] = np.tanh(x_t @ Wx + h0 @ Wh + b)
        found.append(h0.copy())
    return np.stack(found)


def relu():
    def f(*a):
        return buffer(*a, f=lambda z: np.maximum(0, z))

    return f, lambda inputs, upstream: rnn_backward(*inputs, f(*inputs), upstream[0], lambda h: h > 0)


def softmax_loss():
    """The mean negative logarithm of unit 1's probability; gradients by name."""

    def probabilities(h):
        e = np.exp(h - h.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    def loss(*a):
        return -np.log(probabilities(buffer(*a))[..., 1]).mean()

    def vjp(inputs, upstream):
        h = buffer(*inputs)
        p = probabilities(h)
        p[..., 1] -= 1
        dh = upstream[0] * p / p[..., 0].size
        return dict(zip(NAMES, rnn_backward(*inputs, h, dh, tanh_derivative)))

    return loss, vjp


def one_step_by_scipy():
    def f(x, h0, Wx, Wh, b):
        return real_sigmoid(x @ Wx + h0 @ Wh + b)

    def vjp(inputs, upstream):
        x, h0, Wx, Wh, _ = inputs
        s = f(*inputs)
        da = upstream[0] * s * (1 - s)
        return da @ Wx.T, da.sum(axis=0) @ Wh.T, np.einsum("tbi,tbj->ij", x, da), h0.T @ da.sum(axis=0), da.sum((0, 1))

    return f, vjp


# ---- gates


def lstm(loss=False, dtype=float):
    """Gates in the order i, f, o, g; c starts at zero. With `loss`, half the squared states are summed up."""

    def run(x, h0, Wx, Wh, b):
        states, h, c, tape = np.zeros((len(x), *h0.shape), dtype), h0, np.zeros(h0.shape), []
        for t, x_t in enumerate(x):
            i, f, o, g = np.split(x_t @ Wx + h @ Wh + b, 4, axis=1)
            i, f, o, g = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
            tape.append((h, c, i, f, o, g))
            c = f * c + i * g
            states[t] = h = o * np.tanh(c)
        return states, tape

    def f(*a):
        states, _ = run(*a)
        return (states**2).sum() / 2 if loss else states

    def vjp(inputs, upstream):
        x, h0, Wx, Wh, _ = inputs
        states, tape = run(*inputs)
        dx, dh, dWx, dWh, db = (np.zeros_like(a) for a in inputs)
        dc = np.zeros_like(h0)
        for t in reversed(range(len(x))):
            h, c, i, f, o, g = tape[t]
            tanh_c = np.tanh(f * c + i * g)
            dh = dh + (upstream[0] * states[t] if loss else upstream[0][t])
            dc = dc + dh * o * (1 - tanh_c**2)
            da = np.hstack([dc * g * i * (1 - i), dc * c * f * (1 - f), dh * tanh_c * o * (1 - o), dc * i * (1 - g**2)])
            dx[t], dh, dc = da @ Wx.T, da @ Wh.T, dc * f
            dWx += x[t].T @ da
            dWh += h.T @ da
            db += da.sum(axis=0)
        return dx, dh, dWx, dWh, db

    return f, vjp


class GRU:
    """Reset before the product; gates r, z, n; what backward needs is kept in the object."""

    def forward(self, x, h0, Wx, Wh, b):
        self.tape, h, found, H = [], h0, [], h0.shape[1]
        for x_t in x:
            u = x_t @ Wx + b
            r, z = sigmoid(u[:, :H] + h @ Wh[:, :H]), sigmoid(u[:, H : 2 * H] + h @ Wh[:, H : 2 * H])
            n = np.tanh(u[:, 2 * H :] + (r * h) @ Wh[:, 2 * H :])
            self.tape.append((h, r, z, n))
            h = z * h + (1 - z) * n
            found.append(h)
        return np.array(found)

    def backward(self, inputs, upstream):
        self.forward(*inputs)
        x, h0, Wx, Wh, _ = inputs
        H = h0.shape[1]
        dx, dh, dWx, dWh, db = (np.zeros_like(a) for a in inputs)
        for t in reversed(range(len(x))):
            h, r, z, n = self.tape[t]
            dh = dh + upstream[0][t]
            dn, dz = dh * (1 - z) * (1 - n**2), dh * (h - n) * z * (1 - z)
            dq = dn @ Wh[:, 2 * H :].T
            dr = dq * h * r * (1 - r)
            da = np.concatenate([dr, dz, dn], axis=1)
            dx[t] = da @ Wx.T
            dWx += x[t].T @ da
            dWh += np.concatenate([h.T @ dr, h.T @ dz, (r * h).T @ dn], axis=1)
            db += da.sum(axis=0)
            dh = dh * z + dq * r + dr @ Wh[:, :H].T + dz @ Wh[:, H : 2 * H].T
        return dx, dh, dWx, dWh, db


_gru = GRU()
LAYERS = {
    "RNN into a buffer": (*rnn(), 1),
    "RNN into a list": (*rnn(into_a_list), 1),
    "RNN in place": (*rnn(in_place), 1),
    "RNN into a float32 buffer": (*rnn(dtype="f"), 1),
    "RNN with relu": (*relu(), 1),
    "softmax inside": (*softmax_loss(), 1),
    "scipy's sigmoid": (*one_step_by_scipy(), 1),
    "LSTM": (*lstm(), 4),
    "LSTM, loss inside": (*lstm(loss=True), 4),
    "LSTM into a float32 buffer": (*lstm(dtype="f"), 4),
    "GRU in a class": (_gru.forward, _gru.backward, 3),
}
FLOAT32 = {name for name in LAYERS if "float32" in name}
