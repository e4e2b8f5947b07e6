"""`numpy-rnn task` trains networks on real sequences, and holds them against baselines."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import os
import platform
import shlex
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from ..fast.memory import keep_freed_memory
from ..fast.registry import NETWORK_CELLS
from ..layers import files
from ..train import figures
from ..train.batches import Batches
from ..train.checkpoint import write_checkpoint
from ..train.language import generate
from ..train.loop import Run, require
from ..train.settings import EPOCHS, Config
from ..train.task import Task
from ..train.tasks import TASKS, figure
from ..train.tasks.scores import Row, baseline_rows, markdown, scores, table_lines, verdict
from .options import CellName, figure_path, with_settings
from .progress import Display, Interruption, bar, check_out, given, resumed

SHORT = {
    "weather": "How warm will it be tomorrow, and will it rain?",
    "stocks": "Next month's return of five stocks.",
    "tags": "Keyword, name, string, comment …: every character's tag.",
    "language": "Which character comes next in Python's own help?",
}
BACKENDS = ("numpy", "torch")
WRITTEN, TEMPERATURE = 400, 0.7  # of the text at the end of a language model: symbols, and how boldly they are drawn
FILE = click.Path(dir_okay=False, path_type=Path)


@click.group(context_settings={"show_default": True}, short_help="Train on weather, prices, code or prose.")
def task() -> None:
    """Train a network on real sequences that a package ships, and hold it against baselines.

    Each task has three splits: networks learn from the first, the weights that do best on the second are kept, and they
    and the baselines are scored on the third by the same code.
    """
    keep_freed_memory()


def _add(name: str) -> None:
    """Add the command of one task, with the task's own defaults."""
    text, symbols = name == "language", name in ("language", "tags")
    absent = ["symbols", "bidirectional"] if text else ["symbols", "seq_len"] + ["embedding"] * (not symbols)

    @task.command(name, help=sys.modules[TASKS[name].__module__].__doc__, short_help=SHORT[name])
    @with_settings(name, *absent)
    @click.option("--epochs", type=click.IntRange(1), default=EPOCHS[name], help="Rounds through the data, at most.")
    @click.option("--backend", type=click.Choice(BACKENDS), default="numpy", help="Who computes.")
    @click.option("--seeds", type=click.IntRange(1), default=1, help="Runs, from --seed on; mean and spread.")
    @click.option("--out", type=FILE, callback=figure_path, help="Draw a figure: .png or .svg.")
    @click.option("--checkpoint", type=FILE, help="Save the run there after every epoch.")
    @click.option("--resume", is_flag=True, help="Go on from --checkpoint.")
    @click.option("--overwrite", is_flag=True, help="Replace --checkpoint if it exists.")
    @click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, progress on stderr.")
    @click.pass_context
    def command(ctx: click.Context, /, **options: Any) -> None:
        _task(ctx, name, **options)


def _task(
    ctx: click.Context,
    name: str,
    epochs: int,
    backend: str,
    seeds: int,
    out: Path | None,
    checkpoint: Path | None,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    if seeds > 1 and checkpoint:
        raise click.UsageError("--checkpoint is for one run: leave --seeds out.")
    if checkpoint is not None:
        check_out(checkpoint, resume, overwrite)
    elif resume or overwrite:
        raise click.UsageError("--resume and --overwrite need a --checkpoint.")
    data, before, config = TASKS[name](), None, Config.of(name, **settings)

    def steps_of(config: Config) -> int:
        return epochs * Batches(data.train, config).per_epoch

    if resume and checkpoint is not None:
        asked = steps_of if given(ctx, "epochs") else lambda _: None
        before, config, steps, backend = resumed(ctx, checkpoint, config, asked)
    else:
        steps = steps_of(config)
    console, save = Console(stderr=as_json), None
    how = "nothing was saved: give a --checkpoint to go on from"
    if checkpoint is not None:
        save = partial(write_checkpoint, checkpoint)
        how = f"go on with: {shlex.join(['numpy-rnn', 'task', name, '--resume', '--checkpoint', str(checkpoint)])}"
    runs, outputs, network = [], [], Row(config.cell, backend, [], [])
    with Interruption() as interruption:
        for seed in range(config.seed, config.seed + seeds):
            run = Run(replace(config, seed=seed), data, steps, backend=backend, before=before)
            with Display(console, run, interruption, checkpoint, lines=seeds == 1) as display:
                display.introduce(f"{name}, {steps // run.batches.per_epoch} epochs at most")
                run.train(display.watch, save)
            if not run.complete:
                display.stop(how)
            runs.append(run)
            outputs.append(run.test())
            network.scores.append(scores(data, outputs[-1]))
            network.seconds.append(run.seconds)
    if out is not None:
        figures.write(figure.draw(runs[0], f"{config.cell}, {config.hidden} units, {backend}", outputs[0]), out)
    _tell(runs[0], [*baseline_rows(data), network], out, as_json)


def _tell(run: Run, rows: list[Row], out: Path | None, as_json: bool) -> None:
    data, written, console = run.task, _written(run), Console()
    *baselines, network = rows
    if as_json:
        document = {
            "task": data.name,
            "config": asdict(run.config),
            "backend": run.backend,
            "scores": network.scores,  # of each seed
            "seconds": network.seconds,
            "baselines": {row.name: row.scores[0] for row in baselines},
            "verdict": verdict(data, rows),
            "best_epoch": run.history.best + 1,  # of the first seed, as what follows
            "epochs": run.epochs(),
            **({"written": written} if written else {}),
            "figure": None if out is None else str(out),
        }
        click.echo(json.dumps(document, indent=1))
        return
    heads, *lines = table_lines(data, rows)
    table = Table(title=f"{data.name}, test split", title_justify="left", title_style="bold", box=SIMPLE, padding=0)
    for k, head in enumerate(heads):
        table.add_column(head, justify="right" if k > 1 else "left")
    for row in lines:
        table.add_row(*row)
    console.print(table)
    said = verdict(data, rows) + [f"----\n{written}\n----"] * bool(written)
    for line in said + [f"{out} holds the figure"] * (out is not None):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _written(run: Run) -> str:
    """Let the best network of a text go on from the first symbol of the test."""
    vocabulary = run.task.vocabulary
    if vocabulary is None:
        return ""
    network = run.config.initial_network(run.task.sizes)
    network.load_state_dict(run.best)
    start = run.task.test.text[:1]
    drawn = generate(network, start, WRITTEN, TEMPERATURE, run.config.seed)
    return "".join(vocabulary.decode([*start.tolist(), *drawn]))


for _name in TASKS:
    _add(_name)


@task.command(short_help="Run every task, cell and backend; a table as Markdown.")
@click.option(
    "--task", "names", multiple=True, type=click.Choice(list(TASKS)), default=tuple(TASKS), help="Repeatable."
)
@click.option(
    "--cell", "cells", multiple=True, type=CellName(NETWORK_CELLS), default=("rnn", "lstm", "gru"), help="Repeatable."
)
@click.option("--backend", "backends", multiple=True, type=click.Choice(BACKENDS), default=BACKENDS, help="Repeatable.")
@click.option("--seeds", type=click.IntRange(1), default=3, help="Runs of each, from seed 0 on.")
@click.option("--epochs", "most", type=click.IntRange(1), help="At most, in place of each task's own number.")
@click.option("--markdown", "page", type=FILE, help="Put the tables between this file's marks, not on the screen.")
def table(
    names: tuple[str, ...],
    cells: tuple[str, ...],
    backends: tuple[str, ...],
    seeds: int,
    most: int | None,
    page: Path | None,
) -> None:
    """Run task × cell × backend with several seeds each, and print the scores beside the baselines', as Markdown."""
    if page is not None:
        files.between_marks(page, "tasks")
    for backend in backends:
        require(backend)
    parts = [_environment(backends, seeds)]
    with Interruption() as interruption, bar(Console(stderr=True)) as progress:
        todo = progress.add_task("", total=len(names) * len(cells) * len(backends) * seeds)
        for name in names:
            progress.update(todo, description=name)
            data = TASKS[name]()
            rows = baseline_rows(data)
            for cell, backend in itertools.product(cells, backends):
                rows.append(Row(cell, backend, [], []))
                for seed in range(seeds):
                    _run_in_table(rows[-1], data, seed, most or EPOCHS[name], interruption)
                    progress.advance(todo)
            parts.append(markdown(data, rows))
    text = "\n".join(parts)
    if page is None:
        click.echo(text)
        return
    files.put_between_marks(page, "tasks", text)
    click.echo(f"{page} holds the tables")


def _run_in_table(row: Row, data: Task, seed: int, epochs: int, interruption: Interruption) -> None:
    """Make one run of a row; Ctrl-C ends the whole table, of which nothing is kept."""
    config = Config.of(data.name, cell=row.name, seed=seed)
    run = Run(config, data, epochs * Batches(data.train, config).per_epoch, backend=row.backend)
    run.train(lambda history, validated: interruption.signal != 0)
    if interruption.signal:
        click.echo("stopped; nothing was written", err=True)
        sys.exit(128 + interruption.signal)
    row.scores.append(scores(data, run.test()))
    row.seconds.append(run.seconds)


def _environment(backends: tuple[str, ...], seeds: int) -> str:
    libraries = ["numpy", *(b for b in backends if b != "numpy")]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in libraries)
    runs = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    return (
        f"Test split; {runs}; seconds of one run, training and validation, on one thread (language: "
        f"as many as the libraries take) of {os.cpu_count()} cores "
        f"({platform.machine()}). Python {platform.python_version()}, {versions}.\n"
    )
