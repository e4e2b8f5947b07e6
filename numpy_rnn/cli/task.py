"""`numpy-rnn task` trains networks on real sequences, and holds them against baselines."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
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
from ..train.checkpoint import read_checkpoint, write_checkpoint
from ..train.language import generate
from ..train.loop import Silent, best_validation
from ..train.run import Batches, Run, problem, require
from ..train.settings import SCHEDULES, Config
from ..train.task import Task
from ..train.tasks import TASKS, figure
from ..train.tasks.scores import metrics
from ..train.tasks.table import DEFAULTS, EPOCHS, SIZES, Row, baseline_rows, markdown, rows_of, verdict
from ..train.tasks.trial import Outcome, epochs, trial
from ..train.threads import fitting_threads
from .figure import writable
from .options import CellName, FiniteRange
from .progress import Display, Interruption, bar, check_out, given, one_sentence, resumed

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


def _options(name: str) -> list[click.Parameter]:
    """The options of one task, with its own defaults."""
    default: dict[str, Any] = {**DEFAULTS, **SIZES[name], "epochs": EPOCHS[name]}

    def option(flag: str, kind: Any, text: str, **more: Any) -> click.Option:
        field = flag.strip("-").split("/")[0].replace("-", "_")
        return click.Option([flag], type=kind, default=default.get(field), help=text, **more)

    text = name == "language"
    no_symbols = name not in ("language", "tags")
    return [
        option("--cell", CellName(NETWORK_CELLS), "Kind of recurrent layer."),
        option("--hidden", click.IntRange(1), "Units of a layer."),
        option("--layers", click.IntRange(1), "Layers on top of each other."),
        option("--bidirectional/--one-direction", bool, "Whether to read from both ends.", hidden=text),
        option("--embedding", click.IntRange(1), "Numbers that stand for a symbol.", hidden=no_symbols),
        option("--batch", click.IntRange(1), "Streams of a step." if text else "Sequences of a step."),
        option(
            "--seq-len", click.IntRange(1) if text else click.IntRange(0, 0), "Symbols of a window.", hidden=not text
        ),
        option("--epochs", click.IntRange(1), "Rounds through the training split, at most."),
        option("--patience", click.IntRange(0), "Epochs without a better validation before it ends; 0: no limit."),
        option("--lr", FiniteRange(0, min_open=True), "Adam's step."),
        option("--schedule", click.Choice(SCHEDULES), "Of the step: constant, or half a cosine down to 0."),
        option("--clip", FiniteRange(0), "Gradient's norm; 0: no limit."),
        option("--weight-decay", FiniteRange(0), "L2 penalty, added to the gradient."),
        option("--seed", click.IntRange(0), "Of initial weights and order, in both backends."),
        option("--dtype", click.Choice(["float32", "float64"]), "Precision of all numbers."),
        click.Option(["--backend"], type=click.Choice(BACKENDS), default="numpy", help="Who computes."),
        click.Option(["--seeds"], type=click.IntRange(1), default=1, help="Runs, from --seed on; mean and spread."),
        click.Option(["--out"], type=FILE, callback=writable, help="Draw a figure: .png or .svg."),
        click.Option(["--checkpoint"], type=FILE, help="Save the run there after every epoch."),
        click.Option(["--resume"], is_flag=True, help="Go on from --checkpoint."),
        click.Option(["--overwrite"], is_flag=True, help="Replace --checkpoint if it exists."),
        click.Option(["--json", "as_json"], is_flag=True, help="Print the result as JSON, progress on stderr."),
    ]


def _command(name: str) -> click.Command:
    """Make the subcommand of one task."""
    help_text = sys.modules[TASKS[name].__module__].__doc__ or ""

    @click.pass_context
    def callback(ctx: click.Context, /, **options: Any) -> None:
        _task(ctx, name, **options)

    return click.Command(
        name,
        callback=callback,
        params=_options(name),
        help=help_text,
        short_help=SHORT[name],
    )


def _task(
    ctx: click.Context,
    name: str,
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
    data, before, rounds = TASKS[name](), None, settings.pop("epochs")
    config = Config(task=name, symbols=data.vocabulary.kind if data.vocabulary else "", **settings)
    if resume and checkpoint is not None:
        before = read_checkpoint(checkpoint)
        if before.config.task != name:
            raise ValueError(f"{checkpoint} was trained on {before.config.task}, expected {name}")
        if before.sha256 != data.fingerprint:
            raise ValueError(f"{checkpoint} was trained on other data than are installed here (they differ in SHA-256)")
        per_epoch = Batches(data.train, before.config).per_epoch
        asked = rounds * per_epoch if given(ctx, "epochs") else None
        config, steps, backend = resumed(ctx, checkpoint, before, config, asked)
        rounds = steps // per_epoch
    require(backend)  # before the number of threads is set
    console, found = Console(stderr=as_json), []

    with Interruption() as interruption, fitting_threads(config.batch, config.hidden):
        for seed in range(config.seed, config.seed + seeds):
            with ExitStack() as stack:

                def watch(run: Run, stack: ExitStack = stack) -> Display:
                    title = f"{name}, {rounds} epochs at most"
                    display = stack.enter_context(Display(console, run, interruption, title, lines=seeds == 1))
                    stack.enter_context(one_sentence(run, checkpoint))
                    return display

                save = None if checkpoint is None else (lambda state: write_checkpoint(checkpoint, state))
                try:
                    found.append(trial(replace(config, seed=seed), data, rounds, backend, watch, before, save))
                except MemoryError as error:
                    raise click.UsageError(f"the model does not fit into memory: {error}") from None
            if interruption.signal:
                break
    if interruption.signal and not found[-1].complete:
        how = "nothing was saved: give a --checkpoint to go on from"
        if checkpoint is not None:
            how = f"go on with: {shlex.join(['numpy-rnn', 'task', name, '--resume', '--checkpoint', str(checkpoint)])}"
        click.echo(f"stopped after step {found[-1].history.steps}; {how}", err=True)
        sys.exit(128 + interruption.signal)
    _tell(data, config, rounds, backend, found, out, as_json, console)
    if len(found) < seeds:
        sys.exit(128 + interruption.signal)


def _tell(
    data: Task,
    config: Config,
    rounds: int,
    backend: str,
    found: list[Outcome],
    out: Path | None,
    as_json: bool,
    console: Console,
) -> None:
    network = Row(config.cell, backend, [o.scores for o in found], [o.seconds for o in found])
    rows, first = [*baseline_rows(data), network], found[0]
    per_epoch = Batches(data.train, config).per_epoch
    curve = epochs(first.history, config, per_epoch, rounds * per_epoch)
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
    task.add_command(_command(_name))


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
            one = _one(interruption, most or EPOCHS[name], lambda: progress.advance(todo))
            data = TASKS[name]()
            parts.append(markdown(data, rows_of(data, cells, backends, range(seeds), one)))
    text = "\n".join(parts)
    if page is None:
        click.echo(text)
        return
    files.put_between_marks(page, "tasks", text)
    click.echo(f"{page} holds the tables")


def _one(
    interruption: Interruption, rounds: int, done: Callable[[], None]
) -> Callable[[Config, Task, str], tuple[dict[str, float], float]]:
    """Make one run of a table; Ctrl-C ends the whole table, of which nothing is kept."""

    class Watch(Silent):
        def wants_to_stop(self) -> bool:
            return interruption.signal != 0

    def one(config: Config, data: Task, backend: str) -> tuple[dict[str, float], float]:
        with fitting_threads(config.batch, config.hidden):
            outcome = trial(config, data, rounds, backend, lambda run: Watch())
        if interruption.signal:
            click.echo("stopped; nothing was written", err=True)
            sys.exit(128 + interruption.signal)
        done()
        return outcome.scores, outcome.seconds

    return one


def _environment(backends: tuple[str, ...], seeds: int) -> str:
    libraries = ["numpy", *(b for b in backends if b != "numpy")]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in libraries)
    runs = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    return (
        f"Test split; {runs}; seconds of one run, training and validation, on one thread (language: "
        f"as many as the libraries take) of {os.cpu_count()} cores "
        f"({platform.machine()}). Python {platform.python_version()}, {versions}.\n"
    )
