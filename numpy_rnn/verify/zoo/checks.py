"""Checks that a recurrent layer can be put to, and which mistakes each of them notices.

A check gets a machine, the textbook with or without a mistake, and says how far the machine is from passing. Some hold
it against a reference, the others need nothing but the machine itself.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np

from ...fast import deep
from ...fast.numerics import Array
from ...fast.registry import CELLS
from ..case import Case
from ..difference import FORWARD, error, worst_error
from .cases import cases
from .mistake import Machine, Mistake, machine

TOLERANCE = 1e-11  # of every check, relative; what is right passes with some 1e-15
STEP = 1e-30  # of the complex step

Results = dict[str, Array]


class Subject:
    """A machine that is being checked, with what it says of the zoo's cases."""

    def __init__(self, cell: str, subject: Machine) -> None:
        self.machine = subject
        self.plain, self.stacked, self.square = self.cases = cases(cell)
        # What several checks start from: one layer of two directions, of sequences of different lengths.
        self.two_way = single_layer(self.stacked, 0)

    def run(self, case: Case) -> Results:
        """Everything that the machine says of a case."""
        for known, results in self.known:
            if known is case:
                return results
        return self.machine.run(case)

    @cached_property
    def known(self) -> list[tuple[Case, Results]]:
        """Results on the zoo's own cases."""
        return [(case, self.machine.run(case)) for case in self.cases]


class Check(NamedTuple):
    """A check: what it asks for, and how far a machine is from it."""

    name: str
    short: str  # for the head of a column
    what: str
    error: Callable[[Subject], float]

    def kills(self, cell: str, *mistakes: Mistake) -> bool:
        """Whether a machine with these mistakes fails."""
        return not self.passes(Subject(cell, machine(cell, *mistakes)))

    def passes(self, subject: Subject) -> bool:
        """Whether the subject passes; one that raises, or says NaN, does not."""
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return bool(self.error(subject) <= TOLERANCE)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            return False


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


def _off_from_reference(subject: Subject, wanted: Callable[[str], bool]) -> float:
    worst = 0.0
    for case, right in zip(subject.cases, _own_references(subject.plain.cell)):
        worst = max(worst, worst_error(subject.run(case), {name: a for name, a in right.items() if wanted(name)}))
    return worst


def is_parameter(name: str) -> bool:
    """Whether this is the name of a parameter's gradient."""
    return name[:2] in ("dW", "db", "dP")


def values(subject: Subject) -> float:
    """Outputs and final states against the reference."""
    return _off_from_reference(subject, lambda name: name in FORWARD)


def parameter_gradients(subject: Subject) -> float:
    """Gradients of the parameters against the reference."""
    return _off_from_reference(subject, is_parameter)


def input_gradient(subject: Subject) -> float:
    """Gradient of x against the reference."""
    return _off_from_reference(subject, lambda name: name == "dx")


def state_gradients(subject: Subject) -> float:
    """Gradients of the initial states against the reference."""
    return _off_from_reference(subject, lambda name: name in ("dh_0", "dc_0"))


def loss(subject: Subject, case: Case) -> Any:
    """The scalar whose gradient backward computes, by the machine's own forward."""
    output, s_n, _ = subject.machine.forward(case)
    valid = np.arange(case.x.shape[0])[:, None, None] < np.array(case.all_lengths)[:, None]
    return np.sum(np.where(valid, output * case.doutput, 0)) + sum(np.sum(s * ds) for s, ds in zip(s_n, case.ds_n))


def inputs_of(case: Case) -> Results:
    """What backward has gradients for, under the gradients' names."""
    params = [list(layer) for layer in case.params]
    return case.named(np.zeros(0), (), case.x, case.s0, params)


def moved(case: Case, directions: Results) -> Case:
    """The case with its inputs moved by i · STEP along the given directions."""

    def move(name: str, a: Array) -> Array:
        return a + 1j * STEP * directions[name] if name in directions else a.astype(complex)

    params = [
        [
            type(p)(*(move(f"d{case.parameter_name(f, l, d)}", w) for f, w in p._asdict().items()))
            for d, p in enumerate(layer)
        ]
        for l, layer in enumerate(case.params)
    ]
    s0 = tuple(move(name, s) for name, s in zip(("dh_0", "dc_0"), case.s0))
    return case.copy()._replace(params=params, x=move("dx", case.x), s0=s0)


def _directions(case: Case, names: Iterable[str]) -> Results:
    inputs = inputs_of(case)
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    return {name: rng.standard_normal(inputs[name].shape) for name in names}


def complex_step(subject: Subject) -> float:
    """Gradients against complex steps of the machine's own forward, along random directions.

    One step for all parameters at once, one for x and the initial states: a wrong entry anywhere moves the sum.
    """
    worst = 0.0
    for case in subject.cases:
        results = subject.run(case)
        names = [name for name in results if name not in FORWARD]
        for parameters in (True, False):
            group = [name for name in names if is_parameter(name) == parameters]
            along = _directions(case, group)
            numeric = loss(subject, moved(case, along)).imag / STEP
            by_hand = sum(np.sum(results[name] * along[name]) for name in group)
            size = sum(np.sum(np.abs(results[name] * along[name])) for name in group)
            worst = max(worst, error(np.array(by_hand), np.array(numeric), float(max(size, abs(numeric)))))
    return worst


def adjoint(subject: Subject) -> float:
    """⟨u, J v⟩ = ⟨Jᵀu, v⟩ for one random v over all inputs together: a single number."""
    case, results = subject.stacked, subject.run(subject.stacked)
    along = _directions(case, (name for name in results if name not in FORWARD))
    forwards = loss(subject, moved(case, along)).imag / STEP
    backwards = sum(np.sum(results[name] * v) for name, v in along.items())
    size = sum(np.linalg.norm(results[name]) * np.linalg.norm(v) for name, v in along.items())
    return error(np.array(backwards), np.array(forwards), float(size))


def split(subject: Subject) -> float:
    """A sequence in two pieces, states and their gradients handed on, against the same in one run."""
    case, whole = subject.plain, subject.run(subject.plain)
    cut = case.x.shape[0] // 2
    first = case._replace(x=case.x[:cut], doutput=case.doutput[:cut])
    s_cut = subject.machine.forward(first.copy())[1]
    second = case._replace(x=case.x[cut:], doutput=case.doutput[cut:], s0=tuple(s_cut))
    late = subject.run(second)
    early = subject.run(first._replace(ds_n=tuple(late[name] for name in ("dh_0", "dc_0") if name in late)))
    joined = {name: late[name] if name in FORWARD else early[name] for name in whole}
    joined |= {name: np.concatenate([early[name], late[name]]) for name in ("output", "dx")}
    joined |= {name: early[name] + late[name] for name in whole if is_parameter(name)}
    return worst_error(joined, whole)


def alone(subject: Subject) -> float:
    """A padded batch against each of its sequences alone; parameter gradients must add up."""
    case, whole = subject.stacked, subject.run(subject.stacked)
    total = {name: np.zeros_like(a) for name, a in whole.items()}
    for b, length in enumerate(case.all_lengths):
        for name, a in subject.run(sequence(case, b, length)).items():
            if name in ("output", "dx"):
                total[name][:length, b] = a[:, 0]
            elif a.ndim == 3:
                total[name][:, b] = a[:, 0]
            else:
                total[name] += a
    return worst_error(total, whole)


def sequence(case: Case, b: int, length: int) -> Case:
    """One sequence of a batch, without its padding."""
    return case._replace(
        x=case.x[:length, b : b + 1],
        s0=tuple(s[:, b : b + 1] for s in case.s0),
        doutput=case.doutput[:length, b : b + 1],
        ds_n=tuple(ds[:, b : b + 1] for ds in case.ds_n),
        lengths=None,
        masks=None if case.masks is None else tuple(m[:length, b : b + 1] for m in case.masks),
    )


def permuted(subject: Subject) -> float:
    """The batch in another order: everything follows, parameter gradients stay."""
    case, whole = subject.stacked, subject.run(subject.stacked)
    order = np.roll(np.arange(case.x.shape[1]), 1)
    results = subject.run(
        case._replace(
            x=case.x[:, order],
            s0=tuple(s[:, order] for s in case.s0),
            doutput=case.doutput[:, order],
            ds_n=tuple(ds[:, order] for ds in case.ds_n),
            lengths=tuple(case.all_lengths[b] for b in order),
            masks=None if case.masks is None else tuple(m[:, order] for m in case.masks),
        )
    )
    return worst_error(results, {name: a[:, order] if a.ndim == 3 else a for name, a in whole.items()})


def single_layer(case: Case, l: int) -> Case:
    """One layer of a stack as a case of its own; upstream gradients are the stack's."""
    D = len(case.params[l])
    return case._replace(
        name=f"{case.name}, layer {l}",
        params=[case.params[l]],
        s0=tuple(s[l * D : (l + 1) * D] for s in case.s0),
        ds_n=tuple(ds[l * D : (l + 1) * D] for ds in case.ds_n),
        masks=None,
    )


def two_runs(subject: Subject) -> float:
    """A layer of two directions against two layers of one, the second on each sequence turned round."""
    case = subject.two_way
    whole = subject.run(case)

    def turn(a: Array) -> Array:
        return deep.reverse(a, np.array(case.all_lengths))

    halves = np.split(case.doutput, 2, axis=2)
    runs = []
    for d in range(2):
        runs.append(
            subject.run(
                case._replace(
                    params=[[case.params[0][d]]],
                    x=turn(case.x) if d else case.x,
                    s0=tuple(s[d : d + 1] for s in case.s0),
                    doutput=turn(halves[d]) if d else halves[d],
                    ds_n=tuple(ds[d : d + 1] for ds in case.ds_n),
                )
            )
        )
    there, back = runs
    states = [name for name in there if name in ("h_n", "c_n", "dh_0", "dc_0")]
    expected = {name: np.concatenate([there[name], back[name]]) for name in states}
    expected["output"] = np.concatenate([there["output"], turn(back["output"])], axis=2)
    expected["dx"] = there["dx"] + turn(back["dx"])
    for d, run in enumerate(runs):
        expected |= {f"{n}_l0{'_reverse' if d else ''}": a for n, a in run.items() if is_parameter(n)}
    return worst_error(whole, expected)


def layer_by_layer(subject: Subject) -> float:
    """A stack against its layers one by one, the dropout mask applied by hand between them."""
    case, whole = subject.stacked, subject.run(subject.stacked)
    below, above = single_layer(case, 0), single_layer(case, 1)
    mask = case.masks[0] if case.masks else np.ones(case.doutput.shape)
    middle = subject.machine.forward(below.copy())[0]
    top = subject.run(above._replace(x=middle * mask))
    bottom = subject.run(below._replace(doutput=top["dx"] * mask))
    expected = {"output": top["output"], "dx": bottom["dx"]}
    for name in ("h_n", "c_n", "dh_0", "dc_0"):
        if name in whole:
            expected[name] = np.concatenate([bottom[name], top[name]])
    for l, run in enumerate((bottom, top)):
        expected |= {n.replace("_l0", f"_l{l}"): a for n, a in run.items() if is_parameter(n)}
    return worst_error(whole, expected)


def linear(subject: Subject) -> float:
    """Backward of u + 2 v is backward of u plus twice that of v."""
    case = subject.stacked
    u = subject.run(case)
    tapes = subject.machine.forward(case.copy())[2]

    def backward(scaled: Case) -> Results:
        grads, dx, ds0 = subject.machine.backward(scaled, tapes)
        return case.named(np.zeros(0), (), dx, ds0, grads)

    # v: u turned upside down along its last axis
    v_upstream = case.doutput[:, :, ::-1], tuple(ds[:, :, ::-1] for ds in case.ds_n)
    v = case.copy()._replace(doutput=v_upstream[0].copy(), ds_n=tuple(ds.copy() for ds in v_upstream[1]))
    both = case.copy()._replace(
        doutput=case.doutput + 2 * v.doutput, ds_n=tuple(a + 2 * b for a, b in zip(case.ds_n, v.ds_n))
    )
    dv, d_both = backward(v), backward(both)
    names = [name for name in u if name not in FORWARD]
    return worst_error(d_both, {name: u[name] + 2 * dv[name] for name in names})


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
    Check("values", "val", "output, h_n and c_n equal a reference's", values),
    Check("parameter gradients", "dθ", "dW_ih, dW_hh, db_ih, … equal a reference's", parameter_gradients),
    Check("input gradient", "dx", "dx equals a reference's", input_gradient),
    Check("state gradients", "ds", "dh_0 and dc_0 equal a reference's", state_gradients),
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


def killed_by(cell: str, mistake: Mistake) -> frozenset[str]:
    """Names of the checks that a machine with this mistake fails.

    Examples
    --------
    >>> from numpy_rnn.verify import zoo
    >>> sorted(killed_by("gru", zoo.mistake("dh_0-missing")))
    ['adjoint identity', 'complex step', 'split', 'state gradients']
    """
    subject = Subject(cell, machine(cell, mistake))
    return frozenset(check.name for check in CHECKS if not check.passes(subject))
