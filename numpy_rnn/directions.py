"""Both directions of a small layer as one cell of twice the units, so that they share every call of NumPy.

A call costs half a microsecond however small its arrays are; two directions, one after the other, pay for all of them
twice. Side by side they are one cell, in which no weight leads from one direction to the other:

    x = [x→ ; x←]     h = [h→ ; h←]     W = [W→  0 ]     of each gate; the rows of a gate stay together
                                            [0  W← ]

It costs the products twice as much as they need, and so it pays only while they are small. Zeros change no number, with
one exception: 0 · ∞ is NaN. `deep` runs the directions apart when a result is not finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .cell import Grads, States
from .numerics import Array

# Multiplications of a recurrent product, of one direction, up to which sharing pays.
LARGEST_SHARED = 2**15


def share(layer: Sequence[Any], B: int) -> bool:
    """Whether the directions of a layer run together: if there are two, and small ones.

    Parameters
    ----------
    layer : D of a cell's Params
    B : int
        Sequences.
    """
    return len(layer) > 1 and layer[0].W_hh.size * B <= LARGEST_SHARED


def beside(arrays: Sequence[Array]) -> Array:
    """Arrays (…, ·) side by side, of one direction each.

    Examples
    --------
    >>> beside([np.zeros((3, 2)), np.ones((3, 2))]).shape
    (3, 4)
    """
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1)


def apart(a: Array, D: int) -> list[Array]:
    """Undo `beside`: D views (…, ·).

    Examples
    --------
    >>> [view.tolist() for view in apart(np.array([[1, 2, 3, 4]]), 2)]
    [[[1, 2]], [[3, 4]]]
    """
    if D == 1:
        return [a]
    R = a.shape[-1] // D
    return [a[..., r : r + R] for r in range(0, D * R, R)]


def states_beside(states: States) -> States:
    """Of states with fields (D, B, R) all directions side by side: fields (B, D·R)."""
    return type(states)(*(s.swapaxes(0, 1).reshape(s.shape[1], len(s) * s.shape[2]) for s in states))


def states_apart(states: States, D: int) -> States:
    """Undo `states_beside`: fields (D, B, R)."""
    return type(states)(*(s.reshape(len(s), D, s.shape[1] // D).swapaxes(0, 1) for s in states))


def joined(layer: Sequence[Any], gates: int) -> Any:
    """The parameters of one cell that is all directions of a layer.

    Parameters
    ----------
    layer : D of a cell's Params
    gates : int
        G, blocks of H rows in W_ih.

    Returns
    -------
    the cell's Params
        W (G·H, C) becomes (G·D·H, D·C), b (G·H,) becomes (G·D·H,).
    """
    H, D = len(layer[0].W_ih) // gates, len(layer)
    fields: list[Array] = []
    for parts in zip(*layer):
        G = _gates(parts[0], H)
        if parts[0].ndim == 1:
            whole = np.concatenate(parts)
            fields.append(whole if G == 1 else whole.reshape(D, G, -1).swapaxes(0, 1).reshape(-1))
            continue
        rows, C = parts[0].shape
        whole = np.zeros((D * rows, D * C), np.result_type(*parts))
        for d, p in enumerate(parts):
            if G == 1:  # as below, without an axis of gates
                whole[d * rows : (d + 1) * rows, d * C : (d + 1) * C] = p
            else:
                whole.reshape(G, D, rows // G, D, C)[:, d, :, d] = p.reshape(G, rows // G, C)
        fields.append(whole)
    return type(layer[0])(*fields)


def parted(grads: Grads, layer: Sequence[Any], gates: int) -> list[Grads]:
    """Transpose of `joined`: the gradients of each direction; those of the zeros are dropped.

    Parameters
    ----------
    grads : the cell's Params
        Gradients of what `joined` returned.
    layer, gates
        As `joined` got them.

    Returns
    -------
    D of the cell's Params
        Views of `grads`, where that is possible.
    """
    H, D = len(layer[0].W_ih) // gates, len(layer)
    fields = []
    for g, p in zip(grads, layer[0]):
        G = _gates(p, H)
        if p.ndim == 1:
            fields.append(apart(g, D) if G == 1 else [part.reshape(-1) for part in g.reshape(G, D, -1).swapaxes(0, 1)])
        elif G == 1:
            rows, C = p.shape
            fields.append([g[d * rows : (d + 1) * rows, d * C : (d + 1) * C] for d in range(D)])
        else:
            whole = g.reshape(G, D, len(p) // G, D, p.shape[1])
            fields.append([whole[:, d, :, d].reshape(p.shape) for d in range(D)])
    return [type(grads)(*parts) for parts in zip(*fields)]


def _gates(p: Array, H: int) -> int:
    """Blocks of H rows in a parameter; a projection has one, of R rows."""
    return len(p) // H or 1
