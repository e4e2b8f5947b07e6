"""Reads the equations in a cell's docstring, so that they can be carried out as they stand there.

    (1)   a_t     = W_ih x_t + b_ih + W_hh h_t + b_hh         rows of a_t: a_i, a_f, a_g, a_o
    (2)   i, f, o = σ(a_i), σ(a_f), σ(a_o)     g = tanh(a_g)

The notation is that of `numpy_rnn.study.notation`. Σ_t is a sum to which each step adds its part, and what is no
equation is a remark.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from .notation import NAME, FormulaError, Node, Token, expression, formulas, tokens


class Equation(NamedTuple):
    """One equation of a docstring."""

    number: str  # as in the docstring, such as "3'"
    text: str  # as in the docstring
    left: str  # the left side; several names for one value, as "du_r = dv_r"
    targets: tuple[str, ...]  # names that receive the value; the parts of [a; b] apart
    adds: bool  # += or Σ_t: the value is added to what is there
    tokens: tuple[Token, ...]  # of the right side
    python: str  # the right side, in which at("W_hh") stands for what is called W_hh
    others: tuple[str, ...]  # further right sides, where the docstring has the same in another form
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
    >>> backward[6].targets, backward[6].python
    (('du_r', 'dv_r'), "at('dr') * at('r') * (1 - at('r'))")
    """
    _, _, text = text.partition("\nForward,")
    forward, _, backward = text.partition("\nBackward,")
    return tuple(read(forward)), tuple(read(backward))


def _equation(number: str, text: str) -> Equation:
    sides = re.split(r" (\+?=) ", text)
    lefts, rights = [sides[0]], sides[2::2]
    while len(rights) > 1 and _names(rights[0]):  # du_r = dv_r = …
        lefts.append(rights.pop(0))
    targets = tuple(name for left in lefts for name in _names(left))
    if not targets or not rights:
        raise FormulaError(f"{text!r} is no equation")
    right, *others = (python(expression(side)) for side in rights)
    pieces = tokens(rights[0])
    adds = sides[1] == "+=" or any(t.kind == "big" for t in pieces)
    return Equation(number, text, " = ".join(lefts), targets, adds, pieces, right, tuple(others), "")


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


_FUNCTIONS = {"f": "f", "f'": "slope", "tanh": "tanh", "σ": "sigmoid", "diag": "diag"}
_OPERATORS = {"+": ast.Add, "-": ast.Sub, "∘": ast.Mult, "·": ast.Mult, "/": ast.Div, "@": ast.MatMult, "^": ast.Pow}


def python(node: Node) -> str:
    """An expression as one of Python, in which at("W_hh") stands for what is called W_hh; of Σ_t one step's term.

    Raises
    ------
    FormulaError
        If it says what the equations of a cell do not need.

    Examples
    --------
    >>> python(expression("W_hhᵀ da_t + dh_{t+1} ∘ (1 - tanh²(c_t))"))
    "at('W_hh').T @ at('da_t') + at('dh_{t+1}') * (1 - tanh(at('c_t')) ** 2)"
    """
    return ast.unparse(_python(node))


def _python(node: Node) -> ast.expr:
    kind, *parts = node
    if kind == "number":
        return ast.Constant(int(parts[0]) if parts[0] == int(parts[0]) else parts[0])
    if kind in ("name", "jacobian"):
        return _call("at", ast.Constant(parts[0] if kind == "name" else f"∂{parts[0]}/∂{parts[1]}"))
    if kind == "call" and parts[0] in _FUNCTIONS:
        return _call(_FUNCTIONS[parts[0]], _python(parts[1]))
    if kind == "sum" and parts[0] == "t":
        return _python(parts[1])
    if kind == "stack":
        return _call("below", *map(_python, parts))
    if kind == "T":
        return ast.Attribute(_python(parts[0]), "T", ast.Load())
    if kind == "neg":
        return ast.UnaryOp(ast.USub(), _python(parts[0]))
    if kind in _OPERATORS:
        return ast.BinOp(_python(parts[0]), _OPERATORS[kind](), _python(parts[1]))
    raise FormulaError(f"the equations of a cell have no {kind} of {parts}")


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), keywords=[])
