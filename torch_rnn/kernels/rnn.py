"""The plain recurrent cell; equations (1), (2) and (2'), (1') are those of `torch_rnn.bptt.rnn`."""

import triton
import triton.language as tl

from .parts import columns, columns_of_W_T, read, tanh, times_W, write


@triton.jit(do_not_specialize=["T", "B"])
def forward(
    W_hh, h_0, y, T, B, H: tl.constexpr, RELU: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr,
    DEPTH: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr, FACTOR: tl.constexpr,
):  # fmt: skip
    """Y (T, B, H) holds a without W_hh h_t; h_{t+1} comes where a_t stood."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    valid = rows < B
    at = rows  # of all T·B rows, this step's
    h_t = h_0 + rows * H
    for _ in tl.range(T, num_stages=1):
        h_next = y + at * H
        for j in range(0, H, UNITS):
            units = j + tl.arange(0, UNITS)[None, :]
            here = valid & (units < H)
            a = read(h_next, units, here)
            for k in tl.range(0, H, DEPTH, num_stages=STAGES):
                h_k = columns(h_t, k, valid, H, DEPTH, FACTOR)
                W_T = columns_of_W_T(W_hh, k, units, H, DEPTH, FACTOR)
                a = tl.dot(h_k, W_T, a, input_precision=PRECISION)  # (1)
            write(h_next, units, here, tl.where(a < 0, 0.0, a) if RELU else tanh(a))  # (2)
        tl.debug_barrier()  # the whole of h_{t+1} is there
        at += B
        h_t = h_next


@triton.jit(do_not_specialize=["T", "B"])
def backward(
    W_hh, y, dy, dh, da, T, B, H: tl.constexpr, RELU: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr,
    DEPTH: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr, FACTOR: tl.constexpr,
):  # fmt: skip
    """Writes da (T, B, H). dh (B, H) is the final state's gradient and becomes that of the initial state."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    valid = rows < B
    end = rows + T.to(tl.int64) * B
    at = end - B
    for _ in tl.range(T, num_stages=1):
        last = at + B == end  # the final state sends back, in place of the step t+1 that there is not
        for j in range(0, H, UNITS):
            units = j + tl.arange(0, UNITS)[None, :]
            here = valid & (units < H)
            dh_next = read(dh + rows * H, units, here & last) + read(dy + at * H, units, here)
            dh_next += times_W(
                da + (at + B) * H, W_hh, valid & ~last, units, H, H, ROWS, UNITS, DEPTH, STAGES, PRECISION, FACTOR
            )  # (1') of step t+1
            h = read(y + at * H, units, here)
            df = tl.where(h > 0, 1.0, 0.0) if RELU else 1 - h * h
            write(da + at * H, units, here, dh_next * df)  # (2')
        tl.debug_barrier()  # the whole of da_t is there
        at -= B
    for j in range(0, H, UNITS):
        units = j + tl.arange(0, UNITS)[None, :]
        dh_0 = times_W(da + rows * H, W_hh, valid, units, H, H, ROWS, UNITS, DEPTH, STAGES, PRECISION, FACTOR)  # (1')
        write(dh + rows * H, units, valid & (units < H), dh_0)
