"""What determines a run, and the learning rate of each of its steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True)
class Config:
    """What determines a run, together with its data and its number of steps: if all are equal, so are the results."""

    task: str  # a name of `tasks.TASKS`, or "text": a text of the user's
    symbols: str  # of a text: "characters" or "bytes"; "" elsewhere
    cell: str
    layers: int
    hidden: int
    bidirectional: bool
    embedding: int  # numbers that stand for a symbol, where symbols come in
    batch: int  # sequences, or streams of a text, of a step
    seq_len: int  # symbols that a step sees of each stream of a text; 0: whole sequences
    lr: float
    schedule: str
    clip: float  # of the gradient's norm; 0: none
    weight_decay: float
    patience: int  # validations without a better one after which the run ends; 0: never
    seed: int
    dtype: str

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
