"""What the kernels share: activations, tiles of rows × units, and the left and right factors of their products.

Triton knows blocks only whose sizes are powers of two, so at the edges a tile reaches beyond the sequences or the
units that there are. What is read there is 0, and nothing is written.
"""

import triton
import triton.language as tl


@triton.jit
def sigmoid(a):
    """σ, by an exponential that cannot overflow."""
    e = tl.exp(-tl.abs(a))
    return tl.where(a < 0, e, 1.0) / (1 + e)


@triton.jit
def tanh(a):
    """Hyperbolic tangent as 2σ(2a) - 1, which is no NaN however large |a| is."""
    return 2 * sigmoid(2 * a) - 1


@triton.jit
def read(row, units, here):
    """Numbers of a tile, in float32."""
    return tl.load(row + units, mask=here, other=0.0).to(tl.float32)


@triton.jit
def write(row, units, here, z):
    """The tile z, rounded to the type of what is stored."""
    tl.store(row + units, z.to(row.dtype.element_ty), mask=here)


@triton.jit
def columns(row, k, valid, N: tl.constexpr, DEPTH: tl.constexpr, FACTOR: tl.constexpr):
    """Numbers k … k + DEPTH - 1 of the N that stand at each row: a left factor (ROWS, DEPTH)."""
    n = k + tl.arange(0, DEPTH)[None, :]
    return tl.load(row + n, mask=valid & (n < N), other=0.0).to(FACTOR)


@triton.jit
def columns_of_W_T(W, k, units, H: tl.constexpr, DEPTH: tl.constexpr, FACTOR: tl.constexpr):
    """A tile (DEPTH, UNITS) of Wᵀ, for a gate's W (H, H): rows of h times it are W h."""
    n = k + tl.arange(0, DEPTH)[:, None]
    return tl.load(W + units * H + n, mask=(n < H) & (units < H), other=0.0).to(FACTOR)


@triton.jit
def times_W(
    da, W_hh, valid, units, H: tl.constexpr, N: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr,
    DEPTH: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr, FACTOR: tl.constexpr,
):  # fmt: skip
    """W_hhᵀ da for a tile of units: W_hh is (N, H), and N numbers of da stand at each row."""
    dh = tl.full((ROWS, UNITS), 0.0, tl.float32)
    for k in tl.range(0, N, DEPTH, num_stages=STAGES):
        n = k + tl.arange(0, DEPTH)[:, None]
        W = tl.load(W_hh + n * H + units, mask=(n < N) & (units < H), other=0.0).to(FACTOR)
        dh = tl.dot(columns(da, k, valid, N, DEPTH, FACTOR), W, dh, input_precision=PRECISION)
    return dh
