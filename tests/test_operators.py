"""Any operator of the core turned round turns `numpy-rnn check` red.

Every operator of the modules below is replaced by another one, one at a time, in the code objects of the running
functions, and numpy_rnn's side of the comparisons is run again against PyTorch's numbers. `SEES_NOTHING` has those that
change no number, with the reason.
"""

from __future__ import annotations

import ast
import copy
import inspect
import types
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import torch_rnn
from numpy_rnn.fast import deep, gru, lstm, numerics, rnn, truncated
from numpy_rnn.fast.registry import USER_FACING, Kind
from numpy_rnn.layers import losses, optim, scratch
from numpy_rnn.verify import compare
from numpy_rnn.verify.difference import difference

TURNED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.MatMult: None}
CALLS = {"add": "subtract", "subtract": "add", "multiply": "add", "divide": "multiply"}
CELLS = {
    rnn: ("rnn_tanh", "rnn_relu"),
    lstm: ("lstm", "lstm_projection", "lstm_peephole"),
    gru: ("gru", "gru_reset_before"),
}
MODULES = (*CELLS, numerics, deep, truncated, scratch, losses, optim)
SEES_NOTHING = {
    "return np.empty((R, T * B), z.dtype)": "an empty batch, which PyTorch does not take",
    "if lengths is None and 0 < T * B <= BLOCK_COLUMNS:  # most often": "chooses blocks, not numbers",
    'f"{name}.{part}": (shape, 1 / math.sqrt(inputs))': "initial weights, which are replaced",
    "lengths = None if tape.lengths is None else np.clip(tape.lengths - start, 0, stop - start)": (
        "the upper limit alone: a length beyond the end of the window's steps counts as that end"
    ),
    "z = rows - rows.max(axis=1, keepdims=True)": "softmax is the same for all shifts; this one keeps exp finite",
    "if logits.ndim == 0 or logits.shape[-1] == 0:": "a check of the argument",
}


class Turn(ast.NodeTransformer):
    """Turn the operator of one number, or only count them."""

    def __init__(self, which=None):
        self.which, self.seen, self.line = which, 0, 0

    def chosen(self, node):
        self.seen += 1
        if self.seen - 1 == self.which:
            self.line = node.lineno
            return True
        return False

    def operator(self, node):
        self.generic_visit(node)
        turned = TURNED.get(type(node.op))
        if turned and self.chosen(node):
            node.op = turned()
        return node

    visit_BinOp = visit_AugAssign = operator

    def visit_UnaryOp(self, node):
        self.generic_visit(node)
        return node.operand if isinstance(node.op, ast.USub) and self.chosen(node) else node

    def visit_Call(self, node):
        self.generic_visit(node)
        f = node.func
        if (
            isinstance(f, ast.Attribute)
            and getattr(f.value, "id", "") == "np"
            and f.attr in CALLS
            and self.chosen(node)
        ):
            f.attr = CALLS[f.attr]
        return node

    # What is no arithmetic of a step: annotations and messages.
    def visit_AnnAssign(self, node):
        node.value = self.visit(node.value) if node.value else None
        return node

    def visit_FunctionDef(self, node):
        node.body = [self.visit(line) for line in node.body]
        return node

    def visit_Raise(self, node):
        return node


def codes(code, inside=""):
    """Code objects of functions and methods by their qualified names; what is inside a function belongs to it."""
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            if "__module__" in const.co_names and "__qualname__" in const.co_names:  # a class
                yield from codes(const, f"{inside}{const.co_name}.")
            else:
                yield f"{inside}{const.co_name}", const


def functions(module):
    """The functions that a module has defined, by their qualified names."""
    found = {}
    for value in vars(module).values():
        for member in vars(value).values() if inspect.isclass(value) else (value,):
            f = getattr(member, "__func__", getattr(member, "fget", member))
            if inspect.isfunction(f) and f.__module__ == module.__name__:
                found[f.__qualname__] = f
    return found


@cache
def tree(module):
    return ast.parse(inspect.getsource(module))


def operators(module):
    counter = Turn()
    counter.visit(copy.deepcopy(tree(module)))
    return counter.seen


@cache
def answers(cell):
    """Problems of a cell and PyTorch's numbers, in float64; short ones will do, but for text and the longest."""
    kind = USER_FACING[cell]
    chosen = [(kind, case) for case in compare.CASES if case.T < 40]
    chosen.append((kind, compare.Setting("snapshots", T=30, B=2, I=3, H=4, snapshots=True)))
    if kind.from_scratch:
        chosen.append((Kind(kind.from_scratch, {}, in_torch_nn=False), compare.SCRATCH_CASES[0]))
    problems = [compare.make_problem(kind, case, "float64") for kind, case in chosen]
    return [(problem, compare.run_torch(problem, torch_rnn, "cpu")) for problem in problems]


def is_red(module):
    """Whether a comparison fails, or numpy_rnn does."""
    try:
        with np.errstate(all="ignore"):
            if module in (losses, optim):
                return not all(f.ok for f in compare.training_findings("float64"))
            for cell in CELLS.get(module, ("gru", "lstm", "rnn_tanh")):
                for problem, expected in answers(cell):
                    found = compare.run_numpy(problem)
                    if any(not difference(found[name], a).error <= 1e-12 for name, a in expected.items()):
                        return True
    except Exception:  # whatever broken code raises
        return True
    return False


def turned(module, which):
    """The line of an operator, and the function that it stands in with the operator turned round."""
    turn, changed = Turn(which), copy.deepcopy(tree(module))
    changed = ast.fix_missing_locations(turn.visit(changed))
    broken = dict(codes(compile(changed, module.__file__, "exec")))
    original = dict(codes(compile(tree(module), module.__file__, "exec")))
    differ = [name for name in broken if broken[name] != original[name]]
    return turn.line, differ[0] if differ else None, broken


def survivors(module, every=1, first=0):
    """Lines whose operator can be turned round without a comparison that fails, and how many were tried."""
    found, there, tried = [], functions(module), 0
    assert not is_red(module)
    for which in range(first, operators(module), every):
        line, name, broken = turned(module, which)
        if name is None or name not in there:  # outside of functions
            continue
        tried += 1
        before, there[name].__code__ = there[name].__code__, broken[name]
        try:
            if not is_red(module):
                found.append(inspect.getsource(module).splitlines()[line - 1].strip())
        finally:
            there[name].__code__ = before
    return found, tried


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_any_operator_turned_round_is_red(module, every):
    found, tried = survivors(module, every)
    assert tried > 0
    assert set(found) <= set(SEES_NOTHING), found


def test_the_document_counts_them():
    text = Path(__file__).parents[1].joinpath("docs/verify/check.md").read_text(encoding="utf-8")
    assert f"{sum(map(operators, MODULES))} operators" in text
    assert f"all but {len(SEES_NOTHING)}" in text
