"""How gradients flow through time: see `jacobians` for the mathematics, `settings` for what the command compares."""

from __future__ import annotations

from .jacobians import (
    Steps,
    bound,
    contributions,
    flat,
    horizon,
    lyapunov_exponents,
    norms,
    singular_values,
    step_jacobians,
    temporal_jacobians,
)

__all__ = [
    "Steps",
    "bound",
    "contributions",
    "flat",
    "horizon",
    "lyapunov_exponents",
    "norms",
    "singular_values",
    "step_jacobians",
    "temporal_jacobians",
]
