"""Losses: each function returns the value and, beside it, the gradient by what the model put out.

Written for real numbers and analytic in them, so that a complex step through logits or outputs gives an exact
derivative.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..fast.numerics import Array

Reduction = Literal["mean", "sum"]


def softmax_cross_entropy(
    logits: Array, targets: ArrayLike, ignore_index: int = -100, reduction: Reduction = "mean"
) -> tuple[Any, Array]:
    """Cross-entropy of softmax(logits) against one class for each row, and its gradient.

    With p, the softmax of a row z over its K classes, and k, the row's target:

        (1)   p     = exp(z) / Σ exp(z)
              l     = -log(p_k) = log(Σ_j exp(z_j - m)) - (z_k - m)    — m = max z, so nothing overflows
        (2)   loss  = Σ l / N                                          — N rows that are not ignored; 1 for "sum"

        (2')  dl    = 1 / N
        (1')  dz_j  = (p_j - [j = k]) dl

    Parameters
    ----------
    logits : array (..., K)
        Unnormalised log-probabilities.
    targets : integer array (...)
        Classes, 0 … K-1, or `ignore_index`.
    ignore_index : int
        Rows with this target count for nothing: they are left out of the value and of N, and their gradient is 0
        even where their logits are NaN (PyTorch's is NaN there).
    reduction : "mean" or "sum"

    Returns
    -------
    loss : scalar
        In natural units (divide by log 2 for bits); dtype of `logits`. If there is no row to take the mean
        of, NaN, as in PyTorch.
    dlogits : array (..., K)
        Gradient of the loss by the logits.

    Raises
    ------
    ValueError
        If the shapes do not fit, the targets are not integers or one of them is no class, the logits are not
        floating-point, or the reduction is unknown.

    Examples
    --------
    >>> loss, dlogits = softmax_cross_entropy(np.zeros((2, 4)), [3, -100])
    >>> round(float(loss / np.log(2)), 6)
    2.0
    >>> dlogits.tolist()
    [[0.25, 0.25, 0.25, -0.75], [0.0, 0.0, 0.0, 0.0]]
    """
    logits, targets = _checked_classes(logits, np.asarray(targets), ignore_index)
    rows, classes = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    kept = np.flatnonzero(classes != ignore_index)
    at_target = (kept, classes[kept])  # one logit of every row that counts
    N = _divisor(len(kept), reduction)

    z = rows - rows.max(axis=1, keepdims=True)
    exp_z = np.exp(z)
    total = exp_z.sum(axis=1, keepdims=True)
    loss = np.sum(np.log(total[kept, 0]) - z[at_target]) / N  # (1) (2)

    dz = exp_z / (total * N)  # (1'), the part with p
    dz[at_target] -= 1 / N  # (1'), the part with [j = k]
    dz[classes == ignore_index] = 0
    return loss, dz.reshape(logits.shape)


def mean_squared_error(y: Array, target: Array, reduction: Reduction = "mean") -> tuple[Any, Array]:
    """Squared error and its gradient.

        (1)   loss = Σ (y - target)² / N             — N numbers in y; 1 for "sum"
        (1')  dy   = 2 (y - target) / N

    Parameters
    ----------
    y : array, any shape
    target : array, the same shape
    reduction : "mean" or "sum"

    Returns
    -------
    loss : scalar
        The mean over nothing is NaN, as in PyTorch.
    dy : array, shape of `y`
        Gradient of the loss by `y`; that by `target` is its negative.

    Raises
    ------
    ValueError
        If the shapes differ (nothing is broadcast), the difference is not floating-point or the reduction is unknown.

    Examples
    --------
    >>> loss, dy = mean_squared_error(np.array([1.0, 4.0]), np.array([2.0, 2.0]))
    >>> float(loss), dy.tolist()
    (2.5, [-1.0, 2.0])
    """
    y, target = np.asarray(y), np.asarray(target)
    if y.shape != target.shape:
        raise ValueError(f"target has shape {target.shape}, expected {y.shape}, the shape of y")
    if not np.issubdtype(np.result_type(y, target), np.inexact):
        raise ValueError(f"y and target have dtype {y.dtype} and {target.dtype}, expected floating-point numbers")
    N = _divisor(y.size, reduction)
    error = y - target
    return np.sum(error**2) / N, error * (2 / N)  # (1) (1')


def _divisor(count: int, reduction: Reduction) -> float:
    """Return what a sum over `count` items is divided by."""
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is {reduction!r}, expected 'mean' or 'sum'")
    if reduction == "sum":
        return 1.0
    return count or float("nan")  # 0 / 0 without NumPy's warning


def _checked_classes(logits: Array, targets: Array, ignore_index: int) -> tuple[Array, Array]:
    logits = np.asarray(logits)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits has shape {logits.shape}, expected (..., K) with K of at least 1")
    if not np.issubdtype(logits.dtype, np.inexact):
        raise ValueError(f"logits has dtype {logits.dtype}, expected floating-point numbers")
    if targets.shape != logits.shape[:-1]:
        raise ValueError(f"targets has shape {targets.shape}, expected {logits.shape[:-1]}, that of logits without K")
    if not np.issubdtype(targets.dtype, np.integer) and targets.size:
        raise ValueError(f"targets has dtype {targets.dtype}, expected integers")
    K = logits.shape[-1]
    wrong = np.argwhere((targets != ignore_index) & ((targets < 0) | (targets >= K)))
    if len(wrong):
        index = tuple(wrong[0].tolist())
        raise ValueError(
            f"targets[{', '.join(map(str, index))}] is {targets[index]}, "
            f"expected 0 to {K - 1} or ignore_index = {ignore_index}"
        )
    return logits, targets.astype(np.intp, copy=False)
