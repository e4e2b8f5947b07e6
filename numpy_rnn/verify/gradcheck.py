"""Checks of gradients that somebody wrote by hand: this project's, or those of any function of arrays.

Independent ways to the same numbers, each of which can be wrong only in its own way::

    complex step, central differences   J v, entry by entry: `numpy_rnn.verify.derivatives`
    adjoint identity                    ⟨u, J v⟩ = ⟨Jᵀu, v⟩ for random u and v: a number that every entry enters
    forward in time                     real-time recurrent learning, for cells: `numpy_rnn.verify.rtrl`

`gradcheck` runs what applies and names the worst entry. A gradient is called WRONG only where it is off by more than
the method itself can be; where the method cannot tell, the verdict is "not decided", with what would decide it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
    jitter_of,
    jvp_central_differences,
    jvp_complex_step,
    largest,
    length_of,
    noise_of,
    own_size,
    rounding,
    wide,
)
from .report import DECIDES, TOLERANCES, Cause, Finding, Report
from .subject import VJP, Arrays, Subject, checked, named

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

JVP = Callable[[Sequence["Array | None"]], Derivative]
EPS = float(np.finfo(float).eps)
UNDERFLOW = 1e-60  # so small a number may come of one that was 0, or infinite, on the way
Differentiate = Callable[..., Derivative]  # of inputs, directions and, for differences, a fraction of the step


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
    f and vjp get copies of all arrays, and are called twice: what changes its arguments or keeps a state is told. f is
    called right before vjp, for objects that keep what backward needs. Before a gradient is called WRONG, points close
    by are tried, too: a mistake is the same there, while rounding and the jump at a kink are not.

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
    # A stream of its own: the user's inputs may have been drawn with the same seed.
    rng = rng if isinstance(rng, np.random.Generator) else np.random.default_rng([rng, 1961])
    names, given = named(inputs)
    if unknown := set(methods or ()) - {"complex step", "central differences", "adjoint identity"}:
        raise ValueError(f"methods has {min(unknown)!r}, expected some of {', '.join(list(TOLERANCES)[:3])}")
    subject = Subject(f, vjp, names, given)
    upstream = upstream_of(subject.values, rng)
    gradients = subject.judged(given, upstream)
    if subject.unfit:
        return Report((), (), tuple(subject.remarks), tuple(subject.undecided))

    subject.warnings = {"all": "ignore"}  # from here on f is called where nobody has asked for it
    trial = Trial(subject, given, upstream, gradients, methods, rng)
    alternatives = {
        name: checked(names, given, other(Arrays.of(trial.inputs, names), trial.upstream))
        for name, other in (others or {}).items()
    }
    narrowest = max((rounding(g) for g in gradients if g is not None), default=0.0)

    def limit(name: str) -> float:
        return tolerance or max(TOLERANCES.get(name, TOLERANCES["complex step"]), 100 * narrowest)

    findings, looks = [], dict[str, list[str]]()
    for k, (name, g) in enumerate(zip(names, gradients)):
        if g is None or g.size == 0 or not differentiable(given[k]):
            continue
        chosen = np.arange(g.size) if g.size <= max_entries else rng.choice(g.size, max_entries, replace=False)
        for m in methods or (next(iter(trial.jvps)), "adjoint identity"):
            if m == "adjoint identity":
                findings.append(trial.adjoint(k, limit(m), rng))
            elif m in trial.jvps:
                finding, numeric = trial.entries(m, k, limit(m), chosen, loose=tolerance is None)
                findings.append(finding)
                if finding.verdict == "WRONG" and len(chosen) == g.size:
                    sizes = [n for a in (*given, *subject.values) for n in a.shape]
                    for said in causes(g, numeric.reshape(g.shape), max(1e-6, 10 * finding.limit), sizes):
                        looks.setdefault(said, [])
                        if name not in looks[said]:
                            looks[said].append(name)
        for m, others_gradients in alternatives.items():
            if (other := others_gradients[k]) is not None:
                numbers = Numbers(other.reshape(-1), np.full(g.size, trial.jitter[k]), 0.0)
                findings.append(worst_entry(m, name, limit(m), g, np.arange(g.size), numbers))
    remarks = [*subject.remarks, *hints(dict(zip(names, given)))]
    if any(f.verdict == "WRONG" for f in findings):
        reasons = []
        if vjp is not None and _may_be_recurrent(given, subject.values):
            call = "numpy_rnn.verify.zoo.diagnose_layer(cell, f, vjp, inputs)"
            cells = "rnn, rnn_relu, lstm, gru or gru_reset_before"
            remarks.append(f"for a recurrent layer, {call} names the slip; cell is {cells}")
    else:
        reasons = [*subject.undecided, *([] if all(f.ok for f in findings) else [trial.why_not_decided(findings)])]
    subject(*given)  # an object that keeps what it computed last keeps no complex numbers
    seen = tuple(Cause(tuple(of), what) for what, of in looks.items())
    return Report(tuple(findings), trial.skipped, tuple(remarks), tuple(reasons), seen)


def _may_be_recurrent(given: Sequence[Array], outputs: Sequence[Array]) -> bool:
    """Whether inputs and outputs have steps, and there are two weights or more."""
    steps = any(x.ndim in (2, 3) and len(x) > 1 and x.shape[:-1] == y.shape[:-1] for x in given for y in outputs)
    return steps and sum(x.ndim == 2 for x in given) >= 2


class Numbers(NamedTuple):
    """Entries of a gradient as a method has them, by which nothing is called wrong that they cannot show."""

    values: Array
    doubt: Array  # how far each may be off
    floor: float  # what is too small to matter, as an entry of this gradient


class Trial:
    """A gradient at one point, the methods that apply there, and what else is needed to judge them."""

    def __init__(
        self,
        subject: Subject,
        given: Sequence[Array],
        upstream: Sequence[Array],
        gradients: Sequence[Array | None],
        methods: Sequence[str] | None,
        rng: np.random.Generator,
    ) -> None:
        self.subject, self.gradients = subject, gradients
        self.inputs, self.upstream = tuple(map(wide, given)), tuple(map(wide, upstream))
        wanted = [m for m in (methods or ()) if m != "adjoint identity"]
        self.jvps, self.skipped = applicable(subject, self.inputs, rng, wanted)
        outputs = [y for y in subject(*self.inputs) if differentiable(y)]
        # Where f computes in float32, so does the gradient, and 1 - h² of an h near 1 has lost some digits more.
        self.coarse = max((400 * rounding(y) for y in outputs if y.dtype in (np.float32, np.float16)), default=0.0)
        self.uneven = ""  # a gradient's name, if it jumps here
        self._look_nearby(given, upstream, rng)

    def _look_nearby(self, given: Sequence[Array], upstream: Sequence[Array], rng: np.random.Generator) -> None:
        """Gradients at nine points around: there a mistake stays what it is, and only rounding or a kink changes."""
        step = [_small_step(x, rng) if differentiable(x) else None for x in given]
        points = [
            [x if v is None else (wide(x) + n * v).astype(x.dtype) for x, v in zip(given, step)] for n in range(-4, 5)
        ]
        self.nearby = [(tuple(map(wide, point)), self.subject.gradients(point, upstream)) for point in points]
        self.jitter = [
            10 * jitter_of([wide(g) for g in of_one if g is not None], 0.9)
            for of_one in zip(*(gradients for _, gradients in self.nearby))
        ]

    def entries(
        self, method: str, k: int, tolerance: float, chosen: Array, loose: bool = True
    ) -> tuple[Finding, Array]:
        """The worst of some entries of the gradient by input k, and those that a method has instead."""
        gradient, name = self._gradient(k), self.subject.names[k]
        jvp = self.jvps[method]
        values, doubt, size = entries(lambda v: jvp(self.inputs, v), self.inputs, k, self.upstream, chosen)
        size_of_all = largest(values[np.isfinite(values)])
        doubt = np.maximum(doubt + self.jitter[k], self.coarse * size_of_all)
        if loose:  # what cancels leaves its rounding behind
            tolerance = max(tolerance, 20 * rounding(gradient) * size / (size_of_all or 1.0))
        floor, settled = self._floor(k), set[tuple[int, ...]]()
        for _ in range(60):
            numbers = Numbers(values, doubt + 10 * EPS * size, floor)
            finding = worst_entry(method, name, tolerance, gradient, chosen, numbers)
            accused = finding.verdict == "WRONG" and np.isfinite(finding.gradient)
            if not accused and (np.isfinite(finding.numeric) or finding.where in settled):
                break
            here = int(np.flatnonzero(chosen == np.ravel_multi_index(finding.where, gradient.shape))[0])
            if method == "central differences" and finding.where not in settled:
                settled.add(finding.where)
                v = _unit(gradient.shape, finding.where)
                values[here], doubt[here] = self._second_look(k, v, finding.gradient, values[here], doubt[here])
                continue
            if not accused:
                break
            apart = abs(finding.gradient - finding.numeric)
            noise, least = self._unsure(jvp, k, _unit(gradient.shape, finding.where))
            if not max(noise, least) >= apart:
                break
            self.uneven = f"{name}{list(finding.where)}"
            doubt = np.maximum(doubt, max(noise, least))
            if noise >= apart:  # all of it is rounding
                floor = 1e-7 * self._natural_size(k)
        return finding, values

    def _second_look(self, k: int, v: Array, hand: float, value: float, doubt: float) -> tuple[float, float]:
        """A derivative by differences, and how far it may be off, after a look with smaller and smaller steps.

        If the method had no number, it is the most certain of them. If two of them in a row bear out what the
        hand-written gradient has, the differences depend on the step: nothing is decided.
        """
        directions: list[Array | None] = [None] * len(self.inputs)
        directions[k] = v
        apart, best, borne_out = abs(hand - value), (value, np.inf), 0
        for fraction in 10.0 ** -np.arange(1, 9):
            Jv = self.jvps["central differences"](self.inputs, directions, fraction)
            other, its_doubt = inner(self.upstream, Jv.values), _doubt(self.upstream, Jv)
            borne_out = borne_out + 1 if abs(other - hand) <= apart / 10 else 0
            if borne_out == 2:
                return value, 2 * apart
            if np.isfinite(other) and its_doubt < best[1]:
                best = (other, its_doubt)
        return (value, doubt) if np.isfinite(value) else best

    def _floor(self, k: int) -> float:
        """What is too small to matter: of a gradient that is all noise, an entry much below what it might have been."""
        return 1e-7 * self._natural_size(k) if 0 < largest(self._gradient(k)) <= self.jitter[k] else 0.0

    def _unsure(self, jvp: Differentiate, k: int, v: Array) -> tuple[float, float]:
        """How far hand and method may be apart along v by noise, as measured close by, and by rounding that stays."""
        rounded = max(100 * EPS, 4 * rounding(self._gradient(k))) * self._natural_size(k)
        return 10 * self._jitter_of_difference(jvp, k, v), max(rounded, UNDERFLOW) * float(np.sqrt(np.sum(v * v)))

    def adjoint(self, k: int, tolerance: float, rng: np.random.Generator) -> Finding:
        """Compare ⟨Jᵀu, v⟩ with ⟨u, J v⟩ for a random v in input k."""
        gradient, name = self._gradient(k), self.subject.names[k]
        jvp = next(iter(self.jvps.values()))
        v = rng.standard_normal(gradient.shape)
        directions: list[Array | None] = [None] * len(self.inputs)
        directions[k] = v
        Jv = jvp(self.inputs, directions)
        floor = self._floor(k) * float(np.sqrt(gradient.size))
        finding = adjoint(name, Jv, self.upstream, gradient, v, tolerance, floor)
        noise = 4 * np.sqrt(gradient.size) * self.jitter[k]
        apart = abs(finding.gradient - finding.numeric)
        if noise and apart:
            finding = finding._replace(doubt=finding.doubt + noise * finding.error / apart)
        if "complex step" not in self.jvps and finding.verdict == "WRONG" and apart:
            _, doubt = self._second_look(k, v, finding.gradient, finding.numeric, 0.0)
            finding = finding._replace(doubt=max(finding.doubt, doubt * finding.error / apart))
        if finding.verdict == "WRONG" and np.isfinite(finding.gradient):
            noise, least = self._unsure(jvp, k, v)
            if max(noise, least) >= apart:
                self.uneven = self.uneven or name
                floor = 1e-7 * self._natural_size(k) * np.sqrt(gradient.size) if noise >= apart else floor
                finding = adjoint(name, Jv, self.upstream, gradient, v, tolerance, floor)
                finding = finding._replace(doubt=max(noise, least) * finding.error / apart)
        return finding

    def _gradient(self, k: int) -> Array:
        gradient = self.gradients[k]
        assert gradient is not None
        return gradient

    def _jitter_of_difference(self, jvp: Differentiate, k: int, v: Array) -> float:
        """How much the difference between the two derivatives along v in input k jitters from point to point."""
        directions: list[Array | None] = [None] * len(self.inputs)
        directions[k] = v
        apart = [
            inner([wide(g)], [v]) - inner(self.upstream, jvp(point, directions).values)
            for point, gradients in self.nearby
            if (g := gradients[k]) is not None
        ]
        return jitter_of([np.array(d) for d in apart], 1.0)

    def _natural_size(self, k: int) -> float:
        """What an entry of the gradient by input k is like if nothing is saturated and nothing cancels."""
        outputs = zip(self.upstream, self.subject.values)
        weighed = sum(float(np.sum(np.abs(u * y))) for u, y in outputs if differentiable(y))
        return weighed / min(largest(self.inputs[k]) or 1.0, 1.0)

    def why_not_decided(self, findings: Sequence[Finding]) -> str:
        """The reason, and the words that decide it."""
        doubt = max(f.doubt for f in findings)
        if any(not np.isfinite(f.numeric) for f in findings):
            return "f is not finite at these inputs or near them"
        outputs = [y for y in self.subject(*self.inputs) if differentiable(y)]
        if any(y.dtype in (np.float32, np.float16) for y in outputs):
            return (
                f"f computes in float32 or float16: the gradients agree to {doubt:.0e}, as far as its digits go; "
                "let it compute in float64, or give a tolerance"
            )
        jitter, nearer = self._noise(1e-5), self._noise(1e-6)
        if self.uneven or jitter > max(1e-9, 5 * nearer):
            return (
                f"the gradient jumps here{self.uneven and f', at {self.uneven}'}, as relu's does at 0, or all of it is "
                "rounding: move the inputs a little, x + 0.01 * rng.standard_normal(x.shape)"
            )
        if jitter > 1e-12:
            return (
                f"the gradients agree to {doubt:.0e}: f's values jitter by {jitter:.0e} (does it compute in float32, "
                "or round?); let it compute in float64, or give a tolerance"
            )
        if any(g is not None and j > DECIDES * largest(wide(g)) for g, j in zip(self.gradients, self.jitter)):
            return f"the gradient itself is computed to {doubt:.0e} only (in float32?): let it compute in float64"
        return f"the gradients agree to {doubt:.0e}, which is all that differences of this f show: is it smooth here?"

    def _noise(self, distance: float) -> float:
        """How much f jitters over so small a distance, relative to its values."""
        rng = np.random.default_rng(0)
        directions = [rng.standard_normal(x.shape) if differentiable(x) else None for x in self.inputs]
        noise = noise_of(self.subject, self.inputs, directions, distance)
        return max((e / (largest(y) or 1.0) for e, y in zip(noise, self.subject.values)), default=0.0)


def _small_step(x: Array, rng: np.random.Generator) -> Array:
    """A step of 1e-7 of each number; of an input in float32, one that its numbers can take without rounding."""
    drawn = 1e-7 * own_size(x) * rng.standard_normal(x.shape)
    if rounding(x) <= EPS:
        return drawn
    grain = np.abs(np.spacing(x)).astype(float)
    return np.where(x == 0, drawn, np.round(drawn / grain) * grain)


def _unit(shape: tuple[int, ...], where: tuple[int, ...]) -> Array:
    found = np.zeros(shape)
    found[where] = 1
    return found


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


def entries(
    jvp: JVP, inputs: Sequence[Array], k: int, upstream: Sequence[Array], chosen: Array
) -> tuple[Array, Array, float]:
    """Entries of the gradient of Σ upstream ∘ f by input k, by their flat indices, and how far each may be off.

    The last number is the largest sum of absolute values that an entry is made of, before they cancel.
    """
    directions: list[Array | None] = [None] * len(inputs)
    found, doubt, size = np.empty(len(chosen)), np.empty(len(chosen)), 0.0
    for n, flat in enumerate(chosen):
        direction = np.zeros(inputs[k].size)
        direction[flat] = 1
        directions[k] = direction.reshape(inputs[k].shape)
        Jv = jvp(directions)
        found[n], doubt[n] = inner(upstream, Jv.values), _doubt(upstream, Jv)
        size = max(size, inner(list(map(np.abs, upstream)), list(map(np.abs, Jv.values))))
    return found, doubt, size


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
    found, _, _ = entries(lambda directions: of(f, inputs, directions), inputs, k, upstream, np.arange(inputs[k].size))
    return found.reshape(inputs[k].shape)


def applicable(
    f: Function, inputs: Sequence[Array], rng: np.random.Generator, wanted: Sequence[str] = ()
) -> tuple[dict[str, Differentiate], tuple[str, ...]]:
    """The methods that differentiate f, the best one first, and why another one is not used.

    Central differences are only among them if they are wanted, or the complex step does not apply.
    """
    directions = [rng.standard_normal(x.shape) if differentiable(x) else None for x in inputs]
    noise = noise_of(f, inputs, directions)
    outputs = as_tuple(f(*inputs))
    # A step at which rounding and the error of the series weigh alike: 0.01 in float64, 0.1 in float32.
    jitter = max((e / (largest(y) or 1.0) for e, y in zip(noise, outputs)), default=0.0)
    step = float(np.clip(jitter**0.125, 1e-2, 0.25))
    lengths = [1.0 if v is None else length_of(f, inputs, k, step, noise, v) for k, v in enumerate(directions)]

    def differences(inputs: Sequence[Array], directions: Sequence[Array | None], fraction: float = 1.0) -> Derivative:
        length = min((l for l, v in zip(lengths, directions) if v is not None), default=1.0)
        return central_differences(f, inputs, directions, step * length * fraction, noise=noise)

    def complex_steps(inputs: Sequence[Array], directions: Sequence[Array | None], fraction: float = 1.0) -> Derivative:
        return complex_step(f, inputs, directions)

    reason = ""
    try:
        exact = complex_steps(inputs, directions)
    except Exception as error:  # whatever somebody's code raises when it gets complex numbers
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = f"complex step, since f does not take complex numbers ({said})"
        if "Casting complex" in said or ("complex" in said.lower() and "float" in said.lower()):
            reason += "; a buffer takes them if it is made as np.zeros(shape, np.result_type(x, W))"
    else:
        far = central_differences(f, inputs, directions, step)
        directions = [None if v is None else l * v for l, v in zip(lengths, directions)]
        exact = complex_steps(inputs, directions)
        if not any(map(np.any, exact.values)) and any(map(np.any, far.values)):
            reason = "complex step, since f lets no small number through (does it round?)"
        elif not _borne_out(exact, (central_differences(f, inputs, directions, step * s) for s in SCALES)):
            reason = "complex step, since f is not analytic (it may use abs or a conjugate)"
    found: dict[str, Differentiate] = {} if reason else {"complex step": complex_steps}
    if reason or "central differences" in wanted:
        found["central differences"] = differences
    return found, (reason,) if reason else ()


SCALES = (1.0, 1e-2, 1e-4, 1e-6, 1e-8)


def _borne_out(exact: Derivative, differences: Iterable[Derivative]) -> bool:
    """Whether differences agree at some scale, or can nowhere tell.

    An f that is not analytic has other differences at every scale; one that varies fast, only at large ones.
    """
    told = []
    for rough in differences:
        told.append(_agree(exact, rough))
        if told[-1]:
            return True
    return False not in told


def _agree(exact: Derivative, rough: Derivative) -> bool | None:
    """Whether differences bear out the complex step in most outputs; None where they cannot tell."""
    found: list[Array] = []
    both = [d[np.isfinite(d)] for d in (*exact.values, *rough.values)]
    scale = max(map(largest, both), default=0.0)
    for a, b, doubt in zip(exact.values, rough.values, rough.doubt):
        tells = np.isfinite(b) & (b != 0) & (doubt <= 1e-2 * scale)  # f may be flat between numbers that are rounded
        found.append((np.abs(a - b) <= 1e-3 * scale + 4 * doubt)[tells])
    agree = np.concatenate(found) if found else np.empty(0)
    return bool(np.mean(agree) > 0.9) if agree.size else None


def worst_entry(method: str, name: str, tolerance: float, gradient: Array, chosen: Array, right: Numbers) -> Finding:
    """Compare chosen entries of a gradient, by their flat indices, with what a method says of them.

    The worst entry is the one that is furthest beyond what it may be off by.
    """
    numeric, got = right.values, gradient.reshape(-1)[chosen]
    scale = max(largest(numeric[np.isfinite(numeric)]), right.floor, float(np.finfo(float).tiny))
    doubts = np.where(np.isfinite(numeric), right.doubt / scale, np.inf)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(got - numeric)
        beyond = np.where(np.isinf(doubts), 0, apart / scale / np.maximum(tolerance, doubts))
    worst = int(np.argmax(beyond))  # the first NaN, if there is one
    if beyond[worst] <= 1 and np.isinf(doubts).any():
        worst = int(np.argmax(doubts))
    if not apart.any():
        doubts = np.zeros_like(doubts)  # exactly the same numbers, as of an input that f does not use
    where = tuple(int(i) for i in np.unravel_index(chosen[worst], gradient.shape))
    with np.errstate(over="ignore"):
        error = float(apart[worst] / scale)
    return Finding(
        method, name, error, tolerance, where, float(gradient[where]), float(numeric[worst]), float(doubts[worst])
    )


def adjoint(
    name: str,
    Jv: Derivative,
    upstream: Sequence[Array],
    gradient: Array,
    v: Array,
    tolerance: float,
    floor: float = 0.0,
) -> Finding:
    """Compare ⟨Jᵀu, v⟩ with ⟨u, J v⟩, relative to the product of the norms or to what is too small to matter."""
    left, right = inner([gradient], [v]), inner(upstream, Jv.values)
    norms = np.sqrt(inner(upstream, upstream) * inner(Jv.values, Jv.values))
    scale = max(float(norms + np.linalg.norm(gradient) * np.linalg.norm(v)), floor, float(np.finfo(float).tiny))
    error = abs(left - right) / scale
    doubt = _doubt(upstream, Jv) / scale if error else 0.0
    return Finding("adjoint identity", name, error, tolerance, (), left, right, doubt)
