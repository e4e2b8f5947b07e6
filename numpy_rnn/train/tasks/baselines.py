"""Baselines with weights of their own: least squares and logistic regression, both with an L2 penalty; counts.

The penalty is chosen on the validation split, so that a baseline is as good as it honestly can be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...fast.numerics import Array
from ...layers.losses import mean_squared_error, softmax_cross_entropy

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
NEWTON_STEPS = 50  # some ten are taken
Map = Callable[[Array], Array]  # features (n, F) to outputs (n, O)


def least_squares(x: Array, y: Array, penalty: float) -> Map:
    """Linear least squares of y (n, O) by x (n, F): the W, b of the smallest Σ |W x + b - y|² / n + penalty · |W|².

    Examples
    --------
    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> least_squares(x, 3 * x + 1, 1e-12)(np.array([[5.0]])).round(6).tolist()
    [[16.0]]
    """
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    X = x - mean_x
    W = np.linalg.solve(X.T @ X / len(X) + penalty * np.eye(X.shape[1]), X.T @ (y - mean_y) / len(X))
    return lambda new: (new - mean_x) @ W + mean_y


def logistic(x: Array, classes: Array, K: int, penalty: float) -> Map:
    """Multinomial logistic regression by Newton's method.

    The W, b of the smallest mean cross-entropy of softmax(W x + b), plus penalty / 2 · (|W|² + tiny · |b|²): only
    differences of the b matter, and the tiny term settles the rest. The result maps features (n, F) to logits (n, K).

    Raises
    ------
    ArithmeticError
        If Newton's method does not converge.

    Examples
    --------
    >>> f = logistic(np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([0, 0, 1, 1]), 2, 1e-3)
    >>> f(np.array([[-3.0], [3.0]])).argmax(axis=1).tolist()
    [0, 1]
    """
    X = np.column_stack([x, np.ones(len(x))])
    F = X.shape[1]
    ridge = np.full((F, K), penalty)
    ridge[-1] = 1e-6 * penalty
    W = np.zeros((F, K))

    def value(W: Array) -> tuple[float, Array]:
        loss, dlogits = softmax_cross_entropy(X @ W, classes)
        return float(loss + (ridge * W**2).sum() / 2), X.T @ dlogits + ridge * W

    loss, g = value(W)
    for _ in range(NEWTON_STEPS):
        if np.abs(g).max() < 1e-9:
            return lambda new: np.column_stack([new, np.ones(len(new))]) @ W
        step = np.linalg.solve(_hessian(X, W) + np.diag(ridge.T.ravel()), g.T.ravel()).reshape(K, F).T
        size = 1.0
        while (tried := value(W - size * step))[0] > loss + 1e-12 and size > 1e-6:
            size /= 2
        W = W - size * step
        loss, g = tried
    raise ArithmeticError(f"logistic regression did not converge: gradient {np.abs(g).max():.1e}")


def _hessian(X: Array, W: Array) -> Array:
    """Second derivatives of the mean cross-entropy: d²/dW_j dW_k = Xᵀ diag(p_j ([j = k] - p_k)) X / n."""
    n, F = X.shape
    K = W.shape[1]
    z = X @ W
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    H = np.empty((K, F, K, F))
    for j in range(K):
        for k in range(j + 1):
            w = p[:, j] * ((j == k) - p[:, k])
            H[j, :, k] = H[k, :, j] = X.T @ (w[:, None] * X) / n
    return H.reshape(K * F, K * F)


def best_least_squares(train: tuple[Array, Array], validation: tuple[Array, Array]) -> Map:
    """`least_squares` with that penalty of `PENALTIES` whose error on the validation split is smallest."""
    maps = [least_squares(*train, penalty) for penalty in PENALTIES]
    x, y = validation
    return min(maps, key=lambda f: float(mean_squared_error(f(x), y)[0]))


def best_logistic(train: tuple[Array, Array], validation: tuple[Array, Array], K: int) -> Map:
    """`logistic` with that penalty of `PENALTIES` whose loss on the validation split is smallest."""
    maps = [logistic(*train, K, penalty) for penalty in PENALTIES]
    x, classes = validation
    return min(maps, key=lambda f: float(softmax_cross_entropy(f(x), classes)[0]))


def frequencies(contexts: list[Any], classes: Array, K: int) -> dict[Any, Array]:
    """Of every context the logarithms of how often each class went with it, each count one half too high.

    Examples
    --------
    >>> np.exp(frequencies(["a", "a", "b"], np.array([1, 1, 0]), 2)["a"]).round(3).tolist()
    [0.167, 0.833]
    """
    counts: dict[Any, Array] = {}
    for context, k in zip(contexts, classes.tolist()):
        counts.setdefault(context, np.full(K, 0.5))[k] += 1
    return {context: np.log(n / n.sum()) for context, n in counts.items()}
