"""Long short-term memory; equations (1) … (4) and (4') … (1') are those of `torch_rnn.bptt.lstm`."""

import triton
import triton.language as tl

from .parts import columns, columns_of_W_T, read, sigmoid, tanh, times_W, write


@triton.jit(do_not_specialize=["T", "B"])
def forward(
    W_hh, h_0, c_0, a, y, c, T, B, H: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr,
    STAGES: tl.constexpr, PRECISION: tl.constexpr, FACTOR: tl.constexpr,
):  # fmt: skip
    """Writes y, c (T, B, H). a (T, B, 4H) comes without W_hh h_t; the gates come where a_t stood."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    valid = rows < B
    at = rows  # of all T·B rows, this step's
    h_t, c_t = h_0 + rows * H, c_0 + rows * H
    for _ in tl.range(T, num_stages=1):
        gates, h_next, c_next = a + at * (4 * H), y + at * H, c + at * H
        for j in range(0, H, UNITS):
            units = j + tl.arange(0, UNITS)[None, :]
            here = valid & (units < H)
            a_i, a_f = read(gates, units, here), read(gates + H, units, here)
            a_g, a_o = read(gates + 2 * H, units, here), read(gates + 3 * H, units, here)
            for k in tl.range(0, H, DEPTH, num_stages=STAGES):
                h_k = columns(h_t, k, valid, H, DEPTH, FACTOR)
                W_i, W_f, W_g, W_o = W_hh, W_hh + H * H, W_hh + 2 * H * H, W_hh + 3 * H * H
                W_T = columns_of_W_T(W_i, k, units, H, DEPTH, FACTOR)
                a_i = tl.dot(h_k, W_T, a_i, input_precision=PRECISION)  # (1)
                W_T = columns_of_W_T(W_f, k, units, H, DEPTH, FACTOR)
                a_f = tl.dot(h_k, W_T, a_f, input_precision=PRECISION)  # (1)
                W_T = columns_of_W_T(W_g, k, units, H, DEPTH, FACTOR)
                a_g = tl.dot(h_k, W_T, a_g, input_precision=PRECISION)  # (1)
                W_T = columns_of_W_T(W_o, k, units, H, DEPTH, FACTOR)
                a_o = tl.dot(h_k, W_T, a_o, input_precision=PRECISION)  # (1)
            i, f, g, o = sigmoid(a_i), sigmoid(a_f), tanh(a_g), sigmoid(a_o)  # (2)
            c_new = f * read(c_t, units, here) + i * g  # (3)
            write(gates, units, here, i)
            write(gates + H, units, here, f)
            write(gates + 2 * H, units, here, g)
            write(gates + 3 * H, units, here, o)
            write(c_next, units, here, c_new)
            write(h_next, units, here, o * tanh(c_new))  # (4)
        tl.debug_barrier()  # the whole of h_{t+1} is there
        at += B
        h_t, c_t = h_next, c_next


@triton.jit(do_not_specialize=["T", "B"])
def backward(
    W_hh, gates, c_0, c, dy, dh, dc, da, T, B, H: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr,
    DEPTH: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr, FACTOR: tl.constexpr,
):  # fmt: skip
    """Writes da (T, B, 4H). dh, dc (B, H) are the final state's gradient and become that of the initial state."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    valid = rows < B
    end = rows + T.to(tl.int64) * B
    at = end - B
    for _ in tl.range(T, num_stages=1):
        last = at + B == end  # the final state sends dh back, in place of the step t+1 that there is not
        c_t = tl.where(at < B, c_0 + rows * H, c + (at - B) * H)
        gates_t, da_t, da_next = gates + at * (4 * H), da + at * (4 * H), da + (at + B) * (4 * H)
        for j in range(0, H, UNITS):
            units = j + tl.arange(0, UNITS)[None, :]
            here = valid & (units < H)
            dh_next = read(dh + rows * H, units, here & last) + read(dy + at * H, units, here)
            dh_next += times_W(
                da_next, W_hh, valid & ~last, units, H, 4 * H, ROWS, UNITS, DEPTH, STAGES, PRECISION, FACTOR
            )  # (1') of step t+1
            i, f = read(gates_t, units, here), read(gates_t + H, units, here)
            g, o = read(gates_t + 2 * H, units, here), read(gates_t + 3 * H, units, here)
            tanh_c = tanh(read(c + at * H, units, here))
            do = dh_next * tanh_c  # (4')
            dc_next = read(dc + rows * H, units, here) + dh_next * o * (1 - tanh_c * tanh_c)  # (4')
            di, df, dg = dc_next * g, dc_next * read(c_t, units, here), dc_next * i  # (3')
            write(dc + rows * H, units, here, dc_next * f)  # (3')
            write(da_t, units, here, di * i * (1 - i))  # (2')
            write(da_t + H, units, here, df * f * (1 - f))  # (2')
            write(da_t + 2 * H, units, here, dg * (1 - g * g))  # (2')
            write(da_t + 3 * H, units, here, do * o * (1 - o))  # (2')
        tl.debug_barrier()  # the whole of da_t is there
        at -= B
    for j in range(0, H, UNITS):
        units = j + tl.arange(0, UNITS)[None, :]
        dh_0 = times_W(
            da + rows * (4 * H), W_hh, valid, units, H, 4 * H, ROWS, UNITS, DEPTH, STAGES, PRECISION, FACTOR
        )  # (1')
        write(dh + rows * H, units, valid & (units < H), dh_0)
