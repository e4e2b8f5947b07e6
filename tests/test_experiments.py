"""The tasks are those of the papers, the gradients are right, the claims hold at a tiny scale, the command behaves."""

from __future__ import annotations

import importlib
import json
import math
import os
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from numpy_rnn.layers.losses import mean_squared_error, softmax_cross_entropy
from numpy_rnn.study.experiments import figures
from numpy_rnn.study.experiments.tasks import BLANK, DELIMITER, TASKS, accuracy, adding, copying, recall
from numpy_rnn.study.experiments.training import Learner, Settings, initial_network, train

os.environ.setdefault("MPLCONFIGDIR", str(Path(__file__).parents[1] / "build" / "matplotlib"))

experiment = importlib.import_module("numpy_rnn.cli.experiment")  # the module: in `cli` its command has its name
TINY = Settings("lag", "gru-chrono", lag=30, hidden=16, batch=16, steps=300, lr=0.01, clip=1, seed=0, interval=50)


# ---- the tasks are those of the papers


@pytest.mark.parametrize("T", [2, 7, 10])
def test_adding_marks_one_number_in_each_half(T):
    x, (target,), *_ = adding(T, 5000, np.random.default_rng(1))
    numbers, marks = x[..., 0], x[..., 1]
    assert x.shape == (T, 5000, 2)
    assert target.shape == (5000, 1)
    assert set(np.unique(marks)) <= {0, 1}
    np.testing.assert_array_equal(marks[: T // 2].sum(axis=0), 1)
    np.testing.assert_array_equal(marks[T // 2 :].sum(axis=0), 1)
    assert (marks.sum(axis=1) > 0).all()  # every step is marked in some sequence
    assert 0 <= numbers.min() < 0.01 < 0.99 < numbers.max() < 1
    expected = [sum(n for n, m in zip(ns, ms) if m) for ns, ms in zip(numbers.T, marks.T)]
    np.testing.assert_allclose(target[:, 0], expected, rtol=1e-6)


def test_adding_baseline_is_that_of_the_best_constant():
    _, (target,), *_ = adding(6, 100_000, np.random.default_rng(2))
    errors = (target - 1) ** 2
    deviation = errors.std() / math.sqrt(errors.size)
    assert abs(errors.mean() - TASKS["adding"].baseline(6)) < 4 * deviation < 0.004
    assert target.mean() == pytest.approx(1, abs=0.006)  # so that no other constant does better
    assert round(TASKS["adding"].baseline(6), 3) == 0.167  # as the paper prints it


@pytest.mark.parametrize("T", [1, 4])
def test_copying_is_laid_out_as_in_the_paper(T):
    x, (target,), *_ = copying(T, 50, np.random.default_rng(3))
    seen = x.argmax(axis=-1)
    assert x.shape == (T + 20, 50, 10)
    np.testing.assert_array_equal(x.sum(axis=-1), 1)
    assert set(np.unique(seen[:10])) == set(range(8))
    np.testing.assert_array_equal(seen[10 : T + 9], BLANK)  # T - 1 blanks
    np.testing.assert_array_equal(seen[T + 9], DELIMITER)
    np.testing.assert_array_equal(seen[T + 10 :], BLANK)
    np.testing.assert_array_equal(target[: T + 10], BLANK)
    np.testing.assert_array_equal(target[T + 10 :], seen[:10])


@pytest.mark.parametrize("T", [1, 30])
def test_copying_baseline_is_that_of_one_who_knows_when_but_not_what(T):
    _, (target,), *_ = copying(T, 7, np.random.default_rng(4))
    logits = np.full((T + 20, 7, 9), -1e4)
    logits[: T + 10, :, BLANK] = 0  # surely a blank
    logits[T + 10 :, :, :BLANK] = 0  # any of the eight
    assert float(softmax_cross_entropy(logits, target)[0]) == pytest.approx(TASKS["copying"].baseline(T), rel=1e-13)


@pytest.mark.parametrize("T", [0, 9])
def test_recall_shows_a_symbol_once(T):
    x, (target,), *_ = recall(T, 40_000, np.random.default_rng(5))
    assert x.shape == (T + 1, 40_000, 8)
    np.testing.assert_array_equal(x[0].argmax(axis=-1), target)
    np.testing.assert_array_equal(x[0].sum(axis=-1), 1)
    assert not x[1:].any()
    always_the_third = np.tile(np.eye(8)[2], (40_000, 1))
    deviation = math.sqrt(1 / 8 * 7 / 8 / 40_000)
    assert abs(accuracy(always_the_third, target) - TASKS["lag"].baseline(T)) < 4 * deviation


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_only_a_good_score_solves(task):
    chance = task.baseline(10)
    assert task.solves(0.951 if task.rising else 0.049 * chance, 10)
    assert not task.solves(0.949 if task.rising else 0.051 * chance, 10)
    assert not task.solves(math.nan, 10)


def test_answers_that_are_no_numbers_score_nan():
    target = np.array([[0, 1]])
    assert math.isnan(accuracy(np.full((1, 2, 8), np.nan), target))
    assert accuracy(np.eye(8)[target], target) == 1


@pytest.mark.parametrize(("generate", "lag"), [(adding, 1), (copying, 0), (recall, -1), (adding, 2.5)])
def test_a_lag_that_is_too_short_is_refused(generate, lag):
    with pytest.raises(ValueError, match=f"lag is {lag}, expected a whole number of at least"):
        generate(lag, 3, np.random.default_rng(0))


# ---- they start as they say


def test_initial_values():
    H = 50

    def start(cell):
        sizes = {"input_size": 2, "hidden_size": H, "output_size": 1}
        model = initial_network(cell, sizes, memory=40, rng=np.random.default_rng(0))
        W_ih, W_hh, b_ih, b_hh = model.rnn.state_dict().values()
        return W_ih, W_hh, (b_ih + b_hh).reshape(-1, H)

    def is_chrono(b):
        return 0 <= b.min() < math.log(10) < math.log(30) < b.max() <= math.log(39)

    _, _, (i, f, g, o) = start("lstm")
    np.testing.assert_array_equal(f, 1)
    assert np.abs([i, g, o]).max() <= 2 / math.sqrt(H)
    _, _, (i, f, g, o) = start("lstm-chrono")
    np.testing.assert_array_equal(i, -f)
    assert is_chrono(f)
    assert 0 < np.abs([g, o]).max() <= 2 / math.sqrt(H)
    _, _, (r, z, n) = start("gru-chrono")
    assert is_chrono(z)
    assert 0 < np.abs([r, n]).max() <= 2 / math.sqrt(H)
    W_ih, W_hh, b = start("irnn")
    np.testing.assert_array_equal(W_hh, np.eye(H))
    assert not b.any()
    assert W_ih.std() == pytest.approx(0.001, rel=0.2)
    for cell in ("rnn", "gru"):
        _, W_hh, _ = start(cell)
        assert 0.9 / math.sqrt(H) < np.abs(W_hh).max() <= 1 / math.sqrt(H)


# ---- the claims, at a tiny scale


def test_the_rnn_forgets_where_gates_hold():
    assert train(replace(TINY, cell="rnn", lag=3)).solved
    forgot = train(replace(TINY, cell="rnn", lag=100))
    assert not forgot.solved
    assert forgot.score < 0.3
    assert forgot.steps == 300
    held = train(replace(TINY, lag=100))
    assert held.solved
    assert held.score >= 0.95
    assert held.steps < 300  # it stops when the task is solved


def test_clipping_keeps_numbers_finite_that_burst_without():
    settings = Settings("adding", "irnn", 300, 32, 32, 20, lr=0.01, clip=0, seed=1, interval=20, optimizer="sgd")
    without, with_clipping = train(settings), train(replace(settings, clip=1))
    assert without.results[0] == with_clipping.results[0]  # the same weights, sequences and first gradient
    assert without.results[0].norm > 1
    assert without.burst == len(without.results) == 2
    assert math.isfinite(without.largest_norm)
    assert with_clipping.burst is None
    assert len(with_clipping.results) == 20
    assert np.isfinite(with_clipping.results).all()


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    short = replace(TINY, steps=20, interval=10)
    first, again, other = train(short), train(short), train(replace(short, seed=1))
    assert first.curve == again.curve
    assert first.curve != other.curve


def test_a_run_can_be_stopped():
    run = train(TINY, lambda history: history.steps < 7)
    assert not run.complete
    assert [step for step, _ in run.curve] == [0]
    assert len(run.results) == 7
    assert run.burst is None


def test_a_run_ends_when_numbers_burst():
    run = train(replace(TINY, task="adding", cell="rnn", lr=1e30))
    assert run.steps < 10
    assert run.complete
    assert not run.solved


def test_sequences_kept_aside_are_not_those_learnt_from():
    learner = Learner(replace(TINY, task="adding"))
    assert not np.isin(learner.batch(0).x[..., 0], learner.aside.x[..., 0]).any()


@pytest.mark.parametrize("name", TASKS)
def test_the_score_is_that_of_the_task(name):
    learner = Learner(replace(TINY, task=name, lag=5))
    batch, other = (learner.batch(k) for k in range(2))
    y, target = learner.model(batch.x, read=learner.task.read)[0], batch.target[0]
    if name == "adding":
        want = mean_squared_error(y, target)[0]
    elif name == "copying":
        want = softmax_cross_entropy(y, target)[0]
    else:
        want = np.mean(y.argmax(axis=-1) == target)
    assert learner.evaluate([batch]) == pytest.approx(float(want), rel=1e-6)
    assert learner.evaluate([batch, other]) == pytest.approx((want + learner.evaluate([other])) / 2, rel=1e-6)


# ---- the command


@pytest.fixture
def run(monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    return partial(command, "experiment")


SMALL = ["--hidden", 6, "--batch", 4, "--steps", 20]


@pytest.mark.parametrize("task", TASKS)
def test_json_has_every_run_and_its_curve(run, task):
    status, out, err = run(task, *SMALL, "--cell", "rnn", "--cell", "lstm", "--lags", "4,9", "--seeds", 2, "--json")
    assert status == 0, err
    document = json.loads(out)
    assert document["complete"]
    assert document["task"] == task
    found = document["runs"]
    assert {(r["cell"], r["lag"], r["seed"]) for r in found} == {
        (c, T, s) for c in ("rnn", "lstm") for T in (4, 9) for s in (0, 1)
    }
    for r in found:
        assert r["curve"][0][0] == 0
        assert r["curve"][-1] == [r["steps"], r["score"]]
        assert r["baseline"] == TASKS[task].baseline(r["lag"])
        assert r["solved"] == TASKS[task].solves(r["score"], r["lag"])
    # a run of the command is a run of the library
    first = found[0]
    settings = Settings(task, first["cell"], first["lag"], 6, 4, 20, first["lr"], 1.0, first["seed"], first["interval"])
    assert train(settings).score == first["score"]


def test_table_names_what_was_asked_for(run):
    status, out, err = run("lag", "--cell", "gru", "--lags", "2,40", "--steps", 120, "--seeds", 2)
    assert status == 0, err
    assert max(map(len, out.splitlines())) <= 80
    rows = {line.split()[0]: line for line in out.splitlines() if line.split()[:1] in (["2"], ["40"])}
    assert " 1 " in rows["2"] + " "
    assert "0.125" in rows["40"]
    assert " 1 " not in rows["40"] + " "
    assert "4 runs in" in out


@pytest.mark.parametrize(
    ("task", "name", "wanted"),
    [
        ("adding", "a.svg", ["no memory", "mean squared error", "lag T, steps", "steps of training", "T = 8", "IRNN"]),
        ("explode", "a.svg", ["clipped to a norm of 1", "gradient's norm", "IRNN, T = 8: 0 of 1 burst"]),
        ("lag", "a.png", []),
    ],
)
def test_figures(run, task, name, wanted):
    arguments = [task, *SMALL, "--cell", "irnn", "--lags", "5,8", "--seeds", 1, "--out", name]
    status, out, err = run(*arguments)
    assert status == 0, err
    assert f"{name} shows it" in out
    assert os.listdir() == [name]
    data = Path(name).read_bytes()
    assert data.startswith(b"\x89PNG") == name.endswith(".png")
    assert all(words.encode() in data for words in wanted)
    if task == "adding":  # the same data give the same file
        run(*arguments)
        assert Path(name).read_bytes() == data


def test_figure_draws_the_baseline_and_every_run():
    found = [
        train(replace(TINY, cell=cell, lag=lag, steps=40, interval=10)) for cell in ("rnn", "gru") for lag in (4, 9)
    ]
    figure = figures.scores(found)
    summary, *panels = figure.axes
    assert [panel.get_title() for panel in panels] == ["T = 4", "T = 9"]
    for panel, lag in zip(panels, (4, 9)):
        curves = [list(line.get_ydata()) for line in panel.lines]
        assert [1 / 8, 1 / 8] in curves
        for run in found:
            assert ([score for _, score in run.curve] in curves) == (run.settings.lag == lag)
    assert [1 / 8, 1 / 8] in [list(line.get_ydata()) for line in summary.lines]


def test_explode_counts_the_bursts(run):
    options = ["--lags", "300", "--seeds", 2, "--steps", 5]
    status, out, err = run("explode", *options)
    assert status == 0, err
    assert "2 of 2" in next(line for line in out.splitlines() if " none " in line)
    assert out.count("0 of 2") == 1
    status, out, err = run("explode", *options, "--json")
    assert status == 0, err
    found = json.loads(out)["runs"]
    assert [(r["clip"], r["burst"]) for r in found] == [(0, 2), (0, 2), (1, None), (1, None)]
    last = [(r["losses"][-1], r["norms"][-1]) for r in found if r["burst"]]
    assert all("inf" in pair or "nan" in pair for pair in last)  # as text: JSON has no such numbers


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_tells_what_there_is(run, monkeypatch, number, status):
    original, calls = experiment.train, []

    def interrupted(settings, stepped):
        calls.append(settings)
        if len(calls) == (2 if number == signal.SIGINT else 1):
            signal.raise_signal(number)
        return original(settings, stepped)

    monkeypatch.setattr(experiment, "train", interrupted)
    done, out, err = run("adding", *SMALL, "--lags", "4,9", "--seeds", 2, "--out", "figure.png", "--json")
    finished = len(calls) - 1
    assert done == status
    assert len(json.loads(out)["runs"]) == finished == (number == signal.SIGINT)
    assert not json.loads(out)["complete"]
    assert f"stopped after {finished} of" in err
    assert os.listdir() == ["figure.png"] * finished  # of nothing there is no figure
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--lags", "10,many"], "10,many is not a list of whole numbers such as 10,30,100."),
        (["--lags", ""], " is not a list of whole numbers"),
        (["--lags", "10,1"], "1 is too short a lag, expected at least 2 steps."),
        (["--cell", "elman"], "cell is 'elman', expected rnn, lstm"),
        (["--steps", "0"], "0 is not in the range"),
        (["--lr", "nan"], "nan is not a finite number."),
        (["--clip", "inf"], "inf is not a finite number."),
        (["--out", "figure.pdf"], "figure.pdf: the name must end in .png or .svg."),
        (["--out", "nowhere/figure.png"], "cannot write to nowhere: No such file or directory."),
    ],
)
def test_refusals(run, options, sentence):
    status, out, err = run("adding", *options)
    assert status == 2
    assert out == ""
    assert sentence in err.splitlines()[-1]


def test_without_matplotlib_it_says_how_to_get_it_before_the_work(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, out, err = run("adding", "--out", "figure.png")
    assert (status, out) == (1, "")
    assert err == "numpy-rnn: a figure needs Matplotlib: pip install 'numpy-rnn[plot]'\n"
