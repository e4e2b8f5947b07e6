"""The language model as a task: what is read and asked, the baselines, both backends, going on, and the command."""

from __future__ import annotations

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from runs import trial
from support import assert_close

from numpy_rnn.train.batches import Batches
from numpy_rnn.train.language import Vocabulary, costs, default_text
from numpy_rnn.train.learner import Learner
from numpy_rnn.train.settings import Config
from numpy_rnn.train.tasks import TASKS, language
from numpy_rnn.train.tasks.ngrams import kneser_ney, probability
from numpy_rnn.train.tasks.scores import scores

METRIC = "bits per character"
SIZES = {"hidden": 7, "embedding": 3, "batch": 4, "seq_len": 9, "patience": 0}


def small():
    """The task with the first 2000 characters of the text."""
    text = default_text()[:2000]
    vocabulary = Vocabulary.of(text, "characters")
    return language.of(vocabulary, vocabulary.encode(text))


def tiny(**changes):
    return Config.of("language", **{**SIZES, "dtype": "float64", **changes})


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


def test_the_baseline_is_the_5_gram_model_of_what_is_learnt_from_on_the_test():
    task = small()
    ((name, outputs),) = task.baselines(task).items()
    p = probability(kneser_ney(task.train.text, 5), task.test.text, task.symbols)
    assert name == "5-gram, Kneser-Ney"
    assert scores(task, outputs)[METRIC] == pytest.approx(-np.log2(p[1:]).mean())


def test_costs_are_minus_the_logarithms_of_probabilities():
    rng = np.random.default_rng(0)
    logits, symbols = 30 * rng.standard_normal((6, 5)), rng.integers(0, 5, 6)
    p = torch.softmax(torch.tensor(logits), dim=1).numpy()[np.arange(6), symbols]
    assert_close("bits", costs(logits, symbols), -np.log2(p), 1e-12)
    assert np.isfinite(costs(1e30 * logits.astype(np.float32), symbols)).all()


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_network_is_scored_as_one_reader_of_the_whole_test(backend):
    task, config = small(), tiny()
    run = trial(config, task, 3, backend)
    network = config.initial_network(task.sizes)
    network.load_state_dict(run.best)
    logits, _ = network(task.test.text[:-1, None])  # at once, not window by window
    bits = costs(logits[:, 0], task.test.text[1:]).mean()
    assert scores(task, run.test()) == {METRIC: pytest.approx(bits, rel=1e-12)}
    assert len(run.test()[0]) == len(task.test.text) - 1
    assert bits < math.log2(task.symbols)


def test_a_step_goes_on_where_the_one_before_ended():
    task, config = small(), tiny(lr=1e-300, schedule="constant")
    batches, learner = Batches(task.train, config), Learner(config, task)
    assert batches.per_epoch == 399 // 9
    for step in range(3):
        learner.step(batches.batch(step), config.lr)
    streams = task.train.text[: 4 * 399].reshape(4, 399).T
    _, h_n = learner.model(streams[:27])
    assert_close("state", learner.state, h_n, 1e-12)
    learner.step(batches.batch(batches.per_epoch), config.lr)  # the second epoch begins with zeros
    assert_close("state", learner.state, learner.model(streams[:9])[1], 1e-12)


def test_a_text_is_not_read_from_its_end():
    with pytest.raises(ValueError, match="has seen the symbol that it is asked for"):
        trial(tiny(bidirectional=True), small(), 3)


# ---- the command


@pytest.fixture
def run(command):
    return partial(command, "task", "language")


TINY = ["--hidden", 7, "--embedding", 3, "--batch", 4, "--seq-len", 9, "--epochs", 2, "--dtype", "float64"]


def test_it_prints_scores_and_what_the_network_writes(run, monkeypatch):
    monkeypatch.setitem(TASKS, "language", small)
    status, out, err = run(*TINY, "--out", "f.svg", "--checkpoint", "c")
    assert (status, err) == (0, "")
    assert "1,600 and 200 characters to learn from and to validate" in out
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


def test_no_task_has_an_option_that_it_cannot_use(command):
    for name, option in (("language", "--bidirectional"), ("weather", "--embedding"), ("tags", "--seq-len")):
        status, _, err = command("task", name, option)
        assert status == 2
        assert "No such option" in err
        assert option in err


def test_it_goes_on_from_a_checkpoint_from_which_sample_writes(run, monkeypatch, command):
    monkeypatch.setitem(TASKS, "language", small)
    assert run(*TINY, "--schedule", "constant", "--checkpoint", "c")[0] == 0
    assert command("sample", "c", "--length", 20)[0] == 0
    status, out, err = run("--resume", "--checkpoint", "c", "--epochs", 3)
    assert status == 0, err
    assert "going on after step 88" in out


@pytest.mark.long
def test_the_defaults_beat_every_ngram():
    task = TASKS["language"]()
    best = min(scores(task, outputs)[METRIC] for outputs in task.baselines(task).values())
    assert scores(task, trial(Config.of("language"), task, 5).test())[METRIC] < best
