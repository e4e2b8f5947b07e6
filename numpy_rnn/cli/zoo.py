"""`numpy-rnn zoo` shows classic mistakes in hand-written recurrent layers, plants one, and lets `diagnose` name it."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table

from ..verify.zoo import Mistake, cases, diagnose, machine, mistake, mistakes
from .options import CellName


@click.command(short_help="Plant a classic mistake, and have it named.")
@click.argument("name", required=False)
@click.option(
    "--cell", type=CellName(), help="Plant the mistake in this cell. [default: the first cell that can have it]"
)
def zoo(name: str | None, cell: str | None) -> None:
    """List classic mistakes in recurrent layers, or plant one and find it.

    Without NAME: all mistakes, or those of one cell. With NAME: the lines of the textbook that it changes, the first
    wrong number that comes out, and the name that `numpy_rnn.verify.zoo.diagnose` finds from the numbers alone.
    """
    if name is None:
        _list(mistakes(cell))
        return
    try:
        planted = mistake(name)
    except ValueError as error:
        raise click.UsageError(f"{error}; `numpy-rnn zoo` lists them all") from None
    if cell is not None and cell not in planted.cells:
        raise click.UsageError(f"{cell} cannot have {name}, only {', '.join(planted.cells)} can")
    _plant(planted, cell or planted.cells[0])


def _list(found: Sequence[Mistake]) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    group = ""
    for m in found:
        if m.group != group:
            table.add_row(f"[bold]{m.group}[/bold]")
            group = m.group
        table.add_row(f"  {m.name}", m.what)
    Console().print(table, highlight=False)


def _plant(planted: Mistake, cell: str) -> None:
    """Run the textbook with the mistake in it, and ask for a diagnosis of what it says."""
    click.echo(f"Planted in the textbook: {planted.name}.\n\n{planted.diff(cell)}\n")
    for case in cases(cell):
        theirs = machine(cell, planted).run(case)
        found = diagnose(case, grads=theirs)
        if not found.agrees:
            click.echo(f"First wrong number, of the case {case.name!r}: {found.first}.")
            click.echo(f"diagnose, from the numbers alone: {found}")
            return
