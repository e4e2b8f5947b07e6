"""`numpy-rnn task` trains networks on real sequences, and holds them against baselines."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import os
import platform
import shlex
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.core import ParameterSource
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ..fast.memory import keep_freed_memory
from ..layers.files import write_bytes
from ..layers.network import CELLS
from ..train import figures
from ..train.events import recorded
from ..train.language import generate
from ..train.loop import DivergedError, History, Silent, State, best_validation
from ..train.schedule import SCHEDULES, learning_rate
from ..train.tasks import TASKS, figure
from ..train.tasks.checkpoint import read_checkpoint, write_checkpoint
from ..train.tasks.engine import Epoch, Outcome, epochs, require, train
from ..train.tasks.objective import metrics
from ..train.tasks.settings import Batches, Config, problem
from ..train.tasks.table import (
    DEFAULTS,
    SIZES,
    Row,
    baseline_rows,
    check_marks,
    markdown,
    put_between_marks,
    rows_of,
    verdict,
)
from ..train.tasks.task import Task
from ..train.threads import fitting_threads
from .figure import writable
from .progress import training_bar
from .train import Interruption, check_out, events_folder, finite

BACKENDS = ("numpy", "torch")
LOGS = (".csv", ".jsonl")
WRITTEN, TEMPERATURE = 400, 0.7  # of the text at the end of a language model: symbols, and how boldly they are drawn


@click.group(context_settings={"show_default": True})
def task() -> None:
    """Train a network on real sequences that a package ships, and hold it against baselines.

    Each task has three splits: networks learn from the first, the weights that do best on the second are kept, and they
    and the baselines are scored on the third by the same code.
    """
    keep_freed_memory()


def _log_path(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    if value is None:
        return None
    if value.suffix not in LOGS:
        raise click.BadParameter(f"{value}: the name must end in {' or '.join(LOGS)}.", ctx, param)
    try:
        with tempfile.TemporaryFile(dir=value.parent):
            pass
    except OSError as error:
        raise click.BadParameter(f"cannot write to {value.parent}: {error.strerror}.", ctx, param) from None
    return value


def _options(name: str) -> list[click.Option]:
    """The options of one task, with its own defaults."""
    default: dict[str, Any] = {**DEFAULTS, **SIZES[name]}

    def option(flag: str, kind: Any, text: str, **more: Any) -> click.Option:
        field = flag.strip("-").split("/")[0].replace("-", "_")
        return click.Option([flag], type=kind, default=default.get(field), help=text, **more)

    path = click.Path(dir_okay=False, path_type=Path)
    text, symbols = name == "language", name in ("language", "tags")
    window = click.IntRange(1) if text else click.IntRange(0, 0)
    return [
        option("--cell", click.Choice(list(CELLS)), "Kind of recurrent layer."),
        option("--hidden", click.IntRange(1), "Units of a layer."),
        option("--layers", click.IntRange(1), "Layers on top of each other."),
        option("--bidirectional/--one-direction", bool, "Whether to read from both ends.", hidden=text),
        option(
            "--embedding",
            click.IntRange(1),
            "Numbers that stand for a symbol.",
            hidden=not symbols,
        ),
        option("--batch", click.IntRange(1), "Streams of a step." if text else "Sequences of a step."),
        option("--window", window, "Symbols of a stream that a step sees.", hidden=not text),
        option("--epochs", click.IntRange(1), "Rounds through the training split, at most."),
        option("--patience", click.IntRange(0), "Epochs without a better validation before it ends; 0: no limit."),
        option("--lr", click.FloatRange(0, min_open=True), "Adam's step.", callback=finite),
        option("--schedule", click.Choice(SCHEDULES), "Of the step: constant, or half a cosine down to 0."),
        option("--clip", click.FloatRange(0), "Gradient's norm; 0: no limit.", callback=finite),
        option("--weight-decay", click.FloatRange(0), "L2 penalty, added to the gradient.", callback=finite),
        option("--seed", click.IntRange(0), "Of initial weights and order, in both backends."),
        option("--dtype", click.Choice(["float32", "float64"]), "Precision of all numbers."),
        click.Option(["--backend"], type=click.Choice(BACKENDS), default="numpy", help="Who computes."),
        click.Option(["--seeds"], type=click.IntRange(1), default=1, help="Runs, from --seed on; mean and spread."),
        click.Option(
            ["--out"], type=path, callback=writable, help="Draw a figure: .png or .svg. An old one is replaced."
        ),
        click.Option(["--log"], type=path, callback=_log_path, help="Write a line for every epoch: .csv or .jsonl."),
        click.Option(
            ["--tensorboard"],
            type=click.Path(file_okay=False, path_type=Path),
            callback=events_folder,
            help="Folder for event files, of every step.",
        ),
        click.Option(["--checkpoint"], type=path, help="Save the run there after every epoch."),
        click.Option(["--resume"], is_flag=True, help="Go on from --checkpoint."),
        click.Option(["--overwrite"], is_flag=True, help="Replace --checkpoint if it exists."),
        click.Option(["--json", "as_json"], is_flag=True, help="Print the result as JSON, progress on stderr."),
    ]


class Files(NamedTuple):
    """Where a run's results go."""

    out: Path | None
    log: Path | None
    tensorboard: Path | None
    checkpoint: Path | None


def _command(name: str) -> click.Command:
    """Make the subcommand of one task."""
    module = sys.modules[TASKS[name].__module__]

    @click.pass_context
    def callback(ctx: click.Context, /, **options: Any) -> None:
        _task(ctx, name, **options)

    return click.Command(
        name, callback=callback, params=list(_options(name)), help=module.__doc__, short_help=_first(module.__doc__)
    )


def _first(doc: str | None) -> str:
    return (doc or "").split("\n")[0].rstrip(".")


def _task(
    ctx: click.Context,
    name: str,
    backend: str,
    seeds: int,
    out: Path | None,
    log: Path | None,
    tensorboard: Path | None,
    checkpoint: Path | None,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    to = Files(out, log, tensorboard, checkpoint)
    if seeds > 1 and (log or tensorboard or checkpoint):
        raise click.UsageError("--log, --tensorboard and --checkpoint are for one run: leave --seeds out.")
    if checkpoint is not None:
        check_out(checkpoint, resume, overwrite)
    elif resume or overwrite:
        raise click.UsageError("--resume and --overwrite need a --checkpoint.")
    data, before = TASKS[name](), None
    config = Config(task=name, **settings)
    if resume and checkpoint is not None:
        stored, stored_backend, before = read_checkpoint(checkpoint, data)
        _check_same(ctx, checkpoint, stored, config)
        config = stored
        backend = backend if ctx.get_parameter_source("backend") is not ParameterSource.DEFAULT else stored_backend
    require(backend)  # before the number of threads is set
    console, found = Console(stderr=as_json), []
    with Interruption() as interruption, fitting_threads(config.batch, config.hidden):
        for seed in range(config.seed, config.seed + seeds):
            run = Config(**{**asdict(config), "seed": seed})
            done = before.history.steps if before else 0
            with Display(console, data, run, backend, interruption, done, lines=seeds == 1) as display:
                found.append(_train(run, data, backend, display, before, to))
            if interruption.signal:
                break
    if interruption.signal and not found[-1].complete:
        _tell_stop(name, found[-1], checkpoint)
        sys.exit(128 + interruption.signal)
    _tell(data, config, backend, found, to, as_json, console)
    if len(found) < seeds:
        sys.exit(128 + interruption.signal)


def _check_same(ctx: click.Context, path: Path, stored: Config, config: Config) -> None:
    """Refuse settings on the command line that are not those of the checkpoint."""
    for field in fields(Config):
        old, new = getattr(stored, field.name), getattr(config, field.name)
        if old != new and ctx.get_parameter_source(field.name) not in (ParameterSource.DEFAULT, None):
            option = "--" + field.name.replace("_", "-")
            raise click.UsageError(f"{path} was trained with {option} {old}, it cannot go on with {new}.")


def _train(config: Config, data: Task, backend: str, display: Display, before: State | None, to: Files) -> Outcome:
    kept = "nothing was saved"

    def save(state: State) -> None:
        nonlocal kept
        if to.checkpoint is not None:
            write_checkpoint(to.checkpoint, config, data, backend, state)
            kept = f"{to.checkpoint} is kept as it was after step {state.history.steps}"
        if to.log is not None:
            write_bytes(to.log, _log(to.log, epochs(state.history, config, display.per_epoch)))

    try:
        with recorded(display, to.tensorboard, display.done, display.lr) as observer:
            return train(config, data, backend, observer, before, save)
    except DivergedError as error:
        raise click.ClickException(f"{error}; {kept}. A lower --lr or --clip may help.") from None
    except MemoryError as error:
        raise click.UsageError(f"the model does not fit into memory: {error}") from None


def _log(path: Path, found: list[Epoch]) -> bytes:
    """A line for every epoch."""
    text = io.StringIO(newline="")
    if path.suffix == ".csv":
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(Epoch._fields)
        writer.writerows(found)
    else:
        text.writelines(json.dumps(epoch._asdict()) + "\n" for epoch in found)
    return text.getvalue().encode()


def _tell_stop(name: str, outcome: Outcome, checkpoint: Path | None) -> None:
    how = "nothing was saved: give a --checkpoint to go on from"
    if checkpoint is not None:
        how = f"go on with: {shlex.join(['numpy-rnn', 'task', name, '--resume', '--checkpoint', str(checkpoint)])}"
    click.echo(f"stopped after step {outcome.history.steps}; {how}", err=True)


def _tell(
    data: Task, config: Config, backend: str, found: list[Outcome], to: Files, as_json: bool, console: Console
) -> None:
    network = Row(config.cell, backend, [o.scores for o in found], [o.seconds for o in found])
    rows = [*baseline_rows(data), network]
    first, per_epoch = found[0], Batches(data.train, config).per_epoch
    curve = epochs(first.history, config, per_epoch)
    if to.out is not None:
        label = f"{config.cell}, {config.hidden} units, {backend}"
        figures.write(figure.draw(data, label, curve, best_validation(first.history), first.outputs), to.out)
    if as_json:
        click.echo(json.dumps(_document(data, config, found, rows, curve, to), indent=1))
        return
    console.print(_table(data, rows))
    for sentence in verdict(data, rows):
        console.print(sentence, highlight=False, markup=False)
    if data.vocabulary:
        console.print(f"----\n{_written(data, config, first)}\n----", highlight=False, markup=False, soft_wrap=True)
    for path, what in ((to.out, "figure"), (to.log, "log"), (to.tensorboard, "event files"), (to.checkpoint, "run")):
        if path is not None:
            console.print(f"{path} holds the {what}", highlight=False, markup=False, soft_wrap=True)


def _written(data: Task, config: Config, outcome: Outcome) -> str:
    """Let the best network go on from the first symbol of the test."""
    if data.vocabulary is None:
        return ""
    network = problem(config, data).initial_network()
    network.load_state_dict(outcome.best)
    start = data.test.text[:1]
    drawn = generate(network, start, WRITTEN, TEMPERATURE, config.seed)
    return "".join(data.vocabulary.decode([*start.tolist(), *drawn]))


def _table(data: Task, rows: list[Row]) -> Table:
    table = Table(title=f"{data.name}, test split", title_justify="left", title_style="bold", box=SIMPLE, padding=0)
    table.add_column("", overflow="fold")
    for metric in metrics(data.parts):
        table.add_column(metric.name, justify="right")
    table.add_column("seconds", justify="right")
    for row in rows:
        seconds = f"{statistics.fmean(row.seconds):.1f}" if row.seconds else ""
        name = f"{row.name}, {row.backend}" if row.backend else row.name
        table.add_row(name, *(row.text(metric) for metric in metrics(data.parts)), seconds)
    return table


def _document(
    data: Task, config: Config, found: list[Outcome], rows: list[Row], curve: list[Epoch], to: Files
) -> dict[str, Any]:
    return {
        "task": data.name,
        "config": asdict(config),
        "backend": rows[-1].backend,
        "scores": rows[-1].scores,  # of each seed
        "seconds": rows[-1].seconds,
        "baselines": {row.name: row.scores[0] for row in rows[:-1]},
        "verdict": verdict(data, rows),
        "best_epoch": best_validation(found[0].history) + 1,  # of the first seed, as what follows
        "epochs": [epoch._asdict() for epoch in curve],
        **({"written": _written(data, config, found[0])} if data.vocabulary else {}),
        **{name: None if path is None else str(path) for name, path in to._asdict().items()},
    }


class Display:
    """What is seen of a run: a bar on a terminal, and a line for each epoch where there is one run only."""

    def __init__(
        self,
        console: Console,
        data: Task,
        config: Config,
        backend: str,
        interruption: Interruption,
        done: int,
        lines: bool,
    ) -> None:
        batches = Batches(data.train, config)
        self.done = done  # steps of an earlier run
        self.config, self.interruption, self.lines = config, interruption, lines
        self.per_epoch, self.steps = batches.per_epoch, batches.steps
        n = [split.x.size if data.vocabulary else len(split.x) for split in (data.train, data.validation, data.test)]
        self.sizes = f"{n[0]}, {n[1]}, {n[2]} {data.vocabulary.kind if data.vocabulary else 'sequences'}"
        self.backend = backend
        self.progress = training_bar(console)

    def __enter__(self) -> Display:
        c = self.config
        layers = f"{c.layers} layer{'s' * (c.layers > 1)} of {c.hidden} units{' both ways' * c.bidirectional}"
        self.progress.start()
        self._say(
            f"{c.task}: {c.cell}, {layers}, {c.dtype}, {self.backend}, seed {c.seed}; {self.sizes} to learn "
            f"from, validate and test{f'; going on after step {self.done}' * (self.done > 0)}"
        )
        self.bar = self.progress.add_task("", total=self.steps, completed=self.done)
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def lr(self, step: int) -> float:
        """Return the learning rate of a step (0, 1, …)."""
        return learning_rate(self.config, step, self.steps)

    def _say(self, line: str) -> None:
        self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def stepped(self, history: History) -> None:
        """Take note of a step."""
        loss = history.recent_loss(self.per_epoch)
        self.progress.update(self.bar, completed=history.steps, description=f"loss {loss:.4f}")

    def validated(self, history: History) -> None:
        """Take note of a validation."""
        if self.lines:
            e = epochs(history, self.config, self.per_epoch)[-1]
            best = "  best" if best_validation(history) + 1 == e.epoch else ""
            self._say(
                f"epoch {e.epoch:>3}  training {e.training:.4f}  validation {e.validation:.4f}  "
                f"gradient norm {e.norm:.2f}  lr {e.lr:.1e}{best}"
            )

    def wants_to_stop(self) -> bool:
        """Say whether this step should be the last."""
        return self.interruption.signal != 0


for _name in TASKS:
    task.add_command(_command(_name))


@task.command()
@click.option(
    "--task", "names", multiple=True, type=click.Choice(list(TASKS)), default=tuple(TASKS), help="Repeatable."
)
@click.option(
    "--cell", "cells", multiple=True, type=click.Choice(list(CELLS)), default=("rnn", "lstm", "gru"), help="Repeatable."
)
@click.option("--backend", "backends", multiple=True, type=click.Choice(BACKENDS), default=BACKENDS, help="Repeatable.")
@click.option("--seeds", type=click.IntRange(1), default=3, help="Runs of each, from seed 0 on.")
@click.option("--epochs", "most", type=click.IntRange(1), help="At most, in place of each task's own number.")
@click.option(
    "--markdown",
    "paths",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Put the tables between this file's marks instead of printing them. Repeatable.",
)
def table(
    names: tuple[str, ...],
    cells: tuple[str, ...],
    backends: tuple[str, ...],
    seeds: int,
    most: int | None,
    paths: tuple[Path, ...],
) -> None:
    """Run task × cell × backend with several seeds each, and print the scores beside the baselines', as Markdown."""
    for path in paths:
        check_marks(path)
    for backend in backends:
        require(backend)
    changes: dict[str, Any] = {} if most is None else {"epochs": most}
    errors = Console(stderr=True)
    bar = Progress(console=errors, transient=True, disable=not errors.is_terminal)
    with Interruption() as interruption, bar:
        todo = bar.add_task("", total=len(names) * len(cells) * len(backends) * seeds)
        parts = [_environment(backends, seeds)]
        for name in names:
            bar.update(todo, description=name)
            data = TASKS[name]()
            one = _one(interruption, lambda: bar.advance(todo))
            parts.append(markdown(data, rows_of(data, cells, backends, range(seeds), one, **changes)))
    text = "\n".join(parts)
    for path in paths:
        put_between_marks(path, text)
        click.echo(f"{path} holds the tables")
    if not paths:
        click.echo(text)


def _one(interruption: Interruption, done: Callable[[], None]) -> Callable[..., tuple[dict[str, float], float]]:
    """Make one run of a table; Ctrl-C ends the whole table, of which nothing is kept."""

    class Watch(Silent):
        def wants_to_stop(self) -> bool:
            return interruption.signal != 0

    def one(config: Config, data: Task, backend: str) -> tuple[dict[str, float], float]:
        with fitting_threads(config.batch, config.hidden):
            outcome = train(config, data, backend, Watch())
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
