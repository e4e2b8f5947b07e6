"""`numpy-rnn experiment`: what recurrent networks remember, and what clipping the gradient is good for."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ..fast.memory import keep_freed_memory
from ..fast.registry import FAMILIES
from ..study.experiments import figures
from ..study.experiments.explosion import Descent, descent
from ..study.experiments.model import CELLS
from ..study.experiments.tasks import TASKS, Task
from ..study.experiments.training import LEARNING_RATES, Run, Settings, train
from ..train.figures import write
from ..train.threads import fitting_threads
from .figure import writable
from .options import CellName
from .train import Interruption

F = TypeVar("F", bound=Callable[..., Any])


def _lags(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Read whole numbers with commas between them."""
    try:
        found = tuple(dict.fromkeys(int(part) for part in value.split(",")))
    except ValueError:
        raise click.BadParameter(f"{value} is not a list of whole numbers such as 10,30,100.", ctx, param) from None
    if min(found) < 2:
        raise click.BadParameter(f"{min(found)} is too short a lag, expected at least 2 steps.", ctx, param)
    return found


def _finite(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):  # which a FloatRange lets through
        raise click.BadParameter(f"{value} is not a finite number.", ctx, param)
    return value


def _options(
    *, cells: Sequence[str], lags: str, steps: int, hidden: int, seeds: int, lr: str = "each cell's own"
) -> Callable[[F], F]:
    """What all experiments can be told, with an experiment's own defaults."""
    options = (
        click.option(
            "--cell",
            "cells",
            multiple=True,
            type=CellName(CELLS),
            default=cells,
            help="May be given several times.",
        ),
        click.option("--lags", callback=_lags, metavar="T,T,...", default=lags, help="Steps to remember."),
        click.option("--steps", type=click.IntRange(1), default=steps, help="Steps of training at most."),
        click.option("--hidden", type=click.IntRange(1), default=hidden, help="Units of the layer."),
        click.option("--batch", type=click.IntRange(1), default=32, help="Fresh sequences of a step."),
        click.option(
            "--lr",
            type=click.FloatRange(0, min_open=True),
            callback=_finite,
            help=f"Learning rate.  [default: {lr}]",
        ),
        click.option(
            "--clip",
            type=click.FloatRange(0, min_open=True),
            default=1.0,
            callback=_finite,
            help="Largest norm of the gradient.",
        ),
        click.option("--seed", type=click.IntRange(0), default=0, help="Of the first run of a kind."),
        click.option("--seeds", type=click.IntRange(1), default=seeds, help="Runs of a kind, with one seed each."),
        click.option(
            "--out",
            type=click.Path(dir_okay=False, path_type=Path),
            callback=writable,
            help="Draw a figure: .png or .svg. An old one is replaced.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, the curves too."),
    )

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@click.group()
def experiment() -> None:
    """Train small networks on tasks that need a memory, and see which of them forget.

    Without options each takes less than two minutes; docs/learn/experiments.md has longer ones, and what came of them.
    The same seed gives the same run. Ctrl-C ends with what there is so far.
    """
    keep_freed_memory()


@experiment.command(context_settings={"show_default": True})
@_options(cells=tuple(FAMILIES), lags="10,30,100", steps=2000, hidden=32, seeds=1)
def adding(**options: Any) -> None:
    """Add the two marked ones of T numbers (Hochreiter & Schmidhuber 1997; Le, Jaitly & Hinton 2015).

    The score is the mean squared error on sequences never trained on. Always answering 1 scores 1/6 = 0.167.
    """
    _curves("adding", **options)


@experiment.command(context_settings={"show_default": True})
@_options(cells=tuple(FAMILIES), lags="5,10,20", steps=1500, hidden=64, seeds=1)
def copying(**options: Any) -> None:
    """Repeat ten symbols after T blanks (Arjovsky, Shah & Bengio 2016, after Hochreiter & Schmidhuber 1997).

    The score is the cross-entropy in nats a step, on sequences never trained on. Knowing when to answer, but not what,
    scores 10 ln 8 / (T + 20).
    """
    _curves("copying", **options)


@experiment.command(context_settings={"show_default": True})
@_options(cells=(*FAMILIES, "lstm-chrono", "gru-chrono"), lags="5,10,20,30,50,100", steps=500, hidden=32, seeds=2)
def lag(**options: Any) -> None:
    """Name the first symbol of a sequence that goes on with blanks; guessing is right one time in eight.

    The score is the accuracy on 500 sequences.
    """
    _curves("lag", **options)


@experiment.command(context_settings={"show_default": True})
@_options(cells=("irnn",), lags="100,200,300", steps=200, hidden=32, seeds=5, lr="0.01")
def explode(
    cells: Sequence[str], lags: Sequence[int], seed: int, seeds: int, lr: float | None, clip: float, **options: Any
) -> None:
    """Train on the adding problem by plain gradient descent, without and with --clip, and see whose numbers burst.

    Both start from the same weights and see the same sequences. The relu network of Le, Jaitly & Hinton 2015, whose
    recurrent matrix starts as the identity, has nothing that holds its gradient down.
    """
    out, as_json, sizes = options.pop("out"), options.pop("as_json"), options
    todo = [
        Settings("adding", cell, T, **sizes, lr=lr or 0.01, clip=limit, seed=s, interval=1)
        for cell in dict.fromkeys(cells)
        for T in lags
        for limit in (0.0, clip)
        for s in range(seed, seed + seeds)
    ]
    with Work(todo, as_json) as work:
        found = [d for d in work.each(descent, "norm of the gradient") if d.complete]
        if as_json:
            click.echo(json.dumps(_descents_document(found, work), indent=1))
        else:
            work.console.print(_descents_table(found, clip))
        work.end(len(found), out, lambda: figures.descents(found, clip))


def _curves(
    name: str,
    *,
    cells: Sequence[str],
    lags: Sequence[int],
    lr: float | None,
    seed: int,
    seeds: int,
    out: Path | None,
    as_json: bool,
    **sizes: Any,
) -> None:
    """Train on a task, once for each lag, cell and seed."""
    task, interval = TASKS[name], max(1, min(100, sizes["steps"] // 20))
    todo = [
        Settings(name, cell, T, **sizes, lr=lr or LEARNING_RATES[name][cell], seed=s, interval=interval)
        for T in lags
        for cell in dict.fromkeys(cells)
        for s in range(seed, seed + seeds)
    ]
    with Work(todo, as_json) as work:
        found = [run for run in work.each(train, task.measure.split(",")[0]) if run.complete]
        if as_json:
            click.echo(json.dumps(_runs_document(task, found, work), indent=1))
        elif found:
            work.console.print(_runs_table(task, found))
            if any(run.solved for run in found):
                work.say("* solved, after so many steps on average (2/3: in two of three runs)")
        work.end(len(found), out, lambda: figures.runs(task, found))


R = TypeVar("R", Run, Descent)


class Work:
    """Runs one after the other, with a bar on a terminal, until all are done or someone has enough."""

    def __init__(self, todo: Sequence[Settings], as_json: bool) -> None:
        self.todo = todo
        self.console = Console(stderr=as_json)
        errors = Console(stderr=True)
        self.progress = Progress(
            BarColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=errors,
            disable=not errors.is_terminal,
            transient=True,
        )
        self.bar = self.progress.add_task("", total=sum(s.steps * s.lag for s in todo))
        self.done = 0  # steps of training times steps of a sequence
        self.interruption = Interruption()
        self.threads = fitting_threads(todo[0].batch, todo[0].hidden)

    def __enter__(self) -> Work:
        self.interruption.__enter__()
        self.threads.__enter__()
        self.start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.threads.__exit__(kind, error, where)
        self.interruption.__exit__()

    def each(self, run: Callable[[Settings, Callable[[int, float], bool]], R], number: str) -> list[R]:
        """Do the runs; `number` is the name of what they tell after each step."""
        found: list[R] = []
        with self.progress:
            for settings in self.todo:
                found.append(run(settings, self._watched(settings, number)))
                if self.interruption.signal:
                    break
                self.done += settings.steps * settings.lag
        self.seconds = time.perf_counter() - self.start
        return found

    def _watched(self, settings: Settings, number: str) -> Callable[[int, float], bool]:
        """What a run calls after each step: moves the bar, and says whether to go on."""

        def stepped(step: int, value: float) -> bool:
            text = f"{settings.cell}, lag {settings.lag}: {number} {value:.3g}"
            self.progress.update(self.bar, completed=self.done + step * settings.lag, description=text)
            return not self.interruption.signal

        return stepped

    def say(self, line: str) -> None:
        """Print a line of text."""
        self.console.print(line, markup=False, highlight=False)

    def end(self, count: int, out: Path | None, draw: Callable[[], Any]) -> None:
        """Write the figure and say how it went; leave with the signal's status if one came."""
        if out is not None and count:
            write(draw(), out)
            self.say(f"{out} shows it")
        runs = f"{count} run{'s' * (count != 1)}"
        self.say(f"{runs} in {self.seconds:.0f} s")
        if self.interruption.signal:
            click.echo(f"stopped after {count} of {len(self.todo)} runs", err=True)
            sys.exit(128 + self.interruption.signal)


def _runs_table(task: Task, found: Sequence[Run]) -> Table:
    """Lags down, cells across."""
    table = Table(box=SIMPLE, padding=(0, 1), title=f"{task.name}: {task.measure}", title_justify="left")
    table.add_column("lag", justify="right", no_wrap=True)
    table.add_column("no memory", justify="right")
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
        text.append(f"\n{min(scores):.2g} … {max(scores):.2g}", style="dim")
    if steps:
        count = f", {len(steps)}/{len(runs)}" if len(steps) < len(runs) else ""
        text.append(f"\n* {sum(steps) / len(steps):.0f}{count}", style="dim")
    return text


def _descents_table(found: Sequence[Descent], clip: float) -> Table:
    """Cells and lags down, without and with clipping across."""
    table = Table(
        box=SIMPLE, padding=(0, 1), title="Runs that ended in infinity or NaN, and when", title_justify="left"
    )
    for name in ("cell", "lag", "clip", "burst", "at step", "largest norm", "last loss"):
        table.add_column(name, justify="left" if name == "cell" else "right")
    for cell, T, limit in dict.fromkeys((d.settings.cell, d.settings.lag, d.settings.clip) for d in found):
        runs = [d for d in found if (d.settings.cell, d.settings.lag, d.settings.clip) == (cell, T, limit)]
        bursts = sorted(d.burst for d in runs if d.burst)
        when = f"{bursts[0]} … {bursts[-1]}" if bursts else "·"
        ends = [d.losses[-1] for d in runs if not d.burst]
        table.add_row(
            cell,
            str(T),
            f"{limit:g}" if limit else "none",
            Text(f"{len(bursts)} of {len(runs)}", style="red" if bursts else "green"),
            when,
            f"{max(d.largest_norm for d in runs):.0e}",
            f"{sum(ends) / len(ends):.2g}" if ends else "·",
        )
    return table


def _runs_document(task: Task, found: Sequence[Run], work: Work) -> dict[str, Any]:
    return {
        "task": task.name,
        "measure": task.measure,
        "complete": not work.interruption.signal,
        "seconds": work.seconds,
        "runs": [
            {
                **asdict(run.settings),
                "baseline": task.baseline(run.settings.lag),
                "score": _number(run.score),
                "solved": run.solved,
                "steps": run.steps,
                "granted": run.settings.steps,
                "seconds": run.seconds,
                "curve": [[step, _number(score)] for step, score in run.curve],
            }
            for run in found
        ],
    }


def _descents_document(found: Sequence[Descent], work: Work) -> dict[str, Any]:
    return {
        "task": "explode",
        "complete": not work.interruption.signal,
        "seconds": work.seconds,
        "runs": [
            {
                **asdict(d.settings),
                "burst": d.burst,
                "losses": list(map(_number, d.losses)),
                "norms": list(map(_number, d.norms)),
            }
            for d in found
        ],
    }


def _number(value: float) -> float | str:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else str(value)
