"""What a mistake is: lines of the textbook replaced by other lines, and a way to run the result."""

from __future__ import annotations

import ast
import difflib
import types
from collections.abc import Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ... import textbook
from ...fast.numerics import Array
from ...fast.registry import cell_name
from ..case import Case

TEXTBOOK = Path(textbook.__file__).parent
RUNS_WRONG = (ArithmeticError, AttributeError, LookupError, NameError, TypeError, ValueError)  # not as it is planted
LAYERS = "stack"  # the textbook's module that runs a cell over layers, directions and sequences


class Change(NamedTuple):
    """One piece of a textbook module, and what stands in its place."""

    module: str  # "stack", or the cell's module
    original: str
    broken: str


class Mistake(NamedTuple):
    """A classic mistake, planted in the textbook's cells that can have it."""

    name: str
    group: str
    what: str  # completes "the numbers that come out when …"
    story: str  # what it is and how it shows; public threads, owner/repository#number, where people met it
    changes: Mapping[str, tuple[Change, ...]]  # by cell

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def cells(self) -> tuple[str, ...]:
        """Names of the cells that the mistake is planted in."""
        return tuple(self.changes)

    def diff(self, cell: str) -> str:
        """Lines of the textbook that change, as a unified diff without context.

        Examples
        --------
        >>> from numpy_rnn.verify import zoo
        >>> print(zoo.mistake("dh_n-ignored").diff("gru"))
        stack.py
        -                for ds, direct in zip(ds_n, dstates):
        +                for ds, direct in list(zip(ds_n, dstates))[1:]:
        """
        cell = cell_name(cell)
        if cell not in self.changes:
            raise ValueError(f"{cell} cannot have {self.name}, only {', '.join(self.cells)} can")
        lines = []
        for module in sorted({change.module for change in self.changes[cell]}):
            before, after = source(module), patched(module, self.changes[cell])
            found = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
            lines.append(f"{module}.py")
            lines += [line for line in found if line[:3] not in ("---", "+++") and not line.startswith("@@")]
        return "\n".join(lines)

    def functions(self, cell: str) -> set[str]:
        """Where it stands: in "forward", in "backward", in what "both" call."""
        return {_function_of(change) for change in self.changes[cell]}

    def only(self, cell: str, function: str) -> Mistake | None:
        """The mistake in "forward" or "backward" alone, as somebody makes it whose other function is right.

        None if it never was in more than one function, or not in this one.

        Examples
        --------
        >>> from numpy_rnn.verify import zoo
        >>> print(zoo.mistake("gru-z-turned-around").only("gru", "forward").diff("gru"))
        gru.py
        -        h[t + 1] = (1 - z) * n + z * h[t]  # (4)
        +        h[t + 1] = z * n + (1 - z) * h[t]  # (4)
        >>> zoo.mistake("gru-dz-sign").only("gru", "backward") is None
        True
        """
        places = [_function_of(change) for change in self.changes[cell]]
        if function not in places or set(places) <= {function, "both"}:
            return None
        kept = tuple(c for c, place in zip(self.changes[cell], places) if place in (function, "both"))
        return self._replace(changes={cell: kept})


class Machine(NamedTuple):
    """The textbook, or a broken copy of it, for one cell."""

    cell: Any
    layers: Any

    def outputs(self, case: Case) -> dict[str, Array]:
        """What forward alone says of a case, by name."""
        case = case.copy()
        output, s_n, _ = self.forward(case)
        found = {"output": output, **dict(zip(("h_n", "c_n"), s_n))}
        return found if case.loss is None else found | {"loss": np.asarray(case.loss(output)[0])}

    def forward(self, case: Case) -> tuple[Array, list[Array], Any]:
        """Output, final states and tapes."""
        output, s_n, tapes = self.layers.forward(self.cell, case.params, case.x, case.s0, case.all_lengths, case.masks)
        return output, s_n, tapes

    def backward(self, case: Case, tapes: Any) -> tuple[Any, Array, list[Array]]:
        """Gradients of parameters, x and initial states."""
        grads, dx, ds0 = self.layers.backward(
            self.cell, case.params, tapes, case.doutput, case.ds_n, case.all_lengths, case.masks
        )
        return grads, dx, ds0

    def run(self, case: Case) -> dict[str, Array]:
        """Everything that the machine says of a case, by name; the case itself stays as it is."""
        case = case.copy()
        output, s_n, tapes = self.forward(case)
        loss = {}
        if case.loss is not None:
            value, doutput = case.loss(output)
            case, loss = case._replace(doutput=doutput), {"loss": np.asarray(value)}
        grads, dx, ds0 = self.backward(case, tapes)
        return case.named(output, s_n, dx, ds0, grads) | loss


def textbook_module(cell: str) -> str:
    """Name of the textbook's module for a cell: its own name, but for the plain cell's two nonlinearities.

    Examples
    --------
    >>> textbook_module("rnn_relu"), textbook_module("lstm")
    ('rnn', 'lstm')
    """
    return "rnn" if cell.startswith("rnn_") else cell


@cache
def source(module: str) -> str:
    """Text of a textbook module."""
    return (TEXTBOOK / f"{module}.py").read_text(encoding="utf-8")


@cache
def _function_of(change: Change) -> str:
    """Say "forward" or "backward", whichever a change is in; "both" for what both call.

    What stands outside a cell's functions is the import of the logistic function, which forward alone calls.
    """
    text = source(change.module)
    line = text[: text.index(change.original)].count("\n") + 1
    for function in ast.parse(text).body:
        if isinstance(function, ast.FunctionDef) and function.lineno <= line <= (function.end_lineno or 0):
            return function.name if function.name in ("forward", "backward") else "both"
    return "both" if change.module == LAYERS else "forward"


def patched(module: str, changes: Iterable[Change]) -> str:
    """Text of a textbook module with the changes that concern it.

    LookupError if a piece to be replaced does not occur exactly once: two mistakes touch the same line.
    """
    text = source(module)
    for change in changes:
        if change.module == module:
            if text.count(change.original) != 1:
                raise LookupError(f"{change.original!r} occurs {text.count(change.original)} times in {module}.py")
            text = text.replace(change.original, change.broken)
    return text


def changes_of(cell: str, mistakes: Iterable[Mistake]) -> list[Change]:
    """The changes that mistakes make together: one that several of them make, as a name for a part, is made once."""
    return list(dict.fromkeys(change for m in mistakes for change in m.changes[cell]))


@cache
def _module(name: str, text: str) -> Any:
    """A module made of this text; it is never imported, so the textbook itself stays as it is."""
    module: Any = types.ModuleType(f"{textbook.__name__}.{name}")
    module.__package__ = textbook.__name__  # for the text's relative imports
    # Unchanged, it is known by its file, so that tracebacks, and what counts lines that ran, find it there.
    path = TEXTBOOK / f"{name}.py"
    origin = str(path) if text == source(name) else f"<{name}.py with a mistake>"
    exec(compile(text, origin, "exec"), module.__dict__)
    return module


def assemble(cell: str, module: Any, layers: Any) -> Machine:
    """Make a machine of a cell's module, which the plain cell's nonlinearity is chosen for, and the stack's."""
    if cell.startswith("rnn_"):
        forward = partial(module.forward, nonlinearity=cell.removeprefix("rnn_"))
        module = types.SimpleNamespace(forward=forward, backward=module.backward)
    return Machine(module, layers)


@cache
def machine(cell: str, *mistakes: Mistake) -> Machine:
    """The textbook for one cell of numpy_rnn with any number of mistakes in it, none by default.

    LookupError if two of the mistakes need the same line.
    """
    changes = changes_of(cell, mistakes)
    try:
        return assemble(cell, *(_module(name, patched(name, changes)) for name in (textbook_module(cell), LAYERS)))
    except SyntaxError as error:  # what is left of a line that both have changed
        raise LookupError(f"{' and '.join(m.name for m in mistakes)} need the same line") from error
