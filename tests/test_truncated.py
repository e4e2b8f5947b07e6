"""Truncated BPTT is a specified operator; PyTorch with `detach` at the windows' starts is another reading of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import assert_all_close, rng_of

import numpy_rnn
import torch_rnn
from numpy_rnn.fast.truncated import windows

I, H, B = 3, 5, 4


def problem(cls, T, **arguments):
    layer = getattr(numpy_rnn, cls)(I, H, num_layers=2, dtype=np.float64, rng=0, **arguments)
    rng = rng_of(cls, T)
    x = rng.standard_normal((T, B, I))
    output, h_n = layer(x)
    draw = lambda a: tuple(map(draw, a)) if isinstance(a, tuple) else rng.standard_normal(a.shape)  # noqa: E731
    return layer, x, draw(h_n), draw(output), draw(h_n)


def by_detach(layer, x, h_0, doutput, dh_n, k1, k2, n=None):
    """Each window: run up to its start, detach, run on, and send back what belongs to its last k1 steps.

    A sequence of n < T steps sees the same windows, cut off at its end.
    """
    T, n = len(x), len(x) if n is None else n
    theirs = getattr(torch_rnn, type(layer).__name__)(I, H, num_layers=layer.num_layers, dtype=torch.float64)
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in layer.state_dict().items()})
    lift = lambda a, f: tuple(lift(s, f) for s in a) if isinstance(a, tuple) else f(a)  # noqa: E731
    tx = torch.tensor(x, requires_grad=True)
    initial = lift(h_0, lambda a: torch.tensor(a, requires_grad=True))
    loss = torch.zeros((), dtype=torch.float64)
    for stop in [*range(k1, T, k1), T]:
        start, back = (stop - 1) // k1 * k1, max(0, stop - k2)
        if start >= n:
            break
        stop = min(stop, n)
        state = initial
        if back > 0:
            with torch.no_grad():
                _, state = theirs(tx[:back], initial)
        y, final = theirs(tx[back:stop], state)
        loss = loss + (y[start - back :] * torch.tensor(doutput[start:stop])).sum()
        if stop == n:
            finals, upstream = (final, dh_n) if isinstance(final, tuple) else ((final,), (dh_n,))
            loss = loss + sum((f * torch.tensor(d)).sum() for f, d in zip(finals, upstream))
    loss.backward()
    dh_0 = lift(initial, lambda a: torch.zeros_like(a) if a.grad is None else a.grad)
    return {k: p.grad for k, p in theirs.named_parameters()}, tx.grad, dh_0


WINDOWS = [(1, 1), (3, 3), (2, 5), (3, 4), (1, 4), (10, 10), (4, 20)]


@pytest.mark.parametrize("k", WINDOWS, ids="k1={0[0]}-k2={0[1]}".format)
@pytest.mark.parametrize("cls", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("lengths", [[7, 10, 3, 6], None], ids=["ragged", "full"])
def test_equals_torch_with_detach_sequence_by_sequence(cls, k, lengths):
    layer, x, h_0, doutput, dh_n = problem(cls, 10)
    _, _, tape = layer.forward(x, h_0, lengths)
    grads, dx, dh_0 = layer.truncated_backward(tape, doutput, dh_n, k1=k[0], k2=k[1])
    total = {name: np.zeros_like(g) for name, g in grads.items()}
    for b, n in enumerate(lengths or [10] * B):
        one = slice(b, b + 1)
        cut = lambda s: tuple(map(cut, s)) if isinstance(s, tuple) else s[:, one]  # noqa: B023, E731
        grads_b, dx_b, dh_0_b = by_detach(layer, x[:, one], cut(h_0), doutput[:, one], cut(dh_n), *k, n=n)
        assert_all_close(dx[:, one], dx_b, 1e-12)
        assert_all_close(cut(tuple(dh_0)) if isinstance(dh_0, tuple) else cut(dh_0), dh_0_b, 1e-12)
        total = {name: total[name] + grads_b[name].numpy() for name in total}
    assert_all_close(grads, total, 1e-12)


@pytest.mark.parametrize("cls", ["RNN", "LSTM", "GRU"])
def test_one_layer_in_float32_stays_float32(cls):
    layer = getattr(numpy_rnn, cls)(I, H, rng=0)
    x = np.ones((5, B, I), np.float32)
    output, h_n, tape = layer.forward(x)
    grads, dx, dh_0 = layer.truncated_backward(tape, output, h_n, k1=2, k2=3)
    assert {a.dtype for a in (*grads.values(), dx, *(dh_0 if isinstance(dh_0, tuple) else (dh_0,)))} == {np.dtype("f4")}


def test_an_imaginary_part_of_any_upstream_gradient_survives():
    layer, x, h_0, doutput, dh_n = problem("LSTM", 6)
    tape = layer.forward(x, h_0)[2].deep
    dh, dc = dh_n
    for dy, ds in ((1j * doutput, (dh, dc)), (doutput, (1j * dh, dc)), (doutput, (dh, 1j * dc))):
        real, imaginary = (
            numpy_rnn.fast.truncated.backward(tape, part(dy), numpy_rnn.fast.lstm.State(*map(part, ds)), 2, 3)
            for part in (np.real, np.imag)
        )
        got = numpy_rnn.fast.truncated.backward(tape, dy, numpy_rnn.fast.lstm.State(*ds), 2, 3)
        for g, a, b in zip(
            [*got[0][0][0], got[1], *got[2]],
            [*real[0][0][0], real[1], *real[2]],
            [*imaginary[0][0][0], imaginary[1], *imaginary[2]],
        ):
            assert_all_close(g, a + 1j * b, 1e-13)


def test_a_complex_parameter_of_any_layer_survives():
    layer, x, h_0, doutput, dh_n = problem("GRU", 6)
    tape = layer.forward(x, h_0)[2].deep
    (first,), (second,) = tape.params
    moved = second._replace(W_hh=second.W_hh + 1e-30j)
    _, _, tape = numpy_rnn.fast.deep.forward(tape.cell, [[first], [moved]], tape.x, tape.s0)
    grads, dx, _ = numpy_rnn.fast.truncated.backward(tape, doutput, numpy_rnn.fast.gru.State(dh_n), 2, 3)
    assert np.abs(dx.imag).max() > 1e-33
    assert np.abs(grads[0][0].W_ih.imag).max() > 1e-33


def test_truncation_does_cut_something():
    layer, x, h_0, doutput, dh_n = problem("RNN", 10)
    _, _, tape = layer.forward(x, h_0)
    full = layer.backward(tape, doutput, dh_n)
    grads, dx, dh_0 = layer.truncated_backward(tape, doutput, dh_n, k1=2, k2=3)
    for name, g in grads.items():
        assert np.max(np.abs(g - full[0][name])) > 1e-3, name
    assert np.max(np.abs(dx - full[1])) > 1e-3
    assert np.max(np.abs(dh_0 - full[2])) > 1e-5


def test_windows_cover_every_step_once():
    for T in range(12):
        for k1 in range(1, 6):
            for k2 in range(k1, 8):
                covered = [t for w in windows(T, k1, k2) for t in range(w.start, w.stop)]
                assert covered == list(range(T))
                assert all(w.stop - w.back <= k2 and w.back <= w.start for w in windows(T, k1, k2))


@pytest.mark.parametrize(
    ("k1", "k2", "message"),
    [
        (0, 3, "k1 is 0, expected a whole number of at least 1"),
        (4, 3, "k2 is 3, expected at least k1, 4: the loss of some steps would go nowhere"),
        (2.5, 3, "k1 is 2.5, expected a whole number of at least 1"),
        (2, 3.5, "k2 is 3.5, expected a whole number of at least 1"),
    ],
)
def test_bad_windows(k1, k2, message):
    layer, x, h_0, doutput, dh_n = problem("GRU", 4)
    _, _, tape = layer.forward(x, h_0)
    with pytest.raises(ValueError, match=f"^{message}$"):
        layer.truncated_backward(tape, doutput, dh_n, k1=k1, k2=k2)


def test_bidirectional_has_no_past_to_cut():
    layer = numpy_rnn.GRU(I, H, bidirectional=True)
    output, _, tape = layer.forward(np.ones((4, B, I), np.float32))
    with pytest.raises(
        ValueError, match=r"^the layer is bidirectional, expected one direction: truncation cuts off the past only$"
    ):
        layer.truncated_backward(tape, output, k1=1, k2=2)
