"""The kernels of torch_rnn.gpu through Triton's interpreter and its compiler: values and gradients.

The interpreter runs a kernel's lines on the CPU, one program after the other, so it sees wrong equations, indices and
masks. It does not see what is wrong between threads of one program, nor how fast anything is. What needs no Triton
stands in test_gpu.py, what needs a GPU in test_on_gpu.py.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from gpu_problems import NAMES, problem, results, rounded, ways
from support import assert_all_close, by_numpy, function_of
from torch.nn.utils.rnn import pack_padded_sequence

import torch_rnn
from numpy_rnn.verify import accuracy
from torch_rnn import gpu, manual
from torch_rnn.gpu import loops, tiles

with pytest.MonkeyPatch.context() as patch:
    # When they are imported, kernels and Triton's own functions are made for the interpreter, or not.
    patch.setenv("TRITON_INTERPRET", "1")
    pytest.importorskip("triton", reason="the GPU kernels need Triton: make fused")
    from torch_rnn.gpu import kernels

each_cell = pytest.mark.parametrize("name", NAMES)
H200 = tiles.Chip(multiprocessors=132, shared=232448)
SMALL = tiles.Tile(rows=4, units=8, parts=4, depth=16, group=1, shared=0)
# T, B, I, H: nothing fits a tile; all fits; one tile is more than enough; one step.
SIZES = [(5, 7, 4, 23), (3, 8, 5, 32), (4, 3, 2, 9), (1, 5, 3, 18)]


def kernels_on_the_cpu(patch, tile=SMALL):
    """Let them run in Triton's interpreter, in small tiles."""
    patch.setenv("TRITON_INTERPRET", "1")  # it asks again when it first runs
    patch.setattr(tiles, "DEVICES", ("cpu",))
    for module in (tiles, loops):
        patch.setattr(module, "tile", lambda *_: tile)
        patch.setattr(module, "chip", lambda _: H200)
    patch.setattr(manual, "passes_for", lambda cell, *_: manual.BY_TORCH.get(cell.name))


@pytest.fixture(autouse=True)
def launches(monkeypatch):
    """Which kernels have run."""
    done = []

    def launch(name, *args, run=loops.launch, **constants):
        run(name, *args, **constants)
        done.append(" ".join(name))

    kernels_on_the_cpu(monkeypatch)
    monkeypatch.setattr(loops, "launch", launch)
    gpu.enable()
    yield done
    gpu.disable()


@each_cell
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_values_and_gradients_equal_numpys(name, sizes, launches):
    T, B, I, H = sizes
    operands, upstream = rounded(problem(name, *sizes), torch.float32)
    values, gradients = results(name, operands, upstream)
    assert launches == ways(name)
    allowed = accuracy.tolerance("float32", T, B, max(I, H))
    expected = by_numpy(name, operands, upstream)
    assert_all_close(values, expected[0], allowed.forward, "values")
    assert_all_close(gradients, expected[1], allowed.gradient, "gradients")


# As `tiles.tile` makes them: several groups of tiles for a step; 32 sequences and twice as many warps; many units.
USED = [tiles.Tile(16, 8, 4, 16, 2, 0), tiles.Tile(32, 8, 8, 32, 1, 0), tiles.Tile(16, 32, 4, 64, 7, 0)]


@each_cell
@pytest.mark.parametrize("tile", USED, ids=str)
def test_the_tiles_that_are_used(name, tile, launches, monkeypatch):
    """The interpreter's products are float32's, whatever precision it is told."""
    kernels_on_the_cpu(monkeypatch, tile)
    operands, upstream = rounded(problem(name, 3, 40, 4, 67), torch.float32)
    expected = by_numpy(name, operands, upstream)
    assert_all_close(results(name, operands, upstream), expected, accuracy.tolerance("float32", 3, 40, 67).forward)
    assert launches == ways(name)


@each_cell
@pytest.mark.parametrize(("dtype", "digits"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)], ids=str)
def test_half_precisions(name, dtype, digits, launches):
    """Triton's interpreter cuts bfloat16 off, where PyTorch and GPUs round to the nearest: so twice the error."""
    operands, upstream = rounded(problem(name, 8, 7, 4, 23), dtype)
    values, gradients = by_numpy(name, operands, upstream)
    exact = [*values, *gradients]

    def worst():
        found = [z for part in results(name, operands, upstream) for z in part]
        assert {z.dtype for z in found} == {dtype}
        return max(np.abs(z.detach().double().numpy() - e).max() / np.abs(e).max() for z, e in zip(found, exact))

    of_kernel = worst()
    assert launches == ways(name)
    gpu.disable()
    assert of_kernel < min(20 * digits, 2 * worst())


@each_cell
def test_operands_that_are_not_contiguous(name, launches):
    operands, upstream = rounded(problem(name, 4, 3, 5, 9), torch.float32)
    plain = results(name, operands, upstream)
    strided = [z.detach().mT.contiguous().mT.requires_grad_() if z.dim() > 1 else z for z in operands]
    assert_all_close(results(name, strided, [z.mT.contiguous().mT for z in upstream]), plain, 1e-6)
    assert launches == 2 * ways(name)


@each_cell
def test_backward_can_be_run_again_and_changes_no_argument(name, launches):
    operands, upstream = rounded(problem(name, 4, 3, 5, 9), torch.float32)
    before = [z.detach().clone() for z in (*operands, *upstream)]
    outputs = function_of(name)(*operands)
    first = torch.autograd.grad(outputs, operands, upstream, retain_graph=True)
    assert_all_close(torch.autograd.grad(outputs, operands, upstream), first, 0.0)
    assert_all_close([*operands, *upstream], before, 0.0)
    assert len(launches) == 3


@each_cell
def test_large_preactivations_give_no_nan(name):
    operands, upstream = rounded(problem(name, 3, 5, 4, 9), torch.float32)
    with torch.no_grad():
        operands[0] *= 1e4  # a is in the thousands, of both signs
    values, gradients = results(name, operands, upstream)
    assert_all_close(values, by_numpy(name, operands, upstream)[0], accuracy.tolerance("float32", 3, 5, 9).forward)
    assert all(g.isfinite().all() for g in gradients)  # many are 0 in float32 and nearly so in float64


@each_cell
def test_nan_stays_where_it_is(name):
    """In its sequence, from its step on."""
    operands, _ = rounded(problem(name, 4, 6, 5, 9), torch.float32)
    with torch.no_grad():
        operands[0][2, 1, 0] = torch.nan
    nan = function_of(name)(*operands)[0].isnan()
    assert nan[2:, 1].all()
    nan[2:, 1] = False
    assert not nan.any()


def test_layers_directions_and_lengths(launches):
    torch.manual_seed(0)
    layer = torch_rnn.LSTM(4, 9, num_layers=2, bidirectional=True, bptt="manual")
    x = torch.randn(5, 3, 4)
    packed = pack_padded_sequence(x, torch.tensor([5, 3, 2]))
    found = [[*layer(x)[:1], *layer(packed)[1]]]
    assert len(launches) >= 8
    layer.bptt = "autograd"
    found.append([*layer(x)[:1], *layer(packed)[1]])
    assert_all_close(found[0], found[1], 1e-6)


NAN_OF_THE_USERS = """
import pytest, torch
from test_gpu_kernels import NAMES, function_of, gpu, kernels_on_the_cpu, problem, rounded

gpu.enable()
kernels_on_the_cpu(pytest.MonkeyPatch())
for name in NAMES:
    for where in ("x", "h_0"):
        operands, _ = rounded(problem(name, 4, 3, 5, 9), torch.float32)
        with torch.no_grad():
            operands[0 if where == "x" else 5].view(torch.int32)[..., 1, :] = -1
        y = function_of(name)(*operands)[0]
        assert y[:, 1].isnan().all() and not y[:, [0, 2]].isnan().any(), (name, where)
        assert (y.view(torch.int32) != -1).all(), (name, where)
print("done")
"""


def test_a_nan_of_the_users_is_not_taken_for_what_is_not_written_yet():
    """Or a program would wait for ever, so this has a time limit."""
    folder = pathlib.Path(__file__).parent
    environment = os.environ | {
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (folder, folder.parent))),
    }
    command = [sys.executable, "-W", "ignore", "-c", NAN_OF_THE_USERS]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.stdout == "done\n", done.stderr


def test_every_kernel_compiles():
    """For a GPU that need not be here, by the compiler and the assembler that Triton brings along."""
    assert kernels.KERNELS
    script = pathlib.Path(__file__).with_name("compile_kernels.py")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(script.parents[1])
    done = subprocess.run([sys.executable, script, "80", "90"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 55  # of 60: the others do not fit a GPU of 8.0
    for case in found:
        assert case["shared"] <= case["limit"], case
        assert case["shared"] <= case["planned"] + 16 * 1024, case
        assert case["spills"] <= 160, case  # of thousands of instructions; most have none
        assert "HMMA" in case["products"], case  # on tensor cores
