"""Texts to learn from, the vocabulary that numbers their symbols, what each one costs, and a model that writes.

A language model is a `Network` that reads symbols and, at every step, gives a score for each symbol of its vocabulary.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..fast.numerics import Array
from ..layers.module import Seed
from ..layers.network import Network

KINDS = ("characters", "bytes")


class Vocabulary(NamedTuple):
    """The symbols that a model knows, in rising order; a symbol's index is what the model sees.

    Examples
    --------
    >>> vocabulary = Vocabulary.of("abracadabra", "characters")
    >>> len(vocabulary), vocabulary.encode("cab").tolist()
    (5, [2, 0, 1])
    >>> "".join(vocabulary.decode([2, 0, 1]))
    'cab'
    """

    kind: str  # "characters" or "bytes"
    codes: Array  # (K,) int64: code points, or values of bytes

    @classmethod
    def of(cls, text: str | bytes | Array, kind: str) -> Vocabulary:
        """Make the vocabulary of a text, or of the codes that `codes_of` made of it."""
        codes = codes_of(text, kind) if isinstance(text, (str, bytes)) else text
        return cls(kind, np.unique(codes))

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def valid(self) -> bool:
        """Whether the codes rise and are those of such symbols, which a file may only claim."""
        highest = 0x10FFFF if self.kind == "characters" else 0xFF
        return bool(self.codes[0] >= 0 and self.codes[-1] <= highest and np.all(np.diff(self.codes) > 0))

    def encode(self, text: str | bytes | Array) -> Array:
        """Turn a text, or its codes, into indices: an integer array (number of symbols,).

        Raises
        ------
        ValueError
            If the text has symbols that are not in the vocabulary; the message names the first few.
        """
        codes = codes_of(text, self.kind) if isinstance(text, (str, bytes)) else text
        indices = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        unknown = np.unique(codes[self.codes[indices] != codes]).tolist()
        if unknown:
            shown = [repr(chr(c)) if self.kind == "characters" else f"{c:#04x}" for c in unknown[:8]]
            more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
            raise ValueError(f"the model's text had none of these {self.kind}: {' '.join(shown)}{more}")
        return indices

    def decode(self, indices: Iterable[int]) -> Iterator[str]:
        """Turn indices into pieces of text, each as soon as it is complete.

        Bytes that are not UTF-8 become U+FFFD, the replacement character.
        """
        if self.kind == "characters":
            for index in indices:
                yield chr(self.codes[index])
            return
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for index in indices:
            yield decoder.decode(bytes([self.codes[index]]))
        yield decoder.decode(b"", final=True)


def codes_of(text: str | bytes, kind: str) -> Array:
    """Code points of a text, or the bytes of its UTF-8 form, as int64 (number of symbols,); bytes count as UTF-8.

    Raises
    ------
    ValueError
        If `text` is bytes that are not UTF-8 and characters are asked for.

    Examples
    --------
    >>> codes_of("é", "characters").tolist(), codes_of("é", "bytes").tolist()
    ([233], [195, 169])
    """
    if kind == "bytes":
        # A command-line argument that is not UTF-8 arrives with its bytes escaped: give them back as they were.
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
        return np.frombuffer(data, np.uint8).astype(np.int64)
    text = text if isinstance(text, str) else text.decode("utf-8")
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.int64)


def default_text() -> str:
    """Return the language reference that every CPython carries for `help()`: half a megabyte of English and code.

    Python's versions differ in it a little; within one it is the same everywhere.

    Raises
    ------
    ValueError
        If this Python was packaged without it.

    Examples
    --------
    >>> default_text().split()[:3]
    ['The', '"assert"', 'statement']
    """
    try:
        from pydoc_data.topics import topics
    except ModuleNotFoundError:
        raise ValueError("this Python was packaged without its language reference: give a text of your own") from None
    return "".join(topics[name] for name in sorted(topics))


def read_text(path: str | Path | None, kind: str) -> tuple[Vocabulary, Array]:
    """Read a UTF-8 file (of bytes, any file) or, for None, `default_text()`, as indices (n,) into its vocabulary.

    Raises
    ------
    ValueError
        If the file is empty, too short to split, or not UTF-8.
    OSError
        If it cannot be read.
    """
    data = default_text().encode() if path is None else Path(path).read_bytes()
    try:
        codes = codes_of(data, kind)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte {error.start} is {data[error.start]:#04x}); symbols can be bytes instead"
        ) from None
    name = "the text" if path is None else path
    if len(codes) == 0:
        raise ValueError(f"{name} is empty")
    if len(codes) < 20:
        raise ValueError(f"{name} has {len(codes)} {kind}, expected at least 20: the last tenth is for validation")
    vocabulary = Vocabulary.of(codes, kind)
    return vocabulary, vocabulary.encode(codes)


def generate(model: Network, prompt: Array, length: int, temperature: float, rng: Seed = None) -> Iterator[int]:
    """Let a model continue a text, symbol after symbol, each drawn from softmax(logits / temperature).

    The prompt (n,) and what is yielded are indices; the model has as many outputs as it knows symbols. A temperature
    of 1 draws as the model predicts, less draws the likely ones more often, 0 always takes the likeliest.

    Raises
    ------
    ValueError
        If the prompt is empty, the temperature is negative or not finite, or the model's logits are not finite.

    Examples
    --------
    >>> model = Network("rnn", input_size=3, hidden_size=8, output_size=5, symbols=5, rng=0)
    >>> len(list(generate(model, np.array([3]), length=10, temperature=1.0, rng=0)))
    10
    """
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ValueError(f"temperature is {temperature}, expected a finite number of 0 or more")
    if len(prompt) == 0:
        raise ValueError("the prompt is empty, expected at least one symbol")
    rng = np.random.default_rng(rng)
    symbols, state = np.asarray(prompt)[:, None], None
    for _ in range(length):
        logits, state = model(symbols, state)
        index = _draw(logits[-1, 0].astype(np.float64), temperature, rng)
        yield index
        symbols = np.array([[index]])


def _draw(logits: Array, temperature: float, rng: np.random.Generator) -> int:
    if not np.isfinite(logits).all():
        raise ValueError("the model's logits are not finite: its training must have diverged")
    if temperature == 0:
        return int(logits.argmax())
    with np.errstate(over="ignore"):  # a tiny temperature sends all but the likeliest to -inf, as it should
        cumulative = np.exp((logits - logits.max()) / temperature).cumsum()
    index = np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
    return min(int(index), len(logits) - 1)  # the product may round up to the whole


def costs(logits: Array, symbols: ArrayLike) -> Array:
    """What each symbol costs, -log₂ softmax(logits)[symbol].

    Of logits (n, K) and symbols (n,), float64 (n,): a float32 sum over a window would lose digits.

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
