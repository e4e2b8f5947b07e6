"""The textbook: every number is `numpy_rnn.fast`'s, backward transposes forward, and the files read as they say."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from strategies import build, by_name, cases, network, run
from support import CELLS, assert_close, random_params, random_state, rng_of

import numpy_rnn.textbook
from numpy_rnn.study.equations import FUNCTIONS, code_lines, module_of, of_docstring
from numpy_rnn.verify import zoo

FOLDER = Path(numpy_rnn.textbook.__file__).parent
EACH_CELL = pytest.mark.parametrize("name", CELLS)
STEP = 1e-30


# --- the numbers --------------------------------------------------------------------------------------------------


class Textbook:
    """The same layers as `strategies.Deep`: layer after layer, sequence after sequence, step after step."""

    def __init__(self, case, params):
        self.case, self.kind, self.params = case, CELLS[case.cell][0], params
        self.cell, self.stack = zoo.machine(case.cell)

    def forward(self, x, s0, lengths=None, masks=None):
        T, B, _ = x.shape
        lengths = [T] * B if lengths is None else lengths.tolist()
        if masks is None:
            masks = [np.ones(())] * (self.case.L - 1)
        y, s_n, tapes = self.stack.forward(self.cell, self.params, x, s0, lengths, masks)
        return y, self.kind.State(*s_n), (tapes, lengths, masks)

    def backward(self, tape, dy, ds_n):
        tapes, lengths, masks = tape
        grads, dx, ds0 = self.stack.backward(self.cell, self.params, tapes, dy, ds_n, lengths, masks)
        grads = [[self.kind.Params(*direction) for direction in layer] for layer in grads]
        return by_name(grads), dx, self.kind.State(*ds0)


@given(cases())
def test_the_textbook_equals_fast(case):
    """Outputs, final states and every gradient; NaN stands in the padding, and what is missing counts as zero."""
    problem = build(case, hole=np.nan)
    expected = run(Textbook(case, problem.params), problem)
    got = run(network(case, problem.params), problem)
    no_biases = {name for name in expected if "bias" in name and not case.bias and case.through == "layer"}
    assert set(got) == set(expected) - no_biases
    for name, array in got.items():
        assert_close(name, array, expected[name], 1e-12)


def cell_problem(name, T=4, I=3, H=5, R=2):
    """Parameters, input and initial states of one sequence, and a random gradient of every state of its trajectory."""
    kind, rng = CELLS[name][0], rng_of(name, "textbook")
    params, s0 = random_params(kind, I, H, R, rng), random_state(kind, (), H, R, rng)
    return params, rng.standard_normal((T, I)), s0, random_state(kind, (T + 1,), H, R, rng)


@EACH_CELL
def test_a_cell_equals_fast_for_a_gradient_of_every_state(name):
    """Also of memories before the last one, which no output sees."""
    kind, rng = CELLS[name][0], rng_of(name, "every state")
    T, B, I, H, R = 4, 3, 2, 5, 6
    params, x = random_params(kind, I, H, R, rng), rng.standard_normal((T, B, I))
    s0, dstates = (random_state(kind, lead, H, R, rng) for lead in ((B,), (T + 1, B)))
    states, tape = kind.forward(params, x, s0)
    grads, dx, ds0 = kind.backward(tape, dstates)
    cell, total = zoo.machine(name).cell, [np.zeros_like(g) for g in grads]
    for b in range(B):
        trajectory, one = cell.forward(params, x[:, b], *(s[b] for s in s0))
        dparams, dsteps, initial = cell.backward(one, *(ds[:, b] for ds in dstates))
        for expected, got in zip(
            [*trajectory, dsteps, *initial], [*states, dx, *(ds[None] for ds in ds0)], strict=True
        ):
            assert_close("sequence", got[:, b].reshape(expected.shape), expected, 1e-13)
        total = [a + g for a, g in zip(total, dparams, strict=True)]
    for got, expected in zip(grads, total, strict=True):
        assert_close("gradient", got, expected, 1e-13)


@EACH_CELL
def test_backward_equals_complex_steps_in_every_entry(name):
    """d/dε of Σ states · dstates at θ + iε, one entry of θ after the other: of parameters, inputs and initial states."""
    params, x, s0, dstates = cell_problem(name)
    cell = zoo.machine(name).cell
    grads, dx, ds0 = cell.backward(cell.forward(params, x, *s0)[1], *dstates)
    inputs, n = [*params, x, *s0], len(params)
    for k, (value, by_hand) in enumerate(zip(inputs, [*grads, dx, *ds0], strict=True)):
        numeric = np.empty(value.shape)
        for index in np.ndindex(value.shape):
            moved = [a.astype(complex) for a in inputs]
            moved[k][index] += 1j * STEP
            states, _ = cell.forward(moved[:n], moved[n], *moved[n + 1 :])
            numeric[index] = sum(np.sum(s.imag * ds) for s, ds in zip(states, dstates)) / STEP
        assert_close(f"input {k}", by_hand, numeric, 1e-14)


@EACH_CELL
def test_backward_accepts_complex_numbers(name):
    """A complex step through both gives second derivatives; its real part is what real numbers give."""
    params, x, s0, dstates = cell_problem(name)
    cell, rng = zoo.machine(name).cell, rng_of(name, "direction")

    def gradients(params, x, s0, dstates):
        grads, dx, ds0 = cell.backward(cell.forward(params, x, *s0)[1], *dstates)
        return [*grads, dx, *ds0]

    direction = [rng.standard_normal(a.shape) for a in (*params, x, *s0)]
    n = len(params)

    def moved(size):
        """Gradients after a step along the direction."""
        there = [a + size * d for a, d in zip((*params, x, *s0), direction)]
        return gradients(there[:n], there[n], there[n + 1 :], [ds + 0 * size for ds in dstates])

    real, ahead, behind = gradients(params, x, s0, dstates), moved(1e-5), moved(-1e-5)
    for a, g, after, before in zip(moved(1j * STEP), real, ahead, behind, strict=True):
        assert_close("gradient", a.real, g, 1e-13)
        assert_close("its change", a.imag / STEP, (after - before) / 2e-5, 1e-6)


@EACH_CELL
def test_the_stack_accepts_complex_numbers(name):
    """A complex step through two layers and two directions, of ragged sequences, equals the gradients' share in it."""
    kind, rng = CELLS[name][0], rng_of(name, "complex stack")
    T, B, I, H, R = 4, 3, 2, 5, 6
    cell, stack = zoo.machine(name)
    s0, ds_n = (random_state(kind, (4, B), H, R, rng) for _ in range(2))
    units = s0[0].shape[2]
    params = [[random_params(kind, inputs, H, R, rng) for _ in range(2)] for inputs in (I, 2 * units)]
    x, dy = rng.standard_normal((T, B, I)), rng.standard_normal((T, B, 2 * units))
    lengths, masks = [4, 0, 2], [2.0 * rng.integers(0, 2, (T, B, 2 * units))]

    def gradients(params, x, s0, dy, ds_n):
        y, s_n, tapes = stack.forward(cell, params, x, s0, lengths, masks)
        return (y, *s_n), stack.backward(cell, params, tapes, dy, ds_n, lengths, masks)

    direction = rng.standard_normal(x.shape)
    _, (_, dx, _) = gradients(params, x, s0, dy, ds_n)
    weights = [[[w + 0j for w in p] for p in layer] for layer in params]
    others = [s + 0j for s in s0], dy + 0j, [ds + 0j for ds in ds_n]
    moved, (_, complex_dx, _) = gradients(weights, x + 1j * STEP * direction, *others)
    numeric = sum(np.sum(s.imag * d) for s, d in zip(moved, (dy, *ds_n))) / STEP
    assert_close("along the direction", np.sum(dx * direction), numeric, 1e-13)
    assert_close("dx", complex_dx.real, dx, 1e-13)


def test_rnn_is_tanh_unless_told_otherwise():
    params, x, s0, _ = cell_problem("rnn_tanh")
    (default,), _ = numpy_rnn.textbook.rnn.forward(params, x, *s0)
    (tanh,), _ = numpy_rnn.textbook.rnn.forward(params, x, *s0, "tanh")
    assert np.array_equal(default, tanh)


@EACH_CELL
def test_a_state_that_the_loss_sees_is_an_entry_like_any_other(name):
    """Also of no steps at all: what arrives at h_0 is its gradient."""
    params, x, s0, dstates = cell_problem(name)
    cell = zoo.machine(name).cell
    states, tape = cell.forward(params, x[:0], *s0)
    grads, dx, ds0 = cell.backward(tape, *(ds[:1] for ds in dstates))
    assert all(np.array_equal(s, [first]) for s, first in zip(states, s0))
    assert all(np.array_equal(d, ds[0]) for d, ds in zip(ds0, dstates))
    assert dx.shape == (0, x.shape[1])
    assert not any(g.any() for g in grads)


def test_relu_is_decided_by_the_real_part_and_hides_no_nan():
    f, df = numpy_rnn.textbook.rnn.NONLINEARITIES["relu"]
    a = np.array([-1.0, -0.0, 0.0, 2.0, np.nan, -np.inf, np.inf])
    np.testing.assert_array_equal(f(a), [0, 0, 0, 2, np.nan, 0, np.inf])
    np.testing.assert_array_equal(f(a + 1j)[:4], [0, 0, 0, 2 + 1j])
    np.testing.assert_array_equal(df(f(a))[:4], [False, False, False, True])


# --- the text -----------------------------------------------------------------------------------------------------


def code_of(module):
    """The numbered lines of forward's and of backward's loop: number, statement, remark behind it."""
    lines = Path(module.__file__).read_text(encoding="utf-8").splitlines()
    tree = ast.parse("\n".join(lines))
    for function in (f for name in FUNCTIONS for f in tree.body if getattr(f, "name", "") == name):
        (loop,) = (s for s in function.body if isinstance(s, ast.For))
        found = []
        for statement in loop.body:
            assert statement.lineno == statement.end_lineno
            text, _, remark = lines[statement.lineno - 1].strip().partition("  # ")
            number = re.match(r"\((\d+'?)\)", remark)
            found.append((number[1] if number else "", text, remark))
        yield found


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_a_file_fits_a_page_and_reads_nothing_of_the_package_but_the_textbook(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= (200 if path.stem == "micro" else 80)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            assert node.level <= 1
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            assert "numpy_rnn" not in ast.unparse(node)


@EACH_CELL
def test_every_line_of_an_equation_has_its_number(name):
    """Without one are those that take a step's values from the tape, put them there, or put blocks together."""
    for found in code_of(module_of(CELLS[name][0])):
        for number, text, remark in found:
            assert number or not remark
            assert bool(number) != bool(re.search(r"gates\[t\]|gates\.append|np\.concatenate", text)), text


@EACH_CELL
def test_code_and_docstring_have_the_same_numbers_in_the_same_order(name):
    module = module_of(CELLS[name][0])
    for found, equations in zip(code_of(module), of_docstring(module.__doc__), strict=True):
        numbers = [number for number, *_ in found if number]
        order = [n for k, n in enumerate(numbers) if numbers[k - 1 : k] != [n]]
        assert order == list(dict.fromkeys(e.number for e in equations))
    forward, backward = (list(dict.fromkeys(e.number for e in part)) for part in of_docstring(module.__doc__))
    assert backward == [f"{number}'" for number in reversed(forward)]


@EACH_CELL
def test_every_numbered_line_computes_an_equation_of_its_number(name):
    """And every equation is computed; the trace pages find lines like this, and compare their numbers."""
    cell = CELLS[name][0]
    module = module_of(cell)
    for function, found, equations in zip(FUNCTIONS, code_of(module), of_docstring(module.__doc__), strict=True):
        lines = [line for e in equations for line in code_lines(cell, function, e.number, e.targets[0])]
        assert all(code_lines(cell, function, e.number, e.targets[0]) for e in equations)
        assert {line.text.partition("  # ")[0] for line in lines} == {text for number, text, _ in found if number}


@EACH_CELL
def test_backward_quotes_the_line_that_it_transposes(name):
    """The remark "(3') of …" behind the first line of a transpose has equation (3) of the docstring."""
    module = module_of(CELLS[name][0])
    forward, _ = of_docstring(module.__doc__)
    _, backward = code_of(module)
    quotes = [(number, remark.partition(" of ")[2].split(", where")[0]) for number, _, remark in backward if number]
    assert {number for number, quote in quotes if quote} == {f"{e.number}'" for e in forward}
    for number, quote in quotes:
        if quote:
            assert any(f"{e.number}'" == number and e.text.startswith(quote) for e in forward), quote
