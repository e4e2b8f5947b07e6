"""From somebody's numbers to the name of the mistake that makes them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ...fast.numerics import Array
from ..case import Case, check_case, check_tensors
from ..difference import FORWARD, TOLERANCES, Difference, error, first_difference, tolerance_of
from .cases import run
from .mistake import RUNS_WRONG, Mistake, machine
from .mistakes import mistakes

Pair = tuple[Mistake, ...]  # one mistake or two
READ_ONCE = ("gate order",)  # groups of which nobody makes two mistakes at once
RUN_AT_MOST = 600  # pairs; one takes some milliseconds


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

    def __str__(self) -> str:
        if self.agrees:
            return f"{_listed(self.right)}: right. {self.remark}".rstrip() if self.right else "Nothing was given."
        are = "differs" if len(self.wrong) == 1 else "differ"
        if self.slip:
            return f"{_listed(self.wrong)} {are} from the right values; just these numbers come out when {self.slip}."
        if not self.mistakes:
            remark = f" {self.remark}" if self.remark else ""
            return f"Not identified: {_listed(self.wrong)} {are} from the right values; {self.first}.{remark}"
        said = f"{_listed(self.wrong)} {are} from the right values; "
        said += f"just these numbers come out when {_said(self.mistakes)}."
        for other in self.alternatives:
            said += f" On this case they also come out when {_said(other)}."
        return said if not self.remark else f"{said} {self.remark}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _said(found: Pair) -> str:
    return ", and ".join(f"{m.what} ({m.name})" for m in found)


class _Problem(NamedTuple):
    """A case, what somebody has computed for it, and what is right."""

    case: Case
    got: dict[str, Array]
    expected: dict[str, Array]
    tolerances: dict[str, float]

    def error(self, prediction: Mapping[str, Array], names: Sequence[str]) -> float:
        """How far the given numbers are from predicted ones, in units of the tolerance."""
        worst = 0.0
        with np.errstate(all="ignore"):
            for name in names:
                right, guess = self.expected[name], prediction[name]
                scale = max(np.abs(right).max(initial=0), np.abs(guess).max(initial=0)) or 1.0
                apart = np.abs(self.got[name] - guess).max(initial=0)
                worst = max(worst, apart / scale / self.tolerances[name])
                if not worst <= 1 or np.isnan(apart):
                    return np.inf
        return worst


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
        Any of "output" (T, B, D·R), "h_n" and "c_n" (L·D, B, ·).
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
    got = check_tensors(case, {**(outputs or {}), **(grads or {})}, expected)
    tolerances = {name: tolerance_of(a, dtype) for name, a in got.items()}
    got = {name: got[name].astype(np.float64) for name in expected if name in got}  # in the order of execution
    printed = []  # to how many decimals, where that is coarser than the dtype
    for name, a in got.items():
        half = 0.51 * 10.0 ** -_decimals(a) / (float(np.max(np.abs(expected[name]), initial=0)) or 1.0)
        if half > tolerances[name] and _decimals(a) < _decimals(expected[name]):
            printed.append(_decimals(a))
            tolerances[name] = half
    problem = _Problem(case, got, expected, tolerances)
    wrong = tuple(name for name in got if not error(got[name], expected[name]) <= tolerances[name])
    right = tuple(name for name in got if name not in wrong)
    said = f"The numbers have {min(printed)} decimals." if printed else ""
    blank = Diagnosis(not wrong, (), (), wrong, right, first_difference(case, got, expected, tolerances), said)
    if not wrong:
        return blank

    fits, remark = _explained(problem, wrong, right, pairs=False)
    if not fits and not remark and (slip := _axes_changed(problem) or _truncated(problem, wrong)):
        return blank._replace(slip=slip)
    if not fits and not remark and pairs:
        fits, remark = _explained(problem, wrong, right, pairs)
    if not fits and not remark and (near := _nearly_right(problem, wrong)):
        # What is off by 1e-10 has a small number added somewhere, which must not hide a mistake beside it.
        largest = max(near.values())
        rest = tuple(name for name in wrong if name not in near)
        wider = problem._replace(tolerances={name: max(t, 100 * largest) for name, t in tolerances.items()})
        fits, _ = _explained(wider, rest, (*right, *near), pairs)
        remark = f"Apart from that, {_listed(tuple(near))} {'is' if len(near) == 1 else 'are'} right to {largest:.0e}."
        if not fits:
            remark += " " + _remark(wider, rest)
    if not fits and not remark:
        remark = _remark(problem, wrong)
    found = blank._replace(remark=" ".join(filter(None, (said, remark.strip()))))
    return found._replace(mistakes=fits[0], alternatives=tuple(fits[1:])) if fits else found


def _explained(problem: _Problem, wrong: Sequence[str], right: Sequence[str], pairs: bool) -> tuple[list[Pair], str]:
    """Mistakes, or halves or pairs of them, that make all the numbers; or what to say of numbers nearly right."""
    names = [*wrong, *right]  # most mistakes are ruled out by the first
    fits = _fits(problem, ((m,) for m in mistakes(problem.case.cell)), names)
    fits = fits or _fits(problem, ((half,) for half in _halves(problem.case.cell)), names)
    if not fits and (remark := _rounding(problem, wrong)):
        return [], remark
    if not fits and pairs:
        fits = _fits(problem, _pairs(problem, wrong), names)
    return fits, ""


@cache
def _halves(cell: str) -> tuple[Mistake, ...]:
    """Mistakes of forward and backward, made in one of them alone."""
    found = ((m.only(cell, side), side) for m in mistakes(cell) for side in ("forward", "backward"))
    return tuple(half._replace(what=f"in {side} alone, {half.what}") for half, side in found if half)


def _axes_changed(problem: _Problem) -> str:
    """Whether the outputs are those of x (B, T, I) taken for (T, B, I), from zero states."""
    case, output = problem.case, problem.got.get("output")
    T, B, _ = case.x.shape
    if output is None or T == B or case.lengths or len(case.params) > 1:
        return ""
    turned = case._replace(
        x=case.x.swapaxes(0, 1),
        doutput=case.doutput.swapaxes(0, 1),
        s0=tuple(np.zeros((len(s), T, s.shape[2])) for s in case.s0),
        ds_n=tuple(np.zeros((len(s), T, s.shape[2])) for s in case.s0),
    )
    theirs = machine(case.cell).run(turned.astype(np.float64))["output"].swapaxes(0, 1)
    if error(output, theirs) > problem.tolerances["output"]:
        return ""
    return "batch and time have changed places: x (B, T, I) is taken for (T, B, I), from zero states"


def _truncated(problem: _Problem, wrong: Sequence[str]) -> str:
    """Whether gradients are those of a loss that reaches some steps back only; for one layer in one direction."""
    case = problem.case
    weights = [name for name in wrong if name.startswith("dW")]
    if set(wrong) & set(FORWARD) or not weights or len(case.params) * len(case.params[0]) > 1 or len(case.x) > 40:
        return ""
    for K in range(1, len(case.x) - 1):
        theirs = _window(case.astype(np.float64), K)
        if all(error(problem.got[name], theirs[name]) <= problem.tolerances[name] for name in weights):
            return f"the loss of each step reaches {K} steps back only (truncated: k1 = 1, k2 = {K + 1})"
    return ""


def _window(case: Case, K: int) -> dict[str, Array]:
    """Gradients of the parameters where the loss of step t reaches back to step t - K."""
    cell, ((p,),), total = machine(case.cell).cell, case.params, [np.zeros_like(w) for w in case.params[0][0]]
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
            for g, more in zip(total, cell.backward(tape, *direct)[0]):
                g += more
    return {f"d{field}": g for field, g in zip(type(p)._fields, total)}


def _decimals(a: Array) -> int:
    """To how many decimals numbers are rounded, as print shows them: 1 to 8, or 99. Whole numbers are not rounded."""
    finite = a[np.isfinite(a)]
    found = next((d for d in range(9) if np.array_equal(np.round(finite, d), finite)), 0)
    return found or 99


def _nearly_right(problem: _Problem, wrong: Sequence[str]) -> dict[str, float]:
    """Errors of tensors that are wrong by less than float32 shows, where others are wrong by more."""
    errors = {name: error(problem.got[name], problem.expected[name]) for name in wrong}
    near = {name: e for name, e in errors.items() if e <= 1e-7}
    return near if len(near) < len(wrong) else {}


def _fits(problem: _Problem, candidates: Iterator[Pair], names: Sequence[str]) -> list[Pair]:
    """Those of the candidates that explain all numbers; at a coarse dtype, those that do it about equally well."""
    found: list[tuple[float, int, Pair]] = []
    for candidate in candidates:
        prediction = _prediction(problem.case, candidate) if _outputs_fit(problem, candidate, names) else None
        if prediction is not None and (error := problem.error(prediction, names)) <= 1:
            found.append((error, len(found), candidate))
    found.sort()
    fits = [candidate for error, _, candidate in found if error <= max(3 * found[0][0], 0.01)]
    return sorted(fits, key=lambda pair: len({m.group for m in pair}))  # one slip makes two of a group more often


def _outputs_fit(problem: _Problem, candidate: Pair, names: Sequence[str]) -> bool:
    """Whether a pair explains the outputs; its backward, which takes longer, need not be run if it does not."""
    given = [name for name in FORWARD if name in names]
    if len(candidate) < 2 or not given:
        return True
    case = problem.case.astype(np.float64)
    try:
        with np.errstate(all="ignore"):
            output, s_n, _ = machine(case.cell, *candidate).forward(case)
    except RUNS_WRONG:
        return False
    return problem.error(dict(zip(FORWARD, (output, *s_n))), given) <= 1


def _pairs(problem: _Problem, wrong: Sequence[str]) -> Iterator[Pair]:
    """Pairs of mistakes of different groups that may explain the numbers, none of which does so alone.

    A mistake that by itself spoils a tensor found right is left out: two mistakes seldom cancel. Where the outputs
    are wrong as one mistake alone would have them, the other one is looked for in backward only; where no output is
    known to be wrong, both are. Those that are likely come first, and only so many.
    """
    case, got = problem.case, problem.got
    alone = {m: found for m in mistakes(case.cell) if (found := _prediction(case, (m,))) is not None}
    spoilt = {
        m: {n for n in got if error(found[n], problem.expected[n]) > problem.tolerances[n]}
        for m, found in alone.items()
    }
    able = [m for m, names in spoilt.items() if names and names <= set(wrong)]
    given = [name for name in FORWARD if name in got]
    forward = [m for m in able if spoilt[m] & set(FORWARD)]
    backward = [m for m in able if m not in forward]
    first = [m for m in forward if problem.error(alone[m], given) <= 1]
    likely: Iterator[Pair]
    if set(given) & set(wrong):
        likely = itertools.product(first, backward) if first else itertools.combinations(forward, 2)
    else:
        likely = itertools.combinations(backward, 2)

    for a, b in _most_likely(problem, alone, [*likely]):
        if (a.group != b.group or a.group not in READ_ONCE) and spoilt[a] | spoilt[b] >= set(wrong):
            yield a, b


def _most_likely(problem: _Problem, alone: Mapping[Mistake, Mapping[str, Array]], pairs: list[Pair]) -> list[Pair]:
    """The pairs that are worth running, likely ones first.

    What two mistakes do together is about the sum of what each does alone. So for each tensor it is compared with what
    was given, and the sum over the tensors of what is left, at most 1 of each, is how unlikely a pair is.
    """
    one_of = sorted({m for pair in pairs for m in pair}, key=lambda m: m.name)
    place = {m: k for k, m in enumerate(one_of)}
    left = np.zeros((len(one_of), len(one_of)))
    with np.errstate(all="ignore"):
        for name, got in problem.got.items():
            right = problem.expected[name]
            off = (got - right).ravel()
            moved = np.array([(alone[m][name] - right).ravel() for m in one_of]).reshape(len(one_of), off.size)
            size, toward, products = np.sum(off**2), moved @ off, moved @ moved.T
            norms = np.diag(products) - 2 * toward
            apart = size + norms[:, None] + norms + 2 * products
            left += np.nan_to_num(np.minimum(apart / max(size, 1e-300), 1), nan=1.0)
    unlikely = np.array([left[place[a], place[b]] for a, b in pairs])
    return [pairs[k] for k in np.argsort(unlikely, kind="stable")[:RUN_AT_MOST]]


def _prediction(case: Case, planted: Pair) -> dict[str, Array] | None:
    """What comes out with these mistakes; None if nothing does, or two mistakes need the same line."""
    try:
        return run(case, *planted)
    except RUNS_WRONG:
        return None


def _rounding(problem: _Problem, wrong: Sequence[str]) -> str:
    """Said where all numbers are right, to the digits of a coarser dtype."""
    errors = {name: error(problem.got[name], problem.expected[name]) for name in wrong}
    if max(errors.values()) <= 2e-9 and all(problem.tolerances[name] < 1e-9 for name in wrong):
        return (
            f"They are right to {max(errors.values()):.0e}: no mistake in the equations, but a small number is added "
            "somewhere, as an epsilon in a sigmoid or a quotient."
        )
    for name, largest in (("float32", TOLERANCES["float32"]), ("float16, TF32 or the like", 2e-3)):
        finer = all(problem.tolerances[name] < largest for name in wrong)
        if finer and max(errors.values()) <= largest:
            where = "in the gradients alone" if not set(wrong) & set(FORWARD) else "from the outputs on"
            return (
                f"They are off by {max(errors.values()):.1e} at most, {where}: no mistake in the equations, "
                f"but something was computed or stored in {name}."
            )
    return ""


def _remark(problem: _Problem, wrong: Sequence[str]) -> str:
    """What can be said of numbers that no mistake of the zoo explains."""
    got, expected = problem.got, problem.expected
    given = [name for name in FORWARD if name in got]
    if any(name in wrong for name in given):
        alone = _fits(problem, ((m,) for m in mistakes(problem.case.cell)), given)
        if alone:
            return f"The outputs by themselves come out when {_said(alone[0])}; the gradients are not that mistake's."
        return ""
    largest = max(wrong, key=lambda name: float(np.max(np.abs(expected[name]), initial=0)))
    denominator = float(np.sum(expected[largest] ** 2))
    factor = float(np.sum(got[largest] * expected[largest])) / denominator if denominator > 0 else np.nan
    if all(error(got[name], factor * expected[name]) <= 10 * problem.tolerances[name] for name in wrong):
        return f"{_listed(wrong)}: {factor:.6g} times the right values."
    limit = max(float(np.max(np.abs(got[name]), initial=0)) for name in wrong)
    clipped = {name: np.clip(expected[name], -limit, limit) for name in wrong}
    if all(error(got[name], clipped[name]) <= 10 * problem.tolerances[name] for name in wrong):
        return f"{_listed(wrong)}: the right values, clipped to ±{limit:.6g}."
    return ""
