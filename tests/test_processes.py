"""Training in several processes: by themselves as far as one process can tell, and under torchrun."""

from __future__ import annotations

import importlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from runs import TINY, assert_nearly_same_run, assert_one_sentence, assert_same_run

from numpy_rnn.cli.train import Display
from numpy_rnn.train import processes
from numpy_rnn.train.checkpoint import read_checkpoint

train = importlib.import_module("numpy_rnn.cli.train")  # which the command of that name hides
LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the processes in /proc, which Linux has")


@pytest.fixture
def run(command):
    return command


def said_to_be(monkeypatch, rank, size=2, **others):
    """Make this process one of several, as torchrun would say."""
    known = {"WORLD_SIZE": size, "RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "LOCAL_WORLD_SIZE": size, **others}
    for name, value in {"TORCHELASTIC_RUN_ID": "x", **known}.items():
        monkeypatch.setenv(name, str(value))


# ---- one process


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--backend", "numpy"], "2 processes can be used with --backend torch only, not with numpy."),
        (["--batch", 1], "2 processes cannot share a --batch of 1: each needs a window."),
        (["--hidden", 0], "0 is not in the range x>=1."),
        (["--text", "nowhere"], "nowhere: No such file"),
    ],
)
def test_one_of_them_speaks(run, monkeypatch, args, message):
    """The others wait for their end, which torchrun brings as soon as the first has ended."""
    waited = []
    monkeypatch.setattr(processes, "time", SimpleNamespace(sleep=waited.append))
    for rank in (0, 1):
        said_to_be(monkeypatch, rank)
        status, _, err = run("train", "--backend", "torch", *args, "--steps", 1)
        assert status in (1, 2)
        assert_one_sentence(err, message)  # and if nobody ends it, it says what is wrong
        assert waited == [30.0] * rank


def test_a_parallel_model_stays_until_the_process_ends(monkeypatch):
    """Else its end can wait for a thread that waits for Python's lock: seen with three processes and PyTorch 2.4."""
    monkeypatch.setattr(torch.nn.parallel, "DistributedDataParallel", lambda model, devices: [model, devices])
    monkeypatch.setattr(processes, "_KEPT", kept := [])
    together = object.__new__(processes.Together)
    together.device = torch.device("cpu")
    assert together.parallel("model") == ["model", None]
    assert kept == [["model", None]]
    together.device = torch.device("cuda")
    assert together.parallel("model") == ["model", [torch.device("cuda")]]


@pytest.mark.parametrize(("device", "library"), [("cpu", "gloo"), ("cuda", "nccl")])
def test_who_waits_for_the_others_can_be_told_to_stop(monkeypatch, device, library):
    begun, here = [], []
    store = SimpleNamespace(add=lambda name, n: here.extend([name] * n) or len(here))
    said_to_be(monkeypatch, 0)
    monkeypatch.setattr(torch.distributed, "rendezvous", lambda url: iter([(store, 0, 2)]))
    monkeypatch.setattr(torch.distributed, "PrefixStore", lambda prefix, store: store)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *args, **kwargs: begun.append((args, kwargs)))
    together = processes.Together(device)
    with pytest.raises(processes.ProcessLostError, match="told to stop before all of the 2 processes were here"):
        together.gather(lambda: True)
    assert not begun
    together.gather(lambda: pytest.fail("both were here"))
    assert begun == [((library,), {"store": store, "rank": 0, "world_size": 2})]


on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=on_a_gpu)])
def test_a_group_of_one_talks_to_itself(monkeypatch, device):
    """All that goes through gloo or NCCL, each collective and a step by DistributedDataParallel."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said_to_be(monkeypatch, 0, 1, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    together = processes.Together(device)
    together.gather(lambda: False)
    try:
        assert (together.rank, together.size) == (0, 1)
        assert together.total(1.5, -2.0) == [1.5, -2.0]
        assert together.most(2**60 + 1) == 2**60 + 1
        assert together.differing({"a": "1", "b": "2"}) == []
        state = torch.randn(2, 3, 4, device=device)
        assert torch.equal(together.whole(state, 3), state)
        model = torch.nn.Linear(4, 5).to(device)
        together.parallel(model)(state).sum().backward()
        assert all(p.grad.count_nonzero() for p in model.parameters())
        assert (together.speaks(), together.speaks()) == (True, False)
    finally:
        together.leave()


def test_facts_that_differ_are_named():
    """Of two processes, the other of which has other facts."""
    together = object.__new__(processes.Together)
    together.torch = torch
    mine, others = {"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "x", "c": "y"}
    sent = []
    together._reduced = lambda numbers, operation, dtype: sent.append(numbers) or numbers
    together.differing(others)
    theirs = sent[0]
    pick = {"MIN": min, "MAX": max}
    together._reduced = lambda numbers, operation, dtype: list(map(pick[operation], numbers, theirs))
    assert together.differing(mine) == ["b", "c"]
    assert together.differing(others) == []


class Rank(processes.Alone):
    """One of several, which the others never contradict; the talk of a given number fails."""

    def __init__(self, rank, fails_at=None):
        self.rank, self.talks, self.fails_at = rank, 0, fails_at

    def most(self, number):
        self.talks += 1
        if self.talks == self.fails_at:
            raise RuntimeError("[/pytorch/gloo/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4102")
        return number


@pytest.mark.parametrize("rank", [0, 1])
def test_one_of_them_writes(run, book, monkeypatch, rank):
    monkeypatch.setattr(train, "_group", lambda *args: Rank(rank))
    written = []
    monkeypatch.setattr(train, "write_checkpoint", lambda path, checkpoint: written.append(checkpoint.history.steps))
    assert run("train", "--text", book, *TINY, "--steps", 30)[0] == 0
    assert len(written) == (3 if rank == 0 else 0)


def test_none_counts_on_a_file_before_it_is_there(run, book, monkeypatch):
    """The first one goes while it writes the file of step 20: each step has a talk, and each file."""
    monkeypatch.setattr(train, "_group", lambda *args: Rank(1, fails_at=22))
    said_to_be(monkeypatch, 1)
    status, _, err = run("train", "--text", book, *TINY, "--steps", 30)
    assert status == 1
    assert_one_sentence(
        err,
        "Error: another of the 2 processes is gone, after step 20 (Connection closed by peer [127.0.0.1]:4102); "
        "model.safetensors holds step 10: go on from there with --resume.",
    )


def test_before_the_first_file_nothing_was_saved(run, book, monkeypatch):
    monkeypatch.setattr(train, "_group", lambda *args: Rank(1, fails_at=5))
    said_to_be(monkeypatch, 1)
    status, _, err = run("train", "--text", book, *TINY, "--steps", 30)
    assert status == 1
    assert_one_sentence(err, "after step 5 (Connection closed by peer [127.0.0.1]:4102); nothing was saved yet.")


def test_other_errors_are_not_taken_for_a_lost_process(run, book, monkeypatch):
    monkeypatch.setattr(train, "_group", lambda *args: Rank(1, fails_at=5))
    with pytest.raises(RuntimeError, match="Connection closed"):  # there are no others
        run("train", "--text", book, *TINY, "--steps", 30)


def test_other_machines_need_no_place_for_the_file(run, book, monkeypatch):
    """Only the first machine writes; there an old file is in the way."""
    Path("model.safetensors").write_text("old")
    monkeypatch.setattr(train, "_group", lambda *args: Rank(2))
    said_to_be(monkeypatch, 2, 4, GROUP_RANK=1, LOCAL_RANK=0)
    assert run("train", "--text", book, *TINY, "--steps", 3)[0] == 0
    said_to_be(monkeypatch, 0, 4, GROUP_RANK=0)
    assert_one_sentence(run("train", "--text", book, *TINY, "--steps", 3)[2], "model.safetensors exists")
    assert Path("model.safetensors").read_text() == "old"


def stopped_after(monkeypatch, steps, run, *options):
    with monkeypatch.context() as patch:
        patch.setattr(Display, "wants_to_stop", lambda self: self.job.history.steps == steps)
        assert run(*options)[0] == 128


def test_what_torchrun_starts_again_goes_on_from_its_own_file(run, book, monkeypatch):
    options = ["train", "--text", book, *TINY, "--steps", 30]
    assert run(*options, "--out", "whole")[0] == 0
    stopped_after(monkeypatch, 13, run, *options)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    status, out, _ = run(*options)
    assert status == 0
    assert "going on after step 13" in out
    assert_same_run("whole", "model.safetensors")


@pytest.mark.parametrize("others", [["--seed", 1], ["--steps", 40]], ids=["settings", "steps"])
def test_what_torchrun_starts_again_leaves_other_files_alone(run, book, monkeypatch, others):
    options = ["train", "--text", book, *TINY, "--steps", 30]
    stopped_after(monkeypatch, 13, run, *options, *others)
    before = Path("model.safetensors").read_bytes()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    status, _, err = run(*options)
    assert status == 2
    assert_one_sentence(err, "model.safetensors exists: go on from it with --resume, or replace it with --overwrite.")
    assert Path("model.safetensors").read_bytes() == before
    status, out, _ = run(*options, "--overwrite")
    assert status == 0
    assert "going on" not in out


@pytest.mark.parametrize(
    ("here", "start"),
    [(2, "torchrun --standalone --nproc-per-node 2"), (1, "torchrun … --nproc-per-node 1")],
    ids=["one machine", "two machines"],
)
def test_what_to_go_on_with(run, book, monkeypatch, here, start):
    monkeypatch.setattr(train, "_group", lambda *args: Rank(0))
    said_to_be(monkeypatch, 0, LOCAL_WORLD_SIZE=here)
    monkeypatch.setattr(Display, "wants_to_stop", lambda self: True)
    _, _, err = run("train", "--text", book, *TINY, "--steps", 30, "--out", "m", "--lr", 0.01)
    again = f"{start} -m numpy_rnn train --resume --out m --text {book} --interval 10"
    assert_one_sentence(err, f"stopped after step 1 of 30; go on with: {again}")


# ---- torchrun


def torchrun(processes, *args, launch=("--standalone",), **options):
    """Start the command in several processes, under torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", *launch, "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [*command, "-m", "numpy_rnn", "train", "--backend", "torch", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        **options,
    )


def errors(err):
    """Sentences of ours, among what torchrun says."""
    return [line for line in err.splitlines() if line.startswith(("Error: ", "numpy-rnn: "))]


def children_of(pid):
    """Processes that another has started, the first of torchrun's first."""
    stats = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat")]
    fields = [(text[: text.index(" ")], text.rpartition(")")[2].split()) for text in stats]
    return sorted(int(child) for child, (_, parent, *_) in fields if int(parent) == pid)


def wait_for(file, *started):
    while not file.exists():
        time.sleep(0.05)
        assert all(process.poll() is None for process in started)


def test_two_processes_train_as_one_does_and_another_number_goes_on(run, book, tmp_path):
    # 5 windows: one process has 2, the other 3. Carried states are cut and put together.
    options = [
        "--text",
        book,
        "--cell",
        "lstm",
        *TINY,
        "--dtype",
        "float64",
        "--batch",
        5,
        "--layers",
        2,
        "--clip",
        0.3,
    ]
    done = torchrun(2, *options, "--steps", 100, "--out", tmp_path / "two.safetensors")
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    assert out.count("step    100") == 1  # one of them speaks
    assert run("train", "--backend", "torch", *options, "--steps", 100, "--out", "one.safetensors")[0] == 0
    norms = np.array([result.norm for result in read_checkpoint("one.safetensors").history.training])
    assert 0 < np.sum(norms > 0.3) < len(norms)  # clipping acts, and not always
    assert_nearly_same_run("one.safetensors", "two.safetensors", 1e-9)
    assert run("train", "--resume", "--text", book, "--steps", 120, "--out", "two.safetensors")[0] == 0
    assert run("train", "--resume", "--text", book, "--steps", 120, "--out", "one.safetensors")[0] == 0
    assert_nearly_same_run("one.safetensors", "two.safetensors", 1e-9)
    done = torchrun(3, "--resume", "--text", book, "--steps", 130, "--out", tmp_path / "two.safetensors")
    assert done.communicate(timeout=120)[1].count("Error") == done.returncode == 0
    assert run("train", "--resume", "--text", book, "--steps", 130, "--out", "one.safetensors")[0] == 0
    assert_nearly_same_run("one.safetensors", "two.safetensors", 1e-9)


@LINUX
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_run_of_several_processes_ends_early(run, book, tmp_path, number):
    out = tmp_path / "a.safetensors"
    started = torchrun(2, "--text", book, *TINY, "--dtype", "float64", "--steps", 10**7, "--out", out)
    wait_for(out, started)  # it comes after 10 steps
    if number == signal.SIGKILL:
        os.kill(children_of(started.pid)[-1], number)  # one of the two
    else:
        started.send_signal(number)  # to torchrun, which passes it on to both
    _, err = started.communicate(timeout=60)
    assert started.returncode != 0
    steps = read_checkpoint(out).history.steps
    if number == signal.SIGKILL:
        (line,) = errors(err)
        assert "another of the 2 processes is gone, after step " in line
        assert f"{out} holds step {steps}: go on from there with --resume" in line
        assert steps % 10 == 0
    else:
        again = f"torchrun --standalone --nproc-per-node 2 -m numpy_rnn train --resume --out {out}"
        assert f"stopped after step {steps} of {10**7}; go on with: {again}" in err
    if number == signal.SIGKILL:
        options = ["--text", book, "--steps", steps + 10]
        assert run("train", "--resume", *options, "--out", out)[0] == 0
        assert run("train", "--backend", "torch", *TINY, "--dtype", "float64", *options, "--out", "whole")[0] == 0
        assert_nearly_same_run("whole", out, 1e-9)


@pytest.mark.long
@LINUX
def test_whichever_of_four_is_killed_one_of_the_others_says_so(run, book, tmp_path):
    for victim in (0, 3):
        out = tmp_path / f"{victim}.safetensors"
        started = torchrun(4, "--text", book, *TINY, "--steps", 10**7, "--out", out)
        wait_for(out, started)
        os.kill(children_of(started.pid)[victim], signal.SIGKILL)
        _, err = started.communicate(timeout=60)
        assert started.returncode != 0
        (line,) = errors(err)
        assert f"{out} holds step {read_checkpoint(out).history.steps}: go on" in line
        again = torchrun(
            2, "--resume", "--text", book, "--steps", read_checkpoint(out).history.steps + 10, "--out", out
        )
        _, err = again.communicate(timeout=60)
        assert again.returncode == 0, err


@pytest.mark.long
@LINUX
def test_a_file_that_cannot_be_written_any_more_is_not_counted_on(book, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    started = torchrun(2, "--text", book, *TINY, "--steps", 10**7, "--out", folder / "m")
    wait_for(folder / "m", started)
    shutil.rmtree(folder)
    _, err = started.communicate(timeout=60)
    lines = errors(err)
    assert any("No such file or directory" in line for line in lines)
    assert len(lines) <= 2  # the first one's, and perhaps one of who has lost it
    assert "Traceback" not in "".join(err.split("torch/distributed")[:1])


@pytest.mark.long
@LINUX
def test_a_process_that_dies_before_the_start_ends_the_run_at_once(book, tmp_path):
    options = shlex.join(map(str, ["train", "--backend", "torch", "--text", book, *TINY, "--out", tmp_path / "m"]))
    dies = f"[ $RANK = 1 ] && {{ sleep 8; exit 3; }}; exec {sys.executable} -m numpy_rnn {options}"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    begin = time.perf_counter()
    done = subprocess.run([*command, "bash", "-c", dies], capture_output=True, text=True, check=False)
    assert time.perf_counter() - begin < 25  # torchrun waits 30 seconds for who does not listen
    (line,) = errors(done.stderr)
    assert "told to stop before all of the 2 processes were here; nothing was saved yet." in line


def two_machines(port, folders, *args):
    """Two agents, each with a process in a folder of its own."""
    for folder in folders:
        folder.mkdir(exist_ok=True)
    launches = [
        ("--nnodes", "2", "--node-rank", str(k), "--master-addr", "127.0.0.1", "--master-port", str(port))
        for k in range(2)
    ]
    return [torchrun(1, *args, launch=launch, cwd=folder) for launch, folder in zip(launches, folders)]


@pytest.mark.long
def test_the_first_of_two_machines_writes_and_both_learn_the_same(run, book, tmp_path):
    """And what differs between them is said, not learnt."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = [tmp_path / "first", tmp_path / "second"]
    options = ["--text", "t", *TINY, "--dtype", "float64", "--steps", 20]
    for folder in folders:
        folder.mkdir()
        shutil.copy(book, folder / "t")
    started = two_machines(port, folders, *options)
    outputs = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    assert (folders[0] / "model.safetensors").exists()
    assert not (folders[1] / "model.safetensors").exists()
    assert outputs[1][0] == ""
    assert run("train", "--backend", "torch", "--text", book, *options[2:], "--out", "one")[0] == 0
    assert_nearly_same_run("one", folders[0] / "model.safetensors", 1e-9)

    (folders[1] / "t").write_text("".join(reversed(book.read_text(encoding="utf-8"))), encoding="utf-8")
    started = two_machines(port, folders, *options, "--overwrite")
    outputs = [process.communicate(timeout=120) for process in started]
    assert all(process.returncode != 0 for process in started)
    for _, err in outputs:  # on each machine one
        (line,) = errors(err)
        assert "the 2 processes were not given the same: they differ in text." in line


@pytest.mark.long
@LINUX
def test_torchrun_starts_a_failed_run_again(run, book, tmp_path):
    out = tmp_path / "m"
    options = ["--text", book, *TINY, "--dtype", "float64", "--steps", 1000, "--overwrite"]
    started = torchrun(2, *options, "--out", out, launch=("--standalone", "--max-restarts", "1"))
    wait_for(out, started)
    os.kill(children_of(started.pid)[-1], signal.SIGKILL)
    output, err = started.communicate(timeout=120)
    assert started.returncode == 0, err
    assert "going on after step" in output
    assert run("train", "--backend", "torch", *options, "--out", "one")[0] == 0
    assert_nearly_same_run("one", out, 1e-8)
