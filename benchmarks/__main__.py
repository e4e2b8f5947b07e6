"""`python -m benchmarks`."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

try:
    import click
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
except ModuleNotFoundError as error:  # pragma: no cover
    sys.exit(f"benchmarks: {error.name} is missing: pip install 'numpy-rnn[cli,bench]'")

from . import compare, cuda, plan, plots, report, tables
from .contestants import CONTESTANTS, on_device
from .environment import BUSY, describe
from .measure import Contest
from .points import GROUPS
from .problem import CELLS, CPU_DTYPES, CUDA_DTYPES, MODES
from .results import Results, ResultsError, load, lost, measured_again, save

ROOT = Path(__file__).parents[1]
QUICK_REPEATS = 3
F = TypeVar("F", bound=Callable[..., Any])


class Words(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Several words, separated by commas; each must be one of those known, if any are."""

    name = "NAME[,NAME…]"

    def __init__(self, what: str, known: Sequence[str] = ()) -> None:
        self.what, self.known = what, known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Split and check."""
        words = tuple(word.strip() for word in value.split(",") if word.strip())
        for word in words:
            if self.known and word not in self.known:
                self.fail(f"{word!r} is no {self.what}; there are {', '.join(self.known)}", param, ctx)
        return words


def choice(option: str, what: str, known: Sequence[str] = (), help: str = "") -> Callable[[F], F]:
    """An option that takes words, separated by commas or given several times."""
    text = help or f"Only these: {', '.join(known)}."
    return click.option(option, multiple=True, type=Words(what, known), help=text)


def flat(groups: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """All words of an option, each once."""
    return tuple(dict.fromkeys(word for group in groups for word in group))


class Outputs(NamedTuple):
    """What is written beside the results, if anything."""

    readme: Path | None
    markdown: Path | None
    plots: Path | None
    beside: Mapping[str, Results]

    def write(self, results: Results) -> list[Path]:
        """Write it; the files."""
        drawn = plots.draw_all(results, self.plots) if self.plots else []
        if self.markdown:
            self.markdown.parent.mkdir(parents=True, exist_ok=True)
            self.markdown.write_text(report.everything(results), encoding="utf-8")
        if self.readme:
            folder = self.readme.resolve().parent
            linked = [Path(os.path.relpath(p, folder)).as_posix() for p in (*drawn, self.markdown) if p]
            table_file = linked.pop() if self.markdown else None
            text = report.section(results, linked, table_file, self.beside)
            report.insert(self.readme, text, results.environment["device"])
        return [*drawn, *(p for p in (self.markdown, self.readme) if p)]


PATH = click.Path(path_type=Path)
compare_option = click.option("--compare", "old", type=PATH, help="An older file: print what became faster or slower.")
readme_option = click.option("--readme", type=PATH, help="Put tables and plots between the marks of this file.")
markdown_option = click.option("--markdown", type=PATH, help="Write all tables into this file.")
beside_option = click.option(
    "--beside", multiple=True, type=PATH, help="Results of another processor: --readme shows their targets, too."
)
plots_option = click.option("--plots", "plots_folder", type=PATH, help="Draw plots into this folder.")


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--quick", is_flag=True, help="Three small points, float32, 3 repeats: less than a minute.")
@choice(
    "--points",
    "point",
    help=f"Sizes as TxBxIxH[-L2][-D2][-ragged], or groups: all, {', '.join(GROUPS)}. [default: all]",
)
@choice("--cells", "cell", CELLS)
@choice("--dtypes", "dtype", tuple(dict.fromkeys((*CPU_DTYPES, *CUDA_DTYPES))))
@click.option("--threads", multiple=True, type=click.IntRange(1, 256), help="May be given several times.")
@choice(
    "--contestants",
    "contestant",
    help=f"Of {', '.join(CONTESTANTS)}; or a Python file with a function `prepare` like theirs.",
)
@choice("--modes", "mode", MODES)
@click.option("--repeats", type=click.IntRange(1), help="Samples of each mode; slow ones get fewer. [default: 7]")
@click.option("--limit", type=click.FloatRange(0.1), default=40, show_default=True, help="Seconds a call may take.")
@click.option("--out", type=PATH, help="[default: benchmarks/results/DEVICE.json, of a part: build/benchmarks.json]")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@compare_option
@readme_option
@markdown_option
@plots_option
@beside_option
@click.pass_context
def command(
    context: click.Context,
    quick: bool,
    points: Sequence[Sequence[str]],
    cells: Sequence[Sequence[str]],
    dtypes: Sequence[Sequence[str]],
    threads: Sequence[int],
    contestants: Sequence[Sequence[str]],
    modes: Sequence[Sequence[str]],
    repeats: int | None,
    limit: float,
    out: Path | None,
    device: str,
    old: Path | None,
    readme: Path | None,
    markdown: Path | None,
    plots_folder: Path | None,
    beside: Sequence[Path],
) -> None:
    """Measure how fast numpy_rnn, torch_rnn, torch.nn and others are.

    Without options everything is measured, which takes about an hour on two cores. What was not chosen
    by an option is decided by each group of points: one thread, float64 and contestants beside numpy_rnn, torch_rnn,
    torch.nn and the floor are measured at the grid's points only. Exit status 1 means that a contestant's results
    were wrong.
    """
    if context.invoked_subcommand:
        return
    chosen = plan.Selection(
        flat(points) or (("quick",) if quick else ()),
        flat(cells),
        flat(dtypes),
        tuple(dict.fromkeys(threads)),
        flat(contestants),
        flat(modes),
        device,
    )
    everything = not any(chosen[:6])
    out = out or (ROOT / "benchmarks" / "results" / f"{device}.json" if everything else ROOT / "build/benchmarks.json")
    _check(chosen, out)
    before = load(old) if old else None  # now: it may be the file that is about to be written
    others = _beside(beside, device)
    repeats = repeats or (QUICK_REPEATS if quick else 7)
    results = _measure(_tasks(chosen), repeats, limit, out, device)
    _show(results, out, before, Outputs(readme, markdown, plots_folder, others))
    sys.exit(any(m.status == "wrong" for m in results.measurements))


@command.command("report")
@click.argument("file", type=PATH)
@compare_option
@readme_option
@markdown_option
@plots_option
@beside_option
@click.option("--again", type=PATH, help="Settings measured again: they take their place in FILE, which is rewritten.")
def report_command(
    file: Path,
    old: Path | None,
    readme: Path | None,
    markdown: Path | None,
    plots_folder: Path | None,
    beside: Sequence[Path],
    again: Path | None,
) -> None:
    """Print the tables of a FILE that was measured before; write plots and the README's section."""
    results = load(file)
    others, before = (
        _beside(beside, results.environment["device"]),
        load(old) if old else None,
    )  # first: nothing is written
    if again:
        former, results = results, measured_again(results, load(again))
        save(results, file)
        for setting, what in lost(former, results).items():  # such as what belongs to a sweep, too
            click.echo(f"benchmarks: {setting.label}: not measured again, so gone: {', '.join(what)}", err=True)
    _show(results, file, before, Outputs(readme, markdown, plots_folder, others))


def _beside(paths: Sequence[Path], device: str) -> dict[str, Results]:
    """Results of other processors, by the names of their files."""
    found: dict[str, Results] = {}
    for path in paths:
        other = load(path)
        if {device, other.environment["device"]} != {"cpu"}:
            raise click.UsageError("--beside is for results of CPUs, whose targets stand beside one another")
        if path.stem in found:
            raise click.UsageError(f"--beside got two files of the name {path.stem}, which heads a column")
        found[path.stem] = other
    return found


def _check(chosen: plan.Selection, out: Path) -> None:
    """Find a user's mistakes before an hour has gone into a run."""
    if chosen.device == "cuda" and (why := cuda.problem_with_device()):
        raise click.UsageError(why)
    dtypes = CUDA_DTYPES if chosen.device == "cuda" else CPU_DTYPES
    for dtype in chosen.dtypes:
        if dtype not in dtypes:
            raise click.UsageError(f"{dtype} is for --device cuda; on the CPU there are {', '.join(dtypes)}")
    for name in chosen.contestants:
        if name in CONTESTANTS and name not in on_device(chosen.device):
            raise click.UsageError(f"{name} does not run on {chosen.device}; {', '.join(on_device(chosen.device))} do")
        if name not in CONTESTANTS and not (name.endswith(".py") and Path(name).is_file()):
            known = ", ".join(CONTESTANTS)
            raise click.UsageError(f"{name!r} is no contestant and no Python file; there are {known}")
    if out.is_dir():
        raise click.UsageError(f"--out {out} is a folder, expected a file")


def _tasks(chosen: plan.Selection) -> list[plan.Task]:
    files = tuple(name if name in CONTESTANTS else str(Path(name).resolve()) for name in chosen.contestants)
    try:
        tasks, lacking = plan.installed(plan.tasks(chosen._replace(contestants=files)))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    for name, package in lacking.items():
        click.echo(f"benchmarks: {name} does not take part: {package} is not installed", err=True)
    if not tasks:
        raise click.UsageError("no contestant is left that could be measured")
    return tasks


def _measure(tasks: Sequence[plan.Task], repeats: int, limit: float, out: Path, device: str) -> Results:
    """Measure task by task, saving after each; Ctrl-C keeps what there is."""
    results = Results(describe(device), [], [])
    load_now = results.environment["load at start"]
    if load_now is not None and load_now > BUSY:
        click.echo(f"benchmarks: the machine is busy, its load average is {load_now}: times will be too long", err=True)
    errors = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    save(results, out)  # a folder that cannot be written to is noticed now
    with (
        tempfile.TemporaryDirectory(prefix="benchmarks-") as scratch,
        Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress,
    ):
        bar = progress.add_task("", total=len(tasks))
        with Contest(repeats, limit, Path(scratch), lambda text: progress.update(bar, description=text)) as contest:
            for task in tasks:
                results.measurements.extend(contest.measure(task))
                results = results._replace(processes=contest.processes)
                save(results, out)
                progress.advance(bar)
    results = results._replace(complete=True)
    save(results, out)
    return results


def _show(results: Results, file: Path, old: Results | None, outputs: Outputs) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # into a file or a pipe: no table is squeezed
    console.print(report.environment(results), highlight=False)
    for table in tables.all_tables(results):
        tables.show(table, console)
    console.print(tables.LEGEND, highlight=False)
    written = outputs.write(results)
    if old:
        for difference in compare.different_machines(old, results):
            click.echo(f"benchmarks: {difference}", err=True)
        tables.show(compare.table(compare.changes(old, results)), console)
    for sentence in tables.problems(results):
        click.echo(f"benchmarks: {sentence}", err=True)
    console.print("Results: " + ", ".join(map(str, (file, *written))), highlight=False)


def main() -> NoReturn:
    """Run the command; a user's mistake becomes one sentence on stderr and exit status 1 or 2."""
    try:
        sys.exit(command.main(prog_name="python -m benchmarks", standalone_mode=False) or 0)
    except click.Abort:
        sys.exit(_said("interrupted; the file holds what was measured until then", 130))
    except click.ClickException as error:
        sys.exit(_said(error.format_message(), error.exit_code))
    except (ResultsError, plots.PlotError) as error:
        sys.exit(_said(str(error), 1))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(_said(f"{where}{error.strerror or error}", 1))


def _said(text: str, status: int) -> int:
    click.echo(f"benchmarks: {' '.join(text.split())}", err=True)
    return status


if __name__ == "__main__":
    main()
