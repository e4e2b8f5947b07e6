"""Each kind of mistake that was seen in public, made by a small implementation of its own, gets its name from `diagnose`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from wild.implementations import IMPLEMENTATIONS
from wild.students import LOADED, SLIPS, TWICE
from wild.table import diagnosed, row, table

from numpy_rnn.verify import zoo
from numpy_rnn.verify.difference import FORWARD

PAGE = (Path(__file__).parents[1] / "docs" / "verify" / "wild.md").read_text(encoding="utf-8")
ALL = [
    pytest.param(cell, run, slip, names, id=f"{cell}-{run.__name__}-{slip or 'right'}")
    for (cell, run), slips in SLIPS.items()
    for slip, names in slips.items()
]
SLOW = {"second term alone derived, in two gates", "bias added, order f i g o", "bias lost, order f i g o"}  # pairs
QUICK = [
    pytest.param(*param.values, id=param.id, marks=[pytest.mark.long] if param.values[2] in SLOW else [])
    for param in ALL
]
CELLS_LOADED = [
    pytest.param(cell, run, slip, names, id=f"{cell}-{slip}") for (cell, run, slip), names in LOADED.items()
]


def own_case(cell, run, slip):
    """A problem that is none of the zoo's, of other sizes."""
    if slip == "a >= 0":
        case = zoo.random_case("students", cell, T=4, B=2, I=2, H=4, zero_state=True)
        p = case.params[0][0]
        return case._replace(
            params=[[p._replace(b_ih=0 * p.b_ih, b_hh=0 * p.b_hh)]], x=case.x * np.array([0, 1, 0, 1])[:, None, None]
        )
    if run.__name__ == "rnn_stack":
        return zoo.random_case("students", cell, T=6, B=3, I=2, H=4, L=2, D=2, lengths=(3, 5, 2))
    return zoo.random_case("students", cell, T=5, B=3, I=2, H=4)


def numbers(cell, run, slip):
    case = own_case(cell, run, slip)
    more = {"calls": 2} if slip in TWICE else {}
    return case, run(case, slip, **more)


def said(case, theirs, **options):
    outputs = {name: a for name, a in theirs.items() if name in FORWARD}
    grads = {name: a for name, a in theirs.items() if name not in FORWARD}
    return zoo.diagnose(case, outputs, grads, **options)


@pytest.mark.parametrize(("cell", "run", "slip", "names"), QUICK)
def test_a_kind_is_named(cell, run, slip, names):
    case, theirs = numbers(cell, run, slip)
    found = said(case, theirs)
    assert found.agrees == (not names), str(found)
    assert {m.name for m in found.mistakes} == names, str(found)


@pytest.mark.parametrize(
    ("cell", "run", "slip", "names"),
    [
        param if k % 8 == 0 else pytest.param(*param.values, id=param.id, marks=pytest.mark.long)
        for k, param in enumerate(ALL)
    ],
)
def test_a_kind_is_named_from_float32_and_from_four_decimals(cell, run, slip, names):
    case, theirs = numbers(cell, run, slip)
    single = said(case, {name: a.astype(np.float32) for name, a in theirs.items()})
    printed = said(case, {name: np.round(a, 4) for name, a in theirs.items()})
    for found in (single, printed):
        assert found.agrees == (not names), str(found)
        assert {m.name for m in found.mistakes} == names, str(found)


@pytest.mark.parametrize(("cell", "run", "slip", "names"), CELLS_LOADED)
def test_weights_in_the_wrong_layout_are_named(cell, run, slip, names):
    case, theirs = numbers(cell, run, slip)
    found = said(case, {name: theirs[name] for name in ("output", "h_n")})
    assert {m.name for m in found.mistakes} == names, str(found)
    whole = str(said(case, theirs))
    assert "by themselves come out when" in whole
    assert all(name in whole for name in names)


@pytest.mark.parametrize("one", IMPLEMENTATIONS, ids=lambda one: one.title)
def test_an_implementation_is_named_or_right_as_the_page_says(one):
    found = diagnosed(one)
    assert found.agrees == (not one.truth), str(found)
    assert {m.name for m in found.mistakes} == one.names, str(found)
    assert one.says in str(found)
    assert row(one, found) in PAGE, "stale: python tests/wild/table.py docs/verify/wild.md"


def test_the_page_has_these_rows_and_no_others():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "| cell |" not in line]
    assert [line.split(" | ")[0].removeprefix("| ") for line in rows] == [one.title for one in IMPLEMENTATIONS]
    assert table(rows) in PAGE
