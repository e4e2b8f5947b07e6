"""The kernels of torch_rnn.gpu on a GPU, in all precisions, many times: what the interpreter cannot see.

A program reads what others have just written. Too early a read would be a wrong number, now and then; so each case runs
again and again and has to give the same bits.
"""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from gpu_problems import NAMES, problem, rounded
from support import assert_all_close, by_numpy, function_of
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils._pytree import tree_leaves

import torch_rnn
from numpy_rnn.verify import accuracy
from torch_rnn import gpu
from torch_rnn.gpu import loops, tiles


def is_fit() -> bool:
    """Whether there is a GPU that the kernels are made for, Triton or not."""
    return torch.cuda.is_available() and not torch.version.hip and torch.cuda.get_device_capability() >= tiles.OLDEST


pytestmark = pytest.mark.skipif(not is_fit(), reason="needs an NVIDIA GPU of compute capability 8.0 or more")
each_cell = pytest.mark.parametrize("name", NAMES)
# T, B, I, H: no tile is full; one program for all units; cuDNN's weak zone; two groups of states for each step; 32 rows.
SIZES = [(50, 20, 7, 45), (6, 3, 4, 8), (200, 33, 16, 192), (60, 40, 16, 512), (30, 300, 8, 64)]
REPEATS = 30
# A number of TF32 has 10 bits after the first. The others are cut off, which errs by twice as much as to round them does.
TF32 = 2 * 2**-10


@pytest.fixture(autouse=True)
def launches(monkeypatch):
    """Which kernels have run, and that some have. Without Triton every test fails: were they skipped, it would look as
    if all were well.
    """
    gpu.enable()
    assert tiles.obstacle("rnn", 1, torch.zeros(8, 8, device="cuda")) is None
    if "test_gpu_kernels" in sys.modules:
        pytest.skip("tests/test_gpu_kernels.py has made the kernels the interpreter's in this process")
    done = []

    def launch(name, *args, run=loops.launch, **constants):
        run(name, *args, **constants)
        done.append(" ".join(name))

    monkeypatch.setattr(loops, "launch", launch)
    yield done
    gpu.disable()
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


def compare_coarsely(name, operands, upstream, eps):
    """Values and gradients of a type with so few digits against float64; and that they are the same every time."""
    values, gradients = on_gpu(name, operands, upstream)
    exact = by_numpy(name, operands, upstream)
    expected = on_the_side_of(values[0], operands, upstream) if name == "rnn_relu" else exact[1]
    assert_all_close([z.double() for z in (*values, *gradients)], [*exact[0], *expected], 4 * eps)
    compare_with_itself(name, operands, upstream, (*values, *gradients))
    return values


def compare_with_itself(name, operands, upstream, before):
    for _ in range(REPEATS):
        again = [z for part in on_gpu(name, operands, upstream) for z in part]
        assert all(torch.equal(a, b) for a, b in zip(again, before))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@each_cell
def test_right_and_the_same_every_time(name, sizes, dtype):
    T, B, I, H = sizes
    operands, upstream = rounded(problem(name, *sizes), dtype)
    if dtype != torch.float32:
        compare_coarsely(name, operands, upstream, torch.finfo(dtype).eps)
        return
    values, gradients = on_gpu(name, operands, upstream)
    exact = by_numpy(name, operands, upstream)
    allowed = accuracy.tolerance("float32", T, B, max(I, H))
    assert_all_close(values, exact[0], allowed.forward, "values")
    assert_all_close(gradients, exact[1], allowed.gradient, "gradients")
    compare_with_itself(name, operands, upstream, (*values, *gradients))


@pytest.mark.parametrize("sizes", [SIZES[0], *SIZES[2:4]], ids=str)
@each_cell
def test_tf32_where_it_is_allowed(name, sizes):
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    operands, upstream = rounded(problem(name, *sizes), torch.float32)
    fine = on_gpu(name, operands, upstream)[0]
    try:
        matmul.allow_tf32 = True
        coarse = compare_coarsely(name, operands, upstream, TF32)
    finally:
        matmul.allow_tf32 = before
    assert not torch.equal(coarse[0], fine[0])


def test_an_lstm_of_1024_units_in_bfloat16(launches):
    sizes = _, B, _, H = 20, 64, 32, 1024
    on = tiles.chip(torch.device("cuda"))
    if not all(tiles.tile(("lstm", way), torch.bfloat16, "ieee", H, B, on) for way in ("forward", "backward")):
        pytest.skip(f"such a layer needs more than {on.multiprocessors} multiprocessors with {on.shared} bytes each")
    operands, upstream = rounded(problem("lstm", *sizes), torch.bfloat16)
    compare_coarsely("lstm", operands, upstream, torch.finfo(torch.bfloat16).eps)
    assert set(launches) == {"lstm forward", "lstm backward"}


LAYERS = {"RNN": torch_rnn.RNN, "LSTM": torch_rnn.LSTM, "GRU": torch_rnn.GRU}
each_layer = pytest.mark.parametrize("layer", LAYERS)


def here_and_there(layer, I, H, **options):
    """A layer by its kernels on the GPU, and the same by autograd over the loop in float64 on the CPU."""
    torch.manual_seed(0)
    there = LAYERS[layer](I, H, bptt="manual", **options).cuda()
    here = copy.deepcopy(there).cpu().double()
    here.bptt = "autograd"
    return here, there


@each_layer
def test_packed_sequences_and_their_gradients(layer, launches):
    here, there = here_and_there(layer, 7, 45, num_layers=2, bidirectional=True)
    x = torch.randn(9, 5, 7).double()
    lengths = torch.tensor([4, 9, 1, 6, 9])

    def run(module, x):
        x = x.detach().requires_grad_()
        packed, final = module(pack_padded_sequence(x, lengths, enforce_sorted=False))
        outputs = [packed.data, *tree_leaves(final)]
        upstream = [torch.sin(torch.arange(1.0, z.numel() + 1)).view(z.shape).to(z) for z in outputs]
        return outputs, torch.autograd.grad(outputs, [x, *module.parameters()], upstream)

    assert_all_close(run(there, x.float().cuda()), run(here, x.float().double()), 1e-5)
    assert set(launches) == {f"{layer.lower()} forward", f"{layer.lower()} backward"}


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
