"""Finds the lines of a cell's code that compute an equation: by the number that stands beside them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from ..fast.cell import Cell

FUNCTIONS = ("forward", "backward")


class CodeLine(NamedTuple):
    """A line of the project's code."""

    file: str  # as seen from the project's root
    line: int  # counted from 1
    text: str  # as it stands there, without its indentation


class _Statement(NamedTuple):
    lines: tuple[CodeLine, ...]
    numbers: frozenset[str]  # of the equations that it belongs to
    given: frozenset[str]  # names of arrays that it writes


def module_of(cell: Cell) -> ModuleType:
    """The module whose equations a cell follows.

    Examples
    --------
    >>> from numpy_rnn.fast import rnn
    >>> module_of(rnn.RELU).__name__
    'numpy_rnn.fast.rnn'
    """
    return import_module(cell.backward.__module__)


def _bodies(body: Sequence[ast.stmt]) -> Iterator[Sequence[ast.stmt]]:
    """A function's statements, and those of its loops after it."""
    yield body
    for statement in body:
        if isinstance(statement, ast.For):
            yield from _bodies(statement.body)


def _call(statement: ast.stmt) -> ast.Call:
    """The call that a statement consists of, one without arguments where there is none."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    return call if isinstance(call, ast.Call) else ast.Call(ast.Name(""), [], [])


def _outs(statement: ast.stmt) -> list[ast.expr]:
    """Where a call puts its results: what it names `out`, and what a ufunc gets beyond its operands.

    Examples
    --------
    >>> ast.unparse(_outs(ast.parse("np.add(i * g, f * c, c_next)").body[0]))
    'c_next'
    """
    call = _call(statement)
    ufunc = getattr(np, call.func.attr, None) if isinstance(call.func, ast.Attribute) else None
    operands = ufunc.nin if isinstance(ufunc, np.ufunc) else len(call.args)
    return call.args[operands:] + [keyword.value for keyword in call.keywords if keyword.arg == "out"]


def _given(statement: ast.stmt) -> frozenset[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    targets += _outs(statement)
    return frozenset(n.id for t in targets if t is not None for n in ast.walk(t) if isinstance(n, ast.Name))


def _goes_on(statement: ast.stmt) -> bool:
    """Whether a statement works on in an array that is there: x *= y, or np.tanh(x, x)."""
    return isinstance(statement, ast.AugAssign) or bool(_outs(statement))


def _numbers(line: str) -> frozenset[str]:
    """Numbers with which the remark behind a line begins.

    Examples
    --------
    >>> sorted(_numbers("affine(W, x, b, a)  # (1) (3), all that needs no state")), sorted(_numbers("b  # as (1)"))
    (['1', '3'], [])
    """
    match = re.match(r"(?:\(\d'?\) ?)*", line.partition("  # ")[2])
    return frozenset(re.findall(r"\d'?", match[0] if match else ""))


@cache
def _statements(module: ModuleType, function: str) -> tuple[_Statement, ...]:
    """A function's statements that belong to equations.

    A number stands behind a line. Lines without one that follow it directly, and work on in an array that is there,
    belong to it too: σ takes three of them.
    """
    path = Path(str(module.__file__))
    source = path.read_text(encoding="utf-8")
    text, file = source.splitlines(), str(path.relative_to(path.parents[2]).as_posix())
    (body,) = (f.body for f in ast.parse(source).body if isinstance(f, ast.FunctionDef) and f.name == function)
    found = []
    for statements in _bodies(body):
        numbers, end = frozenset[str](), -1
        for statement in statements:
            first, last = statement.lineno, statement.end_lineno or statement.lineno
            if isinstance(statement, ast.For):
                numbers = frozenset()
                continue
            own = _numbers(text[last - 1])
            follows = first == end + 1 and _goes_on(statement)
            numbers, end = own or (numbers if follows else frozenset()), last
            if numbers:
                lines = tuple(CodeLine(file, n, text[n - 1].strip()) for n in range(first, last + 1))
                found.append(_Statement(lines, numbers, _given(statement)))
    return tuple(sorted(found, key=lambda s: s.lines[0].line))


def _gates(name: str) -> frozenset[str]:
    """Letters of the gates that an array holds: of da_ifg i, f and g, of dc none.

    Examples
    --------
    >>> sorted(_gates("da_ifg")), sorted(_gates("dv_n")), sorted(_gates("di")), sorted(_gates("dc_dh"))
    (['f', 'g', 'i'], ['n'], ['i'], [])
    """
    match = re.fullmatch(r"d(?:[auv]_)?([ifgorzn]+)", name)
    return frozenset(match[1] if match else "")


def _about(statement: _Statement, name: str, number: str) -> bool:
    """Whether a statement of backward writes what the equation's name means, or the gate that it belongs to."""
    written = {re.sub(r"_t$", "", given) for given in statement.given}
    root = re.sub(r"_(t|\{.*\})$", "", name)
    if number == "1'":  # dh, dx, and the rest, which is the parameters' gradients
        return root in written if root in ("dh", "dx") else not written & {"dh", "dx"}
    if name.startswith(("dP", "dW")):
        return bool(written & {name, name.partition("_")[0]})
    gates = frozenset[str]().union(*map(_gates, written))
    return bool(gates & _gates(name)) if _gates(name) else not gates and not any(w[:2] in ("dP", "dW") for w in written)


def code_lines(cell: Cell, function: str, number: str, name: str) -> tuple[CodeLine, ...]:
    """The lines that compute an equation.

    Parameters
    ----------
    cell : Cell
    function : "forward" or "backward"
    number : str
        The equation's, such as "3'".
    name : str
        What the equation gives a value to, such as "dh_t". Where the code has lines of its own for it, only these
        are returned; often it does several of an equation's lines in one.

    Returns
    -------
    tuple of CodeLine

    Examples
    --------
    >>> from numpy_rnn.fast import gru
    >>> [line.text for line in code_lines(gru.GRU, "forward", "3", "n")]
    ['n += r * v_n  # (3)', 'np.tanh(n, n)']
    >>> [line.text for line in code_lines(gru.GRU, "backward", "1'", "dx_t")]
    ["dx = (du.T @ W_ih).reshape(T, B, I)  # (1')"]
    """
    found = [s for s in _statements(module_of(cell), function) if number in s.numbers]
    nearer = [s for s in found if function == "backward" and _about(s, name, number)]
    found = nearer or found
    return tuple(line for s in found for line in s.lines)
