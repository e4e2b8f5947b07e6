"""When the kernels of torch_rnn.fused run, on what, and what if they fail: all that needs no Triton.

Where a kernel would be launched, a function of the test's is called.
"""

from __future__ import annotations

import importlib.machinery
import sys
import types
import warnings
from unittest import mock

import pytest
import torch
from fused_problems import problem, rounded
from support import assert_all_close, function_of
from torch._subclasses import FakeTensorMode

import torch_rnn
from torch_rnn import fused

NAMES = ["rnn_tanh", "rnn_relu", "lstm", "gru"]
each_cell = pytest.mark.parametrize("name", NAMES)
H200 = fused.Chip(multiprocessors=132, shared=232448)


def let_kernels_be_tried(monkeypatch, launch):
    """On the CPU, as on a GPU with Triton: by a function in place of `torch_rnn.kernels.launch.launch`."""
    monkeypatch.setattr(fused, "DEVICES", ("cpu",))
    monkeypatch.setattr(fused, "_without_triton", lambda: None)
    monkeypatch.setattr(fused, "chip", lambda _: H200)
    monkeypatch.setattr(fused, "_failed", set())
    monkeypatch.delenv(fused.SWITCH, raising=False)
    monkeypatch.setitem(sys.modules, "torch_rnn.kernels.launch", types.SimpleNamespace(launch=launch))


@pytest.fixture
def tried(monkeypatch):
    """Let every kernel fail; which were tried."""
    done = []

    def fail(name, *_, **__):
        done.append(" ".join(name))
        raise MemoryError("out of resource: shared memory\nRequired: 2")

    let_kernels_be_tried(monkeypatch, fail)
    return done


def results(name, operands, upstream):
    """Values, then gradients."""
    outputs = function_of(name)(*operands)
    return outputs, torch.autograd.grad(outputs, operands, upstream)


def ways(name):
    cell = name.split("_")[0]
    return [f"{cell} forward", f"{cell} backward"]


# ---- when


def test_what_stands_in_the_way(tried, monkeypatch):
    def obstacle(W, *others, B=3):
        return fused.obstacle("lstm", B, W, *others)

    W = torch.zeros(32, 8)
    assert obstacle(W, torch.nn.Parameter(torch.zeros(3))) is None
    assert obstacle(W.double()) == "no kernel for torch.float64"
    assert obstacle(W.to(torch.complex64)) == "no kernel for torch.complex64"
    assert obstacle(W, torch.zeros(0, 8)) == "an operand is empty"
    assert obstacle(W, torch.zeros(3).half()).startswith("operands differ: torch.float32 on cpu, torch.float16")
    assert obstacle(W, torch.zeros(3, device="meta")).endswith("on meta")
    large = torch.zeros(4096, 1024)
    assert obstacle(large) == "3 sequences and W_hh (4096, 1024) do not fit 132 multiprocessors"
    assert obstacle(large.bfloat16(), B=64) is None
    assert obstacle(large.bfloat16(), B=65) == "65 sequences and W_hh (4096, 1024) do not fit 132 multiprocessors"
    fakes = FakeTensorMode()
    assert obstacle(W, fakes.from_tensor(torch.zeros(3))) == "an operand is a FakeTensor of its own kind"
    with fakes:
        assert obstacle(W) == "somebody looks into the operations"
    seen = []
    torch.func.grad(lambda z: seen.append(obstacle(W, z)) or z.sum())(torch.zeros(3))
    assert seen == ["an operand is a Tensor of its own kind"]
    monkeypatch.setattr(fused, "_without_triton", lambda: "Triton is away")
    assert obstacle(W) == "Triton is away"
    monkeypatch.setattr(fused, "DEVICES", ("cuda",))
    assert obstacle(W) == "on cpu"
    assert tried == []


def test_without_triton_or_with_an_old_one(monkeypatch):
    ask = fused._without_triton.__wrapped__
    triton = types.ModuleType("triton")
    triton.__spec__ = importlib.machinery.ModuleSpec("triton", None)
    monkeypatch.setitem(sys.modules, "triton", triton)
    for version, answer in {
        "3.6.0": None,
        "3.10.0+git": None,
        "4.0.0": None,
        "3.5.1+git": "Triton 3.5.1+git is older than 3.6",
        "2.3.1": "Triton 2.3.1 is older than 3.6",
    }.items():
        triton.__version__ = version
        assert ask() == answer
    monkeypatch.setitem(sys.modules, "triton", None)  # as if there were none
    assert ask() == "Triton is not installed: pip install 'numpy-rnn[gpu]'"


def test_a_gpu_without_the_tensor_cores(tried, monkeypatch):
    monkeypatch.setattr(fused, "DEVICES", ("cuda",))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Turing")
    W = mock.Mock(device=torch.device("cuda"), dtype=torch.float32)
    assert fused.obstacle("rnn", 1, W) == "Turing has no tensor cores for these products"


def test_what_a_gpu_has(monkeypatch):
    found = types.SimpleNamespace(multi_processor_count=108, shared_memory_per_block_optin=166912)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: found)
    chip = fused.chip.__wrapped__
    assert chip(torch.device("cuda")) == fused.Chip(108, 166912)
    del found.shared_memory_per_block_optin  # an older PyTorch does not say
    assert chip(torch.device("cuda")) == fused.Chip(108, 101376)


@each_cell
def test_the_switch_keeps_the_loops(name, tried, monkeypatch):
    operands, upstream = rounded(problem(name, 3, 2, 4, 9), torch.float32)
    monkeypatch.setenv(fused.SWITCH, "0")
    assert fused.obstacle("rnn", 2, operands[0]) == "switched off by TORCH_RNN_FUSED=0"
    results(name, operands, upstream)
    assert tried == []
    for on in ("", "1"):
        monkeypatch.setenv(fused.SWITCH, on)
        assert fused.obstacle("rnn", 2, operands[0]) is None


def test_variants_and_float64_keep_their_loops(tried):
    x = torch.randn(4, 3, 5)
    torch_rnn.LSTM(5, 9, proj_size=2)(x)[0].sum().backward()
    torch_rnn.LSTM(5, 9, peephole=True)(x)[0].sum().backward()
    torch_rnn.GRU(5, 9, reset_after=False)(x)[0].sum().backward()
    torch_rnn.LSTM(5, 9, dtype=torch.float64)(x.double())[0].sum().backward()
    torch_rnn.LSTM(5, 9, bptt="autograd")(x)[0].sum().backward()
    assert tried == []


def test_on_the_cpu_nothing_runs_by_itself():
    assert fused.obstacle("rnn", 3, torch.zeros(4, 4)) == "on cpu"


# ---- on what


@pytest.mark.parametrize("name", [("rnn", "forward"), ("lstm", "forward"), ("gru", "backward")], ids=" ".join)
@pytest.mark.parametrize(("dtype", "precision"), [(torch.float32, "tf32x3"), (torch.bfloat16, "ieee")], ids=str)
def test_programs_fit_the_chip(name, dtype, precision):
    """All at the same time, each with its part of W_hh in the memory that there is; the fewer sequences the better."""
    for H in (1, 16, 45, 192, 256, 512, 1024):
        for B in (1, 16, 17, 64, 300, 2000):
            tile = fused.tile(name, dtype, precision, H, B, H200)

            def programs(rows, units, H=H, B=B):
                return -(-H // units) * -(-B // rows)

            def matrix(units, H=H):
                columns = units * (4 if name == ("lstm", "forward") else 1)
                return H * columns * (3 if name[1] == "backward" else 1) * (8 if precision == "tf32x3" else 2)

            if tile is None:
                assert H * B > 256 * 64 or H == 1024, (H, B)
                continue
            assert programs(tile.rows, tile.units) <= H200.multiprocessors
            assert matrix(tile.units) <= tile.shared <= H200.shared
            if tile.rows == 32:
                assert programs(16, tile.units) > H200.multiprocessors
    assert fused.tile(name, dtype, precision, 1024, 10**6, H200) is None


def test_precision_of_products():
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    try:
        matmul.allow_tf32 = False
        assert fused.precision(torch.float32) == "tf32x3"
        matmul.allow_tf32 = True
        assert fused.precision(torch.float32) == "tf32"
        assert fused.precision(torch.float16) == fused.precision(torch.bfloat16) == "ieee"
    finally:
        matmul.allow_tf32 = before


@pytest.mark.parametrize("dtype", fused.DTYPES, ids=str)
def test_what_is_not_written_is_a_nan_with_all_bits_set(dtype):
    z = fused.unwritten(torch.zeros(1, dtype=dtype), 2, 3)
    assert z.shape == (2, 3)
    assert z.dtype == dtype
    assert z.isnan().all()
    assert (z.view(torch.uint8) == 255).all()


@each_cell
def test_a_kernel_gets_what_it_is_made_for(name, monkeypatch):
    """Operands one after another in memory, in one dtype, W_hh first; sizes; a tile that fits; how to multiply."""
    operands, upstream = rounded(problem(name, 5, 3, 4, 9), torch.bfloat16)
    told = []

    def launch(way, T, B, given, tile, precision, **constants):
        told.append((" ".join(way), T, B, precision, constants))
        assert all(z.is_contiguous() and z.dtype in (torch.bfloat16, torch.float32) for z in given)
        assert torch.equal(given[0], operands[2])
        assert tile == fused.tile(way, torch.bfloat16, "ieee", 9, 3, H200)
        given[-1].zero_()

    let_kernels_be_tried(monkeypatch, launch)
    results(name, [z.mT.contiguous().mT if z.dim() > 1 else z for z in operands], upstream)
    relu = {"RELU": name == "rnn_relu"} if "rnn" in name else {}
    assert told == [(way, 5, 3, "ieee", relu) for way in ways(name)]


# ---- if it fails


@each_cell
def test_a_kernel_that_fails_is_replaced_by_the_loop(name, tried, monkeypatch):
    operands, upstream = rounded(problem(name, 3, 2, 4, 9), torch.float32)
    with pytest.warns(RuntimeWarning) as caught:
        found = results(name, operands, upstream)
    assert [str(w.message) for w in caught] == [
        f"torch_rnn.fused: no {way} kernel here, the loop computes it (MemoryError: out of resource: shared memory)"
        for way in ways(name)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        again = results(name, operands, upstream)
    assert tried == ways(name)  # and tried once
    monkeypatch.setattr(fused, "DEVICES", ())
    loop = results(name, operands, upstream)
    assert_all_close(found, loop, 0.0)
    assert_all_close(again, loop, 0.0)


def test_memory_that_is_short_this_time_is_no_failure_of_a_kernel(monkeypatch):
    def launch(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    let_kernels_be_tried(monkeypatch, launch)
    operands, _ = rounded(problem("gru", 3, 2, 4, 9), torch.float32)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        function_of("gru")(*operands)
    assert not fused._failed
