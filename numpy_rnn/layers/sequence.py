"""What layers and whole models share at their edge: the shapes that users see, checked, and (T, B, ·) inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..fast.cell import Cell, States
from ..fast.numerics import Array
from .arguments import check_array
from .module import Module


class SequenceModel(Module, abstract=True):
    """A model that reads sequences with one kind of cell.

    A batch is (B, T, ·) with `batch_first`, else (T, B, ·); a single sequence is (T, ·), and its states have no axis
    for the batch.
    """

    cell: Cell
    batch_first: bool
    input_size: int
    hidden_size: int
    _output_width: int  # numbers of an output
    _state_lead: tuple[int, ...] = ()  # a state's axes before the batch, in numbers and in words
    _state_words: tuple[str, ...] = ()
    _state_units: Sequence[tuple[str, int]]  # of each state of the cell: what its units are, how many

    def _from_user(self, x: Array, batched: bool) -> Array:
        """Lay x out as (T, B, ·)."""
        if batched:
            return x.swapaxes(0, 1) if self.batch_first else x
        return x[:, None]

    def _to_user(self, x: Array, batched: bool) -> Array:
        """Undo `_from_user`."""
        return self._from_user(x, batched) if batched else x[:, 0]

    def _states_to_user(self, s: States, batched: bool) -> Any:
        s = s if batched else self.cell.State(*[a[..., 0, :] for a in s])
        return s if len(s) > 1 else s.h

    def _check_x(self, x: Any) -> tuple[Array, bool]:
        """Lay x out as (T, B, I); return it, and whether it came as a batch."""
        meaning = "(batch, steps, input_size)" if self.batch_first else "(steps, batch, input_size)"
        if isinstance(x, np.ndarray) and x.ndim not in (2, 3):
            raise ValueError(
                f"x has shape {x.shape}, expected {meaning} or, for a single sequence, (steps, input_size), "
                f"with input_size {self.input_size}"
            )
        batched = not (isinstance(x, np.ndarray) and x.ndim == 2)
        lead, meaning = ((-1, -1), meaning) if batched else ((-1,), "(steps, input_size)")
        return self._from_user(check_array("x", x, self.dtype, (*lead, self.input_size), meaning), batched), batched

    def _check_dy(self, name: str, dy: Any, T: int, B: int, batched: bool) -> Array:
        """Lay the gradient of the outputs out as (T, B, ·); None is zero."""
        if dy is None:
            return np.zeros((T, B, self._output_width), self.dtype)
        lead = ((B, T) if self.batch_first else (T, B)) if batched else (T,)
        wanted = (*lead, self._output_width)
        return self._from_user(check_array(name, dy, self.dtype, wanted, f"shape of {name[1:]}"), batched)

    def _check_states(self, name: str, fields: Sequence[str], value: Any, B: int, batched: bool) -> States:
        """Make a State, fields (…, B, ·), of what the user handed in; None is zero.

        `name` is what the user calls `value`, `fields` each state of a pair.
        """
        n = len(self._state_units)
        if n == 1:
            value, fields = (value,), (name,)
        elif value is None:
            value = (None,) * n
        elif not isinstance(value, (tuple, list)) or len(value) != n:
            got = f"{len(value)} values" if isinstance(value, (tuple, list)) else f"a {type(value).__name__}"
            raise ValueError(f"{name} is {got}, expected the pair ({', '.join(fields)})")
        lead = (*self._state_lead, B) if batched else self._state_lead
        arrays = []
        for field, array, (unit, size) in zip(fields, value, self._state_units):
            if array is None:
                array = np.zeros((*lead, size), self.dtype)
            else:
                words = (*self._state_words, "batch", unit) if batched else (*self._state_words, unit)
                check_array(field, array, self.dtype, (*lead, size), f"({', '.join(words)})")
            arrays.append(array if batched else array[..., None, :])
        return self.cell.State(*arrays)
