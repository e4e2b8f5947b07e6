"""Checkpoints: one safetensors file with everything that a run needs to go on, whichever backend wrote it.

    model.…               parameters by name, as `Network.state_dict()`
    best.…                parameters after the best validation; nothing before the first
    optimizer.…           Adam's memory, as `optim.Adam.state_dict()`
    state.h, state.c      of a text the carried hidden states (L, B, H)
    vocabulary            of a text code points or bytes (K,)
    history.training      loss and gradient norm of every step (n, 2)
    history.validation    step and loss of every validation (m, 2)

The metadata hold the config, the network's sizes, the number of steps, the backend and the hash of the data, as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..fast.numerics import Array
from ..layers import files
from ..layers.arguments import check_keys
from ..layers.network import Network
from .language import Vocabulary
from .learner import History, Result, Weights, part_of
from .settings import Config

KEY = "numpy_rnn.checkpoint"  # of the metadata


class Checkpoint(NamedTuple):
    """What a file holds."""

    config: Config
    sizes: dict[str, int]  # input_size, output_size and symbols, as `Config.network` takes them
    steps: int  # how many the run is to take in the end
    backend: str
    sha256: str  # of the data
    vocabulary: Vocabulary | None  # of a text
    history: History
    tensors: dict[str, Array]  # the learner's `state_dict()`
    best: Weights  # the model after its best validation; nothing before the first

    def initial_model(self) -> Network:
        """Make the model that the run began with."""
        return self.config.initial_network(self.sizes)

    def model(self) -> Network:
        """Make the model, in NumPy: that of the best validation, if there has been one."""
        model = self.initial_model()
        model.load_state_dict(self.best or part_of(self.tensors, "model"))
        return model


def write_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all.

    Raises
    ------
    OSError
        If the file cannot be written; what it held before stays.
    """
    config, sizes, steps, backend, sha256, vocabulary, history, tensors, best = checkpoint
    everything = {
        **tensors,
        **{f"best.{name}": value for name, value in best.items()},
        "history.training": np.array(history.training, np.float64).reshape(-1, 2),
        "history.validation": np.array(history.validation, np.float64).reshape(-1, 2),
        **({"vocabulary": vocabulary.codes} if vocabulary else {}),
    }
    about = {"config": asdict(config), "sizes": sizes, "steps": steps, "backend": backend, "sha256": sha256}
    files.write(path, everything, {KEY: json.dumps(about)})


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint. What the file says of itself is checked before its tensors are read.

    Raises
    ------
    ValueError
        If the file is not complete, not a checkpoint of a training run, or inconsistent.
    OSError
        If it cannot be read.
    """
    shapes, dtypes, metadata = files.read_header(path)
    if KEY not in metadata:
        raise ValueError(f"{path} is a safetensors file, but no checkpoint of `numpy-rnn train` or `numpy-rnn task`")
    try:
        about = json.loads(metadata[KEY])
        config = Config(**about["config"])
        sizes = {name: int(about["sizes"][name]) for name in ("input_size", "output_size", "symbols")}
        steps, backend, sha256 = int(about["steps"]), str(about["backend"]), str(about["sha256"])
        _check_layout(config, sizes, shapes, dtypes)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is a checkpoint that does not hold what it describes: {error}") from None
    tensors, _ = files.read(path)
    vocabulary = Vocabulary(config.symbols, tensors.pop("vocabulary")) if config.symbols else None
    if vocabulary and not vocabulary.valid:
        raise ValueError(f"{path} has a vocabulary that is not rising {config.symbols}")
    history = History(
        [Result(*row) for row in tensors.pop("history.training").tolist()],
        [(int(step), loss) for step, loss in tensors.pop("history.validation").tolist()],
    )
    best = part_of(tensors, "best")
    tensors = {name: value for name, value in tensors.items() if not name.startswith("best.")}
    return Checkpoint(config, sizes, steps, backend, sha256, vocabulary, history, tensors, best)


def read_language_model(path: str | Path) -> tuple[Checkpoint, Vocabulary]:
    """Read a checkpoint whose model predicts the symbols of a text; see `read_checkpoint`."""
    found = read_checkpoint(path)
    if found.vocabulary is None:
        raise ValueError(f"{path} holds no language model: it was trained on {found.config.task}")
    return found, found.vocabulary


def _check_layout(
    config: Config, sizes: dict[str, int], shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, np.dtype[Any]]
) -> None:
    """Compare the names, shapes and dtypes that a file has with those that it should have.

    Two lengths only the file knows, that of the training and the number of validations.
    """
    (n, _), (m, _) = (shapes[name] for name in ("history.training", "history.validation"))
    number, count, exact = np.dtype(config.dtype), np.dtype(np.int64), np.dtype(np.float64)
    expected: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
        "history.training": ((n, 2), exact),
        "history.validation": ((m, 2), exact),
        "optimizer.step": ((1,), count),
    }
    if config.symbols:
        expected["vocabulary"] = ((sizes["symbols"],), count)
    for name, (shape, _) in Network.parameter_bounds(config.network(**sizes)).items():
        for prefix in ("model", "optimizer.exp_avg", "optimizer.exp_avg_sq", *(["best"] if m else [])):
            expected[f"{prefix}.{name}"] = (shape, number)
    if config.seq_len:
        for name in "hc" if config.cell.startswith("lstm") else "h":
            expected[f"state.{name}"] = ((config.layers, config.batch, config.hidden), number)
    check_keys(shapes, expected)
    for name, (shape, dtype) in expected.items():
        if (shapes[name], dtypes[name]) != (shape, dtype):
            raise ValueError(f"{name} is {dtypes[name]} {shapes[name]}, expected {dtype} {shape}")
