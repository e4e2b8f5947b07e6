"""A language model: which symbol comes next? Characters or bytes in, a recurrent layer, a score for each symbol out.

    (1)   x_t      = E[s_t]                    row s_t of the embedding, for the symbol s_t
    (2)   h_{t+1}  = rnn, lstm or gru (x_t, h_t)
    (3)   logits_t = W h_{t+1} + b             one for each symbol of the vocabulary

    (3')  dh_{t+1} = Wᵀ dlogits_t         dW = Σ_t dlogits_t h_{t+1}ᵀ         db = Σ_t dlogits_t
    (2')  the layer's backward
    (1')  dE[k]    = Σ dx_t over the t with s_t = k       reading rows transposes to adding to rows

The loss is `losses.softmax_cross_entropy(logits, next symbols)`; divided by log 2 it is in bits per symbol.
`torch_rnn.language` is the same model in PyTorch, with the same parameter names.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import modules
from .checks import check_array, check_size
from .module import Module, Seed
from .modules import GRU, LSTM, RNN, Recurrent
from .numerics import Array, linear, linear_db, linear_dW, linear_dx

CELLS: dict[str, type[RNN] | type[LSTM] | type[GRU]] = {"rnn": RNN, "lstm": LSTM, "gru": GRU}
# The layers' own defaults; each cell reads those that it knows.
DEFAULTS: dict[str, Any] = {
    "bias": True,
    "batch_first": False,
    "dropout": 0.0,
    "bidirectional": False,
    "nonlinearity": "tanh",
    "proj_size": 0,
    "peephole": False,
    "reset_after": True,
}
KINDS = ("characters", "bytes")


class Tape(NamedTuple):
    """What the model's backward needs."""

    model: LanguageModel
    symbols: Array  # (T, B)
    y: Array  # (T, B, H), the layer's output
    rnn: modules.Tape


class LanguageModel(Module):
    """Embedding, recurrent layer and linear head over a vocabulary of K symbols.

    Parameters
    ----------
    cell : "rnn", "lstm" or "gru"
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
    >>> from numpy_rnn.losses import softmax_cross_entropy
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
        super().__init__(config, self.parameter_bounds(config), dtype, rng)
        self.vocabulary_size = vocabulary_size
        self.rnn: Recurrent = CELLS[cell](embedding_size or hidden_size, hidden_size, num_layers, dtype=dtype, rng=0)
        layer = self.rnn.state_dict()
        self.rnn.load_state_dict({name: self._parameters[f"rnn.{name}"] for name in layer})
        self._parameters.update({f"rnn.{name}": value for name, value in layer.items()})  # from now on the same arrays

    @classmethod
    def parameter_bounds(cls, config: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], float]]:
        """Of each parameter its shape and its initial bound; checks the arguments."""
        if config["cell"] not in CELLS:
            raise ValueError(f"cell is {config['cell']!r}, expected {', '.join(CELLS)}")
        K, H, L = (check_size(name, config[name]) for name in ("vocabulary_size", "hidden_size", "num_layers"))
        I = H if config["embedding_size"] is None else check_size("embedding_size", config["embedding_size"])
        layer = CELLS[config["cell"]].parameter_bounds(dict(DEFAULTS, input_size=I, hidden_size=H, num_layers=L))
        return {
            "embedding.weight": ((K, I), math.sqrt(3)),
            **{f"rnn.{name}": bound for name, bound in layer.items()},
            "head.weight": ((K, H), 1 / math.sqrt(H)),
            "head.bias": ((K,), 1 / math.sqrt(H)),
        }

    def __call__(self, symbols: ArrayLike, h_0: Any = None) -> tuple[Array, Any]:
        """Return logits and h_n of `forward`."""
        logits, h_n, _ = self.forward(symbols, h_0)
        return logits, h_n

    def forward(self, symbols: ArrayLike, h_0: Any = None) -> tuple[Array, Any, Tape]:
        """Run the model.

        Parameters
        ----------
        symbols : integer array (T, B)
            0 … K-1.
        h_0 : array (L, B, H), optional
            Initial states, zeros by default. LSTM: the pair (h_0, c_0).

        Returns
        -------
        logits : array (T, B, K)
            Scores of the symbol that follows each step; softmax makes them probabilities.
        h_n : array (L, B, H)
            Final states. LSTM: the pair (h_n, c_n).
        tape : Tape
            What `backward` needs.

        Raises
        ------
        ValueError
            If symbols are not integers from 0 to K-1 in two dimensions, or a state does not fit.
        """
        symbols = self._check_symbols(np.asarray(symbols))
        x = self._parameters["embedding.weight"][symbols]  # (1)
        y, h_n, tape = self.rnn.forward(x, h_0)  # (2)
        logits = linear(y, self._parameters["head.weight"], self._parameters["head.bias"])  # (3)
        return logits, h_n, Tape(self, symbols, y, tape)

    def backward(self, tape: Tape, dlogits: Array, dh_n: Any = None) -> tuple[dict[str, Array], Any]:
        """Backpropagation through time: gradients of a loss, given those by the logits and the final states.

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
        model, symbols, y, rnn_tape = tape
        if model is not self:
            raise ValueError(f"the tape comes from {model!r}, expected one from this model's own forward, {self!r}")
        dlogits = check_array("dlogits", dlogits, self.dtype, (*symbols.shape, self.vocabulary_size), "logits'")
        dy = linear_dx(dlogits, self._parameters["head.weight"])  # (3')
        grads, dx, dh_0 = self.rnn.backward(rnn_tape, dy, dh_n)  # (2')
        return {
            "embedding.weight": sum_rows(dx, symbols, self.vocabulary_size),  # (1')
            **{f"rnn.{name}": g for name, g in grads.items()},
            "head.weight": linear_dW(dlogits, y),  # (3')
            "head.bias": linear_db(dlogits),  # (3')
        }, dh_0

    def _check_symbols(self, symbols: Array) -> Array:
        if symbols.ndim != 2 or not np.issubdtype(symbols.dtype, np.integer):
            raise ValueError(
                f"symbols has shape {symbols.shape} and dtype {symbols.dtype}, expected integers (steps, batch)"
            )
        if symbols.size and not 0 <= symbols.min() <= symbols.max() < self.vocabulary_size:
            raise ValueError(
                f"symbols are from {symbols.min()} to {symbols.max()}, expected 0 to {self.vocabulary_size - 1}"
            )
        return symbols


def sum_rows(dx: Array, symbols: Array, K: int) -> Array:
    """Transpose of the lookup E[symbols]: row k of the result is the sum of the dx that were read from row k.

    The same as `np.add.at(zeros, symbols, dx)`, which takes six times as long.

    Parameters
    ----------
    dx : array (T, B, I)
    symbols : integer array (T, B)
    K : int

    Returns
    -------
    array (K, I)

    Examples
    --------
    >>> sum_rows(np.array([[[1.0]], [[10.0]], [[100.0]]]), np.array([[2], [0], [2]]), K=3).tolist()
    [[10.0], [0.0], [101.0]]
    """
    symbols, dx = symbols.reshape(-1), dx.reshape(-1, dx.shape[-1])
    dE = np.zeros((K, dx.shape[1]), dx.dtype)
    order = np.argsort(symbols, kind="stable")
    present, starts = np.unique(symbols[order], return_index=True)
    if len(present):
        dE[present] = np.add.reduceat(dx[order], starts, axis=0)
    return dE


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


def generate(model: LanguageModel, prompt: Array, length: int, temperature: float, rng: Seed = None) -> Iterator[int]:
    """Let a model continue a text, symbol after symbol, each drawn from softmax(logits / temperature).

    Parameters
    ----------
    model : LanguageModel
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
