"""The problems on which every mistake of the zoo shows, and no two look alike."""

from __future__ import annotations

import zlib
from functools import cache
from typing import Any

import numpy as np

from ...fast.numerics import Array
from ...fast.registry import cell_name
from ..case import Case, make_case
from .mistake import Mistake, machine


def cases(cell: str) -> tuple[Case, ...]:
    """The zoo's cases for a cell, such as "lstm"; between them they show every mistake, and tell each from all others.

    All numbers have eight binary digits at most, so they are the same in float16, bfloat16, float32 and float64.

    Returns
    -------
    tuple of Case
        "plain": one layer, one direction, all sequences of full length. "stacked": two layers, two directions,
        lengths that differ, dropout between the layers. "square": as many inputs as units, and zero initial states.
        For relu alone, "zeros": no biases, and rows of zeros in x, where relu's argument is exactly 0.

    Examples
    --------
    >>> [(case.name, case.x.shape, case.lengths) for case in cases("gru")]
    [('plain', (4, 2, 3), None), ('stacked', (5, 3, 2), (2, 5, 1)), ('square', (3, 2, 3), None)]
    """
    return _cases(cell_name(cell))


@cache
def _cases(cell: str) -> tuple[Case, ...]:
    found = (
        random_case("plain", cell, T=4, B=2, I=3, H=5, R=4),
        random_case("stacked", cell, T=5, B=3, I=2, H=4, R=3, L=2, D=2, lengths=(2, 5, 1)),
        random_case("square", cell, T=3, B=2, I=3, H=3, R=2, zero_state=True),
    )
    return (*found, _zeros()) if cell == "rnn_relu" else found


def _zeros() -> Case:
    case = random_case("zeros", "rnn_relu", T=3, B=2, I=2, H=3, R=2, zero_state=True)
    x = case.x.copy()
    x[0], x[1] = 0.0, -0.0
    ((p,),) = case.params
    return case._replace(params=[[p._replace(b_ih=0 * p.b_ih, b_hh=0 * p.b_hh)]], x=x)


def random_case(name: str, cell: str, *, zero_state: bool = False, **sizes: Any) -> Case:
    """A random case whose numbers have eight binary digits at most; the name seeds it.

    Upstream gradients are five times as large as x, so that each of them is felt in every gradient.
    """
    rng = np.random.default_rng(zlib.crc32(f"{name} {cell}".encode()))
    scales = {"parameter": 0.7, "input": 1.0, "state": 1.0, "upstream": 5.0}

    def draw(*shape: int, role: str) -> Array:
        grid = 256 / (16 if role == "upstream" else 4)
        drawn = np.clip(np.round(rng.standard_normal(shape) * scales[role] * grid), -255, 255) / grid
        return drawn * (not zero_state) if role == "state" else drawn

    return make_case(name, cell, draw, masks=lambda *shape: 2.0 * (rng.random(shape) < 0.5), **sizes)


def run(case: Case, *planted: Mistake) -> dict[str, Array]:
    """What comes out with these mistakes in float64; of the zoo's own cases with one at most, computed once."""
    for k, own in enumerate(cases(case.cell)):
        if own is case and len(planted) < 2:
            return _run(case.cell, k, *planted)
    with np.errstate(all="ignore"):
        return machine(case.cell, *planted).run(case.astype(np.float64))


@cache
def _run(cell: str, k: int, *planted: Mistake) -> dict[str, Array]:
    with np.errstate(all="ignore"):
        return machine(cell, *planted).run(cases(cell)[k])
