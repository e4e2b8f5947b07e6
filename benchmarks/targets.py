"""What numpy_rnn and torch_rnn are meant to reach, and whether they did."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from . import fit
from .points import GROUPS, Point, parse
from .results import Measurement, Results, in_order, times_as_long


class Target(NamedTuple):
    """A figure, and on which side of the bound it is meant to be."""

    text: str
    value: float | None  # None: not measured
    bound: float
    at_least: bool
    unit: str = ""
    limit: float | None = None  # the figure if it took no longer than its products, copies, passes and calls

    @property
    def reached(self) -> bool | None:
        """Whether it is; None if it was not measured."""
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


# Of torch.nn's time to numpy_rnn's over the grid, forward + backward: geometric mean and worst point.
RATIOS = {
    ("rnn", "float32"): (3.0, 1.1),
    ("gru", "float32"): (2.0, 1.0),
    ("lstm", "float32"): (1.0, 0.6),
    ("lstm", "float64"): (1.5, None),
}
# The same of torch_rnn, backpropagation through time by hand: geometric means.
TORCH_RATIOS = {("rnn", "float32"): 1.4, ("gru", "float32"): 1.4, ("lstm", "float32"): 0.6, ("lstm", "float64"): 1.4}
LOOP, LOOP_MEMORY = (
    2.5,
    0.5,
)  # torch_rnn against its own loop: times as fast, and peak memory, worst of the large points
FLOOR, LARGE = 1.2, 256  # times the floor, from this H on
STEP = {"rnn": 2.5e-6, "lstm": 6e-6}  # seconds, forward at B = 1, H = 32
BIDIRECTIONAL = 1.5  # times one direction
# What is added up, and what is taken off: a contestant's own time; or what bounds it from below, the products (for
# numpy_rnn in the better of two layouts, with its copies), the passes and the calls, of which those of the products
# must not count twice.
Parts = Mapping[str, int]
NUMPY_RNN, TORCH_RNN = {"numpy_rnn": 1}, {"torch_rnn": 1}
NUMPY_BOUND = {"layout": 1, "passes": 1, "calls": 1, "floor-calls": -1}
OLDER = {"layout": "floor"}  # what stands for it in results from before it was measured: a bound further below
TORCH_BOUND = {"torch-floor": 1, "torch-passes": 1, "torch-calls": 1, "torch-floor-calls": -1}
LONG, MEMORY, TIMES = "1000000x1x64x64", 64, 1.6  # snapshots: MB beyond x, output, their gradients; times plain
SHORTER, CONSTANT = (
    "10000x1x64x64",
    1.1,
)  # inference: memory beyond input and output, times that of a hundredth the steps
SMALL = ("6x3x10x20", "50x1x32x32")


def ratios(
    results: Results, cell: str, dtype: str, threads: int, other: str = "torch.nn", ours: Parts = NUMPY_RNN
) -> dict[str, float]:
    """How many times as fast as another contestant the parts are: forward + backward, at the grid's points."""
    found = {}
    for point in GROUPS["grid"]:
        where = dict(cell=cell, point=point.name, dtype=dtype, threads=threads, mode="forward-backward")
        theirs, *parts = (
            results.find(**where, contestant=c) or results.find(**where, contestant=OLDER.get(c, c))
            for c in (other, *ours)
        )
        known = [m for m in parts if m]
        if theirs and len(known) == len(ours):
            found[point.name] = times_as_long(theirs, *known, signs=ours.values())
    return found


# On a GPU, forward + backward: the quickest of torch.nn's ways to the quickest of torch_rnn's, worst point of a zone.
# cuDNN's kernels that keep W_hh on the chip are weak at their upper end, and beyond it there are none.
NN_WAYS, TORCH_WAYS = ("torch.nn", "torch.nn-graph"), ("torch_rnn", "torch_rnn-graph", "torch_rnn-captured")
WEAK = {"rnn": (256, 384), "lstm": (128, 192), "gru": (128, 192)}  # more units than the first, at most the second
STANDARD = {"lstm": 192, "gru": 192}  # more units than this, at most 64 sequences
WEAK_TIMES, STANDARD_TIMES = 1.5, 1.0
GPU_DTYPES = ("float32", "bfloat16")


def quickest(results: Results, contestants: Sequence[str], **where: Any) -> Measurement | None:
    """The measurement of those contestants that took least time, if there is one."""
    found = [m for c in contestants if (m := results.find(**where, contestant=c))]
    return min(found, key=lambda m: m.seconds, default=None)


def gpu_ratio(results: Results, cell: str, dtype: str, point: Point) -> float | None:
    """The quickest of torch.nn's ways to the quickest of torch_rnn's."""
    where = dict(cell=cell, point=point.name, dtype=dtype, device="cuda", mode="forward-backward")
    theirs, ours = quickest(results, NN_WAYS, **where), quickest(results, TORCH_WAYS, **where)
    return times_as_long(theirs, ours) if theirs and ours else None


def gpu_targets(results: Results) -> Iterator[Target]:
    """What torch_rnn is meant to reach on a GPU."""
    points = in_order(m.sizes for m in results.measurements if m.sizes[4:] == (1, 1, False))

    def worst(cell: str, dtype: str, zone: list[Point]) -> float | None:
        found = [ratio for point in zone if (ratio := gpu_ratio(results, cell, dtype, point))]
        return min(found) if zone and len(found) == len(zone) else None

    for dtype in GPU_DTYPES:
        for cell, (above, most) in WEAK.items():
            zone = [p for p in points if above < p.H <= most]
            text = f"{cell.upper()} {dtype}, torch.nn's time / torch_rnn's, worst point with {above} < H ≤ {most}"
            yield Target(text, worst(cell, dtype, zone), WEAK_TIMES, True, "×")
        for cell, above in STANDARD.items():
            zone = [p for p in points if above < p.H and p.B <= 64]
            text = f"{cell.upper()} {dtype}, torch.nn's time / torch_rnn's, worst point with H > {above}"
            yield Target(text, worst(cell, dtype, zone), STANDARD_TIMES, True, "×")


def targets(results: Results, threads: int = 2) -> Iterator[Target]:
    """All of them, in order.

    Yields
    ------
    Target
        With value None where the measurements are missing, also if only some of a group are.
    """
    for (cell, dtype), (mean, worst) in RATIOS.items():
        means, worsts = [], []
        for ours in (NUMPY_RNN, NUMPY_BOUND):
            found = list(ratios(results, cell, dtype, threads, ours=ours).values())
            found = found if len(found) == len(GROUPS["grid"]) else []
            means.append(statistics.geometric_mean(found) if found else None)
            worsts.append(min(found, default=None))
        what = f"{cell.upper()} {dtype}, torch.nn's time / numpy_rnn's"
        yield Target(f"{what}, geometric mean", means[0], mean, True, "×", means[1])
        if worst is not None:
            yield Target(f"{what}, worst point", worsts[0], worst, True, "×", worsts[1])
    for cell in ("rnn", "lstm", "gru"):
        measured, bound = (_furthest(results, cell, threads, ours) for ours in (NUMPY_RNN, NUMPY_BOUND))
        text = f"{cell.upper()} float32, numpy_rnn's time / floor, worst point with H ≥ {LARGE}"
        yield Target(text, measured, FLOOR, False, "×", bound)
    for cell, most in STEP.items():
        yield _per_step(fit.lines(results), cell, threads, most)
    for cell in ("rnn", "lstm", "gru"):
        yield _bidirectional(results, cell, threads)
    yield _inference(results, threads)
    yield from _snapshots(results, threads)
    for (cell, dtype), mean in TORCH_RATIOS.items():
        text = f"{cell.upper()} {dtype}, torch.nn's time / torch_rnn's, geometric mean"
        times, limit = (_mean(ratios(results, cell, dtype, threads, ours=ours)) for ours in (TORCH_RNN, TORCH_BOUND))
        yield Target(text, times, mean, True, "×", limit)
    for cell in ("rnn", "lstm", "gru"):
        own = "torch_rnn-loop"
        both = (ratios(results, cell, "float32", threads, own, ours) for ours in (TORCH_RNN, TORCH_BOUND))
        faster, limit = map(_mean, both)
        text = f"{cell.upper()} float32, time of torch_rnn's loop / torch_rnn's"
        yield Target(f"{text}, geometric mean", faster, LOOP, True, "×", limit)
        yield _loop_memory(results, cell, threads)


def _mean(found: dict[str, float]) -> float | None:
    """The geometric mean, if all points of the grid are there."""
    return statistics.geometric_mean(found.values()) if len(found) == len(GROUPS["grid"]) else None


def _loop_memory(results: Results, cell: str, threads: int) -> Target:
    """The largest part of its loop's peak memory that torch_rnn needs, among the large points."""
    parts = []
    for point in GROUPS["grid"]:
        where = dict(cell=cell, point=point.name, dtype="float32", threads=threads, mode="forward-backward")
        ours, loop = (results.find(**where, contestant=c) for c in ("torch_rnn", "torch_rnn-loop"))
        if point.H >= LARGE and ours and loop and ours.memory and loop.memory:
            parts.append(ours.memory / loop.memory)
    text = f"{cell.upper()} float32, torch_rnn's peak memory / its loop's, worst point with H ≥ {LARGE}"
    return Target(text, max(parts, default=None), LOOP_MEMORY, False, "×")


def _furthest(results: Results, cell: str, threads: int, ours: Parts) -> float | None:
    """The largest distance to the floor among the large points."""
    found = ratios(results, cell, "float32", threads, "floor", ours)
    return max((1 / ratio for name, ratio in found.items() if int(name.split("x")[3]) >= LARGE), default=None)


def _per_step(lines: Sequence[fit.Line], cell: str, threads: int, most: float) -> Target:
    wanted = (cell, "float32", threads, "numpy_rnn", "forward", 1, 32, 32)
    fits = [line.fit for line in lines if line[:8] == wanted]
    text = f"{cell.upper()} float32, forward at B = 1, H = 32, time per step"
    return Target(text, fits[0].b * 1e6 if fits else None, most * 1e6, False, " µs")


def _inference(results: Results, threads: int) -> Target:
    beyond = []
    for name in (SHORTER, LONG):
        where = dict(cell="lstm", point=name, dtype="float32", threads=threads, mode="forward")
        m = results.find(**where, contestant="numpy_rnn")
        if m and m.memory:
            beyond.append(m.memory - 4 * m.sizes.T * m.sizes.B * m.sizes.H)
    T, shorter = (parse(name).T for name in (LONG, SHORTER))
    text = f"LSTM float32, inference, memory beyond input and output at T = {T:,} / at T = {shorter:,}"
    return Target(text, beyond[1] / beyond[0] if len(beyond) == 2 else None, CONSTANT, False, "×")


def _snapshots(results: Results, threads: int) -> Iterator[Target]:
    where = dict(cell="lstm", point=LONG, dtype="float32", threads=threads, mode="forward-backward")
    snapshots, plain = (results.find(**where, contestant=c) for c in ("numpy_rnn-snapshots", "numpy_rnn"))
    T, B, I, H, *_ = parse(LONG)
    memory = snapshots.memory and (snapshots.memory - 4 * T * B * (I + H)) / 1e6 if snapshots else None
    what = f"LSTM float32, snapshots at T = {T:,}"
    yield Target(f"{what}, memory beyond x, output and their gradients", memory, MEMORY, False, " MB")
    times = times_as_long(snapshots, plain) if snapshots and plain else None
    yield Target(f"{what}, time / that without", times, TIMES, False, "×")


def _bidirectional(results: Results, cell: str, threads: int) -> Target:
    costs = []
    for name in SMALL:
        where = dict(cell=cell, point=f"{name}-D2", dtype="float32", threads=threads, mode="forward-backward")
        one, two = (results.find(**where, contestant=contestant) for contestant in ("plain", "numpy_rnn"))
        if one and two:
            costs.append(times_as_long(two, one))
    text = f"{cell.upper()} float32, two directions / one, worst of {' and '.join(SMALL)}"
    return Target(text, max(costs) if len(costs) == len(SMALL) else None, BIDIRECTIONAL, False, "×")
