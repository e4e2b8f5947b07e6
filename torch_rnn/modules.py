"""`RNN`, `LSTM`, `GRU`: drop-ins for torch.nn's classes of the same names, with the time loop in plain Python.

The classes own parameters by torch's names, check what comes in, and hand it to `deep.forward`. A parameter's name and
shape follow from the field of the cell's `Params` that it fills:

    field of Params    W_ih       W_hh       b_ih     b_hh     W_hr       P
    name               weight_ih  weight_hh  bias_ih  bias_hh  weight_hr  weight_peephole

followed by `_l{layer}` and, for the direction that reads from the end, `_reverse`. (torch.nn has no peepholes.)

What torch.nn accepts is accepted here, and what it refuses is refused with the same type of exception. In two places
more is refused, because torch would compute something else than was asked for, or fail later and less clearly: an
LSTM checks a `PackedSequence` and its initial states as RNN and GRU do, and the initial state of a packed batch that
is not sorted must have one row for every sequence and no more.
"""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Module, Parameter, init
from torch.nn.functional import dropout as dropped
from torch.nn.utils.rnn import PackedSequence

from numpy_rnn.fast.registry import CELLS, TORCH_NAMES, parameter_shapes

from . import deep, gru, gru_reset_before, lstm, lstm_peephole, lstm_projection, manual, rnn
from .cell import Cell
from .manual import autocast

Device = torch.device | str | int | None

NONLINEARITIES = {"tanh": rnn.TANH, "relu": rnn.RELU}
BPTT = {"autograd": deep.by_loop, "manual": manual.run}


class Recurrent(Module):
    """What layers and single cells share: parameters that carry torch's names and fill a cell's `Params`.

    Nothing that follows from the options or the parameters is stored: it is looked up when it is needed, so options
    may be changed and parameters replaced (by `torch.func.functional_call`, by a parametrization) at any time.
    """

    input_size: int
    hidden_size: int
    bias: bool
    bptt: str

    _defaults: ClassVar[dict[str, Any]]  # options that `repr` shows where they differ from these

    @property
    def _cell(self) -> Cell:
        raise NotImplementedError

    def _fields(self) -> list[str]:
        """Fields of the cell's Params that are parameters here; the others are zero."""
        return [field for field in self._cell.Params._fields if self.bias or not field.startswith("b_")]

    def _create(self, suffix: str, I: int, R: int, device: Device, dtype: torch.dtype | None) -> None:
        """Register one layer's parameters in one direction: I inputs, R units of the state h."""
        shapes = parameter_shapes(CELLS[self._cell.name], I, self.hidden_size, R)
        for field in self._fields():
            values = torch.empty(getattr(shapes, field), device=device, dtype=dtype)
            self.register_parameter(TORCH_NAMES[field] + suffix, Parameter(values))

    def _params(self, suffix: str) -> Any:
        """One layer's parameters in one direction, as they are at this moment: the cell's Params."""
        given = {field: getattr(self, TORCH_NAMES[field] + suffix) for field in self._fields()}
        if missing := set(self._cell.Params._fields) - set(given):
            W_ih = given["W_ih"]
            given |= dict.fromkeys(missing, W_ih.new_zeros(W_ih.shape[0]))
        return self._cell.Params(**given)

    def reset_parameters(self) -> None:
        """Draw every parameter uniformly from ±1 / √hidden_size, in the order in which they were registered."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0.0
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def extra_repr(self) -> str:
        """Sizes, and the options that differ from their defaults."""
        options = {name: getattr(self, name) for name in self._defaults}
        shown = [f"{name}={value}" for name, value in options.items() if value != self._defaults[name]]
        return ", ".join([str(self.input_size), str(self.hidden_size), *shown])


class Layers(Recurrent):
    """Layers × directions of one cell: what `RNN`, `LSTM` and `GRU` share. See there for arguments.

    Raises
    ------
    ValueError
        If an option has a value that is not allowed.
    TypeError
        If an option has another type.
    """

    _defaults: ClassVar[dict[str, Any]] = {
        "proj_size": 0,
        "num_layers": 1,
        "bias": True,
        "batch_first": False,
        "dropout": 0.0,
        "bidirectional": False,
        "bptt": "autograd",
    }

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int, bias: bool, batch_first: bool, dropout: float,
        bidirectional: bool, proj_size: int, bptt: str, device: Device, dtype: torch.dtype | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self.bptt = check_bptt(bptt)
        check_probability("dropout", dropout)
        for name, kind in {"bias": bool, "batch_first": bool, "input_size": int, "hidden_size": int}.items():
            check_type(name, getattr(self, name), kind)
        check_sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        if not 0 <= proj_size < hidden_size:
            raise ValueError(f"proj_size must be 0 (no projection) or less than hidden_size, got {proj_size}")
        if dropout > 0 and num_layers == 1:
            warnings.warn(f"dropout={dropout} has no effect: it stands between layers, and num_layers=1", stacklevel=3)

        for l, layer in enumerate(self._suffixes()):
            for suffix in layer:
                self._create(suffix, self._output_size if l else input_size, self._state_size, device, dtype)
        self.reset_parameters()

    def _suffixes(self) -> list[list[str]]:
        """What the names of the parameters end with, by layer and direction."""
        return [[f"_l{l}", f"_l{l}_reverse"][: self._directions] for l in range(self.num_layers)]

    @property
    def _directions(self) -> int:
        """D."""
        return 2 if self.bidirectional else 1

    @property
    def _state_size(self) -> int:
        """R, units of the state h."""
        return self.proj_size or self.hidden_size

    @property
    def _output_size(self) -> int:
        """D·R, features of a layer's output."""
        return self._directions * self._state_size

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters, one list for every layer and direction."""
        names = [TORCH_NAMES[field] for field in self._fields()]
        return [[getattr(self, name + suffix) for name in names] for layer in self._suffixes() for suffix in layer]

    def flatten_parameters(self) -> None:
        """Do nothing: there is no packed copy of the parameters. Code written for torch.nn may call it."""

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        """Run all layers over all steps.

        Parameters
        ----------
        input : tensor (T, B, I), or (B, T, I) with `batch_first`, or one sequence (T, I); or a PackedSequence
        hx : tensor, for LSTM a pair (h_0, c_0) of tensors, optional
            Initial state, h_0 (L·D, B, R) and c_0 (L·D, B, H), without B for one sequence; R = H where there is no
            projection. The first index is layer · D + direction, and sequences stand in the caller's order, packed
            or not. Zero by default.

        Returns
        -------
        output : tensor (T, B, D·R), or as `input` is
            The last layer's h after every step, both directions side by side.
        h_n : tensor, for LSTM a pair (h_n, c_n) of tensors
            State at each sequence's end, shapes as `hx`.

        Raises
        ------
        ValueError
            If `input` has another rank or dtype.
        RuntimeError
            If `input` has no step or another number of features, or if a state has another shape or dtype, or if
            tensors are on different devices.
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        if input.dim() not in (2, 3):
            raise ValueError(f"{type(self).__name__}: Expected input to be 2D or 3D, got {input.dim()}D instead")
        batched = input.dim() == 3
        x = input.transpose(0, 1) if batched and self.batch_first else input
        params = self._all_params()
        self._check_input(x, params[0][0].W_ih)
        s0 = self._initial_state(hx, x, x.shape[1:-1])
        if not batched:
            x, s0 = x[:, None], [s[:, None] for s in s0]
        y, s_n = deep.forward(self._cell, params, x, s0, None, self._dropout_masks(x), BPTT[check_bptt(self.bptt)])
        if not batched:
            return y[:, 0], to_caller([s[:, 0] for s in s_n])
        return y.transpose(0, 1) if self.batch_first else y, to_caller(s_n)

    def _forward_packed(self, packed: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        """Run over the rows; the output is packed as the input was."""
        x, batch_sizes, order, back = packed
        if x.dim() != 2:
            raise RuntimeError(f"a PackedSequence must hold data of 2 dimensions, got {x.dim()}")
        params = self._all_params()
        self._check_input(x, params[0][0].W_ih)
        s0 = self._initial_state(hx, x, (int(batch_sizes[0]),))
        masks = self._dropout_masks(x)  # of the packed rows, as in torch.nn: the same seed zeroes the same values
        s0 = _sorted(s0, order)
        y, s_n = deep.forward(self._cell, params, x, s0, batch_sizes, masks, BPTT[check_bptt(self.bptt)])
        return PackedSequence(y, batch_sizes, order, back), to_caller(_sorted(s_n, back))

    def _all_params(self) -> list[list[Any]]:
        """Params by layer and direction; read once a call, for a parametrization computes them."""
        return [[self._params(suffix) for suffix in layer] for layer in self._suffixes()]

    def _dropout_masks(self, x: Tensor) -> list[Tensor] | None:
        """What the output of each layer but the last is multiplied with, value by value: 0 or 1 / (1 - p)."""
        if self.dropout == 0 or not self.training:
            return None
        ones = x.new_ones(*x.shape[:-1], self._output_size)
        return [dropped(ones, self.dropout) for _ in range(self.num_layers - 1)]

    def _initial_state(self, hx: Any, x: Tensor, batch: Sequence[int]) -> Any:
        """The caller's initial state, checked, as the cell's State; zeros where there is none."""
        State = self._cell.State
        rows = self.num_layers * self._directions
        shapes = [(rows, *batch, size) for size in (self._state_size, self.hidden_size)][: len(State._fields)]
        if hx is None:
            return State(*(x.new_zeros(shape) for shape in shapes))
        s0 = from_caller(State, hx)
        for k, (s, shape) in enumerate(zip(s0, shapes)):
            name = "hidden" if len(s0) == 1 else f"hidden[{k}]"
            if s.shape != shape:
                raise RuntimeError(f"Expected {name} size {shape}, got {list(s.shape)}")
            if s.dtype != x.dtype and not autocast(x):
                raise RuntimeError(f"{name} has dtype {s.dtype}, expected the input's, {x.dtype}")
            if s.device != x.device:
                raise RuntimeError(
                    f"Input and hidden tensors are not at the same device, "
                    f"found input tensor at {x.device} and {name} tensor at {s.device}"
                )
        return s0

    def _check_input(self, x: Tensor, W_ih: Tensor) -> None:
        """Refuse an input (…, I) that the parameters cannot take."""
        if x.dtype != W_ih.dtype and not autocast(x):
            raise ValueError(
                f"RNN input dtype ({x.dtype}) does not match weight dtype ({W_ih.dtype}). "
                f"Convert input: input.to({W_ih.dtype}), or convert model: model.to({x.dtype})"
            )
        if x.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {x.shape[-1]}"
            )
        if x.shape[0] == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        if x.device != W_ih.device:
            raise RuntimeError(
                f"Input and parameter tensors are not at the same device, "
                f"found input tensor at {x.device} and parameter tensor at {W_ih.device}"
            )


class RNN(Layers):
    """Elman's recurrent network with tanh or relu, in place of `torch.nn.RNN`; equations in `torch_rnn.rnn`.

    Parameters
    ----------
    input_size, hidden_size, num_layers, nonlinearity, bias, batch_first, dropout, bidirectional, device, dtype
        As torch.nn.RNN takes them.
    bptt : {"autograd", "manual"}
        Who does backpropagation through time: autograd, over the explicit loop, or, quicker and for first derivatives
        only, `torch_rnn.manual`. Not in torch.nn.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, device: Device = None,
        dtype: torch.dtype | None = None, *, proj_size: None = None, bptt: str = "autograd",
    ) -> None:  # fmt: skip
        if nonlinearity not in NONLINEARITIES:
            raise ValueError(f"Unknown nonlinearity {nonlinearity!r}. Select from 'tanh' or 'relu'.")
        refuse_projection(proj_size)
        self.nonlinearity = nonlinearity  # first: it says which cell, and so which parameters, there are
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, bptt, device, dtype
        )

    @property
    def _cell(self) -> Cell:
        return NONLINEARITIES[self.nonlinearity]


class LSTM(Layers):
    """Long short-term memory, in place of `torch.nn.LSTM`; with peepholes on demand.

    The equations are those of `torch_rnn.lstm`, with a projection those of `torch_rnn.lstm_projection`, with
    peepholes those of `torch_rnn.lstm_peephole`. Gates stand in the order i, f, g, o.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype
        As torch.nn.LSTM takes them.
    peephole : bool
        Whether the gates see c, by weights `weight_peephole_l{layer}` (3H,) in the order i, f, o. Not in torch.nn.
    bptt : {"autograd", "manual"}
        As for `RNN`.

    Examples
    --------
    >>> layer = LSTM(10, 20, bidirectional=True, proj_size=5)
    >>> output, (h_n, c_n) = layer(torch.randn(6, 3, 10))  # see `forward`
    >>> output.shape, h_n.shape, c_n.shape
    (torch.Size([6, 3, 10]), torch.Size([2, 3, 5]), torch.Size([2, 3, 20]))
    """

    _defaults: ClassVar[dict[str, Any]] = {**Layers._defaults, "peephole": False}

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, device: Device = None,
        dtype: torch.dtype | None = None, *, peephole: bool = False, bptt: str = "autograd",
    ) -> None:  # fmt: skip
        check_type("peephole", peephole, bool)
        if peephole and proj_size:
            raise ValueError(f"an LSTM has peepholes or a projection, got both: peephole=True, {proj_size=}")
        self.peephole = peephole  # first: it says which cell, and so which parameters, there are
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, bptt, device,
            dtype,
        )  # fmt: skip

    @property
    def _cell(self) -> Cell:
        if self.peephole:
            return lstm_peephole.LSTM_PEEPHOLE
        return lstm_projection.LSTM_PROJECTION if self.proj_size else lstm.LSTM


class GRU(Layers):
    """Gated recurrent unit, in place of `torch.nn.GRU`; with the reset gate before the product on demand.

    The equations are those of `torch_rnn.gru`, with `reset_after=False` those of `torch_rnn.gru_reset_before`.
    Gates stand in the order r, z, n, and z keeps the old state.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        As torch.nn.GRU takes them.
    reset_after : bool
        Whether the reset gate multiplies W_hn h + b_hn (torch, cuDNN) or h itself, before the product. Not in torch.nn.
    bptt : {"autograd", "manual"}
        As for `RNN`.
    """

    _defaults: ClassVar[dict[str, Any]] = {**Layers._defaults, "reset_after": True}

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, device: Device = None, dtype: torch.dtype | None = None,
        *, proj_size: None = None, reset_after: bool = True, bptt: str = "autograd",
    ) -> None:  # fmt: skip
        check_type("reset_after", reset_after, bool)
        refuse_projection(proj_size)
        self.reset_after = reset_after  # first: it says which cell there is
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, bptt, device, dtype
        )

    @property
    def _cell(self) -> Cell:
        return gru.GRU if self.reset_after else gru_reset_before.GRU_RESET_BEFORE


def _sorted(state: Sequence[Tensor], indices: Tensor | None) -> list[Tensor]:
    """A state (L·D, B, ·) with its sequences in another order."""
    return [s if indices is None else s.index_select(1, indices) for s in state]


def from_caller(State: type[Any], hx: Any) -> Any:
    """A tensor h, or a pair (h, c), as a cell's State."""
    fields = State._fields
    if len(fields) == 1:
        return State(hx)
    if len(hx) != len(fields):
        raise RuntimeError(f"the state must be the pair ({', '.join(fields)}), got {len(hx)} elements")
    return State(*hx)


def to_caller(state: Sequence[Tensor]) -> Any:
    """A cell's State as a tensor h, or as a pair (h, c)."""
    return state[0] if len(state) == 1 else tuple(state)


def check_sizes(**sizes: int) -> None:
    """Refuse a size that is not positive."""
    for name, size in sizes.items():
        if size <= 0:
            raise ValueError(f"{name} must be greater than zero, got {size}")


def check_type(name: str, value: object, kind: type) -> None:
    """Refuse an option of another type."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} should be of type {kind.__name__}, got: {type(value).__name__}")


def check_probability(name: str, value: Any) -> None:
    """Refuse what is no number in 0 … 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= float(value) <= 1:
        raise ValueError(f"{name} should be a number in range [0, 1], got {value!r}")


def check_bptt(name: str) -> str:
    """Refuse what is no way to do backpropagation through time."""
    if name not in BPTT:
        raise ValueError(f"Unknown bptt {name!r}. Select from 'autograd' or 'manual'.")
    return name


def refuse_projection(proj_size: object) -> None:
    """Refuse what only an LSTM has."""
    if proj_size is not None:
        raise ValueError(f"proj_size argument is only supported for LSTM, not RNN or GRU; got {proj_size}")
