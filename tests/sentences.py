"""Formulas inside the sentences of docs/learn/derivation: found without any mark, by what they are made of.

A formula is a run of names that the page knows, numbers, operators and brackets; words, commas, semicolons and full
stops end it. One with a relation, such as h_{t+1} = tanh(a_t), is a claim and evaluated as displayed ones are;
t = 0 … T-1 says where an index runs; [t < n], with the relation in brackets, is a number that must exist. A condition
(if k2 > k1) is so in some scopes only, and `CONDITIONS` says in which. Every other name in a sentence must be one that
the page knows.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from formulas import FUNCTIONS, Scope, Unbound
from prose import is_symbol, runs

from numpy_rnn.study.notation import NAME, RELATIONS, FormulaError, Node, expression, formulas, parse

RELATION = re.compile("|".join(map(re.escape, RELATIONS)))


# Formulas that belong to other displayed ones than those next to them.
PLACED = {
    ("7-vanishing-gradients", "λ₁ < 1/γ"): "J",
    ("7-vanishing-gradients", "W_hh = 0"): "K",
    ("7-vanishing-gradients", "E_t = 0"): "J",
    ("2-rnn", "f'(a_t) = [h_{t+1} > 0]"): "",
}
# Formulas that do not hold always but under a condition, or are one: in which of their letter's scopes they are so.
CONDITIONS = {
    ("2-rnn", "f'(a_t) = [h_{t+1} > 0]"): [False, True],  # relu
    ("2-rnn", "n < T"): [True, False, True],
    ("6-truncation-and-clipping", "k1 = k2"): [False, True, False],
    ("6-truncation-and-clipping", "k2 > k1"): [True, False, True],
    ("6-truncation-and-clipping", "k2 ≥ T"): [False, False, True],
    ("6-truncation-and-clipping", "b_w = 0"): [False, False, True],
    ("7-vanishing-gradients", "σ_max(W_hh) < 1/γ"): [False, False, False, True, False, False],
    ("7-vanishing-gradients", "σ_max(W_hh) ≥ 1/γ"): [True, True, True, False, True, True],
    ("7-vanishing-gradients", "λ₁ < 1/γ"): [False, False, False, True, False, False],
    ("7-vanishing-gradients", "μ σ_min(W_hh) > 1"): [False, False, False, False, True, False],
    ("7-vanishing-gradients", "ρ(W_hh) < 1"): [True, False],
    ("7-vanishing-gradients", "ρ(W_hh) > 1"): [False, True],
    ("7-vanishing-gradients", "ρ(W_hh) ≥ 1"): [False, True],
    ("7-vanishing-gradients", "f = 1"): [False, False, False, True],
    ("7-vanishing-gradients", "b_f = 0"): [True, False, False],
    ("7-vanishing-gradients", "b_f = 1"): [False, True, False],
}
# Names that the text needs and no scope has: sizes, arbitrary quantities, and what belongs to another page.
SPOKEN = {
    "1-chain-rule": {"L", "y", "z", "dz", "δz", "x_t", "h_t", "a_t"},
    "7-vanishing-gradients": {"W", "k1", "k2", "tanh'", "δc_t", "δh_t"},
    "8-real-time-recurrent-learning": {"B", "H", "N", "S"},
}


class Found(NamedTuple):
    """A run of a sentence, and the letter of the displayed formulas next to it."""

    text: str
    letter: str


def letter(number: str) -> str:
    """Where a formula belongs; those of a cell's docstring are numbered (1), (2'), (2δ) …, without a letter."""
    return number[0] if number[:1].isupper() else ""


# ---- reading


def passages(page: str) -> Iterator[tuple[str, str]]:
    """A page's sentences piece by piece, without code, tables, targets of links and sources, and the letter of each.

    It is that of the displayed formula before it in its section, or else after it, or else before it in the page.
    """
    page = re.sub(r"^## (Sources|文献)$.*", "", page, flags=re.MULTILINE | re.DOTALL)
    page = re.sub(r"^\|.*$", "", page, flags=re.MULTILINE)
    first = re.search(r"^\((\w)", page, flags=re.MULTILINE)
    last = letter(first.group(1)) if first else ""
    for section in re.split(r"^(?=## )", page, flags=re.MULTILINE):
        pieces = re.split(r"^```text\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
        numbers = [[letter(f.number) for f in formulas(block)] for block in pieces[1::2]]
        before = numbers[0][0] if numbers else last
        for k, piece in enumerate(pieces):
            if k % 2:
                before = last = numbers[k // 2][-1]
                piece = "\n\n".join(line.partition("—")[2] for line in piece.splitlines())
            yield re.sub(r"`[^`\n]+`|\]\([^)\s]*\)|'s\b|(?<=[a-z]s)'(?= )", " . ", piece), before


def base_is_known(name: str, names: set[str]) -> bool:
    return name in names or ("_" in name and name.split("_", 1)[0] in names)


def relation(text: str) -> str:
    """What kind of formula a run is: a claim, a range, a number [t < n], or, without a relation, none."""
    if not RELATION.search(text):
        return ""
    outside = re.sub(r"\[[^\[\]]*\]|\{[^{}]*\}", "", text)
    if not RELATION.search(outside):
        return "number"
    return "range" if "…" in outside else "claim"


def in_sentences(page: str, names: set[str]) -> list[Found]:
    """Every formula in the sentences of a page."""
    found = []
    for piece, near in passages(page):
        texts = (" ".join(piece[start:end].split()) for start, end in runs(piece, lambda n: base_is_known(n, names)))
        found += [Found(text, near) for text in texts if relation(text)]
    return found


REFERENCE = re.compile(r"\(([A-Z]?\d[a-z]?['δ]?)\)")  # to a displayed formula, by its number


def references(page: str) -> set[str]:
    """The numbers of displayed formulas that a page's sentences name."""
    return {number for piece, _ in passages(page) for number in REFERENCE.findall(piece)}


def words(page: str) -> set[str]:
    """Everything in a page's sentences that is made of Latin or Greek letters."""
    pieces = (REFERENCE.sub(" ", piece.replace("∂", " ")) for piece, _ in passages(page))
    return {name for piece in pieces for name in re.findall(rf"{NAME}['₁₂]*", piece)}


def symbols(page: str) -> set[str]:
    """The names in a page's sentences that are no words."""
    return set(filter(is_symbol, words(page)))


# ---- evaluating


def names_of(scopes: Sequence[Scope]) -> set[str]:
    """Everything that has a name in one of the scopes."""
    return set(FUNCTIONS).union(*({*s.values, *s.indices, *s.functions} for s in scopes))


def is_defined(name: str, scopes: Sequence[Scope]) -> bool:
    """Whether a name has a value in one of the scopes, for some of the values that the indices in it can have."""
    for scope in scopes:
        if name in names_of([scope]):
            return True
        inside = [index for index in scope.indices if index in re.findall(r"[a-z]", name.partition("_")[2])]
        for values in itertools.product(range(9), repeat=len(inside)):
            try:
                scope.look_up(name, dict(zip(inside, values)))
            except (FormulaError, Unbound, IndexError, TypeError):
                continue
            return True
    return False


def placed(page: str, found: Found, scopes: dict[str, list[Scope]]) -> list[Scope]:
    """The scopes that a formula of a sentence is evaluated in."""
    return scopes[PLACED.get((page, found.text), found.letter)]


def holds(claim: Node, scope: Scope) -> bool:
    try:
        return scope.holds(claim) > 0
    except FormulaError as error:
        if "is not so" not in str(error):
            raise
        return False


def evaluate(text: str, scope: Scope) -> int:
    """Check a formula of a sentence in a scope; the number of comparisons."""
    kind = relation(text)
    if kind == "range":
        index, first, last = re.split(" = | … ", text)
        ends = [scope.integer(end, {}) for end in (first, last)]
        if list(scope.range(index, {})) != list(range(ends[0], ends[1] + 1)):
            raise FormulaError(f"{text} is not so: {list(scope.range(index, {}))}")
        return 1
    if kind == "number":
        node = expression(text)
        return scope.holds(("claim", node, "=", node))
    return scope.holds(parse(text))
