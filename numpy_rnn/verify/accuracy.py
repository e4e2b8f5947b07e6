"""How exact the results are: the true error of float64 and float32, forward and gradient, measured on this machine.

The cells compute in the floating-point type of their operands. The same code, run on the same numbers in a wider type,
gives the truth: float64 for float32, and for float64 NumPy's long double, which has 64 bits of mantissa on x86 (113 on
some other machines; where it is float64 again, float64 cannot be measured). tests/test_accuracy.py checks long double
itself against the equations in 50 digits.

Errors are max|a - b| / max|b| of each tensor; a row shows the worst tensor of the worst draw. Weights have torch's
usual initial scale, x, initial states and all upstream gradients are standard normal.

    python -m numpy_rnn.verify.accuracy                                     # the tables, in a minute or two
    python -m numpy_rnn.verify.accuracy --markdown docs/verify/accuracy.md  # puts them between two marks in that file

What follows from them is `rule`: how large a rounding error may be. docs/verify/accuracy.md tells where it holds.
"""

from __future__ import annotations

import argparse
import itertools
import math
import pathlib
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..fast.numerics import Array
from ..fast.registry import USER_FACING
from ..layers import recurrent as modules
from ..layers.files import put_between_marks
from . import gradcheck, rtrl
from .compare import Problem, Setting, make_problem, run_numpy
from .difference import difference

# The type in which the truth about another one is computed.
REFERENCE: dict[str, np.dtype[Any]] = {"float32": np.dtype(np.float64), "float64": np.dtype(np.longdouble)}

B = 2  # sequences in every measurement
SIZES = ((10, 16), (100, 16), (1000, 16), (10_000, 16), (100, 4), (100, 64), (100, 256), (1000, 64))  # (T, H)
QUICK_SIZES = ((10, 16), (100, 16), (100, 4))
GAINS = (1, 2, 4, 8)
GAIN_STEPS = (10, 30, 100, 300)
FORWARD = ("output", "h_n", "c_n")
DESCRIPTION = "Measure the true rounding errors of float32 and float64."


class Rule(NamedTuple):
    """Bounds of the rounding error, relative to a tensor's largest entry."""

    forward: float
    gradient: float


class Row(NamedTuple):
    """Worst errors of one cell at one size."""

    cell: str
    dtype: str
    T: int
    H: int
    forward: float
    gradient: float
    tensor: str  # of the worst gradient


def measurable(dtype: str) -> bool:
    """Whether this machine has a wider type to measure `dtype` with.

    Examples
    --------
    >>> measurable("float32")
    True
    """
    return bool(np.finfo(REFERENCE[dtype]).eps < np.finfo(dtype).eps)


def rule(dtype: str, T: int, B: int, H: int) -> Rule:
    """What rounding may cost, for one layer at torch's initial scale: more is a mistake, or an inferior algorithm.

    Values and every gradient by a state are dot products of H terms: the error of a sum of H rounded terms grows as √H,
    and the gates forget, so that it does not add up over time. Gradients of parameters are sums over T·B terms, hence
    √(T·B). The constant 1 holds the measured errors with little to spare, see docs/verify/accuracy.md.

    Parameters
    ----------
    dtype : "float64" or "float32"
    T, B, H : int
        Steps, sequences, units. If there are more inputs than units, their number is H.

    Examples
    --------
    >>> forward, gradient = rule("float64", T=100, B=4, H=16)
    >>> round(forward / np.finfo(float).eps), round(gradient / np.finfo(float).eps)
    (5, 24)
    """
    eps = float(np.finfo(dtype).eps)
    return Rule(eps * (1 + math.sqrt(H)), eps * (math.sqrt(H) + math.sqrt(T * B)))


def tolerance(dtype: str, T: int, B: int, H: int, layers: int = 1) -> Rule:
    """How far two correct implementations may be apart: 4 times `rule`, for each layer.

    Twice, because both have errors; and twice again for data less fortunate than what was measured.

    Examples
    --------
    >>> print("{:.0e} {:.0e}".format(*tolerance("float32", T=100, B=4, H=16)))
    2e-06 1e-05
    """
    forward, gradient = rule(dtype, T, B, H)
    return Rule(4 * layers * forward, 4 * layers * gradient)


def true_errors(cell: str, dtype: str, T: int, H: int, draw: int = 0, gain: float = 1.0) -> dict[str, float]:
    """Errors of all values and gradients of one random problem, computed in `dtype`.

    `cell` is a key of `numpy_rnn.fast.registry.USER_FACING`; there are 2 sequences and H // 2 + 1 inputs; W_hh is
    multiplied by `gain`, for recurrences that amplify.

    Raises
    ------
    ValueError
        If this machine has no wider type.

    Examples
    --------
    >>> errors = true_errors("gru", "float32", T=20, H=8)
    >>> max(errors.values()) < max(rule("float32", T=20, B=2, H=8))
    True
    """
    if not measurable(dtype):
        raise ValueError(f"{dtype} cannot be measured here: NumPy's {REFERENCE[dtype]} is no wider on this machine")
    arguments = {"proj_size": H // 2} if cell == "lstm_projection" else {}
    problem = make_problem(USER_FACING[cell], Setting(f"draw {draw}", T, B, H // 2 + 1, H, arguments), dtype)
    for name, p in problem.parameters.items():
        if name.startswith("weight_hh"):
            p *= gain
    rounded, true = run_numpy(problem), run_numpy(widened(problem, REFERENCE[dtype]))
    return {name: difference(rounded[name].astype(b.dtype), b).error for name, b in true.items()}


def widened(problem: Problem, dtype: np.dtype[Any]) -> Problem:
    """The same numbers in a wider type: the inputs are exact, only the arithmetic differs."""
    return problem._replace(
        parameters={name: p.astype(dtype) for name, p in problem.parameters.items()},
        x=problem.x.astype(dtype),
        states=tuple(s.astype(dtype) for s in problem.states),
        doutput=problem.doutput.astype(dtype),
        dstates=tuple(s.astype(dtype) for s in problem.dstates),
    )


def measure(cell: str, dtype: str, T: int, H: int, draws: int | None = None, gain: float = 1.0) -> Row:
    """Worst errors over several draws; three by default, one where long double takes seconds."""
    draws = draws or (3 if T * H <= 16_000 else 1)
    forward, gradient, tensor = 0.0, 0.0, ""
    for draw in range(draws):
        errors = true_errors(cell, dtype, T, H, draw, gain)
        forward = max(forward, *(e for name, e in errors.items() if name in FORWARD))
        worst = max((e, name) for name, e in errors.items() if name not in FORWARD)
        gradient, tensor = max((gradient, tensor), worst)
    return Row(cell, dtype, T, H, forward, gradient, tensor)


# ---- the methods that gradients are checked with


def method_errors(cell: str, T: int = 200, H: int = 5, entries: int = 3) -> dict[str, float]:
    """True error of BPTT and of each method that checks it, in float64, against long double; and of BPTT in float32.

    Errors are relative to the largest entry of each gradient, that of the adjoint identity to ‖u‖ ‖J v‖; `entries`
    random entries of each tensor are differentiated one by one.

    Raises
    ------
    ValueError
        If this machine has no wider type.
    """
    if not measurable("float64"):
        raise ValueError("float64 cannot be measured here: NumPy's long double is no wider on this machine")
    rng = np.random.default_rng(T + H)
    problem = make_problem(USER_FACING[cell], Setting("methods", T, B, 3, H), "float64")
    theirs = Flat(cell, problem)
    true, bptt = theirs.gradients(np.longdouble), theirs.gradients(np.float64)
    steps: dict[str, Callable[..., tuple[Array, ...]]] = {
        "complex step": gradcheck.jvp_complex_step,
        "Richardson": gradcheck.jvp_central_differences,
        "central differences": central_differences,
    }
    errors = {"BPTT": worst(bptt, true), "real-time recurrent learning": worst(theirs.forwards(), true)}
    for name, jvp in steps.items():
        errors[name] = max(
            abs(inner(theirs.upstream, jvp(theirs.states, theirs.inputs, direction)) - float(g[index]))
            / float(np.max(np.abs(g)))
            for direction, g, index in theirs.unit_directions(true, entries, rng)
        )
    errors["adjoint identity"] = max(theirs.adjoint(bptt, k, rng) for k in range(len(theirs.inputs)))
    errors["BPTT in float32"] = measure(cell, "float32", T, H, draws=1).gradient
    return errors


class Flat:
    """A cell's problem as a function of several arrays: parameters, x, initial states → trajectories of states."""

    def __init__(self, cell: str, problem: Problem) -> None:
        """Take the numbers of a problem with one layer in one direction."""
        layer = getattr(modules, problem.kind.cls)(**problem.arguments, dtype=np.float64)
        layer.load_state_dict(problem.parameters)
        self.cell = layer.cell
        (self.params,) = layer.params()[0]
        self.x = problem.x
        self.s0 = self.cell.State(*(s[0] for s in problem.states))
        self.inputs = [*self.params, self.x, *self.s0]
        # Upstream gradients: of all outputs, and of the final states.
        self.upstream = self.cell.State(*(np.zeros((len(self.x) + 1, *s.shape)) for s in self.s0))
        self.upstream.h[1:] = problem.doutput
        for direct, final in zip(self.upstream, problem.dstates):
            direct[-1] += final[0]

    def split(self, arrays: Sequence[Array]) -> tuple[Any, Array, Any]:
        """The cell's Params, x and State of a flat list."""
        n = len(self.params)
        return self.cell.Params(*arrays[:n]), arrays[n], self.cell.State(*arrays[n + 1 :])

    def states(self, *arrays: Array) -> tuple[Array, ...]:
        """All states of the trajectory."""
        states, _ = self.cell.forward(*self.split(arrays))
        return tuple(states)

    def gradients(self, dtype: Any) -> list[Array]:
        """All gradients by the hand-written backward, in the given type."""
        _, tape = self.cell.forward(*self.split([a.astype(dtype) for a in self.inputs]))
        grads, dx, ds0 = self.cell.backward(tape, self.cell.State(*(u.astype(dtype) for u in self.upstream)))
        return [*grads, dx, *ds0]

    def forwards(self) -> list[Array]:
        """All gradients by real-time recurrent learning."""
        grads, dx, ds0 = rtrl.gradients(self.cell, self.params, self.x, self.s0, self.upstream)
        return [*grads, dx, *ds0]

    def unit_directions(
        self, gradients: Sequence[Array], entries: int, rng: np.random.Generator
    ) -> Iterator[tuple[list[Array | None], Array, tuple[int, ...]]]:
        """Directions along single entries of each input, its gradient, and the entry."""
        for k, (a, g) in enumerate(zip(self.inputs, gradients)):
            for flat in rng.choice(a.size, min(a.size, entries), replace=False):
                index = tuple(int(i) for i in np.unravel_index(flat, a.shape))
                direction: list[Array | None] = [None] * len(self.inputs)
                unit = direction[k] = np.zeros(a.shape)
                unit[index] = 1
                yield direction, g, index

    def adjoint(self, gradients: Sequence[Array], k: int, rng: np.random.Generator) -> float:
        """``|⟨u, J v⟩ - ⟨Jᵀu, v⟩| / (‖u‖ ‖J v‖)`` for a random v in input k."""
        direction: list[Array | None] = [None] * len(self.inputs)
        v = direction[k] = rng.standard_normal(self.inputs[k].shape)
        Jv = gradcheck.jvp_complex_step(self.states, self.inputs, direction)
        apart = inner(self.upstream, Jv) - inner([gradients[k]], [v])
        return abs(apart) / math.sqrt(inner(self.upstream, self.upstream) * inner(Jv, Jv))


def central_differences(f: Callable[..., Any], inputs: Sequence[Array], direction: Sequence[Any]) -> tuple[Array, ...]:
    """Plain central differences at the best step for float64, about the cube root of eps."""
    return gradcheck.jvp_central_differences(f, inputs, direction, first_step=1e-5, levels=1)


def inner(a: Iterable[Array], b: Iterable[Array]) -> float:
    """⟨a, b⟩, summed over all arrays."""
    return float(sum(np.sum(x * y) for x, y in zip(a, b)))


def worst(got: Iterable[Array], true: Iterable[Array]) -> float:
    """Error of the worst tensor."""
    return max(difference(a.astype(b.dtype), b).error for a, b in zip(got, true))


# ---- tables


def tables(quick: bool = False) -> Iterator[str]:
    """All tables as Markdown, one after the other; `quick` measures small sizes only, in seconds."""
    sizes, dtypes = QUICK_SIZES if quick else SIZES, [d for d in ("float64", "float32") if measurable(d)]
    each = [(dtype, which) for dtype in dtypes for which in ("forward", "gradient")]
    rows = [measure(cell, dtype, T, H) for dtype, cell, (T, H) in itertools.product(dtypes, USER_FACING, sizes)]

    def worst_at(dtype: str, which: str, T: int, H: int) -> str:
        found = [(getattr(r, which), r.cell) for r in rows if (r.dtype, r.T, r.H) == (dtype, T, H)]
        error, cell = max(found)
        return f"{error:.1e} of {getattr(rule(dtype, T, B, H), which):.1e}, {cell}"

    lines = [[str(T), str(H), *(worst_at(*which, T, H) for which in each)] for T, H in sizes]
    yield table("Largest true error, of what the rule allows, and whose", ["T", "H", *map(" ".join, each)], lines)
    if "float64" not in dtypes:
        return
    steps, lines = GAIN_STEPS[: 2 if quick else None], []
    for gain in GAINS:
        found = [measure("rnn_tanh", "float64", T, 16, 1, gain) for T in steps]
        lines.append([f"W_hh · {gain}", *(f"{r.gradient:.1e}" for r in found)])
    title = "float64, gradient, rnn_tanh with H = 16: recurrences that amplify"
    yield table(title, ["", *(f"T = {T}" for T in steps)], lines)
    T = 20 if quick else 200
    errors = {cell: method_errors(cell, T) for cell in USER_FACING}
    lines = [[name, *(f"{e[name]:.1e}" for e in errors.values())] for name in errors["lstm"]]
    yield table(f"Gradients by each method, T = {T}, H = 5; float64 but for the last", ["", *USER_FACING], lines)


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in (header, *rows)]
    return "\n".join([f"**{title}**", "", lines[0], "|---" * len(header) + "|", *lines[1:], ""])


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m numpy_rnn.verify.accuracy", description=DESCRIPTION)
    parser.add_argument("--quick", action="store_true", help="small sizes only, in seconds")
    parser.add_argument("--markdown", metavar="FILE", type=pathlib.Path, help="write the tables between FILE's marks")
    arguments = parser.parse_args(argv)
    eps = ", ".join(f"{t.__name__} {np.finfo(t).eps:.1e}" for t in (np.float32, np.float64, np.longdouble))
    text = "\n".join([f"NumPy {np.__version__} on {platform.machine()}; eps: {eps}.", "", *tables(arguments.quick)])
    if arguments.markdown:
        put_between_marks(arguments.markdown, "measured", text)
    else:
        print(text)
    if not measurable("float64"):
        print("float64 is not measured: NumPy's long double is float64 on this machine", file=sys.stderr)


if __name__ == "__main__":
    main()
