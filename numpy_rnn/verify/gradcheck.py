"""Checks of gradients that somebody wrote by hand: this project's, or those of any function of arrays.

Independent ways to the same numbers, each of which can be wrong only in its own way::

    complex step, central differences   J v, entry by entry: `numpy_rnn.verify.derivatives`
    adjoint identity                    ⟨u, J v⟩ = ⟨Jᵀu, v⟩ for random u and v: a number that every entry enters
    forward in time                     real-time recurrent learning, for cells: `numpy_rnn.verify.rtrl`

`gradcheck` runs what applies and names the worst entry. A gradient is called WRONG only where it is off by more than
the method itself can be; where the method cannot tell, the verdict is "not decided", with what would decide it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..fast.cell import Cell, States
from ..fast.numerics import Array
from ..layers.recurrent import Recurrent
from . import rtrl
from .causes import causes, hints
from .derivatives import (
    Derivative,
    Function,
    as_tuple,
    central_differences,
    complex_step,
    differentiable,
    hessian_vector_product,
    inner,
    jvp_central_differences,
    jvp_complex_step,
    largest,
    noise_of,
    rounding,
    wide,
)

__all__ = [
    "Finding",
    "Problem",
    "Report",
    "gradcheck",
    "hessian_vector_product",
    "jvp_central_differences",
    "jvp_complex_step",
    "numeric_gradient",
    "of_cell",
    "of_layer",
]

VJP = Callable[[Any, Any], Any]
JVP = Callable[[Sequence["Array | None"]], Derivative]

# Largest error that a correct float64 gradient may show, relative to the largest entry of its tensor (for the adjoint
# identity: relative to the product of the norms). About a hundred times what is measured on the cells at T ≤ 200.
# A gradient in a narrower dtype may be off by a hundred times that dtype's own rounding.
TOLERANCES = {
    "complex step": 1e-13,
    "central differences": 1e-9,
    "adjoint identity": 1e-14,
    "forward in time": 1e-13,
}
DECIDES = 1e-7  # a method that may itself be off by more misses a tenth of a percent in a small entry


class Finding(NamedTuple):
    """What one method says of the gradient by one input."""

    method: str
    name: str
    error: float  # relative, of the worst entry
    tolerance: float
    where: tuple[int, ...]  # the worst entry is; () for the adjoint identity
    gradient: float  # as the hand-written code has it, there
    numeric: float  # as the method has it, there
    doubt: float = 0.0  # how far the method itself may be off, relative as `error` is

    @property
    def limit(self) -> float:
        """What the error may be: the tolerance, or what the method cannot tell from it."""
        return max(self.tolerance, self.doubt)

    @property
    def verdict(self) -> str:
        """One of "correct", "WRONG" and "not decided"."""
        if not np.isfinite(self.numeric) and not np.isfinite(self.gradient):
            return "not decided"  # the function itself is not finite there
        if not self.error <= self.limit:
            return "WRONG"
        return "correct" if self.doubt <= max(DECIDES, self.tolerance) else "not decided"

    @property
    def ok(self) -> bool:
        """Whether the two agree, and the method can tell."""
        return self.verdict == "correct"

    def __str__(self) -> str:
        where = f"[{', '.join(map(str, self.where))}]" if self.where else ""
        said = {
            "correct": "agrees",
            "WRONG": f"WRONG, {self.error / self.limit:.1e} times the tolerance",
            "not decided": "not decided",
        }[self.verdict]
        allowed = "tolerance" if self.doubt <= self.tolerance else "what the method can tell is"
        return (
            f"{self.name}{where}: {self.gradient:.12g} by hand, {self.numeric:.12g} by {self.method}; "
            f"error {self.error:.1e}, {allowed} {self.limit:.0e}: {said}"
        )


class Cause(NamedTuple):
    """What several gradients look like beside the right ones."""

    names: tuple[str, ...]
    what: str

    def __str__(self) -> str:
        return f"{', '.join(self.names)}: {self.what}"


class Report(NamedTuple):
    """What `gradcheck` found, one finding for each method and input."""

    findings: tuple[Finding, ...]
    skipped: tuple[str, ...] = ()  # methods that do not apply, and why
    remarks: tuple[str, ...] = ()  # what else there is to know, such as a function that changes its arguments
    undecided: tuple[str, ...] = ()  # why there is no verdict
    causes: tuple[Cause, ...] = ()

    @property
    def verdict(self) -> str:
        """One of "correct", "WRONG" and "not decided"."""
        verdicts = {f.verdict for f in self.findings}
        if "WRONG" in verdicts:
            return "WRONG"
        return "not decided" if self.undecided or "not decided" in verdicts else "correct"

    @property
    def ok(self) -> bool:
        """Whether all methods agree with all gradients."""
        return self.verdict == "correct"

    @property
    def worst(self) -> Finding | None:
        """The finding that is furthest beyond its limit, or nearest to it; a NaN is beyond all. None if there is none.

        Where something is wrong, one that names an entry comes before one that names a tensor only.
        """
        return max(
            self.findings,
            key=lambda f: (f.verdict == "WRONG", not f.ok, bool(f.where), np.isnan(f.error), f.error / f.limit),
            default=None,
        )

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        lines = [f"{self.verdict}; worst: {self.worst}" if self.findings else self.verdict]
        lines += [*self.undecided, *map(str, self.causes)]
        said = {name for cause in self.causes for name in cause.names} | {self.worst.name if self.worst else ""}
        if others := dict.fromkeys(f.name for f in self.findings if f.verdict == "WRONG" and f.name not in said):
            lines.append(f"also wrong: {', '.join(others)}")
        return "\n".join([*lines, *self.remarks, *(f"skipped: {reason}" for reason in self.skipped)])


class Arrays(tuple[Array, ...]):
    """Arrays by position and, where they have names, by name."""

    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, arrays: Sequence[Array], names: Sequence[str]) -> Arrays:
        """Copies of arrays: whoever gets them may do with them what they like."""
        found = cls(np.array(a) for a in arrays)
        found.names = tuple(names)
        return found

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self.names.index(key) if isinstance(key, str) else key)


class Subject:
    """Somebody's function and gradient: called with copies, asked twice, and believed only in what they return."""

    def __init__(self, f: Function, vjp: VJP | None, names: Sequence[str], given: Sequence[Array]) -> None:
        self.f, self.vjp, self.names = f, vjp, list(names)
        self.outputs: list[str] | None = None  # their names; none before the first call
        self.remarks: dict[str, None] = {}  # each once, in order
        self.undecided: list[str] = []
        first, again = self(*given), self(*given)
        if not _same(first, again):
            self.undecided.append(
                "f returns other values when called again with the same inputs (a state kept between calls? dropout?): "
                "make it start anew at each call, or fix its random numbers"
            )
        self.values = first

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        """Outputs of f, or only the loss where f returns the gradients, too."""
        mine = Arrays.of(arrays, self.names)
        found = self.f(*mine)
        if self.outputs is None:
            self.outputs = list(map(str, found)) if isinstance(found, Mapping) else []
            self._note_changes("f", arrays, mine)
        if isinstance(found, Mapping):
            found = tuple(found.values())
        elif self.vjp is None and not isinstance(found, (tuple, list)):
            raise ValueError("f returns one array, expected a loss and its gradients, since there is no vjp")
        return tuple(np.array(y) for y in as_tuple(found)[: 1 if self.vjp is None else None])

    def gradients(self, given: Sequence[Array], upstream: Sequence[Array]) -> list[Array | None]:
        """What the gradient under test returns, once."""
        if self.vjp is None:
            found = self.f(*Arrays.of(given, self.names))
            found = list(found.values())[1:] if isinstance(found, Mapping) else list(found)[1:]
            if len(found) == 1 and isinstance(found[0], (Mapping, tuple, list)):
                (found,) = found
            return checked(self.names, given, found)
        mine, theirs = Arrays.of(given, self.names), Arrays.of(upstream, self.outputs or [])
        found = checked(self.names, given, self.vjp(mine, theirs))
        for k, (u, after) in enumerate(zip(upstream, theirs)):
            if not _same([u], [after]):
                self.remarks.setdefault(f"vjp changes upstream {k} in place: copy it first, the caller may need it")
        self._note_changes("vjp", given, mine)
        return found

    def _note_changes(self, who: str, given: Sequence[Array], mine: Sequence[Array]) -> None:
        for name, a, b in zip(self.names, given, mine):
            if not _same([a], [b]):
                self.remarks.setdefault(f"{who} changes its input {name} in place")

    def judged(self, given: Sequence[Array], upstream: Sequence[Array]) -> list[Array | None]:
        """The gradients to judge: those of one call, or what a call adds where they add up from call to call."""
        first, second = self.gradients(given, upstream), self.gradients(given, upstream)
        if _same(_there(first), _there(second)):
            return first
        third = self.gradients(given, upstream)
        steps = [[_minus(b, a) for a, b in zip(*pair)] for pair in ((first, second), (second, third))]
        said = "vjp returns other gradients when called again"
        if _same(_there(steps[0]), _there(steps[1]), 1e-9):
            self.remarks.setdefault(f"{said}: each adds to those of the calls before; what one call adds is judged")
            return [g if _same(_there([g]), _there([h])) else step for g, h, step in zip(first, second, steps[0])]
        self.undecided.append(f"{said} with the same arguments (a state kept between calls? dropout?)")
        return first


def _there(arrays: Sequence[Array | None]) -> list[Array]:
    return [a for a in arrays if a is not None]


def _minus(b: Array | None, a: Array | None) -> Array | None:
    return None if a is None or b is None else np.asarray(b - a)


def _same(first: Sequence[Array], again: Sequence[Array], tolerance: float = 0.0) -> bool:
    """Whether arrays are equal up to the rounding of a sum in another order; NaN equals NaN."""
    if len(first) != len(again):
        return False
    for a, b in zip(first, again):
        if a.shape != b.shape:
            return False
        if not differentiable(a):
            if not np.array_equal(a, b):
                return False
            continue
        scale = max(largest(a[np.isfinite(a)]), largest(b[np.isfinite(b)]))
        allowed = max(tolerance, 100 * rounding(a)) * scale
        if not np.allclose(a, b, rtol=0, atol=allowed, equal_nan=True):
            return False
    return True


class Problem(NamedTuple):
    """What `gradcheck` takes: `gradcheck(*problem)`. `of_cell` and `of_layer` make it of this project's own."""

    f: Function
    vjp: VJP
    inputs: Mapping[str, Array]
    others: Mapping[str, VJP]


def gradcheck(
    f: Function,
    vjp: VJP | None,
    inputs: Mapping[str, Array] | Sequence[Array],
    others: Mapping[str, VJP] | None = None,
    *,
    methods: Sequence[str] | None = None,
    tolerance: float | None = None,
    max_entries: int = 1000,
    rng: int | np.random.Generator = 0,
) -> Report:
    """Hold a hand-written gradient against independent methods, entry by entry.

    Every method computes in float64 (complex128), whatever the inputs' dtype is; the gradient under test is computed
    from the inputs as they are, and a float32 one gets float32's tolerance. Upstream gradients are random, for all
    outputs: with all ones, whole classes of mistakes do not show. A single number, such as a loss, has upstream 1.
    f and vjp get copies of all arrays, and are called twice: what changes its arguments or keeps a state is told.

    Parameters
    ----------
    f : function of arrays
        `f(*inputs)` returns an array, a sequence of arrays or a dict of them. Called with complex arrays where that
        works.
    vjp : function, or None
        The gradient under test: vjp(inputs, upstream), two tuples of arrays, which names open, too. Returns for every
        input the gradient of Σ upstream ∘ f by it, or None where there is none (integer inputs, say): a sequence, or a
        dict by the inputs' names. None: f returns a loss and, after it, the gradients.
    inputs : mapping of str to array, or sequence of arrays
        The names appear in the report; without them inputs are called input 0, input 1, …
    others : mapping of str to function, optional
        The same gradient by other code, called as `vjp` is, and the names under which it appears in the report.
    methods : sequence of str, optional
        Of "complex step", "central differences", "adjoint identity". By default all that apply, central differences
        only where f does not take complex numbers.
    tolerance : float, optional
        Instead of the methods' own.
    max_entries : int
        Of an input with more entries, this many random ones are checked one by one (the adjoint identity sees all).
    rng : int or numpy.random.Generator

    Returns
    -------
    Report
        True only where all gradients are right; as a string, the verdict: correct, WRONG or not decided, what is wrong
        where, and what it looks like.

    Raises
    ------
    ValueError
        If vjp returns another number of gradients, or one of another shape or name, than there are inputs.

    Examples
    --------
    >>> f = lambda W, x: np.tanh(W @ x)
    >>> def vjp(inputs, upstream):
    ...     (W, x), (dy,) = inputs, upstream
    ...     da = dy * (1 - np.tanh(W @ x) ** 2)
    ...     return np.outer(da, x), da @ W  # (Wᵀ da)
    >>> inputs = {"W": np.array([[0.1, -0.4], [0.3, 0.2], [0.5, 0.6]]), "x": np.array([0.7, -0.8])}
    >>> bool(gradcheck(f, vjp, inputs))
    True
    """
    rng = np.random.default_rng(rng)
    names, given = named(inputs)
    if unknown := set(methods or ()) - {"complex step", "central differences", "adjoint identity"}:
        raise ValueError(f"methods has {min(unknown)!r}, expected some of {', '.join(list(TOLERANCES)[:3])}")
    subject = Subject(f, vjp, names, given)
    upstream = upstream_of(subject.values, rng)
    gradients = subject.judged(given, upstream)
    if subject.undecided:
        return Report((), (), tuple(subject.remarks), tuple(subject.undecided))

    inputs64, upstream = tuple(map(wide, given)), tuple(map(wide, upstream))
    wants = [m for m in (methods or ()) if m != "adjoint identity"]
    jvps, skipped = applicable(subject, inputs64, rng, wants)
    narrowest = max((rounding(g) for g in gradients if g is not None), default=0.0)
    # Where f computes in float32, so does the gradient, and 1 - h² of an h near 1 has lost some digits more.
    coarse = max((400 * rounding(y) for y in subject(*inputs64) if y.dtype in (np.float32, np.float16)), default=0.0)
    alternatives = {
        name: checked(names, given, other(Arrays.of(inputs64, names), upstream))
        for name, other in (others or {}).items()
    }

    def limit(name: str) -> float:
        return tolerance or max(TOLERANCES.get(name, TOLERANCES["complex step"]), 100 * narrowest)

    findings, looks = [], dict[str, list[str]]()
    for k, (name, g) in enumerate(zip(names, gradients)):
        if g is None or g.size == 0:
            continue
        chosen = np.arange(g.size) if g.size <= max_entries else rng.choice(g.size, max_entries, replace=False)
        for m in methods or (next(iter(jvps)), "adjoint identity"):
            if m == "adjoint identity":
                jvp = jvps[next(iter(jvps))]
                findings.append(adjoint(jvp, inputs64, k, upstream, g, name, limit(m), rng))
            elif m in jvps:
                numeric, doubt = entries(jvps[m], inputs64, k, upstream, chosen)
                doubt = np.maximum(doubt, coarse * largest(numeric))
                findings.append(worst_entry(m, name, limit(m), g, chosen, numeric, doubt))
                if findings[-1].verdict == "WRONG" and len(chosen) == g.size:
                    sizes = [n for a in (*given, *subject.values) for n in a.shape]
                    for said in causes(g, numeric.reshape(g.shape), max(1e-6, 10 * findings[-1].limit), sizes):
                        looks.setdefault(said, [])
                        if name not in looks[said]:
                            looks[said].append(name)
        for m, others_gradients in alternatives.items():
            if (other := others_gradients[k]) is not None:
                findings.append(worst_entry(m, name, limit(m), g, np.arange(g.size), other.reshape(-1)))
    wrong = any(f.verdict == "WRONG" for f in findings)
    remarks = [*subject.remarks, *hints(dict(zip(names, given)))]
    reasons = [] if wrong or all(f.ok for f in findings) else [_why_not_decided(subject, findings, inputs64)]
    seen = tuple(Cause(tuple(of), what) for what, of in looks.items())
    return Report(tuple(findings), skipped, tuple(remarks), tuple(reasons), seen)


def of_cell(cell: Cell, params: Any, x: Array, s0: States) -> Problem:
    """A cell's whole trajectory as a function of its parameters, inputs and initial state.

    Parameters
    ----------
    cell : Cell
    params : the cell's Params
    x : array (T, B, I)
    s0 : the cell's State, fields (B, ·)

    Returns
    -------
    Problem
        Among its `others`, for this project's cells, is real-time recurrent learning.

    Examples
    --------
    >>> from numpy_rnn.fast import rnn
    >>> rng = np.random.default_rng(0)
    >>> params = rnn.Params(*(rng.standard_normal(shape) for shape in ((4, 3), (4, 4), (4,), (4,))))
    >>> x, s0 = rng.standard_normal((5, 2, 3)), rnn.State(rng.standard_normal((2, 4)))
    >>> bool(gradcheck(*of_cell(rnn.TANH, params, x, s0)))
    True
    """
    n = len(params)

    def unpacked(inputs: Sequence[Array]) -> tuple[Any, Array, Any]:
        return cell.Params(*inputs[:n]), inputs[n], cell.State(*inputs[n + 1 :])

    def f(*inputs: Array) -> Any:
        return cell.forward(*unpacked(inputs))[0]

    def vjp(inputs: tuple[Array, ...], dstates: tuple[Array, ...]) -> list[Array]:
        _, tape = cell.forward(*unpacked(inputs))
        grads, dx, ds0 = cell.backward(tape, cell.State(*dstates))
        return [*grads, dx, *ds0]

    def forward_in_time(inputs: tuple[Array, ...], dstates: tuple[Array, ...]) -> list[Array]:
        grads, dx, ds0 = rtrl.gradients(cell, *unpacked(inputs), cell.State(*dstates))
        return [*grads, dx, *ds0]

    names = [*params._fields, "x", *(f"{field}_0" for field in s0._fields)]
    others = {"forward in time": forward_in_time} if cell.name in rtrl.STEPS else {}
    return Problem(f, vjp, dict(zip(names, [*params, x, *s0])), others)


def of_layer(layer: Any, x: Array, h_0: Any = None, lengths: Any = None) -> Problem:
    """A layer's output and final states as a function of its parameters, its input and its initial states.

    Parameters
    ----------
    layer : RNN, LSTM, GRU or one of the FromScratch models
    x : array
        As the layer's `forward` takes it.
    h_0 : array or pair of arrays, optional
        As the layer's `forward` takes it; zeros by default.
    lengths : B whole numbers, optional
        Not for FromScratch models, which have none.

    Raises
    ------
    ValueError
        If dropout is active: then the output is not a function of the input.

    Examples
    --------
    >>> from numpy_rnn import LSTM
    >>> layer = LSTM(3, 4, bidirectional=True, dtype=np.float64, rng=0)
    >>> x = np.random.default_rng(1).standard_normal((5, 2, 3))
    >>> bool(gradcheck(*of_layer(layer, x, lengths=[5, 2])))
    True
    """
    if layer.training and getattr(layer, "dropout", 0) > 0:
        raise ValueError(f"dropout is active in {layer!r}, expected layer.eval(): its output is random")
    extra = (lengths,) if isinstance(layer, Recurrent) else ()
    parameters = layer.state_dict()
    _, h_n = layer(x, h_0, *extra)
    single = not isinstance(h_n, tuple)
    finals = (h_n,) if single else h_n
    given = tuple(map(np.zeros_like, finals)) if h_0 is None else (h_0,) if single else tuple(h_0)
    n = len(parameters)

    def run(inputs: Sequence[Array]) -> tuple[Any, Any]:
        """A layer like this one in the dtype of the inputs, and its forward."""
        dtype = np.result_type(*inputs)
        twin: Any = type(layer)(**layer.config, dtype=dtype, rng=0).eval()
        twin.load_state_dict(dict(zip(parameters, inputs)))
        x, *s = (a.astype(dtype) for a in inputs[n:])
        return twin, twin.forward(x, s[0] if single else tuple(s), *extra)

    def f(*inputs: Array) -> Any:
        _, (output, h_n, _) = run(inputs)
        return (output, h_n) if single else (output, *h_n)

    def vjp(inputs: tuple[Array, ...], upstream: tuple[Array, ...]) -> list[Array]:
        twin, (_, _, tape) = run(inputs)
        grads, dx, dh_0 = twin.backward(tape, upstream[0], upstream[1] if single else upstream[1:])
        return [*grads.values(), dx, *((dh_0,) if single else dh_0)]

    return Problem(f, vjp, {**parameters, "x": x, **dict(zip(("h_0", "c_0"), given))}, {})


def upstream_of(outputs: Sequence[Array], rng: np.random.Generator) -> tuple[Array, ...]:
    """Random gradients of outputs; of a single number 1, so that the user's own numbers come out."""
    if len(outputs) == 1 and outputs[0].size == 1 and differentiable(outputs[0]):
        return (np.ones_like(outputs[0]),)
    drawn = (rng.standard_normal(y.shape) for y in outputs)
    return tuple(u.astype(y.dtype) if differentiable(y) else np.zeros(y.shape) for u, y in zip(drawn, outputs))


def _why_not_decided(subject: Subject, findings: Sequence[Finding], inputs: Sequence[Array]) -> str:
    doubt = max(f.doubt for f in findings)
    if any(not np.isfinite(f.numeric) for f in findings):
        return "f is not finite at these inputs or near them"
    if any(y.dtype in (np.float32, np.float16) for y in subject(*inputs) if differentiable(y)):
        return (
            f"f computes in float32 or float16: the gradients agree to {doubt:.0e}, as far as its digits go; "
            "let it compute in float64, or give a tolerance"
        )
    return f"the gradients agree to {doubt:.0e}, which is all that differences of this f show: is it smooth here?"


def entries(jvp: JVP, inputs: Sequence[Array], k: int, upstream: Sequence[Array], chosen: Array) -> tuple[Array, Array]:
    """Entries of the gradient of Σ upstream ∘ f by input k, by their flat indices, and how far each may be off."""
    directions: list[Array | None] = [None] * len(inputs)
    found, doubt = np.empty(len(chosen)), np.empty(len(chosen))
    for n, flat in enumerate(chosen):
        direction = np.zeros(inputs[k].size)
        direction[flat] = 1
        directions[k] = direction.reshape(inputs[k].shape)
        Jv = jvp(directions)
        found[n], doubt[n] = inner(upstream, Jv.values), _doubt(upstream, Jv)
    return found, doubt


def _doubt(upstream: Sequence[Array], Jv: Derivative) -> float:
    """How far ⟨u, J v⟩ may be off: many times what independent errors of its terms add up to."""
    return 4 * float(np.sqrt(sum(np.sum((u * d) ** 2) for u, d in zip(upstream, Jv.doubt))))


def numeric_gradient(
    f: Function, inputs: Sequence[Array], k: int, upstream: Sequence[Array], method: str = "complex step"
) -> Array:
    """Gradient of Σ upstream ∘ f by input k, one entry at a time.

    Parameters
    ----------
    f : function of arrays
    inputs : arrays
    k : int
    upstream : arrays, shapes of the outputs
    method : "complex step" or "central differences"
    """
    of = {"complex step": complex_step, "central differences": central_differences}[method]
    found, _ = entries(lambda directions: of(f, inputs, directions), inputs, k, upstream, np.arange(inputs[k].size))
    return found.reshape(inputs[k].shape)


def applicable(
    f: Function, inputs: Sequence[Array], rng: np.random.Generator, wanted: Sequence[str] = ()
) -> tuple[dict[str, JVP], tuple[str, ...]]:
    """The methods that differentiate f, the best one first, and why another one is not used.

    Central differences are only among them if they are wanted, or the complex step does not apply.
    """
    directions = [rng.standard_normal(x.shape) if differentiable(x) else None for x in inputs]
    noise = noise_of(f, inputs, directions)
    outputs = as_tuple(f(*inputs))
    # A step at which rounding and the error of the series weigh alike: 0.01 in float64, 0.1 in float32.
    jitter = max((e / (largest(y) or 1.0) for e, y in zip(noise, outputs)), default=0.0)
    step = float(np.clip(jitter**0.125, 1e-2, 0.25))

    def differences(directions: Sequence[Array | None]) -> Derivative:
        return central_differences(f, inputs, directions, step, noise=noise)

    def complex_steps(directions: Sequence[Array | None]) -> Derivative:
        return complex_step(f, inputs, directions)

    reason = ""
    try:
        exact = complex_steps(directions)
    except Exception as error:  # whatever somebody's code raises when it gets complex numbers
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = f"complex step, since f does not take complex numbers ({said})"
        if "Casting complex" in said or ("complex" in said.lower() and "float" in said.lower()):
            reason += "; a buffer takes them if it is made as np.zeros(shape, np.result_type(x, W))"
    else:
        rough = differences(directions)
        scale = np.sqrt(inner(rough.values, rough.values)) + np.finfo(float).tiny
        apart = np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(exact.values, rough.values)))
        doubt = 4 * np.sqrt(sum(np.sum(d**2) for d in rough.doubt))
        if not apart <= 1e-3 * scale + doubt:
            reason = "complex step, since f is not analytic (it may use abs or a conjugate)"
    found: dict[str, JVP] = {} if reason else {"complex step": complex_steps}
    if reason or "central differences" in wanted:
        found["central differences"] = differences
    return found, (reason,) if reason else ()


def worst_entry(
    method: str, name: str, tolerance: float, gradient: Array, chosen: Array, numeric: Array, doubt: Any = 0.0
) -> Finding:
    """Compare chosen entries of a gradient, by their flat indices, with what a method says of them.

    The worst entry is the one that is furthest beyond what it may be off by.
    """
    with np.errstate(invalid="ignore"):
        apart = np.abs(gradient.reshape(-1)[chosen] - numeric)
    scale = max(largest(numeric[np.isfinite(numeric)]), float(np.finfo(float).tiny))
    doubts = np.broadcast_to(doubt, apart.shape) / scale
    worst = int(np.argmax(apart / scale / np.maximum(tolerance, doubts)))  # the first NaN, if there is one
    where = tuple(int(i) for i in np.unravel_index(chosen[worst], gradient.shape))
    error = float(apart[worst]) / scale
    return Finding(
        method, name, error, tolerance, where, float(gradient[where]), float(numeric[worst]), float(doubts[worst])
    )


def adjoint(
    jvp: JVP,
    inputs: Sequence[Array],
    k: int,
    upstream: Sequence[Array],
    gradient: Array,
    name: str,
    tolerance: float,
    rng: np.random.Generator,
) -> Finding:
    """Compare ⟨Jᵀu, v⟩ with ⟨u, J v⟩ for a random v in input k, relative to the product of the norms."""
    directions: list[Array | None] = [None] * len(inputs)
    v = directions[k] = rng.standard_normal(gradient.shape)
    Jv = jvp(directions)
    left, right = inner([gradient], [v]), inner(upstream, Jv.values)
    norms = np.sqrt(inner(upstream, upstream) * inner(Jv.values, Jv.values))
    scale = max(float(norms + np.linalg.norm(gradient) * np.linalg.norm(v)), float(np.finfo(float).tiny))
    error = abs(left - right) / scale
    return Finding("adjoint identity", name, error, tolerance, (), left, right, _doubt(upstream, Jv) / scale)


def named(inputs: Mapping[str, Array] | Sequence[Array]) -> tuple[list[str], tuple[Array, ...]]:
    """Names and copies of inputs that may come without names."""
    if isinstance(inputs, Mapping):
        return list(map(str, inputs)), tuple(map(np.array, inputs.values()))
    return [f"input {k}" for k in range(len(inputs))], tuple(map(np.array, inputs))


def checked(names: Sequence[str], inputs: Sequence[Array], gradients: Any) -> list[Array | None]:
    """Copies of the gradients, if there is one of the right shape (or None) for each input; a dict has them by name."""
    if isinstance(gradients, Mapping):
        if unknown := [name for name in gradients if str(name) not in names]:
            raise ValueError(f"vjp returned a gradient of {unknown[0]!r}, expected some of {', '.join(names)}")
        gradients = [gradients.get(name) for name in names]
    elif isinstance(gradients, np.ndarray) and len(inputs) == 1:
        gradients = [gradients]
    if not isinstance(gradients, Sequence):
        came = type(gradients).__name__
        raise ValueError(f"vjp returned {came}, expected {len(inputs)} gradients, in a sequence or by name in a dict")
    if len(gradients) != len(inputs):
        raise ValueError(f"vjp returned {len(gradients)} gradients, expected {len(inputs)}, one for each input")
    found = [None if g is None else np.array(g) for g in gradients]
    for name, x, g in zip(names, inputs, found):
        if g is not None and g.shape != x.shape:
            raise ValueError(f"the gradient of {name} has shape {g.shape}, expected {x.shape}, that of {name}")
    return found
