"""How other systems lay out the parameters of a recurrent cell, as data, and conversion between them and torch.

A system's layout says in which order the gates stand, how many biases there are, whether z keeps the old state or
takes the new one, what is added at run time, and under which names and in which shapes the arrays stand. Whatever a
layout can hold is converted exactly, and back to the last bit. What it cannot hold, as a second bias, is said:
`ConventionError`.

Gradients are converted by the same permutation, since the map from one system's parameters to another's is linear;
where one bias stands for two, each of the two has its whole gradient.

The facts are those of the systems' own files: torch.nn, ONNX (RNN, LSTM, GRU, opset 14), Keras 3, cuDNN's order as
torch stores it, Flax linen, Equinox, MLX, Haiku, haste, Flux, TensorFlow 1's BasicLSTMCell, and the LSTM of CS231n's
assignment. `tests/interop.py` holds those that install against the systems themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from ..fast.numerics import Array
from ..fast.registry import CELLS, parameter_shapes

Arrays = dict[str, Array]
Biases = Literal["two", "one", "one and n"]
OURS = {"rnn": "a", "lstm": "ifgo", "gru": "rzn"}  # our order of gates, by the family of the cell


class ConventionError(ValueError):
    """A system cannot hold what it is given; the message says what."""


class Layout(NamedTuple):
    """How one system lays out one cell.

    `pack` makes the system's arrays of W_ih, W_hh, and b_ih and b_hh, b, or b and b_n, whose gates are in the system's
    order already; `unpack` is its inverse and gets the number of units, if it is known.
    """

    gates: str
    biases: Biases
    pack: Callable[[Arrays], Arrays]
    unpack: Callable[[Arrays, int | None], Arrays]
    z_weighs_candidate: bool = False  # and 1 - z the old state
    forget_bias: float = 0.0  # added to the forget gate's pre-activation at run time
    states: tuple[str, ...] = ("h", "c")  # in the order in which the system has them


# ---- ways to lay out arrays


def named(transposed: bool = False, **names: str) -> dict[str, Any]:
    """Arrays under names of their own, weights perhaps as (inputs, gates)."""

    def pack(arrays: Arrays) -> Arrays:
        return {theirs: _transpose_if(arrays[ours], transposed) for ours, theirs in names.items() if ours in arrays}

    def unpack(arrays: Arrays, H: int | None) -> Arrays:
        return {ours: _transpose_if(arrays[theirs], transposed) for ours, theirs in names.items() if theirs in arrays}

    return {"pack": pack, "unpack": unpack}


def kernels(**biases: str) -> dict[str, Any]:
    """Keras and haste: weights as (inputs, gates) under Keras' names."""
    return named(True, W_ih="kernel", W_hh="recurrent_kernel", **biases)


def fused(weights: str, bias: str) -> dict[str, Any]:
    """One array (inputs + units, gates) for both weights: x first."""

    def pack(arrays: Arrays) -> Arrays:
        return {weights: np.hstack([arrays["W_ih"], arrays["W_hh"]]).T, bias: arrays["b"]}

    def unpack(arrays: Arrays, H: int | None) -> Arrays:
        W, units = arrays[weights].T, arrays[bias].size // 4
        return {"W_ih": W[:, :-units], "W_hh": W[:, -units:], "b": arrays[bias]}

    return {"pack": pack, "unpack": unpack}


def stacked(weights: str, recurrent: str, bias: str) -> dict[str, Any]:
    """Keras' GRU: weights as (inputs, gates), both biases as the rows of one array."""

    def pack(arrays: Arrays) -> Arrays:
        both = np.stack([arrays["b_ih"], arrays["b_hh"]])
        return {weights: arrays["W_ih"].T, recurrent: arrays["W_hh"].T, bias: both}

    def unpack(arrays: Arrays, H: int | None) -> Arrays:
        b_ih, b_hh = arrays[bias]
        return {"W_ih": arrays[weights].T, "W_hh": arrays[recurrent].T, "b_ih": b_ih, "b_hh": b_hh}

    return {"pack": pack, "unpack": unpack}


def onnx_inputs() -> dict[str, Any]:
    """ONNX: a leading axis of directions, both biases one after the other."""

    def pack(arrays: Arrays) -> Arrays:
        both = np.concatenate([arrays["b_ih"], arrays["b_hh"]])
        found = {"W": arrays["W_ih"][None], "R": arrays["W_hh"][None], "B": both[None]}
        return found | ({"P": arrays["P"][None]} if "P" in arrays else {})

    def unpack(arrays: Arrays, H: int | None) -> Arrays:
        b_ih, b_hh = np.split(arrays["B"][0], 2)
        found = {"W_ih": arrays["W"][0], "W_hh": arrays["R"][0], "b_ih": b_ih, "b_hh": b_hh}
        return found | ({"P": arrays["P"][0]} if "P" in arrays else {})

    return {"pack": pack, "unpack": unpack}


def flat(G: int) -> dict[str, Any]:
    """cuDNN: everything in one line, both weights and then both biases; a cell of G gates."""

    def pack(arrays: Arrays) -> Arrays:
        return {"weights": np.concatenate([arrays[key].ravel() for key in ("W_ih", "W_hh", "b_ih", "b_hh")])}

    def unpack(arrays: Arrays, H: int | None) -> Arrays:
        if H is None:
            raise ConventionError("cuDNN's buffer does not tell how many units there are: H has to be given")
        GH, line = G * H, arrays["weights"]
        I = line.size // GH - H - 2
        W_ih, W_hh, b_ih, b_hh = np.split(line, np.cumsum([GH * I, GH * H, GH]))
        return {"W_ih": W_ih.reshape(GH, I), "W_hh": W_hh.reshape(GH, H), "b_ih": b_ih, "b_hh": b_hh}

    return {"pack": pack, "unpack": unpack}


def by_gate(gates: str, bias_on: str, bias_n: str | None = None) -> dict[str, Any]:
    """Flax: a dense layer for each gate and side, as "ii.kernel" and "hi.bias"; kernels are (inputs, units)."""

    def pack(arrays: Arrays) -> Arrays:
        found: Arrays = {}
        for k, gate in enumerate(gates):
            H = len(arrays["W_hh"]) // len(gates)
            rows = slice(k * H, (k + 1) * H)
            found[f"i{gate}.kernel"], found[f"h{gate}.kernel"] = arrays["W_ih"][rows].T, arrays["W_hh"][rows].T
            found[f"{bias_on}{gate}.bias"] = arrays["b"][rows]
        return found | ({bias_n: arrays["b_n"]} if bias_n else {})

    def unpack(arrays: Arrays, H: int | None) -> Arrays:
        found = {
            f"W_{side}h": np.concatenate([arrays[f"{side}{gate}.kernel"].T for gate in gates]) for side in ("i", "h")
        }
        found["b"] = np.concatenate([arrays[f"{bias_on}{gate}.bias"] for gate in gates])
        return found | ({"b_n": arrays[bias_n]} if bias_n else {})

    return {"pack": pack, "unpack": unpack}


def _transpose_if(a: Array, transposed: bool) -> Array:
    return a.T if transposed and a.ndim == 2 else a


TORCH = named(W_ih="weight_ih", W_hh="weight_hh", b_ih="bias_ih", b_hh="bias_hh", P="weight_peephole", W_hr="weight_hr")
LAYOUTS: dict[str, dict[str, Layout]] = {
    "torch": {cell: Layout(OURS[cell.split("_")[0]], "two", **TORCH) for cell in CELLS},
    "onnx": {
        "rnn_tanh": Layout("a", "two", **onnx_inputs()),
        "rnn_relu": Layout("a", "two", **onnx_inputs()),
        "lstm": Layout("iofg", "two", **onnx_inputs()),
        "lstm_peephole": Layout("iofg", "two", **onnx_inputs()),
        "gru": Layout("zrn", "two", **onnx_inputs()),
        "gru_reset_before": Layout("zrn", "two", **onnx_inputs()),
    },
    "keras": {
        "rnn_tanh": Layout("a", "one", **kernels(b="bias")),
        "rnn_relu": Layout("a", "one", **kernels(b="bias")),
        "lstm": Layout("ifgo", "one", **kernels(b="bias")),
        "gru": Layout("zrn", "two", **stacked("kernel", "recurrent_kernel", "bias")),
        "gru_reset_before": Layout("zrn", "one", **kernels(b="bias")),
    },
    "cudnn": {
        "rnn_tanh": Layout("a", "two", **flat(1)),
        "rnn_relu": Layout("a", "two", **flat(1)),
        "lstm": Layout("ifgo", "two", **flat(4)),
        "gru": Layout("rzn", "two", **flat(3)),
    },
    "flax": {
        "lstm": Layout("ifgo", "one", **by_gate("ifgo", "h"), states=("c", "h")),
        "gru": Layout("rzn", "one and n", **by_gate("rzn", "i", "hn.bias")),
    },
    "equinox": {
        "lstm": Layout("ifgo", "one", **named(W_ih="weight_ih", W_hh="weight_hh", b="bias")),
        "gru": Layout("rzn", "one and n", **named(W_ih="weight_ih", W_hh="weight_hh", b="bias", b_n="bias_n")),
    },
    "mlx": {
        "rnn_tanh": Layout("a", "one", **named(W_ih="Wxh", W_hh="Whh", b="bias")),
        "lstm": Layout("ifgo", "one", **named(W_ih="Wx", W_hh="Wh", b="bias")),
        "gru": Layout("rzn", "one and n", **named(W_ih="Wx", W_hh="Wh", b="b", b_n="bhn")),
    },
    "haiku": {
        "lstm": Layout("igfo", "one", **fused("w", "b"), forget_bias=1.0),
        "gru_reset_before": Layout("zrn", "one", **named(True, W_ih="w_i", W_hh="w_h", b="b"), z_weighs_candidate=True),
    },
    "haste": {
        "lstm": Layout("igfo", "one", **kernels(b="bias")),
        "gru": Layout("zrn", "two", **kernels(b_ih="bias", b_hh="recurrent_bias")),
    },
    "flux": {
        "rnn_tanh": Layout("a", "one", **named(W_ih="Wi", W_hh="Wh", b="b")),
        "lstm": Layout("ifgo", "one", **named(W_ih="Wi", W_hh="Wh", b="b")),
        "gru": Layout("rzn", "one", **named(W_ih="Wi", W_hh="Wh", b="b")),
    },
    "tf1": {"lstm": Layout("igfo", "one", **fused("kernel", "bias"), forget_bias=1.0, states=("c", "h"))},
    "cs231n": {
        "rnn_tanh": Layout("a", "one", **named(True, W_ih="Wx", W_hh="Wh", b="b")),
        "lstm": Layout("ifog", "one", **named(True, W_ih="Wx", W_hh="Wh", b="b")),
    },
}


def layout(system: str, cell: str) -> Layout:
    """A system's layout of a cell.

    Raises
    ------
    ConventionError
        If the system is unknown or has no such cell.
    """
    if system not in LAYOUTS:
        raise ConventionError(f"system is {system!r}, expected one of {', '.join(LAYOUTS)}")
    if cell not in LAYOUTS[system]:
        raise ConventionError(f"{system} has no {cell}, only {', '.join(LAYOUTS[system])}")
    return LAYOUTS[system][cell]


def to_system(
    system: str, cell: str, params: Mapping[str, Array], *, gradients: bool = False, merge: bool = False
) -> Arrays:
    """Convert a cell's parameters, or their gradients, from torch's layout to another system's.

    Parameters
    ----------
    system, cell : str
        Keys of `LAYOUTS`.
    params : mapping of str to array
        W_ih (GH, I), W_hh (GH, H), b_ih, b_hh (GH,), and P for peepholes, W_hr for a projection.
    gradients : bool
        Whether these are gradients.
    merge : bool
        Where the system has one bias, whether both are added up: the cell computes the same, but it cannot be told
        afterwards what each was.

    Returns
    -------
    dict of str to array
        By the system's names.

    Raises
    ------
    ConventionError
        If the system cannot hold these parameters: a second bias that is not zero, a forget bias that does not round.

    Examples
    --------
    >>> W, U, b, zero = np.arange(8.0).reshape(4, 2), np.ones((4, 1)), np.arange(4.0), np.zeros(4)
    >>> cs231n = to_system("cs231n", "lstm", {"W_ih": W, "W_hh": U, "b_ih": b, "b_hh": zero})
    >>> cs231n["Wx"].shape, cs231n["b"].tolist()
    ((2, 4), [0.0, 1.0, 3.0, 2.0])
    """
    how = layout(system, cell)
    ours = OURS[cell.split("_")[0]]
    arrays = _with_biases(how, system, cell, {k: np.asarray(v) for k, v in params.items()}, gradients, merge)
    arrays = {name: _reordered(a, ours, how.gates, name) for name, a in arrays.items()}
    return _contiguous(how.pack(_adjusted(arrays, how, 1.0 if not gradients else 0.0)))


def from_system(
    system: str, cell: str, arrays: Mapping[str, Array], H: int | None = None, *, gradients: bool = False
) -> Arrays:
    """Convert a cell's parameters, or their gradients, from another system's layout to torch's.

    Parameters
    ----------
    system, cell : str
        Keys of `LAYOUTS`.
    arrays : mapping of str to array
        By the system's names.
    H : int, optional
        Units; only cuDNN's buffer does not tell.
    gradients : bool
        Whether these are gradients: then both biases get the whole gradient of the one that stands for them.

    Returns
    -------
    dict of str to array
        W_ih, W_hh, b_ih, b_hh, and P or W_hr where the cell has them; a bias that the system has not is zero.

    Raises
    ------
    ConventionError
        If an array is missing.
    """
    how = layout(system, cell)
    ours = OURS[cell.split("_")[0]]
    try:
        found = how.unpack({k: np.asarray(v) for k, v in arrays.items()}, H)
        missing = [name for name in ("W_ih", "W_hh", *_bias_names(how)) if name not in found]
    except KeyError as error:
        raise ConventionError(f"{system}'s {cell} lacks {error}") from None
    if missing:
        raise ConventionError(f"{system}'s {cell} lacks what is {', '.join(missing)} here; got {', '.join(arrays)}")
    found = _adjusted(found, how, -1.0 if not gradients else 0.0)
    found = {name: _reordered(a, how.gates, ours, name) for name, a in found.items()}
    return _contiguous(_two_biases(how, cell, found, gradients))


def fitting(system: str, arrays: Mapping[str, Array], H: int | None = None) -> list[str]:
    """The cells that arrays can be, by their names and shapes.

    Parameters
    ----------
    system : str
        Key of `LAYOUTS`.
    arrays : mapping of str to array
        By the system's names.
    H : int, optional
        Units; only cuDNN's buffer does not tell.

    Returns
    -------
    list of str
        Often one. An RNN's parameters do not tell tanh from relu, and in most systems not where a GRU's reset stands.

    Raises
    ------
    ConventionError
        If the system is unknown, or none of its cells has such arrays.

    Examples
    --------
    >>> keras = {"kernel": np.zeros((3, 15)), "recurrent_kernel": np.zeros((5, 15)), "bias": np.zeros((2, 15))}
    >>> fitting("keras", keras)
    ['gru']
    """
    if system not in LAYOUTS:
        raise ConventionError(f"system is {system!r}, expected one of {', '.join(LAYOUTS)}")
    found = [cell for cell in LAYOUTS[system] if _fits(system, cell, arrays, H)]
    if not found:
        had = ", ".join(f"{name} {np.shape(a)}" for name, a in arrays.items())
        raise ConventionError(f"no cell of {system}'s has the arrays {had}")
    return found


def _fits(system: str, cell: str, arrays: Mapping[str, Array], H: int | None) -> bool:
    """Whether arrays of these shapes, all of them and no others, are such a cell's parameters."""
    zeros = {name: np.zeros(np.shape(a)) for name, a in arrays.items()}
    try:
        ours = from_system(system, cell, zeros, H, gradients=True)
        theirs = to_system(system, cell, ours, gradients=True)
    except (ValueError, IndexError):  # there are others, or they cannot be cut into such blocks
        return False
    H = len(ours["W_ih"]) // CELLS[cell].gates
    R = len(ours["W_hr"]) if "W_hr" in ours else H
    expected = parameter_shapes(CELLS[cell], ours["W_ih"].shape[1], H, R)._asdict()
    return _shapes(theirs) == _shapes(zeros) and _shapes(ours) == expected


def _shapes(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: a.shape for name, a in arrays.items()}


def states_to_system(system: str, cell: str, states: Mapping[str, Array]) -> tuple[Array, ...]:
    """States, or gradients of states, in the order in which a system has them.

    Parameters
    ----------
    system, cell : str
        Keys of `LAYOUTS`.
    states : mapping of str to array
        h and, for an LSTM, c, as torch has them: (D, B, H), or (B, H) for one direction.

    Returns
    -------
    tuple of array
        The same arrays: no system lays a state out in another way than as rows, only their order differs.

    Examples
    --------
    >>> h, c = np.zeros((1, 2)), np.ones((1, 2))
    >>> [s.tolist() for s in states_to_system("flax", "lstm", {"h": h, "c": c})]
    [[[1.0, 1.0]], [[0.0, 0.0]]]
    """
    return tuple(states[name] for name in layout(system, cell).states if name in CELLS[cell].State._fields)


def states_from_system(system: str, cell: str, states: Sequence[Array]) -> dict[str, Array]:
    """Undo `states_to_system`.

    Raises
    ------
    ConventionError
        If there are more or fewer states than the cell has.
    """
    names = [name for name in layout(system, cell).states if name in CELLS[cell].State._fields]
    if len(states) != len(names):
        raise ConventionError(f"{system}'s {cell} has the states {', '.join(names)}; got {len(states)}")
    return dict(zip(names, states))


def _bias_names(how: Layout) -> tuple[str, ...]:
    return {"two": ("b_ih", "b_hh"), "one": ("b",), "one and n": ("b", "b_n")}[how.biases]


def _with_biases(how: Layout, system: str, cell: str, params: Arrays, gradients: bool, merge: bool) -> Arrays:
    """Biases as the system has them, all else as it is."""
    if how.biases == "two":
        return params
    rest = {name: a for name, a in params.items() if name not in ("b_ih", "b_hh")}
    b_ih, b_hh = params["b_ih"], params["b_hh"]
    n = len(b_hh) * 2 // 3  # where the block of n begins, in a GRU
    inside = cell == "gru"  # b_hn stands inside the product with r, and cannot be added to b_in
    if gradients:
        shared = slice(None, n if inside else None)
        if not np.array_equal(b_ih[shared], b_hh[shared]):
            raise ConventionError("the gradients of both biases differ, where one bias can have one gradient only")
        return rest | {"b": b_ih} | ({"b_n": b_hh[n:]} if how.biases == "one and n" else {})
    other = b_hh.copy()
    if how.biases == "one and n":
        rest["b_n"] = b_hh[n:]
        other[n:] = 0
    elif inside and b_hh[n:].any():
        raise ConventionError(f"{system}'s {cell} has no bias inside the product with r: b_hh of gate n is not zero")
    if other.any() and not merge:
        raise ConventionError(f"{system}'s {cell} has one bias: b_hh is not zero, and can only be merged (merge=True)")
    return rest | {"b": b_ih + other}


def _two_biases(how: Layout, cell: str, arrays: Arrays, gradients: bool) -> Arrays:
    """Undo `_with_biases`."""
    if how.biases == "two":
        return arrays
    rest = {name: a for name, a in arrays.items() if name not in ("b", "b_n")}
    b = arrays["b"]
    n = len(b) * 2 // 3
    b_hh = b.copy() if gradients else np.zeros_like(b)
    if "b_n" in arrays:
        b_hh[n:] = arrays["b_n"]
    elif cell == "gru":
        b_hh[n:] = 0  # there is none, so nothing is known of its gradient
    return rest | {"b_ih": b, "b_hh": b_hh}


def _reordered(a: Array, before: str, after: str, name: str) -> Array:
    """Blocks of rows in another order; peepholes have those of i, f and o only."""
    if name == "P":
        before, after = (order.replace("g", "") for order in (before, after))
    if name in ("b_n", "W_hr") or before == after:
        return a
    blocks = np.split(a, len(before))
    return np.concatenate([blocks[before.index(gate)] for gate in after])


def _adjusted(arrays: Arrays, how: Layout, sign: float) -> Arrays:
    """Turn z round, σ(-a) = 1 - σ(a), and take off (sign 1) or add (-1) what the system adds at run time."""
    if not how.z_weighs_candidate and not how.forget_bias:
        return arrays
    found = {name: a.copy() for name, a in arrays.items()}
    for name, a in found.items():
        if name in ("b_n", "P", "W_hr"):
            continue
        blocks = np.split(a, len(how.gates))  # views
        if how.z_weighs_candidate:
            blocks[how.gates.index("z")] *= -1
        if how.forget_bias and name == "b" and sign:
            block = blocks[how.gates.index("f")]
            moved = block - sign * how.forget_bias
            if not np.array_equal(moved + sign * how.forget_bias, block):
                raise ConventionError(
                    f"the forget bias would be rounded: {how.forget_bias:g} is added to it at run time"
                )
            block[...] = moved
    return found


def _contiguous(arrays: Arrays) -> Arrays:
    return {name: np.ascontiguousarray(a) for name, a in arrays.items()}
