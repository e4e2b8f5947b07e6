"""The bug zoo: classic mistakes in recurrent layers, each runnable, and a way to tell which one somebody has made.

The textbook (`numpy_rnn.textbook`) has every cell as its equations are written, one step after the other. A
`Mistake` replaces a line or a few of it; `machine(cell, mistake)` is the textbook with the mistake in it, and runs.
`cases(cell)` are stated problems on which every mistake shows and no two look alike, and `diagnose` compares somebody's
numbers with all of them.

>>> from numpy_rnn.verify import zoo
>>> case = zoo.cases("lstm")[0]
>>> theirs = zoo.machine("lstm", zoo.mistake("lstm-path-through-c-dropped")).run(case)
>>> found = zoo.diagnose(case, grads={"dW_hh": theirs["dW_hh"]})
>>> found.agrees, found.mistakes[0].name
(False, 'lstm-path-through-c-dropped')
>>> print(found.mistakes[0].diff("lstm"))
lstm.py
-        dc[t] += dc[t + 1] * f  # (3')
+        pass  # (3')

The catalogue, with a matrix of which check notices which mistake, is a page of the site (`report`).
"""

from __future__ import annotations

from ..case import Case
from ..difference import Difference
from .cases import cases, random_case
from .diagnosis import Diagnosis, diagnose
from .mistake import Change, Machine, Mistake, machine
from .mistakes import mistake, mistakes

__all__ = [
    "Case",
    "Change",
    "Diagnosis",
    "Difference",
    "Machine",
    "Mistake",
    "cases",
    "diagnose",
    "machine",
    "mistake",
    "mistakes",
    "random_case",
]
