"""Why a layer call does not ask the operating system for the same memory again and again.

The GNU C library hands freed memory back to the system at once, as long as it has only seen small arrays: every call of
a layer then pays for fresh pages, which can take longer than the arithmetic. It learns from the largest array that was
ever freed (up to 32 MiB; mallopt(3), M_MMAP_THRESHOLD): arrays up to that size are reused from then on, and up to twice
as much of free memory is kept. So it is enough to free one such array, once, before the first layer runs.

That holds for the whole process. Who sets MALLOC_TRIM_THRESHOLD_ or MALLOC_MMAP_THRESHOLD_ in the environment has
decided otherwise, and it has no effect; nor has it with other allocators.
"""

from __future__ import annotations

import numpy as np

LARGEST = 32 * 2**20 - 2**16  # bytes; a little below the limit, which counts the allocator's own bookkeeping


def keep_freed_memory() -> None:
    """Let the C library reuse up to 64 MiB of freed memory. `import numpy_rnn` calls it.

    The array is never written to, so no memory is taken for it.
    """
    np.empty(LARGEST, np.uint8)
