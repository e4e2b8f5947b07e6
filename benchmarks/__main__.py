"""`python -m benchmarks`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

try:
    import click
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
except ModuleNotFoundError as error:  # pragma: no cover
    sys.exit(f"benchmarks: {error.name} is missing: pip install 'numpy-rnn[bench]'")

from . import plan, report
from .contest import Contest
from .contestants import CONTESTANTS
from .environment import BUSY, describe, load_average, tuning_variables
from .measurements import Results, ResultsError, load, save
from .points import CELLS, GROUPS
from .problem import DTYPES, MODES

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "use" / "benchmarks.md"
PATH = click.Path(path_type=Path)
F = TypeVar("F", bound=Callable[..., Any])


def several(option: str, known: Sequence[str] = (), help: str = "") -> Callable[[F], F]:
    """An option that may be given several times, with one of the known values."""
    kind = click.Choice(known, case_sensitive=False) if known else None
    return click.option(option, multiple=True, metavar="NAME", type=kind, help=help or f"{', '.join(known)}.")


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Three small points, forward and backward, 3 turns: half a minute.")
@several("--points", help=f"Sizes as TxBxIxH[-L2][-D2], or a group: {', '.join(GROUPS)}.")
@several("--cells", CELLS)
@several("--dtypes", tuple(dict.fromkeys(dtype for dtypes in DTYPES.values() for dtype in dtypes)))
@click.option("--threads", multiple=True, type=click.IntRange(1, 256))
@several("--contestants", tuple(CONTESTANTS))
@several("--modes", MODES)
@click.option("--turns", type=click.IntRange(1), default=7, show_default=True, help="Samples; slow calls get fewer.")
@click.option("--device", type=click.Choice(tuple(DTYPES)), default="cpu", show_default=True)
@click.option(
    "--before",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Another checkout of this repository, whose layers are timed in turn with those here.",
)
@click.option("--json", "out", type=PATH, help="Where the results go. [default: build/benchmarks.json]")
@click.option("--resume", is_flag=True, help="Go on with the file of an interrupted run.")
@click.pass_context
def command(
    context: click.Context,
    /,
    quick: bool,
    turns: int,
    before: Path | None,
    out: Path | None,
    resume: bool,
    **chosen: Any,
) -> None:
    """Measure how fast numpy_rnn, torch_rnn, torch.nn and others are.

    Without options everything is measured, which takes about half an hour on two idle cores. Each option but the first
    may be given several times. Exit status 1 means that a contestant's results were wrong.
    """
    if context.invoked_subcommand:
        return
    if quick:
        turns = min(turns, 3)
        defaults = {"points": ("quick",), "contestants": plan.CORE, "modes": plan.LAST}
        chosen |= {option: value for option, value in defaults.items() if not chosen[option]}
    selection = plan.Selection(**chosen)
    out = out or ROOT / "build" / "benchmarks.json"
    _check(selection, out)
    try:
        tasks = plan.tasks(selection, before is not None)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if not tasks:
        raise click.UsageError(f"no contestant is left that could be measured on {selection.device}")
    results = _begin(selection.device, out, resume)
    done = set(results.settings)
    _measure([task for task in tasks if task.setting not in done], results, turns, before, out)
    click.echo(f"{report.summary(results)}\n\nResults: {out}")
    sys.exit(any(m.note.startswith("WRONG") for m in results.measurements))


@command.command("report")
@click.argument("files", nargs=-1, required=True, type=PATH)
@click.option("--page", type=PATH, default=PAGE, help="[default: docs/use/benchmarks.md]")
@click.option("--readme", is_flag=True, help="Print the README's table and write nothing.")
def report_command(files: Sequence[Path], page: Path, readme: bool) -> None:
    """Write the page of the site and its figure from FILES: one of a CPU, and one of a GPU if there is one."""
    found = {(results := load(file)).environment["device"]: results for file in files}
    if "cpu" not in found or len(found) < len(files):
        raise click.UsageError("expected one file of a CPU, and at most one of a GPU")
    if readme:
        click.echo(report.readme_rows(found["cpu"]))
        return
    figure = page.with_suffix(".png")
    report.draw(found["cpu"], figure)
    page.write_text(report.page(found["cpu"], found.get("cuda"), figure.name), encoding="utf-8")
    click.echo(f"{page}, {figure}")


def _check(selection: plan.Selection, out: Path) -> None:
    """Find a user's mistakes before time has gone into a run."""
    device = selection.device
    for name in selection.contestants:
        if device not in CONTESTANTS[name].devices:
            raise click.UsageError(f"{name} does not run on {device}")
    for dtype in selection.dtypes:
        if dtype not in DTYPES[device]:
            raise click.UsageError(f"{dtype} is not measured on {device}, only {', '.join(DTYPES[device])}")
    for name, package in plan.lacking(selection.contestants or CONTESTANTS).items():
        click.echo(f"benchmarks: {name} does not take part: {package} is not installed", err=True)
    if out.is_dir():
        raise click.UsageError(f"--json {out} is a folder, expected a file")
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise click.UsageError(
                f"--device cuda needs an NVIDIA GPU and PyTorch for CUDA, this is {torch.__version__}"
            )


def _begin(device: str, out: Path, resume: bool) -> Results:
    """Results to add to: empty, or those of an interrupted run on the same machine."""
    results = Results(describe(device))
    if not resume:
        return results
    old = load(out)
    for key in ("device", "cpu"):
        if old.environment[key] != results.environment[key]:
            here, there = results.environment[key], old.environment[key]
            raise click.UsageError(f"--resume needs results of this {key}, {here}; {out} has those of {there}")
    return old


def _measure(tasks: Sequence[plan.Task], results: Results, turns: int, before: Path | None, out: Path) -> None:
    """Measure task by task, saving after each: Ctrl-C keeps what there is."""
    load_now, console = load_average(), Console(stderr=True)
    if load_now is not None and load_now > BUSY:
        click.echo(f"benchmarks: the machine is busy, its load average is {load_now}: times will be too long", err=True)
    if removed := tuning_variables():
        click.echo(f"benchmarks: contestants run without {', '.join(removed)}", err=True)
    results.complete = False
    save(results, out)  # a folder that cannot be written to is noticed now
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="benchmarks-") as scratch,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        bar = progress.add_task("", total=len(tasks))
        with Contest(turns, Path(scratch), before, lambda text: progress.update(bar, description=text)) as contest:
            for task in tasks:
                results.measurements += contest.measure(*task)
                results.contestants |= contest.contestants
                results.environment["load at end"] = load_average()
                save(results, out)
                progress.advance(bar)
    results.complete = True
    save(results, out)


def main() -> NoReturn:
    """Run the command; a user's mistake becomes one sentence on stderr and exit status 1 or 2."""
    try:
        sys.exit(command.main(prog_name="python -m benchmarks", standalone_mode=False) or 0)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(_said("interrupted; the file holds what was measured, and --resume goes on with it", 130))
    except click.ClickException as error:
        sys.exit(_said(error.format_message(), error.exit_code))
    except ResultsError as error:
        sys.exit(_said(str(error), 1))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(_said(f"{where}{error.strerror or error}", 1))


def _said(text: str, status: int) -> int:
    click.echo(f"benchmarks: {' '.join(text.split())}", err=True)
    return status


if __name__ == "__main__":
    main()
