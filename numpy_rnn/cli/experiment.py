"""`numpy-rnn experiment`: what recurrent networks remember, and what clipping the gradient is good for."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..fast.memory import keep_freed_memory
from ..fast.registry import FAMILIES
from ..study.document import plain
from ..study.experiments import figures
from ..study.experiments.tasks import TASKS
from ..study.experiments.training import CELLS, LEARNING_RATES, Run, Settings, train
from ..train.figures import write
from ..train.learner import History
from ..train.threads import fitting_threads
from .options import FIGURE, CellName, FiniteRange
from .progress import Interruption, bar


def _lags(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Read whole numbers with commas between them; a click callback."""
    try:
        found = tuple(dict.fromkeys(int(part) for part in value.split(",")))
    except ValueError:
        raise click.BadParameter(f"{value} is not a list of whole numbers such as 10,30,100.", ctx, param) from None
    if min(found) < 2:
        raise click.BadParameter(f"{min(found)} is too short a lag, expected at least 2 steps.", ctx, param)
    return found


@click.group(short_help="Test what networks remember, and when gradients burst.")
def experiment() -> None:
    """Train small networks on tasks that need a memory, and see which of them forget.

    Without options each takes less than two minutes; docs/learn/experiments.md has longer ones, and what came of them.
    The same seed gives the same run. Ctrl-C ends with what there is so far.
    """
    keep_freed_memory()


def _command(
    short_help: str,
    *,
    lags: str,
    steps: int,
    cells: Sequence[str] = tuple(FAMILIES),
    hidden: int = 32,
    seeds: int = 1,
    lr: str = "each cell's own",
) -> Callable[[Any], Any]:
    """Make a function an experiment, with what all of them can be told and its own defaults."""
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
        FIGURE,
        click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, the curves too."),
    )

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return experiment.command(context_settings={"show_default": True}, short_help=short_help)(function)

    return decorate


@_command("Add the two marked ones of T numbers.", lags="10,30,100", steps=2000)
def adding(**options: Any) -> None:
    """Add the two marked ones of T numbers (Hochreiter & Schmidhuber 1997; Le, Jaitly & Hinton 2015).

    The score is the mean squared error on sequences never trained on. Always answering 1 scores 1/6 = 0.167.
    """
    _scores("adding", options)


@_command("Repeat ten symbols after T blanks.", lags="5,10,20", steps=1500, hidden=64)
def copying(**options: Any) -> None:
    """Repeat ten symbols after T blanks (Arjovsky, Shah & Bengio 2016, after Hochreiter & Schmidhuber 1997).

    The score is the cross-entropy in nats a step, on sequences never trained on. Knowing when to answer, but not what,
    scores 10 ln 8 / (T + 20).
    """
    _scores("copying", options)


@_command(
    "Name the first symbol after T blanks.",
    lags="5,10,20,30,50,100",
    steps=500,
    cells=(*FAMILIES, "lstm-chrono", "gru-chrono"),
    seeds=2,
)
def lag(**options: Any) -> None:
    """Name the first symbol of a sequence that goes on with blanks; guessing is right one time in eight.

    The score is the accuracy on 500 sequences.
    """
    _scores("lag", options)


@_command(
    "Gradient descent without clipping: it bursts.",
    lags="100,200,300",
    steps=200,
    cells=("irnn",),
    seeds=5,
    lr="0.01",
)
def explode(**options: Any) -> None:
    """Train on the adding problem by plain gradient descent, without and with --clip, and see whose numbers burst.

    Both start from the same weights and see the same sequences. The relu network of Le, Jaitly & Hinton 2015, whose
    recurrent matrix starts as the identity, has nothing that holds its gradient down.
    """
    rates = dict.fromkeys(CELLS, 0.01)
    todo = _settings("adding", options, rates, (0.0, options["clip"]), interval=options["steps"], optimizer="sgd")
    _carry_out(todo, BURSTS, {"task": "explode"}, options)


def _scores(name: str, options: dict[str, Any]) -> None:
    interval = max(1, min(100, options["steps"] // 20))
    todo = _settings(name, options, LEARNING_RATES[name], (options["clip"],), interval=interval)
    _carry_out(todo, SCORES, {"task": name, "measure": TASKS[name].measure}, options)


def _settings(
    task: str, options: dict[str, Any], rates: dict[str, float], clips: Sequence[float], **more: Any
) -> list[Settings]:
    """All runs: one for each lag, cell, limit of the gradient and seed."""
    more |= {name: options[name] for name in ("hidden", "batch", "steps")}
    return [
        Settings(task, cell, T, **more, lr=options["lr"] or rates[cell], clip=clip, seed=options["seed"] + k)
        for T in options["lags"]
        for cell in dict.fromkeys(options["cells"])
        for clip in clips
        for k in range(options["seeds"])
    ]


class View(NamedTuple):
    """How runs are shown."""

    now: Callable[[Settings, History], str]  # what is said of one under way
    document: Callable[[Run], dict[str, Any]]
    table: Callable[[Sequence[Run]], Table]
    figure: Callable[[Sequence[Run]], Any]


def _carry_out(todo: Sequence[Settings], view: View, about: dict[str, Any], options: dict[str, Any]) -> None:
    """Do one run after the other; print a table or a document, draw a figure, leave with the signal's status if any."""
    found: list[Run] = []
    start, size = time.perf_counter(), [s.steps * s.lag for s in todo]  # steps of training times steps of a sequence
    threads = fitting_threads(todo[0].batch, todo[0].hidden)
    with Interruption() as interruption, threads, bar(Console(stderr=True)) as progress:
        task = progress.add_task("", total=sum(size))

        def stepped(history: History) -> bool:
            settings, done = todo[len(found)], sum(size[: len(found)])
            words = f"{settings.cell}, lag {settings.lag}: {view.now(settings, history)}"
            progress.update(task, completed=done + history.steps * settings.lag, description=words)
            return not interruption.signal

        for settings in todo:
            run = train(settings, stepped)
            if run.complete:
                found.append(run)
            if interruption.signal:
                break
    seconds, console = time.perf_counter() - start, Console(stderr=options["as_json"])
    if options["as_json"]:
        runs = list(map(view.document, found))
        document = {**about, "complete": not interruption.signal, "seconds": seconds, "runs": runs}
        click.echo(json.dumps(plain(document), indent=1))
    elif found:
        console.print(view.table(found))
    if options["out"] is not None and found:
        write(view.figure(found), options["out"])
        console.print(f"{options['out']} shows it", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{len(found)} run{'s' * (len(found) != 1)} in {seconds:.0f} s", markup=False, highlight=False)
    if interruption.signal:
        click.echo(f"stopped after {len(found)} of {len(todo)} runs", err=True)
        sys.exit(128 + interruption.signal)


def _table(title: str, *columns: str) -> Table:
    table = Table(box=SIMPLE, padding=0, title=title, title_justify="left", caption_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name == "cell" else "right", no_wrap=name == "lag")
    return table


def _scores_table(found: Sequence[Run]) -> Table:
    """Lags down, cells across."""
    task = TASKS[found[0].settings.task]
    cells = list(dict.fromkeys(run.settings.cell for run in found))
    table = _table(f"{task.name}: {task.measure}", "lag", "no memory", *(cell.replace("-", " ") for cell in cells))
    if any(run.solved for run in found):
        table.caption = "* solved, after so many steps on average (2/3: in two of three runs)"
    for T in dict.fromkeys(run.settings.lag for run in found):
        row = ([run for run in found if (run.settings.lag, run.settings.cell) == (T, cell)] for cell in cells)
        table.add_row(str(T), f"{task.baseline(T):.3g}", *map(_scores_text, row))
    return table


def _scores_text(runs: Sequence[Run]) -> Text:
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


def _bursts_table(found: Sequence[Run]) -> Table:
    """Cells and lags down, without and with clipping."""
    columns = ("cell", "lag", "clip", "burst", "at step", "largest norm", "last loss")
    table = _table("Runs that ended in infinity or NaN, and when", *columns)
    kinds: dict[tuple[str, int, float], list[Run]] = {}
    for run in found:
        kinds.setdefault((run.settings.cell, run.settings.lag, run.settings.clip), []).append(run)
    for (cell, T, clip), runs in kinds.items():
        bursts = sorted(run.burst for run in runs if run.burst)
        ends = [run.results[-1].loss for run in runs if not run.burst]
        table.add_row(
            cell,
            str(T),
            f"{clip:g}" if clip else "none",
            Text(f"{len(bursts)} of {len(runs)}", style="red" if bursts else "green"),
            f"{bursts[0]} … {bursts[-1]}" if bursts else "·",
            f"{max(run.largest_norm for run in runs):.0e}",
            f"{sum(ends) / len(ends):.2g}" if ends else "·",
        )
    return table


def _scores_document(run: Run) -> dict[str, Any]:
    return {
        **asdict(run.settings),
        "baseline": TASKS[run.settings.task].baseline(run.settings.lag),
        "score": run.score,
        "solved": run.solved,
        "steps": run.steps,
        "granted": run.settings.steps,
        "seconds": run.seconds,
        "curve": run.curve,
    }


def _bursts_document(run: Run) -> dict[str, Any]:
    losses, norms = zip(*run.results)
    return {**asdict(run.settings), "burst": run.burst, "losses": losses, "norms": norms}


SCORES = View(
    lambda settings, history: f"{TASKS[settings.task].measure.split(',')[0]} {history.validation[-1][1]:.3g}",
    _scores_document,
    _scores_table,
    figures.scores,
)
BURSTS = View(
    lambda settings, history: f"gradient's norm {history.training[-1].norm:.3g}",
    _bursts_document,
    _bursts_table,
    figures.bursts,
)
