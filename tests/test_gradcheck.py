"""The checker itself: right gradients pass at the reachable accuracy, planted errors of 0.1 % do not, wherever they are."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from support import CELLS, assert_all_close, random_params, random_state, rng_of
from test_cells import problem

import numpy_rnn
import torch_rnn
from numpy_rnn.verify import gradcheck as gc
from numpy_rnn.verify import rtrl
from numpy_rnn.verify.derivatives import complex_step, differentiable, extrapolated, wide
from numpy_rnn.verify.gradcheck import gradcheck, hessian_vector_product, of_cell, of_layer

CELL_NAMES = pytest.mark.parametrize("name", CELLS)


def cell_problem(name, T=6, dtype=np.float64):
    cell, params, x, s0, _ = problem(name, T, 2, 3, 4, 2, dtype)
    return of_cell(cell, params, x, s0)


@CELL_NAMES
def test_every_cell_is_right_by_every_method(name):
    report = gradcheck(*cell_problem(name), methods=["complex step", "central differences", "adjoint identity"])
    assert report.ok, report
    assert not report.skipped
    reached = {m: max(f.error for f in report.findings if f.method == m) for m in gc.TOLERANCES}
    # An order of magnitude above what correct code shows here, and far below what anything else does.
    assert reached["complex step"] < 1e-14
    assert reached["forward in time"] < 1e-14
    assert reached["adjoint identity"] < 1e-15
    assert reached["central differences"] < 1e-10
    assert reached["central differences"] > 0


@CELL_NAMES
def test_real_time_recurrent_learning_equals_bptt(name):
    cell = CELLS[name][0]
    rng = rng_of(name, "rtrl")
    for T, B, I, H, R in [(7, 3, 2, 4, 3), (1, 2, 3, 2, 1), (0, 2, 3, 2, 1), (4, 1, 1, 1, 1), (60, 2, 2, 3, 2)]:
        params = random_params(cell, I, H, R, rng)
        x, s0 = rng.standard_normal((T, B, I)), random_state(cell, (B,), H, R, rng)
        dstates = random_state(cell, (T + 1, B), H, R, rng)
        expected = cell.backward(cell.forward(params, x, s0)[1], dstates)
        assert_all_close(rtrl.gradients(cell, params, x, s0, dstates), expected, 1e-14, f"T={T}")


def test_real_time_recurrent_learning_knows_its_cells():
    cell = numpy_rnn.fast.rnn.TANH._replace(name="mine")
    _, params, x, s0, dstates = problem("rnn_tanh", 3, 2, 3, 4, 2)
    with pytest.raises(ValueError, match="the cell is 'mine', expected one of rnn_tanh, rnn_relu, lstm,"):
        rtrl.gradients(cell, params, x, s0, dstates)
    assert set(rtrl.STEPS) == set(CELLS)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        ("RNN", {"nonlinearity": "relu", "num_layers": 2, "bias": False}),
        ("LSTM", {"bidirectional": True, "batch_first": True}),
        ("LSTM", {"proj_size": 2, "num_layers": 2}),
        ("LSTM", {"peephole": True, "bidirectional": True}),
        ("GRU", {"num_layers": 2, "bidirectional": True}),
        ("GRU", {"reset_after": False}),
    ],
)
def test_layers_are_right(cls, arguments, dtype):
    layer = getattr(numpy_rnn, cls)(3, 4, **arguments, dtype=dtype, rng=0)
    rng = rng_of(cls, arguments)
    x = rng.standard_normal((2, 5, 3) if layer.batch_first else (5, 2, 3)).astype(dtype)
    _, h_n = layer(x)
    draw = lambda s: rng.standard_normal(s.shape).astype(dtype)  # noqa: E731
    h_0 = tuple(map(draw, h_n)) if isinstance(h_n, tuple) else draw(h_n)
    checked = of_layer(layer, x, h_0, [5, 3])
    report = gradcheck(*checked)
    assert report, report
    given = list(checked.inputs.values())
    assert [v.dtype for v in given] == [np.dtype(dtype)] * len(given)
    for got, expected in zip(
        given[-2:] if isinstance(h_n, tuple) else given[-1:], h_0 if isinstance(h_0, tuple) else [h_0]
    ):
        assert np.array_equal(got, expected)
    output = checked.f(*given)[0]
    assert not (output[1, 3:] if layer.batch_first else output[3:, 1]).any()  # after the second sequence's end
    names = {f.name for f in report.findings}
    assert names == {*layer.state_dict(), "x", "h_0", *(["c_0"] if cls == "LSTM" else [])}


@pytest.mark.parametrize("cls", ["RNNFromScratch", "LSTMFromScratch", "GRUFromScratch"])
def test_models_from_scratch_are_right(cls):
    model = getattr(numpy_rnn, cls)(3, 4, 2, dtype=np.float64, rng=0)
    assert gradcheck(*of_layer(model, rng_of(cls).standard_normal((2, 5, 3))))


def test_active_dropout_is_no_function():
    layer = numpy_rnn.GRU(3, 4, num_layers=2, dropout=0.5)
    with pytest.raises(ValueError, match="dropout is active in GRU"):
        of_layer(layer, np.ones((5, 2, 3), np.float32))
    assert gradcheck(*of_layer(layer.eval(), np.ones((5, 2, 3), np.float32)))


@pytest.mark.parametrize(
    ("name", "dtype", "method"),
    [(name, dtype, "complex step") for name in CELLS for dtype in (np.float64, np.float32)]
    + [(name, np.float64, "central differences") for name in ("rnn_tanh", "lstm", "gru")]  # which take long
    + [("gru", np.float32, "central differences")],
)
def test_a_planted_error_of_a_tenth_of_a_percent_is_found_and_named(name, dtype, method):
    f, vjp, inputs, _ = cell_problem(name, 6 if method == "complex step" else 2, dtype)
    for k, victim in enumerate(inputs):

        def wrong(values, upstream, k=k):
            gradients = list(vjp(values, upstream))
            gradients[k] = gradients[k].copy()
            where = np.unravel_index(np.argmax(np.abs(gradients[k])), gradients[k].shape)
            gradients[k][where] *= 1.001
            return gradients

        report = gradcheck(f, wrong, inputs, methods=[method])
        assert not report.ok
        assert {finding.name for finding in report.findings if not finding.ok} == {victim}
        worst = report.worst
        assert worst.name == victim
        assert worst.error == pytest.approx(1e-3, rel=0.01)
        assert worst.gradient == pytest.approx(1.001 * worst.numeric, rel=2e-5)
        assert str(report).startswith(f"WRONG; worst: {victim}[{', '.join(map(str, worst.where))}]: ")


@CELL_NAMES
def test_the_adjoint_identity_alone_finds_a_tensor_that_is_off_by_a_tenth_of_a_percent(name):
    f, vjp, inputs, _ = cell_problem(name)
    for k, victim in enumerate(inputs):
        wrong = lambda values, up, k=k: [g * (1.001 if j == k else 1) for j, g in enumerate(vjp(values, up))]  # noqa: E731
        report = gradcheck(f, wrong, inputs, methods=["adjoint identity"])
        assert [finding.name for finding in report.findings if not finding.ok] == [victim]


def tanh_layer(W, x):
    return np.tanh(W @ x)


def tanh_layer_vjp(inputs, upstream):
    (W, x), (dy,) = inputs, upstream
    da = dy * (1 - np.tanh(W @ x) ** 2)
    return np.outer(da, x), W.T @ da


INPUTS = {"W": np.array([[0.1, -0.4], [0.3, 0.2], [0.5, 0.6]]), "x": np.array([0.7, -0.8])}


class TestAnyonesFunction:
    def test_a_nan_is_wrong(self):
        for bad in (np.nan, np.inf):
            wrong = lambda inputs, up, bad=bad: (tanh_layer_vjp(inputs, up)[0], np.array([0.1, bad]))  # noqa: E731
            report = gradcheck(tanh_layer, wrong, INPUTS)
            assert not report
            assert {f.name for f in report.findings if not f.ok} == {"x"}
            assert report.worst.where in ((1,), ())

    def test_a_function_that_yields_nan_is_wrong(self):
        report = gradcheck(lambda x: x * np.nan, lambda inputs, up: (up[0],), [np.ones(3)])
        assert not report

    @pytest.mark.parametrize(
        ("f", "reason"),
        [
            (lambda x: np.abs(x) * x, "f is not analytic"),
            (lambda x: np.real(x) ** 2 * np.sign(np.real(x)), "the function returns real numbers for complex ones"),
            (lambda x: np.array([float(v) * abs(float(v)) for v in x]), "f does not take complex numbers"),
            (lambda x: x.astype(float) * np.abs(x), "f does not take complex numbers"),
        ],
        ids=["abs", "real", "float", "cast"],
    )
    def test_where_complex_numbers_do_not_go_differences_are_taken(self, f, reason):
        right = lambda inputs, up: (2 * np.abs(inputs[0]) * up[0],)  # noqa: E731
        x = np.array([0.7, -0.8, 1.5])
        report = gradcheck(f, right, [x])
        assert report.ok, report
        assert reason in report.skipped[0]
        assert {finding.method for finding in report.findings} == {"central differences", "adjoint identity"}
        assert not gradcheck(f, lambda inputs, up: (1.001 * right(inputs, up)[0],), [x])

    def test_several_outputs_and_integer_inputs(self):
        f = lambda table, k: (table[k], np.sum(table**2))  # noqa: E731

        def vjp(inputs, upstream):
            (table, k), (drows, dsum) = inputs, upstream
            dtable = 2 * table * dsum
            np.add.at(dtable, k, drows)
            return dtable, None

        inputs = {"table": np.arange(6.0).reshape(3, 2), "k": np.array([0, 2, 2])}
        assert gradcheck(f, vjp, inputs).ok
        assert {finding.name for finding in gradcheck(f, vjp, inputs).findings} == {"table"}

    def test_large_inputs_are_sampled_but_the_adjoint_identity_sees_every_entry(self):
        calls = []

        def f(x):
            calls.append(1)
            return np.sin(x)

        right = lambda inputs, up: (np.cos(inputs[0]) * up[0],)  # noqa: E731
        assert gradcheck(f, right, [np.linspace(0, 1, 10_000)], max_entries=20)
        assert len(calls) < 100

        def wrong(inputs, upstream):
            g = right(inputs, upstream)[0]
            g[1234] += 1
            return (g,)

        report = gradcheck(np.sin, wrong, [np.linspace(0, 1, 10_000)], max_entries=20)
        assert [finding.method for finding in report.findings if not finding.ok] == ["adjoint identity"]

    def test_what_is_no_gradient_at_all(self):
        with pytest.raises(ValueError, match="vjp returned 1 gradients, expected 2, one for each input"):
            gradcheck(tanh_layer, lambda inputs, up: [inputs[0]], INPUTS)
        with pytest.raises(ValueError, match=r"the gradient of x has shape \(2, 3\), expected \(2,\), that of x"):
            gradcheck(tanh_layer, lambda inputs, up: [inputs[0], inputs[0].T], INPUTS)

    def test_a_tolerance_of_ones_own(self):
        wrong = lambda inputs, up: [1.001 * g for g in tanh_layer_vjp(inputs, up)]  # noqa: E731
        assert not gradcheck(tanh_layer, wrong, INPUTS)
        assert gradcheck(tanh_layer, wrong, INPUTS, tolerance=0.01)

    def test_numeric_gradients(self):
        upstream = [np.array([0.3, -0.2, 0.9])]
        expected = tanh_layer_vjp(tuple(INPUTS.values()), upstream)
        for k, g in enumerate(expected):
            assert_all_close(gc.numeric_gradient(tanh_layer, list(INPUTS.values()), k, upstream), g, 1e-15)
            rough = gc.numeric_gradient(tanh_layer, list(INPUTS.values()), k, upstream, "central differences")
            assert_all_close(rough, g, 1e-11)


def test_differences_step_back_from_a_kink():
    """relu bends at 0; a step of 0.01 from 0.004 reaches across, one of 0.0001 does not."""
    cell = CELLS["rnn_relu"][0]
    for seed in range(3):
        rng = rng_of("kink", seed)
        params = random_params(cell, 3, 4, 2, rng)
        x, s0 = rng.standard_normal((20, 2, 3)), random_state(cell, (2,), 4, 2, rng)
        report = gradcheck(*of_cell(cell, params, x, s0), methods=["central differences"], tolerance=1e-7)
        assert report, report


AGREES = gc.Finding("complex step", "W", 2e-14, 1e-13, (0, 1), 0.25, 0.5)
WRONG = gc.Finding("central differences", "x", 3e-3, 1e-9, (2,), 1 / 3, -200 / 3)
NAN = gc.Finding("adjoint identity", "b", np.nan, 1e-14, (), np.nan, 1.0)
TENSOR = gc.Finding("adjoint identity", "W", 5e-2, 2e-14, (), 1e-20, 1e20)


class TestWhatIsReported:
    @pytest.mark.parametrize(
        ("finding", "text"),
        [
            (AGREES, "W[0, 1]: 0.25 by hand, 0.5 by complex step; error 2.0e-14, tolerance 1e-13: agrees"),
            (
                WRONG,
                "x[2]: 0.333333333333 by hand, -66.6666666667 by central differences; "
                "error 3.0e-03, tolerance 1e-09: WRONG, 3.0e+06 times the tolerance",
            ),
            (
                NAN,
                "b: nan by hand, 1 by adjoint identity; error nan, tolerance 1e-14: WRONG, nan times the tolerance",
            ),
            (
                TENSOR,
                "W: 1e-20 by hand, 1e+20 by adjoint identity; "
                "error 5.0e-02, tolerance 2e-14: WRONG, 2.5e+12 times the tolerance",
            ),
        ],
    )
    def test_a_finding(self, finding, text):
        assert str(finding) == text

    @pytest.mark.parametrize(
        ("findings", "skipped", "lines"),
        [
            ([AGREES], [], ["correct; worst: {0}"]),
            ([AGREES, AGREES._replace(error=1e-15)], ["a", "b"], ["correct; worst: {0}", "skipped: a", "skipped: b"]),
            ([NAN], [], ["WRONG; worst: {0}"]),
            ([AGREES, TENSOR, WRONG, NAN], ["a"], ["WRONG; worst: {2}", "also wrong: W, b", "skipped: a"]),
        ],
    )
    def test_a_report(self, findings, skipped, lines):
        report = gc.Report(tuple(findings), tuple(skipped))
        assert str(report) == "\n".join(lines).format(*findings)
        assert bool(report) is report.ok is ("correct" in lines[0])

    def test_the_same_report_every_time(self):
        reports = [gradcheck(tanh_layer, tanh_layer_vjp, INPUTS, **seed) for seed in ({}, {}, {"rng": 0})]
        assert reports[0] == reports[1] == reports[2] != gradcheck(tanh_layer, tanh_layer_vjp, INPUTS, rng=1)

    def test_tolerances(self):
        others = {"central differences": tanh_layer_vjp, "mine": tanh_layer_vjp}
        methods = ["complex step", "adjoint identity"]
        found = gradcheck(tanh_layer, tanh_layer_vjp, INPUTS, others, methods=methods).findings
        assert [(f.name, f.method) for f in found] == [(k, m) for k in "Wx" for m in (*methods, *others)]
        assert [f.tolerance for f in found] == 2 * [1e-13, 100 * np.finfo(float).eps, 1e-9, 1e-13]
        narrow = gradcheck(tanh_layer, tanh_layer_vjp, [a.astype(np.float32) for a in INPUTS.values()])
        assert {f.tolerance for f in narrow.findings} == {100 * float(np.finfo(np.float32).eps)}

    def test_names(self):
        checked = cell_problem("lstm_peephole")
        assert list(checked.inputs) == ["W_ih", "W_hh", "b_ih", "b_hh", "P", "x", "h_0", "c_0"]
        assert list(checked.others) == ["forward in time"]
        _, params, x, s0, _ = problem("gru", 2, 2, 3, 4, 2)
        assert of_cell(numpy_rnn.fast.gru.GRU._replace(name="mine"), params, x, s0).others == {}


class TestWhatIsChecked:
    def entries(self, size, **limit):
        """The entries that are moved one by one."""
        moved = []

        def f(x):
            moved.append(tuple(np.flatnonzero(np.imag(x))))
            return np.sin(x)

        assert gradcheck(f, lambda inputs, up: (np.cos(inputs[0]) * up[0],), [np.linspace(0, 1, size)], **limit)
        return [k[0] for k in moved if len(k) == 1]

    def test_entries(self):
        assert self.entries(20) == list(range(20))
        assert self.entries(20, max_entries=20) == list(range(20))  # in their order: the first NaN is named
        some = self.entries(20, max_entries=19)
        assert len(some) == len(set(some)) == 19
        assert len(self.entries(1001)) == 1000

    def test_single_numbers_and_none_but_no_empty_arrays(self):
        f = lambda empty, k, a: a * k + empty.sum()  # noqa: E731
        right = lambda inputs, up: (inputs[0], None, np.array(up[0] * inputs[1]))  # noqa: E731
        inputs = [np.ones(0), np.array(3), np.array(0.5)]
        assert [(f.name, f.where) for f in gradcheck(f, right, inputs).findings] == [("input 2", ()), ("input 2", ())]
        assert not gradcheck(f, lambda inputs, up: (*right(inputs, up)[:2], np.array(1.0)), inputs)

    def test_the_adjoint_identity_in_numbers(self):
        M, u = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([0.5, -1.0, 2.0])
        v = np.random.default_rng(5).standard_normal(2)
        wrong = (u @ M)[::-1]  # the sum is right
        found = gc.adjoint("x", complex_step(lambda x: M @ x, [np.ones(2)], [v]), [u], wrong, v, 0.25, 0.0)
        norms = [np.linalg.norm(z) for z in (u, M @ v, wrong, v)]
        error = abs(wrong @ v - u @ M @ v) / (norms[0] * norms[1] + norms[2] * norms[3])
        assert (found.method, found.name, found.tolerance, found.where) == ("adjoint identity", "x", 0.25, ())
        got = (found.error, found.gradient, found.numeric)
        assert got == pytest.approx((error, wrong @ v, u @ M @ v), rel=1e-14)
        assert 0 < found.doubt < 1e-13

    def test_the_type_that_methods_compute_in(self):
        types = [np.float64, np.float32, np.float16, int, bool, complex]
        assert [differentiable(np.ones(1, t)) for t in types] == [True] * 3 + [False] * 3
        given = [np.ones(2, t) for t in types]
        assert [wide(a).dtype for a in given] == [np.dtype(t) for t in [np.float64] * 3 + types[3:]]


class TestComplexStep:
    def test_what_the_function_drops(self):
        x, v = [np.ones(2)], [np.ones(2)]
        with pytest.raises(TypeError, match=r"^Casting complex values to real discards the imaginary part$"):
            gc.jvp_complex_step(lambda x: x.astype(float), x, v)
        with pytest.raises(TypeError, match=r"^the function returns real numbers for complex ones$"):
            gc.jvp_complex_step(np.real, x, v)

    def test_other_warnings_are_the_functions_own(self):
        def f(x):
            warnings.warn("hot", UserWarning, stacklevel=1)
            return 2 * x

        with pytest.warns(UserWarning, match="hot"):
            (d,) = gc.jvp_complex_step(f, [np.ones(2)], [np.ones(2)])
        assert d.tolist() == [2, 2]

    @pytest.mark.parametrize("f", [lambda x: 1e6 * np.sin(x), lambda x: 1e-6 * np.sin(x), lambda x: 0 * x])
    def test_where_it_applies(self, f):
        found, skipped = gc.applicable(f, [np.ones(2)], np.random.default_rng(0))
        assert (list(found), skipped) == (["complex step"], ())
        found, skipped = gc.applicable(f, [np.ones(2)], np.random.default_rng(0), ["central differences"])
        assert (list(found), skipped) == (["complex step", "central differences"], ())

    @pytest.mark.parametrize("f", [lambda x: 1e-6 * np.conj(x), lambda x: np.conj(x[0] - x[1])])
    def test_where_it_does_not(self, f):
        found, skipped = gc.applicable(f, [np.full(2, 0.5)], np.random.default_rng(0))
        assert list(found) == ["central differences"]
        assert skipped == ("complex step, since f is not analytic (it may use abs or a conjugate)",)


class TestCentralDifferences:
    def steps(self, f, x, **arguments):
        """The derivative at x, and the steps that were taken to either side."""
        taken = []

        def recorded(z):
            taken.append(float(abs(z - x)[0]))
            return f(z)

        (d,) = gc.jvp_central_differences(recorded, [np.array([x])], [np.ones(1)], **arguments)
        assert taken[::2] == pytest.approx(taken[1::2], rel=1e-6)
        return float(d[0]), taken[::2]

    @pytest.mark.parametrize("f", [np.sin, lambda z: 0 * z])
    def test_five_levels(self, f):
        d, steps = self.steps(f, 0.5)
        assert steps == pytest.approx([1e-2, 5e-3, 2.5e-3, 1.25e-3, 6.25e-4])
        assert d == pytest.approx(np.cos(0.5) if f is np.sin else 0, rel=1e-11)

    @pytest.mark.parametrize("levels", [2, 3])
    def test_again_with_a_hundredth_where_a_kink_is_near(self, levels):
        d, steps = self.steps(np.abs, 0.004, levels=levels)
        assert steps == pytest.approx([1e-2 / 2**k for k in range(levels)] + [1e-4 / 2**k for k in range(levels)])
        assert d == pytest.approx(1, rel=1e-11)

    def test_but_not_with_one_level_or_a_small_step(self):
        d, steps = self.steps(np.abs, 0.004, levels=1)
        assert (d, *steps) == pytest.approx((0.4, 1e-2))
        assert len(self.steps(np.abs, 1e-7, first_step=1e-5)[1]) == 5

    def test_extrapolation_is_exact_for_polynomials(self):
        """x⁷ at 1: the differences are 7 + 35h² + 21h⁴ + h⁶; without the last level 1/4096 is missing."""
        (best,), (spread,) = extrapolated(lambda x: x**7, [np.ones(1)], [np.ones(1)], 0.5, 4)
        assert best[0] == pytest.approx(7, rel=1e-14)
        assert spread[0] == pytest.approx(0.020587921142578125, rel=1e-9)  # of a single number the second best

    def test_no_outputs(self):
        (d,) = gc.jvp_central_differences(lambda x: x[:0], [np.ones(2)], [np.ones(2)])
        assert d.shape == (0,)


class TestSecondOrder:
    """Hessian-vector products through the hand-written backward, against torch's double backward."""

    @pytest.mark.parametrize("cls", ["RNN", "LSTM", "GRU"])
    def test_equals_double_backward(self, cls):
        layer = getattr(numpy_rnn, cls)(3, 4, num_layers=2, bidirectional=True, dtype=np.float64, rng=0)
        names = list(layer.state_dict())
        rng = rng_of(cls, "hvp")
        x, target = rng.standard_normal((5, 2, 3)), rng.standard_normal((5, 2, 8))
        inputs = [*layer.state_dict().values(), x]
        directions = [rng.standard_normal(v.shape) for v in inputs]

        def gradient(*values):
            """Of ½ Σ (output - target)² by parameters and x."""
            twin = type(layer)(**layer.config, dtype=np.result_type(*values))
            twin.load_state_dict(dict(zip(names, values)))
            output, _, tape = twin.forward(values[-1].astype(twin.dtype))
            grads, dx, _ = twin.backward(tape, output - target)
            return [*grads.values(), dx]

        theirs = getattr(torch_rnn, cls)(3, 4, num_layers=2, bidirectional=True, dtype=torch.float64)
        theirs.load_state_dict({k: torch.from_numpy(v) for k, v in layer.state_dict().items()})
        tx = torch.tensor(x, requires_grad=True)
        leaves = [*theirs.parameters(), tx]
        loss = 0.5 * ((theirs(tx)[0] - torch.tensor(target)) ** 2).sum()
        first = torch.autograd.grad(loss, leaves, create_graph=True)
        inner = sum((g * torch.tensor(v)).sum() for g, v in zip(first, directions))
        second = torch.autograd.grad(inner, leaves)
        assert_all_close(gradient(*inputs), list(first), 1e-13)
        assert_all_close(list(hessian_vector_product(gradient, inputs, directions)), list(second), 1e-13)

    def test_the_hessian_is_symmetric(self):
        f, vjp, inputs, _ = cell_problem("lstm")
        values = list(inputs.values())
        upstream = [np.ones_like(y) * 0.3 for y in f(*values)]
        gradient = lambda *v: vjp(v, upstream)  # noqa: E731
        rng = rng_of("symmetric")
        v, w = ([rng.standard_normal(a.shape) for a in values] for _ in range(2))
        vHw = sum(np.sum(a * b) for a, b in zip(v, hessian_vector_product(gradient, values, w)))
        wHv = sum(np.sum(a * b) for a, b in zip(w, hessian_vector_product(gradient, values, v)))
        assert vHw == pytest.approx(wHv, rel=1e-13)
        assert abs(vHw) > 1e-3
