"""How many threads a training run is worth."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

WORTH_THREADS = 2**21  # batch · hidden²: 32 sequences of 256 units


@contextmanager
def fitting_threads(batch: int, hidden: int) -> Iterator[None]:
    """Keep the products of a small model on one thread.

    OpenBLAS and OpenMP spin while they wait for work. Alone on two cores a second thread makes the default model a
    fifth faster; with anything else running, PyTorch in lockstep included, it makes it seven to forty times slower.

    Without the library `threadpoolctl`, which the extra `cli` brings, only PyTorch's threads are kept in check.
    """
    with ExitStack() as stack:
        if batch * hidden**2 < WORTH_THREADS:
            if torch := sys.modules.get("torch"):
                stack.callback(torch.set_num_threads, torch.get_num_threads())
                torch.set_num_threads(1)
            if importlib.util.find_spec("threadpoolctl"):
                stack.enter_context(importlib.import_module("threadpoolctl").threadpool_limits(1))
        yield
