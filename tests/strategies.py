"""What hypothesis draws: cases of layers, their random data, and one way to run them through `deep` or through a layer.

A `Setting` is a handful of small numbers and words: it prints as an expression that can be pasted into `@example`, and
shrinks fast. Its arrays follow from it by `build`. Sizes are all distinct in three cases out of four, because equal
sizes hide transposed matrices; states are non-zero and the two biases distinct, because zeros hide whatever they are
multiplied with. Every range that is drawn from ends below 100: hypothesis also tries larger integers that stand in
the modules imported so far, so with them the same seed would draw other cases when other tests are collected too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from support import CELLS, random_params, random_state

import numpy_rnn
from numpy_rnn.fast import deep
from numpy_rnn.fast.registry import USER_FACING, parameter_name
from numpy_rnn.verify.case import output_units

Array = np.ndarray


def strided(a: Array) -> Array:
    """Every other place of an array that holds NaN between them, along every axis."""
    room = np.full([2 * n + 1 for n in a.shape], np.nan, a.dtype)
    view = room[(slice(1, None, 2),) * a.ndim]
    view[...] = a
    return view


def backwards(a: Array) -> Array:
    """Negative strides along every axis."""
    turned = (slice(None, None, -1),) * a.ndim
    return a[turned].copy()[turned]


def read_only(a: Array) -> Array:
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS = {
    "C": np.ndarray.copy,
    "Fortran": lambda a: a.copy(order="F"),
    "strided": strided,
    "backwards": backwards,
    "read-only": read_only,
}
MISSING = ("h_0", "c_0", "doutput", "dh_n", "dc_n")


class Setting(NamedTuple):
    """One problem in words and small numbers."""

    cell: str
    T: int
    B: int
    I: int
    H: int
    R: int  # units of a projection; the other cells have none
    L: int = 1
    D: int = 1
    lengths: tuple[int, ...] | None = None
    through: str = "layer"  # or "deep"
    bias: bool = True
    batch_first: bool = False
    single: bool = False  # a batch of one sequence, without lengths, goes without its axis
    masks: bool = False  # of dropout; `deep` alone takes them as data
    missing: tuple[str, ...] = ()  # what is left out, or zero: of MISSING
    layouts: tuple[str, str, str, str] = ("C", "C", "C", "C")  # of parameters, x, states, upstream gradients
    dtype: str = "float64"
    seed: int = 0


class Problem(NamedTuple):
    """A case's data. What is missing is zero here."""

    params: list[list[Any]]  # [L][D] of the cell's Params
    x: Array  # (T, B, I)
    s0: Any  # the cell's State, fields (L·D, B, ·)
    lengths: Array | None  # (B,)
    masks: list[Array] | None  # L-1 of (T, B, D·R)
    dy: Array  # (T, B, D·R)
    ds_n: Any  # as s0


@st.composite
def sizes(draw: Any, least_T: int = 0) -> tuple[int, int, int, int, int]:
    """T, B, I, H, R: mostly distinct and from 2 to 7, else small ones, of which T may be 0 and the others 1."""
    if draw(st.sampled_from(["corner", "rich", "rich", "rich"])) == "rich":
        T, B, I, R, H, _ = draw(st.permutations(range(2, 8)))
        return T, B, I, max(R, H), min(R, H)
    T, B, I, H, R = (draw(st.integers(least, 3)) for least in (least_T, 1, 1, 1, 1))
    return T, B, I, H, R


@st.composite
def cases(
    draw: Any,
    *,
    L: tuple[int, ...] = (1, 2, 3),
    D: tuple[int, ...] = (1, 2),
    dtypes: tuple[str, ...] = ("float64",),
    through: tuple[str, ...] = ("layer", "deep"),
    ragged: bool = False,
    empty: bool = True,
) -> Setting:
    """Cases of all cells.

    `ragged`: never without lengths. `empty`: T and lengths may be 0.
    """
    cell = draw(st.sampled_from(list(CELLS)))
    way = draw(st.sampled_from(through))
    single = way == "layer" and not ragged and draw(st.sampled_from([False] * 7 + [True]))
    T, B, I, H, R = draw(sizes(0 if empty else 1))
    if cell == "lstm_projection":
        H = max(H, R + 1)
    if single:
        B = 1
    some_lengths = st.tuples(*[st.integers(0 if empty else 1, T)] * B)
    return Setting(
        *(cell, T, B, I, H, R),
        L=draw(st.sampled_from(L)),
        D=draw(st.sampled_from(D)),
        lengths=draw(st.none() if single else some_lengths if ragged else st.none() | some_lengths),
        through=way,
        bias=draw(st.sampled_from([True, True, False])),
        batch_first=draw(st.booleans()),
        single=single,
        masks=way == "deep" and draw(st.booleans()),
        missing=tuple(name for name in MISSING if draw(st.booleans())) if draw(st.booleans()) else (),
        layouts=draw(st.tuples(*[st.sampled_from(list(LAYOUTS))] * 4)),
        dtype=draw(st.sampled_from(dtypes)),
        seed=draw(st.integers(0, 99)),
    )


def build(case: Setting, hole: float | None = None) -> Problem:
    """The data of a case, in its dtype and its memory layouts; `hole` is what stands in the padding of x and dy."""
    cell, T, B, I, H, L, D = CELLS[case.cell][0], case.T, case.B, case.I, case.H, case.L, case.D
    R = output_units(cell, H, case.R)
    rng = np.random.default_rng([case.seed, T, B, I, H, R, L, D])
    lengths = None if case.lengths is None else np.array(case.lengths, np.intp)
    of_parameters, of_x, of_states, of_upstream = (LAYOUTS[name] for name in case.layouts)

    def steps(units: int) -> Array:
        return rng.standard_normal((T, B, units))

    def lay_out(a: Array, layout: Any, hole: float | None = None) -> Array:
        """Give a (T, B, ·) the layout as its user sees it: with `batch_first` as (B, T, ·)."""
        a = a.astype(case.dtype)
        if lengths is not None and hole is not None:
            a[padding(lengths, T)] = hole
        return layout(a.swapaxes(0, 1)).swapaxes(0, 1) if case.batch_first else layout(a)

    def state(layout: Any, names: tuple[str, str]) -> Any:
        drawn = random_state(cell, (L * D, B), H, case.R, rng, case.dtype)
        return cell.State(*(layout(a * (name not in case.missing)) for name, a in zip(names, drawn)))

    def parameters(inputs: int) -> Any:
        drawn = random_params(cell, inputs, H, case.R, rng)._asdict()
        kept = {name: a * (case.bias or not name.startswith("b_")) for name, a in drawn.items()}
        # Smaller by a quarter, six inputs and six units do not amplify: the rounding of the first steps stays small.
        return cell.Params(*(of_parameters((0.75 * a).astype(case.dtype)) for a in kept.values()))

    dropout = [(steps(D * R) > -0.5) / 0.7 for _ in range(L - 1)]
    return Problem(
        [[parameters(D * R if l else I) for _ in range(D)] for l in range(L)],
        lay_out(steps(I), of_x, hole),
        state(of_states, ("h_0", "c_0")),
        lengths,
        [lay_out(mask, of_x) for mask in dropout] if case.masks else None,
        lay_out(steps(D * R) * ("doutput" not in case.missing), of_upstream, hole),
        state(of_upstream, ("dh_n", "dc_n")),
    )


def padding(lengths: Array, T: int) -> Array:
    """Which steps (T, B) stand after a sequence's end."""
    return np.arange(T)[:, None] >= lengths


class Deep:
    """Layers as `numpy_rnn.fast.deep` runs them."""

    def __init__(self, case: Setting, params: list[list[Any]]) -> None:
        self.cell, self.params = CELLS[case.cell][0], params

    def forward(self, x: Array, s0: Any, lengths: Array | None = None, masks: Any = None) -> tuple[Array, Any, Any]:
        return deep.forward(self.cell, self.params, x, s0, lengths, masks)

    def backward(self, tape: Any, dy: Array, ds_n: Any) -> tuple[dict[str, Array], Array, Any]:
        grads, dx, ds0 = deep.backward(tape, dy, ds_n)
        return by_name(grads), dx, ds0

    def truncated_backward(self, tape: Any, dy: Array, ds_n: Any, k1: int, k2: int) -> Any:
        grads, dx, ds0 = numpy_rnn.fast.truncated.backward(tape, dy, ds_n, k1, k2)
        return by_name(grads), dx, ds0


class Layer:
    """The same as a user runs them: RNN, LSTM or GRU, with `batch_first`, and with None for what is missing."""

    def __init__(self, case: Setting, params: list[list[Any]]) -> None:
        self.case, self.cell = case, CELLS[case.cell][0]
        self.layer = layer_of(case, params, numpy_rnn, dtype=params[0][0].W_ih.dtype)
        named = {name: p for name, p in by_name(params).items() if name in self.layer.state_dict()}
        self.layer.load_state_dict(named)

    def forward(self, x: Array, s0: Any, lengths: Array | None = None, masks: Any = None) -> tuple[Array, Any, Any]:
        assert masks is None
        single = self.case.single and lengths is None
        output, h_n, tape = self.layer.forward(self._turn(x, single), self._pack(s0, "h_0 c_0", single), lengths)
        return self._turn_back(output, single), self._unpack(h_n, single), (tape, single)

    def backward(self, tape: Any, dy: Array, ds_n: Any, **windows: int) -> tuple[dict[str, Array], Array, Any]:
        tape, single = tape
        run = self.layer.truncated_backward if windows else self.layer.backward
        doutput = None if "doutput" in self.case.missing and not dy.any() else self._turn(dy, single)
        grads, dx, dh_0 = run(tape, doutput, self._pack(ds_n, "dh_n dc_n", single), **windows)
        return grads, self._turn_back(dx, single), self._unpack(dh_0, single)

    def truncated_backward(self, tape: Any, dy: Array, ds_n: Any, k1: int, k2: int) -> Any:
        return self.backward(tape, dy, ds_n, k1=k1, k2=k2)

    def _turn(self, a: Array, single: bool) -> Array:
        if single:
            return a[:, 0]
        return a.swapaxes(0, 1) if self.case.batch_first else a

    def _turn_back(self, a: Array, single: bool) -> Array:
        if single:
            return a[:, None]
        return a.swapaxes(0, 1) if self.case.batch_first else a

    def _pack(self, s: Any, names: str, single: bool) -> Any:
        parts = [
            None if name in self.case.missing and not a.any() else a[:, 0] if single else a
            for name, a in zip(names.split(), s)
        ]
        if all(part is None for part in parts):
            return None
        return parts[0] if len(parts) == 1 else tuple(parts)

    def _unpack(self, h: Any, single: bool) -> Any:
        parts = h if isinstance(h, tuple) else (h,)
        return self.cell.State(*(a[:, None] if single else a for a in parts))


def layer_of(case: Setting, params: list[list[Any]], library: Any, **options: Any) -> Any:
    """A layer of numpy_rnn, torch_rnn or torch.nn that has room for these parameters."""
    kind, first = USER_FACING[case.cell], params[0][0]
    arguments = {**kind.arguments, **({"proj_size": case.R} if "proj_size" in kind.arguments else {})}
    return getattr(library, kind.cls)(
        first.W_ih.shape[1],
        first.W_ih.shape[0] // CELLS[case.cell][0].gates,
        num_layers=len(params),
        bidirectional=len(params[0]) == 2,
        bias=case.bias,
        batch_first=case.batch_first,
        **arguments,
        **options,
    )


def network(case: Setting, params: list[list[Any]]) -> Deep | Layer:
    """The layers of a case with these parameters: as many as there are, not as the case has."""
    return (Deep if case.through == "deep" else Layer)(case, params)


def by_name(params: list[list[Any]]) -> dict[str, Array]:
    """Parameters, or their gradients, by torch's names."""
    return {
        parameter_name(field, l, d): array
        for l, layer in enumerate(params)
        for d, direction in enumerate(layer)
        for field, array in direction._asdict().items()
    }


def values(y: Any, s_n: Any) -> dict[str, Any]:
    """What forward returns, by name."""
    return {"output": y, **{f"{field}_n": s for field, s in s_n._asdict().items()}}


def gradients(grads: dict[str, Any], dx: Any, ds0: Any) -> dict[str, Any]:
    """What backward returns, by name."""
    initial = {f"d{field}_0": ds for field, ds in ds0._asdict().items()}
    return {"dx": dx, **initial, **{f"d{name}": g for name, g in grads.items()}}


def run(net: Deep | Layer, problem: Problem) -> dict[str, Array]:
    """Forward and backward: everything that comes out, by name."""
    _, x, s0, lengths, masks, dy, ds_n = problem
    y, s_n, tape = net.forward(x, s0, lengths, masks)
    return {**values(y, s_n), **gradients(*net.backward(tape, dy, ds_n))}
