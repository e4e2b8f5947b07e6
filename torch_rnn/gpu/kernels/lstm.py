"""Long short-term memory; equations (1) … (4) and (4') … (1') are those of `torch_rnn.manual.lstm`."""

import triton
import triton.language as tl

from .parts import four, kept, kept_of_four, own, product, read, sigmoid, tanh, tell, write


@triton.jit
def read_gates(row, units, here, H: tl.constexpr):
    """Tiles of i, f, g, o."""
    return (
        read(row, units, here), read(row + H, units, here), read(row + 2 * H, units, here),
        read(row + 3 * H, units, here),
    )  # fmt: skip


@triton.jit(do_not_specialize=["first", "end", "B"])
def forward(
    W_hh, h_0, c_0, a, c, y, first, end, B, H: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr,
    PARTS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr, FACTOR: tl.constexpr,
):  # fmt: skip
    """Writes y, c (T, B, H). a (T, B, 4H) comes without W_hh h_t; the gates come where a_t stood."""
    rows, units, valid, here = own(B, H, ROWS, UNITS)
    W_T = kept_of_four(W_hh, 4, H, UNITS, PARTS, DEPTH, FACTOR)
    at = first.to(tl.int64) * B + rows  # of all T·B rows, this step's
    c_t = read(tl.where(first == 0, c_0 + rows * H, c + (at - B) * H), units, here)
    for t in tl.range(first, end, num_stages=1):
        a_i, a_f, a_g, a_o = read_gates(a + at * (4 * H), units, here, H)
        h_t = tl.where(t == 0, h_0 + rows * H, y + (at - B) * H)
        v = product(h_t, valid, t > 0, W_T, H, ROWS, 4 * UNITS, PARTS, DEPTH, GROUP, PRECISION, FACTOR)  # (1)
        v_i, v_f, v_g, v_o = four(v, ROWS, UNITS)
        i, f, g, o = sigmoid(a_i + v_i), sigmoid(a_f + v_f), tanh(a_g + v_g), sigmoid(a_o + v_o)  # (1) (2)
        c_t = f * c_t + i * g  # (3)
        tell(y + at * H, units, here, o * tanh(c_t))  # (4)
        write(c + at * H, units, here, c_t)
        gates = a + at * (4 * H)
        write(gates, units, here, i)
        write(gates + H, units, here, f)
        write(gates + 2 * H, units, here, g)
        write(gates + 3 * H, units, here, o)
        at += B


@triton.jit(do_not_specialize=["T", "first", "end", "B"])
def backward(
    W_hh, gates, c_0, c, dy, dh, dc, da, T, first, end, B, H: tl.constexpr, ROWS: tl.constexpr,
    UNITS: tl.constexpr, PARTS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr,
    FACTOR: tl.constexpr,
):  # fmt: skip
    """Writes da (T, B, 4H). dh, dc (B, H) are the final state's gradient; dc becomes that of c_first, dh what reaches
    h_first but by da.
    """
    rows, units, valid, here = own(B, H, ROWS, UNITS)
    W = kept(W_hh + units, units < H, H, 4 * H, PARTS, DEPTH, FACTOR)
    at = (end - 1).to(tl.int64) * B + rows
    dh_t, dc_t = read(dh + rows * H, units, here), read(dc + rows * H, units, here)
    c_t = read(c + at * H, units, here)  # of the step before the first, which is the last in time
    for n in tl.range(0, end - first, num_stages=1):
        t = end - 1 - n
        # Nothing here depends on step t+1: it is on its way while the others finish that.
        i, f, g, o = read_gates(gates + at * (4 * H), units, here, H)
        dy_t = read(dy + at * H, units, here)
        tanh_c = tanh(c_t)
        c_t = read(tl.where(t == 0, c_0 + rows * H, c + (at - B) * H), units, here)
        da_next = da + (at + B) * (4 * H)
        dh_next = dh_t + dy_t + product(
            da_next, valid & (t + 1 < T), t + 1 < T, W, 4 * H, ROWS, UNITS, PARTS, DEPTH, GROUP, PRECISION, FACTOR
        )  # fmt: skip # (1') of step t+1
        do = dh_next * tanh_c  # (4')
        dc_next = dc_t + dh_next * o * (1 - tanh_c * tanh_c)  # (4')
        di, df, dg = dc_next * g, dc_next * c_t, dc_next * i  # (3')
        da_t = da + at * (4 * H)
        tell(da_t, units, here, di * i * (1 - i))  # (2')
        tell(da_t + H, units, here, df * f * (1 - f))  # (2')
        tell(da_t + 2 * H, units, here, dg * (1 - g * g))  # (2')
        tell(da_t + 3 * H, units, here, do * o * (1 - o))  # (2')
        dc_t = dc_next * f  # (3')
        dh_t = tl.full((ROWS, UNITS), 0.0, tl.float32)
        at -= B
    write(dh + rows * H, units, here, dh_t)
    write(dc + rows * H, units, here, dc_t)
