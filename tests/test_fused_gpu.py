"""The kernels of torch_rnn.fused on a GPU, in all precisions, many times: what the interpreter cannot see.

A program reads what others have just written. Too early a read would be a wrong number, now and then; so each case runs
again and again and has to give the same bits.
"""

from __future__ import annotations

import pytest
import torch
from fused_problems import problem, rounded
from support import assert_all_close, by_numpy, function_of

from numpy_rnn import accuracy
from torch_rnn import fused

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available() or fused.obstacle("rnn", 1, torch.zeros(8, 8, device="cuda")) is not None,
    reason="needs an NVIDIA GPU of compute capability 8.0 or more, and Triton",
)
NAMES = ["rnn_tanh", "rnn_relu", "lstm", "gru"]
each_cell = pytest.mark.parametrize("name", NAMES)
# T, B, I, H: no tile is full; one program for all units; cuDNN's weak zone; two groups of states for each step; 32 rows.
SIZES = [(50, 20, 7, 45), (6, 3, 4, 8), (200, 33, 16, 192), (60, 40, 16, 512), (30, 300, 8, 64)]
REPEATS = 30


@pytest.fixture(autouse=True)
def launches(monkeypatch):
    """Which kernels have run, and that none was the interpreter's."""
    from triton.runtime.interpreter import InterpretedFunction

    from torch_rnn.kernels.launch import KERNELS

    if isinstance(KERNELS["lstm", "forward"], InterpretedFunction):
        pytest.skip("tests/test_fused.py has made the kernels the interpreter's in this process")
    done = []
    run = fused._done

    def recorded(name, *args):
        assert run(name, *args), "the loop ran in place of the kernel"
        done.append(" ".join(name))
        return True

    monkeypatch.setattr(fused, "_done", recorded)
    yield done
    assert done


def on_gpu(name, operands, upstream):
    """Values and gradients, on the CPU again."""
    there = [z.detach().cuda().requires_grad_() for z in operands]
    outputs = function_of(name)(*there)
    gradients = torch.autograd.grad(outputs, there, [z.cuda() for z in upstream])
    return [z.detach().cpu() for z in outputs], [z.cpu() for z in gradients]


def on_the_side_of(y, operands, upstream):
    """Gradients of the RNN with relu, exact but for the derivative, which is taken where y is: rounding moves a sum near
    0 to the other side, and in half precision there are many (the loop's gradients are off by up to 130 units, too).
    """
    x, W_ih, W_hh, b_ih, b_hh, h_t = given = [z.detach().double().requires_grad_() for z in operands]
    outputs = []
    for x_t, y_t in zip(x, y):
        h_t = (W_ih @ x_t.T + W_hh @ h_t.T).T + b_ih + b_hh
        h_t = h_t * (y_t > 0)
        outputs.append(h_t)
    return torch.autograd.grad([torch.stack(outputs), h_t], given, [z.double() for z in upstream])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@each_cell
def test_right_and_the_same_every_time(name, sizes, dtype):
    T, B, I, H = sizes
    operands, upstream = rounded(problem(name, *sizes), dtype)
    values, gradients = on_gpu(name, operands, upstream)
    exact = by_numpy(name, operands, upstream)
    if dtype == torch.float32:
        allowed = accuracy.tolerance("float32", T, B, max(I, H))
        assert_all_close(values, exact[0], allowed.forward, "values")
        assert_all_close(gradients, exact[1], allowed.gradient, "gradients")
    else:
        digits = torch.finfo(dtype).eps
        expected = on_the_side_of(values[0], operands, upstream) if name == "rnn_relu" else exact[1]
        assert_all_close([z.double() for z in (*values, *gradients)], [*exact[0], *expected], 4 * digits)
    for _ in range(REPEATS):
        again = [z for part in on_gpu(name, operands, upstream) for z in part]
        assert all(torch.equal(a, b) for a, b in zip(again, (*values, *gradients)))


@each_cell
def test_a_nan_of_the_users_ends_and_stays_in_its_sequence(name):
    """Its bits may be those of what is not written yet."""
    operands, upstream = rounded(problem(name, 5, 6, 4, 40), torch.float32)
    with torch.no_grad():
        bits = operands[5].view(torch.int32)  # of h_0
        bits[1] = -1
    values, _ = on_gpu(name, operands, upstream)
    assert values[0][:, 1].isnan().all()
    assert not values[0][:, [0, 2, 3, 4, 5]].isnan().any()
    assert all((z.view(torch.int32) != -1).all() for z in values)


@each_cell
def test_on_two_streams_and_in_a_graph(name):
    operands, upstream = rounded(problem(name, 40, 16, 8, 160), torch.float32)
    expected = on_gpu(name, operands, upstream)[0]
    there = [z.detach().cuda() for z in operands]
    torch.cuda.synchronize()
    streams, found = [torch.cuda.Stream() for _ in range(2)], []
    for _ in range(10):
        for stream in streams:
            with torch.cuda.stream(stream):
                found.append(function_of(name)(*there))
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found.append(function_of(name)(*there))
    for _ in range(3):
        graph.replay()
    torch.cuda.synchronize()
    for outputs in found:
        assert_all_close(outputs, expected, 0.0)
