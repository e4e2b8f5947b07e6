"""`numpy-rnn train` and `numpy-rnn sample`, as a user runs them."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.text import Text
from runs import TINY, assert_one_sentence, assert_same_run

from numpy_rnn.cli.progress import Display, Interruption
from numpy_rnn.layers import files
from numpy_rnn.train.batches import validation_batches
from numpy_rnn.train.checkpoint import KEY, read_checkpoint
from numpy_rnn.train.language import Vocabulary, read_text
from numpy_rnn.train.learner import History, Learner, Result
from numpy_rnn.train.processes import SingleProcess
from numpy_rnn.train.tasks.language import of
from numpy_rnn.train.threads import fitting_threads
from numpy_rnn.train.torch_learner import TorchLearner

HANGS = 500  # seconds
CHINESE = "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。寒来暑往，秋收冬藏。"


@pytest.fixture
def run(command):
    return command


def start(*args, **environment):
    """Run the command in a process of its own, with a single thread to leave the others some."""
    one = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    return subprocess.Popen(
        [sys.executable, "-m", "numpy_rnn", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **one, **environment},
    )


# ---- what it prints and writes


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-4)])
def test_both_backends_follow_the_same_curve(run, book, dtype, tolerance):
    options = ["--text", book, *TINY, "--cell", "lstm", "--layers", 2, "--dtype", dtype, "--backend", "both"]
    status, out, err = run("train", *options, "--lr", 0.02, "--steps", 50, "--json")  # so both begin anew twice
    assert status == 0, err
    document = json.loads(out)
    assert 0 < document["largest_difference"] < tolerance
    history = read_checkpoint("model.safetensors").history
    assert history.recent_loss(10) < 0.85 * history.training[0].loss


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (lambda result: result._replace(loss=result.loss * 1.001), "even from equal weights a step differs by 1.0e-03"),
        (lambda result: result._replace(loss=math.nan), "even from equal weights a step differs by nan"),
    ],
)
def test_a_disagreement_is_named(run, book, monkeypatch, fault, sentence):
    step, calls = TorchLearner.step, []

    def faulty(self, batch, lr):
        calls.append(batch)
        result = step(self, batch, lr)
        return fault(result) if len(calls) >= 5 else result

    monkeypatch.setattr(TorchLearner, "step", faulty)
    status, _, err = run("train", "--text", book, *TINY, "--dtype", "float64", "--backend", "both")
    assert status == 1
    assert_one_sentence(err, "NumPy and PyTorch disagree at step 5: the losses are", "beyond 1e-09", sentence)


def test_rounding_that_has_grown_is_told_from_a_fault(run, book, monkeypatch):
    monkeypatch.setattr("numpy_rnn.train.torch_learner.TOLERANCES", {"float64": 0.0})
    status, _, err = run("train", "--text", book, *TINY, "--dtype", "float64", "--backend", "both")
    assert status == 1
    assert_one_sentence(err, "from equal weights a step agrees to", "rounding that training has amplified")


def test_json_is_a_document_and_progress_goes_to_stderr(run, book):
    status, out, err = run("train", "--text", book, *TINY, "--steps", 25, "--json", "--out", "m.safetensors")
    document = json.loads(out)
    assert status == 0
    assert document["path"] == "m.safetensors"
    assert document["unit"] == "bits per character"
    assert (document["steps"], document["complete"]) == (25, True)
    assert document["config"]["hidden"] == 8
    assert document["seconds"] > 0
    checkpoint = read_checkpoint("m.safetensors")
    assert document["training"] * math.log(2) == pytest.approx(checkpoint.history.recent_loss())
    assert document["validation"] * math.log(2) == pytest.approx(checkpoint.history.validation[-1][1])
    assert [step for step, _ in checkpoint.history.validation] == [10, 20, 25]
    assert err.count("\n") == 5  # what is trained, and on what; three validations
    assert [path.name for path in Path.cwd().iterdir() if path != book] == ["m.safetensors"]


def test_bits_are_those_of_an_independent_count(run, book):
    """Zero weights know nothing: log2 of the number of symbols; then the loss of the text's own frequencies."""
    run("train", "--text", book, *TINY, "--steps", 1, "--lr", 1e-30, "--out", "m.safetensors")
    tensors, metadata = files.read("m.safetensors")
    text = book.read_text()
    training, validation = text[:674], text[674:]
    counts = np.array([training.count(chr(c)) + 1 for c in tensors["vocabulary"]])
    tensors["model.head.weight"][:] = 0
    tensors["model.head.bias"][:] = np.log(counts / counts.sum())
    files.write("m.safetensors", tensors, metadata)
    _, out, _ = run("train", "--text", book, "--resume", "--steps", 2, "--json", "--out", "m.safetensors")
    p = {chr(c): n / counts.sum() for c, n in zip(tensors["vocabulary"], counts)}
    # Two streams, since 74 symbols do not fill four windows of more; the targets start with the second symbol.
    want = -np.mean([math.log2(p[symbol]) for symbol in validation[1 : 1 + 2 * 36]])
    assert json.loads(out)["validation"] == pytest.approx(want, abs=1e-4)


def test_piped_output_is_plain_and_numpy_trains_without_torch(book, tmp_path):
    out = tmp_path / "m.safetensors"
    script = "import sys; from numpy_rnn.__main__ import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        script,
        "train",
        "--text",
        book,
        *TINY,
        "--steps",
        "20",
        "--out",
        out,
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(character.isprintable() or character == "\n" for character in done.stdout)
    first, sizes, second, third, last, torch_is_loaded = done.stdout.splitlines()
    assert first == f"{book}: gru, 1 layer of 8 units, float32, numpy, seed 0"
    assert sizes == "674 and 74 characters to learn from and to validate; losses in bits per character"
    assert second.startswith("step     10  training ")
    assert third.startswith("step     20  training ")
    assert last.startswith(f"{out} holds the model after 20 steps")
    assert torch_is_loaded == "False"


@pytest.mark.parametrize("kind", ["characters", "bytes"])
def test_it_learns_chinese_by_heart(run, tmp_path, kind):
    (tmp_path / "text").write_text(CHINESE * 20, encoding="utf-8")
    options = ["--symbols", kind, "--hidden", 32, "--batch", 4, "--seq-len", 30, "--lr", 0.02, "--steps", 150]
    status, out, err = run("train", "--text", "text", *options, "--json")
    assert status == 0, err
    assert json.loads(out)["unit"] == f"bits per {kind[:-1]}"
    assert json.loads(out)["validation"] < 0.5
    length = len(CHINESE) - 2 if kind == "characters" else 3 * (len(CHINESE) - 2)
    status, out, err = run("sample", "model.safetensors", "--prompt", "天地", "--temperature", 0, "--length", length)
    assert (status, out, err) == (0, CHINESE + "\n", "")


# ---- ending and going on


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_resumed_run_ends_as_an_uninterrupted_one(run, book, backend, dtype, monkeypatch):
    options = ["--text", book, *TINY, "--cell", "lstm", "--layers", 2, "--dtype", dtype, "--backend", backend]
    options += ["--schedule", "cosine", "--patience", 9, "--steps", 45]
    assert run("train", *options, "--out", "whole")[0] == 0
    for stop in (7, 21, 31):  # the first step of the second round is step 22
        with monkeypatch.context() as patch:
            patch.setattr(Display, "wants_to_stop", lambda self, stop=stop: self.run.history.steps == stop)
            again = options if stop == 7 else ["--text", book, "--resume"]
            assert run("train", *again, "--out", "parts")[0] == 128
    assert run("train", "--text", book, "--resume", "--steps", 45, "--out", "parts")[0] == 0
    assert_same_run("whole", "parts")
    status, _, err = run("train", "--text", book, "--resume", "--steps", 60, "--out", "parts")
    assert status == 2
    assert_one_sentence(err, "parts was trained with --schedule cosine for 45 steps, not for 60")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_lines_of_a_terminal_fit_it(width):
    """With all there is to say: lockstep, and the largest numbers that are likely."""
    console = Console(width=width, force_terminal=True, file=io.StringIO())
    history = History([Result(99.123, 1234.56)] * 123456, [(123456, 12.3)])
    task = SimpleNamespace(vocabulary=Vocabulary("characters", np.arange(5)))
    told = SimpleNamespace(
        learner=SimpleNamespace(difference=1e-5),
        config=SimpleNamespace(batch=32, seq_len=64),
        steps=10**6,
        task=task,
        group=SingleProcess(),
        history=history,
    )
    display = Display(console, told, Interruption(), None)
    display.before, display.start = 0, time.perf_counter() - 1
    display.watch(history, validated=True)
    (line,) = Text.from_ansi(console.file.getvalue()).plain.splitlines()
    assert bool(re.search(r" [\d,]{11,}/s ", line)) == (width >= 80)
    assert len(line) <= width


def test_the_learning_rate_falls_as_the_cosine_does(run, book):
    """The second of two steps has half the rate of the first."""
    options = ["--text", book, *TINY, "--dtype", "float64", "--clip", 0, "--lr", 1e-4, "--interval", 1]
    assert run("train", *options, "--steps", 1, "--out", "one")[0] == 0
    moved = {}
    for schedule in ("constant", "cosine"):
        assert run("train", *options, "--steps", 2, "--schedule", schedule, "--out", schedule)[0] == 0
        one, two = (read_checkpoint(path).tensors["model.head.bias"] for path in ("one", schedule))
        moved[schedule] = two - one
    assert np.abs(moved["constant"]).max() > 5e-5
    np.testing.assert_allclose(moved["cosine"], moved["constant"] / 2, rtol=1e-9)


def test_patience_ends_a_run_and_the_best_weights_are_what_is_sampled(run, book):
    options = ["--text", book, *TINY, "--lr", 0.3, "--steps", 400, "--patience", 3, "--json"]
    status, out, err = run("train", *options, "--out", "m")
    assert status == 0, err
    document, found = json.loads(out), read_checkpoint("m")
    losses = [loss for _, loss in found.history.validation]
    best = int(np.argmin(losses))
    assert (document["complete"], document["steps"]) == (True, 10 * (best + 1 + 3))
    assert document["best_step"] == 10 * (best + 1)
    assert document["best_validation"] * math.log(2) == pytest.approx(losses[best])
    task = of(*read_text(book, "characters"), tested=False)
    learner = Learner(found.config, task, found.model())
    assert learner.evaluate(validation_batches(task.validation, found.config)) == losses[best]
    learner.load_state_dict(found.tensors)
    assert learner.evaluate(validation_batches(task.validation, found.config)) == losses[-1] > losses[best]
    status, out, err = run("train", "--text", book, "--resume", "--out", "m")
    assert (status, out) == (2, "")
    assert_one_sentence(err, "m has ended by --patience 3: it has nothing left to do")


def test_one_backend_goes_on_where_the_other_stopped(run, book):
    options = ["--text", book, *TINY, "--cell", "lstm", "--dtype", "float64"]
    run("train", *options, "--steps", 30, "--out", "numpy")
    run("train", *options, "--steps", 15, "--backend", "torch", "--out", "mixed")
    status, _, err = run("train", "--text", book, "--resume", "--steps", 30, "--backend", "numpy", "--out", "mixed")
    assert status == 0, err
    run("train", *options, "--steps", 15, "--out", "third")
    status, out, err = run(
        "train", "--resume", "--backend", "both", "--json", *options, "--steps", 30, "--out", "third"
    )
    assert status == 0, err
    assert json.loads(out)["largest_difference"] < 1e-12
    assert_same_run("numpy", "third")
    a, b = read_checkpoint("numpy"), read_checkpoint("mixed")
    for name, tensor in a.tensors.items():
        np.testing.assert_allclose(b.tensors[name], tensor, rtol=0, atol=1e-12, err_msg=name)


def test_a_signal_saves_and_leaves(run, book, tmp_path):
    options, number = ["--text", book, *TINY], signal.SIGINT
    process = start("train", *options, "--steps", 10**6, "--out", tmp_path / "m")
    while not process.stdout.readline().startswith(b"step     10"):
        assert process.poll() is None
    process.send_signal(number)
    _, err = process.communicate(timeout=HANGS)
    assert process.returncode == 128 + number
    steps = read_checkpoint("m").history.steps
    hint = f"go on with: numpy-rnn train --resume --out {tmp_path / 'm'} --text {book}"
    assert_one_sentence(err.decode(), f"stopped after step {steps} of 1000000; {hint}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["book.txt", "m"]

    assert run("train", "--text", book, "--resume", "--steps", steps + 13, "--out", "m")[0] == 0
    assert run("train", *options, "--steps", steps + 13, "--out", "whole")[0] == 0
    assert_same_run("whole", "m")


def test_a_second_signal_leaves_at_once():
    before = signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.signal == signal.SIGTERM
        with pytest.raises(SystemExit) as exit_:
            os.kill(os.getpid(), signal.SIGINT)
        assert exit_.value.code == 130
    assert signal.getsignal(signal.SIGINT) is before


def test_ones_own_signal_after_anothers_is_no_second_one():
    told = SimpleNamespace(group=SimpleNamespace(most=lambda number: max(number, signal.SIGINT)))  # the other's came
    with Interruption() as interruption:
        assert Display.wants_to_stop(SimpleNamespace(run=told, interruption=interruption))
        os.kill(os.getpid(), signal.SIGINT)
    assert interruption.agreed == interruption.signal == signal.SIGINT


def test_without_steps_a_run_goes_on_to_the_end_it_had_and_takes_what_agrees(run, book, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Display, "wants_to_stop", lambda self: self.run.history.steps == 13)
        status, out, err = run("train", "--text", book, *TINY, "--steps", 20, "--json")
        assert status == 128  # no signal came, so no number is added
        assert (json.loads(out)["complete"], json.loads(out)["steps"]) == (False, 13)
        assert "stopped after step 13 of 20" in err
    assert run("train", "--text", book, "--resume", *TINY, "--lr", "5e-3")[0] == 0
    assert read_checkpoint("model.safetensors").history.steps == 20
    status, _, err = run("train", "--text", book, "--resume")
    assert status == 2
    assert_one_sentence(err, "model.safetensors has taken all of its 20 steps: it has nothing left to do")


def test_a_learning_rate_that_is_far_too_large(run, book):
    status, _, err = run("train", "--text", book, *TINY, "--lr", 1e38, "--interval", 1)
    assert status == 1
    assert_one_sentence(err, "training diverged at step 1: validation loss", "nothing was saved")
    assert not Path("model.safetensors").exists()


def test_a_full_disk_leaves_the_last_file(run, book, monkeypatch):
    assert run("train", "--text", book, *TINY, "--steps", 10)[0] == 0
    before = Path("model.safetensors").read_bytes()

    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    status, _, err = run("train", "--text", book, "--resume", "--steps", 20)
    assert status == 1
    assert_one_sentence(err, "No space left on device")
    assert Path("model.safetensors").read_bytes() == before
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["book.txt", "model.safetensors"]


# ---- what it refuses

NOT_UTF8 = b"abc\xff" * 100
REFUSED = {
    "empty text": ({"t": b""}, ["--text", "t"], "t is empty"),
    "a few letters": ({"t": b"hello"}, ["--text", "t"], "t has 5 characters, expected at least 20"),
    "too short": (
        {"t": b"hello " * 20},
        ["--text", "t"],
        "the text has 108 symbols to train on, expected at least 2049 for batch 32 and sequence length 64",
    ),
    "not UTF-8": ({"t": NOT_UTF8}, ["--text", "t"], "t is not UTF-8 (byte 3 is 0xff); symbols can be bytes instead"),
    "no such text": ({}, ["--text", "nowhere"], "nowhere: No such file"),
    "a folder as text": ({}, ["--text", "."], "Is a directory"),
    "cell": ({}, ["--cell", "transformer"], "cell is 'transformer', expected rnn, lstm, gru"),
    "hidden": ({}, ["--hidden", "0"], "0 is not in the range x>=1"),
    "lr nan": ({}, ["--lr", "nan"], "nan is not a finite number"),
    "clip inf": ({}, ["--clip", "inf"], "inf is not a finite number"),
    "too large": ({}, ["--hidden", "1000000000"], "this does not fit into memory"),
    "file exists": (
        {"m": b"x"},
        ["--out", "m"],
        "m exists: go on from it with --resume, or replace it with --overwrite",
    ),
    "no folder": ({}, ["--out", "no/m"], "cannot write to no: No such file or directory"),
    "no folder but a file": ({"f": b"x"}, ["--out", "f/m"], "cannot write to f: Not a directory"),
    "out is a folder": ({}, ["--out", "."], "is a directory"),
    "resume and overwrite": ({}, ["--resume", "--overwrite"], "only one of them"),
    "nothing to resume": ({}, ["--resume"], "there is nothing to resume: model.safetensors does not exist"),
    "resume from text": ({"m": b"hello " * 100}, ["--resume", "--out", "m"], "m is not a complete safetensors file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_train_refuses(run, tmp_path, case):
    made, args, sentence = REFUSED[case]
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
    status, out, err = run("train", *args)
    assert status in (1, 2)
    assert out == ""
    assert_one_sentence(err, sentence)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == made


def test_a_folder_that_cannot_be_written_is_noticed_before_training(run, monkeypatch):
    def refuse(dir):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # for root every folder can be written
    status, out, err = run("train")
    assert (status, out) == (2, "")
    assert_one_sentence(err, "cannot write to .: Permission denied")


def test_torch_is_missing(run, monkeypatch):
    monkeypatch.delitem(sys.modules, "numpy_rnn.train.torch_learner", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    for backend in ("torch", "both"):
        status, _, err = run("train", "--backend", backend)
        assert status == 1
        assert_one_sentence(err, f"--backend {backend} needs PyTorch: pip install 'numpy-rnn[torch]'")


def test_the_default_text_is_missing(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    status, _, err = run("train")
    assert status == 1
    assert_one_sentence(err, "this Python was packaged without its language reference: give a text of your own")


@pytest.mark.parametrize("controlled", [True, False])
def test_small_models_keep_to_one_thread(monkeypatch, controlled):
    if not controlled:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # as if threadpoolctl were not installed
    before = torch.get_num_threads()
    with fitting_threads(batch=32, hidden=128):
        assert torch.get_num_threads() == 1
    with fitting_threads(batch=64, hidden=1024):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before


@pytest.fixture
def trained(run, book):
    """Return the path of a model that has taken 10 steps."""
    assert run("train", "--text", book, *TINY, "--steps", 10)[0] == 0
    return Path("model.safetensors")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--hidden", "9"], "model.safetensors was trained with --hidden 8, it cannot go on with 9"),
        (["--lr", "0.1"], "model.safetensors was trained with --lr 0.005, it cannot go on with 0.1"),
        (["--symbols", "bytes"], "model.safetensors was trained with --symbols characters"),
        (["--steps", "10"], "model.safetensors has taken all of its 10 steps: it has nothing left to do"),
    ],
)
def test_resume_refuses(run, book, trained, args, sentence):
    before = trained.read_bytes()
    status, out, err = run("train", "--text", book, "--resume", *args)
    assert (status, out) == (2, "")
    assert_one_sentence(err, sentence)
    assert trained.read_bytes() == before


def test_resume_with_another_text(run, book, trained):
    assert_one_sentence(
        run("train", "--resume", "--steps", 20)[2],
        "the checkpoint was trained on other data than Python's own help: they differ in SHA-256",
    )
    book.write_text(book.read_text() + "!", encoding="utf-8")
    status, _, err = run("train", "--text", book, "--resume", "--steps", 20)
    assert status == 1
    assert_one_sentence(err, f"the checkpoint was trained on other data than {book}")


def damaged(path, change):
    """Write the file anew after `change(tensors, metadata)`."""
    tensors, metadata = files.read(path)
    change(tensors, metadata)
    files.write(path, tensors, metadata)


def in_config(**changes):
    def change(tensors, metadata):
        about = json.loads(metadata[KEY])
        about["config"].update(changes)
        metadata[KEY] = json.dumps(about)

    return change


DAMAGE = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is not a complete safetensors file"),
    "empty": (lambda path: path.write_bytes(b""), "is not a complete safetensors file"),
    "foreign": (
        lambda path: files.write(path, {"w": np.ones(3)}),
        "no checkpoint of `numpy-rnn train` or `numpy-rnn task`",
    ),
    "another size": (lambda path: damaged(path, in_config(hidden=9)), "does not hold what it describes"),
    "a giant": (lambda path: damaged(path, in_config(hidden=10**9)), "does not hold what it describes"),
    "unknown cell": (lambda path: damaged(path, in_config(cell="mlp")), "cell is 'mlp'"),
    "words for numbers": (lambda path: damaged(path, in_config(batch="4")), "batch is '4', expected int"),
    "a new setting": (lambda path: damaged(path, in_config(dropout=0.1)), "does not hold what it describes"),
    "no JSON": (lambda path: damaged(path, lambda t, m: m.update({KEY: "{"})), "does not hold what it describes"),
    "no such schedule": (lambda path: damaged(path, in_config(schedule="step")), "schedule is 'step', expected"),
    "half of the best": (lambda path: damaged(path, lambda t, m: t.pop("best.head.bias")), "missing best.head.bias"),
    "vocabulary": (
        lambda path: damaged(path, lambda t, m: t.update(vocabulary=t["vocabulary"][::-1])),
        "has a vocabulary that is not rising characters",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_checkpoint(run, book, trained, case):
    damage, sentence = DAMAGE[case]
    damage(trained)
    before = trained.read_bytes()
    for args in (["sample", trained], ["train", "--text", book, "--resume", "--steps", 20]):
        status, out, err = run(*args)
        assert status == 1
        assert out == ""
        assert_one_sentence(err, "model.safetensors", sentence)
    assert trained.read_bytes() == before


# ---- sample


def test_sample(run, trained):
    status, first, err = run("sample", trained, "--prompt", "The ", "--length", 40)
    assert (status, err) == (0, "")
    assert first.startswith("The ")
    assert len(first) == len("The ") + 40 + 1
    assert run("sample", trained, "--prompt", "The ", "--length", 40)[1] == first
    assert run("sample", trained, "--prompt", "The ", "--length", 40, "--seed", 1)[1] != first
    assert run("sample", trained, "--prompt", "The ", "--length", 0)[1] == "The \n"
    assert len(run("sample", trained, "--length", 40)[1]) == 41


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--prompt", "天"], "the model's text had none of these characters: '天'"),
        (["--temperature", "nan"], "temperature is nan, expected a finite number of 0 or more"),
    ],
)
def test_sample_refuses(run, trained, args, sentence):
    status, out, err = run("sample", trained, *args)
    assert status in (1, 2)
    assert out.strip() == ""
    assert_one_sentence(err, sentence)


def test_sample_without_a_file(run):
    status, _, err = run("sample", "nowhere")
    assert status == 1
    assert_one_sentence(err, "nowhere", "No such file")


def test_any_file_can_be_learnt_as_bytes_and_any_terminal_written_to(run, tmp_path):
    (tmp_path / "t").write_bytes(NOT_UTF8 * 3)
    assert run("train", "--text", "t", "--symbols", "bytes", *TINY, "--steps", 60, "--lr", 0.05)[0] == 0
    options = ["sample", "model.safetensors", "--prompt", "ab", "--temperature", "0", "--length", "6"]
    assert run(*options)[1] == "abc�abc�\n"
    process = start(*options, PYTHONIOENCODING="latin-1")
    assert process.communicate(timeout=HANGS) == (b"abc?abc?\n", b"")


# ---- devices


def test_a_device_is_for_torch_and_has_to_be_there(run, monkeypatch):
    status, _, err = run("train", "--device", "cuda", "--steps", 1)
    assert status == 2
    assert_one_sentence(err, "--device cuda can be used with --backend torch only, not with numpy.")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, _, err = run("train", "--device", "cuda", "--backend", "torch", "--steps", 1)
    assert status == 2
    assert_one_sentence(err, "--device cuda: PyTorch finds no GPU here.")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    status, _, err = run("train", "--device", "cuda", "--backend", "torch", "--steps", 1)
    assert status == 2
    assert_one_sentence(err, "--device cuda: 2 processes need a GPU each, PyTorch finds 1 here.")
