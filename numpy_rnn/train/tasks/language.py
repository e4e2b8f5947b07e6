"""Which character comes next: Python's own help, read as one text.

`pydoc_data.topics`, which every CPython carries for `help()`, holds half a megabyte of English and code. Split in
time: a network learns from the first eight tenths, the next is for validation, the last for the test. States are
carried on from window to window; the test is read as one stream, from its first character, which nothing predicts and
nobody counts, to its last. The baseline is a 5-gram model that has counted the same eight tenths.
"""

from __future__ import annotations

import numpy as np

from ...fast.numerics import Array
from ..language import Vocabulary, read_text
from ..task import Outputs, Part, Split, Task
from .ngrams import kneser_ney, probability

ORDER = 5


def load() -> Task:
    """Read the text and make the task, or say what is missing."""
    return of(*read_text(None, "characters"))


def of(
    vocabulary: Vocabulary,
    symbols: Array,
    name: str = "language",
    source: str = "Python's own help, pydoc_data.topics",
    tested: bool = True,
) -> Task:
    """Make the task of a text (n,): the last tenth is the test, the one before it for validation.

    Where nobody asks for a test, both are the last tenth.
    """
    n = len(symbols) // 10
    learnt, rest = (symbols[: -2 * n], symbols[-2 * n : -n]) if tested else (symbols[:-n], symbols[-n:])
    pieces = learnt, rest, symbols[-n:]
    train, validation, test = (Split(piece[None, :-1], None, (piece[None, 1:],)) for piece in pieces)
    K, symbol = len(vocabulary), vocabulary.kind[:-1]
    return Task(
        name,
        f"which {symbol} comes next",
        source,
        train,
        validation,
        test,
        read="every",
        parts=(Part(f"next {symbol}", "symbols", K, unit=symbol),),
        symbols=K,
        baselines=baselines,
        vocabulary=vocabulary,
    )


def baselines(task: Task) -> dict[str, Outputs]:
    """The 5-gram model with Kneser-Ney smoothing."""
    p = probability(kneser_ney(task.train.text, ORDER), task.test.text, task.symbols)
    return {f"{ORDER}-gram, Kneser-Ney": [-np.log2(p[1:])]}
