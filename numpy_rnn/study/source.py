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
    # a_t is the variable a or its parts a_i, a_f, …; W_h{r,z} is W_hr and W_hz.
    variable = re.sub("_t$", r"(_\\w)?", name.replace("_{t+1}", "")).replace("{r,z}", "[rz]")
    computed = re.compile(rf"\b{variable}\b.* \+?= .*# \({re.escape(number)}\)")
    module = module_of(cell)
    file = f"{module.__name__.replace('.', '/')}.py"
    lines, first = inspect.getsourcelines(getattr(module, function))
    return tuple(CodeLine(file, k, line.strip()) for k, line in enumerate(lines, first) if computed.search(line))
