"""Mistakes inside a cell: equations, derivatives, indices, paths."""

from __future__ import annotations

from .mistake import Mistake
from .mistakes_weights import SUMMED
from .plant import ALL, GRU, LSTM, LSTM_SQUARE, RNN, Changes, in_cells

PROJECTION, PEEPHOLE = ("lstm_projection",), ("lstm_peephole",)
CANDIDATE = "n = np.tanh(u_n + r * v_n)"  # of gru
UPDATE = "h[t + 1] = (1 - z) * n + z * h[t]"
OUTPUT = "h[t + 1] = o * np.tanh(c[t + 1])"  # of lstm, lstm_peephole
MEMORY = "m = o * np.tanh(c[t + 1])"  # of lstm_projection
C_FROM_H, C_FROM_M = (f"{z} * o * (1 - np.tanh(c[t + 1]) ** 2)" for z in ("dh[t + 1]", "dm"))  # of these in turn
CHOICES = ("f, _ = NONLINEARITIES[nonlinearity]", "_, df = NONLINEARITIES[nonlinearity]")  # of rnn
IMPORT = "from .functions import Array, Params, Tape"
LOOP = "for t in reversed(range(len(x))):"


def _hard_sigmoid(formula: str, slope: str) -> Changes:
    """The logistic function replaced by a straight line between 0 and 1, and its derivative with it."""
    definition = f"\n\n\ndef sigmoid(a: Array) -> Array:\n    return np.minimum(np.maximum({formula}, 0), 1)"
    imported = (f"{IMPORT}, sigmoid", f"{IMPORT}{definition}")

    def derivative(gate: str) -> tuple[str, str]:
        return f"d{gate} * {gate} * (1 - {gate})", f"d{gate} * {slope} * (({gate} > 0) & ({gate} < 1))"

    return in_cells(LSTM, imported, *map(derivative, "ifo")) | in_cells(GRU, imported, *map(derivative, "rz"))


VARIANT = (
    Mistake(
        "gru-reset-before-for-after",
        "GRU variant",
        "the reset gate acts before the product with W_hn instead of after it",
        "Two versions of the same paper define two GRUs: tanh(W x + r ∘ (W h + b)) and tanh(W x + W (r ∘ h) + b). "
        "Parameters have the same shapes; ONNX, Keras and torch have different defaults.",
        ("pytorch/pytorch#99531", "tracel-ai/burn#2701"),
        in_cells(
            ("gru",),
            (CANDIDATE, "n = np.tanh(u_n + np.split(W_hh, 3)[2] @ (r * h[t]) + np.split(b_hh, 3)[2])"),
            ("dv_n = du_n * r", "dv_n = du_n\n        dq = np.split(W_hh, 3)[2].T @ du_n"),
            ("dr = du_n * v_n", "dr = dq * h[t]"),
            ("dh[t] += W_hh.T @ dv", "dh[t] += dq * r + W_hh[: len(r) * 2].T @ dv[: len(r) * 2]"),
            ("np.outer(dv, h[t])", "np.vstack([np.outer(dv[: len(r) * 2], h[t]), np.outer(dv_n, r * h[t])])"),
        ),
    ),
    Mistake(
        "gru-reset-after-for-before",
        "GRU variant",
        "the reset gate acts after the product with W_hn instead of before it",
        "The other direction of the same confusion: ONNX's default is before, torch's and cuDNN's only form is after.",
        ("pytorch/pytorch#99531",),
        in_cells(
            ("gru_reset_before",),
            ("q = r * h[t]", "q = W_hn @ h[t] + b_hn"),
            ("v_n = W_hn @ q + b_hn", "v_n = r * q"),
            ("dq = W_hn.T @ du_n", "dv_n = du_n * r"),
            ("dr = dq * h[t]", "dr = du_n * (W_hn @ h[t] + np.split(tape[0][3], 3)[2])"),
            ("dh[t] += dq * r", "dh[t] += W_hn.T @ dv_n"),
            ("np.outer(du_n, r * h[t])", "np.outer(dv_n, h[t])"),
            ("db_hh += du", "db_hh += np.concatenate([du_r, du_z, dv_n])"),
        ),
    ),
    Mistake(
        "gru-z-turned-around",
        "GRU variant",
        "z weighs the candidate and 1 - z the old state",
        "h = (1 - z) ∘ h + z ∘ n is what Haiku, Wikipedia and one of the two papers have; torch, Keras and ONNX have "
        "it the other way round.",
        ("pytorch/pytorch#20129", "pytorch/pytorch#60645"),
        in_cells(
            GRU,
            (UPDATE, "h[t + 1] = z * n + (1 - z) * h[t]"),
            ("dn = dh[t + 1] * (1 - z)", "dn = dh[t + 1] * z"),
            ("(h[t] - n)", "(n - h[t])"),
            ("dh[t] += dh[t + 1] * z", "dh[t] += dh[t + 1] * (1 - z)"),
        ),
    ),
    Mistake(
        "gru-dz-sign",
        "GRU variant",
        "the gradient of z has the wrong sign",
        "Backward is derived from the other meaning of z: n - h for h - n. Only the update gate's rows show it "
        "directly.",
        (),
        in_cells(GRU, ("(h[t] - n)", "(n - h[t])")),
    ),
    Mistake(
        "gru-reset-ignored",
        "GRU variant",
        "the reset gate is computed and not used",
        "r is there, its weights are there, and the candidate is built from h all the same.",
        ("zhiyongc/GRU-D#2",),
        in_cells(
            ("gru",),
            (CANDIDATE, "n = np.tanh(u_n + v_n)"),
            ("dv_n = du_n * r", "dv_n = du_n"),
            ("dr = du_n * v_n", "dr = 0 * v_n"),
        )
        | in_cells(
            ("gru_reset_before",),
            ("q = r * h[t]", "q = h[t]"),
            ("dr = dq * h[t]", "dr = 0 * h[t]"),
            ("dh[t] += dq * r", "dh[t] += dq"),
            ("np.outer(du_n, r * h[t])", "np.outer(du_n, h[t])"),
        ),
    ),
    Mistake(
        "gru-old-state-reset-too",
        "GRU variant",
        "z keeps r ∘ h instead of h",
        "The reset state overwrites h, and the update then mixes in what was meant for the candidate alone.",
        (),
        in_cells(GRU, (UPDATE, "h[t + 1] = (1 - z) * n + z * (r * h[t])")),
    ),
    Mistake(
        "gru-dr-of-the-other-variant",
        "GRU variant",
        "the gradient of r is computed as for the other variant, without the product",
        "dr = dn ∘ h mixes the two variants: after the product it must be the product, W h + b, that r has multiplied.",
        (),
        in_cells(("gru",), ("dr = du_n * v_n", "dr = du_n * h[t]")),
    ),
    Mistake(
        "gru-dW_hn-without-reset",
        "GRU variant",
        "dW_hn is summed up with h instead of r ∘ h, or without the factor r",
        "One call computes dW_hh for all three blocks, and the candidate's block is not of the same kind.",
        (),
        in_cells(("gru",), ("np.outer(dv, h[t])", "np.outer(du, h[t])"))
        | in_cells(("gru_reset_before",), ("np.outer(du_n, r * h[t])", "np.outer(du_n, h[t])")),
    ),
    Mistake(
        "lstm-coupled-gates",
        "cell equations",
        "1 - f stands in for the input gate",
        "Coupled input and forget gates are a variant of their own (ONNX: input_forget). i is computed and not used.",
        (),
        in_cells(
            LSTM,
            ("c[t + 1] = f * c[t] + i * g", "c[t + 1] = f * c[t] + (1 - f) * g"),
            ("di = dc[t + 1] * g", "di = 0 * g"),
            ("df = dc[t + 1] * c[t]", "df = dc[t + 1] * (c[t] - g)"),
            ("dg = dc[t + 1] * i", "dg = dc[t + 1] * (1 - f)"),
        ),
    ),
    Mistake(
        "lstm-forget-gate-missing",
        "cell equations",
        "the cell state is kept whole: c + i ∘ g, as before forget gates were invented",
        "The equations of 1997. f is computed and not used.",
        (),
        in_cells(
            LSTM,
            ("c[t + 1] = f * c[t] + i * g", "c[t + 1] = c[t] + i * g"),
            ("df = dc[t + 1] * c[t]", "df = 0 * c[t]"),
            ("dc[t] += dc[t + 1] * f", "dc[t] += dc[t + 1]"),
        ),
    ),
    Mistake(
        "lstm-output-without-tanh",
        "cell equations",
        "h is o ∘ c, the tanh of the cell state left out",
        "Small cell states hide it, since tanh(c) is nearly c.",
        (),
        in_cells(
            LSTM_SQUARE,
            (OUTPUT, "h[t + 1] = o * c[t + 1]"),
            ("do = dh[t + 1] * np.tanh(c[t + 1])", "do = dh[t + 1] * c[t + 1]"),
            (C_FROM_H, "dh[t + 1] * o"),
        )
        | in_cells(
            PROJECTION,
            (MEMORY, "m = o * c[t + 1]"),
            ("do = dm * np.tanh(c[t + 1])", "do = dm * c[t + 1]"),
            (C_FROM_M, "dm * o"),
        ),
    ),
    Mistake(
        "lstm-candidate-with-sigmoid",
        "cell equations",
        "the candidate g has gone through the logistic function instead of tanh",
        "One activation for all four blocks, applied in one call.",
        (),
        in_cells(LSTM, ("np.tanh(a_g)", "sigmoid(a_g)"), ("da_g = dg * (1 - g**2)", "da_g = dg * g * (1 - g)")),
    ),
    Mistake(
        "nonlinearity-ignored",
        "cell equations",
        "the other nonlinearity is used: relu for tanh, or tanh for relu",
        "The option is accepted and not looked at.",
        (),
        in_cells(("rnn_tanh",), *((line, line.replace("nonlinearity", '"relu"')) for line in CHOICES))
        | in_cells(("rnn_relu",), *((line, line.replace("nonlinearity", '"tanh"')) for line in CHOICES)),
    ),
    Mistake(
        "relu-leaks",
        "cell equations",
        "relu leaks: negative values are multiplied by 0.01, not by 0",
        "A leaky relu taken for relu.",
        (),
        in_cells(
            ("rnn_relu",),
            ("h[t + 1] = f(a)", "h[t + 1] = np.where(a.real > 0, a, 0.01 * a)"),
            ("df(h[t + 1])", "np.where(h[t + 1] > 0, 1, 0.01)"),
        ),
    ),
    Mistake(
        "hard-sigmoid",
        "cell equations",
        "the gates are 0.2 a + 0.5 between 0 and 1 instead of σ(a)",
        "Keras 2, tf.js and ONNX's HardSigmoid. Near 0 it is close to σ, so small networks hardly differ.",
        ("tensorflow/tensorflow#47495",),
        _hard_sigmoid("0.2 * a + 0.5", "0.2"),
    ),
    Mistake(
        "hard-sigmoid-sixth",
        "cell equations",
        "the gates are a / 6 + 0.5 between 0 and 1 instead of σ(a)",
        "Keras 3 and mobile runtimes: the other function that is called hard sigmoid.",
        (),
        _hard_sigmoid("a / 6 + 0.5", "(1 / 6)"),
    ),
    Mistake(
        "sigmoid-of-twice",
        "cell equations",
        "the gates are σ(2a) instead of σ(a)",
        "σ(a) = (1 + tanh(a / 2)) / 2, and the half inside is forgotten.",
        (),
        in_cells(
            LSTM + GRU,
            (
                f"{IMPORT}, sigmoid",
                f"{IMPORT}\n\n\ndef sigmoid(a: Array) -> Array:\n    return (1 + np.tanh(a)) / 2",
            ),
        ),
    ),
    Mistake(
        "projection-of-tanh-c",
        "projection",
        "the projection is applied to tanh(c), the output gate left out",
        "W_hr acts on o ∘ tanh(c). Here o is computed and not used.",
        (),
        in_cells(
            PROJECTION,
            (MEMORY, "m = np.tanh(c[t + 1])"),
            ("do = dm * np.tanh(c[t + 1])", "do = 0 * dm"),
            (C_FROM_M, "dm * (1 - np.tanh(c[t + 1]) ** 2)"),
        ),
    ),
    Mistake(
        "projection-gradient-missing",
        "projection",
        "dW_hr stays zero",
        "The projection is used forwards and forgotten backwards.",
        (),
        in_cells(PROJECTION, ("np.outer(dh[t + 1], m)", "0 * np.outer(dh[t + 1], m)")),
    ),
    Mistake(
        "projection-gradient-of-tanh-c",
        "projection",
        "dW_hr is summed up with tanh(c) instead of o ∘ tanh(c)",
        "The wrong vector was kept on the tape.",
        (),
        in_cells(PROJECTION, ("np.outer(dh[t + 1], m)", "np.outer(dh[t + 1], np.tanh(c[t + 1]))")),
    ),
    Mistake(
        "projection-gradient-direct-only",
        "projection",
        "dW_hr counts what the loss sends to each output and nothing from later steps",
        "dW_hr is computed as one product with the upstream gradient, before the recurrence has added its part. At the "
        "last step it is right.",
        (),
        in_cells(PROJECTION, ("np.outer(dh[t + 1], m)", "np.outer(dh_loss[t + 1], m)")),
    ),
    Mistake(
        "peepholes-ignored",
        "peephole",
        "the peepholes are left out",
        "The option is accepted, the weights are loaded, the gates see x and h alone.",
        (),
        in_cells(
            PEEPHOLE,
            ("    P_i, P_f, P_o = np.split(P, 3)", "    P_i, P_f, P_o = np.split(0 * P, 3)"),
            ("dc[t + 1] += da_o * P_o", "pass"),
            ("dP_o += da_o * c[t + 1]", "pass"),
            ("dc[t] += da_i * P_i + da_f * P_f", "pass"),
            ("dP_i += da_i * c[t]", "pass"),
            ("dP_f += da_f * c[t]", "pass"),
        ),
    ),
    Mistake(
        "peephole-o-of-the-old-c",
        "peephole",
        "the output gate's peephole sees the old cell state",
        "i and f look at c before the step, o at c after it. With one product for all three, o gets the old one.",
        (),
        in_cells(
            PEEPHOLE,
            ("o = sigmoid(a_o + P_o * c[t + 1])", "o = sigmoid(a_o + P_o * c[t])"),
            ("dc[t + 1] += da_o * P_o", "dc[t] += da_o * P_o"),
            ("dP_o += da_o * c[t + 1]", "dP_o += da_o * c[t]"),
        ),
    ),
    Mistake(
        "peephole-o-after-the-sigmoid",
        "peephole",
        "the output gate's peephole is added after the sigmoid",
        "The gate is squashed first and the peephole added to it, so it leaves the range from 0 to 1.",
        ("Lasagne/Lasagne#448",),
        in_cells(PEEPHOLE, ("o = sigmoid(a_o + P_o * c[t + 1])", "o = sigmoid(a_o) + P_o * c[t + 1]")),
    ),
    Mistake(
        "peephole-gradient-o-of-the-old-c",
        "peephole",
        "dP_o is summed up with the old cell state",
        "Forward is right, backward uses one c for all three peepholes.",
        (),
        in_cells(PEEPHOLE, ("dP_o += da_o * c[t + 1]", "dP_o += da_o * c[t]")),
    ),
    Mistake(
        "peephole-gradient-i-f-of-the-new-c",
        "peephole",
        "dP_i and dP_f are summed up with the new cell state",
        "The other half of the same confusion: i and f had seen the old c.",
        (),
        in_cells(
            PEEPHOLE,
            ("dP_i += da_i * c[t]", "dP_i += da_i * c[t + 1]"),
            ("dP_f += da_f * c[t]", "dP_f += da_f * c[t + 1]"),
        ),
    ),
    Mistake(
        "peephole-path-of-i-f-dropped",
        "peephole",
        "nothing flows back into the cell state through the peepholes of i and f",
        "The peepholes' own gradients are right, but c is not told that it went through them.",
        (),
        in_cells(PEEPHOLE, ("dc[t] += da_i * P_i + da_f * P_f", "pass")),
    ),
    Mistake(
        "peephole-path-of-o-dropped",
        "peephole",
        "nothing flows back into the cell state through the peephole of o",
        "As above for the output gate, whose peephole sees the new c: its part must be there before i, f and g get "
        "theirs.",
        (),
        in_cells(PEEPHOLE, ("dc[t + 1] += da_o * P_o", "pass")),
    ),
)


def _gate_derivative(form: str) -> Changes:
    """Another expression for σ', in every gate; {0} is the gate."""

    def line(gate: str) -> tuple[str, str]:
        return f"d{gate} * {gate} * (1 - {gate})", f"d{gate} * {form.format(gate)}"

    return in_cells(LSTM, *map(line, "ifo")) | in_cells(GRU, *map(line, "rz"))


DERIVATIVE = (
    Mistake(
        "sigmoid-derivative-of-the-activated-value",
        "activation derivative",
        "σ' is taken of the gate, which has gone through σ already",
        "A function called sigmoid_derivative(a) computes σ(a)(1 - σ(a)) and is handed the gate: σ'(σ(a)). Always near "
        "0.2, so training is merely worse.",
        (),
        _gate_derivative("sigmoid({0}) * (1 - sigmoid({0}))"),
    ),
    Mistake(
        "sigmoid-in-place-of-its-derivative",
        "activation derivative",
        "σ of the gate stands where σ' should",
        "`sigmoid(f) * df` without derivative=True: the flag was forgotten.",
        ("CaptainE/RNN-LSTM-in-numpy#1",),
        _gate_derivative("sigmoid({0})"),
    ),
    Mistake(
        "sigmoid-derivative-left-out",
        "activation derivative",
        "σ' of the gates is left out",
        "The gate's gradient is passed on as if the gate had no nonlinearity.",
        (),
        _gate_derivative("1"),
    ),
    Mistake(
        "sigmoid-derivative-of-tanh",
        "activation derivative",
        "the gates' derivative is 1 - gate², which is tanh's",
        "One derivative for all blocks.",
        (),
        _gate_derivative("(1 - {0} ** 2)"),
    ),
    Mistake(
        "tanh-derivative-of-the-activated-value",
        "activation derivative",
        "tanh' is taken of a value that has gone through tanh already",
        "1 - tanh(g)² for 1 - g²: tanh is applied a second time.",
        (),
        in_cells(("rnn_tanh",), ("df(h[t + 1])", "(1 - np.tanh(h[t + 1]) ** 2)"))
        | in_cells(LSTM, ("(1 - g**2)", "(1 - np.tanh(g) ** 2)"))
        | in_cells(GRU, ("(1 - n**2)", "(1 - np.tanh(n) ** 2)")),
    ),
    Mistake(
        "tanh-derivative-not-squared",
        "activation derivative",
        "tanh' is 1 - g, the square forgotten",
        "It even has the right value where g is 0 or 1.",
        (),
        in_cells(("rnn_tanh",), ("df(h[t + 1])", "(1 - h[t + 1])"))
        | in_cells(LSTM, ("(1 - g**2)", "(1 - g)"))
        | in_cells(GRU, ("(1 - n**2)", "(1 - n)")),
    ),
    Mistake(
        "tanh-derivative-left-out",
        "activation derivative",
        "tanh' is left out",
        "Where the network saturates, gradients do not vanish as they should.",
        (),
        in_cells(("rnn_tanh",), (" * df(h[t + 1])", ""))
        | in_cells(LSTM, ("dg * (1 - g**2)", "dg"))
        | in_cells(GRU, ("dn * (1 - n**2)", "dn")),
    ),
    Mistake(
        "lstm-tanh-derivative-of-c",
        "activation derivative",
        "the derivative of tanh(c) is 1 - c² instead of 1 - tanh²(c)",
        "c is on the tape, tanh(c) is not, and the formula 1 - y² is for outputs. Right for small c.",
        (),
        in_cells(LSTM, ("(1 - np.tanh(c[t + 1]) ** 2)", "(1 - c[t + 1] ** 2)")),
    ),
    Mistake(
        "lstm-tanh-derivative-of-h",
        "activation derivative",
        "the derivative of tanh(c) is 1 - h² instead of 1 - tanh²(c)",
        "h = o ∘ tanh(c) is taken for the output of tanh.",
        (),
        in_cells(LSTM_SQUARE, ("(1 - np.tanh(c[t + 1]) ** 2)", "(1 - h[t + 1] ** 2)")),
    ),
    Mistake(
        "lstm-do-without-tanh",
        "activation derivative",
        "the output gate's gradient uses c instead of tanh(c)",
        "do = dh ∘ c: the transposed line of an LSTM whose output has no tanh.",
        (),
        in_cells(LSTM_SQUARE, ("do = dh[t + 1] * np.tanh(c[t + 1])", "do = dh[t + 1] * c[t + 1]"))
        | in_cells(PROJECTION, ("do = dm * np.tanh(c[t + 1])", "do = dm * c[t + 1]")),
    ),
    Mistake(
        "relu-derivative-at-zero",
        "activation derivative",
        "relu' is 1 wherever h ≥ 0, which is everywhere",
        "h >= 0 for h > 0. The output of relu is never negative, so no unit ever counts as off.",
        (),
        in_cells(("rnn_relu",), ("df(h[t + 1])", "(h[t + 1] >= 0)")),
    ),
    Mistake(
        "rnn-derivative-of-the-old-state",
        "activation derivative",
        "the derivative of the activation is taken at the state before the step",
        "h[t] for h[t + 1]: an off-by-one inside f'.",
        (),
        in_cells(RNN, ("df(h[t + 1])", "df(h[t])")),
    ),
)


def _dW_ih(x: str) -> Changes:
    return {
        cell: in_cells((cell,), (f"np.outer({du}, x[t])", f"np.outer({du}, {x})"))[cell]
        for cell, (du, _) in SUMMED.items()
    }


def _dW_hh(h: str) -> Changes:
    """Another h in the line, or the three lines, that sum up dW_hh."""
    blocks = in_cells(
        ("gru_reset_before",),
        ("np.outer(du_r, h[t])", f"np.outer(du_r, {h})"),
        ("np.outer(du_z, h[t])", f"np.outer(du_z, {h})"),
        ("np.outer(du_n, r * h[t])", f"np.outer(du_n, r * {h})"),
    )
    whole = {
        cell: in_cells((cell,), (f"np.outer({dv}, h[t])", f"np.outer({dv}, {h})"))[cell]
        for cell, (_, dv) in SUMMED.items()
    }
    return whole | blocks


_H_AT_RETURN = "return (np.stack(list(h.values()))"

OFF_BY_ONE = (
    Mistake(
        "dW_hh-of-the-new-state",
        "off by one",
        "dW_hh is summed up with the state after each step instead of before it",
        "h_{t+1} for h_t. A list of states without the initial one invites it.",
        (),
        _dW_hh("h[t + 1]"),
    ),
    Mistake(
        "dW_ih-of-the-input-before",
        "off by one",
        "dW_ih is summed up with the input of the step before",
        "x[t - 1], which at t = 0 is, in Python, the last one.",
        (),
        _dW_ih("x[t - 1]"),
    ),
    Mistake(
        "lstm-df-of-the-new-c",
        "off by one",
        "the forget gate's gradient uses the cell state after the step instead of before it",
        "c_{t+1} for c_t. Where c is overwritten in place, the old one is gone when backward needs it.",
        (),
        in_cells(LSTM, ("df = dc[t + 1] * c[t]", "df = dc[t + 1] * c[t + 1]")),
    ),
    Mistake(
        "lstm-backward-tanh-of-the-old-c",
        "off by one",
        "backward takes tanh of the cell state before the step",
        "tanh(c_t) for tanh(c_{t+1}), in the gradients of o and c.",
        (),
        in_cells(
            LSTM_SQUARE,
            ("do = dh[t + 1] * np.tanh(c[t + 1])", "do = dh[t + 1] * np.tanh(c[t])"),
            ("(1 - np.tanh(c[t + 1]) ** 2)", "(1 - np.tanh(c[t]) ** 2)"),
        )
        | in_cells(
            PROJECTION,
            ("do = dm * np.tanh(c[t + 1])", "do = dm * np.tanh(c[t])"),
            ("(1 - np.tanh(c[t + 1]) ** 2)", "(1 - np.tanh(c[t]) ** 2)"),
        ),
    ),
    Mistake(
        "lstm-di-and-dg-swapped",
        "off by one",
        "di has the factor i and dg the factor g, instead of each other's",
        "In a product each factor gets the other as its gradient.",
        (),
        in_cells(LSTM, ("di = dc[t + 1] * g", "di = dc[t + 1] * i"), ("dg = dc[t + 1] * i", "dg = dc[t + 1] * g")),
    ),
    Mistake(
        "gru-dz-of-the-new-state",
        "off by one",
        "the update gate's gradient uses the state after the step",
        "h_{t+1} - n for h_t - n.",
        (),
        in_cells(GRU, ("(h[t] - n)", "(h[t + 1] - n)")),
    ),
    Mistake(
        "backward-stops-before-the-first-step",
        "off by one",
        "backward never reaches the first step",
        "A loop down to 1 instead of 0. dx of the first step is zero, and so is the gradient of the initial state.",
        (),
        in_cells(ALL, (LOOP, "for t in reversed(range(1, len(x))):")),
    ),
    Mistake(
        "backward-starts-before-the-last-step",
        "off by one",
        "backward begins at the last step but one",
        "The last step, and with it the gradient of the final state, is left out.",
        (),
        in_cells(ALL, (LOOP, "for t in reversed(range(len(x) - 1)):")),
    ),
    Mistake(
        "dh_0-one-step-late",
        "off by one",
        "the gradient by h after the first step is handed out as dh_0",
        "The state's gradient is read one index too high.",
        (),
        in_cells(ALL, ("(dh[0]", "(dh[1]")),
    ),
)


def _lstm_path(name: str, letter: str, line: str, broken: str, cells: tuple[str, ...] = LSTM) -> Mistake:
    what = f"nothing flows back through the gate {letter}"
    story = f"The gate {letter} is treated as a constant: its rows of dW_ih, dW_hh and both biases stay zero."
    return Mistake(
        f"lstm-path-through-{name}-dropped", "dropped path", what, story, (), in_cells(cells, (line, broken))
    )


PATH = (
    Mistake(
        "lstm-path-through-c-dropped",
        "dropped path",
        "the path from one cell state to the one before it is cut",
        "dc is not carried on (`dc_next` forgotten). What is left flows through h, so short tests look nearly right.",
        ("CaptainE/RNN-LSTM-in-numpy#1",),
        in_cells(LSTM, ("dc[t] += dc[t + 1] * f", "pass")),
    ),
    Mistake(
        "lstm-dc-from-h-dropped",
        "dropped path",
        "the cell state gets nothing from the output h of its own step",
        "dc lacks dh ∘ o ∘ (1 - tanh²(c)).",
        (),
        in_cells(LSTM_SQUARE, (f"dc[t + 1] += {C_FROM_H}", "pass"))
        | in_cells(PROJECTION, (f"dc[t + 1] += {C_FROM_M}", "pass")),
    ),
    Mistake(
        "lstm-dc-overwritten",
        "dropped path",
        "what comes from h replaces dc instead of being added to it",
        "`=` for `+=`: the cell branches, and one branch is lost, together with the gradient of the final cell state.",
        ("apache/mxnet#4057",),
        in_cells(
            LSTM_SQUARE,
            (
                f"dc[t + 1] += {C_FROM_H}",
                f"dc[t + 1] = {C_FROM_H}",
            ),
        )
        | in_cells(
            PROJECTION,
            (f"dc[t + 1] += {C_FROM_M}", f"dc[t + 1] = {C_FROM_M}"),
        ),
    ),
    Mistake(
        "lstm-dc-from-h-too-late",
        "dropped path",
        "the gates i, f and g get their gradients before h has added its part to dc",
        "The lines are right, their order is not: c's own path is complete, the gates' gradients are not.",
        (),
        in_cells(
            LSTM_SQUARE,
            (
                f"dc[t + 1] += {C_FROM_H}",
                f"late = {C_FROM_H}",
            ),
            ("dc[t] += dc[t + 1] * f", "dc[t] += (dc[t + 1] + late) * f"),
        )
        | in_cells(
            PROJECTION,
            (f"dc[t + 1] += {C_FROM_M}", f"late = {C_FROM_M}"),
            ("dc[t] += dc[t + 1] * f", "dc[t] += (dc[t + 1] + late) * f"),
        ),
    ),
    _lstm_path("f", "f", "df = dc[t + 1] * c[t]", "df = 0 * c[t]"),
    _lstm_path("i", "i", "di = dc[t + 1] * g", "di = 0 * g"),
    _lstm_path("g", "g", "dg = dc[t + 1] * i", "dg = 0 * i"),
    Mistake(
        "lstm-path-through-o-dropped",
        "dropped path",
        "nothing flows back through the gate o",
        "The gate o is treated as a constant: its rows of dW_ih, dW_hh and both biases stay zero.",
        (),
        in_cells(LSTM_SQUARE, ("do = dh[t + 1] * np.tanh(c[t + 1])", "do = 0 * dh[t + 1]"))
        | in_cells(PROJECTION, ("do = dm * np.tanh(c[t + 1])", "do = 0 * dm")),
    ),
    Mistake(
        "path-through-W_hh-dropped",
        "dropped path",
        "nothing flows back through W_hh",
        "`dh_prev` is computed and not added. The direct path (c, or z ∘ h) remains.",
        (),
        in_cells(LSTM, ("dh[t] += W_hh.T @ da", "pass"))
        | in_cells(("gru",), ("dh[t] += W_hh.T @ dv", "pass"))
        | in_cells(
            ("gru_reset_before",), ("dh[t] += dq * r", "pass"), ("dh[t] += W_hr.T @ du_r + W_hz.T @ du_z", "pass")
        ),
    ),
    Mistake(
        "gru-path-through-r-dropped",
        "dropped path",
        "the gradient's path through the reset gate r is cut",
        "r is treated as a constant: its rows of dW_ih, dW_hh and both biases stay zero.",
        (),
        in_cells(("gru",), ("dr = du_n * v_n", "dr = 0 * v_n"))
        | in_cells(("gru_reset_before",), ("dr = dq * h[t]", "dr = 0 * h[t]")),
    ),
    Mistake(
        "gru-path-through-z-dropped",
        "dropped path",
        "the gradient's path through the update gate z is cut",
        "z is treated as a constant.",
        (),
        in_cells(GRU, ("dz = dh[t + 1] * (h[t] - n)", "dz = 0 * n")),
    ),
    Mistake(
        "gru-path-through-n-dropped",
        "dropped path",
        "the gradient's path through the candidate n is cut",
        "The candidate is treated as a constant, and the reset gate with it.",
        (),
        in_cells(GRU, ("dn = dh[t + 1] * (1 - z)", "dn = 0 * z")),
    ),
    Mistake(
        "gru-direct-path-dropped",
        "dropped path",
        "the direct path from the new state to the old one, z ∘ dh, is cut",
        "What flows past the gates untouched, and makes a GRU remember, is forgotten.",
        (),
        in_cells(GRU, ("dh[t] += dh[t + 1] * z", "pass")),
    ),
    Mistake(
        "gru-path-through-reset-state-dropped",
        "dropped path",
        "nothing flows back into h through r ∘ h",
        "dq ∘ r is forgotten: the state's third way into the step.",
        (),
        in_cells(("gru_reset_before",), ("dh[t] += dq * r", "pass")),
    ),
    Mistake(
        "gru-candidate-gradient-without-reset",
        "dropped path",
        "the candidate's hidden side lacks the factor r, or r ∘ h is treated as h",
        "Going back through r ∘ (…), r is left out.",
        (),
        in_cells(("gru",), ("dv_n = du_n * r", "dv_n = du_n"))
        | in_cells(("gru_reset_before",), ("dh[t] += dq * r", "dh[t] += dq")),
    ),
    Mistake(
        "gru-du-through-W_hh",
        "dropped path",
        "W_hhᵀ is multiplied with du, the gradient of the input side, instead of dv",
        "du and dv differ in the candidate's block alone, by the factor r. With one array for both, what flows to "
        "the old state lacks it, while dW_hh and db_hh may well have it.",
        (),
        in_cells(("gru",), ("dh[t] += W_hh.T @ dv", "dh[t] += W_hh.T @ du")),
    ),
)


def _cut(condition: str) -> Changes:
    """What later steps have sent is thrown away at some steps."""
    indent = "\n            " if condition else "\n        "
    start = f"{LOOP}\n        {condition}" if condition else LOOP
    h, c = "dh[t + 1] = dh_loss[t + 1]", "dc[t + 1] = dc_loss[t + 1]"
    return in_cells(RNN + GRU, (LOOP, f"{start}{indent}{h}")) | in_cells(LSTM, (LOOP, f"{start}{indent}{h}{indent}{c}"))


def _replaced(prefix: str) -> Changes:
    """Each step's gradients replace the sum so far."""
    lines = [(f"{prefix}_ih +=", f"{prefix}_ih[:] =")]
    if prefix == "db":
        return in_cells(ALL, *lines, ("db_hh +=", "db_hh[:] ="))
    blocks = [(f"dW_h{gate} +=", f"dW_h{gate}[:] =") for gate in "rzn"]
    whole = in_cells(tuple(c for c in ALL if c != "gru_reset_before"), *lines, ("dW_hh +=", "dW_hh[:] ="))
    return whole | in_cells(("gru_reset_before",), *lines, *blocks)


def _in_place() -> Changes:
    a = "a = W_ih @ x[t] + b_ih + W_hh @ h[t] + b_hh"
    loop = "now = h[t] + 0 * a\n        for k in range(len(now)):"
    body = "now[k] = f(W_ih[k] @ x[t] + b_ih[k] + W_hh[k] @ now + b_hh[k])"
    return in_cells(RNN, (a, f"{a}\n        {loop}\n            {body}"), ("h[t + 1] = f(a)", "h[t + 1] = now"))


TIME = (
    Mistake(
        "truncated-to-one-step",
        "truncation and clipping",
        "no gradient flows from one step to the one before it",
        "The state is detached at every step. Every single step is right, the sum over time is not.",
        ("keras-team/keras#3669",),
        _cut(""),
    ),
    Mistake(
        "truncated-every-two-steps",
        "truncation and clipping",
        "the gradient is cut after every second step",
        "Truncated backpropagation where the full one was meant: the last steps are right, the older ones lack a part.",
        ("tensorflow/tensorflow#107",),
        _cut("if t % 2:"),
    ),
    Mistake(
        "running-gradient-clipped",
        "truncation and clipping",
        "the running gradient dh is clipped to ±1 at every step",
        "Clipping inside the loop, as some recipes have it, is no longer the gradient of the loss.",
        (),
        in_cells(ALL, (LOOP, f"{LOOP}\n        dh[t + 1] = np.clip(dh[t + 1], -1, 1)")),
    ),
    Mistake(
        "weight-gradient-of-the-first-step-alone",
        "sum and mean",
        "dW_ih and dW_hh hold the first step's part alone",
        "`=` for `+=` in the loop over time: each step replaces the sum, and the loop ends at step 0.",
        (),
        _replaced("dW"),
    ),
    Mistake(
        "bias-gradient-of-the-first-step-alone",
        "sum and mean",
        "db_ih and db_hh hold the first step's part alone",
        "As for the weights, for the biases.",
        (),
        _replaced("db"),
    ),
    Mistake(
        "first-step-missing-in-dW_hh",
        "initial state",
        "dW_hh is summed up as if the initial state had been zero",
        "Forward honours h_0; backward takes zeros for it. Tests from the zero state cannot see it.",
        (),
        _dW_hh("h[t] * (t > 0)"),
    ),
    Mistake(
        "lstm-first-step-missing-in-df",
        "initial state",
        "the forget gate's gradient is computed as if the initial cell state had been zero",
        "Forward honours c_0; backward takes zeros for it.",
        (),
        in_cells(LSTM, ("df = dc[t + 1] * c[t]", "df = dc[t + 1] * c[t] * (t > 0)")),
    ),
    Mistake(
        "initial-state-overwritten",
        "in place",
        "the array of the initial state has been overwritten with the final one before backward reads it",
        "The caller's h_0 serves as the running state. The first step's part of the gradient is computed with the "
        "final state, and the caller's array has changed.",
        (),
        in_cells(ALL, (_H_AT_RETURN, f"h_0[...] = h[len(x)]\n    {_H_AT_RETURN}")),
    ),
    Mistake(
        "tape-holds-the-last-state",
        "in place",
        "every state on the tape is the last one, because all of them are the same array",
        "The state is updated in place and appended to a list: T references to one buffer. Outputs had been copied, so "
        "forward looks right.",
        (),
        in_cells(ALL, ("(params, x, h", "(params, x, dict.fromkeys(h, h[len(x)])")),
    ),
    Mistake(
        "output-holds-the-last-state",
        "in place",
        "the output holds the last state at every step",
        "The same list of references, handed out as the output.",
        (),
        in_cells(ALL, ("np.stack(list(h.values()))", "np.stack([h_0] + [h[len(x)]] * len(x))")),
    ),
    Mistake(
        "state-overwritten-unit-by-unit",
        "in place",
        "h is overwritten unit by unit, so that a unit already sees the new values of those before it",
        "The loop over units is fused with the product that still needs the old state.",
        ("onnx/onnx-mlir#367",),
        _in_place(),
    ),
    Mistake(
        "gradients-summed-in-float32",
        "precision",
        "the parameter gradients are summed up in float32",
        "A buffer allocated with the default dtype. Seven digits are right and the rest is not: a check at 1e-3 is "
        "green, and long sums lose more.",
        (),
        in_cells(ALL, ("np.zeros_like(w) for w in tape[0]", 'np.zeros_like(w, "f") for w in tape[0]')),
    ),
)

MISTAKES = (*VARIANT, *DERIVATIVE, *OFF_BY_ONE, *PATH, *TIME)
