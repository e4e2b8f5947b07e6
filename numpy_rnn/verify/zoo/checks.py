"""Checks that a recurrent layer can be put to, and which mistakes each of them notices.

A check gets the textbook, with or without a mistake, and says how far it is from passing. The first four hold it
against a reference, the others need nothing but the layer itself.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from ...fast import deep
from ...fast.numerics import Array
from ...fast.registry import CELLS
from ..case import Case
from ..difference import FORWARD, error, worst_error
from .cases import cases, run
from .mistake import Mistake, machine

TOLERANCE = 1e-11  # of every check, relative; what is right passes with some 1e-15
STEP = 1e-30  # of the complex step
DS0, PARAMETERS = ("dh_0", "dc_0"), ("dW", "db", "dP")  # gradients by initial states; how those by parameters begin
STATES = ("h_n", "c_n", *DS0)

Results = dict[str, Array]


class Subject:
    """The textbook for a cell, with or without mistakes, that is being checked on the zoo's cases."""

    def __init__(self, cell: str, *mistakes: Mistake) -> None:
        self.machine, self.mistakes = machine(cell, *mistakes), mistakes
        self.cases = cases(cell)
        self.plain, self.stacked, self.square = self.cases[:3]

    def run(self, case: Case) -> Results:
        """Everything that it says of a case."""
        return run(case, *self.mistakes)


class Check(NamedTuple):
    """A check: what it asks for, and how far a subject is from it."""

    name: str
    short: str  # for the head of a column
    what: str
    error: Callable[[Subject], float]

    def passes(self, subject: Subject) -> bool:
        """Whether the subject passes; one that raises, or says NaN, does not."""
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return bool(self.error(subject) <= TOLERANCE)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            return False


# ---- against a reference


def reference(case: Case) -> Results:
    """The same results by `numpy_rnn.fast`, which shares no code with the textbook."""
    kind, case = CELLS[case.cell], case.copy()
    lengths = None if case.lengths is None else np.array(case.lengths)
    y, s_n, tape = deep.forward(kind, case.params, case.x, kind.State(*case.s0), lengths, case.masks or None)
    grads, dx, ds0 = deep.backward(tape, case.doutput, kind.State(*case.ds_n))
    return case.named(y, s_n, dx, ds0, grads)


@cache
def _own_references(cell: str) -> tuple[Results, ...]:
    return tuple(reference(case) for case in cases(cell))


def reference_error(begins: tuple[str, ...], subject: Subject) -> float:
    """Tensors whose names begin like this against the reference's."""
    worst = 0.0
    for case, right in zip(subject.cases, _own_references(subject.plain.cell)):
        worst = max(worst, worst_error(subject.run(case), {n: a for n, a in right.items() if n.startswith(begins)}))
    return worst


# ---- gradients against the layer's own forward


def loss(subject: Subject, case: Case) -> Any:
    """The scalar whose gradient backward computes, by the subject's own forward."""
    output, s_n, _ = subject.machine.forward(case)
    valid = np.arange(case.x.shape[0])[:, None, None] < np.array(case.all_lengths)[:, None]
    return np.sum(np.where(valid, output * case.doutput, 0)) + sum(np.sum(s * ds) for s, ds in zip(s_n, case.ds_n))


def moved(case: Case, directions: Results) -> Case:
    """The case with its inputs moved by i · STEP along directions under the names of their gradients."""

    def move(name: str, a: Array) -> Array:
        return a + 1j * STEP * directions.get(name, 0)

    def move_parameters(l: int, d: int) -> Any:
        p = case.params[l][d]
        return type(p)(*(move(f"d{case.parameter_name(f, l, d)}", w) for f, w in p._asdict().items()))

    params = [[move_parameters(l, d) for d in range(len(layer))] for l, layer in enumerate(case.params)]
    s0 = tuple(move(name, s) for name, s in zip(DS0, case.s0))
    return case.copy()._replace(params=params, x=move("dx", case.x), s0=s0)


def derivative_error(subject: Subject, case: Case, names: Iterable[str]) -> float:
    """Named gradients times a random direction, against a complex step of forward along it."""
    results, rng = subject.run(case), np.random.default_rng(zlib.crc32(case.name.encode()))
    along = {name: rng.standard_normal(results[name].shape) for name in names}
    numeric = loss(subject, moved(case, along)).imag / STEP
    products = [results[name] * v for name, v in along.items()]
    size = max(sum(np.sum(np.abs(p)) for p in products), abs(numeric))
    return error(np.array(sum(np.sum(p) for p in products)), np.array(numeric), float(size))


def complex_step(subject: Subject) -> float:
    """One step for all parameters at once, one for x and the initial states: a wrong entry anywhere moves the sum."""
    worst = 0.0
    for case in subject.cases:
        names = [name for name in subject.run(case) if name not in FORWARD]
        for parameters in (True, False):
            group = [name for name in names if name.startswith(PARAMETERS) == parameters]
            worst = max(worst, derivative_error(subject, case, group))
    return worst


def adjoint(subject: Subject) -> float:
    """⟨u, J v⟩ = ⟨Jᵀu, v⟩ for one random v over all inputs together: a single number."""
    case = subject.stacked
    return derivative_error(subject, case, [name for name in subject.run(case) if name not in FORWARD])


# ---- invariances


def split(subject: Subject) -> float:
    """A sequence in two pieces, states and their gradients handed on, against the same in one run."""
    case, whole = subject.plain, subject.run(subject.plain)
    cut = case.x.shape[0] // 2
    first = case._replace(x=case.x[:cut], doutput=case.doutput[:cut])
    s_cut = subject.machine.forward(first.copy())[1]
    late = subject.run(case._replace(x=case.x[cut:], doutput=case.doutput[cut:], s0=tuple(s_cut)))
    early = subject.run(first._replace(ds_n=tuple(late[name] for name in DS0 if name in late)))
    joined = {name: late[name] if name in FORWARD else early[name] for name in whole}
    joined |= {name: np.concatenate([early[name], late[name]]) for name in ("output", "dx")}
    joined |= {name: early[name] + late[name] for name in whole if name.startswith(PARAMETERS)}
    return worst_error(joined, whole)


def _sequences(case: Case, order: Sequence[int], T: int | None = None) -> Case:
    """Some sequences of a batch, in this order; their first T steps."""
    return case._replace(
        x=case.x[:T, order],
        s0=tuple(s[:, order] for s in case.s0),
        doutput=case.doutput[:T, order],
        ds_n=tuple(ds[:, order] for ds in case.ds_n),
        lengths=tuple(case.all_lengths[b] for b in order),
        masks=None if case.masks is None else tuple(m[:T, order] for m in case.masks),
    )


def alone(subject: Subject) -> float:
    """A padded batch against each of its sequences alone; parameter gradients must add up."""
    case, whole = subject.stacked, subject.run(subject.stacked)
    total = {name: np.zeros_like(a) for name, a in whole.items()}
    for b, length in enumerate(case.all_lengths):
        for name, a in subject.run(_sequences(case, [b], length)).items():
            if name in ("output", "dx"):
                total[name][:length, b] = a[:, 0]
            elif name in STATES:
                total[name][:, b] = a[:, 0]
            else:
                total[name] += a
    return worst_error(total, whole)


def permuted(subject: Subject) -> float:
    """The batch in another order: everything follows, parameter gradients stay."""
    case, whole = subject.stacked, subject.run(subject.stacked)
    order = [2, 0, 1]
    expected = {name: a if name.startswith(PARAMETERS) else a[:, order] for name, a in whole.items()}
    return worst_error(subject.run(_sequences(case, order)), expected)


def _layer(case: Case, l: int, d: slice = slice(None)) -> Case:
    """One layer of a stack, or one direction of it, as a case of its own; upstream gradients are the stack's."""
    D = len(case.params[l])
    states = slice(l * D, (l + 1) * D)
    return case._replace(
        name=f"{case.name}, layer {l}",
        params=[case.params[l][d]],
        s0=tuple(s[states][d] for s in case.s0),
        ds_n=tuple(ds[states][d] for ds in case.ds_n),
        masks=None,
    )


def two_runs(subject: Subject) -> float:
    """A layer of two directions against two layers of one, the second on each sequence turned round."""
    case = _layer(subject.stacked, 0)

    def turn(a: Array) -> Array:
        return deep.reverse(a, np.array(case.all_lengths))

    left, right = np.split(case.doutput, 2, axis=2)
    there = subject.run(_layer(case, 0, slice(0, 1))._replace(doutput=left))
    back = subject.run(_layer(case, 0, slice(1, 2))._replace(x=turn(case.x), doutput=turn(right)))
    expected = {name: np.concatenate([there[name], back[name]]) for name in there if name in STATES}
    expected["output"] = np.concatenate([there["output"], turn(back["output"])], axis=2)
    expected["dx"] = there["dx"] + turn(back["dx"])
    for suffix, found in (("_l0", there), ("_l0_reverse", back)):
        expected |= {f"{name}{suffix}": a for name, a in found.items() if name.startswith(PARAMETERS)}
    return worst_error(subject.run(case), expected)


def layer_by_layer(subject: Subject) -> float:
    """A stack against its layers one by one, the dropout mask applied by hand between them."""
    case, whole = subject.stacked, subject.run(subject.stacked)
    below, above = _layer(case, 0), _layer(case, 1)
    mask = case.masks[0] if case.masks else np.ones(case.doutput.shape)
    middle = subject.machine.forward(below.copy())[0]
    top = subject.run(above._replace(x=middle * mask))
    bottom = subject.run(below._replace(doutput=top["dx"] * mask))
    expected = {name: np.concatenate([bottom[name], top[name]]) for name in whole if name in STATES}
    expected |= {"output": top["output"], "dx": bottom["dx"]}
    for l, found in enumerate((bottom, top)):
        expected |= {name.replace("_l0", f"_l{l}"): a for name, a in found.items() if name.startswith(PARAMETERS)}
    return worst_error(whole, expected)


def linear(subject: Subject) -> float:
    """Backward of u + 2 v, on the same tape, is backward of u plus twice that of v."""
    case = subject.stacked.copy()
    tapes = subject.machine.forward(case)[2]

    def backward(u: float, v: float) -> Results:
        """Of u times the case's upstream gradients plus v times the same, turned round along their last axis."""
        doutput, *ds_n = (u * a + v * a[:, :, ::-1] for a in (case.doutput, *case.ds_n))
        grads, dx, ds0 = subject.machine.backward(case._replace(doutput=doutput, ds_n=tuple(ds_n)), tapes)
        return case.named(np.zeros(0), (), dx, ds0, grads)

    du, dv, both = backward(1, 0), backward(0, 1), backward(1, 2)
    return worst_error(both, {name: du[name] + 2 * dv[name] for name in du if name not in FORWARD})


def zero(subject: Subject) -> float:
    """Backward of a zero upstream gradient is zero."""
    case = subject.plain
    results = subject.run(case._replace(doutput=0 * case.doutput, ds_n=tuple(0 * ds for ds in case.ds_n)))
    return max(float(np.max(np.abs(a))) for name, a in results.items() if name not in FORWARD)


def untouched(subject: Subject) -> float:
    """Neither forward nor backward changes what it was given."""
    case = subject.plain.copy()
    before = case.copy()
    subject.machine.backward(case, subject.machine.forward(case)[2])

    def arrays(c: Case) -> Sequence[Array]:
        return [c.x, *c.s0, c.doutput, *c.ds_n, *(w for layer in c.params for p in layer for w in p)]

    return max(error(a, b) for a, b in zip(arrays(case), arrays(before)))


CHECKS = (
    Check("values", "val", "output, h_n and c_n equal a reference's", partial(reference_error, FORWARD)),
    Check("parameter gradients", "dθ", "dW_ih, … equal a reference's", partial(reference_error, PARAMETERS)),
    Check("input gradient", "dx", "dx equals a reference's", partial(reference_error, ("dx",))),
    Check("state gradients", "ds", "dh_0 and dc_0 equal a reference's", partial(reference_error, DS0)),
    Check("complex step", "cs", "each gradient equals a complex step of the layer's own forward", complex_step),
    Check("adjoint identity", "adj", "⟨u, J v⟩ = ⟨Jᵀu, v⟩, one number for all gradients", adjoint),
    Check("split", "spl", "a sequence in two pieces equals one run", split),
    Check("each alone", "one", "a padded batch equals each of its sequences alone", alone),
    Check("permuted batch", "per", "permuting the batch permutes everything", permuted),
    Check("two runs", "dir", "two directions equal two runs of one direction", two_runs),
    Check("layer by layer", "lay", "a stack equals its layers one by one, with dropout by hand", layer_by_layer),
    Check("linear", "lin", "backward is linear in the upstream gradient", linear),
    Check("zero", "zer", "a zero upstream gradient gives zero", zero),
    Check("untouched", "unt", "inputs are as they were", untouched),
)


def killed_by(cell: str, *mistakes: Mistake) -> frozenset[str]:
    """Names of the checks that the textbook with these mistakes fails.

    Examples
    --------
    >>> from numpy_rnn.verify import zoo
    >>> sorted(killed_by("gru", zoo.mistake("dh_0-missing")))
    ['adjoint identity', 'complex step', 'split', 'state gradients']
    """
    subject = Subject(cell, *mistakes)
    return frozenset(check.name for check in CHECKS if not check.passes(subject))
