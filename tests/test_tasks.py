"""Tasks on real sequences: the data, a whole run, and `numpy-rnn task` as users run it."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import signal
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import assert_one_sentence, assert_same_run, trial
from support import assert_close, rng_of, stop_after

from numpy_rnn.layers import files
from numpy_rnn.layers.files import MissingLibraryError
from numpy_rnn.train.batches import Batch, Batches, batch_of, in_order
from numpy_rnn.train.checkpoint import read_checkpoint, write_checkpoint
from numpy_rnn.train.learner import Learner, loss
from numpy_rnn.train.loop import answers
from numpy_rnn.train.settings import Config
from numpy_rnn.train.task import Part, Split, Task, padded
from numpy_rnn.train.tasks import TASKS, stocks, tags, weather
from numpy_rnn.train.tasks.baselines import PENALTIES, best, least_squares, logistic, package_rows
from numpy_rnn.train.tasks.scores import Row, markdown, metrics, scores, verdict
from numpy_rnn.train.torch_learner import TorchLearner


def needs(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed: pip install 'numpy-rnn[dev]'")


def toy(read: str, symbols: int, name: str = "weather") -> Task:
    """Sequences of 1 to 6 steps with two questions that can be learnt: a mean, and whether it is above 0."""
    rng = rng_of("toy", read, symbols)

    def split(n: int) -> Split:
        lengths = rng.integers(1, 7, n)
        lengths[0] = 6
        x = [rng.standard_normal((length, 3)) for length in lengths]
        means = [np.cumsum(s[:, 0]) / np.arange(1, len(s) + 1) for s in x]
        if symbols:
            x = [rng.integers(0, symbols, length) for length in lengths]
            means = [s / symbols - 0.5 for s in x]
        steps, lengths = padded(x, -1 if symbols else np.nan)
        if read == "last":
            mean = np.array([m[-1] for m in means])
            return Split(steps, lengths, (mean[:, None], (mean > 0).astype(int)))
        return Split(steps, lengths, (padded([(m > 0).astype(int) for m in means], -1)[0],))

    parts = (Part("mean", "numbers", 1, 4.0, 1.0, "m"), Part("sign", "classes", 2, labels=("-", "+")))
    parts = parts if read == "last" else parts[1:]
    splits = split(23), split(11), split(7)
    constant = [np.zeros((sum(splits[2].lengths) if read == "every" else 7, part.size)) for part in parts]
    return Task(name, "?", "made up", *splits, read, parts, symbols, lambda task: {"nothing": constant})


def tiny(**changes: object):
    sizes = {"hidden": 5, "batch": 4, "embedding": 3, "patience": 0, "dtype": "float64"}
    return Config.of("weather", **{**sizes, **changes})


KINDS = [("last", 0), ("every", 0), ("last", 4), ("every", 4)]
every_kind = pytest.mark.parametrize(("read", "symbols"), KINDS)


# ---- the loss and the scores


def test_the_loss_is_that_of_a_plain_evaluation():
    rng = rng_of("loss")
    parts = (Part("a", "numbers", 2), Part("b", "classes", 3))
    y, numbers, classes = rng.standard_normal((4, 5)), rng.standard_normal((4, 2)), rng.integers(0, 3, 4)
    value, dy, rows = loss(parts, y, Batch(np.zeros((1, 4, 1)), (numbers, classes)))
    plain = np.mean((y[:, :2] - numbers) ** 2)
    plain += np.mean([math.log(np.exp(r).sum()) - r[k] for r, k in zip(y[:, 2:], classes)])
    assert (value, rows) == (pytest.approx(plain, rel=1e-14), 4)
    z = torch.tensor(y, requires_grad=True)
    theirs = torch.nn.functional.mse_loss(z[:, :2], torch.tensor(numbers))
    (theirs + torch.nn.functional.cross_entropy(z[:, 2:], torch.tensor(classes))).backward()
    assert_close("dy", dy, z.grad, 1e-12)


def test_padding_is_in_no_loss_and_no_mean():
    rng = rng_of("padding")
    y, target = rng.standard_normal((3, 2, 4)), rng.integers(0, 4, (3, 2))
    y[1:, 1], target[1:, 1] = np.nan, -1
    parts = (Part("a", "classes", 4),)
    value, dy, rows = loss(parts, y, Batch(np.zeros((3, 2)), (target,), np.array([3, 1])))
    flat, classes = y.reshape(-1, 4)[[0, 1, 2, 4]], target.ravel()[[0, 1, 2, 4]]
    assert rows == 4
    assert value == pytest.approx(torch.nn.functional.cross_entropy(torch.tensor(flat), torch.tensor(classes)).item())
    assert (dy[1:, 1] == 0).all()
    assert np.isfinite(dy).all()


def test_scores_are_in_the_units_of_the_data():
    task = toy("last", 0)
    mean, sign = task.test.target
    off = [mean + 0.5, np.eye(2)[1 - sign]]
    right = [mean, 50.0 * np.eye(2)[sign]]
    assert [metric.name for metric in metrics(*task.parts)] == list(scores(task, off))
    assert list(scores(task, off).values()) == pytest.approx([2.0, 0.0, math.log(1 + math.e)])
    assert list(scores(task, right).values()) == pytest.approx([0.0, 100.0, 0.0], abs=1e-12)


# ---- batches and schedule


def test_every_epoch_sees_every_sequence_once_in_an_order_of_its_own():
    task, config = toy("last", 0), tiny()
    batches = Batches(task.train, config)
    assert batches.per_epoch == 6
    firsts = [np.concatenate([batches.batch(6 * e + k).x[0, :, 0] for k in range(6)]) for e in range(2)]
    assert sorted(firsts[0]) == sorted(firsts[1]) == sorted(task.train.x[:, 0, 0])
    assert (firsts[0] != firsts[1]).any()
    other = Batches(task.train, tiny(seed=1)).batch(0).x[0, :, 0]
    assert (other != firsts[0][:4]).any()
    np.testing.assert_array_equal(batches.batch(7).x, Batches(task.train, config).batch(7).x)


def test_a_batch_is_no_longer_than_its_longest_sequence():
    task = toy("every", 0)
    which = np.flatnonzero(task.train.lengths <= 3)
    batch = batch_of(task.train, which, "float32")
    assert batch.x.shape == (task.train.lengths[which].max(), len(which), 3)
    assert (batch.x.dtype, batch.target[0].shape) == (np.float32, batch.x.shape[:2])
    assert np.isfinite(batch.x[batch.valid]).all()
    assert np.isnan(batch.x[~batch.valid]).all()


@pytest.mark.parametrize(("step", "part"), [(0, 1), (30, 3 / 4), (45, 1 / 2), (60, 1 / 4), (90, 0)])
def test_the_learning_rate_falls_by_half_a_cosine(step, part):
    """60° of it are a third of the way, and cos 60° = 1/2."""
    assert tiny(lr=0.3, schedule="cosine").learning_rate(step, 90) == pytest.approx(0.3 * part, abs=1e-15)
    assert tiny(lr=0.3, schedule="constant").learning_rate(step, 90) == 0.3


# ---- a whole run


@every_kind
def test_numpy_and_torch_train_to_the_same_numbers(read, symbols):
    task = toy(read, symbols)
    config = tiny(cell="lstm", layers=2, bidirectional=True, weight_decay=0.01, clip=0.5)
    batches, learners = Batches(task.train, config), (Learner(config, task), TorchLearner(config, task))
    for step in range(8):
        (loss, norm), (their_loss, their_norm) = (learner.step(batches.batch(step), config.lr) for learner in learners)
        assert loss == pytest.approx(their_loss, rel=1e-10)
        assert norm == pytest.approx(their_norm, rel=1e-10)
    ours, theirs = (learner.state_dict() for learner in learners)
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        assert_close(name, value, theirs[name], 1e-10)
    validation = [learner.evaluate(in_order(task.validation, config)) for learner in learners]
    assert validation[0] == pytest.approx(validation[1], rel=1e-10)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize(("read", "symbols"), [("last", 0), ("every", 4)])
def test_what_stands_in_the_padding_changes_no_bit(read, symbols, backend):
    task, config = toy(read, symbols), tiny(bidirectional=True)

    def filled(split: Split) -> Split:
        rubbish = 1 if symbols else 1e3
        return split._replace(x=np.where(split.valid if symbols else split.valid[..., None], split.x, rubbish))

    other = task._replace(train=filled(task.train), validation=filled(task.validation), test=filled(task.test))
    assert not np.array_equal(task.train.x, other.train.x, equal_nan=not symbols)
    first, second = trial(config, task, 2, backend), trial(config, other, 2, backend)
    assert first.history == second.history
    assert all(map(math.isfinite, scores(task, first.test()).values()))
    for a, b in zip(first.test(), second.test()):
        np.testing.assert_array_equal(a, b)


def test_a_mean_loss_counts_every_question_once():
    task, config = toy("every", 4), tiny()
    learner = Learner(config, task)
    pieces = [batch_of(task.validation, slice(k, k + 3), "float64") for k in range(0, 11, 3)]
    whole = learner.evaluate([batch_of(task.validation, slice(None), "float64")])
    assert learner.evaluate(pieces) == pytest.approx(whole, rel=1e-12)


@every_kind
def test_answers_stand_in_the_order_of_the_questions(read, symbols):
    task, config = toy(read, symbols), tiny(batch=1)
    learner = Learner(config, task)
    found = np.concatenate(answers(learner, task.validation), axis=1)
    plain = []
    for k, n in enumerate(task.validation.lengths):
        y, _ = learner.model(task.validation.x[k, :n, None], read=read)
        plain.append(y[:, 0] if read == "every" else y)
    np.testing.assert_allclose(found, np.concatenate(plain), rtol=1e-12, atol=1e-14)
    assert [len(found)] * len(task.parts) == [len(a) for a in task.answers(task.validation)]


def test_patience_ends_a_run_and_the_best_weights_are_scored():
    task, states = toy("last", 0), []
    config = tiny(lr=0.2, schedule="constant", patience=3)
    run = trial(config, task, 60, save=states.append)
    n, best = len(run.history.validation), run.history.best
    assert run.complete
    assert n == best + 1 + 3 < 60
    losses = [loss for _, loss in run.history.validation]
    assert losses[best] == min(losses) < min(losses[best + 1 :])
    last, outputs = answers(run.learner, task.test), run.test()
    learner = Learner(config, task)
    learner.load_state_dict(states[best].tensors)  # as it was then
    for got, want in zip(outputs, answers(learner, task.test)):
        np.testing.assert_array_equal(got, want)
    assert np.abs(last[0] - outputs[0]).max() > 1e-3
    again = trial(config, task, 60, before=states[-1])  # has nothing left to do
    assert (again.history.steps, scores(task, again.test())) == (run.history.steps, scores(task, outputs))


def test_a_stop_within_an_epoch_leaves_the_best_weights_alone():
    task, states = toy("last", 0), []
    trial(tiny(), task, 5, watch=stop_after(8), save=states.append)
    at_the_end, within = states
    assert (at_the_end.history.steps, within.history.validation) == (8, at_the_end.history.validation)
    for name, value in within.best.items():
        np.testing.assert_array_equal(value, at_the_end.tensors[f"model.{name}"])
        assert (value != within.tensors[f"model.{name}"]).any()


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_resumed_run_ends_as_an_uninterrupted_one(backend, tmp_path):
    task, config = toy("every", 4), tiny(cell="lstm", dtype="float32", layers=2, bidirectional=True)
    states = []
    whole = trial(config, task, 5, backend, save=states.append)
    want, before = states[-1], None
    for steps in (2, 4, 9, 99):  # within the first epoch, at its end, within the third, and to the end
        run = trial(config, task, 5, backend, stop_after(steps), before, states.append)
        write_checkpoint(tmp_path / "run", states[-1])
        before = read_checkpoint(tmp_path / "run")
        assert before[:6] == (config, task.sizes, 30, backend, task.fingerprint, None)
    assert run.complete
    assert (run.history, scores(task, run.test())) == (whole.history, scores(task, whole.test()))
    for name, value in {**want.tensors, **want.best}.items():
        np.testing.assert_array_equal({**before.tensors, **before.best}[name], value, err_msg=name)


def test_epochs_sum_a_history_up():
    task, config = toy("last", 0), tiny()
    run = trial(config, task, 3)
    found, second = run.epochs(), run.history.training[6:12]
    assert [(e["epoch"], e["step"]) for e in found] == [(1, 6), (2, 12), (3, 18)]
    assert found[1]["training"] == pytest.approx(np.mean([r.loss for r in second]))
    assert found[1]["norm"] == pytest.approx(np.mean([r.norm for r in second]))
    assert found[1]["largest_norm"] == max(r.norm for r in second)
    assert found[1]["validation"] == run.history.validation[1][1]
    assert found[1]["lr"] == config.learning_rate(11, 18)


# ---- baselines


def test_least_squares_has_no_gradient_left():
    rng = rng_of("least squares")
    x, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 2))
    f = least_squares(x, y, 0.3)
    b = f(np.zeros((1, 4)))
    W = f(np.eye(4)) - b
    error = x @ W + b - y
    assert np.abs(error.mean(axis=0)).max() < 1e-12
    assert np.abs(x.T @ error / 30 + 0.3 * W).max() < 1e-12


def test_logistic_regression_has_no_gradient_left():
    rng = rng_of("logistic")
    x, k = rng.standard_normal((60, 4)), rng.integers(0, 2, 60)
    f = logistic(x, k, 0.1)
    b = f(np.zeros((1, 4)))
    W = f(np.eye(4)) - b
    p = np.exp(x @ W + b)
    error = (p / p.sum(axis=1, keepdims=True) - np.eye(2)[k]) / 60
    assert np.abs(error.sum(axis=0)).max() < 1e-7
    assert np.abs(x.T @ error + 0.1 * W).max() < 1e-8
    assert np.abs(W).max() > 0.05


def test_the_penalty_is_the_one_that_validates_best():
    rng = rng_of("penalty")
    x, vx = rng.standard_normal((2, 40, 6))
    k, vk = ((z[:, 0] + 3 * rng.standard_normal(40) > 0).astype(int) for z in (x, vx))
    maps = [logistic(x, k, penalty) for penalty in PENALTIES]
    losses = [torch.nn.functional.cross_entropy(torch.tensor(f(vx)), torch.tensor(vk)).item() for f in maps]
    assert np.argmin(losses) > 0
    np.testing.assert_array_equal(best(logistic, (x, k), (vx, vk))(vx), maps[int(np.argmin(losses))](vx))


# ---- the data


@needs("vega_datasets")
def test_weather_is_split_by_time_and_sees_only_the_days_before():
    task, days = weather.load(), weather.read()
    rows = package_rows("vega_datasets", "_data", "seattle-weather.csv")
    by_date = {date(*map(int, row["date"].split("/"))): row for row in rows}
    assert [len(s.x) for s in (task.train, task.validation, task.test)] == [731 - 30, 365, 365]
    learnt = np.array([float(row["temp_max"]) for row in rows[:731]])
    scale, offset = learnt.std(), learnt.mean()
    assert (task.parts[0].scale, task.parts[0].offset) == pytest.approx((scale, offset))
    for split, first in ((task.validation, date(2014, 1, 1)), (task.test, date(2015, 1, 1))):
        day, before = by_date[first], by_date[date.fromordinal(first.toordinal() - 1)]
        assert split.target[0][0, 0] * scale + offset == pytest.approx(float(day["temp_max"]))
        assert split.x[0, -1, 0] * scale + offset == pytest.approx(float(before["temp_max"]))
        oldest = by_date[date.fromordinal(first.toordinal() - 30)]
        assert split.x[0, 0, 0] * scale + offset == pytest.approx(float(oldest["temp_max"]))
    np.testing.assert_array_equal(task.test.target[1], [float(row["precipitation"]) > 0 for row in rows[-365:]])
    whole = days.features[:731]
    np.testing.assert_allclose(task.train.x[-1], ((whole - whole.mean(0)) / whole.std(0))[-31:-1])


@needs("vega_datasets")
def test_weathers_baselines_are_those_of_a_plain_evaluation():
    task, days = weather.load(), weather.read()
    found = {name: scores(task, outputs) for name, outputs in task.baselines(task).items()}
    high, rain = days.temperature, days.rain
    plain = np.sqrt(np.mean((high[-365:] - high[-366:-1]) ** 2))
    assert found["persistence"]["temperature RMSE (°C)"] == pytest.approx(plain)
    assert found["persistence"]["rain accuracy (%)"] == pytest.approx(100 * np.mean(rain[-365:] == rain[-366:-1]))
    usual = []
    for phase in days.phase[-365:]:
        apart = np.array([min(abs(phase - other), 365.25 - abs(phase - other)) for other in days.phase[:731]])
        usual.append(np.average(high[:731], weights=np.exp(-((apart / 15) ** 2) / 2)))
    plain = np.sqrt(np.mean((high[-365:] - usual) ** 2))
    assert found["climatology"]["temperature RMSE (°C)"] == pytest.approx(plain)
    linear = found["linear autoregression"]
    assert linear["temperature RMSE (°C)"] < found["persistence"]["temperature RMSE (°C)"]


@needs("vega_datasets")
def test_weather_beats_persistence_and_climatology():
    task = weather.load()
    rows = [Row(name, "", [scores(task, o)], []) for name, o in task.baselines(task).items()]
    for name, value in scores(task, trial(Config.of("weather"), task, 10).test()).items():
        theirs = [row.scores[0][name] for row in rows if row.name in ("persistence", "climatology")]
        assert value > max(theirs) if "accuracy" in name else value < min(theirs)


@needs("vega_datasets")
def test_stocks_are_monthly_returns_split_by_time():
    task = stocks.load()
    names, months, returns = stocks.read()
    assert names == ["MSFT", "AMZN", "IBM", "GOOG", "AAPL"]
    assert (months[0], months[-1]) == (200002, 201003)
    assert returns[0, 0] == pytest.approx(math.log(36.35 / 39.81))
    # 12 months are seen before the first return that is asked; GOOG's first price is of August 2004.
    assert [len(s.x) for s in (task.train, task.validation, task.test)] == [4 * 71 + 16, 5 * 12, 5 * 27]
    last = 100 * np.sqrt(np.mean(returns[months >= 200801] ** 2))
    assert scores(task, task.baselines(task)["no change"])["return RMSE (%)"] == pytest.approx(last)
    scale = task.parts[0].scale / 100
    learnt = returns[months <= 200612]  # with GOOG's missing ones
    assert scale == pytest.approx(np.std(learnt[np.isfinite(learnt)]))
    first = task.test.x[0]  # MSFT in January 2008
    t = int(np.flatnonzero(months == 200801)[0])
    np.testing.assert_allclose(first[:, 0] * scale, returns[t - 12 : t, 0])
    np.testing.assert_allclose(first[:, 1] * scale, returns[t - 12 : t].mean(axis=1))
    np.testing.assert_array_equal(first[:, 2:], np.tile([1.0, 0, 0, 0, 0], (12, 1)))
    means = task.baselines(task)["mean return"][0] * scale
    assert means[0, 0] == pytest.approx(returns[(months >= 200102) & (months <= 200612), 0].mean())


PROGRAM = '''\
def f(x):
    """One and some
    two."""
    return x + 1.5  # so

s = 'a' "b"
'''


def test_characters_are_tagged():
    short = {line: "".join("_KnsC1o"[k] for k in found) for line, found in tags.tagged(PROGRAM)}
    assert short == {
        "def f(x):": "KKK_nonoo",
        '    """One and some': "____sssssssssssssss",
        '    two."""': "sssssssssss",
        "    return x + 1.5  # so": "____KKKKKK_n_o_111__CCCC",
        "s = 'a' \"b\"": "n_o_sss_sss",
    }
    assert tags.tagged("x = 1" + " " * 100 + "\n") == []


def test_tags_are_asked_at_every_character():
    task = TASKS["tags"]()
    (part,) = task.parts
    for split in (task.train, task.validation, task.test):
        assert (split.x[split.valid] >= 0).all()
        assert split.x.max() < task.symbols
        assert (split.x[~split.valid] == -1).all()
        np.testing.assert_array_equal(split.target[0] >= 0, split.valid)
    assert part.labels == tags.TAGS
    # The frequent ones, counted by hand.
    train_x, train_tags = task.train.x[task.train.valid], task.answers(task.train)[0]
    common = {s: np.bincount(train_tags[train_x == s]).argmax() for s in np.unique(train_x)}
    test_x, test_tags = task.test.x[task.test.valid], task.answers(task.test)[0]
    usual = np.bincount(train_tags).argmax()
    plain = 100 * np.mean([common.get(s, usual) for s in test_x] == test_tags)
    outputs = task.baselines(task)
    assert scores(task, outputs["tag of the character"])["tag accuracy (%)"] == pytest.approx(plain, abs=0.05)
    context = outputs["tag of it and the two before"][0]
    assert np.exp(context).sum(axis=1) == pytest.approx(1)
    assert scores(task, [context])["tag accuracy (%)"] > plain + 5


def test_data_know_themselves():
    one, two = toy("last", 0), toy("last", 0)
    assert one.fingerprint == two.fingerprint
    two.test.target[0][0] += 1e-9
    assert one.fingerprint != two.fingerprint


@pytest.mark.parametrize("name", ["weather", "stocks"])
def test_a_missing_package_is_named(run, monkeypatch, name):
    monkeypatch.setitem(TASKS, "weather", weather.load)
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    status, _, err = run(name)
    assert status == 1
    assert_one_sentence(err, "data come with the package vega_datasets: pip install 'numpy-rnn[tasks]'")


def test_a_package_without_the_file_is_named():
    with pytest.raises(MissingLibraryError, match=r"the installed numpy lacks data/nothing\.csv"):
        package_rows("numpy", "data", "nothing.csv")


# ---- tables


def test_a_table_says_what_beats_what():
    task = toy("last", 0)
    names = [metric.name for metric in metrics(*task.parts)]

    def row(name: str, backend: str, *runs: tuple[float, ...]) -> Row:
        return Row(name, backend, [dict(zip(names, run)) for run in runs], [2.0] * len(runs) if backend else [])

    rows = [
        row("zero", "", (1.0, 50.0, 0.7)),
        row("one", "", (1.5, 60.0, 0.6)),
        row("gru", "numpy", (1.2, 70.0, 0.5), (1.0, 72.0, 0.5)),
        row("rnn", "torch", (1.3, 71.0, 0.9), (1.3, 71.0, 0.9)),
    ]
    first, second, third = verdict(task, rows)
    assert first == "mean RMSE (m): nothing beats zero (1.000)"
    assert second == "sign accuracy (%): all 2 networks beat one (60.00)"
    assert third == "sign log loss (nats): gru in numpy beats one (0.6000)"
    lines = markdown(task, rows).splitlines()
    assert "| gru | numpy | 1.100 ± 0.141 | 71.00 ± 1.41 | 0.5000 ± 0.0000 | 2.0 |" in lines
    assert "| zero |  | 1.000 | 50.00 | 0.7000 |  |" in lines
    assert f"* {first}." in lines


def test_the_page_has_tables_of_all_tasks():
    _, measured, _ = files.between_marks(Path(__file__).parents[1] / "docs" / "use" / "tasks.md", "tasks")
    for cell in ("rnn", "lstm", "gru"):
        assert all(measured.count(f"| {cell} | {backend} |") == len(TASKS) for backend in ("numpy", "torch"))
    assert all(f"\n**{name}**: " in measured for name in TASKS)


# ---- the command


@pytest.fixture
def run(monkeypatch, command):
    """Run the command on a made-up task."""
    monkeypatch.setitem(TASKS, "weather", lambda: toy("last", 0))
    return partial(command, "task")


TINY = ["weather", "--hidden", 5, "--batch", 4, "--epochs", 4, "--dtype", "float64"]


def test_a_run_prints_its_epochs_and_a_table(run):
    status, out, err = run(*TINY)
    assert (status, err) == (0, "")
    title, sizes, *lines = out.splitlines()
    assert title == "weather, 4 epochs at most: gru, 1 layer of 5 units, float64, numpy, seed 0"
    assert sizes == "23 and 11 sequences to learn from and to validate; losses in nats"
    assert [line.split()[1] for line in lines[:4]] == ["6", "12", "18", "24"]
    assert any(line.split()[:1] == ["nothing"] for line in lines)
    assert any("beats nothing" in line for line in lines)


def test_json_is_a_document_and_progress_goes_to_stderr(run):
    status, out, err = run(*TINY, "--json", "--seeds", 2)
    document = json.loads(out)
    assert status == 0
    assert err.count("seed 0") == err.count("seed 1") == 1
    assert (document["task"], document["backend"], len(document["scores"])) == ("weather", "numpy", 2)
    first = trial(Config.of("weather", hidden=5, batch=4, dtype="float64"), toy("last", 0), 4)
    assert document["scores"][0] == scores(toy("last", 0), first.test())
    assert document["scores"][1] != document["scores"][0]
    assert document["baselines"]["nothing"]["mean RMSE (m)"] > 0
    assert [epoch["step"] for epoch in document["epochs"]] == [6, 12, 18, 24]
    assert list(Path.cwd().iterdir()) == []


def test_a_figure_is_drawn(run):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'numpy-rnn[dev]'")
    status, out, err = run(*TINY, "--out", "f.svg")
    assert status == 0, err
    assert "f.svg holds the figure" in out
    data = Path("f.svg").read_bytes()
    assert data.startswith(b"<?xml")
    assert b"best, used for the test" in data
    assert b"mean, truth (m)" in data


def interrupt(monkeypatch, at, number):
    """Send a signal in the middle of a step."""
    step, calls = Learner.step, []

    def interrupted(self, batch, lr):
        calls.append(batch)
        if len(calls) == at:
            os.kill(os.getpid(), number)
        return step(self, batch, lr)

    monkeypatch.setattr(Learner, "step", interrupted)


def test_ctrl_c_saves_and_resume_ends_as_if_it_had_not_been(run, monkeypatch):
    assert run(*TINY, "--checkpoint", "whole")[0] == 0
    interrupt(monkeypatch, 9, signal.SIGINT)
    status, _, err = run(*TINY, "--checkpoint", "parts")
    assert status == 130
    assert_one_sentence(
        err, "stopped after step 9 of 24; go on with: numpy-rnn task weather --resume --checkpoint parts"
    )
    status, _, err = run("weather", "--resume", "--checkpoint", "parts")
    assert status == 0, err
    assert_same_run("whole", "parts")
    status, _, err = run(*TINY, "--resume", "--checkpoint", "parts", "--seed", 3)
    assert status == 2
    assert_one_sentence(err, "parts was trained with --seed 0, it cannot go on with 3")


def test_ctrl_c_without_a_file_says_so(run, monkeypatch):
    interrupt(monkeypatch, 1, signal.SIGTERM)
    status, _, err = run(*TINY)
    assert status == 143
    assert_one_sentence(err, "stopped after step 1 of 24; nothing was saved: give a --checkpoint")


@pytest.mark.parametrize("kind", [Learner, TorchLearner])
def test_nan_is_one_sentence_and_the_last_file_stays(run, monkeypatch, kind):
    step, calls = kind.step, []

    def poisoned(self, batch, lr):
        calls.append(batch)
        return step(self, batch._replace(x=batch.x * np.nan) if len(calls) == 14 else batch, lr)

    monkeypatch.setattr(kind, "step", poisoned)
    backend = "numpy" if kind is Learner else "torch"
    status, _, err = run(*TINY, "--backend", backend, "--checkpoint", "c")
    assert status == 1
    assert_one_sentence(err, "training diverged at step 14: loss nan", "c is kept as it was after step 12")
    assert read_checkpoint("c").history.steps == 12


REFUSED = {
    "too large": (["--hidden", "1000000000"], "this does not fit into memory"),
    "figure": (["--out", "f.gif"], "the name must end in .png or .svg"),
    "seeds": (["--seeds", "2", "--checkpoint", "c"], "--checkpoint is for one run: leave --seeds out"),
    "resume what": (["--resume"], "--resume and --overwrite need a --checkpoint"),
    "nothing to resume": (["--resume", "--checkpoint", "c"], "there is nothing to resume: c does not exist"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_command_refuses(run, case):
    args, sentence = REFUSED[case]
    status, _, err = run("weather", *args)
    assert status in (1, 2)
    assert sentence in " ".join(err.split())
    assert list(Path.cwd().iterdir()) == []


def test_a_foreign_checkpoint_is_refused(run, monkeypatch):
    assert run(*TINY, "--schedule", "constant", "--checkpoint", "c")[0] == 0
    monkeypatch.setitem(TASKS, "stocks", lambda: toy("last", 0, "stocks"))
    monkeypatch.setitem(TASKS, "weather", lambda: toy("last", 4))
    for name, sentence in (
        ("stocks", "c was trained on weather, expected stocks"),
        ("weather", "the checkpoint was trained on other data than made up"),
    ):
        status, _, err = run(name, "--resume", "--checkpoint", "c", "--epochs", 9)
        assert status == 1
        assert_one_sentence(err, sentence)


def test_the_table_is_written_into_a_page(run):
    page = Path("page.md")
    page.write_text("before\n<!-- tasks: begin -->\nold\n<!-- tasks: end -->\nafter\n")
    args = ["table", "--task", "weather", "--cell", "RNN", "--seeds", 2, "--epochs", 1, "--markdown", "page.md"]
    assert run(*args) == (0, "page.md holds the tables\n", "")
    before, text, after = files.between_marks(page, "tasks")
    assert (before, after) == ("before\n<!-- tasks: begin -->", "<!-- tasks: end -->\nafter\n")
    rows = [line.split(" | ")[:2] for line in text.splitlines() if line.startswith("| rnn")]
    assert rows == [["| rnn", "numpy"], ["| rnn", "torch"]]
    assert "over 2 seeds" in text
    assert "old" not in text
    status, out, _ = run("table", "--task", "weather", "--cell", "rnn", "--backend", "numpy", "--epochs", 1)
    assert (status, out.count("| rnn | numpy |")) == (0, 1)
    page.write_text("nothing")
    for name, sentence in (("no.md", "no.md: No such file"), ("page.md", "page.md needs the lines <!-- tasks: begin")):
        status, _, err = run("table", "--markdown", name)
        assert status == 1
        assert_one_sentence(err, sentence)
