"""Figures of the experiments. Needs Matplotlib, which the extra `plot` brings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...train.figures import BLUE, GREEN, ORANGE, PINK, RC, WIDTH, matplotlib
from .tasks import TASKS, Task
from .training import Run

# Markers and dashes are for those who print in grey.
STYLES: dict[str, dict[str, Any]] = {
    "rnn": dict(color=ORANGE, marker="o", linestyle="-", label="RNN (tanh)"),
    "lstm": dict(color=BLUE, marker="s", linestyle="-", label="LSTM"),
    "gru": dict(color=GREEN, marker="^", linestyle="-", label="GRU"),
    "lstm-chrono": dict(color=BLUE, marker="D", linestyle="--", label="LSTM, chrono start"),
    "gru-chrono": dict(color=GREEN, marker="v", linestyle="--", label="GRU, chrono start"),
    "irnn": dict(color=PINK, marker="P", linestyle="-", label="IRNN (relu, W_hh = 1)"),
}
ABOVE = 1e40  # where infinity and NaN are drawn: float32 ends at 3e38
CLIPPED, UNCLIPPED = dict(color=BLUE, linestyle="-"), dict(color=ORANGE, linestyle="--")
BASELINE: dict[str, Any] = dict(color="black", linestyle=":", linewidth=1.4, label="no memory")
HEIGHT = 2.7  # inches of a row of panels


def scores(found: Sequence[Run]) -> Any:
    """Draw the score against the lag, and for each lag the score against the steps of training.

    Parameters
    ----------
    found : sequence of Run
        At least one, all of one task.
    """
    task, lags = TASKS[found[0].settings.task], sorted({run.settings.lag for run in found})
    with matplotlib().rc_context(RC):
        figure, panels = _panels(1 + len(lags), task.measure)
        _against_lag(panels[0], task, found, lags)
        for panel, lag in zip(panels[1:], lags):
            _against_steps(panel, task, [run for run in found if run.settings.lag == lag], lag)
        handles, labels = panels[0].get_legend_handles_labels()
        columns = len(labels) if len(labels) < 6 else math.ceil(len(labels) / 2)
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    return figure


def bursts(found: Sequence[Run]) -> Any:
    """Draw the gradient's norm against the steps of training, without and with clipping, for each cell and lag.

    Parameters
    ----------
    found : sequence of Run
        At least one, all that clip to the same norm.
    """
    kinds = sorted({(run.settings.cell, run.settings.lag) for run in found})
    clip = max(run.settings.clip for run in found)
    with matplotlib().rc_context(RC):
        figure, panels = _panels(len(kinds), "gradient's norm before clipping")
        ticks = {10.0**k: f"$10^{{{k}}}$" for k in range(-6, 37, 6)} | {ABOVE: "inf, NaN"}
        for panel, kind in zip(panels, kinds):
            _norms(panel, *kind, [run for run in found if (run.settings.cell, run.settings.lag) == kind])
            panel.sharey(panels[0])
        for panel in panels:
            panel.set_ylim(top=10 * ABOVE)
            panel.set_yticks(list(ticks), ticks.values())
            panel.set_yticks([], minor=True)
        lines = [panels[0].plot([], [], **style)[0] for style in (UNCLIPPED, CLIPPED)]
        lines += panels[0].plot([], [], "kX", markersize=7)
        labels = ["without clipping", f"clipped to a norm of {clip:g}", "the run is over"]
        figure.legend(lines, labels, loc="outside lower center", ncols=3)
    return figure


def _panels(count: int, measure: str) -> tuple[Any, list[Any]]:
    """As many panels as needed, in rows of at most four; what all of them measure stands at the side."""
    rows = math.ceil(count / 4)
    across = math.ceil(count / rows)
    figure = matplotlib().figure.Figure(figsize=(WIDTH, rows * HEIGHT + 0.4), layout="constrained")
    figure.supylabel(measure, fontsize=RC["font.size"])
    return figure, [figure.add_subplot(rows, across, k + 1) for k in range(count)]


def _against_lag(panel: Any, task: Task, found: Sequence[Run], lags: Sequence[int]) -> None:
    """The mean over the seeds, and a bar from the worst to the best."""
    for cell in _in_order(found):
        points = []
        for lag in lags:
            at = [r.score for r in found if (r.settings.cell, r.settings.lag) == (cell, lag)]
            points += [(lag, sum(at) / len(at), min(at), max(at))] if at else []
        x, mean, low, high = zip(*points)
        panel.plot(x, mean, markersize=5, **STYLES[cell])
        panel.vlines(x, low, high, color=STYLES[cell]["color"], alpha=0.4, linewidth=3)
    panel.plot(lags, [task.baseline(lag) for lag in lags], **BASELINE)
    panel.set(xscale="log", xlabel="lag T, steps", title="at the end of training")
    panel.set_xticks(lags, [str(lag) for lag in lags], rotation=45 if len(lags) > 4 else 0)
    panel.set_xticks([], minor=True)
    if task.rising:
        panel.set_ylim(0, 1.05)
    else:
        panel.set_yscale("log")
        low, high = panel.get_ylim()
        ticks = [m * 10.0**k for k in range(-9, 9) for m in (1, 2, 5) if low <= m * 10.0**k <= high]
        panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        panel.set_yticks([], minor=True)


def _against_steps(panel: Any, task: Task, found: Sequence[Run], lag: int) -> None:
    """A line for each run, with a large marker where it ended: where the task was solved, mostly."""
    for cell in _in_order(found):
        style = {**STYLES[cell], "label": None}
        for run in (run for run in found if run.settings.cell == cell):
            steps, curve = zip(*run.curve)
            panel.plot(steps, curve, **style, markevery=max(1, len(steps) // 5), markersize=4, linewidth=1)
            panel.plot(steps[-1], curve[-1], **style, markersize=7)
    panel.axhline(task.baseline(lag), **{**BASELINE, "label": None})
    panel.set(xlabel="steps of training", title=f"T = {lag}", xlim=(0, 1.05 * max(run.settings.steps for run in found)))
    # From 0 to 1, or to twice the baseline: what is beyond it tells nothing.
    panel.set_ylim(0, 1.05 if task.rising else 2 * task.baseline(lag))


def _in_order(found: Sequence[Run]) -> list[str]:
    """Cells of the runs, in the order of `STYLES`."""
    present = {run.settings.cell for run in found}
    return [cell for cell in STYLES if cell in present]


def _norms(panel: Any, cell: str, lag: int, found: Sequence[Run]) -> None:
    for run in sorted(found, key=lambda run: run.settings.clip, reverse=True):  # the unclipped ones on top
        style = CLIPPED if run.settings.clip else UNCLIPPED
        norms = [result.norm for result in run.results]
        norms[-1] = ABOVE if run.burst else norms[-1]
        panel.plot(range(1, len(norms) + 1), norms, linewidth=0.9, alpha=0.8, **style)
        if run.burst:
            panel.plot(
                run.burst, ABOVE, "X", color=style["color"], markeredgecolor="black", markersize=8, clip_on=False
            )
    unclipped = [run.burst for run in found if not run.settings.clip]
    panel.set(xscale="log", yscale="log", xlabel="steps of training")
    panel.set_title(f"{cell.upper()}, T = {lag}: {sum(map(bool, unclipped))} of {len(unclipped)} burst")
