"""The network of everything that is trained here: symbols or numbers in, recurrent layers, a linear head.

    (1)   x_t  = E[s_t]                      row s_t of the embedding, where symbols come in; otherwise x comes in
    (2)   h    = the layers' (x, s0)         L layers in D directions; h_{t+1} both directions side by side
    (3)   r    = h_{t+1} at every step, or   read "every"
                 [h_n→ ; h_n←], or           read "last": where each direction ended, of the last layer
                 h_{t+1} of the last n       read n
    (4)   y    = W r + b

    (4')  dr   = Wᵀ dy       dW = Σ dy rᵀ       db = Σ dy
    (3')  dr goes to where r was read
    (2')  the layers' backward
    (1')  dE[k] = Σ dx_t over the t with s_t = k       reading rows transposes to adding to rows

A direction ends at a sequence's own last step, or at its first. With read 1 all that the gradient of W_hh knows of the
first step has come the whole way back, through T - 1 products.

`torch_rnn.network` is the same in PyTorch, with the same parameter names.
"""

from __future__ import annotations

import inspect
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..fast.numerics import Array, linear, linear_db, linear_dW, linear_dx
from ..fast.registry import FAMILIES, NETWORK_CELLS, USER_FACING, cell_name
from . import recurrent
from .arguments import check_array, check_bool, check_lengths, check_size
from .module import Module, Seed
from .recurrent import LSTM, Recurrent

Read = str | int  # "every", "last", or how many steps at the end


class Tape(NamedTuple):
    """What the network's backward needs."""

    owner: Network
    read: Read
    symbols: Array | None  # (T, B), 0 in the padding
    steps: int  # T
    r: Array  # (T, B, D·H), read "last" (1, B, D·H), read n (n, B, D·H)
    rnn: recurrent.Tape


class Network(Module):
    """Recurrent layers between an optional embedding and a linear head.

    Parameters
    ----------
    cell : str
        One of `numpy_rnn.fast.registry.NETWORK_CELLS`, in any case.
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
    dtype : dtype
    rng : int, numpy.random.Generator or None
        Source of the initial parameters: uniform in ±1/√H as torch.nn's (the head: ±1/√(D·H)), the embedding uniform
        with variance 1.

    Raises
    ------
    ValueError
        If the cell is unknown or an argument is out of range.

    Examples
    --------
    >>> from numpy_rnn.layers.losses import softmax_cross_entropy
    >>> network = Network("gru", input_size=3, hidden_size=8, output_size=4, bidirectional=True, rng=0)
    >>> x = np.ones((5, 2, 3), np.float32)  # (T, B, I)
    >>> x[3:, 1] = np.nan  # padding
    >>> y, h_n, tape = network.forward(x, lengths=[5, 3], read="last")
    >>> loss, dy = softmax_cross_entropy(y, [0, 3])
    >>> grads, dx, dh_0 = network.backward(tape, dy)
    >>> y.shape, grads["head.weight"].shape, bool(np.isfinite(dx).all())
    ((2, 4), (4, 16), True)
    """

    symbols: int
    output_size: int

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        output_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        symbols: int = 0,
        dtype: DTypeLike = np.float32,
        rng: Seed = None,
    ) -> None:
        super().__init__(locals())
        cls, arguments = _layer(cell)
        self.rnn: Recurrent = cls(
            input_size, hidden_size, num_layers, bidirectional=bidirectional, dtype=dtype, rng=0, **arguments
        )
        layer = self.rnn.state_dict()
        self.rnn.load_state_dict({name: self._parameters[f"rnn.{name}"] for name in layer})
        self._parameters.update({f"rnn.{name}": value for name, value in layer.items()})  # from now on the same arrays

    @classmethod
    def parameter_bounds(cls, config: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], float]]:
        """Of each parameter its shape and its initial bound; checks the arguments."""
        layer_class, arguments = _layer(config["cell"])
        I, H, O = (check_size(name, config[name]) for name in ("input_size", "hidden_size", "output_size"))
        K = check_size("symbols", config["symbols"], least=0)
        bidirectional = check_bool("bidirectional", config["bidirectional"])
        sizes = {"input_size": I, "hidden_size": H, "num_layers": config["num_layers"], "bidirectional": bidirectional}
        defaults = {name: p.default for name, p in inspect.signature(layer_class).parameters.items()}
        layer = layer_class.parameter_bounds({**defaults, **arguments, **sizes})
        R = H * (1 + bidirectional)
        return {
            **({"embedding.weight": ((K, I), math.sqrt(3))} if K else {}),
            **{f"rnn.{name}": bound for name, bound in layer.items()},
            "head.weight": ((O, R), 1 / math.sqrt(R)),
            "head.bias": ((O,), 1 / math.sqrt(R)),
        }

    def __call__(self, x: ArrayLike, h_0: Any = None, lengths: Any = None, read: Read = "every") -> tuple[Array, Any]:
        """Return y and h_n of `forward`, without a tape and the memory that it takes."""
        x, _ = self._embedded(x, lengths)
        h, h_n = self.rnn(x, h_0, lengths)
        return self._answer(self._read(read, h, h_n, lengths), read), h_n

    def forward(
        self, x: ArrayLike, h_0: Any = None, lengths: Any = None, read: Read = "every"
    ) -> tuple[Array, Any, Tape]:
        """Run the network.

        Parameters
        ----------
        x : array (T, B, I), or integer array (T, B) of symbols, 0 … K-1
            What stands after a sequence's end is not read, be it NaN or no symbol at all.
        h_0 : array (L·D, B, H), optional
            Initial states, zeros by default. LSTM: the pair (h_0, c_0).
        lengths : B whole numbers from 0 to T, optional
            How many steps of each sequence are valid. All T by default.
        read : "every", "last" or int
            Whether there is an output at every step, one from the final states, or one at each of the last n steps, n
            from 1 to T; the last of these is for sequences of one length.

        Returns
        -------
        y : array (T, B, O), read "last" (B, O), read n (n, B, O)
            What stands after a sequence's end means nothing.
        h_n : array (L·D, B, H)
            Final states. LSTM: the pair (h_n, c_n).
        tape : Tape
            What `backward` needs.

        Raises
        ------
        ValueError
            If a shape, a dtype, a length, a symbol or `read` does not fit.
        """
        x, symbols = self._embedded(x, lengths)  # (1)
        h, h_n, tape = self.rnn.forward(x, h_0, lengths)  # (2)
        r = self._read(read, h, h_n, lengths)  # (3)
        return self._answer(r, read), h_n, Tape(self, read, symbols, len(h), r, tape)  # (4)

    def backward(self, tape: Tape, dy: Array, dh_n: Any = None) -> tuple[dict[str, Array], Array | None, Any]:
        """Backpropagation through time: gradients of a loss, given those by the outputs and the final states.

        `dy` has y's shape and is 0 after a sequence's end. `dh_n`, the results and the errors are those of the layers'
        `backward`; dx is None where symbols came in.
        """
        self._check_tape(tape, Tape)
        _, read, symbols, steps, r, rnn_tape = tape
        lead = r.shape[1:2] if read == "last" else r.shape[:2]
        dy = check_array("dy", dy, self.dtype, (*lead, self.output_size), "y's")
        dy = dy[None] if read == "last" else dy
        dr = linear_dx(dy, self._parameters["head.weight"])  # (4')
        dh, dh_n = self._read_transposed(read, dr, steps, dh_n)  # (3')
        grads, dx, dh_0 = self.rnn.backward(rnn_tape, dh, dh_n)  # (2')
        named = {f"rnn.{name}": g for name, g in grads.items()}
        if symbols is not None:
            named["embedding.weight"] = sum_rows(dx, symbols, self.symbols)  # (1'); dx is 0 in the padding
        named["head.weight"], named["head.bias"] = linear_dW(dy, r), linear_db(dy)  # (4')
        return {name: named[name] for name in self._parameters}, dx if symbols is None else None, dh_0

    def _embedded(self, x: ArrayLike, lengths: Any) -> tuple[Array, Array | None]:
        """Numbers for what came in, and the symbols if it was symbols: 0 in the padding."""
        array: Array = np.asarray(x)
        if not self.symbols:
            return array, None
        if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
            raise ValueError(
                f"symbols has shape {array.shape} and dtype {array.dtype}, expected integers (steps, batch)"
            )
        if (lengths := check_lengths(lengths, *array.shape)) is not None:
            array = np.where(np.arange(len(array))[:, None] < lengths, array, 0)
        if array.size and not 0 <= array.min() <= array.max() < self.symbols:
            raise ValueError(f"symbols are from {array.min()} to {array.max()}, expected 0 to {self.symbols - 1}")
        return self._parameters["embedding.weight"][array], array

    def _answer(self, r: Array, read: Read) -> Array:
        y = linear(r, self._parameters["head.weight"], self._parameters["head.bias"])
        return y[0] if read == "last" else y

    def _read(self, read: Read, h: Array, h_n: Any, lengths: Any) -> Array:
        """What of the layers' output and final states the head sees."""
        if read == "last":  # the last layer, both directions side by side: (1, B, D·H)
            last: Array = (h_n[0] if isinstance(h_n, tuple) else h_n)[-self.rnn.num_directions :]  # (D, B, H)
            return np.ascontiguousarray(last.swapaxes(0, 1)).reshape(1, last.shape[1], -1)
        if read == "every":
            return h
        if isinstance(read, str):
            raise ValueError(f"read is {read!r}, expected every, last or how many steps at the end")
        if check_size("read", read) > len(h):
            raise ValueError(f"read is {read}, expected at most {len(h)}, the number of steps")
        if lengths is not None:
            raise ValueError(f"read is {read} and there are lengths, expected sequences of one length")
        return h[len(h) - read :]

    def _read_transposed(self, read: Read, dr: Array, steps: int, dh_n: Any) -> tuple[Array | None, Any]:
        """Transpose of `_read`: dh and dh_n. The states of the other layers, and the LSTM's c, were not read."""
        if read == "every":
            return dr, dh_n
        _, B, R = dr.shape
        if read != "last":
            return np.concatenate([np.zeros((steps - len(dr), B, R), self.dtype), dr]), dh_n
        D = self.rnn.num_directions
        last = np.zeros((self.rnn.num_layers * D, B, R // D), self.dtype)
        last[-D:] = dr.reshape(B, D, R // D).swapaxes(0, 1)
        if not isinstance(self.rnn, LSTM):
            return None, last if dh_n is None else last + dh_n
        given, dc = (None, None) if dh_n is None else dh_n
        return None, (last if given is None else last + given, dc)


def _layer(cell: str) -> tuple[type[Any], dict[str, Any]]:
    """The class of a cell's layers, and what that is told beside sizes."""
    name = cell_name(cell, NETWORK_CELLS)
    kind = USER_FACING[FAMILIES.get(name, name)]
    return getattr(recurrent, kind.cls), kind.arguments


def sum_rows(dx: Array, symbols: Array, K: int) -> Array:
    """Transpose of the lookup E[symbols]: row k of the result (K, I) is the sum of the dx that were read from row k.

    The same as `np.add.at(zeros, symbols, dx)`, which takes six times as long; dx is (T, B, I), symbols (T, B).

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
