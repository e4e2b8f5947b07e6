"""Other systems' layouts: against what those systems said themselves (tests/interop.json), and round trips."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from support import random_params, rng_of

import numpy_rnn
from numpy_rnn.cli import command
from numpy_rnn.fast.registry import CELLS
from numpy_rnn.layers import files
from numpy_rnn.port import conventions
from numpy_rnn.port.conventions import LAYOUTS, ConventionError, fitting, from_system, to_system

ANSWERS = json.loads((Path(__file__).parent / "interop.json").read_text(encoding="utf-8"))
H, I = 5, 3
ROWS = [(system, cell) for system, cells in LAYOUTS.items() for cell in cells]
each_row = pytest.mark.parametrize(("system", "cell"), ROWS, ids=lambda part: part)


def arrays(nest):
    return {name: np.array(value) for name, value in nest.items()}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_systems_own_parameters_give_its_own_numbers(name):
    system, cell_name = name.split("/")
    said, cell = ANSWERS[name], CELLS[cell_name]
    found = from_system(system, cell_name, arrays(said["params"]), H)
    params = cell.Params(**found)
    s0 = cell.State(**arrays(said["s0"]))
    x = np.array(said["x"])
    states, tape = cell.forward(params, x, s0)
    np.testing.assert_allclose(states.h[1:], said["y"], rtol=0, atol=2e-6)
    for field, last in said["s_n"].items():
        np.testing.assert_allclose(getattr(states, field)[-1], last, rtol=0, atol=2e-6)

    if "grads" not in said:
        return
    dstates = cell.State(*(np.zeros_like(s) for s in states))
    dstates.h[1:] = said["doutput"]
    grads, dx, ds0 = cell.backward(tape, dstates)
    theirs = from_system(system, cell_name, arrays(said["grads"]), H, gradients=True)
    scale = max(np.abs(g).max() for g in grads)
    for field, g in grads._asdict().items():
        np.testing.assert_allclose(theirs[field], g, rtol=0, atol=1e-6 * scale, err_msg=field)
    np.testing.assert_allclose(dx, said["dx"], rtol=0, atol=1e-6 * scale)
    for field, first in said["ds0"].items():
        np.testing.assert_allclose(getattr(ds0, field), first, rtol=0, atol=1e-6 * scale)
    back = to_system(system, cell_name, grads._asdict(), gradients=True)
    for key, g in said["grads"].items():
        np.testing.assert_allclose(back[key], g, rtol=0, atol=1e-6 * scale, err_msg=key)


def test_every_system_that_installs_has_answered():
    asked = {name.split("/")[0] for name in ANSWERS}
    assert asked == {"flax", "equinox", "haiku", "keras", "onnx", "cudnn", "mlx", "tf1"}
    for system in asked - {"cudnn"}:
        assert {name.split("/")[1] for name in ANSWERS if name.startswith(f"{system}/")} == set(LAYOUTS[system])
    assert all("version" in answer for answer in ANSWERS.values())


def ours(cell):
    """Parameters with few digits, so that sums with 1 are exact."""
    params = random_params(CELLS[cell], I, H, 2, rng_of(cell))
    return {name: np.round(a * 256) / 256 for name, a in params._asdict().items()}


def representable(system, cell):
    """Our parameters as far as the system can hold them."""
    params = ours(cell)
    biases = LAYOUTS[system][cell].biases
    if biases != "two":
        params["b_hh"][: 2 * H if biases == "one and n" else None] = 0
    return params


@each_row
def test_a_round_trip_is_exact(system, cell):
    params = representable(system, cell)
    theirs = to_system(system, cell, params)
    back = from_system(system, cell, theirs, H)
    assert set(back) == set(params)
    for name, a in params.items():
        assert back[name].tobytes() == a.tobytes(), name
    assert all(a.flags.c_contiguous for a in theirs.values())
    again = to_system(system, cell, back)
    assert {k: a.tobytes() for k, a in again.items()} == {k: a.tobytes() for k, a in theirs.items()}


@each_row
def test_gradients_are_the_transpose_of_the_conversion(system, cell):
    """Σ dp ∘ δp is the same in both layouts: with δ an exact change of the parameters."""
    change, dtheirs = representable(system, cell), {}
    zero = {name: np.zeros_like(a) for name, a in change.items()}
    start, end = (to_system(system, cell, p) for p in (zero, change))
    delta = {name: end[name] - start[name] for name in end}
    rng = rng_of(system, cell)
    dtheirs = {name: np.round(rng.standard_normal(a.shape) * 64) / 64 for name, a in delta.items()}
    dours = from_system(system, cell, dtheirs, H, gradients=True)
    assert set(dours) == set(change)
    assert sum((dours[n] * change[n]).sum() for n in change) == sum((dtheirs[n] * delta[n]).sum() for n in delta)
    if LAYOUTS[system][cell].biases == "one":
        shared = slice(None, 2 * H if cell == "gru" else None)
        assert np.array_equal(dours["b_ih"][shared], dours["b_hh"][shared])  # each has it whole


@each_row
def test_what_a_system_cannot_hold_is_said(system, cell):
    params, biases = ours(cell), LAYOUTS[system][cell].biases
    if biases == "two":
        to_system(system, cell, params)
        return
    with pytest.raises(ConventionError, match=r"b_hh is not zero|b_hh of gate n is not zero"):
        to_system(system, cell, params)
    if biases == "one" and cell == "gru":
        with pytest.raises(ConventionError, match="b_hh of gate n is not zero"):
            to_system(system, cell, params, merge=True)  # it cannot be merged
        return
    merged = from_system(system, cell, to_system(system, cell, params, merge=True), H)
    rz = slice(None, 2 * H if biases == "one and n" else None)
    assert np.array_equal(merged["b_ih"][rz], (params["b_ih"] + params["b_hh"])[rz])
    assert not merged["b_hh"][rz].any()
    gradients = {**params, "b_hh": params["b_ih"] + 1}
    with pytest.raises(ConventionError, match="gradients of both biases differ"):
        to_system(system, cell, gradients, gradients=True)


def test_a_forget_bias_that_would_be_rounded_is_refused():
    params = representable("tf1", "lstm")
    assert np.array_equal(to_system("tf1", "lstm", params)["bias"][2 * H : 3 * H] + 1, params["b_ih"][H : 2 * H])
    params["b_ih"][H] = 1e-20
    with pytest.raises(ConventionError, match="forget bias would be rounded: 1 is added to it at run time"):
        to_system("tf1", "lstm", params)


def test_haikus_z_takes_where_ours_keeps():
    params = representable("haiku", "gru_reset_before")
    w = to_system("haiku", "gru_reset_before", params)["w_i"]
    assert np.array_equal(w[:, :H], -params["W_ih"][H : 2 * H].T)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: to_system("caffe", "lstm", ours("lstm")), "system is 'caffe', expected one of torch, onnx"),
        (lambda: to_system("keras", "lstm_peephole", ours("lstm")), "keras has no lstm_peephole, only rnn_tanh"),
        (lambda: from_system("onnx", "gru", {"W": np.zeros((1, 15, 3))}, H), "onnx's gru lacks 'B'"),
        (lambda: from_system("equinox", "gru", {"bias": np.zeros(15)}, H), "lacks what is W_ih, W_hh, b_n here"),
    ],
)
def test_errors_say_what_came_and_what_was_expected(call, message):
    with pytest.raises(ConventionError, match=message):
        call()


@each_row
def test_states_stand_in_the_systems_order(system, cell):
    names = CELLS[cell].State._fields
    states = {name: np.full((2, H), k) for k, name in enumerate(names)}
    theirs = conventions.states_to_system(system, cell, states)
    turned = (system, cell) in {("flax", "lstm"), ("tf1", "lstm")}
    assert [int(s[0, 0]) for s in theirs] == ([1, 0] if turned else list(range(len(names))))
    back = conventions.states_from_system(system, cell, theirs)
    assert all(back[name] is states[name] for name in names)
    with pytest.raises(ConventionError, match="has the states"):
        conventions.states_from_system(system, cell, [*theirs, theirs[0]])


# ---- the command


def convert(*args):
    return CliRunner().invoke(command, ["convert", *map(str, args)])


@pytest.mark.parametrize("system", ["keras", "onnx", "haste", "cs231n", "tf1", "cudnn"])
def test_a_file_of_several_layers_goes_there_and_back(system, tmp_path):
    layer = numpy_rnn.LSTM(I, H, num_layers=2, bidirectional=True, dtype=np.float64, rng=1)
    state = {name: np.round(a * 256) / 256 for name, a in layer.state_dict().items()}
    if LAYOUTS[system]["lstm"].biases == "one":
        state |= {name: np.zeros_like(a) for name, a in state.items() if "bias_hh" in name}
    files.write(tmp_path / "torch.safetensors", state)
    there = convert(
        tmp_path / "torch.safetensors", tmp_path / "x.safetensors", "--from", "torch", "--to", system, "--cell", "lstm"
    )
    assert there.exit_code == 0, there.output
    assert "of 4 cells, as " in there.output
    hidden = ["--hidden", H] if system == "cudnn" else []
    paths = tmp_path / "x.safetensors", tmp_path / "back.safetensors"
    back = convert(*paths, "--from", system, "--to", "torch", "--cell", "lstm", *hidden)
    assert back.exit_code == 0, back.output
    found, _ = files.read(tmp_path / "back.safetensors")
    assert {name: a.tobytes() for name, a in found.items()} == {name: a.tobytes() for name, a in state.items()}


def test_a_single_cell_has_the_systems_own_names(tmp_path):
    state = numpy_rnn.GRU(I, H, rng=1).state_dict()
    files.write(tmp_path / "torch.safetensors", state)
    convert(
        tmp_path / "torch.safetensors", tmp_path / "k.safetensors", "--from", "torch", "--to", "keras", "--cell", "gru"
    )
    found, _ = files.read(tmp_path / "k.safetensors")
    assert {name: a.shape for name, a in found.items()} == {
        "kernel": (I, 3 * H),
        "recurrent_kernel": (H, 3 * H),
        "bias": (2, 3 * H),
    }


@each_row
def test_arrays_tell_their_cell_as_far_as_they_can(system, cell):
    theirs = to_system(system, cell, representable(system, cell))
    cells = fitting(system, theirs, H)
    assert cell in cells
    alike = {"rnn_tanh": "rnn", "rnn_relu": "rnn", "gru_reset_before": "gru"}
    if system != "cudnn":  # whose one line could have more inputs and fewer gates
        assert len({alike.get(name, name) for name in cells}) == 1
    if system == "keras":
        assert cells == [cell] or set(cells) == {"rnn_tanh", "rnn_relu"}
    with pytest.raises(ConventionError, match=r"no cell of \w+'s has the arrays "):
        fitting(system, {**theirs, "spare": np.zeros(1)}, H)
    if system != "cudnn":
        with pytest.raises(ConventionError, match="no cell of"):
            fitting(system, {**theirs, list(theirs)[-1]: list(theirs.values())[-1][..., 1:]}, H)


def test_the_cell_need_not_be_said_where_the_file_tells_it(tmp_path):
    def tried(system, cell, to, out="out.safetensors"):
        files.write(tmp_path / "in.safetensors", to_system(system, cell, representable(system, cell)))
        (tmp_path / out).unlink(missing_ok=True)
        done = convert(tmp_path / "in.safetensors", tmp_path / out, "--from", system, "--to", to)
        return done, (tmp_path / out).exists()

    for cell in ("rnn_tanh", "lstm", "gru", "gru_reset_before"):
        done, written = tried("keras", cell, "torch")
        assert (done.exit_code, written) == (0, True), done.output
        found, _ = files.read(tmp_path / "out.safetensors")
        assert np.array_equal(found["weight_hh_l0"], ours(cell)["W_hh"])
    for to, out in (("keras", "out"), ("haiku", "out"), ("onnx", "out.onnx")):
        done, written = tried("onnx", "gru", to, out)
        assert (done.exit_code, written) == (1, False)
        assert "may be those of gru or gru_reset_before: say which by --cell" in done.output
    assert tried("onnx", "gru", "torch")[0].exit_code == 0  # the same, whichever it is
    assert "rnn_tanh or rnn_relu" in tried("keras", "rnn_relu", "onnx", "out.onnx")[0].output


def test_a_file_that_cannot_be_converted_gets_one_sentence(tmp_path):
    path = tmp_path / "torch.safetensors"
    files.write(path, numpy_rnn.LSTM(I, H, rng=1).state_dict())
    done = convert(path, tmp_path / "x", "--from", "torch", "--to", "mlx", "--cell", "lstm")
    assert done.exit_code == 1
    assert f"Error: {path}: mlx's lstm has one bias: b_hh is not zero, and can only be merged" in done.output
    assert not (tmp_path / "x").exists()
    assert convert(path, tmp_path / "x", "--from", "torch", "--to", "mlx", "--cell", "lstm", "--merge").exit_code == 0
    done = convert(tmp_path / "x", tmp_path / "y", "--from", "torch", "--to", "keras", "--cell", "lstm")
    assert "is no parameter of a recurrent layer in torch" in done.output
    files.write(path, {"weights": np.zeros(10)})
    done = convert(path, tmp_path / "y", "--from", "cudnn", "--to", "torch", "--cell", "lstm")
    assert "H has to be given" in done.output
