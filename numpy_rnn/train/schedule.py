"""How the learning rate changes over a run, and when a run has nothing more to gain."""

from __future__ import annotations

import math
from typing import Any

SCHEDULES = ("constant", "cosine")


def learning_rate(config: Any, step: int, steps: int) -> float:
    """The learning rate of a step: constant, or half a cosine from lr down to almost 0, without restarts.

    (S1)  lr_k = lr (1 + cos(π k / n)) / 2     step k of n; Loshchilov & Hutter, ICLR 2017, arXiv 1608.03983 v5, (5)

    Parameters
    ----------
    config : Config
        Of a text or of a task: what has an `lr` and a `schedule`.
    step, steps : int
        k and n.

    Returns
    -------
    float
    """
    lr: float = config.lr
    if config.schedule == "constant":
        return lr
    return lr * (1 + math.cos(math.pi * step / steps)) / 2  # (S1)
