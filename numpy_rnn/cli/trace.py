"""`numpy-rnn trace` shows every number of a small case, forwards and backwards, equation by equation."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import click
import numpy as np
from rich.box import SIMPLE
from rich.console import Console, ConsoleOptions, Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ..fast.numerics import Array
from ..fast.registry import CELLS, FAMILIES
from ..layers.files import write_bytes
from ..study.document import at_step, document, loss, page, stretch
from ..study.verdict import BY_HAND, TOLERANCE, Verdict, verdict
from ..study.walk import Jacobian, Walk, small_case, walk
from .options import CellName

SEED = 1  # the first whose units are not saturated: for every cell, each pre-activation is between -2 and 2
DECIMALS = 4
WIDTH = 8  # of a number
LABEL = 4  # of the name beside it
COLUMNS = (BY_HAND, "complex step", "autograd")


@click.command(context_settings={"show_default": True}, short_help="Follow every number of a small case, step by step.")
@click.option("--cell", "name", type=CellName(["rnn", *CELLS]), default="rnn", help="rnn is rnn_tanh.")
@click.option("--steps", type=click.IntRange(1, 20), default=3, help="T.")
@click.option("--input", "inputs", type=click.IntRange(1, 8), default=3, help="I, features of each x_t.")
@click.option("--hidden", type=click.IntRange(1, 8), default=2, help="H, units.")
@click.option("--projection", type=click.IntRange(1, 8), help="R, of lstm_projection alone.  [default: 1]")
@click.option("--seed", type=click.IntRange(0), default=SEED, help="The same seed gives the same numbers.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page that shows all of it.")
@click.option("--overwrite", is_flag=True, help="Replace --html if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, numbers in full.")
def trace(name: str, html: Path | None, overwrite: bool, as_json: bool, projection: int | None, **sizes: int) -> None:
    """Follow every number of a small case forwards, then backwards.

    The equations are those of the cell's docstring, by their numbers, (1) to (4) and back from (4') to (1'); all that
    is given has two decimals, so that a pocket calculator can follow. Each step backwards also shows the local
    Jacobian that carries the gradient to the step before. At the end stands the gradient by hand beside those by
    complex step and by autograd; exit status 0 means that all agree.
    """
    cell = FAMILIES.get(name, name)
    if projection is not None and cell != "lstm_projection":
        raise click.UsageError(f"--projection is of --cell lstm_projection alone, this is {name}.")
    if overwrite and html is None:
        raise click.UsageError("--overwrite replaces a page: it needs --html.")
    if html is not None and html.exists() and not overwrite:
        raise click.UsageError(f"{html} exists: replace it with --overwrite, or choose another name.")
    with Console(stderr=True).status("computing in several ways"):  # seconds, most of them for PyTorch to start
        found = walk(small_case(cell, projection=projection or 1, **sizes))
        judged = verdict(found)
    data = document(found, judged, sizes["seed"])
    if html is not None:
        write_bytes(html, page(data).encode())
        click.echo(f"{html} holds the page: open it in a browser", err=as_json)
    if as_json:
        click.echo(json.dumps(data, indent=1))
    elif html is not None:
        click.echo(_sentence(judged))
    else:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a character shows a ? instead
        _print(Console(), found, judged, sizes["seed"])
    sys.exit(0 if judged.ok else 1)


def _print(console: Console, found: Walk, judged: Verdict, seed: int) -> None:
    T, I, H, _ = found.sizes.values()
    heading = f"{found.cell.name}: T = {T} steps, I = {I} inputs, H = {H} units, one sequence, seed {seed}."
    console.print(Text(heading, style="bold"))
    activation = f" f is {found.cell.name.removeprefix('rnn_')}." if found.cell.name.startswith("rnn_") else ""
    console.print(Text(f"{loss(found)} Vectors are columns, printed side by side.{activation}"))
    given = _table("Given", "name", "value", "what it is")
    for value in found.values[: found.given]:
        given.add_row(value.name, _Numbers(value.array), value.meaning)
    console.print(given)
    for table in _tables(found):
        console.print(table)
    console.print(_gradients(judged))
    console.print(Text(_sentence(judged), style="green" if judged.ok else "bold red"))


def _table(title: str, *columns: str, style: str = "bold") -> Table:
    table = Table(title=title, title_justify="left", title_style=style, box=SIMPLE, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def number(v: float) -> str:
    """A number as it is shown.

    Examples
    --------
    >>> number(-1e-9), number(-0.62508)
    ('0.0000', '-0.6251')
    """
    text = f"{v:.{DECIMALS}f}"
    return text.lstrip("-") if float(text) == 0 else text


class _Numbers:
    """A vector side by side, a matrix row by row; what is too wide is folded, and its shape stands above it."""

    def __init__(self, array: Array, name: str = "") -> None:
        self.shape = array.shape if array.shape[1] > 1 else array.shape[:1]
        self.rows = array if array.shape[1] > 1 else array.T
        self.label = f"{name:{LABEL}}" if name else ""

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        label, n = len(self.label), self.rows.shape[1]
        return Measurement(label + WIDTH, label + WIDTH * n)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        columns = max(1, (options.max_width - len(self.label)) // WIDTH)
        folded = self.rows.shape[1] > columns
        if folded:
            yield Text(f"{self.label}{' × '.join(map(str, self.shape))}, folded:", style="dim")
        for r, row in enumerate(self.rows):
            for n in range(0, len(row), columns):
                text = Text(self.label if r == n == 0 and not folded else " " * len(self.label), style="dim")
                for v in row[n : n + columns]:
                    text.append(f"{number(v):>{WIDTH}}", style="magenta" if v < 0 else "green" if v > 0 else "dim")
                yield text


def _tables(found: Walk) -> Iterator[Table]:
    """One for each step forwards, and two for each step backwards."""
    jacobians = {j.step: j for j in found.jacobians}
    for (direction, t), moments in groupby(found.moments, key=lambda m: (m.direction, m.step)):
        d, style = ("", "bold blue") if direction == "forward" else ("d", "bold yellow")
        old, new = (", ".join(f"{d}{field}_{s}" for field in found.cell.State._fields) for s in (t, t + 1))
        way = f"{new} → {old}" if d else f"{old} → {new}"
        table = _table(f"{direction.capitalize()}, step {t}: {way}", "", "equation", "value", style=style)
        for moment in moments:
            _add_lines(table, found, moment.lines)
        yield table
        if d:
            yield _jacobian(found, jacobians[t])


def _add_lines(table: Table, found: Walk, indices: Sequence[int]) -> None:
    for n, line in enumerate(found.lines[i] for i in indices):
        no = f"({line.equation.number})" if n == 0 else ""
        values = {name: found.values[i] for name, i in line.outputs.items()}
        before = None if line.before is None else found.values[line.before].array
        if before is not None and np.any(before):  # a sum: what this step adds, then the sum so far
            (value,) = values.values()
            table.add_row(no, Text(at_step(line)), _Numbers(value.array - before, "add"))
            table.add_row("", Text(f"    {value.name} so far", style="dim"), _Numbers(value.array, "sum"))
        else:
            parts = [_Numbers(v.array, name if len(values) > 1 else "") for name, v in values.items()]
            # As Text: in a string, rich takes [v_r; v_z] for markup.
            table.add_row(no, Text(at_step(line)), Group(*parts))


def _jacobian(found: Walk, j: Jacobian) -> Table:
    t, several = j.step, len(j.fields) > 1
    s, state = ("s", f", s = ({', '.join(j.fields)})") if several else (j.fields[0], "")
    table = _table(f"Local Jacobian of step {t}{state}", "", "factor or product", "value", style="bold yellow")
    _add_lines(table, found, j.lines)
    rows = {f"∂s_{t + 1}/∂s_{t}, of blocks": j.matrix} if several else {}
    rows |= {
        f"d{s}_{t + 1}, as it arrived": j.arrived,
        f"(∂{s}_{t + 1}/∂{s}_{t})ᵀ d{s}_{t + 1}": j.carried,
        "+ what the loss sends directly": j.loss,
        f"= d{s}_{t}, as (1') has it": j.result,
    }
    for label, array in rows.items():
        table.add_row("", label, _Numbers(array))
    table.add_row("", "largest singular value, the most it can stretch", number(stretch(j)).rjust(WIDTH))
    return table


def _gradients(judged: Verdict) -> Table:
    """Of each gradient its largest entry, by each way, and the largest difference of all entries and ways."""
    ways = [way for way in COLUMNS if way in judged.gradients]
    table = _table("Gradients: the largest entry of each, and how far any entry is apart", "", *ways, "apart")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, hand in judged.gradients[BY_HAND].items():
        where = np.unravel_index(np.argmax(np.abs(hand)), hand.shape)
        label = f"{name}[{','.join(str(i) for i in where)}]"
        error = judged.worst(name)
        style = "green" if error <= TOLERANCE else "bold red"
        figures = (f"{judged.gradients[way][name][where]:.6f}" for way in ways)
        table.add_row(label, *figures, Text(f"{error:.0e}", style=style))
    return table


def _sentence(judged: Verdict) -> str:
    name = max(judged.gradients[BY_HAND], key=judged.worst)
    verdict, apart = ("All agree", "Apart at most") if judged.ok else ("The gradients differ", "Apart by")
    error = f"{judged.worst(name):.0e} of the largest entry, in {name}; allowed is {TOLERANCE:.0e}."
    return f"{verdict}: {', '.join(judged.gradients)}. {apart} {error}" + (f" {judged.note}." if judged.note else "")
