"""The contest: processes that take turns, one setting after the other."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .contestants import BEFORE, missing
from .environment import contestant_environment
from .measurements import Measurement
from .points import Point
from .problem import Setting
from .worker import Failure, Prepared, serve

LIMIT = 180.0  # seconds that one command may take
SAMPLE = 0.015  # seconds that a sample lasts at least, so that the clock and the odd interruption do not show
SLOW, FEW = 1.0, 3  # who takes longer than that many seconds gets no more than so many turns


class ChildError(Exception):
    """A contestant's process failed; the message says how."""


class Child:
    """A process that serves one contestant with a number of threads; it looks into the folders of `path` first."""

    def __init__(self, name: str, threads: int, scratch: Path, path: Sequence[str] = ()) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(name, threads, path, theirs), daemon=True)
        with contestant_environment(threads, scratch):
            self._process.start()
        theirs.close()
        self._description: Any = None  # the first answer, which comes unasked

    def describe(self) -> dict[str, Any]:
        """What the process has loaded; waits until it has, and fails as `ask` if it could not."""
        if self._description is None:
            self._description = self._receive()
        return dict(_checked(self._description))

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of its `Worker`.

        Raises
        ------
        ChildError
            If that failed, or the process ended or is still busy after the time that is allowed. The process is of no
            use after the last two; `alive` tells.
        """
        self.describe()
        with contextlib.suppress(BrokenPipeError):  # there is no answer then
            self._pipe.send((method, arguments))
        return _checked(self._receive())

    def _receive(self) -> Any:
        if not self._pipe.poll(LIMIT):
            self.close()
            raise ChildError(f"took more than {LIMIT:.0f} s")
        try:
            return self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            raise ChildError(f"its process ended with status {self._process.exitcode}") from None

    @property
    def alive(self) -> bool:
        """Whether it can be asked more."""
        return self._process.is_alive()

    def close(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _checked(answer: Any) -> Any:
    if isinstance(answer, Failure):
        raise ChildError(answer.why)
    return answer


class Contest:
    """All processes of a run. Use it in a `with`, which ends them.

    Parameters
    ----------
    turns : int
        Samples of each mode; slow ones get fewer.
    scratch : Path
        A folder for reference results and for what libraries cache.
    before : Path, optional
        Another checkout, from which contestants come whose names end in "-before".
    say : function of str
        Told what is going on.
    """

    def __init__(
        self, turns: int, scratch: Path, before: Path | None = None, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.turns, self.scratch, self.before, self.say = turns, scratch, before, say
        self.contestants: dict[str, dict[str, Any]] = {}  # what each has loaded
        self._children: dict[tuple[str, int, bool], Child] = {}
        self._references: dict[tuple[str, str, Point], Path] = {}

    def __enter__(self) -> Contest:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children.values():
            child.close()
        self._children.clear()

    def measure(self, setting: Setting, names: Sequence[str], modes: Sequence[str]) -> list[Measurement]:
        """Let contestants take turns until each mode has its samples."""
        cell, point, dtype, threads, _ = setting
        found = {name: Measurement(cell, str(point), dtype, threads, name) for name in names}
        numbers: dict[str, dict[str, int]] = {}  # calls in a sample, by contestant and mode
        turns: dict[str, int] = {}
        self._start(names, threads)
        for name, m in found.items():
            self.say(f"{setting}: {name}")
            try:
                first: Prepared = self._child(name, threads).ask(
                    "prepare", setting, modes, self._reference(name, setting)
                )
            except ChildError as why:
                m.note = str(why)
                continue
            m.error, m.memory, m.note = first.error, first.memory, first.wrong and f"WRONG: {first.wrong}"
            if not m.note and first.seconds:
                numbers[name] = {mode: math.ceil(SAMPLE / s) for mode, s in first.seconds.items()}
                turns[name] = self.turns if sum(first.seconds.values()) < SLOW else min(FEW, self.turns)
        for turn in range(self.turns):
            # Another one begins each time, so that nobody always comes after the same one.
            start = turn % len(names)
            for name in (*names[start:], *names[:start]):
                if turn < turns.get(name, 0):
                    self._turn(found[name], numbers[name])
        for name in names:
            with contextlib.suppress(ChildError):
                self._child(name, threads).ask("release")
        return [m for m in found.values() if m.seconds or m.note]

    def _turn(self, m: Measurement, numbers: dict[str, int]) -> None:
        if m.note:
            return
        try:
            seconds: dict[str, float] = self._child(m.contestant, m.threads).ask("turn", numbers)
        except ChildError as why:
            m.note, m.seconds = str(why), {}
            return
        for mode, s in seconds.items():
            m.seconds.setdefault(mode, []).append(s)

    # ---- processes

    def _start(self, names: Sequence[str], threads: int) -> None:
        """Start the processes that are not there, all at a time: imports take seconds. Wait until they are quiet."""
        children = {name: self._child(name, threads) for name in names}
        for name, child in children.items():
            self.say(f"starting {name}")
            with contextlib.suppress(ChildError):  # it is asked once more when its turn comes, and says why then
                self.contestants.setdefault(name, child.describe())

    def _child(self, name: str, threads: int, judge: bool = False) -> Child:
        """A process that lives: the contestant's, or the one that makes a reference by it."""
        key = name, threads, judge
        if key not in self._children or not self._children[key].alive:
            path = [str(self.before)] if name.endswith(BEFORE) else []
            self._children[key] = Child(name, threads, self.scratch, path)
        return self._children[key]

    def _reference(self, name: str, setting: Setting) -> Path | None:
        """A file with float64 results by torch.nn; for torch.nn itself by numpy_rnn: nobody is judged by himself."""
        if name == "floor":
            return None
        judge = "numpy_rnn" if name == "torch.nn" or missing("torch.nn") else "torch.nn"
        if judge == name:
            return None
        key = judge, setting.cell, setting.point
        if key not in self._references:
            for old in [k for k in self._references if k[0] == judge]:
                self._references.pop(old).unlink()
            path = self.scratch / f"{judge}.npz"
            exact = setting._replace(dtype="float64", threads=2, device="cpu")
            child = self._child(judge, 2, judge=True)
            child.ask("save", exact, path)
            child.ask("release")
            self._references[key] = path
        return self._references[key]
