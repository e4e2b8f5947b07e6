"""The language model as a task: what is read and asked, the baselines, both backends, going on, and the command."""

from __future__ import annotations

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from numpy_rnn.train.tasks.bits import bits_per_symbol, costs
from numpy_rnn.train.tasks.checkpoint import read_checkpoint, write_checkpoint
from numpy_rnn.train.tasks.engine import train
from numpy_rnn.train.tasks.objective import scores
from numpy_rnn.train.tasks.settings import Batches, problem, validation_of
from support import StopAfter, assert_close

from numpy_rnn.train.language import Vocabulary
from numpy_rnn.train.learner import NumPyLearner
from numpy_rnn.train.tasks import TASKS, language
from numpy_rnn.train.tasks.ngrams import NGrams, count
from numpy_rnn.train.tasks.table import default_config
from numpy_rnn.train.text import default_text
from numpy_rnn.train.torch_learner import TorchLearner

METRIC = "bits per character"
SIZES = {"hidden": 7, "embedding": 3, "batch": 4, "window": 9, "epochs": 3, "patience": 0}


def small():
    """The task with the first 2400 characters of the text."""
    text = default_text()[:2400]
    vocabulary = Vocabulary.of(text, "characters")
    symbols = vocabulary.encode(text)
    return language.of(symbols[:1600], symbols[1600:1900], symbols[1900:], vocabulary)


def tiny(**changes):
    return default_config("language", **{**SIZES, "dtype": "float64", **changes})


def test_the_text_is_split_in_time():
    task = TASKS["language"]()
    pieces = [split.text for split in (task.train, task.validation, task.test)]
    text = "".join(task.vocabulary.decode(np.concatenate(pieces)))
    assert text == default_text()
    n = len(text) // 10
    assert [len(piece) for piece in pieces] == [len(text) - 2 * n, n, n]
    for split, piece in zip((task.train, task.validation, task.test), pieces):
        np.testing.assert_array_equal(split.x[0], piece[:-1])
        np.testing.assert_array_equal(split.target[0][0], piece[1:])


def test_baselines_are_the_ngrams_of_what_is_learnt_from_on_the_test():
    task = small()
    found = {name: scores(task, outputs)[METRIC] for name, outputs in task.baselines(task).items()}
    assert len(found) == 10
    for n in range(1, 6):
        for smoothing in ("kneser-ney", "witten-bell"):
            model = NGrams(count(task.train.text, task.symbols, n), task.symbols, smoothing)
            assert found[f"{n}-gram, {smoothing.title()}"] == pytest.approx(model.bits_per_symbol(task.test.text))


def test_costs_are_minus_the_logarithms_of_probabilities():
    rng = np.random.default_rng(0)
    logits, symbols = 30 * rng.standard_normal((6, 5)), rng.integers(0, 5, 6)
    p = torch.softmax(torch.tensor(logits), dim=1).numpy()[np.arange(6), symbols]
    assert_close("bits", costs(logits, symbols), -np.log2(p), 1e-12)
    assert np.isfinite(costs(1e30 * logits.astype(np.float32), symbols)).all()


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_network_is_scored_as_one_reader_of_the_whole_test(backend):
    task, config = small(), tiny()
    outcome = train(config, task, backend)
    network = problem(config, task).initial_network()
    network.load_state_dict(outcome.best)
    assert outcome.scores == {METRIC: pytest.approx(bits_per_symbol(network, task.test.text), rel=1e-12)}
    assert len(outcome.outputs[0]) == len(task.test.text) - 1
    assert outcome.scores[METRIC] < math.log2(task.symbols)


def test_a_step_goes_on_where_the_one_before_ended():
    task, config = small(), tiny(lr=1e-300, schedule="constant")
    batches, learner = Batches(task.train, config), NumPyLearner(problem(config, task))
    assert batches.per_epoch == 399 // 9
    for step in range(3):
        learner.step(batches.batch(step))
    streams = task.train.text[: 4 * 399].reshape(4, 399).T
    _, h_n = learner.model(streams[:27])
    assert_close("state", learner.state, h_n, 1e-12)
    learner.step(batches.batch(batches.per_epoch))  # the second epoch begins with zeros
    assert_close("state", learner.state, learner.model(streams[:9])[1], 1e-12)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_numpy_and_torch_train_to_the_same_numbers(cell):
    task, config = small(), tiny(cell=cell, layers=2)
    batches = Batches(task.train, config)
    learners = NumPyLearner(problem(config, task)), TorchLearner(problem(config, task))
    for step in range(batches.per_epoch + 9):  # into the second epoch
        (loss, norm), (their_loss, their_norm) = (learner.step(batches.batch(step)) for learner in learners)
        assert loss == pytest.approx(their_loss, rel=1e-10)
        assert norm == pytest.approx(their_norm, rel=1e-9)
    ours, theirs = (learner.state_dict() for learner in learners)
    assert set(ours) == set(theirs)
    assert "state.h" in ours
    for name, value in ours.items():
        assert_close(name, value, theirs[name], 1e-9)
    validation = [learner.evaluate(validation_of(task, config)) for learner in learners]
    assert validation[0] == pytest.approx(validation[1], rel=1e-10)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_resumed_run_ends_as_an_uninterrupted_one(backend, cell, tmp_path):
    task, config, states = small(), tiny(cell=cell, dtype="float32", layers=2), []
    whole = train(config, task, backend, save=states.append)
    want, before = states[-1], None
    for steps in (5, 41, 999):
        outcome = train(config, task, backend, StopAfter(steps), before, states.append)
        write_checkpoint(tmp_path / "run", config, task, backend, states[-1])
        _, _, before = read_checkpoint(tmp_path / "run", task)
    assert (outcome.history, outcome.scores) == (whole.history, whole.scores)
    assert set(before.tensors) == set(want.tensors)
    for name, value in want.tensors.items():
        np.testing.assert_array_equal(before.tensors[name], value, err_msg=name)


def test_a_text_is_not_read_from_its_end():
    with pytest.raises(ValueError, match="has seen the symbol that it is asked for"):
        train(tiny(bidirectional=True), small())


# ---- the command


@pytest.fixture
def run(command):
    return partial(command, "task", "language")


TINY = ["--hidden", 7, "--embedding", 3, "--batch", 4, "--window", 9, "--epochs", 2, "--dtype", "float64"]


def test_it_prints_scores_and_what_the_network_writes(run, monkeypatch):
    monkeypatch.setitem(TASKS, "language", small)
    status, out, err = run(*TINY, "--out", "f.svg", "--checkpoint", "c")
    assert (status, err) == (0, "")
    assert "1599, 299, 499 characters to learn from, validate and test" in out
    assert METRIC in out
    assert "5-gram, Kneser-Ney" in out
    document = json.loads(run(*TINY, "--json")[1])
    assert f"----\n{document['written']}\n----" in out
    first = "".join(small().vocabulary.decode(small().test.text[:1]))
    assert document["written"].startswith(first)
    assert len(document["written"]) == 401
    assert list(document["baselines"]) == list(small().baselines(small()))
    with open("f.svg") as file:
        assert "bits per character" in file.read()


def test_both_ends_are_one_sentence(run, monkeypatch):
    monkeypatch.setitem(TASKS, "language", small)
    status, _, err = run(*TINY, "--bidirectional")
    assert status == 1
    assert "a network that reads a text from its end, too, has seen the symbol" in err


def test_a_window_is_for_texts(run, monkeypatch):
    status, _, err = run("--window", 0)
    assert status == 2
    assert "0 is not in the range x>=1" in err


@pytest.mark.long
def test_the_defaults_beat_every_ngram():
    task = TASKS["language"]()
    best = min(scores(task, outputs)[METRIC] for outputs in task.baselines(task).values())
    assert train(default_config("language"), task).scores[METRIC] < best
