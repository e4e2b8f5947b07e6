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
LOOP, LOOP_MEMORY = 2.5, 0.5  # torch_rnn against its own loop: times as fast, and peak memory, worst point of the grid
LEAST_MEMORY = 2**20  # bytes that the loop needs at a point that counts there: less is the allocator's doing
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
    found, at = {}, results.part(cell=cell, dtype=dtype, threads=threads, mode="forward-backward")
    for point in GROUPS["grid"]:
        theirs, *parts = (
            at.find(point=point.name, contestant=c) or at.find(point=point.name, contestant=OLDER.get(c, c))
            for c in (other, *ours)
        )
        known = [m for m in parts if m]
        if theirs and len(known) == len(ours):
            found[point.name] = times_as_long(theirs, *known, signs=ours.values())
    return found


# On a GPU, forward + backward: the quickest of torch.nn's ways to the quickest of torch_rnn's, worst point of a zone.
# cuDNN's kernels that keep W_hh on the chip are weak at their upper end, and beyond it there are none.
NN_WAYS, TORCH_WAYS = ("torch.nn", "torch.nn-graph"), ("torch_rnn", "torch_rnn-graph", "torch_rnn-captured")
# And those of torch_rnn's ways that are a plain call of the layer: the third captures a whole call and its backward.
PLAIN_WAYS = TORCH_WAYS[:2]
WEAK = {"rnn": (256, 384), "lstm": (128, 192), "gru": (128, 192)}  # more units than the first, at most the second
STANDARD = {"lstm": 192, "gru": 192}  # more units than this, at most 64 sequences
WEAK_TIMES, STANDARD_TIMES = 1.5, 1.0
GPU_DTYPES = ("float32", "bfloat16")


def quickest(results: Results, contestants: Sequence[str], **where: Any) -> Measurement | None:
    """The measurement of those contestants that took least time, if there is one."""
    found = [m for c in contestants if (m := results.find(**where, contestant=c))]
    return min(found, key=lambda m: m.seconds, default=None)


def gpu_ratio(results: Results, cell: str, dtype: str, point: Point, ways: Sequence[str] = TORCH_WAYS) -> float | None:
    """The quickest of torch.nn's ways to the quickest of these of torch_rnn's."""
    where = dict(cell=cell, point=point.name, dtype=dtype, device="cuda", mode="forward-backward")
    theirs, ours = quickest(results, NN_WAYS, **where), quickest(results, ways, **where)
    return times_as_long(theirs, ours) if theirs and ours else None


def gpu_points(results: Results, cell: str, dtype: str) -> list[Point]:
    """The points of the GPU's group, measured or not, and whatever others were measured."""
    measured = (m.sizes for m in results.select(cell=cell, dtype=dtype, device="cuda"))
    return in_order((*GROUPS["gpu"], *(p for p in measured if p[4:] == (1, 1, False))))


def gpu_targets(results: Results) -> Iterator[Target]:
    """What torch_rnn is meant to reach on a GPU: each by the quickest of all its ways, then of those by a plain call.

    Yields
    ------
    Target
        With value None where a point of the zone is missing.
    """
    for dtype in GPU_DTYPES:
        for cell, (above, most) in WEAK.items():
            zone = [p for p in gpu_points(results, cell, dtype) if above < p.H <= most]
            yield from _in_zone(results, cell, dtype, zone, f"{above} < H ≤ {most}", WEAK_TIMES)
        for cell, above in STANDARD.items():
            zone = [p for p in gpu_points(results, cell, dtype) if above < p.H and p.B <= 64]
            yield from _in_zone(results, cell, dtype, zone, f"H > {above}", STANDARD_TIMES)


def _in_zone(
    results: Results, cell: str, dtype: str, zone: Sequence[Point], where: str, bound: float
) -> Iterator[Target]:
    for by, ways in (("", TORCH_WAYS), (" by a plain call", PLAIN_WAYS)):
        found = [gpu_ratio(results, cell, dtype, point, ways) for point in zone]
        worst = None if None in found else min(ratio for ratio in found if ratio is not None)
        text = f"{cell.upper()} {dtype}, torch.nn's time / torch_rnn's{by}, worst point with {where}"
        yield Target(text, worst, bound, True, "×")


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
    """The largest part of its loop's peak memory that torch_rnn needs, if all points of the grid are there."""
    peaks = []
    for point in GROUPS["grid"]:
        where = dict(cell=cell, point=point.name, dtype="float32", threads=threads, mode="forward-backward")
        ours, loop = (results.find(**where, contestant=c) for c in ("torch_rnn", "torch_rnn-loop"))
        if ours and loop and ours.memory is not None and loop.memory is not None:
            peaks.append((ours.memory, loop.memory))
    parts = [ours / loop for ours, loop in peaks if loop >= LEAST_MEMORY]
    worst = max(parts, default=None) if len(peaks) == len(GROUPS["grid"]) else None
    text = f"{cell.upper()} float32, torch_rnn's peak memory / its loop's"
    text += f", worst point where the loop's is at least {LEAST_MEMORY // 2**20} MiB"
    return Target(text, worst, LOOP_MEMORY, False, "×")


def _furthest(results: Results, cell: str, threads: int, ours: Parts) -> float | None:
    """The largest distance to the floor among the grid's large points, if all of these are there."""
    found = ratios(results, cell, "float32", threads, "floor", ours)
    large = [point.name for point in GROUPS["grid"] if point.H >= LARGE]
    missing = any(name not in found for name in large)
    return None if missing else max(1 / found[name] for name in large)


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
