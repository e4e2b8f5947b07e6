"""The page of the site, its figure, and what stands in the terminal and in the README, all made of results alone."""

from __future__ import annotations

import itertools
import math
import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .contestants import BEFORE
from .measurements import Measurement, Results
from .points import CELLS, GROUPS, Point
from .problem import MODES
from .targets import TARGETS, ratios

LONG = dict(zip(MODES, ("forward", "forward for training", "forward + backward")))
KINDS = (("float32", 2), ("float32", 1), ("float64", 2))
NOTHING = "–"
# Okabe and Ito's colours, which all can tell apart, and markers for those who print in grey.
STYLES = {
    "numpy_rnn": ("#D55E00", "o"),
    "torch_rnn": ("#56B4E9", "s"),
    "torch_rnn-manual": ("#0072B2", "D"),
    "jax": ("#882255", "v"),
    "floor": ("#000000", "_"),
}


def page(cpu: Results, gpu: Results | None, figure: str) -> str:
    """Write the page, in Markdown; the figure is a file beside it."""
    names = ("numpy_rnn", "torch_rnn", "torch_rnn-manual", "jax", "onnxruntime")
    parts = [
        INTRODUCTION,
        "## What ran",
        environment(cpu),
        f"## Targets\n\nForward + backward, float32, {_threads(cpu.threads)}:",
        targets([results for results in (cpu, gpu) if results]),
        titled(
            "## Means\n\ntorch.nn's time / the contestant's, geometric mean over the points below:", means(cpu, names)
        ),
        f"![Ratios to torch.nn at each point]({figure})",
        titled(EACH_POINT.format(_threads(cpu.threads)), each_point(cpu, GROUPS["grid"], MODES[-1])),
        titled("The forward pass alone:", each_point(cpu, GROUPS["grid"], MODES[0])),
        titled(
            "Two directions (D2) and two layers (L2), forward + backward:", each_point(cpu, GROUPS["stacks"], MODES[-1])
        ),
        titled(ERRORS, errors(cpu)),
        *notes(cpu),
    ]
    if gpu:
        text = "Forward + backward, float32. `-graph` means that the whole call was captured in a CUDA graph:"
        table = titled(text, each_point(gpu, GROUPS["gpu"], MODES[-1]))
        parts += ["## On a GPU", environment(gpu), table]
    return "\n\n".join(part for part in parts if part) + "\n"


def titled(text: str, table: str) -> str:
    """A table with what stands above it, or nothing if there is no table."""
    return table and f"{text}\n\n{table}"


INTRODUCTION = """\
# Benchmarks

`python -m benchmarks report benchmarks/results/cpu.json benchmarks/results/cuda.json` writes this page; `make bench`
measures first. `python -m benchmarks --quick` takes half a minute.

A ratio is torch.nn's time divided by the contestant's: above 1 it is faster than torch.nn. Every contestant runs in a
process of its own and computes the same numbers with the same gradients: dx, those of the initial states and of all
parameters. They take turns, and a ratio is the median over the turns. One thread is timed by the processor's clock, so
that other programs hardly count, two by the clock on the wall. A point is written T×B×I×H: steps, sequences, inputs,
units.

`torch_rnn` is the explicit loop under autograd, its default; `torch_rnn-manual` has the backward pass by hand; JAX is a
compiled scan; `floor` is the matrix products alone. On a CPU torch.nn's float32 LSTM is oneDNN's. All processes keep
freed memory (`numpy_rnn.keep_freed_memory`), torch.nn's too. They run without variables such as `OPENBLAS_CORETYPE`,
which slow one library down and leave the others alone."""
EACH_POINT = """\
## Each point

Forward + backward, float32, {}: torch.nn's time, how many times as fast the others are (`floor`: what nobody can
exceed with this BLAS), and the peak of memory beyond what was resident before."""
ERRORS = """\
## Errors

The worst max|a - b| / max|b| over all values, gradients and points, against float64 by torch.nn; torch.nn's own against
float64 by numpy_rnn."""


def summary(results: Results) -> str:
    """What a run prints in the end."""
    parts = [environment(results)]
    nn = any(m.contestant == "torch.nn" for m in results.measurements)
    rival = "torch.nn" if nn or not results.measurements else results.measurements[0].contestant
    kinds = dict.fromkeys((s.dtype, s.threads) for s in results.settings)
    for (dtype, threads), mode in itertools.product(kinds, MODES):
        points = dict.fromkeys(s.point for s in results.settings if (s.dtype, s.threads) == (dtype, threads))
        text = f"{LONG[mode]}, {dtype}, {_threads(threads)}: {rival}'s time, and ratios to it"
        parts.append(titled(text, each_point(results, list(points), mode, dtype, threads, rival)))
    parts += [targets([results]), errors(results), *notes(results)]
    return "\n\n".join(part for part in parts if part)


def _threads(n: int) -> str:
    return f"{n} thread{'s' if n > 1 else ''}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown that can be read in a terminal, too, without empty columns; nothing if it has no rows.

    Examples
    --------
    >>> print(table(("", "ratio"), [("RNN", "3.20"), ("LSTM", "0.90")]))
    |      | ratio |
    | ---- | ----: |
    | RNN  |  3.20 |
    | LSTM |  0.90 |
    """
    columns = [column for column in zip(head, *rows) if set(column[1:]) - {NOTHING}]
    head, *rows = zip(*columns) if columns else [head]
    widths = [max(3, *map(len, column)) for column in zip(head, *rows)]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.rjust(n) if k else cell.ljust(n) for k, (cell, n) in enumerate(zip(cells, widths)))
        return f"| {' | '.join(padded)} |"

    rule = ["-" * n if k == 0 else "-" * (n - 1) + ":" for k, n in enumerate(widths)]
    return "\n".join([line(head), line(rule), *map(line, rows)]) if rows else ""


def environment(results: Results) -> str:
    """Machine, versions and load, as a paragraph."""
    e, versions = results.environment, dict[str, str]()
    for contestant in results.contestants.values():
        versions |= contestant["versions"]
    blas = {name for c in results.contestants.values() for name in c["libraries"] if name.startswith("openblas")}
    gpus = {c["gpu"] for c in results.contestants.values() if "gpu" in c}
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    machine = ", ".join([*gpus, e["cpu"], f"{e['cores']} cores", e["system"]])
    sentences = [
        f"Measured {e['date'].replace('T', ' ')} on {machine}; Python {e['python']}, {packages}; "
        f"NumPy's BLAS: {', '.join(blas)}.",
        f"Load average at the start {e['load at start']}"
        + (f", at the end {e['load at end']}, the benchmark included." if e.get("load at end") else "."),
        f"Half the distance of a time's quartiles is {_spread(results)}.",
        *e.get("remarks", []),
        *([] if results.complete else ["**The run was not completed.**"]),
    ]
    return "\n".join(sentences)


def _spread(results: Results) -> str:
    """How far the samples of a measurement lie apart, in words."""
    found = []
    for seconds in (s for m in results.measurements for s in m.seconds.values() if len(s) > 2):
        low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
        found.append((high - low) / 2 / middle)
    if len(found) < 2:
        return "unknown"
    middle, tenth = statistics.median(found), statistics.quantiles(found, n=10)[-1]
    return f"{middle:.0%} of it in the middle, {tenth:.0%} or more for one in ten"


def targets(found: Sequence[Results]) -> str:
    """A row for each target."""
    rows = []
    for target in TARGETS:
        value = next((v for results in found if (v := target.measured(results)) is not None), None)
        reached = "not measured" if value is None else "yes" if value >= target.at_least else "**no**"
        rows.append((str(target), f"≥ {target.at_least}", _ratio(value), reached))
    return table(("torch.nn's time / that of", "target", "measured", "reached"), rows)


def means(results: Results, names: Sequence[str]) -> str:
    """Geometric means over the grid: contestants in each dtype and number of threads down, cells and modes across."""
    rows = []
    for (dtype, threads), name in itertools.product(KINDS, names):
        columns = itertools.product(CELLS, MODES)
        row = [_mean(ratios(results, "torch.nn", name, cell, mode, dtype, threads)) for cell, mode in columns]
        if set(row) != {NOTHING}:
            rows.append((f"{name}, {dtype}, {_threads(threads)}", *row))
    head = [f"{cell.upper()} {mode}" for cell in CELLS for mode in ("forward", "training", "+ backward")]
    return table(("", *head), rows)


def each_point(
    results: Results,
    points: Iterable[Point],
    mode: str,
    dtype: str = "float32",
    threads: int | None = None,
    rival: str = "torch.nn",
) -> str:
    """A row for each cell and point: the rival's time, how many times as fast others are, and peaks of memory."""
    threads = threads or results.threads
    names = [name for name in dict.fromkeys(m.contestant for m in results.measurements) if name != rival]
    watched = ("numpy_rnn", rival) if mode == MODES[-1] and results.environment["device"] == "cpu" else ()
    rows = []
    for cell, point in itertools.product(CELLS, points):
        where: dict[str, Any] = {"cell": cell, "point": str(point), "dtype": dtype, "threads": threads}
        found = {name: results.find(contestant=name, **where) for name in (rival, *names)}
        pairs = [(name, name.removesuffix(BEFORE)) if name.endswith(BEFORE) else (rival, name) for name in names]
        row = [_time(found[rival], mode), *(_ratio(results.ratio(*pair, mode, **where)) for pair in pairs)]
        row += [_memory(found.get(name)) for name in watched]
        if set(row) != {NOTHING}:
            rows.append([f"{cell.upper()} {point}", *row])
    head = ["", rival, *(f"{name} / now" if name.endswith(BEFORE) else name for name in names)]
    head += [f"{name}, memory" for name in watched]
    return table(head, rows)


def errors(results: Results) -> str:
    """The worst error of each contestant in each dtype."""
    worst: dict[str, dict[str, float]] = {}
    for m in results.measurements:
        if m.error is not None:
            of = worst.setdefault(m.contestant, {})
            of[m.dtype] = max(m.error, of.get(m.dtype, 0.0))
    dtypes = list(dict.fromkeys(m.dtype for m in results.measurements))
    rows = ([name, *(f"{of[d]:.0e}" if d in of else NOTHING for d in dtypes)] for name, of in worst.items())
    return table(("", *dtypes), rows)


def notes(results: Results) -> list[str]:
    """Who was wrong or did not run, and why."""
    found: dict[str, list[str]] = {}
    for m in results.measurements:
        if m.note:
            found.setdefault(f"{m.contestant}: {m.note}", []).append(f"{m.cell} {m.point} {m.dtype}")
    return [f"{why} ({', '.join(where[:3])}{', …' if len(where) > 3 else ''})." for why, where in found.items()]


def readme_rows(results: Results) -> str:
    """The README's table of six rows: a cell and a mode each, in geometric means over the grid."""
    names = ("numpy_rnn", "torch_rnn-manual", "torch_rnn", "jax")
    rows = []
    for cell, mode in itertools.product(CELLS, (MODES[0], MODES[-1])):
        found = (ratios(results, "torch.nn", name, cell, mode) for name in names)
        rows.append((f"{cell.upper()}, {LONG[mode]}", *map(_mean, found)))
    return table(("", *(f"`{name}`" for name in names)), rows)


def draw(results: Results, path: Path) -> None:
    """Draw the ratios to torch.nn at each point of the grid, a panel for each cell."""
    # Matplotlib makes a folder in the user's home for its settings and fonts unless told otherwise.
    os.environ.setdefault("MPLCONFIGDIR", str(Path(__file__).parents[1] / "build" / "matplotlib"))
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, NullFormatter

    points = GROUPS["grid"]
    figure, axes = pyplot.subplots(1, len(CELLS), figsize=(10, 3.8), sharey=True, layout="constrained")
    for axis, cell in zip(axes, CELLS):
        axis.axhline(1, color="black", linewidth=1)
        for name, (color, marker) in STYLES.items():
            where: dict[str, Any] = {"cell": cell, "dtype": "float32", "threads": results.threads}
            found = [results.ratio("torch.nn", name, MODES[-1], point=str(point), **where) for point in points]
            values = [math.nan if ratio is None else ratio for ratio in found]
            axis.plot(range(len(points)), values, marker=marker, color=color, label=name, linewidth=1, markersize=4)
        axis.set_xticks(range(len(points)), map(str, points), rotation=50, ha="right", fontsize=8)
        axis.set_title(cell.upper())
        axis.set_yscale("log", base=2)
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("torch.nn's time / the contestant's\nforward + backward, float32, " + _threads(results.threads))
    entries: tuple[Any, Any] = axes[0].get_legend_handles_labels()
    figure.legend(*entries, loc="outside upper center", ncols=len(STYLES), frameon=False)
    # Without the version of Matplotlib, so that the same data give the same file.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _mean(found: Sequence[float] | None) -> str:
    return _ratio(statistics.geometric_mean(found) if found else None)


def _ratio(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"


def _time(m: Measurement | None, mode: str) -> str:
    if m is None or mode not in m.seconds:
        return NOTHING
    seconds = statistics.median(m.seconds[mode])
    unit, factor = next((u for u in (("s", 1.0), ("ms", 1e3)) if seconds * u[1] >= 1), ("µs", 1e6))
    return f"{float(f'{seconds * factor:.3g}'):g} {unit}"


def _memory(m: Measurement | None) -> str:
    return NOTHING if m is None or m.memory is None else f"{m.memory / 2**20:.1f} MiB"
