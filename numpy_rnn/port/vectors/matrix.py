"""Which case shows which mistake: the suite held against the zoo, as a page of the site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...verify import zoo
from ...verify.difference import error
from ...verify.zoo import Mistake
from . import cases
from .check import TIERS
from .document import array, case_of, tensors_of

FACTOR = 100  # times the tolerance of float32
HEAD = """# Which case shows which mistake

A mistake shows in a case if it moves some tensor by more than 100
times the tolerance of float32, relative to its largest entry. The number says in how many of the cases of that kind,
for the cells that can have the mistake; the last column says which tensor moves first in most of them. Optional cases
are left out. Mistakes of precision show in float64 alone, and so here in none.

"""


def shows(document: Mapping[str, Any], mistake: Mistake) -> str | None:
    """The first tensor of a case that a mistake moves by more than `FACTOR` times the tolerance; None if there is none.

    Examples
    --------
    >>> from numpy_rnn.verify import zoo
    >>> shows(cases.case("gru-plain"), zoo.mistake("dh_n-ignored"))
    'dh'
    """
    with np.errstate(all="ignore"):
        made = tensors_of(case_of(document), mistake)
        for name in document["order"]:
            right = array(document["tensors"][name])
            if name not in made or made[name].value.shape != right.shape or not right.size:
                continue
            if not error(made[name].value, right) <= FACTOR * TIERS["f32"]:
                return str(name)
    return None


def rows(mistakes: Sequence[Mistake]) -> Iterator[list[str]]:
    """A row for each mistake."""
    documents = [case for case in cases.all_cases() if not case["optional"]]
    kinds = list(dict.fromkeys(kind_of(case["name"]) for case in documents))
    yield ["mistake", *kinds, "first seen in"]
    for mistake in mistakes:
        found: dict[str, list[str | None]] = {kind: [] for kind in kinds}
        for case in documents:
            if case["cell"] in mistake.cells:
                found[kind_of(case["name"])].append(shows(case, mistake))
        first = [name.split("_l")[0] for names in found.values() for name in names if name]
        most = max(sorted(set(first)), key=first.count, default="")
        marks = [f"{sum(n is not None for n in names)}/{len(names)}" if names else "·" for names in found.values()]
        yield [f"`{mistake.name}`", *marks, f"`{most}`" if most else ""]


def kind_of(name: str) -> str:
    """What stands after the cell in a case's name; the edge cases are one kind."""
    kind = name.split("-", 1)[1]
    return kind if kind in ("plain", "square", "ragged", "bidirectional", "stacked") else "edge"


def markdown(mistakes: Sequence[Mistake] | None = None) -> str:
    """The page, of all mistakes unless told otherwise; these take a minute."""
    header, *body = rows(zoo.mistakes() if mistakes is None else mistakes)
    lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *body)]
    return HEAD + "\n".join(lines) + "\n"
