"""The one reader of this project's formulas: of docstrings, derivations and sentences; for Python, LaTeX and the tests.

A formula is plain text, such as `(2')  da_t = dh_{t+1} ∘ f'(a_t)`. What it says::

    W x            product of matrices, or with a number       x ∘ y, x / y     entry by entry
    Wᵀ, W⁻¹        transpose, inverse                           h², W^{n}       of entries; of a square matrix the power
    h_{t+1}        an entry of a trajectory, a row, a column    [a; b], [1, 2; 3, 4]   rows, one above the other
    Σ_t, Π_{t=…}   over a whole range, or from … to             ‖W‖, |x|         the largest singular value; of entries
    ⟨x, y⟩         Σ of all x ∘ y                                [t > s]          1 if so, else 0, entry by entry
    ∂y/∂x          Jacobian matrix                              f(a), f'(a)      a function and its derivative
    a = b = c      each a claim, as are ≤ and ≥                 x += y           one of the terms that make up x
    — …            a remark

Vectors are columns. Two formulas on one line stand three spaces or more apart.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

Node = tuple[Any, ...]  # its kind, then its parts


class FormulaError(ValueError):
    """A formula cannot be read or evaluated, or what it claims is not so."""


# ---- pieces

LETTER = "A-Za-zα-ωΑ-ΟΡΤ-Ωℓĝ"  # neither Σ nor Π
NAME = rf"[{LETTER}][{LETTER}0-9]*[₁₂]?(?:_[A-Za-z0-9]*(?:\{{[^{{}}]*\}})?)?'?"
# What is followed by its argument; f is a function where it has one, and in the LSTM a gate.
FUNCTIONS = ("tanh'", "tanh", "σ_max", "σ_min", "σ'", "σ", "exp", "log", "min", "max", "diag", "det", "relu", "ρ")
_CALLED = "|".join((*FUNCTIONS, "f'", "f"))
TOKEN = re.compile(
    rf"(?P<space>\s+)|(?P<jacobian>∂\s*{NAME}\s*/\s*∂\s*{NAME})|(?P<big>[ΣΠ](?:_(?:\{{[^{{}}]*\}}|\w))?)"
    rf"|(?P<number>\d+(?:\.\d+)?(?:e-?\d+)?)|(?P<function>(?:{_CALLED})(?=²?\())|(?P<name>{NAME})"
    r"|(?P<power>[²ᵀᵗ]|⁻¹)|(?P<op>\+=|[-+∘·/()\[\];,=≤≥<>‖|⟨⟩√^{}])"
)
RELATIONS = ("=", "+=", "≤", "≥", "<", ">")
CLOSING = {"(": ")", "[": "]", "⟨": "⟩", "{": "}"}
_ENDS = {**CLOSING, "‖": "‖", "|": "|"}
_BRACKETS = {"(": "", "[": "", "‖": "norm", "|": "abs", "⟨": "inner"}  # what they make of what stands inside


class Token(NamedTuple):
    """A piece of a formula."""

    kind: str  # a group of TOKEN, or "end"
    text: str


def tokens(text: str) -> tuple[Token, ...]:
    """Cut a formula into pieces.

    Raises
    ------
    FormulaError
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
            raise FormulaError(f"cannot read {text[at:]!r} in {text!r}")
        found.append(Token(str(match.lastgroup), match.group()))
        at = match.end()
    return tuple(found)


# ---- trees


def parse(text: str) -> Node:
    """Sides and the relations between them, as a tree.

    Raises
    ------
    FormulaError
        If the text is no such formula.

    Examples
    --------
    >>> parse("dx_t = W_ihᵀ da_t")
    ('claim', ('name', 'dx_t'), '=', ('@', ('T', ('name', 'W_ih')), ('name', 'da_t')))
    """
    parser = _Parser(text)
    parts: list[Any] = [parser.side()]
    while parser.next.text in RELATIONS:
        parts += [parser.take(), parser.side()]
    if len(parts) == 1:
        raise FormulaError(f"no relation in {text!r}")
    parser.take("")
    return ("claim", *parts)


def expression(text: str) -> Node:
    """One side of a formula as a tree.

    Raises
    ------
    FormulaError
        If the text is no such formula.

    Examples
    --------
    >>> expression("1 - h²")
    ('-', ('number', 1.0), ('^', ('name', 'h'), ('number', 2)))
    """
    parser = _Parser(text)
    node = parser.side()
    parser.take("")
    return node


class _Parser:
    """Recursive descent; every method reads what its name says and returns a node."""

    levels = (("+", "-"), ("∘", "·", "/"))  # what stands side by side binds closer

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [*(token for token in tokens(text) if token.kind != "space"), Token("end", "")]
        self.closing = [""]

    @property
    def next(self) -> Token:
        return self.tokens[0]

    def take(self, expected: str | None = None) -> str:
        if expected not in (None, self.next.text):
            raise FormulaError(f"expected {expected or 'the end'!r}, got {self.next.text!r} in {self.text!r}")
        return self.tokens.pop(0).text

    def side(self) -> Node:
        parts = [self.sum()]
        while self.next.text == ",":
            self.take()
            parts.append(self.sum())
        return parts[0] if len(parts) == 1 else ("tuple", *parts)

    def sum(self, level: int = 0) -> Node:
        """Operators of a level from left to right."""
        if level == len(self.levels):
            return self.product()
        negative = level == 0 and self.next.text == "-" and self.take()
        node = self.sum(level + 1)
        node = ("neg", node) if negative else node
        while self.next.text in self.levels[level]:
            node = (self.take(), node, self.sum(level + 1))
        return node

    def product(self) -> Node:
        node = self.power()
        while self.begins():
            node = ("@", node, self.power())
        return node

    def begins(self) -> bool:
        """Whether another factor begins here."""
        kind, text = self.next
        bracket = text in ("(", "[", "√", "⟨", "‖", "|") and text != self.closing[-1]
        return bracket or kind in ("name", "function", "number", "jacobian", "big")

    def power(self) -> Node:
        node = self.atom()
        while self.next.kind == "power" or self.next.text == "^":
            sign = self.take()
            if sign in ("ᵀ", "⁻¹"):
                node = ({"ᵀ": "T", "⁻¹": "inverse"}[sign], node)
            elif sign == "^":
                node = ("^", node, self.inside("{") if self.next.text == "{" else self.atom())
            else:
                node = ("^", node, ("number", 2) if sign == "²" else ("name", "t"))
        return node

    def inside(self, opening: str) -> Node:
        """What stands between a bracket and its partner."""
        self.take(opening)
        self.closing.append(_ENDS[opening])
        node = self.side()
        if opening == "[" and self.next.text in RELATIONS:
            node = ("iverson", node, self.take(), self.side())
        while opening == "[" and self.next.text == ";":
            self.take()
            node = ("stack", *(node[1:] if node[0] == "stack" else [node]), self.side())  # a row may be a tuple
        if opening == "[" and node[0] == "tuple":
            node = ("stack", node)  # a single row
        self.take(self.closing.pop())
        return node

    def atom(self) -> Node:
        kind, text = self.next
        if text in _BRACKETS:
            node = self.inside(text)
            return (_BRACKETS[text], node) if _BRACKETS[text] else node
        if kind in ("op", "power", "end") and text != "√":
            raise FormulaError(f"expected a quantity, got {text!r} in {self.text!r}")
        if kind == "name" and text in FUNCTIONS:
            raise FormulaError(f"{text} without its argument in {self.text!r}")
        self.take()
        if kind == "number":
            return ("number", float(text))
        if kind == "jacobian":
            top, bottom = text.split("/")
            return ("jacobian", top.strip("∂ "), bottom.strip("∂ "))
        if kind == "big":
            return ({"Σ": "sum", "Π": "product"}[text[0]], text[1:].removeprefix("_").strip("{}"), self.sum(1))
        if kind == "function":
            square = self.next.text == "²" and self.take()
            node = ("call", text, self.inside("("))
            return ("^", node, ("number", 2)) if square else node
        if text == "√":
            return ("call", "√", self.atom() if self.next.kind == "big" else self.power())
        return ("name", text)


# ---- formulas of a text


class Formula(NamedTuple):
    """A displayed formula."""

    number: str  # such as 2', or that of the line above
    text: str


def formulas(block: str) -> list[Formula]:
    """The formulas of a displayed block, without the remarks.

    Examples
    --------
    >>> formulas("(2')  da_t = dh_{t+1} ∘ f'(a_t)     db = da_t   — rule 1")
    [Formula(number="2'", text="da_t = dh_{t+1} ∘ f'(a_t)"), Formula(number="2'", text='db = da_t')]
    """
    found, number = [], ""
    for line in block.splitlines():
        line = line.split("—")[0]
        if match := re.match(r"\s*\(([\w∂]+'?)\)\s", line):
            number, line = match.group(1), line[match.end() :]
        line = re.sub(r"\s+(\+?=|≤|≥)\s+", r" \1 ", line)
        found += [Formula(number, piece.strip()) for piece in re.split(r"\s{3,}", line) if piece.strip()]
    return found
