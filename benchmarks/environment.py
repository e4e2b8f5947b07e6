"""Where the numbers come from: the machine, and the environment that a contestant's process gets."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# What makes some library slower, faster or different, and which somebody may have set: a benchmark decides itself.
TUNING = re.compile(
    r"(OPENBLAS|GOTO|MKL|KMP|OMP|GOMP|NPY|ONEDNN|DNNL|XLA|JAX|TF|TORCH|PYTORCH|ATEN|BLIS|VECLIB|NUMEXPR|ORT|TCMALLOC)_.*"
    r"|CUBLAS_.*|NVIDIA_TF32_OVERRIDE|MALLOC_.*|LD_PRELOAD|PYTHON(OPTIMIZE|MALLOC|DEVMODE|TRACEMALLOC|PROFILEIMPORTTIME)"
    r"|COVERAGE_.*"
)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
BUSY = 0.5  # a load average above this means that something else is running


def child_environment(threads: int, scratch: str, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Make the environment of a contestant's process.

    Parameters
    ----------
    threads : int
    scratch : str
        A folder for what libraries cache on disk.
    given : mapping, optional
        The environment to start from, by default this process's.

    Examples
    --------
    >>> environment = child_environment(2, "/tmp", {"HOME": "/", "OPENBLAS_CORETYPE": "Haswell"})
    >>> environment.get("OPENBLAS_CORETYPE"), environment["OMP_NUM_THREADS"]
    (None, '2')
    """
    kept = {name: value for name, value in (os.environ if given is None else given).items() if not TUNING.match(name)}
    kept |= {name: str(threads) for name in THREAD_VARIABLES}
    if threads == 1:
        kept["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return kept | {"XDG_CACHE_HOME": scratch}


def removed() -> list[str]:
    """Names of the variables that contestants do not get to see."""
    return sorted(name for name in os.environ if TUNING.match(name) and name not in THREAD_VARIABLES)


def pin(threads: int) -> None:
    """Keep this process on as many cores as it may use, where the system can: for libraries that count cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def describe(device: str) -> dict[str, Any]:
    """Describe this machine now: what stands beside every table."""
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "vector units": _vector_units(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "device": device,
        "load at start": load,
        "removed variables": removed(),
    }


def _cpuinfo(key: str) -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""


def _cpu_model() -> str:
    """Its name, which in a virtual machine may leave open which generation it is of, and on x86 family and model."""
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    numbers = [f"{key.split()[-1]} {_cpuinfo(key)}" for key in ("cpu family", "model") if _cpuinfo(key)]
    return ", ".join([name, *numbers])


def _vector_units() -> list[str]:
    known = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "asimd", "sve")
    flags = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return [name for name in known if name in flags]


def libraries() -> list[dict[str, Any]]:
    """BLAS and OpenMP of this process, without paths."""
    from threadpoolctl import threadpool_info  # type: ignore[import-untyped, unused-ignore]

    wanted = ("internal_api", "version", "architecture", "num_threads")
    return [{key: library[key] for key in wanted if library.get(key)} for library in threadpool_info()]


def torch_build() -> dict[str, str]:
    """How torch was built and what it found, if it is loaded in this process."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    text = torch.__config__.show()
    found = re.search(r"oneDNN|MKL-DNN v([\d.]+)", text)
    return {
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
        "oneDNN": (found and found.group(1)) or "",
        "mkl": str(torch.backends.mkl.is_available()),
        "threads": str(torch.get_num_threads()),
    }
