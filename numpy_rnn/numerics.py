"""The few functions that every cell shares: activations, and the linear map with its transpose.

All of them accept complex arguments and are analytic in them, so that a complex step through any cell
gives an exact derivative (Squire & Trapp, SIAM Review 40, 1998).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def sigmoid(a: Array) -> Array:
    """Logistic function σ(a) = 1 / (1 + exp(-a)), written as (1 + tanh(a / 2)) / 2.

    This form never overflows, never branches and holds for complex arguments. Its price: far out on the
    negative side it is exactly 0, below about -17 in float32 and -37 in float64, where σ itself is
    smaller than half a unit in the last place of 1.

    Parameters
    ----------
    a : array, any shape

    Returns
    -------
    array
        Shape and dtype of `a`.

    Examples
    --------
    >>> float(sigmoid(np.float64(0.0)))
    0.5
    """
    return 0.5 * (1 + np.tanh(0.5 * a))


def relu(a: Array) -> Array:
    """Rectifier max(a, 0); NaN stays NaN.

    Complex numbers compare by their real part first, so the complex step sees the branch that the real
    number takes.

    Parameters
    ----------
    a : array, any shape

    Returns
    -------
    array
        Shape and dtype of `a`.

    Examples
    --------
    >>> relu(np.array([-1.5, 0.0, 2.0])).tolist()
    [0.0, 0.0, 2.0]
    """
    return np.maximum(a, 0)


def linear(x: Array, W: Array, b: Array) -> Array:
    """Affine map W x + b of every step of every sequence, as one matrix product.

    Parameters
    ----------
    x : array (T, B, I)
    W : array (O, I)
    b : array (O,)

    Returns
    -------
    array (T, B, O)

    Examples
    --------
    >>> linear(np.ones((2, 1, 3)), np.ones((4, 3)), np.zeros(4)).shape
    (2, 1, 4)
    """
    T, B, I = x.shape
    return (x.reshape(T * B, I) @ W.T + b).reshape(T, B, W.shape[0])


def linear_dx(da: Array, W: Array) -> Array:
    """Wᵀ da of each step: what reaches x when `da` arrives at a = W x + b.

    Parameters
    ----------
    da : array (T, B, O)
    W : array (O, I)

    Returns
    -------
    array (T, B, I)

    Examples
    --------
    >>> linear_dx(np.ones((2, 1, 4)), np.ones((4, 3)))[0].tolist()
    [[4.0, 4.0, 4.0]]
    """
    T, B, O = da.shape
    return (da.reshape(T * B, O) @ W).reshape(T, B, W.shape[1])


def linear_dW(da: Array, x: Array) -> Array:
    """Σ da xᵀ over steps and sequences: what reaches W when `da` arrives at a = W x + b.

    Parameters
    ----------
    da : array (T, B, O)
    x : array (T, B, I)

    Returns
    -------
    array (O, I)

    Examples
    --------
    >>> linear_dW(np.ones((2, 1, 4)), np.ones((2, 1, 3)))[0].tolist()
    [2.0, 2.0, 2.0]
    """
    T, B, O = da.shape
    return da.reshape(T * B, O).T @ x.reshape(T * B, x.shape[2])


def linear_db(da: Array) -> Array:
    """Σ da over steps and sequences: what reaches b when `da` arrives at a = W x + b.

    Parameters
    ----------
    da : array (T, B, O)

    Returns
    -------
    array (O,)

    Examples
    --------
    >>> linear_db(np.ones((2, 1, 4))).tolist()
    [2.0, 2.0, 2.0, 2.0]
    """
    return da.sum(axis=(0, 1))  # type: ignore[no-any-return]
