"""On request: a layer call no longer asks the operating system for the same memory again and again.

The GNU C library takes the memory of large arrays from the system one by one and hands it back at once when they are
freed: every call of a layer then pays for fresh pages, which can take as long as the arithmetic. `keep_freed_memory`
tells it to keep freed memory for the next call, by mallopt(3): M_MMAP_THRESHOLD, the size from which an array is taken
from the system by itself, and M_TRIM_THRESHOLD, how much free memory is kept.

That holds for the whole process. Who sets MALLOC_MMAP_THRESHOLD_ or MALLOC_TRIM_THRESHOLD_ in the environment has
decided otherwise and is left alone. Other allocators have their own rules, and nothing is changed.
"""

from __future__ import annotations

import ctypes
import os

KEPT = 2**30  # bytes
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def keep_freed_memory(size: int = KEPT) -> bool:
    """Let the C library keep freed memory for the next array; the commands that train and the benchmarks call it.

    `size` is in bytes, at most 2³¹ - 1. Returns whether it will: only the GNU C library can be told, and only if the
    environment has not told it otherwise.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ or "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return False
    try:
        libc = ctypes.CDLL(None)
        mallopt, _ = libc.mallopt, libc.gnu_get_libc_version  # musl and others have no such function
    except (AttributeError, OSError, TypeError):
        return False
    # Each returns 1 if it accepts. Some releases allow no more than 32 MiB here: larger arrays stay as they were.
    own = mallopt(M_MMAP_THRESHOLD, size) or mallopt(M_MMAP_THRESHOLD, 2**25)
    return bool(own and mallopt(M_TRIM_THRESHOLD, size))
