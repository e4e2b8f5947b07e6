"""What determines a run, what suits each task, and the learning rate of each step."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..layers.network import Network
from .language import KINDS

CHOICES = {
    "symbols": KINDS,
    "schedule": ("constant", "cosine"),
    "dtype": ("float32", "float64"),
}
# "text": a text of the user's. All else is the default of `Config`.
SUITABLE: dict[str, dict[str, Any]] = {
    "text": {"symbols": "characters", "embedding": 64, "seq_len": 64, "schedule": "constant"},
    "weather": {"hidden": 32, "patience": 8},
    "stocks": {"hidden": 8, "lr": 0.003, "patience": 8},
    "tags": {"hidden": 48, "patience": 3, "bidirectional": True},
    # lr and clip were chosen by the validation split alone.
    "language": {
        "symbols": "characters",
        "hidden": 512,
        "embedding": 64,
        "seq_len": 64,
        "lr": 0.004,
        "clip": 0.25,
        "patience": 2,
    },
}
EPOCHS = {"weather": 20, "stocks": 20, "tags": 6, "language": 5}  # at most


@dataclass(frozen=True)
class Config:
    """What determines a run, together with its data and its number of steps: if all are equal, so are the results.

    Raises
    ------
    ValueError
        If a value is not of the type that is declared, or not one of the `CHOICES`.
    """

    task: str  # a name of `tasks.TASKS`, or "text"
    symbols: str = ""  # of a text: "characters" or "bytes"; "" elsewhere
    cell: str = "gru"
    layers: int = 1
    hidden: int = 128
    bidirectional: bool = False
    embedding: int = 16  # numbers that stand for a symbol, where symbols come in
    batch: int = 32  # sequences, or streams of a text, of a step
    seq_len: int = 0  # symbols that a step sees of each stream of a text; 0: whole sequences
    lr: float = 0.005
    schedule: str = "cosine"
    clip: float = 1.0  # of the gradient's norm; 0: none
    weight_decay: float = 0.0
    patience: int = 0  # validations without a better one after which the run ends; 0: never
    seed: int = 0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        types: dict[Any, Any] = {"int": int, "float": (int, float), "str": str, "bool": bool}
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, types[field.type]) or isinstance(value, bool) != (field.type == "bool"):
                raise ValueError(f"{field.name} is {value!r}, expected {field.type}")
            choices = CHOICES.get(field.name, (value,))
            if value and value not in choices:
                raise ValueError(f"{field.name} is {value!r}, expected {' or '.join(choices)}")

    @classmethod
    def of(cls, task: str, **changes: Any) -> Config:
        """Make the settings that a task is run with, unless others are asked for.

        Examples
        --------
        >>> Config.of("weather", cell="lstm").hidden
        32
        """
        return cls(task, **{**SUITABLE[task], **changes})

    def learning_rate(self, step: int, steps: int) -> float:
        """The learning rate of a step: constant, or half a cosine from lr down to almost 0, without restarts.

        (S1)  lr_k = lr (1 + cos(π k / n)) / 2     step k of n; Loshchilov & Hutter, ICLR 2017, arXiv 1608.03983 v5, (5)
        """
        if self.schedule == "constant":
            return self.lr
        return self.lr * (1 + math.cos(math.pi * step / steps)) / 2  # (S1)

    def network(self, input_size: int, output_size: int, symbols: int) -> dict[str, Any]:
        """What the network's constructor is told, in every backend; see `Network`."""
        return {
            "cell": self.cell,
            "input_size": self.embedding if symbols else input_size,
            "hidden_size": self.hidden,
            "output_size": output_size,
            "num_layers": self.layers,
            "bidirectional": self.bidirectional,
            "symbols": symbols,
        }

    def initial_network(self, sizes: dict[str, int]) -> Network:
        """Make the network that training starts from, in every backend; the sizes are those of `network`."""
        return Network(**self.network(**sizes), dtype=np.dtype(self.dtype), rng=self.seed)
