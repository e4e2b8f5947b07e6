"""`numpy-rnn gradflow` shows how gradients vanish and explode, and what prevents it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from ..fast.registry import FAMILIES
from ..study.document import plain
from ..study.gradflow import figure
from ..study.gradflow.settings import Clipping, Flow, Job, Reach, Sizes, initial_jobs, trained_jobs
from ..train import figures
from ..train.checkpoint import read_language_model
from ..train.language import read_text
from ..train.threads import fitting_threads
from .options import FIGURE, CellName
from .progress import bar, given

EXPLANATION = (
    "A step's Jacobian is J = E + A W_hh; a gradient is multiplied by one of them for every step that it goes back."
)
SYMBOLS = {
    "‖W_hh‖": "largest singular value of the recurrent matrix",
    "A": "the activations' derivatives (root mean square)",
    "E": "what goes past W_hh: nothing in an RNN, the gates' own way in LSTM and GRU",
    "λ₁": "growth of the gradient's norm in a step, as a natural logarithm",
    "n back": "the gradient's norm n steps back; it is 1 at the last step",
    "1 % at": "the horizon: how many steps back the norm falls below 1 %",
}


@click.command(context_settings={"show_default": True}, short_help="Measure where gradients vanish and explode.")
@click.option("--cell", "cells", multiple=True, type=CellName(FAMILIES), default=[*FAMILIES], help="May be repeated.")
@click.option("--steps", type=click.IntRange(1), default=100, help="T, how far back to look.")
@click.option("--hidden", type=click.IntRange(1), default=32, help="Units.")
@click.option("--inputs", type=click.IntRange(1), default=16, help="Numbers that a step reads, noise.")
@click.option("--sequences", type=click.IntRange(1), default=8, help="How many to take the median of.")
@click.option("--seed", type=click.IntRange(0), default=0)
@FIGURE
@click.option(
    "--checkpoint",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A model that `train` saved: look at it instead, before and after training.",
)
@click.option(
    "--text",
    type=click.Path(dir_okay=False, path_type=Path),
    help="What that model reads; by default the text that it was trained on by default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all curves as JSON.")
@click.pass_context
def gradflow(
    ctx: click.Context, /, checkpoint: Path | None, text: Path | None, out: Path | None, as_json: bool, **options: Any
) -> None:
    """Show how gradients flow back through time, and where they vanish or explode.

    Of every setting the table says by what a gradient is multiplied on its way from the last state to one before it,
    in the norm: the largest singular value of the product of all steps' Jacobians. Each step is J = E + A W_hh, where A
    are the activations' derivatives and E is what goes past W_hh: nothing in the plain RNN, the gates' own ways in LSTM
    and GRU.
    """
    if checkpoint is None:
        if text is not None:
            raise click.UsageError("--text is read by a trained model: give its --checkpoint, too.")
        T, B, I, H, seed = (options[name] for name in ("steps", "sequences", "inputs", "hidden", "seed"))
        jobs = initial_jobs(options["cells"], Sizes(T, B, I, H, seed))
    else:
        for option in ("cells", "hidden", "inputs", "seed"):
            if given(ctx, option):
                name = option.replace("cells", "cell")
                raise click.UsageError(f"--{name} cannot be chosen for a trained model: leave it out.")
        jobs = _of_model(checkpoint, text, options["steps"], options["sequences"])
    with fitting_threads(options["sequences"], options["hidden"]), bar(Console(stderr=True)) as progress:
        results = [job() for job in progress.track(jobs, description="measuring")]
    flows = [r for r in results if isinstance(r, Flow)]
    clippings = [r for r in results if isinstance(r, Clipping)]
    reaches = [r for r in results if isinstance(r, Reach)]
    if out is not None:
        figures.write(figure.draw(flows, clippings, reaches), out)
    if as_json:
        document = {
            "figure": None if out is None else str(out),
            "flows": [_document(f) for f in flows],
            "clipping": clippings,
            "contributions": dict(reaches),
        }
        click.echo(json.dumps(plain(document), indent=1))
        return
    _print(flows)
    if out is not None:
        click.echo(f"{out} holds the figure")


def _of_model(path: Path, text: Path | None, steps: int, sequences: int) -> list[Job]:
    """Read a model, make the one that its training began with, and take text from the part for validation."""
    found, vocabulary = read_language_model(path)
    known, symbols = read_text(text, vocabulary.kind)
    if text is None and not np.array_equal(known.codes, vocabulary.codes):
        raise click.UsageError(f"{path} was not trained on the default text: give one with --text.")
    codes = vocabulary.encode(known.codes[symbols[-(len(symbols) // 10) :]])
    if len(codes) < steps:
        raise click.UsageError(f"the text's last tenth has {len(codes)} symbols, too few for --steps {steps}.")
    starts = np.linspace(0, len(codes) - steps, sequences, dtype=int)
    read = np.stack([codes[start : start + steps] for start in starts], axis=1)
    return trained_jobs(found.initial_model(), found.model(), read)


def _document(f: Flow) -> dict[str, Any]:
    """A flow; of its norms the median sequence's, by steps back."""
    return {**f._asdict(), "horizon": f.horizon, "norms": np.median(f.norms, axis=1)[::-1]}


def _print(flows: Sequence[Flow]) -> None:
    console = Console()
    console.print(EXPLANATION, highlight=False)
    symbols = Table.grid(padding=(0, 2))
    for symbol, meaning in SYMBOLS.items():
        symbols.add_row(symbol, meaning)
    console.print(symbols, "")
    T = len(flows[0].norms) - 1
    after = sorted({steps for steps in (10, 50, T) if steps <= T})
    for group, members in groupby(flows, key=lambda f: f.group):
        console.print(_table(group, list(members), after, console.width))


def _table(group: str, members: Sequence[Flow], after: Sequence[int], width: int) -> Table:
    """One row a setting; on a narrow terminal without the columns that matter least."""
    columns = {
        "\n‖W_hh‖": [f"{f.norm_W_hh:.2f}" for f in members],
        "\nA": [f"{f.activation:.2f}" for f in members],
        "\nE": [f"{f.other:.2f}" for f in members],
        "\nλ₁": [f"{f.lyapunov_exponent:+.2f}" for f in members],
        **{f"{steps}\nback": [f"{f.after(steps):.0e}" for f in members] for steps in after},
        "1 %\nat": [f"{f.horizon:.0f}" if math.isfinite(f.horizon) else "never" for f in members],
    }
    room = width - 2 - max(len(f.setting) for f in members)
    for least in ("\n‖W_hh‖", "\nE", "\nA", *(f"{steps}\nback" for steps in after[1:])):
        if sum(1 + max(map(len, (*head.split("\n"), *cells))) for head, cells in columns.items()) > room:
            del columns[least]
    table = Table(title=group, title_justify="left", title_style="bold", box=SIMPLE, padding=0)
    table.add_column("")  # the one that folds if need be
    for head in columns:
        table.add_column(head, justify="right", no_wrap=True)
    for f, cells in zip(members, zip(*columns.values())):
        table.add_row(f.setting, *cells)
    return table
