"""What `gradcheck` says: one finding for each method and input, and a verdict of three."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Largest error that a correct float64 gradient may show, relative to the largest entry of its tensor (for the adjoint
# identity: relative to the product of the norms). About a hundred times what is measured on the cells at T ≤ 200.
# A gradient in a narrower dtype may be off by a hundred times that dtype's own rounding.
TOLERANCES = {
    "complex step": 1e-13,
    "central differences": 1e-9,
    "adjoint identity": 1e-14,
    "forward in time": 1e-13,
}
DECIDES = 1e-7  # a method that may itself be off by more misses a tenth of a percent in a small entry


class Finding(NamedTuple):
    """What one method says of the gradient by one input."""

    method: str
    name: str
    error: float  # relative, of the worst entry
    tolerance: float
    where: tuple[int, ...]  # the worst entry is; () for the adjoint identity
    gradient: float  # as the hand-written code has it, there
    numeric: float  # as the method has it, there
    doubt: float = 0.0  # how far the method itself may be off, relative as `error` is

    @property
    def limit(self) -> float:
        """What the error may be: the tolerance, or what the method cannot tell from it."""
        return max(self.tolerance, self.doubt)

    @property
    def verdict(self) -> str:
        """One of "correct", "WRONG" and "not decided"."""
        if not np.isfinite(self.numeric):
            return "not decided"  # the method has no number there
        if not self.error <= self.limit:
            return "WRONG"
        return "correct" if self.doubt <= max(DECIDES, self.tolerance) else "not decided"

    @property
    def ok(self) -> bool:
        """Whether the two agree, and the method can tell."""
        return self.verdict == "correct"

    def __str__(self) -> str:
        where = f"[{', '.join(map(str, self.where))}]" if self.where else ""
        said = {
            "correct": "agrees",
            "WRONG": f"WRONG, {self.error / self.limit:.1e} times the tolerance",
            "not decided": "not decided",
        }[self.verdict]
        allowed = "tolerance" if self.doubt <= self.tolerance else "what the method can tell is"
        return (
            f"{self.name}{where}: {self.gradient:.12g} by hand, {self.numeric:.12g} by {self.method}; "
            f"error {self.error:.1e}, {allowed} {self.limit:.0e}: {said}"
        )


class Cause(NamedTuple):
    """What several gradients look like beside the right ones."""

    names: tuple[str, ...]
    what: str

    def __str__(self) -> str:
        return f"{', '.join(self.names)}: {self.what}"


class Report(NamedTuple):
    """What `gradcheck` found, one finding for each method and input."""

    findings: tuple[Finding, ...]
    skipped: tuple[str, ...] = ()  # methods that do not apply, and why
    remarks: tuple[str, ...] = ()  # what else there is to know, such as a function that changes its arguments
    undecided: tuple[str, ...] = ()  # why there is no verdict
    causes: tuple[Cause, ...] = ()

    @property
    def verdict(self) -> str:
        """One of "correct", "WRONG" and "not decided"."""
        verdicts = {f.verdict for f in self.findings}
        if "WRONG" in verdicts:
            return "WRONG"
        return "not decided" if self.undecided or "not decided" in verdicts else "correct"

    @property
    def ok(self) -> bool:
        """Whether all methods agree with all gradients."""
        return self.verdict == "correct"

    @property
    def worst(self) -> Finding | None:
        """The finding that is furthest beyond its limit, or nearest to it; a NaN is beyond all. None if there is none.

        Where something is wrong, one that names an entry comes before one that names a tensor only.
        """
        return max(
            self.findings,
            key=lambda f: (f.verdict == "WRONG", not f.ok, bool(f.where), np.isnan(f.error), f.error / f.limit),
            default=None,
        )

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        lines = [f"{self.verdict}; worst: {self.worst}" if self.findings else self.verdict]
        lines += [*self.undecided, *map(str, self.causes)]
        said = {name for cause in self.causes for name in cause.names} | {self.worst.name if self.worst else ""}
        if others := dict.fromkeys(f.name for f in self.findings if f.verdict == "WRONG" and f.name not in said):
            lines.append(f"also wrong: {', '.join(others)}")
        return "\n".join([*lines, *self.remarks, *(f"skipped: {reason}" for reason in self.skipped)])
