"""A language model: which symbol comes next? Characters or bytes in, a recurrent layer, a score for each symbol out.

The model is `network.Network`, whose equations and their transposes stand there, read at every step: its outputs are
the logits of the K symbols of a vocabulary. The loss is `losses.softmax_cross_entropy(logits, next symbols)`; divided
by log 2 it is in bits per symbol. `torch_rnn.language` is the same model in PyTorch, with the same parameter names.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ..fast.numerics import Array
from ..layers.arguments import check_size
from ..layers.module import Seed
from ..layers.network import Network, Tape

KINDS = ("characters", "bytes")


class LanguageModel(Network):
    """Embedding, recurrent layer and linear head over a vocabulary of K symbols.

    Parameters
    ----------
    cell : str
        One of `network.CELLS`.
    vocabulary_size : int
        K, the number of symbols.
    hidden_size : int
        H, units of each layer.
    num_layers : int
        L.
    embedding_size : int or None
        I, numbers that stand for a symbol; None for as many as H.
    dtype : dtype
    rng : int, numpy.random.Generator or None
        Source of the initial parameters: uniform in ±1/√H as torch.nn's, the embedding uniform with variance 1.

    Raises
    ------
    ValueError
        If the cell is unknown or a size is less than 1.

    Examples
    --------
    >>> from numpy_rnn.layers.losses import softmax_cross_entropy
    >>> model = LanguageModel("gru", vocabulary_size=5, hidden_size=8, rng=0)
    >>> text = np.array([[0, 1, 2, 3, 4, 0, 1]]).T  # (T, B): one sequence
    >>> logits, h_n, tape = model.forward(text[:-1])
    >>> loss, dlogits = softmax_cross_entropy(logits, text[1:])
    >>> grads, dh_0 = model.backward(tape, dlogits)
    >>> sorted(grads)[:3], grads["embedding.weight"].shape
    (['embedding.weight', 'head.bias', 'head.weight'], (5, 8))
    """

    def __init__(
        self,
        cell: str,
        vocabulary_size: int,
        hidden_size: int,
        num_layers: int = 1,
        embedding_size: int | None = None,
        dtype: DTypeLike = np.float32,
        rng: Seed = None,
    ) -> None:
        config = dict(
            cell=cell,
            vocabulary_size=vocabulary_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            embedding_size=embedding_size,
        )
        super().__init__(**network_arguments(config), dtype=dtype, rng=rng)
        self.config = config

    @classmethod
    def parameter_bounds(cls, config: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], float]]:
        """Of each parameter its shape and its initial bound; checks the arguments."""
        return Network.parameter_bounds({**network_arguments(config), "bidirectional": False})

    def backward(  # type: ignore[override]  # there is no dx: symbols came in
        self, tape: Tape, dlogits: Array, dh_n: Any = None
    ) -> tuple[dict[str, Array], Any]:
        """Backpropagation through time, as `Network.backward`.

        Parameters
        ----------
        tape : Tape
            As `forward` returned it.
        dlogits : array (T, B, K)
        dh_n : array, shape of h_n, or None
            None counts as zero.

        Returns
        -------
        grads : dict of str to array
            With the keys of `state_dict()`.
        dh_0 : array, shape of h_0
            LSTM: the pair (dh_0, dc_0).

        Raises
        ------
        ValueError
            If the tape is another model's, or a shape or dtype does not fit.
        """
        grads, _, dh_0 = super().backward(tape, dlogits, dh_n)
        return grads, dh_0


def network_arguments(config: dict[str, Any]) -> dict[str, Any]:
    """What the network's constructor is told."""
    K, H = (check_size(name, config[name]) for name in ("vocabulary_size", "hidden_size"))
    I = H if config["embedding_size"] is None else check_size("embedding_size", config["embedding_size"])
    sizes = {"input_size": I, "hidden_size": H, "output_size": K, "num_layers": config["num_layers"], "symbols": K}
    return {"cell": config["cell"], **sizes}


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

    def encode(self, text: str | bytes | Array) -> Array:
        """Turn a text, or its codes, into indices.

        Returns
        -------
        integer array (number of symbols,)

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
    """Code points of a text, or the bytes of its UTF-8 form.

    Parameters
    ----------
    text : str or bytes
        Bytes count as UTF-8.
    kind : "characters" or "bytes"

    Returns
    -------
    int64 array (number of symbols,)

    Raises
    ------
    ValueError
        If the kind is unknown, or `text` is bytes that are not UTF-8 and characters are asked for.

    Examples
    --------
    >>> codes_of("é", "characters").tolist(), codes_of("é", "bytes").tolist()
    ([233], [195, 169])
    """
    if kind not in KINDS:
        raise ValueError(f"symbols are {kind!r}, expected {' or '.join(KINDS)}")
    if kind == "bytes":
        # A command-line argument that is not UTF-8 arrives with its bytes escaped: give them back as they were.
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
        return np.frombuffer(data, np.uint8).astype(np.int64)
    text = text if isinstance(text, str) else text.decode("utf-8")
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.int64)


def generate(model: Network, prompt: Array, length: int, temperature: float, rng: Seed = None) -> Iterator[int]:
    """Let a model continue a text, symbol after symbol, each drawn from softmax(logits / temperature).

    Parameters
    ----------
    model : Network
        With symbols in and, at every step, a score for each of them out, as a `LanguageModel`.
    prompt : integer array (n,)
        Indices of at least one symbol.
    length : int
        How many symbols to draw.
    temperature : float
        1 draws as the model predicts, less draws the likely ones more often, 0 always takes the likeliest.
    rng : int, numpy.random.Generator or None

    Yields
    ------
    int
        Indices.

    Raises
    ------
    ValueError
        If the prompt is empty, the temperature is negative or not finite, or the model's logits are not finite.

    Examples
    --------
    >>> model = LanguageModel("rnn", vocabulary_size=5, hidden_size=8, rng=0)
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
