"""The machine, and the environment variables that contestants get."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# What makes one library slower or faster and leaves another alone, such as OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE.
TUNING = re.compile(
    "(OPENBLAS|GOTO|MKL|KMP|OMP|GOMP|BLIS|NPY|ONEDNN|DNNL|XLA|JAX|TORCH|ATEN|ORT|CUBLAS|MALLOC)_"
    "|NVIDIA_TF32_OVERRIDE|LD_PRELOAD"
)
BUSY = 0.5  # a load average above this means that other programs run


@contextlib.contextmanager
def contestant_environment(threads: int, scratch: Path) -> Iterator[None]:
    """Set the environment for a process that starts now; libraries may cache files in the scratch folder."""
    before = dict(os.environ)
    for name in tuning_variables():
        del os.environ[name]
    os.environ |= {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ["XDG_CACHE_HOME"] = str(scratch)
    if threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def tuning_variables() -> list[str]:
    """Names of the variables that contestants do not get to see."""
    return sorted(name for name in os.environ if TUNING.match(name))


def load_average() -> float | None:
    """Processes that computed or wanted to, on average over the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def describe(device: str) -> dict[str, Any]:
    """What has to be known of the machine to read the results."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes"),
        "device": device,
        "cpu": _cpu(),
        "cores": cores,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load at start": load_average(),
    }


def _cpu() -> str:
    """The processor's name, and its family and model, for virtual machines often leave open what it is."""
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            found.setdefault(key.strip(), value.strip())
    name = found.get("model name") or platform.processor() or platform.machine()
    return ", ".join([name, *(f"{key.split()[-1]} {found[key]}" for key in ("cpu family", "model") if key in found)])
