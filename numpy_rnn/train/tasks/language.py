"""Which character comes next: Python's own help, read as one text.

`pydoc_data.topics`, which every CPython carries for `help()`, holds half a megabyte of English and code. Split in
time: a network learns from the first eight tenths, the next is for validation, the last for the test. States are
carried on from window to window; the test is read as one stream, from its first character, which nothing predicts and
nobody counts, to its last. The baselines are n-grams of order 1 to 5 that have counted the same eight tenths.
"""

from __future__ import annotations

import numpy as np

from ...fast.numerics import Array
from ..language import Vocabulary
from ..objective import Part
from ..text import read_text
from .ngrams import SMOOTHINGS, NGrams, count
from .task import Outputs, Split, Task

ORDERS = range(1, 6)


def load() -> Task:
    """Read the text and make the task.

    Raises
    ------
    ValueError
        If this Python was packaged without it.
    """
    text = read_text(None, "characters")
    n = len(text.validation)
    return of(text.training[:-n], text.training[-n:], text.validation, text.vocabulary)


def of(train: Array, validation: Array, test: Array, vocabulary: Vocabulary) -> Task:
    """Make the task of three pieces of text.

    Parameters
    ----------
    train, validation, test : integer arrays
        Indices into the vocabulary.
    vocabulary : Vocabulary

    Returns
    -------
    Task
    """
    K = len(vocabulary)
    train_split, validation_split, test_split = map(_split, (train, validation, test))
    return Task(
        "language",
        "which character comes next",
        "Python's own help, pydoc_data.topics",
        train_split,
        validation_split,
        test_split,
        "every",
        (Part("next character", "symbols", K, unit="character"),),
        K,
        baselines,
        vocabulary,
    )


def baselines(task: Task) -> dict[str, Outputs]:
    """n-grams of order 1 to 5, with the smoothings of Kneser and Ney and of Witten and Bell."""
    counts, test = count(task.train.text, task.symbols, ORDERS[-1]), task.test.text
    return {
        f"{n}-gram, {smoothing.title()}": [-np.log2(NGrams(counts[:n], task.symbols, smoothing).probability(test)[1:])]
        for n in ORDERS
        for smoothing in SMOOTHINGS
    }


def _split(symbols: Array) -> Split:
    return Split(symbols[None, :-1], None, (symbols[None, 1:],))
