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

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ...fast.numerics import Array

FALLBACK = [0.0, 0.5, 1.0, 1.5]


class Level(NamedTuple):
    """What (1) needs for the n-grams of one length, in strings of which each symbol is a character."""

    kept: dict[str, float]  # of hw, a
    passed: dict[str, float]  # of h, g
    total: dict[str, float]  # of h, s


def kneser_ney(symbols: ArrayLike, order: int) -> list[Level]:
    """Count the n-grams, of length 1 … order, of a text (n,) of at least `order` symbols, 0, 1, ….

    Examples
    --------
    >>> ones, twos = kneser_ney([0, 1, 0, 1, 1], order=2)
    >>> ones.total[""]  # 0 stands after a 1 alone, 1 after both
    3.0
    >>> list(twos.kept.values())  # 01 twice, 10 and 11 once
    [1.0, 0.5, 0.5]
    """
    text, levels = _string(symbols), []
    # One length more than asked for: what stands before an n-gram is seen in those of length n+1.
    N = [Counter(text[k : k + n] for k in range(len(text) - n + 1)) for n in range(order + 2)]
    for n in range(1, order + 1):
        C = N[n] if n == order else Counter(gram[1:] for gram in N[n + 1])  # (4)
        D, level = discounts(C.values()), Level({}, defaultdict(float), defaultdict(float))
        for gram, count in C.items():
            discount = D[min(count, 3)]
            level.kept[gram] = count - discount  # (3)
            level.passed[gram[:-1]] += discount
            level.total[gram[:-1]] += count
        levels.append(level)
    return levels


def probability(levels: list[Level], symbols: ArrayLike, K: int) -> Array:
    """Of each symbol of a text (T,) its probability, given those before it, or the last n-1 of them.

    Examples
    --------
    >>> probability(kneser_ney([0, 1, 0, 1, 1], order=2), [0, 1], K=3).round(4).tolist()
    [0.3333, 0.75]
    """
    text = _string(symbols)
    found = np.full(len(text), 1 / K)  # (2)
    for t in range(len(text)):
        for n, (kept, passed, total) in enumerate(levels[: t + 1]):
            h = text[t - n : t]
            if h in total:
                found[t] = (kept.get(text[t - n : t + 1], 0.0) + passed[h] * found[t]) / total[h]  # (1)
    return found


def _string(symbols: ArrayLike) -> str:
    return "".join(map(chr, np.asarray(symbols).tolist()))


def discounts(C: Iterable[int]) -> list[float]:
    """D(0), D(1), D(2) and D(3 and more) of the counts of one length (5).

    Examples
    --------
    >>> discounts([1] * 8 + [2] * 4 + [3] * 2 + [4])  # Y = 1/2
    [0.0, 0.5, 1.25, 2.0]
    >>> discounts([1, 2])  # no n-gram occurs three times
    [0.0, 0.5, 1.0, 1.5]
    """
    n = Counter(C)
    if not all(n[i] for i in range(1, 5)):
        return FALLBACK
    Y = n[1] / (n[1] + 2 * n[2])
    D = [i - (i + 1) * Y * n[i + 1] / n[i] for i in range(1, 4)]
    return [0.0, *D] if all(0 < d <= i for i, d in enumerate(D, 1)) else FALLBACK
