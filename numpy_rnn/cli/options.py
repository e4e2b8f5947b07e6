"""Types of options that several commands have."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import click

from ..fast.registry import CELLS, cell_name


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
