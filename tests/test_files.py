"""save and load: safetensors, whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
from support import assert_all_close

import numpy_rnn
from numpy_rnn.layers import files

MODELS = [
    numpy_rnn.RNN(3, 4, num_layers=2, nonlinearity="relu", rng=0),
    numpy_rnn.LSTM(3, 4, bidirectional=True, proj_size=2, dtype=np.float64, rng=1),
    numpy_rnn.LSTM(3, 4, bias=False, batch_first=True, peephole=True, rng=2),
    numpy_rnn.GRU(3, 4, num_layers=2, dropout=0.5, reset_after=False, rng=3),
    numpy_rnn.RNNFromScratch(3, 4, 2, rng=4),
    numpy_rnn.LSTMFromScratch(3, 4, 2, dtype=np.float64, rng=5),
    numpy_rnn.GRUFromScratch(3, 4, 2, rng=6),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{type(m).__name__}-{m.dtype}")
def test_round_trip(model, tmp_path):
    path = tmp_path / "model.safetensors"
    model.save(path)
    for load in (type(model).load, numpy_rnn.load):
        again = load(path)
        assert repr(again) == repr(model)
        assert_all_close(again.state_dict(), model.state_dict(), 0)
    x = np.ones((5, 2, 3), model.dtype)
    assert_all_close(again.eval()(x), model.eval()(x), 0)
    assert os.listdir(tmp_path) == ["model.safetensors"]
    assert_all_close(safetensors.numpy.load_file(path), model.state_dict(), 0)


def test_the_wrong_class(tmp_path):
    MODELS[0].save(tmp_path / "m")
    with pytest.raises(ValueError, match=r"holds a model of class 'RNN', expected LSTM$"):
        numpy_rnn.LSTM.load(tmp_path / "m")
    with pytest.raises(ValueError, match=r"expected GRUFromScratch or LSTMFromScratch or RNNFromScratch$"):
        numpy_rnn.layers.scratch.FromScratch.load(tmp_path / "m")


def described(cls, config):
    return {"numpy_rnn": json.dumps({"class": cls, "config": config})}


TENSORS = {"h2o.weight": np.ones((2, 4), np.float32)}
CONFIG = {"input_size": 3, "hidden_size": 4, "output_size": 2}


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        (TENSORS, None, "holds tensors, but no model that numpy_rnn saved"),
        (TENSORS, {"numpy_rnn": "[1]"}, "holds tensors, but no model that numpy_rnn saved"),
        (
            TENSORS,
            described("Transformer", {}),
            "holds a model of class 'Transformer', expected GRU or GRUFromScratch or",
        ),
        (
            TENSORS,
            described("RNNFromScratch", CONFIG),
            "does not hold the RNNFromScratch that it describes: missing h2h.b",
        ),
        (TENSORS, described("RNNFromScratch", {"input_size": 3}), "does not hold the RNNFromScratch that it describes"),
        (TENSORS, described("RNN", {"input_size": -1}), "does not hold the RNN that it describes"),
        ({"a": np.ones(2, np.int64)}, described("RNN", {}), r"holds \['int64'\], expected one float dtype"),
        ({}, described("RNN", {}), r"holds \[\], expected one float dtype"),
    ],
    ids=["no metadata", "no model", "unknown class", "missing", "no size", "bad size", "integers", "empty"],
)
def test_a_file_that_is_no_model(tensors, metadata, message, tmp_path):
    files.write(tmp_path / "m", tensors, metadata)
    with pytest.raises(ValueError, match=message):
        numpy_rnn.load(tmp_path / "m")


def test_a_description_larger_than_the_file_allocates_nothing(tmp_path):
    """A petabyte of parameters is described, one kilobyte is there."""
    files.write(tmp_path / "m", TENSORS, described("RNNFromScratch", {**CONFIG, "hidden_size": 10**7}))
    with pytest.raises(ValueError, match="does not hold the RNNFromScratch that it describes"):
        numpy_rnn.load(tmp_path / "m")


@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty"])
def test_a_damaged_file(damage, tmp_path):
    path = tmp_path / "m"
    MODELS[0].save(path)
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[:-5], "foreign": b"PK\x03\x04 not tensors at all", "empty": b""}[damage])
    with pytest.raises(ValueError, match=r"m is not a complete safetensors file \(.+\)$"):
        numpy_rnn.load(path)


def test_a_missing_file_and_an_unwritable_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.safetensors"):
        numpy_rnn.load(tmp_path / "nothing.safetensors")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        MODELS[0].save(tmp_path / "nowhere" / "m")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        MODELS[0].save(tmp_path / "file" / "m")


def test_an_interrupted_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "m"
    MODELS[0].save(path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        MODELS[1].save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m"]


def test_a_dtype_that_the_format_lacks(tmp_path):
    with pytest.raises(ValueError, match="weight_ih_l0 has dtype complex128, a file can hold float16, float32"):
        numpy_rnn.RNN(2, 3, dtype=complex).save(tmp_path / "m")
    safetensors_torch = pytest.importorskip("safetensors.torch")
    import torch

    safetensors_torch.save_file({"a": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "b")
    with pytest.raises(ValueError, match="a has dtype BF16, expected one of float16, float32"):
        files.read(tmp_path / "b")


def test_strided_and_transposed_parameters_are_written_as_they_read(tmp_path):
    a = np.arange(24.0).reshape(4, 6)
    files.write(tmp_path / "m", {"t": a.T, "s": a[::2, 1::2], "scalar": np.array(7)}, {"k": "v"})
    tensors, metadata = files.read(tmp_path / "m")
    assert metadata == {"k": "v"}
    assert np.array_equal(tensors["t"], a.T)
    assert tensors["scalar"].shape == ()
    assert np.array_equal(tensors["s"], a[::2, 1::2])


def run_without(modules: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run code where the given modules cannot be imported."""
    hide = f"import sys\nfor name in {modules!r}.split(): sys.modules[name] = None\n"
    return subprocess.run([sys.executable, "-c", hide + code], capture_output=True, text=True, check=False)


def test_the_library_needs_numpy_alone():
    code = "import numpy_rnn, numpy as np; numpy_rnn.LSTM(2, 3)(np.ones((4, 1, 2), np.float32)); print('fine')"
    done = run_without("torch click rich safetensors torch_rnn", code)
    assert (done.stdout, done.stderr) == ("fine\n", "")
    loaded = run_without(
        "", "import sys, numpy_rnn; print({'torch', 'click', 'rich', 'safetensors'} & set(sys.modules))"
    )
    assert loaded.stdout == "set()\n"


@pytest.mark.parametrize(
    ("hidden", "code", "message"),
    [
        (
            "safetensors",
            "import numpy_rnn\ntry: numpy_rnn.RNN(2, 3).save('m')\nexcept ImportError as e: sys.exit(str(e))",
            "reading and writing files needs safetensors: pip install 'numpy-rnn[cli]'\n",
        ),
        (
            "click",
            "from numpy_rnn.__main__ import main; main()",
            "numpy-rnn: the command needs click: pip install 'numpy-rnn[cli]'\n",
        ),
        (
            "rich",
            "from numpy_rnn.__main__ import main; main()",
            "numpy-rnn: the command needs rich: pip install 'numpy-rnn[cli]'\n",
        ),
        (
            "torch",
            "from numpy_rnn.__main__ import main; sys.argv = ['numpy-rnn', 'check']; main()",
            "numpy-rnn: comparing needs PyTorch: pip install 'numpy-rnn[torch]'\n",
        ),
    ],
    ids=["safetensors", "click", "rich", "torch"],
)
def test_a_missing_extra_is_one_line_that_says_what_to_install(hidden, code, message):
    done = run_without(hidden, code)
    assert (done.returncode, done.stderr) == (1, message)
