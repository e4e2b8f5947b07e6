"""`numpy-rnn experiment`: what recurrent networks remember, and what clipping the gradient is good for."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table
from rich.text import Text

from ..fast.memory import keep_freed_memory
from ..fast.registry import FAMILIES
from ..study.experiments import figures
from ..study.experiments.model import CELLS
from ..study.experiments.tasks import TASKS, Task
from ..study.experiments.training import LEARNING_RATES, Descent, Run, Settings, descend, train
from ..train.figures import write
from ..train.threads import fitting_threads
from .options import CellName, FiniteRange, figure_path
from .progress import Interruption, bar

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R", Run, Descent)


def _lags(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Read whole numbers with commas between them; a click callback."""
    try:
        found = tuple(dict.fromkeys(int(part) for part in value.split(",")))
    except ValueError:
        raise click.BadParameter(f"{value} is not a list of whole numbers such as 10,30,100.", ctx, param) from None
    if min(found) < 2:
        raise click.BadParameter(f"{min(found)} is too short a lag, expected at least 2 steps.", ctx, param)
    return found


def _options(
    *, cells: Sequence[str], lags: str, steps: int, hidden: int, seeds: int, lr: str = "each cell's own"
) -> Callable[[F], F]:
    """What all experiments can be told, with an experiment's own defaults."""
    options = (
        click.option("--cell", "cells", multiple=True, type=CellName(CELLS), default=cells, help="Repeatable."),
        click.option("--lags", callback=_lags, metavar="T,T,...", default=lags, help="Steps to remember."),
        click.option("--steps", type=click.IntRange(1), default=steps, help="Steps of training at most."),
        click.option("--hidden", type=click.IntRange(1), default=hidden, help="Units of the layer."),
        click.option("--batch", type=click.IntRange(1), default=32, help="Fresh sequences of a step."),
        click.option("--lr", type=FiniteRange(0, min_open=True), help=f"Learning rate.  [default: {lr}]"),
        click.option("--clip", type=FiniteRange(0, min_open=True), default=1.0, help="Largest norm of the gradient."),
        click.option("--seed", type=click.IntRange(0), default=0, help="Of the first run of a kind."),
        click.option("--seeds", type=click.IntRange(1), default=seeds, help="Runs of a kind, with one seed each."),
        click.option(
            "--out",
            type=click.Path(dir_okay=False, path_type=Path),
            callback=figure_path,
            help="Draw a figure: .png or .svg. An old one is replaced.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, the curves too."),
    )

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@click.group(short_help="Test what networks remember, and when gradients burst.")
def experiment() -> None:
    """Train small networks on tasks that need a memory, and see which of them forget.

    Without options each takes less than two minutes; docs/learn/experiments.md has longer ones, and what came of them.
    The same seed gives the same run. Ctrl-C ends with what there is so far.
    """
    keep_freed_memory()


@experiment.command(context_settings={"show_default": True}, short_help="Add the two marked ones of T numbers.")
@_options(cells=tuple(FAMILIES), lags="10,30,100", steps=2000, hidden=32, seeds=1)
def adding(**options: Any) -> None:
    """Add the two marked ones of T numbers (Hochreiter & Schmidhuber 1997; Le, Jaitly & Hinton 2015).

    The score is the mean squared error on sequences never trained on. Always answering 1 scores 1/6 = 0.167.
    """
    _curves("adding", **options)


@experiment.command(context_settings={"show_default": True}, short_help="Repeat ten symbols after T blanks.")
@_options(cells=tuple(FAMILIES), lags="5,10,20", steps=1500, hidden=64, seeds=1)
def copying(**options: Any) -> None:
    """Repeat ten symbols after T blanks (Arjovsky, Shah & Bengio 2016, after Hochreiter & Schmidhuber 1997).

    The score is the cross-entropy in nats a step, on sequences never trained on. Knowing when to answer, but not what,
    scores 10 ln 8 / (T + 20).
    """
    _curves("copying", **options)


@experiment.command(context_settings={"show_default": True}, short_help="Name the first symbol after T blanks.")
@_options(cells=(*FAMILIES, "lstm-chrono", "gru-chrono"), lags="5,10,20,30,50,100", steps=500, hidden=32, seeds=2)
def lag(**options: Any) -> None:
    """Name the first symbol of a sequence that goes on with blanks; guessing is right one time in eight.

    The score is the accuracy on 500 sequences.
    """
    _curves("lag", **options)


@experiment.command(context_settings={"show_default": True}, short_help="Gradient descent without clipping: it bursts.")
@_options(cells=("irnn",), lags="100,200,300", steps=200, hidden=32, seeds=5, lr="0.01")
def explode(**options: Any) -> None:
    """Train on the adding problem by plain gradient descent, without and with --clip, and see whose numbers burst.

    Both start from the same weights and see the same sequences. The relu network of Le, Jaitly & Hinton 2015, whose
    recurrent matrix starts as the identity, has nothing that holds its gradient down.
    """
    cells, lags, seeds = _kinds(options)
    clip, lr = options["clip"], options["lr"] or 0.01
    todo = [
        Settings("adding", cell, T, **_sizes(options), lr=lr, clip=limit, seed=seed, interval=1)
        for cell in cells
        for T in lags
        for limit in (0.0, clip)
        for seed in seeds
    ]
    work = _work(descend, todo, "gradient's norm")
    runs = [{**asdict(d.settings), "burst": d.burst, "losses": d.losses, "norms": d.norms} for d in work.found]
    table = _descents_table(work.found) if work.found else ""
    _tell(work, {"task": "explode"}, runs, table, lambda: figures.descents(work.found, clip), options)


def _curves(name: str, **options: Any) -> None:
    """Train on a task, once for each lag, cell and seed."""
    task, interval = TASKS[name], max(1, min(100, options["steps"] // 20))
    cells, lags, seeds = _kinds(options)
    more = {**_sizes(options), "clip": options["clip"], "interval": interval}
    todo = [
        Settings(name, cell, T, **more, lr=options["lr"] or LEARNING_RATES[name][cell], seed=seed)
        for T in lags
        for cell in cells
        for seed in seeds
    ]
    work = _work(train, todo, task.measure.split(",")[0])
    runs = [_run_document(task, run) for run in work.found]
    table: Any = _runs_table(task, work.found) if work.found else ""
    about = {"task": task.name, "measure": task.measure}
    _tell(work, about, runs, table, lambda: figures.runs(task, work.found), options)


def _kinds(options: dict[str, Any]) -> tuple[list[str], tuple[int, ...], range]:
    """Cells, lags and seeds of the runs."""
    seed = options["seed"]
    return list(dict.fromkeys(options["cells"])), options["lags"], range(seed, seed + options["seeds"])


def _sizes(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in ("hidden", "batch", "steps")}


class Work(NamedTuple):
    """Runs that are done."""

    found: list[Any]  # complete ones
    asked: int  # how many there were to be
    signal: int  # that ended the work; 0: none
    seconds: float


def _work(run: Callable[..., R], todo: Sequence[Settings], number: str) -> Work:
    """Do one run after the other, with a bar on a terminal; `number` is the name of what they tell after each step."""
    found: list[R] = []
    start, done = time.perf_counter(), 0  # steps of training times steps of a sequence
    threads = fitting_threads(todo[0].batch, todo[0].hidden)
    with Interruption() as interruption, threads, bar(Console(stderr=True)) as progress:
        task = progress.add_task("", total=sum(s.steps * s.lag for s in todo))
        for settings in todo:
            found.append(run(settings, _watch(settings, number, interruption, progress, task, done)))
            if interruption.signal:
                break
            done += settings.steps * settings.lag
    complete = [r for r in found if r.complete]
    return Work(complete, len(todo), interruption.signal, time.perf_counter() - start)


def _watch(
    settings: Settings, number: str, interruption: Interruption, progress: Progress, task: TaskID, done: int
) -> Callable[[int, float], bool]:
    """What a run calls after each step: moves the bar, and says whether to go on."""

    def stepped(step: int, value: float) -> bool:
        words = f"{settings.cell}, lag {settings.lag}: {number} {value:.3g}"
        progress.update(task, completed=done + step * settings.lag, description=words)
        return not interruption.signal

    return stepped


def _tell(
    work: Work,
    about: dict[str, Any],
    runs: list[dict[str, Any]],
    table: Any,
    draw: Callable[[], Any],
    options: dict[str, Any],
) -> None:
    """Print the table or the document, write the figure, and leave with the signal's status if one came."""
    console, out, count = Console(stderr=options["as_json"]), options["out"], len(work.found)
    if options["as_json"]:
        document = {**about, "complete": not work.signal, "seconds": work.seconds, "runs": runs}
        click.echo(json.dumps(_plain(document), indent=1))
    elif table:
        console.print(table)
    if out is not None and count:
        write(draw(), out)
        console.print(f"{out} shows it", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{count} run{'s' * (count != 1)} in {work.seconds:.0f} s", markup=False, highlight=False)
    if work.signal:
        click.echo(f"stopped after {count} of {work.asked} runs", err=True)
        sys.exit(128 + work.signal)


def _runs_table(task: Task, found: Sequence[Run]) -> Table:
    """Lags down, cells across."""
    note = (
        "* solved, after so many steps on average (2/3: in two of three runs)" if any(r.solved for r in found) else ""
    )
    table = Table(box=SIMPLE, padding=0, title=f"{task.name}: {task.measure}", title_justify="left")
    table.caption, table.caption_justify = note, "left"
    for name in ("lag", "no memory"):
        table.add_column(name, justify="right", no_wrap=name == "lag")
    cells = list(dict.fromkeys(run.settings.cell for run in found))
    for cell in cells:
        table.add_column(cell.replace("-", " "), justify="right")
    for T in dict.fromkeys(run.settings.lag for run in found):
        row = ([run for run in found if (run.settings.lag, run.settings.cell) == (T, cell)] for cell in cells)
        table.add_row(str(T), f"{task.baseline(T):.3g}", *map(_runs_text, row))
    return table


def _runs_text(runs: Sequence[Run]) -> Text:
    """Mean score, its range over the seeds, and how often and when the task was solved."""
    if not runs:
        return Text("·", style="dim")
    scores, steps = [run.score for run in runs], [run.steps for run in runs if run.solved]
    text = Text(f"{sum(scores) / len(scores):.3g}", style="green" if len(steps) == len(runs) else "")
    if min(scores) != max(scores):
        text.append(f"\n{min(scores):.2g}…{max(scores):.2g}", style="dim")
    if steps:
        count = f", {len(steps)}/{len(runs)}" if len(steps) < len(runs) else ""
        text.append(f"\n* {sum(steps) / len(steps):.0f}{count}", style="dim")
    return text


def _descents_table(found: Sequence[Descent]) -> Table:
    """Cells and lags down, without and with clipping."""
    title = "Runs that ended in infinity or NaN, and when"
    table = Table(box=SIMPLE, padding=0, title=title, title_justify="left")
    for name in ("cell", "lag", "clip", "burst", "at step", "largest norm", "last loss"):
        table.add_column(name, justify="left" if name == "cell" else "right")
    for cell, T, limit in dict.fromkeys((d.settings.cell, d.settings.lag, d.settings.clip) for d in found):
        runs = [d for d in found if (d.settings.cell, d.settings.lag, d.settings.clip) == (cell, T, limit)]
        bursts = sorted(d.burst for d in runs if d.burst)
        ends = [d.losses[-1] for d in runs if not d.burst]
        table.add_row(
            cell,
            str(T),
            f"{limit:g}" if limit else "none",
            Text(f"{len(bursts)} of {len(runs)}", style="red" if bursts else "green"),
            f"{bursts[0]} … {bursts[-1]}" if bursts else "·",
            f"{max(d.largest_norm for d in runs):.0e}",
            f"{sum(ends) / len(ends):.2g}" if ends else "·",
        )
    return table


def _run_document(task: Task, run: Run) -> dict[str, Any]:
    return {
        **asdict(run.settings),
        "baseline": task.baseline(run.settings.lag),
        "score": run.score,
        "solved": run.solved,
        "steps": run.steps,
        "granted": run.settings.steps,
        "seconds": run.seconds,
        "curve": run.curve,
    }


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: as text."""
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return list(map(_plain, value))
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
