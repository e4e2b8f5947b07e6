"""What a run consists of: settings, and who meets in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .contestants import BEFORE, CONTESTANTS, OURS, missing
from .points import CELLS, GROUPS, Point, parse
from .problem import MODES, Setting


class Selection(NamedTuple):
    """What the user chose; what is empty is decided by the plan."""

    points: Sequence[str] = ()
    cells: Sequence[str] = ()
    dtypes: Sequence[str] = ()
    threads: Sequence[int] = ()
    contestants: Sequence[str] = ()
    modes: Sequence[str] = ()
    device: str = "cpu"


class Block(NamedTuple):
    """Points that are measured alike."""

    points: tuple[Point, ...]
    dtype: str
    threads: int
    contestants: Sequence[str]
    modes: Sequence[str] = MODES


class Task(NamedTuple):
    """A setting, its contestants and their modes."""

    setting: Setting
    contestants: list[str]
    modes: Sequence[str]


CORE = (*OURS, "torch.nn", "floor")
LAST = MODES[-1:]
# What counts most comes first, in case that somebody has no time for the rest.
PLAN = {
    "cpu": (
        Block(GROUPS["grid"], "float32", 2, tuple(CONTESTANTS)),
        Block(GROUPS["stacks"], "float32", 2, CORE[:-1], LAST),
        Block(GROUPS["grid"], "float32", 1, CORE),
        Block(GROUPS["grid"], "float64", 2, CORE, LAST),
    ),
    "cuda": (
        Block(GROUPS["gpu"], "float32", 1, tuple(CONTESTANTS), LAST),
        Block(GROUPS["gpu"], "bfloat16", 1, tuple(CONTESTANTS), LAST),
    ),
}


def tasks(selection: Selection, before: bool = False) -> list[Task]:
    """Make the tasks of a selection; with `before` our own contestants meet those of another checkout, too.

    Raises
    ------
    ValueError
        If a point's name is none.

    Examples
    --------
    >>> for task in tasks(Selection(["6x3x10x20"], ["gru"], contestants=["floor"], modes=["forward"])):
    ...     print(task.setting, *task.contestants, *task.modes)
    gru 6x3x10x20 float32, 2 threads floor forward
    """
    found = []
    for block in _blocks(selection):
        chosen = [n for n in selection.contestants or block.contestants if selection.device in CONTESTANTS[n].devices]
        names = [n for n in chosen if not missing(n)] + [n + BEFORE for n in OURS if before and n in chosen]
        for cell in selection.cells or CELLS:
            for point in block.points:
                setting = Setting(cell, point, block.dtype, block.threads, selection.device)
                found.append(Task(setting, names, selection.modes or block.modes))
    return [task for task in found if task.contestants]


def _blocks(selection: Selection) -> Iterable[Block]:
    """The plan's, unless sizes, kinds of numbers or threads are chosen: then all combinations of these."""
    if not (selection.points or selection.dtypes or selection.threads):
        return PLAN[selection.device]
    named = [GROUPS.get(name) or (parse(name),) for name in selection.points or ("grid",)]
    points = tuple(dict.fromkeys(point for group in named for point in group))
    return [
        Block(points, dtype, threads, tuple(CONTESTANTS))
        for dtype in selection.dtypes or ("float32",)
        for threads in selection.threads or (2 if selection.device == "cpu" else 1,)
    ]


def lacking(names: Iterable[str]) -> dict[str, str]:
    """Of contestants that cannot take part here the package that is missing."""
    return {name: package for name in names if (package := missing(name))}
