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
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, -1)


def apart(a: Array, D: int) -> list[Array]:
    """Undo `beside`: D views (…, ·).

    Examples
    --------
    >>> [view.tolist() for view in apart(np.array([[1, 2, 3, 4]]), 2)]
    [[[1, 2]], [[3, 4]]]
    """
    if D == 1:
        return [a]
    R = a.shape[-1] // 2
    return [a[..., :R], a[..., R:]]


def states_beside(states: States, l: int) -> States:
    """Of states with fields (2·L, B, R) those of layer l, both directions side by side: fields (B, 2·R)."""
    B = states.h.shape[1]
    return type(states)(*[s[2 * l : 2 * l + 2].swapaxes(0, 1).reshape(B, 2 * s.shape[2]) for s in states])


def states_apart(states: States) -> States:
    """Undo `states_beside`: one layer's states, fields (2, B, R)."""
    B = len(states.h)
    return type(states)(*[s.reshape(B, 2, s.shape[1] // 2).swapaxes(0, 1).copy() for s in states])


def joined(layer: Sequence[Any], gates: int) -> Any:
    """The parameters of one cell that is both directions of a layer.

    Parameters
    ----------
    layer : two of a cell's Params
    gates : int
        G, blocks of H rows in W_ih.

    Returns
    -------
    the cell's Params
        W (G·H, C) becomes (2·G·H, 2·C), b (G·H,) becomes (2·G·H,).
    """
    H = len(layer[0].W_ih) // gates
    fields: list[Array] = []
    for a, b in zip(*layer):
        R, G = len(a), len(a) // H  # a projection has less than H rows, and no gates
        if a.ndim == 1:
            whole = np.concatenate((a, b))
            fields.append(whole.reshape(2, G, H).swapaxes(0, 1).reshape(-1) if G > 1 else whole)
            continue
        C = a.shape[1]
        whole = np.zeros((2 * R, 2 * C), np.result_type(a, b))
        if G > 1:
            places = whole.reshape(G, 2, H, 2 * C)
            places[:, 0, :, :C], places[:, 1, :, C:] = a.reshape(G, H, C), b.reshape(G, H, C)
        else:
            whole[:R, :C], whole[R:, C:] = a, b
        fields.append(whole)
    return layer[0]._make(fields)


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
    two of the cell's Params
        Views, of `grads` if there is one gate.
    """
    H = len(layer[0].W_ih) // gates
    forward, reverse = [], []
    for g, p in zip(grads, layer[0]):
        R, G = len(p), len(p) // H
        # The rows of each direction come together.
        if G > 1:
            g = g.reshape(G, 2, -1).swapaxes(0, 1).reshape(2 * R, *g.shape[1:])
        if p.ndim == 1:
            one, other = g[:R], g[R:]
        else:
            C = p.shape[1]
            one, other = g[:R, :C], g[R:, C:]
        forward.append(one)
        reverse.append(other)
    return [grads._make(forward), grads._make(reverse)]
