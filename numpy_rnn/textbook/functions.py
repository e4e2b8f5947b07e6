"""What the textbook's files share: σ, and names of types."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Params = tuple[Array, ...]  # a cell's parameters, or their gradients, in the order that the cell's file states
Tape = Any  # whatever a file's `backward` needs of its `forward`


def sigmoid(a: Array) -> Array:
    """Logistic function σ(a) = 1 / (1 + exp(-a)).

    It is written as (1 + tanh(a / 2)) / 2, which is the same: exp(-a) would overflow where a is very negative.
    Complex numbers are accepted, so that complex steps through it are exact.

    Parameters
    ----------
    a : array, any shape

    Returns
    -------
    array
        Shape and dtype of `a`.

    Examples
    --------
    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return (1 + np.tanh(a / 2)) / 2
