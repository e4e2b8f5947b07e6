"""`RNNCell`, `LSTMCell`, `GRUCell`: drop-ins for torch.nn's classes of the same names, one step of one layer.

Parameters are those of a layer without the suffix: `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from numpy_rnn.fast.registry import TORCH_NAMES

from . import gru, lstm
from .cell import Cell
from .modules import BPTT, NONLINEARITIES, Device, Recurrent, check_bptt, from_caller, to_caller


class Step(Recurrent):
    """One step of one cell: what `RNNCell`, `LSTMCell` and `GRUCell` share.

    Parameters
    ----------
    input_size, hidden_size, bias, device, dtype
        As torch.nn's cells take them; RNNCell has `nonlinearity` behind `bias`, too.
    bptt : {"autograd", "manual"}
        Who differentiates: autograd, or by hand, see `torch_rnn.manual`. Not in torch.nn.

    Raises
    ------
    ValueError
        If `bptt` is unknown.
    RuntimeError
        If a size is negative, or the nonlinearity unknown.
    """

    _defaults: ClassVar[dict[str, Any]] = {"bias": True, "bptt": "autograd"}

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Device = None,
        dtype: torch.dtype | None = None, *, bptt: str = "autograd",
    ) -> None:  # fmt: skip
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        self.bptt = check_bptt(bptt)
        self._create("", input_size, hidden_size, device, dtype)
        for field in self._cell.Params._fields:
            if field not in self._fields():
                self.register_parameter(TORCH_NAMES[field], None)  # torch.nn's cells say None, its layers nothing
        self.reset_parameters()

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """Take one step.

        Parameters
        ----------
        input : tensor (B, I), or (I,) for one sequence
        hx : tensor (B, H) or (H,), for LSTMCell a pair (h, c) of them, optional
            State before the step, zero by default; returned is that after it.

        Raises
        ------
        ValueError
            If `input` or a state has neither one dimension nor two.
        RuntimeError
            If `input` has another number of features, or if a state has another shape, or if dtypes cannot be mixed.
        """
        if input.dim() not in (1, 2):
            raise ValueError(f"{type(self).__name__}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(f"input has inconsistent input_size: got {input.shape[-1]} expected {self.input_size}")
        s0 = self._initial_state(hx, input)
        if input.dim() == 2:
            return to_caller(self._step(input, s0))
        return to_caller([s[0] for s in self._step(input[None], [s[None] for s in s0])])

    def _step(self, x: Tensor, s0: Sequence[Tensor]) -> Sequence[Tensor]:
        """The state after one step from x (B, I), fields (B, H)."""
        _, s_n = BPTT[check_bptt(self.bptt)](self._cell, self._params(""), x[None], self._cell.State(*s0))
        return s_n  # type: ignore[no-any-return]

    def _initial_state(self, hx: Any, x: Tensor) -> Sequence[Tensor]:
        """The caller's state, checked; zeros where there is none. Broadcast, it would have a wrong gradient."""
        State = self._cell.State
        if hx is None:
            return [x.new_zeros(*x.shape[:-1], self.hidden_size) for _ in State._fields]
        s0: Sequence[Tensor] = from_caller(State, hx)
        for k, s in enumerate(s0):
            if s.dim() not in (1, 2):
                name = "hidden" if len(s0) == 1 else f"hx[{k}]"
                raise ValueError(f"{type(self).__name__}: Expected {name} to be 1D or 2D, got {s.dim()}D instead")
            if s.dim() != x.dim():
                raise RuntimeError(f"hidden{k} must have as many dimensions as the input, {x.dim()}, got {s.dim()}")
            if s.shape[:-1] != x.shape[:-1]:
                raise RuntimeError(f"Input batch size {x.shape[0]} doesn't match hidden{k} batch size {s.shape[0]}")
            if s.shape[-1] != self.hidden_size:
                raise RuntimeError(
                    f"hidden{k} has inconsistent hidden_size: got {s.shape[-1]}, expected {self.hidden_size}"
                )
        return s0


class RNNCell(Step):
    """One step of the plain recurrent cell, in place of `torch.nn.RNNCell`: f(W_ih x + b_ih + W_hh h + b_hh)."""

    _defaults: ClassVar[dict[str, Any]] = {**Step._defaults, "nonlinearity": "tanh"}

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", device: Device = None,
        dtype: torch.dtype | None = None, *, bptt: str = "autograd",
    ) -> None:  # fmt: skip
        self.nonlinearity = nonlinearity  # first: it says which cell there is
        super().__init__(input_size, hidden_size, bias, device, dtype, bptt=bptt)

    @property
    def _cell(self) -> Cell:
        if self.nonlinearity not in NONLINEARITIES:
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        return NONLINEARITIES[self.nonlinearity]


class LSTMCell(Step):
    """One step of long short-term memory, in place of `torch.nn.LSTMCell`; see `torch_rnn.lstm`.

    Examples
    --------
    >>> cell = LSTMCell(10, 20)
    >>> h, c = cell(torch.randn(3, 10), (torch.randn(3, 20), torch.randn(3, 20)))  # see `forward`
    >>> h.shape, c.shape
    (torch.Size([3, 20]), torch.Size([3, 20]))
    """

    @property
    def _cell(self) -> Cell:
        return lstm.LSTM


class GRUCell(Step):
    """One step of the gated recurrent unit, in place of `torch.nn.GRUCell`; see `torch_rnn.gru`."""

    @property
    def _cell(self) -> Cell:
        return gru.GRU
