"""numpy_rnn/textbook/micro.py: against min-char-rnn, against the textbook's cells, and run as a reader runs it."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import json
import math
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import rng_of

from numpy_rnn.textbook import lstm, micro, rnn

SOURCE = Path(micro.__file__).read_text("utf-8")


# ---- what the file promises of itself


def test_one_sitting_and_numpy_alone():
    assert len(SOURCE.splitlines()) <= 200
    for node in ast.walk(ast.parse(SOURCE)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [node.module]
        for name in names:
            assert name.split(".")[0] in {"numpy", *sys.stdlib_module_names}


def equations(function):
    """The numbered lines of a function: ["(1) a = …", …]."""
    lines = [re.match(r" *(.*?)  # (\(\d'?\))", line) for line in inspect.getsource(function).splitlines()]
    return [f"{line[2]} {line[1]}" for line in lines if line]


@pytest.mark.parametrize(
    ("ours", "textbook", "changes"),
    [
        (micro.rnn_forward, rnn.forward, {"f(a)": "np.tanh(a)"}),
        (micro.rnn_backward, rnn.backward, {"df(h[t + 1])": "(1 - h[t + 1] ** 2)"}),
        (micro.lstm_forward, lstm.forward, {}),
        (micro.lstm_backward, lstm.backward, {}),
    ],
)
def test_equations_are_the_textbook_s(ours, textbook, changes):
    """Line by line, but for the one bias instead of two."""
    text = "\n".join(equations(textbook))
    bias = {" + b_ih + W_hh @ h[t] + b_hh": " + W_hh @ h[t] + b", "db_ih += da": "db += da", "\n(1') db_hh += da": ""}
    for old, new in {**bias, **changes}.items():
        assert old in text or old in bias
        text = text.replace(old, new)
    assert equations(ours) == text.splitlines()
    assert len(equations(ours)) >= 2


# ---- min-char-rnn


class MinCharRNN:
    """min-char-rnn's training once more, in other words: 25 symbols a window, Adagrad, gradients clipped at ±5.

    Sums are added up in its order. The first 150 windows, while the rate of 0.1 throws 100 units about, amplify
    rounding a billionfold: weights that are off by 2e-16 give losses that are off by 5e-4 after 100 windows.
    """

    def __init__(self, text, parameters):
        self.text = text
        self.weights = {name: np.array(w) for name, w in parameters.items()}
        self.memory = {name: np.zeros_like(w) for name, w in parameters.items()}
        self.begin()
        self.clipped = self.begun = 0

    def begin(self):
        self.place, self.hidden = 0, np.zeros(len(self.weights["b"]))

    def window(self):
        if self.place + 26 >= len(self.text):
            self.begin()
            self.begun += 1
        seen, next_ones = self.text[self.place : self.place + 25], self.text[self.place + 1 : self.place + 26]
        gradients, loss, self.hidden = self.differentiate(seen, next_ones)
        for name, w in self.weights.items():
            cut = np.minimum(np.maximum(gradients[name], -5), 5)
            self.clipped += (cut != gradients[name]).any()
            self.memory[name] += cut * cut
            w -= 0.1 * cut / np.sqrt(self.memory[name] + 1e-8)
        self.place += 25
        return loss

    def differentiate(self, seen, next_ones):
        w, hidden, guesses, loss = self.weights, [self.hidden], [], 0.0
        for symbol, next_one in zip(seen, next_ones):
            hidden.append(np.tanh(w["W_ih"][:, symbol] + w["W_hh"] @ hidden[-1] + w["b"]))
            odds = np.exp(w["W_ho"] @ hidden[-1] + w["b_o"])
            guesses.append(odds / odds.sum())
            loss -= math.log(guesses[-1][next_one])
        gradients = {name: np.zeros_like(z) for name, z in w.items()}
        from_later = 0.0
        for k in range(24, -1, -1):
            miss = guesses[k]
            miss[next_ones[k]] -= 1
            gradients["b_o"] += miss
            gradients["W_ho"] += miss[:, None] * hidden[k + 1]
            before_tanh = (1 - hidden[k + 1] ** 2) * (w["W_ho"].T @ miss + from_later)
            gradients["b"] += before_tanh
            gradients["W_ih"][:, seen[k]] += before_tanh
            gradients["W_hh"] += before_tanh[:, None] * hidden[k]
            from_later = w["W_hh"].T @ before_tanh
        return gradients, loss, hidden[-1]


def help_text():
    text = "".join(micro.topics[name] for name in sorted(micro.topics))
    symbols = sorted(set(text))
    return np.array([symbols.index(character) for character in text[:5000]]), len(symbols)


def repeating_text():
    """So short that it is begun again and again."""
    rng, text = rng_of("micro"), [0]
    while len(text) < 310:
        text.append(int(rng.choice([(3 * text[-1] + 1) % 11, rng.integers(11)], p=[0.8, 0.2])))
    return np.array(text), 11


@pytest.mark.parametrize(("text", "units"), [(help_text, 100), (repeating_text, 16)])
def test_losses_are_those_of_min_char_rnn(text, units):
    ids, K = text()
    params = micro.random_parameters("rnn", K, units, np.random.default_rng(1))
    theirs = MinCharRNN(ids, params)
    losses = [loss for _, loss in zip(range(100), micro.train("rnn", params, ids))]
    expected = [theirs.window() for _ in range(100)]
    np.testing.assert_allclose(losses, expected, rtol=1e-9)
    for name, param in params.items():
        np.testing.assert_allclose(param, theirs.weights[name], rtol=0, atol=1e-9)
    assert losses[0] == pytest.approx(25 * math.log(K), rel=1e-2)  # guessing
    assert np.mean(losses[-10:]) < 0.9 * losses[0]
    assert theirs.clipped > 0
    assert theirs.begun == (8 if text is repeating_text else 0)


def test_initial_weights():
    params = micro.random_parameters("lstm", 50, 40, np.random.default_rng(0))
    assert {name: param.shape for name, param in params.items()} == {
        "W_ih": (160, 50), "W_hh": (160, 40), "W_ho": (50, 40), "b": (160,), "b_o": (50,)
    }  # fmt: skip
    for name in ("W_ih", "W_hh", "W_ho"):
        assert params[name].std() == pytest.approx(0.01, rel=0.05)
        assert np.abs(params[name]).max() > 0.025  # normal, not uniform with that deviation
    assert not params["b"].any()
    assert not params["b_o"].any()


@pytest.mark.parametrize("cell", micro.CELLS)
def test_a_sample_goes_on_from_the_state(cell):
    """Symbol by symbol it draws what one pass over everything expects."""
    rng, K = rng_of(cell, "sample"), 7
    params = {name: 40 * param for name, param in micro.random_parameters(cell, K, 9, rng).items()}
    text = rng.integers(K, size=12)
    _, tape = micro.forward(cell, micro.reading(params, text[:-1]), text[1:])
    drawn = [k for _, k in zip(range(20), micro.sample(cell, params, text[-1], tape, np.random.default_rng(3)))]
    whole = np.concatenate([text, drawn])
    _, tape = micro.forward(cell, micro.reading(params, whole[:-1]), whole[1:])
    again = np.random.default_rng(3)
    assert drawn == [again.choice(K, p=p) for p in tape["p"][11:]]
    assert len(set(drawn)) > 1


# ---- gradients


@pytest.mark.parametrize("cell", micro.CELLS)
def test_gradients_are_not_clipped(cell):
    """Clipping is the training's: a gradient beyond 5 is right, too."""
    rng, K = rng_of(cell, "unclipped"), 5
    v = micro.reading(micro.random_parameters(cell, K, 4, rng), rng.integers(K, size=60))
    targets = np.zeros(60, int)
    grads = micro.backward(cell, v, targets, micro.forward(cell, v, targets)[1])
    stepped = v["b_o"] + np.array([1e-30j, 0, 0, 0, 0])
    expected = micro.forward(cell, {**v, "b_o": stepped}, targets)[0].imag / 1e-30
    assert grads["b_o"][0] == pytest.approx(expected, rel=1e-12)
    assert abs(expected) > 5


def one_line_mistakes():
    """Every line of the backward passes with every slip of these kinds."""
    slips = [
        (r"1 - ", "1 + "),
        (r" \* \(1 - .*\)", ""),
        (r"(?<= )\* (?!\()", "+ "),
        (r"\[t \+ 1\]", "[t]"),
        (r"(?<=[hcx])\[t\](?! \+?=)", "[t - 1]"),
        (r"(?<= )\+=", "-="),
        (r"(?<= )\+=", "="),
        (r"\*\*2", ""),
        (r"np\.tanh\((.*?)\)", r"\1"),
        (r"^( *)(d\w+(?:\[t\])?) (=|\+=) ", r"\1\2 \3 0.999 * "),
        (r"do \* o", "do * f"),
        (r"di \* i", "di * f"),
        (r" - np\.eye.*?\]\]", ""),
    ]
    starts = {line.split("(")[0][4:]: k for k, line in enumerate(SOURCE.splitlines()) if line.startswith("def ")}
    for number, line in enumerate(SOURCE.splitlines()):
        if not re.search(r"# \(\d'\)", line):
            continue
        found = set()
        code, _, remark = line.partition("  # ")
        for pattern, replacement in slips:
            for match in re.finditer(pattern, code):
                wrong = code[: match.start()] + match.expand(replacement) + code[match.end() :]
                if wrong != code and wrong not in found and "dc[t] = dc" not in wrong:  # that one is right: dc[t] is 0
                    found.add(wrong)
                    cell = "lstm" if starts["sigmoid"] < number < starts["backward"] else "rnn"
                    yield pytest.param(cell, number, f"{wrong}  # {remark}", id=f"{cell}-{number + 1}: {wrong.strip()}")


MISTAKES = list(one_line_mistakes())


def run_main(source, *args):
    """Run a text as the program, in this process, and return what it prints and how it ends."""
    scope, printed = {"__name__": "changed", "__builtins__": __builtins__}, io.StringIO()
    exec(compile(source, "micro.py", "exec"), scope)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", ["micro", *args])
        try:
            scope["main"]()
            end = None
        except SystemExit as error:
            end = error.code
    return printed.getvalue(), end


def test_there_are_many_mistakes_on_every_line():
    assert len(MISTAKES) > 80
    lines = {number for number, line in enumerate(SOURCE.splitlines()) if re.search(r"# \(\d'\)", line)}
    assert {mistake.values[1] for mistake in MISTAKES} == lines
    assert len(lines) == 25


@pytest.mark.parametrize(("cell", "number", "wrong"), MISTAKES)
def test_the_check_finds_every_mistake(cell, number, wrong, tmp_path):
    lines = SOURCE.splitlines()
    lines[number] = wrong
    with np.errstate(all="ignore"):
        printed, end = run_main("\n".join(lines), "--cell", cell, "--dump", str(tmp_path / "wrong.json"))
    assert end == "a gradient is WRONG"
    (line,) = printed.splitlines()
    errors = [float(word) for word in re.findall(r"\d+e[+-]\d+|nan|inf", line)]
    assert len(errors) == (7 if cell == "rnn" else 8)
    assert not all(error < 1e-10 for error in errors)
    assert not (tmp_path / "wrong.json").exists()


# ---- the program


def run(*args, timeout=120):
    command = [sys.executable, "-m", "numpy_rnn.textbook.micro", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


@pytest.mark.parametrize("cell", micro.CELLS)
def test_it_checks_trains_and_samples(cell):
    done = run("--cell", cell, "--steps", 100, "--hidden", 16, "--seed", 4)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("gradient check, relative errors: W_ih ")
    assert lines[1].split()[:2] == ["step", "100"]

    text = "".join(micro.topics[name] for name in sorted(micro.topics))
    symbols = sorted(set(text))
    number = {character: k for k, character in enumerate(symbols)}
    K, ids, rng = len(symbols), np.array([number[character] for character in text]), np.random.default_rng(4)
    micro.check_gradients(cell, rng)
    params = micro.random_parameters(cell, K, 16, rng)
    smooth = 25 * math.log(K)
    for _, loss in zip(range(100), micro.train(cell, params, ids[:-2000])):
        smooth = 0.999 * smooth + 0.001 * loss
    bits = smooth / 25 / math.log(2)
    assert lines[1].endswith(f"smooth loss {smooth:.3f} = {bits:.3f} bits per character")
    loss, tape = micro.forward(cell, micro.reading(params, ids[-2000:-1]), ids[-1999:])
    assert lines[2].startswith(f"held-out text: {loss / 1999 / math.log(2):.3f} bits per character.")
    drawn = micro.sample(cell, params, ids[-1], tape, rng)
    assert "\n".join(lines[3:]) == "".join(symbols[k] for _, k in zip(range(400), drawn)).rstrip("\n")


def test_dump_holds_every_number(tmp_path):
    for cell in micro.CELLS:
        (tmp_path / "book.txt").write_text("thirty characters are enough. " * 2)
        done = run("--cell", cell, "--dump", tmp_path / "case.json", "--text", tmp_path / "book.txt", "--steps", 1)
        assert (done.returncode, done.stderr) == (0, "")
        case = json.loads((tmp_path / "case.json").read_text())
        assert list(case) == ["values", "targets", "tape", "loss", "grads"]
        v, tape, grads = ({k: np.array(z) for k, z in case[part].items()} for part in ("values", "tape", "grads"))
        states = "h" if cell == "rnn" else "hc"
        assert set(tape) == ({"h", "p"} if cell == "rnn" else {*"hcifgo", "p"})
        assert set(grads) == {"W_ih", "W_hh", "b", "x", "W_ho", "b_o", *(f"{s}_0" for s in states)} == set(v)
        assert all(grads[name].shape == v[name].shape and v[name].all() for name in v)

        targets = np.array(case["targets"])
        loss, expected = micro.forward(cell, v, targets)
        assert (case["loss"], loss) == (loss, pytest.approx(-np.log(tape["p"][range(6), targets]).sum(), rel=1e-12))
        for found, numbers in ((tape, expected), (grads, micro.backward(cell, v, targets, expected))):
            for name, z in found.items():
                np.testing.assert_array_equal(z, numbers[name])


@pytest.mark.parametrize(
    ("content", "args", "sentence"),
    [
        (b"", [], "{path} has 0 characters, expected at least 30"),
        (b"twenty-nine characters are no", [], "{path} has 29 characters, expected at least 30"),
        (b"\xff\xfe\x00" * 50, [], "cannot use {path}: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (None, [], "cannot use {path}: [Errno 2] No such file or directory: '{path}'"),
        (b"a" * 90, ["--dump", "no/such.json"], "cannot use no/such.json: [Errno 2] No such file or directory: 'no/such.json'"),
    ],
)  # fmt: skip
def test_a_text_that_does_not_serve_gets_a_sentence(tmp_path, content, args, sentence):
    path = tmp_path / "book.txt"
    if content is not None:
        path.write_bytes(content)
    assert run_main(SOURCE, "--text", str(path), *args)[1] == sentence.format(path=path)


@pytest.mark.parametrize("args", [["--steps", "0"], ["--hidden", "0"], ["--seed", "-1"]])
def test_numbers_that_do_not_serve_get_a_sentence(args, capsys):
    assert run_main(SOURCE, *args) == ("", 2)
    assert capsys.readouterr().err.endswith("error: --steps and --hidden must be at least 1, --seed at least 0\n")


def test_a_text_that_just_fits(tmp_path):
    (tmp_path / "book.txt").write_text("thirty characters just suffice")
    printed, end = run_main(SOURCE, "--text", str(tmp_path / "book.txt"), "--steps", "100")
    assert end is None
    assert "held-out text: " in printed


def test_ctrl_c_ends_with_what_there_is(tmp_path):
    command = [sys.executable, "-u", "-m", "numpy_rnn.textbook.micro", "--steps", "1000000", "--hidden", "8"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(2)]  # the check, and the first hundred windows
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=120)
    assert lines[1].startswith("step   100")
    assert (process.returncode, errors) == (0, "")
    stopped, held_out = [line for line in rest.splitlines() if not line.startswith("step ")][:2]
    assert stopped == "stopped"
    assert held_out.startswith("held-out text: ")
