"""n-gram models against their formulas, written out symbol by symbol, and the command that shows them."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
from click.testing import CliRunner
from support import rng_of

from numpy_rnn.cli import command
from numpy_rnn.layers.losses import softmax_cross_entropy
from numpy_rnn.train.checkpoint import read_checkpoint
from numpy_rnn.train.language import LanguageModel
from numpy_rnn.train.tasks.bits import WINDOW, bits_per_symbol, windows
from numpy_rnn.train.tasks.ngrams import SMOOTHINGS, NGrams, count, discounts
from numpy_rnn.train.text import default_text, read_text

K, UNSEEN = 7, (3, 6)  # two symbols never occur in the text learned from, one of them in the middle


def a_text(length: int, *words: object) -> np.ndarray:
    """Symbols of which each depends on the two before it, so that there are rare and frequent n-grams."""
    rng, text = rng_of(*words), [0, 1]
    while len(text) < length:
        text.append(int(rng.choice([(text[-1] + text[-2]) % K, rng.integers(K)], p=[0.7, 0.3])))
    known = np.setdiff1d(np.arange(K), UNSEEN)
    return known[np.array(text) % len(known)]


class Plain:
    """The formulas of the papers, with dictionaries, for one context at a time."""

    def __init__(self, text, order, smoothing):
        self.order, self.smoothing = order, smoothing
        text = tuple(int(s) for s in text)
        self.N = Counter(text[i : i + n] for n in range(1, order + 2) for i in range(len(text) - n + 1))
        self.before = defaultdict(set)
        for gram in self.N:
            self.before[gram[1:]].add(gram[0])
        self.D = {n: self.discounts(n) for n in range(1, order + 1)}

    def C(self, gram):
        return self.N[gram] if len(gram) == self.order else len(self.before[gram])

    def discounts(self, n):
        of = Counter(self.C(gram) for gram in list(self.N) if len(gram) == n)
        try:
            Y = of[1] / (of[1] + 2 * of[2])
            D = [1 - 2 * Y * of[2] / of[1], 2 - 3 * Y * of[3] / of[2], 3 - 4 * Y * of[4] / of[3]]
            usable = of[4] and 0 < D[0] <= 1 and 0 < D[1] <= 2 and 0 < D[2] <= 3
        except ZeroDivisionError:
            usable = False
        return [0, *D] if usable else [0, 0.5, 1, 1.5]

    def p(self, w, h):
        h = tuple(h)[max(0, len(h) - self.order + 1) :]
        lower = self.p(w, h[1:]) if h else 1 / K
        if self.smoothing == "witten-bell":
            counts = [self.N[(*h, v)] for v in range(K)]
            types = sum(c > 0 for c in counts)
            return (counts[w] + types * lower) / (sum(counts) + types) if types else lower
        counts = [self.C((*h, v)) for v in range(K)]
        D = self.D[len(h) + 1]
        passed = sum(D[min(c, 3)] for c in counts)
        return (counts[w] - D[min(counts[w], 3)] + passed * lower) / sum(counts) if sum(counts) else lower


TRAINING, OTHER = a_text(400, "training"), a_text(120, "other")
OTHER[[5, 60, 61]] = UNSEEN[0], UNSEEN[1], UNSEEN[0]
ORDERS = range(1, 6)
each_smoothing = pytest.mark.parametrize("smoothing", SMOOTHINGS)
each_model = pytest.mark.parametrize(("order", "smoothing"), [(n, s) for n in ORDERS for s in SMOOTHINGS])


def model_of(order, smoothing, text=TRAINING):
    return NGrams(count(text, K, order), K, smoothing)


@each_model
def test_probabilities_are_those_of_the_formulas(order, smoothing):
    plain, model = Plain(TRAINING, order, smoothing), model_of(order, smoothing)
    if smoothing == "kneser-ney" and order == 5:  # both the formula's discounts and the fallback's occur
        assert {D == [0, 0.5, 1, 1.5] for D in plain.D.values()} == {True, False}
    for text in (TRAINING, OTHER):
        expected = [plain.p(w, text[:t]) for t, w in enumerate(text)]
        np.testing.assert_allclose(model.probability(text), expected, rtol=1e-13)


@each_model
def test_probabilities_sum_to_one_in_every_context(order, smoothing):
    model = model_of(order, smoothing)
    contexts = [(), *((v,) for v in range(K)), UNSEEN, *(OTHER[i : i + n] for n in (2, 3, 4, 9) for i in range(0, 99))]
    for h in contexts:
        p = model.distribution(h)
        assert p.shape == (K,)
        assert (p > 0).all(), h
        assert p.sum() == pytest.approx(1, abs=1e-14), h
        # The same numbers as along a text.
        for w in (0, *UNSEEN):
            assert model.probability([*h, w])[-1] == p[w]


@each_smoothing
def test_the_text_that_ends_in_what_occurs_only_there(smoothing):
    """Its last n-1 symbols are a context that nothing follows; its first are n-grams that nothing precedes."""
    text = np.array([5, 4, 0, 1, 0, 1, 1, 0, 2])
    plain, model = Plain(text, 3, smoothing), model_of(3, smoothing, text)
    for h in ((0, 2), (2,), (5,), (5, 4), (4, 0)):
        expected = [plain.p(w, h) for w in range(K)]
        np.testing.assert_allclose(model.distribution(h), expected, rtol=1e-14)
        assert sum(expected) == pytest.approx(1, abs=1e-14)


def test_a_tiny_text_by_hand():
    """0 1 0 1 1 over {0, 1, 2}: 01 twice, 10 and 11 once; Kneser-Ney's discounts are the fallback's."""
    F, counts = Fraction, count([0, 1, 0, 1, 1], K=3, order=2)
    # Witten-Bell. Without a context: 2, 3 and 0 of 5, 2 kinds. After 0: 1 twice, one kind. After 1: 0, 1, two kinds.
    one = [(2 + 2 * F(1, 3)) / 7, (3 + 2 * F(1, 3)) / 7, 2 * F(1, 3) / 7]
    after = {0: [one[0] / 3, (2 + one[1]) / 3, one[2] / 3], 1: [(1 + 2 * p) / 4 for p in one[:2]] + [2 * one[2] / 4]}
    model = NGrams(counts, 3, "witten-bell")
    for h, p in {(): one, (0,): after[0], (1,): after[1], (2,): one}.items():
        np.testing.assert_allclose(model.distribution(h), [float(x) for x in p], rtol=1e-15)
    # Kneser-Ney. 0 stands after 1 alone, 1 after 0 and 1: C is 1, 2, 0 of 3, D 1/2 and 1 pass 3/2 on.
    one = [(F(1, 2) + F(3, 2) / 3) / 3, (1 + F(3, 2) / 3) / 3, F(3, 2) / 3 / 3]
    after = {
        0: [(1 * one[0]) / 2, (1 + one[1]) / 2, one[2] / 2],
        1: [(F(1, 2) + p) / 2 for p in one[:2]] + [one[2] / 2],
    }
    model = NGrams(counts, 3, "kneser-ney")
    for h, p in {(): one, (0,): after[0], (1,): after[1], (2,): one}.items():
        np.testing.assert_allclose(model.distribution(h), [float(x) for x in p], rtol=1e-15)


def test_discounts_out_of_range_fall_back():
    assert discounts(np.repeat([1, 2, 3, 4], [9, 1, 9, 1])).tolist() == [0, 0.5, 1, 1.5]  # D(2) would be negative
    assert discounts(np.array([], int)).tolist() == [0, 0.5, 1, 1.5]


@each_smoothing
def test_a_cut_of_longer_counts_is_the_shorter_model(smoothing):
    long = count(TRAINING, K, 5)
    for n in ORDERS:
        np.testing.assert_array_equal(
            NGrams(long[:n], K, smoothing).probability(OTHER), model_of(n, smoothing).probability(OTHER)
        )


@each_smoothing
def test_large_vocabularies_do_not_overflow(smoothing):
    """K⁵ would be 1e30: keys are made of the indices of contexts."""
    spread = TRAINING.astype(np.int64) * 10**5 + 7
    narrow, wide = model_of(5, smoothing), NGrams(count(spread, 10**6, 5), 10**6, smoothing)
    # Where nothing is passed on to the even distribution, K does not matter; where little is, it matters little.
    np.testing.assert_allclose(wide.probability(spread)[5:], narrow.probability(TRAINING)[5:], rtol=0.1)


def test_as_many_symbols_as_the_order_are_enough():
    model = NGrams(count([2, 0, 1], K, 3), K, "witten-bell")
    np.testing.assert_allclose(
        model.probability([2, 0, 1]),
        [Plain([2, 0, 1], 3, "witten-bell").p(w, h) for w, h in ((2, ()), (0, (2,)), (1, (2, 0)))],
    )
    assert model.probability([]).shape == (0,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: count([0, 1], 2, 3), "there are 2 symbols to learn from, expected at least 3"),
        (lambda: count([[0, 1]], 2, 1), r"symbols has shape \(1, 2\), expected one row"),
        (lambda: count([0, 2], 2, 1), "symbols are from 0 to 2, expected 0 to 1"),
        (lambda: count([-1, 0], 2, 1), "symbols are from -1 to 0, expected 0 to 1"),
        (lambda: count([0.0, 1.0], 2, 1), "symbols has dtype float64, expected whole numbers"),
        (lambda: count([0, 1], 2, 0), "order is 0, expected a whole number of at least 1"),
        (lambda: count([0, 1], 0, 1), "vocabulary size is 0, expected a whole number of at least 1"),
        (lambda: NGrams([], 2, "witten-bell"), "there are no counts"),
        (
            lambda: NGrams(count([0, 1], 2, 1), 2, "laplace"),
            "smoothing is 'laplace', expected kneser-ney or witten-bell",
        ),
        (lambda: model_of(2, "witten-bell").probability([0, K]), "symbols are from 0 to 7, expected 0 to 6"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- a language model on the same symbols


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_windows_change_nothing(cell):
    """One window after the other with the state carried on costs what the whole text at once does."""
    model = LanguageModel(cell, K, hidden_size=5, num_layers=2, embedding_size=3, dtype=np.float64, rng=0)
    text = a_text(2 * WINDOW + 2, "long")  # the last window is a single symbol
    logits, _ = model(text[:-1, None])
    expected = softmax_cross_entropy(logits[:, 0], text[1:])[0] / math.log(2)
    assert bits_per_symbol(model, text) == pytest.approx(expected, rel=1e-12)
    assert [n for _, n in windows(model, text)] == [WINDOW, WINDOW, 1]


def test_a_bigram_in_a_network_costs_what_the_bigram_does():
    """Both sides leave the first symbol out and count every other once: a network that is the bigram agrees exactly."""
    bigram = model_of(2, "witten-bell")
    model = LanguageModel("rnn", K, hidden_size=K, embedding_size=K, dtype=np.float64, rng=0)
    parameters = model.state_dict()
    for parameter in parameters.values():
        parameter[...] = 0
    parameters["embedding.weight"][...] = np.eye(K)
    parameters["rnn.weight_ih_l0"][...] = np.eye(K)  # h = tanh(1) at the symbol, 0 elsewhere
    parameters["head.weight"][...] = np.log([bigram.distribution([v]) for v in range(K)]).T / np.tanh(1)
    assert bits_per_symbol(model, OTHER) == pytest.approx(bigram.bits_per_symbol(OTHER), rel=1e-12)


# ---- the command


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text(default_text()[:3000], encoding="utf-8")

    def run(*args):
        result = CliRunner().invoke(command, list(map(str, args)))
        return result.exit_code, result.stdout, result.stderr or str(result.exception)

    return run


def train(run, *options):
    tiny = ["--hidden", 6, "--embedding", 3, "--batch", 2, "--seq-len", 10, "--steps", 4, "--dtype", "float64"]
    status, _, err = run("train", "--text", "book.txt", *tiny, *options, "--out", "m.safetensors", "--overwrite")
    assert status == 0, err


@pytest.mark.parametrize("symbols", ["characters", "bytes"])
def test_json_holds_what_the_models_say(run, symbols):
    train(run, "--symbols", symbols, "--cell", "lstm", "--layers", 2)
    status, out, err = run("ngrams", "--text", "book.txt", "--order", 3, "--checkpoint", "m.safetensors", "--json")
    assert status == 0, err
    document, text = json.loads(out), read_text("book.txt", symbols)
    assert document["unit"] == ("bits per character" if symbols == "characters" else "bits per byte")
    assert document["text_sha256"] == text.sha256
    V, last = len(text.vocabulary), text.training[-len(text.validation) :]
    assert document["predicted"] == {"training": len(last) - 1, "validation": len(text.validation) - 1}
    assert len(document["ngrams"]) == 6
    for row in document["ngrams"]:
        model = NGrams(count(text.training, V, row["order"]), V, row["smoothing"])
        assert row["training"] == model.bits_per_symbol(last)
        assert row["validation"] == model.bits_per_symbol(text.validation)
    model = read_checkpoint("m.safetensors").model()
    found = document["model"]
    assert found["name"] == "lstm 2 x 6, 4 steps"
    assert found["training"] == pytest.approx(bits_per_symbol(model, last), rel=1e-14)
    assert found["validation"] == pytest.approx(bits_per_symbol(model, text.validation), rel=1e-14)


def test_the_table_shows_the_same_figures(run):
    train(run)
    args = ["ngrams", "--text", "book.txt", "--order", 2, "--checkpoint", "m.safetensors"]
    document = json.loads(run(*args, "--json")[1])
    status, out, err = run(*args)
    assert status == 0, err
    assert max(map(len, out.splitlines())) <= 80
    rows = [line.split() for line in out.splitlines() if "gram" in line]
    assert [row[:2] for row in rows] == [[f"{n}-gram", s] for s in ("Kneser-Ney", "Witten-Bell") for n in (1, 2)]
    figures = {(r["order"], r["smoothing"]): (r["training"], r["validation"]) for r in document["ngrams"]}
    for name, smoothing, *shown in rows:
        assert shown == [f"{bits:.3f}" for bits in figures[int(name[0]), smoothing.lower()]]
    (model,) = [line for line in out.splitlines() if "gru" in line]
    assert model.split() == [
        "gru",
        "6,",
        "4",
        "steps",
        *(f"{document['model'][p]:.3f}" for p in ("training", "validation")),
    ]


def test_without_a_checkpoint_there_is_no_model(run):
    status, out, err = run("ngrams", "--text", "book.txt", "--order", 1, "--json")
    assert status == 0, err
    assert json.loads(out)["model"] is None


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--text", "missing.txt"], "No such file"),
        (["--text", "book.txt", "--order", 5000], "there are 2700 symbols to learn from, expected at least 5000"),
        (["--order", 0], "0 is not in the range"),
        (["--checkpoint", "book.txt"], "book.txt is not a complete safetensors file"),
        (["--checkpoint", "m.safetensors"], "was trained on another text than the default one: give it by --text."),
        (["--checkpoint", "m.safetensors", "--text", "other.txt"], "another text than that of --text"),
        (["--checkpoint", "m.safetensors", "--text", "book.txt", "--symbols", "bytes"], "reads characters: --symbols"),
    ],
)
def test_mistakes_get_a_sentence(run, args, sentence):
    train(run)
    with open("other.txt", "w") as file:
        file.write(default_text()[1:3001])
    status, out, err = run("ngrams", *args)
    assert status in (1, 2)
    assert sentence in err
    assert not out
