"""gradcheck and diagnose on code as people write it: right code is never called WRONG, and what is odd about it is said."""

from __future__ import annotations

import itertools
import re
from functools import partial

import numpy as np
import pytest
from wild.functions import FUNCTIONS
from wild.layers import FLOAT32, LAYERS, buffer, inputs, into_a_list, rnn, rnn_backward, sigmoid, tanh_derivative

from numpy_rnn.fast.registry import CELLS, parameter_name
from numpy_rnn.verify import zoo
from numpy_rnn.verify.gradcheck import gradcheck

SEEDS = [pytest.param(range(3, 4), id="one"), pytest.param(range(200), id="many", marks=pytest.mark.long)]


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("name", LAYERS)
def test_right_code_is_never_called_wrong(name, seeds):
    f, vjp, gates = LAYERS[name]
    for seed in seeds:
        report = gradcheck(f, vjp, inputs(seed, gates), rng=seed)
        assert report.verdict == ("not decided" if name in FLOAT32 else "correct"), report


@pytest.mark.parametrize("seeds", [range(5), *SEEDS[1:]], ids=["few", "many"])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.filterwarnings("ignore:overflow encountered in exp")
def test_right_code_that_is_hard_to_judge(name, seeds):
    f, vjp, draw, verdict = FUNCTIONS[name]
    for seed in seeds:
        report = gradcheck(f, vjp, draw(seed), rng=seed)
        assert report.verdict in {verdict, "not decided"}, report
        assert report.verdict == verdict or len(seeds) > 5, report


@pytest.mark.parametrize("T", [10, 20, 40])
def test_a_gradient_that_has_vanished_is_judged_like_any_other(T):
    """That by the initial state is some 1e-17 after 40 steps; nothing that is wrong in it is called correct."""
    rng = np.random.default_rng(T)
    given = {"x": rng.standard_normal((T, 2, 3)), "h0": rng.standard_normal((2, 4)), "Wx": rng.standard_normal((3, 4))}
    given |= {"Wh": 0.2 * rng.standard_normal((4, 4)), "b": rng.standard_normal(4)}

    def last(*a):
        return into_a_list(*a)[-1]

    def vjp(inputs, upstream, factor=1.0):
        h = buffer(*inputs)
        dh = np.zeros_like(h)
        dh[-1] = upstream[0]
        dx, dh0, *rest = rnn_backward(*inputs, h, dh, tanh_derivative)
        dh0[0, 0] *= factor
        return dx, dh0, *rest

    assert gradcheck(last, vjp, given).ok
    for factor in (1.001, -1, 5, 0):
        verdict = gradcheck(last, partial(vjp, factor=factor), given).verdict
        assert verdict == "WRONG" or (verdict == "not decided" and T >= 20)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (None, "output 1 of f is NoneType, expected an array of numbers"),
        ("cache", "output 1 of f is str, expected an array of numbers"),
        ((np.ones(2), np.ones(3)), "output 1 of f is no array of numbers: "),
        ({"W": np.ones(2)}, "output 1 of f is dict, expected an array of numbers"),
    ],
)
def test_what_is_no_output_is_said(value, sentence):
    with pytest.raises(ValueError, match=sentence):
        gradcheck(lambda x: (np.sin(x), value), lambda inputs, up: [up[0]], [np.ones(3)])
    with pytest.raises(ValueError, match="input 0 is NoneType, expected an array of numbers"):
        gradcheck(np.sin, lambda inputs, up: [up[0]], [None])


def test_outputs_in_other_forms():
    def vjp(inputs, upstream):
        return [upstream[0] * np.cos(inputs[0])]

    assert gradcheck(lambda x: (y for y in [np.sin(x)]), vjp, [np.ones(3)])
    assert gradcheck(lambda x: (np.sin(x), x > 0), vjp, [np.ones(3)])
    assert gradcheck(lambda W, x: (loss_and_gradients(W, x)[0], loss_and_gradients(W, x)[1:]), None, GIVEN)
    assert gradcheck(lambda x: x * x, lambda inputs, up: 2 * float(inputs[0]) * float(up[0]), [np.array(3.0)])


WHY_NOT = {
    "float32 inside the gradient": "the gradient itself is computed to ",
    "float32 inside, float64 returned": "f's values jitter by ",
    "relu at 0": "the gradient jumps here, as relu's does at 0",
    "whole numbers with a gradient": "W holds no floating-point numbers (int64), so its gradient is not checked",
}


@pytest.mark.parametrize("name", WHY_NOT)
def test_why_it_is_not_decided(name):
    f, vjp, draw, _ = FUNCTIONS[name]
    assert WHY_NOT[name] in str(gradcheck(f, vjp, draw(0)))


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("name", LAYERS)
def test_a_tenth_of_a_percent_in_one_entry_is_never_called_correct(name, seeds):
    f, vjp, gates = LAYERS[name]
    verdicts = []
    for seed in seeds:

        def off(given, upstream, seed=seed):
            rng = np.random.default_rng(seed)
            found = vjp(given, upstream)
            gradients = [np.array(g) for g in (found.values() if isinstance(found, dict) else found)]
            flat = gradients[rng.integers(len(gradients))].reshape(-1)
            flat[rng.choice(np.flatnonzero(flat))] *= 1.001
            return gradients

        verdicts.append(gradcheck(f, off, inputs(seed, gates), rng=seed).verdict)
    allowed = {"WRONG", "not decided"} if name in FLOAT32 else {"WRONG"}
    assert set(verdicts) <= allowed
    assert verdicts.count("WRONG") > 0.5 * len(verdicts)


def test_what_would_decide_it_is_said():
    f, vjp = rnn(dtype="f")
    report = gradcheck(f, vjp, inputs(0, 1))
    assert report.verdict == "not decided"
    assert not report
    assert "f computes in float32 or float16: the gradients agree to " in str(report)
    assert "np.zeros(shape, np.result_type(x, W))" in str(report)
    assert gradcheck(f, vjp, inputs(0, 1), tolerance=1e-3)  # who is content with that says so


def lstm_step(a, c):
    i, f, g, o = np.split(a, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def lstm_step_backward(inputs, upstream):
    """Adds to its upstream in place, as `dnext_c += ...` does."""
    (a, c), (dh, dc) = inputs, upstream
    i, f, g, o = np.split(a, 4)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    tanh_c = np.tanh(f * c + i * g)
    dc += dh * o * (1 - tanh_c**2)
    da = [dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g**2), dh * tanh_c * o * (1 - o)]
    return np.concatenate(da), dc * f


def test_a_gradient_that_changes_its_upstream_is_judged_by_what_it_returns():
    rng = np.random.default_rng(0)
    report = gradcheck(lstm_step, lstm_step_backward, {"a": rng.standard_normal(8), "c": rng.standard_normal(2)})
    assert report.ok
    assert report.remarks == ("vjp changes upstream 1 in place: copy it first, the caller may need it",)


def test_a_function_that_changes_its_inputs_spoils_nothing():
    f, vjp, gates = LAYERS["RNN in place"]
    given = inputs(0, gates)
    before = {name: a.copy() for name, a in given.items()}
    report = gradcheck(f, vjp, given)
    assert report.ok
    assert report.remarks == ("f changes its input h0 in place",)
    assert all(np.array_equal(a, before[name]) for name, a in given.items())


class Stateful:
    """Goes on from where the last call ended."""

    h = np.zeros((2, 4))

    def __call__(self, x, Wx, Wh, b):
        states = buffer(x, self.h, Wx, Wh, b)
        self.h = states[-1]
        return states


def test_what_is_no_function_is_not_judged():
    def first_call(given, upstream):
        x, Wx, Wh, b = given
        h0 = np.zeros((2, 4))
        dx, _, *rest = rnn_backward(x, h0, Wx, Wh, b, buffer(x, h0, Wx, Wh, b), upstream[0], tanh_derivative)
        return dx, *rest

    given = inputs(0, 1)
    del given["h0"]
    rng = np.random.default_rng(0)
    for report in (
        gradcheck(Stateful(), first_call, given),
        gradcheck(lambda x: x * (rng.random(4) < 0.5), lambda given, up: [up[0]], [np.ones(4)]),
        gradcheck(np.sin, lambda given, up: [up[0] * rng.random(4)], [np.ones(4)]),
    ):
        assert report.verdict == "not decided"
        assert "when called again with the same" in str(report)
        assert report.findings == ()
        assert report.worst is None


def test_gradients_that_add_up_are_judged_by_what_one_call_adds():
    total = {"W": np.zeros((3, 3))}

    def vjp(given, upstream, factor=1.0):
        W, x = given
        total["W"] = total["W"] + factor * np.outer(upstream[0] * (1 - np.tanh(W @ x) ** 2), x)
        return total["W"], None

    given = {"W": np.eye(3) * 0.3, "x": np.array([0.1, 0.2, 0.3])}
    for _ in range(2):
        report = gradcheck(lambda W, x: np.tanh(W @ x), vjp, given)
        assert report.ok
        assert report.remarks[0].startswith("vjp returns other gradients when called again: each adds to those of the")
    assert gradcheck(lambda W, x: np.tanh(W @ x), lambda i, u: vjp(i, u, 1.001), given).verdict == "WRONG"


def tanh_layer(W, x):
    return np.tanh(W @ x)


def tanh_layer_backward(given, upstream, factor=1.0):
    da = upstream[0] * (1 - np.tanh(given["W"] @ given["x"]) ** 2)
    return {"x": factor * (given["W"].T @ da), "W": factor * np.outer(da, given["x"])}


GIVEN = {"W": np.array([[0.3, -0.2, 0.1], [0.4, 0.5, -0.6], [0.2, 0.1, 0.3]]), "x": np.array([0.1, 0.2, 0.3])}


def test_names_in_and_out():
    assert gradcheck(tanh_layer, tanh_layer_backward, GIVEN)
    by_name = lambda given, up: tanh_layer_backward(given, [up["y"]])  # noqa: E731
    assert gradcheck(lambda W, x: {"y": tanh_layer(W, x)}, by_name, GIVEN)
    without_x = lambda given, up: {"W": tanh_layer_backward(given, up)["W"]}  # noqa: E731
    assert {f.name for f in gradcheck(tanh_layer, without_x, GIVEN).findings} == {"W"}
    with pytest.raises(ValueError, match="vjp returned a gradient of 'V', expected some of W, x"):
        gradcheck(tanh_layer, lambda given, up: {"V": 1}, GIVEN)
    with pytest.raises(ValueError, match="vjp returned int, expected 2 gradients, in a sequence or by name in a dict"):
        gradcheck(tanh_layer, lambda given, up: 1, GIVEN)
    with pytest.raises(ValueError, match="methods has 'magic', expected some of complex step, central differences"):
        gradcheck(tanh_layer, tanh_layer_backward, GIVEN, methods=["magic"])


def loss_and_gradients(W, x):
    """As lossFun of min-char-rnn: everything in one function, with buffers like its arguments."""
    y, dW, dx = tanh_layer(W, x), np.zeros_like(W), np.zeros_like(x)
    dW += np.outer(y * (1 - y**2), x)
    dx += W.T @ (y * (1 - y**2))
    return (y**2).sum() / 2, dW, dx


def test_a_loss_with_its_gradients_in_one_function():
    assert gradcheck(loss_and_gradients, None, GIVEN)
    assert gradcheck(lambda W, x: dict(zip(("loss", "dW", "dx"), loss_and_gradients(W, x))), None, GIVEN)
    grouped = lambda W, x: (loss_and_gradients(W, x)[0], dict(zip("Wx", loss_and_gradients(W, x)[1:])))  # noqa: E731
    assert gradcheck(grouped, None, GIVEN)
    assert not gradcheck(lambda W, x: (loss_and_gradients(W, x)[0], W, x), None, GIVEN)
    with pytest.raises(ValueError, match="expected a loss and its gradients, since there is no vjp"):
        gradcheck(tanh_layer, None, GIVEN)


def zeros_like_one_input(W, x):
    y = np.zeros_like(x)
    y[:] = np.tanh(W @ x)
    return y


@pytest.mark.parametrize("f", [zeros_like_one_input, lambda W, x: loss_and_gradients(W, x)[0]])
@pytest.mark.parametrize(
    "methods", [None, ["central differences"], ["central differences", "adjoint identity"], ["adjoint identity"]]
)
def test_any_choice_of_methods(f, methods):
    def vjp(given, upstream):
        y = np.tanh(given["W"] @ given["x"])
        up = upstream[0] if f is zeros_like_one_input else upstream[0] * y
        return tanh_layer_backward(given, [up])

    assert gradcheck(f, vjp, GIVEN, methods=methods)


WRONG = {
    "2 times the right values": lambda g: 2 * g,
    "0.333333 times the right values: a mean where the sum is right?": lambda g: g / 3,
    "the right values with the other sign": np.negative,
    "the transpose of the right values": np.transpose,
    "zero everywhere": np.zeros_like,
    "the same number everywhere, the sum of the right ones: a sum without its axis?": lambda g: np.full_like(
        g, g.sum()
    ),
    "right at the last of 3 alone, zero before it": lambda g: g * np.array([[0], [0], [1]]),
    "right at the last of 3 alone, wrong before it": lambda g: g * np.array([[2], [3], [1]]),
    "the right values in reverse order": lambda g: g[::-1],
    "wrong in rows 1 … 1 alone, block 2 of 3": lambda g: g * np.array([[1], [2], [1]]),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_a_wrong_gradient_looks_like(said):
    def vjp(given, upstream):
        right = tanh_layer_backward(given, upstream)
        return {**right, "W": WRONG[said](right["W"])}

    report = gradcheck(tanh_layer, vjp, GIVEN)
    assert report.verdict == "WRONG"
    (cause,) = report.causes
    assert str(cause).startswith(f"W: {said}")
    assert len(str(report).splitlines()) == 2


def test_a_scalar_keeps_the_users_own_numbers():
    clipped = lambda given, up: [up[0] * np.clip(3 * given[0] ** 2, -5, 5)]  # noqa: E731
    report = gradcheck(lambda x: (x**3).sum(), clipped, {"x": np.array([1.0, 2.0, 3.0])})
    assert report.worst.gradient == 5
    assert list(map(str, report.causes)) == ["x: the right values, clipped to ±5"]


def test_one_cause_for_several_inputs():
    report = gradcheck(tanh_layer, lambda given, up: tanh_layer_backward(given, up, 2.0), GIVEN)
    assert report.causes == ((("W", "x"), "2 times the right values"),)
    assert str(report).splitlines()[1:] == ["W, x: 2 times the right values"]


def test_zeros_that_hide_mistakes_are_pointed_out():
    f, vjp, gates = LAYERS["RNN into a list"]
    given = {**inputs(0, gates), "b": np.zeros(4), "h0": np.zeros((2, 4))}
    report = gradcheck(f, vjp, given)
    assert report.ok
    assert report.remarks == (
        "h0, b are zero, which hides mistakes in whatever is multiplied with it: try random numbers",
    )


# ---- diagnose, on numbers as they come


def lstm_outputs(case, order="ifgo", forget=0.0, epsilon=0.0):
    """Outputs of somebody's LSTM on a case of one layer."""
    p, (h, c) = case.params[0][0], (s[0] for s in case.s0)
    found = []
    for x in case.x:
        a = dict(zip(order, np.split(x @ p.W_ih.T + h @ p.W_hh.T + p.b_ih + p.b_hh, 4, axis=1)))
        i, f, o = (sigmoid(a[gate] + epsilon + forget * (gate == "f")) for gate in "ifo")
        c = f * c + i * np.tanh(a["g"])
        h = o * np.tanh(c)
        found.append(h)
    return np.stack(found)


def names(found):
    return {m.name for m in found.mistakes}


@pytest.mark.parametrize(
    ("cell", "slips"),
    [
        ("lstm", {"weight-gradient-of-the-first-step-alone", "bias-gradient-of-the-first-step-alone"}),
        ("gru", {"sigmoid-derivative-of-the-activated-value", "tanh-derivative-of-the-activated-value"}),
        ("lstm", {"sigmoid-derivative-left-out", "tanh-derivative-left-out"}),
        ("lstm", {"lstm-path-through-c-dropped", "path-through-W_hh-dropped"}),
    ],
)
def test_one_slip_that_makes_two_mistakes_of_a_group(cell, slips):
    case = zoo.cases(cell)[0]
    assert names(zoo.diagnose(case, zoo.machine(cell, *map(zoo.mistake, slips)).run(case))) == slips


@pytest.mark.parametrize("right", ["ifgo", "rzn"])
def test_every_wrong_order_of_gates(right):
    cell, stem = ("lstm", "lstm-gates-") if right == "ifgo" else ("gru", "gru-gates-")
    orders = {f"{stem}{''.join(order)}" for order in itertools.permutations(right)} - {f"{stem}{right}"}
    assert orders <= {m.name for m in zoo.mistakes(cell)}
    if right == "ifgo":
        case = zoo.cases("lstm")[0]
        for name in orders:
            theirs = lstm_outputs(case, name.removeprefix(stem))
            assert names(zoo.diagnose(case, {"output": theirs})) == {name}


def test_the_forget_bias_is_lost_or_added_alone_and_with_another_order():
    case = zoo.cases("lstm")[0]
    for forget, name in ((-1, "lstm-forget-bias-lost"), (1, "lstm-forget-bias-added")):
        assert names(zoo.diagnose(case, {"output": lstm_outputs(case, forget=forget)})) == {name}
        both = zoo.diagnose(case, {"output": lstm_outputs(case, "igfo", forget)})
        assert names(both) == {name, "lstm-gates-igfo"}


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_a_state_kept_from_the_call_before(cell):
    case = zoo.cases(cell)[2]
    first = zoo.machine(cell).run(case)
    again = case._replace(s0=tuple(first[name] for name in ("h_n", "c_n")[: len(case.s0)]))
    assert names(zoo.diagnose(case, {"output": zoo.machine(cell).run(again)["output"]})) == {"state-kept-between-calls"}


def test_a_small_number_in_the_sigmoid_hides_nothing():
    case = zoo.cases("lstm")[0]
    output = {"output": lstm_outputs(case, epsilon=1e-10)}
    found = zoo.diagnose(case, output)
    assert names(found) == set()
    assert "They are right to 5e-11" in str(found)
    assert "float32" not in str(found)
    assert found.first is not None
    _, got, expected = re.fullmatch(r"(.*) is ([\d.e-]+), expected ([\d.e-]+)", str(found.first)).groups()
    assert got != expected
    name = "lstm-dc-from-h-dropped"
    found = zoo.diagnose(case, zoo.machine("lstm", zoo.mistake(name)).run(case) | output)
    assert names(found) == {name}
    assert str(found).endswith("Apart from that, output is right to 5e-11.")


@pytest.mark.parametrize("decimals", [4, 8])
def test_numbers_as_they_are_printed(decimals):
    case = zoo.cases("lstm")[0]
    wrong, right = lstm_outputs(case, "ifog"), lstm_outputs(case)
    found = zoo.diagnose(case, {"output": np.round(wrong, decimals)})
    assert names(found) == {"lstm-gates-ifog"}
    assert str(found).endswith(f"The numbers have {decimals} decimals.")
    found = zoo.diagnose(case, {"output": np.round(right, decimals)})
    assert str(found) == f"output: right. The numbers have {decimals} decimals."


def test_what_is_printed_as_whole_numbers_is_rounded_too():
    """0.0000 for a gradient of 1e-9, 1.0000 for a state of 0.99999."""
    params = {"W_ih": np.ones((2, 2)), "W_hh": 0.5 * np.eye(2)}
    tiny = zoo.Case.of("rnn", params, 1e-6 * np.ones((3, 1, 2)), doutput=np.ones((3, 1, 2)))
    found = zoo.diagnose(tiny, grads={"dW_ih": np.zeros((2, 2))})
    assert str(found) == "dW_ih: right. The numbers have 5 decimals."
    full = zoo.Case.of("rnn", params | {"b_ih": np.full(2, 6.0)}, np.zeros((3, 1, 2)))
    assert zoo.diagnose(full, {"h_n": np.ones((1, 1, 2))}).agrees
    assert not zoo.diagnose(full, {"h_n": -np.ones((1, 1, 2))}).agrees
    case = zoo.cases("gru")[0]
    zero = {name: 0 * a for name, a in zoo.machine("gru").run(case).items() if name.startswith("dW")}
    assert "zero everywhere" in str(zoo.diagnose(case, zero))


def tanh_states(case):
    """h_0 … h_T of one layer of tanh units."""
    p, h = case.params[0][0], [case.s0[0][0]]
    for x in case.x:
        h.append(np.tanh(x @ p.W_ih.T + h[-1] @ p.W_hh.T + p.b_ih + p.b_hh))
    return h


@pytest.mark.parametrize("K", [1, 4])
def test_how_far_back_a_truncated_loss_reaches(K):
    """As tutorials write it: a loop back over the last steps inside a loop over the steps' losses; dx of one alone."""
    case = zoo.random_case("own", "rnn_tanh", T=8, B=1, I=3, H=5, R=5, zero_state=True)
    case = case._replace(ds_n=(np.zeros_like(case.ds_n[0]),))
    p, h = case.params[0][0], tanh_states(case)
    dW_ih, dW_hh, dx = np.zeros_like(p.W_ih), np.zeros_like(p.W_hh), np.zeros_like(case.x)
    for t in range(8):
        da = case.doutput[t] * (1 - h[t + 1] ** 2)
        dx[t] = da @ p.W_ih
        for s in range(t, max(-1, t - K - 1), -1):
            dW_ih += da.T @ case.x[s]
            dW_hh += da.T @ h[s]
            da = (da @ p.W_hh) * (1 - h[s] ** 2)
    steps = "step" if K == 1 else "steps"
    said = f"the loss of each step reaches {K} {steps} back only (truncated: k1 = 1, k2 = {K + 1})"
    found = zoo.diagnose(case, {"output": np.stack(h[1:])}, {"dW_ih": dW_ih, "dW_hh": dW_hh})
    assert str(found).endswith(f"{said}.")
    found = zoo.diagnose(case, grads={"dW_hh": dW_hh, "dx": dx})
    assert str(found).endswith(f"{said}, and dx has its own step's loss alone.")


def test_batch_taken_for_time():
    case = zoo.cases("lstm")[0]
    T = len(case.x)
    turned = case._replace(
        x=case.x.swapaxes(0, 1),
        s0=tuple(np.zeros((1, T, s.shape[2])) for s in case.s0),
        doutput=case.doutput.swapaxes(0, 1),
    )
    output = lstm_outputs(turned)
    found = zoo.diagnose(case, {"output": output.swapaxes(0, 1)})
    assert str(found).endswith(
        "batch and time have changed places: x (B, T, I) is taken for (T, B, I), from zero states."
    )
    with pytest.raises(ValueError, match=r"batch first\? Its first two axes have to change places"):
        zoo.diagnose(case, {"output": output})


@pytest.mark.parametrize("sizes", [{"T": 4, "B": 3, "L": 2}, {"T": 3, "B": 3, "D": 2}])
def test_batch_taken_for_time_in_gradients(sizes):
    """Of a stack, and of as many steps as sequences, where the states fit, too."""
    case = zoo.random_case("own", "gru", I=2, H=4, **sizes)
    T, B, _ = case.x.shape

    def states(given):
        return given if T == B else tuple(np.zeros((len(s), T, s.shape[2])) for s in given)

    theirs = zoo.machine("gru").run(
        case._replace(
            x=case.x.swapaxes(0, 1),
            doutput=case.doutput.swapaxes(0, 1),
            s0=states(case.s0),
            ds_n=states(case.ds_n),
            masks=case.masks and tuple(m.swapaxes(0, 1) for m in case.masks),
        )
    )
    grads = {name: a for name, a in theirs.items() if name.startswith(("dW", "db"))}
    assert "batch and time have changed places" in str(zoo.diagnose(case, grads=grads))


def test_a_problem_of_ones_own():
    """With the names of either kind; a missing bias is zero, and what is missing of states and upstreams, too."""
    rng = np.random.default_rng(0)
    for cell in CELLS:
        case = zoo.random_case("own", cell, T=4, B=2, I=3, H=5, R=2, L=2, D=2)
        for torch_names in (False, True):
            named = {}
            for l, layer in enumerate(case.params):
                for d, p in enumerate(layer):
                    for field, w in p._asdict().items():
                        theirs = parameter_name(field, l, d)
                        named[theirs if torch_names else f"{field}_l{l}{'_reverse' if d else ''}"] = w
            states = {f"{n}_0": s for n, s in zip("hc", case.s0)} | {f"d{n}_n": s for n, s in zip("hc", case.ds_n)}
            given = {"doutput": case.doutput, "lengths": case.lengths, "masks": case.masks}
            stated = zoo.Case.of(cell.upper(), named, case.x, **given, **states)
            right, got = zoo.machine(cell).run(case), zoo.machine(cell).run(stated)
            assert set(right) == set(got)
            assert all(np.array_equal(right[name], got[name]) for name in right)
    x, W_ih, W_hh = (rng.standard_normal(shape) for shape in ((4, 3), (5, 3), (5, 5)))
    case = zoo.Case.of("rnn", {"W_ih": W_ih, "weight_hh_l0": W_hh}, x, h_0=np.ones((1, 5)), doutput=np.ones((4, 5)))
    assert case.x.shape == (4, 1, 3)
    assert not case.params[0][0].b_ih.any()
    assert np.array_equal(case.s0[0], np.ones((1, 1, 5)))
    assert zoo.diagnose(case, zoo.machine("rnn_tanh").run(case)).agrees


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"params": {"W": np.ones((5, 3))}}, "rnn_tanh has no parameter 'W', expected W_ih, W_hh, b_ih, b_hh"),
        ({"params": {"W_ih": np.ones((5, 3))}}, "W_hh is missing in layer 0, direction 0"),
        ({"x": np.ones(3)}, r"x has shape \(3,\), expected \(T, B, I\), or \(T, I\) for one sequence"),
        ({"doutput": np.ones((4, 2, 4))}, r"doutput has shape \(4, 2, 4\), expected \(4, 2, 5\)"),
        ({"cell": "elman"}, "cell is 'elman', expected rnn_tanh"),
    ],
)
def test_a_problem_that_is_none(change, sentence):
    given = {"cell": "rnn", "params": {"W_ih": np.ones((5, 3)), "W_hh": np.ones((5, 5))}, "x": np.ones((4, 2, 3))}
    with pytest.raises(ValueError, match=sentence):
        zoo.Case.of(**given | change)


# ---- several mistakes, each in its own tensors; ways to go about it; a loss inside


def test_parts_are_named_where_nothing_explains_the_whole():
    """Each tensor with a mistake of its own: no one mistake and no pair makes all of them."""
    case = zoo.cases("lstm")[0]
    right = zoo.machine("lstm").run(case)
    slips = {
        "dW_hh": "dW_hh-transposed",
        "dx": "lstm-path-through-c-dropped",
        "db_ih": "gradients-averaged-over-the-batch",
    }
    theirs = {name: zoo.machine("lstm", zoo.mistake(slip)).run(case)[name] for name, slip in slips.items()}
    found = zoo.diagnose(case, {**right, **theirs})
    assert not found.mistakes
    assert str(found).startswith("Not identified as a whole: dx, dW_hh and db_ih differ from the right values; dx[")
    named = {name: {m.name for m in part.mistakes} for part in found.parts for name in part.names}
    assert named["dx"] == {slips["dx"]}
    assert "dW_hh by itself comes out when " in str(found)
    assert set(named) >= {"dx", "dW_hh"}
    assert "db_ih by itself" in str(found)
    rng = np.random.default_rng(0)
    noise = {name: a + rng.standard_normal(a.shape) for name, a in right.items()}
    assert zoo.diagnose(case, noise).parts == ()


def test_a_part_that_is_no_mistake_of_the_zoo():
    case = zoo.cases("gru")[0]
    right = zoo.machine("gru").run(case)
    rng = np.random.default_rng(0)
    odd = {"dW_ih": 3.7 * right["dW_ih"], "dW_hh": rng.standard_normal(right["dW_hh"].shape)}
    assert "But dW_ih by itself is 3.7 times the right values." in str(zoo.diagnose(case, {**right, **odd}))


def test_a_large_case_is_searched_as_a_small_one_is():
    case = zoo.random_case("own", "gru", T=12, B=4, I=5, H=8, R=8)
    slips = {"dh_n-ignored", "gru-path-through-r-dropped"}
    theirs = zoo.machine("gru", *map(zoo.mistake, slips)).run(case)
    assert names(zoo.diagnose(case, theirs)) == slips
    assert names(zoo.diagnose(case, zoo.machine("gru", zoo.mistake("b_hh-lost")).run(case))) == {"b_hh-lost"}


def rnn_gradients(case, clip, with_loss):
    """Somebody's backward for one layer of tanh units, which clips what it carries."""
    p, h = case.params[0][0], tanh_states(case)
    grads = {"dW_ih": 0, "dW_hh": 0, "dx": np.zeros_like(case.x)}
    carried = case.ds_n[0][0]
    for t in reversed(range(len(case.x))):
        arriving = clip(carried + case.doutput[t]) if with_loss else carried + case.doutput[t]
        da = arriving * (1 - h[t + 1] ** 2)
        grads["dW_ih"] += da.T @ case.x[t]
        grads["dW_hh"] += da.T @ h[t]
        grads["dx"][t] = da @ p.W_ih
        carried = da @ p.W_hh if with_loss else clip(da @ p.W_hh)
    return {"output": np.stack(h[1:]), **grads, "dh_0": carried[None]}


@pytest.mark.parametrize("with_loss", [False, True])
@pytest.mark.parametrize(
    ("clip", "said"),
    [
        (lambda d: np.clip(d, -0.5, 0.5), "clipped to ± 0.5,"),
        (lambda d: d * min(1, 2 / np.linalg.norm(d)), "clipped to the norm 2,"),
    ],
    ids=["value", "norm"],
)
def test_what_is_carried_back_is_clipped(clip, said, with_loss):
    case = zoo.random_case("own", "rnn_tanh", T=6, B=2, I=3, H=5, R=5)
    found = zoo.diagnose(case, rnn_gradients(case, clip, with_loss))
    when = "after" if with_loss else "before"
    assert f"what each step sends back to the step before is {said} {when} the loss's share is added" in str(found)


def test_a_loss_with_a_softmax_inside():
    """The gradient that arrives at the output depends on the output, so a wrong forward has another one."""
    rng = np.random.default_rng(0)
    params = {
        "W_ih": rng.standard_normal((20, 3)),
        "W_hh": rng.standard_normal((20, 5)),
        "b_ih": rng.standard_normal(20),
    }
    loss = zoo.softmax_loss(rng.standard_normal((7, 5)), rng.standard_normal(7), rng.integers(7, size=(4, 2)))
    case = zoo.Case.of("lstm", params, rng.standard_normal((4, 2, 3)), loss=loss)
    right = zoo.machine("lstm").run(case)
    assert zoo.diagnose(case, right).agrees
    assert "loss" in zoo.diagnose(case, right).right
    value, doutput = loss(right["output"])
    assert right["loss"] == value
    fixed = zoo.Case.of("lstm", params, case.x, doutput=doutput)
    assert np.array_equal(zoo.machine("lstm").run(fixed)["dW_hh"], right["dW_hh"])
    theirs = zoo.machine("lstm", zoo.mistake("lstm-gates-ifog")).run(case)
    for given in (
        {"dW_hh": theirs["dW_hh"]},
        {"loss": float(theirs["loss"])},
        {"loss": round(float(theirs["loss"]), 8)},
    ):
        assert "lstm-gates-ifog" in names(zoo.diagnose(case, given))
    summed = {name: 8 * a for name, a in right.items() if name.startswith(("d", "loss"))}
    assert "8 times the right values" in str(zoo.diagnose(case, summed))


# ---- from a layer of one's own to the name, in one call


def own_lstm(x, h0, c0, W, b, order="fgio", slip=False):
    """Columns: W [h, x], gates f, g, i, o, one sequence. With a slip, the path through the forget gate is cut."""
    h, c, tape, states = h0, c0, [], []
    for x_t in x:
        z = np.concatenate([h, x_t])
        a = dict(zip(order, np.split(W @ z + b, 4)))
        i, f, o, g = sigmoid(a["i"]), sigmoid(a["f"]), sigmoid(a["o"]), np.tanh(a["g"])
        tape.append((z, c, i, f, o, g))
        c = f * c + i * g
        h = o * np.tanh(c)
        states.append(h)
    return np.stack(states), tape


def own_lstm_states(*inputs):
    return own_lstm(*inputs)[0]


def own_lstm_backward(inputs, upstream, order="fgio", slip=False):
    x, h0, c0, W, b = inputs
    _, tape = own_lstm(*inputs)
    dx, dW, db, dh, dc = np.zeros_like(x), np.zeros_like(W), np.zeros_like(b), 0 * h0, 0 * c0
    for t in reversed(range(len(x))):
        z, c, i, f, o, g = tape[t]
        tanh_c = np.tanh(f * c + i * g)
        dh = dh + upstream[0][t]
        dc = dc + dh * o * (1 - tanh_c**2)
        da = {"i": dc * g * i * (1 - i), "f": dc * c * f * (1 - f), "g": dc * i * (1 - g**2)}
        da["o"] = dh * tanh_c * o * (1 - o)
        da = np.concatenate([da[gate] for gate in order])
        dW += np.outer(da, z)
        db += da
        dz = W.T @ da
        dh, dx[t] = dz[: len(h0)], dz[len(h0) :]
        dc = 0 * dc if slip else dc * f
    return {"x": dx, "h0": dh, "c0": dc, "W": dW, "b": db}


def own_inputs(H=4, I=3):
    rng = np.random.default_rng(0)
    shapes = {"x": (5, I), "h0": (H,), "c0": (H,), "W": (4 * H, H + I), "b": (4 * H,)}
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def test_a_layer_in_its_own_layout_is_diagnosed_in_one_call():
    layout = zoo.Layout(gates="fgio", fused="[h,x]")
    assert gradcheck(own_lstm_states, own_lstm_backward, own_inputs())
    assert zoo.diagnose_layer("lstm", own_lstm_states, own_lstm_backward, own_inputs(), layout=layout).agrees
    f, wrong = own_lstm_states, partial(own_lstm_backward, slip=True)
    report = gradcheck(f, wrong, own_inputs())
    assert "numpy_rnn.verify.zoo.diagnose_layer(cell, f, vjp, inputs) names the slip; cell is rnn, rnn_" in str(report)
    assert names(zoo.diagnose_layer("lstm", f, wrong, own_inputs(), layout=layout)) == {"lstm-path-through-c-dropped"}
    other = zoo.diagnose_layer("lstm", f, own_lstm_backward, own_inputs(), layout=zoo.Layout("figo", "[h,x]"))
    assert "gates" in str(other)  # the layout was not the layer's
    with pytest.raises(ValueError, match="one array W multiplies h and x: say which comes first"):
        zoo.diagnose_layer("lstm", f, wrong, own_inputs())
    with pytest.raises(ValueError, match="gates is 'abcd', expected the letters of 'ifgo' in some order"):
        zoo.diagnose_layer("lstm", f, wrong, own_inputs(), layout=zoo.Layout("abcd", "[h,x]"))


@pytest.mark.parametrize("H", [3, 4])
def test_layouts_of_weights_and_batches(H):
    """Rows, batch first; with H = I both weights are square, and the layout has to say what they are."""
    rng = np.random.default_rng(0)
    shapes = {"x": (2, 5, 3), "h_prev": (2, H), "Wx": (3, H), "Wh": (H, H), "b": (H,)}
    given = {name: rng.standard_normal(shape) for name, shape in shapes.items()}

    def f(x, h, Wx, Wh, b):
        return buffer(x.swapaxes(0, 1), h, Wx, Wh, b).swapaxes(0, 1), buffer(x.swapaxes(0, 1), h, Wx, Wh, b)[-1]

    def vjp(inputs, upstream, wrong=False):
        x, h, Wx, Wh, b = inputs
        up = upstream[0].swapaxes(0, 1).copy()
        up[-1] += 0 if wrong else upstream[1]
        states = buffer(x.swapaxes(0, 1), h, Wx, Wh, b)
        dx, *rest = rnn_backward(x.swapaxes(0, 1), h, Wx, Wh, b, states, up, tanh_derivative)
        return dx.swapaxes(0, 1), *rest

    layout = zoo.Layout(batch_first=True, transposed=True if H == 3 else None)
    assert zoo.diagnose_layer("rnn", f, vjp, given, layout=layout).agrees
    wrong = partial(vjp, wrong=True)
    assert names(zoo.diagnose_layer("rnn", f, wrong, given, layout=layout)) == {"dh_n-ignored"}
    narrow = {name: a.astype(np.float32) for name, a in given.items()}
    assert names(zoo.diagnose_layer("rnn", f, wrong, narrow, layout=layout)) == {"dh_n-ignored"}
    with pytest.raises(
        ValueError, match=r"x has 5 sequences and h_0 2: is x laid out otherwise\? Say layout=Layout\(b"
    ):
        zoo.diagnose_layer("rnn", f, vjp, given, layout=layout._replace(batch_first=False))
    if H == 3:
        with pytest.raises(ValueError, match=r"is square, so its shape does not tell: say layout=Layout\(transposed"):
            zoo.diagnose_layer("rnn", f, vjp, given, layout=zoo.Layout(batch_first=True))


def gru_of_1406_1078(wrong=False):
    """Reset before the product, z weighs the candidate, gates z, r, c, as in the first paper."""

    def run(x, h0, Wx, Wh, b):
        h, tape, found, H = h0, [], [], h0.shape[1]
        for x_t in x:
            u = x_t @ Wx + b
            z, r = sigmoid(u[:, :H] + h @ Wh[:, :H]), sigmoid(u[:, H : 2 * H] + h @ Wh[:, H : 2 * H])
            n = np.tanh(u[:, 2 * H :] + (r * h) @ Wh[:, 2 * H :])
            tape.append((h, z, r, n))
            h = (1 - z) * h + z * n
            found.append(h)
        return np.stack(found), tape

    def vjp(inputs, upstream):
        x, h0, Wx, Wh, b = inputs
        (_, tape), H = run(*inputs), h0.shape[1]
        dx, dWx, dWh, db, dh = np.zeros_like(x), np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b), 0 * h0
        for t in reversed(range(len(x))):
            h, z, r, n = tape[t]
            dh = dh + upstream[0][t]
            dn = dh * z * (1 - n**2)
            dq = dn @ Wh[:, 2 * H :].T
            da = np.hstack([dh * (n - h) * z * (1 - z), dq * h * r * (1 - r), dn])
            dx[t] = da @ Wx.T
            dWx, db = dWx + x[t].T @ da, db + da.sum(axis=0)
            dWh += np.hstack([h.T @ da[:, : 2 * H], (r * h).T @ dn])
            dh = dh * (1 - z) + (dq if wrong else dq * r) + da[:, : 2 * H] @ Wh[:, : 2 * H].T
        return dx, dh, dWx, dWh, db

    return lambda *a: run(*a)[0], vjp


def test_a_variant_of_the_cell_is_recognised_by_its_outputs():
    rng = np.random.default_rng(0)
    shapes = {"x": (4, 2, 3), "h0": (2, 5), "Wx": (3, 15), "Wh": (5, 15), "b": (15,)}
    given = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    found = zoo.diagnose_layer("gru", *gru_of_1406_1078(), given, layout=zoo.Layout(gates="zrc"))
    assert found.agrees
    assert str(found).endswith("Taken for gru_reset_before, z weighing the candidate, whose outputs these are.")
    found = zoo.diagnose_layer("gru", *gru_of_1406_1078(wrong=True), given, layout=zoo.Layout(gates="zrc"))
    assert found.mistakes
    assert all(m.name.startswith("gru-") for m in found.mistakes)
    f, vjp, gates = LAYERS["RNN with relu"]
    found = zoo.diagnose_layer("rnn", f, vjp, inputs(0, gates))
    assert str(found).endswith("right. Taken for rnn_relu, whose outputs these are.")
    with pytest.raises(ValueError, match="vjp is None, expected a function: of a loss with its gradients, hand over"):
        zoo.diagnose_layer("rnn", f, None, inputs(0, gates))
    assert "rnn.py" in zoo.mistake("W_hh-not-transposed-in-backward").diff("rnn")
    with pytest.raises(ValueError, match="gru cannot have lstm-path-through-c-dropped, only lstm"):
        zoo.mistake("lstm-path-through-c-dropped").diff("gru")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"V": np.ones(3)}, "what is the input 'V'"),
        ({"xs": np.ones((4, 3))}, "'x' and 'xs' are both taken for x"),
        ({"Wh": np.ones((4, 5))}, r"W_hh has shape \(4, 5\), expected 1·H and H in either order"),
        ({"Wh": None}, "no input is W_hh"),
    ],
)
def test_inputs_that_do_not_tell_what_they_are(change, sentence):
    given = {"x": np.ones((4, 3)), "Wx": np.ones((3, 5)), "Wh": np.ones((5, 5)), "b": np.ones(5), **change}
    given = {name: a for name, a in given.items() if a is not None}
    with pytest.raises(ValueError, match=sentence):
        zoo.diagnose_layer("rnn", lambda *a: a[0], lambda i, u: i, given)
