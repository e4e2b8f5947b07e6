"""A case as a document: what stands in its JSON file, and the file's own rules.

    format, schema, suite, name, cell, levels, shows, optional, bias, sizes, lengths, conventions, order, provenance
    tensors     name → role, axes, shape, data, equation, noise
    sha256      of everything else

A tensor's role is parameter, input, upstream (a gradient that the loss sends), forward, backward, running (a sum so
far) or result. Numbers are written with the fewest digits, at most 17, that identify a float64; what is no number is
one of the strings "nan", "inf", "-inf". Everything under the first three roles is the same number in float32.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ...fast.numerics import Array
from ...fast.registry import CELLS
from ...verify.case import Case
from ...verify.zoo import Mistake
from .optimizers import RULES, Problem, run
from .suite import SUITE, Entry
from .trace import Trace, equations, trace

FORMAT, SCHEMA = "numpy-rnn golden vectors", 1
GIVEN = ("parameter", "input", "upstream")
ROLES = (*GIVEN, "forward", "backward", "running", "result")
# What is measured is rounded up to a power of two, so that it says what it can: how many bits are noise.
DTYPES = {"float64": np.float64, "float32": np.float32}

CONVENTIONS = {
    "layout": "time first: x (T, B, I), output (T, B, D*R), states (L*D, B, units), row-major",
    "weights": "W_ih (G*H, I), W_hh (G*H, R), biases (G*H); gates are blocks of H rows",
    "biases": "two, added; each has its whole gradient",
    "loss": "sum of output * doutput + h_n * dh_n (+ c_n * dc_n): there is no loss function to port",
    "padding": "steps from a sequence's length on are not computed: outputs and dx are 0 there, x there is not read",
    "final states": "those after each sequence's last step",
    "second direction": "reads each sequence from its own end; its output stands at the step that it reads",
}
GATES = {
    "rnn_tanh": "h' = tanh(a)",
    "rnn_relu": "h' = max(a, 0), derivative 0 at 0",
    "lstm": "gate order i, f, g, o",
    "lstm_projection": "gate order i, f, g, o; h = W_hr m",
    "lstm_peephole": "gate order i, f, g, o; peepholes P in the order i, f, o; o sees the new c",
    "gru": "gate order r, z, n; r multiplies W_hn h + b_hn; h' = (1 - z) n + z h",
    "gru_reset_before": "gate order r, z, n; r multiplies h before W_hn; h' = (1 - z) n + z h",
}


OPTIMIZERS = {
    "sgd": "torch.optim.SGD: weight decay in the gradient, no dampening; the first step's memory is its gradient",
    "adam": "torch.optim.Adam: both memories start at zero, eps outside the square root",
    "clip": "torch.nn.utils.clip_grad_norm_: one norm for all, 1e-6 in the denominator; each step for itself",
}


def document(entry: Entry) -> dict[str, Any]:
    """Compute a case and everything on the way.

    References are computed in NumPy's long double and rounded once, so that they are float64's nearest to the truth.

    Returns
    -------
    dict
        As it stands in the file.
    """
    case = entry.make()
    tensors = described(case)
    if isinstance(case, Problem):
        name, sizes, lengths = case.rule, dict.fromkeys("TBIHRLD", 1) | {"T": len(case.g)}, [len(case.g)]
        conventions, source = {"optimizer": OPTIMIZERS[case.rule]}, "numpy_rnn.vectors.optimizers"
    else:
        name, lengths = case.cell, list(case.all_lengths)
        p, (T, B, I) = case.params[0][0], case.x.shape
        H = len(p.W_hh) // CELLS[case.cell].gates
        sizes = dict(T=T, B=B, I=I, H=H, R=p.W_hh.shape[1], L=len(case.params), D=len(case.params[0]))
        conventions, source = {"cell": GATES[case.cell], **CONVENTIONS}, "numpy_rnn.zoo.textbook"
    found = {
        "format": FORMAT,
        "schema": SCHEMA,
        "suite": SUITE,
        "name": entry.name,
        "cell": name,
        "levels": {"forward": entry.forward, "backward": entry.backward},
        "shows": entry.shows,
        "optional": entry.optional,
        "bias": entry.bias,
        "sizes": sizes,
        "lengths": lengths,
        "conventions": conventions,
        "order": [name for name, tensor in tensors.items() if tensor["role"] not in GIVEN],
        # By the modules' names of the day when the files were published: their bytes do not change.
        "provenance": f"computed by {source} in long double, rounded to float64",
        "tensors": tensors,
    }
    return {**found, "sha256": digest(found)}


def described(case: Case | Problem) -> dict[str, dict[str, Any]]:
    """The tensors of a case as they stand in a document."""
    with np.errstate(all="ignore"):
        exact = _tensors(case.astype(np.longdouble))
        noise = {dtype: _noise(_tensors(case.astype(kind)), exact) for dtype, kind in DTYPES.items()}
    found = {}
    for name, (role, axes, equation, value) in exact.items():
        measured = {dtype: noise[dtype][name] for dtype in DTYPES if role not in GIVEN}
        found[name] = {
            "role": role,
            "axes": axes.split(),
            "shape": list(value.shape),
            **({"equation": equation} if equation else {}),
            **({"noise": measured} if measured else {}),
            "data": [_number(v) for v in value.astype(np.float64).ravel().tolist()],
        }
    return found


def text(found: Mapping[str, Any]) -> str:
    """A document as JSON: one tensor's data a line."""
    head = {**found, "tensors": {}}
    lines = [f"  {json.dumps(name)}: {json.dumps(tensor)}" for name, tensor in found["tensors"].items()]
    whole = json.dumps(head, indent=1)
    return whole.replace('"tensors": {}', '"tensors": {\n' + ",\n".join(lines) + "\n }") + "\n"


def digest(found: Mapping[str, Any]) -> str:
    """SHA-256 of a document without its own hash."""
    plain = {key: value for key, value in found.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def array(tensor: Mapping[str, Any]) -> Array:
    """A tensor's data as a float64 array.

    Examples
    --------
    >>> array({"shape": [1, 2], "data": [0.5, "-inf"]}).tolist()
    [[0.5, -inf]]
    """
    return np.array([float(v) for v in tensor["data"]]).reshape(tensor["shape"])


def case_of(found: Mapping[str, Any]) -> Case:
    """The stated problem of a document, to run or to `diagnose` with."""
    cell, sizes = CELLS[found["cell"]], found["sizes"]
    L, D = sizes["L"], sizes["D"]
    values = {name: array(tensor) for name, tensor in found["tensors"].items()}
    shell = Case(found["name"], found["cell"], [[None] * D] * L, values["x"], (), values["doutput"], ())

    def params(l: int, d: int) -> Any:
        return cell.Params(*(values[shell.parameter_name(field, l, d)] for field in cell.Params._fields))

    fields = cell.State._fields
    return shell._replace(
        params=[[params(l, d) for d in range(D)] for l in range(L)],
        s0=tuple(values[f"{f}_0"] for f in fields),
        ds_n=tuple(values[f"d{f}_n"] for f in fields),
        lengths=tuple(found["lengths"]),
        masks=tuple(values[f"mask_l{l}"] for l in range(L - 1)) or None,
    )


class Tensor(NamedTuple):
    """A tensor on its way into a document."""

    role: str
    axes: str
    equation: str
    value: Array


Tensors = dict[str, Tensor]
AXES = {
    "W_ih": "gate*unit input",
    "W_hh": "gate*unit state",
    "W_hr": "state unit",
    "x": "step sequence input",
    "output": "step sequence direction*unit",
    "mask": "step sequence direction*unit",
    "h": "layer*direction sequence unit",
    "c": "layer*direction sequence unit",
}


def _axes(name: str) -> str:
    """Axes of a parameter, an input, a result, or a gradient of one of these."""
    name = name.removeprefix("d")
    return next(
        (axes for start, axes in AXES.items() if name.split("_l")[0] in (start, f"{start}_0", f"{start}_n")),
        "gate*unit",
    )


def _tensors(case: Case | Problem) -> Tensors:
    return steps_of(case) if isinstance(case, Problem) else tensors_of(case)


def steps_of(given: Problem) -> Tensors:
    """All tensors of an optimizer's steps in the order of execution."""
    rule = RULES[given.rule]
    found = {
        "p_0": Tensor("parameter", "row column", "", given.p_0),
        "g": Tensor("input", "step row column", "", given.g),
    }
    for name, number in rule.hyperparameters.items():
        found[name] = Tensor("input", "", "", np.array(number, given.g.dtype))
    for name, value in run(given).items():
        found[name] = Tensor("forward", "step row column" if value.ndim > 1 else "step", rule.equations[name], value)
    return found


def tensors_of(case: Case, *mistakes: Mistake, own: Mapping[str, Array] | None = None) -> Tensors:
    """All tensors of a case in the order of execution, as the textbook computes them, or a textbook with mistakes.

    With `own`, backward goes on from these values of forward, as in `trace`.
    """
    cell, single = CELLS[case.cell], len(case.params) == len(case.params[0]) == 1
    given: list[tuple[str, str, Array]] = []
    for l, layer in enumerate(case.params):
        for d, p in enumerate(layer):
            given += [("parameter", case.parameter_name(field, l, d), w) for field, w in p._asdict().items()]
    given += [("input", "x", case.x), *(("input", f"{f}_0", s) for f, s in zip(cell.State._fields, case.s0))]
    given += [("input", f"mask_l{l}", mask) for l, mask in enumerate(case.masks or ())]
    given += [("upstream", "doutput", case.doutput)]
    given += [("upstream", f"d{f}_n", s) for f, s in zip(cell.State._fields, case.ds_n)]
    found = {name: Tensor(role, _axes(name), "", value) for role, name, value in given}

    traced = trace(case, *mistakes, own=own)
    results = {name: Tensor("result", _axes(name), "", value) for name, value in traced.results.items()}
    first = [name for name in results if name in ("output", "h_n", "c_n")]
    found |= _steps(traced, "forward", case.cell, single)
    found |= {name: results[name] for name in first}
    found |= _steps(traced, "backward", case.cell, single)
    if single:
        for name, value in traced.running[0, 0].items():
            found[f"{name}_running"] = Tensor("running", f"step {_axes(name)}", f"{name} of steps t … T-1", value)
    return found | {name: tensor for name, tensor in results.items() if name not in first}


def _steps(traced: Trace, role: str, cell: str, single: bool) -> Tensors:
    """What was computed step by step, under names that tell layer and direction where there are several."""
    places = traced.forward if role == "forward" else traced.backward
    lines = equations(cell)[role]
    found: Tensors = {}
    for (l, d), values in places.items():
        for name, value in values.items():
            if single and name == "dx":
                continue  # it is a result, too
            whole = name if single else f"{name}_l{l}{'_reverse' if d else ''}"
            found[whole] = Tensor(role, "step sequence unit", lines[name], value)
    return found


def _noise(got: Tensors, exact: Tensors) -> dict[str, float]:
    """How far a computation in a narrower type is off, max|a - b| / max|b|, rounded up to a power of two."""
    found = {}
    for name, (*_, right) in exact.items():
        finite = np.isfinite(right)
        apart = np.abs(got[name].value.astype(np.longdouble) - right)[finite]
        scale = np.max(np.abs(right[finite]), initial=0)
        error = float(np.max(apart, initial=0) / scale) if scale > 0 else 0.0
        found[name] = 2.0 ** math.ceil(math.log2(error)) if 0 < error < math.inf else 0.0
    return found


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
