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

What it cannot see: a mistake that does not move the numbers that were handed in (zero states and biases, upstream
gradients of one, a single step, sequence or layer hide whole families, and so do few digits); what depends on things
that were not handed in, such as weights that stayed at their own random values, a dropout mask of one's own, or a
call before with other data; three mistakes at once; anything outside the layer, such as the loss, the optimizer or
the order of the data; cells and options that `numpy_rnn` does not have. "right" is said of these numbers, not of the
code. A name says what makes just these numbers in the textbook; another slip may make the same, and where the
catalogue knows one, it is listed beside the first.

The catalogue, with a matrix of which check notices which mistake, is a page of the site (`report`).
"""

from __future__ import annotations

from ..case import Case, softmax_loss
from ..difference import Difference
from .cases import cases, random_case
from .diagnosis import Diagnosis, diagnose
from .handover import Layout, diagnose_layer
from .mistake import Change, Machine, Mistake, machine
from .mistakes import mistake, mistakes

__all__ = [
    "Case",
    "Change",
    "Diagnosis",
    "Difference",
    "Layout",
    "Machine",
    "Mistake",
    "cases",
    "diagnose",
    "diagnose_layer",
    "machine",
    "mistake",
    "mistakes",
    "random_case",
    "softmax_loss",
]
