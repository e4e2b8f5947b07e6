"""What was measured, and how it is kept: one JSON file, one contestant in one setting a line."""

from __future__ import annotations

import json
import math
import os
import statistics
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .points import parse
from .problem import Setting

FORMAT, VERSION = "numpy-rnn benchmarks", 2


class ResultsError(Exception):
    """A file of results cannot be used; the message says why."""


@dataclass
class Measurement:
    """One contestant in one setting."""

    cell: str
    point: str
    dtype: str
    threads: int
    contestant: str
    seconds: dict[str, list[float]] = field(default_factory=dict)  # by mode: of a call, in each turn
    error: float | None = None  # the worst of all values and gradients against float64
    memory: int | None = None  # peak of the last mode in bytes, beyond what was resident before
    note: str = ""  # why there are no times


@dataclass
class Results:
    """A run: where, and what."""

    environment: dict[str, Any]
    contestants: dict[str, dict[str, Any]] = field(default_factory=dict)  # versions and libraries of each
    measurements: list[Measurement] = field(default_factory=list)
    complete: bool = False

    def find(self, **wanted: Any) -> Measurement | None:
        """The first measurement with these fields."""
        found = (m for m in self.measurements if all(getattr(m, key) == value for key, value in wanted.items()))
        return next(found, None)

    def ratio(self, slow: str, fast: str, mode: str, **setting: Any) -> float | None:
        """How many times as long `slow` takes as `fast`: the median over turns, or None if that was not measured.

        In a turn contestants come right after one another, so a machine that is slow for a minute is so for all of
        them; a quotient of medians would compare one's good minute with another's bad one.
        """
        both = (self.find(contestant=name, **setting) for name in (slow, fast))
        turns = zip(*(m.seconds.get(mode, []) if m else [] for m in both))
        return statistics.median(found) if (found := [a / b for a, b in turns]) else None

    @property
    def threads(self) -> int:
        """The most threads with which float32 was measured: what pages and targets are about."""
        return max((m.threads for m in self.measurements if m.dtype == "float32"), default=1)

    @property
    def settings(self) -> list[Setting]:
        """Every setting that was measured, once."""
        device = self.environment["device"]
        found = (Setting(m.cell, parse(m.point), m.dtype, m.threads, device) for m in self.measurements)
        return list(dict.fromkeys(found))


def save(results: Results, path: Path) -> None:
    """Write a file of results beside and rename it, so that there is a whole one at any time."""
    lines = ",\n".join(json.dumps(_compact(m)) for m in results.measurements)
    head = {"format": FORMAT, "version": VERSION, "complete": results.complete, "environment": results.environment}
    contestants = ",\n".join(f"  {json.dumps(name)}: {json.dumps(c)}" for name, c in results.contestants.items())
    text = json.dumps(head, indent=1)[:-2]
    text += f',\n "contestants": {{\n{contestants}\n }},\n "measurements": [\n{lines}\n]}}\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(beside, 0o644)  # mkstemp makes it private
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def _compact(m: Measurement) -> dict[str, Any]:
    """Without what is empty; times to 4 digits, errors to 2. JSON has no infinity, which is written as text."""
    values = {key: value for key, value in asdict(m).items() if value not in (None, "", {})}
    if m.seconds:
        values["seconds"] = {mode: [float(f"{s:.4g}") for s in seconds] for mode, seconds in m.seconds.items()}
    if m.error is not None:
        values["error"] = float(f"{m.error:.2g}") if math.isfinite(m.error) else str(m.error)
    return values


def load(path: Path) -> Results:
    """Read a file of results.

    Raises
    ------
    ResultsError
        If it is not there or is none of this version.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultsError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ResultsError(f"{path} is not JSON: {error}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ResultsError(f"{path} holds no results of these benchmarks")
    if document.get("version") != VERSION:
        raise ResultsError(f"{path} has version {document.get('version')} of the format, expected {VERSION}")
    try:
        measurements = [Measurement(**values) for values in document["measurements"]]
        for m in measurements:
            parse(m.point)
            m.error = None if m.error is None else float(m.error)
        return Results(document["environment"], document["contestants"], measurements, document["complete"])
    except (KeyError, TypeError, ValueError) as error:
        raise ResultsError(f"{path} is damaged: {type(error).__name__}: {error}") from None
