"""Reads the equations in a cell's docstring, so that they can be carried out as they stand there.

    (1)   a_t     = W_ih x_t + b_ih + W_hh h_t + b_hh         rows of a_t: a_i, a_f, a_g, a_o
    (2)   i, f, o = σ(a_i), σ(a_f), σ(a_o)     g = tanh(a_g)

What a line means: `∘` is the product entry by entry, one name after another the matrix product, `ᵀ` the transpose,
`[a; b]` one vector below another, `Σ_t` a sum over steps, to which each step adds its part. Vectors are columns. Three
spaces part two equations that stand on one line, and what is no equation is a remark.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

_SUBSCRIPT = r"(?:_(?:\{[^}]*\}|[A-Za-z]+(?:\{[^}]*\})?))"
_NAME = rf"[A-Za-z]+{_SUBSCRIPT}?"
TOKEN = re.compile(
    rf"(?P<name>∂{_NAME}/∂{_NAME})|(?P<function>σ|tanh²?|f'|f(?=\()|diag)|(?P<sum>Σ_t)|(?P<plain>{_NAME})"
    r"|(?P<number>\d+)|(?P<suffix>[ᵀ²])|(?P<operator>[-+∘()[\];])|(?P<space>\s+)"
)
_PYTHON = {"ᵀ": ".T", "²": "**2", "∘": "*", "[": "below(", ";": ",", "]": ")", "tanh²": "tanh2", "σ": "sigmoid"}
_PYTHON["f'"] = "slope"
_STARTS, _ENDS = set("(["), set(")]ᵀ²")


class Token(NamedTuple):
    """A piece of an equation's text."""

    kind: str  # "name", "function", "sum", "number", "suffix", "operator" or "space"
    text: str


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


def tokens(text: str) -> tuple[Token, ...]:
    """Cut a right side into pieces.

    Raises
    ------
    ValueError
        If it is not written in the notation.

    Examples
    --------
    >>> [t.text for t in tokens("dh_{t+1} ∘ (1 - z)")]
    ['dh_{t+1}', ' ', '∘', ' ', '(', '1', ' ', '-', ' ', 'z', ')']
    """
    found, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"{text!r} is no formula at {text[at:]!r}")
        kind = "name" if match.lastgroup == "plain" else str(match.lastgroup)
        found.append(Token(kind, match.group()))
        at = match.end()
    return tuple(found)


def python(pieces: tuple[Token, ...]) -> str:
    """The same as an expression of Python.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> python(tokens("W_hhᵀ da_t + dh_{t+1} ∘ (1 - tanh²(c_t))"))
    "at('W_hh').T @ at('da_t') + at('dh_{t+1}') * (1 - tanh2(at('c_t')))"
    """
    words, operand = [], False  # whether the last piece can be the left side of a product
    for kind, text in pieces:
        if kind in ("space", "sum"):
            continue
        if operand and (kind in ("name", "function", "number") or text in _STARTS):
            words.append("@")
        word = f"at({text!r})" if kind == "name" else _PYTHON.get(text, text)
        if kind == "suffix" and words:
            words[-1] += word
        else:
            words.append(word)
        operand = kind in ("name", "number") or text in _ENDS
    expression = " ".join(words)
    try:
        return ast.unparse(ast.parse(expression, mode="eval"))
    except SyntaxError:
        raise ValueError(f"{''.join(t.text for t in pieces)!r} is no formula") from None


def _names(text: str) -> tuple[str, ...]:
    """What a left side names, () if it is none."""
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    parts = tuple(part.strip() for part in inner.split(";"))
    simple = all(re.fullmatch(rf"{_NAME}|∂{_NAME}/∂{_NAME}", part) for part in parts)
    return parts if simple else ()


def _equation(number: str, text: str) -> Equation:
    sides = re.split(r" (\+?=) ", text)
    lefts, rights = [sides[0]], sides[2::2]
    while len(rights) > 1 and _names(rights[0]):  # du_r = dv_r = …
        lefts.append(rights.pop(0))
    targets = tuple(name for left in lefts for name in _names(left))
    if not targets or not rights:
        raise ValueError(f"{text!r} is no equation")
    pieces = tokens(rights[0])
    adds = sides[1] == "+=" or any(t.kind == "sum" for t in pieces)
    others = tuple(python(tokens(right)) for right in rights[1:])
    return Equation(number, text, " = ".join(lefts), targets, adds, pieces, python(pieces), others, "")


def _apart(text: str) -> list[str]:
    """I, f = σ(a_i), σ(a_f) as one equation for each name; any other as it is."""
    left, equals, right = text.partition(" = ")
    names, values = left.split(", "), re.split(r", (?![^(]*\))", right)
    if not equals or len(names) == 1 or len(names) != len(values):
        return [text]
    return [f"{name} = {value}" for name, value in zip(names, values)]


def read(lines: str) -> Iterator[Equation]:
    """The equations of some lines of a docstring, in their order.

    Examples
    --------
    >>> [e.text for e in read("    (2)   r, z    = σ(u_r), σ(u_z)     q_t = r ∘ h_t     a remark")]
    ['r = σ(u_r)', 'z = σ(u_z)', 'q_t = r ∘ h_t']
    """
    number, found = "", []
    for line in lines.splitlines():
        match = re.fullmatch(r" {4}(?:\((\d+'?|∂)\)| {3}) *(\S.*)", line)
        if match is None:
            continue
        number = match[1] or number
        for part in re.split(r" {3,}", re.sub(r" +(\+?=) ", r" \1 ", match[2].rstrip())):
            try:
                found += [_equation(number, text) for text in _apart(part)]
            except ValueError:
                if found:
                    found[-1] = found[-1]._replace(remark=part)
    yield from found


def of_docstring(text: str) -> tuple[tuple[Equation, ...], tuple[Equation, ...]]:
    """The equations forward and backward of a cell's module.

    Examples
    --------
    >>> from numpy_rnn.fast import gru
    >>> forward, backward = of_docstring(gru.__doc__)
    >>> [f"({e.number}) {e.text}" for e in forward[:3]]
    ['(1) u_t = W_ih x_t + b_ih', '(1) v_t = W_hh h_t + b_hh', '(2) r = σ(u_r + v_r)']
    >>> backward[6].targets, backward[6].python
    (('du_r', 'dv_r'), "at('dr') * at('r') * (1 - at('r'))")
    """
    _, _, text = text.partition("\nForward,")
    forward, _, backward = text.partition("\nBackward,")
    return tuple(read(forward)), tuple(read(backward))
