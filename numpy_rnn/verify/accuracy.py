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
import functools
import itertools
import math
import pathlib
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..fast.numerics import Array
from ..fast.registry import USER_FACING
from ..layers import recurrent as modules
from ..layers.files import put_between_marks
from .compare import Problem, Setting, make_problem, run_numpy
from .derivatives import inner, jvp_central_differences, jvp_complex_step
from .difference import FORWARD, difference
from .gradcheck import of_cell

# The type in which the truth about another one is computed.
REFERENCE: dict[str, np.dtype[Any]] = {"float32": np.dtype(np.float64), "float64": np.dtype(np.longdouble)}

B = 2  # sequences in every measurement
SIZES = ((10, 16), (100, 16), (1000, 16), (10_000, 16), (100, 4), (100, 64), (100, 256), (1000, 64))  # (T, H)
QUICK_SIZES = ((10, 16), (100, 16), (100, 4))
GAINS = (1, 2, 4, 8)
GAIN_STEPS = (10, 30, 100, 300)
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


def measurable(dtype: str) -> bool:
    """Whether this machine has a wider type to measure `dtype` with."""
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
    _require_wider(dtype)
    arguments = {"proj_size": H // 2} if cell == "lstm_projection" else {}
    problem = make_problem(USER_FACING[cell], Setting(f"draw {draw}", T, B, H // 2 + 1, H, arguments), dtype)
    for name, p in problem.parameters.items():
        if name.startswith("weight_hh"):
            p *= gain
    return errors_of(problem)


def errors_of(problem: Problem) -> dict[str, float]:
    """Errors of all tensors of a problem: in the wider type its inputs are the same, only the arithmetic differs."""
    wider = REFERENCE[problem.x.dtype.name]
    in_wider = problem._replace(
        parameters={name: p.astype(wider) for name, p in problem.parameters.items()},
        x=problem.x.astype(wider),
        states=tuple(s.astype(wider) for s in problem.states),
        doutput=problem.doutput.astype(wider),
        dstates=tuple(s.astype(wider) for s in problem.dstates),
    )
    rounded, true = run_numpy(problem), run_numpy(in_wider)
    return {name: difference(rounded[name].astype(wider), b).error for name, b in true.items()}


def measure(cell: str, dtype: str, T: int, H: int, draws: int | None = None, gain: float = 1.0) -> Row:
    """Worst errors over several draws; three by default, one where long double takes seconds."""
    draws = draws or (3 if T * H <= 16_000 else 1)
    found = [item for draw in range(draws) for item in true_errors(cell, dtype, T, H, draw, gain).items()]
    forward = max(error for name, error in found if name in FORWARD)
    gradient = max(error for name, error in found if name not in FORWARD)
    return Row(cell, dtype, T, H, forward, gradient)


def method_errors(cell: str, T: int = 200, H: int = 5, entries: int = 3) -> dict[str, float]:
    """True error of BPTT and of each method that checks it, in float64, against long double; and of BPTT in float32.

    Errors are relative to the largest entry of each gradient, that of the adjoint identity to ‖u‖ ‖J v‖; `entries`
    random entries of each tensor are differentiated one by one.

    Raises
    ------
    ValueError
        If this machine has no wider type.
    """
    _require_wider("float64")
    rng = np.random.default_rng(T + H)
    problem = make_problem(USER_FACING[cell], Setting("methods", T, B, 3, H), "float64")
    layer = getattr(modules, problem.kind.cls)(**problem.arguments, dtype=np.float64)
    layer.load_state_dict(problem.parameters)
    (params,) = layer.params()[0]
    f, vjp, named, others = of_cell(layer.cell, params, problem.x, layer.cell.State(*(s[0] for s in problem.states)))
    inputs = tuple(named.values())
    upstream = tuple(np.zeros((T + 1, *s[0].shape)) for s in problem.states)
    upstream[0][1:] = problem.doutput
    for direct, final in zip(upstream, problem.dstates):
        direct[-1] += final[0]

    bptt, true = vjp(inputs, upstream), vjp(_longdouble(inputs), _longdouble(upstream))
    errors = {
        "BPTT": _worst(bptt, true),
        "real-time recurrent learning": _worst(others["forward in time"](inputs, upstream), true),
    }

    def jvp(method: Any, k: int, v: Array) -> tuple[Array, ...]:
        return tuple(method(f, inputs, [v if j == k else None for j in range(len(inputs))]))

    methods = {
        "complex step": jvp_complex_step,
        "Richardson": jvp_central_differences,
        # Plain ones, at the best step for float64: about the cube root of eps.
        "central differences": functools.partial(jvp_central_differences, first_step=1e-5, levels=1),
    }
    for name, method in methods.items():
        errors[name] = 0.0
        for k, g in enumerate(true):
            for flat in rng.choice(g.size, min(g.size, entries), replace=False):
                unit = np.zeros(g.shape)
                unit.flat[flat] = 1
                apart = abs(inner(upstream, jvp(method, k, unit)) - float(g.flat[flat]))
                errors[name] = max(errors[name], apart / float(np.max(np.abs(g))))

    errors["adjoint identity"] = 0.0
    for k, g in enumerate(bptt):
        v = rng.standard_normal(g.shape)
        Jv = jvp(jvp_complex_step, k, v)
        apart = abs(inner(upstream, Jv) - inner([g], [v]))
        scale = math.sqrt(inner(upstream, upstream) * inner(Jv, Jv))
        errors["adjoint identity"] = max(errors["adjoint identity"], apart / scale)
    errors["BPTT in float32"] = measure(cell, "float32", T, H, draws=1).gradient
    return errors


def _require_wider(dtype: str) -> None:
    if not measurable(dtype):
        raise ValueError(f"{dtype} cannot be measured here: NumPy's {REFERENCE[dtype]} is no wider on this machine")


def _longdouble(arrays: Iterable[Array]) -> tuple[Array, ...]:
    return tuple(a.astype(np.longdouble) for a in arrays)


def _worst(got: Iterable[Array], true: Iterable[Array]) -> float:
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
