"""A contestant's process: it does what it is asked through a pipe, and only here is the clock read."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.metadata
import itertools
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .contestants import UnfitError, contestant
from .points import Point
from .problem import Array, Setting, bound, make_problem, names, worst_error

QUIET_SLEEP, QUIET_SHARE, QUIET_LIMIT = 0.005, 0.1, 1.0


class Failure(NamedTuple):
    """What a process answers when a command failed."""

    why: str


class Prepared(NamedTuple):
    """What a contestant's first calls in a setting have shown."""

    seconds: dict[str, float]  # of a call in each mode, about
    error: float | None  # worst of all modes; None if there is nothing to compare
    memory: int | None  # peak in bytes of the last mode, beyond what was resident before
    wrong: str = ""  # what is wrong, if the error is beyond rounding


class Worker:
    """One contestant, for any settings one after the other."""

    def __init__(self, name: str, threads: int) -> None:
        self.name, self.threads, self.device = name, threads, "cpu"
        self.calls: Mapping[str, Callable[[], tuple[Any, ...]]] = {}
        # Some libraries import and allocate a lot when they first work.
        for call in self._prepare(Setting("rnn", Point(3, 2, 3, 4), "float32", threads)).values():
            call()
        gc.collect()
        gc.freeze()  # so that no later collection looks at the libraries' own objects, which takes torch 0.1 s

    def _prepare(self, setting: Setting) -> Mapping[str, Callable[[], tuple[Any, ...]]]:
        return contestant(self.name).prepare(make_problem(setting))

    def prepare(self, setting: Setting, modes: Sequence[str], reference: Path | None) -> Prepared:
        """Make the contestant ready for a setting and call each mode; compare results with those in a file."""
        self.release()
        calls = self._prepare(setting)
        self.device, self.calls = setting.device, {mode: calls[mode] for mode in modes if mode in calls}
        wanted = load(reference) if reference else []
        seconds, worst, memory, wrong = {}, None, None, ""
        for mode, call in self.calls.items():
            call()  # libraries set themselves up in their first call, which must not count as memory
            results, memory = watch(call)
            if wanted and results:
                error, k = worst_error(list(map(to_numpy, results)), wanted)
                worst = max(error, worst or 0.0)
                if error > bound(setting):
                    wrong = f"{names(make_problem(setting))[k]} is off by {error:.1e}"
            del results
            call()  # takes back the memory that was given to the system
            seconds[mode] = self._seconds(call, 1)
        wait_until_quiet()
        return Prepared(seconds, worst, memory, wrong)

    def turn(self, numbers: Mapping[str, int]) -> dict[str, float]:
        """Seconds per call of each mode, by so many calls; short ones are called once before the clock runs."""
        seconds = {}
        for mode, number in numbers.items():
            if number > 1:
                self.calls[mode]()
            seconds[mode] = self._seconds(self.calls[mode], number)
        wait_until_quiet()
        return seconds

    def _seconds(self, call: Callable[[], Any], number: int) -> float:
        """Seconds per call, without garbage collection; on a GPU until all that was launched has been done.

        One thread is timed by the processor's clock, which stands still while other programs have the core.
        """
        clock = time.process_time if self.threads == 1 and self.device == "cpu" else time.perf_counter
        gc.collect()
        gc.disable()
        try:
            start = clock()
            for _ in itertools.repeat(None, number):
                call()
            if self.device == "cuda":
                importlib.import_module("torch").cuda.synchronize()
            return (clock() - start) / number
        finally:
            gc.enable()

    def save(self, setting: Setting, path: Path) -> None:
        """Write all results of a setting into a file, as a reference for others."""
        np.savez(path, *map(to_numpy, self._prepare(setting)["forward-backward"]()))

    def release(self) -> None:
        """Free the arrays of the last setting."""
        self.calls = {}
        gc.collect()

    def describe(self) -> dict[str, Any]:
        """Versions of the packages, and the BLAS and OpenMP libraries that this process has loaded."""
        from threadpoolctl import threadpool_info  # type: ignore[import-untyped, unused-ignore]

        packages = dict.fromkeys(("numpy", *contestant(self.name).packages))
        wanted = ("internal_api", "version", "architecture")
        blas = [" ".join(str(library[k]) for k in wanted if library.get(k)) for library in threadpool_info()]
        described: dict[str, Any] = {
            "versions": {p: importlib.metadata.version(p) for p in packages},
            "libraries": sorted(set(blas)),
        }
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            described["gpu"] = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
            described["gpu"] += f", cuDNN {torch.backends.cudnn.version()}"
        return described


def to_numpy(z: Any) -> Array:
    """Copy an array or tensor of any library, in float64, which holds every number of the others."""
    if hasattr(z, "detach"):  # torch's; NumPy has no bfloat16
        z = z.detach().cpu().double()
    return np.asarray(z, np.float64)


def load(path: Path) -> list[Array]:
    """Read what `Worker.save` wrote."""
    with np.load(path) as arrays:
        return list(arrays.values())


def watch(call: Callable[[], Any]) -> tuple[Any, int | None]:
    """Call once; what it returns, and by how many bytes memory rose meanwhile, None where the system does not tell.

    The results are alive at the peak, as in anyone's program.
    """
    gc.collect()
    before = _forget_peak()
    results = call()
    return results, None if before is None else max(0, _resident("VmHWM") - before)


def _forget_peak() -> int | None:
    """Give freed memory back, which would hide what a call takes, and let Linux forget the peak; bytes resident now."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        return _resident("VmRSS")
    except (OSError, AttributeError):
        return None


def _resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))


def wait_until_quiet() -> None:
    """Wait until no thread of this process computes: those of BLAS and OpenMP spin for a while before they sleep."""
    deadline, quiet = time.perf_counter() + QUIET_LIMIT, 0
    while quiet < 2 and time.perf_counter() < deadline:
        before = time.process_time()
        time.sleep(QUIET_SLEEP)
        quiet = quiet + 1 if time.process_time() - before < QUIET_SHARE * QUIET_SLEEP else 0


def serve(name: str, threads: int, path: Sequence[str], pipe: Connection) -> None:
    """Answer commands, (method, arguments), until the pipe is closed; the first answer says that all is imported."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    sys.path[:0] = path
    import numpy_rnn

    # For all contestants alike: a process that returns freed memory pays for fresh pages at every call. Older versions,
    # which `--before` may name, did this on import.
    getattr(numpy_rnn, "keep_freed_memory", lambda: None)()
    worker: Any = None
    method, arguments = "describe", ()
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            try:
                worker = worker or Worker(name, threads)
                answer = getattr(worker, method)(*arguments)
            except UnfitError as unfit:
                answer = Failure(str(unfit))
            except Exception as error:
                answer = Failure(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}")
            pipe.send(answer)
            method, arguments = pipe.recv()
