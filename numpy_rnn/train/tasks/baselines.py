"""Baselines with weights of their own, and counts; and the tables of an installed package to learn from.

Least squares and logistic regression have an L2 penalty, which is chosen on the validation split, so that a baseline is
as good as it honestly can be.
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...fast.numerics import Array
from ...layers.files import MissingLibraryError
from ...layers.losses import mean_squared_error, softmax_cross_entropy

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
NEWTON_STEPS = 50  # some ten are taken
Map = Callable[[Array], Array]  # features (n, F) to outputs (n, O)


def package_rows(package: str, *parts: str) -> list[dict[str, str]]:
    """Read the CSV file of an installed package, which is not imported, since that would take seconds.

    Raises
    ------
    MissingLibraryError
        If it is not there; the message says what to install.
    """
    install = "pip install 'numpy-rnn[tasks]'"
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise MissingLibraryError(f"this task's data come with the package {package}: {install}")
    path = Path(*(spec.submodule_search_locations or ())[:1], *parts)
    if not path.is_file():
        raise MissingLibraryError(f"the installed {package} lacks {'/'.join(parts)}, use a tested version: {install}")
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


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


def logistic(x: Array, classes: Array, penalty: float) -> Map:
    """Logistic regression of two classes by Newton's method.

    With the logits -z/2 and z/2 of z = w x + b: the w, b of the smallest mean cross-entropy, plus penalty / 4 · |w|².
    The result maps features (n, F) to logits (n, 2).

    Raises
    ------
    ArithmeticError
        If Newton's method does not converge.

    Examples
    --------
    >>> f = logistic(np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([0, 0, 1, 1]), 1e-3)
    >>> f(np.array([[-3.0], [3.0]])).argmax(axis=1).tolist()
    [0, 1]
    """
    X = np.column_stack([x, np.ones(len(x))])
    ridge = np.append(np.full(x.shape[1], penalty / 2), 0.0)
    w = np.zeros(X.shape[1])
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-X @ w))
        g = X.T @ (p - classes) / len(X) + ridge * w
        if np.abs(g).max() < 1e-9:
            return lambda new: np.outer(np.column_stack([new, np.ones(len(new))]) @ w, [-0.5, 0.5])
        w = w - np.linalg.solve(X.T @ ((p * (1 - p))[:, None] * X) / len(X) + np.diag(ridge), g)
    raise ArithmeticError(f"logistic regression did not converge: gradient {np.abs(g).max():.1e}")


def best(fit: Callable[[Array, Array, float], Map], train: tuple[Array, Array], validation: tuple[Array, Array]) -> Map:
    """`least_squares` or `logistic`, with that of `PENALTIES` whose loss on the validation split is smallest."""
    loss: Callable[..., Any] = mean_squared_error if fit is least_squares else softmax_cross_entropy
    x, right = validation
    return min((fit(*train, penalty) for penalty in PENALTIES), key=lambda f: float(loss(f(x), right)[0]))


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
