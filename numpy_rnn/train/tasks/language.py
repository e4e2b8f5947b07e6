"""Which character comes next: Python's own help, read as one text.

`pydoc_data.topics`, which every CPython carries for `help()`, holds half a megabyte of English and code. Split in
time: a network learns from the first eight tenths, the next is for validation, the last for the test. States are
carried on from window to window; the test is read as one stream, from its first character, which nothing predicts and
nobody counts, to its last. The baseline is a 5-gram model that has counted the same eight tenths.
"""

from __future__ import annotations

import numpy as np

from ...fast.numerics import Array
from ..language import Text, read_text
from ..task import Outputs, Part, Split, Task
from .ngrams import kneser_ney, probability

ORDER = 5
SOURCE = "Python's own help, pydoc_data.topics"


def load() -> Task:
    """Read the text and make the task, or say what is missing."""
    text = read_text(None, "characters")
    n = len(text.validation)
    return of(Text(text.vocabulary, text.training[:-n], text.training[-n:]), text.validation)


def of(text: Text, test: Array | None = None, name: str = "language", source: str = SOURCE) -> Task:
    """Make the task of a text; its test is by default what the validation sees, where nobody asks for a test."""
    K, symbol = len(text.vocabulary), text.vocabulary.kind[:-1]
    pieces = text.training, text.validation, text.validation if test is None else test
    train, validation, tested = (Split(symbols[None, :-1], None, (symbols[None, 1:],)) for symbols in pieces)
    return Task(
        name,
        f"which {symbol} comes next",
        source,
        train,
        validation,
        tested,
        read="every",
        parts=(Part(f"next {symbol}", "symbols", K, unit=symbol),),
        symbols=K,
        baselines=baselines,
        vocabulary=text.vocabulary,
    )


def baselines(task: Task) -> dict[str, Outputs]:
    """The 5-gram model with Kneser-Ney smoothing."""
    p = probability(kneser_ney(task.train.text, ORDER), task.test.text, task.symbols)
    return {f"{ORDER}-gram, Kneser-Ney": [-np.log2(p[1:])]}
