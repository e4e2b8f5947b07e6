"""numpy_rnn on the same sizes with one layer, one direction and full lengths, timed in turn with the real ones: what a
second layer or direction costs is a quotient of two times under the same conditions.
"""

from __future__ import annotations

from ..problem import Problem, make
from . import Ready, UnfitError, numpy_layer


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Build the plain layer, with weights of its own."""
    plain = problem.point._replace(L=1, D=1, ragged=False)
    if problem.point == plain:
        raise UnfitError("the point is plain itself")
    return numpy_layer.prepare(make(problem.cell, plain, problem.dtype), threads, device)._replace(arrays=lambda _: {})
