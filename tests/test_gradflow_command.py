"""What `numpy-rnn gradflow` measures, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from support import rng_of

from numpy_rnn.cli import command
from numpy_rnn.fast.registry import FAMILIES
from numpy_rnn.layers.losses import softmax_cross_entropy
from numpy_rnn.layers.network import Network
from numpy_rnn.study.gradflow import figure, jacobians, settings
from numpy_rnn.train import figures

SIZES = settings.Sizes(T=12, B=3, I=4, H=5, seed=1)
QUICK = ["--steps", "12", "--hidden", "5", "--inputs", "4", "--sequences", "3"]


def flows_of(cells, sizes):
    """What the command measures, by group and label."""
    found = [job() for job in settings.initial_jobs(cells, sizes) if job.func is settings.flow]
    return {(f.group, f.setting): f for f in found}


FLOWS = flows_of(FAMILIES, SIZES)


def run(*args):
    result = CliRunner().invoke(command, ["gradflow", *map(str, args)])
    return result.exit_code, result.stdout, result.stderr


def test_contracting_weights_vanish_expanding_ones_explode_and_the_identity_holds():
    """Each claim of the first panel, at a size where the seed does not matter."""
    flows = {label: f for (_, label), f in flows_of(["rnn"], settings.Sizes(40, 4, 8, 16, 0)).items()}
    contracting, orthogonal = flows["contracting: 0.5 · orthogonal"], flows["orthogonal"]
    # σ₁ ≤ max f' · ‖W_hh‖ (T4): 0.5 a step.
    assert contracting.norm_W_hh == pytest.approx(0.5)
    assert (contracting.norms <= 0.5 ** np.arange(40, -1, -1)[:, None] * (1 + 1e-12)).all()
    assert contracting.horizon <= 7
    np.testing.assert_allclose([orthogonal.norm_W_hh, orthogonal.spectral_radius], 1)
    assert (np.diff(orthogonal.norms, axis=0) >= -1e-12).all()
    assert contracting.after(40) < flows["uniform ± 1/√H"].after(40) < orthogonal.after(40) < 1
    assert flows["expanding: 2 · orthogonal"].after(40) > 100
    assert flows["expanding: 2 · orthogonal"].lyapunov_exponent > 0 > orthogonal.lyapunov_exponent
    assert flows["identity, relu"].after(40) == pytest.approx(1, abs=0.05)
    assert all(f.other == 0 for f in flows.values())


def test_gates_give_gradients_another_way():
    flows = flows_of(FAMILIES, settings.Sizes(40, 4, 8, 16, 0))
    rnn, lstm, gru = (flows[settings.USUAL, label] for label in ("RNN", "LSTM", "GRU"))
    assert rnn.other == 0 < lstm.other < 1 > gru.other > 0
    assert rnn.after(40) < min(lstm.after(40), gru.after(40))
    forget = [flows[settings.FORGET, f"forget bias {bias}"] for bias in (0, 1, 3)]
    assert forget[0].horizon < forget[1].horizon < forget[2].horizon
    assert forget[0].other < forget[1].other < forget[2].other


@pytest.mark.parametrize("cell", ["gru", "gru_reset_before"])
def test_a_flow_is_what_the_library_says_of_the_problem(cell):
    p = settings.problem(cell, settings.usual, SIZES)
    f, J = settings.flow("group", "setting", p), jacobians.step_jacobians(*p).J
    assert np.isnan(f.activation) == (cell == "gru_reset_before")  # where there is no A
    np.testing.assert_array_equal(f.norms, jacobians.norms(jacobians.temporal_jacobians(J)))
    assert f.lyapunov_exponent == pytest.approx(jacobians.lyapunov_exponents(J)[:, 0].mean())


def test_a_typical_stretch_is_a_mean_over_directions():
    M, direction = rng_of("stretch").standard_normal((5, 5)), rng_of("direction").standard_normal((20000, 5))
    stretched = np.sum((M @ direction.T) ** 2) / np.sum(direction**2)
    assert settings.typical_stretch(M[None]) == pytest.approx(np.sqrt(stretched), rel=0.03)


@pytest.mark.parametrize("names", settings.SETTINGS, ids=lambda names: names[1])
def test_settings_change_what_they_say_and_nothing_else(names):
    group, label = names
    cell, change = settings.SETTINGS[names]
    plain, changed = settings.problem(cell, settings.usual, SIZES), settings.problem(cell, change, SIZES)
    assert (plain.x == changed.x).all()
    differ = {field for field, a, b in zip(plain.params._fields, plain.params, changed.params) if (a != b).any()}
    if group == settings.FORGET:
        b = changed.params.b_ih + changed.params.b_hh
        assert (b[5:10] == float(label.split()[-1])).all()
        assert differ == {"b_ih", "b_hh"}
        assert (plain.params.b_ih[10:] == changed.params.b_ih[10:]).all()
    else:
        assert differ == ({"W_hh"} if change is not settings.usual else set())
    if "orthogonal" in label:
        W = changed.params.W_hh
        np.testing.assert_allclose(W.T @ W, W[:, 0] @ W[:, 0] * np.eye(5), atol=1e-14)


@pytest.mark.parametrize("cell", FAMILIES)
def test_clipping_bounds_the_length_and_leaves_what_is_short(cell):
    c = settings.clipping(cell, settings.Sizes(30, 4, 3, 8, 0), np.array([0.1, 3.0]))
    factor = np.minimum(1, settings.MAX_NORM / c.norms)
    np.testing.assert_allclose(c.clipped, c.norms * factor, rtol=1e-5)
    assert factor[1] < 1


@pytest.mark.parametrize("cell", FAMILIES)
def test_what_a_loss_reaches_fades_with_distance(cell):
    _, table = settings.reach(cell, SIZES)
    assert table.shape == (12, 12)
    assert (table[:, 0] == 0).all()  # h_0 = 0
    assert 0 < table[11, 1] < 0.2 * table[11, 11]


def test_a_language_models_last_layer_reads_what_the_ones_below_give_and_learns_from_its_own_loss():
    model = Network("lstm", 3, 5, 7, 2, symbols=7, dtype=np.float64, rng=0)
    symbols = rng_of("symbols").integers(0, 7, (3, 1))
    _, second = settings.layer_problems(model, symbols)
    states, _ = second.cell.forward(second.params, second.x, second.s0)
    _, (h_n, _) = model(symbols)
    np.testing.assert_allclose(states.h[-1], h_n[1], rtol=1e-13)
    # Of two losses, and h_0 = 0, the second by the step before it is all that there is of dW_hh.
    logits, _, tape = model.forward(symbols[:-1])
    grads, _, _ = model.backward(tape, softmax_cross_entropy(logits, symbols[1:], reduction="sum")[1])
    expected = [[0, 0], [0, np.linalg.norm(grads["rnn.weight_hh_l1"])]]
    np.testing.assert_allclose(settings.trained_reach("after", model, symbols).table, expected, rtol=1e-10)


def test_the_table_and_the_figure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*QUICK, "--out", "a.svg")
    assert (status, err) == (0, "")
    for f in FLOWS.values():
        assert f.setting in out
    assert "a.svg holds the figure" in out
    svg = Path("a.svg").read_text()
    assert all(title in svg for title in (settings.WEIGHTS, settings.USUAL, "clipped to 1", "GRU: dW_hh"))


@pytest.mark.parametrize("width", [40, 60, 80])
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
    (ours,) = [g for g in found["flows"] if (g["group"], g["setting"]) == (f.group, f.setting)]
    np.testing.assert_allclose(ours["norms"], np.median(f.norms, axis=1)[::-1], rtol=1e-12)
    assert ours["norms"][0] == 1
    assert ours["horizon"] == (f.horizon if np.isfinite(f.horizon) else "inf")  # which JSON does not have
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


def test_refusals(trained, tmp_path):
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


def test_a_gradient_that_has_exploded_beyond_numbers_can_be_drawn(tmp_path):
    norms = np.array([[np.nan, 1e300], [1e200, 1e100], [1.0, 1.0]])
    f = settings.Flow("g", "l", 1.0, 1.0, 1.0, 0.0, 0.5, norms)
    figures.write(figure.draw([f], [], []), tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size > 1000
