"""Options that several commands have, and their types."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ..fast.registry import CELLS, NETWORK_CELLS, cell_name
from ..train import figures
from ..train.settings import CHOICES, Config


class CellName(click.Choice[str]):
    """The name of a cell, in any case; `cell_name` says what is wrong with one that there is not."""

    def __init__(self, names: Iterable[str] = CELLS) -> None:
        super().__init__(tuple(names), case_sensitive=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name as the list of names has it."""
        try:
            return cell_name(value, self.choices)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class FiniteRange(click.FloatRange):
    """A number in a range; NaN and infinity, which a FloatRange lets through, are refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number.", param, ctx)
        return float(number)


# What `train.settings.Config` holds and a user may set: type and help.
SETTINGS: dict[str, tuple[Any, str]] = {
    "symbols": (click.Choice(CHOICES["symbols"]), "What the model reads and writes."),
    "cell": (CellName(NETWORK_CELLS), "Kind of recurrent layer."),
    "layers": (click.IntRange(1), "Layers on top of each other."),
    "hidden": (click.IntRange(1), "Units of a layer."),
    "bidirectional": (bool, "Whether to read from both ends."),
    "embedding": (click.IntRange(1), "Numbers that stand for a symbol."),
    "seq_len": (click.IntRange(1), "Symbols of a window."),
    "batch": (click.IntRange(1), "Sequences, or windows of a text, in a step."),
    "lr": (FiniteRange(0, min_open=True), "Adam's step."),
    "schedule": (click.Choice(CHOICES["schedule"]), "cosine: --lr falls to 0."),
    "clip": (FiniteRange(0), "Gradient's norm; 0: no limit."),
    "weight_decay": (FiniteRange(0), "L2 penalty, added to the gradient."),
    "patience": (click.IntRange(0), "Validations without a better one; 0: no limit."),
    "seed": (click.IntRange(0), "Of initial weights and order, in both backends."),
    "dtype": (click.Choice(CHOICES["dtype"]), "Precision of all numbers."),
}


def with_settings(task: str, *absent: str) -> Callable[[Any], Any]:
    """Give a command an option for each of the `SETTINGS`, with the task's default, but those that it cannot use."""
    defaults = asdict(Config.of(task))

    def decorate(command: Any) -> Any:
        for name in reversed([name for name in SETTINGS if name not in absent]):
            kind, text = SETTINGS[name]
            flag = "--bidirectional/--one-direction" if kind is bool else "--" + name.replace("_", "-")
            command = click.option(flag, type=kind, default=defaults[name], help=text)(command)
        return command

    return decorate


def check_writable(path: Path) -> None:
    """Find out before the work, not after it, whether a file can be written."""
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise click.UsageError(f"cannot write to {path.parent}: {error.strerror}.") from None


def figure_path(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Find out before the work whether a figure can be drawn and written; a click callback."""
    if value is not None:
        if value.suffix not in figures.SUFFIXES:
            raise click.BadParameter(f"{value}: the name must end in {' or '.join(figures.SUFFIXES)}.", ctx, param)
        figures.matplotlib()
        check_writable(value)
    return value


FIGURE = click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=figure_path,
    help="Draw a figure: .png or .svg. An old one is replaced.",
)
