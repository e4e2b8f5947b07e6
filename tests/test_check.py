"""`numpy-rnn check`: green as it is, and red, with the culprit named, as soon as one line is broken."""

from __future__ import annotations

import importlib.metadata
import inspect
import itertools
import json
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import numpy_rnn
from numpy_rnn.cli import command
from numpy_rnn.cli.check import _print as printed
from numpy_rnn.fast import registry
from numpy_rnn.verify import compare
from numpy_rnn.verify.difference import difference


def check(*arguments):
    return CliRunner().invoke(command, ["check", *arguments])


def test_all_cells_agree_in_both_dtypes():
    done = subprocess.run([sys.executable, "-m", "numpy_rnn", "check", "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is True
    found = report["comparisons"]
    assert all(f["ok"] and 0 <= f["error"] <= f["tolerance"] for f in found)
    kinds = {(c, d) for c in (*registry.USER_FACING, "losses", "optimizers") for d in ("float64", "float32")}
    assert {(f["cell"], f["dtype"]) for f in found} == kinds
    found = [f for f in found if f["cell"] in registry.USER_FACING]
    pairs = {(f["left"], f["right"]) for f in found}
    assert pairs == set(itertools.combinations(("numpy_rnn", "torch_rnn", "torch_rnn-manual", "torch.nn"), 2))
    # The agreement is not one of zeros (but by hand torch_rnn runs numpy_rnn's loops on a CPU), and no tensor is left out.
    others = [f for f in found if (f["left"], f["right"]) != ("numpy_rnn", "torch_rnn-manual")]
    assert sum(f["error"] > 0 for f in others) > 0.8 * len(others)
    tensors = {c: {f["tensor"] for f in found if f["cell"] == c} for c in registry.USER_FACING}
    for cell, extra in {"lstm_projection": "dweight_hr_l0", "lstm_peephole": "dweight_peephole_l1_reverse"}.items():
        assert extra in tensors[cell]
    for cell, t in tensors.items():
        assert {"output", "h_n", "dx", "dh_0", "dweight_ih_l0", "dweight_hh_l2", "dbias_ih_l1_reverse"} <= t
        assert ({"c_n", "dc_0"} <= t) == cell.startswith("lstm")


# One line of the backward pass broken: (cell, line, its replacement, a tensor that must be named).
BROKEN = [
    ("rnn_tanh", "rnn", "np.multiply(h, h, out)", "np.multiply(1.001 * h, h, out)", "dweight_ih_l0"),
    ("rnn_tanh", "rnn", "linear_dW(da, h[:-1])", "linear_dW(da, h[1:])", "dweight_hh_l0"),
    ("rnn_relu", "rnn", "transposed_copy(W_hh)", "W_hh", "dx"),
    ("lstm", "lstm", "(c, f * (1 - f), out=da_f)", "(c, f * (1 - f) * 1.001, out=da_f)", "dbias_hh_l0"),
    ("lstm", "lstm", "dc += dc_loss_t", "dc += 0 * dc_loss_t + 1e-9", "dc_0"),
    ("lstm_projection", "lstm", "merge_steps(dhs) @", "merge_steps(dh_loss[:-1]) @", "dweight_hr_l0"),
    ("lstm_peephole", "lstm", "da_o * oifgc[1:,", "da_o * oifgc[:-1,", "dweight_peephole_l0"),
    ("gru", "gru", "(du_n * v_n, r * (1 - r), out=dv_r)", "(du_n * n, r * (1 - r), out=dv_r)", "dweight_hh_l0"),
    ("gru", "gru", "sum_columns(dv)", "sum_columns(du)", "dbias_hh_l0"),
    ("gru_reset_before", "gru", "dh += dq * r_t", "dh += dq", "dh_0"),
]


@pytest.mark.parametrize(("cell", "module", "line", "broken", "tensor"), BROKEN)
def test_a_broken_line_is_red_and_named(cell, module, line, broken, tensor, monkeypatch):
    original = getattr(numpy_rnn.fast, module)
    source = inspect.getsource(original)
    assert source.count(line) == 1
    copy = types.ModuleType(original.__name__)
    copy.__package__ = original.__package__
    exec(source.replace(line, broken), copy.__dict__)
    for name, value in vars(copy).items():
        if isinstance(value, numpy_rnn.fast.cell.Cell):
            monkeypatch.setattr(original, name, value)
    done = check("--cell", cell, "--dtype", "float64")
    assert done.exit_code == 1
    assert f"numpy-rnn: {cell}, float64, one layer: {tensor} of numpy_rnn and torch_rnn differ by" in done.stderr
    assert "beyond tolerance." in done.stdout
    report = json.loads(check("--cell", cell, "--dtype", "float64", "--json").stdout)
    assert report["ok"] is False
    bad = [f for f in report["comparisons"] if not f["ok"]]
    assert tensor in {f["tensor"] for f in bad}
    assert all("numpy_rnn" in (f["left"], f["right"]) for f in bad)


def test_a_nan_is_red(monkeypatch):
    broken = numpy_rnn.fast.gru.GRU._replace(
        backward=lambda tape, dstates: (lambda g, dx, ds: (g, dx * np.nan, ds))(
            *numpy_rnn.fast.gru.backward(tape, dstates)
        )
    )
    monkeypatch.setattr(numpy_rnn.fast.gru, "GRU", broken)
    done = check("--cell", "gru", "--dtype", "float32", "--json")
    assert done.exit_code == 1
    bad = [f for f in json.loads(done.stdout)["comparisons"] if not f["ok"]]
    assert {("inf", "nan")} == {
        (f["error"], f["b"]) for f in bad if f["tensor"] == "dx" and f["right"] == "numpy_rnn"
    } | {(f["error"], f["a"]) for f in bad if f["tensor"] == "dx" and f["left"] == "numpy_rnn"}


def test_difference():
    assert difference(np.ones(2), np.ones(3)).error == np.inf
    assert difference(np.zeros(2), np.zeros(2)) == (0.0, (0,), 0.0, 0.0)
    assert difference(np.array([0.0, 1e-3]), np.zeros(2)).error == 1e-3
    assert difference(np.array([1.0, np.nan]), np.ones(2))[:2] == (np.inf, (1,))
    assert difference(np.ones(2), np.array([np.nan, 1.0]))[:2] == (np.inf, (0,))


def test_problems_hide_nothing():
    """All sizes distinct where they can be, states and biases non-zero and distinct, text really there."""
    for case in compare.CASES:
        problem = compare.make_problem(registry.USER_FACING["lstm"], case, "float64")
        assert len({case.T, case.B, case.I, case.H}) == 4
        assert all(np.abs(s).min() > 0 for s in (*problem.states, *problem.dstates))
        if problem.arguments.get("bias", True):
            assert not np.array_equal(problem.parameters["bias_ih_l0"], problem.parameters["bias_hh_l0"])
    text = compare.real_text(50, 8, 64)
    assert set(np.unique(text)) == {0.0, 1.0}
    assert (text.sum(axis=2) == 1).mean() > 0.99


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cell", "elman"], "Invalid value for '--cell': cell is 'elman', expected rnn, lstm, gru, rnn_tanh"),
        (["--dtype", "float16"], "Invalid value for '--dtype': 'float16' is not one of 'float64', 'float32'."),
        (["--device", "abacus"], "PyTorch cannot use device 'abacus'"),
        (["--device", "cuda:77"], "PyTorch cannot use device 'cuda:77'"),
    ],
)
def test_bad_options_are_one_sentence(arguments, message):
    done = check(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_brief_is_one_line_for_each_cell_of_a_family():
    done = check("--cell", "gru", "--dtype", "float64", "--brief")
    lines = done.output.splitlines()
    assert [line.split()[0] for line in lines] == ["gru", "gru_reset_before"]
    assert all("comparisons agree: float64" in line and "(at most 1e-12)" in line for line in lines)


def test_a_narrow_terminal_still_shows_every_figure():
    done = subprocess.run(
        [sys.executable, "-m", "numpy_rnn", "check", "--cell", "lstm", "--dtype", "float64"],  # three columns
        capture_output=True,
        text=True,
        env={"COLUMNS": "39", "PATH": ""},
    )
    assert done.returncode == 0
    assert "…" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 39
    assert sum(line.strip().startswith("dW_hh") for line in done.stdout.splitlines()) == 2, "expected two tables"
    for cell in ("lstm", "projection", "peephole"):
        assert cell in done.stdout
    assert "\x1b" not in done.stdout


def test_cudnn_in_float32_has_a_tolerance_of_its_own(capsys):
    """Its tanh is good to 1.1e-5; the other pairs keep theirs, and so does float64."""

    def finding(dtype, left, right, error, device):
        return compare.Finding("gru", dtype, "long", left, right, "output", error, (0,), 1.0, 1.0, device)

    by_cudnn = finding("float32", "numpy_rnn", "torch.nn", 5e-5, "cuda:1")
    assert by_cudnn.ok
    assert not by_cudnn._replace(error=2e-4).ok
    for other in (
        by_cudnn._replace(device="cpu"),
        by_cudnn._replace(dtype="float64"),
        by_cudnn._replace(right="torch_rnn"),
    ):
        assert not other.ok
    printed([by_cudnn, finding("float64", "numpy_rnn", "torch.nn", 1e-15, "cuda:1")], ["gru"], "cuda:1")
    out = " ".join(capsys.readouterr().out.split())
    assert "≤1e-12" in out
    assert "≤1e-04" in out
    assert "torch.nn in float32 on cuda:1 is cuDNN's" in out
    printed([by_cudnn._replace(device="cpu", error=1e-7)], ["gru"], "cpu")
    out = capsys.readouterr().out
    assert "≤1e-05" in out
    assert "cuDNN" not in out


# ---- on a GPU


def switches():
    """Whether products and cuDNN may use TF32, and cuDNN's others."""
    cudnn = torch.backends.cudnn
    return torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.enabled, cudnn.benchmark, cudnn.deterministic


@pytest.fixture(params=[True, False], ids=["TF32", "no TF32"])
def before(request):
    """Switches as a user may have set them."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    was = switches()
    # PyTorch's own test utilities, which another file imports, forbid to set flags for good.
    with torch.backends.__allow_nonbracketed_mutation():
        matmul.allow_tf32 = cudnn.allow_tf32 = cudnn.deterministic = request.param
    yield switches()
    with torch.backends.__allow_nonbracketed_mutation():
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.enabled, cudnn.benchmark, cudnn.deterministic = was


def test_full_precision_is_for_a_while(before):
    with compare.full_precision():
        assert switches()[:3] == (False, False, True)
    assert switches() == before
    with pytest.raises(KeyError), compare.full_precision():
        raise KeyError
    assert switches() == before


def test_torch_computes_in_full_precision(before, monkeypatch):
    seen = {}

    def noted(problem, library, *args, run=compare.run_torch, **options):
        seen[library.__name__, options.get("bptt")] = switches()[:2]
        return run(problem, library, *args, **options)

    monkeypatch.setattr(compare, "run_torch", noted)
    monkeypatch.setattr(compare, "CASES", compare.CASES[:1])
    assert all(f.ok for f in compare.findings("gru", "float64"))
    assert seen == dict.fromkeys([("torch_rnn", None), ("torch_rnn", "manual"), ("torch.nn", None)], (False, False))
    assert switches() == before


def test_kernels_without_triton_are_refused_in_a_sentence(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "version", missing)
    done = check("--kernels")
    assert done.exit_code == 2
    assert "the GPU kernels need Triton: pip install 'numpy-rnn[gpu]'" in done.stderr
