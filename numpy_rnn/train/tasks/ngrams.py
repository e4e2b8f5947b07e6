"""An n-gram model of symbols with Kneser-Ney smoothing: what a language model has to beat.

The probability of a symbol w depends on the n-1 symbols h before it alone. Of how often w followed h in the text
learned from, a part is kept; the rest is passed on to the model of the context h', h without its first symbol, and by
the last one, without any context, to all K symbols evenly:

    (1)   p_n(w | h) = (a(hw) + g(h) p_{n-1}(w | h')) / s(h)         p_{n-1}(w | h') where s(h) = 0
    (2)   p_0(w)     = 1 / K
    (3)   a = C(hw) - D(C(hw))       g = Σ_w D(C(hw))       s = C(h·) = Σ_w C(hw)
    (4)   C(hw) = N(hw), the count, in the longest context, |{v: N(vhw) > 0}| in the shorter ones
    (5)   Y = n₁ / (n₁ + 2 n₂)       D(0) = 0, D(c) = i - (i+1) Y n_{i+1} / n_i for i = min(c, 3)

where n_i of each length is how many n-grams have C = i. (4) counts the different symbols v before hw: p_{n-1} is asked
for what is new after vh, and after each of those v hw was new once.

Kneser & Ney, ICASSP 1995, interpolated and with three discounts, (5), as in Chen & Goodman, Computer Speech and
Language 13, 1999. Where (5) is undefined or not in 0 < D ≤ i for all three, as in tiny texts, D is 0.5, 1, 1.5, KenLM's
--discount_fallback.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ...fast.numerics import Array

FALLBACK = np.array([0.0, 0.5, 1.0, 1.5])


class Level(NamedTuple):
    """What (1) needs for the n-grams of one length, in rising order of their keys.

    The key of hw is K · (index of h among the n-grams of length n-1) + w: less than K times the text's length.
    """

    keys: Array  # (M,)
    kept: Array  # (M,), a
    passed: Array  # (contexts,), g
    total: Array  # (contexts,), s


def kneser_ney(symbols: ArrayLike, K: int, order: int) -> list[Level]:
    """Count the n-grams of a text of length 1 … order, by sorting: no loop over symbols.

    The text has at least `order` symbols, 0 … K-1, of which some may never occur.

    Examples
    --------
    >>> ones, twos = kneser_ney([0, 1, 0, 1, 1], K=2, order=2)
    >>> ones.total.tolist()  # 0 stands after a 1 alone, 1 after both
    [3.0]
    >>> twos.keys.tolist(), twos.kept.tolist()  # 01 twice, 10 and 11 once
    ([1, 2, 3], [1.0, 0.5, 0.5])
    """
    symbols = np.asarray(symbols, np.int64)
    levels: list[Level] = []
    keys, times, contexts = np.empty(0, np.int64), np.empty(0, np.int64), 1  # of the length before
    context = ending = np.zeros(len(symbols), np.int64)  # which n-gram of that length ends at each symbol
    # One length more than asked for: what stands before an n-gram is seen in those of length n+1.
    for n in range(1, order + 2):
        longer, first, index, counts = np.unique(
            context * K + symbols[n - 1 :], return_index=True, return_inverse=True, return_counts=True
        )
        if n > 1:
            # An n-gram without its first symbol ends where it ends itself.
            before = np.bincount(ending[1:][first], minlength=len(keys))
            levels.append(_level(keys, times if n > order else before, contexts, K))
        contexts = len(keys) if n > 1 else 1
        keys, times, context, ending = longer, counts, index[:-1], index
    return levels


def probability(levels: list[Level], symbols: ArrayLike, K: int) -> Array:
    """Of each symbol of texts (..., T) its probability, given those before it, or the last n-1 of them.

    Examples
    --------
    >>> probability(kneser_ney([0, 1, 0, 1, 1], K=3, order=2), [0, 1], K=3).round(4).tolist()
    [0.3333, 0.75]
    """
    symbols = np.asarray(symbols, np.int64)
    p = np.full(symbols.shape, 1 / K)  # (2)
    context = np.zeros(symbols.shape, np.int64)  # index of what stands before each symbol; -1 if it never occurred
    for n, (keys, kept, passed, total) in enumerate(levels):
        key = np.where(context < 0, -1, context * K + symbols[..., n:])
        place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        seen = keys[place] == key
        s = np.where(context < 0, 0, total[context])
        tail = p[..., n:]
        mixed = np.where(seen, kept[place], 0) + passed[context] * tail
        np.divide(mixed, s, out=tail, where=s > 0)  # (1)
        context = np.where(seen, place, -1)[..., :-1]
    return p


def _level(keys: Array, C: Array, contexts: int, K: int) -> Level:
    h, discount = keys // K, discounts(C)[np.minimum(C, 3)]
    return Level(keys, C - discount, np.bincount(h, discount, contexts), np.bincount(h, C, contexts))  # (3)


def discounts(C: Array) -> Array:
    """D(0), D(1), D(2) and D(3 and more) of the counts of one length (5).

    Examples
    --------
    >>> discounts(np.repeat([1, 2, 3, 4], [8, 4, 2, 1])).tolist()  # Y = 1/2
    [0.0, 0.5, 1.25, 2.0]
    >>> discounts(np.array([1, 2])).tolist()  # no n-gram occurs three times
    [0.0, 0.5, 1.0, 1.5]
    """
    n = np.bincount(C, minlength=5)[:5]
    if (n[1:] == 0).any():
        return FALLBACK
    i = np.arange(1, 4)
    D = i - (i + 1) * n[1] / (n[1] + 2 * n[2]) * n[2:] / n[1:4]
    return np.array([0, *D]) if ((D > 0) & (i >= D)).all() else FALLBACK
