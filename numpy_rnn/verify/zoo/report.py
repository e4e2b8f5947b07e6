"""The zoo's catalogue and its kill matrix, as one Markdown page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from ...fast.registry import CELLS
from .checks import CHECKS, killed_by
from .mistake import LAYERS, Mistake
from .mistakes import MISTAKES
from .search import RUN_AT_MOST

Kills = Mapping[str, Mapping[str, frozenset[str]]]  # mistake -> cell -> names of the checks that it fails

THREAD, LINK = re.compile(r"(\S+/\S+)#(\d+)"), r"[\1#\2](https://github.com/\1/issues/\2)"
OUTSIDE = ("rnn_tanh", "lstm", "gru")  # the cells in which mistakes outside a cell are run

HEAD = """\
# The bug zoo

{count} classic mistakes in recurrent layers, forwards and backwards. Each is a change of a few lines of the
textbook in `numpy_rnn/textbook/`, and runs:

```python
from numpy_rnn.verify import zoo

case = zoo.cases("gru")[1]  # "stacked": two layers, two directions, lengths, dropout
bug = zoo.mistake("gru-z-turned-around")
theirs = zoo.machine("gru", bug).run(case)  # every output and gradient, as the mistake makes them
print(zoo.diagnose(case, outputs={{"h_n": theirs["h_n"]}}))
```

"Seen" names public threads where people met the mistake, or asked about just this; where it is missing, none is known
to us, and the mistake is there because it is easily made. Every machine and every check runs in float64.
[What it says of code that other people wrote](wild.md) is a page of its own.

## What it cannot see

* **What the numbers do not show.** "Right" is said of the numbers that were handed in, not of the code. Zero initial
  states, zero biases, upstream gradients of one, a single step, sequence or layer, sequences of one length: each
  hides a whole family of mistakes, and so do few digits. Random numbers for everything, as in `zoo.cases`, hide
  least.
* **What depends on something that was not handed in**: weights that stayed at their own random values, a dropout mask
  of one's own, what a call before has left behind if it had other data. The answer then says which number is wrong
  first, and no name.
* **Three mistakes at once**, or two that spoil each other's traces so that none of the {pairs} likeliest pairs makes
  the numbers.
* **Which of several mistakes it was** if they make the same numbers. Those that the catalogue knows are all listed,
  and more tensors tell most of them apart; but your line may have come to the same numbers in a way that is not in
  the catalogue.
* **Anything outside the layer**: embedding, loss, optimizer, learning rate, the order of the data, the training loop.
* **Cells and options that numpy_rnn does not have**: layer normalisation, zoneout, attention, other activations.

## The checks

A check notices ("kills") a mistake if the layer with the mistake fails it, by more than 1e-11 relative to the tensor,
or raises. The reference is `numpy_rnn.fast`, which is held against torch elsewhere and shares no code with the
textbook. All but the first four need no reference. They are run on the cases of `zoo.cases`.

| column | check | asks | kills |
|---|---|---|---:|
"""

AFTER_CHECKS = """
"Kills" counts mistakes that the check notices in every cell that can have them; in brackets those that it notices in
some cells only. Mistakes outside the cell, in `stack.py`, are run with three cells: {outside}.

A mistake that the complex step lets pass is one whose backward is the exact transpose of its wrong forward: the
gradient is right, of another function. Only a reference, or an invariance that the function lacks, can see it.

## The mistakes
"""

MATRIX = """
## Which check kills which mistake

● in every cell that the mistake is run in, ○ in some. Columns as in the table of checks.

"""


def kills(mistakes: Sequence[Mistake] = MISTAKES) -> Kills:
    """Run every check on every mistake; all of them take a minute.

    A mistake inside a cell is run in every cell that can have it, one outside in three cells.
    """
    return {m.name: {cell: killed_by(cell, m) for cell in _cells_to_run(m)} for m in mistakes}


def _cells_to_run(m: Mistake) -> tuple[str, ...]:
    outside = all(change.module == LAYERS for changes in m.changes.values() for change in changes)
    return tuple(cell for cell in m.cells if not outside or cell in OUTSIDE)


def mark(kills: Kills, mistake: Mistake, check: str) -> str:
    """● if the check notices the mistake in every cell, ○ if in some, nothing if in none."""
    found = [check in checks for checks in kills[mistake.name].values()]
    return "●" if all(found) else "○" if any(found) else ""


def markdown(kills: Kills) -> str:
    """The page of the mistakes that `kills` has run."""
    mistakes = [m for m in MISTAKES if m.name in kills]
    rows = []
    for check in CHECKS:
        marks = [mark(kills, m, check.name) for m in mistakes]
        some = f" (+{marks.count('○')})" if "○" in marks else ""
        rows.append(f"| {check.short} | {check.name} | {check.what} | {marks.count('●')}{some} |\n")
    parts = [
        HEAD.format(count=len(mistakes), pairs=RUN_AT_MOST),
        *rows,
        AFTER_CHECKS.format(outside=", ".join(OUTSIDE)),
    ]
    for group, members in groupby(mistakes, key=lambda m: m.group):
        parts += [f"\n### {group[0].upper()}{group[1:]}\n", *(_entry(kills, m) for m in members)]
    return "".join([*parts, MATRIX, *_matrix(kills, mistakes)])


def _entry(kills: Kills, m: Mistake) -> str:
    """One mistake: story, threads, diff, checks."""
    cells = "all cells" if set(m.cells) == set(CELLS) else ", ".join(m.cells)
    by = ", ".join(
        c.name + (" (some cells)" if mark(kills, m, c.name) == "○" else "") for c in CHECKS if mark(kills, m, c.name)
    )
    shown = m.cells[0]
    return (
        f"\n#### {m.name}\n\n{THREAD.sub(LINK, m.story)}\n\n"
        f"The numbers are those that come out when {m.what}. In: {cells}.\n"
        f"Killed by: {by or 'nothing'}.\n\n```diff\n{m.diff(shown)}\n```\n"
    )


def _matrix(kills: Kills, mistakes: Sequence[Mistake]) -> Iterator[str]:
    yield f"| mistake | {' | '.join(c.short for c in CHECKS)} |\n|---|{':-:|' * len(CHECKS)}\n"
    for m in mistakes:
        yield f"| {m.name} | {' | '.join(mark(kills, m, c.name) for c in CHECKS)} |\n"
