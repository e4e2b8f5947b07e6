"""Numbers that no line of the textbook makes, but a known way to go about it: changed axes, truncation, clipping."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...fast.numerics import Array
from ..case import Case
from ..difference import FORWARD, error
from .mistake import machine
from .search import Problem


def slip_of(problem: Problem, wrong: Sequence[str]) -> str:
    """Complete "just these numbers come out when …", or say nothing."""
    return _axes_changed(problem) or _truncated(problem, wrong) or _clipped(problem, wrong)


def _axes_changed(problem: Problem) -> str:
    """Whether the numbers are those of x (B, T, I) taken for (T, B, I), from zero states where these do not fit."""
    case = problem.case
    T, B, _ = case.x.shape
    compared = [name for name in problem.got if name.startswith("d") and name not in ("dh_0", "dc_0")]
    compared = [name for name in problem.got if name == "output"] or compared
    if case.lengths or case.loss or not compared:
        return ""

    def states(given: tuple[Array, ...]) -> tuple[Array, ...]:
        return given if T == B else tuple(np.zeros((len(s), T, s.shape[2])) for s in given)

    turned = case._replace(
        x=case.x.swapaxes(0, 1),
        doutput=case.doutput.swapaxes(0, 1),
        s0=states(case.s0),
        ds_n=states(case.ds_n),
        masks=None if case.masks is None else tuple(m.swapaxes(0, 1) for m in case.masks),
    )
    theirs = machine(case.cell).run(turned.astype(np.float64))
    theirs |= {name: theirs[name].swapaxes(0, 1) for name in ("output", "dx")}
    if problem.error(theirs, compared) > 1:
        return ""
    states_are = "" if T == B else ", from zero states"
    return f"batch and time have changed places: x (B, T, I) is taken for (T, B, I){states_are}"


def _truncated(problem: Problem, wrong: Sequence[str]) -> str:
    """Whether gradients are those of a loss that reaches some steps back only."""
    weights = [name for name in wrong if name.startswith("dW")]
    if set(wrong) & set(FORWARD) or not weights or not _is_single(problem.case) or len(problem.case.x) > 40:
        return ""
    ends = [(n - 1, b) for b, n in enumerate(problem.case.all_lengths) if n]
    if "dx" in wrong and any(not _is(problem, "dx", problem.expected["dx"], end) for end in ends):
        return ""  # the last step's own loss reaches it in any case
    for K in range(1, len(problem.case.x) - 1):
        theirs = _window(problem.case.astype(np.float64), K)
        if all(_is(problem, name, theirs[name]) for name in weights):
            steps = "step" if K == 1 else "steps"
            said = f"the loss of each step reaches {K} {steps} back only (truncated: k1 = 1, k2 = {K + 1})"
            if "dx" in wrong and _is(problem, "dx", theirs["dx of its own step"]):
                return f"{said}, and dx has its own step's loss alone"
            return said
    return ""


def _is(problem: Problem, name: str, guess: Array, where: Any = ()) -> bool:
    return error(problem.got[name][where], guess[where]) <= 10 * problem.tolerances[name]


def _is_single(case: Case) -> bool:
    """Whether there is one layer in one direction."""
    return len(case.params) * len(case.params[0]) == 1


def _window(case: Case, K: int) -> dict[str, Array]:
    """Gradients where the loss of step t reaches back to step t - K."""
    cell, ((p,),), total = machine(case.cell).cell, case.params, [np.zeros_like(w) for w in case.params[0][0]]
    dx = np.zeros_like(case.x)
    for b, n in enumerate(case.all_lengths):
        x = case.x[:n, b]
        states, _ = cell.forward(p, x, *(s[0, b] for s in case.s0))
        for t in range(n):
            first = max(0, t - K)
            _, tape = cell.forward(p, x[first : t + 1], *(s[first] for s in states))
            direct = [np.zeros((t - first + 2, s.shape[1])) for s in states]
            direct[0][-1] = case.doutput[t, b]
            for d, ds in zip(direct, case.ds_n if t == n - 1 else ()):
                d[-1] += ds[0, b]
            grads, dsteps, _ = cell.backward(tape, *direct)
            dx[t, b] = dsteps[-1]
            for g, more in zip(total, grads):
                g += more
    return {f"d{field}": g for field, g in zip(type(p)._fields, total)} | {"dx of its own step": dx}


LIMITS = (0.01, 0.05, 0.1, 0.2, 0.25, 0.5, 1, 2, 3, 5, 10, 15, 20, 25, 50, 100)  # that people clip at


def _clipped(problem: Problem, wrong: Sequence[str]) -> str:
    """Whether what a step sends back to the step before is clipped, by value or by norm."""
    case = problem.case
    if set(wrong) & set(FORWARD) or not _is_single(case) or case.lengths:
        return ""
    ends = (float(np.abs(problem.got[n]).max()) for n in ("dh_0", "dc_0") if n in wrong)
    limits = [*LIMITS, *(end for end in ends if end > 0)]
    cell, ((p,),) = machine(case.cell).cell, case.params
    states = [cell.forward(p, case.x[:, b], *(s[0, b] for s in case.s0))[0] for b in range(case.x.shape[1])]
    for limit, how, with_loss in itertools.product(limits, CLIPS, (False, True)):
        theirs = _carried(problem, states, partial(CLIPS[how], limit=limit), with_loss)
        if all(_is(problem, name, theirs[name]) for name in problem.got if name in theirs):
            when = "after the loss's share is added" if with_loss else "before the loss's share is added"
            return f"what each step sends back to the step before is clipped {how} {limit:.6g}, {when}"
    return ""


def _by_norm(d: Array, limit: float) -> Array:
    norm = float(np.linalg.norm(d))
    return d * (limit / norm) if norm > limit else d


CLIPS: dict[str, Callable[..., Array]] = {
    "to ±": lambda d, limit: np.clip(d, -limit, limit),
    "to the norm": _by_norm,
    "to the norm, sequence by sequence,": lambda d, limit: np.stack([_by_norm(row, limit) for row in d]),
}


def _carried(
    problem: Problem, states: Sequence[Sequence[Array]], clip: Callable[[Array], Array], with_loss: bool
) -> dict[str, Array]:
    """Gradients where what a step sends back is clipped, with or without what the loss sends to the same state.

    If dx is given, and is another one at the last two steps, the others are not computed.
    """
    case = problem.case.astype(np.float64)
    cell, ((p,),), B, T = machine(case.cell).cell, case.params, case.x.shape[1], len(case.x)
    total, dx = [np.zeros_like(w) for w in p], np.zeros_like(case.x)
    given = problem.got.get("dx", dx)
    carried = [ds[0].copy() for ds in case.ds_n]
    for t in reversed(range(T)):
        arriving = [carried[0] + case.doutput[t], *carried[1:]]
        if with_loss:
            arriving = [clip(d) for d in arriving]
        for b in range(B):
            _, tape = cell.forward(p, case.x[t : t + 1, b], *(s[t] for s in states[b]))
            grads, dstep, before = cell.backward(tape, *(np.stack([np.zeros_like(d[b]), d[b]]) for d in arriving))
            dx[t, b] = dstep[0]
            for g, more in zip(total, grads):
                g += more
            for d, new in zip(carried, before):
                d[b] = new
        if t == T - 2 and given is not dx and error(dx[t:], given[t:]) > 10 * problem.tolerances["dx"]:
            break
        if not with_loss:
            carried = [clip(d) for d in carried]
    initial = {f"d{name}_0": d[None] for name, d in zip("hc", carried)}
    return {f"d{field}": g for field, g in zip(type(p)._fields, total)} | {"dx": dx} | initial
