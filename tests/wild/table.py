"""Write the table of docs/verify/wild.md: `python tests/wild/table.py docs/verify/wild.md`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from wild.implementations import IMPLEMENTATIONS

from numpy_rnn.verify.difference import FORWARD
from numpy_rnn.verify.gradcheck import gradcheck
from numpy_rnn.verify.zoo import diagnose

BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"


def checked(implementation):
    """What gradcheck says of the gradient of Σ output ∘ doutput by all that is handed in."""
    case = implementation.case()
    ((p,),) = case.params
    fields, states = p._fields, ("h_0", "c_0")[: len(case.s0)]
    inputs = {"x": case.x, **dict(zip(states, (s[0] for s in case.s0))), **p._asdict()}

    def stated(given, **more):
        found = dict(zip(inputs, given))
        s0 = tuple(found[name][None] for name in states)
        return case._replace(x=found["x"], s0=s0, params=[[type(p)(*(found[f] for f in fields))]], **more)

    def backward(given, upstream):
        nothing = tuple(np.zeros_like(ds) for ds in case.ds_n)
        found = implementation.run(stated(given, doutput=upstream[0] * case.doutput, ds_n=nothing))
        named = {name: found.get(f"d{name}") for name in inputs}
        return {name: g[0] if name in states else g for name, g in named.items() if g is not None}

    def loss(*given):
        return np.sum(implementation.run(stated(given))["output"] * case.doutput)

    return gradcheck(loss, backward, inputs)


def diagnosed(implementation):
    case = implementation.case()
    theirs = implementation.run(case)
    outputs = {name: a for name, a in theirs.items() if name in FORWARD}
    return diagnose(case, outputs, {name: a for name, a in theirs.items() if name not in FORWARD})


def verdict(implementation):
    """A word of gradcheck's: only where there is a gradient to check, of one layer."""
    if implementation.sizes.get("L") or set(implementation.run(implementation.case())) == {"output"}:
        return "–"
    return checked(implementation).verdict


def named(found):
    """What diagnose says, in a cell of the table."""
    if found.agrees:
        return "right"
    return " and ".join(f"`{m.name}`" for m in found.mistakes) or found.slip


def row(implementation, found):
    """A row of the table, given what diagnose has found."""
    cells = (implementation.title, implementation.cell, implementation.truth or "right", verdict(implementation))
    return f"| {' | '.join(cells)} | {named(found)} |"


def table(rows):
    """The whole table, and what it comes to."""
    said = [line.split(" | ")[-1].removesuffix(" |") for line in rows]
    of_wrong = [what for one, what in zip(IMPLEMENTATIONS, said) if one.truth]
    of_right = [what for one, what in zip(IMPLEMENTATIONS, said) if not one.truth]
    head = ["| implementation | cell | truth | gradcheck | diagnose |", "|---|---|---|---|---|"]
    sums = [
        f"Wrong ones that `diagnose` names: {sum(what not in ('', 'right') for what in of_wrong)} of {len(of_wrong)}.",
        f"Right ones that it accuses: {sum(what != 'right' for what in of_right)} of {len(of_right)}.",
    ]
    return "\n".join([*head, *rows, "", *sums]) + "\n"


def page(text):
    """The page with a new table."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table([row(one, diagnosed(one)) for one in IMPLEMENTATIONS])}\n{END}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")
