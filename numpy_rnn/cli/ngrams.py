"""`numpy-rnn ngrams` says what n-gram models make of a text, and a trained model beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ..fast.numerics import Array
from ..train.checkpoint import Checkpoint, read_checkpoint
from ..train.language import KINDS, LanguageModel
from ..train.tasks.bits import windows
from ..train.tasks.ngrams import SMOOTHINGS, NGrams, count
from ..train.text import VALIDATION_AT_MOST, Text, read_text
from ..train.threads import fitting_threads


class Row(NamedTuple):
    """One model, and what the two pieces of text cost it."""

    name: str
    smoothing: str
    order: int | None
    training: float  # bits per symbol
    validation: float


@click.command(context_settings={"show_default": True})
@click.option("--text", type=click.Path(path_type=Path), help="UTF-8 file.  [default: Python's own help]")
@click.option("--symbols", type=click.Choice(KINDS), help="[default: characters, or the checkpoint's]")
@click.option("--order", type=click.IntRange(1), default=5, help="The longest n-grams.")
@click.option(
    "--checkpoint",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A model that `train` saved, to be measured on the same symbols.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def ngrams(text: Path | None, symbols: str | None, order: int, checkpoint: Path | None, as_json: bool) -> None:
    """Measure n-gram models in bits per character, and a trained model beside them.

    They learn from what `train` learns from, all but the last tenth of the text. "validation" is that tenth,
    "training" as many characters that stand just before it. Each is read once from its first character on, which
    nothing predicts and nobody counts; every other one is predicted once, by the model with its state carried from
    the first to the last.
    """
    found = None if checkpoint is None else read_checkpoint(checkpoint)
    if found is not None and symbols not in (None, found.config.symbols):
        raise click.UsageError(f"{checkpoint} reads {found.config.symbols}: --symbols cannot be {symbols}.")
    read = read_text(text, symbols or (found.config.symbols if found else "characters"))
    if found is not None and found.sha256 != read.sha256:
        wanted = "another text than that of --text" if text else "another text than the default one: give it by --text"
        raise click.UsageError(f"{checkpoint} was trained on {wanted}.")
    validation = read.validation[:VALIDATION_AT_MOST]
    pieces = (read.training[-len(validation) :], validation)
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        rows = _baselines(read, order, pieces, progress)
        if found is not None:
            rows.append(_trained(found, pieces, progress))
    if as_json:
        click.echo(json.dumps(_document(read, rows, pieces, checkpoint), indent=1))
    else:
        _print(read, rows, pieces)


def _baselines(text: Text, order: int, pieces: tuple[Array, Array], progress: Progress) -> list[Row]:
    K, rows = len(text.vocabulary), []
    task = progress.add_task("counting n-grams", total=order * len(SMOOTHINGS))
    counts = count(text.training, K, order)
    for n in range(1, order + 1):
        for smoothing in SMOOTHINGS:
            model = NGrams(counts[:n], K, smoothing)
            rows.append(Row(f"{n}-gram", smoothing, n, *(model.bits_per_symbol(piece) for piece in pieces)))
            progress.advance(task)
    return rows


def _trained(found: Checkpoint, pieces: tuple[Array, Array], progress: Progress) -> Row:
    model, config = found.model(), found.config
    task = progress.add_task("reading with the model", total=sum(len(piece) - 1 for piece in pieces))
    with fitting_threads(1, config.hidden):
        training, validation = (_bits(model, piece, progress, task) for piece in pieces)
    layers = f"{config.layers} x {config.hidden}" if config.layers > 1 else f"{config.hidden}"
    return Row(f"{config.cell} {layers}, {found.history.steps} steps", "", None, training, validation)


def _bits(model: LanguageModel, piece: Array, progress: Progress, task: Any) -> float:
    total = 0.0
    for bits, symbols in windows(model, piece):
        total += bits
        progress.advance(task, symbols)
    return total / (len(piece) - 1)


def _document(text: Text, rows: list[Row], pieces: tuple[Array, Array], checkpoint: Path | None) -> dict[str, Any]:
    kind = text.vocabulary.kind
    return {
        "unit": "bits per character" if kind == "characters" else "bits per byte",
        "text_sha256": text.sha256,
        "vocabulary_size": len(text.vocabulary),
        "learned_from": len(text.training),
        "predicted": {"training": len(pieces[0]) - 1, "validation": len(pieces[1]) - 1},
        "ngrams": [
            {"order": r.order, "smoothing": r.smoothing, "training": r.training, "validation": r.validation}
            for r in rows
            if r.order is not None
        ],
        "model": next(
            (
                {"path": str(checkpoint), "name": r.name, "training": r.training, "validation": r.validation}
                for r in rows
                if r.order is None
            ),
            None,
        ),
    }


def _print(text: Text, rows: list[Row], pieces: tuple[Array, Array]) -> None:
    kind, console = text.vocabulary.kind, Console()
    unit = "character" if kind == "characters" else "byte"
    sizes = f"{len(text.vocabulary)} different {kind}, {len(text.training)} to learn from"
    console.print(f"{sizes}; bits per {unit} over {len(pieces[1]) - 1}:", highlight=False)
    table = Table(box=SIMPLE, padding=0, collapse_padding=True)
    table.add_column("")
    table.add_column("")
    for name in ("training", "validation"):
        table.add_column(f" {name}", justify="right", no_wrap=True)
    best = min(row.validation for row in rows)
    for row in sorted(rows, key=lambda r: (r.order is None, r.smoothing, r.order or 0)):
        style = "bold" if row.validation == best else ""
        table.add_row(
            row.name, f" {row.smoothing.title()}", f"{row.training:.3f}", f"{row.validation:.3f}", style=style
        )
    console.print(table)
