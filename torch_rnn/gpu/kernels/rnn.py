"""The plain recurrent cell; equations (1), (2) and (2'), (1') are those of `torch_rnn.manual.rnn`."""

import triton
import triton.language as tl

from .parts import kept, own, product, read, tanh, tell, write


@triton.jit(do_not_specialize=["first", "end", "B"])
def forward(
    W_hh, h_0, a, y, first, end, B, H: tl.constexpr, RELU: tl.constexpr, ROWS: tl.constexpr,
    UNITS: tl.constexpr, PARTS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr,
    FACTOR: tl.constexpr,
):  # fmt: skip
    """Writes y (T, B, H). a (T, B, H) comes without W_hh h_t."""
    rows, units, valid, here = own(B, H, ROWS, UNITS)
    W_T = kept(W_hh + units * H, units < H, 1, H, PARTS, DEPTH, FACTOR)
    at = first.to(tl.int64) * B + rows  # of all T·B rows, this step's
    for t in tl.range(first, end, num_stages=1):
        a_t = read(a + at * H, units, here)
        h_t = tl.where(t == 0, h_0 + rows * H, y + (at - B) * H)
        a_t += product(h_t, valid, t > 0, W_T, H, ROWS, UNITS, PARTS, DEPTH, GROUP, PRECISION, FACTOR)  # (1)
        tell(y + at * H, units, here, tl.where(a_t < 0, 0.0, a_t) if RELU else tanh(a_t))  # (2)
        at += B


@triton.jit(do_not_specialize=["T", "first", "end", "B"])
def backward(
    W_hh, y, dy, dh, da, T, first, end, B, H: tl.constexpr, RELU: tl.constexpr, ROWS: tl.constexpr,
    UNITS: tl.constexpr, PARTS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr,
    FACTOR: tl.constexpr,
):  # fmt: skip
    """Writes da (T, B, H). dh (B, H) is the final state's gradient and becomes what reaches h_first but by da."""
    rows, units, valid, here = own(B, H, ROWS, UNITS)
    W = kept(W_hh + units, units < H, H, H, PARTS, DEPTH, FACTOR)
    at = (end - 1).to(tl.int64) * B + rows
    dh_t = read(dh + rows * H, units, here)
    for n in tl.range(0, end - first, num_stages=1):
        t = end - 1 - n
        # Nothing here depends on step t+1: it is on its way while the others finish that.
        h, dy_t = read(y + at * H, units, here), read(dy + at * H, units, here)
        dh_next = dh_t + dy_t + product(
            da + (at + B) * H, valid & (t + 1 < T), t + 1 < T, W, H, ROWS, UNITS, PARTS, DEPTH, GROUP, PRECISION, FACTOR
        )  # fmt: skip # (1') of step t+1
        df = tl.where(h > 0, 1.0, 0.0) if RELU else 1 - h * h
        tell(da + at * H, units, here, dh_next * df)  # (2')
        dh_t = tl.full((ROWS, UNITS), 0.0, tl.float32)
        at -= B
    write(dh + rows * H, units, here, dh_t)
