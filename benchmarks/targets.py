"""What numpy_rnn and torch_rnn are meant to reach, and whether they did."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .measurements import Results
from .points import GROUPS, Point
from .problem import MODES


class Target(NamedTuple):
    """At least how many times as fast as torch.nn a contestant is: forward + backward in float32."""

    contestant: str
    cell: str
    at_least: float
    statistic: str = "geometric mean"
    device: str = "cpu"
    units: tuple[int, int] = (1, 10_000)  # fewest and most, of the group of points that the device has

    def __str__(self) -> str:
        where = f", {self.units[0]} ≤ H ≤ {self.units[1]}, both in CUDA graphs" if self.device == "cuda" else ""
        return f"{self.contestant}, {self.cell.upper()}, {self.statistic}{where}"

    @property
    def points(self) -> list[Point]:
        """Where it counts."""
        group = GROUPS["grid" if self.device == "cpu" else "gpu"]
        return [point for point in group if self.units[0] <= point.H <= self.units[1]]

    @property
    def rival(self) -> str:
        """Whom it is compared with: on a GPU torch.nn in a CUDA graph, which is the faster way to call it."""
        return "torch.nn" if self.device == "cpu" else "torch.nn-graph"

    def measured(self, results: Results) -> float | None:
        """The figure; None if a point is missing or these are results of another device."""
        if results.environment["device"] != self.device:
            return None
        found = ratios(results, self.rival, self.contestant, self.cell, points=self.points)
        return None if found is None else STATISTICS[self.statistic](found)


STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "geometric mean": statistics.geometric_mean,
    "worst point": min,
}
WORST, GRAPH = "worst point", "torch_rnn-gpu-graph"
TARGETS = (
    Target("numpy_rnn", "rnn", 3.0),
    Target("numpy_rnn", "gru", 2.0),
    Target("numpy_rnn", "lstm", 0.8),
    Target("numpy_rnn", "rnn", 1.1, WORST),
    Target("numpy_rnn", "gru", 1.0, WORST),
    Target("numpy_rnn", "lstm", 0.6, WORST),
    Target("torch_rnn-manual", "rnn", 1.5),
    Target("torch_rnn-manual", "gru", 1.6),
    Target("torch_rnn-manual", "lstm", 0.5),
    # Where cuDNN's kernels are weak: its weights no longer fit one multiprocessor.
    Target(GRAPH, "rnn", 1.5, WORST, "cuda", (257, 384)),
    Target(GRAPH, "gru", 1.5, WORST, "cuda", (129, 192)),
    Target(GRAPH, "lstm", 1.5, WORST, "cuda", (129, 192)),
)


def ratios(
    results: Results,
    slow: str,
    fast: str,
    cell: str,
    mode: str = MODES[-1],
    dtype: str = "float32",
    threads: int | None = None,
    points: Sequence[Point] = GROUPS["grid"],
) -> list[float] | None:
    """How many times as long `slow` takes as `fast` at each point; None unless all of them were measured."""
    threads = threads or results.threads
    where = {"cell": cell, "dtype": dtype, "threads": threads}
    found = [results.ratio(slow, fast, mode, point=str(point), **where) for point in points]
    known = [ratio for ratio in found if ratio is not None]
    return known if len(known) == len(found) else None
