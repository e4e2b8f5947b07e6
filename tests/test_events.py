"""Event files for TensorBoard: what `--tensorboard` writes is read back, record by record."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import pytest

from numpy_rnn.cli.train import Display
from numpy_rnn.train.checkpoint import read_checkpoint
from numpy_rnn.train.text import default_text

TRAIN = ["train", "--text", "t", "--hidden", 8, "--batch", 4, "--seq-len", 8, "--interval", 10, "--schedule", "cosine"]


@pytest.fixture
def run(command):
    Path("t").write_text(default_text()[:748], encoding="utf-8")
    return command


@pytest.fixture
def events_of():
    """Read every scalar that the event files of a folder hold: of each tag the steps and values, file by file."""
    missing = "tensorboardX is not installed: pip install 'numpy-rnn[dev]'"
    message = pytest.importorskip("tensorboardX.proto.event_pb2", reason=missing)
    checksum = pytest.importorskip("tensorboardX.record_writer").masked_crc32c

    def records(data):
        while data:
            head, (length,) = data[:8], struct.unpack("<Q", data[:8])
            body = data[12 : 12 + length]
            assert data[8:12] == struct.pack("<I", checksum(head))
            assert data[12 + length : 16 + length] == struct.pack("<I", checksum(body))
            yield message.Event.FromString(body)
            data = data[16 + length :]

    def read(folder):
        scalars, starts = {}, []
        for path in sorted(Path(folder).iterdir()):
            for event in records(path.read_bytes()):
                if event.HasField("session_log"):
                    starts.append(event.step)
                for value in event.summary.value:
                    scalars.setdefault(value.tag, []).append((event.step, value.simple_value))
        return scalars, starts

    return read


def in_float32(pairs):
    return [(step, pytest.approx(value, rel=1e-6)) for step, value in pairs]


def test_train_writes_every_step_and_every_validation(run, events_of):
    status, _, err = run(*TRAIN, "--steps", 24, "--lr", 0.01, "--tensorboard", "tb", "--out", "m")
    assert (status, err) == (0, "")
    scalars, _ = events_of("tb")
    history = read_checkpoint("m").history
    assert set(scalars) == {"loss/training", "loss/validation", "gradient_norm", "learning_rate"}
    assert scalars["loss/training"] == in_float32((k, r.loss) for k, r in enumerate(history.training, 1))
    assert scalars["gradient_norm"] == in_float32((k, r.norm) for k, r in enumerate(history.training, 1))
    assert scalars["loss/validation"] == in_float32(history.validation)
    rates = [value for _, value in scalars["learning_rate"]]
    assert rates[0] == pytest.approx(0.01)
    assert rates[12] == pytest.approx(0.005)
    assert rates == sorted(rates, reverse=True)


def test_a_resumed_run_tells_where_it_goes_on(run, events_of, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Display, "wants_to_stop", lambda self: self.job.history.steps == 13)
        assert run(*TRAIN, "--steps", 20, "--tensorboard", "one", "--out", "m")[0] == 128
    status, _, err = run("train", "--text", "t", "--resume", "--tensorboard", "two", "--out", "m")
    assert status == 0, err
    assert [step for step, _ in events_of("one")[0]["loss/training"]] == list(range(1, 14))
    scalars, starts = events_of("two")
    assert [step for step, _ in scalars["loss/training"]] == list(range(14, 21))
    assert starts == [14]


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_task_writes_what_its_log_sums_up(run, events_of, backend):
    sizes = ["--hidden", 5, "--epochs", 2, "--backend", backend, "--json"]
    status, out, err = run("task", "tags", *sizes, "--tensorboard", "tb")
    assert status == 0, err
    document, (scalars, _) = json.loads(out), events_of("tb")
    epochs = document["epochs"]
    assert document["tensorboard"] == "tb"
    assert scalars["loss/validation"] == in_float32((e["step"], e["validation"]) for e in epochs)
    steps = epochs[0]["step"]
    norms = [value for _, value in scalars["gradient_norm"][:steps]]
    assert max(norms) == pytest.approx(epochs[0]["largest_norm"], rel=1e-6)
    assert scalars["learning_rate"][steps - 1] == (steps, pytest.approx(epochs[0]["lr"], rel=1e-6))


@pytest.mark.parametrize("args", [TRAIN, ["task", "tags"]])
def test_without_the_library_one_sentence_before_the_work(run, monkeypatch, args):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    status, out, err = run(*args, "--tensorboard", "tb")
    assert (status, out) == (1, "")
    assert err == "numpy-rnn: --tensorboard needs tensorboardX: pip install 'numpy-rnn[tensorboard]'\n"
    assert not Path("tb").exists()


def test_a_file_in_the_folders_place_is_one_sentence(run, events_of):
    status, out, err = run(*TRAIN, "--tensorboard", "t")
    assert (status, out) == (2, "")
    assert "'t' is a file" in err
