"""From somebody's own layer, in its own layout, to a diagnosis: one call with what `gradcheck` gets."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ...fast.numerics import Array
from ...fast.registry import CELLS, cell_name
from ..case import Case
from ..derivatives import differentiable
from ..subject import VJP, Subject
from .diagnosis import Diagnosis, diagnose

KIN = {
    "rnn_tanh": ("rnn_relu",),
    "rnn_relu": ("rnn_tanh",),
    "gru": ("gru", "gru_reset_before"),
    "gru_reset_before": ("gru_reset_before", "gru"),
}
ORDERS = {"rnn": "a", "lstm": "ifgo", "gru": "rzn"}  # torch's
OTHER_LETTERS = {"lstm": {"c": "g"}, "gru": {"h": "n", "c": "n", "u": "z"}}
# How people call things, without underscores and in lower case.
USUAL = {
    "x": "x xs inputs input",
    "h_0": "h0 h hprev hinit hinitial h0l0",
    "c_0": "c0 c cprev cinit cinitial",
    "W_ih": "wih wx wxh wi u kernel weightih weightihl0 i2hweight",
    "W_hh": "whh wh wr recurrentkernel weighthh weighthhl0 h2hweight",
    "W": "w weights weight wxhh whx",
    "b": "b bias bh",
    "b_ih": "bih bi bx biasih biasihl0 i2hbias",
    "b_hh": "bhh biashh biashhl0 h2hbias",
}


class Layout(NamedTuple):
    """How somebody's arrays hold the parameters of a layer.

    Parameters
    ----------
    gates : str
        Their order, such as "fgio"; torch's by default. c stands for the LSTM's g, h or c for the GRU's n, u for its z.
    fused : "", "[h,x]" or "[x,h]"
        Whether one array W multiplies both, and in which order they stand.
    transposed : bool, optional
        Whether weights are (inputs, gates), as for x @ W, not (gates, inputs), as for W @ x; by default as shapes tell.
    batch_first : bool
        Whether x and the output are (B, T, ·), not (T, B, ·). Features are last in any case.
    z_weighs_candidate : bool
        Whether a GRU's z weighs the candidate and 1 - z the old state, not the other way round.

    Examples
    --------
    >>> Layout(gates="fgio", fused="[h,x]").gates
    'fgio'
    """

    gates: str = ""
    fused: str = ""
    transposed: bool | None = None
    batch_first: bool = False
    z_weighs_candidate: bool = False


class _Sizes(NamedTuple):
    G: int
    I: int
    H: int


def diagnose_layer(
    cell: str,
    f: Any,
    vjp: VJP | None,
    inputs: Mapping[str, Any],
    *,
    layout: Layout | None = None,
    names: Mapping[str, str] | None = None,
    rng: int = 0,
    **options: Any,
) -> Diagnosis:
    """Name the mistake in a layer of one's own, with the arguments that `gradcheck` gets.

    Parameters
    ----------
    cell : str
        A name of the registry, such as "lstm"; "rnn" is tanh.
    f : function of arrays
        Returns the states of all steps, (T, B, H) or (T, H), or (B, T, H) if the layout says so; then h_n and c_n, if
        it has them to return.
    vjp : function
        vjp(inputs, upstream), as for `gradcheck`.
    inputs : mapping of str to array
        x (T, B, I) or (T, I), the parameters, and h_0 and c_0 if the layer has them.
    layout : Layout, optional
        Torch's by default, but for the orientation of weights, which their shapes tell.
    names : mapping of str to str, optional
        Of names in `inputs` that are not the usual ones: what each is, of x, h_0, c_0, W_ih, W_hh, W, b, b_ih, b_hh.
    rng : int
        For the gradients that arrive.
    **options
        As of `diagnose`.

    Raises
    ------
    ValueError
        If a name or a shape does not tell what an input is.

    Examples
    --------
    >>> def forward(x, h0, Wx, Wh, b):
    ...     h = [h0]
    ...     for x_t in x:
    ...         h.append(np.tanh(x_t @ Wx + h[-1] @ Wh + b))
    ...     return np.stack(h[1:])
    >>> def backward(inputs, upstream):
    ...     x, h0, Wx, Wh, b = inputs
    ...     h, dh = [h0, *forward(*inputs)], 0
    ...     dx, dWx, dWh, db = (np.zeros_like(a) for a in (x, Wx, Wh, b))
    ...     for t in reversed(range(len(x))):
    ...         da = (upstream[0][t] + dh) * (1 - h[t + 1] ** 2)
    ...         dx[t], dh = da @ Wx.T, da @ Wh  # Wh.T
    ...         dWx, dWh, db = dWx + x[t].T @ da, dWh + h[t].T @ da, db + da.sum(axis=0)
    ...     return dx, dh, dWx, dWh, db
    >>> rng = np.random.default_rng(1)
    >>> shapes = {"x": (4, 2, 3), "h0": (2, 5), "Wx": (3, 5), "Wh": (5, 5), "b": (5,)}
    >>> inputs = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    >>> diagnose_layer("rnn", forward, backward, inputs).mistakes[0].name
    'W_hh-not-transposed-in-backward'
    """
    name, how = cell_name(cell), layout or Layout()
    if vjp is None:
        raise ValueError(
            "vjp is None, expected a function: of a loss with its gradients, hand over the numbers, "
            "Case.of(..., loss=...)"
        )
    if set(CELLS[name].Params._fields) - {"W_ih", "W_hh", "b_ih", "b_hh"}:
        raise ValueError(
            f"cell is {name!r}, expected one with W_ih, W_hh and biases alone: state a Case.of(...) for it"
        )
    roles = _roles(inputs, names or {})
    given = {role: np.array(inputs[key], float) for key, role in roles.items()}
    sizes = _sizes(name, given)
    if "h_0" in given and given["x"].ndim == 3 and given["h_0"].ndim > 1:
        B, other = given["x"].shape[1 - how.batch_first], given["x"].shape[how.batch_first]
        if given["h_0"].shape[-2] not in (B, 1) and given["h_0"].shape[-2] == other:
            raise ValueError(
                f"x has {B} sequences and h_0 {other}: is x laid out otherwise? Say "
                f"layout=Layout(batch_first={not how.batch_first})"
            )
    # In float64, whatever dtype they come in: the fewer digits, the less can be told.
    values64 = [a.astype(float) if differentiable(a) else a for a in map(np.array, inputs.values())]
    subject = Subject(f, vjp, list(inputs), values64)
    draw = np.random.default_rng([rng, 1986])
    upstream = [draw.standard_normal(y.shape) for y in subject.values]
    judged = subject.judged(values64, upstream)
    gradients = {roles[key]: g for key, g in zip(inputs, judged) if g is not None and key in roles}

    def steps(a: Array) -> Array:
        """An array with an axis of steps as (T, B, ·)."""
        a = a[:, None] if a.ndim == 2 else a
        return a.swapaxes(0, 1) if how.batch_first and given["x"].ndim == 3 else a

    def state(a: Array) -> Array:
        return a.reshape(1, -1, sizes.H)

    def handed_over(name: str, how: Layout) -> tuple[Case, dict[str, Array], dict[str, Array]]:
        """The case, outputs and gradients, taken for those of a cell."""
        values = _parameters(name, given, how, sizes)
        states: dict[str, Any] = {key: state(given[key]) for key in ("h_0", "c_0") if key in given}
        finals = ("h_n", "c_n")[: len(subject.values) - 1]
        arriving: dict[str, Any] = {f"d{key}": state(u) for key, u in zip(finals, upstream[1:])}
        case = Case.of(name, values, steps(given["x"]), doutput=steps(upstream[0]), **states, **arriving)
        outputs = {"output": steps(subject.values[0])} | {k: state(y) for k, y in zip(finals, subject.values[1:])}
        grads = {f"d{key}": g for key, g in _parameters(name, gradients, how, sizes).items()}
        grads |= {f"d{key}": state(gradients[key]) for key in ("h_0", "c_0") if key in gradients}
        return case, outputs, grads | ({"dx": steps(gradients["x"])} if "x" in gradients else {})

    case, outputs, grads = handed_over(name, how)
    if diagnose(case, outputs, pairs=False).agrees:
        return diagnose(case, outputs, grads, **options)
    for kin, turned in itertools.product(KIN.get(name, ()), (False, True)):
        other = how._replace(z_weighs_candidate=how.z_weighs_candidate != turned)
        variant, theirs, its_grads = handed_over(kin, other)
        if (kin, other) != (name, how) and diagnose(variant, theirs, pairs=False).agrees:
            found = diagnose(variant, theirs, its_grads, **options)
            z = f", z weighing the {'candidate' if other.z_weighs_candidate else 'old state'}" if turned else ""
            return found._replace(remark=f"{found.remark} Taken for {kin}{z}, whose outputs these are.".strip())
    return diagnose(case, outputs, grads, **options)


def _roles(inputs: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    """What each input is."""
    usual = {alias: role for role, aliases in USUAL.items() for alias in aliases.split()}
    roles = {key: names.get(key) or usual.get(key.lower().replace("_", "").replace(".", "")) for key in inputs}
    unknown = [key for key, role in roles.items() if role not in USUAL]
    if unknown:
        raise ValueError(
            f"what is the input {unknown[0]!r}? Say it by names={{{unknown[0]!r}: ...}}, one of {', '.join(USUAL)}"
        )
    found = {key: str(role) for key, role in roles.items()}
    twice = next((role for role in USUAL if list(found.values()).count(role) > 1), None)
    if twice:
        both = [key for key, role in found.items() if role == twice]
        raise ValueError(f"{both[0]!r} and {both[1]!r} are both taken for {twice}: say by names={{...}} what each is")
    for needed in ("x", "W" if "W" in found.values() else "W_hh"):
        if needed not in found.values():
            raise ValueError(f"no input is {needed}: say by names={{...}} which one is")
    return found


def _sizes(cell: str, given: Mapping[str, Array]) -> _Sizes:
    G, I = CELLS[cell].gates, given["x"].shape[-1]
    if "W" in given:
        sides = given["W"].shape
        for rows, columns in (sides, sides[::-1]):
            if rows % G == 0 and columns == rows // G + I:
                return _Sizes(G, I, rows // G)
        raise ValueError(f"W has shape {sides}, expected {G}·H and H + {I} in either order; features are last in x")
    sides = given["W_hh"].shape
    for rows, columns in (sides, sides[::-1]):
        if rows == G * columns:
            return _Sizes(G, I, columns)
    raise ValueError(f"W_hh has shape {sides}, expected {G}·H and H in either order")


def _parameters(cell: str, arrays: Mapping[str, Array], how: Layout, sizes: _Sizes) -> dict[str, Array]:
    """W_ih, W_hh and biases, or gradients by them, in torch's layout."""
    G, I, H = sizes
    family = cell.split("_")[0]
    found: dict[str, Array] = {}
    if "W" in arrays:
        if how.fused not in ("[h,x]", "[x,h]"):
            raise ValueError("one array W multiplies h and x: say which comes first, layout=Layout(fused='[h,x]')")
        W = _upright("W", arrays["W"], (G * H, H + I), how.transposed)
        h, x = (W[:, :H], W[:, H:]) if how.fused == "[h,x]" else (W[:, I:], W[:, :I])
        found |= {"W_ih": x, "W_hh": h}
    for key, width in (("W_ih", I), ("W_hh", H)):
        if key in arrays:
            square = arrays[key].shape == (G * H, width) == arrays[key].shape[::-1]
            turned = _turned(arrays, sizes) if how.transposed is None and square else how.transposed
            found[key] = _upright(key, arrays[key], (G * H, width), turned)
    for key, role in (("b_ih", "b"), ("b_ih", "b_ih"), ("b_hh", "b_hh")):
        if role in arrays:
            found[key] = arrays[role].reshape(-1)
    order = "".join(OTHER_LETTERS.get(family, {}).get(gate, gate) for gate in how.gates or ORDERS[family])
    if sorted(order) != sorted(ORDERS[family]):
        raise ValueError(f"gates is {how.gates!r}, expected the letters of {ORDERS[family]!r} in some order")
    blocks = [order.index(gate) for gate in ORDERS[family]]
    # σ(-a) = 1 - σ(a): with z the other way round, its rows have the other sign, and so have their gradients.
    signs = [-1 if gate == "z" and how.z_weighs_candidate else 1 for gate in ORDERS[family]]
    return {key: np.concatenate([n * np.split(a, G)[k] for k, n in zip(blocks, signs)]) for key, a in found.items()}


def _turned(arrays: Mapping[str, Array], sizes: _Sizes) -> bool | None:
    """Whether weights are (inputs, gates), by one of them whose shape tells."""
    G, I, H = sizes
    for key, width in (("W_ih", I), ("W_hh", H)):
        if key in arrays and width != G * H:
            return arrays[key].shape == (width, G * H)
    return None


def _upright(name: str, a: Array, shape: tuple[int, int], transposed: bool | None) -> Array:
    """A weight as (gates, inputs)."""
    if transposed is None and shape[0] == shape[1]:
        raise ValueError(f"{name} is square, so its shape does not tell: say layout=Layout(transposed=...)")
    turned = a.shape != shape if transposed is None else transposed
    found = a.T if turned else a
    if found.shape != shape:
        raise ValueError(f"{name} has shape {a.shape}, expected {shape} or {shape[::-1]}")
    return found
