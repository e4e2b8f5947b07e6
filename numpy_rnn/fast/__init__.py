"""The same numbers as `numpy_rnn.textbook`, for whole batches, at speed: what the layers call.

One module a family of cells, held against its textbook twins to 1e-12 by tests/test_textbook.py; `deep` runs cells
over layers, directions and sequences of different lengths. Nobody needs to open them to understand what is computed.

What the cells do otherwise than the textbook, and what it buys; docs/use/speed.md has the figures:

* Both biases are added up before the loop, and W_ih x_t of all steps is one product: so is its transpose, dx.
* Gradients of weights are summed over steps and sequences by one product after the loop, not one a step.
* Vectors of cells with gates stand as columns, (T, R, B), so that each gate of a step is one piece of memory, for which
  NumPy's functions take less time than for strips.
* Gradients of states enter backward's products as factors only. What they are multiplied with is computed for all
  steps at once, and waits where da will stand.
* W_hh is laid out once, row by row or column by column, for the product that BLAS is quickest with at this batch.
* Results go into memory that is there already: `out`, by position, for a keyword takes a part of a small call's time.
"""

from . import deep, gru, lstm, memory, numerics, rnn, truncated

__all__ = ["deep", "gru", "lstm", "memory", "numerics", "rnn", "truncated"]
