"""Recurrent networks whole, in one file, to be read in one sitting, retyped and ported: NumPy alone.

Step t reads x_t and turns the state h_t into h_{t+1}. A forward line is an equation with its number behind it, a line
marked (3') is part of the transpose of equation (3), and dz is the gradient of the loss by z. There is one bias b as in
min-char-rnn: torch.nn's second would get the same gradient, and Adagrad would move the sum of both twice as far.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np

Arrays = dict[str, Any]  # by name: all that a network reads (v), what it keeps for the way back (tape), its gradients


def rnn_forward(v: Arrays) -> Arrays:
    """Return the states h (T+1, H)."""
    W_ih, W_hh, b, x, h = v["W_ih"], v["W_hh"], v["b"], v["x"], {0: v["h_0"]}
    for t in range(len(x)):
        a = W_ih @ x[t] + W_hh @ h[t] + b  # (1)
        h[t + 1] = np.tanh(a)  # (2)
    return {"h": np.stack([*h.values()])}


def rnn_backward(v: Arrays, tape: Arrays, dh: Any) -> Arrays:
    """Return the gradients. dh (T+1, H) is what the loss sends to each h directly; what comes back in time is added."""
    W_ih, W_hh, x, h = v["W_ih"], v["W_hh"], v["x"], tape["h"]
    dW_ih, dW_hh, db, dx = (np.zeros_like(v[name]) for name in ("W_ih", "W_hh", "b", "x"))
    for t in reversed(range(len(x))):
        da = dh[t + 1] * (1 - h[t + 1] ** 2)  # (2')
        dh[t] += W_hh.T @ da  # (1')
        dx[t] = W_ih.T @ da  # (1')
        dW_ih += np.outer(da, x[t])  # (1')
        dW_hh += np.outer(da, h[t])  # (1')
        db += da  # (1')
    return {"W_ih": dW_ih, "W_hh": dW_hh, "b": db, "x": dx, "h_0": dh[0]}


def sigmoid(a: Any) -> Any:
    """Return σ(a) = 1 / (1 + exp(-a)), in a form that cannot overflow."""
    return 0.5 * (1 + np.tanh(0.5 * a))


def lstm_forward(v: Arrays) -> Arrays:
    """Return the states h and c (T+1, H) and the gates i, f, g, o (T, H)."""
    W_ih, W_hh, b, x, h, c, gates = v["W_ih"], v["W_hh"], v["b"], v["x"], {0: v["h_0"]}, {0: v["c_0"]}, []
    for t in range(len(x)):
        a_i, a_f, a_g, a_o = np.split(W_ih @ x[t] + W_hh @ h[t] + b, 4)  # (1)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)  # (2)
        c[t + 1] = f * c[t] + i * g  # (3)
        h[t + 1] = o * np.tanh(c[t + 1])  # (4)
        gates.append((i, f, g, o))
    return {"h": np.stack([*h.values()]), "c": np.stack([*c.values()]), **dict(zip("ifgo", np.stack(gates, axis=1)))}


def lstm_backward(v: Arrays, tape: Arrays, dh: Any) -> Arrays:
    """Return the gradients, as above. The loss sends nothing to c directly: dc begins at zero."""
    W_ih, W_hh, x, h, c, dc = v["W_ih"], v["W_hh"], v["x"], tape["h"], tape["c"], np.zeros_like(dh)
    dW_ih, dW_hh, db, dx = (np.zeros_like(v[name]) for name in ("W_ih", "W_hh", "b", "x"))
    for t in reversed(range(len(x))):
        i, f, g, o = (tape[name][t] for name in "ifgo")
        do = dh[t + 1] * np.tanh(c[t + 1])  # (4')
        dc[t + 1] += dh[t + 1] * o * (1 - np.tanh(c[t + 1]) ** 2)  # (4')
        di = dc[t + 1] * g  # (3')
        df = dc[t + 1] * c[t]  # (3')
        dg = dc[t + 1] * i  # (3')
        dc[t] += dc[t + 1] * f  # (3')
        da_i = di * i * (1 - i)  # (2')
        da_f = df * f * (1 - f)  # (2')
        da_g = dg * (1 - g**2)  # (2')
        da_o = do * o * (1 - o)  # (2')
        da = np.concatenate([da_i, da_f, da_g, da_o])
        dh[t] += W_hh.T @ da  # (1')
        dx[t] = W_ih.T @ da  # (1')
        dW_ih += np.outer(da, x[t])  # (1')
        dW_hh += np.outer(da, h[t])  # (1')
        db += da  # (1')
    return {"W_ih": dW_ih, "W_hh": dW_hh, "b": db, "x": dx, "h_0": dh[0], "c_0": dc[0]}


CELLS = {"rnn": (rnn_forward, rnn_backward, 1), "lstm": (lstm_forward, lstm_backward, 4)}  # and the number of gates


def forward(cell: str, v: Arrays, targets: Any) -> tuple[Any, Arrays]:
    """Return the loss of predicting the symbols `targets` (T,), and the tape."""
    tape, loss = {**CELLS[cell][0](v), "p": []}, 0.0
    for t in range(len(targets)):
        y = v["W_ho"] @ tape["h"][t + 1] + v["b_o"]  # (5)
        tape["p"].append(np.exp(y) / np.sum(np.exp(y)))  # (6); with float32 subtract max(y) first: exp(89) overflows
        loss -= np.log(tape["p"][t][targets[t]])  # (7)
    return loss, tape


def backward(cell: str, v: Arrays, targets: Any, tape: Arrays) -> Arrays:
    """Return the gradient of the loss by everything in v."""
    dh, dW_ho, db_o = np.zeros_like(tape["h"]), np.zeros_like(v["W_ho"]), np.zeros_like(v["b_o"])
    for t in reversed(range(len(targets))):
        dy = tape["p"][t] - np.eye(len(v["b_o"]))[targets[t]]  # (7') (6')
        dh[t + 1] = v["W_ho"].T @ dy  # (5')
        dW_ho += np.outer(dy, tape["h"][t + 1])  # (5')
        db_o += dy  # (5')
    return {**CELLS[cell][1](v, tape, dh), "W_ho": dW_ho, "b_o": db_o}


def random_parameters(cell: str, K: int, H: int, rng: np.random.Generator) -> Arrays:
    """Draw small weights for K symbols and H units; biases are zero."""
    GH = CELLS[cell][2] * H
    shapes = {"W_ih": (GH, K), "W_hh": (GH, H), "W_ho": (K, H), "b": (GH,), "b_o": (K,)}
    return {name: 0.01 * rng.standard_normal(n) if "W" in name else np.zeros(n) for name, n in shapes.items()}


def reading(params: Arrays, text: Any, before: Arrays | None = None) -> Arrays:
    """Return what `forward` reads: symbols as one-hot vectors; states carried over from the tape `before`, or zero."""
    before = before or dict.fromkeys("hc", np.zeros((1, params["W_ho"].shape[1])))
    return {**params, "x": np.eye(len(params["b_o"]))[text], **{f"{s}_0": before[s][-1] for s in "hc" if s in before}}


def check_gradients(cell: str, rng: np.random.Generator) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the relative errors of all gradients of a small problem, nothing in which is zero, and all its numbers."""
    shapes = reading(random_parameters(cell, 5, 4, rng), [0] * 6)
    v, targets = {name: 0.5 * rng.standard_normal(z.shape) for name, z in shapes.items()}, rng.integers(5, size=6)
    (loss, tape), errors = forward(cell, v, targets), {}
    grads = backward(cell, v, targets, tape)
    for name, dz in grads.items():  # a complex step along each axis e: dz = Im loss(z + ise) / s, exact to rounding
        steps = (v[name] + 1e-30j * e for e in np.eye(dz.size).reshape(-1, *dz.shape))
        true = np.reshape([forward(cell, {**v, name: z}, targets)[0].imag / 1e-30 for z in steps], dz.shape)
        errors[name] = float(np.max(np.abs(dz - true)) / np.max(np.abs(true)))
    return errors, {"values": {k: v[k] for k in grads}, "targets": targets, "tape": tape, "loss": loss, "grads": grads}


def train(cell: str, params: Arrays, text: Any, window: int = 25, rate: float = 0.1) -> Iterator[float]:
    """Train `params` in place as Karpathy's min-char-rnn does: clipping, Adagrad. Yield the loss of every window."""
    squares, at = {name: np.zeros_like(param) for name, param in params.items()}, len(text)
    while True:
        if at + window + 1 >= len(text):
            at, tape = 0, None  # the text begins, or begins again
        v, targets = reading(params, text[at : at + window], tape), text[at + 1 : at + window + 1]
        loss, tape = forward(cell, v, targets)
        grads = backward(cell, v, targets, tape)
        for name, param in params.items():
            grad = np.clip(grads[name], -5, 5)
            squares[name] += grad**2
            param -= rate * grad / np.sqrt(squares[name] + 1e-8)
        at += window
        yield loss


def sample(cell: str, params: Arrays, symbol: int, tape: Arrays, rng: np.random.Generator) -> Iterator[int]:
    """Draw one symbol after the other, after `symbol` and all before it, of which `tape` is."""
    while True:
        _, tape = forward(cell, reading(params, [symbol], tape), [0])  # p is the same for any target
        symbol = int(rng.choice(len(params["b_o"]), p=tape["p"][0]))
        yield symbol


def main() -> None:
    """Check, train, sample."""
    parser = argparse.ArgumentParser(description="Check the gradients, train on characters, write a sample.")
    parser.add_argument("--cell", choices=CELLS, default="rnn")
    parser.add_argument("--text", type=Path, help="UTF-8 file to learn from (default: Python's own help)")
    for name, default in (("steps", 1000), ("hidden", 64), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    parser.add_argument("--dump", type=Path, help="write every number of the gradient check to this file")
    args = parser.parse_args()
    if args.steps < 1 or args.hidden < 1 or args.seed < 0:
        parser.error("--steps and --hidden must be at least 1, --seed at least 0")
    cell, rng = args.cell, np.random.default_rng(args.seed)
    errors, case = check_gradients(cell, rng)
    print("gradient check, relative errors:", *(f"{name} {error:.0e}" for name, error in errors.items()))
    if not all(error < 1e-10 for error in errors.values()):
        raise SystemExit("a gradient is WRONG")
    try:
        text = args.text.read_text("utf-8") if args.text else "".join(topics[name] for name in sorted(topics))
        if args.dump:
            args.dump.write_text(json.dumps(case, default=np.ndarray.tolist))
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"cannot use {getattr(error, 'filename', args.text)}: {error}") from None
    if len(text) < 30:
        raise SystemExit(f"{args.text} has {len(text)} characters, expected at least 30")
    symbols, ids = np.unique(list(text), return_inverse=True)
    held_out = min(2000, len(text) // 10)
    params, smooth = random_parameters(cell, len(symbols), args.hidden, rng), 25 * np.log(len(symbols))
    try:
        for step, loss in zip(range(1, args.steps + 1), train(cell, params, ids[:-held_out])):
            smooth = 0.999 * smooth + 0.001 * loss
            if step % 100 == 0:
                print(f"step {step:5}  smooth loss {smooth:.3f} = {smooth / 25 / np.log(2):.3f} bits per character")
    except KeyboardInterrupt:
        print("stopped")
    loss, tape = forward(cell, reading(params, ids[-held_out:-1]), ids[1 - held_out :])
    print(f"held-out text: {loss / (held_out - 1) / np.log(2):.3f} bits per character. A sample that continues it:")
    print("".join(symbols[k] for _, k in zip(range(400), sample(cell, params, ids[-1], tape, rng))))


if __name__ == "__main__":
    main()
