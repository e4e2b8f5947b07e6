"""Which of nine men says "ae": Japanese vowels, sequences of 7 to 29 steps.

M. Kudo, J. Toyama & M. Shimbo, "Multidimensional curve classification using passing-through regions", Pattern
Recognition Letters 20 (1999), as the package sktime ships it: 12 LPC cepstrum coefficients at a time, 270 utterances to
learn from (30 of each speaker) and 370 to test on. Here every fifth of the 270 is kept for validation. What stands
after an utterance's end is NaN, so that whoever reads it finds out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...fast.numerics import Array
from ..objective import Part
from .baselines import best_logistic
from .packages import package_file
from .task import Outputs, Split, Task, padded

SPEAKERS = 9


def load() -> Task:
    """Read the files and make the task.

    Raises
    ------
    MissingLibraryError
        If sktime is not installed.
    """
    folder = ("datasets", "data", "JapaneseVowels")
    learnt, test = (
        _split(*read(package_file("sktime", *folder, f"JapaneseVowels_{which}.ts"))) for which in ("TRAIN", "TEST")
    )
    fifth = np.arange(len(learnt.x)) % 5 == 4  # the same number of every speaker, whose utterances stand in a row
    train = learnt.take(~fifth)
    steps = train.x[train.valid]
    mean, deviation = steps.mean(axis=0), steps.std(axis=0)
    train, validation, test = (
        s._replace(x=(s.x - mean) / deviation) for s in (train, learnt.take(fifth), test)
    )  # NaN stays NaN
    return Task(
        "vowels",
        "which of nine speakers says it, from 7 to 29 steps of 12 coefficients",
        "sktime, JapaneseVowels: Kudo, Toyama & Shimbo 1999",
        train,
        validation,
        test,
        "last",
        (Part("speaker", "classes", SPEAKERS, labels=tuple(str(k + 1) for k in range(SPEAKERS))),),
        0,
        baselines,
    )


def read(path: Path) -> tuple[list[Array], Array]:
    """Read a .ts file: one sequence a line, its dimensions and then its class parted by colons.

    Returns
    -------
    sequences : N arrays (T_n, 12)
    classes : integer array (N,)
        0 … 8.
    """
    _, _, data = path.read_text(encoding="utf-8").partition("@data\n")
    sequences, classes = [], []
    for line in data.splitlines():
        *dimensions, name = line.split(":")
        sequences.append(np.array([np.fromstring(d, sep=",") for d in dimensions]).T)
        classes.append(int(name) - 1)
    return sequences, np.array(classes)


def _split(sequences: list[Array], classes: Array) -> Split:
    return Split(*padded(sequences, np.nan), (classes,))


def baselines(task: Task) -> dict[str, Outputs]:
    """Logistic regression on each utterance's mean."""
    x, vx, tx = (_means(s) for s in (task.train, task.validation, task.test))
    f = best_logistic((x, task.train.target[0]), (vx, task.validation.target[0]), SPEAKERS)
    return {"logistic regression on the mean": [f(tx)]}


def _means(split: Split) -> Array:
    means: Array = np.nanmean(split.x, axis=1)
    return means
