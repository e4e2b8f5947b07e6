"""`numpy-rnn task` trains networks on real sequences, and holds them against baselines."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import os
import platform
import shlex
import statistics
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
from ..train.checkpoint import read_checkpoint, write_checkpoint
from ..train.language import generate
from ..train.loop import best_validation, problem, require
from ..train.settings import Config
from ..train.task import Task
from ..train.tasks import TASKS, figure
from ..train.tasks.table import (
    DEFAULTS,
    EPOCHS,
    SIZES,
    Row,
    baseline_rows,
    default_config,
    markdown,
    network_row,
    verdict,
)
from ..train.tasks.trial import Outcome, epochs_of, finish, metrics, run_of, trial
from ..train.threads import fitting_threads
from .options import CellName, figure_path, with_settings
from .progress import Interruption, bar, check_out, given, resumed, shown

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
    @with_settings({**DEFAULTS, **SIZES[name]}, *absent)
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
    data, before, config = TASKS[name](), None, default_config(name, **settings)
    if resume and checkpoint is not None:
        before = read_checkpoint(checkpoint)
        if before.config.task != name:
            raise ValueError(f"{checkpoint} was trained on {before.config.task}, expected {name}")
        if before.sha256 != data.fingerprint:
            raise ValueError(f"{checkpoint} was trained on other data than are installed here (they differ in SHA-256)")
        per_epoch = Batches(data.train, before.config).per_epoch
        asked = epochs * per_epoch if given(ctx, "epochs") else None
        config, steps, backend = resumed(ctx, checkpoint, before, config, asked)
        epochs = steps // per_epoch
    require(backend)  # before the number of threads is set
    console, found = Console(stderr=as_json), []
    save = None if checkpoint is None else partial(write_checkpoint, checkpoint)
    title = f"{name}, {epochs} epochs at most"
    with Interruption() as interruption:
        for seed in range(config.seed, config.seed + seeds):
            make = partial(run_of, replace(config, seed=seed), data, epochs, backend, before)
            with shown(make, console, interruption, title, checkpoint, lines=seeds == 1) as display:
                found.append(finish(display.run, display.watch, save))
            if interruption.signal:
                break
    if interruption.signal and not found[-1].complete:
        how = "nothing was saved: give a --checkpoint to go on from"
        if checkpoint is not None:
            how = f"go on with: {shlex.join(['numpy-rnn', 'task', name, '--resume', '--checkpoint', str(checkpoint)])}"
        click.echo(f"stopped after step {found[-1].history.steps}; {how}", err=True)
        sys.exit(128 + interruption.signal)
    _tell(data, config, epochs, backend, found, out, as_json, console)
    if len(found) < seeds:
        sys.exit(128 + interruption.signal)


def _tell(
    data: Task,
    config: Config,
    epochs: int,
    backend: str,
    found: list[Outcome],
    out: Path | None,
    as_json: bool,
    console: Console,
) -> None:
    network = network_row(config.cell, backend, found)
    rows, first = [*baseline_rows(data), network], found[0]
    per_epoch = Batches(data.train, config).per_epoch
    curve = epochs_of(first.history, config, per_epoch, epochs * per_epoch)
    best = best_validation(first.history)
    if out is not None:
        label = f"{config.cell}, {config.hidden} units, {backend}"
        figures.write(figure.draw(data, label, curve, best, first.outputs), out)
    if as_json:
        document = {
            "task": data.name,
            "config": asdict(config),
            "backend": backend,
            "scores": network.scores,  # of each seed
            "seconds": network.seconds,
            "baselines": {row.name: row.scores[0] for row in rows[:-1]},
            "verdict": verdict(data, rows),
            "best_epoch": best + 1,  # of the first seed, as what follows
            "epochs": [epoch._asdict() for epoch in curve],
            **({"written": _written(data, config, first)} if data.vocabulary else {}),
            "figure": None if out is None else str(out),
        }
        click.echo(json.dumps(document, indent=1))
        return
    console.print(_table(data, rows, console.width >= 70))
    for sentence in verdict(data, rows):
        console.print(sentence, highlight=False, markup=False)
    if data.vocabulary:
        console.print(f"----\n{_written(data, config, first)}\n----", highlight=False, markup=False, soft_wrap=True)
    if out is not None:
        console.print(f"{out} holds the figure", highlight=False, markup=False, soft_wrap=True)


def _written(data: Task, config: Config, outcome: Outcome) -> str:
    """Let the best network go on from the first symbol of the test."""
    assert data.vocabulary is not None
    network = problem(config, data).initial_network()
    network.load_state_dict(outcome.best)
    start = data.test.text[:1]
    drawn = generate(network, start, WRITTEN, TEMPERATURE, config.seed)
    return "".join(data.vocabulary.decode([*start.tolist(), *drawn]))


def _table(data: Task, rows: list[Row], seconds: bool) -> Table:
    table = Table(title=f"{data.name}, test split", title_justify="left", title_style="bold", box=SIMPLE, padding=0)
    names = [f"{row.name}, {row.backend}" if row.backend else row.name for row in rows]
    table.add_column("", min_width=max(len(word) for name in names for word in name.split()))
    for metric in metrics(data.parts):
        table.add_column(metric.name, justify="right")
    if seconds:  # there is room
        table.add_column("seconds", justify="right")
    for name, row in zip(names, rows):
        time = [f"{statistics.fmean(row.seconds):.1f}" if row.seconds else ""] if seconds else []
        table.add_row(name, *(row.text(metric) for metric in metrics(data.parts)), *time)
    return table


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
    with Interruption() as interruption, bar(Console(stderr=True)) as progress:
        todo = progress.add_task("", total=len(names) * len(cells) * len(backends) * seeds)
        parts = [_environment(backends, seeds)]
        for name in names:
            progress.update(todo, description=name)
            data = TASKS[name]()
            rows = baseline_rows(data)
            for cell, backend in itertools.product(cells, backends):
                found = []
                for seed in range(seeds):
                    config = default_config(name, cell=cell, seed=seed)
                    found.append(_run_in_table(config, data, most or EPOCHS[name], backend, interruption))
                    progress.advance(todo)
                rows.append(network_row(cell, backend, found))
            parts.append(markdown(data, rows))
    text = "\n".join(parts)
    if page is None:
        click.echo(text)
        return
    files.put_between_marks(page, "tasks", text)
    click.echo(f"{page} holds the tables")


def _run_in_table(config: Config, data: Task, epochs: int, backend: str, interruption: Interruption) -> Outcome:
    """Make one run of a table; Ctrl-C ends the whole table, of which nothing is kept."""
    with fitting_threads(config.batch, config.hidden):
        outcome = trial(config, data, epochs, backend, lambda history, validated: interruption.signal != 0)
    if interruption.signal:
        click.echo("stopped; nothing was written", err=True)
        sys.exit(128 + interruption.signal)
    return outcome


def _environment(backends: tuple[str, ...], seeds: int) -> str:
    libraries = ["numpy", *(b for b in backends if b != "numpy")]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in libraries)
    runs = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    return (
        f"Test split; {runs}; seconds of one run, training and validation, on one thread (language: "
        f"as many as the libraries take) of {os.cpu_count()} cores "
        f"({platform.machine()}). Python {platform.python_version()}, {versions}.\n"
    )
