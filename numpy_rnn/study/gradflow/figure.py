"""The figure of `numpy-rnn gradflow`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...train.figures import BLUE, GREEN, ORANGE, PINK, RC, WIDTH, YELLOW, matplotlib
from .settings import MAX_NORM, Clipping, Flow, Reach

COLOURS = (ORANGE, BLUE, GREEN, PINK, YELLOW)
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))  # for those who print in grey
SMALLEST, LARGEST = 1e-12, 1e30  # what is drawn of what vanishes, and of what explodes


def draw(flows: Sequence[Flow], clippings: Sequence[Clipping], reaches: Sequence[Reach]) -> Any:
    """Draw gradients against the steps back, one panel for each group; clipping; and how far each loss reaches.

    Without clippings, or without reaches, there is no such panel.
    """
    groups = list(dict.fromkeys(f.group for f in flows))
    panels = len(groups) + bool(clippings)
    rows, maps = math.ceil(panels / 2), len(reaches)
    mpl = matplotlib()
    with mpl.rc_context(RC):
        figure = mpl.figure.Figure(figsize=(WIDTH, 3.1 * rows + 3.2 * bool(maps)), layout="constrained")
        grid = figure.add_gridspec(rows + bool(maps), 6 if maps != 2 else 4)
        half = grid.ncols // (1 if panels == 1 else 2)
        axes = [figure.add_subplot(grid[k // 2, k % 2 * half : (k % 2 + 1) * half]) for k in range(panels)]
        lowest = max(SMALLEST, min(float(np.nanmin(f.norms)) for f in flows))
        for axis, group in zip(axes, groups):
            _against_steps(axis, [f for f in flows if f.group == group], lowest)
        if clippings:
            _clipping(axes[-1], clippings)
        if reaches:
            across = grid.ncols // maps
            _reaches(
                figure, [figure.add_subplot(grid[-1, k * across : (k + 1) * across]) for k in range(maps)], reaches
            )
    return figure


def _against_steps(axis: Any, flows: Sequence[Flow], lowest: float) -> None:
    """Median over the sequences, and a band from the least to the largest."""
    for f, colour, dashes in zip(flows, COLOURS, DASHES):
        back = np.arange(len(f.norms))
        norms = np.clip(np.nan_to_num(f.norms[::-1], nan=np.inf), SMALLEST / 10, 10 * LARGEST)
        axis.plot(back, np.median(norms, axis=1), color=colour, linestyle=dashes, label=f.setting)
        axis.fill_between(back, norms.min(axis=1), norms.max(axis=1), color=colour, alpha=0.15, linewidth=0)
    axis.axhline(0.01, color="black", linewidth=0.8, linestyle=":")
    axis.annotate("1 %", (1, 0.01), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
    axis.set_yscale("log")
    # Above the lines there is room for the legend.
    highest = max(1.0, min(LARGEST, max(float(np.nanmax(f.norms)) for f in flows)))
    axis.set_ylim(lowest, highest * (highest / lowest) ** 0.4)
    axis.margins(x=0)
    axis.set(title=flows[0].group, xlabel="steps back, T - k", ylabel="‖∂s_T/∂s_k‖")
    axis.legend(loc="upper left", fontsize=7.5, labelspacing=0.3)


def _clipping(axis: Any, clippings: Sequence[Clipping]) -> None:
    for c, colour in zip(clippings, COLOURS):
        axis.plot(c.scales, c.norms, color=colour, marker="o", markersize=3, label=c.cell)
        axis.plot(c.scales, c.clipped, color=colour, linestyle="--")
    axis.plot([], [], color="black", linestyle="--", label=f"clipped to {MAX_NORM:g}")
    axis.set_yscale("log")
    axis.set(
        title="What clipping does to the gradient of all weights",
        xlabel="‖W_hh‖ of each gate (scale · orthogonal)",
        ylabel="length of the gradient",
    )
    axis.legend(loc="best", fontsize=8)


def _reaches(figure: Any, axes: Sequence[Any], reaches: Sequence[Reach]) -> None:
    """Logarithms of the table of contributions, relative to its largest entry; white where there is none at all."""
    for axis, (label, table) in zip(axes, reaches):
        shown = np.log10(np.where(table > 0, table, np.nan) / table.max())
        image = axis.imshow(shown, vmin=-6, vmax=0, cmap="magma", origin="lower")
        axis.grid(visible=False)
        axis.set(xlabel="use of W_hh at step k", ylabel="loss at step t")
        axis.set_title(f"{label}: dW_hh, loss at t through step k", fontsize=8)
    bar = figure.colorbar(image, ax=axes, shrink=0.85)
    bar.set_ticks([-6, -4, -2, 0], labels=["10⁻⁶", "10⁻⁴", "1 %", "1"])
