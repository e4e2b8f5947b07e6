"""Checkpoints of a task: one safetensors file with everything that a run needs to go on, whichever backend wrote it.

    model.…               parameters by name, as `Network.state_dict()`
    optimizer.…           Adam's memory, as `optim.Adam.state_dict()`
    state.h, state.c      of a text the carried hidden states (L, B, H)
    best.…                parameters after the best validation; nothing before the first
    history.training      loss and gradient norm of every step (n, 2)
    history.validation    step and loss of every validation (m, 2)

The metadata hold the config, the backend and the hash of the task's data, as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ...layers import files
from ...layers.network import Network
from ..checkpoint import Layout, check_layout, pack_best, pack_history, settings, unpack_best, unpack_history
from ..loop import State
from ..schedule import SCHEDULES
from .settings import Config, network_arguments
from .task import Task

KEY = "numpy_rnn.train.tasks"  # of the metadata


def write_checkpoint(path: str | Path, config: Config, task: Task, backend: str, state: State) -> None:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    path : path
    config : Config
    task : Task
    backend : str
    state : State

    Raises
    ------
    OSError
        If the file cannot be written; what it held before stays.
    """
    about = {"config": asdict(config), "backend": backend, "sha256": task.fingerprint()}
    files.write(
        path, {**state.tensors, **pack_best(state.best), **pack_history(state.history)}, {KEY: json.dumps(about)}
    )


def read_checkpoint(path: str | Path, task: Task) -> tuple[Config, str, State]:
    """Read a checkpoint. What the file says of itself is checked before its tensors are read.

    Parameters
    ----------
    path : path
    task : Task
        Which the run was on.

    Returns
    -------
    config : Config
    backend : str
    state : State

    Raises
    ------
    ValueError
        If the file is not complete, not a checkpoint of this task with these data, or inconsistent.
    OSError
        If it cannot be read.
    """
    shapes, dtypes, metadata = files.read_header(path)
    if KEY not in metadata:
        raise ValueError(f"{path} is a safetensors file, but no checkpoint of `numpy-rnn task`")
    try:
        about = json.loads(metadata[KEY])
        config = settings(Config, {"window": 0, **about["config"]})  # a file from before there were windows has none
        backend, sha256 = str(about["backend"]), str(about["sha256"])
        if config.schedule not in SCHEDULES or config.dtype not in ("float32", "float64"):
            raise ValueError(f"the schedule is {config.schedule!r} and the dtype is {config.dtype!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is a checkpoint that does not hold what it describes: {error}") from None
    if config.task != task.name:
        raise ValueError(f"{path} was trained on {config.task}, expected {task.name}")
    if sha256 != task.fingerprint():
        raise ValueError(f"{path} was trained on other data than the installed packages hold (they differ in SHA-256)")
    try:
        check_layout(_layout(config, task, shapes), shapes, dtypes)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is a checkpoint that does not hold what it describes: {error}") from None
    tensors, _ = files.read(path)
    history, best = unpack_history(tensors), unpack_best(tensors)
    return config, backend, State(history, tensors, best)


def _layout(config: Config, task: Task, shapes: Mapping[str, tuple[int, ...]]) -> Layout:
    """Of every tensor its shape and dtype, given the config and the two lengths that only the file knows."""
    (n, _), (m, _) = (shapes[name] for name in ("history.training", "history.validation"))
    exact = np.dtype(np.float64)
    layout: Layout = {
        "history.training": ((n, 2), exact),
        "history.validation": ((m, 2), exact),
        "optimizer.step": ((1,), np.dtype(np.int64)),
    }
    prefixes = ["model", "optimizer.exp_avg", "optimizer.exp_avg_sq", *(["best"] if m else [])]
    for name, (shape, _) in Network.parameter_bounds(network_arguments(config, task)).items():
        for prefix in prefixes:
            layout[f"{prefix}.{name}"] = (shape, np.dtype(config.dtype))
    if config.window:
        for name in "hc" if config.cell.startswith("lstm") else "h":
            layout[f"state.{name}"] = ((config.layers, config.batch, config.hidden), np.dtype(config.dtype))
    return layout
