"""Which sizes are measured.

A point is written TxBxIxH, with -L2 for two layers and -D2 for both directions: 100x16x64x64-L2-D2.
"""

from __future__ import annotations

import re
from typing import NamedTuple

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
CELLS = tuple(GATES)


class Point(NamedTuple):
    """Steps, sequences, inputs, units, layers, directions."""

    T: int
    B: int
    I: int
    H: int
    L: int = 1
    D: int = 1

    def __str__(self) -> str:
        layers, directions = (f"-{letter}{n}" if n > 1 else "" for letter, n in (("L", self.L), ("D", self.D)))
        return f"{self.T}x{self.B}x{self.I}x{self.H}{layers}{directions}"


def parse(name: str) -> Point:
    """Read a point's name.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> parse("100x16x64x64-D2")
    Point(T=100, B=16, I=64, H=64, L=1, D=2)
    >>> str(_)
    '100x16x64x64-D2'
    """
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)x(\d+)(?:-L(\d+))?(?:-D([12]))?", name)
    if not match:
        raise ValueError(f"{name!r} is no point: expected TxBxIxH, such as 100x16x64x64 or 100x16x64x64-L2-D2")
    point = Point(*(int(n or 1) for n in match.groups()))
    if 0 in point:
        raise ValueError(f"{name!r} has a size of 0, expected at least 1")
    return point


def _points(text: str) -> tuple[Point, ...]:
    return tuple(map(parse, text.split()))


GROUPS = {
    "quick": _points("6x3x10x20 50x1x32x32 100x16x64x64"),
    "grid": _points(
        "6x3x10x20 50x1x32x32 1000x1x64x128 100x16x64x64 100x32x128x128 100x32x256x256 100x64x512x512 50x64x1024x1024"
    ),
    "stacks": _points("6x3x10x20-D2 50x1x32x32-D2 100x16x64x64-D2 100x16x64x64-L2"),
    # cuDNN changes its kernels from 128 units (LSTM, GRU) and 256 units (RNN) on, and again at 192 and 384.
    "gpu": _points(
        "100x32x64x64 100x32x128x128 100x32x144x144 100x32x192x192 100x32x256x256 100x32x320x320 100x32x384x384 "
        "100x64x512x512 100x64x1024x1024"
    ),
}
