"""A stated problem: parameters, input, states and upstream gradients, for which every right answer is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..fast.cell import Cell
from ..fast.numerics import Array
from ..fast.registry import CELLS, TORCH_NAMES, cell_name, parameter_shapes
from ..layers.losses import softmax_cross_entropy

Loss = Callable[[Array], tuple[Any, Array]]  # from the output to a loss, and its gradient by the output


class Case(NamedTuple):
    """A stated problem, the zoo's or anybody's.

    States are tuples: (h,) or, for the LSTM's, (h, c).
    """

    name: str
    cell: str  # a cell of numpy_rnn by its name
    params: Sequence[Sequence[Any]]  # [L][D] of the cell's Params
    x: Array  # (T, B, I)
    s0: tuple[Array, ...]  # (L·D, B, ·) each
    doutput: Array  # (T, B, D·R), upstream
    ds_n: tuple[Array, ...]  # as s0, upstream
    lengths: tuple[int, ...] | None = None  # of each sequence; None: all T
    masks: tuple[Array, ...] | None = None  # L-1 of (T, B, D·R): 0 or 1 / (1 - p); None: no dropout
    loss: Loss | None = None  # if there is one, doutput is its gradient by the output

    @classmethod
    def of(
        cls,
        cell: str,
        params: Mapping[str, Any],
        x: Any,
        *,
        doutput: Any = None,
        h_0: Any = None,
        c_0: Any = None,
        dh_n: Any = None,
        dc_n: Any = None,
        lengths: Sequence[int] | None = None,
        masks: Sequence[Any] | None = None,
        loss: Loss | None = None,
    ) -> Case:
        """State one's own problem.

        Parameters
        ----------
        cell : str
            A name of the registry, in any case; "rnn" is tanh.
        params : mapping of str to array
            Under the names W_ih, W_hh, b_ih, b_hh (W_hr, P), with `_l1` and `_l1_reverse` behind them in a stack, or
            under torch's: weight_ih_l0, …; in torch's layout, (G·H, I) and (G·H, H). A bias that is missing is zero.
        x : array (T, B, I), or (T, I) for one sequence
        doutput : array (T, B, D·R), optional
            Gradient that arrives at the output; zero by default, and so are the four others.
        h_0, c_0, dh_n, dc_n : array (L·D, B, ·), or (B, ·) where L·D is 1, optional
            Initial states, and gradients that arrive at the final ones.
        lengths, masks : optional
            B whole numbers; L-1 arrays as doutput.
        loss : function, optional
            In place of `doutput`: gets the output (T, B, D·R), returns a loss and its gradient by the output, as
            `softmax_loss` makes it. Then "loss" is one of the numbers that can be given.

        Raises
        ------
        ValueError
            If a name is unknown, or the shapes do not fit one another.

        Examples
        --------
        >>> case = Case.of("rnn", {"W_ih": np.ones((2, 3)), "W_hh": np.eye(2)}, np.ones((4, 1, 3)))
        >>> case.doutput.shape, case.s0[0].shape
        ((4, 1, 2), (1, 1, 2))
        """
        name = cell_name(cell)
        kind, found = CELLS[name], dict[tuple[int, int], dict[str, Array]]()
        for key, value in params.items():
            field, l, d = _place(str(key))
            if field not in kind.Params._fields:
                raise ValueError(f"{name} has no parameter {key!r}, expected {', '.join(kind.Params._fields)}")
            array = np.array(value, float)
            found.setdefault((l, d), {})[field] = array.reshape(-1) if field in ("b_ih", "b_hh") else array
        L, D = (max((place[k] for place in found), default=0) + 1 for k in range(2))
        layers = []
        for place in ((l, d) for l in range(L) for d in range(D)):
            given = found.get(place, {})
            if missing := {"W_ih", "W_hh", "W_hr", "P"} & set(kind.Params._fields) - set(given):
                raise ValueError(f"{min(missing)} is missing in layer {place[0]}, direction {place[1]}")
            zero = np.zeros(len(given["W_ih"]))
            layers.append(kind.Params(*(given.get(field, zero) for field in kind.Params._fields)))
        x = np.array(x, float)
        x = x[:, None] if x.ndim == 2 else x
        if x.ndim != 3:
            raise ValueError(f"x has shape {x.shape}, expected (T, B, I), or (T, I) for one sequence")
        (T, B, _), R, H = x.shape, layers[0].W_hh.shape[1], len(layers[0].W_hh) // kind.gates

        def state(value: Any, units: int) -> Array:
            a = np.zeros((L * D, B, units)) if value is None else np.array(value, float)
            return a[None] if a.ndim == 2 else a

        def states(h: Any, c: Any) -> tuple[Array, ...]:
            return tuple(state(v, u) for v, u, _ in zip((h, c), (R, H), kind.State._fields))

        up = np.zeros((T, B, D * R)) if doutput is None else np.array(doutput, float)
        case = cls(
            "own",
            name,
            [layers[l * D : (l + 1) * D] for l in range(L)],
            x,
            states(h_0, c_0),
            up[:, None] if up.ndim == 2 else up,
            states(dh_n, dc_n),
            None if lengths is None else tuple(map(int, lengths)),
            None if masks is None else tuple(np.array(m, float) for m in masks),
            loss,
        )
        check_case(case)
        return case

    @property
    def all_lengths(self) -> tuple[int, ...]:
        """Length of each sequence."""
        return (self.x.shape[0],) * self.x.shape[1] if self.lengths is None else self.lengths

    def copy(self) -> Case:
        """The same case in arrays of its own, dropout masks filled in: whoever runs it may spoil it."""
        return self._map(np.array)

    def astype(self, dtype: Any) -> Case:
        """The same case in another dtype, as `copy` makes it."""
        return self._map(lambda a: a.astype(dtype))

    def _map(self, change: Callable[[Array], Array]) -> Case:
        masks = self.masks
        if masks is None:
            masks = (np.ones(self.doutput.shape, self.doutput.dtype),) * (len(self.params) - 1)
        return self._replace(
            params=[[type(p)(*map(change, p)) for p in layer] for layer in self.params],
            x=change(self.x),
            s0=tuple(map(change, self.s0)),
            doutput=change(self.doutput),
            ds_n=tuple(map(change, self.ds_n)),
            masks=tuple(map(change, masks)),
        )

    def parameter_name(self, field: str, l: int, d: int) -> str:
        """How a parameter is called here: "W_hh" where there is only one, "W_hh_l1_reverse" in a stack."""
        if len(self.params) == len(self.params[0]) == 1:
            return field
        return f"{field}_l{l}{'_reverse' if d else ''}"

    def named(
        self, output: Array, s_n: Sequence[Array], dx: Array, ds0: Sequence[Array], grads: Sequence[Any]
    ) -> dict[str, Array]:
        """All results under their names, in the order in which they are computed."""
        parts = {"output": output, **dict(zip(("h_n", "c_n"), s_n))}
        inputs = {"dx": dx, **dict(zip(("dh_0", "dc_0"), ds0))}
        if len(self.params) == 1:
            parts |= inputs
        for l in reversed(range(len(self.params))):
            for d, gs in enumerate(grads[l]):
                fields = self.params[l][d]._fields
                parts |= {f"d{self.parameter_name(f, l, d)}": g for f, g in zip(fields, gs)}
        return parts | inputs

    def canonical(self, name: str) -> str:
        """Translate the name of a tensor into this case's: torch's names and "_l0" are understood.

        Examples
        --------
        >>> from numpy_rnn.verify.zoo import cases
        >>> case = cases("lstm")[0]
        >>> case.canonical("weight_hh_l0"), case.canonical("dbias_ih_l0"), case.canonical("dW_ih_l0")
        ('dW_hh', 'db_ih', 'dW_ih')
        """
        if name in ("output", "h_n", "c_n", "loss", "dx", "dh_0", "dc_0"):
            return name
        stem = name.removeprefix("d")
        for ours, theirs in TORCH_NAMES.items():
            stem = stem.replace(theirs, ours)
        if len(self.params) == len(self.params[0]) == 1:
            stem = stem.removesuffix("_l0")
        return f"d{stem}"


def softmax_loss(W: Any, b: Any, targets: Any, *, mean: bool = True) -> Loss:
    """Cross-entropy of softmax(W h + b) at every step and sequence, for `Case.of`.

    Parameters
    ----------
    W, b : arrays (K, R) and (K,)
    targets : whole numbers (T, B), or (T,) for one sequence
    mean : bool
        Over all steps and sequences; else the sum.

    Examples
    --------
    >>> loss = softmax_loss(np.zeros((4, 2)), np.zeros(4), [0, 3, 1])
    >>> case = Case.of("rnn", {"W_ih": np.ones((2, 3)), "W_hh": np.eye(2)}, np.ones((3, 3)), loss=loss)
    >>> value, doutput = case.loss(case.doutput)
    >>> round(float(np.exp(value)), 6)
    4.0
    """
    W, b, targets = np.array(W, float), np.array(b, float), np.array(targets)
    targets = targets[:, None] if targets.ndim == 1 else targets

    def loss(output: Array) -> tuple[Any, Array]:
        value, dlogits = softmax_cross_entropy(output @ W.T + b, targets, reduction="mean" if mean else "sum")
        return value, dlogits @ W

    return loss


def _place(name: str) -> tuple[str, int, int]:
    """Field, layer and direction of a parameter by our name of it or torch's."""
    fields = {theirs: ours for ours, theirs in TORCH_NAMES.items()}
    field, _, place = name.partition("_l")
    l, _, reverse = place.partition("_")
    if (place and not l.isdigit()) or reverse not in ("", "reverse"):
        return name, 0, 0
    return fields.get(field, field), int(l or 0), int(reverse == "reverse")


def random_params(cell: Cell, I: int, H: int, R: int, draw: Callable[..., Array]) -> Any:
    """One cell's parameters; `draw` gets the sizes of each, R counts for the projection alone."""
    return cell.Params(*(draw(*shape) for shape in parameter_shapes(cell, I, H, output_units(cell, H, R))))


def random_state(cell: Cell, lead: tuple[int, ...], H: int, R: int, draw: Callable[..., Array]) -> Any:
    """A state, fields `(*lead, ·)`, or a trajectory of states."""
    units = (output_units(cell, H, R), H)
    return cell.State(*(draw(*lead, u) for u, _ in zip(units, cell.State._fields)))


def output_units(cell: Cell, H: int, R: int) -> int:
    """Units of the state h: R with a projection, else H."""
    return R if "W_hr" in cell.Params._fields else H


def make_case(
    name: str,
    cell: str,
    draw: Callable[..., Array],
    *,
    T: int,
    B: int,
    I: int,
    H: int,
    R: int = 0,
    L: int = 1,
    D: int = 1,
    lengths: tuple[int, ...] | None = None,
    masks: Callable[..., Array] | None = None,
) -> Case:
    """Make a case of given sizes, every number of which comes from `draw`.

    Parameters
    ----------
    name : str
    cell : str
        A name of the registry.
    draw : `function(*sizes, role)` -> array
        Random numbers for a "parameter", "input", "state" or "upstream" gradient: the role is a keyword.
    T, B, I, H, R, L, D : int
        Steps, sequences, inputs, units, units of a projection, layers, directions.
    lengths : tuple of int, optional
    masks : `function(*sizes)` -> array, optional
        Dropout masks between the layers; without it there is none.

    Returns
    -------
    Case
        Upstream gradients stand in the padding too, where no correct program reads them, and so does x.
    """
    kind = CELLS[cell]
    R = output_units(kind, H, R)
    of = {role: partial(draw, role=role) for role in ("parameter", "input", "state", "upstream")}
    params = [[random_params(kind, I if l == 0 else D * R, H, R, of["parameter"]) for _ in range(D)] for l in range(L)]
    s0 = tuple(random_state(kind, (L * D, B), H, R, of["state"]))
    x, doutput = of["input"](T, B, I), of["upstream"](T, B, D * R)
    ds_n = tuple(random_state(kind, (L * D, B), H, R, of["upstream"]))
    dropout = tuple(masks(T, B, D * R) for _ in range(L - 1)) if masks else ()
    return Case(name, cell, params, x, s0, doutput, ds_n, lengths, dropout or None)


def check_case(case: Case) -> None:
    """See that a case is one: shapes that belong together, a cell that is known.

    Raises
    ------
    ValueError
        With what came and what was expected.
    """
    kind, L = CELLS[cell_name(case.cell)], len(case.params)
    D = len(case.params[0]) if L else 0
    if np.ndim(case.x) != 3 or D not in (1, 2):
        raise ValueError(
            f"x has shape {np.shape(case.x)} and params {L} layers, expected (T, B, I) and 1 or 2 directions"
        )
    T, B, I = case.x.shape
    H = case.params[0][0].W_hh.shape[0] // kind.gates
    R = case.params[0][0].W_hh.shape[1]
    expected: dict[str, tuple[Any, tuple[int, ...]]] = {"doutput": (case.doutput, (T, B, D * R))}
    for l, layer in enumerate(case.params):
        shapes = parameter_shapes(kind, I if l == 0 else D * R, H, R)
        for d, p in enumerate(layer):
            expected |= {f"{f}_l{l}_{d}": (w, s) for f, w, s in zip(kind.Params._fields, p, shapes)}
    for names, states in ((("h_0", "c_0"), case.s0), (("dh_n", "dc_n"), case.ds_n)):
        if len(states) != len(kind.State._fields):
            raise ValueError(f"{len(states)} states where {case.cell} has {len(kind.State._fields)}")
        expected |= {n: (s, (L * D, B, u)) for n, s, u in zip(names, states, (R, H))}
    expected |= {f"masks[{l}]": (m, (T, B, D * R)) for l, m in enumerate(case.masks or ())}
    for name, (array, shape) in expected.items():
        if np.shape(array) != shape:
            raise ValueError(f"{name} has shape {np.shape(array)}, expected {shape}")
    if len(case.all_lengths) != B or not all(0 <= n <= T for n in case.all_lengths):
        raise ValueError(f"lengths is {case.lengths}, expected {B} whole numbers from 0 to {T}")
    if case.masks is not None and len(case.masks) != L - 1:
        raise ValueError(f"{len(case.masks)} dropout masks, expected {L - 1}, one between any two layers")


def check_tensors(case: Case, given: Mapping[str, Any], expected: Mapping[str, Array]) -> dict[str, Array]:
    """What somebody hands in, under the case's own names.

    Raises
    ------
    ValueError
        If a name is unknown, given twice, or the array's shape is not the expected one.
    """
    tensors: dict[str, Array] = {}
    for name, value in given.items():
        ours = case.canonical(name)
        if ours not in expected:
            raise ValueError(f"unknown tensor {name!r}, expected some of {', '.join(expected)}")
        if ours in tensors:
            raise ValueError(f"{ours} is given twice, the second time as {name!r}")
        array = np.asarray(value)
        array = array.reshape(()) if ours == "loss" and array.size == 1 else array
        if array.shape != (shape := expected[ours].shape):
            turned = ours in ("output", "dx") and array.shape == (shape[1], shape[0], *shape[2:])
            hint = ": batch first? Its first two axes have to change places" if turned else ""
            raise ValueError(f"{name} has shape {array.shape}, expected {shape}{hint}")
        tensors[ours] = array
    return tensors
