"""numpy_rnn: pure NumPy, backpropagation through time written by hand."""

from __future__ import annotations

from typing import Any

import numpy_rnn

from ..problem import Array, Problem, named
from . import Ready


def prepare(problem: Problem, threads: int, device: str, snapshots: bool = False) -> Ready:
    """Build the layer; OpenBLAS takes the number of threads from the environment."""
    _, _, I, H, L, D, _ = problem.point
    cls = getattr(numpy_rnn, problem.cell.upper())
    layer = cls(I, H, num_layers=L, bidirectional=D == 2, dtype=problem.dtype)
    layer.load_state_dict(problem.parameters)
    x, lengths, doutput = problem.x, problem.point.lengths, problem.doutput
    h_0, dh_n = (s if problem.cell == "lstm" else s[0] for s in (problem.states, problem.dstates))

    def forward() -> Any:
        return layer(x, h_0, lengths)

    def training() -> Any:
        return layer.forward(x, h_0, lengths)

    def both() -> Any:
        output, h_n, tape = layer.forward(x, h_0, lengths, snapshots=snapshots)
        return output, h_n, tape, layer.backward(tape, doutput, dh_n)

    def states(h: Any) -> Any:
        return h if problem.cell == "lstm" else (h,)

    def arrays(result: Any) -> dict[str, Array]:
        output, h_n = result[:2]
        if len(result) < 4:
            return named(output, states(h_n))
        grads, dx, dh_0 = result[3]
        return named(output, states(h_n), dx, states(dh_0), grads)

    return Ready({"forward": forward, "training-forward": training, "forward-backward": both}, arrays)
