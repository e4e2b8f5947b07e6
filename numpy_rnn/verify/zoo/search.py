"""Which mistakes, alone or in pairs, make somebody's numbers; and which make some of the tensors."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ...fast.numerics import Array
from ..case import Case
from ..difference import FORWARD, error
from .cases import run
from .mistake import RUNS_WRONG, Mistake, machine
from .mistakes import mistakes

Pair = tuple[Mistake, ...]  # one mistake or two
READ_ONCE = ("gate order",)  # groups of which nobody makes two mistakes at once
RUN_AT_MOST = 600  # pairs, each of which takes some milliseconds
RUN_AT_MOST_LARGE = 60
LARGE = 30  # steps of all sequences together


class Problem(NamedTuple):
    """A case, what somebody has computed for it, and what is right."""

    case: Case
    got: dict[str, Array]
    expected: dict[str, Array]
    tolerances: dict[str, float]

    def error(self, prediction: Mapping[str, Array], names: Iterable[str]) -> float:
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


class Search:
    """The zoo's mistakes against somebody's numbers; what each of them makes is computed once, and only if needed."""

    def __init__(self, problem: Problem, wrong: Sequence[str]) -> None:
        self.problem, self.wrong = problem, tuple(wrong)
        self.case = problem.case.astype(np.float64)
        self.names = [*wrong, *(name for name in problem.got if name not in wrong)]  # the first rules out most
        self.candidates = mistakes(self.case.cell)
        self.large = sum(self.case.all_lengths) > LARGE
        self.small = _cut(self.case) if self.large else problem.case
        self._forward: Any = None  # of the right cell
        self._predicted: dict[Pair, dict[str, Array] | None] = {}
        self._spoilt: dict[Mistake, frozenset[str]] = {}
        self.untried = 0  # pairs, for want of time

    # ---- what a mistake makes

    def prediction(self, planted: Pair) -> dict[str, Array] | None:
        """What comes out with these mistakes; None if nothing does, or two mistakes need the same line."""
        if planted not in self._predicted:
            backward_alone = all(m.functions(self.case.cell) == {"backward"} for m in planted)
            in_place = any(m.group == "in place" for m in planted)
            if self.large and backward_alone and not in_place:
                self._predicted[planted] = self._backward(planted)
            else:
                self._predicted[planted] = _run(self.problem.case, planted)
        return self._predicted[planted]

    def _backward(self, planted: Pair) -> dict[str, Array] | None:
        """What comes out with mistakes in backward alone: forward, which takes half of the time, is run once."""
        if self._forward is None:
            self._forward = machine(self.case.cell).forward(self.case)
        output, s_n, tapes = self._forward
        try:
            with np.errstate(all="ignore"):
                grads, dx, ds0 = machine(self.case.cell, *planted).backward(self.case, tapes)
        except RUNS_WRONG:
            return None
        forward = {name: self.problem.expected[name] for name in FORWARD if name in self.problem.expected}
        return self.case.named(output, s_n, dx, ds0, grads) | forward

    def spoils(self, m: Mistake) -> frozenset[str]:
        """All tensors that are wrong with a mistake: of a large case, as its first steps show it."""
        if m not in self._spoilt:
            found, right = _run(self.small, (m,)), _run(self.small, ())
            assert right is not None
            loose = 100 if self.large else 1
            limits = {name: loose * self.problem.tolerances.get(name, 1e-12) for name in right}
            self._spoilt[m] = frozenset(n for n in right if found and error(found[n], right[n]) > limits[n])
        return self._spoilt[m]

    def _may_explain(self, m: Mistake) -> bool:
        """Whether it spoils something that is wrong, and nothing that is right."""
        found = self.spoils(m) & set(self.names)
        return bool(found) and found <= set(self.wrong)

    def fits(self, planted: Pair, names: Iterable[str] | None = None) -> float:
        """How well mistakes explain the numbers, in units of the tolerance: 1 or less if they do."""
        prediction = self.prediction(planted)
        return np.inf if prediction is None else self.problem.error(prediction, self.names if names is None else names)

    # ---- one mistake

    def alone(self) -> list[Pair]:
        """Single mistakes that make all the numbers; in one function alone if not in both."""
        return self._best(self._able(self.candidates)) or self._best(self._able(_halves(self.case.cell)))

    def _able(self, candidates: Iterable[Mistake]) -> Iterator[Pair]:
        """Those worth running: of a large case, those that on its first steps spoil what is wrong alone."""
        return ((m,) for m in candidates if not self.large or self._may_explain(m))

    def _best(self, candidates: Iterable[Pair]) -> list[Pair]:
        """Those that fit; at a coarse dtype, those that do it about equally well."""
        found: list[tuple[float, int, Pair]] = []
        for candidate in candidates:
            if (how := self.fits(candidate)) <= 1:
                found.append((how, len(found), candidate))
        found.sort()
        fits = [candidate for how, _, candidate in found if how <= max(3 * found[0][0], 0.01)]
        return sorted(fits, key=lambda pair: len({m.group for m in pair}))  # one slip makes two of a group more often

    # ---- two mistakes

    def pairs(self) -> list[Pair]:
        """Pairs of mistakes that explain the numbers, none of which does so alone."""
        likely = self._most_likely([pair for pair in self._possible() if self._covers(pair)])
        most = RUN_AT_MOST_LARGE if self.large else RUN_AT_MOST
        self.untried = max(0, len(likely) - most)
        return self._best(pair for pair in likely[:most] if self._outputs_fit(pair))

    def _possible(self) -> Iterator[Pair]:
        """Pairs of mistakes, each of which may be one of two.

        A mistake that by itself spoils a tensor found right is left out: two mistakes seldom cancel. Where the outputs
        are wrong as one mistake alone would have them, the other one is looked for in backward only; where no output is
        known to be wrong, both are.
        """
        able = [m for m in self.candidates if self._may_explain(m) and self.prediction((m,)) is not None]
        given = [name for name in FORWARD if name in self.problem.got]
        forward = [m for m in able if self.spoils(m) & set(given)]
        backward = [m for m in able if m not in forward]
        if not set(given) & set(self.wrong):
            return itertools.combinations(backward, 2)
        first = [m for m in forward if self.fits((m,), given) <= 1]
        return itertools.product(first, backward) if first else itertools.combinations(forward, 2)

    def _covers(self, pair: Pair) -> bool:
        """Whether two mistakes spoil all that is wrong, and are such as somebody makes at once."""
        a, b = pair
        if a.group == b.group and a.group in READ_ONCE:
            return False
        return self.large or self.spoils(a) | self.spoils(b) >= set(self.wrong)

    def _most_likely(self, pairs: list[Pair]) -> list[Pair]:
        """Pairs, the likely ones first.

        What two mistakes do together is about the sum of what each does alone. So for each tensor it is compared with
        what was given, and the sum over the tensors of what is left, at most 1 of each, is how unlikely a pair is.
        """
        one_of = sorted({m for pair in pairs for m in pair}, key=lambda m: m.name)
        place = {m: k for k, m in enumerate(one_of)}
        alone = [self.prediction((m,)) or {} for m in one_of]
        left = np.zeros((len(one_of), len(one_of)))
        with np.errstate(all="ignore"):
            for name, got in self.problem.got.items():
                right = self.problem.expected[name]
                off = (got - right).ravel()
                moved = np.array([(found[name] - right).ravel() for found in alone]).reshape(len(one_of), off.size)
                size, toward, products = np.sum(off**2), moved @ off, moved @ moved.T
                norms = np.diag(products) - 2 * toward
                apart = size + norms[:, None] + norms + 2 * products
                left += np.nan_to_num(np.minimum(apart / max(size, 1e-300), 1), nan=1.0)
        unlikely = np.array([left[place[a], place[b]] for a, b in pairs])
        return [pairs[k] for k in np.argsort(unlikely, kind="stable")]

    def _outputs_fit(self, pair: Pair) -> bool:
        """Whether a pair explains the outputs; its backward, which takes longer, need not be run if it does not."""
        given = [name for name in FORWARD if name in self.names]
        if not set(given) & (self.spoils(pair[0]) | self.spoils(pair[1])):
            return not set(given) & set(self.wrong)
        try:
            with np.errstate(all="ignore"):
                found = machine(self.case.cell, *pair).outputs(self.case)
        except RUNS_WRONG:
            return False
        return self.problem.error(found, given) <= 1

    # ---- parts

    def parts(self) -> list[tuple[tuple[str, ...], Pair]]:
        """Wrong tensors that come out by themselves with one mistake, the mistake that explains most of them first."""
        explained: dict[Mistake, set[str]] = {}
        candidates = [m for m in self.candidates if self.spoils(m) & set(self.wrong)]
        for m in candidates if self.large else (*candidates, *_halves(self.case.cell)):
            prediction = self.prediction((m,))
            if prediction is None:
                continue
            same = {name for name in self.wrong if self._tells(name) and self.problem.error(prediction, [name]) <= 1}
            if same:
                explained[m] = same
        found: list[tuple[tuple[str, ...], Pair]] = []
        left = set(self.wrong)
        while left and explained:
            best = max(explained, key=lambda m: (len(explained[m] & left), -len(self.spoils(m) - set(self.wrong))))
            if not (names := explained[best] & left):
                break
            found.append((tuple(name for name in self.wrong if name in names), (best,)))
            left -= names
        return found

    def _tells(self, name: str) -> bool:
        """Whether a tensor is so far from right, and has so many numbers, that it does not fit by chance."""
        got, right = self.problem.got[name], self.problem.expected[name]
        return got.size > 2 and not error(got, right) <= 50 * self.problem.tolerances[name]


@cache
def _halves(cell: str) -> tuple[Mistake, ...]:
    """Mistakes of forward and backward, made in one of them alone."""
    found = ((m.only(cell, side), side) for m in mistakes(cell) for side in ("forward", "backward"))
    return tuple(half._replace(what=f"in {side} alone, {half.what}") for half, side in found if half)


def _run(case: Case, planted: Pair) -> dict[str, Array] | None:
    try:
        return run(case, *planted)
    except RUNS_WRONG:
        return None


def _cut(case: Case) -> Case:
    """The first steps of a case's first sequences."""
    T, B = min(3, len(case.x)), min(2, case.x.shape[1])
    longest = max(case.all_lengths)
    lengths = None if case.lengths is None else tuple(-(-n * T // longest) for n in case.lengths[:B])
    return case._replace(
        name="the first steps",
        x=case.x[:T, :B],
        s0=tuple(s[:, :B] for s in case.s0),
        doutput=case.doutput[:T, :B],
        ds_n=tuple(s[:, :B] for s in case.ds_n),
        lengths=lengths,
        masks=_each(case.masks, np.s_[:T, :B]),
        loss=None,
    )


def _each(arrays: tuple[Array, ...] | None, part: Any) -> tuple[Array, ...] | None:
    return None if arrays is None else tuple(a[part] for a in arrays)
