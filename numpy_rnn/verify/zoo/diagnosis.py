"""From somebody's numbers to the name of the mistake that makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...fast.numerics import Array
from ..case import Case, check_case, check_tensors
from ..causes import causes, times
from ..difference import FORWARD, TOLERANCES, Difference, error, first_difference, tolerance_of
from .cases import run
from .mistake import Mistake
from .search import Pair, Problem, Search
from .slips import slip_of


class Part(NamedTuple):
    """Wrong tensors that one thing explains by themselves."""

    names: tuple[str, ...]
    mistakes: Pair  # none, if it is no mistake of the zoo
    what: str

    def __str__(self) -> str:
        return f"{_listed(self.names)} by {'itself' if len(self.names) == 1 else 'themselves'} {self.what}"


class Diagnosis(NamedTuple):
    """What `diagnose` found."""

    agrees: bool
    mistakes: tuple[Mistake, ...]  # none, one, or two that occur together
    alternatives: tuple[tuple[Mistake, ...], ...]  # others that this case does not tell from `mistakes`
    wrong: tuple[str, ...]  # tensors that differ from the right ones
    right: tuple[str, ...]
    first: Difference | None  # in the order of execution
    remark: str  # what can be said where no mistake is named
    slip: str = ""  # what makes the numbers where it is no line of the code: axes, a truncated gradient
    parts: tuple[Part, ...] = ()  # what makes some of the wrong tensors, where nothing makes all

    def __str__(self) -> str:
        if self.agrees:
            return f"{_listed(self.right)}: right. {self.remark}".rstrip() if self.right else "Nothing was given."
        are = "differs" if len(self.wrong) == 1 else "differ"
        if self.slip:
            said = f"{_listed(self.wrong)} {are} from the right values; just these numbers come out when {self.slip}."
            return f"{said} {self.remark}".rstrip()
        if not self.mistakes:
            whole = " as a whole" if self.parts else ""
            said = f"Not identified{whole}: {_listed(self.wrong)} {are} from the right values; {self.first}."
            said += f" But {'; '.join(map(str, self.parts))}." if self.parts else ""
            return f"{said} {self.remark}".rstrip()
        said = f"{_listed(self.wrong)} {are} from the right values; "
        said += f"just these numbers come out when {_said(self.mistakes)}."
        for other in self.alternatives:
            said += f" On this case they also come out when {_said(other)}."
        return said if not self.remark else f"{said} {self.remark}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _said(found: Pair) -> str:
    return ", and ".join(f"{m.what} ({m.name})" for m in found)


def diagnose(
    case: Case,
    outputs: Mapping[str, Any] | None = None,
    grads: Mapping[str, Any] | None = None,
    *,
    dtype: Any = None,
    pairs: bool = True,
) -> Diagnosis:
    """Say whether somebody's numbers are right, and if not, which mistake makes them.

    Parameters
    ----------
    case : Case
    outputs : mapping of str to array, optional
        Any of "output" (T, B, D·R), "h_n" and "c_n" (L·D, B, ·), and "loss", if the case has one.
    grads : mapping of str to array, optional
        Any of "dx", "dh_0", "dc_0" and the parameters': "dW_hh", "dW_hh_l1_reverse", or torch's names of them.
    dtype : dtype, optional
        What the numbers were computed in; by default what they are given in. Numbers computed in float32 and read
        from a text file need dtype="float32".
    pairs : bool
        Whether to look for two mistakes at once where no single one fits: some seconds, on large cases more. Without
        outputs, both are looked for in backward.

    Returns
    -------
    Diagnosis
        As a string, readable sentences.

    Raises
    ------
    ValueError
        If a tensor's name or shape, or the case itself, is not as it should be.

    Examples
    --------
    >>> from numpy_rnn.verify import zoo
    >>> case = zoo.cases("gru")[0]
    >>> theirs = zoo.machine("gru", zoo.mistake("gru-z-turned-around")).run(case)
    >>> print(zoo.diagnose(case, {"h_n": theirs["h_n"]}))  # doctest: +NORMALIZE_WHITESPACE
    h_n differs from the right values; just these numbers come out when z weighs the candidate and 1 - z the old state
    (gru-z-turned-around).
    """
    check_case(case)
    expected = run(case)
    if case.loss is not None:
        case = case._replace(doutput=np.asarray(case.loss(expected["output"])[1]))
    got = check_tensors(case, {**(outputs or {}), **(grads or {})}, expected)
    tolerances = {name: tolerance_of(a, dtype) for name, a in got.items()}
    got = {name: got[name].astype(np.float64) for name in expected if name in got}  # in the order of execution
    printed = []  # to how many decimals, where that is coarser than the dtype
    for name, a in got.items():
        decimals = _decimals(a, expected[name])
        half = 0.51 * 10.0**-decimals / (float(np.max(np.abs(expected[name]), initial=0)) or 1.0)
        if half > tolerances[name] and decimals < _decimals(expected[name]):
            printed.append(decimals)
            tolerances[name] = half
    problem = Problem(case, got, expected, tolerances)
    wrong = tuple(name for name in got if not error(got[name], expected[name]) <= tolerances[name])
    right = tuple(name for name in got if name not in wrong)
    said = f"The numbers have {min(printed)} decimals." if printed else ""
    found = Diagnosis(not wrong, (), (), wrong, right, first_difference(case, got, expected, tolerances), said)
    if not wrong:
        return found

    search = Search(problem, wrong)
    fits = search.alone()
    if not fits:
        if rounding := _rounding(problem, wrong):
            return found._replace(remark=f"{said} {rounding}".strip())
        if scaled := _scaled(problem, wrong):
            return found._replace(remark=f"{said} {scaled}".strip())
        if slip := slip_of(problem, wrong):
            return found._replace(slip=slip)
        if pairs:
            fits = search.pairs()
    if fits:
        return found._replace(mistakes=fits[0], alternatives=tuple(fits[1:]))
    if near := _nearly_right(problem, wrong):
        return _beside(found, problem, near, pairs)
    remarks = [said]
    if search.large and search.untried:
        remarks.append("Not all pairs of mistakes were tried; of a small case, T = 4 and B = 2, more are.")
    return found._replace(remark=" ".join(filter(None, remarks)), parts=_parts(search, pairs))


def _beside(found: Diagnosis, problem: Problem, near: Mapping[str, float], pairs: bool) -> Diagnosis:
    """Diagnose the rest where some tensors are off by 1e-10: a small number added somewhere must not hide a mistake."""
    largest = max(near.values())
    wider = problem._replace(tolerances={name: max(t, 100 * largest) for name, t in problem.tolerances.items()})
    rest = tuple(name for name in found.wrong if name not in near)
    search = Search(wider, rest)
    fits = search.alone() or (search.pairs() if pairs else [])
    remark = f"Apart from that, {_listed(tuple(near))} {'is' if len(near) == 1 else 'are'} right to {largest:.0e}."
    if fits:
        return found._replace(mistakes=fits[0], alternatives=tuple(fits[1:]), remark=f"{found.remark} {remark}".strip())
    remarks = [found.remark, remark, _scaled(wider, rest)]
    return found._replace(remark=" ".join(filter(None, remarks)), parts=_parts(search, pairs))


def _parts(search: Search, pairs: bool) -> tuple[Part, ...]:
    """What explains some of the wrong tensors: mistakes of the zoo, or simple ways to be wrong."""
    problem, explained = search.problem, search.parts()
    outputs = tuple(name for name in search.wrong if name in FORWARD)
    if pairs and not set(outputs) <= {name for names, _ in explained for name in names}:
        given = {name: a for name, a in problem.got.items() if name in FORWARD}
        both = Search(problem._replace(got=given), outputs).pairs()
        explained = [(outputs, pair) for pair in both[:1]] or explained
    found = [Part(names, pair, f"{_come(names)} out when {_said(pair)}") for names, pair in explained]
    named = {name for part in found for name in part.names}
    sizes = [*problem.case.x.shape[:2]]
    if not set(search.wrong) & set(FORWARD):
        for name in (name for name in search.wrong if name not in named):
            right = problem.expected[name]
            for what in causes(problem.got[name], right, 10 * problem.tolerances[name], sizes):
                found.append(Part((name,), (), f"is {what}"))
    return tuple(found)


def _come(names: Sequence[str]) -> str:
    return "comes" if len(names) == 1 else "come"


def _decimals(a: Array, right: Array | None = None) -> int:
    """To how many decimals numbers are rounded, as print shows them: 1 to 8, or 99.

    Whole numbers are not, unless they are what the right ones become: 0.0000 and 1.0000 may be printed, too.
    """
    finite = a[np.isfinite(a)]
    found = next((d for d in range(9) if np.array_equal(np.round(finite, d), finite)), 99)
    if found > 0:
        return found
    if right is None or np.array_equal(a, right):
        return 99
    return next((d for d in range(8, 0, -1) if np.array_equal(np.round(right, d), a)), 99)


def _nearly_right(problem: Problem, wrong: Sequence[str]) -> dict[str, float]:
    """Errors of tensors that are wrong by less than float32 shows, where others are wrong by more."""
    errors = {name: error(problem.got[name], problem.expected[name]) for name in wrong}
    near = {name: e for name, e in errors.items() if e <= 1e-7}
    return near if len(near) < len(wrong) else {}


COARSE = "float16, TF32 or the like, or in float32 whose errors have grown"


def _rounding(problem: Problem, wrong: Sequence[str]) -> str:
    """Said where all numbers are right, to the digits of a coarser dtype."""
    errors = {name: error(problem.got[name], problem.expected[name]) for name in wrong}
    if max(errors.values()) <= 2e-9 and all(problem.tolerances[name] < 1e-9 for name in wrong):
        return (
            f"They are right to {max(errors.values()):.0e}: no mistake in the equations, but a small number is added "
            "somewhere, as an epsilon in a sigmoid or a quotient."
        )
    for name, largest in (
        ("float32", TOLERANCES["float32"]),
        (COARSE, 2e-3),
    ):
        finer = all(problem.tolerances[name] < largest for name in wrong)
        if finer and max(errors.values()) <= largest:
            where = "in the gradients alone" if not set(wrong) & set(FORWARD) else "from the outputs on"
            return (
                f"They are off by {max(errors.values()):.1e} at most, {where}: no mistake in the equations, "
                f"but something was computed or stored in {name}."
            )
    return ""


def _scaled(problem: Problem, wrong: Sequence[str]) -> str:
    """Whether all wrong gradients are the right ones times one factor, or clipped at one number."""
    got, expected = problem.got, problem.expected
    if set(wrong) & {"output", "h_n", "c_n"}:
        return ""
    largest = max(wrong, key=lambda name: float(np.max(np.abs(expected[name]), initial=0)))
    denominator = float(np.sum(expected[largest] ** 2))
    factor = float(np.sum(got[largest] * expected[largest])) / denominator if denominator > 0 else np.nan
    if all(error(got[name], factor * expected[name]) <= 10 * problem.tolerances[name] for name in wrong):
        return f"{_listed(wrong)}: {times(factor, problem.case.x.shape[:2])}.".replace("?.", "?")
    limit = max(float(np.max(np.abs(got[name]), initial=0)) for name in wrong)
    clipped = {name: np.clip(expected[name], -limit, limit) for name in wrong}
    if all(error(got[name], clipped[name]) <= 10 * problem.tolerances[name] for name in wrong):
        return f"{_listed(wrong)}: the right values, clipped to ±{limit:.6g}."
    return ""
