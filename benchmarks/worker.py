"""A contestant's process: reads commands as lines of JSON, answers each with a line of JSON.

    {"do": "setup", "setting": {…}}             → {"modes": […]}, or {"unfit": why}
    {"do": "first", "mode": …, "reference": …}  → {"seconds": …, "error": …, "tensor": …, "memory": …}
    {"do": "turn", "numbers": {mode: number}}   → {"seconds": {mode: per call}}
    {"do": "save", "path": …}                   → {"saved": path}: all results of forward-backward, as a reference
    {"do": "drop"}                              → {"dropped": true}

What goes wrong is answered with {"failed": why}. Only `run` below touches the clock.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from . import contestants, cuda
from .environment import libraries, torch_build
from .points import Point
from .problem import Setting, make, worst_error

QUIET_SLEEP, QUIET_SHARE, QUIET_LIMIT = 0.005, 0.1, 1.0
STEADY = 0.5  # seconds; a first call that takes less is done again, for what it set up must not count as memory


class Job(NamedTuple):
    """A contestant ready for a setting."""

    setting: Setting
    ready: contestants.Ready
    warm: set[str]  # modes that have run since memory was given back to the system


class Worker:
    """One contestant with one number of threads, for any settings one after the other."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.module = contestants.load(name)
        self.job: Job | None = None
        self.warm = False

    def answer(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Do one command."""
        do = command["do"]
        if do == "setup":
            return self.setup(Setting.from_json(command["setting"]))
        if do == "drop":
            self.job = None
            gc.collect()
            return {"dropped": True}
        if self.job is None:
            raise RuntimeError(f"{do} came before setup")
        if do == "first":
            return self.first(self.job, command["mode"], command["reference"])
        if do == "turn":
            return self.turn(self.job, command["numbers"])
        arrays = self.job.ready.arrays(self.job.ready.calls["forward-backward"]())
        np.savez(command["path"], **arrays)  # type: ignore[arg-type, unused-ignore]
        return {"saved": command["path"]}

    def setup(self, setting: Setting) -> dict[str, Any]:
        """Prepare the contestant; the former setting's arrays are freed first."""
        self.job = None
        gc.collect()
        precision = cuda.set_precision(setting.dtype) if setting.device == "cuda" else {}
        self.warm_up(setting)
        problem = make(setting.cell, contestants.point_of(self.name, setting.point), setting.dtype)
        try:
            ready = self.module.prepare(problem, setting.threads, setting.device)
        except contestants.UnfitError as why:
            return {"unfit": str(why)}
        self.job = Job(setting, ready, set())
        process = {"contestant": self.name, "threads": setting.threads, "versions": contestants.versions(self.name)}
        # Asked here, not at the start: some libraries load their BLAS late.
        process |= {"libraries": libraries(), "torch": torch_build(), **precision}
        process |= cuda.description() if setting.device == "cuda" else {}
        return {"modes": list(ready.calls), "process": process}

    def warm_up(self, setting: Setting) -> None:
        """Run something tiny once in this process: some libraries import and allocate a lot when they first work."""
        if self.warm:
            return
        self.warm = True
        tiny = make("rnn", Point(3, 2, 3, 4), "float32")
        with contextlib.suppress(contestants.UnfitError):
            for call in self.module.prepare(tiny, setting.threads, setting.device).calls.values():
                call()
        gc.collect()
        gc.freeze()  # the libraries' own objects need no further look: with torch that would take a tenth of a second

    def first(self, job: Job, mode: str, reference: str | None) -> dict[str, Any]:
        """Calls that warm up; error, memory (of short ones the median of three) and about how long a call takes."""
        call = job.ready.calls[mode]
        job.warm.clear()
        result, memory, seconds = measured_memory(call, job.setting.device)
        error, tensor = None, None
        if reference:
            with np.load(reference) as arrays:
                error, tensor = worst_error(job.ready.arrays(result), arrays, mode)
        del result
        if seconds < STEADY:
            again = [measured_memory(call, job.setting.device)[1:] for _ in range(3)]
            memory = sorted(peak for peak, _ in again if peak is not None)[1] if memory is not None else None
            seconds = min(seconds, *(s for _, s in again))
        wait_until_quiet()
        return {"seconds": seconds, "error": error, "tensor": tensor, "memory": memory}

    def turn(self, job: Job, numbers: Mapping[str, int]) -> dict[str, Any]:
        """Sample each mode once: as many calls as `numbers` says, after one that does not count if they are short, or
        if memory was given back to the system before, as it is in order to measure it.
        """
        seconds = {}
        for mode, number in numbers.items():
            call = job.ready.calls[mode]
            if number > 1 or mode not in job.warm:
                call()
                job.warm.add(mode)
            seconds[mode] = run(call, number, job.setting.device)
        wait_until_quiet()
        return {"seconds": seconds}


def run(call: Callable[[], Any], number: int, device: str) -> float:
    """Seconds per call."""
    gc.collect()
    gc.disable()
    try:
        if device == "cuda":
            return cuda.seconds(call, number)
        start = time.perf_counter()
        for _ in itertools.repeat(None, number):
            call()
        return (time.perf_counter() - start) / number
    finally:
        gc.enable()


def measured_memory(call: Callable[[], Any], device: str) -> tuple[Any, int | None, float]:
    """Call once; what it returns, the peak of memory beyond what was resident before (None if unknown), and seconds.

    The result is alive at the peak, as it is in anyone's program.
    """
    gc.collect()
    if device == "cuda":
        start = time.perf_counter()
        result, peak = cuda.peak_memory(call)
        return result, peak, time.perf_counter() - start
    _give_back()
    before = _reset_peak()
    start = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - start
    return result, None if before is None else max(0, _status("VmHWM") - before), seconds


def _give_back() -> None:
    """Let the C library return freed memory to the system: what an earlier call left behind would hide this one's."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _reset_peak() -> int | None:
    """Let Linux forget this process's highest memory; what is resident now, in bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return None


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {key}")


def wait_until_quiet() -> None:
    """Wait until no thread of this process computes: threads of BLAS and OpenMP spin a while before they sleep."""
    deadline, still = time.perf_counter() + QUIET_LIMIT, 0
    while still < 2 and time.perf_counter() < deadline:
        before = time.process_time()
        time.sleep(QUIET_SLEEP)
        still = still + 1 if time.process_time() - before < QUIET_SHARE * QUIET_SLEEP else 0


def serve(name: str, commands: TextIO, answers: TextIO) -> None:
    """Answer commands until there are no more."""

    def send(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        worker = Worker(name)
    except Exception as error:
        send({"failed": _sentence(error)})
        return
    send({"ready": name})
    for line in commands:
        try:
            answer = worker.answer(json.loads(line))
        except Exception as error:
            answer = {"failed": _sentence(error)}
        send(answer)


def _sentence(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__


def main() -> None:
    """Serve on standard input and output; what libraries print goes to standard error."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
            serve(sys.argv[1], sys.stdin, answers)


if __name__ == "__main__":
    main()
