"""Gated recurrent unit with the reset gate after the product; equations (1) … (4) and (4') … (1') are those of
`torch_rnn.bptt.gru`.
"""

import triton
import triton.language as tl

from .parts import columns, columns_of_W_T, read, sigmoid, tanh, times_W, write


@triton.jit(do_not_specialize=["T", "B"])
def forward(
    W_hh, h_0, b_n, u, v_n, y, T, B, H: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr,
    STAGES: tl.constexpr, PRECISION: tl.constexpr, FACTOR: tl.constexpr,
):  # fmt: skip
    """Writes v_n, y (T, B, H). u (T, B, 3H) has both biases of r and z; the gates come where u_t stood."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    valid = rows < B
    at = rows  # of all T·B rows, this step's
    h_t = h_0 + rows * H
    for _ in tl.range(T, num_stages=1):
        gates, h_next = u + at * (3 * H), y + at * H
        for j in range(0, H, UNITS):
            units = j + tl.arange(0, UNITS)[None, :]
            here = valid & (units < H)
            a_r, a_z = read(gates, units, here), read(gates + H, units, here)
            v = tl.full((ROWS, UNITS), 0.0, tl.float32) + read(b_n, units, units < H)
            for k in tl.range(0, H, DEPTH, num_stages=STAGES):
                h_k = columns(h_t, k, valid, H, DEPTH, FACTOR)
                W_r, W_z, W_n = W_hh, W_hh + H * H, W_hh + 2 * H * H
                W_T = columns_of_W_T(W_r, k, units, H, DEPTH, FACTOR)
                a_r = tl.dot(h_k, W_T, a_r, input_precision=PRECISION)  # (1)
                W_T = columns_of_W_T(W_z, k, units, H, DEPTH, FACTOR)
                a_z = tl.dot(h_k, W_T, a_z, input_precision=PRECISION)  # (1)
                W_T = columns_of_W_T(W_n, k, units, H, DEPTH, FACTOR)
                v = tl.dot(h_k, W_T, v, input_precision=PRECISION)  # (1)
            r, z = sigmoid(a_r), sigmoid(a_z)  # (2)
            n = tanh(read(gates + 2 * H, units, here) + r * v)  # (3)
            write(gates, units, here, r)
            write(gates + H, units, here, z)
            write(gates + 2 * H, units, here, n)
            write(v_n + at * H, units, here, v)
            write(h_next, units, here, (1 - z) * n + z * read(h_t, units, here))  # (4)
        tl.debug_barrier()  # the whole of h_{t+1} is there
        at += B
        h_t = h_next


@triton.jit(do_not_specialize=["T", "B"])
def backward(
    W_hh, gates, v_n, h_0, y, dy, dh, d, T, B, H: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr,
    DEPTH: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr, FACTOR: tl.constexpr,
):  # fmt: skip
    """Writes d (T, B, 4H), blocks du_n, dv_r = du_r, dv_z = du_z, dv_n: so dv is in one piece. dh (B, H) is the
    final state's gradient and becomes that of the initial state.
    """
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    valid = rows < B
    end = rows + T.to(tl.int64) * B
    at = end - B
    for _ in tl.range(T, num_stages=1):
        last = at + B == end  # there is no dv of a step t+1
        h_t = tl.where(at < B, h_0 + rows * H, y + (at - B) * H)
        gates_t, d_t, dv_next = gates + at * (3 * H), d + at * (4 * H), d + (at + B) * (4 * H) + H
        for j in range(0, H, UNITS):
            units = j + tl.arange(0, UNITS)[None, :]
            here = valid & (units < H)
            dh_next = read(dh + rows * H, units, here) + read(dy + at * H, units, here)
            dh_next += times_W(
                dv_next, W_hh, valid & ~last, units, H, 3 * H, ROWS, UNITS, DEPTH, STAGES, PRECISION, FACTOR
            )  # (1') of step t+1
            r, z = read(gates_t, units, here), read(gates_t + H, units, here)
            n, v = read(gates_t + 2 * H, units, here), read(v_n + at * H, units, here)
            dn, dz = dh_next * (1 - z), dh_next * (read(h_t, units, here) - n)  # (4')
            write(dh + rows * H, units, here, dh_next * z)  # (4')
            du_n = dn * (1 - n * n)  # (3')
            write(d_t, units, here, du_n)
            write(d_t + 3 * H, units, here, du_n * r)  # (3')
            write(d_t + H, units, here, du_n * v * r * (1 - r))  # (3') (2')
            write(d_t + 2 * H, units, here, dz * z * (1 - z))  # (2')
        tl.debug_barrier()  # the whole of dv_t is there
        at -= B
    for j in range(0, H, UNITS):
        units = j + tl.arange(0, UNITS)[None, :]
        here = valid & (units < H)
        dh_0 = read(dh + rows * H, units, here) + times_W(
            d + rows * (4 * H) + H, W_hh, valid, units, H, 3 * H, ROWS, UNITS, DEPTH, STAGES, PRECISION, FACTOR
        )  # (1')
        write(dh + rows * H, units, here, dh_0)
