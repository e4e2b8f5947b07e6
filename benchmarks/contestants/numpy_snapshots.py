"""numpy_rnn with snapshots: forward keeps the states at the start of each block, backward runs the block again."""

from __future__ import annotations

from ..problem import Problem
from . import Ready, numpy_layer


def prepare(problem: Problem, threads: int, device: str) -> Ready:
    """Build the layer; only forward + backward differs from numpy_rnn."""
    ready = numpy_layer.prepare(problem, threads, device, snapshots=True)
    return ready._replace(calls={"forward-backward": ready.calls["forward-backward"]})
