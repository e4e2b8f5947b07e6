"""`RNNFromScratch`, `LSTMFromScratch`, `GRUFromScratch`: one recurrent layer and a readout, each in one screen.

Three linear maps each: `i2h` from the input and `h2h` from the state to the gates, `h2o` from the state to the output.
The gates stand in torch's order, so the first two hold what torch.nn.LSTM calls weight_ih, bias_ih, weight_hh and
bias_hh. Steps are indexed from the end of the shape, so the same lines run a batch (B, T, I) and one sequence (T, I).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, sigmoid, tanh
from torch.nn import Linear, Module

from .manual import autocast
from .modules import Device, check_sizes


class FromScratch(Module):
    """What the three share: the linear maps `i2h` and `h2h` to G·H rows, and `h2o`."""

    gates: ClassVar[int]  # G

    def __init__(
        self, input_size: int, hidden_size: int, output_size: int, *, device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        check_sizes(input_size=input_size, hidden_size=hidden_size, output_size=output_size)
        self.i2h = Linear(input_size, self.gates * hidden_size, device=device, dtype=dtype)
        self.h2h = Linear(hidden_size, self.gates * hidden_size, device=device, dtype=dtype)
        self.h2o = Linear(hidden_size, output_size, device=device, dtype=dtype)


class RNNFromScratch(FromScratch):
    """Plain recurrent network with a linear readout: h_{t+1} = tanh(i2h(x_t) + h2h(h_t)), y_t = h2o(h_{t+1}).

    Parameters
    ----------
    input_size, hidden_size, output_size : int
        I, H and O.
    device : torch.device or str, optional
    dtype : torch.dtype, optional

    Raises
    ------
    ValueError
        If a size is not positive.

    Examples
    --------
    >>> model = RNNFromScratch(input_size=10, hidden_size=20, output_size=5)
    >>> outputs, hidden = model(torch.randn(3, 6, 10))
    >>> outputs.shape, hidden.shape
    (torch.Size([3, 6, 5]), torch.Size([3, 20]))
    """

    gates = 1

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run over all steps.

        Parameters
        ----------
        x : tensor (B, T, I), or (T, I)
        hidden : tensor (B, H), or (H,), optional
            Initial state, zero by default.

        Returns
        -------
        outputs : tensor (B, T, O), or (T, O)
        hidden : tensor (B, H), or (H,)
            State after the last step.

        Raises
        ------
        ValueError
            If `x` or `hidden` has another rank, size or dtype.
        """
        check_input(x, self.i2h)
        hidden = x.new_zeros(*x.shape[:-2], self.h2h.in_features) if hidden is None else hidden
        check_state("hidden", hidden, x, self.h2h)

        h = [hidden]
        for x_t in x.unbind(-2):
            h.append(tanh(self.i2h(x_t) + self.h2h(h[-1])))
        return self.h2o(torch.stack(h, dim=-2)[..., 1:, :]), h[-1]


class LSTMFromScratch(FromScratch):
    """Long short-term memory with a linear readout y_t = h2o(h_{t+1}); equations in `torch_rnn.lstm`.

    Parameters and errors are those of `RNNFromScratch`.

    Examples
    --------
    >>> model = LSTMFromScratch(input_size=10, hidden_size=20, output_size=5)
    >>> outputs, (h, c) = model(torch.randn(3, 6, 10))
    >>> outputs.shape, h.shape, c.shape
    (torch.Size([3, 6, 5]), torch.Size([3, 20]), torch.Size([3, 20]))
    """

    gates = 4

    def forward(self, x: Tensor, hidden: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run over all steps, as `RNNFromScratch.forward` does; `hidden` is the pair (h, c)."""
        check_input(x, self.i2h)
        zeros = x.new_zeros(*x.shape[:-2], self.h2h.in_features)
        if hidden is not None and not (isinstance(hidden, (tuple, list)) and len(hidden) == 2):
            raise ValueError(f"hidden must be the pair (h, c), got {type(hidden).__name__}")
        h_0, c = (zeros, zeros) if hidden is None else hidden
        check_state("h", h_0, x, self.h2h)
        check_state("c", c, x, self.h2h)

        h = [h_0]
        for x_t in x.unbind(-2):
            i, f, g, o = (self.i2h(x_t) + self.h2h(h[-1])).chunk(4, dim=-1)
            c = sigmoid(f) * c + sigmoid(i) * tanh(g)
            h.append(sigmoid(o) * tanh(c))
        return self.h2o(torch.stack(h, dim=-2)[..., 1:, :]), (h[-1], c)


class GRUFromScratch(FromScratch):
    """Gated recurrent unit with a linear readout y_t = h2o(h_{t+1}); equations in `torch_rnn.gru`.

    Parameters and errors are those of `RNNFromScratch`.

    Examples
    --------
    >>> model = GRUFromScratch(input_size=10, hidden_size=20, output_size=5)
    >>> outputs, hidden = model(torch.randn(3, 6, 10))
    >>> outputs.shape, hidden.shape
    (torch.Size([3, 6, 5]), torch.Size([3, 20]))
    """

    gates = 3

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run over all steps; arguments, results and errors are those of `RNNFromScratch.forward`."""
        check_input(x, self.i2h)
        hidden = x.new_zeros(*x.shape[:-2], self.h2h.in_features) if hidden is None else hidden
        check_state("hidden", hidden, x, self.h2h)

        h = [hidden]
        for x_t in x.unbind(-2):
            u_r, u_z, u_n = self.i2h(x_t).chunk(3, dim=-1)
            v_r, v_z, v_n = self.h2h(h[-1]).chunk(3, dim=-1)
            r, z = sigmoid(u_r + v_r), sigmoid(u_z + v_z)
            n = tanh(u_n + r * v_n)
            h.append((1 - z) * n + z * h[-1])
        return self.h2o(torch.stack(h, dim=-2)[..., 1:, :]), h[-1]


def check_input(x: Tensor, i2h: Linear) -> None:
    """Refuse an input that is not (B, T, I) or (T, I), or not of the parameters' dtype."""
    if x.dim() not in (2, 3) or x.shape[-1] != i2h.in_features:
        raise ValueError(f"x has shape {tuple(x.shape)}, expected (B, T, {i2h.in_features}) or (T, {i2h.in_features})")
    if x.dtype != i2h.weight.dtype and not autocast(x):
        raise ValueError(f"x has dtype {x.dtype}, expected that of the parameters, {i2h.weight.dtype}")


def check_state(name: str, s: Tensor, x: Tensor, h2h: Linear) -> None:
    """Refuse a state that does not fit the input: broadcast to it, it would have a wrong gradient."""
    expected = (*x.shape[:-2], h2h.in_features)
    if s.shape != expected:
        raise ValueError(f"{name} has shape {tuple(s.shape)}, expected {expected} for x of shape {tuple(x.shape)}")
    if s.dtype != x.dtype and not autocast(x):
        raise ValueError(f"{name} has dtype {s.dtype}, expected that of x, {x.dtype}")
