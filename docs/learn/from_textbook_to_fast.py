"""The LSTM on its way from textbook/lstm.py to fast/lstm.py: six steps, each of which computes the same numbers.

`python docs/learn/from_textbook_to_fast.py` times them in about a minute; `pages.py --times` puts that into the page.
"""

import os
import time

import numpy as np

from numpy_rnn.fast import lstm as fast
from numpy_rnn.textbook import lstm as textbook
from numpy_rnn.textbook.lstm import sigmoid

# ---- Steps 1 to 4: one sequence, as in the textbook, x (T, I), h_0 and c_0 (H,).


def forward_1(params, x, h_0, c_0):
    """Merge the biases."""
    W_ih, W_hh, b_ih, b_hh = params
    b = b_ih + b_hh
    h, c, gates = {0: h_0}, {0: c_0}, []
    for t in range(len(x)):
        a_i, a_f, a_g, a_o = np.split(W_ih @ x[t] + W_hh @ h[t] + b, 4)  # (1)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)  # (2)
        c[t + 1] = f * c[t] + i * g  # (3)
        h[t + 1] = o * np.tanh(c[t + 1])  # (4)
        gates.append((i, f, g, o))
    return (np.stack(list(h.values())), np.stack(list(c.values()))), (params, x, h, c, gates)


def forward_2(params, x, h_0, c_0):
    """Hoist the input product out of the loop."""
    W_ih, W_hh, b_ih, b_hh = params
    Wx = x @ W_ih.T + (b_ih + b_hh)  # (1), all of it that needs no state
    h, c, gates = {0: h_0}, {0: c_0}, []
    for t in range(len(x)):
        a_i, a_f, a_g, a_o = np.split(Wx[t] + W_hh @ h[t], 4)  # (1)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)  # (2)
        c[t + 1] = f * c[t] + i * g  # (3)
        h[t + 1] = o * np.tanh(c[t + 1])  # (4)
        gates.append((i, f, g, o))
    return (np.stack(list(h.values())), np.stack(list(c.values()))), (params, x, h, c, gates)


def factors(c, tanh_c, gates):
    """Multiply beforehand what dh and dc are multiplied with in (4') … (2'), for all steps at once."""
    i, f, g, o = gates
    da_i, da_f, da_g = g * i * (1 - i), c[:-1] * f * (1 - f), i * (1 - g**2)  # (3') (2')
    da_o = tanh_c * o * (1 - o)  # (4') (2')
    return np.stack([da_i, da_f, da_g, da_o], axis=1), o * (1 - tanh_c**2)  # (4')


def backward_3(tape, dh_loss, dc_loss):
    """Premultiply the factors: inside the loop there remain the two running gradients, dh and dc."""
    (W_ih, W_hh, *_), x, h, c, gates = tape
    c, (i, f, g, o) = np.stack(list(c.values())), np.stack(gates, axis=1)
    da, dc_dh = factors(c, np.tanh(c[1:]), (i, f, g, o))  # da (T, 4, H) holds factors, for now
    dW_ih, dW_hh, db, _ = (np.zeros_like(w) for w in tape[0])
    dx, dh, dc = np.zeros_like(x), dh_loss.copy(), dc_loss.copy()
    for t in reversed(range(len(x))):
        da[t, 3] *= dh[t + 1]  # (4') (2')
        dc[t + 1] += dh[t + 1] * dc_dh[t]  # (4')
        da[t, :3] *= dc[t + 1]  # (3') (2')
        dc[t] += dc[t + 1] * f[t]  # (3')
        dh[t] += W_hh.T @ da[t].ravel()  # (1')
        dx[t] = W_ih.T @ da[t].ravel()  # (1')
        dW_ih += np.outer(da[t], x[t])  # (1')
        dW_hh += np.outer(da[t], h[t])  # (1')
        db += da[t].ravel()  # (1')
    return (dW_ih, dW_hh, db, db.copy()), dx, (dh[0], dc[0])


def backward_4(tape, dh_loss, dc_loss):
    """Sum the weights' gradients over all steps by one product."""
    (W_ih, W_hh, *_), x, h, c, gates = tape
    h, c, (i, f, g, o) = np.stack(list(h.values())), np.stack(list(c.values())), np.stack(gates, axis=1)
    da, dc_dh = factors(c, np.tanh(c[1:]), (i, f, g, o))
    dh, dc = dh_loss.copy(), dc_loss.copy()
    for t in reversed(range(len(x))):
        da[t, 3] *= dh[t + 1]  # (4') (2')
        dc[t + 1] += dh[t + 1] * dc_dh[t]  # (4')
        da[t, :3] *= dc[t + 1]  # (3') (2')
        dc[t] += dc[t + 1] * f[t]  # (3')
        dh[t] += W_hh.T @ da[t].ravel()  # (1')
    da = da.reshape(len(x), -1)
    db = da.sum(axis=0)  # (1')
    return (da.T @ x, da.T @ h[:-1], db, db.copy()), da @ W_ih, (dh[0], dc[0])  # (1')


# ---- Steps 5 and 6: the whole batch, x (T, B, I), h_0 and c_0 (B, H). In the loop, vectors are columns, B of them.


def columns(z):
    """Copy the rows of every step into columns, or back: (T, B, R) ↔ (T, R, B)."""
    return np.array(z.swapaxes(1, 2), order="C")


def forward_5(params, x, h_0, c_0):
    """Put the sequences side by side, each a column."""
    W_ih, W_hh, b_ih, b_hh = params
    Wx = columns(x @ W_ih.T + (b_ih + b_hh))  # (1), all of it that needs no state
    h, c, gates = {0: h_0.T}, {0: c_0.T}, []
    for t in range(len(x)):
        a_i, a_f, a_g, a_o = np.split(Wx[t] + W_hh @ h[t], 4)  # (1)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)  # (2)
        c[t + 1] = f * c[t] + i * g  # (3)
        h[t + 1] = o * np.tanh(c[t + 1])  # (4)
        gates.append((i, f, g, o))
    h, c = np.stack(list(h.values())), np.stack(list(c.values()))
    return (columns(h), columns(c)), (params, x, h, c, np.tanh(c[1:]), np.stack(gates, axis=1))


def backward_5(tape, dh_loss, dc_loss):
    """Sum over sequences too by one product: the columns of all steps and sequences side by side."""
    (W_ih, W_hh, *_), x, h, c, tanh_c, (i, f, g, o) = tape
    (T, B, I), H = x.shape, W_hh.shape[1]
    da, dc_dh = factors(c, tanh_c, (i, f, g, o))
    dh, dc = columns(dh_loss), columns(dc_loss)
    for t in reversed(range(T)):
        da[t, 3] *= dh[t + 1]  # (4') (2')
        dc[t + 1] += dh[t + 1] * dc_dh[t]  # (4')
        da[t, :3] *= dc[t + 1]  # (3') (2')
        dc[t] += dc[t + 1] * f[t]  # (3')
        dh[t] += W_hh.T @ da[t].reshape(4 * H, B)  # (1')
    da = da.reshape(T, 4 * H, B).swapaxes(0, 1).reshape(4 * H, T * B)
    db = da.sum(axis=1)  # (1')
    dW_ih, dW_hh = da @ x.reshape(T * B, I), da @ columns(h[:-1]).reshape(T * B, H)  # (1')
    return (dW_ih, dW_hh, db, db.copy()), (da.T @ W_ih).reshape(T, B, I), (dh[0].T, dc[0].T)  # (1')


def sigmoids_first(W):
    """Order the rows of W or b as gates o, i, f, g, and halve the first three: σ(a) = (1 + tanh(a / 2)) / 2."""
    i, f, g, o = np.split(W, 4)
    return np.concatenate([0.5 * o, 0.5 * i, 0.5 * f, g])


def forward_6(params, x, h_0, c_0):
    """Take one tanh for all gates, in place."""
    W_ih, W_hh, b = map(sigmoids_first, (params[0], params[1], params[2] + params[3]))
    (T, B, _), H = x.shape, h_0.shape[1]
    oifg = columns(x @ W_ih.T + b)  # (1), all of it that needs no state
    o, i, f, g = oifg.reshape(T, 4, H, B).swapaxes(0, 1)  # views
    h, c, tanh_c = (np.empty((n, H, B), x.dtype) for n in (T + 1, T + 1, T))
    h[0], c[0] = h_0.T, c_0.T
    for t in range(T):
        oifg[t] += W_hh @ h[t]  # (1)
        np.tanh(oifg[t], out=oifg[t])  # (2)
        oifg[t, : 3 * H] *= 0.5  # (2)
        oifg[t, : 3 * H] += 0.5  # (2)
        c[t + 1] = f[t] * c[t] + i[t] * g[t]  # (3)
        tanh_c[t] = np.tanh(c[t + 1])  # (4)
        h[t + 1] = o[t] * tanh_c[t]  # (4)
    return (columns(h), columns(c)), (params, x, h, c, tanh_c, (i, f, g, o))


# ---- all of them alike


def each_sequence(forward, backward):
    """Let functions of one sequence serve a batch: one call a sequence, gradients of the parameters added up."""

    def run(params, x, h_0, c_0, dh_loss, dc_loss):
        states, grads, dx, ds0 = [], [np.zeros_like(p) for p in params], [], []
        for b in range(x.shape[1]):
            states_b, tape = forward(params, x[:, b], h_0[b], c_0[b])
            grads_b, dx_b, ds0_b = backward(tape, dh_loss[:, b], dc_loss[:, b])
            states.append(states_b), dx.append(dx_b), ds0.append(ds0_b)
            for total, grad in zip(grads, grads_b):
                total += grad
        h_c = tuple(np.stack(s, axis=1) for s in zip(*states))
        return h_c, tuple(grads), np.stack(dx, axis=1), tuple(map(np.stack, zip(*ds0)))

    return run


def whole_batch(forward, backward):
    """Run functions of a batch."""

    def run(params, x, h_0, c_0, dh_loss, dc_loss):
        states, tape = forward(params, x, h_0, c_0)
        return states, *backward(tape, dh_loss, dc_loss)

    return run


def fast_lstm(params, x, h_0, c_0, dh_loss, dc_loss):
    """What the layers call."""
    states, tape = fast.forward(fast.Params(*params), x, fast.State(h_0, c_0))
    return states, *fast.backward(tape, fast.State(dh_loss, dc_loss))


STEPS = {
    "0. the textbook, one sequence after the other": each_sequence(textbook.forward, textbook.backward),
    "1. biases merged": each_sequence(forward_1, textbook.backward),
    "2. input product hoisted": each_sequence(forward_2, textbook.backward),
    "3. factors premultiplied": each_sequence(forward_2, backward_3),
    "4. one product for the weights' gradients": each_sequence(forward_2, backward_4),
    "5. columns": whole_batch(forward_5, backward_5),
    "6. one tanh": whole_batch(forward_6, backward_5),
    "fast/lstm.py": fast_lstm,
}


def problem(T, B, I, H, rng):
    """Draw parameters, inputs, an initial state and a gradient for every state."""
    params = tuple(0.5 * rng.standard_normal(shape) for shape in ((4 * H, I), (4 * H, H), (4 * H,), (4 * H,)))
    shapes = (T, B, I), (B, H), (B, H), (T + 1, B, H), (T + 1, B, H)
    return params, *(rng.standard_normal(shape) for shape in shapes)


SIZES = (50, 1, 32, 32), (50, 16, 32, 64)  # T, B, I, H


def times(sizes, rounds):
    """Return the least CPU time of each step, forward and backward, in milliseconds; the steps take turns."""
    arguments, least = problem(*sizes, np.random.default_rng(0)), dict.fromkeys(STEPS, np.inf)
    for _ in range(rounds):
        for name, run in STEPS.items():
            begin = time.process_time()
            run(*arguments)
            least[name] = min(least[name], 1000 * (time.process_time() - begin))
    return least


def table(rounds=20):
    """Time everything; return a table in Markdown and what it was measured on."""
    measured = [times(sizes, rounds) for sizes in SIZES]
    lines = ["| ms of CPU time | " + " | ".join("T={}, B={}, I={}, H={} | ×".format(*sizes) for sizes in SIZES) + " |"]
    lines.append("|---|" + "--:|" * 2 * len(SIZES))
    for name in STEPS:
        ms = [(column[name], next(iter(column.values())) / column[name]) for column in measured]
        lines.append(f"| {name} | " + " | ".join(f"{value:.2f} | {ratio:.1f}" for value, ratio in ms) + " |")
    with open("/proc/cpuinfo") as file:
        processor = next(line.partition(": ")[2].strip() for line in file if line.startswith("model name"))
    return "\n".join(lines), f"{processor}, one thread, float64, NumPy {np.__version__}, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    print(*table(), sep="\n\n")
