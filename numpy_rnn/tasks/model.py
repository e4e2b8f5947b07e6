"""The network of all tasks: symbols or numbers in, recurrent layers, a linear head at every step or on the last states.

    (1)   x_t  = E[s_t]                      where symbols come in; otherwise x is what comes in
    (2)   h    = the layers' (x)             L layers in D directions; h_{t+1} both directions side by side
    (3)   r    = h_{t+1} at every step, or   read "every"
                 [h_n→ ; h_n←]               read "last": where each direction ended, of the last layer
    (4)   y    = W r + b

    (4')  dr   = Wᵀ dy       dW = Σ dy rᵀ       db = Σ dy
    (3')  dr goes to where r was read
    (2')  the layers' backward
    (1')  dE[k] = Σ dx_t over the t with s_t = k

A direction ends at a sequence's own last step, or at its first. `torch_rnn.tasks` is the same in PyTorch, with the same
parameter names.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from .. import modules
from ..checks import check_array, check_bool, check_size
from ..language import DEFAULTS, sum_rows
from ..module import Module, Seed
from ..modules import GRU, LSTM, RNN, Recurrent
from ..numerics import Array, linear, linear_db, linear_dW, linear_dx

READS = ("every", "last")
# Of every cell the class of its layers, and what that is told beside sizes.
CELLS: dict[str, tuple[type[RNN] | type[LSTM] | type[GRU], dict[str, Any]]] = {
    "rnn": (RNN, {}),
    "rnn_relu": (RNN, {"nonlinearity": "relu"}),
    "lstm": (LSTM, {}),
    "lstm_peephole": (LSTM, {"peephole": True}),
    "gru": (GRU, {}),
    "gru_reset_before": (GRU, {"reset_after": False}),
}


class Tape(NamedTuple):
    """What the model's backward needs."""

    model: TaskModel
    symbols: Array | None  # (T, B)
    valid: Array | None  # (T, B) bool; None: all
    r: Array  # (T, B, D·H) or, read "last", (1, B, D·H)
    rnn: modules.Tape


class TaskModel(Module):
    """Recurrent layers between an optional embedding and a linear head.

    Parameters
    ----------
    cell : str
        One of `CELLS`.
    input_size : int
        I, numbers that a step reads; where symbols come in, the numbers that stand for one.
    hidden_size, output_size : int
        H and O.
    num_layers : int
        L.
    bidirectional : bool
        Whether a second set of cells reads each sequence from its end (D = 2).
    symbols : int
        K, how many different symbols come in; 0: numbers come in.
    read : "every" or "last"
        Whether there is an output at every step, or one, from the final states.
    dtype : dtype
    rng : int, numpy.random.Generator or None
        Source of the initial parameters: uniform in ±1/√H as torch.nn's (the head: ±1/√(D·H)), the embedding uniform
        with variance 1.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> from numpy_rnn.losses import softmax_cross_entropy
    >>> model = TaskModel("gru", input_size=3, hidden_size=8, output_size=4, bidirectional=True, read="last", rng=0)
    >>> x = np.ones((5, 2, 3), np.float32)  # (T, B, I)
    >>> x[3:, 1] = np.nan  # padding
    >>> y, tape = model.forward(x, lengths=[5, 3])
    >>> loss, dy = softmax_cross_entropy(y, [0, 3])
    >>> grads, dx = model.backward(tape, dy)
    >>> y.shape, grads["head.weight"].shape, bool(np.isfinite(dx).all())
    ((2, 4), (4, 16), True)
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        output_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        symbols: int = 0,
        read: str = "every",
        dtype: DTypeLike = np.float32,
        rng: Seed = None,
    ) -> None:
        config = dict(
            cell=cell,
            input_size=input_size,
            hidden_size=hidden_size,
            output_size=output_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            symbols=symbols,
            read=read,
        )
        super().__init__(config, self.parameter_bounds(config), dtype, rng)
        self.symbols, self.read = symbols, read
        kind, options = CELLS[cell]
        self.rnn: Recurrent = kind(
            input_size, hidden_size, num_layers, bidirectional=bidirectional, dtype=dtype, rng=0, **options
        )
        layer = self.rnn.state_dict()
        self.rnn.load_state_dict({name: self._parameters[f"rnn.{name}"] for name in layer})
        self._parameters.update({f"rnn.{name}": value for name, value in layer.items()})  # from now on the same arrays

    @classmethod
    def parameter_bounds(cls, config: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], float]]:
        """Of each parameter its shape and its initial bound; checks the arguments."""
        for name, known in (("cell", tuple(CELLS)), ("read", READS)):
            if config[name] not in known:
                raise ValueError(f"{name} is {config[name]!r}, expected {', '.join(known)}")
        I, H, O = (check_size(name, config[name]) for name in ("input_size", "hidden_size", "output_size"))
        K = check_size("symbols", config["symbols"], least=0)
        bidirectional = check_bool("bidirectional", config["bidirectional"])
        sizes = {"input_size": I, "hidden_size": H, "num_layers": config["num_layers"], "bidirectional": bidirectional}
        kind, options = CELLS[config["cell"]]
        layer = kind.parameter_bounds({**DEFAULTS, **options, **sizes})
        R = H * (1 + bidirectional)
        return {
            **({"embedding.weight": ((K, I), math.sqrt(3))} if K else {}),
            **{f"rnn.{name}": bound for name, bound in layer.items()},
            "head.weight": ((O, R), 1 / math.sqrt(R)),
            "head.bias": ((O,), 1 / math.sqrt(R)),
        }

    def __call__(self, x: Array, lengths: Any = None) -> Array:
        """Return y of `forward`."""
        return self.forward(x, lengths)[0]

    def forward(self, x: Array, lengths: Any = None) -> tuple[Array, Tape]:
        """Run the model.

        Parameters
        ----------
        x : array (T, B, I), or integer array (T, B) of symbols
            What stands after a sequence's end is not read, be it NaN or no symbol at all.
        lengths : B whole numbers from 0 to T, optional
            How many steps of each sequence are valid. All T by default.

        Returns
        -------
        y : array (T, B, O) or, read "last", (B, O)
            At every step: what stands after a sequence's end means nothing.
        tape : Tape
            What `backward` needs.

        Raises
        ------
        ValueError
            If a shape, a dtype, a length or a symbol does not fit.
        """
        valid = None if lengths is None else np.arange(len(x))[:, None] < np.asarray(lengths)
        symbols = self._check_symbols(x, valid) if self.symbols else None
        if symbols is not None:
            x = self._embedded(symbols, valid)  # (1)
        h, h_n, tape = self.rnn.forward(x, lengths=lengths)  # (2)
        r = h if self.read == "every" else self._last(h_n)  # (3)
        y = linear(r, self._parameters["head.weight"], self._parameters["head.bias"])  # (4)
        return y if self.read == "every" else y[0], Tape(self, symbols, valid, r, tape)

    def backward(self, tape: Tape, dy: Array) -> tuple[dict[str, Array], Array | None]:
        """Backpropagation through time.

        Parameters
        ----------
        tape : Tape
            As `forward` returned it.
        dy : array, shape of y
            Gradient of the loss by y; 0 after a sequence's end.

        Returns
        -------
        grads : dict of str to array
            With the keys of `state_dict()`.
        dx : array (T, B, I), or None where symbols came in

        Raises
        ------
        ValueError
            If the tape is another model's, or dy does not fit.
        """
        model, symbols, valid, r, rnn_tape = tape
        if model is not self:
            raise ValueError(f"the tape comes from {model!r}, expected one from this model's own forward, {self!r}")
        lead = r.shape[:2] if self.read == "every" else r.shape[1:2]
        dy = check_array("dy", dy, self.dtype, (*lead, self.config["output_size"]), "y's")
        dy = dy if self.read == "every" else dy[None]
        dr = linear_dx(dy, self._parameters["head.weight"])  # (4')
        dh, dh_n = (dr, None) if self.read == "every" else (None, self._last_transposed(dr))  # (3')
        grads, dx, _ = self.rnn.backward(rnn_tape, dh, dh_n)  # (2')
        named = {f"rnn.{name}": g for name, g in grads.items()}
        if symbols is not None:
            everywhere = np.ones(symbols.shape, bool) if valid is None else valid
            named["embedding.weight"] = sum_rows(dx[everywhere], symbols[everywhere], self.symbols)  # (1')
        named["head.weight"], named["head.bias"] = linear_dW(dy, r), linear_db(dy)  # (4')
        return named, dx if symbols is None else None

    def _embedded(self, symbols: Array, valid: Array | None) -> Array:
        """Rows of the embedding; NaN in the padding, where there is no symbol to look up."""
        E = self._parameters["embedding.weight"]
        x: Array = np.full((*symbols.shape, E.shape[1]), np.nan, self.dtype)
        where = slice(None) if valid is None else valid
        x[where] = E[symbols[where]]
        return x

    def _last(self, h_n: Any) -> Array:
        """Final states of the last layer, both directions side by side: (1, B, D·H)."""
        h: Array = (h_n[0] if isinstance(h_n, tuple) else h_n)[-self.rnn.num_directions :]  # (D, B, H)
        return np.ascontiguousarray(h.swapaxes(0, 1)).reshape(1, h.shape[1], -1)

    def _last_transposed(self, dr: Array) -> Any:
        """Transpose of `_last`: the states of the other layers, and the LSTM's c, were not read."""
        D, layers = self.rnn.num_directions, self.rnn.num_layers
        _, B, R = dr.shape
        dh = np.zeros((layers * D, B, R // D), self.dtype)
        dh[-D:] = dr.reshape(B, D, R // D).swapaxes(0, 1)
        return (dh, None) if isinstance(self.rnn, LSTM) else dh

    def _check_symbols(self, x: Any, valid: Array | None) -> Array:
        symbols: Array = np.asarray(x)
        if symbols.ndim != 2 or not np.issubdtype(symbols.dtype, np.integer):
            raise ValueError(
                f"symbols has shape {symbols.shape} and dtype {symbols.dtype}, expected integers (steps, batch)"
            )
        if valid is not None and valid.shape != symbols.shape:
            raise ValueError(f"lengths has shape {valid.shape[1:]}, expected ({symbols.shape[1]},), one a sequence")
        read: Array = symbols if valid is None else symbols[valid]
        if read.size and not 0 <= read.min() <= read.max() < self.symbols:
            raise ValueError(f"symbols are from {read.min()} to {read.max()}, expected 0 to {self.symbols - 1}")
        return symbols
