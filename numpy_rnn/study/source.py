"""Finds the textbook's lines that compute an equation: its number stands behind them, what it names in front."""

from __future__ import annotations

import inspect
import re
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from ..fast.cell import Cell
from ..verify.zoo.mistake import textbook_module

FUNCTIONS = ("forward", "backward")


class CodeLine(NamedTuple):
    """A line of the textbook."""

    file: str  # as seen from the project's root
    line: int  # counted from 1
    text: str  # as it stands there, without its indentation


def module_of(cell: Cell) -> ModuleType:
    """The textbook's module for a cell.

    Examples
    --------
    >>> from numpy_rnn.fast.registry import CELLS
    >>> module_of(CELLS["rnn_relu"]).__name__
    'numpy_rnn.textbook.rnn'
    """
    return import_module(f"numpy_rnn.textbook.{textbook_module(cell.name)}")


def _assigned(line: str) -> set[str]:
    """Names that a line of code gives a value to, or adds to.

    Examples
    --------
    >>> sorted(_assigned("v_r, v_z = 1, 2  # (1)")), _assigned("dc[t + 1] += dm * o")
    (['v_r', 'v_z'], {'dc'})
    """
    left = re.split(r" \+?= ", line, maxsplit=1)[0]
    return set(re.sub(r"\[[^\]]*\]", "", left).split(", "))


def _means(name: str, variable: str) -> bool:
    """Whether a variable of the code is what an equation names, or a part of it.

    Examples
    --------
    >>> _means("h_{t+1}", "h"), _means("a_t", "a_i"), _means("dW_h{r,z}", "dW_hz"), _means("dh_t", "h")
    (True, True, True, False)
    """
    root = re.sub(r"_(t|\{t\+1\})$", "", name)
    start, _, letters = root.partition("{")
    if letters:
        return variable in [start + letter for letter in letters.rstrip("}").split(",")]
    return variable == root or (name.endswith("_t") and variable.startswith(f"{root}_"))


@cache
def code_lines(cell: Cell, function: str, number: str, name: str) -> tuple[CodeLine, ...]:
    """The lines that compute an equation.

    Parameters
    ----------
    cell : Cell
    function : "forward" or "backward"
    number : str
        The equation's, such as "3'".
    name : str
        What the equation gives a value to, such as "dh_t".

    Examples
    --------
    >>> from numpy_rnn.fast.registry import CELLS
    >>> [line.text for line in code_lines(CELLS["gru"], "forward", "3", "n")]
    ['n = np.tanh(u_n + r * v_n)  # (3)']
    >>> [line.text for line in code_lines(CELLS["gru"], "backward", "1'", "dx_t")]
    ["dx[t] = W_ih.T @ du  # (1') of u_t = W_ih x_t + b_ih"]
    """
    module = module_of(cell)
    file = f"{module.__name__.replace('.', '/')}.py"
    lines, first = inspect.getsourcelines(getattr(module, function))
    numbered = [CodeLine(file, k, line.strip()) for k, line in enumerate(lines, first) if f"# ({number})" in line]
    return tuple(line for line in numbered if any(_means(name, variable) for variable in _assigned(line.text)))
