"""What the equations by hand share: how time is walked, and the sum over it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def forwards(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Step through tensors (T, ·) together, from the first step to the last."""
    return zip(*(z.unbind() for z in tensors))


def backwards(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Step through tensors (T, ·) together, from the last step to the first."""
    return zip(*(reversed(z.unbind()) for z in tensors))


def before(s_0: Tensor, s: Tensor) -> Tensor:
    """The states before each step (T, B, H), given the initial state (B, H) and those after each step (T, B, H)."""
    return torch.cat([s_0[None], s[:-1]])


def sum_of_outer_products(da: Tensor, x: Tensor) -> Tensor:
    """Σ_t da_t x_tᵀ over steps and sequences, as one product."""
    return da.flatten(0, 1).T @ x.flatten(0, 1)
