"""What a text costs a language model, in bits, symbol by symbol."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from ..language import LanguageModel
from ..losses import softmax_cross_entropy

WINDOW = 512  # symbols that the model reads at a time; how many changes nothing but memory


def windows(model: LanguageModel, symbols: ArrayLike) -> Iterator[tuple[float, int]]:
    """Read a text once, as one stream whose state is carried from its first symbol to its last.

    Every symbol but the first, which nothing precedes, is predicted once, from all that stands before it. So the sums
    compare with those of any model that reads the same text, n-grams included.

    Parameters
    ----------
    model : LanguageModel
    symbols : integer array (n,)

    Yields
    ------
    bits : float
        Σ -log₂ p of the next up to `WINDOW` symbols.
    count : int
        How many these are.

    Examples
    --------
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
        # In float64: a float32 sum over a window would lose digits.
        loss, _ = softmax_cross_entropy(logits[:, 0].astype(np.float64), target, reduction="sum")
        yield float(loss) / math.log(2), len(target)


def bits_per_symbol(model: LanguageModel, symbols: ArrayLike) -> float:
    """Mean of -log₂ p over all symbols but the first; see `windows`.

    Parameters
    ----------
    model : LanguageModel
    symbols : integer array (n,)
        n of at least 2.

    Returns
    -------
    float
    """
    bits, counts = np.array(list(windows(model, symbols))).T
    return float(bits.sum() / counts.sum())
