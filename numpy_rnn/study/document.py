"""A walk as data for other programs: everything that the terminal or the page shows, and what they are made of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..fast.numerics import Array
from .source import module_of
from .verdict import BY_HAND, TOLERANCE, Verdict
from .walk import Jacobian, Line, Walk, with_step

DECIMALS = 4
_ACTIVATIONS = {"rnn_tanh": {"f": "tanh", "f'": "tanh'"}, "rnn_relu": {"f": "relu", "f'": "relu'"}}


def number(v: float) -> str:
    """A number as it is shown.

    Examples
    --------
    >>> number(-1e-9), number(-0.62508)
    ('0.0000', '-0.6251')
    """
    text = f"{v:.{DECIMALS}f}"
    return text.lstrip("-") if float(text) == 0 else text


def written(array: Array) -> str:
    """An array in one line: `;` stands where a new row begins, so a column is [a; b].

    Examples
    --------
    >>> written(np.array([[1.0, -2.0], [0.5, 0.25]])), written(np.array([[3.0]]))
    ('[1.0000 -2.0000; 0.5000 0.2500]', '[3.0000]')
    """
    return f"[{'; '.join(' '.join(map(number, row)) for row in array)}]"


def at_step(line: Line) -> str:
    """A line's equation with the number of the step put in."""
    return with_step(line.equation.text, line.step)


def pieces(walk: Walk, line: Line) -> Iterator[tuple[str, int | None]]:
    """The right side's pieces, with the number of the step put in, and which value each stands for."""
    activations = _ACTIVATIONS.get(walk.cell.name, {})
    for kind, text in line.equation.tokens:
        if kind in ("name", "jacobian"):
            yield with_step(text, line.step), line.inputs[text]
        elif kind != "big":
            yield activations.get(text, text) if kind == "function" else text, None


def with_numbers(walk: Walk, line: Line) -> str:
    """A line's right side with the numbers put in, and worked out.

    Examples
    --------
    >>> from .walk import small_case, walk
    >>> found = walk(small_case("gru", steps=3, inputs=3, hidden=2, projection=1, seed=0))
    >>> line = next(line for line in found.lines if line.equation.targets == ("dv_n",))
    >>> at_step(line), with_numbers(found, line)
    ('dv_n = du_n ∘ r', '[0.0001; -0.8682] ∘ [0.2925; 0.4095] = [0.0000; -0.3555]')
    """
    shown = "".join(text if v is None else written(walk.values[v].array) for text, v in pieces(walk, line)).strip()
    if line.before is not None:
        shown = f"{written(walk.values[line.before].array)} + {shown}"
    return f"{shown} = {written(line.result)}"


def loss(walk: Walk) -> str:
    """The loss of a walk in words."""
    final = " + ".join(f"K_{field}·{field}_T" for field in walk.cell.State._fields)
    return (
        f"The loss is Σ_t G_t·h_t + {final}, where T = {len(walk.case.x)}: each output h_1 … h_T and the final state "
        "meet a number of their own."
    )


def command(walk: Walk, seed: int) -> str:
    """What a user types to get this walk."""
    T, _, I = walk.case.x.shape
    params = walk.case.params[0][0]
    H = params.W_ih.shape[0] // walk.cell.gates
    projection = f" --projection {params.W_hh.shape[1]}" if "W_hr" in params._fields else ""
    return f"numpy-rnn trace --cell {walk.cell.name} --steps {T} --input {I} --hidden {H}{projection} --seed {seed}"


def document(walk: Walk, verdict: Verdict, seed: int) -> dict[str, Any]:
    """Everything about a walk, for JSON.

    Parameters
    ----------
    walk : Walk
    verdict : Verdict
        Of this walk.
    seed : int
        From which its numbers were drawn.

    Returns
    -------
    dict
        values, lines and moments refer to one another by index. Matrices and vectors are lists of rows.
    """
    T, _, I = walk.case.x.shape
    params = walk.case.params[0][0]
    found = {
        "ok": verdict.ok,
        "cell": walk.cell.name,
        "module": f"{module_of(walk.cell).__name__.replace('.', '/')}.py",
        "sizes": {"T": T, "I": I, "H": params.W_ih.shape[0] // walk.cell.gates, "R": params.W_hh.shape[1]},
        "seed": seed,
        "command": command(walk, seed),
        "loss": loss(walk),
        "fields": walk.cell.State._fields,
        "given": walk.given,
        "values": [
            {"name": v.name, "rows": v.array.tolist(), "line": v.line, "meaning": v.meaning} for v in walk.values
        ],
        "lines": [_line(walk, line) for line in walk.lines],
        "moments": [m._asdict() for m in walk.moments],
        "jacobians": [_jacobian(j) for j in walk.jacobians],
        "gradients": {name: _gradient(verdict, name) for name in verdict.gradients[BY_HAND]},
        "tolerance": TOLERANCE,
        "note": verdict.note,
    }
    return {key: _finite(value) for key, value in found.items()}


def _line(walk: Walk, line: Line) -> dict[str, Any]:
    return {
        "number": line.equation.number,
        "equation": line.equation.text,
        "at_step": at_step(line),
        "numbers": with_numbers(walk, line),
        "remark": line.equation.remark,
        "direction": line.direction,
        "step": line.step,
        "left": with_step(line.equation.left, line.step),
        "right": [{"text": text, "value": value} for text, value in pieces(walk, line)],
        "before": line.before,
        "outputs": line.outputs,
        "code": [c._asdict() for c in line.code],
    }


def _jacobian(j: Jacobian) -> dict[str, Any]:
    arrays = ("matrix", "arrived", "carried", "loss", "result")
    return {**j._asdict(), **{name: getattr(j, name).tolist() for name in arrays}, "stretch": stretch(j)}


def stretch(j: Jacobian) -> float:
    """By how much the step backwards can stretch a gradient at most: the Jacobian's largest singular value."""
    return float(np.linalg.norm(j.matrix, 2))


def _gradient(verdict: Verdict, name: str) -> dict[str, Any]:
    ways = {way: found[name].tolist() for way, found in verdict.gradients.items()}
    return {"ways": ways, "errors": {way: verdict.error(way, name) for way in ways if way != BY_HAND}}


def _finite(value: Any) -> Any:
    """The same without NaN and infinities, which JSON does not have: they become words."""
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
