"""A recurrent layer that reads a sequence, and a linear map of its last states: many to one, or many to the last n.

    (1)   h_{t+1} = the layer's (x_t, h_t)
    (2)   y_t     = W h_{t+1} + b               for the last n steps only

    (2')  dh_{t+1} = Wᵀ dy_t for these steps, 0 before them        dW = Σ_t dy_t h_{t+1}ᵀ        db = Σ_t dy_t
    (1')  the layer's backward

With n = 1 all that the gradient of W_hh knows of the first step has come the whole way back, through T - 1 products.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from .. import modules
from ..checks import check_array, check_size
from ..language import DEFAULTS
from ..module import Module, Seed
from ..modules import GRU, LSTM, RNN, Recurrent
from ..numerics import Array, linear, linear_db, linear_dW, linear_dx

CELLS: dict[str, type[RNN] | type[LSTM] | type[GRU]] = {
    "rnn": RNN,
    "lstm": LSTM,
    "gru": GRU,
    "lstm-chrono": LSTM,
    "gru-chrono": GRU,
    "irnn": RNN,
}
LAYER = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
IRNN_WEIGHT = 0.001  # standard deviation of the weights from the input


class Tape(NamedTuple):
    """What the model's backward needs."""

    model: SequenceModel
    shape: tuple[int, ...]  # of the layer's output
    h: Array  # (n, B, H), the states that were read
    rnn: modules.Tape


class SequenceModel(Module):
    """A recurrent layer and a linear map of its last states.

    Parameters
    ----------
    cell : str
        One of `CELLS`. All start as torch.nn's layers do, uniform in ±1/√H, but for: "lstm", whose forget gates have a
        bias of 1 (Gers, Schmidhuber & Cummins 2000; Jozefowicz, Zaremba & Sutskever, ICML 2015); "lstm-chrono" and
        "gru-chrono", see `memory` (Tallec & Ollivier, arXiv 1804.11188 v1); "irnn", a relu RNN with W_hh = 1, W_ih
        normal with deviation 0.001 and biases 0 (Le, Jaitly & Hinton, arXiv 1504.00941 v2).
    input_size, hidden_size, output_size : int
        I, H and O.
    memory : int
        How many steps the chrono cells are to hold: the bias of their forget gates (the GRU's z, which in torch.nn's
        form keeps) is log u with u uniform in [1, memory - 1], that of the LSTM's input gates -log u.
    dtype : dtype
    rng : int, numpy.random.Generator or None

    Raises
    ------
    ValueError
        If the cell is unknown or a size is less than 1.

    Examples
    --------
    >>> from numpy_rnn.losses import mean_squared_error
    >>> model = SequenceModel("gru", input_size=2, hidden_size=8, output_size=1, rng=0)
    >>> x, target = np.ones((20, 3, 2), np.float32), np.ones((1, 3, 1), np.float32)
    >>> y, tape = model.forward(x, last=1)
    >>> loss, dy = mean_squared_error(y, target)
    >>> grads, dx = model.backward(tape, dy)
    >>> grads["rnn.weight_hh_l0"].shape, dx.shape
    ((24, 8), (20, 3, 2))
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        output_size: int,
        memory: int = 2,
        dtype: DTypeLike = np.float32,
        rng: Seed = None,
    ) -> None:
        config = dict(cell=cell, input_size=input_size, hidden_size=hidden_size, output_size=output_size, memory=memory)
        super().__init__(config, self.parameter_bounds(config), dtype, rng)
        self.rnn: Recurrent = CELLS[cell](input_size, hidden_size, dtype=dtype, rng=0, **_options(cell))
        layer = self.rnn.state_dict()
        self.rnn.load_state_dict({name: self._parameters[f"rnn.{name}"] for name in layer})
        self._parameters.update({f"rnn.{name}": value for name, value in layer.items()})  # from now on the same arrays
        self._start(cell, hidden_size, memory)

    def _start(self, cell: str, H: int, memory: int) -> None:
        """Give the layer the initial values that are not torch.nn's."""
        W_ih, W_hh, b_ih, b_hh = (self._parameters[f"rnn.{name}_l0"] for name in LAYER)
        held = np.log(self._rng.uniform(1, memory - 1, H)) if "chrono" in cell else 1
        if cell.startswith("lstm"):
            b_ih[H : 2 * H], b_hh[H : 2 * H] = held, 0  # f
        if cell == "lstm-chrono":
            b_ih[:H], b_hh[:H] = -held, 0  # i
        if cell == "gru-chrono":
            b_ih[H : 2 * H], b_hh[H : 2 * H] = held, 0  # z
        if cell == "irnn":
            W_ih[...] = IRNN_WEIGHT * self._rng.standard_normal(W_ih.shape)
            W_hh[...] = np.eye(H)
            b_ih[...] = b_hh[...] = 0

    @classmethod
    def parameter_bounds(cls, config: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], float]]:
        """Of each parameter its shape and its initial bound; checks the arguments."""
        if config["cell"] not in CELLS:
            raise ValueError(f"cell is {config['cell']!r}, expected {', '.join(CELLS)}")
        I, H, O = (check_size(name, config[name]) for name in ("input_size", "hidden_size", "output_size"))
        check_size("memory", config["memory"], least=2)
        sizes = {"input_size": I, "hidden_size": H, "num_layers": 1}
        layer = CELLS[config["cell"]].parameter_bounds({**DEFAULTS, **_options(config["cell"]), **sizes})
        return {
            **{f"rnn.{name}": bound for name, bound in layer.items()},
            "head.weight": ((O, H), 1 / math.sqrt(H)),
            "head.bias": ((O,), 1 / math.sqrt(H)),
        }

    def __call__(self, x: Array, last: int = 1) -> Array:
        """Return y of `forward`, without a tape and the memory that it takes."""
        h, _ = self.rnn(x)
        return linear(h[self._first(h, last) :], self._parameters["head.weight"], self._parameters["head.bias"])

    def forward(self, x: Array, last: int = 1) -> tuple[Array, Tape]:
        """Run the model.

        Parameters
        ----------
        x : array (T, B, I)
        last : int
            n, how many steps at the end are asked for an answer, 1 to T.

        Returns
        -------
        y : array (n, B, O)
        tape : Tape
            What `backward` needs.

        Raises
        ------
        ValueError
            If a shape or dtype does not fit, or n is not from 1 to T.
        """
        h, _, tape = self.rnn.forward(x)  # (1)
        read = h[self._first(h, last) :]
        y = linear(read, self._parameters["head.weight"], self._parameters["head.bias"])  # (2)
        return y, Tape(self, h.shape, read, tape)

    def backward(self, tape: Tape, dy: Array) -> tuple[dict[str, Array], Array]:
        """Backpropagation through time, from the last n steps to the first step.

        Parameters
        ----------
        tape : Tape
            As `forward` returned it.
        dy : array (n, B, O)
            Gradient of the loss by y.

        Returns
        -------
        grads : dict of str to array
            With the keys of `state_dict()`.
        dx : array (T, B, I)

        Raises
        ------
        ValueError
            If the tape is another model's, or dy does not fit.
        """
        model, shape, h, rnn_tape = tape
        if model is not self:
            raise ValueError(f"the tape comes from {model!r}, expected one from this model's own forward, {self!r}")
        dy = check_array("dy", dy, self.dtype, (*h.shape[:2], self.config["output_size"]), "y's")
        dh = np.zeros(shape, self.dtype)
        dh[-len(dy) :] = linear_dx(dy, self._parameters["head.weight"])  # (2')
        grads, dx, _ = self.rnn.backward(rnn_tape, dh)  # (1')
        return {
            **{f"rnn.{name}": g for name, g in grads.items()},
            "head.weight": linear_dW(dy, h),  # (2')
            "head.bias": linear_db(dy),  # (2')
        }, dx

    def _first(self, h: Array, last: int) -> int:
        """Index of the first step that is asked."""
        if check_size("last", last) > len(h):
            raise ValueError(f"last is {last}, expected at most {len(h)}, the number of steps")
        return len(h) - last


def _options(cell: str) -> dict[str, Any]:
    """What the layer's constructor is told."""
    return {"nonlinearity": "relu"} if cell == "irnn" else {}
