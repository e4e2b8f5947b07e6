"""`numpy-rnn vectors`: golden vectors for ports, and what a port's answers say of it."""

from __future__ import annotations

import contextlib
import difflib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from ..port.conventions import LAYOUTS
from ..port.vectors import cases, drive, formats
from ..port.vectors.check import TIERS, Report
from ..port.vectors.check import check as compared
from ..port.vectors.first import First
from ..port.vectors.suite import LEVELS

ANSWERS = (".json", ".npz", ".safetensors", ".csv", ".bin")


@click.group(short_help="Golden vectors, to hold a port in any language against.")
def vectors() -> None:
    """Golden vectors for ports of recurrent layers to other languages.

    A case is a small problem with every number on the way to its answers: gates, pre-activations, states, and their
    gradients, of every step. Write the cases in a format that your language reads, compute them, dump what you have
    under the same names, and let `check` find the first number that differs and name the mistake.
    """


@vectors.command("list", short_help="List the cases by level.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def list_(as_json: bool) -> None:
    """Say which cases there are, by the level at which a port is ready for them."""
    found = cases.all_cases()
    if as_json:
        keys = ("name", "cell", "levels", "shows", "optional", "bias", "sizes", "lengths", "sha256")
        click.echo(json.dumps([{key: case[key] for key in keys} for case in found], indent=1))
        return
    width = max(len(case["name"]) for case in found)
    for level, title in enumerate(LEVELS, 1):
        click.echo(f"{level}. {title}")
        for case in found:
            if level in case["levels"].values():
                click.echo(f"   {case['name']:{width}}  {case['shows']}")


@vectors.command(short_help="Write the cases into a folder.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--format", "kind", type=click.Choice(list(formats.WRITERS)), default="json", show_default=True)
@click.option("--case", "names", multiple=True, help="May be given several times.  [default: all]")
@click.option("--layout", type=click.Choice(["onnx", "keras"]), help="The parameters as this system has them, too.")
def write(folder: Path, kind: str, names: Sequence[str], layout: str | None) -> None:
    """Write the cases into a folder, which is made if need be.

    json: the files themselves. npz, safetensors: arrays by name. c: headers for C99. bin: little-endian float64, and a
    text beside it with a line `name role offset dimensions sizes...` for each tensor. --layout keras adds tensors as
    keras.kernel, in which two biases are one where the system has one.
    """
    found: list[Mapping[str, Any]] = [_case(name) for name in names] or [*cases.all_cases()]
    if layout:
        missing = [case["name"] for case in found if case["cell"] not in LAYOUTS[layout]]
        found = [formats.with_layout(case, layout) for case in found if case["cell"] in LAYOUTS[layout]]
        if missing:
            click.echo(f"{layout} has no such cell: {', '.join(missing)}", err=True)
    folder.mkdir(parents=True, exist_ok=True)
    count = sum(len(formats.WRITERS[kind](case, folder)) for case in found)
    click.echo(f"{folder} holds {_several(len(found), 'case')} in {_several(count, 'file')}")


@vectors.command("check")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--case", "name", help="Which case the files answer, if neither they nor their names say so.")
@click.option("--tolerance", default="f64", show_default=True, help=f"{', '.join(TIERS)}, or a relative error.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def check(results: Sequence[Path], name: str | None, tolerance: str, as_json: bool) -> None:
    """Hold what a port computed against the cases.

    RESULTS are files (json, npz, safetensors, csv, bin) named after their cases, such as lstm-plain.json, or folders of
    these. Any of a case's tensors will do. Exit status 0 means that all that was given agrees.
    """
    tier, reports, problems = _tier(tolerance), list[tuple[Path, Report]](), dict[str, str]()
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        for path in progress.track(_files(results), description="comparing"):
            try:
                reports.append((path, _report(path, name, tier)))
            except ValueError as error:
                problems[str(path)] = str(error)
            except OSError as error:
                problems[str(path)] = f"{path}: {error.strerror}"
    copies = [path for path, report in reports if report.reference]
    judged = [(path, report) for path, report in reports if not report.reference]
    often = [report.case for _, report in judged]
    named = [("" if often.count(report.case) == 1 else str(path), report) for path, report in judged]
    good = sum(report.agrees for _, report in judged)
    if as_json:
        found = [_document(report, file) for file, report in named]
        unread = [{"file": file, "agrees": False, "error": what} for file, what in problems.items()]
        click.echo(json.dumps(found + unread, indent=1))
    for file, report in [] if as_json else named:
        click.echo("\n".join(_lines(report, file)))
    for what in problems.values():
        click.echo(f"Error: {what}", err=True)
    if copies:
        click.echo(f"Left out: {_some(copies)}. `vectors write` wrote that: no port's answers.", err=True)
    if judged and not as_json:
        others = f", {_several(len(problems), 'file')} not judged" if problems else ""
        click.echo(f"{_agree(good, len(judged))}{others}.")
    sys.exit(2 if not judged else 0 if good == len(judged) and not problems else 1)


@vectors.command(
    "run",
    context_settings={"ignore_unknown_options": True},
    short_help="Drive a port over its standard input and output.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--case", "names", multiple=True, help="May be given several times.  [default: all but optional ones]")
@click.option("--optional", is_flag=True, help="The optional cases, too.")
@click.option("--inject", is_flag=True, help="Start every step from the reference's state.")
@click.option("--tolerance", default="f64", show_default=True, help=f"{', '.join(TIERS)}, or a relative error.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=60, show_default=True, help="Seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print the reports as JSON.")
def run(
    command: Sequence[str],
    names: Sequence[str],
    optional: bool,
    inject: bool,
    tolerance: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Drive a port over its standard input and output: `numpy-rnn vectors run -- ./my_port`.

    The port reads a JSON object a line with the case's name, cell, sizes, lengths and tensors, and answers with one:
    {"tensors": {name: numbers}}, or {"skip": "why"}. Exit status 0 means that all that was answered agrees.
    """
    chosen = [_case(name) for name in names] or [c for c in cases.all_cases() if optional or not c["optional"]]
    tier, found, broken = _tier(tolerance), list[drive.Answer](), ""
    try:
        # Closed whatever happens, and the port with it.
        with contextlib.closing(drive.run(command, chosen, tier, inject, timeout)) as answers:
            for answer in answers:
                found.append(answer)
                if not as_json:
                    click.echo("\n".join(_said(answer)))
    except drive.PortError as error:
        broken = f"{error}."
    except KeyboardInterrupt:
        broken = "interrupted."
    reports = [answer.report for answer in found if answer.report]
    failed = [answer for answer in found if answer.failed]
    good = sum(report.agrees for report in reports)
    if as_json:
        unjudged = [{"case": answer.name, "agrees": False, "failed": answer.failed} for answer in failed]
        click.echo(json.dumps([_document(report) for report in reports] + unjudged, indent=1))
    elif found or not broken:
        judged, skipped = len(reports) + len(failed), len(found) - len(reports) - len(failed)
        text = f"{_agree(good, judged, 'step' if inject else 'case')}, {skipped} skipped"
        click.echo(f"{text}{f', {len(failed)} failed' if failed else ''}.")
    if broken:
        click.echo(f"Error: {broken}", err=True)
        sys.exit(130 if broken == "interrupted." else 1)
    sys.exit(0 if reports and good == len(reports) and not failed else 1)


def _said(answer: drive.Answer) -> list[str]:
    if answer.report:
        return _lines(answer.report)
    return [
        f"{answer.name}: skipped, {answer.skipped}" if answer.skipped else f"{answer.name}: failed, {answer.failed}"
    ]


def _case(name: str) -> dict[str, Any]:
    try:
        return _case_or_not(name)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _case_or_not(name: str) -> dict[str, Any]:
    """A case by its name, in which all dashes may be underscores, as in the names of C headers."""
    spelled = {known.replace("-", "_"): known for known in cases.names()}
    if (plain := str(name).replace("-", "_")) in spelled:
        return cases.case(spelled[plain])
    close = difflib.get_close_matches(plain, spelled, n=1)
    near = f" ({spelled[close[0]]}?)" if close else ""
    raise ValueError(f"there is no case {name!r}{near}: `numpy-rnn vectors list` names them.")


def _tier(text: str) -> str | float:
    if text in TIERS:
        return text
    try:
        tier = float(text)
    except ValueError:
        tier = math.nan
    if not 0 < tier < math.inf:
        raise click.UsageError(f"--tolerance {text}: expected {', '.join(TIERS)}, or a number above 0.")
    return tier


def _files(paths: Sequence[Path]) -> list[Path]:
    """The files themselves; of folders, those that may be answers, of a pair .bin and .txt the first."""
    found: list[Path] = []
    for path in paths:
        inside = [p for p in sorted(path.iterdir()) if p.suffix.lower() in ANSWERS] if path.is_dir() else [path]
        found += [p for p in inside if p.name != "index.json"]
    found = [p.with_suffix(".bin") if p.suffix == ".txt" and p.with_suffix(".bin").is_file() else p for p in found]
    if not found:
        raise click.UsageError(f"{', '.join(map(str, paths))}: no file of results there.")
    return list(dict.fromkeys(found))


def _report(path: Path, name: str | None, tier: str | float) -> Report:
    said, given = formats.read(path, lambda _: None)
    try:
        case = _case_or_not(name or said or path.stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    shapes = {n: tuple(t["shape"]) for n, t in case["tensors"].items()}
    return compared(case, formats.shaped(given, shapes.get), tier)


def _some(paths: Sequence[Path]) -> str:
    """A few of many files."""
    return ", ".join(map(str, paths[:3])) + (", …" if len(paths) > 3 else "")


def _several(number: int, what: str) -> str:
    """A number with its noun.

    Examples
    --------
    >>> _several(1, "case"), _several(2, "case")
    ('1 case', '2 cases')
    """
    return f"{number} {what}{'s' * (number != 1)}"


def _agree(good: int, whole: int, what: str = "case") -> str:
    return f"{good} of {_several(whole, what)} {'agrees' if whole == 1 else 'agree'}"


SIDES = {"": "", "forward": ", in forward alone,", "backward": ", in backward alone,"}
OF = {
    "all": "just these numbers come out",
    "results": "the results, not all of the steps, come out",
    "forward": "forward, these numbers come out",
    "outputs": "the states and outputs, not all of the steps, come out",
    "first": "this first wrong tensor by itself comes out",
    "backward": "backward, given your forward values, these numbers come out",
}
MOST = 4  # mistakes that are listed; where more fit, too little was given to tell


def _lines(report: Report, path: str = "") -> list[str]:
    """What to print of a report; with the file's name where it is needed to tell which."""
    name = f"{report.case} ({path})" if path else report.case
    compared = f"{_several(len(report.checked), 'tensor')} compared"
    if report.agrees:
        lines = [f"{name}: agrees, {compared}"]
    elif report.wrong:
        lines = [f"{name}: differs, {compared}"]
    elif report.checked:
        lines = [
            f"{name}: {len(report.checked)} {'agrees' if len(report.checked) == 1 else 'agree'}; not judged in full"
        ]
    else:
        lines = [f"{name}: cannot be judged, nothing that had to be computed was given"]
    for unknown, nearest in report.unknown.items():
        lines.append(f"  {unknown} is no tensor of this case" + (f": {nearest}?" if nearest else ""))
    for tensor, (got, expected) in report.shapes.items():
        lines.append(f"  {tensor} cannot be judged: {_sizes(got, expected)}")
    if report.first:
        lines.append(f"  first: {report.first}")
        lines.append(f"  {len(report.wrong)} wrong: {', '.join(report.wrong)}")
        if report.looser:
            lines.append(
                f"  everything agrees at --tolerance {report.looser}: does the port compute in float, "
                "or print fewer digits than %.17g?"
            )
        lines += _explained(report)
    if report.missing:
        lines.append(f"  not given: {', '.join(report.missing)}")
    return lines


def _explained(report: Report) -> list[str]:
    """What the wrong numbers come from."""
    causes, of, slips, backward, behind = report.explanation
    lines = [f"  {tensor} has the right numbers in the wrong place: {how}" for tensor, how in slips.items()]
    for found, what in ((causes, of), (behind, "backward")):
        for mistake, side in found[:MOST]:
            lines.append(f"  {OF[what]} when{SIDES[side]} {mistake.what} ({mistake.name})")
        if len(found) > MOST:
            lines.append(f"  … or by {len(found) - MOST} other known mistakes: give more tensors to tell them apart")
    if backward == "right":
        lines.append("  backward is right, given your forward values")
    if not causes and not behind and not slips and not report.looser:
        lines.append("  none of the known mistakes (docs/verify/bug-zoo.md) makes just these numbers")
    return lines


def _sizes(got: Sequence[int], expected: Sequence[int]) -> str:
    """What shape was expected, for one that came.

    Examples
    --------
    >>> _sizes((39,), (4, 2, 5)), _sizes((2, 4, 5), (4, 2, 5))
    ('39 values, expected 40 = 4 x 2 x 5', 'shape (2, 4, 5), expected (4, 2, 5)')
    """
    if len(got) == 1 and len(expected) != 1:
        return f"{_several(got[0], 'value')}, expected {math.prod(expected)} = {' x '.join(map(str, expected))}"
    return f"shape {tuple(got)}, expected {tuple(expected)}"


def _as_text(first: First) -> dict[str, str]:
    """Numbers that JSON may not have."""
    expected = {} if math.isfinite(first.expected) else {"expected": str(first.expected)}
    return {"got": str(first.got), **expected}


def _document(report: Report, path: str = "") -> dict[str, Any]:
    causes, of, slips, backward, behind = report.explanation
    named = [(cause, of) for cause in causes] + [(cause, "backward") for cause in behind]
    found = {key: value for key, value in report._asdict().items() if key not in ("explanation", "reference")}
    return {
        **found,
        **({"file": path} if path else {}),
        "agrees": report.agrees,
        "first": report.first and {**report.first._asdict(), **_as_text(report.first)},
        "mistakes": [{"name": m.name, "what": m.what, "side": side, "of": what} for (m, side), what in named],
        "slips": slips,
        "backward": backward,
    }
