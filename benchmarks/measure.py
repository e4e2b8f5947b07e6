"""The contest: processes that take turns, each setting until there are enough samples."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .child import Child, ChildError
from .contestants import CONTESTANTS, missing
from .plan import Task
from .points import GATES, Point
from .problem import MODES, Setting, bound
from .results import Measurement
from .targets import LEAST_MEMORY

SAMPLE = 0.015  # seconds that a sample lasts at least, so that the clock and the odd interruption do not show
# A mode whose call takes longer than this many seconds gets so many samples; 0: the first call is the sample.
FEWER = ((5.0, 0), (1.0, 2), (0.3, 3))
ALONE = 5  # processes that do nothing else, of whose peaks of memory the median counts where these are compared
JUDGE = 0  # in place of a number of threads: the process that makes references, apart from the contestant's
REFERENCE = 2**31  # bytes that a reference takes at most: more would take longer than what is measured
LONG = 10_000  # steps from which the reference is numpy_rnn's: torch.nn would take minutes


@dataclass
class Entry:
    """A measurement in the making."""

    contestant: str
    mode: str
    status: str = "ok"
    note: str = ""
    first: float = math.nan  # seconds of a warm call, about
    samples: list[float] = field(default_factory=list)
    error: float | None = None
    tensor: str | None = None
    memory: int | None = None

    @property
    def number(self) -> int:
        """Calls per sample."""
        return max(1, min(10_000, math.ceil(SAMPLE / max(self.first, 1e-9))))

    def fail(self, why: object) -> None:
        """Give up; samples so far do not count, for they are fewer than the others'."""
        self.status, self.note, self.samples = "not run", str(why), []


class Contest:
    """All processes of a run, and what they have shown so far. Use it in a `with`: it ends the processes.

    Parameters
    ----------
    repeats : int
        Samples of each mode; slow ones get fewer, see `FEWER`.
    limit : float
        Seconds that a single call may take.
    scratch : Path
        A folder for reference results and for what libraries cache.
    say : function of str
        Told what is going on.
    """

    def __init__(self, repeats: int, limit: float, scratch: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self.repeats, self.limit, self.scratch, self.say = repeats, limit, scratch, say
        self.processes: list[dict[str, Any]] = []  # what they are, for the record
        self._children: dict[tuple[str, int], Child] = {}
        self._references: dict[tuple[str, Point, str], Path | None] = {}
        self._history: dict[tuple[Any, ...], tuple[int, float, int | None]] = {}

    def __enter__(self) -> Contest:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children.values():
            child.close()
        self._children.clear()

    def measure(self, task: Task) -> list[Measurement]:
        """Let the contestants of a task take turns until each mode has its samples."""
        self._start(task)
        entries: list[Entry] = []
        for contestant in task.contestants:
            entries += self._first(contestant, task)
        for turn in range(self.repeats):
            # Another one begins each time, so that nobody always comes after the same one.
            start = turn % len(task.contestants)
            for contestant in (*task.contestants[start:], *task.contestants[:start]):
                due = [e for e in entries if e.contestant == contestant and turn < samples_wanted(e, self.repeats)]
                if due:
                    self._turn(contestant, task.setting, due)
        for contestant in task.contestants:
            self._drop(contestant, task.setting.threads)
        self._remember(task.setting, entries)
        for entry in entries:
            judged = entry.contestant in task.alone and entry.mode == MODES[-1] and entry.status == "ok"
            if judged and entry.memory is not None and entry.memory >= LEAST_MEMORY:
                entry.memory = self._memory_alone(entry, task.setting)
        return [_measurement(e, task.setting) for e in entries]

    def _first(self, contestant: str, task: Task) -> list[Entry]:
        """Set a contestant up and let it make its first calls."""
        setting = task.setting
        self.say(f"{setting.label}: {contestant}")
        entries = [Entry(contestant, mode) for mode in task.modes]
        for entry in entries:
            if why := self._foreseen(setting, entry):
                entry.fail(why)
        to_run = [e for e in entries if e.status == "ok"]
        try:
            modes = self._set_up(contestant, setting)["modes"] if to_run else []
        except ChildError as why:
            for entry in to_run:
                entry.fail(why)
            return entries
        lacking = [e for e in to_run if e.mode not in modes]
        for entry in to_run:
            if entry not in lacking:
                self._first_call(entry, setting)
        if not any(samples_wanted(e, self.repeats) for e in entries):
            self._drop(contestant, setting.threads)
        return [e for e in entries if e not in lacking]

    def _first_call(self, entry: Entry, setting: Setting) -> None:
        reference = self._reference(entry.contestant, setting)
        try:
            answer = self._ask(entry.contestant, setting, 2, do="first", mode=entry.mode, reference=reference)
        except ChildError as why:
            entry.fail(why)
            return
        entry.first, entry.memory = answer["seconds"], answer["memory"]
        entry.error, entry.tensor = answer["error"], answer["tensor"]
        if entry.error is not None and not entry.error <= bound(setting.dtype, setting.point):
            entry.status, entry.note = "wrong", f"{entry.tensor} is off by {entry.error:.1e}"
        if entry.status == "ok" and samples_wanted(entry, self.repeats) == 0:
            entry.samples = [entry.first]

    def _memory_alone(self, entry: Entry, setting: Setting) -> int | None:
        """The peak of a process that does nothing else: what others leave in the heap can be a third of it.

        Even so autograd over the loop needed 61 to 76 MiB for the same call: hence the median of a few.
        """
        self.say(f"{setting.label}: memory of {entry.contestant}")
        peaks = []
        for _ in range(ALONE):
            child = Child(entry.contestant, setting.threads, self.scratch)
            try:
                child.ask(60 + 5 * self.limit, do="setup", setting=setting.to_json())
                answer = child.ask(10 + 5 * self.limit, do="first", mode=entry.mode, reference=None)
            except ChildError as why:
                self.say(f"memory of {entry.contestant}: {why}")
                return entry.memory
            finally:
                child.close()
            peaks.append(answer["memory"])
        return None if None in peaks else sorted(peaks)[ALONE // 2]

    def _turn(self, contestant: str, setting: Setting, due: list[Entry]) -> None:
        numbers = {e.mode: e.number for e in due}
        calls = sum(e.number * e.first / self.limit for e in due)
        try:
            seconds = self._ask(contestant, setting, 5 + 5 * calls, do="turn", numbers=numbers)["seconds"]
        except ChildError as why:
            for entry in due:
                entry.fail(why)
            return
        for entry in due:
            entry.samples.append(seconds[entry.mode])

    # ---- processes

    def _start(self, task: Task) -> None:
        """Start the processes that a task needs and that are not there, all at a time: imports take seconds."""
        judges = {by for c in task.contestants if (by := judge(c, task.setting))}
        wanted = [(c, task.setting.threads) for c in task.contestants] + [(by, JUDGE) for by in sorted(judges)]
        new = [key for key in wanted if key not in self._children]
        for contestant, threads in new:
            self.say(f"starting {contestant}")
            self._child(contestant, threads)
        for key in new:
            with contextlib.suppress(ChildError):  # it is started once more when its turn comes, and says why then
                self._children[key].wait()

    def _child(self, contestant: str, threads: int) -> Child:
        """A process that lives."""
        key = contestant, threads
        child = self._children.get(key)
        if child is None or not child.alive:
            if child is not None:
                child.close()
            child = self._children[key] = Child(contestant, 2 if threads == JUDGE else threads, self.scratch)
        return child

    def _set_up(self, contestant: str, setting: Setting) -> dict[str, Any]:
        """Make a contestant's process ready for a setting, starting it if need be; no modes if it takes no part."""
        child = self._child(contestant, setting.threads)
        answer = child.ask(60 + 5 * self.limit, do="setup", setting=setting.to_json())
        child.setting = setting
        process = answer.get("process")
        if process and process not in self.processes:
            self.processes.append(process)
        return {"modes": [], **answer}

    def _ask(self, contestant: str, setting: Setting, calls: float, **command: Any) -> dict[str, Any]:
        """Ask a contestant that is, or is made, ready for a setting; it has the time of so many calls."""
        child = self._children.get((contestant, setting.threads))
        if child is None or not child.alive or child.setting != setting:
            self._set_up(contestant, setting)
        return self._children[contestant, setting.threads].ask(10 + calls * self.limit, **command)

    def _drop(self, contestant: str, threads: int) -> None:
        """Let a contestant free its arrays."""
        child = self._children.get((contestant, threads))
        if child is not None and child.alive and child.setting is not None:
            child.setting = None
            try:
                child.ask(60, do="drop")
            except ChildError:
                child.close()

    # ---- reference results

    def _reference(self, contestant: str, setting: Setting) -> str | None:
        """A file with the right results for a contestant to compare with, or None if there are none."""
        by = judge(contestant, setting)
        if by is None:
            return None
        key = (setting.cell, setting.point, by)
        if key not in self._references:
            for other in [k for k in self._references if k[:2] != key[:2]]:
                if old := self._references.pop(other):
                    old.unlink()
            self._references[key] = self._make_reference(setting, by)
        path = self._references[key]
        return None if path is None else str(path)

    def _make_reference(self, setting: Setting, by: str) -> Path | None:
        if memory_needed(setting) > min(available_memory() / 2, REFERENCE):
            return None
        self.say(f"{setting.cell} {setting.point.name}: float64 reference by {by}")
        path = self.scratch / f"reference-by-{by}.npz"
        exact = setting._replace(dtype="float64", threads=2, device="cpu")
        try:
            child = self._child(by, JUDGE)
            child.ask(60 + 5 * self.limit, do="setup", setting=exact.to_json())
            child.ask(60 + 10 * self.limit, do="save", path=str(path))
            child.ask(60, do="drop")
        except ChildError as why:
            self.say(f"no reference for {setting.cell} {setting.point.name}: {why}")
            return None
        return path

    # ---- what smaller T foretells

    def _foreseen(self, setting: Setting, entry: Entry) -> str | None:
        """Why a call would take too long or too much memory, judged by the same sizes with fewer steps."""
        before = self._history.get(_family(setting, entry))
        if before is None or before[0] >= setting.point.T:
            return None
        T, seconds, memory = before
        times = setting.point.T / T
        if seconds * times > self.limit:
            if math.isinf(seconds):
                return f"not at T = {T} either"
            return f"about {seconds * times:.0f} s a call foreseen from T = {T}, more than {self.limit:g} s"
        if memory and memory * times > 0.8 * available_memory():
            return f"about {memory * times / 2**30:.0f} GiB foreseen from T = {T}"
        return None

    def _remember(self, setting: Setting, entries: list[Entry]) -> None:
        for entry in entries:
            seconds = math.inf if entry.status == "not run" else entry.first
            self._history[_family(setting, entry)] = (setting.point.T, seconds, entry.memory)


def _family(setting: Setting, entry: Entry) -> tuple[Any, ...]:
    return (entry.contestant, entry.mode, setting._replace(point=setting.point._replace(T=0)))


def samples_wanted(entry: Entry, repeats: int) -> int:
    """How many turns a mode gets.

    Examples
    --------
    >>> [samples_wanted(Entry("floor", "forward", first=t), 7) for t in (0.001, 0.5, 2, 10)]
    [7, 3, 2, 0]
    """
    if entry.status != "ok":
        return 0
    return next((min(few, repeats) for seconds, few in FEWER if entry.first > seconds), repeats)


def judge(contestant: str, setting: Setting) -> str | None:
    """Whose float64 results a contestant is compared with: torch.nn's, and nobody's own.

    Examples
    --------
    >>> point = Point(6, 3, 10, 20)
    >>> judge("numpy_rnn", Setting("rnn", point, "float64", 1)), judge("torch.nn", Setting("rnn", point, "float64", 1))
    ('torch.nn', 'numpy_rnn')
    """
    if contestant in CONTESTANTS and CONTESTANTS[contestant].bound:
        return None
    by = "numpy_rnn" if setting.point.T > LONG or missing("torch.nn") else "torch.nn"
    if contestant == by and setting.dtype == "float64":
        return None if by == "numpy_rnn" else "numpy_rnn"
    return by


def memory_needed(setting: Setting) -> float:
    """Bytes that a float64 reference takes, roughly: every gate, state and their gradients of every step."""
    T, B, I, H, L, D, _ = setting.point
    return 8.0 * T * B * (4 * I + L * D * H * (6 + 4 * GATES[setting.cell]))


def available_memory() -> float:
    """Bytes that are free; infinite where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), math.inf)


def _measurement(entry: Entry, setting: Setting) -> Measurement:
    samples, number = tuple(entry.samples), entry.number if len(entry.samples) > 1 else 1
    return Measurement(
        setting.cell,
        setting.point.name,
        setting.dtype,
        setting.threads,
        setting.device,
        entry.contestant,
        entry.mode,
        entry.status,
        entry.note,
        samples,
        number if samples else 0,
        entry.error,
        entry.tensor,
        entry.memory,
    )
