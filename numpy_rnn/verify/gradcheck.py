"""Checks of gradients that somebody wrote by hand: this project's, or those of any function of arrays.

Independent ways to the same numbers, each of which can be wrong only in its own way::

    complex step          f(θ + iεv) = f(θ) + iε J v + O(ε²), so with ε = 1e-30 the imaginary part over ε is J v to the
                          last place: no difference is taken, nothing cancels. Needs an f that takes complex numbers
                          and is analytic (no abs, no conjugate). W. Squire, G. Trapp, SIAM Review 40 (1998).
    central differences   (f(θ + hv) - f(θ - hv)) / 2h for falling h, extrapolated to h = 0 (L. F. Richardson, Phil.
                          Trans. A 210, 1911). For code that cannot take complex numbers.
    adjoint identity      ⟨u, J v⟩ = ⟨Jᵀu, v⟩ for random u and v: one number that every entry of a gradient enters.
    forward in time       real-time recurrent learning, for cells: `numpy_rnn.verify.rtrl`.

`gradcheck` runs what applies and names the worst entry. Second derivatives: `hessian_vector_product`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..fast.cell import Cell, States
from ..fast.numerics import Array
from ..layers.recurrent import Recurrent
from . import rtrl

Function = Callable[..., Any]  # of arrays; returns an array or a sequence of arrays
VJP = Callable[[tuple[Array, ...], tuple[Array, ...]], Sequence[Array | None]]

STEP = 1e-30  # of the complex step: its square vanishes beside 1 in every dtype

# Largest error that a correct float64 gradient may show, relative to the largest entry of its tensor (for the adjoint
# identity: relative to the product of the norms). About a hundred times what is measured on the cells at T ≤ 200.
# A gradient in a narrower dtype may be off by a hundred times that dtype's own rounding.
TOLERANCES = {
    "complex step": 1e-13,
    "central differences": 1e-9,
    "adjoint identity": 1e-14,
    "forward in time": 1e-13,
}


class Finding(NamedTuple):
    """What one method says of the gradient by one input."""

    method: str
    name: str
    error: float  # relative, of the worst entry
    tolerance: float
    where: tuple[int, ...]  # the worst entry is; () for the adjoint identity
    gradient: float  # as the hand-written code has it, there
    numeric: float  # as the method has it, there

    @property
    def ok(self) -> bool:
        """Whether the two agree; a NaN never does."""
        return self.error <= self.tolerance

    def __str__(self) -> str:
        where = f"[{', '.join(map(str, self.where))}]" if self.where else ""
        verdict = "agrees" if self.ok else f"WRONG, {self.error / self.tolerance:.1e} times the tolerance"
        return (
            f"{self.name}{where}: {self.gradient:.12g} by hand, {self.numeric:.12g} by {self.method}; "
            f"error {self.error:.1e}, tolerance {self.tolerance:.0e}: {verdict}"
        )


class Report(NamedTuple):
    """What `gradcheck` found, one finding for each method and input."""

    findings: tuple[Finding, ...]
    skipped: tuple[str, ...]  # methods that do not apply, and why

    @property
    def ok(self) -> bool:
        """Whether all methods agree with all gradients."""
        return all(f.ok for f in self.findings)

    @property
    def worst(self) -> Finding:
        """The finding that is furthest beyond its tolerance, or nearest to it; a NaN is beyond all.

        Where something is wrong, one that names an entry comes before one that names a tensor only.
        """
        return max(self.findings, key=lambda f: (not f.ok, bool(f.where), np.isnan(f.error), f.error / f.tolerance))

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        lines = [f"{'correct' if self.ok else 'WRONG'}; worst: {self.worst}"]
        lines += [str(f) for f in self.findings if not f.ok and f is not self.worst]
        return "\n".join(lines + [f"skipped: {reason}" for reason in self.skipped])


def jvp_complex_step(f: Function, inputs: Sequence[Array], directions: Sequence[Array | None]) -> tuple[Array, ...]:
    """Directional derivative J v by a complex step.

    Parameters
    ----------
    f : function of arrays
        Analytic; returns an array or a sequence of arrays.
    inputs : arrays
    directions : arrays, shapes of inputs, or None for zero

    Returns
    -------
    tuple of arrays
        One for each output of f.

    Raises
    ------
    TypeError
        If f does not take complex numbers or drops their imaginary part.

    Examples
    --------
    >>> (d,) = jvp_complex_step(np.sin, [np.array([1.0])], [np.array([1.0])])
    >>> d[0].item(), np.cos(1.0).item()
    (0.5403023058681398, 0.5403023058681398)
    """
    moved = [x if v is None else x + 1j * STEP * v for x, v in zip(inputs, directions)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        try:
            outputs = as_tuple(f(*moved))
        except np.exceptions.ComplexWarning as warning:
            raise TypeError(str(warning)) from None
    if not any(np.iscomplexobj(y) for y in outputs):
        raise TypeError("the function returns real numbers for complex ones")
    return tuple(y.imag / STEP for y in outputs)


def jvp_central_differences(
    f: Function,
    inputs: Sequence[Array],
    directions: Sequence[Array | None],
    first_step: float = 1e-2,
    levels: int = 5,
) -> tuple[Array, ...]:
    """Directional derivative J v by central differences with Richardson extrapolation.

    The error of a central difference is a series in h²: with the steps h, h/2, h/4 … each further level removes one
    more term. For each entry the place in the table is taken where neighbours are closest. Where they are not close,
    a kink (relu has one) lies within reach of h, and the entry is computed again with a smaller one.

    Parameters
    ----------
    f : function of arrays
        Smooth, or smooth but for kinks; returns an array or a sequence of arrays.
    inputs : arrays
    directions : arrays, shapes of inputs, or None for zero
    first_step : float
        h of the coarsest level.
    levels : int

    Returns
    -------
    tuple of arrays
        One for each output of f.

    Examples
    --------
    >>> (d,) = jvp_central_differences(np.sin, [np.array([1.0])], [np.array([1.0])])
    >>> bool(abs(d[0] - np.cos(1.0)) < 1e-11)
    True
    """
    found, spread = extrapolated(f, inputs, directions, first_step, levels)
    scale = max((float(np.max(np.abs(d))) for d in found if d.size), default=0.0)
    if levels > 1 and first_step > 1e-5 and any((s > 1e-8 * scale).any() for s in spread):
        finer, finer_spread = extrapolated(f, inputs, directions, first_step / 100, levels)
        found = [np.where(b < a, y, x) for x, y, a, b in zip(found, finer, spread, finer_spread)]
    return tuple(found)


def extrapolated(
    f: Function, inputs: Sequence[Array], directions: Sequence[Array | None], first_step: float, levels: int
) -> tuple[list[Array], list[Array]]:
    """Richardson's table for J v: of each output the best entries, and how far their neighbours are from them."""

    def difference(h: float) -> tuple[Array, ...]:
        sides = (as_tuple(f(*(x if v is None else x + s * h * v for x, v in zip(inputs, directions)))) for s in (1, -1))
        return tuple((above - below) / (2 * h) for above, below in zip(*sides))

    rows = [[d] for d in difference(first_step)]
    best = [np.array(row[0]) for row in rows]
    spread = [np.full(d.shape, np.inf) for d in best]
    for level in range(1, levels):
        for k, d in enumerate(difference(first_step / 2**level)):
            row = [d]
            for m, coarser in enumerate(rows[k], start=1):
                row.append(row[-1] + (row[-1] - coarser) / (4**m - 1))
                apart = np.maximum(np.abs(row[-1] - row[-2]), np.abs(row[-1] - coarser))
                best[k] = np.where(apart < spread[k], row[-1], best[k])
                spread[k] = np.minimum(spread[k], apart)
            rows[k] = row
    return best, spread


JVPS = {"complex step": jvp_complex_step, "central differences": jvp_central_differences}


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
    entries = numeric_entries(f, inputs, k, upstream, method, np.arange(inputs[k].size))
    return entries.reshape(inputs[k].shape)


def numeric_entries(
    f: Function, inputs: Sequence[Array], k: int, upstream: Sequence[Array], method: str, chosen: Array
) -> Array:
    """Some entries, by their flat indices, of what `numeric_gradient` returns."""
    directions: list[Array | None] = [None] * len(inputs)
    result = np.empty(len(chosen))
    for n, flat in enumerate(chosen):
        direction = np.zeros(inputs[k].size)
        direction[flat] = 1
        directions[k] = direction.reshape(inputs[k].shape)
        result[n] = inner(upstream, JVPS[method](f, inputs, directions))
    return result


class Problem(NamedTuple):
    """What `gradcheck` takes: `gradcheck(*problem)`. `of_cell` and `of_layer` make it of this project's own."""

    f: Function
    vjp: VJP
    inputs: Mapping[str, Array]
    others: Mapping[str, VJP]


def gradcheck(
    f: Function,
    vjp: VJP,
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
    outputs: with all ones, whole classes of mistakes do not show.

    Parameters
    ----------
    f : function of arrays
        `f(*inputs)` returns an array or a sequence of arrays. Called with complex arrays where that works.
    vjp : function
        The gradient under test: vjp(inputs, upstream), two tuples of arrays, returns for every input the gradient
        of Σ upstream ∘ f by it, or None where there is none (integer inputs, say).
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
        True or false as a whole; as a string, what is wrong where.

    Raises
    ------
    ValueError
        If vjp returns another number of gradients, or one of another shape, than there are inputs.

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
    upstream = tuple(rng.standard_normal(y.shape).astype(y.dtype) for y in as_tuple(f(*given)))
    gradients = checked(names, given, vjp(given, upstream))
    inputs, upstream = wide(given), wide(upstream)
    method, skipped = applicable(f, inputs, rng)
    rounding = max(float(np.finfo(g.dtype).eps) for g in gradients if g is not None)

    def limit(name: str) -> float:
        return tolerance or max(TOLERANCES.get(name, TOLERANCES["complex step"]), 100 * rounding)

    findings = []
    alternatives = {name: checked(names, inputs, other(inputs, upstream)) for name, other in (others or {}).items()}
    for k, (name, g) in enumerate(zip(names, gradients)):
        if g is None or g.size == 0:
            continue
        chosen = np.arange(g.size) if g.size <= max_entries else rng.choice(g.size, max_entries, replace=False)
        for m in methods or (method, "adjoint identity"):
            if m == "adjoint identity":
                findings.append(adjoint(f, inputs, k, upstream, g, JVPS[method], name, limit(m), rng))
            else:
                numeric = numeric_entries(f, inputs, k, upstream, m, chosen)
                findings.append(worst_entry(m, name, limit(m), g, chosen, numeric))
        for m, others_gradients in alternatives.items():
            if (other := others_gradients[k]) is not None:
                findings.append(worst_entry(m, name, limit(m), g, np.arange(g.size), other.reshape(-1)))
    return Report(tuple(findings), skipped)


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


def hessian_vector_product(
    gradient: Callable[..., Any], inputs: Sequence[Array], directions: Sequence[Array | None]
) -> tuple[Array, ...]:
    """Second derivatives, by a complex step *through* a hand-written gradient: exact to the last place.

    Parameters
    ----------
    gradient : function of arrays
        `gradient(*inputs)` returns the gradients of a scalar by the inputs, in their order; analytic. With a loss on
        top of a network, the loss's gradient must be computed inside, from the outputs of the (complex) forward.
    inputs : arrays
    directions : arrays, shapes of inputs, or None for zero
        v.

    Returns
    -------
    tuple of arrays, shapes of the gradients
        H v.

    Raises
    ------
    TypeError
        If the gradient does not take complex numbers or drops their imaginary part.

    Examples
    --------
    Of f(x) = Σ x³ the gradient is 3x², and H v = 6 x ∘ v:

    >>> (Hv,) = hessian_vector_product(lambda x: 3 * x**2, [np.array([1.0, 2.0])], [np.array([1.0, 10.0])])
    >>> Hv.tolist()
    [6.0, 120.0]
    """
    return jvp_complex_step(gradient, inputs, directions)


def applicable(f: Function, inputs: Sequence[Array], rng: np.random.Generator) -> tuple[str, tuple[str, ...]]:
    """The better of the two methods that differentiate f, and why the other one is not used."""
    directions = [rng.standard_normal(x.shape) if differentiable(x) else None for x in inputs]
    try:
        exact = jvp_complex_step(f, inputs, directions)
    except TypeError as error:
        return "central differences", (f"complex step, since f does not take complex numbers ({error})",)
    # One small step: a kink, as relu has, is seldom that near.
    rough = jvp_central_differences(f, inputs, directions, first_step=1e-6, levels=1)
    scale = np.sqrt(inner(rough, rough)) + np.finfo(float).tiny
    apart = np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(exact, rough)))
    if not apart <= 1e-3 * scale:
        return "central differences", ("complex step, since f is not analytic (it may use abs or a conjugate)",)
    return "complex step", ()


def worst_entry(method: str, name: str, tolerance: float, gradient: Array, chosen: Array, numeric: Array) -> Finding:
    """Compare chosen entries of a gradient, by their flat indices, with what a method says of them."""
    apart = np.abs(gradient.reshape(-1)[chosen] - numeric)
    worst = int(np.argmax(apart))  # the first NaN, if there is one
    largest = max(float(np.max(np.abs(numeric))), float(np.finfo(float).tiny))
    where = tuple(int(i) for i in np.unravel_index(chosen[worst], gradient.shape))
    error = float(apart[worst]) / largest
    return Finding(method, name, error, tolerance, where, float(gradient[where]), float(numeric[worst]))


def adjoint(
    f: Function,
    inputs: Sequence[Array],
    k: int,
    upstream: Sequence[Array],
    gradient: Array,
    jvp: Callable[..., tuple[Array, ...]],
    name: str,
    tolerance: float,
    rng: np.random.Generator,
) -> Finding:
    """Compare ⟨Jᵀu, v⟩ with ⟨u, J v⟩ for a random v in input k, relative to the product of the norms."""
    directions: list[Array | None] = [None] * len(inputs)
    v = directions[k] = rng.standard_normal(gradient.shape)
    Jv = jvp(f, inputs, directions)
    left, right = inner([gradient], [v]), inner(upstream, Jv)
    norms = np.sqrt(inner(upstream, upstream) * inner(Jv, Jv)) + np.linalg.norm(gradient) * np.linalg.norm(v)
    error = abs(left - right) / max(float(norms), float(np.finfo(float).tiny))
    return Finding("adjoint identity", name, error, tolerance, (), left, right)


def inner(a: Sequence[Array], b: Sequence[Array]) -> float:
    """⟨a, b⟩, summed over all arrays."""
    return float(sum(np.sum(x * y) for x, y in zip(a, b)))


def as_tuple(outputs: Any) -> tuple[Array, ...]:
    """What a function returned, one array or several, as a tuple of arrays."""
    return tuple(map(np.asarray, outputs)) if isinstance(outputs, (tuple, list)) else (np.asarray(outputs),)


def wide(arrays: Sequence[Array]) -> tuple[Array, ...]:
    """The arrays in float64, those of integers as they are."""
    return tuple(a.astype(np.float64) if differentiable(a) else a for a in arrays)


def differentiable(x: Array) -> bool:
    """Whether it makes sense to differentiate by `x`."""
    return bool(np.issubdtype(x.dtype, np.floating))


def named(inputs: Mapping[str, Array] | Sequence[Array]) -> tuple[list[str], tuple[Array, ...]]:
    """Names and values of inputs that may come without names."""
    if isinstance(inputs, Mapping):
        return list(inputs), tuple(map(np.asarray, inputs.values()))
    return [f"input {k}" for k in range(len(inputs))], tuple(map(np.asarray, inputs))


def checked(names: Sequence[str], inputs: Sequence[Array], gradients: Sequence[Array | None]) -> list[Array | None]:
    """The gradients, if there is one of the right shape (or None) for each input."""
    if len(gradients) != len(inputs):
        raise ValueError(f"vjp returned {len(gradients)} gradients, expected {len(inputs)}, one for each input")
    found = [None if g is None else np.asarray(g) for g in gradients]
    for name, x, g in zip(names, inputs, found):
        if g is not None and g.shape != x.shape:
            raise ValueError(f"the gradient of {name} has shape {g.shape}, expected {x.shape}, that of {name}")
    return found
