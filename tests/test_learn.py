"""The pages of docs/learn: every step of the LSTM equals the textbook, and what a page quotes is what stands in the code."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import assert_all_close

from numpy_rnn.port.conventions import LAYOUTS
from numpy_rnn.textbook import gru, gru_reset_before

LEARN = Path(__file__).parents[1] / "docs" / "learn"


@pytest.fixture(scope="module")
def steps():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(LEARN))
        yield importlib.import_module("from_textbook_to_fast")


@pytest.fixture(scope="module")
def pages(steps):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(LEARN))
        yield importlib.import_module("pages")


def page(name):
    return (LEARN / name).read_text("utf-8")


STEP_PAGES = ["from-textbook-to-fast.md", "from-textbook-to-fast.zh.md"]
GRU_PAGES = ["gru-reset.md", "gru-reset.zh.md"]


# ---- from textbook to fast


@given(sizes=st.tuples(*[st.integers(1, 7)] * 4), seed=st.integers(0, 99))
def test_every_step_equals_the_textbook(steps, sizes, seed):
    problem = steps.problem(*sizes, np.random.default_rng(seed))
    given_ones = [a.copy() for a in (*problem[0], *problem[1:])]
    (_, textbook), *others = steps.STEPS.items()
    expected = textbook(*problem)
    for name, run in others:
        assert_all_close(run(*problem), expected, 1e-12, name)
        for a, before in zip((*problem[0], *problem[1:]), given_ones):
            np.testing.assert_array_equal(a, before)


def test_the_steps_are_these(steps):
    assert [name[:2] for name in steps.STEPS] == ["0.", "1.", "2.", "3.", "4.", "5.", "6.", "fa"]
    assert len(inspect.getsource(steps).splitlines()) <= 250


@pytest.mark.parametrize("name", STEP_PAGES)
def test_the_table_times_every_step(steps, name):
    table = page(name).split("<!-- times: begin -->\n")[1].split("<!-- times: end -->")[0]
    _, rule, *rows = table.strip().splitlines()
    assert rule == "|---|" + "--:|" * 2 * len(steps.SIZES)
    assert [row.split(" | ")[0] for row in rows] == [f"| {step}" for step in steps.STEPS]
    numbers = np.array([[float(cell) for cell in row.strip("| ").split(" | ")[1:]] for row in rows])
    ms, ratios = numbers[:, ::2], numbers[:, 1::2]
    np.testing.assert_allclose(ratios, ms[0] / ms, rtol=0, atol=0.05 + ratios.max() * 0.01 / ms.min())
    assert re.search(r"<!-- machine: begin -->\n\n.+, one thread, float64, NumPy [\d.]+, load [\d.]+\n", page(name))


def test_a_table_is_measured(steps):
    table, machine = steps.table(rounds=1)
    assert len(table.splitlines()) == 2 + len(steps.STEPS)
    assert f"NumPy {np.__version__}" in machine


# ---- reset after, reset before


@pytest.mark.parametrize("name", GRU_PAGES)
@pytest.mark.parametrize("module", [gru, gru_reset_before])
@pytest.mark.parametrize("function", ["forward", "backward"])
def test_every_equation_stands_on_the_page(name, module, function):
    """Counted without the code that writes the page: each numbered line, in its order, in its column, marked or not."""
    section = page(name).split(f"<!-- GRU {function}: begin -->")[1].split(f"<!-- GRU {function}: end -->")[0]
    rows = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in section.strip().splitlines()[2:]]
    column = 1 if module is gru else 3
    quoted = [(number, cells[column - 1].strip("`")) for number, *cells in rows if cells[column - 1]]
    source = [line.strip() for line in inspect.getsource(getattr(module, function)).splitlines()]
    numbered = [re.match(r"(.*?)  # (\(\d'?\))", line) for line in source]
    expected = [(match[2], match[1]) for match in numbered if match]
    assert [line for line in quoted if line in expected] == expected
    assert len(expected) >= 5
    for _, one, mark, other in rows:
        assert mark == ("" if one == other else "**≠**")
    assert {mark for _, _, mark, _ in rows} == {"", "**≠**"}


SYSTEMS = {
    "PyTorch": "torch", "cuDNN": "cudnn", "Keras 3": "keras", "ONNX": "onnx", "MLX": "mlx", "Flax linen": "flax",
    "Equinox": "equinox", "haste": "haste", "Flux.jl": "flux", "Haiku": "haiku",
}  # fmt: skip


@pytest.mark.parametrize("name", GRU_PAGES)
def test_who_uses_which_is_what_the_converters_know(name):
    """The layouts of numpy_rnn.port were tested against the systems themselves."""
    after, before = ("after", "before") if name == "gru-reset.md" else ("之后", "之前")
    biases = {
        "two": ("two biases", "两个偏置"),
        "one": ("one bias", "一个偏置"),
        "one and n": ("one bias, and b_hn", "一个偏置，另有 b_hn"),
    }
    rows = dict(re.findall(r"^\| ([\w .]+?) \| (.*) \|$", page(name), flags=re.M))
    for system, key in SYSTEMS.items():
        reset, remarks = rows[system].split(" | ")
        cells = LAYOUTS[key]
        # torch's layouts name both forms, for numpy_rnn has both; torch.nn has one.
        assert (after in reset) == ("gru" in cells), system
        assert system in ("PyTorch", "Flux.jl") or (before in reset) == ("gru_reset_before" in cells), system
        layout = cells["gru"] if "gru" in cells else cells["gru_reset_before"]
        assert remarks.startswith(biases[layout.biases][name != "gru-reset.md"]), system


@pytest.mark.parametrize("name", GRU_PAGES)
def test_examples_run(name):
    failed, tried = doctest.testfile(str(LEARN / name), module_relative=False)
    assert (failed, tried) == (0, 12)


# ---- all pages


@pytest.mark.parametrize("name", [*STEP_PAGES, *GRU_PAGES])
def test_pages_quote_the_code(pages, name):
    """`python docs/learn/pages.py` writes them."""
    quotations = pages.blocks()
    assert pages.fill(page(name), quotations) == page(name)
    expected = {q for q in quotations if q.startswith("step" if name in STEP_PAGES else "GRU")}
    marks = set(re.findall(r"<!-- (.*): begin -->", page(name)))
    assert marks == expected | ({"times", "machine"} if name in STEP_PAGES else set())
    assert len(expected) == (6 if name in STEP_PAGES else 2)
    changed = pages.fill(page(name), dict.fromkeys(marks, "other"))
    assert changed.count("\nother\n") == len(marks)
