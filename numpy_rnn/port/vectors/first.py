"""The first number that differs: where it stands, by which equation at which t, and what that equation reads.

Numbers are put in the order in which a program computes them: layer after layer, step after step, and backwards the
other way round. So the first difference is where the port went wrong, and not where it became large.

Tensors of steps count from 0: entry k of `r` is r of step t = k. A state's entry k is the one *after* step k, h[k + 1],
since h[0] is h_0; so is that of dh, c and dc.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from ...fast.numerics import Array
from ...fast.registry import CELLS
from .document import GIVEN
from .trace import joined

STATES = ("h", "c", "dh", "dc")  # entry k is the one with index k + 1 in the equations
DRIFT = 100  # times as large as at the step before, a difference may still have grown by itself


class First(NamedTuple):
    """The first number that differs."""

    tensor: str
    where: tuple[int, ...]
    axes: tuple[str, ...]
    got: float
    expected: float
    equation: str  # as the textbook has it
    by: str  # the same with this entry's t in it
    agree: tuple[str, ...]  # what the equation reads and the port got right just there, as far as it was given
    kind: str  # "drift": grown from step to step; "jump": come at once; "" where there is no step before
    before: float  # the largest difference of this sequence at the step before

    def __str__(self) -> str:
        place = ", ".join(f"{axis} {i}" for axis, i in zip(self.axes, self.where))
        got, expected = (f"{v:.9g}" for v in (self.got, self.expected))
        if got == expected:
            got, expected = (f"{v:.17g}" for v in (self.got, self.expected))
        text = f"{self.tensor}{f' at {place}' if place else ''} is {got}, expected {expected}"
        if self.by:
            text += f", by {self.by}"
        if self.agree:
            text += f"; {', '.join(self.agree)} {'agrees' if len(self.agree) == 1 else 'agree'} there"
        if self.kind == "drift":
            text += f"; grown from a difference of {self.before:.1e} at the step before"
        return text


class _Entry(NamedTuple):
    """An entry of a tensor of steps: whose equation, at which of its direction's own steps, of which sequence."""

    cell: str
    stem: str
    suffix: str  # "", "_l0", "_l1_reverse", …
    t: int
    sent_at: int  # what t counts from: more than 0 where one step was sent alone
    step: int  # of the sequence; t unless the direction is the second
    length: int  # of the sequence
    top: bool  # whether the layer is the last
    sequence: int
    unit: int


def first_of(
    found: Mapping[str, Any], arrays: Mapping[str, Array], expected: Mapping[str, Array], wrong: Mapping[str, Array]
) -> First:
    """The earliest of all differences.

    Parameters
    ----------
    found : mapping
        The case's document.
    arrays, expected : mapping of str to array
        What was given, and what is right.
    wrong : mapping of str to array of bool
        Where they differ, for those that do.
    """
    _, name, at = min(
        (key, name, place)
        for name, differs in wrong.items()
        for key, where in _when(found, name, differs.shape)
        for place in [tuple(int(i) for i in index) for index in np.argwhere(where & differs)[:1]]
    )
    tensor = found["tensors"][name]
    equation: str = tensor.get("equation", "")
    by, agree = "", tuple[str, ...]()
    if tensor["role"] in ("forward", "backward") and "sequence" in tensor["axes"]:
        entry = _entry(found, name, at)
        parts = [*_parts(entry, equation)]
        if entry.step < entry.length:
            by, agree = _by(entry, parts), _agree(found, entry, parts, name, arrays, wrong)
        else:
            by = f"the padding: sequence {entry.sequence} has {entry.length} steps"
    elif equation:
        by = equation.replace("[t]", f"[{at[0]}]") + f" at t = {at[0]}"
        agree = tuple(n for n in arrays if n != name and _reads(equation, n) and not _at(wrong, n, at[:1]))
    kind, before = _kind(found, name, at, arrays[name], expected[name])
    return First(
        name, _original(found, tensor["axes"], at), tuple(tensor["axes"]), float(arrays[name][at]),
        float(expected[name][at]), equation, by, agree, kind, before,
    )  # fmt: skip


def _original(found: Mapping[str, Any], axes: list[str], at: tuple[int, ...]) -> tuple[int, ...]:
    """The place in the case itself, where the document is one step of it that was sent alone."""
    sent = {"step": [found["step"]], "sequence": found["alive"]} if "step" in found else {}
    return tuple(sent[axis][i] if axis in sent else i for axis, i in zip(axes, at))


def _when(found: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Array]]:
    """Keys that sort a tensor's entries by time, with where they hold: phase, layer, step, place in the step."""
    tensor, order = found["tensors"][name], list(found["tensors"])
    lengths, T = found["lengths"], found["sizes"]["T"]
    place = order.index(name)
    last = (5, 0, 0, place), np.ones(shape, bool)  # the padding, where nothing is computed
    if tensor["role"] not in ("forward", "backward", "running"):
        # Results come when all steps are done; output and dx, which have steps, step by step.
        phase = 1 if tensor["role"] == "result" and name in ("output", "h_n", "c_n") else 4
        yield (0 if tensor["role"] in GIVEN else phase, 0, 0, place), np.ones(shape, bool)
        return
    if "sequence" not in tensor["axes"] and tensor["role"] == "forward":  # a step of an optimizer
        for t in range(T):
            at = np.zeros(shape, bool)
            at[t] = True
            yield (0, 0, t, place), at
        return
    forward, reverse = tensor["role"] == "forward", name.endswith("_reverse")
    layer = int(name.split("_l")[-1].removesuffix("_reverse")) if "_l" in name else 0
    for t in range(T):
        if tensor["role"] == "running":
            at = np.zeros(shape, bool)
            at[t] = True
            yield (2, -layer, T - 1 - t, place), at
            continue
        for b, n in enumerate(lengths):
            if t < n:
                at = np.zeros(shape, bool)
                at[t, b] = True
                own = n - 1 - t if reverse else t  # the step of the direction
                yield (0 if forward else 2, layer if forward else -layer, own if forward else n - 1 - own, place), at
    yield last


def _entry(found: Mapping[str, Any], name: str, at: tuple[int, ...]) -> _Entry:
    step, b, unit = at
    stem, _, place = name.partition("_l")
    n, L = found["lengths"][b], found["sizes"]["L"]
    reverse = place.endswith("_reverse")
    top = int(place.removesuffix("_reverse") or 0) == L - 1
    t = n - 1 - step if reverse else step
    suffix = name.removeprefix(stem)
    return _Entry(found["cell"], stem, suffix, t, found.get("step", 0), step, n, top, b, unit)


def _parts(entry: _Entry, equation: str) -> Iterator[tuple[str, int]]:
    """The equation's lines that make this entry, each with its t; later steps send nothing to the last state."""
    for part in equation.split("; "):
        left = part.split(" ")[0]
        t = entry.t + (entry.stem in STATES and left.endswith("[t]"))
        if t < max(entry.length, entry.t + 1):
            yield part, t


def _by(entry: _Entry, parts: list[tuple[str, int]]) -> str:
    """The lines with t filled in, and what the loss sends before any."""
    said, k = [], entry.sent_at
    if entry.stem == "dh":
        last = " + dh_n" if entry.t == entry.length - 1 else ""
        sent = f"doutput[{entry.step + k}]" if entry.top else f"dx[{entry.step}] of the layer above, masked"
        said.append(f"dh[{entry.t + 1 + k}] = {sent}{last}")
    if entry.stem == "dc" and entry.t == entry.length - 1:
        said.append(f"dc[{entry.t + 1 + k}] = dc_n")
    for t, lines in groupby(parts, key=lambda pair: pair[1]):
        text = "; ".join(line for line, _ in lines).replace("[t + 1]", f"[{t + 1 + k}]").replace("[t]", f"[{t + k}]")
        said.append(f"{text} at t = {t + k}")
    whole = "; ".join(said)
    for name, made_of in joined(entry.cell).items():
        if re.search(rf"\b{name}\b", whole):
            whole += f", where {name} = ({', '.join(made_of)})"
    if entry.suffix.endswith("_reverse"):
        whole += ", counted in the second direction's own order"
    return whole


def _agree(
    found: Mapping[str, Any],
    entry: _Entry,
    parts: list[tuple[str, int]],
    name: str,
    arrays: Mapping[str, Array],
    wrong: Mapping[str, Array],
) -> tuple[str, ...]:
    """What the lines read and the port got right, at the steps and entries that they read."""
    right: dict[str, bool] = {}
    for part, t in parts:
        for stem, index in re.findall(r"\b([A-Za-z]\w*)(\[t(?: \+ 1)?\])?", part.partition("= ")[2]):
            for one in joined(entry.cell).get(stem, (stem,)):
                whole = one + entry.suffix
                if whole == name or whole not in arrays or found["tensors"][whole]["role"] in GIVEN:
                    continue
                k = t + (index == "[t + 1]") - (one in STATES)
                if 0 <= k < entry.length:
                    step = entry.length - 1 - k if entry.suffix.endswith("_reverse") else k
                    at = (step, entry.sequence, *(() if "@" in part else (entry.unit,)))
                    right[whole] = right.get(whole, True) and not _at(wrong, whole, at)
    return tuple(whole for whole, agrees in right.items() if agrees)


def _at(wrong: Mapping[str, Array], name: str, at: tuple[int, ...]) -> bool:
    """Whether a tensor is wrong at a place."""
    return name in wrong and bool(wrong[name][at[: wrong[name].ndim]].any())


def _reads(equation: str, name: str) -> bool:
    """Whether an optimizer's equation reads a tensor."""
    return re.search(rf"\b{name}\b", equation.partition("=")[2]) is not None


def _kind(found: Mapping[str, Any], name: str, at: tuple[int, ...], got: Array, expected: Array) -> tuple[str, float]:
    """Whether the difference comes at once, or has grown from step to step; and how large it was a step before."""
    tensor = found["tensors"][name]
    if tensor["axes"][:1] != ["step"] or (name in ("output", "dx") and found["sizes"]["D"] > 1):
        return "", 0.0
    backwards = tensor["role"] != "forward" and name != "output"
    before = at[0] + 1 if backwards != name.endswith("_reverse") else at[0] - 1
    steps = found["lengths"][at[1]] if "sequence" in tensor["axes"] else len(got)
    if not 0 <= before < steps:
        return "", 0.0
    places = (slice(None), at[1]) if "sequence" in tensor["axes"] else (slice(None),)
    with np.errstate(all="ignore"):
        error = np.abs(got - expected)[places].reshape(len(got), -1).max(axis=1)
    grown = bool(0 < error[at[0]] <= DRIFT * error[before])
    return "drift" if grown else "jump", float(error[before]) if np.isfinite(error[before]) else 0.0


def is_cell(found: Mapping[str, Any]) -> bool:
    """Whether a case is a cell's; the others are optimizers'.

    Examples
    --------
    >>> is_cell({"cell": "gru"}), is_cell({"cell": "adam"})
    (True, False)
    """
    return found["cell"] in CELLS
