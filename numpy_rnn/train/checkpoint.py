"""Checkpoints: one safetensors file with everything that a run needs to go on, whichever backend wrote it.

    model.…               parameters by name, as `LanguageModel.state_dict()`
    best.…                parameters after the best validation; nothing before the first
    optimizer.…           Adam's memory, as `optim.Adam.state_dict()`
    state.h, state.c      the carried hidden states (L, B, H)
    vocabulary            code points or bytes (K,)
    history.training      loss and gradient norm of every step (n, 2)
    history.validation    step and loss of every validation (m, 2)

The metadata hold the config, the backend and the hash of the text, as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from ..fast.numerics import Array
from ..layers import files
from .language import KINDS, LanguageModel, Vocabulary
from .learner import Result, Weights, unpack
from .loop import History
from .schedule import SCHEDULES
from .settings import Config, model_arguments

KEY = "numpy_rnn.train"  # of the metadata
C = TypeVar("C")
Layout = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]  # of every tensor its shape and dtype


class Checkpoint(NamedTuple):
    """What a file holds."""

    config: Config
    steps: int  # how many the run is to take in the end
    backend: str
    sha256: str  # of the text
    vocabulary: Vocabulary
    history: History
    tensors: dict[str, Array]  # the learner's `state_dict()`
    best: Weights  # the model after its best validation; nothing before the first

    def model(self) -> LanguageModel:
        """Make the model, in NumPy: that of the best validation, if there has been one."""
        model = LanguageModel(**model_arguments(self.config, len(self.vocabulary)), dtype=self.config.dtype, rng=0)
        model.load_state_dict(self.best or unpack(self.tensors)[0])
        return model


def write_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    path : path
    checkpoint : Checkpoint

    Raises
    ------
    OSError
        If the file cannot be written; what it held before stays.
    """
    config, steps, backend, sha256, vocabulary, history, tensors, best = checkpoint
    everything = {
        **tensors,
        **pack_best(best),
        "vocabulary": vocabulary.codes,
        **pack_history(history),
    }
    about = {"config": asdict(config), "steps": steps, "backend": backend, "sha256": sha256}
    files.write(path, everything, {KEY: json.dumps(about)})


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint. What the file says of itself is checked before its tensors are read.

    Parameters
    ----------
    path : path

    Returns
    -------
    Checkpoint

    Raises
    ------
    ValueError
        If the file is not complete, not a checkpoint of a training run, or inconsistent.
    OSError
        If it cannot be read.
    """
    shapes, dtypes, metadata = files.read_header(path)
    if KEY not in metadata or "vocabulary" not in shapes:
        raise ValueError(f"{path} is a safetensors file, but no checkpoint of `numpy-rnn train`")
    try:
        about = json.loads(metadata[KEY])
        config = _config(about["config"])
        check_layout(_layout(config, shapes), shapes, dtypes)
        steps, backend, sha256 = int(about["steps"]), str(about["backend"]), str(about["sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is a checkpoint that does not hold what it describes: {error}") from None
    tensors, _ = files.read(path)
    codes = tensors.pop("vocabulary")
    highest = 0x10FFFF if config.symbols == "characters" else 0xFF
    if not (codes[0] >= 0 and codes[-1] <= highest and np.all(np.diff(codes) > 0)):
        raise ValueError(f"{path} has a vocabulary that is not rising {config.symbols}")
    history, best = unpack_history(tensors), unpack_best(tensors)
    return Checkpoint(config, steps, backend, sha256, Vocabulary(config.symbols, codes), history, tensors, best)


def pack_history(history: History) -> dict[str, Array]:
    """Make tensors of a history: `history.training` (n, 2) and `history.validation` (m, 2)."""
    return {
        "history.training": np.array(history.training, np.float64).reshape(-1, 2),
        "history.validation": np.array(history.validation, np.float64).reshape(-1, 2),
    }


def unpack_history(tensors: dict[str, Array]) -> History:
    """Undo `pack_history`, and take what it had made out of `tensors`."""
    return History(
        [Result(*row) for row in tensors.pop("history.training").tolist()],
        [(int(step), loss) for step, loss in tensors.pop("history.validation").tolist()],
    )


def pack_best(best: Weights) -> dict[str, Array]:
    """Make tensors `best.…` of the best weights."""
    return {f"best.{name}": value for name, value in best.items()}


def unpack_best(tensors: dict[str, Array]) -> Weights:
    """Undo `pack_best`, and take what it had made out of `tensors`."""
    return {name.removeprefix("best."): tensors.pop(name) for name in list(tensors) if name.startswith("best.")}


def settings(kind: type[C], found: Any) -> C:
    """Make a dataclass of what JSON had, each value of the type that the class declares.

    Raises
    ------
    KeyError, TypeError, ValueError
        If a value is missing, unknown or of another type.
    """
    types: dict[Any, Any] = {"int": int, "float": (int, float), "str": str, "bool": bool}
    for field in fields(cast(Any, kind)):
        value = found[field.name]
        if not isinstance(value, types[field.type]) or isinstance(value, bool) != (field.type == "bool"):
            raise ValueError(f"{field.name} is {value!r}, expected {field.type}")
    return kind(**found)


def _config(found: Any) -> Config:
    # A file that was written before there were schedules has neither.
    config = settings(Config, {"schedule": "constant", "patience": 0, **found})
    if config.schedule not in SCHEDULES:
        raise ValueError(f"the schedule is {config.schedule!r}, expected {' or '.join(SCHEDULES)}")
    if config.symbols not in KINDS or config.dtype not in ("float32", "float64"):
        raise ValueError(f"symbols are {config.symbols!r} and the dtype is {config.dtype!r}")
    return config


def check_layout(expected: Layout, shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, np.dtype[Any]]) -> None:
    """Compare the names, shapes and dtypes that a file says it has with those that it should have.

    Raises
    ------
    ValueError
        If they differ.
    """
    for problem, names in (("unknown", set(shapes) - set(expected)), ("missing", set(expected) - set(shapes))):
        if names:
            raise ValueError(f"{problem} {', '.join(sorted(names))}")
    for name, (shape, dtype) in expected.items():
        if (shapes[name], dtypes[name]) != (shape, dtype):
            raise ValueError(f"{name} is {dtypes[name]} {shapes[name]}, expected {dtype} {shape}")


def _layout(config: Config, shapes: Mapping[str, tuple[int, ...]]) -> Layout:
    """Of every tensor its shape and dtype, given the config and the three lengths that only the file knows."""
    (K,), (n, _), (m, _) = (shapes[name] for name in ("vocabulary", "history.training", "history.validation"))
    number, count, exact = np.dtype(config.dtype), np.dtype(np.int64), np.dtype(np.float64)
    model = LanguageModel.parameter_bounds(model_arguments(config, K))
    prefixes = ["model", "optimizer.exp_avg", "optimizer.exp_avg_sq"]
    if any(name.startswith("best.") for name in shapes):  # an old file has none
        prefixes.append("best")
    layout = {
        "vocabulary": ((K,), count),
        "history.training": ((n, 2), exact),
        "history.validation": ((m, 2), exact),
        "optimizer.step": ((1,), count),
    }
    for name, (shape, _) in model.items():
        for prefix in prefixes:
            layout[f"{prefix}.{name}"] = (shape, number)
    for name in "hc" if config.cell.startswith("lstm") else "h":
        layout[f"state.{name}"] = ((config.layers, config.batch, config.hidden), number)
    return layout
