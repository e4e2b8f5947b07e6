"""What determines the training of a language model, and the problem that this makes of a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .language import LanguageModel, network_arguments
from .learner import Problem
from .objective import Part


@dataclass(frozen=True)
class Config:
    """What determines a run, together with its text: two runs with the same config and text end the same."""

    cell: str
    layers: int
    hidden: int
    embedding: int
    seq_len: int
    batch: int
    lr: float
    clip: float  # 0: none
    seed: int
    dtype: str
    symbols: str
    schedule: str = "constant"
    patience: int = 0  # validations without a better one after which it ends; 0: never


def model_arguments(config: Config, vocabulary_size: int) -> dict[str, Any]:
    """What the constructor of `LanguageModel` is told."""
    return {
        "cell": config.cell,
        "vocabulary_size": vocabulary_size,
        "hidden_size": config.hidden,
        "num_layers": config.layers,
        "embedding_size": config.embedding,
    }


def initial_model(config: Config, vocabulary_size: int) -> LanguageModel:
    """Make the model that a run starts from, in every backend.

    Parameters
    ----------
    config : Config
    vocabulary_size : int

    Returns
    -------
    LanguageModel
    """
    return LanguageModel(**model_arguments(config, vocabulary_size), dtype=np.dtype(config.dtype), rng=config.seed)


def problem(config: Config, vocabulary_size: int) -> Problem:
    """Make the problem of predicting each next symbol of a text.

    Parameters
    ----------
    config : Config
    vocabulary_size : int

    Returns
    -------
    Problem
        Its initial network has the weights of `initial_model`.
    """
    return Problem(
        network=network_arguments(model_arguments(config, vocabulary_size)),
        parts=(Part("next symbol", "symbols", vocabulary_size),),
        read="every",
        carried=True,
        lr=config.lr,
        weight_decay=0.0,
        clip=config.clip,
        seed=config.seed,
        dtype=config.dtype,
    )
