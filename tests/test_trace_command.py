"""`numpy-rnn trace`: docstrings' equations carried out, against the cells' own code, and what the command says of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import trace_picture
from click.testing import CliRunner

import numpy_rnn
from numpy_rnn.cli import command
from numpy_rnn.cli.trace import SEED
from numpy_rnn.fast.registry import CELLS
from numpy_rnn.port.vectors.trace import trace as textbook
from numpy_rnn.study import verdict as verdicts
from numpy_rnn.study.document import document
from numpy_rnn.study.equations import code_lines, evaluate, module_of, of_docstring, read
from numpy_rnn.study.notation import FormulaError, expression
from numpy_rnn.study.verdict import BY_HAND, TOLERANCE, by_hand, verdict
from numpy_rnn.study.walk import dstates, functions_of, small_case, walk, with_step
from numpy_rnn.verify.difference import difference

ROOT = Path(numpy_rnn.__file__).parents[1]
SIZES = {"steps": 4, "inputs": 5, "hidden": 3, "projection": 2, "seed": 7}


def run(*arguments):
    return CliRunner().invoke(command, ["trace", *arguments])


@pytest.fixture(scope="module", params=CELLS)
def walked(request):
    return walk(small_case(request.param, **SIZES))


def close(a, b):
    error, *where = difference(np.asarray(a), np.asarray(b))
    assert error <= 1e-12, where


# --- the equations ------------------------------------------------------------------------------------------------


def test_the_notation_refuses_what_is_no_formula():
    for text in ("tanh or relu", "W_hh %", "(a", "∘ b"):
        with pytest.raises(FormulaError):
            expression(text)
    (equation,) = read("    (2)   h_t = f(a_t)        f = tanh or relu")
    assert (equation.text, equation.remark) == ("h_t = f(a_t)", "f = tanh or relu")


RNG = np.random.default_rng(0)
A, B, V, W = (RNG.standard_normal(shape) for shape in ((3, 3), (3, 2), (3, 1), (3, 1)))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("A B", A @ B),
        ("Aᵀ v", A.T @ V),
        ("v ∘ w + A v", V * W + A @ V),
        ("(1 - v²) ∘ w", (1 - V * V) * W),
        ("[v; w]", np.vstack([V, W])),
        ("diag(v) A", np.diag(V[:, 0]) @ A),
        ("tanh²(v)", np.tanh(V) ** 2),
    ],
)
def test_the_notation_means_what_it_says(text, meant):
    names = {"A": A, "B": B, "v": V, "w": W}
    np.testing.assert_array_equal(evaluate(expression(text), names.__getitem__, functions_of("lstm")), meant)


# --- the values ---------------------------------------------------------------------------------------------------


def test_everything_on_the_way_is_what_the_textbook_has(walked):
    """The textbook's code and the equations in its docstrings, carried out: every gate and every gradient of both."""
    found = textbook(walked.case)
    compared, names = set(), {*found.forward[0, 0], *found.backward[0, 0]}
    for values in (found.forward[0, 0], found.backward[0, 0]):
        for name, array in values.items():
            for t, v in enumerate(array[:, 0]):
                moment = t + 1 if name in ("h", "c", "dh", "dc") else t
                if any(value.name == f"{name}_{moment}" for value in walked.values):
                    close(walked.value(f"{name}_{moment}")[:, 0], v)
                    compared.add(name)
    assert names - compared <= {"tanh_c"}  # an inner part of a line, which the docstrings do not name


def test_two_forms_of_an_equation_agree(walked):
    """The docstring of the GRU has h_{t+1} in two forms: (1 - z) ∘ n + z ∘ h_t = n + z ∘ (h_t - n)."""
    others = [line for line in walked.lines if line.equation.others]
    assert bool(others) == walked.cell.name.startswith("gru")
    for line in others:
        at = {name: walked.values[index].array for name, index in line.inputs.items()}
        for other in line.equation.others:
            result = evaluate(other, at.__getitem__, functions_of(walked.cell.name))
            close(result, *(walked.values[index].array for index in line.outputs.values()))


def test_moments_stand_in_the_order_of_execution(walked):
    T = SIZES["steps"]
    forward, backward = (
        list(dict.fromkeys(e.number for e in es)) for es in of_docstring(module_of(walked.cell).__doc__)
    )
    expected = [("forward", t, n) for t in range(T) for n in forward]
    expected += [("backward", t, n) for t in reversed(range(T)) for n in backward]
    assert [(m.direction, m.step, m.number) for m in walked.moments] == expected
    for n, line in enumerate(walked.lines):  # nothing is computed from what comes later
        used = [*line.inputs.values()] + ([] if line.before is None else [line.before])
        assert all(walked.values[i].line is None or walked.values[i].line < n for i in used)
        assert all(walked.values[i].line == n for i in line.outputs.values())


def test_numbers_have_two_decimals_and_hide_nothing(walked):
    params = walked.case.params[0][0]
    for name, w in {**params._asdict(), "x": walked.case.x, "h_0": walked.case.s0[0], "G": walked.case.doutput}.items():
        np.testing.assert_array_equal(w, np.round(w, 2), name)
        assert np.any(w), name
    assert not np.array_equal(params.b_ih, params.b_hh)


def test_the_pieces_of_a_line_can_be_worked_out(walked):
    """What the page shows with numbers in the place of names, worked out by the notation's rules, gives the result."""
    found = document(walked, verdicts.Verdict({BY_HAND: {}}, ""), 7)
    value = [np.array(v["rows"]) for v in found["values"]]
    functions = functions_of(walked.cell.name)
    for line in found["lines"]:
        text, at = "", {}
        for piece in line["right"]:
            if piece["value"] is not None:
                name = f"N_{'x' * (len(at) + 1)}"
                at[name] = value[piece["value"]]
            text += piece["text"] if piece["value"] is None else name
        if walked.cell.name.startswith("rnn_"):  # f has its name
            activation = walked.cell.name.removeprefix("rnn_")
            assert (f"{activation}(" in text, f"{activation}'(" in text) == (
                line["number"] == "2",
                "f'(" in line["equation"],
            )
            text = text.replace(activation, "f")
        result = evaluate(expression(text), at.__getitem__, functions)
        if line["before"] is not None:
            result = value[line["before"]] + result
        close(np.concatenate([value[output] for output in line["outputs"]]), result)
        assert len(line["names"]) == len(line["outputs"])


# --- the Jacobian -------------------------------------------------------------------------------------------------


def test_the_local_jacobian_carries_the_gradient_to_the_step_before(walked):
    sent = dstates(walked.case)
    assert [j.step for j in walked.jacobians] == [3, 2, 1, 0]
    arrived = np.concatenate([ds[-1].T for ds in sent])
    for j in walked.jacobians:
        loss = np.concatenate([ds[j.step].T for ds in sent])
        close(j.arrived, arrived)
        close(j.loss, loss)
        close(j.carried, j.matrix.T @ j.arrived)
        close(j.carried + j.loss, j.result)
        assert np.any(j.carried)
        arrived = j.result
    start = np.concatenate([by_hand(walked.case)[f"d{field}_0"][0].T for field in walked.cell.State._fields])
    close(arrived, start)


def test_the_local_jacobian_is_that_of_the_cells_own_step(walked):
    """Column by column, by a complex step through one step of the cell's forward."""
    case, cell = walked.case, walked.cell
    states, _ = cell.forward(case.params[0][0], case.x, cell.State(*(s[0] for s in case.s0)))
    sizes = [s.shape[2] for s in states]
    for j in walked.jacobians:
        columns = []
        for k in range(sum(sizes)):
            flat = np.concatenate([s[j.step, 0] for s in states]) + 1e-30j * np.eye(sum(sizes))[k]
            s_t = cell.State(*(part[None] for part in np.split(flat, np.cumsum(sizes)[:-1])))
            after, _ = cell.forward(case.params[0][0], case.x[j.step : j.step + 1], s_t)
            columns.append(np.concatenate([s[1, 0].imag / 1e-30 for s in after]))
        close(j.matrix, np.stack(columns, axis=1))


# --- the code -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "function", "number", "name", "expected"),
    [
        ("rnn_relu", "backward", "2'", "da_t", ["da = dh[t + 1] * df(h[t + 1])  # (2') of h_{t+1} = f(a_t)"]),
        ("lstm", "forward", "2", "o", ["i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)  # (2)"]),
        ("lstm", "backward", "4'", "dc_{t+1}", ["dc[t + 1] += dh[t + 1] * o * (1 - np.tanh(c[t + 1]) ** 2)  # (4')"]),
        ("gru", "forward", "1", "v_t", ["v_r, v_z, v_n = np.split(W_hh @ h[t] + b_hh, 3)  # (1)"]),
        ("gru", "backward", "1'", "dx_t", ["dx[t] = W_ih.T @ du  # (1') of u_t = W_ih x_t + b_ih"]),
        (
            "gru_reset_before",
            "backward",
            "1'",
            "dW_h{r,z}",
            ["dW_hr += np.outer(du_r, h[t])  # (1')", "dW_hz += np.outer(du_z, h[t])  # (1')"],
        ),
    ],
)
def test_the_lines_of_code_are_the_right_ones(cell, function, number, name, expected):
    found = code_lines(CELLS[cell], function, number, name)
    assert [line.text for line in found] == expected
    for line in found:
        assert (ROOT / line.file).read_text(encoding="utf-8").splitlines()[line.line - 1].strip() == line.text


# --- the verdict --------------------------------------------------------------------------------------------------


def test_all_ways_agree(walked):
    pytest.importorskip("torch")
    found = verdict(walked)
    assert list(found.gradients) == [BY_HAND, "by equation", "complex step", "autograd"]
    assert found.ok
    assert found.note == ""
    for name in found.gradients[BY_HAND]:
        assert found.worst(name) <= TOLERANCE
    errors = [found.error(way, name) for way in found.gradients if way != BY_HAND for name in found.gradients[way]]
    if walked.cell.name != "rnn_relu":  # whose products of few numbers come out the same
        assert any(e > 0 for e in errors)  # they are computed apart


@pytest.mark.parametrize("way", ["by_hand", "by_complex_step", "by_autograd"])
def test_a_wrong_gradient_is_seen(way, monkeypatch):
    pytest.importorskip("torch")
    right = getattr(verdicts, way)

    def wrong(case):
        found = right(case)
        return {**found, "dW_hh": found["dW_hh"] * (1 + 1e-9)}

    monkeypatch.setattr(verdicts, way, wrong)
    done = run("--cell", "gru")
    assert done.exit_code == 1
    assert "The gradients differ" in done.output
    assert "1e-09 of the largest entry, in dW_hh" in " ".join(done.output.split())


def test_a_nan_is_no_agreement(walked):
    found = verdict(walked)
    broken = {**found.gradients[BY_HAND], "dx": np.full_like(walked.case.x, np.nan)}
    judged = verdicts.Verdict({**found.gradients, "complex step": broken}, "")
    assert not judged.ok
    assert judged.worst("dx") == np.inf
    assert '"inf"' in json.dumps(document(walked, judged, 7), allow_nan=False)  # JSON has no infinity


def test_without_pytorch_it_says_so(monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find(name, *rest))
    done = run("--cell", "gru")
    assert done.exit_code == 0
    assert "PyTorch is not installed, so there is no gradient by autograd: pip install" in " ".join(done.output.split())


# --- the command --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["rnn", *CELLS])
def test_it_prints_every_equation_of_every_step(cell):
    done = run("--cell", cell, "--steps", "2")
    assert done.exit_code == 0, done.output
    name = "rnn_tanh" if cell == "rnn" else cell
    text = re.sub(r"\s", "", done.output)
    for equations in of_docstring(module_of(CELLS[name]).__doc__):
        for e in equations:
            for t in (0, 1):
                assert f"({e.number})" in text
                head = re.sub(r"\s", "", with_step(e.text, t))[:14]  # what a line of the table surely holds
                assert head in text, head
    assert all(part in text for part in ("Theloss", "LocalJacobianofstep1", "Allagree"))
    assert "\x1b" not in done.output


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("cell", ["lstm", "gru_reset_before"])
def test_any_width_is_enough(cell, columns):
    done = CliRunner(env={"COLUMNS": str(columns), "TERM": "dumb"}).invoke(command, ["trace", "--cell", cell])
    assert done.exit_code == 0
    assert 50 < max(map(len, done.output.splitlines())) <= columns
    assert "…" not in done.output.replace("h_1 … h_T", "")  # nothing is cut off


def test_what_is_folded_has_its_shape():
    done = CliRunner(env={"COLUMNS": "60", "TERM": "dumb"}).invoke(command, ["trace", "--input", "8", "--hidden", "5"])
    lines = done.output.splitlines()
    folded = next(n for n, line in enumerate(lines) if line.startswith(" W_ih"))
    assert "5 × 8, folded:" in lines[folded]
    W_ih = small_case("rnn_tanh", 3, 8, 5, 1, SEED).params[0][0].W_ih
    following = re.findall(r"-?\d\.\d{4}", "".join(lines[folded + 1 : folded + 30]))
    assert following[:40] == [f"{v:.4f}" for v in W_ih.ravel()]
    wide = CliRunner(env={"COLUMNS": "120", "TERM": "dumb"}).invoke(command, ["trace", "--input", "8"])
    assert "folded" not in wide.output


def test_a_steps_term_stands_beside_the_sum_so_far():
    found = walk(small_case("rnn_tanh", 3, 3, 2, 1, SEED))
    text = re.sub(r" +", " ", run().output)
    sums = [line for line in found.lines if line.equation.targets == ("db_ih",)]
    assert [line.step for line in sums] == [2, 1, 0]
    for line in sums:
        term = found.value(f"da_{line.step}")
        add, total = (
            " ".join(f"{v:.4f}" for v in array[:, 0]) for array in (term, found.values[line.outputs["db_ih"]].array)
        )
        equation = f"db_ih += da_{line.step}"
        first = line.step == 2  # where the sum is the term
        assert (f"{equation} {add}" if first else f"{equation} add {add}") in text
        assert first or f"db_ih so far sum {total}" in text


def is_saturated(case):
    """Whether a pre-activation is beyond -2 … 2; for a gate or a candidate, by what becomes of it."""
    gate, candidate = 1 / (1 + np.exp([2, -2])), np.tanh([-2, 2])
    bounds = {"a": (-2, 2), **dict.fromkeys("iforz", gate), **dict.fromkeys("gn", candidate)}
    values = [(bounds[v.name[0]], v.array) for v in walk(case).values if v.name[0] in bounds and v.name[1] == "_"]
    return any(np.any((a <= low) | (high <= a)) for (low, high), a in values)


def test_the_default_seed_is_the_first_whose_units_are_not_saturated():
    cases = [[small_case(cell, 3, 3, 2, 1, seed) for cell in CELLS] for seed in range(SEED + 1)]
    assert [any(map(is_saturated, of_seed)) for of_seed in cases] == [True] * SEED + [False]


def test_a_terminal_without_unicode_is_no_reason_to_fail():
    done = CliRunner(charset="ascii").invoke(command, ["trace"])
    assert done.exit_code == 0
    assert "da_2 = dh_3 ? f'(a_2)" in done.output


def test_json_holds_everything(walked):
    sizes = ("--steps", "4", "--input", "5", "--hidden", "3", "--seed", "7")
    projection = ("--projection", "2") if walked.cell.name == "lstm_projection" else ()
    done = run("--cell", walked.cell.name, *sizes, *projection, "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found["ok"] is True
    assert found == json.loads(json.dumps(document(walked, verdict(walked), 7)))
    assert found["command"].split()[2:] == ["--cell", walked.cell.name, *sizes[:6], *projection, *sizes[6:]]
    by_name = {v["name"]: v["rows"] for v in found["values"]}
    np.testing.assert_array_equal(by_name["h_4"], walked.value("h_4"))  # numbers in full


def test_the_page_is_one_file_that_asks_for_nothing(tmp_path):
    target = tmp_path / "page.html"
    done = run("--cell", "lstm", "--html", str(target))
    assert done.exit_code == 0
    assert "holds the page" in done.output
    text = target.read_text(encoding="utf-8")
    assert not re.search(r"https?://(?!www\.w3\.org/)|@import|<link[^>]*href=\"(?!data:)|<script[^>]*src=", text)
    assert "{{" not in text
    assert json.loads(re.search(r'id="data">(.*)</script>', text)[1])["cell"] == "lstm"
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_a_page_is_not_overwritten_unasked(tmp_path):
    target = tmp_path / "page.html"
    target.write_text("mine", encoding="utf-8")
    done = run("--html", str(target))
    assert done.exit_code == 2
    assert "exists: replace it with --overwrite" in done.output
    assert target.read_text(encoding="utf-8") == "mine"
    done = run("--html", str(target), "--overwrite", "--json")
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert json.loads(done.stdout)["ok"] is True  # standard output is JSON alone
    assert "holds the page" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--cell", "transformer"], "cell is 'transformer', expected rnn, rnn_tanh"),
        (["--steps", "0"], "0 is not in the range 1<=x<=20"),
        (["--steps", "three"], "'three' is not a valid integer"),
        (["--hidden", "9"], "9 is not in the range 1<=x<=8"),
        (["--seed", "-1"], "-1 is not in the range x>=0"),
        (["--projection", "1"], "--projection is of --cell lstm_projection alone, this is rnn."),
        (["--overwrite"], "--overwrite replaces a page: it needs --html."),
        (["--html", "."], "File '.' is a directory"),
    ],
)
def test_a_mistake_gets_one_sentence(arguments, sentence):
    done = run(*arguments)
    assert done.exit_code == 2
    assert sentence in done.output
    assert "Traceback" not in done.output


def test_a_folder_that_is_not_there_is_named(tmp_path):
    done = run("--html", str(tmp_path / "none" / "page.html"))
    assert isinstance(done.exception, FileNotFoundError)  # which the command says in one sentence
    assert "none" in done.exception.filename


def test_the_readmes_picture_shows_this_page():
    pytest.importorskip("PIL", reason="Pillow is not installed: pip install pillow")
    name = trace_picture.PICTURE.name
    assert trace_picture.drawn() == trace_picture.fingerprint(), f"{name} shows an older page: run make picture"
