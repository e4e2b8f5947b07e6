"""The network of the experiments: `network.Network`, read at its last n steps, with initial values of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ...fast.registry import FAMILIES, cell_name
from ...layers.arguments import check_size
from ...layers.module import Seed
from ...layers.network import Network

# The network's cell of every start: the plain ones, and those with initial values of their own.
CELLS = {**{name: name for name in FAMILIES}, "lstm-chrono": "lstm", "gru-chrono": "gru", "irnn": "rnn_relu"}
LAYER = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
IRNN_WEIGHT = 0.001  # standard deviation of the weights from the input


class SequenceModel(Network):
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
    >>> from numpy_rnn.layers.losses import mean_squared_error
    >>> model = SequenceModel("gru", input_size=2, hidden_size=8, output_size=1, rng=0)
    >>> x, target = np.ones((20, 3, 2), np.float32), np.ones((1, 3, 1), np.float32)
    >>> y, h_n, tape = model.forward(x, read=1)
    >>> loss, dy = mean_squared_error(y, target)
    >>> grads, dx, dh_0 = model.backward(tape, dy)
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
        super().__init__(**_arguments(config), dtype=dtype, rng=rng)
        self.config = config
        self._start(cell_name(cell, CELLS), hidden_size, memory)

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
        return Network.parameter_bounds({"num_layers": 1, "bidirectional": False, "symbols": 0, **_arguments(config)})


def _arguments(config: dict[str, Any]) -> dict[str, Any]:
    """What the network's constructor is told."""
    check_size("memory", config["memory"], least=2)
    sizes = {name: config[name] for name in ("input_size", "hidden_size", "output_size")}
    return {"cell": CELLS[cell_name(config["cell"], CELLS)], **sizes}
