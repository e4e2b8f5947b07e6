"""The bar of a training run."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def training_bar(console: Console) -> Progress:
    """Make the bar: steps taken, a few words, the time left; on a terminal only, and gone at the end.

    Parameters
    ----------
    console : rich.console.Console

    Returns
    -------
    rich.progress.Progress
    """
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
