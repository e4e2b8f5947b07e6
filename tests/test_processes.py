"""Training in several processes: by themselves as far as one process can tell, and under torchrun.

Nobody waits for a clock here: torchrun finds a free port by itself (`--standalone`), and the limits are those after
which a run has hung.
"""

from __future__ import annotations

import importlib
import os
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
from runs import TINY, assert_nearly_same_run, assert_one_sentence

from numpy_rnn.cli.progress import Display
from numpy_rnn.train import processes
from numpy_rnn.train.batches import validation_batches
from numpy_rnn.train.checkpoint import read_checkpoint
from numpy_rnn.train.language import read_text
from numpy_rnn.train.settings import Config
from numpy_rnn.train.tasks.language import of
from numpy_rnn.train.torch_learner import TorchLearner

train = importlib.import_module("numpy_rnn.cli.train")  # which the command of that name hides
LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the processes in /proc, which Linux has")
HANGS = 500  # seconds


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


on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=on_a_gpu)])
def test_a_group_of_one_talks_to_itself(monkeypatch, tmp_path, device):
    """All that goes through gloo or NCCL, which meet in a file."""
    said_to_be(monkeypatch, 0, 1)
    begin = torch.distributed.init_process_group
    meet = {"init_method": (tmp_path / "store").as_uri(), "rank": 0, "world_size": 1}
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, **_: begin(backend, **meet))
    group = processes.ProcessGroup(device)
    try:
        assert (group.rank, group.size) == (0, 1)
        assert group.reduced([1.5, -2.0], "SUM") == [1.5, -2.0]
        assert group.most(2**60 + 1) == 2**60 + 1
        assert group.differing({"a": "1", "b": "2"}) == []
        state = torch.randn(2, 3, 4, device=device)
        assert torch.equal(group.whole(state, 3), state)
        model = torch.nn.Linear(4, 5).to(device)
        model(state).sum().backward()
        before = [p.grad.clone() for p in model.parameters()]
        group.distributed = SimpleNamespace(all_reduce=lambda flat: flat.mul_(2))  # as if another had the same
        group.sum_gradients(model)
        assert all(torch.equal(p.grad, 2 * g) for p, g in zip(model.parameters(), before))
    finally:
        torch.distributed.destroy_process_group()


def test_facts_that_differ_are_named(monkeypatch):
    """Of two processes, the other of which has other facts."""
    group, sent = processes.SingleProcess(), []
    mine, others = {"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "x", "c": "y"}
    monkeypatch.setattr(group, "reduced", lambda numbers, operation: sent.append(numbers) or numbers)
    assert group.differing(others) == []
    pick = {"MIN": min, "MAX": max}
    monkeypatch.setattr(group, "reduced", lambda numbers, operation: list(map(pick[operation], numbers, sent[0])))
    assert group.differing(mine) == ["b", "c"]
    assert group.differing(others) == []


def test_shares_are_of_one_size_give_or_take_one():
    group = processes.SingleProcess()
    assert group.share(5) == slice(0, 5)
    group.size, shares = 3, []
    for group.rank in range(3):
        shares += [group.share(5)]
    assert shares == [slice(0, 1), slice(1, 3), slice(3, 5)]


def test_a_process_may_have_no_stream_of_a_short_validation(book):
    task, config = of(*read_text(book, "characters"), tested=False), Config.of("text", hidden=3, batch=5, seq_len=8)
    group = processes.SingleProcess()
    group.size, group.reduced = 3, lambda numbers, operation: np.add(numbers, [6.0, 2.0]).tolist()  # of the others
    learner = TorchLearner(config, task, group=group)
    assert next(validation_batches(task.validation, config)).x.shape[1] == 2
    assert learner.evaluate(validation_batches(task.validation, config)) == 3.0


class Rank(processes.SingleProcess):
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


@pytest.mark.parametrize(
    ("talk", "sentence"),
    [
        # The first one goes while it writes the file of step 20: each step has a talk, and each file.
        (22, "after step 20; model.safetensors holds step 10: go on from there with --resume."),
        (5, "after step 5; nothing was saved."),
    ],
)
def test_none_counts_on_a_file_before_it_is_there(run, book, monkeypatch, talk, sentence):
    monkeypatch.setattr(train, "_group", lambda *args: Rank(1, fails_at=talk))
    with pytest.raises(RuntimeError, match="Connection closed"):  # there are no others
        run("train", "--text", book, *TINY, "--steps", 30)
    monkeypatch.setattr(train, "_group", lambda *args: Rank(1, fails_at=talk))
    said_to_be(monkeypatch, 1)
    status, _, err = run("train", "--text", book, *TINY, "--steps", 30)
    assert status == 1
    assert_one_sentence(err, f"Error: another of the 2 processes is gone, {sentence}")


def test_other_machines_need_no_place_for_the_file(run, book, monkeypatch):
    """Only the first machine writes; there an old file is in the way."""
    Path("model.safetensors").write_text("old")
    monkeypatch.setattr(train, "_group", lambda *args: Rank(2))
    said_to_be(monkeypatch, 2, 4, GROUP_RANK=1, LOCAL_RANK=0)
    assert run("train", "--text", book, *TINY, "--steps", 3)[0] == 0
    said_to_be(monkeypatch, 0, 4, GROUP_RANK=0)
    assert_one_sentence(run("train", "--text", book, *TINY, "--steps", 3)[2], "model.safetensors exists")
    assert Path("model.safetensors").read_text() == "old"


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
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:  # it has ended meanwhile
            continue
        if int(text.rpartition(")")[2].split()[1]) == pid:
            found.append(int(text[: text.index(" ")]))
    return sorted(found)


def wait_for(file, started):
    while not file.exists():
        time.sleep(0.05)
        assert started.poll() is None, started.communicate()


# 5 windows: one process has 2, the other 3. Carried states are cut and put together.
OPTIONS = [*TINY, "--cell", "lstm", "--dtype", "float64", "--batch", 5, "--layers", 2, "--clip", 0.3]


@LINUX
@pytest.mark.parametrize("killed", [pytest.param(True, marks=pytest.mark.long), False])
def test_two_processes_train_as_one_does_and_end_early(run, book, tmp_path, killed):
    out = tmp_path / "a.safetensors"
    started = torchrun(2, "--text", book, *OPTIONS, "--steps", 10**7, "--out", out)
    wait_for(out, started)  # it comes after 10 steps
    if not killed:
        started.send_signal(signal.SIGINT)  # to torchrun, which passes it on to both
    else:
        os.kill(children_of(started.pid)[-1], signal.SIGKILL)
    said, err = started.communicate(timeout=HANGS)
    assert started.returncode != 0
    assert said.count("step     10 ") == 1  # one of them speaks
    steps = read_checkpoint(out).history.steps
    if not killed:
        again = f"torchrun --standalone --nproc-per-node 2 -m numpy_rnn train --resume --out {out}"
        assert f"stopped after step {steps} of {10**7}; go on with: {again}" in err
    else:
        (line,) = errors(err)
        assert "another of the 2 processes is gone, after step " in line
        assert f"{out} holds step {steps}: go on from there with --resume" in line
    # A hundred steps more, so that clipping acts, and not always; and three processes after two.
    more = ["--text", book, "--steps", steps + 100]
    if not killed:
        assert run("train", "--resume", *more, "--out", out)[0] == 0
    else:
        again = torchrun(3, "--resume", *more, "--out", out)
        assert again.communicate(timeout=HANGS)[1].count("Error") == again.returncode == 0
    assert run("train", "--backend", "torch", *OPTIONS, *more, "--out", "whole")[0] == 0
    norms = np.array([result.norm for result in read_checkpoint("whole").history.training])
    assert 0 < np.sum(norms > 0.3) < len(norms)
    assert_nearly_same_run("whole", out, 1e-9)


@pytest.mark.long
def test_the_first_of_two_machines_writes_and_both_learn_the_same(run, book, tmp_path):
    """And what differs between them is said, not learnt."""
    folders = [tmp_path / "first", tmp_path / "second"]
    options = ["--text", "t", *TINY, "--dtype", "float64", "--steps", 20]
    for folder in folders:
        folder.mkdir()
        shutil.copy(book, folder / "t")

    def both(*more):
        """Two agents, each with a process in a folder of its own; another port if somebody has taken theirs."""
        for _ in range(5):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = str(free.getsockname()[1])
            meet = ("--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", port)
            started = [
                torchrun(1, *options, *more, launch=(*meet, "--node-rank", str(k)), cwd=folder)
                for k, folder in enumerate(folders)
            ]
            first = started[0].communicate(timeout=HANGS)  # this one opens the port
            if "EADDRINUSE" not in first[1]:
                break
            started[1].kill()
            started[1].communicate()
        return [
            (*outputs, process.returncode)
            for outputs, process in zip((first, started[1].communicate(timeout=HANGS)), started)
        ]

    outputs = both()
    assert [status for *_, status in outputs] == [0, 0], outputs
    assert not (folders[1] / "model.safetensors").exists()
    assert outputs[1][0] == ""
    assert run("train", "--backend", "torch", "--text", book, *options[2:], "--out", "one")[0] == 0
    assert_nearly_same_run("one", folders[0] / "model.safetensors", 1e-9)

    (folders[1] / "t").write_text("".join(reversed(book.read_text(encoding="utf-8"))), encoding="utf-8")
    for _, err, status in both("--overwrite"):  # on each machine one
        assert status != 0
        (line,) = errors(err)
        assert "the 2 processes were not given the same: they differ in text." in line
