"""What a run consists of: which contestants meet in which settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .contestants import CONTESTANTS, missing, on_device
from .points import GROUPS, Point, parse
from .problem import CELLS, CUDA_DTYPES, MODES, Setting

CORE = ("numpy_rnn", "torch_rnn", "torch_rnn-loop", "torch.nn", "floor", "calls")


class Block(NamedTuple):
    """A group of points and what is measured there unless the user says otherwise.

    The peak memory of contestants in `alone`, forward + backward, is that of processes which do nothing else.
    """

    group: str
    threads: int
    dtypes: tuple[str, ...]
    contestants: tuple[str, ...]
    modes: tuple[str, ...] = MODES
    alone: tuple[str, ...] = ()


class Task(NamedTuple):
    """One setting, its contestants, their modes; and whose peak memory is measured in processes of their own."""

    setting: Setting
    contestants: tuple[str, ...]
    modes: tuple[str, ...]
    alone: tuple[str, ...] = ()


class Selection(NamedTuple):
    """What the user chose; empty is the default of each group."""

    points: Sequence[str] = ()
    cells: Sequence[str] = ()
    dtypes: Sequence[str] = ()
    threads: Sequence[int] = ()
    contestants: Sequence[str] = ()
    modes: Sequence[str] = ()
    device: str = "cpu"


SNAPSHOTS, PLAIN = "numpy_rnn-snapshots", "plain"
ALL, LAST = tuple(name for name in on_device("cpu") if name not in (SNAPSHOTS, PLAIN)), MODES[-1:]
CPU_PLAN = (
    Block("grid", 2, ("float32",), ALL, alone=("torch_rnn", "torch_rnn-loop")),
    Block("grid", 2, ("float64",), CORE),
    Block("grid", 1, ("float32",), CORE),
    Block("extra", 2, ("float32",), (*CORE, PLAIN)),
    Block("units", 2, ("float32",), CORE, LAST),
    Block("sequences", 2, ("float32",), CORE, LAST),
    Block("steps", 2, ("float32",), (*CORE, SNAPSHOTS), ("forward", "forward-backward")),
    Block("quick", 2, ("float32",), CORE),
)
GPU = tuple(on_device("cuda"))
CUDA_PLAN = (
    Block("gpu", 1, CUDA_DTYPES[:3], GPU, LAST),
    Block("grid", 1, CUDA_DTYPES, GPU),
    Block("extra", 1, ("float32", "tf32"), GPU),
    Block("units", 1, ("float32", "tf32"), GPU, LAST),
    Block("sequences", 1, ("float32", "tf32"), GPU, LAST),
    Block("steps", 1, ("float32",), GPU, ("forward", "forward-backward")),
    Block("quick", 1, ("float32", "tf32"), GPU),
)
EVERYTHING = {
    "cpu": ("grid", "extra", "units", "sequences", "steps"),
    "cuda": ("gpu", "grid", "extra", "units", "sequences", "steps"),
}


def tasks(selection: Selection) -> list[Task]:
    """Make the tasks of a selection: each setting once, settings with the same cell and sizes next to one another.

    Raises
    ------
    ValueError
        If a point's name is none.

    Examples
    --------
    >>> for task in tasks(Selection(["6x3x10x20"], ["gru"], ["float32"], contestants=["floor"], modes=["forward"])):
    ...     print(task.setting.label, *task.contestants, *task.modes)
    gru 6x3x10x20 float32, 2 threads floor forward
    gru 6x3x10x20 float32, 1 thread floor forward
    """
    found: dict[Setting, Task] = {}
    for block, points in _blocks(selection):
        for cell in selection.cells or CELLS:
            for point in points:
                for dtype in selection.dtypes or block.dtypes:
                    setting = Setting(cell, point, dtype, block.threads, selection.device)
                    contestants = tuple(selection.contestants or block.contestants)
                    alone = tuple(c for c in contestants if c in block.alone)
                    new = Task(setting, contestants, tuple(selection.modes or block.modes), alone)
                    found[setting] = _union(found[setting], new) if setting in found else new
    # Whatever has the same sizes stands side by side, so that the machine has changed little in between.
    sizes = list(dict.fromkeys(setting.point[:4] for setting in found))
    points_in_order = list(dict.fromkeys(setting.point for setting in found))

    def place(task: Task) -> tuple[int, int, int]:
        cell, point = task.setting.cell, task.setting.point
        return CELLS.index(cell), sizes.index(point[:4]), points_in_order.index(point)

    return sorted(found.values(), key=place)


def _blocks(selection: Selection) -> list[tuple[Block, tuple[Point, ...]]]:
    """The blocks that the chosen points call for, with the chosen numbers of threads."""
    plan = CUDA_PLAN if selection.device == "cuda" else CPU_PLAN
    chosen: list[tuple[Block, tuple[Point, ...]]] = []
    names = [
        n for name in selection.points or ("all",) for n in (EVERYTHING[selection.device] if name == "all" else (name,))
    ]
    for name in names:
        blocks = [b for b in plan if b.group == name] or [b for b in plan if b.group == "grid"]
        points = GROUPS.get(name) or (parse(name),)
        for threads in selection.threads or dict.fromkeys(b.threads for b in blocks):
            fitting = [b for b in blocks if b.threads == threads] or blocks[:1]
            chosen += [(block._replace(threads=threads), points) for block in fitting]
    return chosen


def _union(a: Task, b: Task) -> Task:
    contestants = tuple(dict.fromkeys((*a.contestants, *b.contestants)))
    modes, alone = tuple(m for m in MODES if m in (*a.modes, *b.modes)), tuple(dict.fromkeys((*a.alone, *b.alone)))
    return Task(a.setting, contestants, modes, alone)


def installed(planned: Sequence[Task]) -> tuple[list[Task], dict[str, str]]:
    """Leave out contestants whose packages are missing here; the tasks left, and what each of those lacks."""
    names = {name for task in planned for name in task.contestants}
    lacking = {name: package for name in CONTESTANTS if name in names and (package := missing(name))}
    kept = [t._replace(contestants=tuple(c for c in t.contestants if c not in lacking)) for t in planned]
    return [t for t in kept if t.contestants], lacking
