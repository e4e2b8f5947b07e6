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
    return _Parser(text).claim()


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
    return _Parser(text).alone()


class _Parser:
    """Recursive descent; every method reads what its name says and returns a node."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [token for token in tokens(text) if token.kind != "space"]
        self.at = 0
        self.closing = [""]

    def peek(self) -> Token:
        return self.tokens[self.at] if self.at < len(self.tokens) else Token("end", "")

    def take(self, expected: str | None = None) -> Token:
        token = self.peek()
        if expected is not None and token.text != expected:
            raise FormulaError(f"expected {expected!r}, got {token.text!r} in {self.text!r}")
        self.at += 1
        return token

    def claim(self) -> Node:
        parts: list[Any] = [self.side()]
        while self.peek().text in RELATIONS:
            parts += [self.take().text, self.side()]
        if self.peek().kind != "end" or len(parts) == 1:
            raise FormulaError(f"no relation, or {self.peek().text!r} too much, in {self.text!r}")
        return ("claim", *parts)

    def alone(self) -> Node:
        node = self.side()
        if self.peek().kind != "end":
            raise FormulaError(f"{self.peek().text!r} too much in {self.text!r}")
        return node

    def side(self) -> Node:
        parts = [self.sum()]
        while self.peek().text == ",":
            self.take()
            parts.append(self.sum())
        return parts[0] if len(parts) == 1 else ("tuple", *parts)

    def sum(self) -> Node:
        node: Node = ("neg", self.term()) if self.peek().text == "-" and self.take() else self.term()
        while self.peek().text in ("+", "-"):
            node = (self.take().text, node, self.term())
        return node

    def term(self) -> Node:
        """∘, · and / from left to right; what stands side by side binds closer."""
        node = self.product()
        while self.peek().text in ("∘", "·", "/"):
            node = (self.take().text, node, self.product())
        return node

    def product(self) -> Node:
        node = self.power()
        while self.begins():
            node = ("@", node, self.power())
        return node

    def begins(self) -> bool:
        """Whether another factor begins here."""
        kind, text = self.peek()
        if kind in ("name", "function", "number", "jacobian", "big"):
            return True
        return text in ("(", "[", "√", "⟨", "‖", "|") and text != self.closing[-1]

    def power(self) -> Node:
        node = self.atom()
        while self.peek().kind == "power" or self.peek().text == "^":
            text = self.take().text
            if text == "^":
                node = ("^", node, self.inside("{") if self.peek().text == "{" else self.atom())
            elif text in ("ᵀ", "⁻¹"):
                node = ({"ᵀ": "T", "⁻¹": "inverse"}[text], node)
            else:
                node = ("^", node, ("number", 2) if text == "²" else ("name", "t"))
        return node

    def inside(self, opening: str) -> Node:
        """What stands between a bracket and its partner."""
        self.take(opening)
        self.closing.append(_ENDS[opening])
        node = self.side()
        if opening == "[" and self.peek().text in RELATIONS:
            node = ("iverson", node, self.take().text, self.side())
        while opening == "[" and self.peek().text == ";":
            self.take()
            node = ("stack", *(node[1:] if node[0] == "stack" else [node]), self.side())  # a row may be a tuple
        if opening == "[" and node[0] == "tuple":
            node = ("stack", node)  # a single row
        self.take(_ENDS[opening])
        self.closing.pop()
        return node

    def atom(self) -> Node:
        kind, text = self.peek()
        if kind == "number":
            return ("number", float(self.take().text))
        if kind == "jacobian":
            top, bottom = (part.strip().removeprefix("∂") for part in self.take().text.split("/"))
            return ("jacobian", top.strip(), bottom.strip())
        if kind == "big":
            self.take()
            body = self.term()
            return ({"Σ": "sum", "Π": "product"}[text[0]], text[1:].removeprefix("_").strip("{}"), body)
        if kind == "function":
            self.take()
            power = self.take().text if self.peek().text == "²" else ""
            node: Node = ("call", text, self.inside("("))
            return ("^", node, ("number", 2)) if power else node
        if kind == "name":
            if text in FUNCTIONS:
                raise FormulaError(f"{text} without its argument in {self.text!r}")
            return ("name", self.take().text)
        if text == "√":
            self.take()
            return ("call", "√", self.atom() if self.peek().kind == "big" else self.power())
        if text in ("(", "[", "‖", "|", "⟨"):
            node = self.inside(text)
            if text in ("‖", "|"):
                return ("norm" if text == "‖" else "abs", node)
            return ("inner", node) if text == "⟨" else node
        raise FormulaError(f"expected a quantity, got {text!r} in {self.text!r}")


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
