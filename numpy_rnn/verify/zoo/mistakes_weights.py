"""Mistakes in how parameters are read: gate orders, transpositions, biases."""

from __future__ import annotations

from .mistake import Mistake
from .plant import GRU, LSTM, LSTM_SQUARE, RNN, Changes, in_cells

A = "W_ih @ x[t] + b_ih + W_hh @ h[t] + b_hh"  # pre-activation of RNN and LSTM
U = "u_r, u_z, u_n = np.split(W_ih @ x[t] + b_ih, 3)"
V = "v_r, v_z, v_n = np.split(W_hh @ h[t] + b_hh, 3)"


# What is summed up over time for the input's side and for the state's side.
SUMMED = dict.fromkeys(RNN + LSTM, ("da", "da")) | {"gru": ("du", "dv"), "gru_reset_before": ("du", "du")}


def _lstm_order(order: str, story: str, *seen: str) -> Mistake:
    """Rows of the parameters taken in another order, and gradients written in it."""
    a, da = (", ".join(f"{prefix}_{gate}" for gate in order) for prefix in ("a", "da"))
    changes = in_cells(
        LSTM,
        ("a_i, a_f, a_g, a_o = np.split", f"{a} = np.split"),
        ("da = np.concatenate([da_i, da_f, da_g, da_o])", f"da = np.concatenate([{da}])"),
    )
    what = f"the gates stand in the order {' '.join(order)} instead of i f g o"
    return Mistake(f"lstm-gates-{order}", "gate order", what, story, seen, changes)


def _gru_order(order: str, story: str, *seen: str) -> Mistake:
    """Rows of the parameters taken in another order, and gradients written in it."""

    def named(prefix: str) -> str:
        return ", ".join(f"{prefix}_{gate}" for gate in order)

    def hidden(prefix: str) -> str:
        return ", ".join(f"{prefix}_h{gate}" for gate in order)

    dv = named("du").replace("du_n", "dv_n")
    du_line = ("du = np.concatenate([du_r, du_z, du_n])", f"du = np.concatenate([{named('du')}])")
    after = in_cells(
        ("gru",),
        (U, U.replace("u_r, u_z, u_n", named("u"))),
        (V, V.replace("v_r, v_z, v_n", named("v"))),
        du_line,
        ("dv = np.concatenate([du_r, du_z, dv_n])", f"dv = np.concatenate([{dv}])"),
    )
    before = in_cells(
        ("gru_reset_before",),
        (U, U.replace("u_r, u_z, u_n", named("u"))),
        ("(W_hr, W_hz, W_hn), (b_hr, b_hz, b_hn)", f"({hidden('W')}), ({hidden('b')})"),
        ("(W_hr, W_hz, W_hn), (dW_hr, dW_hz, dW_hn)", f"({hidden('W')}), ({hidden('dW')})"),
        du_line,
    )
    what = f"the gates stand in the order {' '.join(order)} instead of r z n"
    return Mistake(f"gru-gates-{order}", "gate order", what, story, seen, after | before)


GATE_ORDER = (
    _lstm_order(
        "ifog",
        "The order of CS231n and ncnn. Candidate and output gate change places, so a sigmoid squashes what tanh "
        "should. Shapes agree and outputs stay small: only numbers tell.",
        "apple/coremltools#93",
    ),
    _lstm_order(
        "iofg",
        "ONNX's order, i o f c, read as if it were torch's, or the other way round. Three of four blocks are wrong; "
        "networks still run, and speech recognisers have been shipped that way.",
        "CrispStrobe/CrispASR#106",
    ),
    _lstm_order(
        "igfo",
        "The order of TensorFlow's BasicLSTMCell (i j f o), Haiku and haste: candidate before forget gate.",
        "tensorflow/tensorflow#29308",
    ),
    _lstm_order(
        "figo",
        "Input and forget gate change places: what should be kept is overwritten. Two sigmoids of the same shape, "
        "so nothing but values can show it.",
        "NX-AI/xlstm#98",
    ),
    _lstm_order("fiog", "Forget gate first, as many textbooks write the equations down, and the candidate last."),
    _lstm_order("ofig", "The output gate first, the candidate last: the order of the letters in some papers' figures."),
    _gru_order("zrn", "The order of Keras, ONNX, haste and RTNeural. Reset and update gate change places."),
    _gru_order("rnz", "The candidate between the gates: a tanh is taken where the update gate should be."),
    _gru_order("nzr", "The candidate first. Nothing in the shapes tells."),
    Mistake(
        "peephole-order-iof",
        "gate order",
        "the peephole weights stand in the order i o f instead of i f o",
        "ONNX stores peephole weights in the order i o f. The forget gate gets the output gate's weights; as peepholes "
        "are small at first, a freshly initialised network hardly shows it.",
        (),
        in_cells(
            ("lstm_peephole",),
            ("P_i, P_f, P_o = np.split(P, 3)", "P_i, P_o, P_f = np.split(P, 3)"),
            ("(P_i, P_f, P_o), (dP_i, dP_f, dP_o)", "(P_i, P_o, P_f), (dP_i, dP_o, dP_f)"),
        ),
    ),
)

_BLOCKS = "np.concatenate([h[t] @ W for W in np.split(W_hh, {G})])"
_BACK = "sum(W @ d for W, d in zip(np.split(W_hh, {G}), np.split({da}, {G})))"
_OUTER = "np.concatenate([np.outer(h[t], d) for d in np.split({da}, {G})])"
_FILE = "{W}.reshape({W}.shape[::-1])"  # the same numbers in a file, taken for a matrix of the other layout


def _dh(da: str, G: int) -> tuple[str, str]:
    return f"dh[t] += W_hh.T @ {da}", f"dh[t] += {_BACK.format(da=da, G=G)}"


def _dW_hh(da: str, G: int) -> tuple[str, str]:
    return f"dW_hh += np.outer({da}, h[t])", f"dW_hh += {_OUTER.format(da=da, G=G)}"


TRANSPOSITION = (
    Mistake(
        "W_hh-transposed",
        "transposition",
        "W_hh is transposed, each gate's square block by itself",
        "W_hh of each gate is square, so its transpose fits wherever it does: `h @ W` for `W @ h`, or a file in Keras' "
        "layout. The gradient follows the forward pass and even passes a gradient check.",
        (),
        in_cells(
            RNN,
            ("+ W_hh @ h[t]", "+ W_hh.T @ h[t]"),
            ("dh[t] += W_hh.T @ da", "dh[t] += W_hh @ da"),
            ("dW_hh += np.outer(da, h[t])", "dW_hh += np.outer(h[t], da)"),
        )
        | in_cells(LSTM_SQUARE, ("W_hh @ h[t]", _BLOCKS.format(G=4)), _dh("da", 4), _dW_hh("da", 4))
        | in_cells(("gru",), ("W_hh @ h[t]", _BLOCKS.format(G=3)), _dh("dv", 3), _dW_hh("dv", 3))
        | in_cells(
            ("gru_reset_before",),
            ("= np.split(W_hh, 3), np.split(b_hh, 3)", "= [W.T for W in np.split(W_hh, 3)], np.split(b_hh, 3)"),
            (
                "= np.split(W_hh, 3), np.split(dW_hh, 3)",
                "= [W.T for W in np.split(W_hh, 3)], [W.T for W in np.split(dW_hh, 3)]",
            ),
        ),
    ),
    Mistake(
        "W_hh-not-transposed-in-backward",
        "transposition",
        "the gradient goes back through W_hh instead of its transpose",
        "Backward multiplies with W_hh where its transpose belongs. Square blocks fit both ways. The last step is "
        "still right; every earlier one is not.",
        (),
        in_cells(RNN, ("dh[t] += W_hh.T @ da", "dh[t] += W_hh @ da"))
        | in_cells(LSTM_SQUARE, _dh("da", 4))
        | in_cells(("gru",), _dh("dv", 3))
        | in_cells(
            ("gru_reset_before",),
            ("dq = W_hn.T @ du_n", "dq = W_hn @ du_n"),
            ("dh[t] += W_hr.T @ du_r + W_hz.T @ du_z", "dh[t] += W_hr @ du_r + W_hz @ du_z"),
        ),
    ),
    Mistake(
        "dW_hh-transposed",
        "transposition",
        "dW_hh is transposed, each gate's block by itself",
        "Outer product the wrong way round: h daᵀ for da hᵀ. All else is right, dW_hh has the right shape and norm.",
        (),
        in_cells(RNN, ("dW_hh += np.outer(da, h[t])", "dW_hh += np.outer(h[t], da)"))
        | in_cells(LSTM_SQUARE, _dW_hh("da", 4))
        | in_cells(("gru",), _dW_hh("dv", 3))
        | in_cells(
            ("gru_reset_before",),
            ("np.split(dW_hh, 3)", "[W.T for W in np.split(dW_hh, 3)]"),
        ),
    ),
    Mistake(
        "W_ih-in-the-other-layout",
        "transposition",
        "W_ih is read as if it were stored (inputs, gates) instead of (gates, inputs)",
        "A flat file of (GH, I) numbers is read as (I, GH) and transposed into shape. The shape is right, the numbers "
        "are shuffled. Constant weights, as in Keras' and WebNN's tests, cannot show it.",
        (),
        in_cells(
            RNN + LSTM,
            ("W_ih @ x[t]", f"{_FILE.format(W='W_ih')}.T @ x[t]"),
            ("W_ih.T @ da", f"{_FILE.format(W='W_ih')} @ da"),
            ("np.outer(da, x[t])", "np.outer(x[t], da).reshape(W_ih.shape)"),
        )
        | in_cells(
            GRU,
            ("W_ih @ x[t]", f"{_FILE.format(W='W_ih')}.T @ x[t]"),
            ("W_ih.T @ du", f"{_FILE.format(W='W_ih')} @ du"),
            ("np.outer(du, x[t])", "np.outer(x[t], du).reshape(W_ih.shape)"),
        ),
    ),
    Mistake(
        "W_hh-in-the-other-layout",
        "transposition",
        "W_hh is read as if it were stored (units, gates) instead of (gates, units)",
        "As with W_ih, for the recurrent matrix: (GH, H) numbers taken for (H, GH). Unlike the transposition of each "
        "block, this one mixes the gates.",
        (),
        in_cells(
            LSTM,
            ("W_hh @ h[t]", f"{_FILE.format(W='W_hh')}.T @ h[t]"),
            ("W_hh.T @ da", f"{_FILE.format(W='W_hh')} @ da"),
            ("np.outer(da, h[t])", "np.outer(h[t], da).reshape(W_hh.shape)"),
        )
        | in_cells(
            ("gru",),
            ("W_hh @ h[t]", f"{_FILE.format(W='W_hh')}.T @ h[t]"),
            ("W_hh.T @ dv", f"{_FILE.format(W='W_hh')} @ dv"),
            ("np.outer(dv, h[t])", "np.outer(h[t], dv).reshape(W_hh.shape)"),
        )
        | in_cells(
            ("gru_reset_before",),
            ("np.split(W_hh, 3), np.split(b_hh, 3)", f"np.split({_FILE.format(W='W_hh')}.T, 3), np.split(b_hh, 3)"),
            (
                "np.split(W_hh, 3), np.split(dW_hh, 3)",
                f"np.split({_FILE.format(W='W_hh')}.T, 3), np.split({_FILE.format(W='dW_hh')}.T, 3)",
            ),
        ),
    ),
    Mistake(
        "dW_ih-in-the-other-layout",
        "transposition",
        "dW_ih is written as (inputs, gates) and handed out as (gates, inputs)",
        "The gradient is summed up in the other layout and reshaped instead of transposed. Its norm is right, so "
        "training curves look plausible.",
        (),
        in_cells(RNN + LSTM, ("np.outer(da, x[t])", "np.outer(x[t], da).reshape(W_ih.shape)"))
        | in_cells(GRU, ("np.outer(du, x[t])", "np.outer(x[t], du).reshape(W_ih.shape)")),
    ),
    Mistake(
        "projection-in-the-other-layout",
        "transposition",
        "W_hr is read as if it were stored (memory, output) instead of (output, memory)",
        "The projection's numbers are taken for the transposed layout. With as many outputs as memory cells it would "
        "be the plain transpose.",
        (),
        in_cells(
            ("lstm_projection",),
            ("W_hr @ m", f"{_FILE.format(W='W_hr')}.T @ m"),
            ("dm = W_hr.T @ dh[t + 1]", f"dm = {_FILE.format(W='W_hr')} @ dh[t + 1]"),
            ("np.outer(dh[t + 1], m)", "np.outer(m, dh[t + 1]).reshape(W_hr.shape)"),
        ),
    ),
)

_NO_B_HH = (
    in_cells(RNN + LSTM, (A, A.removesuffix(" + b_hh")), ("db_hh += da", "db_hh += 0 * da"))
    | in_cells(("gru",), (V, V.replace(" + b_hh", "")), ("db_hh += dv", "db_hh += 0 * dv"))
    | in_cells(
        ("gru_reset_before",), ("np.split(b_hh, 3)", "np.split(0 * b_hh, 3)"), ("db_hh += du", "db_hh += 0 * du")
    )
)


def _in_db(ih: str, hh: str) -> Changes:
    """Other right-hand sides of the two lines that sum up the bias gradients."""
    lines = {
        cell: ((f"db_ih += {du}", f"db_ih += {ih.format(du)}"), (f"db_hh += {dv}", f"db_hh += {hh.format(dv)}"))
        for cell, (du, dv) in SUMMED.items()
    }
    return {
        cell: in_cells((cell,), *(line for line in both if line[0] != line[1]))[cell] for cell, both in lines.items()
    }


BIAS = (
    Mistake(
        "b_hh-lost",
        "bias",
        "the second bias b_hh is left out",
        "A converter or a framework with one bias drops the other. As long as biases are zero, as at initialisation, "
        "everything agrees.",
        ("google/flax#5594", "tensorflow/tfjs#2442"),
        _NO_B_HH,
    ),
    Mistake(
        "b_ih-lost",
        "bias",
        "the first bias b_ih is left out",
        "As with b_hh: harmless while biases are zero, wrong in every output once they are trained.",
        (),
        in_cells(RNN + LSTM, (A, A.replace(" + b_ih", "")), ("db_ih += da", "db_ih += 0 * da"))
        | in_cells(GRU, (U, U.replace(" + b_ih", "")), ("db_ih += du", "db_ih += 0 * du")),
    ),
    Mistake(
        "b_ih-used-for-both",
        "bias",
        "b_ih is added a second time where b_hh belongs",
        "A copied line. With equal biases in the test, nothing shows.",
        (),
        in_cells(RNN + LSTM, (A, A.replace("b_hh", "b_ih")))
        | in_cells(("gru",), (V, V.replace("b_hh", "b_ih")))
        | in_cells(("gru_reset_before",), ("np.split(b_hh, 3)", "np.split(b_ih, 3)")),
    ),
    Mistake(
        "merged-bias-added-twice",
        "bias",
        "the merged bias b_ih + b_hh is added on both sides",
        "The biases are merged when the weights are loaded, and the cell, which expects two, gets the sum twice.",
        (),
        in_cells(
            RNN + LSTM,
            (A, "W_ih @ x[t] + (b_ih + b_hh) + W_hh @ h[t] + (b_ih + b_hh)"),
            ("db_ih += da", "db_ih += 2 * da"),
            ("db_hh += da", "db_hh += 2 * da"),
        ),
    ),
    Mistake(
        "b_hh-skipped-while-state-is-zero",
        "bias",
        "the whole hidden side, b_hh with it, is skipped while the state is zero",
        "`if state is None` spares a product with zeros, and spares b_hh too. Only the first step of a run from the "
        "zero state is wrong, so tests with a given state pass.",
        ("ml-explore/mlx#3249",),
        in_cells(RNN + LSTM, (A, "W_ih @ x[t] + b_ih + (W_hh @ h[t] + b_hh if np.any(h[t]) else 0)"))
        | in_cells(("gru",), (V, V.replace("+ b_hh", "+ b_hh * bool(np.any(h[t]))")))
        | in_cells(
            ("gru_reset_before",),
            (
                "v_r, v_z = W_hr @ h[t] + b_hr, W_hz @ h[t] + b_hz",
                "v_r, v_z = ((W @ h[t] + b) * bool(np.any(h[t])) for W, b in ((W_hr, b_hr), (W_hz, b_hz)))",
            ),
        ),
    ),
    Mistake(
        "gru-b_hn-skipped-while-state-is-zero",
        "bias",
        "b_hn alone is skipped while the state is zero",
        "The candidate's hidden side is left out on the first step of a run without a state, b_hn included; the two "
        "gates keep their biases.",
        ("ml-explore/mlx#3249",),
        in_cells(("gru",), ("n = np.tanh(u_n + r * v_n)", "n = np.tanh(u_n + r * v_n * bool(np.any(h[t])))")),
    ),
    Mistake(
        "gru-b_hn-lost",
        "bias",
        "b_hn alone of the second bias is left out",
        "The two biases of r and z add up, so whoever keeps one for each gate has nowhere to put b_hn, which stands "
        "beside W_hn h. As long as biases are zero, everything agrees.",
        (),
        in_cells(
            ("gru",),
            ("n = np.tanh(u_n + r * v_n)", "v_n = v_n - np.split(b_hh, 3)[2]\n        n = np.tanh(u_n + r * v_n)"),
            ("db_hh += dv", "db_hh += np.concatenate([du_r, du_z, 0 * dv_n])"),
        )
        | in_cells(
            ("gru_reset_before",),
            ("v_n = W_hn @ q + b_hn", "v_n = W_hn @ q"),
            ("db_hh += du", "db_hh += np.concatenate([du_r, du_z, 0 * du_n])"),
        ),
    ),
    Mistake(
        "gru-b_hn-outside-the-reset",
        "bias",
        "b_hn is added outside the product with r, as if it could be merged with b_in",
        "With one bias a gate, b_hn ends up beside b_in. In the gates that is the same, in the candidate it is not: "
        "there b_hn is multiplied by r.",
        ("patrick-kidger/equinox#1003",),
        in_cells(
            ("gru",),
            (
                "n = np.tanh(u_n + r * v_n)",
                "v_n = v_n - np.split(b_hh, 3)[2]\n        n = np.tanh(u_n + r * v_n + np.split(b_hh, 3)[2])",
            ),
            ("db_hh += dv", "db_hh += du"),
        ),
    ),
    Mistake(
        "gru-db_hn-without-reset",
        "bias",
        "the gradient of b_hn lacks the factor r",
        "Forward is right; backward gives both biases the same gradient, as is right for RNN and LSTM only.",
        (),
        in_cells(("gru",), ("db_hh += dv", "db_hh += du")),
    ),
    Mistake(
        "bias-gradient-halved",
        "bias",
        "both bias gradients are halved",
        "One bias is split into two halves, and its gradient with it. But each bias stands in the sum on its own and "
        "gets the whole gradient.",
        (),
        _in_db("{0} / 2", "{0} / 2"),
    ),
    Mistake(
        "bias-gradient-doubled",
        "bias",
        "both bias gradients are doubled",
        "Two biases share one gradient array, and both add to it.",
        (),
        _in_db("2 * {0}", "2 * {0}"),
    ),
    Mistake(
        "db_hh-missing",
        "bias",
        "db_hh stays zero",
        "The second bias is used forwards, but nothing is ever added to its gradient.",
        ("apache/mxnet#17818",),
        _in_db("{0}", "0 * {0}"),
    ),
    Mistake(
        "lstm-bias-gradient-of-the-wrong-gate",
        "bias",
        "the biases of the gates i and o get the gradient of the gate f",
        "Three nearly equal lines, copied, and the letter changed in only one of them.",
        ("hanbt/learn_dl#53",),
        in_cells(
            LSTM,
            ("db_ih += da", "db_ih += np.concatenate([da_f, da_f, da_g, da_f])"),
            ("db_hh += da", "db_hh += np.concatenate([da_f, da_f, da_g, da_f])"),
        ),
    ),
    Mistake(
        "lstm-forget-bias-added",
        "bias",
        "1 is added to the forget gate's pre-activation at run time",
        "TensorFlow 1 and Haiku add a forget bias of 1 in the cell, not in the stored bias. Weights taken from "
        "there, or brought there, are off by it.",
        ("tensorflow/tensorflow#5090", "apple/coremltools#309"),
        in_cells(("lstm", "lstm_projection"), ("sigmoid(a_f)", "sigmoid(a_f + 1)"))
        | in_cells(("lstm_peephole",), ("sigmoid(a_f + P_f * c[t])", "sigmoid(a_f + P_f * c[t] + 1)")),
    ),
)

MISTAKES = (*GATE_ORDER, *TRANSPOSITION, *BIAS)
