"""The checker for ports says what went wrong, and says it of every way to hand in numbers that a port may choose."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from numpy_rnn.cli import command
from numpy_rnn.fast.registry import CELLS
from numpy_rnn.port.vectors import cases, drive, formats
from numpy_rnn.port.vectors.check import NOISE, TIERS, check
from numpy_rnn.port.vectors.document import array, case_of, tensors_of
from numpy_rnn.verify import zoo

FORWARD = ("u_r", "u_z", "u_n", "v_r", "v_z", "v_n", "r", "z", "n", "h", "output", "h_n")
RESULTS = ("output", "h_n", "dx", "dh_0", "dW_ih", "dW_hh", "db_ih", "db_hh")
GIVEN = ("parameter", "input", "upstream")


def run(*args):
    return CliRunner().invoke(command, ["vectors", *map(str, args)])


def sigma(a):
    return 1 / (1 + np.exp(-a))


def gru_port(bug="", name="gru-plain"):
    """A port of the GRU as its author writes it: backward is right, unless the bug is in it, and uses what forward left."""
    case = cases.case(name)
    of = {n: array(t) for n, t in case["tensors"].items()}
    W, U, b, c, x = of["W_ih"], of["W_hh"], of["b_ih"], of["b_hh"], of["x"]
    T, B, H = len(x), x.shape[1], U.shape[1]
    used, bias = U, c
    if bug == "W_hh transposed":
        used = np.concatenate([block.T for block in np.split(U, 3)])
    if bug == "b_hn missing":
        bias = c * (np.arange(3 * H) < 2 * H)
    kept = {n: np.zeros((T, B, H)) for n in (*FORWARD[:10], "dh", "dn", "dz", "du_n", "dv_n", "dr", "du_r", "du_z")}
    before = np.zeros((T, B, H))
    h = of["h_0"][0]
    for t in range(T):
        before[t] = h
        u, v = np.split(x[t] @ W.T + b, 3, 1), np.split(h @ used.T + bias, 3, 1)
        r, z = sigma(u[0] + v[0]), sigma(u[1] + v[1])
        if bug == "r and z swapped":
            r, z = z, r
        if bug == "reset before":
            v[2] = (r * h) @ U[2 * H :].T + c[2 * H :]
        n = np.tanh(u[2] + (1 if bug == "reset before" else r) * v[2])
        h = z * n + (1 - z) * h if bug == "z turned around" else (1 - z) * n + z * h
        for key, value in zip(FORWARD, (*u, *v, r, z, n, h)):
            kept[key][t] = value
    dW, dU, db, dc, dx = (np.zeros_like(a) for a in (W, U, b, c, x))
    dh = of["dh_n"][0]
    for t in reversed(range(T)):
        r, z, n, v_n = (kept[key][t] for key in ("r", "z", "n", "v_n"))
        dh = dh + of["doutput"][t]
        dn, dz = dh * (1 - z), dh * (before[t] - n)
        du_n = dn * (1 - n**2)
        dv_n, dr = du_n * r, du_n * v_n
        du_r, du_z = dr * r * (1 - r), dz * z * (1 - z)
        for key, value in zip(list(kept)[10:], (dh, dn, dz, du_n, dv_n, dr, du_r, du_z)):
            kept[key][t] = value
        du, dv = np.concatenate([du_r, du_z, du_n], 1), np.concatenate([du_r, du_z, dv_n], 1)
        dW, dU, db, dc = dW + du.T @ x[t], dU + dv.T @ before[t], db + du.sum(0), dc + dv.sum(0)
        dx[t] = du @ W
        direct = 0 if bug == "direct path missing" else dh * z
        dh = direct + (du if bug == "du for dv" else dv) @ U
    results = (kept["h"].copy(), h[None], dx, dh[None], dW, dU, db, dc)
    return {**kept, **dict(zip(RESULTS, results))}


def report_of(bug, names=None):
    made = gru_port(bug)
    return check(cases.case("gru-plain"), {n: made[n] for n in names or made})


# ---- naming the mistake


def test_the_port_is_right_without_a_bug():
    report = report_of("")
    assert report.agrees
    assert len(report.checked) == 26


PLANTED = {
    "reset before": ("gru-reset-before-for-after", ("outputs", "results", "forward")),
    "r and z swapped": ("gru-gates-zrn", ("results", "results", "all")),
    "W_hh transposed": ("W_hh-transposed", ("all", "all", "all")),
    "b_hn missing": ("gru-b_hn-lost", ("all", "all", "all")),
    "z turned around": ("gru-z-turned-around", ("all", "all", "all")),
    "direct path missing": ("gru-direct-path-dropped", ("all", None, "all")),
    "du for dv": ("gru-du-through-W_hh", ("all", None, "all")),
}


@pytest.mark.parametrize(
    ("bug", "names"),
    [(bug, None) for bug in PLANTED]
    + [
        (bug, names)
        for bug in ("reset before", "W_hh transposed", "direct path missing")
        for names in (FORWARD, RESULTS)
    ],
)
def test_a_mistake_is_named_however_much_is_dumped(bug, names):
    name, spoken_of = PLANTED[bug]
    of = spoken_of[(None, FORWARD, RESULTS).index(names)]
    report = report_of(bug, names)
    if of is None:  # forward is right
        assert report.agrees
        return
    assert [m.name for m in report.mistakes] == [name]
    assert report.explanation.of == of
    if names is None and bug not in ("direct path missing", "du for dv") and of != "all":
        assert report.explanation.backward == "right"


def test_a_forward_mistake_is_said_to_be_in_forward_alone_if_backward_is_not_that_mistakes():
    assert [side for _, side in report_of("z turned around").explanation.causes] == ["forward"]
    right = case_of(cases.case("gru-plain"))
    both = tensors_of(right, zoo.mistake("gru-z-turned-around"))
    given = {n: t.value for n, t in both.items() if t.role not in GIVEN}
    assert [side for _, side in check(cases.case("gru-plain"), given).explanation.causes] == [""]
    only = tensors_of(right, zoo.mistake("gru-z-turned-around").only("gru", "backward"))
    given = {n: t.value for n, t in only.items() if t.role not in GIVEN}
    assert [side for _, side in check(cases.case("gru-plain"), given).explanation.causes] == ["backward"]


@pytest.mark.long
@pytest.mark.parametrize("cell", CELLS)
def test_every_mistake_made_in_forward_alone_is_named_from_everything(cell):
    found = cases.case(f"{cell}-plain")
    right = {n: t.value for n, t in tensors_of(case_of(found)).items()}
    tried = 0
    for mistake in zoo.mistakes(cell)[::4]:
        part = mistake.only(cell, "forward")
        try:
            made = tensors_of(case_of(found), part) if part else {}
        except (NameError, ValueError, TypeError):
            continue
        given = {n: t.value for n, t in made.items() if t.role not in GIVEN}
        if given and any(np.max(np.abs(given[n] - right[n]), initial=0) > 1e-6 for n in given):
            tried += 1
            report = check(found, given)
            assert mistake in report.mistakes or report.explanation.slips, mistake.name
    assert tried >= 2


@pytest.mark.parametrize(
    ("name", "how"),
    [("h", how) for how in ("nan", "all")] + [(name, "one entry") for name in ("r", "du_n", "db_hh")],
)
def test_a_single_wrong_tensor_is_no_mistake_of_the_zoo(name, how):
    """Mistakes without effect in this case, of lengths, dropout, a second direction, are not listed."""
    given = gru_port()
    if how == "all":
        given[name] = given[name] + np.linspace(1, 2, given[name].size).reshape(given[name].shape)
    else:
        given[name].flat[3] = {"one entry": given[name].flat[3] + 0.5, "nan": np.nan, "inf": np.inf}[how]
    report = check(cases.case("gru-plain"), given)
    assert (report.wrong, report.mistakes) == ((name,), ())


def test_only_mistakes_that_move_what_they_explain_are_listed():
    """dW_hh alone: named are those that spoil dW_hh, and none that leaves it as it is."""
    right = case_of(cases.case("gru-plain"))
    made = tensors_of(right, zoo.mistake("dW_hh-of-the-new-state"))
    report = check(cases.case("gru-plain"), {"dW_hh": made["dW_hh"].value, "h": tensors_of(right)["h"].value})
    assert [m.name for m in report.mistakes] == ["dW_hh-of-the-new-state"]


@pytest.mark.long
def test_a_mistake_below_the_tolerance_explains_nothing_above_it():
    """One of precision, by less than the tolerance of float32: it agrees with what is just beyond that, and so does none."""
    found, tried = cases.case("gru-plain"), 0
    for mistake in (m for m in zoo.mistakes("gru") if m.group == "precision"):
        made = tensors_of(case_of(found), mistake)
        for name, tensor in found["tensors"].items():
            right, off = array(tensor), made[name].value - array(tensor)
            at = np.unravel_index(np.argmax(np.abs(off)), off.shape)
            allowed = max(TIERS["f32"], NOISE * tensor.get("noise", {}).get("float32", 0)) * np.max(np.abs(right))
            if allowed * 1e-6 < abs(off[at]) < allowed:
                tried += 1
                given = right.copy()
                given[at] = made[name].value[at] + np.sign(off[at]) * allowed * (1 - 1e-9)
                report = check(found, {name: given}, "f32")
                assert (report.wrong, report.mistakes) == ((name,), ()), (mistake.name, name)
    assert tried


SLIPS = {
    "at step t it has what belongs to step t - 1: h[t], where h[t + 1] is expected": (
        "h",
        lambda h: np.concatenate([array(cases.case("gru-plain")["tensors"]["h_0"]), h[:-1]]),
    ),
    "at step t it has what belongs to step t + 1": ("dh", lambda dh: np.concatenate([dh[1:], dh[-1:]])),
    "its steps are in reverse order": ("dx", lambda dx: dx[::-1]),
    "it stands sequence by sequence, (B, T, ·), instead of step by step, (T, B, ·)": (
        "output",
        lambda y: y.swapaxes(0, 1).reshape(y.shape),
    ),
    "it stands column by column instead of row by row: the last index has to run fastest": (
        "z",
        lambda w: w.ravel("F").reshape(w.shape),
    ),
}


def test_a_mistake_of_the_zoo_that_only_moves_numbers_is_named_as_well():
    case = case_of(cases.case("gru-plain"))
    made = tensors_of(case, zoo.mistake("dW_ih-in-the-other-layout"))
    report = check(cases.case("gru-plain"), {n: t.value for n, t in made.items() if t.role not in GIVEN})
    assert [m.name for m in report.mistakes] == ["dW_ih-in-the-other-layout"]
    assert set(report.explanation.slips) == {"dW_ih"}


@pytest.mark.parametrize("how", SLIPS)
def test_right_numbers_in_a_wrong_place_are_said_so(how):
    name, moved = SLIPS[how]
    given = gru_port()
    given[name] = moved(given[name])
    report = check(cases.case("gru-plain"), given)
    assert report.wrong == (name,)
    assert report.explanation.slips == {name: how}
    assert report.mistakes == ()


def test_two_bugs_at_once_are_found_one_in_what_was_dumped_and_one_in_its_place():
    given = gru_port("direct path missing")
    given["h"] = np.concatenate([array(cases.case("gru-plain")["tensors"]["h_0"]), given["h"][:-1]])
    report = check(cases.case("gru-plain"), {n: v for n, v in given.items() if n not in RESULTS})
    assert set(report.explanation.slips) == {"h"}
    assert [m.name for m in report.mistakes] == ["gru-direct-path-dropped"]


def test_a_wrong_backward_is_named_behind_a_wrong_forward_that_nothing_explains():
    case, found = case_of(cases.case("gru-plain")), cases.case("gru-plain")
    forward = {n: t.value for n, t in tensors_of(case).items() if t.role == "forward"}
    forward["n"] = forward["n"] * 1.25
    forward["h"] = (1 - forward["z"]) * forward["n"] + forward["z"] * 0.5
    for mistakes, named, verdict in (((), [], "right"), (("gru-dz-sign",), ["gru-dz-sign"], "wrong")):
        made = tensors_of(case, *map(zoo.mistake, mistakes), own=forward)
        given = {n: t.value for n, t in made.items() if t.role in ("backward", "result")} | forward
        given = {n: v for n, v in given.items() if n not in ("output", "h_n")}
        report = check(found, given)
        assert [m.name for m in report.mistakes] == named
        assert report.explanation.backward == verdict


def test_a_mistake_in_forward_and_another_in_backward_are_both_named(tmp_path):
    case, found = case_of(cases.case("gru-plain")), cases.case("gru-plain")
    first, second = (
        zoo.mistake("gru-z-turned-around").only("gru", "forward"),
        zoo.mistake("gru-dr-of-the-other-variant"),
    )
    made = tensors_of(case, first, second)
    given = {n: t.value for n, t in made.items() if t.role not in GIVEN}
    report = check(found, given)
    assert [m.name for m in report.mistakes] == ["gru-z-turned-around", "gru-dr-of-the-other-variant"]
    out = run("check", csv_of(given, tmp_path / "gru-plain.csv")).output
    assert "\n  forward, these numbers come out when z weighs the candidate" in out
    assert "\n  backward, given your forward values, these numbers come out when " in out


# ---- the first difference


def test_entries_and_equations_are_counted_alike():
    given = gru_port("direct path missing")
    first = check(cases.case("gru-plain"), given).first
    assert first.where[0] == 2
    assert first.by == (
        "dh[3] = doutput[2]; dh[3] += dh[4] * z; dh[3] += W_hh.T @ dv at t = 3, where dv = (du_r, du_z, dv_n)"
    )
    given = gru_port()
    given["dh"][3, 1, 2] += 1
    assert check(cases.case("gru-plain"), given).first.by == "dh[4] = doutput[3] + dh_n"
    given = gru_port()
    given["h"][0, 0, 1] += 1
    assert check(cases.case("gru-plain"), given).first.by == "h[1] = (1 - z) * n + z * h[0] at t = 0"


def test_the_second_direction_is_counted_in_its_own_order():
    found = cases.case("gru-stacked")
    given = {n: t.value.copy() for n, t in tensors_of(case_of(found)).items() if t.role == "forward"}
    given["r_l1_reverse"][1, 0, 2] += 0.5  # sequence 0 has 2 steps
    given["u_r_l1_reverse"][0, 0, 2] += 0.5  # later
    first = check(found, given).first
    assert first.by == "r = sigmoid(u_r + v_r) at t = 0, counted in the second direction's own order"
    assert first.agree == ("u_r_l1_reverse", "v_r_l1_reverse")
    given = {n: t.value.copy() for n, t in tensors_of(case_of(found)).items() if t.role == "forward"}
    given["r_l0"][4, 0, 1] = 1.0
    assert check(found, given).first.by == "the padding: sequence 0 has 2 steps"


def test_what_an_equation_reads_agrees_or_not_at_that_entry_alone():
    given = gru_port()
    given["r"][1, 0, 2] += 0.25
    given["v_r"][2, 0, 2] += 0.25  # later
    given["u_r"][1, 0, 3] += 0.0
    first = check(cases.case("gru-plain"), given).first
    assert (first.tensor, first.where) == ("r", (1, 0, 2))
    assert first.agree == ("u_r", "v_r")
    given["v_r"][1, 0, 2] += 0.25
    given["h"][1, 0] += 0.25  # h[2], where v_r at t = 1 reads h[1]
    first = check(cases.case("gru-plain"), given).first
    assert first.tensor == "v_r"
    assert str(first).endswith("; h agrees there")


def test_two_numbers_that_differ_are_printed_so_that_they_do():
    given = gru_port()
    given["h"][0, 0, 0] *= 1 + 1e-11
    text = str(check(cases.case("gru-plain"), {"h": given["h"]}).first)
    got, expected = text.split(" is ")[1].split(", by")[0].split(", expected ")
    assert got != expected
    assert float(got) == given["h"][0, 0, 0]


def test_a_drift_has_grown_and_a_difference_at_the_first_step_has_not():
    right = array(cases.case("gru-plain")["tensors"]["output"])
    off = right.copy()
    off[0] *= 1.08
    off[1:] *= 1.01
    first = check(cases.case("gru-plain"), {"output": off}).first
    assert (first.where[0], first.kind) == (0, "")
    growing = right + 1e-12 * np.array([0.5, 2, 8, 16])[:, None, None] * np.max(np.abs(right))
    text = str(check(cases.case("gru-plain"), {"output": growing}).first)
    assert "; grown from a difference of " in text
    assert "at step 1" in text


@pytest.mark.parametrize("digits", ["%g", "float"])
def test_few_digits_and_float_get_the_tolerance_that_fits(digits, tmp_path):
    values = gru_port()
    rows = [
        f"{n},{i},{v:g}" if digits == "%g" else f"{n},{i},{np.float32(v):.9g}"
        for n, a in values.items()
        for i, v in enumerate(a.ravel().tolist())
    ]
    path = tmp_path / "gru-plain.csv"
    path.write_text("\n".join(rows))
    done = run("check", path)
    assert done.exit_code == 1
    assert "everything agrees at --tolerance f32: does the port compute in float, or print fewer digits" in done.output
    assert "none of the known mistakes" not in done.output
    assert run("check", path, "--tolerance", "f32").exit_code == 0


# ---- files


def csv_of(values, path):
    rows = [f"{n},{i},{v!r}" for n, a in values.items() for i, v in enumerate(a.ravel().tolist())]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_the_cases_themselves_are_no_answers(tmp_path):
    folder = tmp_path / "cases"
    for kind in ("bin", "json", "npz", "safetensors"):
        assert run("write", folder, "--case", "gru-plain", "--format", kind).exit_code == 0
    done = run("check", folder)
    assert done.exit_code == 2
    assert "gru-plain.bin" in done.output
    assert "no port's answers" in done.output
    assert "agree." not in done.output
    csv_of(gru_port(), folder / "gru-plain.csv")
    done = run("check", folder)
    assert done.exit_code == 0
    assert "Left out: " in done.output
    assert "1 of 1 case agrees." in done.output


def test_two_files_for_one_case_are_told_apart(tmp_path):
    csv_of(gru_port(), tmp_path / "gru-plain.csv")
    np.savez(tmp_path / "gru-plain.npz", **gru_port("direct path missing"))
    lines = run("check", tmp_path).output.splitlines()
    assert f"gru-plain ({tmp_path / 'gru-plain.csv'}): agrees, 26 tensors compared" in lines
    assert f"gru-plain ({tmp_path / 'gru-plain.npz'}): differs, 26 tensors compared" in lines
    found = json.loads(run("check", tmp_path, "--json").output)
    assert [Path(report["file"]).suffix for report in found] == [".csv", ".npz"]


def test_one_file_that_is_no_answer_does_not_stop_the_others(tmp_path):
    csv_of(gru_port(), tmp_path / "gru_plain.csv")  # as --format c spells it
    csv_of(gru_port(), tmp_path / "gru-plan.csv")
    csv_of(gru_port(), tmp_path / "g.csv")
    done = run("check", tmp_path)
    assert done.exit_code == 1
    assert "gru-plain: agrees" in done.output
    assert f"{tmp_path / 'g.csv'}: there is no case 'g'" in done.output
    assert f"{tmp_path / 'gru-plan.csv'}: there is no case 'gru-plan' (gru-plain?)" in done.output
    assert "1 of 1 case agrees, 2 files not judged." in done.output
    found = json.loads(CliRunner().invoke(command, ["vectors", "check", str(tmp_path), "--json"]).stdout)
    assert [report["agrees"] for report in found] == [True, False, False]
    assert [Path(r["file"]).name for r in found if "error" in r] == ["g.csv", "gru-plan.csv"]


FILES = [
    ("gru-plain.csv", b"", "is empty: did the port write anything?"),
    ("gru-plain.csv", b"h,0,\xff\n", "is no text: byte 4 is 0xff"),
    ("gru-plain.json", b'{"h": "\xff"}', "is no text: byte 7 is 0xff"),
    (
        "gru-plain.json",
        b'{"tensors": {"h": [[1], [1, 2]]}}',
        "h is no array of numbers: its lists have different lengths",
    ),
    ("gru-plain.json", b'{"tensors": [1]}', '"tensors" is no object with names and numbers'),
    ("gru-plain.csv", b"h,0,1\nh,1,2\nh,0,3\n", "line 3: h has index 0 twice"),
    ("gru-plain.csv", b"h,0,1\nh,1,2\nh,3,3\n", "h lacks index 2: it has 3 values, the largest index is 3"),
    ("gru-plain.csv", b"h,1,1\nh,2,2\n", "the indices of h begin at 1, expected 0"),
    ("gru-plain.txt", b"hello\n", "needs gru-plain.bin beside it, which is not there"),
    ("missing.csv", None, "no such file or folder"),
    ("missing", None, "no such file or folder"),
]


@pytest.mark.parametrize(("name", "content", "message"), FILES)
def test_what_is_wrong_with_a_file_is_said_with_its_name(name, content, message, tmp_path):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    done = run("check", path)
    assert done.exit_code == 2
    assert message in done.output
    assert str(path.with_suffix("")) in done.output
    assert "Traceback" not in done.output


def test_a_tensor_of_the_wrong_size_is_set_apart_from_those_that_agree(tmp_path):
    given = gru_port()
    rows = [f"{n},{i},{v!r}" for n, a in given.items() for i, v in enumerate(a.ravel().tolist())]
    path = tmp_path / "gru-plain.csv"
    path.write_text("\n".join(row for row in rows if not row.startswith("h,39,")))
    done = run("check", path)
    assert done.exit_code == 1
    assert "gru-plain: 25 agree; not judged in full" in done.output
    assert "  h cannot be judged: 39 values, expected 40 = 4 x 2 x 5" in done.output


@pytest.mark.parametrize("tolerance", ["-1", "0", "nan", "inf"])
def test_a_tolerance_is_a_number_above_0(tolerance, tmp_path):
    done = run("check", csv_of(gru_port(), tmp_path / "gru-plain.csv"), "--tolerance", tolerance)
    assert done.exit_code == 2
    assert "or a number above 0" in done.output


def test_endings_may_be_capitals_and_a_pair_counts_once(tmp_path):
    path = csv_of(gru_port(), tmp_path / "gru-plain.CSV")
    assert "1 of 1 case agrees." in run("check", path).output
    assert "1 of 1 case agrees." in run("check", tmp_path).output
    path.unlink()
    values = gru_port()
    offset, lines = 0, ["case gru-plain gru"]
    for name, value in values.items():
        lines.append(" ".join(map(str, (name, "result", offset, value.ndim, *value.shape))))
        offset += value.nbytes
    (tmp_path / "mine.bin").write_bytes(b"".join(v.astype("<f8").tobytes() for v in values.values()))
    (tmp_path / "mine.txt").write_text("\n".join(lines))
    done = run("check", tmp_path / "mine.bin", tmp_path / "mine.txt")
    assert "1 of 1 case agrees." in done.output


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("nan", np.nan),
        ("-nan", np.nan),
        ("-nan(ind)", np.nan),
        ("1.#QNAN", np.nan),
        ("-1.#INF", -np.inf),
        ("INF", np.inf),
    ],
)
def test_what_c_libraries_print_for_no_number(text, value, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(f"h,0,{text}\n")
    assert np.array_equal(formats.read(path, lambda _: None)[1]["h"], [value], equal_nan=True)


# ---- a port that is driven

PORT = """
import json, os, signal, sys, time
for line in sys.stdin:
    case = json.loads(line)
    {answer}
"""


def driven(tmp_path, answer, *options):
    (tmp_path / "port.py").write_text(PORT.format(answer=answer))
    return run("run", *options, "--", sys.executable, tmp_path / "port.py")


ONE = ("--case", "gru-plain")
SKIP = "print(json.dumps({'skip': 'x'}), flush=True)"
ANSWERS = [
    ("print('{}', flush=True)", 'answered gru-plain without "tensors" or "skip"'),
    ("print(line, flush=True)", "cannot be judged, nothing that had to be computed was given"),
    ('print(\'{"tensors": {"h": [1, nan]}}\', flush=True)', "in which 'nan' is not JSON: write NaN"),
    ('print(\'{"tensors": {"h": [-inf]}}\', flush=True)', "in which '-inf' is not JSON: write Infinity"),
    ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by signal 11: segmentation fault at gru-plain"),
    ("os._exit(139)", "ended with status 139 (signal 11: segmentation fault) at gru-plain"),
    ("print(json.dumps({'tensors': {'h_n': [[1], [1, 2]]}}), flush=True)", "h_n is no array of numbers: its lists"),
]


@pytest.mark.parametrize(("answer", "message"), ANSWERS, ids=[message for _, message in ANSWERS])
def test_an_answer_that_is_none_is_said_to_be(answer, message, tmp_path):
    done = driven(tmp_path, answer, *ONE)
    assert done.exit_code == 1
    assert message in done.output
    assert "0 of 1 case agrees, 0 skipped" in done.output


@pytest.mark.parametrize("form", ["a.ravel().tolist()", "a.tolist()", "{'shape': a.shape, 'data': a.ravel().tolist()}"])
def test_numbers_may_be_flat_nested_or_as_in_the_request(form, tmp_path):
    np.savez(tmp_path / "answers.npz", **gru_port())
    answer = (
        f"import numpy as np; f = np.load({str(tmp_path / 'answers.npz')!r}); "
        f"print(json.dumps({{'tensors': {{n: {form.replace('a.', 'f[n].')} for n in f.files}}}}), flush=True)"
    )
    done = driven(tmp_path, answer, *ONE)
    assert done.exit_code == 0, done.output
    assert "gru-plain: agrees, 26 tensors compared" in done.output


@pytest.mark.parametrize(
    ("write", "message"),
    [
        ("", "took more than 1 s at gru-plain; does it flush its output after each line (fflush(stdout))?"),
        (
            "sys.stdout.write('{\"tensors\"'); sys.stdout.flush(); ",
            "wrote 10 bytes and no end of line within 1 s at gru-plain",
        ),
    ],
)
def test_a_port_that_does_not_flush_is_asked_whether_it_does(write, message, tmp_path):
    done = driven(tmp_path, f"{write}time.sleep(30)", *ONE, "--timeout", 1)
    assert message in done.output
    assert "does it flush its output" in done.output


def test_a_shell_around_a_port_that_hangs_is_killed_with_all_it_started(tmp_path):
    script = tmp_path / "slow.sh"
    script.write_text(f"#!/bin/sh\nread l\nsh -c 'echo $$ > {tmp_path}/pid; exec sleep 300'\n")
    script.chmod(0o755)
    began = time.monotonic()
    done = run("run", *ONE, "--timeout", 1, "--", script)
    assert time.monotonic() - began < 20
    assert "took more than 1 s" in done.output
    assert gone(int((tmp_path / "pid").read_text()))


def gone(pid):
    """Whether a process has ended, within some seconds; one that nobody has waited for counts."""
    for _ in range(50):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


def test_a_port_that_crashes_fails_one_case_and_goes_on(tmp_path):
    answer = f"os.abort() if case['case'] == 'gru-square' else {SKIP}"
    done = driven(tmp_path, answer, *(a for n in ("gru-plain", "gru-square", "lstm-plain") for a in ("--case", n)))
    assert done.exit_code == 1
    assert "gru-square: failed, " in done.output
    assert "killed by signal 6" in done.output
    assert "lstm-plain: skipped, x" in done.output
    assert "0 of 1 case agrees, 2 skipped, 1 failed." in done.output


def test_a_port_that_always_crashes_is_not_started_for_ever(tmp_path):
    done = driven(tmp_path, "os.abort()")
    assert done.output.count(": failed, ") == drive.FAILURES
    assert f"failed {drive.FAILURES} times in a row, and is not started again" in done.output
    assert f"0 of {drive.FAILURES} cases agree, 0 skipped, {drive.FAILURES} failed." in done.output
    assert done.exit_code == 1


def test_ctrl_c_ends_the_port_and_sums_up(tmp_path):
    """A port that ignores the signal is killed as well."""
    (tmp_path / "port.py").write_text(
        "import os, signal, sys, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        'sys.stdin.readline(); print(\'{"skip": "x"}\', flush=True)\n'
        f"sys.stdin.readline(); open({str(tmp_path / 'asleep')!r}, 'w').close(); time.sleep(60)\n"
    )
    line = [sys.executable, "-m", "numpy_rnn", "vectors", "run", "--", sys.executable, tmp_path / "port.py"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for _ in range(300):
            if (tmp_path / "asleep").exists():
                break
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGINT)
        began = time.monotonic()
        out, _ = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert process.returncode == 130, out
    assert "0 of 0 cases agree, 1 skipped." in out
    assert gone(int((tmp_path / "pid").read_text()))


def test_what_cannot_be_injected_is_said_and_steps_keep_their_numbers(tmp_path):
    done = driven(
        tmp_path, SKIP, "--inject", "--case", "gru-stacked", "--case", "gru-bidirectional", "--case", "adam-steps"
    )
    assert "gru-stacked: skipped, cannot be injected: 2 layers" in done.output
    assert "gru-bidirectional: skipped, cannot be injected: two directions" in done.output
    assert "adam-steps: skipped, cannot be injected: an optimizer" in done.output
    document = cases.case("gru-ragged")
    step = list(drive.single_steps(document))[2]  # sequences of 2, 4 and 1 steps: one is left
    given = {n: array(t) for n, t in step["tensors"].items() if t["role"] not in GIVEN}
    given["r"][0, 0, 1] += 0.25
    first = check(step, given).first
    assert first.where == (2, 1, 1)
    assert first.by == "r = sigmoid(u_r + v_r) at t = 2"


# ---- what is printed


def test_the_report_is_json_whatever_the_numbers(tmp_path):
    def refused(word):
        raise AssertionError(word)

    given = gru_port()
    given["h"][:] = np.nan
    given["h"][2] = np.inf
    out = run("check", csv_of(given, tmp_path / "gru-plain.csv"), "--json").output
    (report,) = json.loads(out, parse_constant=refused)
    assert (report["first"]["got"], report["first"]["before"]) == ("nan", 0)
    infinite = {n: array(t) for n, t in cases.case("rnn_tanh-infinite")["tensors"].items() if t["role"] not in GIVEN}
    for value in infinite.values():
        value[~np.isfinite(value)] = 1.0
    out = run("check", csv_of(infinite, tmp_path / "rnn_tanh-infinite.csv"), "--json").output
    (report,) = json.loads(out, parse_constant=refused)
    assert report["first"]["expected"] in ("inf", "-inf", "nan")


def test_a_single_number_has_no_place():
    found = cases.case("adam-steps")
    given = {n: array(t) for n, t in found["tensors"].items() if t["role"] == "forward" or n == "lr"}
    given["lr"] = given["lr"] + 1
    assert str(check(found, given).first) == "lr is 1.125, expected 0.125"


def test_one_is_no_plural(tmp_path):
    path = tmp_path / "gru-plain.csv"
    path.write_text("".join(f"h_n,{i},{v!r}\n" for i, v in enumerate(gru_port()["h_n"].ravel().tolist())))
    done = run("check", path)
    assert "gru-plain: agrees, 1 tensor compared\n" in done.output
    assert done.output.endswith("1 of 1 case agrees.\n")


def test_the_lines_of_a_report_name_the_mistake_and_the_function(tmp_path):
    lines = run("check", csv_of(gru_port("z turned around"), tmp_path / "gru-plain.csv")).output
    assert "just these numbers come out when, in forward alone, z weighs the candidate" in lines
    lines = run("check", csv_of(gru_port("reset before"), tmp_path / "gru-plain.csv")).output
    assert "the states and outputs, not all of the steps, come out when the reset gate acts before" in lines
    assert "backward is right, given your forward values" in lines


# ---- the page

PAGE = Path(__file__).parent.parent / "docs" / "port" / "vectors.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_the_page_shows_what_is_printed(tmp_path):
    made = tensors_of(case_of(cases.case("lstm-plain")), zoo.mistake("lstm-path-through-c-dropped"))
    given = {n: t.value for n, t in made.items() if t.role in ("forward", "backward", "result")}
    printed = run("check", csv_of(given, tmp_path / "lstm-plain.csv")).output
    assert printed in [text for _, text in BLOCKS]


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, cc")
def test_the_c_on_the_page_reads_every_case(tmp_path):
    reader, printing = (text for language, text in BLOCKS if language == "c")
    (tmp_path / "main.c").write_text(
        f"#include <stdio.h>\n#include <stdlib.h>\n{reader}\nint main(int argc, char **argv) {{\n"
        '    int k; size_t i; (void)argc; read_case(fopen(argv[1], "r"), fopen(argv[2], "rb"));\n'
        "    for (k = 0; k < count; k++) for (i = 0; i < tensors[k].size; i++)\n"
        '        printf("%s,%zu,%.17g\\n", tensors[k].name, i, tensors[k].data[i]);\n'
        "    return T + B + I + H + R + L + D == 0;\n}\n"
    )
    assert '"h,%d,%.17g\\n"' in printing
    strict = ["-std=c99", "-Wall", "-Werror", "-O1"]
    subprocess.run(["cc", *strict, "main.c", "-o", "main"], cwd=tmp_path, check=True)
    assert run("write", tmp_path / "cases", "--format", "bin").exit_code == 0
    for name in cases.names():
        stem = tmp_path / "cases" / name
        done = subprocess.run(
            [tmp_path / "main", f"{stem}.txt", f"{stem}.bin"], check=True, capture_output=True, text=True
        )
        (tmp_path / "back.csv").write_text(done.stdout)
        _, tensors = formats.read(tmp_path / "back.csv", lambda _: None)
        for n, t in cases.case(name)["tensors"].items():
            if t["data"]:
                assert np.array_equal(tensors[n], array(t).ravel(), equal_nan=True), (name, n)


def test_gradients_begin_where_the_page_says():
    """dh of each layer and direction at a sequence's last own step, in a stack with lengths, two directions and dropout."""
    of = {n: array(t) for n, t in cases.case("gru-stacked")["tensors"].items()}
    sent = {1: of["doutput"], 0: (of["dx_l1"] + of["dx_l1_reverse"]) * of["mask_l0"]}
    for l in (0, 1):
        for d, half in enumerate(np.split(sent[l], 2, axis=2)):
            for b, n in enumerate(cases.case("gru-stacked")["lengths"]):
                last = 0 if d else n - 1
                dh = of[f"dh_l{l}{'_reverse' if d else ''}"]
                np.testing.assert_allclose(
                    dh[last, b], half[last, b] + of["dh_n"][2 * l + d, b], rtol=1e-13, atol=1e-13
                )
                assert not dh[n:, b].any()
    np.testing.assert_allclose(of["dx"], of["dx_l0"] + of["dx_l0_reverse"], rtol=0, atol=1e-13)
