"""A stack of layers in one direction or two, over a batch of sequences of different lengths: one after the other.

Layer l reads the output of layer l - 1, times a dropout mask. Each direction has parameters and states of its own; the
second begins at each sequence's last step, and the outputs of both stand side by side. Steps after a sequence's end are
not computed: the output and dx are 0 there, and the final state is that of the sequence's own last step.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .functions import Array


def steps_of(d: int, length: int, T: int) -> Array:
    """Steps of one sequence in the order in which direction d takes them."""
    steps = np.arange(length)
    return steps[::-1] if d else steps


def forward(
    cell: Any, params: Any, x: Array, s0: Sequence[Array], lengths: Sequence[int], masks: Sequence[Array]
) -> tuple[Array, list[Array], Any]:
    """Output (T, B, D·R), final states as s0, and the tape of every layer, direction and sequence.

    Parameters
    ----------
    cell : a module of the textbook, or what else has its `forward` and `backward`
    params, x : L lists of D tuples of a cell's parameters; array (T, B, I)
    s0 : arrays (L·D, B, ·), one for each state of the cell; index l·D + d is direction d of layer l
    lengths, masks : B numbers from 0 to T; L-1 arrays (T, B, D·R), 0 or 1 / (1 - p)
    """
    T, B, _ = x.shape
    s_n = [np.zeros_like(s) for s in s0]
    tapes = {}
    y = x
    for l, layer in enumerate(params):
        if l > 0:
            y = y * masks[l - 1]
        outputs = []
        for d, p in enumerate(layer):
            k = l * len(layer) + d
            output = np.zeros((T, B, s0[0].shape[2]), y.dtype)
            for b in range(B):
                steps = steps_of(d, lengths[b], T)
                states, tapes[l, d, b] = cell.forward(p, y[steps, b], *(s[k, b] for s in s0))
                output[steps, b] = states[0][1:]
                for s, trajectory in zip(s_n, states):
                    s[k, b] = trajectory[-1]
            outputs.append(output)
        y = np.concatenate(outputs, axis=2)
    return y, s_n, tapes


def backward(
    cell: Any, params: Any, tapes: Any, dy: Array, ds_n: Sequence[Array], lengths: Sequence[int], masks: Sequence[Array]
) -> tuple[Any, Array, list[Array]]:
    """Gradients of params, x and s0, given what the loss sends to the output, dy (T, B, D·R), and the final states."""
    T, B, _ = dy.shape
    ds0 = [np.zeros_like(ds) for ds in ds_n]
    grads = [[[np.zeros_like(w) for w in p] for p in layer] for layer in params]
    for l, layer in reversed(list(enumerate(params))):
        dx = np.zeros((T, B, layer[0][0].shape[1]), dy.dtype)
        for d, doutput in enumerate(np.split(dy, len(layer), axis=2)):
            k = l * len(layer) + d
            for b in range(B):
                steps = steps_of(d, lengths[b], T)
                dstates = [np.zeros((len(steps) + 1, ds.shape[2]), ds.dtype) for ds in ds_n]
                dstates[0][1:] = doutput[steps, b]
                for ds, direct in zip(ds_n, dstates):
                    direct[-1] += ds[k, b]
                dparams, dsteps, initial = cell.backward(tapes[l, d, b], *dstates)
                dx[steps, b] += dsteps
                for total, g in zip(grads[l][d], dparams):
                    total += g
                for ds, first in zip(ds0, initial):
                    ds[k, b] = first
        dy = dx * masks[l - 1] if l > 0 else dx
    return grads, dy, ds0
