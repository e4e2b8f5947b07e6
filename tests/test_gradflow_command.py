"""What `numpy-rnn gradflow` measures, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from support import rng_of

from numpy_rnn.cli import command
from numpy_rnn.layers.losses import softmax_cross_entropy
from numpy_rnn.layers.network import Network
from numpy_rnn.study import gradflow
from numpy_rnn.study.gradflow import figure, settings
from numpy_rnn.train import figures

SIZES = dict(T=12, B=3, I=4, H=5, seed=1)
QUICK = ["--steps", "12", "--hidden", "5", "--inputs", "4", "--sequences", "3"]
FLOWS = {(f.group, f.label): f for f in settings.flows(**SIZES)}


def run(*args):
    result = CliRunner().invoke(command, ["gradflow", *map(str, args)])
    return result.exit_code, result.stdout, result.stderr


def test_contracting_weights_vanish_expanding_ones_explode_and_the_identity_holds():
    """Each claim of the first panel, at a size where the seed does not matter."""
    flows = {f.label: f for f in settings.flows(T=40, B=4, I=8, H=16, seed=0, cells=["rnn"])}
    contracting, orthogonal = flows["contracting: 0.5 · orthogonal"], flows["orthogonal"]
    # σ₁ ≤ max f' · ‖W_hh‖ (T4): 0.5 a step.
    assert contracting.weight == pytest.approx(0.5)
    assert (contracting.norms <= 0.5 ** np.arange(40, -1, -1)[:, None] * (1 + 1e-12)).all()
    assert contracting.horizon <= 7
    np.testing.assert_allclose([orthogonal.weight, orthogonal.radius], 1)
    assert (np.diff(orthogonal.norms, axis=0) >= -1e-12).all()
    assert contracting.after(40) < flows["uniform ± 1/√H"].after(40) < orthogonal.after(40) < 1
    assert flows["expanding: 2 · orthogonal"].after(40) > 100
    assert flows["expanding: 2 · orthogonal"].exponent > 0 > orthogonal.exponent
    assert flows["identity, relu"].after(40) == pytest.approx(1, abs=0.05)
    assert all(f.other == 0 for f in flows.values())


def test_gates_give_gradients_another_way():
    flows = {(f.group, f.label): f for f in settings.flows(T=40, B=4, I=8, H=16, seed=0)}
    rnn, lstm, gru = (flows[settings.USUAL, label] for label in ("RNN", "LSTM", "GRU"))
    assert rnn.other == 0 < lstm.other < 1 > gru.other > 0
    assert rnn.after(40) < min(lstm.after(40), gru.after(40))
    forget = [flows[settings.FORGET, f"forget bias {bias}"] for bias in (0, 1, 3)]
    assert forget[0].horizon < forget[1].horizon < forget[2].horizon
    assert forget[0].other < forget[1].other < forget[2].other


def test_a_flow_is_what_the_library_says_of_the_problem():
    setting = settings.SETTINGS[6]
    p = settings.problem(setting.cell, setting.change, **SIZES)
    steps = gradflow.step_jacobians(*p)
    f = FLOWS[setting.group, setting.label]
    np.testing.assert_array_equal(f.norms, gradflow.norms(gradflow.temporal_jacobians(steps.J)))
    assert f.exponent == pytest.approx(gradflow.lyapunov_exponents(steps.J)[:, 0].mean())
    direction = rng_of("direction").standard_normal((20000, steps.E.shape[-1]))
    stretched = np.sum((steps.E[3, 1] @ direction.T) ** 2) / np.sum(direction**2)
    assert settings._typical(steps.E[3:4, 1:2]) == pytest.approx(np.sqrt(stretched), rel=0.03)


@pytest.mark.parametrize("setting", settings.SETTINGS, ids=lambda s: s.label)
def test_settings_change_what_they_say_and_nothing_else(setting):
    plain = settings.problem(setting.cell, settings.usual, **SIZES)
    changed = settings.problem(setting.cell, setting.change, **SIZES)
    assert (plain.x == changed.x).all()
    differ = {field for field, a, b in zip(plain.params._fields, plain.params, changed.params) if (a != b).any()}
    if setting.group == settings.FORGET:
        b = changed.params.b_ih + changed.params.b_hh
        assert (b[5:10] == float(setting.label.split()[-1])).all()
        assert differ == {"b_ih", "b_hh"}
        assert (plain.params.b_ih[10:] == changed.params.b_ih[10:]).all()
    else:
        assert differ == ({"W_hh"} if setting.change is not settings.usual else set())
    if "orthogonal" in setting.label:
        W = changed.params.W_hh
        np.testing.assert_allclose(W.T @ W, W[:, 0] @ W[:, 0] * np.eye(5), atol=1e-14)


@pytest.mark.parametrize("cell", settings.CELLS)
def test_clipping_bounds_the_length_and_leaves_what_is_short(cell):
    free = settings.clipping(cell, np.array([0.1, 3.0]), 30, 4, 3, 8, 0, max_norm=np.inf)
    np.testing.assert_allclose(free.clipped, free.norms, rtol=1e-12)
    between = np.sqrt(np.prod(free.norms))
    c = settings.clipping(cell, np.array([0.1, 3.0]), 30, 4, 3, 8, 0, max_norm=between)
    np.testing.assert_array_equal(c.norms, free.norms)
    np.testing.assert_allclose(c.clipped, [free.norms[0], between], rtol=1e-5)


@pytest.mark.parametrize("cell", settings.CELLS)
def test_what_a_loss_reaches_fades_with_distance(cell):
    table = settings.reach(cell, 12, 4, 5, 0)
    assert table.shape == (12, 12)
    assert (table[:, 0] == 0).all()  # h_0 = 0
    assert 0 < table[11, 1] < 0.2 * table[11, 11]


def test_a_language_models_layers_read_what_the_ones_below_give():
    model = Network("gru", 3, 5, 7, 2, symbols=7, dtype=np.float64, rng=0)
    symbols = rng_of("symbols").integers(0, 7, (9, 4))
    first, second = settings.layer_problems(model, symbols)
    states, _ = second.cell.forward(second.params, second.x, second.s0)
    _, h_n = model(symbols)
    np.testing.assert_allclose(states.h[-1], h_n[1], rtol=1e-13)
    assert first.x.shape == (9, 4, 3)


def test_a_trained_models_table_sums_to_its_gradient(monkeypatch):
    model = Network("lstm", 3, 5, 7, 2, symbols=7, dtype=np.float64, rng=0)
    symbols = rng_of("symbols").integers(0, 7, (9, 4))
    monkeypatch.setattr(settings, "_dW_hh", lambda grads: grads.W_hh)
    found = settings.trained_reaches(settings.Trained(model, model, symbols), 6)
    text = symbols[:6, :1]
    logits, _, tape = model.forward(text[:-1])
    grads, _, _ = model.backward(tape, softmax_cross_entropy(logits, text[1:], reduction="sum")[1])
    assert list(found) == ["before", "after"]
    np.testing.assert_allclose(found["after"].sum(axis=(0, 1)), grads["rnn.weight_hh_l1"], rtol=1e-10)


def test_the_table_and_the_figure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*QUICK, "--out", "a.svg")
    assert (status, err) == (0, "")
    for f in FLOWS.values():
        assert f.label in out
    assert "a.svg holds the figure" in out
    svg = Path("a.svg").read_text()
    assert all(title in svg for title in (settings.WEIGHTS, settings.USUAL, "clipped to 1", "GRU: dW_hh"))
    few = ["--steps", 3, "--hidden", 2, "--sequences", 1, "--cell", "gru", "--out"]
    for name in ("b.png", "c.png"):
        assert run(*few, name)[0] == 0
    assert Path("b.png").read_bytes().startswith(b"\x89PNG")
    assert Path("b.png").read_bytes() == Path("c.png").read_bytes()


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_table_is_wider_than_the_terminal_or_cuts_a_number(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    _, out, _ = run(*QUICK)
    assert max(map(len, out.splitlines())) <= width
    assert "…" not in out
    explanation, tables = out.split("n back", 1)
    assert all(symbol in explanation for symbol in ("‖W_hh‖", "A ", "E ", "λ₁"))
    assert ("‖W_hh‖" in tables) is (width > 40)


def test_json_holds_the_curves():
    status, out, _ = run(*QUICK, "--seed", 1, "--json")
    assert status == 0
    found = json.loads(out)
    assert found["figure"] is None
    f = FLOWS[settings.USUAL, "GRU"]
    (ours,) = [g for g in found["flows"] if (g["group"], g["setting"]) == (f.group, f.label)]
    np.testing.assert_allclose(ours["norms"], np.median(f.norms, axis=1)[::-1], rtol=1e-12)
    assert ours["norms"][0] == 1
    assert ours["horizon"] is None or ours["horizon"] == f.horizon
    assert [c["cell"] for c in found["clipping"]] == list(found["contributions"]) == ["RNN", "LSTM", "GRU"]


@pytest.fixture(name="trained", scope="module")
def fixture_trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    (folder / "t.txt").write_text("to be or not to be, that is the question. " * 20)
    args = ["train", "--text", folder / "t.txt", "--cell", "lstm", "--layers", 2, "--hidden", 6, "--embedding", 3]
    args += ["--batch", 2, "--seq-len", 8, "--steps", 20, "--out", folder / "m.safetensors"]
    assert CliRunner().invoke(command, list(map(str, args))).exit_code == 0
    return folder


def test_a_trained_model_before_and_after(trained):
    status, out, err = run(
        "--checkpoint", trained / "m.safetensors", "--text", trained / "t.txt", "--steps", 15, "--json"
    )
    assert (status, err) == (0, "")
    found = json.loads(out)
    labels = [(f["group"], f["setting"]) for f in found["flows"]]
    assert labels == [(f"LSTM, layer {l}", f"{w} training") for l in (1, 2) for w in ("before", "after")]
    assert found["flows"][0]["norms"] != found["flows"][1]["norms"]
    assert all(len(f["norms"]) == 16 for f in found["flows"])
    assert list(found["contributions"]) == ["before", "after"]


def test_refusals(trained, tmp_path, monkeypatch):
    model = ["--checkpoint", trained / "m.safetensors"]
    for args, sentence in [
        (["--text", "t"], "--text is read by a trained model: give its --checkpoint, too."),
        ([*model, "--hidden", 3], "--hidden cannot be chosen for a trained model: leave it out."),
        ([*model, "--cell", "rnn"], "--cell cannot be chosen for a trained model: leave it out."),
        (model, "was not trained on the default text: give one with --text."),
        ([*model, "--text", trained / "t.txt", "--steps", 1000], "too few for --steps 1000."),
        (["--out", "a.pdf"], "a.pdf: the name must end in .png or .svg."),
        (["--out", tmp_path / "no" / "a.png"], "No such file or directory."),
        (["--steps", 0], "0 is not in the range x>=1."),
    ]:
        status, out, err = run(*args)
        assert (status, out) == (2, "")
        assert sentence in " ".join(err.replace("│", "").split()), err
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(figures.MissingLibraryError, match=r"pip install 'numpy-rnn\[plot\]'"):
        figures.matplotlib()


def test_a_gradient_that_has_exploded_beyond_numbers_can_be_drawn(tmp_path):
    norms = np.array([[np.nan, 1e300], [1e200, 1e100], [1.0, 1.0]])
    f = settings.Flow("g", "l", norms, 1.0, 1.0, 1.0, 0.0, 0.5)
    figures.write(figure.draw([f], [], {}), tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size > 1000
