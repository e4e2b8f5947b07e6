"""The README's section: environment, targets, tables and plots of a file of results."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from . import tables
from .results import Results, ResultsError

MARKS = {
    "cpu": ("<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"),
    "cuda": ("<!-- benchmarks on a GPU: begin -->", "<!-- benchmarks on a GPU: end -->"),
}
MOST_NAMED = 6  # more would hide the rest of the paragraph
CAPTIONS = {
    "ratio": "torch.nn's time / numpy_rnn's",
    "floor": "numpy_rnn's time / that of the matrix products alone",
    "sizes": "time against H and B",
    "steps": "time per step against T",
}


def environment(results: Results) -> str:
    """Where and when, and with what, in a paragraph."""
    e = results.environment
    units = ", ".join(e["vector units"])
    parts = [f"Measured {e['date'][:10]} on {e['cpu']}, {e['cores']} cores ({units})", e["system"]]
    found: dict[str, Any] = {"Python": e["python"]}
    for process in results.processes:
        found |= process.get("versions", {})
        torch = process.get("torch") or {}
        if torch:
            found["oneDNN in torch"] = torch.get("oneDNN", "")
            found["torch's CPU capability"] = torch.get("cpu capability", "")
        for library in process.get("libraries", []):
            if "architecture" in library:
                name = f"NumPy's {library['internal_api']}"
                found[name] = f"{library.get('version', '')} ({library['architecture']} core)"
        found |= {name: process[name] for name in ("gpu", "CUDA", "cuDNN") if name in process}
    parts += [f"{name} {version}" for name, version in found.items()]
    load = e.get("load at start")
    again = list(dict.fromkeys(e.get("measured again", ())))
    named = "; ".join(again) if len(again) <= MOST_NAMED else f"{len(again)} settings, which the file of results names"
    end = f". Measured again after the run, each as a whole: {named}" if again else ""
    end += "" if results.complete else ". The run was not complete"
    return f"{'; '.join(parts)}; load average at the start {load}{end}."


def section(
    results: Results,
    plots: Sequence[str] = (),
    tables_file: str | None = None,
    beside: Mapping[str, Results] = MappingProxyType({}),
) -> str:
    """What stands between the marks of the README: targets, plots, numpy_rnn beside torch.nn, who else there is.

    Parameters
    ----------
    results : Results
    plots : sequence of str
        Paths of the plots, as the README has to write them.
    tables_file : str, optional
        Path of the file with all tables, to name it.
    beside : dict, optional
        Results of other processors, by the names of their files.
    """
    if results.environment["device"] == "cuda":
        return _gpu_section(results, plots, tables_file)
    threads = tables.main_threads(results)
    summaries = list(tables.summaries(results, threads))
    rest = [*tables.extras(results, threads), *tables.contests(results, threads)]
    parts = [environment(results), *map(tables.markdown, tables.target_tables(results, threads))]
    parts += [f"![{CAPTIONS[Path(p).name.split('-')[0]]}]({p})" for p in plots]
    parts += [*_folded("numpy_rnn beside torch.nn and the floor", summaries), tables.LEGEND]
    by_hand = list(tables.torch_summaries(results, threads))
    parts += _folded("torch_rnn by hand, beside its own loop and torch.nn", by_hand)
    parts += _folded("layers, directions, ragged lengths; other contestants", rest)
    parts += _folded("the targets on other processors", list(tables.beside_tables(results, beside, threads)))
    if tables_file:
        what = "times in every mode, fits of time = a + b·T, errors, what was not run"
        parts.append(f"[All tables]({tables_file}): {what}.")
    return "\n\n".join(parts)


def _gpu_section(results: Results, plots: Sequence[str], tables_file: str | None) -> str:
    parts = [environment(results), *map(tables.markdown, tables.gpu_target_tables(results))]
    parts += [f"![{CAPTIONS[Path(p).name.split('-')[0]]}]({p})" for p in plots]
    parts += _folded("torch_rnn beside cuDNN", list(tables.gpu_summaries(results)))
    if tables_file:
        parts.append(f"[All tables]({tables_file}): errors, and what was not run.")
    return "\n\n".join(parts)


def everything(results: Results) -> str:
    """All tables, and what was not run, as a page of Markdown."""
    parts = ["# Benchmarks", "Written by `python -m benchmarks report`.", environment(results), tables.LEGEND]
    parts += map(tables.markdown, (*tables.all_tables(results), *tables.errors(results)))
    if problems := tables.problems(results):
        parts += ["**Wrong, or not run**", "\n".join(f"* {p}" for p in problems)]
    return "\n\n".join(parts) + "\n"


def _folded(summary: str, found: Sequence[tables.Table]) -> list[str]:
    """Tables that the reader has to open."""
    if not found:
        return []
    return [f"<details><summary>{summary}</summary>", *map(tables.markdown, found), "</details>"]


def insert(path: Path, text: str, device: str = "cpu") -> None:
    """Put a text between the marks of a file that are the device's.

    Raises
    ------
    ResultsError
        If the file cannot be read or has not both marks, once each, in order.
    """
    try:
        old = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ResultsError(f"cannot read {path}: {error.strerror}") from None
    begin, end = MARKS[device]
    if old.count(begin) != 1 or old.count(end) != 1 or old.index(begin) > old.index(end):
        raise ResultsError(f"{path} needs the lines {begin} and {end}, once each: the results go between them")
    head, tail = old.split(begin)[0], old.split(end)[1]
    new = f"{head}{begin}\n{text}\n{end}{tail}"
    beside = path.with_name(path.name + ".part")
    beside.write_text(new, encoding="utf-8")
    os.replace(beside, path)
