"""RNN, LSTM and GRU with the arguments, parameter names, shapes and gate orders of torch.nn, computed by `deep`.

They differ from torch.nn's in what a hand-written backward needs: `forward` also returns a tape, `backward` takes it,
and nothing about a run is kept in the layer. So any number of runs may be in flight, on any number of threads.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ..fast import deep, gru, lstm, rnn, truncated
from ..fast.cell import Cell, Grads, States
from ..fast.numerics import Array
from ..fast.registry import parameter_name, parameter_shapes
from .arguments import check_bool, check_lengths, check_probability, check_size
from .module import Seed
from .sequence import SequenceModel

# What `deep.forward` takes: the cell, its parameters, x, the initial states, lengths and dropout masks.
Arguments = tuple[Cell, Any, Array, States, Any, Sequence[Array] | None]


class Tape(NamedTuple):
    """What a layer's backward needs."""

    owner: Recurrent
    deep: deep.Tape
    batched: bool


class Recurrent(SequenceModel, abstract=True):
    """What RNN, LSTM and GRU share: layers and directions of one cell."""

    _state_words = ("num_layers * num_directions",)
    num_layers: int
    dropout: float
    bidirectional: bool

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__(arguments)
        self.cell = self.cell_of(self.config)
        self.num_directions = 2 if self.bidirectional else 1
        projected: int = self.config.get("proj_size", 0)
        self.output_size = projected or self.hidden_size  # R, units of the state h
        self._output_width = self.num_directions * self.output_size
        self._state_lead = (self.num_layers * self.num_directions,)
        units = [("proj_size" if projected else "hidden_size", self.output_size), ("hidden_size", self.hidden_size)]
        self._state_units = units[: len(self.cell.State._fields)]
        fields, D = self.cell.Params._fields, range(self.num_directions)
        # Of all cells' parameters, in the order of their Params; an absent bias has a name, too, and is zero.
        self._names = [parameter_name(f, l, d) for l in range(self.num_layers) for d in D for f in fields]
        no_bias = np.zeros(self.cell.gates * self.hidden_size, self.dtype)
        no_bias.flags.writeable = False
        arrays = iter([self._parameters.get(name, no_bias) for name in self._names])
        self._params = tuple(
            tuple(self.cell.Params(*islice(arrays, len(fields))) for _ in D) for _ in range(self.num_layers)
        )
        if self.dropout > 0 and self.num_layers == 1:
            warnings.warn("dropout acts between layers, so with num_layers=1 it does nothing", stacklevel=3)

    @staticmethod
    def cell_of(config: dict[str, Any]) -> Cell:
        """Choose the cell that the constructor's arguments call for."""
        raise NotImplementedError

    @classmethod
    def parameter_bounds(cls, config: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], float]]:
        """Of each parameter its shape and its initial bound, in torch's order; checks the arguments."""
        I, H, L = (check_size(name, config[name]) for name in ("input_size", "hidden_size", "num_layers"))
        bias, bidirectional, _ = (check_bool(name, config[name]) for name in ("bias", "bidirectional", "batch_first"))
        check_probability("dropout", config["dropout"])
        proj_size = check_size("proj_size", config.get("proj_size", 0), least=0)
        if proj_size >= H:
            raise ValueError(f"proj_size is {proj_size}, expected less than hidden_size, {H}, or 0 for no projection")
        R, D = proj_size or H, 1 + bidirectional
        cell = cls.cell_of(config)
        return {
            parameter_name(field, layer, direction): (shape, 1 / math.sqrt(H))
            for layer in range(L)
            for direction in range(D)
            for field, shape in zip(cell.Params._fields, parameter_shapes(cell, I if layer == 0 else D * R, H, R))
            if bias or not field.startswith("b_")
        }

    def params(self) -> tuple[tuple[Any, ...], ...]:
        """The layer's own parameters as L tuples of D of the cell's Params; absent biases are zero."""
        return self._params

    def __call__(self, x: Array, h_0: Any = None, lengths: Any = None) -> tuple[Array, Any]:
        """Return output and h_n of `forward`, without a tape and the memory that it takes."""
        batched, arguments = self._arguments(x, h_0, lengths)
        y, s_n, _ = deep.forward(*arguments, keep="nothing")
        return self._to_user(y, batched), self._states_to_user(s_n, batched)

    def forward(
        self, x: Array, h_0: Any = None, lengths: Any = None, *, snapshots: bool = False
    ) -> tuple[Array, Any, Tape]:
        """Run the layer.

        Parameters
        ----------
        x : array (T, B, I), or (B, T, I) with batch_first, or (T, I) for a single sequence
        h_0 : array (L·D, B, R), or (L·D, R) for a single sequence, optional
            Initial states, zeros by default. LSTM: the pair (h_0, c_0), c_0 with H units.
        lengths : B whole numbers from 0 to T, optional
            How many steps of each sequence are valid, in any order; what stands after them is not read. The
            output there is 0, and the final state is that of the last valid step.
        snapshots : bool
            Whether the tape keeps no more than the states at some √T steps, from which `backward` runs the steps
            between them again: for long sequences. The gradients are the same, to the last bit.

        Returns
        -------
        output : array (T, B, D·R), laid out as x
            The last layer's h after every step, both directions side by side.
        h_n : array (L·D, B, R), or (L·D, R) for a single sequence
            Final states. LSTM: the pair (h_n, c_n).
        tape : Tape
            What `backward` needs.

        Raises
        ------
        ValueError
            If a shape, a dtype or a length does not fit.
        """
        keep: deep.Keep = "snapshots" if check_bool("snapshots", snapshots) else "tapes"
        batched, arguments = self._arguments(x, h_0, lengths)
        y, s_n, tape = deep.forward(*arguments, keep)
        return self._to_user(y, batched), self._states_to_user(s_n, batched), Tape(self, tape, batched)

    def _arguments(self, x: Array, h_0: Any, lengths: Any) -> tuple[bool, Arguments]:
        """Whether x is a batch, and what `deep.forward` takes, of what the user handed in."""
        x, batched = self._check_x(x)
        T, B, _ = x.shape
        if lengths is not None and not batched:
            raise ValueError("lengths came with a single sequence, expected a batch: cut the sequence instead")
        lengths = check_lengths(lengths, T, B)
        s0 = self._check_states("h_0", ("h_0", "c_0"), h_0, B, batched)
        return batched, (self.cell, self.params(), x, s0, lengths, self._masks(T, B))

    def backward(self, tape: Tape, doutput: Array | None, dh_n: Any = None) -> tuple[dict[str, Array], Array, Any]:
        """Backpropagation through time: gradients of a loss, given those by the output and the final states.

        Parameters
        ----------
        doutput : array, shape of output, or None
            Gradient of the loss by the output. None counts as zero.
        dh_n : array, shape of h_n, or None
            Gradient by the final states; LSTM: the pair (dh_n, dc_n), either of them may be None.

        Returns
        -------
        grads : dict of str to array
            Gradients of the parameters, with the keys of `state_dict()`.
        dx : array, shape of x
        dh_0 : array, shape of h_0
            LSTM: the pair (dh_0, dc_0).

        Raises
        ------
        ValueError
            If the tape is another layer's, or a shape or dtype does not fit.
        """
        dy, ds_n = self._check_upstream(tape, doutput, dh_n)
        return self._results(tape, *deep.backward(tape.deep, dy, ds_n))

    def truncated_backward(
        self, tape: Tape, doutput: Array | None, dh_n: Any = None, *, k1: int, k2: int
    ) -> tuple[dict[str, Array], Array, Any]:
        """Truncated backpropagation through time: `backward`, but after every k1 steps and through k2 steps only.

        `numpy_rnn.fast.truncated` specifies it. With k2 at least T it equals `backward`.

        Parameters
        ----------
        k1 : int
            Steps from one window's end to the next.
        k2 : int
            Steps that a window reaches back, at least k1.

        Raises
        ------
        ValueError
            As from `backward`; also if k1 or k2 is out of range, or the layer is bidirectional.
        """
        k1 = check_size("k1", k1)
        if (k2 := check_size("k2", k2)) < k1:
            raise ValueError(f"k2 is {k2}, expected at least k1, {k1}: the loss of some steps would go nowhere")
        if self.bidirectional:
            raise ValueError("the layer is bidirectional, expected one direction: truncation cuts off the past only")
        dy, ds_n = self._check_upstream(tape, doutput, dh_n)
        return self._results(tape, *truncated.backward(tape.deep, dy, ds_n, k1, k2))

    def _check_upstream(self, tape: Tape, doutput: Any, dh_n: Any) -> tuple[Array, States]:
        self._check_tape(tape, Tape)
        T, B, _ = tape.deep.x.shape
        dy = self._check_dy("doutput", doutput, T, B, tape.batched)
        return dy, self._check_states("dh_n", ("dh_n", "dc_n"), dh_n, B, tape.batched)

    def _results(
        self, tape: Tape, grads: list[list[Grads]], dx: Array, ds0: States
    ) -> tuple[dict[str, Array], Array, Any]:
        flat = [g for layer in grads for direction in layer for g in direction]
        named = {name: g for name, g in zip(self._names, flat) if name in self._parameters}
        return named, self._to_user(dx, tape.batched), self._states_to_user(ds0, tape.batched)

    def _masks(self, T: int, B: int) -> list[Array] | None:
        """Dropout between layers: 0 with probability p, else 1 / (1 - p)."""
        p = self.dropout
        if not self.training or p == 0 or self.num_layers == 1:
            return None
        scale = 1 / (1 - p) if p < 1 else 0.0
        shape = (T, B, self._output_width)
        return [((self._rng.random(shape) >= p) * scale).astype(self.dtype) for _ in range(self.num_layers - 1)]


class RNN(Recurrent):
    """Elman's recurrent network, as torch.nn.RNN.

    h_{t+1} = f(W_ih x_t + b_ih + W_hh h_t + b_hh), f = tanh or relu; `numpy_rnn.textbook.rnn` has the equations.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
        I, H and L; layer l reads the output of layer l-1.
    nonlinearity : "tanh" or "relu"
    bias : bool
        Whether there are b_ih and b_hh.
    batch_first : bool
        Whether x and output are (B, T, ·); states are (L·D, B, H) either way.
    dropout : float
        Probability with which, while training, an output of a layer but the last is set to 0.
    bidirectional : bool
        Whether a second set of cells reads each sequence from its end (D = 2).
    dtype : dtype
        Floating-point or complex; x, states and gradients must have it too.
    rng : int, numpy.random.Generator or None
        Source of the initial parameters, uniform in ±1/√H, and of the dropout masks.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    J. L. Elman, "Finding structure in time", Cognitive Science 14 (1990).

    Examples
    --------
    >>> layer = RNN(10, 20, num_layers=2, rng=0)
    >>> output, h_n, tape = layer.forward(np.ones((6, 3, 10), np.float32))
    >>> output.shape, h_n.shape
    ((6, 3, 20), (2, 3, 20))
    >>> grads, dx, dh_0 = layer.backward(tape, np.ones_like(output))
    >>> sorted(grads)[:2], dx.shape
    (['bias_hh_l0', 'bias_hh_l1'], (6, 3, 10))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: DTypeLike = np.float32,
        rng: Seed = None,
    ) -> None:
        super().__init__(locals())

    @staticmethod
    def cell_of(config: dict[str, Any]) -> Cell:
        """Choose the cell that the constructor's arguments call for."""
        nonlinearity = config["nonlinearity"]
        cells = {"tanh": rnn.TANH, "relu": rnn.RELU}
        if nonlinearity not in cells:
            raise ValueError(f"nonlinearity is {nonlinearity!r}, expected 'tanh' or 'relu'")
        return cells[nonlinearity]


class LSTM(Recurrent):
    """Long short-term memory, as torch.nn.LSTM; optionally with a projection or with peepholes.

    `numpy_rnn.textbook.lstm`, `lstm_projection` and `lstm_peephole` have the equations. Gate order i, f, g, o; states
    are pairs (h, c).

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, rng
        As for `RNN`.
    proj_size : int
        R, units of the projected state h; 0 for no projection, R = H.
    peephole : bool
        Whether gates also see the memory c, through `weight_peephole_l{k}` (3H,), order i, f, o.

    Raises
    ------
    ValueError
        If an argument is out of range, or projection and peepholes are both asked for.

    References
    ----------
    S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997);
    F. A. Gers, J. Schmidhuber, F. Cummins, "Learning to forget", Neural Computation 12 (2000).

    Examples
    --------
    >>> layer = LSTM(10, 20, bidirectional=True, rng=0)
    >>> output, (h_n, c_n), tape = layer.forward(np.ones((6, 3, 10), np.float32), lengths=[6, 0, 4])
    >>> output.shape, c_n.shape
    ((6, 3, 40), (2, 3, 20))
    >>> grads, dx, (dh_0, dc_0) = layer.backward(tape, None, (None, np.ones_like(c_n)))
    >>> dc_0[:, 1].mean().item()  # length 0: what arrives at c_n goes to c_0 as it is
    1.0
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        dtype: DTypeLike = np.float32,
        rng: Seed = None,
        *,
        peephole: bool = False,
    ) -> None:
        super().__init__(locals())

    @staticmethod
    def cell_of(config: dict[str, Any]) -> Cell:
        """Choose the cell that the constructor's arguments call for."""
        peephole, proj_size = config["peephole"], config["proj_size"]
        if check_bool("peephole", peephole) and proj_size:
            raise ValueError(f"peephole=True came with proj_size={proj_size}, expected one of the two at most")
        if peephole:
            return lstm.LSTM_PEEPHOLE
        return lstm.LSTM_PROJECTION if proj_size else lstm.LSTM


class GRU(Recurrent):
    """Gated recurrent unit, as torch.nn.GRU; optionally with the reset gate before the product.

    `numpy_rnn.textbook.gru` and `gru_reset_before` have the equations. Gate order r, z, n; z keeps the old state.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, rng
        As for `RNN`.
    reset_after : bool
        True: n = tanh(… + r ∘ (W_hn h + b_hn)), torch's and cuDNN's. False: n = tanh(… + W_hn (r ∘ h) + b_hn),
        Cho's third version and ONNX's default.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    K. Cho et al., "Learning phrase representations using RNN encoder-decoder", arXiv:1406.1078: v1 for
    reset_after=True, v3 for reset_after=False.

    Examples
    --------
    >>> layer = GRU(10, 20, batch_first=True, rng=0)
    >>> output, h_n = layer(np.ones((3, 6, 10), np.float32))
    >>> output.shape, h_n.shape
    ((3, 6, 20), (1, 3, 20))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: DTypeLike = np.float32,
        rng: Seed = None,
        *,
        reset_after: bool = True,
    ) -> None:
        super().__init__(locals())

    @staticmethod
    def cell_of(config: dict[str, Any]) -> Cell:
        """Choose the cell that the constructor's arguments call for."""
        return gru.GRU if check_bool("reset_after", config["reset_after"]) else gru.GRU_RESET_BEFORE
