"""The benchmarks measure what they say, notice wrong results, and survive mistakes and interrupts. No test asks how fast."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
import torch
from test_fused_choice import let_kernels_be_tried
from test_graphs import record_in_place_of_cuda
from torch.utils._pytree import tree_leaves

from benchmarks import __main__ as cli
from benchmarks import (
    compare,
    contestants,
    cuda,
    environment,
    fit,
    measure,
    plan,
    problem,
    report,
    results,
    tables,
    targets,
    worker,
)
from benchmarks import points as sizes
from benchmarks.problem import CELLS, CPU_DTYPES, MODES, Setting
from benchmarks.results import Measurement, Results
from numpy_rnn.fast import numerics
from torch_rnn import fused
from torch_rnn.bptt import products

ROOT = Path(__file__).parents[1]
TINY = "4x3x2x5"
DEFECTIVE = """
from benchmarks.contestants import numpy_layer

def prepare(problem, threads, device):
    ready = numpy_layer.prepare(problem, threads, device)
    def arrays(result):
        named = ready.arrays(result)
        if "dx" in named:
            named["dx"][0, 0, 0] += 0.001 * abs(named["dx"]).max()  # of one gradient one entry, a little
        return named
    return ready._replace(arrays=arrays)
"""
SLEEPER = """
import os, pathlib, time
from benchmarks.contestants import UnfitError

def prepare(problem, threads, device):
    if problem.point.T < 5:
        raise UnfitError("likes long sequences only")
    pathlib.Path(__file__).with_suffix(".pid").write_text(str(os.getpid()))
    time.sleep(600)
"""


class Done(NamedTuple):
    status: int
    out: str
    err: str


def bench(*arguments: object) -> Done:
    """Run the command in this process; what it measures runs in processes of its own anyway."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["benchmarks", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as left,
    ):
        cli.main()
    return Done(int(left.value.code), out.getvalue(), err.getvalue())


def sentence(err: str) -> str:
    """The only line there is."""
    (line,) = err.splitlines()
    assert line.startswith("benchmarks: ")
    return line.removeprefix("benchmarks: ")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run with a defective contestant among good ones; the command's end, and the file it wrote."""
    folder = tmp_path_factory.mktemp("benchmarks")
    (folder / "defective.py").write_text(DEFECTIVE)
    names = f"numpy_rnn,torch.nn,floor,{folder / 'defective.py'}"
    options = ["--points", f"{TINY},{TINY}-L2-D2-ragged", "--cells", "lstm", "--dtypes", "float32", "--threads", 1]
    with mock.patch.dict(os.environ, {"OPENBLAS_CORETYPE": "Prescott"}):
        done = bench(*options, "--contestants", names, "--repeats", 2, "--out", folder / "out.json")
    return done, folder / "out.json"


# ---- a run


def test_a_run_writes_what_it_measured_and_shows_tables(run):
    done, path = run
    found = results.load(path)
    assert found.complete
    assert json.loads(path.read_text())["format"] == results.FORMAT
    for point in (TINY, f"{TINY}-L2-D2-ragged"):
        for contestant in ("numpy_rnn", "torch.nn", "floor"):
            for mode in MODES:
                m = found.find(cell="lstm", point=point, contestant=contestant, mode=mode, dtype="float32", threads=1)
                assert m is not None, (point, contestant, mode)
                assert len(m.samples) == 2
                assert min(m.samples) > 0
                assert (m.error is None) == (contestant == "floor")
                assert m.error is None or 0 < m.error < 1e-5
                assert m.memory is None or m.memory >= 0
    assert "LSTM, float32, 1 thread, forward + backward" in done.out
    assert "Ratio to torch.nn: geometric mean" in done.out
    assert f"{TINY}-L2-D2-ragged" in done.out


def test_each_contestant_ran_in_a_process_of_its_own_with_the_threads_asked_for(run):
    found = results.load(run[1])
    assert [p["contestant"] for p in found.processes][:3] == ["numpy_rnn", "torch.nn", "floor"]
    for process in found.processes:
        assert process["threads"] == 1
        assert {library["num_threads"] for library in process["libraries"]} == {1}
        assert any("architecture" in library for library in process["libraries"])
        assert process["versions"]["numpy"] == np.__version__
        assert "Prescott" not in json.dumps(process)
    assert "OPENBLAS_CORETYPE" in found.environment["removed variables"]
    assert not any(str(ROOT) in json.dumps(p["libraries"]) for p in found.processes)  # no paths of this machine


def test_a_wrong_result_is_reported_and_does_not_count(run):
    done, path = run
    assert done.status == 1
    wrong = [m for m in results.load(path).measurements if m.status != "ok"]
    assert {(Path(m.contestant).name, m.mode, m.status, m.tensor) for m in wrong} == {
        ("defective.py", "forward-backward", "wrong", "dx")
    }
    assert all(m.samples == () for m in wrong)
    assert "WRONG" in done.out
    assert "WRONG: " in done.err
    assert "dx is off by 1.0e-03" in done.err


def test_ctrl_c_keeps_what_was_measured_and_ends_the_processes(tmp_path):
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    out, pid = tmp_path / "out.json", tmp_path / "sleeper.pid"
    options = [
        "--points",
        f"{TINY},5x2x3x5",
        "--cells",
        "rnn",
        "--dtypes",
        "float32",
        "--threads",
        "1",
        "--repeats",
        "1",
    ]
    names = f"floor,{tmp_path / 'sleeper.py'}"
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *options, "--contestants", names, "--out", out],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (pid.exists() and pid.read_text()) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "benchmarks: interrupted; the file holds what was measured until then"
    found = results.load(out)
    assert not found.complete
    assert {(m.point, m.contestant, m.status) for m in found.measurements} == {(TINY, "floor", "ok")}
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


# ---- contestants


@pytest.fixture
def one_thread(monkeypatch):
    """No contestant changes threads or cores of this process for good."""
    monkeypatch.setattr(environment, "pin", lambda threads: None)
    before = torch.get_num_threads()
    yield 1
    torch.set_num_threads(before)


SLOW = ("jax", "torch_rnn-compiled")  # to compile


def agreeing(name, call_it=lambda call: call()):
    """At tiny sizes the values and gradients of a contestant are those of float64; where it took part: cell, sizes, dtype
    and mode.
    """
    module, took_part = contestants.load(name), []
    for cell in CELLS:
        for size in (TINY, f"{TINY}-L2-D2-ragged"):
            point = sizes.parse(size)
            for dtype in CPU_DTYPES:
                if name in SLOW and (dtype == "float64") != (cell == "lstm"):
                    continue
                exact = problem.make(cell, point, "float64")
                by = measure.judge(name, Setting(cell, point, dtype, 1))
                judge = contestants.load(by).prepare(exact, 1, "cpu")
                reference = judge.arrays(judge.calls["forward-backward"]())
                try:
                    ready = module.prepare(problem.make(cell, point, dtype), 1, "cpu")
                except contestants.UnfitError:
                    continue
                for mode, call in ready.calls.items():
                    arrays = ready.arrays(call_it(call))
                    assert {a.dtype for a in arrays.values()} == {np.dtype(dtype)}
                    error, tensor = problem.worst_error(arrays, reference, mode)
                    assert error < {"float32": 3e-6, "float64": 1e-14}[dtype], (cell, size, mode, tensor)
                    took_part.append((cell, size, dtype, mode))
    return took_part


@pytest.mark.parametrize(
    "name", [name for name, c in contestants.CONTESTANTS.items() if c.device != "cuda" and not c.bound]
)
def test_contestants_agree_with_the_float64_reference(name, one_thread):
    package = contestants.missing(name)
    if package:
        pytest.skip(f"{package} is not installed")
    assert len(agreeing(name)) >= 3


ON_A_GPU = [name for name, c in contestants.CONTESTANTS.items() if c.device == "cuda"]
GRAPHS = [name for name in ON_A_GPU if name.endswith(("-graph", "-captured"))]


@pytest.fixture
def as_on_a_gpu(one_thread, monkeypatch):
    """Record operations in place of CUDA graphs, and compile without Inductor; the graphs, as they are made."""
    monkeypatch.setenv(fused.SWITCH, "1")  # some contestants set it for good: now it is set back
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    yield record_in_place_of_cuda(monkeypatch)
    if "torch._dynamo" in sys.modules:  # which takes two seconds to import
        torch.compiler.reset()


@pytest.mark.parametrize("name", ON_A_GPU)
def test_contestants_for_a_gpu_agree_with_it_as_far_as_a_cpu_goes(name, as_on_a_gpu):
    def once_more(call):
        """Call again, all numbers of the first result spoilt: a graph writes into the same memory."""
        result = call()
        with torch.inference_mode():
            for z in tree_leaves(result):
                z.fill_(torch.nan)
        return call()

    limit = contextlib.nullcontext()
    if name == "torch_rnn-compiled":  # versions of a function, after which it gives up: one setting has so many
        limit = importlib.import_module("torch._dynamo").config.patch(recompile_limit=2)
    with limit:
        took_part = agreeing(name, once_more)
    ragged = {f"{TINY}-L2-D2-ragged"} if name == "torch_rnn-steps" else set()
    assert {size for _, size, _, _ in took_part} == {TINY, *ragged}
    assert {(cell, mode) for cell, _, _, mode in took_part} == {(cell, mode) for cell in CELLS for mode in MODES}
    assert bool(as_on_a_gpu) == (name in GRAPHS)
    assert os.environ[fused.SWITCH] == ("0" if "steps" in name else "1")


def test_the_compiled_contestant_keeps_to_short_sequences():
    given = problem.make("rnn", sizes.Point(101, 1, 2, 2), "float32")
    with pytest.raises(contestants.UnfitError, match="at most 100 steps"):
        contestants.load("torch_rnn-compiled").prepare(given, 1, "cpu")


@pytest.mark.parametrize("name", ["torch_rnn", "torch_rnn-graph", "torch_rnn-captured"])
def test_no_loop_is_timed_in_the_name_of_a_kernel_that_fails(name, as_on_a_gpu, monkeypatch):
    def launch(*_, **__):
        raise MemoryError("shared memory")

    let_kernels_be_tried(monkeypatch, launch)
    given = problem.make("gru", sizes.parse(TINY), "float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeWarning, match="no gru forward kernel here"):
            contestants.load(name).prepare(given, 1, "cpu").calls["forward-backward"]()


def test_calls_are_as_many_as_with_the_real_sizes():
    point = sizes.Point(7, 3, 4, 5, L=2, D=2, ragged=True)
    contestant = worker.Worker("calls")
    contestant.setup(problem.Setting("lstm", point, "float32", 1))
    output, h_n, _, (_, dx, _) = contestant.job.ready.calls["forward-backward"]()
    assert output.shape == (7, 1, 4)
    assert h_n[0].shape == (4, 1, 2)
    assert dx.shape == (7, 1, 2)
    for name in ("floor-calls", "torch-calls", "torch-floor-calls"):
        assert contestants.point_of(name, point) == sizes.Point(7, 1, 2, 2, L=2, D=2)
    for name in ("floor", "numpy_rnn", "torch-passes"):
        assert contestants.point_of(name, point) == point


@pytest.mark.parametrize("way", ["by_mm", "by_onednn", "Ordered", "in_pieces", "in_chunks", "ByNumPy"])
@pytest.mark.parametrize("D", [1, 2])
def test_the_floor_by_torch_does_the_same_products(D, way, monkeypatch):
    floor, by_torch = contestants.load("floor"), contestants.load("torch-floor")
    given = problem.make("gru", sizes.Point(5, 3, 4, 2, D=D), "float32")
    monkeypatch.setattr(floor, "_trial", lambda serial: 0.0)  # the first layout, whichever is quicker here
    done = []

    def noted(product):
        def call(a, b, c):
            wanted = np.asarray(a) @ np.asarray(b)  # beforehand, as c may be an operand of the next
            assert np.allclose(np.asarray(product(a, b, c)), wanted, rtol=1e-6)
            done[-1].append((tuple(a.shape), tuple(b.shape)))

        return call

    if way != "by_mm" and not products.onednn_is_there():
        pytest.skip("needs a PyTorch with oneDNN")
    product = getattr(by_torch, way)
    product = product() if isinstance(product, type) else product
    monkeypatch.setattr(by_torch, "columns_at_a_time", lambda R: 4)
    for multiply, of in ((noted(np.matmul), np.asarray), (noted(product), torch.from_numpy)):
        done.append([])
        floor.prepare(given, 1, "cpu", floor.Library((multiply,), (multiply,), of)).calls["forward-backward"]()
    assert len(done[0]) == D * (1 + 5 + 5 + 3)
    assert done[0] == done[1]


@pytest.mark.parametrize(("cell", "forward", "backward"), [("rnn", 2, 2), ("lstm", 5, 5), ("gru", 4, 5)])
def test_the_copies_of_columns_move_each_number_once(cell, forward, backward, monkeypatch):
    """Blocks of T·B·H numbers: the gates and y; dy and the gates' gradients, of which a GRU has one more."""
    layout = contestants.load("layout")
    T, B, H = 5, 17, 2
    moved = []
    for name in ("abreast", "rows", "copy_stripes"):
        monkeypatch.setattr(numerics, name, lambda z, out=None: moved.append(z.size))
    for calls, blocks in zip(
        layout.copies(problem.make(cell, sizes.Point(T, B, 4, H), "float32")), (forward, backward)
    ):
        moved.clear()
        for call in calls:
            call()
        assert sum(moved) == blocks * T * B * H
    assert layout.copies(problem.make(cell, sizes.Point(T, 1, 4, H), "float32")) == ([], [])


def test_the_layout_is_the_quicker_of_two(monkeypatch):
    layout = contestants.load("layout")
    given = problem.make("rnn", sizes.Point(5, 3, 4, 2, L=2), "float32")
    copied = []
    for name in ("abreast", "rows", "copy_stripes"):
        monkeypatch.setattr(numerics, name, lambda *arrays, name=name: copied.append(name))
    for quickest in (0, 1):
        order = iter([quickest == 1, quickest == 0] * 2)  # rows are tried first, False is the less
        monkeypatch.setattr(layout, "shortest", lambda call, order=order: next(order))
        ready = layout.prepare(given, 1, "cpu")
        for mode, call in ready.calls.items():
            copied.clear()
            assert call() is None
            up, down = ["abreast", "rows"] * 2, ["abreast", "copy_stripes"] * 2
            assert copied == quickest * (up + down * (mode == "forward-backward"))


def test_passes_compute_one_step_of_each_cell():
    """With N units side by side and the products given, the passes are the cell's own step and its gradient."""
    passes = contestants.load("passes")
    rng = np.random.default_rng(1)
    N, sigma = 5, lambda half_a: 1 / (1 + np.exp(-2 * half_a))  # rows of σ are halved, as in the cells
    for cell, G in (("rnn", 1), ("lstm", 4), ("gru", 3)):
        a, Wh, da = rng.standard_normal((3, G, N))
        b, s = rng.standard_normal((G, 1)), rng.standard_normal((6, N))
        forward, backward = passes.PASSES[cell]
        z, before = a + b, s.copy()
        forward(a, Wh, b, s)
        if cell == "rnn":
            assert np.allclose(s[0], np.tanh(z + Wh)[0], rtol=1e-14)
            wanted = [(1 - s[0] ** 2) * before[1]]
        elif cell == "lstm":
            i, f, o = sigma((z + Wh)[:3])
            g = np.tanh((z + Wh)[3])
            tanh_c = np.tanh(f * before[0] + i * g)
            assert np.allclose([a[0], a[1], a[2], a[3], s[1], s[2]], [i, f, o, g, tanh_c, o * tanh_c], rtol=1e-13)
            s = rng.standard_normal((6, N))
            c, tanh_c, dh, dc, *_ = s.copy()
            dc += dh * o * (1 - tanh_c**2)
            wanted = [dc * g * i * (1 - i), dc * c * f * (1 - f), dh * tanh_c * o * (1 - o), dc * i * (1 - g**2)]
        else:
            r, z_gate = sigma((z + Wh)[:2])
            v_n = Wh[2] + b[2]
            n = np.tanh(z[2] + r * v_n)
            h_next = z_gate * (before[0] - n) + n
            assert np.allclose([*a, s[1], s[2]], [r, z_gate, n, v_n, h_next], rtol=1e-13)
            h, v_n, dh, *_ = s = rng.standard_normal((6, N))
            h, v_n, dh = h.copy(), v_n.copy(), dh.copy()
            du_n = dh * (1 - z_gate) * (1 - n**2)
            wanted = [
                du_n * v_n * r * (1 - r),
                dh * (h - n) * z_gate * (1 - z_gate),
                du_n * r,
            ]
        backward(a, da, s)
        assert np.allclose(da, wanted, rtol=1e-12), cell
    for cell in passes.PASSES:
        for mode, call in passes.prepare(
            problem.make(cell, sizes.parse("7x3x4x5-L2"), "float32"), 1, "cpu"
        ).calls.items():
            assert call() is None, mode


@pytest.mark.parametrize("cell", CELLS)
def test_passes_of_torch_compute_one_step_of_each_cell(cell):
    """With N units side by side and the products given, the passes are the cell's own step and its gradient."""
    passes = contestants.load("torch-passes")
    generator = torch.Generator().manual_seed(1)
    a, s = (
        torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in ({"rnn": 1, "lstm": 4, "gru": 3}[cell], 6)
    )
    pre, before = a.clone().requires_grad_(), s.clone()
    forward, backward = passes.PASSES[cell]
    forward(a, s)
    after = s.clone()
    dh, dc = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    if cell == "rnn":
        h = torch.tanh(pre[0])
        assert torch.allclose(after[0], h)
        s[1], loss = dh, h @ dh
    elif cell == "lstm":
        (i, f, o), g = torch.sigmoid(pre[[0, 1, 3]]), torch.tanh(pre[2])
        c = f * before[0] + i * g
        h = o * torch.tanh(c)
        assert torch.allclose(after[1:3], torch.stack([c, h]))
        s[3], s[4], loss = dh, dc, h @ dh + c @ dc
    else:
        v_n = before[1].requires_grad_()
        r, z = torch.sigmoid(pre[:2])
        n = torch.tanh(pre[2] + r * v_n)
        h = n + z * (before[0] - n)
        assert torch.allclose(after[2], h)
        s[2], loss = dh, h @ dh
    loss.backward()
    da = torch.zeros(4 if cell == "gru" else len(a), 5, dtype=torch.float64)
    backward(a, da, s)
    wanted = torch.stack([*pre.grad[[2, 0, 1]], v_n.grad]) if cell == "gru" else pre.grad
    assert torch.allclose(da, wanted)
    given = problem.make(cell, sizes.parse("7x3x4x5-L2"), "float32")
    assert {mode: call() for mode, call in passes.prepare(given, 1, "cpu").calls.items()} == dict.fromkeys(MODES)


def test_plain_is_the_same_sizes_with_one_layer_one_direction_and_full_lengths():
    plain = contestants.load("plain")
    for size in ("7x3x4x5-L2", "7x3x4x5-D2", "7x3x4x5-ragged"):
        ready = plain.prepare(problem.make("lstm", sizes.parse(size), "float32"), 1, "cpu")
        output, h_n, _, (_, dx, _) = result = ready.calls["forward-backward"]()
        assert output.shape == (7, 3, 5)
        assert output[-1].all()
        assert h_n[0].shape == (1, 3, 5)
        assert dx.shape == (7, 3, 4)
        assert ready.arrays(result) == {}
    with pytest.raises(contestants.UnfitError, match="plain itself"):
        plain.prepare(problem.make("lstm", sizes.parse("7x3x4x5"), "float32"), 1, "cpu")


def test_the_floor_does_the_products_of_every_layer_direction_and_step_alive():
    done = []

    def recorded(a, b, out):
        done.append(2 * a.shape[0] * a.shape[1] * b.shape[1])
        return np.matmul(a, b, out)

    floor = contestants.load("floor")
    library = floor.Library((recorded,), (recorded,))
    for size in ("7x3x4x5", "7x3x4x5-L2-D2"):
        point = sizes.parse(size)
        ready = floor.prepare(problem.make("gru", point, "float32"), 1, "cpu", library)
        done.clear()
        ready.calls["forward"]()
        forward = sum(done)
        done.clear()
        ready.calls["forward-backward"]()
        assert forward == point.flops("gru")
        assert sum(done) == 3 * forward
    ragged = sizes.parse("8x4x3x5-ragged")
    ready = floor.prepare(problem.make("rnn", ragged, "float32"), 1, "cpu", library)
    done.clear()
    ready.calls["forward"]()
    assert sum(done) == 2 * sum(ragged.lengths) * 5 * (3 + 5)


def test_all_numbers_of_a_problem_are_the_same_in_both_types():
    one, two = (problem.make("lstm", sizes.parse(TINY), dtype) for dtype in CPU_DTYPES)
    for a, b in zip((*one.parameters.values(), one.x, *one.states), (*two.parameters.values(), two.x, *two.states)):
        assert (a.dtype, b.dtype) == (np.float32, np.float64)
        assert np.array_equal(a, b)
        assert np.any(a != 0)


def test_an_error_is_that_of_the_worst_tensor_and_nan_is_one():
    reference = {"output": np.array([1.0, -4.0]), "dx": np.array([2.0])}
    assert problem.worst_error({"output": np.array([1.0, -3.0])}, reference, "forward") == (0.25, "output")
    assert problem.worst_error({"output": np.array([1.0, -3.0])}, reference, "forward-backward") == (math.inf, "dx")
    for bad in (np.array([np.nan, -4.0]), np.array([[1.0, -4.0]])):
        assert problem.worst_error({"output": bad}, reference, "forward") == (math.inf, "output")


# ---- the environment


def test_the_environment_of_a_contestant_is_clean(monkeypatch):
    for name in ("OPENBLAS_CORETYPE", "MKL_CBWR", "OMP_WAIT_POLICY", "ATEN_CPU_CAPABILITY", "NPY_DISABLE_CPU_FEATURES"):
        monkeypatch.setenv(name, "x")
    for name in ("GOTO_NUM_THREADS", "KMP_BLOCKTIME", "GOMP_SPINCOUNT", "ONEDNN_MAX_CPU_ISA", "DNNL_VERBOSE", "JAX_X"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("XLA_FLAGS", "x")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    clean = environment.child_environment(2, "scratch")
    assert "x" not in clean.values()
    assert [clean[name] for name in environment.THREAD_VARIABLES] == ["2"] * 3
    assert clean["PATH"] == os.environ["PATH"]
    assert "OPENBLAS_CORETYPE" in environment.describe("cpu")["removed variables"]


# ---- what is made of the measurements


def made(seconds: float, contestant: str = "numpy_rnn", point: str = TINY, **fields) -> Measurement:
    """A measurement with a time that was not measured."""
    values = dict(cell="rnn", dtype="float32", threads=2, device="cpu", mode="forward-backward", status="ok")
    samples = tuple(seconds * s for s in (0.99, 1.0, 1.01)) if seconds else ()
    return Measurement(**{**values, "contestant": contestant, "point": point, "samples": samples, **fields})


def saved(path: Path, *measurements: Measurement) -> Path:
    described = environment.describe("cpu")
    results.save(Results(described, [], list(measurements), complete=True), path)
    return path


def test_a_file_holds_what_was_saved(tmp_path):
    measurements = [
        made(1.25e-3, error=1.5e-7, tensor="dx", memory=4096, number=3),
        made(0, status="wrong", note="dx is off by inf", error=math.inf, tensor="dx"),
        made(0, contestant="floor", status="not run", note="took more than 1 s"),
    ]
    loaded = results.load(saved(tmp_path / "a.json", *measurements))
    assert loaded.measurements == [
        m._replace(samples=tuple(float(f"{s:.5g}") for s in m.samples)) for m in measurements
    ]
    assert loaded.select(status="wrong") == [loaded.measurements[1]]
    assert list(tmp_path.iterdir()) == [tmp_path / "a.json"]


def test_a_fit_recovers_what_was_planted():
    steps = [100, 1000, 10_000, 100_000]
    rng = np.random.default_rng(0)
    exact = fit.line(steps, [4e-5 + 3e-6 * T for T in steps])
    assert exact == pytest.approx((4e-5, 3e-6, 0), rel=1e-9, abs=1e-9)
    noisy = fit.line(steps, [(4e-5 + 3e-6 * T) * rng.uniform(0.97, 1.03) for T in steps])
    assert noisy.b == pytest.approx(3e-6, rel=0.05)
    assert noisy.a == pytest.approx(4e-5, rel=0.5)  # of a least-squares fit of absolute errors nothing would be left


def test_fits_take_measurements_that_differ_in_steps_only():
    sweep = [made(1e-5 + 2e-6 * T, point=f"{T}x1x32x32") for T in (100, 1000, 10_000)]
    others = [made(1.0, point="100x2x32x32"), made(1.0, point="1000x1x32x32-D2"), made(1.0, "floor", "100x1x32x32")]
    (line,) = fit.lines(Results({}, [], [*sweep, *others]))
    assert (line.contestant, line.H, line.steps) == ("numpy_rnn", 32, (100, 1000, 10_000))
    assert line.fit.b == pytest.approx(2e-6)


def test_compare_names_what_became_slower(tmp_path):
    before = [made(1e-3), made(1e-3, "torch.nn"), made(1e-3, "floor"), made(1e-3, "jax"), made(1, "autograd")]
    after = [made(2e-3), made(0.5e-3, "torch.nn"), made(1.05e-3, "floor"), made(0, "jax", status="wrong", note="x")]
    old, new = saved(tmp_path / "old.json", *before), saved(tmp_path / "new.json", *after)
    assert [c.matters for c in compare.changes(results.load(old), results.load(new))] == [True, True, False, True]
    done = bench("report", new, "--compare", old)
    assert done.status == 0
    said = " ".join(done.out.split())
    assert "4 measurements compared, 3 changed beyond the noise" in said
    assert "2.00 times slower" in said
    assert "2.00 times faster" in said
    assert "was ok, is WRONG" in said


def test_a_setting_measured_again_takes_its_place_as_a_whole(tmp_path):
    old = [made(1.0, c, p) for p in (TINY, "6x3x10x20") for c in ("numpy_rnn", "torch.nn")]
    file, again = saved(tmp_path / "a.json", *old), saved(tmp_path / "b.json", made(5.0, "numpy_rnn", TINY))
    done = bench("report", file, "--again", again)
    assert done.status == 0, done.err
    found = results.load(file)
    assert [(m.point, m.contestant, m.seconds) for m in found.measurements] == [
        (TINY, "numpy_rnn", 5.0),  # torch.nn's goes with it: the two would not be of one run
        ("6x3x10x20", "numpy_rnn", 1.0),
        ("6x3x10x20", "torch.nn", 1.0),
    ]
    assert f"Measured again after the run, each as a whole: rnn {TINY} float32, 2 threads." in " ".join(
        done.out.split()
    )
    gone = f"benchmarks: rnn {TINY} float32, 2 threads: not measured again, so gone: torch.nn forward-backward\n"
    assert done.err == gone


@pytest.mark.parametrize("gpus", [None, ("NVIDIA H100", "NVIDIA H200"), ("NVIDIA H100", "NVIDIA H100")])
def test_settings_measured_again_have_to_be_of_the_same_processor(gpus, tmp_path):
    file, again = (tmp_path / name for name in ("a.json", "b.json"))
    loaded = results.load(saved(file, made(1.0, "numpy_rnn", TINY)))
    for path, cpu, gpu in zip((file, again), ("Z80", "6502"), gpus or (None, None)):
        processes = [{"contestant": "torch_rnn", "gpu": gpu}] if gpu else []
        results.save(Results({**loaded.environment, "cpu": cpu}, processes, loaded.measurements), path)
    before = file.read_bytes()
    done = bench("report", file, "--again", again)
    if gpus and len(set(gpus)) == 1:  # whatever CPU stands beside it
        assert done.status == 0, done.err
        return
    assert done.status != 0
    expected = ("NVIDIA H200", "NVIDIA H100") if gpus else ("6502", "Z80")
    said = "measured again on {}, expected the processor of the other settings, {}".format(*expected)
    assert said in done.err
    assert "Traceback" not in done.err
    assert file.read_bytes() == before


def test_calls_may_be_measured_again_by_themselves(tmp_path):
    file = saved(tmp_path / "a.json", *(made(1.0, c, TINY) for c in ("numpy_rnn", "calls", "floor")))
    done = bench("report", file, "--again", saved(tmp_path / "b.json", made(5.0, "calls", TINY)))
    assert done.status == 0, done.err
    found = {m.contestant: m.seconds for m in results.load(file).measurements}
    assert found == {"numpy_rnn": 1.0, "calls": 5.0, "floor": 1.0}
    assert "each as a whole" not in done.out
    assert done.err == ""


def test_compare_says_when_the_machine_is_another(tmp_path):
    old = saved(tmp_path / "old.json", made(1e-3))
    loaded = results.load(old)
    results.save(loaded._replace(environment={**loaded.environment, "cpu": "Z80"}), tmp_path / "new.json")
    done = bench("report", tmp_path / "new.json", "--compare", old)
    assert "benchmarks: cpu was " in done.err
    assert "is Z80" in done.err


def grid_results(ratio: float) -> Results:
    """The grid in float32, torch.nn `ratio` times as slow as numpy_rnn, numpy_rnn 1.1 times the floor."""
    measurements = []
    for cell in CELLS:
        for point in sizes.GROUPS["grid"]:
            measurements += [
                made(1e-3, cell=cell, point=point.name, error=1e-7),
                made(ratio * 1e-3, "torch.nn", point.name, cell=cell),
                made(1e-3 / 1.1, "floor", point.name, cell=cell),
                made(9.2e-4, "layout", point.name, cell=cell),
                made(7e-5, "calls", point.name, cell=cell),
                made(4e-5, "floor-calls", point.name, cell=cell),
                made(2e-5, "passes", point.name, cell=cell),
            ]
    return Results(environment.describe("cpu"), [], measurements, complete=True)


def test_targets_follow_from_the_measurements():
    (good,) = tables.target_tables(grid_results(3.0), 2)
    reached = {row[0]: row[2:] for row in good.rows}
    assert reached["RNN float32, torch.nn's time / numpy_rnn's, geometric mean"] == ["3.00×", "reached", "3.09×"]
    assert reached["GRU float32, numpy_rnn's time / floor, worst point with H ≥ 256"] == ["1.10×", "reached", "1.07×"]
    bad_results = grid_results(2.9)
    (bad,) = tables.target_tables(bad_results, 2)
    reached = {row[0]: row[2:] for row in bad.rows}
    rnn = "RNN float32, torch.nn's time / numpy_rnn's"
    assert reached[f"{rnn}, geometric mean"] == ["2.90×", "not reached", "2.99×"]
    older = bad_results._replace(measurements=[m for m in bad_results.measurements if m.contestant != "layout"])
    (before,) = tables.target_tables(older, 2)
    assert {row[0]: row[4] for row in before.rows}[f"{rnn}, geometric mean"] == "3.02×"  # by the floor
    part = grid_results(3.0)
    part = part._replace(measurements=part.measurements[1:])  # one point is missing: no mean over the grid
    assert not any(
        row[0].startswith("RNN") and "torch.nn" in row[0] for t in tables.target_tables(part, 2) for row in t.rows
    )


def test_other_processors_stand_beside_the_targets(tmp_path):
    here, there, page = (tmp_path / name for name in ("here.json", "there.json", "README.md"))
    results.save(grid_results(3.0), here)
    results.save(grid_results(2.9), there)
    page.write_text("\n".join(report.MARKS["cpu"]), encoding="utf-8")
    mean = "| RNN float32, torch.nn's time / numpy_rnn's, geometric mean | ≥ 3× | 3.00× ✓ (3.09) |"

    done = bench("report", here, "--readme", page, "--beside", there)
    assert done.status == 0, done.err
    written = page.read_text(encoding="utf-8")
    assert f"|  | target | these | there, {environment.describe('cpu')['date'][:10]} |" in written
    assert f"{mean} 2.90× (2.99) |" in written
    assert "| RNN float32, two directions" not in written  # nobody measured it

    results.save(changed(grid_results(2.9), lambda m: m if m.cell != "rnn" else None), there)
    assert bench("report", here, "--readme", page, "--beside", there).status == 0
    assert f"{mean} · |" in page.read_text(encoding="utf-8")


def test_what_cannot_stand_beside_the_targets(tmp_path):
    here, page = tmp_path / "here.json", tmp_path / "README.md"
    results.save(grid_results(3.0), here)
    page.write_text("\n".join(report.MARKS["cpu"]), encoding="utf-8")
    done = bench("report", here, "--readme", page, "--beside", tmp_path / "nowhere.json")
    assert done.status == 1
    assert "nowhere.json" in done.err
    assert page.read_text(encoding="utf-8") == "\n".join(report.MARKS["cpu"])
    before = here.read_bytes()
    for missing in ("--beside", "--compare"):  # and nothing has been merged by then
        done = bench(
            "report", here, "--again", saved(tmp_path / "again.json", made(5.0)), missing, tmp_path / "no.json"
        )
        assert (done.status, here.read_bytes()) == (1, before)

    (tmp_path / "folder").mkdir()
    results.save(grid_results(2.9), tmp_path / "folder" / "here.json")
    done = bench("report", here, "--beside", here, "--beside", tmp_path / "folder" / "here.json")
    assert done.status == 2
    assert done.err == "benchmarks: --beside got two files of the name here, which heads a column\n"

    gpu = grid_results(3.0)
    results.save(gpu._replace(environment={**gpu.environment, "device": "cuda"}), tmp_path / "gpu.json")
    for file, beside in ((here, "gpu.json"), (tmp_path / "gpu.json", "here.json")):
        done = bench("report", file, "--beside", tmp_path / beside)
        assert done.status == 2
        assert done.err == "benchmarks: --beside is for results of CPUs, whose targets stand beside one another\n"


def changed(found: Results, change) -> Results:
    """The results with each measurement as a function makes it, or without it."""
    return found._replace(measurements=[new for m in found.measurements if (new := change(m))])


def test_the_distance_to_the_floor_is_the_worst_of_all_large_points():
    def distance(point, seconds):
        def change(m):
            if (m.cell, m.contestant, m.point) != ("gru", "floor", point):
                return m
            return made(seconds, "floor", point, cell="gru") if seconds else None

        found = {t.text: t.value for t in targets.targets(changed(grid_results(3.0), change))}
        return found["GRU float32, numpy_rnn's time / floor, worst point with H ≥ 256"]

    assert distance("100x64x512x512", 0.8e-3) == pytest.approx(1.25)
    assert distance("100x64x512x512", 0.95e-3) == pytest.approx(1.1)
    assert distance("100x16x64x64", 0.8e-3) == pytest.approx(1.1)
    assert distance("100x16x64x64", None) == pytest.approx(1.1)
    for large in ("100x32x256x256", "100x64x512x512", "50x64x1024x1024"):
        assert distance(large, None) is None


def test_a_machine_that_changes_its_speed_changes_no_ratio():
    """The second turn is quick for numpy_rnn and slow for the others: medians, 1 and 6, would give 6."""
    point = sizes.GROUPS["grid"][0]
    turns = {"numpy_rnn": (1.0, 1.0, 2.0), "torch.nn": (3.0, 6.0, 6.0), "floor": (0.5, 1.0, 1.0)}
    found = Results({}, [], [made(0, contestant, point.name, samples=samples) for contestant, samples in turns.items()])
    row, ratio = tables.summary_row(found, "rnn", "float32", 2, point)
    assert ratio == 3.0
    assert row[tables.SUMMARY.index("× floor") + 4] == "2.00"
    assert targets.ratios(found, "rnn", "float32", 2) == {point.name: 3.0}


CPU_MARKS = report.MARKS["cpu"]
GPU = dict(device="cuda", threads=1)


def gpu_results(ours: float, dtype: str = "bfloat16") -> Results:
    """All points of the GPU's group, torch.nn's quickest way 1 ms, torch_rnn's as many; the other ways are slower."""
    measured = [
        made(seconds, c, point.name, cell=cell, dtype=dtype, **GPU)
        for cell in CELLS
        for point in sizes.GROUPS["gpu"]
        for c, seconds in (("torch.nn", 2e-3), ("torch.nn-graph", 1e-3), ("torch_rnn", 3e-3), ("torch_rnn-graph", ours))
    ]
    return Results(environment.describe("cuda"), [], measured, complete=True)


def test_targets_on_a_gpu_compare_the_quickest_ways_in_each_zone():
    (table,) = tables.gpu_target_tables(gpu_results(0.8e-3))
    assert [row[1:] for row in table.rows] == [["≥ 1.5×", "1.25×", "not reached"]] * 6 + [
        ["≥ 1×", "1.25×", "reached"]
    ] * 4
    zones = [row[0].split("worst point with ")[1] for row in table.rows]
    assert zones[::2] == ["256 < H ≤ 384", "128 < H ≤ 192", "128 < H ≤ 192", "H > 192", "H > 192"]
    assert zones[1::2] == zones[::2]
    slow = made(1.0, "torch_rnn-graph", "100x32x192x192", cell="lstm", dtype="bfloat16", **GPU)
    (table,) = tables.gpu_target_tables(changed(gpu_results(0.8e-3), lambda m: slow if m.key == slow.key else m))
    expected = ["1.25×", "0.33×", "1.25×", "1.25×", "1.25×"]  # its eager way is left
    assert [row[2] for row in table.rows] == [value for value in expected for _ in range(2)]


def test_a_target_on_a_gpu_is_reached_by_a_plain_call_or_not():
    whole = gpu_results(0.8e-3)
    captured = [
        made(0.5e-3, "torch_rnn-captured", m.point, cell=m.cell, dtype=m.dtype, **GPU)
        for m in whole.measurements
        if m.contestant == "torch_rnn"
    ]
    (table,) = tables.gpu_target_tables(whole._replace(measurements=[*whole.measurements, *captured]))
    assert [(" by a plain call," in row[0], *row[2:]) for row in table.rows] == [
        *[(False, "2.00×", "reached"), (True, "1.25×", "not reached")] * 3,
        *[(False, "2.00×", "reached"), (True, "1.25×", "reached")] * 2,
    ]


def test_nothing_is_said_of_a_zone_on_a_gpu_with_a_point_missing():
    whole = gpu_results(0.8e-3)

    def values(found):
        return [t.value for t in targets.gpu_targets(found) if "bfloat16" in t.text]

    known, unknown = pytest.approx(1.25), None
    assert values(whole) == [known] * 10
    of_gru = changed(whole, lambda m: None if (m.cell, m.point) == ("gru", "100x64x512x512") else m)
    assert values(of_gru) == [known] * 8 + [unknown] * 2
    of_all = changed(whole, lambda m: None if m.point == "100x32x144x144" else m)  # no trace of the point is left
    assert values(of_all) == [known] * 2 + [unknown] * 4 + [known] * 4
    assert len(next(tables.gpu_target_tables(of_all)).rows) == 6
    beside = [
        made(seconds, name, "100x32x160x160", cell="lstm", dtype="bfloat16", **GPU)
        for name, seconds in (("torch.nn", 1.0), ("torch_rnn", 2.0))
    ]
    with_more = values(whole._replace(measurements=[*whole.measurements, *beside]))
    assert with_more == [known] * 2 + [pytest.approx(0.5)] * 2 + [known] * 6  # it counts where it was measured


def test_a_gpu_has_tables_and_a_section_of_its_own(tmp_path):
    file, readme = tmp_path / "cuda.json", tmp_path / "README.md"
    results.save(gpu_results(0.5e-3), file)
    begin, end = report.MARKS["cuda"]
    readme.write_text("\n".join([*CPU_MARKS, begin, end]))
    assert bench("report", file, "--readme", readme, "--markdown", tmp_path / "gpu.md").status == 0
    cpu, gpu = readme.read_text().split(begin)
    assert cpu == "\n".join([*CPU_MARKS, ""])
    assert "torch_rnn beside torch.nn, bfloat16, cuda" in gpu
    assert "| 2.00 |" in gpu
    assert "[All tables](gpu.md)" in gpu
    assert "numpy_rnn beside torch.nn" not in gpu


def test_two_directions_are_compared_with_one_in_the_same_setting():
    points = [f"{name}-D2" for name in targets.SMALL]
    measured = [
        made(t, c, p) for p, t_two in zip(points, (1.4, 1.7)) for c, t in (("numpy_rnn", t_two), ("plain", 1.0))
    ]
    measured += [made(0.1, "numpy_rnn", name) for name in targets.SMALL]  # of another setting: not looked at
    (target,) = [t for t in targets.targets(Results({}, [], measured)) if "RNN float32, two directions" in t.text]
    assert target.value == pytest.approx(1.7)
    assert target.reached is False
    (table,) = tables.extras(Results({}, [], measured), 2)
    assert [row[-1] for row in table.rows] == ["1.40", "1.70"]


LOOP_MEMORY = "GRU float32, torch_rnn's peak memory / its loop's, worst point where the loop's is at least 1 MiB"


def test_torch_rnn_is_held_against_torchs_own_and_its_loop():
    measured = []
    for point in sizes.GROUPS["grid"]:
        for name, seconds, memory in (
            ("torch_rnn", 1.0, 40e6),
            ("torch_rnn-loop", 2.0, 100e6),
            ("torch.nn", 1.5, 90e6),
        ):
            measured.append(made(seconds, name, point.name, cell="gru", memory=int(memory)))
    found = {t.text: t for t in targets.targets(Results({}, [], measured)) if t.value is not None}
    ratio = found["GRU float32, torch.nn's time / torch_rnn's, geometric mean"]
    assert (ratio.value, ratio.reached) == (pytest.approx(1.5), True)
    loop = found["GRU float32, time of torch_rnn's loop / torch_rnn's, geometric mean"]
    assert (loop.value, loop.reached) == (pytest.approx(2.0), False)
    memory = found[LOOP_MEMORY]
    assert (memory.value, memory.reached) == (pytest.approx(0.4), True)
    assert len(found) == 3
    (table,) = tables.torch_summaries(Results({}, [], measured), 2)
    assert table.rows[0][5:] == ["2.00", "1.50", "38.1 MiB / 95.4 MiB / 85.8 MiB"]


def test_the_loops_memory_is_compared_at_all_points_where_it_counts():
    def part(peaks):
        measured = [
            made(1.0, name, point, cell="gru", memory=memory)
            for point, both in peaks.items()
            for name, memory in zip(("torch_rnn", "torch_rnn-loop"), both)
        ]
        (target,) = [t for t in targets.targets(Results({}, [], measured)) if t.text == LOOP_MEMORY]
        return target.value, target.reached

    peaks = {point.name: (40_000_000, 100_000_000) for point in sizes.GROUPS["grid"]}
    assert part(peaks) == (pytest.approx(0.4), True)
    peaks["6x3x10x20"] = 20_480, 12_288  # a few pages: the allocator's
    assert part(peaks) == (pytest.approx(0.4), True)
    peaks["100x16x64x64"] = 0.6 * 2**20, 2**20
    assert part(peaks) == (pytest.approx(0.6), False)
    for point, (ours, loop) in peaks.items():
        assert part({p: both for p, both in peaks.items() if p != point}) == (None, None)
        assert part({**peaks, point: (None, loop)}) == (None, None)
        assert part({**peaks, point: (ours, None)}) == (None, None)
    assert part(dict.fromkeys(peaks, (1000, 2000))) == (None, None)


def test_inference_is_meant_to_need_no_more_memory_for_more_steps():
    def measured(beyond):
        sizes_and_memory = [("10000x1x64x64", 20e6), ("1000000x1x64x64", beyond)]
        return [
            made(1, cell="lstm", point=name, mode="forward", memory=int(4 * 64 * sizes.parse(name).T + more))
            for name, more in sizes_and_memory
        ]

    for beyond, reached in ((21e6, True), (2000e6, False)):
        (target,) = [t for t in targets.targets(Results({}, [], measured(beyond))) if "inference" in t.text]
        assert target.value == pytest.approx(beyond / 20e6)
        assert target.reached is reached


def test_the_readme_section_is_replaced_and_the_rest_stays(tmp_path):
    begin, end = report.MARKS["cpu"]
    readme, file = tmp_path / "README.md", tmp_path / "cpu.json"
    results.save(grid_results(3.0), file)
    readme.write_text(f"# before\n{begin}\nold\n{end}\nafter\n")
    assert bench("report", file, "--readme", readme).status == 0
    text = readme.read_text()
    assert text.startswith(f"# before\n{begin}\nMeasured ")
    assert text.endswith(f"\n{end}\nafter\n")
    assert "old" not in text
    assert "| 6 | 3 | 10 | 20 | 1.00 ms ±" in text
    assert bench("report", file, "--readme", readme).status == 0
    assert readme.read_text() == text


@pytest.mark.parametrize("text", ["no marks\n", f"{CPU_MARKS[0]}\n", f"{CPU_MARKS[1]}\n{CPU_MARKS[0]}\n"])
def test_a_readme_without_marks_is_left_alone(tmp_path, text):
    readme = tmp_path / "README.md"
    readme.write_text(text)
    done = bench("report", saved(tmp_path / "a.json", made(1e-3)), "--readme", readme)
    assert done.status == 1
    assert "needs the lines <!-- benchmarks: begin --> and <!-- benchmarks: end -->" in sentence(done.err)
    assert readme.read_text() == text


def test_plots_are_drawn_and_named_in_the_readme(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'numpy-rnn[bench]'")
    whole = grid_results(3.0)
    sweep = [made(1e-6 * p.T, c, p.name) for p in sizes.GROUPS["steps"] for c in ("numpy_rnn", "floor")]
    results.save(whole._replace(measurements=[*whole.measurements, *sweep]), tmp_path / "a.json")
    (tmp_path / "README.md").write_text("\n".join(CPU_MARKS))
    outputs = ["--plots", tmp_path / "plots", "--markdown", tmp_path / "all.md", "--readme", tmp_path / "README.md"]
    done = bench("report", tmp_path / "a.json", *outputs)
    assert done.status == 0, done.err
    drawn = sorted(p.name for p in (tmp_path / "plots").iterdir())
    assert drawn == ["floor-cpu.png", "ratio-cpu.png", "steps-cpu.png"]
    for name in drawn:
        assert (tmp_path / "plots" / name).read_bytes().startswith(b"\x89PNG")
        assert f"](plots/{name})" in (tmp_path / "README.md").read_text()
    assert "[All tables](all.md)" in (tmp_path / "README.md").read_text()
    assert "**time = a + b·T**" in (tmp_path / "all.md").read_text()


# ---- the plan


def test_everything_is_the_grid_the_special_points_and_the_sweeps_each_setting_once():
    tasks = plan.tasks(plan.Selection())
    settings = [task.setting for task in tasks]
    assert len(settings) == len(set(settings))
    assert {s.point for s in settings} == {p for group in plan.EVERYTHING["cpu"] for p in sizes.GROUPS[group]}
    assert {(s.dtype, s.threads) for s in settings} >= {("float32", 1), ("float32", 2), ("float64", 2)}
    assert {c for task in tasks for c in task.contestants} == set(contestants.on_device("cpu"))
    names = [s.point.name for s in settings if s.cell == "gru"]
    assert names.index("6x3x10x20-D2") - names.index("6x3x10x20") <= 3  # side by side


def test_options_choose():
    chosen = plan.Selection(["quick"], ["gru"], ["float64"], [3], ["numpy_rnn"], ["forward"])
    tasks = plan.tasks(chosen)
    assert [t.setting for t in tasks] == [Setting("gru", p, "float64", 3) for p in sizes.GROUPS["quick"]]
    assert {(t.contestants, t.modes) for t in tasks} == {(("numpy_rnn",), ("forward",))}


def test_what_would_take_too_long_is_foretold_and_not_run(tmp_path):
    contest = measure.Contest(1, 2.0, tmp_path)
    short, long = (Setting("rnn", sizes.parse(f"{T}x1x4x4"), "float32", 1) for T in (1000, 10_000))
    entry = measure.Entry("floor", "forward", first=0.3)
    contest._remember(short, [entry])
    assert "about 3 s a call foreseen from T = 1000" in contest._foreseen(long, measure.Entry("floor", "forward"))
    assert contest._foreseen(long, measure.Entry("numpy_rnn", "forward")) is None
    contest._remember(short, [measure.Entry("floor", "forward", first=0.01)])
    assert contest._foreseen(long, measure.Entry("floor", "forward")) is None
    entry.fail("took more than 2 s")
    contest._remember(short, [entry])
    assert "not at T = 1000 either" in contest._foreseen(long, measure.Entry("floor", "forward"))
    contest._remember(short, [measure.Entry("floor", "forward", first=0.01, memory=2**60)])
    assert "GiB foreseen" in contest._foreseen(long, measure.Entry("floor", "forward"))


def test_a_contestant_that_hangs_or_dies_is_not_run_and_the_others_are(tmp_path):
    (tmp_path / "dies.py").write_text("import os\ndef prepare(problem, threads, device):\n    os._exit(3)\n")
    (tmp_path / "raises.py").write_text("def prepare(problem, threads, device):\n    raise KeyError('what')\n")
    setting = Setting("rnn", sizes.parse(TINY), "float32", 1)
    bad = [str(tmp_path / "dies.py"), str(tmp_path / "raises.py")]
    with measure.Contest(1, 5.0, tmp_path) as contest:
        found = contest.measure(plan.Task(setting, (*bad, "floor"), ("forward",)))
    assert [(m.status, m.note) for m in found] == [
        ("not run", "its process ended, status 3"),
        ("not run", "KeyError: 'what'"),
        ("ok", ""),
    ]


PEAKS = """
import numpy as np
from pathlib import Path
from benchmarks.contestants import Ready

SEEN = Path({seen!r})

def prepare(problem, threads, device):
    if problem.point.T > 3:  # no warming up
        with SEEN.open("a") as file:
            file.write("x")
    size = {sizes}[len(SEEN.read_text()) if SEEN.exists() else 0]
    return Ready(dict.fromkeys(["forward", "forward-backward"], lambda: np.ones(size * 2**17)), lambda _: {{}})
"""


def test_peaks_that_are_compared_are_medians_of_processes_that_do_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "judge", lambda contestant, setting: None)  # there are no results
    contestant = tmp_path / "peaks.py"
    contestant.write_text(PEAKS.format(seen=str(tmp_path / "seen"), sizes=[1, 200, 30, 20, 50, 70, 10]))
    setting = Setting("rnn", sizes.parse(TINY), "float32", 1)
    with measure.Contest(1, 5.0, tmp_path) as contest:
        task = plan.Task(setting, (str(contestant),), ("forward", "forward-backward"), (str(contestant),))
        forward, both = contest.measure(task)
    assert [m.memory // 2**20 for m in (forward, both)] == [200, 30]


def test_whose_peaks_are_compared():
    for points, alone in (("grid", ("torch_rnn", "torch_rnn-loop")), ("quick", ()), ("extra", ())):
        tasks = plan.tasks(plan.Selection([points], threads=[2], dtypes=["float32"]))
        assert {t.alone for t in tasks} == {alone}
    tasks = plan.tasks(plan.Selection(["grid", "quick"], ["gru"], ["float32"], [2], ["torch_rnn", "torch.nn"]))
    assert {t.alone for t in tasks} == {("torch_rnn",)}


# ---- a GPU


def test_without_a_gpu_one_sentence_says_so():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = bench("--device", "cuda")
    assert done.status == 2
    assert sentence(done.err).startswith("--device cuda needs an NVIDIA GPU")


def test_tf32_is_on_for_tf32_only():
    was = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    # PyTorch's own test utilities, which another file imports, forbid to set flags for good.
    with torch.backends.__allow_nonbracketed_mutation():
        try:
            off = cuda.set_precision("float32")
            assert off == {"cuDNN TF32": False, "matmul TF32": False}
            assert cuda.set_precision("tf32") == {"cuDNN TF32": True, "matmul TF32": True}
            assert cuda.set_precision("float16") == off
        finally:
            torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = was


def test_the_first_call_after_memory_was_given_back_is_no_sample():
    done = []
    ready = contestants.Ready({"forward": lambda: done.append(1)}, lambda _: {})
    job = worker.Job(Setting("rnn", sizes.parse(TINY), "float32", 1), ready, set())
    contestant = worker.Worker("floor")

    def calls(action):
        done.clear()
        action()
        return len(done)

    def turn():
        return contestant.turn(job, {"forward": 1})

    calls(lambda: contestant.first(job, "forward", None))
    assert [calls(turn), calls(turn)] == [2, 1]
    calls(lambda: contestant.first(job, "forward", None))
    assert calls(turn) == 2


def test_a_graph_is_captured_once_after_warm_runs_and_replayed():
    calls = []
    with mock.patch.object(torch, "cuda") as stub:
        replay = cuda.captured(lambda: calls.append("call") or len(calls))
        assert [replay(), replay()] == [4, 4]  # what the captured call returned
        assert stub.CUDAGraph.return_value.replay.call_count == 2
    assert len(calls) == 4


def test_gpu_times_come_from_events_around_all_calls():
    calls = []
    with mock.patch.object(torch, "cuda") as stub:
        stub.Event.return_value.elapsed_time.return_value = 60.0  # milliseconds
        assert cuda.seconds(lambda: calls.append(1), 3) == pytest.approx(0.02)
        assert stub.Event.return_value.record.call_count == 2
    assert len(calls) == 3


def test_the_gpu_plan_has_cudnn_eager_and_in_a_graph_in_all_precisions():
    tasks = plan.tasks(plan.Selection(device="cuda"))
    assert {c for t in tasks for c in t.contestants} == {
        *(
            "torch_rnn",
            "torch_rnn-graph",
            "torch_rnn-captured",
            "torch_rnn-steps",
            "torch_rnn-steps-graph",
            "torch_rnn-loop",
            "torch_rnn-compiled",
            "torch.nn",
            "torch.nn-graph",
        )
    }
    assert {t.setting.dtype for t in tasks} == set(problem.CUDA_DTYPES)


def test_bounds_of_errors_are_a_few_times_what_a_gpu_has_shown():
    """So many that no rounding is called a mistake, so few that no mistake is called rounding."""
    worst = {}
    for m in results.load(ROOT / "benchmarks" / "results" / "cuda.json").measurements:
        times = problem.bound(m.dtype, m.sizes) / problem.BOUNDS[m.dtype]  # of longer sums
        worst[m.dtype] = max(worst.get(m.dtype, 0.0), (m.error or 0.0) / times)
    assert set(worst) >= {"float32", "tf32", "bfloat16"}
    assert all(3 * error < problem.BOUNDS[dtype] for dtype, error in worst.items())
    assert all(problem.BOUNDS[dtype] < 5 * worst[dtype] for dtype in ("tf32", "bfloat16"))
    assert problem.BOUNDS["float16"] == problem.BOUNDS["bfloat16"] / 8 == problem.BOUNDS["tf32"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "tf32"])
def test_narrow_types_stay_within_their_bounds(dtype, one_thread):
    point = sizes.parse("20x4x8x16")
    for cell in CELLS:
        judge = contestants.load("torch.nn").prepare(problem.make(cell, point, "float64"), 1, "cpu")
        reference = judge.arrays(judge.calls["forward-backward"]())
        ready = contestants.load("torch.nn").prepare(problem.make(cell, point, dtype), 1, "cpu")
        error, _ = problem.worst_error(ready.arrays(ready.calls["forward-backward"]()), reference, "forward-backward")
        assert error < problem.bound(dtype, point) / 2


# ---- mistakes


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--points", "6x3x10"], 2, "'6x3x10' is no point: expected TxBxIxH"),
        (["--points", "6x3x0x20"], 2, "has a size of 0"),
        (["--cells", "rnn,elman"], 2, "'elman' is no cell; there are rnn, lstm, gru"),
        (["--contestants", "keras"], 2, "'keras' is no contestant and no Python file; there are numpy_rnn,"),
        (["--contestants", "torch.nn-graph"], 2, "torch.nn-graph does not run on cpu"),
        (["--dtypes", "float16"], 2, "float16 is for --device cuda"),
        (["--threads", "0"], 2, "0 is not in the range"),
        (["--repeats", "many"], 2, "'many' is not a valid integer"),
        (["--quick", "--compare", "missing.json"], 1, "cannot read missing.json: No such file"),
        (["--out", "."], 2, "--out . is a folder"),
        (["report", "missing.json"], 1, "cannot read missing.json"),
        (["reprot"], 2, "No such command 'reprot'"),
        (["--fast"], 2, "No such option"),
    ],
)
def test_a_mistake_gets_one_sentence(arguments, status, said):
    done = bench(*arguments)
    assert (done.status, done.out) == (status, "")
    assert said in sentence(done.err)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "holds no results"),
        ('{"format": "numpy-rnn benchmarks", "version": 2}', "has version 2 of the format, expected 1"),
        ('{"format": "numpy-rnn benchmarks", "version": 1}', "is damaged: KeyError"),
    ],
)
def test_a_bad_file_gets_one_sentence(tmp_path, text, said):
    (tmp_path / "bad.json").write_text(text)
    done = bench("report", tmp_path / "bad.json")
    assert done.status == 1
    assert said in sentence(done.err)


@pytest.mark.parametrize(
    "name", ["points", "problem", "environment", "fit", "tables", "compare", "measure", "plan", "contestants"]
)
def test_examples_in_docstrings(name):
    failed, tried = doctest.testmod(importlib.import_module(f"benchmarks.{name}"))
    assert tried > 0
    assert failed == 0
