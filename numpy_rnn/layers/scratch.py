"""The article's class, and its LSTM and GRU siblings: three linear maps and a loop, with the backward pass by hand.

    h_{t+1} = tanh(i2h x_t + h2h h_t)         i2h x = W_ih x + b_ih,  h2h h = W_hh h + b_hh
    y_t     = h2o h_{t+1}                      h2o h = W_ho h + b_o

The second line and its transpose are (Y1) and (Y1') of docs/learn/derivation, page 2.

`torch_rnn` has the same classes with the same names; `state_dict()` of one loads into the other.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ..fast import gru, lstm, rnn
from ..fast.cell import Cell, upstream
from ..fast.numerics import Array, linear, linear_db, linear_dW, linear_dx
from .arguments import check_size
from .module import Seed
from .sequence import SequenceModel


class Linear(NamedTuple):
    """A linear map a = W x + b, named as torch.nn.Linear names it."""

    weight: Array  # (out, in)
    bias: Array  # (out,)


class Tape(NamedTuple):
    """What backward needs."""

    owner: FromScratch
    cell: Any  # the cell's Tape
    h: Array  # (T+1, B, H)
    batched: bool


class FromScratch(SequenceModel, abstract=True):
    """What the three classes share: one cell over the sequence, and a linear map of every state after a step.

    The linear maps are `i2h`, `h2h` and `h2o`, each with the model's own arrays: weight (G·H, I), (G·H, H) and (O, H),
    and bias.

    Parameters
    ----------
    input_size, hidden_size, output_size : int
        I, H and O.
    dtype : dtype
        Floating-point or complex; x, states and gradients must have it too.
    rng : int, numpy.random.Generator or None
        Source of the initial parameters, uniform in ±1/√(inputs of each map) as torch.nn.Linear's.

    Raises
    ------
    ValueError
        If a size is not a whole number of at least 1.
    """

    cell: Cell
    batch_first = True

    def __init__(
        self, input_size: int, hidden_size: int, output_size: int, dtype: DTypeLike = np.float32, rng: Seed = None
    ) -> None:
        super().__init__(locals())
        self._output_width = output_size
        self._state_units = [("hidden_size", hidden_size)] * len(self.cell.State._fields)
        self.i2h, self.h2h, self.h2o = (
            Linear(self._parameters[f"{name}.weight"], self._parameters[f"{name}.bias"])
            for name in ("i2h", "h2h", "h2o")
        )

    @classmethod
    def parameter_bounds(cls, config: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], float]]:
        """Of each parameter its shape and its initial bound; checks the arguments."""
        I, H, O = (check_size(name, config[name]) for name in ("input_size", "hidden_size", "output_size"))
        GH = cls.cell.gates * H
        sizes = {"i2h": (GH, I), "h2h": (GH, H), "h2o": (O, H)}
        return {
            f"{name}.{part}": (shape, 1 / math.sqrt(inputs))
            for name, (outputs, inputs) in sizes.items()
            for part, shape in (("weight", (outputs, inputs)), ("bias", (outputs,)))
        }

    def __call__(self, x: Array, hidden: Any = None) -> tuple[Array, Any]:
        """Return outputs and hidden of `forward`."""
        outputs, hidden, _ = self.forward(x, hidden)
        return outputs, hidden

    def forward(self, x: Array, hidden: Any = None) -> tuple[Array, Any, Tape]:
        """Run over the sequence.

        Parameters
        ----------
        x : array (B, T, I), or (T, I) for a single sequence
        hidden : array (B, H), or (H,) for a single sequence, optional
            Initial state, zeros by default. LSTMFromScratch: the pair (h, c).

        Returns
        -------
        outputs : array (B, T, O), or (T, O)
        hidden : array (B, H), or (H,)
            The state after the last step. LSTMFromScratch: the pair (h, c).
        tape : Tape
            What `backward` needs.

        Raises
        ------
        ValueError
            If a shape or dtype does not fit.
        """
        x, batched = self._check_x(x)
        s0 = self._check_states("hidden", ("h", "c"), hidden, x.shape[1], batched)

        params = self.cell.Params(self.i2h.weight, self.h2h.weight, self.i2h.bias, self.h2h.bias)
        states, tape = self.cell.forward(params, x, s0)
        y = linear(states.h[1:], *self.h2o)  # (Y1)
        s_n = self.cell.State(*(s[-1] for s in states))
        return self._to_user(y, batched), self._states_to_user(s_n, batched), Tape(self, tape, states.h, batched)

    def backward(
        self, tape: Tape, doutputs: Array | None, dhidden_n: Any = None
    ) -> tuple[dict[str, Array], Array, Any]:
        """Backpropagation through time: gradients of a loss, given those by the outputs and the final state.

        Parameters
        ----------
        doutputs : array, shape of outputs, or None
            Gradient of the loss by the outputs. None counts as zero.
        dhidden_n : array, shape of hidden, or None
            Gradient by the final state. LSTMFromScratch: the pair, either of them may be None.

        Returns
        -------
        grads : dict of str to array
            Gradients of the parameters, with the keys of `state_dict()`.
        dx : array, shape of x
        dhidden : array, shape of hidden
            LSTMFromScratch: the pair (dh, dc).

        Raises
        ------
        ValueError
            If the tape is another model's, or a shape or dtype does not fit.
        """
        self._check_tape(tape, Tape)
        h = tape.h
        T, B, _ = h[1:].shape
        dy = self._check_dy("doutputs", doutputs, T, B, tape.batched)
        ds_n = self._check_states("dhidden_n", ("h", "c"), dhidden_n, B, tape.batched)

        # y_t = h2o h_{t+1}, and the final state is the trajectory's last.
        dstates = upstream(self.cell, linear_dx(dy, self.h2o.weight), ds_n, self.dtype)  # (Y1')
        (di2h, dh2h, di2h_bias, dh2h_bias), dx, ds0 = self.cell.backward(tape.cell, dstates)
        grads = {
            "i2h.weight": di2h,
            "i2h.bias": di2h_bias,
            "h2h.weight": dh2h,
            "h2h.bias": dh2h_bias,
            "h2o.weight": linear_dW(dy, h[1:]),  # (Y1')
            "h2o.bias": linear_db(dy),  # (Y1')
        }
        return grads, self._to_user(dx, tape.batched), self._states_to_user(ds0, tape.batched)


class RNNFromScratch(FromScratch):
    """The article's class: h = tanh(i2h x + h2h h), y = h2o h at every step; see `FromScratch` for its methods.

    Examples
    --------
    >>> model = RNNFromScratch(10, 20, 5, rng=0)
    >>> outputs, hidden = model(np.ones((3, 6, 10), np.float32))
    >>> outputs.shape, hidden.shape
    ((3, 6, 5), (3, 20))
    """

    cell = rnn.TANH


class LSTMFromScratch(FromScratch):
    """As `RNNFromScratch`, with an LSTM; i2h and h2h have 4·H rows, gates i, f, g, o, and hidden is the pair (h, c).

    Examples
    --------
    >>> model = LSTMFromScratch(10, 20, 5, rng=0)
    >>> outputs, (h, c) = model(np.ones((3, 6, 10), np.float32))
    >>> outputs.shape, h.shape, c.shape
    ((3, 6, 5), (3, 20), (3, 20))
    """

    cell = lstm.LSTM


class GRUFromScratch(FromScratch):
    """As `RNNFromScratch`, with a GRU; i2h and h2h have 3·H rows, gates r, z, n, with the reset after the product.

    Examples
    --------
    >>> model = GRUFromScratch(10, 20, 5, rng=0)
    >>> outputs, hidden = model(np.ones((3, 6, 10), np.float32))
    >>> outputs.shape, hidden.shape
    ((3, 6, 5), (3, 20))
    """

    cell = gru.GRU
