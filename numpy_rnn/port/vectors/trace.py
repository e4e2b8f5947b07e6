"""Every number that the textbook computes on the way, by name: gates, pre-activations and their gradients of all steps.

`numpy_rnn.textbook` has each cell as its equations are written, one sequence after the other. Here the same text
runs with one line more at the end of each loop, which notes what the step's variables hold. So the names, their order,
and the equation beside each are the textbook's own, and a textbook with a mistake in it can be traced as well.
"""

from __future__ import annotations

import ast
import itertools
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ...fast.numerics import Array
from ...fast.registry import CELLS
from ...verify.case import Case
from ...verify.zoo import Mistake
from ...verify.zoo.mistake import LAYERS, Machine, assemble, changes_of, patched, textbook_module

Direction = tuple[int, int]  # layer, direction


class Trace(NamedTuple):
    """What a run computed on the way, by layer and direction, in the order of execution."""

    forward: Mapping[Direction, Mapping[str, Array]]  # (T, B, ·) each, 0 in the padding
    backward: Mapping[Direction, Mapping[str, Array]]  # (T, B, ·) each, 0 in the padding
    running: Mapping[Direction, Mapping[str, Array]]  # (T, …) each: sums over steps t … T-1 and all sequences
    results: Mapping[str, Array]  # as `Machine.run` names them


class Step(NamedTuple):
    """What one step of one sequence noted."""

    call: int
    t: int
    values: dict[str, Array]


class Notes:
    """Counts the textbook's runs over sequences, keeps what their steps note, and hands backward another's values.

    Parameters
    ----------
    own : function of int
        For the number of a call, 0, 1, …, somebody's forward values by name, (T, ·) each in the order of its steps;
        an empty mapping leaves the textbook its own.

    Attributes
    ----------
    steps : dict of str to list of Step
        What "forward" and "backward" noted, in the order of execution.
    """

    def __init__(self, own: Callable[[int], Mapping[str, Array]]) -> None:
        self.own = own
        self.calls = {"forward": -1, "backward": -1}
        self.steps: dict[str, list[Step]] = {"forward": [], "backward": []}

    def begin(self, name: str) -> None:
        """A sequence begins."""
        self.calls[name] += 1

    def note(self, name: str, t: int, variables: Mapping[str, Any]) -> None:
        """A step has ended."""
        self.steps[name].append(Step(self.calls[name], t, dict(_noted(t, variables))))

    def replace(self, names: Sequence[str], variables: Mapping[str, Any]) -> None:
        """Forward has ended: put another's values, where there are any, into the lists that backward reads."""
        own = self.own(self.calls["forward"])
        for t in range(len(variables["x"])):
            for state in ("h", "c"):
                if state in own:
                    variables[state][t + 1] = own[state][t]
            if names:
                kept = zip(names, variables["gates"][t])
                variables["gates"][t] = tuple(own[name][t] if name in own else value for name, value in kept)


def _noted(t: int, variables: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    """Copies of the vectors of this step, of the states' after it, and of sums so far."""
    for name, value in variables.items():
        if (name in ("h", "c") and len(value) == t + 2) or name in ("dh", "dc"):
            yield name, np.array(value[t + 1])
        elif name == "dx":
            yield name, np.array(value[t])
        elif isinstance(value, np.ndarray) and (value.ndim == 1 or name.startswith("dW")):
            yield name, np.array(value)


def _saved(forward: ast.FunctionDef) -> list[str]:
    """Names of what forward appends to `gates`, as backward reads them."""
    calls = [node for node in ast.walk(forward) if isinstance(node, ast.Call)]
    found = [call.args[0] for call in calls if ast.unparse(call.func) == "gates.append"]
    return [ast.unparse(name) for values in found if isinstance(values, ast.Tuple) for name in values.elts]


@cache
def _noting(module: str, text: str) -> Any:
    """The code of a textbook module that notes every step of its loops over time."""
    tree = ast.parse(text)
    for function in tree.body:
        if isinstance(function, ast.FunctionDef) and function.name in ("forward", "backward"):
            for statement in function.body:
                if isinstance(statement, ast.For):
                    statement.body += ast.parse(f"_notes.note({function.name!r}, t, locals())").body
            if function.name == "forward":
                function.body[-1:-1] = ast.parse(f"_notes.replace({_saved(function)!r}, locals())").body
            function.body[1:1] = ast.parse(f"_notes.begin({function.name!r})").body  # after the docstring
    return compile(ast.fix_missing_locations(tree), f"<{module}.py, noting>", "exec")


def noting_machine(cell: str, mistakes: Sequence[Mistake], notes: Notes) -> Machine:
    """Return the textbook's machine for a cell, with mistakes if there are any, whose every step is noted in `notes`.

    Examples
    --------
    >>> from numpy_rnn.verify import zoo
    >>> case, notes = zoo.cases("rnn_tanh")[0], Notes(lambda call: {})
    >>> _ = noting_machine("rnn_tanh", (), notes).run(case)
    >>> notes.steps["forward"][0].values["a"].shape == case.params[0][0].b_hh.shape
    True
    """
    changes = changes_of(cell, mistakes)
    modules = []
    for name in (textbook_module(cell), LAYERS):
        text = patched(name, changes)
        module: Any = types.ModuleType(f"numpy_rnn.textbook.{name}")
        module.__package__ = "numpy_rnn.textbook"
        module._notes = notes
        exec(compile(text, f"<{name}.py>", "exec") if name == LAYERS else _noting(name, text), module.__dict__)
        modules.append(module)
    return assemble(cell, *modules)


def trace(case: Case, *mistakes: Mistake, own: Mapping[str, Array] | None = None) -> Trace:
    """Run the textbook, with mistakes if there are any, and keep everything.

    Parameters
    ----------
    case : Case
        In any dtype.
    *mistakes : Mistake
    own : mapping of str to array, optional
        Somebody's values of forward (T, B, ·), by the case's names: backward goes on from these, instead of from the
        textbook's, and so does the next layer.

    Examples
    --------
    >>> from numpy_rnn.verify import zoo
    >>> found = trace(zoo.cases("gru")[0])
    >>> list(found.forward[0, 0])
    ['u_r', 'u_z', 'u_n', 'v_r', 'v_z', 'v_n', 'r', 'z', 'n', 'h']
    >>> list(found.backward[0, 0])
    ['dh', 'dn', 'dz', 'du_n', 'dv_n', 'dr', 'du_r', 'du_z', 'dx']
    """
    places = _places(case, backwards=False)
    given = own or {}

    def theirs(call: int) -> dict[str, Array]:
        l, d, b = places[call % len(places)]  # a mistake may run everything twice; the second run counts
        names = {name: case.parameter_name(name, l, d) for name in equations(case.cell)["forward"]}
        return {name: given[whole][taken[d, b], b] for name, whole in names.items() if whole in given}

    notes = Notes(theirs)
    machine = noting_machine(case.cell, mistakes, notes)
    T, lengths = case.x.shape[0], case.all_lengths
    taken = {(d, b): [*machine.layers.steps_of(d, n, T)] for d in (0, 1) for b, n in enumerate(lengths)}
    results = machine.run(case)
    forward = _gathered(case, notes.steps["forward"], taken, backwards=False)
    backward = _gathered(case, notes.steps["backward"], taken, backwards=True)
    running = _summed(case, notes.steps["backward"])
    for place, values in forward.items():
        if "c" in values:
            values["tanh_c"] = np.tanh(values["c"])
        forward[place] = _in_order(case.cell, "forward", values)
    for place, values in backward.items():
        backward[place] = _in_order(case.cell, "backward", values)
    return Trace(forward, backward, running, results)


def _in_order(cell: str, function: str, values: Mapping[str, Array]) -> dict[str, Array]:
    """Those values that the function computes, in its order, without vectors that are made of others."""
    return {name: values[name] for name in equations(cell)[function] if name in values}


def _places(case: Case, backwards: bool) -> list[tuple[int, int, int]]:
    """Layer, direction and sequence of each run of the cell, in order."""
    layers = range(len(case.params))
    order = reversed(layers) if backwards else layers
    return list(itertools.product(order, range(len(case.params[0])), range(case.x.shape[1])))


def _gathered(
    case: Case, steps: Sequence[Step], taken: Mapping[tuple[int, int], Sequence[int]], backwards: bool
) -> dict[Direction, dict[str, Array]]:
    """Vectors (T, B, ·) of what was noted for single steps of single sequences, at the steps that were taken."""
    T, B, _ = case.x.shape
    places = _places(case, backwards)
    found: dict[Direction, dict[str, Array]] = {(l, d): {} for l, d, _ in places}
    for call, t, values in steps:
        l, d, b = places[call % len(places)]  # a mistake may run everything twice; the second run counts
        if t >= len(taken[d, b]):
            continue
        for name, value in values.items():
            if value.ndim == 1:
                array = found[l, d].setdefault(name, np.zeros((T, B, len(value)), value.dtype))
                array[taken[d, b][t], b] = value
    return found


def _summed(case: Case, steps: Sequence[Step]) -> dict[Direction, dict[str, Array]]:
    """Sums so far of the parameters' gradients, over all sequences, by the step that has just been added."""
    T, fields = case.x.shape[0], CELLS[case.cell].Params._fields
    places = _places(case, backwards=True)
    found: dict[Direction, dict[str, Array]] = {(l, d): {} for l, d, _ in places}
    last = max((step.call for step in steps), default=0) // len(places) * len(places) if places else 0
    for call, t, values in steps:
        if call < last:  # a mistake may run everything twice; the second run counts
            continue
        l, d, _ = places[call - last]
        for name in (f"d{field}" for field in fields):
            array = found[l, d].setdefault(name, np.zeros((T, *values[name].shape), values[name].dtype))
            array[t] += values[name]
    return found


# Lines that the first suite has otherwise, as they stood in the textbook when it was published; "": not at all. They
# compute the same, and a published file does not change.
SUITE_1 = {
    "rnn_tanh": {"h": "h[t + 1] = tanh(a)", "da": "da = dh[t + 1] * (1 - h[t + 1] ** 2)"},
    "rnn_relu": {"h": "h[t + 1] = maximum(a, 0)", "da": "da = dh[t + 1] * (h[t + 1] > 0)"},
    "gru_reset_before": {
        **{"v_r": "", "v_z": "", "q": ""},
        **{"r": "r = sigmoid(u_r + W_hr @ h[t] + b_hr)", "z": "z = sigmoid(u_z + W_hz @ h[t] + b_hz)"},
        "v_n": "v_n = W_hn @ (r * h[t]) + b_hn",
    },
}


@cache
def equations(cell: str) -> dict[str, dict[str, str]]:
    """What the textbook does for each name, by function, in the order of execution; what only joins others is left out.

    Examples
    --------
    >>> equations("gru")["forward"]["v_z"], equations("gru")["forward"]["h"]
    ('v_z = block 2 of 3 of W_hh @ h[t] + b_hh', 'h[t + 1] = (1 - z) * n + z * h[t]')
    >>> equations("gru")["backward"]["dh"]
    'dh[t] += dh[t + 1] * z; dh[t] += W_hh.T @ dv'
    """
    found: dict[str, dict[str, str]] = {}
    for function in ast.parse(patched(textbook_module(cell), ())).body:
        if isinstance(function, ast.FunctionDef):
            (loop,) = (s for s in function.body if isinstance(s, ast.For))
            # dh and dc have arrived when a step backwards begins.
            lines: dict[str, list[str]] = {name: [] for name in ("dh", "dc")[: 2 * (function.name == "backward")]}
            for statement in loop.body:
                for name, line in _assigned(statement).items():
                    lines.setdefault(name, []).append(line)
            skipped = {f"d{field}" for field in CELLS[cell].Params._fields}
            skipped |= {whole for whole in ("a", "da", "du", "dv") if any(n.startswith(f"{whole}_") for n in lines)}
            if function.name == "backward":
                skipped |= {name for name in lines if not name.startswith("d") or name.startswith(("dP", "dW"))}
            elif "c" in lines:  # what stands inside the line of h, or of m
                lines["tanh_c"] = ["tanh_c = np.tanh(c[t + 1])"]
                lines["h"] = lines.pop("h")
            texts = {n: "; ".join(text).replace("np.", "") for n, text in lines.items() if n not in skipped}
            if function.name == "backward":
                texts = {n: text.replace("tanh(c[t + 1])", "tanh_c") for n, text in texts.items()}
            texts |= {n: text for n, text in SUITE_1.get(cell, {}).items() if n in texts}
            found[function.name] = {n: text for n, text in texts.items() if text}
    return found


@cache
def joined(cell: str) -> dict[str, tuple[str, ...]]:
    """Vectors that the textbook's backward makes of others, one under the other, as its equations name them.

    Examples
    --------
    >>> joined("gru")
    {'du': ('du_r', 'du_z', 'du_n'), 'dv': ('du_r', 'du_z', 'dv_n')}
    """
    found = re.findall(r"(\w+) = np\.concatenate\(\[(.*?)\]\)", patched(textbook_module(cell), ()))
    return {name: tuple(parts.split(", ")) for name, parts in found}


def _assigned(statement: ast.stmt) -> dict[str, str]:
    """Names that a statement gives a value to, or adds to, each with what it does to this one alone."""
    text = ast.unparse(statement)
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Tuple):
        names, value = [ast.unparse(target) for target in statement.targets[0].elts], statement.value
        if isinstance(value, ast.Tuple):
            return {name: f"{name} = {ast.unparse(part)}" for name, part in zip(names, value.elts)}
        if isinstance(value, ast.Call):  # np.split(…, G)
            whole = ast.unparse(value.args[0])
            return {name: f"{name} = block {k + 1} of {len(names)} of {whole}" for k, name in enumerate(names)}
        return {}  # what a step kept
    target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
    while isinstance(target, ast.Subscript):
        target = target.value
    return {target.id: text} if isinstance(target, ast.Name) else {}
