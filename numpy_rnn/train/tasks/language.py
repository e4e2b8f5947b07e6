"""Which character comes next: Python's own help, read as one text.

`pydoc_data.topics`, which every CPython carries for `help()`, holds half a megabyte of English and code. Split in
time: a network learns from the first eight tenths, the next is for validation, the last for the test. States are
carried on from window to window; the test is read as one stream, from its first character, which nothing predicts and
nobody counts, to its last. The baseline is a 5-gram model that has counted the same eight tenths.
"""

from __future__ import annotations

import numpy as np

from ...fast.numerics import Array
from ..objective import Part
from ..task import Outputs, Split, Task
from ..text import Text, read_text
from .ngrams import kneser_ney, probability

ORDER = 5


def load() -> Task:
    """Read the text and make the task, or say what is missing."""
    text = read_text(None, "characters")
    n = len(text.validation)
    return of(Text(text.vocabulary, text.training[:-n], text.training[-n:]), text.validation)


def of(text: Text, test: Array | None = None) -> Task:
    """Make the task of a text; its test is by default what the validation sees, where nobody asks for a test."""
    K, symbol = len(text.vocabulary), text.vocabulary.kind[:-1]

    def split(symbols: Array) -> Split:
        return Split(symbols[None, :-1], None, (symbols[None, 1:],))

    return Task(
        "language",
        f"which {symbol} comes next",
        "Python's own help, pydoc_data.topics",
        split(text.training),
        split(text.validation),
        split(text.validation if test is None else test),
        read="every",
        parts=(Part(f"next {symbol}", "symbols", K, unit=symbol),),
        symbols=K,
        baselines=baselines,
        vocabulary=text.vocabulary,
    )


def baselines(task: Task) -> dict[str, Outputs]:
    """The 5-gram model with Kneser-Ney smoothing."""
    p = probability(kneser_ney(task.train.text, task.symbols, ORDER), task.test.text, task.symbols)
    return {f"{ORDER}-gram, Kneser-Ney": [-np.log2(p[1:])]}
