"""The kernels of torch_rnn.fused, through Triton's interpreter: values and gradients.

When they run, and what if they fail, is in tests/test_fused_choice.py, which needs no Triton.

The interpreter runs a kernel's lines on the CPU, one program after the other, so it sees wrong equations, indices and
masks. It does not see what is wrong between threads of one program, nor how fast anything is.
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
from fused_problems import problem, rounded
from support import assert_all_close, assert_backward_can_be_run_again, by_numpy, function_of
from test_fused_choice import H200, each_cell, results, ways
from torch.nn.utils.rnn import pack_padded_sequence

import torch_rnn
from numpy_rnn.verify import accuracy
from torch_rnn import bptt, fused

# PyTorch's own, where forward mode looks for its formulas.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
with pytest.MonkeyPatch.context() as patch:
    # When they are imported, kernels and Triton's own functions are made for the interpreter, or not.
    patch.setenv("TRITON_INTERPRET", "1")
    pytest.importorskip("triton", reason="the GPU kernels need Triton: make fused")
    from torch_rnn.kernels import launch as interpreted

SMALL = fused.Tile(rows=4, units=8, parts=4, depth=16, group=1, shared=0)
# T, B, I, H: nothing fits a tile; all fits; one tile is more than enough; one step.
SIZES = [(5, 7, 4, 23), (3, 8, 5, 32), (4, 3, 2, 9), (1, 5, 3, 18)]


@pytest.fixture
def launches(monkeypatch):
    """Let kernels run on the CPU, in small tiles; which have run."""
    done = []

    def launch(name, *args, run=interpreted.launch, **constants):
        run(name, *args, **constants)
        done.append(" ".join(name))

    monkeypatch.setattr(interpreted, "launch", launch)
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # it asks again when it first runs
    monkeypatch.setattr(fused, "DEVICES", ("cpu",))
    monkeypatch.setattr(fused, "tile", lambda *_: SMALL)
    monkeypatch.setattr(fused, "chip", lambda _: H200)
    monkeypatch.setattr(fused, "_failed", set())
    return done


# ---- right


@each_cell
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_values_and_gradients_equal_numpys_and_the_loops(name, sizes, launches):
    operands, upstream = rounded(problem(name, *sizes), torch.float32)
    values, gradients = results(name, operands, upstream)
    assert launches == ways(name)
    T, B, I, H = sizes
    allowed = accuracy.tolerance("float32", T, B, max(I, H))
    expected = by_numpy(name, operands, upstream)
    assert_all_close(values, expected[0], allowed.forward, "values")
    assert_all_close(gradients, expected[1], allowed.gradient, "gradients")
    fused.DEVICES = ()  # the fixture sets it back
    values_of_loop, gradients_of_loop = results(name, operands, upstream)
    assert launches == ways(name)
    assert_all_close(values, values_of_loop, allowed.forward, "values")
    assert_all_close(gradients, gradients_of_loop, allowed.gradient, "gradients")


# As `fused.tile` makes them: several groups of tiles for a step; 32 sequences and twice as many warps; many units.
USED = [fused.Tile(16, 8, 4, 16, 2, 0), fused.Tile(32, 8, 8, 32, 1, 0), fused.Tile(16, 32, 4, 64, 7, 0)]


@each_cell
@pytest.mark.parametrize("tile", USED, ids=str)
def test_the_tiles_that_are_used(name, tile, launches, monkeypatch):
    """The interpreter's products are float32's, whatever precision it is told."""
    monkeypatch.setattr(fused, "tile", lambda *_: tile)
    sizes = 3, 40, 4, 67
    operands, upstream = rounded(problem(name, *sizes), torch.float32)
    expected = by_numpy(name, operands, upstream)
    assert_all_close(results(name, operands, upstream), expected, accuracy.tolerance("float32", 3, 40, 67).forward)
    assert launches == ways(name)


@each_cell
@pytest.mark.parametrize(("dtype", "digits"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)], ids=str)
def test_half_precisions(name, dtype, digits, launches, monkeypatch):
    """Close to float64, and not worse than the loop by more than a little.

    Triton's interpreter cuts bfloat16 off (`cast_impl` in its runtime/interpreter.py), where PyTorch and GPUs round to
    the nearest. So dW_hh is summed in two parts, as that of more than `COPIED` numbers: both ways round it twice then.
    """
    monkeypatch.setattr(bptt.passes, "COPIED", 0)
    operands, upstream = rounded(problem(name, 8, 7, 4, 23), dtype)
    values, gradients = by_numpy(name, operands, upstream)
    exact = [*values, *gradients]

    def worst():
        found = [z for part in results(name, operands, upstream) for z in part]
        assert {z.dtype for z in found} == {dtype}
        return max(np.abs(z.detach().double().numpy() - e).max() / np.abs(e).max() for z, e in zip(found, exact))

    of_kernel = worst()
    assert launches == ways(name)
    fused.DEVICES = ()
    assert of_kernel < min(20 * digits, 1.5 * worst())


@each_cell
def test_chunks_of_steps_go_backwards_by_themselves(name, launches, monkeypatch):
    operands, upstream = rounded(problem(name, 5, 3, 4, 9), torch.float32)
    whole = results(name, operands, upstream)
    monkeypatch.setattr(bptt.passes, "columns_at_a_time", lambda R: 6)
    del launches[:]
    assert_all_close(results(name, operands, upstream), whole, accuracy.tolerance("float32", 5, 3, 9).forward)
    assert launches == [ways(name)[0], *3 * [ways(name)[1]]]


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
    assert_backward_can_be_run_again(name, operands, upstream)
    assert len(launches) == 3


@each_cell
def test_large_preactivations_give_no_nan(name, launches):
    sizes = 3, 5, 4, 9
    operands, upstream = rounded(problem(name, *sizes), torch.float32)
    with torch.no_grad():
        operands[0] *= 1e4  # a is in the thousands, of both signs
    values, gradients = results(name, operands, upstream)
    assert_all_close(values, by_numpy(name, operands, upstream)[0], accuracy.tolerance("float32", 3, 5, 9).forward)
    assert all(g.isfinite().all() for g in gradients)  # many are 0 in float32 and nearly so in float64
    assert launches == ways(name)


@each_cell
def test_nan_stays_where_it_is(name, launches):
    """In its sequence, from its step on."""
    operands, _ = rounded(problem(name, 4, 6, 5, 9), torch.float32)
    with torch.no_grad():
        operands[0][2, 1, 0] = torch.nan
    nan = function_of(name)(*operands)[0].isnan()
    assert nan[2:, 1].all()
    nan[2:, 1] = False
    assert not nan.any()
    assert launches == ways(name)[:1]


def test_layers_directions_and_lengths(launches):
    torch.manual_seed(0)
    layer = torch_rnn.LSTM(4, 9, num_layers=2, bidirectional=True)
    x = torch.randn(5, 3, 4)
    packed = pack_padded_sequence(x, torch.tensor([5, 3, 2]))
    found = []
    for devices in (("cpu",), ()):
        fused.DEVICES = devices
        found.append([*layer(x)[:1], *layer(packed)[1]])
    assert_all_close(found[0], found[1], 1e-6)
    assert len(launches) >= 8


# ---- when


@each_cell
def test_unless_switched_off_the_kernels_run(name, launches, monkeypatch):
    """Switched off, none is tried: tests/test_fused_choice.py."""
    operands, upstream = rounded(problem(name, 3, 2, 4, 9), torch.float32)
    for on in (None, "", "1"):
        monkeypatch.setenv(fused.SWITCH, on) if on is not None else monkeypatch.delenv(fused.SWITCH, raising=False)
        results(name, operands, upstream)
    assert launches == 3 * ways(name)


NAN_OF_THE_USERS = """
import torch
from test_fused import fused, H200, SMALL, problem, rounded, function_of
from test_fused_choice import NAMES
from torch_rnn.kernels import launch

fused.DEVICES, fused.tile, fused.chip = ("cpu",), lambda *_: SMALL, lambda _: H200
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
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout == "done\n", done.stderr


@each_cell
def test_derivatives_that_the_kernels_do_not_have(name, launches):
    """Second derivatives, and torch.func: as by the loop."""
    (x, *rest), _ = rounded(problem(name, 3, 2, 4, 9), torch.float32)

    def loss(run):
        return lambda x: sum((z**3).sum() for z in function_of(name, run)(x, *rest))

    for transform in (
        lambda f: torch.func.grad(f)(x.detach()),
        lambda f: torch.func.vmap(f)(torch.stack([x, 2 * x])),
        lambda f: torch.func.jvp(f, (x.detach(),), (x.detach(),))[1],
        lambda f: torch.autograd.grad((torch.autograd.grad(f(x), x, create_graph=True)[0] ** 2).sum(), x)[0],
    ):
        assert_all_close([transform(loss(bptt.by_hand))], [transform(loss(bptt.by_loop))], 1e-5)


# ---- as compiled


def test_every_kernel_compiles():
    """For a GPU that need not be here, by the compiler and the assembler that Triton brings along."""
    script = pathlib.Path(__file__).with_name("compile_kernels.py")
    root = script.parents[1]
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, script, "80", "90"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 55  # of 60: the others do not fit a GPU of 8.0
    for case in found:
        assert case["shared"] <= case["limit"], case
        assert case["shared"] <= case["planned"] + 16 * 1024, case
        assert case["spills"] <= 160, case  # of thousands of instructions; most have none
        assert "HMMA" in case["products"], case  # on tensor cores
