"""The true error of the cells: near what was measured, and below what any worse arithmetic would show."""

from __future__ import annotations

import functools
import inspect
import pathlib
import re
import subprocess
import sys
import types
from typing import Any

import mpmath
import numpy as np
import pytest
from support import CELLS, random_params, random_state, rng_of

from numpy_rnn.fast import gru, lstm, numerics, rnn
from numpy_rnn.fast.registry import USER_FACING
from numpy_rnn.layers.files import between_marks
from numpy_rnn.textbook.functions import sigmoid
from numpy_rnn.verify import accuracy, compare

needs_long_double = pytest.mark.skipif(
    not accuracy.measurable("float64"), reason="NumPy's long double is float64 on this machine: nothing to measure with"
)
DTYPES = [pytest.param("float64", marks=needs_long_double), "float32"]


# ---- the truth about the truth: the equations with 50 digits, for a few numbers, from the papers and not from the code


def sigma(a):
    return 1 / (1 + mpmath.exp(-a))


def dot(W, x, b):
    return [sum((w * v for w, v in zip(row, x)), bias) for row, bias in zip(W, b)]


def plus(a, b):
    return [u + v for u, v in zip(a, b)]


def blocks(a, n):
    return [a[k * len(a) // n : (k + 1) * len(a) // n] for k in range(n)]


def rnn_step(f):
    def step(p, x, s):
        return {"h": [f(a) for a in plus(dot(p["W_ih"], x, p["b_ih"]), dot(p["W_hh"], s["h"], p["b_hh"]))]}

    return step


def lstm_step(p, x, s):
    c = s["c"]
    zero = [0] * len(c)
    P_i, P_f, P_o = blocks(p["P"], 3) if "P" in p else (zero, zero, zero)
    a_i, a_f, a_g, a_o = blocks(plus(dot(p["W_ih"], x, p["b_ih"]), dot(p["W_hh"], s["h"], p["b_hh"])), 4)
    i = [sigma(a + w * m) for a, w, m in zip(a_i, P_i, c)]
    f = [sigma(a + w * m) for a, w, m in zip(a_f, P_f, c)]
    c = [f_ * m + i_ * mpmath.tanh(a) for f_, m, i_, a in zip(f, c, i, a_g)]
    h = [sigma(a + w * m) * mpmath.tanh(m) for a, w, m in zip(a_o, P_o, c)]
    return {"h": dot(p["W_hr"], h, zero) if "W_hr" in p else h, "c": c}


def gru_step(reset_after):
    def step(p, x, s):
        h, (b_r, b_z, b_n) = s["h"], blocks(p["b_hh"], 3)
        W_r, W_z, W_n = blocks(p["W_hh"], 3)
        u_r, u_z, u_n = blocks(dot(p["W_ih"], x, p["b_ih"]), 3)
        r = [sigma(a) for a in plus(u_r, dot(W_r, h, b_r))]
        z = [sigma(a) for a in plus(u_z, dot(W_z, h, b_z))]
        if reset_after:
            inner = [u * v for u, v in zip(r, dot(W_n, h, b_n))]
        else:
            inner = dot(W_n, [u * v for u, v in zip(r, h)], b_n)
        n = [mpmath.tanh(a) for a in plus(u_n, inner)]
        return {"h": [z_ * h_ + (1 - z_) * n_ for z_, h_, n_ in zip(z, h, n)]}

    return step


STEPS = {
    "rnn_tanh": rnn_step(mpmath.tanh),
    "rnn_relu": rnn_step(lambda a: a if mpmath.re(a) > 0 else 0 * a),
    "lstm": lstm_step,
    "lstm_projection": lstm_step,
    "lstm_peephole": lstm_step,
    "gru": gru_step(reset_after=True),
    "gru_reset_before": gru_step(reset_after=False),
}


def exact(v):
    """A float of any width as mpmath's, nothing lost: the upper and the lower half of its mantissa."""
    high = float(v)
    return mpmath.mpf(high) + mpmath.mpf(float(v - type(v)(high)))


def nested(a):
    return [nested(row) for row in a] if a.ndim > 1 else [exact(v) for v in a]


def entries(a, path=()):
    """(the list that holds it, position in it) of every number in nested lists, in C order."""
    for k, v in enumerate(a):
        if isinstance(v, list):
            yield from entries(v)
        else:
            yield a, k


def run_mp(name, arrays, T, B):
    """All states after the steps: one list for each field, in C order of (T, B, ·)."""
    params, x, s0 = arrays
    found: dict[str, list[Any]] = {field: [] for field in s0}
    states = [{field: s[b] for field, s in s0.items()} for b in range(B)]
    for t in range(T):
        states = [STEPS[name](params, x[t][b], states[b]) for b in range(B)]
        for field, values in found.items():
            for s in states:
                values += s[field]
    return found


@needs_long_double
@pytest.mark.parametrize("name", CELLS)
def test_long_double_is_the_truth(name):
    """Forward, and every entry of every gradient by a complex step of 1e-40, to the last places of long double."""
    T, B, I, H, R = 3, 2, 2, 3, 1
    cell, rng = CELLS[name][0], rng_of(name)
    params, s0 = random_params(cell, I, H, R, rng), random_state(cell, (B,), H, R, rng)
    x, dstates = rng.standard_normal((T, B, I)), random_state(cell, (T + 1, B), H, R, rng)
    wide = [tuple(a.astype(np.longdouble) for a in group) for group in (params, (x,), s0, dstates)]
    states, tape = cell.forward(cell.Params(*wide[0]), wide[1][0], cell.State(*wide[2]))
    grads, dx, ds0 = cell.backward(tape, cell.State(*wide[3]))

    with mpmath.workdps(50):
        # What the loss sends directly to s0 is added at the end: it passes through no arithmetic worth testing.
        upstream = {f: [exact(v) for v in d[1:].ravel()] for f, d in zip(cell.State._fields, dstates)}
        arrays = (
            dict(zip(cell.Params._fields, map(nested, params))),
            nested(x),
            dict(zip(cell.State._fields, map(nested, s0))),
        )

        def loss():
            found = run_mp(name, arrays, T, B)
            return sum(u * v for field in found for u, v in zip(upstream[field], found[field]))

        for field, values in run_mp(name, arrays, T, B).items():
            assert_exact(field, getattr(states, field)[1:], values)
        step = mpmath.mpf(10) ** -40
        groups = [*zip(arrays[0].items(), grads), (("x", arrays[1]), dx)]
        groups += [((f, a), d - direct[0]) for (f, a), d, direct in zip(arrays[2].items(), ds0, wide[3])]
        for (label, values), gradient in groups:
            found = []
            for row, k in entries(values):
                row[k], before = mpmath.mpc(row[k], step), row[k]
                found.append(mpmath.im(loss()) / step)
                row[k] = before
            assert_exact(f"d{label}", gradient, found)


def assert_exact(label, got, expected):
    """Measured: at most 4 eps of long double."""
    got = [exact(v) for v in got.ravel()]
    assert len(got) == len(expected)
    error = max(abs(a - b) for a, b in zip(got, expected)) / max(map(abs, expected))
    assert error < 12 * float(np.finfo(np.longdouble).eps), f"{label} is off by {mpmath.nstr(error, 3)}"


# ---- the errors themselves

SIZES = [(10, 16), (100, 4), (100, 16), (300, 8)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", USER_FACING)
def test_errors_stay_below_the_rule(cell, dtype):
    for T, H in SIZES:
        row, bound = accuracy.measure(cell, dtype, T, H, draws=1), accuracy.rule(dtype, T, accuracy.B, H)
        assert 0 < row.forward < bound.forward, row
        assert 0 < row.gradient < bound.gradient, row


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "gru"])
def test_only_sums_over_time_get_worse_with_time(cell):
    """Values, and gradients by x and by the initial state, are as exact after 2000 steps as after one."""
    errors = accuracy.true_errors(cell, "float32", 2000, 8)
    long, short = (accuracy.rule("float32", T, accuracy.B, 8) for T in (2000, 2))
    assert max(errors.values()) < long.gradient
    assert max(e for name, e in errors.items() if name in accuracy.FORWARD) < short.forward
    assert max(e for name, e in errors.items() if name in ("dx", "dh_0", "dc_0")) < short.gradient


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_layers_in_both_directions_stay_within_the_tolerance(dtype):
    """As two implementations would be compared: one of them exact is the easier half."""
    case = compare.Setting("deep", 50, 3, 4, 6, {"num_layers": 2, "bidirectional": True}, lengths=(50, 7, 31))
    bound = accuracy.tolerance(dtype, 50, 3, 2 * 6, layers=2)
    for kind in USER_FACING.values():
        for name, error in accuracy.errors_of(compare.make_problem(kind, case, dtype)).items():
            # Half of the tolerance belongs to the other implementation.
            assert error < (bound.forward if name in accuracy.FORWARD else bound.gradient) / 2, (kind, name)


# ---- somewhat worse arithmetic is beyond the rule


def fewer_bits(a, lost):
    """Rounded to 53 - lost bits of mantissa (Dekker's splitting)."""
    scaled = a * (2**lost + 1)
    return scaled - (scaled - a)


def in_float32(f):
    return lambda *a: f(*(v.astype(np.float32) for v in a)).astype(np.float64)


def short_accumulator(da, x, T):
    """Σ da xᵀ step by step, the sum kept in 49 bits."""
    total = np.zeros((len(da), x.shape[1]))
    for u, v in zip(np.split(da, T, axis=1), np.split(x, T)):
        total = fewer_bits(total + u @ v, 4)
    return total


def tanh_in_48_bits(a, out):
    out[:] = fewer_bits(np.tanh(a), 5)


def differenced(h, out):
    """tanh' by a difference of the function."""
    a = np.arctanh(h)
    return np.divide(np.tanh(a + 1e-6) - np.tanh(a - 1e-6), 2e-6, out)


def backward_that_saves_memory(tape, dstates):
    """The memory c not kept but recovered from the step after it: c_t = (c_{t+1} - i ∘ g) / f."""
    tape = tape._replace(oifgc=tape.oifgc.copy())
    _, i, f, g, c = numerics.split_gates(tape.oifgc, 5)
    for t in reversed(range(len(tape.x))):
        c[t] = (c[t + 1] - i[t] * g[t]) / f[t]
    return lstm.backward(tape._replace(tanh_c=np.tanh(c[1:])), dstates)


def tanh_cell(f=np.tanh, df=rnn.tanh_unit.df):
    return rnn.TANH._replace(forward=functools.partial(rnn.forward, nonlinearity=rnn.Nonlinearity(f, df)))


def rewritten(module, line, worse):
    """The cell of a module in whose source one line reads otherwise."""
    source = inspect.getsource(module)
    assert source.count(line) == 1, line
    copy = types.ModuleType(module.__name__)
    copy.__package__ = module.__package__
    for helper in (fewer_bits, in_float32, short_accumulator):
        setattr(copy, helper.__name__, helper)
    exec(source.replace(line, worse), copy.__dict__)
    return getattr(copy, module.__name__.rpartition(".")[2].upper())


# the cell's name → its module and its name there
WHERE = {"rnn_tanh": (rnn, "TANH"), "lstm": (lstm, "LSTM"), "gru": (gru, "GRU")}
# (cell, one that computes worse or what to rewrite: the line and its replacement, the pass that must show it)
WORSE = {
    "tanh in 48 bits": ("rnn_tanh", tanh_cell(f=tanh_in_48_bits), "forward"),
    "gates in 48 bits": ("lstm", ("oif_t += half", "oif_t[:] = fewer_bits(oif_t + half, 5)"), "forward"),
    "gates in float32": (
        "gru",
        ("np.tanh(rz_t, rz_t)", "rz_t[:] = in_float32(lambda a: 1 + np.tanh(a))(rz_t) - 1"),
        "forward",
    ),
    "dW accumulated in float32": (
        "lstm",
        (
            "[da @ x.reshape(T * B, I), da @ h[:-1].reshape(T * B, R),",
            "[in_float32(np.matmul)(da, x.reshape(T * B, I)), in_float32(np.matmul)(da, h[:-1].reshape(T * B, R)),",
        ),
        "gradient",
    ),
    "dW accumulated in 49 bits": (
        "gru",
        (
            "du @ x.reshape(T * B, I), dW_hh, ",
            "short_accumulator(du, x.reshape(T * B, I), T), short_accumulator(dv, h.T, T), ",
        ),
        "gradient",
    ),
    "db added to large numbers": (
        "lstm",
        ("db = sum_columns(da)", "db = (10_000 + sum_columns(da)) - 10_000"),
        "gradient",
    ),
    "tanh' by a difference": ("rnn_tanh", tanh_cell(df=differenced), "gradient"),
    "c recovered by division": ("lstm", lstm.LSTM._replace(backward=backward_that_saves_memory), "gradient"),
}


@needs_long_double
@pytest.mark.parametrize("name", WORSE)
def test_worse_arithmetic_breaks_the_rule(name, monkeypatch):
    cell, worse, shows = WORSE[name]
    module, attribute = WHERE[cell]
    original = getattr(module, attribute)
    if not isinstance(worse, type(original)):
        worse = rewritten(module, *worse)

    def in_dtype_of(x):
        """In float64 alone is it worse: the truth, in long double, is computed as ever."""
        return worse if x.dtype == np.float64 else original

    T, H = 200, 16
    bound = getattr(accuracy.rule("float64", T, accuracy.B, H), shows)
    assert getattr(accuracy.measure(cell, "float64", T, H, draws=1), shows) < bound
    patched = original._replace(
        forward=lambda params, x, s0: in_dtype_of(x).forward(params, x, s0),
        backward=lambda tape, dstates: in_dtype_of(tape.x).backward(tape, dstates),
    )
    monkeypatch.setattr(module, attribute, patched)
    assert getattr(accuracy.measure(cell, "float64", T, H, draws=1), shows) > 1.2 * bound


# ---- where the rule ends


@needs_long_double
def test_a_recurrence_that_amplifies_is_beyond_any_rule():
    """Eight times torch's W_hh: neighbouring trajectories part, and the error grows from step to step."""
    errors = [accuracy.measure("rnn_tanh", "float64", T, 16, 1, gain=8).forward for T in (10, 30, 100)]
    assert errors[0] < 1e-13 < errors[1] < errors[2]
    assert errors[2] > 1000 * accuracy.rule("float64", 100, accuracy.B, 16).forward


def test_relu_at_its_kink_has_two_right_gradients():
    """W x + b is 0 in float32 and 2e-8 in float64; the gradient is all there or not at all."""
    gradients = {}
    for dtype in (np.float32, np.float64):
        W, x, b = (np.array(v, np.float32).astype(dtype) for v in ([[0.1]], [[[7.0]]], [-0.7]))
        zero = np.zeros((1, 1), dtype)
        _, tape = rnn.RELU.forward(rnn.Params(W, zero, b, zero[0]), x, rnn.State(zero))
        _, dx, _ = rnn.RELU.backward(tape, rnn.State(np.ones((2, 1, 1), dtype)))
        gradients[dtype] = float(dx[0, 0, 0])
    assert gradients == {np.float32: 0, np.float64: pytest.approx(0.1)}


@needs_long_double
def test_closed_gates_are_known_to_their_absolute_error_only():
    """σ(-20) = 2e-9 is computed as (1 - 0.999999996) / 2: 8 digits are left of it, if all gates are that far closed."""
    a = np.full((1,), -20.0)
    wide = sigmoid(a.astype(np.longdouble))
    relative = float(abs(sigmoid(a) - wide)[0] / wide[0])
    assert 1e-10 < relative < 1e-7
    assert abs(sigmoid(a) - wide)[0] < np.finfo(float).eps


# ---- the methods that gradients are checked with, at T = 30; docs/verify/accuracy.md has T = 200


@needs_long_double
@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "gru"])
def test_methods_are_as_exact_as_stated(cell):
    errors = accuracy.method_errors(cell, T=30, entries=2)
    limits = {
        "BPTT": 2e-15,
        "real-time recurrent learning": 2e-15,
        "complex step": 1.5e-15,
        "Richardson": 5e-12,
        "central differences": 1e-9,
        "adjoint identity": 2e-16,
        "BPTT in float32": 1e-6,
    }
    assert set(errors) == set(limits)
    for method, limit in limits.items():
        assert errors[method] < limit, method
    assert errors["complex step"] < errors["Richardson"] < errors["central differences"]


# ---- the command and its document


def test_without_a_wider_type_it_says_so(monkeypatch, capsys):
    monkeypatch.setitem(accuracy.REFERENCE, "float64", np.dtype(np.float64))
    with pytest.raises(ValueError, match="float64 cannot be measured here"):
        accuracy.true_errors("gru", "float64", 3, 4)
    with pytest.raises(ValueError, match="float64 cannot be measured here"):
        accuracy.method_errors("gru")
    monkeypatch.setattr(accuracy, "QUICK_SIZES", ((3, 4),))
    accuracy.main(["--quick"])
    out, err = capsys.readouterr()
    assert "float64 gradient" not in out
    assert "float32 gradient" in out
    assert err == "float64 is not measured: NumPy's long double is float64 on this machine\n"


@needs_long_double
def test_tables_go_between_the_marks(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(accuracy, "QUICK_SIZES", ((3, 4), (5, 6)))
    monkeypatch.setattr(accuracy, "method_errors", lambda cell, T: {"BPTT": 1 / T})
    path = tmp_path / "accuracy.md"
    path.write_text("before\n<!-- measured: begin -->old<!-- measured: end -->\nafter\n")
    accuracy.main(["--quick", "--markdown", str(path)])
    text = path.read_text()
    assert text.startswith(f"before\n<!-- measured: begin -->\n\nNumPy {np.__version__} on ")
    assert text.endswith("\n<!-- measured: end -->\nafter\n")
    assert "old" not in text
    for line in ("| T | H | float64 forward |", "| 5 | 6 | ", "| W_hh · 8 | ", "| BPTT | 5.0e-02 |"):
        assert line in text
    assert capsys.readouterr().out == ""


PAGE = pathlib.Path(__file__).parents[1] / "docs" / "verify" / "accuracy.md"
DOCUMENT = PAGE.read_text(encoding="utf-8")


def test_the_tolerances_of_the_document_are_those_of_the_code():
    rows = re.findall(r"^\| a [\w ]+ \| (\d+) \| (\d+) \| (.*) \|$", DOCUMENT, re.MULTILINE)
    assert len(rows) == 3
    for TB, H, figures in rows:
        both = [accuracy.tolerance(dtype, int(TB), 1, int(H)) for dtype in ("float64", "float32")]
        assert figures == " | ".join(f"{t:.1e}" for pair in both for t in pair)


def test_the_document_holds_to_the_rule():
    """Every error of its first table is below what stands beside it, which is the rule's."""
    _, measured, _ = between_marks(PAGE, "measured")
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (.*) \|$", measured.split("**")[2], re.MULTILINE)
    assert [(int(T), int(H)) for T, H, _ in rows] == list(accuracy.SIZES)
    for T, H, cells in rows:
        found = re.findall(r"([\d.e-]+) of ([\d.e-]+), (\w+)", cells)
        rules = [bound for dtype in ("float64", "float32") for bound in accuracy.rule(dtype, int(T), 2, int(H))]
        assert [bound for _, bound, _ in found] == [f"{bound:.1e}" for bound in rules]
        assert all(float(error) < float(bound) for error, bound, _ in found)


def test_it_needs_numpy_alone():
    code = "import sys, numpy_rnn.verify.accuracy; print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'rich', 'mpmath'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
