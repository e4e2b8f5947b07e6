"""Evaluates the formulas of the docstrings and of the derivations, which `numpy_rnn.study.notation` reads.

A `Scope` says what the names stand for. An index that is bound nowhere runs over its whole range, and a name that the
scope lacks is an error: no formula goes unevaluated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from numpy_rnn.study.notation import FormulaError, Node, expression

TOLERANCE = 1e-12
Indices = dict[str, int]


class Unbound(Exception):
    """An index has no value yet."""


class Steps(NamedTuple):
    """An array whose first axis are moments first, first + 1, …; a bare name means the one at t."""

    array: Any
    first: int = 0


@dataclass
class Scope:
    """What names stand for: numbers, matrices (vectors are columns), `Steps`, or functions of integer indices.

    `received` holds, for names that += adds up, what the loss sends them directly; `jacobian(top, bottom)` is asked
    for ∂top/∂bottom, each a name and its indices.
    """

    values: Mapping[str, Any]
    indices: Mapping[str, Any] = field(default_factory=dict)
    sums: Mapping[str, Sequence[int]] = field(default_factory=dict)  # where Σ has another range than a free index
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    received: Mapping[str, Any] = field(default_factory=dict)
    jacobian: Callable[..., Any] | None = None
    columns: str = "s"  # this index counts columns

    def evaluate(self, node: Node, at: Indices) -> Any:
        kind, *parts = node
        if kind in ("number",):
            return np.float64(parts[0])
        if kind == "name":
            return self.look_up(parts[0], at)
        if kind == "jacobian":
            assert self.jacobian is not None
            return self.jacobian(*(self.split(part, at) for part in parts))
        if kind in ("sum", "product"):
            return self.over(kind, *parts, at)
        if kind == "call":
            function = {**FUNCTIONS, **self.functions}.get(parts[0])
            if function is None:
                raise FormulaError(f"{parts[0]!r} is not defined here")
            values = self.evaluate(parts[1], at)
            return np.asarray(function(*values) if isinstance(values, tuple) else function(values))
        if kind == "iverson":
            return iverson(self.evaluate(parts[0], at), parts[1], self.evaluate(parts[2], at))
        values = [self.evaluate(part, at) for part in parts]
        return tuple(values) if kind == "tuple" else OPERATIONS[kind](*values)

    def split(self, name: str, at: Indices) -> tuple[Any, ...]:
        """A name with its indices: the name itself if the scope knows it as it stands."""
        if name in self.values or "_" not in name:
            return (name,)
        base, subscript = name.split("_", 1)
        subscript = subscript.strip("{}")
        parts = subscript.split(",")
        if len(parts) == 1 and subscript.isalpha() and all(letter in self.indices for letter in subscript):
            parts = list(subscript)
        return (base, *(self.integer(part, at) for part in parts))

    def integer(self, text: str, at: Indices) -> int:
        return int(self.evaluate(expression(text), at))

    def look_up(self, name: str, at: Indices) -> Any:
        if name in at:
            return np.float64(at[name])
        if name in self.indices and name not in self.values:
            raise Unbound(name)
        base, *indices = self.split(name, at)
        if base not in self.values:
            raise FormulaError(f"{name!r} is not defined here")
        value = self.values[base]
        if callable(value):
            return np.asarray(value(*indices))
        if isinstance(value, Steps):
            step = indices.pop(0) if indices else int(self.look_up("t", at))
            if not 0 <= step - value.first < len(value.array):
                raise FormulaError(f"{name!r} has no moment {step}")
            value = value.array[step - value.first]
        value = np.asarray(value)
        if not indices:
            return value
        if value.ndim == 1:
            return value[indices[0]]
        if name.rstrip("}").endswith(self.columns) and len(indices) == 1:
            return value[:, indices[0] : indices[0] + 1]
        return value[indices[0], indices[1]] if len(indices) == 2 else column(value)[indices[0]]

    def over(self, kind: str, subscript: str, body: Node, at: Indices) -> Any:
        """Σ over ascending indices, Π over descending ones, its factors from left to right."""
        if not subscript:
            return np.sum(self.evaluate(body, at))
        index, _, span = subscript.partition("=")
        if span:
            first, last = (self.integer(end, at) for end in span.split("…"))
            steps = list(range(first, last + 1) if kind == "sum" else range(first, last - 1, -1))
        else:
            steps = list(self.sums[index]) if index in self.sums else list(self.range(index, at))
        if not steps:
            return np.float64(kind == "product")
        values = [self.evaluate(body, {**at, index: step}) for step in steps]
        total = values[0]
        for value in values[1:]:
            total = total + value if kind == "sum" else multiply(total, value)
        return total

    def range(self, index: str, at: Indices) -> Sequence[int]:
        """Where an index runs, which may depend on others."""
        span = self.indices[index]
        try:
            return list(span(at) if callable(span) else span)
        except KeyError as missing:
            raise Unbound(*missing.args) from None

    def holds(self, claim: Node, at: Indices | None = None) -> int:
        """Check a claim for all values of its free indices; the number of comparisons."""
        at = at or {}
        try:
            values = [part if isinstance(part, str) else self.evaluate(part, at) for part in claim[1:]]
        except Unbound as unbound:
            return self.holds_for_all(claim, unbound.args[0], at)
        for k in range(0, len(values) - 2, 2):
            left, relation, right = values[k : k + 3]
            lefts, rights = (side if isinstance(side, tuple) else (side,) for side in (left, right))
            if len(lefts) != len(rights):
                raise FormulaError(f"{len(lefts)} and {len(rights)} quantities")
            for one, other in zip(lefts, rights):
                if claim[k + 3][0] == "sum" and np.ndim(other) == 2 and np.shape(one) == (len(other), 1):
                    other = other.sum(axis=1, keepdims=True)  # Σ_t of columns: over sequences, too
                if claim[k + 3][0] == "number" and relation == "=":
                    other = np.full(np.shape(one), other)  # x = 0 speaks of every entry
                if not compare(one, relation, other):
                    raise FormulaError(f"{one} {relation} {other} is not so at {at}")
        return 1

    def holds_for_all(self, claim: Node, index: str, at: Indices) -> int:
        try:
            span = self.range(index, at)
        except Unbound as first:
            return self.holds_for_all(claim, first.args[0], at)
        return sum(self.holds(claim, {**at, index: step}) for step in span)

    def add_up(self, claims: Sequence[Node]) -> int:
        """Check that the terms of all += make up, with what the loss sends directly, the whole; how many were added."""
        names = {self.split(claim[1][1], dict.fromkeys(self.indices, 0))[0] for claim in claims}
        added = 0
        for name in names:
            whole = self.values[name]
            total = np.array(self.received[name].array, dtype=whole.array.dtype)
            for claim in claims:
                for t in self.indices["t"]:
                    base, step = self.split(claim[1][1], {"t": t})
                    if base == name:
                        term = self.evaluate(claim[3], {"t": t})
                        if term.shape != total[0].shape:
                            raise FormulaError(f"a term of {name} has shape {term.shape}")
                        total[step] += term
                        added += 1
            if not compare(whole.array, "=", total):
                raise FormulaError(f"the terms of {name} do not add up: {whole.array} against {total}")
        return added


def column(value: Any) -> Any:
    if value.shape[1] != 1:
        raise FormulaError(f"one index for a matrix of shape {value.shape}")
    return value[:, 0]


def compare(left: Any, relation: str, right: Any) -> bool:
    left, right = np.asarray(left), np.asarray(right)
    if relation in ("=", "+="):
        if left.shape != right.shape:
            raise FormulaError(f"shapes {left.shape} and {right.shape}")
        scale = max(np.max(np.abs(right), initial=0), np.max(np.abs(left), initial=0))
        return bool(np.all(np.abs(left - right) <= TOLERANCE * scale))
    if left.shape or right.shape:
        raise FormulaError(f"{relation} compares numbers, got shapes {left.shape} and {right.shape}")
    slack = TOLERANCE * max(abs(left), abs(right)) if relation in "≤≥" else 0.0
    return bool(
        {"≤": left <= right + slack, "≥": left >= right - slack, "<": left < right, ">": left > right}[relation]
    )


def iverson(left: Any, relation: str, right: Any) -> Any:
    """1 where the relation holds, else 0: one number, or of an array and a number one for each entry."""
    return np.vectorize(compare, otypes=[np.float64])(left, relation, right)


def broadcast(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Entry by entry: shapes equal, or one a number, or one a single column for all sequences."""

    def apply(x: Any, y: Any) -> Any:
        x, y = np.asarray(x), np.asarray(y)
        if x.ndim and y.ndim and x.shape != y.shape and not (len(x) == len(y) and 1 in (x.shape[1], y.shape[1])):
            raise FormulaError(f"shapes {x.shape} and {y.shape}")
        return operation(x, y)

    return apply


def multiply(x: Any, y: Any) -> Any:
    x, y = np.asarray(x), np.asarray(y)
    if not x.ndim or not y.ndim:
        return x * y
    if x.shape[1] != y.shape[0]:
        raise FormulaError(f"product of shapes {x.shape} and {y.shape}")
    return x @ y


def power(x: Any, n: Any) -> Any:
    """Of numbers and of the entries of a vector; of a square matrix the product of n of them."""
    square = np.ndim(x) == 2 and x.shape[0] == x.shape[1] > 1
    return np.linalg.matrix_power(x, int(n)) if square else x**n


def inner(pair: Any) -> Any:
    """⟨x, y⟩; of a vector x and a matrix y one number for each column of y."""
    x, y = pair
    if np.ndim(x) == 2 and x.shape == (len(y), 1) and y.shape[1] > 1:
        return y.T @ x
    if np.shape(x) != np.shape(y):
        raise FormulaError(f"inner product of shapes {np.shape(x)} and {np.shape(y)}")
    return np.sum(x * y)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "tanh": np.tanh,
    "σ": lambda a: 1 / (1 + np.exp(-a)),
    "exp": np.exp,
    "log": np.log,
    "√": np.sqrt,
    "min": np.minimum,
    "max": np.maximum,
    "diag": lambda v: np.diag(column(v)),
    "σ_max": lambda W: np.linalg.svd(W, compute_uv=False)[0],
    "σ_min": lambda W: np.linalg.svd(W, compute_uv=False)[-1],
    "ρ": lambda W: np.max(np.abs(np.linalg.eigvals(W))),
}
OPERATIONS: dict[str, Callable[..., Any]] = {
    "+": broadcast(np.add),
    "-": broadcast(np.subtract),
    "∘": broadcast(np.multiply),
    "/": broadcast(np.divide),
    "·": broadcast(np.multiply),
    "@": multiply,
    "^": power,
    "T": lambda x: np.asarray(x).T,
    "inverse": np.linalg.inv,
    "neg": np.negative,
    "norm": lambda x: np.linalg.norm(x, 2),
    "abs": np.abs,
    "inner": inner,
    "stack": lambda *rows: np.block([list(row) if isinstance(row, tuple) else [row] for row in rows]),
}


# ---- mistakes

STRICTNESS = {"<": "≤", "≤": "<", ">": "≥", "≥": ">"}


def mutants(node: Node) -> Iterator[tuple[str, Node]]:
    """The same formula with one mistake.

    A sign turned, a term, a factor, a transpose, a square or a function lost, indices exchanged, a number, an index or the
    beginning of a range off by one, a strict comparison for one that is not.
    """
    kind, *parts = node
    if kind in ("+", "-"):
        yield f"{kind} turned", ("-" if kind == "+" else "+", *parts)
        yield f"right of {kind} lost", parts[0]
    if kind in ("∘", "·", "@", "/"):
        yield f"left of {kind} lost", parts[1]
        yield f"right of {kind} lost", parts[0]
    if kind in ("T", "neg", "inverse") or (kind == "^" and parts[1] == ("number", 2)):
        yield f"{kind} lost", parts[0]
    if kind == "number":
        yield "number off by one", ("number", parts[0] + 1)
    if kind in ("sum", "product") and "=" in parts[0]:
        yield "range off by one", (kind, parts[0].replace("…", "+1…"), parts[1])
    if kind == "iverson" and parts[1] in STRICTNESS:
        yield "strictness", (kind, parts[0], STRICTNESS[parts[1]], parts[2])
    if kind == "call":
        yield f"{parts[0]} lost", parts[1]
    if kind == "name" and "t+1" in parts[0]:
        yield "t instead of t+1", ("name", parts[0].replace("{t+1}", "t").replace("t+1", "t"))
    elif kind == "name" and re.search(r"_t$", parts[0]):
        yield "t+1 instead of t", ("name", re.sub(r"_t$", "_{t+1}", parts[0]))
    if kind == "name" and (pair := re.search(r"_\{(\w)(,?)(\w)\}$", parts[0])):
        one, comma, other = pair.groups()
        yield "indices exchanged", ("name", f"{parts[0][: pair.start()]}_{{{other}{comma}{one}}}")
    for k, part in enumerate(parts):
        if isinstance(part, tuple) and part and isinstance(part[0], str):
            for what, changed in mutants(part):
                yield what, (kind, *parts[:k], changed, *parts[k + 1 :])
