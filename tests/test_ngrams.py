"""The n-gram baseline against its formulas, written out symbol by symbol."""

from __future__ import annotations

from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
from support import rng_of

from numpy_rnn.train.tasks.ngrams import discounts, kneser_ney, probability

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

    def __init__(self, text, order):
        self.order = order
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
        counts = [self.C((*h, v)) for v in range(K)]
        D = self.D[len(h) + 1]
        passed = sum(D[min(c, 3)] for c in counts)
        return (counts[w] - D[min(counts[w], 3)] + passed * lower) / sum(counts) if sum(counts) else lower


TRAINING, OTHER = a_text(400, "training"), a_text(120, "other")
OTHER[[5, 60, 61]] = UNSEEN[0], UNSEEN[1], UNSEEN[0]
each_order = pytest.mark.parametrize("order", range(1, 6))


def distribution(levels, h):
    """Probabilities of all symbols after a context."""
    return np.array([probability(levels, [*h, w], K)[-1] for w in range(K)])


@each_order
def test_probabilities_are_those_of_the_formulas(order):
    plain, levels = Plain(TRAINING, order), kneser_ney(TRAINING, order)
    if order == 5:  # both the formula's discounts and the fallback's occur
        assert {D == [0, 0.5, 1, 1.5] for D in plain.D.values()} == {True, False}
    for text in (TRAINING, OTHER):
        expected = [plain.p(w, text[:t]) for t, w in enumerate(text)]
        np.testing.assert_allclose(probability(levels, text, K), expected, rtol=1e-13)


@each_order
def test_probabilities_sum_to_one_in_every_context(order):
    levels = kneser_ney(TRAINING, order)
    contexts = [(), *((v,) for v in range(K)), UNSEEN, *(OTHER[i : i + n] for n in (2, 3, 4, 9) for i in range(0, 99))]
    for h in contexts:
        p = distribution(levels, h)
        assert (p > 0).all(), h
        assert p.sum() == pytest.approx(1, abs=1e-14), h


def test_a_tiny_text_by_hand():
    """0 1 0 1 1 over {0, 1, 2}: 01 twice, 10 and 11 once; the discounts are the fallback's.

    0 stands after 1 alone, 1 after 0 and 1: C is 1, 2, 0 of 3, D 1/2 and 1 pass 3/2 on.
    """
    F = Fraction
    one = [(F(1, 2) + F(3, 2) / 3) / 3, (1 + F(3, 2) / 3) / 3, F(3, 2) / 3 / 3]
    after = {0: [one[0] / 2, (1 + one[1]) / 2, one[2] / 2], 1: [*((F(1, 2) + p) / 2 for p in one[:2]), one[2] / 2]}
    levels = kneser_ney([0, 1, 0, 1, 1], 2)
    for h, expected in {(): one, (0,): after[0], (1,): after[1], (2,): one}.items():
        got = [probability(levels, [*h, w], 3)[-1] for w in range(3)]
        np.testing.assert_allclose(got, [float(x) for x in expected], rtol=1e-15)


def test_the_text_that_ends_in_what_occurs_only_there():
    """Its last n-1 symbols are a context that nothing follows; its first are n-grams that nothing precedes."""
    text = np.array([5, 4, 0, 1, 0, 1, 1, 0, 2])
    plain, levels = Plain(text, 3), kneser_ney(text, 3)
    for h in ((0, 2), (2,), (5,), (5, 4), (4, 0)):
        np.testing.assert_allclose(distribution(levels, h), [plain.p(w, h) for w in range(K)], rtol=1e-14)


def test_discounts_out_of_range_fall_back():
    assert discounts([1] * 9 + [2] + [3] * 9 + [4]) == [0, 0.5, 1, 1.5]  # D(2) would be negative
    assert discounts([]) == [0, 0.5, 1, 1.5]
