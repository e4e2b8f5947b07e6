"""Reads the equations in a cell's docstring, so that they can be carried out as they stand there; finds their code.

    (1)   a_t     = W_ih x_t + b_ih + W_hh h_t + b_hh         rows of a_t: a_i, a_f, a_g, a_o
    (2)   i, f, o = σ(a_i), σ(a_f), σ(a_o)     g = tanh(a_g)

The notation is that of `numpy_rnn.study.notation`. Σ_t is a sum to which each step adds its part, and what is no
equation is a remark.
"""

from __future__ import annotations

import inspect
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..fast.cell import Cell
from ..fast.numerics import Array
from ..verify.zoo.mistake import textbook_module
from .notation import NAME, FormulaError, Node, Token, expression, formulas, tokens

FUNCTIONS = ("forward", "backward")


class Equation(NamedTuple):
    """One equation of a docstring."""

    number: str  # as in the docstring, such as "3'"
    text: str  # as in the docstring
    targets: tuple[str, ...]  # names that receive the value: of [a; b] a part each, of du_r = dv_r = … all of it
    adds: bool  # += or Σ_t: the value is added to what is there
    tokens: tuple[Token, ...]  # of the right side
    right: Node  # the same as a tree
    others: tuple[Node, ...]  # further right sides, where the docstring has the same in another form
    remark: str  # what stands beside it


def read(lines: str) -> Iterator[Equation]:
    """The equations of some lines of a docstring, in their order; what is no equation is a remark.

    Examples
    --------
    >>> [e.text for e in read("    (2)   r, z    = σ(u_r), σ(u_z)     q_t = r ∘ h_t     a remark")]
    ['r = σ(u_r)', 'z = σ(u_z)', 'q_t = r ∘ h_t']
    """
    found: list[Equation] = []
    block = re.findall(r"^ {4}(?:\((?:\d+'?|∂)\)| {3}) *\S.*$", lines, re.MULTILINE)
    for number, text in formulas("\n".join(block)):
        try:
            found += [_equation(number, part) for part in _apart(text)]
        except FormulaError:
            if found:
                found[-1] = found[-1]._replace(remark=text)
    yield from found


def of_docstring(text: str) -> tuple[tuple[Equation, ...], tuple[Equation, ...]]:
    """The equations forward and backward of a cell's module.

    Examples
    --------
    >>> from numpy_rnn.textbook import gru
    >>> forward, backward = of_docstring(gru.__doc__)
    >>> [f"({e.number}) {e.text}" for e in forward[:3]]
    ['(1) u_t = W_ih x_t + b_ih', '(1) v_t = W_hh h_t + b_hh', '(2) r = σ(u_r + v_r)']
    >>> backward[6].text, backward[6].targets
    ('du_r = dv_r = dr ∘ r ∘ (1 - r)', ('du_r', 'dv_r'))
    """
    _, _, text = text.partition("\nForward,")
    forward, _, backward = text.partition("\nBackward,")
    return tuple(read(forward)), tuple(read(backward))


def _equation(number: str, text: str) -> Equation:
    sides = re.split(r" (\+?=) ", text)
    targets, rights = _names(sides[0]), sides[2::2]
    while len(rights) > 1 and (more := _names(rights[0])):  # du_r = dv_r = …
        targets += more
        del rights[0]
    if not targets or not rights:
        raise FormulaError(f"{text!r} is no equation")
    pieces = tokens(rights[0])
    adds = sides[1] == "+=" or any(t.kind == "big" for t in pieces)
    right, *others = map(expression, rights)
    return Equation(number, text, targets, adds, pieces, right, tuple(others), "")


def _names(text: str) -> tuple[str, ...]:
    """What a left side names, () if it is none."""
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    parts = tuple(part.strip() for part in inner.split(";"))
    return parts if all(re.fullmatch(rf"{NAME}|∂{NAME}/∂{NAME}", part) for part in parts) else ()


def _apart(text: str) -> list[str]:
    """I, f = σ(a_i), σ(a_f) as one equation for each name; any other as it is."""
    left, equals, right = text.partition(" = ")
    names, values = left.split(", "), re.split(r", (?![^(]*\))", right)
    if not equals or len(names) == 1 or len(names) != len(values):
        return [text]
    return [f"{name} = {value}" for name, value in zip(names, values)]


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "neg": operator.neg,
    "∘": operator.mul,
    "·": operator.mul,
    "/": operator.truediv,
    "@": operator.matmul,
    "^": operator.pow,
    "T": np.transpose,
    "stack": lambda *parts: np.concatenate(parts),
}


def evaluate(node: Node, value_of: Callable[[str], Array], functions: Mapping[str, Callable[[Array], Array]]) -> Any:
    """The value of a right side; of Σ_t one step's term.

    Parameters
    ----------
    node : Node
    value_of : function of str
        What a name such as "da_t", or a Jacobian such as "∂h_{t+1}/∂a_t", stands for.
    functions : mapping of str to function

    Examples
    --------
    >>> evaluate(expression("x ∘ tanh²(x)"), {"x": np.ones(1)}.__getitem__, {"tanh": np.tanh}).round(3).item()
    0.58
    """
    kind, *parts = node
    if kind == "number":
        return parts[0]
    if kind in ("name", "jacobian"):
        return value_of(parts[0] if kind == "name" else f"∂{parts[0]}/∂{parts[1]}")
    if kind in ("call", "sum"):
        value = evaluate(parts[1], value_of, functions)
        return functions[parts[0]](value) if kind == "call" else value
    return _OPERATIONS[kind](*(evaluate(part, value_of, functions) for part in parts))


class CodeLine(NamedTuple):
    """A line of the textbook."""

    file: str  # as seen from the project's root
    line: int  # counted from 1
    text: str  # as it stands there, without its indentation


def module_of(cell: Cell) -> ModuleType:
    """The textbook's module for a cell.

    Examples
    --------
    >>> from numpy_rnn.fast.registry import CELLS
    >>> module_of(CELLS["rnn_relu"]).__name__
    'numpy_rnn.textbook.rnn'
    """
    return import_module(f"numpy_rnn.textbook.{textbook_module(cell.name)}")


@cache
def code_lines(cell: Cell, function: str, number: str, name: str) -> tuple[CodeLine, ...]:
    """The lines that compute an equation.

    Parameters
    ----------
    cell : Cell
    function : "forward" or "backward"
    number : str
        The equation's, such as "3'".
    name : str
        What the equation gives a value to, such as "dh_t".

    Examples
    --------
    >>> from numpy_rnn.fast.registry import CELLS
    >>> [line.text for line in code_lines(CELLS["gru"], "forward", "3", "n")]
    ['n = np.tanh(u_n + r * v_n)  # (3)']
    >>> [line.text for line in code_lines(CELLS["gru"], "backward", "1'", "dx_t")]
    ["dx[t] = W_ih.T @ du  # (1') of u_t = W_ih x_t + b_ih"]
    """
    # a_t is the variable a or its parts a_i, a_f, …; W_h{r,z} is W_hr and W_hz.
    variable = re.sub("_t$", r"(_\\w)?", name.replace("_{t+1}", "")).replace("{r,z}", "[rz]")
    computed = re.compile(rf"\b{variable}\b.* \+?= .*# \({re.escape(number)}\)")
    module = module_of(cell)
    file = f"{module.__name__.replace('.', '/')}.py"
    lines, first = inspect.getsourcelines(getattr(module, function))
    return tuple(CodeLine(file, k, line.strip()) for k, line in enumerate(lines, first) if computed.search(line))
