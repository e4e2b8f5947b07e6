"""What the kernels share: who owns what, the product with a matrix that stays, how programs wait for one another.

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
def own(B, H: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr):
    """The program's sequences (ROWS, 1) and units (1, UNITS), and which of them there are."""
    rows = tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    units = tl.program_id(0) * UNITS + tl.arange(0, UNITS)[None, :]
    return rows, units, rows < B, (rows < B) & (units < H)


@triton.jit
def kept(
    column, there, STRIDE: tl.constexpr, N: tl.constexpr, PARTS: tl.constexpr, DEPTH: tl.constexpr,
    FACTOR: tl.constexpr,
):  # fmt: skip
    """A matrix of N rows, number n of a column STRIDE · n behind its first: tiles (PARTS, DEPTH, columns).

    Read before the loop, they wait in shared memory for the products.
    """
    tiles = ()
    for k in tl.static_range(0, N, PARTS * DEPTH):
        n = k + tl.arange(0, PARTS)[:, None, None] * DEPTH + tl.arange(0, DEPTH)[None, :, None]
        tiles = tiles + (tl.load(column[None] + n * STRIDE, mask=there[None] & (n < N), other=0.0).to(FACTOR),)  # noqa: RUF005, Triton knows no other way
    return tiles


@triton.jit
def kept_of_four(
    W_hh, GATES: tl.constexpr, H: tl.constexpr, UNITS: tl.constexpr, PARTS: tl.constexpr, DEPTH: tl.constexpr,
    FACTOR: tl.constexpr,
):  # fmt: skip
    """W_hhᵀ for the program's units: column 4u + g of the tiles is gate g of unit u, and 0 if there is no such gate."""
    column = tl.arange(0, 4 * UNITS)[None, :]
    gate, unit = column % 4, tl.program_id(0) * UNITS + column // 4
    return kept(W_hh + (gate * H + unit) * H, (gate < GATES) & (unit < H), 1, H, PARTS, DEPTH, FACTOR)


@triton.jit
def bits(z):
    """A number's bits. Those of one that has not been written yet are all 1: a NaN that no computation gives."""
    return z.to(tl.uint32 if z.dtype.primitive_bitwidth == 32 else tl.uint16, bitcast=True)


@triton.jit
def tell(row, units, here, z):
    """The tile z, as others are to read it: rounded to the type of what is stored, and never all 1."""
    z = bits(z.to(row.dtype.element_ty))
    z = tl.where(z == (1 << z.dtype.primitive_bitwidth) - 1, z >> 1, z)  # another NaN
    tl.store(row + units, z.to(row.dtype.element_ty, bitcast=True), mask=here)


@triton.jit
def fetch(
    row, valid, N: tl.constexpr, FIRST: tl.constexpr, END: tl.constexpr, PARTS: tl.constexpr, DEPTH: tl.constexpr
):  # fmt: skip
    """Tiles FIRST … END - 1 of the numbers at each row, as they are in memory now, written or not."""
    z = ()
    for m in tl.static_range(FIRST, END):
        n = m * PARTS * DEPTH + tl.arange(0, PARTS)[:, None, None] * DEPTH + tl.arange(0, DEPTH)[None, None, :]
        z = z + (tl.load(row[None] + n, mask=valid[None] & (n < N), other=0.0, volatile=True),)  # noqa: RUF005, as above
    return z


@triton.jit
def lacking(z, ROWS: tl.constexpr, PARTS: tl.constexpr, DEPTH: tl.constexpr):
    """Whether some numbers of these tiles are not written yet."""
    largest = tl.full((PARTS, ROWS, DEPTH // 8), 0, tl.uint32)
    for m in tl.static_range(len(z)):
        # What a thread has loaded with one instruction becomes one number: it has registers for few.
        largest = tl.maximum(largest, tl.max(tl.reshape(bits(z[m]).to(tl.uint32), (PARTS, ROWS, DEPTH // 8, 8)), 3))
    return tl.max(largest) == (1 << z[0].dtype.primitive_bitwidth) - 1


@triton.jit
def product(
    row, valid, told, W, N: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PARTS: tl.constexpr,
    DEPTH: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr, FACTOR: tl.constexpr,
):  # fmt: skip
    """The N numbers at each row times the matrix W that was kept: a tile (ROWS, COLUMNS). Each warp sums over a part
    of N.

    If others write those numbers (`told`; what comes from outside may hold any NaN), this waits until they are there,
    GROUP tiles at a time. While a group is multiplied, the next is on its way.
    """
    sums = tl.full((PARTS, ROWS, COLUMNS), 0.0, tl.float32)
    z = fetch(row, valid, N, 0, min(GROUP, len(W)), PARTS, DEPTH)
    while told & lacking(z, ROWS, PARTS, DEPTH):
        z = fetch(row, valid, N, 0, min(GROUP, len(W)), PARTS, DEPTH)
    for first in tl.static_range(0, len(W), GROUP):
        group = z
        if first + GROUP < len(W):
            z = fetch(row, valid, N, first + GROUP, min(first + 2 * GROUP, len(W)), PARTS, DEPTH)
        for m in tl.static_range(len(group)):
            sums = tl.dot(group[m].to(FACTOR), W[first + m], sums, input_precision=PRECISION)
        if first + GROUP < len(W):
            while told & lacking(z, ROWS, PARTS, DEPTH):
                z = fetch(row, valid, N, first + GROUP, min(first + 2 * GROUP, len(W)), PARTS, DEPTH)
    return over_parts(sums, ROWS, COLUMNS, PARTS)


@triton.jit
def over_parts(sums, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PARTS: tl.constexpr):
    """The sum over the parts, by way of threads that have all of them."""
    z = tl.permute(sums, (1, 2, 0))
    if PARTS >= 8:
        even, odd = tl.split(tl.reshape(z, (ROWS, COLUMNS, PARTS // 2, 2)))
        z = even + odd
    if PARTS >= 4:
        even, odd = tl.split(tl.reshape(z, (ROWS, COLUMNS, 2, 2)))
        z = even + odd
    even, odd = tl.split(z)
    return even + odd


@triton.jit
def four(v, ROWS: tl.constexpr, UNITS: tl.constexpr):
    """Gates 0 to 3 from their places side by side."""
    even, odd = tl.split(tl.reshape(v, (ROWS, UNITS, 2, 2)))
    v_0, v_2 = tl.split(even)
    v_1, v_3 = tl.split(odd)
    return v_0, v_1, v_2, v_3
