"""The bug zoo: every mistake shows, no two look alike, a check kills each, and diagnose names them, never the innocent."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
import torch

import numpy_rnn
from numpy_rnn.fast.registry import CELLS
from numpy_rnn.verify import zoo
from numpy_rnn.verify.difference import FORWARD, TOLERANCES
from numpy_rnn.verify.zoo import report
from numpy_rnn.verify.zoo.checks import CHECKS, Subject, reference
from numpy_rnn.verify.zoo.mistake import patched, source

EACH_CELL = pytest.mark.parametrize("cell", CELLS)
EACH_DTYPE = pytest.mark.parametrize("dtype", TOLERANCES)


@cache
def results(cell, name=None):
    """What the textbook says of the zoo's cases, with one mistake or none."""
    planted = () if name is None else (zoo.mistake(name),)
    return [zoo.machine(cell, *planted).run(case) for case in zoo.cases(cell)]


def vectors(cell):
    """Per mistake, the numbers of all cases in units of their tensor's largest entry; "" is the textbook itself."""
    scales = [{name: np.max(np.abs(a)) or 1 for name, a in right.items()} for right in results(cell)]
    names = ["", *(m.name for m in zoo.mistakes(cell))]
    rows = [
        np.concatenate(
            [np.ravel(a / s[n]) for s, found in zip(scales, results(cell, name or None)) for n, a in found.items()]
        )
        for name in names
    ]
    return names, np.array(rows)


def test_the_cases_hide_nothing():
    for cell in CELLS:
        plain, stacked, square = zoo.cases(cell)[:3]
        T, B, I = stacked.x.shape
        H = stacked.s0[-1].shape[2]
        assert len({T, B, I, H}) == 4
        assert len({*plain.x.shape, plain.s0[-1].shape[2]}) == 4
        assert len(set(stacked.lengths)) == 3
        assert square.x.shape[2] == square.s0[-1].shape[2]
        assert not any(s.any() for s in square.s0)
        for case in (plain, stacked):
            assert all(np.count_nonzero(s) > 0.8 * s.size for s in (*case.s0, *case.ds_n, case.doutput))
        for case in (plain, stacked, square):
            for p in (p for layer in case.params for p in layer):
                assert not np.array_equal(p.b_ih, p.b_hh)
            # The same numbers in every dtype, even with the 8 significant digits of bfloat16.
            for a in (
                case.x,
                case.doutput,
                *case.s0,
                *case.ds_n,
                *(w for layer in case.params for p in layer for w in p),
            ):
                assert np.array_equal(a.astype(np.float16), a)
                assert np.array_equal(torch.tensor(a).bfloat16().double().numpy(), a)


def test_mistakes_are_told_in_full():
    names = [m.name for m in zoo.mistakes()]
    assert len(names) == len(set(names)) >= 60
    for m in zoo.mistakes():
        assert " " not in m.name
        assert m.story.endswith("."), m.story
        assert not m.what.endswith(".")
        assert "Seen:" not in m.story or re.search(r"Seen: (\w[\w.-]*/[\w.-]+#\d+(, |\.$))+", m.story), m.story
        for cell, changes in m.changes.items():
            assert cell in CELLS
            for change in changes:
                assert source(change.module).count(change.original) == 1
                assert change.original != change.broken
            assert m.diff(cell)
            # Small: what is replaced is some lines, not a program.
            assert sum(line.startswith("-") for line in m.diff(cell).splitlines()) <= 8, m.name


def test_mistakes_on_the_same_line_cannot_be_planted_together():
    a, b = zoo.mistake("lstm-path-through-i-dropped"), zoo.mistake("lstm-di-and-dg-swapped")
    with pytest.raises(LookupError, match=r"occurs 0 times in lstm\.py"):
        zoo.machine("lstm", a, b)
    assert patched("lstm", ()) == source("lstm")


@EACH_CELL
def test_every_mistake_shows_and_no_two_look_alike(cell):
    names, rows = vectors(cell)
    precision = {m.name for m in zoo.mistakes(cell) if m.group == "precision"}
    for i, name in enumerate(names):
        apart = np.max(np.abs(rows[i + 1 :] - rows[i]), axis=1, initial=0)
        for other, distance in zip(names[i + 1 :], apart):
            # A hundred times what is allowed in float32 and more than what is in float16; rounding shows in float64.
            allowed = 1e-8 if {name, other} & precision else 0.05
            assert distance > allowed, f"{cell}: {name or 'no mistake'} and {other} are {distance:.1e} apart"


def every_mistake_is_killed(kills):
    survivors = [(name, cell) for name, cells in kills.items() for cell, checks in cells.items() if not checks]
    assert survivors == []


@EACH_CELL
def test_the_textbook_passes_every_check(cell):
    subject = Subject(cell)
    for check in CHECKS:
        assert check.error(subject) < 1e-13, check.name


def every_check_kills_something(kills):
    everything = set().union(*(checks for cells in kills.values() for checks in cells.values()))
    assert everything == {check.name for check in CHECKS}


def test_a_check_that_raises_or_says_nan_kills():
    nothing = CHECKS[0]._replace(error=lambda subject: np.nan)
    assert not nothing.passes(Subject("gru"))
    assert not nothing._replace(error=lambda subject: [][1]).passes(Subject("gru"))
    assert CHECKS[0].passes(Subject("gru"))


def backward_mistakes_are_killed_without_a_reference(kills):
    """Where forward is right and some gradient is wrong, the complex step must see it: it needs nothing to compare with."""
    for name, cells in kills.items():
        for cell, checks in cells.items():
            if "values" not in checks and checks & {"parameter gradients", "input gradient", "state gradients"}:
                assert "complex step" in checks, (name, cell)


def the_page_names_every_mistake_and_its_checks(kills):
    page = report.markdown(kills)
    for name, cells in kills.items():
        _, _, entry = page.partition(f"\n#### {name}\n")
        killed_by = re.search(r"^Killed by: (.*)\.$", entry, re.MULTILINE)[1].replace(" (some cells)", "")
        assert set(killed_by.split(", ")) == set().union(*cells.values()), name


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.long)])
def test_the_kill_matrix(every):
    """One test, so that parallel runs compute the matrix once: of every sixth mistake, and with make long of all."""
    kills = report.kills(zoo.mistakes()[::every])
    every_mistake_is_killed(kills)
    backward_mistakes_are_killed_without_a_reference(kills)
    the_page_names_every_mistake_and_its_checks(kills)
    if every == 1:
        every_check_kills_something(kills)


# --- diagnose


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.long)])
@EACH_CELL
def test_every_single_mistake_is_named(cell, every):
    """On each case, from all tensors: the mistake is named alone, or the case does not show it or not tell it apart."""
    named, chosen = set(), zoo.mistakes(cell)[::every]
    for k, case in enumerate(zoo.cases(cell)):
        for m in chosen:
            found = zoo.diagnose(case, grads=results(cell, m.name)[k], pairs=False)
            assert found.agrees or (m,) in (found.mistakes, *found.alternatives), (case.name, m.name, str(found))
            if found.mistakes == (m,) and not found.alternatives:
                named.add(m.name)
    assert named == {m.name for m in chosen}


@EACH_DTYPE
@EACH_CELL
def test_no_correct_result_is_accused(cell, dtype):
    """Rounded to a dtype, computed in it by the textbook or by numpy_rnn, or by torch.nn: right."""
    for case in zoo.cases(cell):
        right = reference(case)
        coarse = case.astype(dtype)
        for theirs in (
            {name: a.astype(dtype) for name, a in right.items()},
            zoo.machine(cell).run(coarse),
            reference(coarse),
        ):
            assert all(a.dtype == dtype for a in theirs.values())
            found = zoo.diagnose(case, theirs)
            assert found.agrees, str(found)
            assert (found.wrong, found.mistakes, found.first) == ((), (), None)
            assert str(found).endswith("right.")


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "lstm", "lstm_projection", "gru"])
def test_torch_is_not_accused(cell, dtype):
    """torch.nn's own results under torch's own names, of the cases without dropout."""
    cls = {"rnn": torch.nn.RNN, "lst": torch.nn.LSTM, "gru": torch.nn.GRU}[cell[:3]]
    for case in zoo.cases(cell)[::2]:
        p = case.params[0][0]
        arguments = {"nonlinearity": cell[4:]} if cell.startswith("rnn") else {}
        if "W_hr" in p._fields:
            arguments["proj_size"] = p.W_hr.shape[0]
        layer = cls(case.x.shape[2], case.s0[-1].shape[2], dtype=torch.tensor(np.zeros(0, dtype)).dtype, **arguments)
        names = {"W_ih": "weight_ih_l0", "W_hh": "weight_hh_l0", "b_ih": "bias_ih_l0", "b_hh": "bias_hh_l0"}
        names |= {"W_hr": "weight_hr_l0"}
        layer.load_state_dict({names[f]: torch.tensor(w) for f, w in p._asdict().items()})
        x = torch.tensor(case.x.astype(dtype), requires_grad=True)
        s0 = [torch.tensor(s.astype(dtype), requires_grad=True) for s in case.s0]
        output, s_n = layer(x, s0[0] if len(s0) == 1 else tuple(s0))
        s_n = s_n if isinstance(s_n, tuple) else (s_n,)
        upstream = [torch.tensor(u.astype(dtype)) for u in (case.doutput, *case.ds_n)]
        torch.autograd.backward([output, *s_n], upstream)
        outputs = dict(zip(FORWARD, (a.detach().numpy() for a in (output, *s_n))))
        grads = {name: w.grad.numpy() for name, w in layer.named_parameters()}
        grads |= dict(zip(("dx", "dh_0", "dc_0"), (a.grad.numpy() for a in (x, *s0))))
        found = zoo.diagnose(case, outputs, grads)
        assert found.agrees, str(found)
        assert len(found.right) == len(outputs) + len(grads)


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@EACH_CELL
def test_mistakes_are_named_in_coarse_dtypes_too(cell, dtype):
    """Computed in the coarse dtype, rounding and all, from all tensors of the stacked case."""
    case, named = zoo.cases(cell)[1], []
    for m in zoo.mistakes(cell)[::5]:
        theirs = zoo.machine(cell, m).run(case.astype(dtype))
        found = zoo.diagnose(case, theirs, dtype=dtype, pairs=False)
        shows = not zoo.diagnose(case, results(cell, m.name)[1], dtype=dtype, pairs=False).agrees
        assert shows or found.agrees
        if shows:
            named.append((m,) in (found.mistakes, *found.alternatives))
            # In float16 a unit of relu may be on where it should be off; then nothing is named, least of all another.
            assert named[-1] or (dtype == "float16" and not found.mistakes), (m.name, str(found))
    assert np.mean(named) > 0.9


PAIRS = [
    ("gru", "gru-gates-zrn", "dh_n-ignored"),
    ("gru", "gru-path-through-r-dropped", "dh_0-missing"),
    ("gru", "b_hh-lost", "gru-z-turned-around"),
    ("gru_reset_before", "gru-reset-after-for-before", "weight-gradient-of-the-first-step-alone"),
    ("lstm", "lstm-gates-iofg", "lstm-path-through-c-dropped"),
    ("lstm", "lstm-forget-bias-added", "h_0-ignored"),
    ("lstm", "dc_n-ignored", "db_hh-missing"),
    ("lstm_peephole", "peephole-order-iof", "gradients-averaged-over-the-batch"),
    ("lstm_projection", "projection-gradient-missing", "upstream-gradient-shifted"),
    ("rnn_tanh", "W_hh-transposed", "dW_ih-of-the-input-before"),
    ("rnn_relu", "relu-derivative-at-zero", "dh_n-ignored"),
]


@pytest.mark.parametrize(("cell", "first", "second"), PAIRS)
def test_pairs_are_named(cell, first, second):
    case, both = zoo.cases(cell)[0], {zoo.mistake(first), zoo.mistake(second)}
    found = zoo.diagnose(case, zoo.machine(cell, *both).run(case))
    assert (set(found.mistakes), found.alternatives) == (both, ()), str(found)
    assert first in str(found)
    assert second in str(found)


def test_one_tensor_is_enough_or_the_alternatives_are_said():
    case = zoo.cases("gru")[0]
    theirs = results("gru", "gru-path-through-r-dropped")[0]
    found = zoo.diagnose(case, grads={"weight_hh_l0": theirs["dW_hh"]})
    assert str(found) == (
        "dW_hh differs from the right values; just these numbers come out when the gradient's path through the reset "
        "gate r is cut (gru-path-through-r-dropped)."
    )
    # dx alone cannot tell why nothing reaches the first step's input through h.
    theirs = results("gru", "h_0-ignored")[0]
    found = zoo.diagnose(case, grads={"dh_0": theirs["dh_0"]})
    assert {m.name for (m,) in (found.mistakes, *found.alternatives)} >= {"h_0-ignored", "dh_0-missing"}
    assert "On this case they also come out when" in str(found)


def test_what_is_not_identified_is_located():
    case = zoo.cases("lstm")[1]
    theirs = {name: a.copy() for name, a in results("lstm")[1].items()}
    # The reverse direction of sequence 1, of length 5, begins at step 4; step 3 comes before step 1.
    theirs["output"][1, 1, 4] += 0.01
    theirs["output"][3, 1, 5] += 0.01
    theirs["dx"][0, 0, 0] += 1
    found = zoo.diagnose(case, theirs)
    assert (found.agrees, found.mistakes, found.wrong) == (False, (), ("output", "dx"))
    assert (found.first.tensor, found.first.where, found.first.step) == ("output", (3, 1, 5), 3)
    assert str(found).startswith(
        "Not identified: output and dx differ from the right values; output[3, 1, 5] (step 3) is "
    )
    found = zoo.diagnose(case, grads={"dx": theirs["dx"]}, pairs=False)
    assert found.first.where == (0, 0, 0)


def test_nan_is_wrong_and_located():
    case = zoo.cases("lstm")[0]
    theirs = {name: a.copy() for name, a in results("lstm")[0].items()}
    theirs["dx"][2, 1, 0] = np.nan
    found = zoo.diagnose(case, theirs)
    assert (found.wrong, found.first.where) == (("dx",), (2, 1, 0))
    assert "is nan, expected" in str(found)
    theirs = {name: np.full(a.shape, np.nan) for name, a in theirs.items()}
    assert not zoo.diagnose(case, theirs).mistakes
    # NaN where nothing is to be read is no excuse for an accusation.
    case = zoo.cases("lstm")[1]
    padding = np.arange(case.x.shape[0])[:, None] >= np.array(case.lengths)
    x, doutput = case.x.copy(), case.doutput.copy()
    x[padding] = doutput[padding] = np.nan
    assert zoo.diagnose(case._replace(x=x, doutput=doutput), results("lstm")[1]).agrees


def test_rounding_is_no_mistake_but_is_said():
    case = zoo.cases("gru")[1]
    right = results("gru")[1]
    single = {name: a.astype(np.float32).astype(np.float64) for name, a in right.items()}
    found = zoo.diagnose(case, single)
    assert (found.agrees, found.mistakes) == (False, ())
    assert "no mistake in the equations, but something was computed or stored in float32" in str(found)
    assert zoo.diagnose(case, single, dtype="float32").agrees
    half = {name: a.astype(np.float16).astype(np.float32) for name, a in right.items()}
    assert "computed or stored in float16, TF32 or the like" in str(zoo.diagnose(case, half))
    grads = {name: single[name] for name in single if name not in FORWARD}
    assert "in the gradients alone" in str(zoo.diagnose(case, {n: right[n] for n in FORWARD if n in right}, grads))


def test_scaled_and_clipped_gradients_are_recognised():
    case = zoo.cases("rnn_tanh")[0]
    right = results("rnn_tanh")[0]
    weights = {name: a for name, a in right.items() if name.startswith(("dW", "db"))}
    found = zoo.diagnose(case, grads={name: 0.37 * a for name, a in weights.items()})
    assert "0.37 times the right values" in str(found)
    found = zoo.diagnose(case, grads={name: np.clip(a, -2.5, 2.5) for name, a in weights.items()})
    assert "the right values, clipped to ±2.5" in str(found)


def test_outputs_are_named_though_gradients_are_not_identified():
    case = zoo.cases("gru")[0]
    theirs = {name: a.copy() for name, a in results("gru", "gru-gates-zrn")[0].items()}
    theirs["dW_hh"][0, 0] += 1
    found = zoo.diagnose(case, theirs)
    assert not found.mistakes
    assert found.parts[0].mistakes == (zoo.mistake("gru-gates-zrn"),)
    assert "h_n, dx, dh_0, dW_ih, db_ih and db_hh by themselves come out when the gates stand in the order" in str(
        found
    )


def test_anybodys_case():
    """A layer of numpy_rnn's, in float32, longer and wider than the zoo's cases."""
    layer = numpy_rnn.GRU(6, 12, num_layers=2, rng=1)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((30, 4, 6)).astype(np.float32)
    h_0, dh_n = rng.standard_normal((2, 2, 4, 12)).astype(np.float32)
    doutput = rng.standard_normal((30, 4, 12)).astype(np.float32)
    lengths = (30, 7, 0, 12)
    output, h_n, tape = layer.forward(x, h_0, lengths)
    grads, dx, dh_0 = layer.backward(tape, doutput, dh_n)
    fields = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    params = [[numpy_rnn.fast.gru.Params(*(layer.state_dict()[f"{f}_l{l}"] for f in fields))] for l in range(2)]
    case = zoo.Case("mine", "gru", params, x, (h_0,), doutput, (dh_n,), lengths)
    found = zoo.diagnose(case, {"output": output, "h_n": h_n}, {**grads, "dx": dx, "dh_0": dh_0})
    assert found.agrees, str(found)
    grads["weight_hh_l1"] = grads["weight_hh_l1"].reshape(3, 12, 12).swapaxes(1, 2).reshape(36, 12)
    found = zoo.diagnose(case, grads={"weight_hh_l1": grads["weight_hh_l1"]})
    assert found.mistakes[0].name == "dW_hh-transposed"


def test_nothing_given_is_nothing_said():
    found = zoo.diagnose(zoo.cases("gru")[0])
    assert (found.agrees, str(found)) == (True, "Nothing was given.")


@pytest.mark.parametrize(
    ("change", "given", "message"),
    [
        ({}, {"dV": 0}, "unknown tensor 'dV', expected some of output, h_n, dx"),
        ({}, {"dc_0": 0}, "unknown tensor 'dc_0'"),
        ({}, {"h_n": np.zeros((2, 5))}, r"h_n has shape \(2, 5\), expected \(1, 2, 5\)"),
        ({}, {"dW_hh": np.zeros((15, 5)), "weight_hh_l0": np.zeros((15, 5))}, "dW_hh is given twice"),
        ({"cell": "gruu"}, {}, "cell is 'gruu', expected rnn_tanh"),
        ({"s0": (np.zeros((1, 5)),)}, {}, r"h_0 has shape \(1, 5\), expected \(1, 2, 5\)"),
        ({"s0": ()}, {}, "0 states where gru has 1"),
        ({"lengths": (4, 5)}, {}, r"lengths is \(4, 5\), expected 2 whole numbers from 0 to 4"),
        ({"x": np.zeros((4, 2))}, {}, r"x has shape \(4, 2\)"),
        ({"masks": (np.zeros((4, 2, 5)),)}, {}, "1 dropout masks, expected 0"),
    ],
)
def test_bad_input_is_one_sentence(change, given, message):
    case = zoo.cases("gru")[0]._replace(**change)
    with pytest.raises(ValueError, match=message):
        zoo.diagnose(case, grads=given)


def test_unknown_mistake():
    with pytest.raises(ValueError, match="the zoo has no mistake 'typo'"):
        zoo.mistake("typo")


def test_the_zoo_needs_numpy_alone():
    code = "import sys, numpy_rnn.verify.zoo; assert not {'torch', 'torch_rnn', 'click', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("change", [lambda case: case.copy(), lambda case: case.astype(np.float64)])
def test_a_copy_of_a_case_shares_no_array(change):
    def arrays(case):
        params = [w for layer in case.params for p in layer for w in p]
        return [*params, case.x, *case.s0, case.doutput, *case.ds_n, *(case.masks or ())]

    for case in zoo.cases("lstm"):
        before, after = arrays(case), arrays(change(case))
        assert all(np.array_equal(a, b) for a, b in zip(before, after))
        assert not any(np.shares_memory(a, b) for a, b in zip(before, after))
