"""The benchmarks measure what they say, notice wrong results, survive mistakes and interrupts. No test asks how fast."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import importlib.util
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
import torch

from benchmarks import __main__ as cli
from benchmarks import contest, contestants, environment, measurements, plan, report, targets, worker
from benchmarks.contestants import CONTESTANTS
from benchmarks.measurements import Measurement, Results
from benchmarks.points import CELLS, GATES, GROUPS, parse
from benchmarks.problem import MODES, Setting, make_problem, names, worst_error

ROOT = Path(__file__).parents[1]
TINY = "4x3x2x5"
ENVIRONMENT = {
    "date": "2026-01-02T03:04",
    "device": "cpu",
    "cpu": "a CPU",
    "cores": 2,
    "system": "Linux",
    "python": "3",
    "load at start": 0.1,
}


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


def chosen(**several: str) -> list[str]:
    return [word for option, values in several.items() for value in values.split() for word in (f"--{option}", value)]


# ---- a run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run, in turn with another checkout, in which one number of dx is a thousandth off."""
    folder = tmp_path_factory.mktemp("benchmarks")
    other = shutil.copytree(ROOT / "numpy_rnn", folder / "other" / "numpy_rnn")
    with (other / "__init__.py").open("a") as file:
        file.write(
            "\n_backward = LSTM.backward\n"
            "def _off(self, *arguments):\n"
            "    grads, dx, dh_0 = _backward(self, *arguments)\n"
            "    dx[0, 0, 0] += 0.001 * abs(dx).max()\n"
            "    return grads, dx, dh_0\n"
            "LSTM.backward = _off\n"
        )
    options = chosen(
        points=f"{TINY} {TINY}-L2-D2", cells="rnn lstm", contestants="numpy_rnn torch.nn floor", threads="1"
    )
    with mock.patch.dict(os.environ, {"OPENBLAS_CORETYPE": "Prescott"}):
        done = bench(*options, "--turns", 2, "--before", folder / "other", "--json", folder / "out.json")
    return done, folder / "out.json"


def test_a_run_writes_what_it_measured_and_shows_it(run):
    done, path = run
    found = measurements.load(path)
    assert found.complete
    for cell, point, name in [(c, p, n) for c in ("rnn", "lstm") for p in (TINY, f"{TINY}-L2-D2") for n in CONTESTANTS]:
        m = found.find(cell=cell, point=point, contestant=name, dtype="float32", threads=1)
        if name == "floor" and point != TINY:
            assert (m.note, m.seconds) == ("written for one layer and one direction", {})
        elif name in ("numpy_rnn", "torch.nn", "floor"):
            assert list(m.seconds) == list(MODES)
            assert all(len(samples) == 2 and min(samples) > 0 for samples in m.seconds.values())
            assert m.error is None if name == "floor" else 0 < m.error < 1e-5
            assert m.memory is None or m.memory >= 0
        else:
            assert m is None
    assert len(path.read_text().splitlines()) < 40
    assert "forward + backward, float32, 1 thread" in done.out
    assert f"LSTM {TINY}-L2-D2" in done.out
    assert "without" in done.err
    assert "OPENBLAS_CORETYPE" in done.err


def test_each_contestant_has_a_process_without_what_others_set(run):
    found = measurements.load(run[1]).contestants
    assert {"numpy_rnn", "torch.nn", "floor"} < set(found)
    for process in found.values():
        assert process["versions"]["numpy"] == np.__version__
        assert process["libraries"]
        assert "Prescott" not in json.dumps(process)
        assert str(ROOT) not in json.dumps(process)
    assert "torch" not in found["numpy_rnn"]["versions"]


def test_another_checkout_is_another_contestant_and_wrong_results_do_not_count(run):
    done, path = run
    found = measurements.load(path)
    assert done.status == 1
    right, wrong = (found.find(cell=c, point=TINY, contestant="numpy_rnn-before") for c in ("rnn", "lstm"))
    assert len(right.seconds["forward"]) == 2
    assert wrong.note == "WRONG: dx is off by 1.0e-03"
    assert wrong.error == pytest.approx(1e-3)
    assert wrong.seconds == {}
    assert wrong.note in done.out
    assert "numpy_rnn-before / now" in done.out


def test_ctrl_c_keeps_what_was_measured_and_resume_goes_on(tmp_path):
    out = tmp_path / "out.json"
    options = [*chosen(cells="rnn", contestants="numpy_rnn", threads="1"), "--json", str(out)]
    endless = [*chosen(points=f"{TINY} 300000x1x8x8"), "--turns", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *endless, *options],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 240
    while not (out.exists() and TINY in out.read_text()) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1].startswith("benchmarks: interrupted; the file holds what was measured")
    before = measurements.load(out)
    assert not before.complete
    assert [m.point for m in before.measurements] == [TINY]
    assert bench(*chosen(points=f"{TINY} 3x3x2x5"), "--turns", 1, "--resume", *options).status == 0
    after = measurements.load(out)
    assert after.complete
    assert [m.point for m in after.measurements] == [TINY, "3x3x2x5"]
    assert after.measurements[0] == before.measurements[0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--points", "10x20"], "'10x20' is no point: expected TxBxIxH, such as 100x16x64x64 or 100x16x64x64-L2-D2"),
        (["--points", "10x0x3x4"], "'10x0x3x4' has a size of 0, expected at least 1"),
        (["--cells", "lsmt"], "Invalid value for '--cells': 'lsmt' is not one of 'rnn', 'gru', 'lstm'."),
        (["--dtypes", "bfloat16"], "bfloat16 is not measured on cpu, only float32, float64"),
        (["--contestants", "torch_rnn-gpu"], "torch_rnn-gpu does not run on cpu"),
        (["--json", "."], "--json . is a folder, expected a file"),
        (["--resume", "--json", "nowhere.json"], "cannot read nowhere.json: No such file or directory"),
        (["--before", "nowhere"], "Invalid value for '--before': Directory 'nowhere' does not exist."),
        (["report", "nowhere.json"], "cannot read nowhere.json: No such file or directory"),
        (["report", "setup.cfg"], "setup.cfg is not JSON: Expecting value: line 1 column 2 (char 1)"),
        (["report", "benchmarks/results/cuda.json"], "expected one file of a CPU, and at most one of a GPU"),
    ],
)
def test_a_mistake_gets_one_sentence(arguments, sentence, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(cli, "_measure", lambda *_: pytest.fail("measured"))
    done = bench(*arguments)
    assert done.status in (1, 2)
    assert done.err == f"benchmarks: {sentence}\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_is_asked_for_in_vain():
    assert "needs an NVIDIA GPU and PyTorch for CUDA" in bench("--device", "cuda").err


def test_results_of_another_machine_are_not_added_to(tmp_path):
    measurements.save(Results(ENVIRONMENT), tmp_path / "out.json")
    assert "--resume needs results of this cpu" in bench("--resume", "--json", tmp_path / "out.json").err


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "out.json"
    for text, sentence in {
        "[]": "holds no results of these benchmarks",
        '{"format": "numpy-rnn benchmarks", "version": 1}': "has version 1 of the format, expected 2",
        '{"format": "numpy-rnn benchmarks", "version": 2}': "is damaged: KeyError: 'measurements'",
    }.items():
        path.write_text(text)
        with pytest.raises(measurements.ResultsError, match=sentence):
            measurements.load(path)


# ---- contestants


@pytest.fixture
def one_thread(monkeypatch):
    """No contestant changes threads, cores or variables of this process for good."""
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)
    threads, variables = torch.get_num_threads(), dict(os.environ)
    yield
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(variables)


ON_CPU = [name for name, c in CONTESTANTS.items() if "cpu" in c.devices and name != "floor"]


@pytest.mark.parametrize("name", ON_CPU)
def test_contestants_agree_with_the_float64_reference(name, one_thread):
    if package := contestants.missing(name):
        pytest.skip(f"{package} is not installed")
    judge = CONTESTANTS["numpy_rnn" if name == "torch.nn" else "torch.nn"]
    took_part = 0
    for cell, point, dtype in [
        (c, p, d) for c in CELLS for p in (TINY, f"{TINY}-L2-D2") for d in ("float32", "float64")
    ]:
        if name == "jax" and (dtype == "float64") != (cell == "lstm"):
            continue  # it takes seconds to compile
        problem = make_problem(Setting(cell, parse(point), dtype, 1))
        exact = make_problem(problem.setting._replace(dtype="float64"))
        reference = list(map(worker.to_numpy, judge.prepare(exact)["forward-backward"]()))
        try:
            calls = CONTESTANTS[name].prepare(problem)
        except contestants.UnfitError:
            continue
        for mode, call in calls.items():
            results = call()
            assert len(results) == len(names(problem)) if mode == MODES[-1] else 1 + len(problem.states)
            error, k = worst_error(list(map(worker.to_numpy, results)), reference)
            assert error < {"float32": 3e-6, "float64": 1e-14}[dtype], (cell, point, mode, names(problem)[k])
            took_part += 1
    assert took_part >= 3


@pytest.mark.parametrize("cell", CELLS)
def test_the_floor_multiplies_as_much_as_a_layer_has_to(cell):
    T, B, I, H = 5, 3, 4, 2
    done = []

    def product(a, b, out):
        done.append(a.size * b.shape[-1])
        assert out.shape == (len(a), b.shape[-1])

    with mock.patch.multiple(np, matmul=product, dot=product):
        calls = CONTESTANTS["floor"].prepare(make_problem(Setting(cell, parse(f"{T}x{B}x{I}x{H}"), "float32", 1)))
        done.clear()
        calls["forward"]()
        forward = sum(done)
        calls["forward-backward"]()
    assert forward == T * B * GATES[cell] * H * (I + H)
    assert sum(done) == 4 * forward


def test_nan_and_wrong_shapes_are_errors():
    one = np.ones(3)
    assert worst_error([one, one * np.nan], [one, one]) == (math.inf, 1)
    assert worst_error([np.ones((3, 1))], [one]) == (math.inf, 0)


# ---- processes


def test_a_process_that_fails_is_answered_by_a_sentence(tmp_path, monkeypatch):
    child = contest.Child("floor", 1, tmp_path)
    with pytest.raises(contest.ChildError, match="AttributeError: 'Worker' object has no attribute 'nonsense'"):
        child.ask("nonsense")
    assert child.alive
    monkeypatch.setattr(contest, "LIMIT", 0.0)
    with pytest.raises(contest.ChildError, match="took more than 0 s"):
        child.ask("prepare", Setting("rnn", parse("9999x9x99x99"), "float64", 1), MODES, None)
    assert not child.alive


@pytest.mark.skipif(importlib.util.find_spec("triton") is not None, reason="Triton is there")
def test_a_contestant_that_cannot_start_says_why_each_time(tmp_path):
    child = contest.Child("torch_rnn-gpu", 1, tmp_path)
    for _ in range(2):
        with pytest.raises(contest.ChildError, match=r"No module named 'torch_rnn.gpu'|kernels need Triton"):
            child.ask("release")
    child.close()


def test_a_process_that_is_killed_is_noticed(tmp_path):
    with contest.Contest(1, tmp_path) as running:
        child = running._child("floor", 1)
        child.describe()
        os.kill(child._process.pid, signal.SIGKILL)
        with pytest.raises(contest.ChildError, match="its process ended with status -9"):
            child.ask("release")
        assert running._child("floor", 1) is not child  # the next contestant gets a new one


def test_the_environment_is_cleaned_for_contestants_alone(tmp_path):
    given = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "1", "MALLOC_ARENA_MAX": "1", "HOME": "/home"}
    with mock.patch.dict(os.environ, given, clear=True):
        assert environment.tuning_variables() == ["MALLOC_ARENA_MAX", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"]
        with environment.contestant_environment(2, tmp_path):
            assert set(given) & set(os.environ) == {"HOME"}
            assert os.environ["OPENBLAS_NUM_THREADS"] == "2"
        assert dict(os.environ) == given


# ---- plan, targets, page


def test_the_plan_has_the_grid_in_three_kinds_and_choices_replace_it():
    settings = [task.setting for task in plan.tasks(plan.Selection())]
    assert len(set(settings)) == len(settings)
    for dtype, threads in report.KINDS:
        for cell in CELLS:
            assert {Setting(cell, point, dtype, threads) for point in GROUPS["grid"]} <= set(settings)
    (task,) = plan.tasks(plan.Selection([TINY], ["gru"], ["float64"], [3], ["floor", "numpy_rnn"], ["forward"]), True)
    assert task.setting == Setting("gru", parse(TINY), "float64", 3)
    assert task.contestants == ["floor", "numpy_rnn", "numpy_rnn-before"]
    assert task.modes == ["forward"]


def made_up(cell: str = "rnn", ratio: float = 4.0) -> Results:
    """Results of the grid in which torch.nn takes `ratio` times as long as numpy_rnn in each turn, at changing speed."""
    results = Results(ENVIRONMENT)
    for point in map(str, GROUPS["grid"]):
        for name, factor in (("numpy_rnn", 1.0), ("torch.nn", ratio)):
            seconds = {MODES[-1]: [factor, 10 * factor, 3 * factor]}
            results.measurements.append(Measurement(cell, point, "float32", 2, name, seconds, 1e-6, 2**20))
    return results


def test_a_ratio_is_the_median_over_turns():
    results = made_up()
    results.measurements[0].seconds[MODES[-1]] = [1.0, 5.0, 3.0]
    where = {"cell": "rnn", "point": str(GROUPS["grid"][0]), "dtype": "float32", "threads": 2}
    assert results.ratio("torch.nn", "numpy_rnn", MODES[-1], **where) == 4.0
    assert results.ratio("torch.nn", "numpy_rnn", MODES[0], **where) is None
    assert results.ratio("torch.nn", "jax", MODES[-1], **where) is None


def test_targets_are_reached_missed_or_not_measured():
    assert len(targets.TARGETS) <= 12
    mean, worst = (next(t for t in targets.TARGETS if (t.cell, t.statistic) == ("rnn", s)) for s in targets.STATISTICS)
    for ratio, reached in ((4.0, "yes"), (2.0, "**no**")):
        assert mean.measured(made_up(ratio=ratio)) == pytest.approx(ratio)
        assert str(mean) in report.targets([made_up(ratio=ratio)])
        assert report.targets([made_up(ratio=ratio)]).splitlines()[2].endswith(f" {reached} |")
    results = made_up()
    results.measurements[0].seconds[MODES[-1]] = [5.0, 50.0, 15.0]
    assert worst.measured(results) == pytest.approx(4 / 5)
    del results.measurements[0]
    assert mean.measured(results) is None
    assert mean.measured(Results({**ENVIRONMENT, "device": "cuda"})) is None


def test_a_report_is_written_from_a_part_of_the_plan_too(tmp_path):
    measurements.save(made_up("gru"), tmp_path / "cpu.json")
    page = tmp_path / "page.md"
    done = bench("report", tmp_path / "cpu.json", "--page", page)
    assert done.status == 0, done.err
    assert "The run was not completed." in page.read_text()
    assert "| GRU 6x3x10x20 " in page.read_text()
    assert (tmp_path / "page.png").stat().st_size > 10_000
    rows = bench("report", tmp_path / "cpu.json", "--readme").out.splitlines()
    assert len(rows) == 8
    assert [row.split("|")[2].strip() for row in rows[2:]] == ["–", "–", "–", "4.00", "–", "–"]


def test_the_page_says_what_was_measured():
    cpu, gpu = (measurements.load(ROOT / "benchmarks" / "results" / f"{name}.json") for name in ("cpu", "cuda"))
    page = (ROOT / "docs" / "use" / "benchmarks.md").read_text(encoding="utf-8")
    assert page == report.page(cpu, gpu, "benchmarks.png")
    assert len(page.splitlines()) <= 200
    assert (ROOT / "docs" / "use" / "benchmarks.png").exists()


@pytest.mark.parametrize("module", ["points", "problem", "plan", "report"])
def test_examples(module):
    result = doctest.testmod(importlib.import_module(f"benchmarks.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
