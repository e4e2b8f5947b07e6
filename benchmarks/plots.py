"""Plots of what was measured, as PNG."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .points import GROUPS, SWEEP_SIZES
from .results import Results, in_order, times_as_long
from .tables import main_points, main_threads

# Okabe and Ito's colours, which all can tell apart; and markers, for those who print in grey.
STYLES = {
    "numpy_rnn": ("#D55E00", "o"),
    "numpy_rnn-snapshots": ("#F0E442", "h"),
    "torch_rnn": ("#0072B2", "s"),
    "torch_rnn-loop": ("#56B4E9", "s"),
    "torch_rnn-graph": ("#0072B2", "D"),
    "torch_rnn-captured": ("#D55E00", "D"),
    "torch_rnn-steps": ("#E69F00", "s"),
    "torch_rnn-steps-graph": ("#E69F00", "D"),
    "torch_rnn-compiled": ("#56B4E9", "D"),
    "torch.nn": ("#009E73", "^"),
    "torch.nn-graph": ("#CC79A7", "D"),
    "jax": ("#882255", "v"),
    "onnxruntime": ("#CC79A7", "P"),
    "autograd": ("#E69F00", "X"),
    "min-char-rnn": ("#999999", "*"),
    "floor": ("#000000", "_"),
    "calls": ("#888888", "_"),
    "plain": ("#888888", "|"),
}
CELL_STYLES = {"rnn": ("#D55E00", "o"), "lstm": ("#0072B2", "s"), "gru": ("#009E73", "^")}
CELL_NAMES = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
WIDTH, DPI = 9.0, 120  # inches and dots: about as wide as a README is shown


class PlotError(Exception):
    """Nothing can be plotted; the message says why."""


def draw_all(results: Results, folder: Path) -> list[Path]:
    """Draw every plot that the results have the data for.

    Parameters
    ----------
    results : Results
    folder : Path
        Made if need be.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    PlotError
        If Matplotlib is missing.
    """
    plt = _pyplot()
    folder.mkdir(parents=True, exist_ok=True)
    drawings: dict[str, Callable[[Any, Results], Any]] = {
        "ratio": ratio_to_torch,
        "floor": distance_to_floor,
        "sizes": against_sizes,
        "steps": against_steps,
    }
    written = []
    for name, draw in drawings.items():
        figure = draw(plt, results)
        path = folder / f"{name}-{results.environment['device']}.png"
        if figure is not None:
            # Without the version of Matplotlib, so that the same data give the same file.
            figure.savefig(path, dpi=DPI, metadata={"Software": None})
            plt.close(figure)
            written.append(path)
    return written


def _pyplot() -> Any:
    # Matplotlib makes a folder in the user's home for its settings and fonts unless told otherwise.
    os.environ.setdefault("MPLCONFIGDIR", str(Path(__file__).parents[1] / "build" / "matplotlib"))
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise PlotError("plots need Matplotlib: pip install 'numpy-rnn[bench]'") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True})
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False})
    return plt


def ratio_to_torch(plt: Any, results: Results) -> Any:
    """torch.nn's time / numpy_rnn's at each point, a panel for each dtype."""

    def value(where: dict[str, Any]) -> float | None:
        ours, theirs = (results.find(**where, contestant=c) for c in ("numpy_rnn", "torch.nn"))
        return times_as_long(theirs, ours) if ours and theirs else None

    return _by_point(plt, results, value, "torch.nn's time / numpy_rnn's", "numpy_rnn is as fast as torch.nn")


def distance_to_floor(plt: Any, results: Results) -> Any:
    """numpy_rnn's time / floor at each point, a panel for each dtype."""

    def value(where: dict[str, Any]) -> float | None:
        ours, floor = (results.find(**where, contestant=c) for c in ("numpy_rnn", "floor"))
        return times_as_long(ours, floor) if ours and floor else None

    return _by_point(plt, results, value, "numpy_rnn's time / floor", "the matrix products alone")


def _by_point(
    plt: Any, results: Results, value: Callable[[dict[str, Any]], float | None], label: str, at_one: str
) -> Any:
    """Points across, a figure up, one series for each cell."""
    points, dtypes = main_points(results), in_order(m.dtype for m in results.measurements)
    threads = main_threads(results)
    panels = {}
    for dtype in dtypes:
        series: dict[str, dict[int, float]] = {}
        for cell in CELL_STYLES:
            where = dict(cell=cell, dtype=dtype, threads=threads, mode="forward-backward")
            found = {k: value({**where, "point": p.name}) for k, p in enumerate(points)}
            series[cell] = {k: v for k, v in found.items() if v is not None}
        if any(series.values()):
            panels[dtype] = series
    if not panels:
        return None
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.6), sharey=True, squeeze=False, layout="constrained")
    for axis, (dtype, series) in zip(axes[0], panels.items()):
        axis.axhline(1, color="black", linewidth=1)
        for shift, (cell, values) in zip((-0.15, 0, 0.15), series.items()):
            color, marker = CELL_STYLES[cell]
            axis.plot([k + shift for k in values], list(values.values()), marker, color=color, label=CELL_NAMES[cell])
        axis.set_xticks(range(len(points)), [f"{p.T}×{p.B}×{p.I}×{p.H}" for p in points], rotation=40, ha="right")
        axis.set_title(f"{dtype}, {_where(results, threads)}, forward + backward", fontsize=9)
        _log(axis, "y")
        axis.set_xlabel("T × B × I × H")
    axes[0][0].set_ylabel(f"{label}\n(line: {at_one})")
    axes[0][-1].legend(loc="best", ncols=3, handletextpad=0.1, columnspacing=1)
    return figure


def against_sizes(plt: Any, results: Results) -> Any:
    """Time against H and against B, a column for each cell."""
    rows = [
        (GROUPS["units"], lambda p: p.H, "units H = I  (T = 100, B = 16)"),
        (GROUPS["sequences"], lambda p: p.B, "sequences B  (T = 100, I = H = 64)"),
    ]
    data = [
        {cell: dict(_curves(results, cell, points, of, "forward-backward", 1e3)) for cell in CELL_STYLES}
        for points, of, _ in rows
    ]
    if not any(curves for row in data for curves in row.values()):
        return None
    figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 5.6), sharey="row", layout="constrained")
    for row, (_, _, label), curves_of in zip(axes, rows, data):
        for axis, (cell, curves) in zip(row, curves_of.items()):
            _plot_curves(axis, curves)
            axis.set_xlabel(label)
            axis.set_title(CELL_NAMES[cell], fontsize=9)
            _log(axis, "x", 2)
            _log(axis, "y")
        row[0].set_ylabel("forward + backward, ms")
    _legend(figure, axes)
    return figure


def against_steps(plt: Any, results: Results) -> Any:
    """Time per step against T, forward above, forward + backward below."""
    points = [p for p in GROUPS["steps"] if max(SWEEP_SIZES) == p.H]
    modes = {"forward": "forward", "forward-backward": "forward + backward"}
    data = {
        mode: {
            cell: dict(_curves(results, cell, points, lambda p: p.T, mode, 1e6, per_step=True)) for cell in CELL_STYLES
        }
        for mode in modes
    }
    if not any(curves for row in data.values() for curves in row.values()):
        return None
    figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 5.6), sharey="row", layout="constrained")
    for row, (mode, curves_of) in zip(axes, data.items()):
        for axis, (cell, curves) in zip(row, curves_of.items()):
            _plot_curves(axis, curves)
            axis.set_xlabel(f"steps T  (B = 1, I = H = {max(SWEEP_SIZES)})")
            axis.set_title(CELL_NAMES[cell], fontsize=9)
            axis.set_xscale("log")
            _log(axis, "y")
        row[0].set_ylabel(f"{modes[mode]}, µs per step")
    _legend(figure, axes)
    return figure


def _curves(
    results: Results,
    cell: str,
    points: Any,
    of: Callable[[Any], int],
    mode: str,
    unit: float,
    per_step: bool = False,
) -> Iterator[tuple[str, tuple[list[int], list[float]]]]:
    """Of each contestant in float32: where, and how long in 1/unit seconds."""
    threads = main_threads(results)
    for contestant in STYLES:
        found = {}
        for p in points:
            m = results.find(
                cell=cell, point=p.name, dtype="float32", threads=threads, mode=mode, contestant=contestant
            )
            if m:
                found[of(p)] = m.seconds * unit / (p.T if per_step else 1)
        if len(found) > 2:
            yield contestant, (list(found), list(found.values()))


def _plot_curves(axis: Any, curves: dict[str, tuple[list[int], list[float]]]) -> None:
    for contestant, (x, y) in curves.items():
        color, marker = STYLES[contestant]
        dashes = "--" if contestant in ("floor", "calls") else "-"
        axis.plot(x, y, dashes, marker=marker, color=color, label=contestant, markersize=4, linewidth=1.3)


def _legend(figure: Any, axes: Any) -> None:
    """One legend for all panels."""
    entries: dict[str, Any] = {}
    for axis in axes.flat:
        entries |= dict(zip(*reversed(axis.get_legend_handles_labels())))
    figure.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=len(entries))


def _log(axis: Any, which: str, base: int = 10) -> None:
    """Logarithmic, with plain numbers instead of powers, as many as there is room for."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    getattr(axis, f"set_{which}scale")("log", base=base)
    ticks = axis.xaxis if which == "x" else axis.yaxis
    if base == 10:
        low, high = getattr(axis, f"get_{which}lim")()
        subs = (1.0, 2.0, 5.0) if high > 30 * low else (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
        ticks.set_major_locator(LogLocator(base=10, subs=subs, numticks=12))
    ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ticks.set_minor_formatter(NullFormatter())


def _where(results: Results, threads: int) -> str:
    device = results.environment["device"]
    return f"{threads} thread{'s' if threads > 1 else ''}" if device == "cpu" else str(device)
