"""What a text costs a language model, in bits, symbol by symbol."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from ...fast.numerics import Array
from ...layers.network import Network

WINDOW = 512  # symbols that the model reads at a time; how many changes nothing but memory


def windows(model: Network, symbols: ArrayLike) -> Iterator[tuple[float, int]]:
    """Read a text once, as one stream whose state is carried from its first symbol to its last.

    Every symbol but the first, which nothing precedes, is predicted once, from all that stands before it. So the sums
    compare with those of any model that reads the same text, n-grams included.

    Parameters
    ----------
    model : Network
    symbols : integer array (n,)

    Yields
    ------
    bits : float
        Σ -log₂ p of the next up to `WINDOW` symbols.
    count : int
        How many these are.

    Examples
    --------
    >>> from numpy_rnn.train.language import LanguageModel
    >>> model = LanguageModel("rnn", vocabulary_size=4, hidden_size=3, rng=0)
    >>> for parameter in model.state_dict().values():
    ...     parameter[...] = 0  # all four symbols are as likely
    >>> [(round(bits, 3), count) for bits, count in windows(model, [0, 1, 2, 3])]
    [(6.0, 3)]
    """
    symbols, state = np.asarray(symbols), None
    for start in range(0, len(symbols) - 1, WINDOW):
        x, target = symbols[start : start + WINDOW], symbols[start + 1 : start + WINDOW + 1]
        logits, state = model(x[: len(target), None], state)
        yield float(costs(logits[:, 0], target).sum()), len(target)


def costs(logits: Array, symbols: ArrayLike) -> Array:
    """What each symbol costs, -log₂ softmax(logits)[symbol].

    In float64: a float32 sum over a window would lose digits.

    Parameters
    ----------
    logits : array (n, K)
    symbols : integer array (n,)

    Returns
    -------
    float64 array (n,)

    Examples
    --------
    >>> costs(np.log([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]), [0, 2]).tolist()
    [1.0, 2.0]
    """
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    at_symbol = np.take_along_axis(z, np.asarray(symbols)[:, None], axis=1)[:, 0]
    bits: Array = (np.log(np.exp(z).sum(axis=1)) - at_symbol) / math.log(2)
    return bits


def bits_per_symbol(model: Network, symbols: ArrayLike) -> float:
    """Mean of -log₂ p over all symbols but the first; see `windows`.

    Parameters
    ----------
    model : Network
    symbols : integer array (n,)
        n of at least 2.

    Returns
    -------
    float
    """
    bits, counts = np.array(list(windows(model, symbols))).T
    return float(bits.sum() / counts.sum())
