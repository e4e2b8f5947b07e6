"""The calls alone: numpy_rnn with one sequence, one input, one unit.

It calls NumPy just as often as with the real sizes, at hardly any arithmetic: a step cannot take less time than its
calls and its products (the floor) together.
"""

from __future__ import annotations

from ..problem import Problem, make
from . import Ready, numpy_layer


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """The same steps, layers and directions, all other sizes 1."""
    smallest = problem.point._replace(B=1, I=1, H=1, ragged=False)
    ready = numpy_layer.prepare(make(problem.cell, smallest, problem.dtype), threads, device)
    return ready._replace(arrays=lambda _: {})
