"""The network of the experiments: `network.Network` with initial values that help it remember, or do not."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...fast.registry import FAMILIES
from ...layers.network import Network

# The network's cell of every start: the plain ones, and those with initial values of their own.
CELLS = {**{name: name for name in FAMILIES}, "lstm-chrono": "lstm", "gru-chrono": "gru", "irnn": "rnn_relu"}
LAYER = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
IRNN_WEIGHT = 0.001  # standard deviation of the weights from the input


def initial_network(cell: str, sizes: dict[str, Any], memory: int, rng: np.random.Generator) -> Network:
    """Make a network that training starts from.

    Parameters
    ----------
    cell : str
        One of `CELLS`. All start as torch.nn's layers do, uniform in ±1/√H, but for: "lstm", whose forget gates have a
        bias of 1 (Gers, Schmidhuber & Cummins 2000; Jozefowicz, Zaremba & Sutskever, ICML 2015); "lstm-chrono" and
        "gru-chrono", see `memory` (Tallec & Ollivier, arXiv 1804.11188 v1); "irnn", a relu RNN with W_hh = 1, W_ih
        normal with deviation 0.001 and biases 0 (Le, Jaitly & Hinton, arXiv 1504.00941 v2).
    sizes : dict
        Arguments of `Network` besides the cell.
    memory : int
        How many steps the chrono cells are to hold, at least 2: the bias of their forget gates (the GRU's z, which in
        torch.nn's form keeps) is log u with u uniform in [1, memory - 1], that of the LSTM's input gates -log u.
    rng : numpy.random.Generator

    Examples
    --------
    >>> sizes = {"input_size": 2, "hidden_size": 3, "output_size": 1}
    >>> network = initial_network("irnn", sizes, memory=2, rng=np.random.default_rng(0))
    >>> network.state_dict()["rnn.weight_hh_l0"].tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    network, H = Network(CELLS[cell], **sizes, dtype=np.float32, rng=rng), sizes["hidden_size"]
    W_ih, W_hh, b_ih, b_hh = (network.state_dict()[f"rnn.{name}_l0"] for name in LAYER)
    held = np.log(rng.uniform(1, memory - 1, H)) if "chrono" in cell else 1
    if cell.startswith("lstm"):
        b_ih[H : 2 * H], b_hh[H : 2 * H] = held, 0  # f
    if cell == "lstm-chrono":
        b_ih[:H], b_hh[:H] = -held, 0  # i
    if cell == "gru-chrono":
        b_ih[H : 2 * H], b_hh[H : 2 * H] = held, 0  # z
    if cell == "irnn":
        W_ih[...] = IRNN_WEIGHT * rng.standard_normal(W_ih.shape)
        W_hh[...] = np.eye(H)
        b_ih[...] = b_hh[...] = 0
    return network
