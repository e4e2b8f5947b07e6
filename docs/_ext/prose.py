"""Formulas in the sentences of the derivations, which nothing marks: what the site sets and the tests evaluate."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator

from numpy_rnn.study.notation import CLOSING, TOKEN

_PIECE = re.compile(rf"(?P<gap>\n[ \t]*\n)|\s*(?P<range>…)|\s*(?:{TOKEN.pattern})|\s*(?P<other>\S)")


def runs(text: str, known: Callable[[str], bool]) -> Iterator[tuple[int, int]]:
    """Where the longest runs of a text are that can be read as formulas whose names are `known`.

    Words, commas, semicolons and full stops end a run, and so does a bracket without its partner.

    Examples
    --------
    >>> text = "the state h_0 is given (with a = 2), so f(a) = 3"
    >>> [text[start:end] for start, end in runs(text, lambda name: name in ("h_0", "a", "f"))]
    ['h_0', 'a = 2', 'f(a) = 3']
    """
    start, end = 0, 0
    opened: list[tuple[str, int]] = []

    def ended() -> Iterator[tuple[int, int]]:
        """The run that has just ended; in pieces where a bracket was not closed."""
        cuts = [start, *(at for _, at in opened), end]
        for k, (a, b) in enumerate(itertools.pairwise(cuts)):
            piece = text[a + (k > 0) : b]
            if piece.strip(" ,;\n"):
                first = a + (k > 0) + len(piece) - len(piece.lstrip())
                yield first, first + len(piece.strip().rstrip(",; "))

    for match in _PIECE.finditer(text):
        kind, token = str(match.lastgroup), match.group(match.lastgroup or 0)
        closes = token in CLOSING.values()
        if (
            kind in ("other", "gap")
            or (kind == "name" and not known(token))
            or (token in (",", ";") and not opened)
            or (closes and not (opened and CLOSING[opened[-1][0]] == token))
        ):
            yield from ended()
            start = end = match.end()
            opened = []
            continue
        if token in CLOSING:
            opened.append((token, match.start(kind)))
        elif closes:
            opened.pop()
        end = match.end()
    yield from ended()


ABBREVIATIONS = {"RNN", "LSTM", "GRU", "BPTT", "RTRL", "QR", "PyTorch", "ONNX", "cuDNN", "NumPy", "arXiv"}


def is_symbol(word: str) -> bool:
    """Whether what is made of letters is a symbol and no word of a sentence.

    A letter by itself is a symbol, but for a, A and I; so is what has an index, a Greek letter, a prime or a capital
    within, no vowel (dh), or is d and a vowel (du), but for do.

    Examples
    --------
    >>> [word for word in "if a_t and dh and γ do what W says".split() if is_symbol(word)]
    ['a_t', 'dh', 'γ', 'W']
    """
    if word in ABBREVIATIONS | {"a", "I", "A"}:
        return False
    return not (
        re.fullmatch("[A-Za-z][a-z]+", word)
        and re.search("[aeiouyAEIOUY]", word)
        and not re.fullmatch(r"d[aiu]|d?(.)\1", word)
    )
