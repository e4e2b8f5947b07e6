"""What was measured, on disk: one JSON file, one measurement a line."""

from __future__ import annotations

import itertools
import json
import math
import os
import statistics
import tempfile
from collections.abc import Iterable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from .contestants import counts_calls
from .points import Point, parse
from .problem import Setting

FORMAT, VERSION = "numpy-rnn benchmarks", 1


class ResultsError(Exception):
    """A file of results cannot be used; the message says why."""


class Measurement(NamedTuple):
    """One contestant in one mode of one setting."""

    cell: str
    point: str
    dtype: str
    threads: int
    device: str
    contestant: str
    mode: str
    status: str  # "ok", "wrong", "not run"
    note: str = ""  # why it was not run, or what is wrong
    samples: tuple[float, ...] = ()  # seconds per call, of each turn
    number: int = 0  # calls in each turn
    error: float | None = None  # against float64; None if there is no reference
    tensor: str | None = None  # the worst one
    memory: int | None = None  # peak in bytes, beyond what was resident before

    @property
    def seconds(self) -> float:
        """Median of the samples; NaN if there are none."""
        return statistics.median(self.samples) if self.samples else math.nan

    @property
    def spread(self) -> float:
        """Half the distance of the quartiles, relative to the median; 0 for a single sample."""
        if len(self.samples) < 2:
            return 0.0 if self.samples else math.nan
        low, _, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return (high - low) / 2 / self.seconds

    @property
    def sizes(self) -> Point:
        """The point, read."""
        return parse(self.point)

    @property
    def setting(self) -> Setting:
        """Of the measurement."""
        return Setting(self.cell, self.sizes, self.dtype, self.threads, self.device)

    @property
    def key(self) -> tuple[Any, ...]:
        """What identifies it in a run."""
        return self[:7]


def times_as_long(a: Measurement, *b: Measurement, signs: Iterable[int] = itertools.repeat(1)) -> float:
    """How many times as long a took as all b together: the median over turns; NaN if there is none.

    In each turn contestants come right after one another, so a machine that is half as fast for a minute is so for all
    of them. A quotient of medians would compare one's good minute with another's bad one.

    Parameters
    ----------
    a, *b : Measurement
    signs : numbers 1 or -1, optional
        Which of b are added, and which are taken off.

    Examples
    --------
    >>> a, b = (Measurement("rnn", "6x3x10x20", "float32", 1, "cpu", "floor", "forward", "ok", "", s) for s in
    ...         ((3.0, 6.0, 6.0), (1.0, 2.0)))
    >>> times_as_long(a, b), times_as_long(a, a, b, signs=(1, -1))
    (3.0, 1.5)
    """
    signs = tuple(itertools.islice(signs, len(b)))
    turns = zip(a.samples, *(m.samples for m in b))
    found = [first / sum(sign * s for sign, s in zip(signs, others)) for first, *others in turns]
    return statistics.median(found) if found else math.nan


class Results(NamedTuple):
    """A run: where, who, what."""

    environment: dict[str, Any]
    processes: list[dict[str, Any]]
    measurements: list[Measurement]
    complete: bool = False

    def find(self, **wanted: Any) -> Measurement | None:
        """The measurement with these fields that has a time and is right, if there is one."""
        return next(_having(self.measurements, status="ok", **wanted), None)

    def select(self, **wanted: Any) -> list[Measurement]:
        """All measurements with these fields, whatever their status."""
        return list(_having(self.measurements, **wanted))

    def part(self, **wanted: Any) -> Results:
        """The results with these measurements only: whoever asks often asks there."""
        return self._replace(measurements=self.select(**wanted))


def _having(measurements: Iterable[Measurement], **wanted: Any) -> Iterator[Measurement]:
    """Those with these fields. A page of tables asks some thousand times, of thousands: so it compares in one go."""
    fields = attrgetter(*wanted)
    values = tuple(wanted.values()) if len(wanted) > 1 else next(iter(wanted.values()))
    return (m for m in measurements if fields(m) == values)


def measured_again(results: Results, again: Results) -> Results:
    """The results with whole settings in place of the same ones, which a later run has measured again.

    A setting that was measured again is replaced with all its contestants and modes, so that figures that are compared
    come from one run; it is named in the environment. Only what counts calls, a bound that hardly depends on the
    sizes, may be measured again by itself.

    Raises
    ------
    ResultsError
        If the two runs are of different processors.
    """
    if (machine := processor(results)) != (other := processor(again)):
        raise ResultsError(f"measured again on {other}, expected the processor of the other settings, {machine}")
    found = {(m.setting, m.contestant) for m in again.measurements}
    whole = in_order(m.setting for m in again.measurements if not counts_calls(m.contestant))
    kept = [m for m in results.measurements if m.setting not in whole and (m.setting, m.contestant) not in found]
    environment = dict(results.environment)
    environment["measured again"] = in_order([*environment.get("measured again", []), *(s.label for s in whole)])
    order = in_order(m.setting for m in (*results.measurements, *again.measurements))
    measurements = sorted([*kept, *again.measurements], key=lambda m: order.index(m.setting))
    return results._replace(environment=environment, measurements=measurements)


def processor(results: Results) -> str:
    """What figures that are compared have to come from: the GPUs, where there are any, else the CPU."""
    gpus = {process["gpu"] for process in results.processes if "gpu" in process}
    return ", ".join(sorted(gpus)) or str(results.environment.get("cpu"))


def lost(before: Results, after: Results) -> dict[Setting, list[str]]:
    """Of each setting the contestants, and their modes, that are in one file of results and not in a later one.

    Examples
    --------
    >>> forward, backward = (
    ...     Measurement("rnn", "6x3x10x20", "float32", 1, "cpu", "floor", mode, "ok", "", (3.0,))
    ...     for mode in ("forward", "forward-backward")
    ... )
    >>> found = lost(Results({}, [], [forward, backward]), Results({}, [], [forward]))
    >>> [(setting.label, what) for setting, what in found.items()]
    [('rnn 6x3x10x20 float32, 1 thread', ['floor forward-backward'])]
    """
    kept = {m.key for m in after.measurements}
    found: dict[Setting, list[str]] = {}
    for m in before.measurements:
        if m.key not in kept:
            found.setdefault(m.setting, []).append(f"{m.contestant} {m.mode}")
    return found


def in_order(values: Iterable[Any]) -> list[Any]:
    """Each value once, in the order of its first appearance."""
    return list(dict.fromkeys(values))


def save(results: Results, path: Path) -> None:
    """Write a file of results, beside and renamed: whoever reads it finds a whole one at any time."""
    head = {"format": FORMAT, "version": VERSION, "complete": results.complete}
    head |= {"environment": results.environment, "processes": results.processes}
    lines = ",\n".join(json.dumps(_plain(m), ensure_ascii=False) for m in results.measurements)
    text = json.dumps(head, indent=1, ensure_ascii=False)[:-2] + f',\n "measurements": [\n{lines}\n]}}\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(beside, 0o644)  # mkstemp makes it private
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def _plain(m: Measurement) -> dict[str, Any]:
    """Without what is empty, times to 5 digits. JSON has no infinity, so an infinite error is written as text."""
    values = {name: value for name, value in m._asdict().items() if value not in (None, "", ())}
    values["samples"] = [float(f"{s:.5g}") for s in m.samples]
    if m.error is not None:
        values["error"] = float(f"{m.error:.3g}") if math.isfinite(m.error) else str(m.error)
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
        measurements = [_measurement(values) for values in document["measurements"]]
        return Results(document["environment"], document["processes"], measurements, document["complete"])
    except (KeyError, TypeError, ValueError) as error:
        raise ResultsError(f"{path} is damaged: {type(error).__name__}: {error}") from None


def _measurement(values: dict[str, Any]) -> Measurement:
    error = values.get("error")
    samples = tuple(float(s) for s in values["samples"])
    m = Measurement(**{**values, "samples": samples, "error": None if error is None else float(error)})
    parse(m.point)
    return m
