"""Backpropagation through time by hand, in PyTorch: for each cell a forward pass and its transpose.

The explicit loops beside this package say what a cell is, and autograd differentiates them. Here the same equations
stand with their transposes, whose lines carry the numbers (1') … of `numpy_rnn`'s files of the same names. `passes`
says which steps go together, and `function` makes one `torch.autograd.Function` of each pair. Why that is faster than
autograd over the loop:

* W_ih x_t of all steps is one product, and so is the gradient of each weight;
* forward keeps what backward reads and nothing else, and writes it where the pre-activations stood;
* the running gradient enters the transposes as a factor only. What it is multiplied with is computed for all steps at
  once, before the loop backwards, and waits where the gradients of the pre-activations will stand;
* small steps on a CPU call NumPy, whose calls are quicker (`calls`), and large products are by the library that is
  quicker at them on the processor at hand (`products`).

Vectors are rows, as torch.nn's users hold them: x_t is (B, I), and W x is `x @ W.T`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from ..blocks import Blocks
from ..cell import Cell
from . import function, gru, gru_reset_before, lstm, lstm_peephole, lstm_projection, rnn
from .function import by_loop
from .passes import Manual, Saved


def _h(y: Tensor, saved: Saved) -> tuple[Tensor, ...]:
    return (y,)


def _h_and_c(y: Tensor, saved: Saved) -> tuple[Tensor, ...]:
    return y, saved[1]


RELU = partial(rnn.forward, nonlinearity=rnn.RELU), partial(rnn.backward, nonlinearity=rnn.RELU)
# The RNN needs room for one block. But in chunks as long as that allows, its products would be oneDNN's, for which
# operands are turned: 6.6 MiB instead of 3.7 at 100x32x128x128.
MANUAL = {
    "rnn_tanh": Manual(rnn.forward, rnn.backward, _h, blocks=2),
    "rnn_relu": Manual(*RELU, _h, blocks=2),
    "lstm": Manual(lstm.forward, lstm.backward, _h_and_c, blocks=4),
    "lstm_projection": Manual(lstm_projection.forward, lstm_projection.backward, _h_and_c, blocks=4),
    "lstm_peephole": Manual(lstm_peephole.forward, lstm_peephole.backward, _h_and_c, blocks=4),
    "gru": Manual(gru.forward, gru.backward, _h, blocks=4),
    "gru_reset_before": Manual(gru_reset_before.forward, gru_reset_before.backward, _h, blocks=3),
}


def by_hand(cell: Cell, params: Any, x: Tensor, s0: Any, blocks: Blocks | None = None) -> tuple[Tensor, Any]:
    """Outputs and final state as `by_loop` gives them, their gradients by hand."""
    return function.by_hand(cell, MANUAL[cell.name], params, x, s0, blocks)


__all__ = ["MANUAL", "Manual", "by_hand", "by_loop"]
