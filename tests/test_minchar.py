"""min-char-rnn's setting against the equations, evaluated one step after the other with a backward of their own."""

from __future__ import annotations

import json
import math
import signal

import numpy as np
import pytest
from click.testing import CliRunner
from support import assert_close, rng_of

from numpy_rnn.cli import command
from numpy_rnn.layers import optim
from numpy_rnn.layers.losses import softmax_cross_entropy
from numpy_rnn.train.tasks import minchar
from numpy_rnn.train.tasks.bits import bits_per_symbol
from numpy_rnn.train.tasks.minchar import NAMES, Learner, initial_model, smooth, streams
from numpy_rnn.train.text import default_text, read_text, validation_batches

K, H, STEPS = 11, 13, 400


def a_text(length: int) -> np.ndarray:
    rng = rng_of("minchar", length)
    text = [0]
    while len(text) < length:
        text.append(int(rng.choice([(3 * text[-1] + 1) % K, rng.integers(K)], p=[0.6, 0.4])))
    return np.array(text)


class Plain:
    """Training by the equations: columns, one step after the other, a backward and an optimizer of its own."""

    def __init__(self, text, parameters):
        self.text, self.place, self.h = text, len(text), None
        self.params = {name: np.array(parameters[name]).reshape(len(parameters[name]), -1) for name in NAMES}
        self.memory = {name: np.zeros_like(param) for name, param in self.params.items()}

    def step(self):
        """Return the loss, and whether a gradient was cut."""
        Wxh, Whh, Why, bh, by = (self.params[name] for name in ("Wxh", "Whh", "Why", "bh", "by"))
        if self.place + 25 + 1 >= len(self.text):
            self.place, self.h = 0, np.zeros((len(bh), 1))
        symbols = self.text[self.place : self.place + 26]
        x, h, p, loss = {}, {-1: self.h}, {}, 0.0
        for t in range(25):
            x[t] = np.zeros((len(by), 1))
            x[t][symbols[t]] = 1
            h[t] = np.tanh(Wxh @ x[t] + Whh @ h[t - 1] + bh)
            scores = np.exp(Why @ h[t] + by)
            p[t] = scores / scores.sum()
            loss -= math.log(p[t][symbols[t + 1], 0])
        grads = {name: np.zeros_like(param) for name, param in self.params.items()}
        dh_next = np.zeros_like(self.h)
        for t in reversed(range(25)):
            dy = p[t].copy()
            dy[symbols[t + 1]] -= 1
            da = (1 - h[t] ** 2) * (Why.T @ dy + dh_next)
            grads["Why"] += dy @ h[t].T
            grads["by"] += dy
            grads["bh"] += da
            grads["Wxh"] += da @ x[t].T
            grads["Whh"] += da @ h[t - 1].T
            dh_next = Whh.T @ da
        for name, g in grads.items():
            limited = np.where(g > 5, 5, np.where(g < -5, -5, g))
            self.memory[name] += limited * limited
            self.params[name] -= 0.1 * limited / np.sqrt(self.memory[name] + 1e-8)
        self.h = h[24]
        self.place += 25
        return loss, any((np.abs(g) > 5).any() for g in grads.values())

    def weights(self):
        return {name: param[:, 0] if name in ("bh", "by") else param for name, param in self.params.items()}

    def hand_over(self, learner):
        """Give the learner this one's weights, memory and state."""
        shapes = {name: learner.model.state_dict()[ours].shape for name, ours in NAMES.items()}
        for name, ours in NAMES.items():
            learner.model.state_dict()[ours][...] = self.params[name].reshape(shapes[name])
        learner.optimizer.load_state_dict(
            {
                "step": np.ones(1, np.int64),
                **{f"sum.{NAMES[name]}": 1e-8 + total.reshape(shapes[name]) for name, total in self.memory.items()},
            }
        )
        learner.state = self.h.T[None].copy()


def theirs(model):
    return {name: model.state_dict()[ours] for name, ours in NAMES.items()}


def test_every_step_is_that_of_the_equations():
    """From the same weights, through the text's end three times: losses, weights and the smooth loss."""
    text, model = a_text(2600), initial_model(K, rng=0, hidden_size=H)
    learner, plain, at = Learner(model), Plain(text, theirs(model)), streams(text)
    assert at.windows * 3 < STEPS < at.windows * 4
    cut, losses = 0, []
    for step in range(STEPS):
        loss, was_cut = plain.step()
        assert learner.step(at.batch(step)).loss == pytest.approx(loss, rel=1e-10), step
        for name, parameter in theirs(model).items():
            assert_close(f"{name} after step {step}", parameter, plain.weights()[name], 1e-10)
        losses.append(loss)
        cut += was_cut
    assert 0 < cut < STEPS  # both kinds of step
    assert np.mean(losses[-20:]) < 0.75 * losses[0]
    value = -math.log(1 / K) * 25
    for loss, got in zip(losses, smooth(losses, K)):
        value = value * 0.999 + loss * 0.001
        assert got == pytest.approx(value, rel=1e-13)


def test_the_real_size_on_the_real_text():
    """100 units, Python's own help. The first 150 steps, while lr = 0.1 throws the weights about, amplify rounding.

    The equations with weights that are off by 2e-16 part from themselves by 1e-9 in 20 steps and 1e-2 in 300. So ten
    steps run freely; from then on each step begins with equal weights, memory and state.
    """
    text = read_text(None, "characters")
    model, V = initial_model(len(text.vocabulary), rng=0), len(text.vocabulary)
    learner, plain, at = Learner(model), Plain(text.training, theirs(model)), streams(text.training)
    cut = 0
    for step in range(300):
        if step >= 10:
            plain.hand_over(learner)
        loss, was_cut = plain.step()
        cut += was_cut
        assert learner.step(at.batch(step)).loss == pytest.approx(loss, rel=1e-10), step
        for name, parameter in theirs(model).items():
            assert_close(f"{name} after step {step}", parameter, plain.weights()[name], 1e-10)
        if step == 0:
            assert loss == pytest.approx(25 * math.log(V), rel=1e-3)  # that of guessing
    assert 0 < cut < 300


@pytest.mark.parametrize("length", [27, 51, 52, 53, 76, 77])
def test_windows_end_where_theirs_do(length):
    """A text that just fits is not read to its last symbol."""
    text, place, expected = a_text(length), 0, []
    while place + 25 + 1 < length:
        expected.append(place)
        place += 25
    assert streams(text).windows == len(expected)
    for k, start in enumerate([*expected, 0]):
        batch = streams(text).batch(k)
        np.testing.assert_array_equal(batch.x[:, 0], text[start : start + 25])
        np.testing.assert_array_equal(batch.target[0][:, 0], text[start + 1 : start + 26])
        assert batch.fresh == (k in (0, len(expected)))


def test_initial_weights():
    parameters = initial_model(50, rng=3).state_dict()
    for name in minchar.WEIGHTS.values():
        w = parameters[name]
        assert w.std() == pytest.approx(0.01, rel=0.05)
        assert abs(w.mean()) < 0.001
        assert np.abs(w).max() > 0.025  # normal, not uniform with that deviation
    for name in ("rnn.bias_ih_l0", "rnn.bias_hh_l0", "head.bias"):
        assert not parameters[name].any()
    np.testing.assert_array_equal(parameters["embedding.weight"], np.eye(50))
    again = initial_model(50, rng=3).state_dict()
    np.testing.assert_array_equal(again["head.weight"], parameters["head.weight"])


def test_what_is_frozen_stays_and_two_biases_would_go_twice_as_far():
    text, model = a_text(300), initial_model(K, rng=0, hidden_size=H)
    learner = Learner(model)
    before = {name: p.copy() for name, p in model.state_dict().items()}
    learner.step(streams(text).batch(0))
    after = model.state_dict()
    np.testing.assert_array_equal(after["embedding.weight"], np.eye(K))
    assert not after["rnn.bias_hh_l0"].any()
    # Adagrad on all: its first step moves every number with a gradient far above √ε by lr, both biases alike.
    other = initial_model(K, rng=0, hidden_size=H)
    batch = streams(text).batch(0)
    logits, _, tape = other.forward(batch.x)
    grads, _ = other.backward(tape, softmax_cross_entropy(logits, batch.target[0], reduction="sum")[1])
    optim.Adagrad(other.state_dict(), 0.1, initial_accumulator_value=1e-8, eps=0.0).step(grads)
    both = other.state_dict()
    moved = after["rnn.bias_ih_l0"] - before["rnn.bias_ih_l0"]
    np.testing.assert_allclose(both["rnn.bias_ih_l0"] + both["rnn.bias_hh_l0"], 2 * moved, rtol=1e-12)


def test_what_is_not_finite_changes_nothing():
    text, model = a_text(300), initial_model(K, rng=0, hidden_size=H)
    learner = Learner(model)
    learner.step(streams(text).batch(0))
    model.state_dict()["head.bias"][0] = np.nan
    before, state = {name: p.copy() for name, p in model.state_dict().items()}, learner.state
    assert not learner.step(streams(text).batch(1)).finite
    assert learner.state is state
    for name, p in model.state_dict().items():
        np.testing.assert_array_equal(p, before[name])


def test_evaluate_counts_what_bits_per_symbol_counts():
    model, text = initial_model(K, rng=0, hidden_size=H), a_text(900)
    loss = Learner(model).evaluate(validation_batches(text, B=1, T=100))
    assert loss / math.log(2) == pytest.approx(bits_per_symbol(model, text), rel=1e-13)


def test_a_resumed_run_goes_on_bit_for_bit():
    at = streams(a_text(300))
    straight, first, second = (Learner(initial_model(K, rng=seed, hidden_size=H)) for seed in (0, 0, 1))
    for step in range(20):
        expected = straight.step(at.batch(step))
    for step in range(7):
        first.step(at.batch(step))
    second.load_state_dict(first.state_dict())
    for step in range(7, 20):
        got = second.step(at.batch(step))
    assert got == expected


# ---- the command


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    # So long that validation in more than one stream would show.
    (tmp_path / "book.txt").write_text(default_text()[:45_000], encoding="utf-8")

    def run(*args):
        result = CliRunner().invoke(command, ["minchar", "--text", "book.txt", *map(str, args)])
        return result.exit_code, result.stdout, result.stderr or str(result.exception)

    return run


def test_json_is_the_run_of_the_equations(run):
    status, out, err = run("--steps", 8, "--interval", 4, "--seed", 5, "--length", 30, "--json")
    assert status == 0, err
    document, text = json.loads(out), read_text("book.txt", "characters")
    V = len(text.vocabulary)
    model, value, curve = initial_model(V, 5), 25 * math.log(V), []
    plain = Plain(text.training, theirs(model))
    for _ in range(8):
        value = 0.999 * value + 0.001 * plain.step()[0]
        curve.append(value)
    assert document["smooth_loss"] == pytest.approx(value, rel=1e-10)
    assert document["training"] == pytest.approx(value / 25 / math.log(2), rel=1e-10)
    assert [point["step"] for point in document["curve"]] == [4, 8]
    assert [point["smooth_loss"] for point in document["curve"]] == pytest.approx([curve[3], curve[7]], rel=1e-10)
    # By the learner's own weights: over thousands of symbols without a reset the state amplifies rounding, too.
    learner, at = Learner(model), streams(text.training)
    for step in range(8):
        learner.step(at.batch(step))
    assert document["validation"] == pytest.approx(bits_per_symbol(model, text.validation), rel=1e-13)
    assert document["curve"][-1]["validation"] == document["validation"]
    assert (document["complete"], document["steps"], len(document["written"])) == (True, 8, 30)
    assert set(document["written"]) <= {chr(code) for code in text.vocabulary.codes}


def test_lines_and_what_it_writes(run):
    args = ["--steps", 30, "--interval", 20, "--length", 40]
    document = json.loads(run(*args, "--json")[1])
    status, out, err = run(*args, "--figure", "loss.svg")
    assert status == 0, err
    head, *lines = out.split("----\n")[0].splitlines()
    K = document["vocabulary_size"]
    assert head == f"{K} different characters; guessing costs {25 * math.log(K):.3f} a window"
    for line, point in zip(lines, document["curve"], strict=True):
        bits = point["smooth_loss"] / 25 / math.log(2)
        assert line.split()[1:5] == [str(point["step"]), "smooth", f"{point['smooth_loss']:.3f}", "="]
        assert line.endswith(f"= {bits:.3f}, validation {point['validation']:.3f} bits per character")
        assert len(line) <= 80
    assert document["written"] in out
    assert "loss.svg holds the figure" in out
    with open("loss.svg") as file:
        drawn = file.read()
    assert "bits per character" in drawn
    assert "smooth loss of training" in drawn


def test_ctrl_c_ends_with_what_there_is(run, monkeypatch):
    step = Learner.step

    def interrupted(self, batch):
        signal.raise_signal(signal.SIGINT)
        return step(self, batch)

    monkeypatch.setattr(Learner, "step", interrupted)
    status, out, err = run("--steps", 8, "--json")
    document = json.loads(out)
    assert status == 130
    assert "stopped after step 1 of 8" in err
    assert (document["complete"], document["steps"], document["validation"]) == (False, 1, None)


def test_a_loss_that_is_no_number_ends_with_a_sentence(run, monkeypatch):
    step = Learner.step
    monkeypatch.setattr(Learner, "step", lambda self, batch: step(self, batch)._replace(loss=math.nan))
    status, _, err = run("--steps", 50)
    assert status == 1
    assert err.startswith("Error: training diverged at step 1: loss nan")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--text", "short.txt"], "there are 26 symbols to learn from, expected at least 27"),
        (["--text", "missing.txt"], "No such file"),
        (["--figure", "loss.gif"], "the name must end in .png or .svg"),
        (["--steps", 0], "0 is not in the range"),
    ],
)
def test_mistakes_get_a_sentence(run, args, sentence):
    with open("short.txt", "w") as file:
        file.write("abcdefghijklmnopqrstuvwxyz12"[:28])
    status, _, err = run(*args)
    assert status in (1, 2)
    assert sentence in err
