"""Which sizes are measured.

A point is written TxBxIxH, with -L2 for two layers, -D2 for both directions, -ragged for sequences of different
lengths: 100x16x64x64-L2-D2. Such a name can be given on the command line, and so can the name of a group.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

import numpy as np

GATES = {"rnn": 1, "lstm": 4, "gru": 3}


class Point(NamedTuple):
    """Sizes of one measurement: steps, sequences, inputs, units, layers, directions."""

    T: int
    B: int
    I: int
    H: int
    L: int = 1
    D: int = 1
    ragged: bool = False

    @property
    def name(self) -> str:
        """As on the command line.

        Examples
        --------
        >>> Point(100, 16, 64, 64, L=2, ragged=True).name
        '100x16x64x64-L2-ragged'
        """
        layers = f"-L{self.L}" if self.L > 1 else ""
        directions = f"-D{self.D}" if self.D > 1 else ""
        return f"{self.T}x{self.B}x{self.I}x{self.H}{layers}{directions}{'-ragged' if self.ragged else ''}"

    @property
    def lengths(self) -> list[int] | None:
        """Length of every sequence, from T down to a quarter of it, shuffled; None if all are T.

        Examples
        --------
        >>> Point(100, 4, 8, 8, ragged=True).lengths
        [25, 100, 75, 50]
        """
        if not self.ragged:
            return None
        lengths = np.linspace(self.T, max(1, self.T // 4), self.B).round().astype(int)
        return [int(n) for n in np.random.default_rng(self.B).permutation(lengths)]

    def inputs(self, layer: int) -> int:
        """Inputs of a layer: from the second on, the outputs of all directions below."""
        return self.I if layer == 0 else self.D * self.H

    def flops(self, cell: str) -> float:
        """Operations of the matrix products of a forward pass; a backward pass has twice as many."""
        units = sum(self.D * GATES[cell] * self.H * (self.inputs(l) + self.H) for l in range(self.L))
        return 2.0 * self.T * self.B * units


@functools.cache
def parse(name: str) -> Point:
    """Read a point's name.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> parse("100x16x64x64-D2")
    Point(T=100, B=16, I=64, H=64, L=1, D=2, ragged=False)
    """
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)x(\d+)(?:-L(\d+))?(?:-D([12]))?(-ragged)?", name)
    if not match:
        raise ValueError(f"{name!r} is no point: expected TxBxIxH, such as 100x16x64x64 or 100x16x64x64-L2-D2-ragged")
    T, B, I, H = (int(n) for n in match.groups()[:4])
    L, D = (int(n or 1) for n in match.groups()[4:6])
    if min(T, B, I, H, L) == 0:
        raise ValueError(f"{name!r} has a size of 0, expected at least 1")
    return Point(T, B, I, H, L, D, bool(match.group(7)))


def _points(text: str) -> tuple[Point, ...]:
    return tuple(parse(name) for name in text.split())


SWEEP_SIZES = (32, 64)  # I = H, with B = 1
GROUPS: dict[str, tuple[Point, ...]] = {
    "quick": _points("6x3x10x20 50x1x32x32 100x16x64x64"),
    "grid": _points(
        "6x3x10x20 50x1x32x32 1000x1x64x128 100x16x64x64 100x32x128x128 100x32x256x256 100x64x512x512 50x64x1024x1024"
    ),
    "extra": _points(
        "6x3x10x20-D2 50x1x32x32-D2 100x16x64x64-D2 100x16x64x64-L2 100x16x64x64-L2-D2 100x16x64x64-ragged "
        "100x32x128x128-ragged 100x32x256x256-L2"
    ),
    # Where cuDNN changes its kernels: from 128 and 256 units (LSTM, GRU and RNN) to 192 and 384, and beyond.
    "gpu": _points(
        "100x32x64x64 100x32x128x128 100x32x144x144 100x32x192x192 100x32x256x256 100x32x320x320 100x32x384x384 "
        "100x64x512x512 100x64x1024x1024"
    ),
    "units": tuple(Point(100, 16, H, H) for H in (16, 32, 64, 128, 256, 512)),
    "sequences": tuple(Point(100, B, 64, 64) for B in (1, 4, 16, 64, 256)),
    "steps": tuple(Point(10**k, 1, H, H) for H in SWEEP_SIZES for k in (2, 3, 4, 5, 6)),
}
