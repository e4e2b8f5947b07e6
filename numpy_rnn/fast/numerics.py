"""The few functions that every cell shares: activations, the linear map with its transpose, and the layout of columns.

Users hold vectors as rows: x is (T, B, I); so does the plain RNN. Cells with gates hold them as **columns**, one a
sequence: (T, I, B). So W x is written `W @ x`, as in mathematics, and every gate of a step is a block of rows, in one
piece of memory: NumPy's functions take half a microsecond for a small array in one piece, and a whole one for a slice
in strips.

All of them accept complex arguments and are analytic in them, so that a complex step through any cell
gives an exact derivative (Squire & Trapp, SIAM Review 40, 1998).

(B1) … (B4) are the numbers of docs/learn/derivation, page 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Sequences that are copied from rows to columns at a time: a cache line of numbers, so that none is fetched twice.
STRIPE = 16
# Numbers of a matrix that are transposed at a time: they fit into the cache next to the processor.
TILE = 8192


def copy_blocked(x: Array, out: Array) -> None:
    """Copy x (T, B, R) into `out`, a few sequences at a time: quicker where one lies as rows, the other as columns."""
    for b in range(0, x.shape[1], STRIPE):
        out[:, b : b + STRIPE] = x[:, b : b + STRIPE]


def transposed_copy(W: Array) -> Array:
    """Wᵀ in one piece of memory, for a product at every step.

    A large matrix some rows at a time: at once it takes up to four times as long, with sizes that are powers of two.
    """
    if W.size <= TILE:
        return W.T.copy()
    W_T = np.empty(W.shape[::-1], W.dtype)
    step = max(STRIPE, TILE // W.shape[1])
    for r in range(0, len(W), step):
        W_T[:, r : r + step] = W[r : r + step].T
    return W_T


def layout_for_matvec(W: Array, B: int) -> Array:
    """W, laid out for W @ h_t at every step, h_t of B columns: BLAS is quickest with a single one if W stands in memory
    column by column, and with several if row by row.
    """
    if B == 1:
        return W if W.flags.f_contiguous else transposed_copy(W).T
    return W if W.flags.c_contiguous else transposed_copy(W.T)


def split_gates(z: Array, G: int) -> Array:
    """The G blocks of H rows that z is made of, such as gates: (T, G·H, B) → (G, T, H, B), a view."""
    T, GH, B = z.shape
    return z.reshape(T, G, GH // G, B).swapaxes(0, 1)


def reversed_steps(*arrays: Array) -> Iterable[tuple[Array, ...]]:
    """Step through arrays of T steps together, from the last step to the first."""
    return zip(*[z[::-1] for z in arrays])


def _rows_as_items(z: Array) -> NDArray[np.void]:
    """The last axis of z as one item, a view: NumPy moves items several times as fast as short rows of numbers."""
    return z.view(f"V{z.shape[-1] * z.itemsize}")[..., 0]


def merge_steps(z: Array) -> Array:
    """Put the columns of all steps side by side, (T, R, B) → (R, T·B).

    So a sum over steps and sequences is one product: Σ_t da_t h_tᵀ = merge_steps(da) @ merge_steps(h).T.
    """
    T, R, B = z.shape
    if B == 1:  # they are, as rows: a view
        return z[:, :, 0].T
    if z.size == 0:
        return np.empty((R, T * B), z.dtype)
    return np.ascontiguousarray(_rows_as_items(z).T).view(z.dtype)


def sum_columns(z: Array) -> Array:
    """The sum of the columns of z (R, N), as a product: quicker than `z.sum(axis=1)`, and no less exact."""
    return z @ np.ones(z.shape[1], z.dtype)


def relu(a: Array, out: Array | None = None) -> Array:
    """Rectifier max(a, 0); NaN stays NaN.

    Complex numbers compare by their real part first, so the complex step sees the branch that the real number takes.
    """
    return np.maximum(a, 0, out=out)


# ---- the linear map of every step of every sequence, and its transposes: (B1), (B3) and (B4) of docs/learn/derivation


def linear(x: Array, W: Array, b: Array, out: Array | None = None) -> Array:
    """W x + b as one product: x (T, B, I), W (O, I), b (O,) → (T, B, O); `out` in one piece of memory."""
    T, B, I = x.shape
    if out is None:
        out = np.empty((T, B, len(W)), np.result_type(x, W, b))
    y = out.reshape(T * B, len(W))
    np.matmul(x.reshape(T * B, I), W.T, y, dtype=y.dtype)  # (B1)
    y += b  # (B1)
    return out


def linear_dx(da: Array, W: Array) -> Array:
    """Wᵀ da: what reaches x when da (T, B, O) arrives at a = W x + b; (T, B, I)."""
    T, B, O = da.shape
    return (da.reshape(T * B, O) @ W).reshape(T, B, W.shape[1])  # (B3)


def linear_dW(da: Array, x: Array) -> Array:
    """Σ da xᵀ over steps and sequences: what reaches W when da (T, B, O) arrives at a = W x + b; (O, I)."""
    T, B, O = da.shape
    return da.reshape(T * B, O).T @ x.reshape(T * B, x.shape[2])  # (B4)


def linear_db(da: Array) -> Array:
    """Σ da over steps and sequences: what reaches b when da (T, B, O) arrives at a = W x + b; (O,)."""
    T, B, O = da.shape
    return np.ones(T * B, da.dtype) @ da.reshape(T * B, O)  # (B4)


def linear_columns(W: Array, x: Array, b: Array, out: Array) -> None:
    """W x_t + b of every step, as columns: W (O, I), rows x (T, B, I), b (O,) → `out` (T, O, B).

    The last axis of `out` has to lie in one piece of memory.
    """
    T, B, I = x.shape
    if B == 1:  # a row is a column
        np.add(x.reshape(T, I) @ W.T, b, out[:, :, 0])
        return
    Wx = np.matmul(W, x.reshape(T * B, I).T, dtype=out.dtype)  # the columns of all steps side by side
    Wx += b[:, None]
    if out.size:
        _rows_as_items(out)[:] = _rows_as_items(Wx.reshape(len(W), T, B)).T
