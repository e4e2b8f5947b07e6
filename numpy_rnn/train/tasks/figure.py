"""One figure of a run: learning curves, the gradient's norm, and for each part of the answer how it meets the truth."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...fast.numerics import Array
from ..figures import BLUE, GREEN, ORANGE, RC, WIDTH, matplotlib
from ..loop import Run
from ..task import Outputs, Part

PIECES = 100  # of a text, of each of which the mean cost is drawn
LABELLED = 12  # classes, beyond which their names would not fit


def draw(run: Run, label: str, outputs: Outputs) -> Any:
    """Draw a run on a task with one part or two; `outputs` are those of its best weights on the test split."""
    library, task, epochs = matplotlib(), run.task, run.epochs()
    with library.rc_context(RC):
        figure = library.figure.Figure(figsize=(WIDTH, 6.4), layout="constrained")
        below = ["one", "two"] if len(task.parts) == 2 else ["one", "one"]
        curves, norms, *axes = figure.subplot_mosaic([["curves", "norms"], below]).values()
        figure.suptitle(f"{task.name}: {label}")
        best = epochs[run.history.best]
        _lines(curves, "loss", {"training": BLUE, "validation": ORANGE}, epochs)
        curves.plot(best["epoch"], best["validation"], "o", color=ORANGE, label="best, used for the test")
        curves.legend()
        _lines(norms, "gradient's norm before clipping", {"norm": BLUE, "largest_norm": GREEN}, epochs)
        norms.legend(["mean", "largest"])
        for ax, part, rows, right in zip(axes, task.parts, outputs, task.answers(task.test)):
            {"numbers": _numbers, "classes": _confusion, "symbols": _costs}[part.kind](ax, part, rows, right)
    return figure


def _lines(ax: Any, label: str, colours: dict[str, str], epochs: list[dict[str, float]]) -> None:
    for field, colour in colours.items():
        ax.plot([e["epoch"] for e in epochs], [e[field] for e in epochs], ".-", color=colour, label=field)
    ax.set(xlabel="epoch", ylabel=label, yscale="log")
    ax.xaxis.get_major_locator().set_params(integer=True)


def _numbers(ax: Any, part: Part, rows: Array, right: Array) -> None:
    truth, answer = (part.scale * np.asarray(a, float).ravel() + part.offset for a in (right, rows))
    ends = [min(truth.min(), answer.min()), max(truth.max(), answer.max())]
    ax.plot(ends, ends, color="black", linewidth=0.8)
    ax.plot(truth, answer, ".", color=BLUE, alpha=0.5)
    ax.set(xlabel=f"{part.name}, truth ({part.unit})", ylabel=f"prediction ({part.unit})", title="test")


def _costs(ax: Any, part: Part, rows: Array, right: Array) -> None:
    n = max(len(rows) // PIECES, 1)
    means = np.array([rows[k : k + n].mean() for k in range(0, len(rows), n)])
    ax.plot(n * np.arange(len(means)), means, drawstyle="steps-post", color=BLUE)
    ax.axhline(rows.mean(), color="black", linewidth=0.8, label=f"mean, {rows.mean():.3f}")
    ax.set(xlabel=f"{part.unit}s of the test, means over {n}", ylabel=f"bits per {part.unit}", title="test")
    ax.legend()


def _confusion(ax: Any, part: Part, rows: Array, right: Array) -> None:
    counts = np.zeros((part.size, part.size))
    np.add.at(counts, (right, rows.argmax(axis=1)), 1)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    ax.grid(visible=False)
    if part.size <= LABELLED:
        for i, j in np.argwhere(counts):
            dark = "white" if share[i, j] > 0.5 else "black"
            ax.text(j, i, f"{100 * share[i, j]:.0f}", ha="center", va="center", color=dark, fontsize=7)
        rotation = 90 if max(map(len, part.labels)) > 3 else 0
        ax.set_xticks(range(part.size), part.labels, rotation=rotation)
        ax.set_yticks(range(part.size), part.labels)
    ax.set(xlabel=f"{part.name}, answer", ylabel="truth", title="test, % of each row")
