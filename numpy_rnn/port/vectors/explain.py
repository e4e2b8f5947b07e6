"""What wrong numbers come from: a mistake of the zoo, in both functions or in one, or right numbers in a wrong place.

Whoever writes forward and backward by hand makes a mistake in one of them as a rule. A wrong forward with the right
backward gives gradients of its own: neither the reference's nor those of the same mistake made in both. So a mistake is
tried in both functions and in each alone, first on all that was given, then on less and less of it; and backward is
also judged by itself, starting from the port's own values of forward.

A mistake is named only if it gives, within the tolerance, all the numbers that it is said to give, and moves some of
them away from the right ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from ...fast.numerics import Array
from ...verify.case import Case
from ...verify.zoo import Mistake, mistakes
from ...verify.zoo.mistake import RUNS_WRONG
from .document import GIVEN, Tensors, case_of, tensors_of
from .first import First, is_cell

Bounds = Mapping[str, float]


class Cause(NamedTuple):
    """A mistake, and where it was made."""

    mistake: Mistake
    side: str  # "": in forward and backward, as far as it is in both; "forward", "backward": in this one alone


class Explanation(NamedTuple):
    """What gives the numbers, and which of them."""

    causes: tuple[Cause, ...] = ()  # each alone gives these numbers
    of: str = ""  # which: "all", "results", "forward", "outputs" or "first"
    slips: Mapping[str, str] = {}  # tensors that hold the right numbers in a wrong place: how
    backward: str = ""  # where forward is wrong: "right" or "wrong", given the port's own forward values
    behind: tuple[Cause, ...] = ()  # each alone gives a wrong backward, given these


class _Given(NamedTuple):
    """A case and what a port says of it."""

    found: Mapping[str, Any]
    case: Case
    arrays: Mapping[str, Array]
    expected: Mapping[str, Array]
    wrong: Set[str]
    bounds: Bounds

    def named(self, *roles: str) -> set[str]:
        """Given tensors of these roles."""
        return {name for name in self.arrays if self.found["tensors"][name]["role"] in roles}


class _Made(NamedTuple):
    """A run with a mistake, against what was given."""

    same: set[str]  # tensors as the port has them
    moved: set[str]  # tensors that are not the right ones

    def gives(self, names: Set[str]) -> bool:
        """Whether the mistake gives all these, and is not without effect on them."""
        return names <= self.same and bool(names & self.moved)


def explain(
    found: Mapping[str, Any],
    arrays: Mapping[str, Array],
    expected: Mapping[str, Array],
    wrong: Mapping[str, Array],
    bounds: Bounds,
    first: First,
    apart: Callable[[Array, Array, float], Array],
) -> Explanation:
    """Say what the wrong ones among a port's numbers come from.

    Parameters
    ----------
    found : mapping
        The case's document.
    arrays, expected : mapping of str to array
        What was given, of the right shapes, and what is right.
    wrong : mapping of str to array of bool
        Where they differ, for those that do.
    bounds : mapping of str to float
        How far each tensor may be off.
    first : First
        The first difference.
    apart : function
        Says where two arrays differ by more than a bound.
    """
    slips = {n: how for n in wrong if (how := _slip(found, n, arrays[n], expected[n], bounds[n], apart))}
    if not is_cell(found):
        return Explanation(slips=slips)
    given = _Given(found, case_of(found), arrays, expected, set(wrong), bounds)
    explained = _search(given, first, apart)
    if slips and explained.of != "all":  # what is in its place may tell more
        kept = {name: a for name, a in arrays.items() if name not in slips}
        given = given._replace(arrays=kept, wrong=set(wrong) - set(slips))
        explained = _search(given, first, apart) if given.wrong else Explanation()
    return explained._replace(slips=slips)


def _search(given: _Given, first: First, apart: Callable[[Array, Array, float], Array]) -> Explanation:
    """Mistakes that give all numbers that were given; or, if none does, those that give fewer and fewer of them."""

    def made(*planted: Mistake, own: Mapping[str, Array] | None = None) -> _Made:
        return _against(given, planted, own, apart)

    candidates = mistakes(given.case.cell)
    whole = {mistake: made(mistake) for mistake in candidates}
    outputs = given.named("forward", "result") & {"output", "h_n", "c_n"}
    forward = given.named("forward") | outputs
    halves: dict[Cause, _Made] = {}
    for mistake in candidates:
        # A half can fit only where the whole, or nothing at all, fits forward.
        sides = ["forward"] if whole[mistake].gives(outputs or forward) else []
        sides += ["backward"] if not forward & given.wrong else []
        for side in sides:
            if part := mistake.only(given.case.cell, side):
                halves[Cause(mistake, side)] = made(part)

    for of, names in _levels(given, first, forward, outputs):
        if not names & given.wrong:
            continue
        causes = [Cause(mistake, "") for mistake in candidates if whole[mistake].gives(names)]
        causes += [c for c in halves if halves[c].gives(names) and Cause(c.mistake, "") not in causes]
        if causes:
            return _behind(given, forward, made, Explanation(tuple(causes), of))
    return _behind(given, forward, made, Explanation())


def _levels(given: _Given, first: First, forward: Set[str], outputs: Set[str]) -> Iterator[tuple[str, Set[str]]]:
    """Fewer and fewer of the given tensors."""
    yield "all", given.named("forward", "backward", "running", "result")
    yield "results", given.named("result")
    yield "forward", forward
    states = {name for name in forward if name.partition("_l")[0] in ("h", "c")}
    yield "outputs", outputs | states
    right = set(given.arrays) - given.wrong - given.named(*GIVEN)  # which a mistake has to leave alone
    yield "first", {first.tensor} & set(given.arrays) | right


def _against(
    given: _Given, planted: Sequence[Mistake], own: Mapping[str, Array] | None, apart: Callable[..., Array]
) -> _Made:
    """Run the case with mistakes and compare."""
    try:
        with np.errstate(all="ignore"):
            found: Tensors = tensors_of(given.case, *planted, own=own)
    except RUNS_WRONG:
        return _Made(set(), set())  # it does not run on this case
    same, moved = set(), set()
    for name, a in given.arrays.items():
        if name in found and found[name].value.shape == a.shape:
            value = found[name].value.astype(np.float64)
            if not apart(a, value, given.bounds[name]).any():
                same.add(name)
            if apart(value, given.expected[name], given.bounds[name]).any():
                moved.add(name)
    return _Made(same, moved)


def _own(given: _Given, forward: Set[str]) -> Mapping[str, Array] | None:
    """The port's own forward values, if forward is wrong, its states are there, and there is a backward to judge."""
    L, D = given.found["sizes"]["L"], given.found["sizes"]["D"]
    states = {given.case.parameter_name("h", l, d) for l in range(L) for d in range(D)}
    if not forward & given.wrong or not states <= forward or not given.named("backward", "result") - forward:
        return None
    return {name: given.arrays[name] for name in forward}


def _behind(given: _Given, forward: Set[str], made: Callable[..., _Made], explained: Explanation) -> Explanation:
    """Judge backward by what the textbook's makes of the port's own forward values."""
    own = None if explained.of == "all" else _own(given, forward)
    if own is None:
        return explained
    behind = given.named("backward", "running", "result") - forward
    if behind <= made(own=own).same:
        return explained._replace(backward="right")
    causes = []
    for mistake in mistakes(given.case.cell):
        part = mistake.only(given.case.cell, "backward")
        if made(part or mistake, own=own).gives(behind):
            causes.append(Cause(mistake, "backward" if part else ""))
    return explained._replace(backward="wrong", behind=tuple(causes))


def _slip(
    found: Mapping[str, Any], name: str, got: Array, expected: Array, bound: float, apart: Callable[..., Array]
) -> str:
    """How the right numbers were put in a wrong place: "" if they were not."""
    tensor = found["tensors"][name]
    steps = tensor["axes"][:2] == ["step", "sequence"]
    full = min(found["lengths"], default=0) == found["sizes"]["T"] > 1
    if steps and full and expected[1:].any():
        if not apart(got[1:], expected[:-1], bound).any():
            return f"at step t it has what belongs to step t - 1{_state(name, -1)}"
        if not apart(got[:-1], expected[1:], bound).any():
            return f"at step t it has what belongs to step t + 1{_state(name, 1)}"
        if not apart(got[::-1], expected, bound).any():
            return "its steps are in reverse order"
    if steps and not apart(got, expected.swapaxes(0, 1).reshape(expected.shape), bound).any():
        return "it stands sequence by sequence, (B, T, ·), instead of step by step, (T, B, ·)"
    if expected.ndim > 1 and not apart(got, expected.ravel("F").reshape(expected.shape), bound).any():
        return "it stands column by column instead of row by row: the last index has to run fastest"
    return ""


def _state(name: str, shift: int) -> str:
    """Which states are meant, where it is a state."""
    stem = name.partition("_l")[0]
    if stem not in ("h", "c", "dh", "dc") or shift > 0:
        return ""
    return f": {stem}[t], where {stem}[t + 1] is expected"
