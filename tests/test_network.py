"""The network of everything that is trained: against the twin in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import assert_all_close, assert_close, rng_of

import torch_rnn.network
from numpy_rnn import load
from numpy_rnn.fast.registry import NETWORK_CELLS
from numpy_rnn.layers.network import Network

T, B, I, H, O, K = 5, 4, 3, 6, 2, 7
READS = ("every", "last", 3)


class Problem:
    """2 layers with random parameters, input with rubbish in the padding, and everything that comes from outside."""

    def __init__(self, cell, read, symbols, D, least=None):
        """`least`: of how many steps the shortest sequence is; None: all are of T."""
        rng = rng_of(cell, read, symbols, D, least)
        self.read, self.cell = read, cell
        self.arguments = dict(
            cell=cell, input_size=I, hidden_size=H, output_size=O, num_layers=2, bidirectional=D == 2, symbols=symbols
        )
        self.network = Network(**self.arguments, dtype=np.float64, rng=0)
        for p in self.network.state_dict().values():
            p[...] = 0.5 * rng.standard_normal(p.shape)
        self.lengths = None if least is None else np.array([4, 5, least, 3])
        self.valid = np.arange(T)[:, None] < (T if least is None else self.lengths) * np.ones(B)
        self.x = rng.integers(0, symbols, (T, B)) if symbols else rng.standard_normal((T, B, I))
        self.x[~self.valid] = 99 if symbols else np.nan  # no symbol at all
        states = [rng.standard_normal((2 * D, B, H)) for _ in range(4)]
        self.h_0, self.dh_n = (tuple(pair) if "lstm" in cell else pair[0] for pair in (states[:2], states[2:]))
        self.dy = rng.standard_normal({"every": (T, B, O), "last": (B, O)}.get(read, (3, B, O)))
        self.where = self.valid if read == "every" else slice(None)
        if read == "every":
            self.dy[~self.valid] = 0

    def forward(self):
        return self.network.forward(self.x, self.h_0, self.lengths, self.read)


def pair(state):
    return state if isinstance(state, tuple) else (state,)


problems = [
    (read, symbols, D, least)
    for read in READS
    for symbols in (0, K)
    for D in (1, 2)
    for least in ((None,) if read == 3 else (None, 1))
]


@pytest.mark.parametrize(("read", "symbols", "D", "least"), problems)
@pytest.mark.parametrize("cell", NETWORK_CELLS)
def test_the_twin_in_torch_has_the_same_outputs_and_gradients(cell, read, symbols, D, least):
    p = Problem(cell, read, symbols, D, least)
    twin = torch_rnn.network.Network(**p.arguments, dtype=torch.float64)
    twin.load_state_dict({name: torch.tensor(value) for name, value in p.network.state_dict().items()})
    y, h_n, tape = p.forward()
    x, s = torch.tensor(p.x, requires_grad=not symbols), tuple(torch.tensor(h, requires_grad=True) for h in pair(p.h_0))
    lengths = None if least is None else torch.tensor(p.lengths)
    theirs, s_n = twin(x, s if len(s) == 2 else s[0], lengths, read)
    assert_close("y", y[p.where], theirs.detach().numpy()[p.where], 1e-12)
    assert_all_close(pair(h_n), pair(s_n), 1e-12)
    loss = (theirs[p.where] * torch.tensor(p.dy[p.where])).sum()
    (loss + sum((a * torch.tensor(d)).sum() for a, d in zip(pair(s_n), pair(p.dh_n)))).backward()
    grads, dx, dh_0 = p.network.backward(tape, p.dy, p.dh_n)
    assert list(grads) == list(p.network.state_dict())
    assert_all_close(grads, {name: parameter.grad for name, parameter in twin.named_parameters()}, 1e-12)
    assert_all_close(pair(dh_0), [h.grad for h in s], 1e-12)
    if symbols:
        assert dx is None
    else:
        assert_close("dx", dx, x.grad, 1e-12)
        assert (dx[~p.valid] == 0).all()


@pytest.mark.parametrize("read", READS)
def test_a_call_is_a_forward_without_a_tape(read):
    p = Problem("lstm", read, K, 2)
    y, h_n, _ = p.forward()
    again, s_n = p.network(p.x, p.h_0, p.lengths, read)
    np.testing.assert_array_equal(again, y)
    for got, want in zip(s_n, h_n):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_missing_gradient_of_the_final_states_counts_as_zero(cell):
    p = Problem(cell, "last", 0, 2)
    _, _, tape = p.forward()
    zero = np.zeros((4, B, H))
    want = p.network.backward(tape, p.dy, (zero, zero) if cell == "lstm" else zero)
    assert_all_close(p.network.backward(tape, p.dy), want, 0)
    if cell == "lstm":
        assert_all_close(p.network.backward(tape, p.dy, (None, None)), want, 0)


def test_the_network_refuses_what_does_not_fit(tmp_path):
    p, other = Problem("gru", "every", 4, 2, 0), Problem("gru", "every", 4, 2, 0)
    network, x, lengths = p.network, p.x, p.lengths
    _, _, tape = p.forward()
    for make, sentence in [
        (lambda: other.network.backward(tape, p.dy), "the tape comes from"),
        (lambda: network.backward(tape, p.dy[..., :1]), r"dy has shape \(5, 4, 1\), expected \(5, 4, 2\)"),
        (lambda: network.backward(tape, p.dy, p.dh_n[:1]), "dh_n has shape"),
        (lambda: network(x), "symbols are from 0 to 99, expected 0 to 3"),
        (lambda: network(x.astype(float), lengths=lengths), "expected integers"),
        (lambda: network(x, lengths=lengths[:3]), r"lengths has shape \(3,\), expected \(4,\)"),
        (lambda: network(x, p.h_0[:1], lengths), "h_0 has shape"),
        (lambda: network(x, lengths=lengths, read="first"), "read is 'first', expected every, last or how many"),
        (lambda: network(x, lengths=lengths, read=2), "read is 2 and there are lengths"),
        (lambda: network(np.zeros_like(x), read=6), "read is 6, expected at most 5, the number of steps"),
        (lambda: Network(**{**network.config, "cell": "elman"}), "cell is 'elman', expected rnn, lstm"),
        (lambda: torch_rnn.network.Network(**{**network.config, "cell": "elman"}), "cell is 'elman', expected rnn"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            make()
    pytest.importorskip("safetensors")
    network.save(tmp_path / "m")
    again, _ = load(tmp_path / "m")(x, lengths=lengths)
    np.testing.assert_array_equal(again[p.valid], network(x, lengths=lengths)[0][p.valid])
