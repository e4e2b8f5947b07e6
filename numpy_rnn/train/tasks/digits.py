"""Which handwritten digit is it, read row by row.

The file `digits.csv.gz` of scikit-learn holds the 1797 images of 8 × 8 pixels of the test part of "Optical
Recognition of Handwritten Digits" (E. Alpaydin & C. Kaynak, UCI Machine Learning Repository, 1998). The network sees
a row of 8 pixels at a time, and answers after the eighth. 1000 images to learn from, 297 for validation and 500 for
the test, drawn once and for all.
"""

from __future__ import annotations

import gzip

import numpy as np

from ..objective import Part
from .baselines import best_logistic
from .packages import package_file
from .task import Outputs, Split, Task

TRAIN, VALIDATION = 1000, 297


def load() -> Task:
    """Read the file and make the task.

    Raises
    ------
    MissingLibraryError
        If scikit-learn is not installed.
    """
    path = package_file("sklearn", "datasets", "data", "digits.csv.gz", pip="scikit-learn")
    with gzip.open(path, "rt", encoding="ascii") as file:
        table = np.loadtxt(file, delimiter=",")
    order = np.random.default_rng(0).permutation(len(table))
    everything = Split(table[:, :64].reshape(-1, 8, 8) / 16, None, (table[:, 64].astype(np.intp),))
    train, validation, test = np.split(order, [TRAIN, TRAIN + VALIDATION])
    return Task(
        "digits",
        "which digit is it, after its 8 rows of 8 pixels have been read one by one",
        "scikit-learn, digits.csv.gz: Alpaydin & Kaynak 1998, UCI",
        everything.take(train),
        everything.take(validation),
        everything.take(test),
        "last",
        (Part("digit", "classes", 10, labels=tuple("0123456789")),),
        0,
        baselines,
    )


def baselines(task: Task) -> dict[str, Outputs]:
    """Logistic regression on all 64 pixels at once."""
    x, vx, tx = (s.x.reshape(len(s.x), -1) for s in (task.train, task.validation, task.test))
    f = best_logistic((x, task.train.target[0]), (vx, task.validation.target[0]), 10)
    return {"logistic regression on all pixels": [f(tx)]}
