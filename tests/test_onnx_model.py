"""Our layers as ONNX models, run by ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

import numpy_rnn
from numpy_rnn.cli import command
from numpy_rnn.layers import files
from numpy_rnn.port.conventions import ConventionError
from numpy_rnn.port.onnx_model import model

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'numpy-rnn[dev]'")
pytest.importorskip("onnx", reason="onnx is not installed: pip install 'numpy-rnn[dev]'")

T, B, I, H, R = 6, 4, 3, 5, 2
LAYERS = {
    "rnn_tanh": (numpy_rnn.RNN, {}),
    "rnn_relu": (numpy_rnn.RNN, {"nonlinearity": "relu"}),
    "lstm": (numpy_rnn.LSTM, {}),
    "lstm_projection": (numpy_rnn.LSTM, {"proj_size": R}),
    "lstm_peephole": (numpy_rnn.LSTM, {"peephole": True}),
    "gru": (numpy_rnn.GRU, {}),
    "gru_reset_before": (numpy_rnn.GRU, {"reset_after": False}),
}


def layer_of(cell, **options):
    cls, arguments = LAYERS[cell]
    return cls(I, H, **arguments, **options, dtype=np.float32, rng=3)


def run(found, layer, x, lengths=None):
    """Outputs of the model and of the layer, from states that are not zero."""
    rng = np.random.default_rng(1)
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    lstm = isinstance(layer, numpy_rnn.LSTM)
    sizes = {"h": layer.state_dict()["weight_hh_l0"].shape[1], **({"c": H} if lstm else {})}
    s0 = {s: rng.standard_normal((rows, B, n)).astype(np.float32) for s, n in sizes.items()}
    session = onnxruntime.InferenceSession(found.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {"x": x, **{f"{s}_0": v for s, v in s0.items()}}
    if lengths is not None:
        given["lengths"] = np.array(lengths, np.int32)
    output, h_n = layer(x, tuple(s0.values()) if lstm else s0["h"], lengths)
    return session.run(None, given), [output, *(h_n if lstm else (h_n,))]


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}], ids=str)
@pytest.mark.parametrize("cell", LAYERS)
def test_onnx_runtime_computes_what_the_layer_does(cell, options):
    layer = layer_of(cell, **options)
    x = np.random.default_rng(2).standard_normal((T, B, I)).astype(np.float32)
    got, expected = run(model(cell, layer.state_dict()), layer, x)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cell", [cell for cell in LAYERS if cell != "lstm_projection"])
def test_lengths_are_taken(cell):
    layer = layer_of(cell, num_layers=2, bidirectional=True)
    x = np.random.default_rng(2).standard_normal((T, B, I)).astype(np.float32)
    got, expected = run(model(cell, layer.state_dict(), lengths=True), layer, x, [3, 6, 1, 4])
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_the_command_writes_a_model(tmp_path):
    layer = layer_of("gru", num_layers=2)
    files.write(tmp_path / "gru.safetensors", layer.state_dict())
    arguments = ["--from", "torch", "--to", "onnx", "--cell", "gru"]
    done = CliRunner().invoke(
        command, ["convert", str(tmp_path / "gru.safetensors"), str(tmp_path / "gru.onnx"), *arguments]
    )
    assert done.exit_code == 0, done.output
    assert "gru.onnx is an ONNX model of 2 cells" in done.output
    session = onnxruntime.InferenceSession(str(tmp_path / "gru.onnx"), providers=["CPUExecutionProvider"])
    x = np.ones((2, 3, I), np.float32)
    output, _ = session.run(None, {"x": x, "h_0": np.zeros((2, 3, H), np.float32)})
    np.testing.assert_allclose(output, layer(x)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: model("gru", {}), "there is no weight_hh_l0"),
        (lambda: model("gru", {"weight_hh_l0": np.ones((15, 5))}), "weight_ih_l0 is missing"),
        (lambda: model("lstm_projection", layer_of("lstm").state_dict()), "weight_hr_l0 is missing"),
        (lambda: model("lstm_projection", {}, lengths=True), "a Scan, which knows no lengths"),
    ],
)
def test_what_cannot_be_a_model_is_said(call, message):
    with pytest.raises(ConventionError, match=message):
        call()
