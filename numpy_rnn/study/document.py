"""A walk as data for other programs, and as one page that needs nothing but a browser: no network, no build step."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import numpy as np

from .equations import module_of
from .verdict import BY_HAND, TOLERANCE, Verdict
from .walk import Jacobian, Line, Walk, with_step


def at_step(line: Line) -> str:
    """A line's equation with the number of the step put in."""
    return with_step(line.equation.text, line.step)


def _pieces(walk: Walk, line: Line) -> Iterator[tuple[str, int | None]]:
    """The right side's pieces, with the number of the step put in, and which value each stands for."""
    f = walk.cell.name.removeprefix("rnn_") if walk.cell.name.startswith("rnn_") else "f"
    for kind, text in line.equation.tokens:
        if kind in ("name", "jacobian"):
            yield with_step(text, line.step), line.inputs[text]
        elif kind != "big":
            yield re.sub("^f", f, text) if kind == "function" else text, None


def loss(walk: Walk) -> str:
    """The loss of a walk in words."""
    final = " + ".join(f"K_{field}·{field}_T" for field in walk.cell.State._fields)
    return (
        f"The loss is Σ_t G_t·h_t + {final}, where T = {len(walk.case.x)}: each output h_1 … h_T and the final state "
        "is multiplied by a gradient of its own."
    )


def command(walk: Walk, seed: int) -> str:
    """What a user types to get this walk."""
    T, I, H, R = walk.sizes.values()
    projection = f" --projection {R}" if "W_hr" in walk.params else ""
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
    found = {
        "ok": verdict.ok,
        "cell": walk.cell.name,
        "module": f"{module_of(walk.cell).__name__.replace('.', '/')}.py",
        "sizes": walk.sizes,
        "seed": seed,
        "command": command(walk, seed),
        "loss": loss(walk),
        "fields": walk.cell.State._fields,
        "given": range(walk.given),
        "values": [{"name": v.name, "rows": v.array, "line": v.line, "meaning": v.meaning} for v in walk.values],
        "lines": [_line(walk, line) for line in walk.lines],
        "moments": walk.moments,
        "jacobians": [{**j._asdict(), "stretch": stretch(j)} for j in walk.jacobians],
        "gradients": {name: _gradient(verdict, name) for name in verdict.gradients[BY_HAND]},
        "tolerance": TOLERANCE,
        "note": verdict.note,
    }
    return {key: plain(value) for key, value in found.items()}


def _line(walk: Walk, line: Line) -> dict[str, Any]:
    return {
        "number": line.equation.number,
        "equation": line.equation.text,
        "at_step": at_step(line),
        "remark": line.equation.remark,
        "direction": line.direction,
        "step": line.step,
        "right": [{"text": text, "value": value} for text, value in _pieces(walk, line)],
        "before": line.before,
        "outputs": list(line.outputs.values()),
        "names": list(line.outputs),
        "code": line.code,
    }


def stretch(j: Jacobian) -> float:
    """By how much the step backwards can stretch a gradient at most: the Jacobian's largest singular value."""
    return float(np.linalg.norm(j.matrix, 2))


def _gradient(verdict: Verdict, name: str) -> dict[str, Any]:
    ways = {way: found[name] for way, found in verdict.gradients.items()}
    return {"ways": ways, "errors": {way: verdict.error(way, name) for way in ways if way != BY_HAND}}


def plain(value: Any) -> Any:
    """What JSON can hold: of a named tuple a mapping, of an array lists, of NaN and infinities, which it lacks, text.

    Examples
    --------
    >>> plain({"norms": np.array([1.0, np.inf]), "steps": (1, 2)})
    {'norms': [1.0, 'inf'], 'steps': [1, 2]}
    """
    value = value.tolist() if isinstance(value, np.ndarray) else getattr(value, "_asdict", lambda: value)()
    if isinstance(value, Mapping):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def page(document: Mapping[str, Any]) -> str:
    """The whole page.

    Parameters
    ----------
    document : mapping
        As the function returns it.

    Returns
    -------
    str
        HTML with its style, its script and the numbers inside.
    """
    folder = files(__package__)
    template, style, script = (folder.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    # "<" could end the script element from inside a string.
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {"cell": html.escape(document["cell"]), "style": style, "script": script, "data": data}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)
