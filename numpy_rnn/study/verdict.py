"""The gradients of a walk's case by ways that do not know of one another, side by side."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..fast.numerics import Array
from ..fast.registry import CELLS
from ..verify.case import Case
from ..verify.difference import TOLERANCES, error
from ..verify.gradcheck import Problem, numeric_gradient, of_cell
from .equations import module_of
from .walk import Walk, dstates

TOLERANCE = TOLERANCES["float64"]
BY_HAND = "by hand"  # numpy_rnn's backward; what all others are held against
NO_TORCH = "PyTorch is not installed, so there is no gradient by autograd: pip install 'numpy-rnn[torch]'"


class Verdict(NamedTuple):
    """Every gradient by every way."""

    gradients: Mapping[str, Mapping[str, Array]]  # way -> name, such as "dW_hh" -> gradient
    note: str  # which way is missing, and why; "" if none is

    def error(self, way: str, name: str) -> float:
        """Largest difference from the gradient by hand, relative to its largest entry."""
        return error(self.gradients[way][name], self.gradients[BY_HAND][name])

    def worst(self, name: str) -> float:
        """The largest of these errors over all ways."""
        return max(self.error(way, name) for way in self.gradients if way != BY_HAND)

    @property
    def ok(self) -> bool:
        """Whether all ways agree."""
        return all(self.worst(name) <= TOLERANCE for name in self.gradients[BY_HAND])


def verdict(walk: Walk) -> Verdict:
    """Compute the gradients of a walk's case in all ways.

    Returns
    -------
    Verdict
        "by hand" is the cell's `backward`, "by equation" the walk, then "complex step" and, where PyTorch is installed,
        "autograd" through `torch_rnn`'s explicit loop.
    """
    case = walk.case
    ways = {BY_HAND: by_hand(case), "by equation": walk.gradients, "complex step": by_complex_step(case)}
    if importlib.util.find_spec("torch") is None:
        return Verdict(ways, NO_TORCH)
    return Verdict(ways | {"autograd": by_autograd(case)}, "")


def _stated(case: Case) -> tuple[Problem, list[Array], tuple[Array, ...]]:
    """A case's trajectory as a function of parameters, x and initial states; these; and its upstream gradients."""
    cell = CELLS[case.cell]
    problem = of_cell(cell, case.params[0][0], case.x, cell.State(*(s[0] for s in case.s0)))
    return problem, list(problem.inputs.values()), dstates(case)


def _named(case: Case, found: Sequence[Array]) -> dict[str, Array]:
    """The gradients by parameters, x and initial states as `Walk.gradients` names them."""
    fields, params = CELLS[case.cell].State._fields, case.params[0][0]._fields
    grads, (dx, *ds0) = found[: len(params)], found[len(params) :]
    states = {f"d{field}_0": ds[None] for field, ds in zip(fields, ds0)}
    return {"dx": dx, **states, **{f"d{name}": g for name, g in zip(params, grads)}}


def by_hand(case: Case) -> dict[str, Array]:
    """By the cell's own backward."""
    problem, inputs, upstream = _stated(case)
    return _named(case, problem.vjp(inputs, upstream))


def by_complex_step(case: Case) -> dict[str, Array]:
    """One entry at a time, by the imaginary part of the loss."""
    problem, inputs, upstream = _stated(case)
    return _named(case, [numeric_gradient(problem.f, inputs, k, upstream) for k in range(len(inputs))])


def by_autograd(case: Case) -> dict[str, Array]:
    """By PyTorch through `torch_rnn`'s cell, which has the time loop written out."""
    import torch

    mirror = importlib.import_module(module_of(CELLS[case.cell]).__name__.replace("numpy_rnn.textbook", "torch_rnn"))
    (cell,) = (c for c in vars(mirror).values() if getattr(c, "name", "") == case.cell)
    _, inputs, upstream = _stated(case)
    leaves, n = [torch.tensor(a, requires_grad=True) for a in inputs], len(case.params[0][0])
    states = cell.forward(cell.Params(*leaves[:n]), leaves[n], cell.State(*leaves[n + 1 :]))
    found = torch.autograd.grad([*states], leaves, [torch.tensor(ds) for ds in upstream])
    return _named(case, [g.numpy() for g in found])
