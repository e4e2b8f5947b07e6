"""n-gram models of symbols: what a language model has to beat.

The probability of a symbol w depends on the n-1 symbols h before it alone. Of N(hw), how often w followed h in the text
learned from, a part is kept; the rest of the probability is passed on to the model of the context h', h without its
first symbol, and by the last one, without any context, to all K symbols evenly:

    (1)   p_n(w | h) = (a(hw) + g(h) p_{n-1}(w | h')) / s(h)         p_{n-1}(w | h') where s(h) = 0
    (2)   p_0(w)     = 1 / K

Since s(h) = Σ_w a(hw) + g(h), probabilities sum to 1. The two kinds of smoothing differ in what they keep.

    Witten-Bell     (W)   a = N(hw)               g = |{w: N(hw) > 0}|               s = N(h·) + g
    Kneser-Ney      (K1)  a = C(hw) - D(C(hw))    g = Σ_w D(C(hw))                   s = C(h·)
                    (K2)  C(hw) = N(hw) in the longest context, |{v: N(vhw) > 0}| in the shorter ones
                    (K3)  Y = n₁ / (n₁ + 2 n₂)    D(0) = 0, D(c) = i - (i+1) Y n_{i+1} / n_i for i = min(c, 3)

where n_i of each length is how many n-grams have C = i, and N(h·), C(h·) are sums over w. (K2) counts the different
symbols v before hw: p_{n-1} is asked for what is new after vh, and after each of those v hw was new once.

Witten-Bell: Witten & Bell, IEEE Transactions on Information Theory 37(4), 1991, method C. Kneser-Ney: Kneser & Ney,
ICASSP 1995, interpolated and with three discounts, (K3), as in Chen & Goodman, Computer Speech and Language 13, 1999.
Where (K3) is undefined or not in 0 < D ≤ i for all three, as in tiny texts, D is 0.5, 1, 1.5, KenLM's
--discount_fallback.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ...fast.numerics import Array
from ...layers.arguments import check_size

SMOOTHINGS = ("kneser-ney", "witten-bell")
FALLBACK = np.array([0.0, 0.5, 1.0, 1.5])


class Counts(NamedTuple):
    """All n-grams of one length n that occur, in rising order of their keys.

    The key of hw is K · (index of h among the n-grams of length n-1) + w: less than K times the text's length.
    """

    keys: Array  # (M,)
    times: Array  # (M,), N(hw)
    before: Array  # (M,), how many different symbols stand before hw
    contexts: int  # how many h there are


class Level(NamedTuple):
    """What (1) needs for one length."""

    keys: Array  # (M,)
    kept: Array  # (M,), a
    passed: Array  # (contexts,), g
    total: Array  # (contexts,), s


def count(symbols: ArrayLike, K: int, order: int) -> list[Counts]:
    """Count the n-grams of a text of length 1 … order, by sorting: no loop over symbols.

    Parameters
    ----------
    symbols : integer array (number of symbols,)
        0 … K-1.
    K : int
        Size of the vocabulary, symbols that the text does not have included.
    order : int
        The longest n-grams.

    Returns
    -------
    list of Counts
        Of length 1, 2, … order.

    Raises
    ------
    ValueError
        If there are fewer than `order` symbols, or they are not whole numbers from 0 to K-1.

    Examples
    --------
    >>> ones, twos = count([0, 1, 0, 1, 1], K=2, order=2)
    >>> ones.times.tolist(), ones.before.tolist()  # 0 stands after a 1 alone, 1 after both
    ([2, 3], [1, 2])
    >>> twos.keys.tolist(), twos.times.tolist()  # 01, 10, 11
    ([1, 2, 3], [2, 1, 1])
    """
    symbols = _checked(symbols, check_size("vocabulary size", K))
    if symbols.ndim != 1:
        raise ValueError(f"symbols has shape {symbols.shape}, expected one row of them")
    if len(symbols) < check_size("order", order):
        raise ValueError(f"there are {len(symbols)} symbols to learn from, expected at least {order}, the order")
    # One length more than asked for: what stands before an n-gram is seen in those of length n+1.
    found: list[Counts] = []
    context, contexts = np.zeros(len(symbols), np.int64), 1  # of the symbols from n-1 on
    shorter = context  # which n-gram of the length before ends at each of them
    for n in range(1, order + 2):
        keys, first, index, times = np.unique(
            context * K + symbols[n - 1 :], return_index=True, return_inverse=True, return_counts=True
        )
        if n > 1:
            # An n-gram without its first symbol ends where it ends itself.
            before = np.bincount(shorter[1:][first], minlength=len(found[-1].keys))
            found[-1] = found[-1]._replace(before=before)
        found.append(Counts(keys, times, np.zeros_like(times), contexts))
        context, contexts, shorter = index[:-1], len(keys), index
    return found[:order]


class NGrams:
    """An n-gram model.

    Parameters
    ----------
    counts : sequence of Counts
        Of length 1 … n, as `count` returns them; those of a longer order may be cut: `counts[:n]`.
    K : int
        Size of the vocabulary.
    smoothing : "kneser-ney" or "witten-bell"

    Raises
    ------
    ValueError
        If the smoothing is unknown or there are no counts.

    Examples
    --------
    >>> model = NGrams(count([0, 1, 0, 1, 1], K=3, order=2), K=3, smoothing="witten-bell")
    >>> model.probability([0, 1]).round(4).tolist()  # the first symbol without a context; 0 is followed by 1
    [0.381, 0.8413]
    >>> model.distribution([0]).round(4).tolist()
    [0.127, 0.8413, 0.0317]
    """

    def __init__(self, counts: Sequence[Counts], K: int, smoothing: str) -> None:
        if smoothing not in SMOOTHINGS:
            raise ValueError(f"smoothing is {smoothing!r}, expected {' or '.join(SMOOTHINGS)}")
        if not counts:
            raise ValueError("there are no counts, expected those of at least one length")
        self.K = K
        if smoothing == "witten-bell":
            self.levels = [_witten_bell(c, K) for c in counts]
        else:
            self.levels = [
                *(_kneser_ney(c, c.before, K) for c in counts[:-1]),
                _kneser_ney(counts[-1], counts[-1].times, K),
            ]

    def probability(self, symbols: ArrayLike) -> Array:
        """Of each symbol its probability, given those before it, or the last n-1 of them.

        Parameters
        ----------
        symbols : integer array (..., T)
            Texts along the last axis.

        Returns
        -------
        float64 array (..., T)

        Raises
        ------
        ValueError
            If the symbols are not whole numbers from 0 to K-1.
        """
        symbols = _checked(symbols, self.K)
        p = np.full(symbols.shape, 1 / self.K)  # (2)
        context = np.zeros(symbols.shape, np.int64)  # index of what stands before each symbol; -1 if it never occurred
        for n, (keys, kept, passed, total) in enumerate(self.levels):
            key = np.where(context < 0, -1, context * self.K + symbols[..., n:])
            place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
            seen = keys[place] == key
            s = np.where(context < 0, 0, total[context])
            tail = p[..., n:]
            mixed = np.where(seen, kept[place], 0) + passed[context] * tail
            np.divide(mixed, s, out=tail, where=s > 0)  # (1)
            context = np.where(seen, place, -1)[..., :-1]
        return p

    def distribution(self, context: ArrayLike) -> Array:
        """Probabilities of all K symbols after a context.

        Parameters
        ----------
        context : integer array (length,)
            May be empty.

        Returns
        -------
        float64 array (K,)
        """
        context = _checked(context, self.K)[-len(self.levels) :]
        return self.probability(np.column_stack([np.tile(context, (self.K, 1)), np.arange(self.K)]))[:, -1]

    def bits_per_symbol(self, symbols: ArrayLike) -> float:
        """Mean of -log₂ p over all symbols but the first, which nothing precedes.

        Parameters
        ----------
        symbols : integer array (T,)
            T of at least 2.

        Returns
        -------
        float
        """
        return float(-np.log2(self.probability(symbols)[1:]).mean())


def _witten_bell(counts: Counts, K: int) -> Level:
    h = counts.keys // K
    g = np.bincount(h, minlength=counts.contexts)
    return Level(counts.keys, counts.times, g, np.bincount(h, counts.times, counts.contexts) + g)  # (W)


def _kneser_ney(counts: Counts, C: Array, K: int) -> Level:
    h = counts.keys // K
    discount = discounts(C)[np.minimum(C, 3)]
    g = np.bincount(h, discount, counts.contexts)
    return Level(counts.keys, C - discount, g, np.bincount(h, C, counts.contexts))  # (K1)


def discounts(C: Array) -> Array:
    """D(0), D(1), D(2) and D(3 and more) of the counts of one length (K3).

    Parameters
    ----------
    C : integer array (M,)

    Returns
    -------
    float64 array (4,)

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


def _checked(symbols: ArrayLike, K: int) -> Array:
    found = np.asarray(symbols)
    if found.size == 0:
        return found.astype(np.int64)
    if not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"symbols has dtype {found.dtype}, expected whole numbers")
    if not 0 <= found.min() <= found.max() < K:
        raise ValueError(f"symbols are from {found.min()} to {found.max()}, expected 0 to {K - 1}")
    return found.astype(np.int64, copy=False)
