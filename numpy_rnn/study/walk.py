"""Carries out the equations of a textbook file, one after the other, on a case so small that every number is shown.

The loss is Σ_t G_t · h_t + K_h · h_T, for an LSTM + K_c · c_T: G_t is what arrives at the output of the step that made
h_t, K what arrives at the final state. So dh_T begins as G_T + K_h, dc_T as K_c, and any other dh_t as G_t.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..fast.cell import Cell
from ..fast.numerics import Array, relu
from ..fast.registry import CELLS
from ..textbook.functions import sigmoid
from ..verify.case import Case, make_case
from .equations import Equation, of_docstring, read
from .jacobian import JACOBIANS
from .source import FUNCTIONS, CodeLine, code_lines, module_of

GATES = {1: "", 3: "rzn", 4: "ifgo"}  # in the order of the blocks in W_ih
PEEPHOLES = "ifo"  # in the order of the blocks in P


class Value(NamedTuple):
    """A number's, a vector's or a matrix' value at some moment."""

    name: str  # with the step, such as "h_2"
    array: Array  # a vector is a column
    line: int | None  # index of the line of the walk that computed it; None: it is given
    meaning: str  # of what is given or is a part of another value; "" elsewhere


class Line(NamedTuple):
    """One equation, carried out once."""

    equation: Equation
    direction: str  # "forward" or "backward"
    step: int
    inputs: Mapping[str, int]  # names on the right side -> index of the value
    before: int | None  # index of the value to which the right side was added
    result: Array  # what came out, whole
    outputs: tuple[int, ...]  # its parts: indices of values; one index if it is one, or has several names
    code: tuple[CodeLine, ...]  # none for a Jacobian


class Moment(NamedTuple):
    """All lines of one number at one step."""

    direction: str
    step: int
    number: str
    lines: tuple[int, ...]


class Jacobian(NamedTuple):
    """∂s_{t+1}/∂s_t of one step, and what it does with the gradient that arrives."""

    step: int
    fields: tuple[str, ...]  # of the state, below one another in the vectors and matrices that follow
    lines: tuple[int, ...]  # its factors and blocks
    matrix: Array  # (S, S)
    arrived: Array  # ds_{t+1} (S, 1), complete
    carried: Array  # matrixᵀ arrived
    loss: Array  # what the loss sends to s_t directly
    result: Array  # ds_t as the equations (4') … (1') have it


class Walk(NamedTuple):
    """A case, carried out."""

    cell: Cell
    case: Case
    values: tuple[Value, ...]
    lines: tuple[Line, ...]
    moments: tuple[Moment, ...]  # all forward ones, then all backward ones
    jacobians: tuple[Jacobian, ...]  # in the order of the steps backwards
    given: tuple[int, ...]  # indices of values: parameters, inputs, h_0, G, K, and dh_t as the loss sends it
    gradients: Mapping[str, Array]  # as `Case.named` calls them, in the shapes of parameters, x (T, B, I) and states

    def value(self, name: str) -> Array:
        """What a name stands for in the end, such as "h_3", "i_0", "dc_1" or "dW_hh"; vectors are columns."""
        return next(v.array for v in reversed(self.values) if v.name == name)


def small_case(cell: str, steps: int, inputs: int, hidden: int, projection: int, seed: int) -> Case:
    """A single sequence of random numbers with two decimals, so that a pocket calculator can follow.

    Parameters
    ----------
    cell : str
        Name of a cell of numpy_rnn, such as "lstm".
    steps, inputs, hidden : int
        T, I and H.
    projection : int
        R, for lstm_projection alone.
    seed : int
    """
    rng = np.random.default_rng(seed)
    scales = {"parameter": 0.5, "state": 0.5, "input": 1.0, "upstream": 1.0}

    def draw(*shape: int, role: str) -> Array:
        return np.round(scales[role] * rng.standard_normal(shape), 2) + 0.0  # no -0.0

    case = make_case("trace", cell, draw, T=steps, B=1, I=inputs, H=hidden, R=projection)
    if cell == "rnn_relu":  # else it often happens that all units are off, and all gradients 0
        ((p,),) = case.params
        case = case._replace(params=[[p._replace(b_ih=abs(p.b_ih), b_hh=abs(p.b_hh))]])
    return case


def walk(case: Case) -> Walk:
    """Carry out all equations of a case of one sequence, one layer and one direction.

    Examples
    --------
    >>> found = walk(small_case("lstm", steps=3, inputs=3, hidden=2, projection=1, seed=0))
    >>> [(m.direction, m.step, m.number) for m in found.moments][11:14]
    [('forward', 2, '4'), ('backward', 2, "4'"), ('backward', 2, "3'")]
    >>> found.value("h_3").shape, found.value("dW_hh").shape
    ((2, 1), (8, 2))
    """
    walker = _Walker(case)
    T = len(case.x)
    for t in range(T):
        walker.step("forward", t)
    for t in reversed(range(T)):
        walker.step("backward", t)
    return walker.done()


Key = tuple[str, int | None]  # a name without its step, and the step; None for what all steps share


def _at(name: str, t: int) -> Key:
    """What a name means at step t.

    Examples
    --------
    >>> _at("h_{t+1}", 2), _at("da_t", 2), _at("i", 2), _at("W_hh", 2), _at("∂h_{t+1}/∂a_t", 2)
    (('h', 3), ('da', 2), ('i', 2), ('W_hh', None), ('∂h_{t+1}/∂a_t', 2))
    """
    if "/" in name:
        return name, t
    if name.endswith("_{t+1}"):
        return name.removesuffix("_{t+1}"), t + 1
    shared = re.match(r"d?(W_|b_|P(_|$))", name)
    return name.removesuffix("_t"), None if shared else t


def with_step(text: str, t: int) -> str:
    """An equation's text with the step's number put in.

    Examples
    --------
    >>> with_step("dc_{t+1} += dh_{t+1} ∘ o", 2), with_step("dW_hh = Σ_t da_t h_tᵀ", 2)
    ('dc_3 += dh_3 ∘ o', 'dW_hh += da_2 h_2ᵀ')
    """
    if "Σ_t " in text:
        text = text.replace("Σ_t ", "").replace(" = ", " += ")
    return re.sub(r"_t(?![A-Za-z_])", f"_{t}", text.replace("_{t+1}", f"_{t + 1}"))


def _functions(cell: str) -> dict[str, Callable[..., Array]]:
    """What equations call."""
    f, slope = (relu, lambda a: 1.0 * (a > 0)) if cell == "rnn_relu" else (np.tanh, lambda a: 1 - np.tanh(a) ** 2)
    return {
        "f": f,
        "slope": slope,
        "tanh": np.tanh,
        "sigmoid": sigmoid,
        "below": lambda *parts: np.concatenate(parts),
        "diag": lambda v: np.diag(v[:, 0]),
    }


class _Walker:
    """The state of a walk: what each name stands for now, and all that has been noted."""

    def __init__(self, case: Case) -> None:
        self.case, self.cell = case, CELLS[case.cell]
        self.gates = GATES[self.cell.gates]
        self.functions = _functions(case.cell)
        self.equations = dict(zip(FUNCTIONS, of_docstring(str(module_of(self.cell).__doc__))))
        self.now: dict[Key, int] = {}
        self.values: list[Value] = []
        self.lines: list[Line] = []
        self.moments: list[Moment] = []
        self.jacobians: list[Jacobian] = []
        self.loss: dict[Key, Array] = {}
        self.fields: tuple[str, ...] = self.cell.State._fields
        self._give()
        self._send()
        self.given = tuple(range(len(self.values)))
        self._zero_gradients()

    def _give(self) -> None:
        case, T = self.case, len(self.case.x)
        for name, w in case.params[0][0]._asdict().items():
            self._set((name, None), w if w.ndim == 2 else w[:, None], None, "parameter")
        for t in range(T):
            self._set(("x", t), case.x[t].T, None, f"input of step {t}")
        for field, s in zip(self.fields, case.s0):
            self._set((field, 0), s[0].T, None, "initial state")

    def _send(self) -> None:
        """Begin the gradients of the states with what the loss sends them directly, and say how it is made up."""
        case, T = self.case, len(self.case.x)
        for t in range(T):
            self._set(("G", t + 1), case.doutput[t].T, None, f"arrives at the output of step {t}")
        for field, ds_n in zip(self.fields, case.ds_n):
            self._set((f"K_{field}", None), ds_n[0].T, None, f"arrives at the final {field}_{T}")
        for t in range(T + 1):
            for field, ds_n in zip(self.fields, case.ds_n):
                terms = [f"G_{t}"] * (field == "h" and t > 0) + [f"K_{field}"] * (t == T)
                zero = np.zeros_like(ds_n[0].T)
                sent = sum((v.array for v in self.values if v.name in terms), zero)
                self.loss[f"d{field}", t] = sent
                meaning = f"from the loss: {' + '.join(terms) or 'nothing'}"
                self._set((f"d{field}", t), sent, None, meaning)

    def _zero_gradients(self) -> None:
        for name, w in self.case.params[0][0]._asdict().items():
            zero = np.zeros_like(w if w.ndim == 2 else w[:, None])
            self._set((f"d{name}", None), zero, None, "no step has added to it yet")

    def _set(self, key: Key, array: Array, line: int | None, meaning: str = "") -> int:
        name, t = key
        label = name if t is None else with_step(name, t) if "/" in name else f"{name}_{t}"
        self.values.append(Value(label, array, line, meaning))
        self.now[key] = len(self.values) - 1
        return self.now[key]

    def _part(self, name: str) -> tuple[str, slice] | None:
        """The whole that a name is a part of, and its rows: W_hn of W_hh, a_i of a_t, P_o of P, W_h{r,z} of W_hh."""
        match = re.fullmatch(r"(d?)(W_h|b_h|P_|[auv]_)(?:\{(.*)\}|([a-z]))", name)
        letters = PEEPHOLES if match and match[2] == "P_" else self.gates
        if match is None or not set(chosen := (match[3] or match[4]).split(",")) <= set(letters):
            return None
        whole = match[1] + {"W_h": "W_hh", "b_h": "b_hh", "P_": "P"}.get(match[2], f"{match[2]}t")
        H = self.case.params[0][0].W_ih.shape[0] // self.cell.gates
        first = letters.index(chosen[0])
        return whole, slice(first * H, (first + len(chosen)) * H)

    def _index(self, name: str, t: int) -> int:
        """The value that a name stands for at step t; parts and wholes are made of one another where need be."""
        key = _at(name, t)
        if key in self.now:
            return self.now[key]
        if (part := self._part(name)) is not None:
            whole, rows = part
            value = self.values[self._index(whole, t)]
            return self._set(key, value.array[rows], value.line, value.meaning or f"rows of {value.name}")
        parts = [self.values[self._index(name.removesuffix("t") + gate, t)] for gate in self.gates]
        meaning = f"{', '.join(v.name for v in parts)}, one below another"
        return self._set(key, np.concatenate([v.array for v in parts]), parts[-1].line, meaning)

    def step(self, direction: str, t: int) -> None:
        """Carry out a step's equations, number by number."""
        arrived = self._state(t + 1) if direction == "backward" else None
        equations = self.equations[direction]
        for number in dict.fromkeys(e.number for e in equations):
            lines = tuple(self._carry_out(e, direction, t) for e in equations if e.number == number)
            self.moments.append(Moment(direction, t, number, lines))
        if arrived is not None:
            self.jacobians.append(self._jacobian(t, arrived))

    def _state(self, t: int) -> Array:
        """The gradient of the whole state t as it is now."""
        return np.concatenate([self.values[self.now[f"d{field}", t]].array for field in self.fields])

    def _carry_out(self, equation: Equation, direction: str, t: int) -> int:
        inputs: dict[str, int] = {}

        def at(name: str) -> Array:
            inputs[name] = self._index(name, t)
            return self.values[inputs[name]].array

        result = eval(equation.python, {**self.functions, "at": at})
        before = self._index(equation.targets[0], t) if equation.adds else None
        if before is not None:
            result = self.values[before].array + result
        line = len(self.lines)
        outputs = tuple(self._outputs(equation, result, t, line))
        code = code_lines(self.cell, direction, equation.number, equation.targets[0]) if equation.number != "∂" else ()
        self.lines.append(Line(equation, direction, t, inputs, before, result, outputs, code))
        return line

    def _outputs(self, equation: Equation, result: Array, t: int, line: int) -> Sequence[int]:
        """Give the result to the names on the left."""
        stacked = equation.left.startswith("[")
        parts = np.split(result, len(equation.targets)) if stacked else [result] * len(equation.targets)
        found = []
        for name, array in zip(equation.targets, parts):
            part = self._part(name)
            if part is not None and part[0].startswith("d") and (whole := _at(part[0], t)) in self.now:
                sums = self.values[self.now[whole]].array.copy()  # dP_i, of dP
                sums[part[1]] = array
                self._set(whole, sums, line)
            index = self._set(_at(name, t), array, line)
            if self.gates and re.fullmatch(r"[auv]_t", name):
                found += [self._index(name.removesuffix("t") + gate, t) for gate in self.gates]
            else:
                found.append(index)
        return found if stacked or len(found) > len(equation.targets) else found[:1]

    def _jacobian(self, t: int, arrived: Array) -> Jacobian:
        lines = tuple(self._carry_out(e, "backward", t) for e in read(JACOBIANS[self.case.cell]))
        blocks = [
            [self.values[self.now[f"∂{new}_{{t+1}}/∂{old}_t", t]].array for old in self.fields] for new in self.fields
        ]
        matrix: Array = np.block(blocks)
        loss = np.concatenate([self.loss[f"d{field}", t] for field in self.fields])
        return Jacobian(t, self.fields, lines, matrix, arrived, matrix.T @ arrived, loss, self._state(t))

    def done(self) -> Walk:
        """All that has been noted."""
        case = self.case
        final = {name: self.values[index].array for name, index in self.now.items()}
        gradients = {"dx": np.stack([final["dx", t].T for t in range(len(case.x))])}
        gradients |= {f"d{field}_0": final[f"d{field}", 0].T[None] for field in self.fields}
        for name, w in case.params[0][0]._asdict().items():
            gradients[f"d{name}"] = final[f"d{name}", None].reshape(w.shape)
        return Walk(
            self.cell,
            case,
            tuple(self.values),
            tuple(self.lines),
            tuple(self.moments),
            tuple(self.jacobians),
            self.given,
            gradients,
        )
