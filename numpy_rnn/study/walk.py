"""Carries out the equations of a textbook file, one after the other, on a case so small that every number is shown.

The loss is Σ_t G_t · h_t + K_h · h_T, for an LSTM + K_c · c_T: G_t is what arrives at the output of the step that made
h_t, K what arrives at the final state. So dh_T begins as G_T + K_h, dc_T as K_c, and any other dh_t as G_t.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ..fast.numerics import Array, relu
from ..fast.registry import CELLS
from ..textbook.functions import sigmoid
from ..verify.case import Case, make_case
from .equations import FUNCTIONS, CodeLine, Equation, code_lines, evaluate, module_of, of_docstring, read
from .jacobian import JACOBIANS

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
    outputs: Mapping[str, int]  # what came out, as inputs; of a vector of all gates its parts, of two names the first
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
    found = Walk(case)
    for t in range(found.sizes["T"]):
        found.take_step("forward", t)
    for t in reversed(range(found.sizes["T"])):
        found.take_step("backward", t)
    return found


def called(name: str, t: int) -> str:
    """What the quantity that an equation names is called at step t.

    Examples
    --------
    >>> called("h_{t+1}", 2), called("da_t", 2), called("i", 2), called("W_hh", 2), called("∂h_{t+1}/∂a_t", 2)
    ('h_3', 'da_2', 'i_2', 'W_hh', '∂h_3/∂a_2')
    """
    found = with_step(name, t)
    complete = found != name or "/" in name or re.match(r"d?(W_|b_|P(_|$))", name)
    return found if complete else f"{name}_{t}"


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


def functions_of(cell: str) -> dict[str, Callable[[Array], Array]]:
    """What the equations of a cell call."""
    return {
        "tanh": np.tanh,
        "σ": sigmoid,
        "diag": lambda v: np.diag(v[:, 0]),
        "f": relu if cell == "rnn_relu" else np.tanh,
        "f'": (lambda a: 1.0 * (a > 0)) if cell == "rnn_relu" else (lambda a: 1 - np.tanh(a) ** 2),
    }


def dstates(case: Case) -> tuple[Array, ...]:
    """What the loss sends to every state of the trajectory directly, (T+1, B, ·) each."""
    found = tuple(np.zeros((len(case.x) + 1, *ds_n.shape[1:])) for ds_n in case.ds_n)
    found[0][1:] = case.doutput
    for ds, ds_n in zip(found, case.ds_n):
        ds[-1] += ds_n[0]
    return found


class Walk:
    """A case, carried out by `walk`.

    Attributes
    ----------
    case, cell : Case, Cell
    sizes : dict of str to int
        T, I, H and R, the units of h.
    values : list of Value
        The given ones come first: parameters, inputs, h_0, G, K, and dh_t as the loss sends it.
    given : int
        How many these are.
    lines, moments : list of Line, list of Moment
        All forward ones, then all backward ones.
    jacobians : list of Jacobian
        In the order of the steps backwards.
    """

    def __init__(self, case: Case) -> None:
        self.case, self.cell = case, CELLS[case.cell]
        self.params = {name: w if w.ndim == 2 else w[:, None] for name, w in case.params[0][0]._asdict().items()}
        (T, _, I), (GH, R) = case.x.shape, self.params["W_hh"].shape
        self.sizes = {"T": T, "I": I, "H": GH // self.cell.gates, "R": R}
        self.values: list[Value] = []
        self.lines: list[Line] = []
        self.moments: list[Moment] = []
        self.jacobians: list[Jacobian] = []
        self._fields: tuple[str, ...] = self.cell.State._fields
        self._gates = GATES[self.cell.gates]
        self._functions = functions_of(case.cell)
        self._equations = dict(zip(FUNCTIONS, of_docstring(str(module_of(self.cell).__doc__))))
        self._now: dict[str, int] = {}  # which value a name stands for
        self._sent = dstates(case)
        self._give()
        self.given = len(self.values)
        for name, w in self.params.items():
            self._set(f"d{name}", np.zeros_like(w), meaning="no step has added to it yet")

    def value(self, name: str) -> Array:
        """What a name stands for in the end, such as "h_3", "i_0", "dc_1" or "dW_hh"; vectors are columns."""
        return self.values[self._now[name]].array

    @property
    def gradients(self) -> dict[str, Array]:
        """By the names of `Case.named`, in the shapes of parameters, x (T, B, I) and states."""
        found = {"dx": np.stack([self.value(f"dx_{t}").T for t in range(self.sizes["T"])])}
        found |= {f"d{field}_0": self.value(f"d{field}_0").T[None] for field in self._fields}
        shapes = {name: w.shape for name, w in self.case.params[0][0]._asdict().items()}
        return found | {f"d{name}": self.value(f"d{name}").reshape(shape) for name, shape in shapes.items()}

    def _give(self) -> None:
        case, T = self.case, self.sizes["T"]
        for name, w in self.params.items():
            self._set(name, w, meaning="parameter")
        for t, x_t in enumerate(case.x):
            self._set(f"x_{t}", x_t.T, meaning=f"input of step {t}")
        for field, s_0 in zip(self._fields, case.s0):
            self._set(f"{field}_0", s_0[0].T, meaning="initial state")
        for t, G in enumerate(case.doutput):
            self._set(f"G_{t + 1}", G.T, meaning=f"arrives at the output of step {t}")
        for field, K in zip(self._fields, case.ds_n):
            self._set(f"K_{field}", K[0].T, meaning=f"arrives at the final {field}_{T}")
        for t in range(T + 1):
            for field, ds in zip(self._fields, self._sent):
                terms = [f"G_{t}"] * (field == "h" and t > 0) + [f"K_{field}"] * (t == T)
                self._set(f"d{field}_{t}", ds[t].T, meaning=f"from the loss: {' + '.join(terms) or 'nothing'}")

    def _set(self, name: str, array: Array, line: int | None = None, meaning: str = "") -> int:
        self.values.append(Value(name, array, line, meaning))
        self._now[name] = len(self.values) - 1
        return self._now[name]

    def _part(self, name: str) -> tuple[str, slice] | None:
        """The whole that a name is a part of, and its rows: W_hn of W_hh, a_i of a_t, P_o of P, W_h{r,z} of W_hh."""
        match = re.fullmatch(r"(d?)(W_h|b_h|P_|[auv]_)\{?(\w(?:,\w)*)\}?", name)
        letters = PEEPHOLES if match and match[2] == "P_" else self._gates
        if match is None or not set(chosen := match[3].split(",")) <= set(letters):
            return None
        whole = match[1] + {"W_h": "W_hh", "b_h": "b_hh", "P_": "P"}.get(match[2], f"{match[2]}t")
        H, first = self.sizes["H"], letters.index(chosen[0])
        return whole, slice(first * H, (first + len(chosen)) * H)

    def _index(self, name: str, t: int) -> int:
        """The value that a name stands for at step t; parts and wholes are made of one another where need be."""
        label = called(name, t)
        if label in self._now:
            return self._now[label]
        if (part := self._part(name)) is not None:
            whole, rows = part
            value = self.values[self._index(whole, t)]
            return self._set(label, value.array[rows], value.line, value.meaning or f"rows of {value.name}")
        parts = [self.values[index] for index in self._parts(name, t).values()]
        meaning = f"{', '.join(v.name for v in parts)}, one below another"
        return self._set(label, np.concatenate([v.array for v in parts]), parts[-1].line, meaning)

    def _parts(self, name: str, t: int) -> dict[str, int]:
        """Those of a_t, u_t, v_t and their gradients, gate by gate."""
        return {part: self._index(part, t) for part in (name.removesuffix("t") + gate for gate in self._gates)}

    def take_step(self, direction: str, t: int) -> None:
        """Carry out a step's equations, number by number."""
        arrived = self._gradient(t + 1)
        equations = self._equations[direction]
        for number in dict.fromkeys(e.number for e in equations):
            lines = tuple(self._carry_out(e, direction, t) for e in equations if e.number == number)
            self.moments.append(Moment(direction, t, number, lines))
        if direction == "backward":
            self._add_jacobian(t, arrived)

    def _gradient(self, t: int) -> Array:
        """The gradient by the whole state t as it is now."""
        return np.concatenate([self.value(f"d{field}_{t}") for field in self._fields])

    def _carry_out(self, equation: Equation, direction: str, t: int) -> int:
        """Note an equation's line, and give what comes out to the names on its left."""
        inputs: dict[str, int] = {}

        def value_of(name: str) -> Array:
            inputs[name] = self._index(name, t)
            return self.values[inputs[name]].array

        result = evaluate(equation.right, value_of, self._functions)
        before = self._index(equation.targets[0], t) if equation.adds else None
        if before is not None:
            result = self.values[before].array + result
        line, targets, outputs = len(self.lines), equation.targets, dict[str, int]()
        stacked = equation.text.startswith("[")
        for name, array in zip(targets, np.split(result, len(targets)) if stacked else [result] * len(targets)):
            self._add_to_whole(name, array, line)
            index = self._set(called(name, t), array, line)
            if stacked or not outputs:
                outputs |= (self._parts(name, t) if re.fullmatch("[auv]_t", name) else {}) or {name: index}
        code = code_lines(self.cell, direction, equation.number, targets[0]) if equation.number != "∂" else ()
        self.lines.append(Line(equation, direction, t, inputs, before, outputs, code))
        return line

    def _add_to_whole(self, name: str, array: Array, line: int) -> None:
        """Where a sum of gradients such as dP_i is a part of one such as dP, keep that up to date."""
        part = self._part(name)
        if part is not None and part[0] in self._now:
            whole = self.value(part[0]).copy()
            whole[part[1]] = array
            self._set(part[0], whole, line)

    def _add_jacobian(self, t: int, arrived: Array) -> None:
        lines = tuple(self._carry_out(e, "backward", t) for e in read(JACOBIANS[self.case.cell]))
        matrix: Array = np.block(
            [[self.value(f"∂{new}_{t + 1}/∂{old}_{t}") for old in self._fields] for new in self._fields]
        )
        loss = np.concatenate([ds[t].T for ds in self._sent])
        carried = matrix.T @ arrived
        self.jacobians.append(Jacobian(t, self._fields, lines, matrix, arrived, carried, loss, self._gradient(t)))
