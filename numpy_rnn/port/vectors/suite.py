"""The suite: which cases there are, what each is for, and how its numbers are drawn.

A port grows by levels: at each one there is one thing more that can be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...fast.numerics import Array
from ...fast.registry import CELLS
from ...verify.case import Case
from ...verify.zoo import cases, random_case
from .optimizers import Problem, problem

SUITE = 1  # the version; a published case never changes

LEVELS = (
    "RNN, forward",
    "RNN, gradients",
    "LSTM and GRU, forward",
    "LSTM and GRU, gradients",
    "variants: GRU with reset before the product, peepholes, projection",
    "batches of sequences of different lengths",
    "two directions",
    "layers, with dropout masks between them",
    "steps of optimizers",
    "edge cases",
    "optional: what some systems do otherwise",
)


class Entry(NamedTuple):
    """One case of the suite."""

    name: str
    forward: int  # level of its values, 1 …
    backward: int  # level of its gradients
    shows: str  # what it is there for
    make: Callable[[], Case | Problem]
    bias: bool = True  # False: all biases are zero, and a port without biases can run it

    @property
    def optional(self) -> bool:
        """Whether a correct port may do otherwise."""
        return self.forward == len(LEVELS)


def suite() -> Sequence[Entry]:
    """All cases, by level.

    Examples
    --------
    >>> len(suite()) <= 40, suite()[0].name
    (True, 'rnn_tanh-ones')
    """
    entries = [Entry("rnn_tanh-ones", 1, 2, "all sizes 1: nothing but the equations", lambda: _small("rnn_tanh"))]
    for cell in CELLS:
        level = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 3, "gru": 3}.get(cell, 5)
        backward = min(level + 1, 5)
        entries += [
            Entry(f"{cell}-plain", level, backward, "all sizes different, states, biases not zero", _zoo(cell, 0)),
            Entry(f"{cell}-square", level, backward, "as many inputs as units; states start at zero", _zoo(cell, 2)),
        ]
    entries += [
        Entry(f"{cell}-ragged", 6, 6, "lengths that differ, all below T; padding not to be read", _ragged(cell))
        for cell in ("rnn_tanh", "lstm", "gru")
    ]
    entries += [
        Entry(f"{cell}-bidirectional", 7, 7, "the second direction reads from the end", _bidirectional(cell))
        for cell in ("lstm", "gru")
    ]
    entries += [
        Entry(f"{cell}-stacked", 8, 8, "two layers, two directions, lengths that differ, dropout masks", _zoo(cell, 1))
        for cell in CELLS
    ]
    entries += [
        Entry("sgd-momentum", 9, 9, "four steps with momentum and weight decay", lambda: problem("sgd")),
        Entry("adam-steps", 9, 9, "four steps from a memory of zeros", lambda: problem("adam")),
        Entry("clip-norm", 9, 9, "gradients beyond the norm and one within", lambda: problem("clip")),
    ]
    entries += [
        Entry("gru-no-bias", 10, 10, "all biases zero", lambda: _scaled("gru", biases=0.0), bias=False),
        Entry(
            "lstm-saturated", 10, 10, "gates that are 0 or 1 to the last digit", lambda: _scaled("lstm", weights=16.0)
        ),
        Entry("rnn_relu-large", 10, 10, "values of many thousands", lambda: _scaled("rnn_relu", x=512.0)),
        Entry(
            "rnn_relu-zeros",
            10,
            10,
            "pre-activations that are 0 and -0: relu's derivative there is 0",
            _zoo("rnn_relu", 3),
        ),
        Entry("lstm-probe", 10, 10, "one weight of W_hh is 1, all others 0", lambda: _probe("lstm")),
        Entry("gru-probe", 10, 10, "one weight of W_hh is 1, all others 0", lambda: _probe("gru")),
        Entry("rnn_tanh-no-steps", 11, 11, "T = 0: final states are initial states", lambda: _steps("rnn_tanh", 0)),
        Entry("gru-length-0", 11, 11, "length 0 hands the state through", lambda: _ragged("gru", (3, 0))()),
        Entry("rnn_tanh-infinite", 11, 11, "infinite inputs: outputs of ±1, gradients NaN", _infinite),
        Entry("lstm-denormal", 11, 11, "inputs below float32's normal numbers", lambda: _scaled("lstm", x=2.0**-140)),
    ]
    return sorted(entries, key=lambda entry: entry.forward)


def _small(cell: str) -> Case:
    return random_case("ones", cell, T=3, B=1, I=1, H=1, R=1)


def _zoo(cell: str, k: int) -> Callable[[], Case]:
    return lambda: cases(cell)[k]


def _ragged(cell: str, lengths: tuple[int, ...] = (2, 4, 1)) -> Callable[[], Case]:
    sizes: dict[str, Any] = {"T": max(lengths) + 1, "B": len(lengths), "I": 2, "H": 3, "R": 2}
    return lambda: random_case("ragged", cell, lengths=lengths, **sizes)


def _bidirectional(cell: str) -> Callable[[], Case]:
    return lambda: random_case("bidirectional", cell, T=3, B=2, I=3, H=2, R=1, D=2)


def _steps(cell: str, T: int) -> Case:
    return random_case("steps", cell, T=T, B=2, I=3, H=2, R=1)


def _with(case: Case, change: Callable[[str, Array], Array]) -> Case:
    """A case of one layer and one direction whose parameters are changed."""
    ((p,),) = case.params
    return case._replace(params=[[p._replace(**{f: change(f, w) for f, w in p._asdict().items()})]])


def _scaled(cell: str, weights: float = 1.0, biases: float = 1.0, x: float = 1.0) -> Case:
    case = random_case("scaled", cell, T=3, B=2, I=3, H=4, R=2)
    scaled = _with(case, lambda f, w: w * (biases if f.startswith("b") else weights))
    return scaled._replace(x=case.x * x)


def _probe(cell: str) -> Case:
    case = random_case("probe", cell, T=2, B=1, I=2, H=3, R=2)

    def single(field: str, w: Array) -> Array:
        one = np.zeros_like(w)
        if field == "W_hh":
            one[len(w) // CELLS[cell].gates + 1, 2] = 1.0  # second gate, unit 1, from unit 2
        return one

    return _with(case, single)


def _infinite() -> Case:
    case = _steps("rnn_tanh", 3)
    x = case.x.copy()
    x[1, 0, 0], x[1, 1, 1] = np.inf, -np.inf
    return case._replace(x=x)
