"""Freed memory is reused, so that calls of a layer do not fault in the same pages again and again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from numpy_rnn.fast import memory

BY_NUMPY = """
import numpy as np
import numpy_rnn

numpy_rnn.keep_freed_memory()
layer = numpy_rnn.LSTM(256, 256, rng=0)
x = np.ones((100, 64, 256), np.float32)

def call():
    output, h_n, tape = layer.forward(x)
    layer.backward(tape, output)
"""

BY_TORCH = """
import torch
import torch_rnn
from numpy_rnn import keep_freed_memory

keep_freed_memory()
torch.set_num_threads(1)
layer = torch_rnn.LSTM(16, 512)
x = torch.ones(72, 64, 16)  # so that the gates need more than the 32 MiB that glibc learns to keep by itself

def call():
    output, h_n = layer(x)
    output.backward(output)
"""

FAULTS = """
import resource

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

counts = []
for _ in range(6):
    before = faults()
    call()
    counts.append(faults() - before)
print(min(counts))  # the system may take pages away from a process that waits
"""


with_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library has mallopt")


IMPORTED = """
import ctypes, os, sys, threading, warnings
import numpy

called = []
libc = ctypes.CDLL(None)
before = dict(os.environ), list(warnings.filters), threading.active_count()
sys.addaudithook(lambda event, arguments: called.append(event) if event == "ctypes.dlsym" and arguments[1] == "mallopt" else None)
import numpy_rnn
assert (dict(os.environ), list(warnings.filters), threading.active_count()) == before
print(called)
"""


def printed(program: str, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | variables
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_an_import_changes_nothing_in_the_process():
    assert printed(IMPORTED) == "[]"
    assert printed(IMPORTED + "numpy_rnn.keep_freed_memory(); print(called)").endswith("['ctypes.dlsym']")


@with_glibc
@pytest.mark.parametrize("library", [BY_NUMPY, BY_TORCH], ids=["NumPy", "torch"])
def test_freed_memory_is_reused(library):
    if library is BY_TORCH:
        pytest.importorskip("torch")
    assert int(printed(library + FAULTS)) < 100  # pages; thousands when memory is given back


@with_glibc
@pytest.mark.parametrize("variable", ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"])
def test_who_has_decided_otherwise_is_left_alone(variable):
    assert printed("import numpy_rnn; print(numpy_rnn.keep_freed_memory())") == "True"
    assert printed("import numpy_rnn; print(numpy_rnn.keep_freed_memory())", **{variable: "131072"}) == "False"


def test_other_allocators_are_left_alone(monkeypatch):
    for variable in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    assert memory.keep_freed_memory() is False
