"""Gated recurrent unit with the reset gate after the product; equations (1) … (4) and (4') … (1') are those of
`torch_rnn.manual.gru`.
"""

import triton
import triton.language as tl

from .parts import four, kept, kept_of_four, own, product, read, sigmoid, tanh, tell, write


@triton.jit
def read_gates(row, units, here, H: tl.constexpr):
    """Tiles of r, z, n."""
    return read(row, units, here), read(row + H, units, here), read(row + 2 * H, units, here)


@triton.jit(do_not_specialize=["first", "end", "B"])
def forward(
    W_hh, h_0, b_n, u, v_n, y, first, end, B, H: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr,
    PARTS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr, FACTOR: tl.constexpr,
):  # fmt: skip
    """Writes v_n, y (T, B, H). u (T, B, 3H) has both biases of r and z; the gates come where u_t stood."""
    rows, units, valid, here = own(B, H, ROWS, UNITS)
    W_T = kept_of_four(W_hh, 3, H, UNITS, PARTS, DEPTH, FACTOR)
    b = read(b_n, units, units < H)
    at = first.to(tl.int64) * B + rows  # of all T·B rows, this step's
    own_h = read(tl.where(first == 0, h_0 + rows * H, y + (at - B) * H), units, here)
    for t in tl.range(first, end, num_stages=1):
        u_r, u_z, u_n = read_gates(u + at * (3 * H), units, here, H)
        h_t = tl.where(t == 0, h_0 + rows * H, y + (at - B) * H)
        v = product(h_t, valid, t > 0, W_T, H, ROWS, 4 * UNITS, PARTS, DEPTH, GROUP, PRECISION, FACTOR)  # (1)
        v_r, v_z, v, _ = four(v, ROWS, UNITS)
        v += b  # (1)
        r, z = sigmoid(u_r + v_r), sigmoid(u_z + v_z)  # (1) (2)
        n = tanh(u_n + r * v)  # (3)
        own_h = (1 - z) * n + z * own_h  # (4)
        tell(y + at * H, units, here, own_h)
        gates = u + at * (3 * H)
        write(gates, units, here, r)
        write(gates + H, units, here, z)
        write(gates + 2 * H, units, here, n)
        write(v_n + at * H, units, here, v)
        at += B


@triton.jit(do_not_specialize=["T", "first", "end", "B"])
def backward(
    W_hh, gates, v_n, h_0, y, dy, dh, d, T, first, end, B, H: tl.constexpr, ROWS: tl.constexpr,
    UNITS: tl.constexpr, PARTS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr,
    FACTOR: tl.constexpr,
):  # fmt: skip
    """Writes d (T, B, 4H), blocks du_n, dv_r = du_r, dv_z = du_z, dv_n: so dv is in one piece. dh (B, H) is the
    final state's gradient and becomes what reaches h_first but by dv.
    """
    rows, units, valid, here = own(B, H, ROWS, UNITS)
    W = kept(W_hh + units, units < H, H, 3 * H, PARTS, DEPTH, FACTOR)
    at = (end - 1).to(tl.int64) * B + rows
    dh_t = read(dh + rows * H, units, here)
    for m in tl.range(0, end - first, num_stages=1):
        t = end - 1 - m
        # Nothing here depends on step t+1: it is on its way while the others finish that.
        r, z, n = read_gates(gates + at * (3 * H), units, here, H)
        v, dy_t = read(v_n + at * H, units, here), read(dy + at * H, units, here)
        h_t = read(tl.where(t == 0, h_0 + rows * H, y + (at - B) * H), units, here)
        dv_next = d + (at + B) * (4 * H) + H
        dh_next = dh_t + dy_t + product(
            dv_next, valid & (t + 1 < T), t + 1 < T, W, 3 * H, ROWS, UNITS, PARTS, DEPTH, GROUP, PRECISION, FACTOR
        )  # fmt: skip # (1') of step t+1
        dn, dz = dh_next * (1 - z), dh_next * (h_t - n)  # (4')
        dh_t = dh_next * z  # (4')
        du_n = dn * (1 - n * n)  # (3')
        d_t = d + at * (4 * H)
        tell(d_t + H, units, here, du_n * v * r * (1 - r))  # (3') (2')
        tell(d_t + 2 * H, units, here, dz * z * (1 - z))  # (2')
        tell(d_t + 3 * H, units, here, du_n * r)  # (3')
        write(d_t, units, here, du_n)
        at -= B
    write(dh + rows * H, units, here, dh_t)
