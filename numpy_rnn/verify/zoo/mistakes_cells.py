"""Mistakes inside a cell: equations, derivatives, indices, paths. `mistakes` explains the notation."""

# What several entries begin with: dc_c has come from step t + 1, dc_h comes from h.
DC_IN_TWO_PARTS = """\
    lstm lstm_peephole: dc[t + 1] += dh[t + 1] * o * (1 - np.tanh(c[t + 1]) ** 2)
        => dc_c, dc_h = 1 * dc[t + 1], dh[t + 1] * o * (1 - np.tanh(c[t + 1]) ** 2)
           dc[t + 1] += dc_h
    lstm_projection: dc[t + 1] += dm * o * (1 - np.tanh(c[t + 1]) ** 2)
        => dc_c, dc_h = 1 * dc[t + 1], dm * o * (1 - np.tanh(c[t + 1]) ** 2)
           dc[t + 1] += dc_h
"""
TEXT = """
# GRU variant

gru-reset-before-for-after: the reset gate acts before the product with W_hn instead of after it. Two versions of the
same paper define two GRUs: tanh(W x + r ∘ (W h + b)) and tanh(W x + W (r ∘ h) + b). Parameters have the same shapes;
ONNX, Keras and torch have different defaults. Seen: pytorch/pytorch#99531, tracel-ai/burn#2701.
    gru: n = np.tanh(u_n + r * v_n) => n = np.tanh(u_n + np.split(W_hh, 3)[2] @ (r * h[t]) + np.split(b_hh, 3)[2])
    gru: dv_n = du_n * r
        => dv_n = du_n
           dq = np.split(W_hh, 3)[2].T @ du_n
    gru: dr = du_n * v_n => dr = dq * h[t]
    gru: dh[t] += W_hh.T @ dv => dh[t] += dq * r + W_hh[: len(r) * 2].T @ dv[: len(r) * 2]
    gru: np.outer(dv, h[t]) => np.vstack([np.outer(dv[: len(r) * 2], h[t]), np.outer(dv_n, r * h[t])])

gru-reset-after-for-before: the reset gate acts after the product with W_hn instead of before it. The other direction of
the same confusion: ONNX's default is before, torch's and cuDNN's only form is after. Seen: pytorch/pytorch#99531.
    gru_reset_before: q = r * h[t] => q = W_hn @ h[t] + b_hn
    gru_reset_before: v_n = W_hn @ q + b_hn => v_n = r * q
    gru_reset_before: dq = W_hn.T @ du_n => dv_n = du_n * r
    gru_reset_before: dr = dq * h[t] => dr = du_n * (W_hn @ h[t] + np.split(tape[0][3], 3)[2])
    gru_reset_before: dh[t] += dq * r => dh[t] += W_hn.T @ dv_n
    gru_reset_before: np.outer(du_n, r * h[t]) => np.outer(dv_n, h[t])
    gru_reset_before: db_hh += du => db_hh += np.concatenate([du_r, du_z, dv_n])

gru-z-turned-around: z weighs the candidate and 1 - z the old state. h = (1 - z) ∘ h + z ∘ n is the form of Haiku,
Wikipedia and one of the two papers, not of torch, Keras and ONNX. Seen: pytorch/pytorch#20129, pytorch/pytorch#60645.
    GRU: h[t + 1] = (1 - z) * n + z * h[t] => h[t + 1] = z * n + (1 - z) * h[t]
    GRU: dn = dh[t + 1] * (1 - z) => dn = dh[t + 1] * z
    GRU: (h[t] - n) => (n - h[t])
    GRU: dh[t] += dh[t + 1] * z => dh[t] += dh[t + 1] * (1 - z)

gru-dz-sign: the gradient of z has the wrong sign. Backward is derived from the other meaning of z: n - h for h - n.
Only the update gate's rows show it directly.
    GRU: (h[t] - n) => (n - h[t])

gru-reset-ignored: the reset gate is computed and not used. r is there, its weights are there, and the candidate is
built from h all the same. Seen: zhiyongc/GRU-D#2.
    gru: n = np.tanh(u_n + r * v_n) => n = np.tanh(u_n + v_n)
    gru: dv_n = du_n * r => dv_n = du_n
    gru: dr = du_n * v_n => dr = 0 * v_n
    gru_reset_before: q = r * h[t] => q = h[t]
    gru_reset_before: dr = dq * h[t] => dr = 0 * h[t]
    gru_reset_before: dh[t] += dq * r => dh[t] += dq
    gru_reset_before: np.outer(du_n, r * h[t]) => np.outer(du_n, h[t])

gru-old-state-reset-too: z keeps r ∘ h instead of h. The reset state overwrites h, and the update then mixes in what was
meant for the candidate alone.
    GRU: h[t + 1] = (1 - z) * n + z * h[t] => h[t + 1] = (1 - z) * n + z * (r * h[t])

gru-dr-of-the-other-variant: the gradient of r is computed as for the other variant, without the product. dr = dn ∘ h
belongs to the reset before the product; here r multiplies W h + b.
    gru: dr = du_n * v_n => dr = du_n * h[t]

gru-dW_hn-without-reset: dW_hn is summed up with h instead of r ∘ h, or without the factor r. One product gives all
three blocks of dW_hh, but the candidate's block is not like the others.
    gru: np.outer(dv, h[t]) => np.outer(du, h[t])
    gru_reset_before: np.outer(du_n, r * h[t]) => np.outer(du_n, h[t])

# cell equations

lstm-coupled-gates: 1 - f stands in for the input gate. Coupled input and forget gates are a variant of their own (ONNX:
input_forget). i is computed and not used.
    LSTM: c[t + 1] = f * c[t] + i * g => c[t + 1] = f * c[t] + (1 - f) * g
    LSTM: di = dc[t + 1] * g => di = 0 * g
    LSTM: df = dc[t + 1] * c[t] => df = dc[t + 1] * (c[t] - g)
    LSTM: dg = dc[t + 1] * i => dg = dc[t + 1] * (1 - f)

lstm-forget-gate-missing: the cell state is kept whole: c + i ∘ g, as before forget gates were invented. The equations
of 1997. f is computed and not used.
    LSTM: c[t + 1] = f * c[t] + i * g => c[t + 1] = c[t] + i * g
    LSTM: df = dc[t + 1] * c[t] => df = 0 * c[t]
    LSTM: dc[t] += dc[t + 1] * f => dc[t] += dc[t + 1]

lstm-output-without-tanh: h is o ∘ c, the tanh of the cell state left out. Small cell states hide it.
    LSTM: o * np.tanh(c[t + 1]) => o * c[t + 1]
    lstm lstm_peephole: do = dh[t + 1] * np.tanh(c[t + 1]) => do = dh[t + 1] * c[t + 1]
    lstm_projection: do = dm * np.tanh(c[t + 1]) => do = dm * c[t + 1]
    LSTM: o * (1 - np.tanh(c[t + 1]) ** 2) => o

lstm-candidate-with-sigmoid: the candidate g has gone through the logistic function instead of tanh. One activation for
all four blocks, applied in one call.
    LSTM: np.tanh(a_g) => sigmoid(a_g)
    LSTM: da_g = dg * (1 - g**2) => da_g = dg * g * (1 - g)

lstm-relu-for-tanh: relu stands for tanh, in g and around c. The layer's activation is relu, as Keras' option has it,
where tanh was meant. Choose tanh, or compare with a layer of relu.
    LSTM: np.tanh(a_g) => np.where(a_g.real > 0, a_g, 0)
    LSTM: o * np.tanh(c[t + 1]) => o * np.where(c[t + 1].real > 0, c[t + 1], 0)
    LSTM: (1 - g**2) => (g.real > 0)
    lstm lstm_peephole: do = dh[t + 1] * np.tanh(c[t + 1]) => do = dh[t + 1] * np.maximum(c[t + 1], 0)
    lstm_projection: do = dm * np.tanh(c[t + 1]) => do = dm * np.maximum(c[t + 1], 0)
    LSTM: (1 - np.tanh(c[t + 1]) ** 2) => (c[t + 1] > 0)

candidate-with-relu: the candidate has gone through relu instead of tanh. Only the candidate's activation was changed.
Take tanh.
    LSTM: np.tanh(a_g) => np.where(a_g.real > 0, a_g, 0)
    LSTM: (1 - g**2) => (g.real > 0)
    gru: np.tanh(u_n + r * v_n) => np.where((u_n + r * v_n).real > 0, u_n + r * v_n, 0)
    gru_reset_before: np.tanh(u_n + v_n) => np.where((u_n + v_n).real > 0, u_n + v_n, 0)
    GRU: (1 - n**2) => (n.real > 0)

lstm-output-with-relu: h is o ∘ relu(c) instead of o ∘ tanh(c). Only the output's activation was changed. Take tanh.
    LSTM: o * np.tanh(c[t + 1]) => o * np.where(c[t + 1].real > 0, c[t + 1], 0)
    lstm lstm_peephole: do = dh[t + 1] * np.tanh(c[t + 1]) => do = dh[t + 1] * np.maximum(c[t + 1], 0)
    lstm_projection: do = dm * np.tanh(c[t + 1]) => do = dm * np.maximum(c[t + 1], 0)
    LSTM: (1 - np.tanh(c[t + 1]) ** 2) => (c[t + 1] > 0)

nonlinearity-ignored: the other nonlinearity is used: relu for tanh, or tanh for relu. The option is ignored.
    rnn_tanh: f, _ = NONLINEARITIES[nonlinearity] => f, _ = NONLINEARITIES["relu"]
    rnn_tanh: _, df = NONLINEARITIES[nonlinearity] => _, df = NONLINEARITIES["relu"]
    rnn_relu: f, _ = NONLINEARITIES[nonlinearity] => f, _ = NONLINEARITIES["tanh"]
    rnn_relu: _, df = NONLINEARITIES[nonlinearity] => _, df = NONLINEARITIES["tanh"]

relu-leaks: relu leaks: negative values are multiplied by 0.01, not by 0. A leaky relu taken for relu.
    rnn_relu: h[t + 1] = f(a) => h[t + 1] = np.where(a.real > 0, a, 0.01 * a)
    rnn_relu: df(h[t + 1]) => np.where(h[t + 1] > 0, 1, 0.01)

hard-sigmoid: the gates are 0.2 a + 0.5 between 0 and 1 instead of σ(a). Keras 2, tf.js and ONNX's HardSigmoid. Near 0
it is close to σ, so small networks hardly differ. Seen: tensorflow/tensorflow#47495.
    LSTM GRU: Tape, sigmoid
        => Tape
           def sigmoid(a: Array) -> Array:
               return np.minimum(np.maximum(0.2 * a + 0.5, 0), 1)
    LSTM[ifo]: d$ * $ * (1 - $) => d$ * 0.2 * (($ > 0) & ($ < 1))
    GRU[rz]: d$ * $ * (1 - $) => d$ * 0.2 * (($ > 0) & ($ < 1))

hard-sigmoid-sixth: the gates are a / 6 + 0.5 between 0 and 1 instead of σ(a). Keras 3 and mobile runtimes: the other
function that is called hard sigmoid.
    LSTM GRU: Tape, sigmoid
        => Tape
           def sigmoid(a: Array) -> Array:
               return np.minimum(np.maximum(a / 6 + 0.5, 0), 1)
    LSTM[ifo]: d$ * $ * (1 - $) => d$ * (1 / 6) * (($ > 0) & ($ < 1))
    GRU[rz]: d$ * $ * (1 - $) => d$ * (1 / 6) * (($ > 0) & ($ < 1))

sigmoid-of-twice: the gates are σ(2a) instead of σ(a). σ(a) = (1 + tanh(a / 2)) / 2, and the half inside is forgotten.
    LSTM GRU: Tape, sigmoid
        => Tape
           def sigmoid(a: Array) -> Array:
               return (1 + np.tanh(a)) / 2

# projection

projection-of-tanh-c: the projection is applied to tanh(c), the output gate left out. W_hr acts on o ∘ tanh(c). Here o
is computed and not used.
    lstm_projection: m = o * np.tanh(c[t + 1]) => m = np.tanh(c[t + 1])
    lstm_projection: do = dm * np.tanh(c[t + 1]) => do = 0 * dm
    lstm_projection: dm * o * (1 - np.tanh(c[t + 1]) ** 2) => dm * (1 - np.tanh(c[t + 1]) ** 2)

projection-gradient-missing: dW_hr stays zero. The projection is used forwards and forgotten backwards.
    lstm_projection: np.outer(dh[t + 1], m) => 0 * np.outer(dh[t + 1], m)

projection-gradient-of-tanh-c: dW_hr is summed up with tanh(c) instead of o ∘ tanh(c). The wrong vector is on the tape.
    lstm_projection: np.outer(dh[t + 1], m) => np.outer(dh[t + 1], np.tanh(c[t + 1]))

projection-gradient-direct-only: dW_hr counts what the loss sends to each output and nothing from later steps. dW_hr is
one product with the upstream gradient, before the recurrence has added its part. The last step is right.
    lstm_projection: np.outer(dh[t + 1], m) => np.outer(dh_loss[t + 1], m)

# peephole

peepholes-ignored: the peepholes are left out. The weights are loaded, but the gates see x and h alone.
    lstm_peephole: P_i, P_f, P_o = np.split(P, 3) => P_i, P_f, P_o = np.split(0 * P, 3)
    lstm_peephole: dc[t + 1] += da_o * P_o => pass
    lstm_peephole: dP_o += da_o * c[t + 1] => pass
    lstm_peephole: dc[t] += da_i * P_i + da_f * P_f => pass
    lstm_peephole[if]: dP_$ += da_$ * c[t] => pass

peephole-o-of-the-old-c: the output gate's peephole sees the old cell state. i and f look at c before the step, o at c
after it. With one product for all three, o gets the old one.
    lstm_peephole: o = sigmoid(a_o + P_o * c[t + 1]) => o = sigmoid(a_o + P_o * c[t])
    lstm_peephole: dc[t + 1] += da_o * P_o => dc[t] += da_o * P_o
    lstm_peephole: dP_o += da_o * c[t + 1] => dP_o += da_o * c[t]

peephole-o-after-the-sigmoid: the output gate's peephole is added after the sigmoid. The gate is squashed first and the
peephole added to it, so it leaves the range from 0 to 1. Seen: Lasagne/Lasagne#448.
    lstm_peephole: o = sigmoid(a_o + P_o * c[t + 1]) => o = sigmoid(a_o) + P_o * c[t + 1]

peephole-gradient-o-of-the-old-c: dP_o is summed up with the old cell state. Backward uses one c for all.
    lstm_peephole: dP_o += da_o * c[t + 1] => dP_o += da_o * c[t]

peephole-gradient-i-f-of-the-new-c: dP_i and dP_f are summed up with the new cell state. The other half of the same
confusion: i and f had seen the old c.
    lstm_peephole[if]: dP_$ += da_$ * c[t] => dP_$ += da_$ * c[t + 1]

peephole-path-of-i-f-dropped: nothing flows back into the cell state through the peepholes of i and f. The peepholes'
own gradients are right, but c is not told that it went through them.
    lstm_peephole: dc[t] += da_i * P_i + da_f * P_f => pass

peephole-path-of-o-dropped: nothing flows back into the cell state through the peephole of o. That peephole sees the new
c, so its part must be there before i, f and g get theirs.
    lstm_peephole: dc[t + 1] += da_o * P_o => pass

# activation derivative

sigmoid-derivative-of-the-activated-value: σ' is taken of the gate, which has gone through σ already.
sigmoid_derivative(a) computes σ(a)(1 - σ(a)) and is handed the gate. σ'(σ(a)) is always near 0.2.
    LSTM[ifo]: d$ * $ * (1 - $) => d$ * sigmoid($) * (1 - sigmoid($))
    GRU[rz]: d$ * $ * (1 - $) => d$ * sigmoid($) * (1 - sigmoid($))

sigmoid-in-place-of-its-derivative: σ of the gate stands where σ' should. `sigmoid(f) * df` without derivative=True: the
flag was forgotten. Seen: CaptainE/RNN-LSTM-in-numpy#1.
    LSTM[ifo]: d$ * $ * (1 - $) => d$ * sigmoid($)
    GRU[rz]: d$ * $ * (1 - $) => d$ * sigmoid($)

sigmoid-derivative-left-out: σ' of the gates is left out. The gate's gradient is passed on as if it were linear.
    LSTM[ifo]: d$ * $ * (1 - $) => d$ * 1
    GRU[rz]: d$ * $ * (1 - $) => d$ * 1

sigmoid-derivative-lacks-1-minus: σ' of the gates lacks its factor 1 - σ. i for i (1 - i), in every gate's line.
    LSTM[ifo]: d$ * $ * (1 - $) => d$ * $
    GRU[rz]: d$ * $ * (1 - $) => d$ * $

sigmoid-derivative-lacks-the-gate: σ' of the gates lacks its factor σ. 1 - i for i (1 - i), in every gate's line.
    LSTM[ifo]: d$ * $ * (1 - $) => d$ * (1 - $)
    GRU[rz]: d$ * $ * (1 - $) => d$ * (1 - $)

lstm-derivative-of-$-lacks-1-minus[ifo]: σ' of the gate $ alone lacks its factor 1 - $. The other gates' lines have it.
    LSTM: d$ * $ * (1 - $) => d$ * $

lstm-derivative-of-$-lacks-the-gate[ifo]: σ' of the gate $ alone lacks its factor $. The other gates' lines have it.
    LSTM: d$ * $ * (1 - $) => d$ * (1 - $)

lstm-derivative-of-$-left-out[ifo]: σ' of the gate $ alone is left out. The other gates' lines have it.
    LSTM: d$ * $ * (1 - $) => d$ * 1

lstm-derivative-of-$-as-of-tanh[ifo]: the derivative of the gate $ alone is 1 - $², which is tanh's. The line of g has
been copied.
    LSTM: d$ * $ * (1 - $) => d$ * (1 - $**2)

gru-derivative-of-$-lacks-1-minus[rz]: σ' of the gate $ alone lacks its factor 1 - $. The other gate's line has it.
    GRU: d$ * $ * (1 - $) => d$ * $

gru-derivative-of-$-lacks-the-gate[rz]: σ' of the gate $ alone lacks its factor $. The other gate's line has it.
    GRU: d$ * $ * (1 - $) => d$ * (1 - $)

gru-derivative-of-$-left-out[rz]: σ' of the gate $ alone is left out. The other gate's line has it.
    GRU: d$ * $ * (1 - $) => d$ * 1

gru-derivative-of-$-as-of-tanh[rz]: the derivative of the gate $ alone is 1 - $², which is tanh's. The line of n has
been copied.
    GRU: d$ * $ * (1 - $) => d$ * (1 - $**2)

sigmoid-derivative-with-plus: σ' of the gates is σ (1 + σ). A sign, in every gate's line.
    LSTM[ifo]: d$ * $ * (1 - $) => d$ * $ * (1 + $)
    GRU[rz]: d$ * $ * (1 - $) => d$ * $ * (1 + $)

sigmoid-derivative-of-tanh: the gates' derivative is 1 - gate², which is tanh's. One derivative for all blocks.
    LSTM[ifo]: d$ * $ * (1 - $) => d$ * (1 - $ ** 2)
    GRU[rz]: d$ * $ * (1 - $) => d$ * (1 - $ ** 2)

tanh-derivative-of-the-activated-value: tanh' is taken of a value that has gone through tanh already. 1 - tanh(g)²
stands for 1 - g²: tanh is applied a second time.
    rnn_tanh: df(h[t + 1]) => (1 - np.tanh(h[t + 1]) ** 2)
    LSTM: (1 - g**2) => (1 - np.tanh(g) ** 2)
    GRU: (1 - n**2) => (1 - np.tanh(n) ** 2)

tanh-derivative-not-squared: tanh' is 1 - g, the square forgotten. It even has the right value where g is 0 or 1.
    rnn_tanh: df(h[t + 1]) => (1 - h[t + 1])
    LSTM: (1 - g**2) => (1 - g)
    GRU: (1 - n**2) => (1 - n)

tanh-derivative-left-out: tanh' is left out. Where the network saturates, gradients do not vanish as they should.
    rnn_tanh: dh[t + 1] * df(h[t + 1]) => dh[t + 1]
    LSTM: dg * (1 - g**2) => dg
    GRU: dn * (1 - n**2) => dn

lstm-tanh-c-derivative-left-out: the derivative of tanh(c) is left out. dc gets dh ∘ o, as if h were o ∘ c.
    LSTM: o * (1 - np.tanh(c[t + 1]) ** 2) => o

lstm-dc-lacks-o: dc lacks the factor o. It gets dh ∘ (1 - tanh²(c)), without the output gate that h = o ∘ tanh(c) has.
    LSTM: o * (1 - np.tanh(c[t + 1]) ** 2) => (1 - np.tanh(c[t + 1]) ** 2)

lstm-dc-from-h-with-the-other-sign: what h sends to dc has the other sign. -= for +=, or tanh² - 1.
    lstm lstm_peephole: dh[t + 1] * o * (1 => -dh[t + 1] * o * (1
    lstm_projection: dm * o * (1 => -dm * o * (1

lstm-df-with-h: df is dc ∘ h instead of dc ∘ c. f multiplies the cell state before, and h has been taken for it.
    lstm lstm_peephole: df = dc[t + 1] * c[t] => df = dc[t + 1] * h[t]

gru-dz-lacks-n: dz is dh ∘ h instead of dh ∘ (h - n). z weighs the old state, and 1 - z the candidate: both parts count.
    GRU: (h[t] - n) => h[t]

gru-dn-with-z: dn is dh ∘ z instead of dh ∘ (1 - z). z and 1 - z have changed places in one line of backward.
    GRU: dn = dh[t + 1] * (1 - z) => dn = dh[t + 1] * z

gru-dr-without-tanh-derivative: dr is computed of dn, before tanh' has been multiplied in. The line reads dn, not du_n.
    gru: dr = du_n * v_n => dr = dn * v_n

lstm-tanh-derivative-of-c: the derivative of tanh(c) is 1 - c² instead of 1 - tanh²(c). c is on the tape, tanh(c) is
not, and the formula 1 - y² is for outputs. Right for small c.
    LSTM: (1 - np.tanh(c[t + 1]) ** 2) => (1 - c[t + 1] ** 2)

lstm-tanh-derivative-of-h: the derivative of tanh(c) is 1 - h² instead of 1 - tanh²(c). h is taken for tanh(c).
    lstm lstm_peephole: (1 - np.tanh(c[t + 1]) ** 2) => (1 - h[t + 1] ** 2)

lstm-do-without-tanh: the output gate's gradient uses c instead of tanh(c). do = dh ∘ c: the transposed line of an LSTM
whose output has no tanh.
    lstm lstm_peephole: do = dh[t + 1] * np.tanh(c[t + 1]) => do = dh[t + 1] * c[t + 1]
    lstm_projection: do = dm * np.tanh(c[t + 1]) => do = dm * c[t + 1]

lstm-tanh-derivative-of-tanh-c: the derivative of tanh(c) is taken of tanh(c), which has gone through tanh already. 1 -
tanh(tanh(c))² stands for 1 - tanh²(c): the derivative takes tanh once more. Hand it c, or leave tanh out of it.
    LSTM: (1 - np.tanh(c[t + 1]) ** 2) => (1 - np.tanh(np.tanh(c[t + 1])) ** 2)

lstm-derivatives-of-activated-values: σ' and tanh' are taken of values that have gone through σ and tanh already, all of
them. The derivative functions apply σ and tanh themselves, and are handed the gates. Hand them the pre-activations, or
write y (1 - y) and 1 - y².
    LSTM[ifo]: d$ * $ * (1 - $) => d$ * sigmoid($) * (1 - sigmoid($))
    LSTM: (1 - g**2) => (1 - np.tanh(g) ** 2)
    LSTM: (1 - np.tanh(c[t + 1]) ** 2) => (1 - np.tanh(np.tanh(c[t + 1])) ** 2)

sigmoid-derivative-for-tanh: tanh' is h (1 - h), which is the derivative of σ. One derivative for all blocks, the
candidate's included, or σ' left over from another layer. Write 1 - h².
    rnn_tanh: df(h[t + 1]) => h[t + 1] * (1 - h[t + 1])
    LSTM: (1 - g**2) => g * (1 - g)
    GRU: (1 - n**2) => n * (1 - n)

lstm-sigmoid-derivative-for-tanh-c: the derivative of tanh(c) is tanh(c) (1 - tanh(c)), which is that of σ. Write 1 -
tanh²(c).
    LSTM: (1 - np.tanh(c[t + 1]) ** 2) => np.tanh(c[t + 1]) * (1 - np.tanh(c[t + 1]))

relu-derivative-one-where-a-is-zero: relu' is 1 where a = 0, too. a >= 0 for a > 0: torch and TensorFlow have 0 there.
It shows where a is exactly 0 alone, as with zero biases after a row of zeros. Write a > 0.
    rnn_relu: df(h[t + 1]) => (W_ih @ x[t] + tape[0][2] + W_hh @ h[t] + tape[0][3] >= 0)

lstm-derivative-of-$-anew-with-b_%[ifo][ifgo]: the derivative of σ in da_$ is that of the gate computed anew with b_%.
Backward does not keep the gates, computes $ once more, and a bias has been copied from another line. Use b_$, or keep
the gates.
    lstm lstm_projection: da_$ = d$ * $ * (1 - $)
        => a_$ = np.split(W_ih @ x[t] + W_hh @ h[t], 4)["ifgo".index("$")]
           a_$ += np.split(tape[0][2] + tape[0][3], 4)["ifgo".index("%")]
           da_$ = d$ * sigmoid(a_$) * (1 - sigmoid(a_$))

lstm-derivative-of-g-anew-with-b_$[ifo]: the derivative of tanh in da_g is that of g computed anew with b_$. As for the
other gates. Use b_g, or keep the gates.
    lstm lstm_projection: da_g = dg * (1 - g**2)
        => a_g = np.split(W_ih @ x[t] + W_hh @ h[t], 4)[2]
           a_g += np.split(tape[0][2] + tape[0][3], 4)["ifgo".index("$")]
           da_g = dg * (1 - np.tanh(a_g) ** 2)

lstm-gates-anew-with-b_$[ifgo]: backward computes all gates anew, each with b_$. One line has been copied three times,
and the weights' names were changed in the copies, not the bias. Use each gate's own bias, or keep the gates.
    lstm lstm_projection: do = d
        => same = np.split(tape[0][2] + tape[0][3], 4)["ifgo".index("$")]
           i, f, g, o = (a + same for a in np.split(W_ih @ x[t] + W_hh @ h[t], 4))
           i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
           do = d

gru-derivative-of-$-anew-with-b_%[rz][rzn]: the derivative of σ in du_$ is that of the gate computed anew with b_%.
Backward does not keep the gates, computes $ once more, and a bias has been copied from another line. Use b_$, or keep
the gates.
    GRU: du_$ = d$ * $ * (1 - $)
        => u_$ = np.split(W_ih @ x[t], 3)["rzn".index("$")] + np.split(W_hh, 3)["rzn".index("$")] @ h[t]
           u_$ = u_$ + np.split(tape[0][2] + tape[0][3], 3)["rzn".index("%")]
           du_$ = d$ * sigmoid(u_$) * (1 - sigmoid(u_$))

lstm-derivatives-anew-with-b_%[ifgo]: the derivatives of σ and tanh are those of gates computed anew, each with b_%. As
where all of backward uses such gates, but the products have the right ones. Use each gate's own bias, or keep the
gates.
    lstm lstm_projection: do = d
        => same = np.split(tape[0][2] + tape[0][3], 4)["ifgo".index("%")]
           a_i, a_f, a_g, a_o = (a + same for a in np.split(W_ih @ x[t] + W_hh @ h[t], 4))
           do = d
    lstm lstm_projection[ifo]: d$ * $ * (1 - $) => d$ * sigmoid(a_$) * (1 - sigmoid(a_$))
    lstm lstm_projection: (1 - g**2) => (1 - np.tanh(a_g) ** 2)

gru-derivative-of-n-anew-with-b_$[rz]: the derivative of tanh in du_n is that of the candidate computed anew with b_$.
As for the gates. Use b_n, or keep the candidate.
    gru: dn * (1 - n**2)
        => dn * (1 - np.tanh(
               np.split(W_ih @ x[t], 3)[2] + np.split(tape[0][2], 3)["rzn".index("$")]
               + r * (np.split(W_hh, 3)[2] @ h[t] + np.split(tape[0][3], 3)["rzn".index("$")])
           ) ** 2)

derivative-anew-without-b_hh: backward computes its activations anew, without b_hh. It does not keep the gates, and has
one of the two biases. Add both, or keep what forward has computed.
    RNN: df(h[t + 1]) => df(NONLINEARITIES[nonlinearity][0](W_ih @ x[t] + tape[0][2] + W_hh @ h[t]))
    lstm lstm_projection: do = d
        => i, f, g, o = np.split(W_ih @ x[t] + tape[0][2] + W_hh @ h[t], 4)
           i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
           do = d
    gru: dn = d
        => u_r, u_z, u_n = np.split(W_ih @ x[t] + tape[0][2], 3)
           v_r, v_z, v_n = np.split(W_hh @ h[t], 3)
           r, z = sigmoid(u_r + v_r), sigmoid(u_z + v_z)
           n = np.tanh(u_n + r * v_n)
           dn = d
    gru_reset_before: dn = d
        => u_r, u_z, u_n = np.split(W_ih @ x[t] + tape[0][2], 3)
           r, z = sigmoid(u_r + W_hr @ h[t]), sigmoid(u_z + W_hz @ h[t])
           n = np.tanh(u_n + W_hn @ (r * h[t]))
           dn = d

relu-derivative-at-zero: relu' is 1 wherever h ≥ 0, which is everywhere. h >= 0 for h > 0. The output of relu is never
negative, so no unit ever counts as off.
    rnn_relu: df(h[t + 1]) => (h[t + 1] >= 0)

rnn-derivative-of-the-old-state: the derivative of the activation is taken at the state before the step. h[t] for h[t +
1]: an off-by-one inside f'.
    RNN: df(h[t + 1]) => df(h[t])

# parentheses

lstm-da_$-derivative-of-dc_%-alone[ifg][hc]: the derivative in da_$ multiplies the part dc_% alone, for want of
parentheses. dc_h is what comes from h, dc_c what step t + 1 has sent back, and da_i = (dc_c ∘ g + dc_h ∘ g) ∘ i ∘
(1 - i). Put the whole sum in parentheses, or add dc up before the gates get their gradients.
    <dc in two parts>
    LSTM: d$ = dc[t + 1] * => factor_$ = 1 *
    LSTM: da_$ = d$ * => da_$ = (dc[t + 1] - dc_%) * factor_$ + dc_% * factor_$ *

lstm-da-derivative-of-dc_%-alone[hc]: the derivatives in da_i, da_f and da_g multiply the part dc_% alone, for want of
parentheses. As for one gate: da_i = dc_c ∘ g + dc_h ∘ g ∘ i ∘ (1 - i), where the sum needs parentheses. It is the usual
slip where each gate's gradient is one long line. Put the whole sum in parentheses.
    <dc in two parts>
    LSTM[ifg]: d$ = dc[t + 1] * => factor_$ = 1 *
    LSTM[ifg]: da_$ = d$ * => da_$ = (dc[t + 1] - dc_%) * factor_$ + dc_% * factor_$ *

lstm-d$-factor-of-dc_%-alone[ifg][hc]: the factor in d$ multiplies the part dc_% alone, for want of parentheses. dc_h is
what comes from h, dc_c what step t + 1 has sent back: di = dc_c + dc_h ∘ g for (dc_c + dc_h) ∘ g. Put the sum in
parentheses.
    <dc in two parts>
    LSTM: d$ = dc[t + 1] * => d$ = dc[t + 1] - dc_% + dc_% *

lstm-dc-factor-of-dc_%-alone[hc]: the factors in di, df and dg multiply the part dc_% alone, for want of parentheses. As
for one gate, in all three. Put the sum in parentheses, or add dc up before the gates get their gradients.
    <dc in two parts>
    LSTM[ifg]: d$ = dc[t + 1] * => d$ = dc[t + 1] - dc_% + dc_% *

lstm-da_$-product-with-dc_%-alone[ifg][hc]: factor and derivative in da_$ multiply the part dc_% alone, for want of
parentheses. dc_h is what comes from h, dc_c what step t + 1 has sent back: da_i = dc_c + dc_h ∘ g ∘ i ∘ (1 - i) for
(dc_c + dc_h) ∘ g ∘ i ∘ (1 - i). Put the sum in parentheses.
    <dc in two parts>
    LSTM: d$ = dc[t + 1] * => d$ = dc_% *
    LSTM: da_$ = d$ * => da_$ = dc[t + 1] - dc_% + d$ *

lstm-da-product-with-dc_%-alone[hc]: factor and derivative in da_i, da_f and da_g multiply the part dc_% alone, for want
of parentheses. As for one gate, in all three. Put the sum in parentheses, or add dc up first.
    <dc in two parts>
    LSTM[ifg]: d$ = dc[t + 1] * => d$ = dc_% *
    LSTM[ifg]: da_$ = d$ * => da_$ = dc[t + 1] - dc_% + d$ *

lstm-f-carries-dc_%-alone[hc]: what goes back to the cell state before is multiplied by f in its part dc_% alone, for
want of parentheses. dc_h is what comes from h, dc_c what step t + 1 has sent back: dc_c + dc_h ∘ f for (dc_c + dc_h) ∘
f. Put the sum in parentheses.
    <dc in two parts>
    LSTM: dc[t] += dc[t + 1] * f => dc[t] += dc[t + 1] - dc_% + dc_% * f

tanh-derivative-without-parentheses: tanh' lacks its parentheses: dh ∘ 1 - h² for dh ∘ (1 - h²). A product takes its
neighbour before a difference does, so h² is subtracted whatever comes back. Put 1 - h² in parentheses.
    rnn_tanh: dh[t + 1] * df(h[t + 1]) => dh[t + 1] * 1 - h[t + 1] ** 2
    LSTM: dg * (1 - g**2) => dg * 1 - g**2
    GRU: dn * (1 - n**2) => dn * 1 - n**2

tanh-derivative-squared-as-a-whole: tanh' is (1 - h)² instead of 1 - h². A parenthesis in the wrong place: the square
belongs to the output of tanh alone.
    rnn_tanh: df(h[t + 1]) => (1 - h[t + 1]) ** 2
    LSTM: (1 - g**2) => (1 - g) ** 2
    GRU: (1 - n**2) => (1 - n) ** 2

sigmoid-derivative-without-parentheses: σ' lacks its parentheses: df ∘ f - f for df ∘ f ∘ (1 - f). In df * f * 1 - f the
product comes first. Put 1 - f in parentheses.
    LSTM[ifo]: d$ * $ * (1 - $) => d$ * $ * 1 - $
    GRU[rz]: d$ * $ * (1 - $) => d$ * $ * 1 - $

lstm-tanh-c-derivative-without-parentheses: the derivative of tanh(c) lacks its parentheses: dh ∘ o - tanh²(c) for dh ∘
o ∘ (1 - tanh²(c)). The square is subtracted whatever comes back. Put 1 - tanh²(c) in parentheses.
    LSTM: * o * (1 - np.tanh(c[t + 1]) ** 2) => * o * 1 - np.tanh(c[t + 1]) ** 2

lstm-tanh-c-derivative-squared-as-a-whole: the derivative of tanh(c) is (1 - tanh(c))² instead of 1 - tanh²(c). A
parenthesis in the wrong place: the square belongs to tanh(c) alone.
    LSTM: (1 - np.tanh(c[t + 1]) ** 2) => (1 - np.tanh(c[t + 1])) ** 2

lstm-tanh-c-derivative-of-c-squared: the derivative of tanh(c) is 1 - tanh(c²) instead of 1 - tanh²(c). A parenthesis in
the wrong place: tanh is squared, not c.
    LSTM: (1 - np.tanh(c[t + 1]) ** 2) => (1 - np.tanh(c[t + 1] ** 2))

gru-dz-without-parentheses: dz is dh ∘ h - n instead of dh ∘ (h - n), for want of parentheses. Put h - n in parentheses.
    GRU: dh[t + 1] * (h[t] - n) => dh[t + 1] * h[t] - n

gru-dn-without-parentheses: dn is dh - z instead of dh ∘ (1 - z), for want of parentheses. Put 1 - z in parentheses.
    GRU: dn = dh[t + 1] * (1 - z) => dn = dh[t + 1] * 1 - z

# wrong factor

lstm-$-sent-back-for-da_$[ifgo]: the gate $ itself, and not its gradient da_$, is multiplied with W_ih and W_hh on the
way back. One letter is missing in a line of four products, and dW and db are right. Write da_$ in that line.
    LSTM: dh[t] += W_hh.T @ da
        => sent = 1 * da
           np.split(sent, 4)["ifgo".index("$")][:] = $
           dh[t] += W_hh.T @ sent
    LSTM: dx[t] = W_ih.T @ da => dx[t] = W_ih.T @ sent

lstm-$-sent-through-W_hh-for-da_$[ifgo]: the gate $ itself, and not its gradient da_$, is multiplied with W_hh on the
way back. One letter is missing in the line that makes dh of the step before. Write da_$ there.
    LSTM: dh[t] += W_hh.T @ da
        => sent = 1 * da
           np.split(sent, 4)["ifgo".index("$")][:] = $
           dh[t] += W_hh.T @ sent

lstm-$-sent-through-W_ih-for-da_$[ifgo]: the gate $ itself, and not its gradient da_$, is multiplied with W_ih in dx.
One letter is missing in the line that makes dx, and all else is right. Write da_$ there.
    LSTM: dx[t] = W_ih.T @ da
        => sent = 1 * da
           np.split(sent, 4)["ifgo".index("$")][:] = $
           dx[t] = W_ih.T @ sent

lstm-$-for-da_$[ifgo]: da_$ is the gate $ itself. The gate stands where its gradient belongs, in every product that
follows. Write da_$ there.
    LSTM: da_$ = d$ * => da_$ = $ + 0 *

lstm-$-for-da_$-in-dW[ifgo]: the gate $ itself, and not its gradient da_$, is multiplied with x and h in dW_ih and
dW_hh. One letter is missing in the lines that sum up the weights' gradients, and all else is right. Write da_$ there.
    LSTM: dW_ih += np.outer(da, x[t])
        => summed = 1 * da
           np.split(summed, 4)["ifgo".index("$")][:] = $
           dW_ih += np.outer(summed, x[t])
    LSTM: np.outer(da, h[t]) => np.outer(summed, h[t])

gru-direct-path-by-1-z: what goes straight back to the old state is multiplied by 1 - z and not by z. The line belongs
to the other meaning of z: here z keeps the old state. Multiply by z.
    GRU: dh[t] += dh[t + 1] * z => dh[t] += dh[t + 1] * (1 - z)

gru-$-sent-back-for-du_$[rzn]: the gate $ itself, and not its gradient du_$, is multiplied with W_ih and W_hh on the way
back. One letter is missing in a line of three products, and dW and db are right. Write du_$ in that line.
    gru: dh[t] += W_hh.T @ dv
        => sent = 1 * dv
           np.split(sent, 3)["rzn".index("$")][:] = $
           dh[t] += W_hh.T @ sent
    gru_reset_before: W_h$.T @ du_$ => W_h$.T @ $
    GRU: dx[t] = W_ih.T @ du
        => sent = 1 * du
           np.split(sent, 3)["rzn".index("$")][:] = $
           dx[t] = W_ih.T @ sent

gru-$-sent-through-W_hh-for-dv_$[rzn]: the gate $ itself, and not its gradient, is multiplied with W_hh on the way back.
One letter is missing in the line that makes dh of the step before. Write the gradient there.
    gru: dh[t] += W_hh.T @ dv
        => sent = 1 * dv
           np.split(sent, 3)["rzn".index("$")][:] = $
           dh[t] += W_hh.T @ sent
    gru_reset_before: W_h$.T @ du_$ => W_h$.T @ $

gru-$-sent-through-W_ih-for-du_$[rzn]: the gate $ itself, and not its gradient du_$, is multiplied with W_ih in dx. One
letter is missing in the line that makes dx, and all else is right. Write du_$ there.
    GRU: dx[t] = W_ih.T @ du
        => sent = 1 * du
           np.split(sent, 3)["rzn".index("$")][:] = $
           dx[t] = W_ih.T @ sent

da-sent-back-without-W_hh: dh of the step before gets da itself, and not W_hhᵀ da. W_hh is forgotten on the way back,
and the shapes agree, since as many units come out as go in. Multiply with the transpose of W_hh.
    RNN: dh[t] += W_hh.T @ da => dh[t] += da
    lstm lstm_peephole: dh[t] += W_hh.T @ da => dh[t] += da_i + da_f + da_g + da_o
    gru: dh[t] += W_hh.T @ dv => dh[t] += du_r + du_z + dv_n
    gru_reset_before: dq = W_hn.T @ du_n => dq = du_n + 0
    gru_reset_before: W_hr.T @ du_r + W_hz.T @ du_z => du_r + du_z

rnn-dh-sent-back-for-da: W_hhᵀ is multiplied with dh, and not with da = dh ∘ f'. The derivative of the activation is in
the parameters' gradients, and is forgotten on the way back to the step before. Multiply with da.
    RNN: dh[t] += W_hh.T @ da => dh[t] += W_hh.T @ dh[t + 1]

lstm-dc-carried-by-$[igo]: what goes back to the cell state before is multiplied by the gate $ and not by f. dc_t gets
dc_{t+1} ∘ f, since c_{t+1} = f ∘ c_t + i ∘ g. Multiply by f.
    LSTM: dc[t] += dc[t + 1] * f => dc[t] += dc[t + 1] * $

lstm-dc-carried-by-f-and-$[igo]: what goes back to the cell state before is multiplied by f and by the gate $. One array
serves for dc and for a gate's gradient, and `*=` changes both. Make a product of its own of each.
    LSTM: dc[t] += dc[t + 1] * f => dc[t] += dc[t + 1] * f * $

lstm-dc-carried-too-early: dc has been multiplied by f before the gates i, f and g get their gradients. `dc *= f` stands
a few lines too high: it prepares the step before, and this step still needs dc. Move it to the end of the step.
    LSTM: di = dc[t + 1] * g
        => dc[t + 1] *= f
           di = dc[t + 1] * g
    LSTM: dc[t] += dc[t + 1] * f => dc[t] += dc[t + 1]

lstm-do-from-the-upstream-alone: the output gate gets its gradient from the upstream alone, and nothing from step t + 1.
do = dy ∘ tanh(c), where dy has not had the gradient that W_hh has sent back added to it. Use the sum of both.
    lstm lstm_peephole: do = dh[t + 1] * => do = (dh_loss[t + 1] - dh_n * (t + 1 == len(x))) *
    lstm_projection: do = dm * => do = (W_hr.T @ (dh_loss[t + 1] - dh_n * (t + 1 == len(x)))) *
    LSTM: dc_loss: Array) -> => dc_loss: Array, dh_n: Array) ->
    stack LSTM: cell.backward(tapes[l, d, b], *dstates) => cell.backward(tapes[l, d, b], *dstates, ds_n[0][k, b])

lstm-do-from-the-loss-alone: the output gate gets its gradient from the loss alone, the final state's included, and
nothing from step t + 1. As from the upstream alone, where the final state's gradient has been added to the last
output's before. Use the sum of both.
    lstm lstm_peephole: do = dh[t + 1] * => do = dh_loss[t + 1] *
    lstm_projection: do = dm * => do = (W_hr.T @ dh_loss[t + 1]) *

lstm-dc-from-the-loss-alone: the cell state gets dh ∘ o ∘ (1 - tanh²(c)) of what the loss sends to h alone, and nothing
of what step t + 1 has sent back to h. The output gate's line is right, and this one uses the upstream gradient. Use the
sum of both.
    lstm lstm_peephole: dc[t + 1] += dh[t + 1] => dc[t + 1] += dh_loss[t + 1]
    lstm_projection: dc[t + 1] += dm => dc[t + 1] += (W_hr.T @ dh_loss[t + 1])

# off by one

dW_hh-of-the-new-state: dW_hh is summed up with the state after each step instead of before it. h_{t+1} for h_t. A list
of states without the initial one invites it.
    RNN LSTM: np.outer(da, h[t]) => np.outer(da, h[t + 1])
    gru: np.outer(dv, h[t]) => np.outer(dv, h[t + 1])
    gru_reset_before[rz]: np.outer(du_$, h[t]) => np.outer(du_$, h[t + 1])
    gru_reset_before: np.outer(du_n, r * h[t]) => np.outer(du_n, r * h[t + 1])

dW_ih-of-the-input-before: dW_ih is summed up with the input of the step before. At t = 0, x[t - 1] is the last one.
    RNN LSTM: np.outer(da, x[t]) => np.outer(da, x[t - 1])
    GRU: np.outer(du, x[t]) => np.outer(du, x[t - 1])

lstm-df-of-the-new-c: the forget gate's gradient uses the cell state after the step instead of before it. c_{t+1} for
c_t. Where c is overwritten in place, the old one is gone when backward needs it.
    LSTM: df = dc[t + 1] * c[t] => df = dc[t + 1] * c[t + 1]

lstm-backward-tanh-of-the-old-c: backward takes tanh of the cell state before the step. tanh(c_t) for tanh(c_{t+1}), in
the gradients of o and c.
    lstm lstm_peephole: do = dh[t + 1] * np.tanh(c[t + 1]) => do = dh[t + 1] * np.tanh(c[t])
    LSTM: (1 - np.tanh(c[t + 1]) ** 2) => (1 - np.tanh(c[t]) ** 2)
    lstm_projection: do = dm * np.tanh(c[t + 1]) => do = dm * np.tanh(c[t])

lstm-di-and-dg-swapped: di has the factor i and dg the factor g, instead of each other's. In a product each factor gets
the other as its gradient.
    LSTM: di = dc[t + 1] * g => di = dc[t + 1] * i
    LSTM: dg = dc[t + 1] * i => dg = dc[t + 1] * g

gru-dz-of-the-new-state: the update gate's gradient uses the state after the step. h_{t+1} - n for h_t - n.
    GRU: (h[t] - n) => (h[t + 1] - n)

backward-stops-before-the-first-step: backward never reaches the first step. A loop down to 1 instead of 0. dx of the
first step is zero, and so is the gradient of the initial state.
    all: for t in reversed(range(len(x))): => for t in reversed(range(1, len(x))):

backward-starts-before-the-last-step: backward begins at the last step but one. The last step, and with it the gradient
of the final state, is left out.
    all: for t in reversed(range(len(x))): => for t in reversed(range(len(x) - 1)):

dh_0-one-step-late: the gradient by h after the first step is handed out as dh_0. The index is one too high.
    all: (dh[0] => (dh[1]

output-one-step-early: the output at each step is the state before it. h[:-1] for h[1:], forwards and backwards.
    stack: output[steps, b] = states[0][1:] => output[steps, b] = states[0][:-1]
    stack: dstates[0][1:] = doutput[steps, b] => dstates[0][:-1] = doutput[steps, b]

upstream-gradient-shifted: each output's gradient is added to the state one step earlier. Forward is right; backward
pairs dy[t] with h[t] instead of h[t + 1].
    stack: dstates[0][1:] = doutput[steps, b] => dstates[0][:-1] = doutput[steps, b]

# dropped path

lstm-path-through-c-dropped: the path from one cell state to the one before it is cut. dc is not carried on (`dc_next`
forgotten). What is left flows through h, so short tests look nearly right. Seen: CaptainE/RNN-LSTM-in-numpy#1.
    LSTM: dc[t] += dc[t + 1] * f => pass

lstm-dc-from-h-dropped: the cell state gets nothing from the output h of its own step. dc lacks dh ∘ o ∘ (1 - tanh²(c)).
    lstm lstm_peephole: dc[t + 1] += dh[t + 1] * o * (1 - np.tanh(c[t + 1]) ** 2) => pass
    lstm_projection: dc[t + 1] += dm * o * (1 - np.tanh(c[t + 1]) ** 2) => pass

lstm-dc-overwritten: what comes from h replaces dc instead of being added to it. `=` for `+=`: the cell branches, and
one branch is lost, together with the gradient of the final cell state. Seen: apache/mxnet#4057.
    lstm lstm_peephole: dc[t + 1] += dh[t + 1] => dc[t + 1] = dh[t + 1]
    lstm_projection: dc[t + 1] += dm => dc[t + 1] = dm

lstm-dc-from-h-too-late: the gates i, f and g get their gradients before h has added its part to dc. The lines are
right, their order is not: c's own path is complete, the gates' gradients are not.
    lstm lstm_peephole: dc[t + 1] += dh[t + 1] => late = dh[t + 1]
    lstm_projection: dc[t + 1] += dm => late = dm
    LSTM: dc[t] += dc[t + 1] * f => dc[t] += (dc[t + 1] + late) * f

lstm-path-through-$-dropped[fig]: nothing flows back through the gate $. Its rows of dW_ih, dW_hh, db_ih, db_hh stay
zero.
    LSTM: d$ = dc[t + 1] * => d$ = 0 *

lstm-path-through-o-dropped: nothing flows back through the gate o. Its rows of dW_ih, dW_hh, db_ih, db_hh stay zero.
    lstm lstm_peephole: do = dh[t + 1] * np.tanh(c[t + 1]) => do = 0 * dh[t + 1]
    lstm_projection: do = dm * np.tanh(c[t + 1]) => do = 0 * dm

path-through-W_hh-dropped: nothing flows back through W_hh. `dh_prev` is not added; the direct path remains.
    LSTM: dh[t] += W_hh.T @ da => pass
    gru: dh[t] += W_hh.T @ dv => pass
    gru_reset_before: dh[t] += dq * r => pass
    gru_reset_before: dh[t] += W_hr.T @ du_r + W_hz.T @ du_z => pass

gru-path-through-r-dropped: the gradient's path through the reset gate r is cut. Its rows of the gradients are zero.
    gru: dr = du_n * v_n => dr = 0 * v_n
    gru_reset_before: dr = dq * h[t] => dr = 0 * h[t]

gru-path-through-z-dropped: the gradient's path through the update gate z is cut. z is treated as a constant.
    GRU: dz = dh[t + 1] * (h[t] - n) => dz = 0 * n

gru-path-through-n-dropped: the gradient's path through the candidate n is cut. r gets no gradient either.
    GRU: dn = dh[t + 1] * (1 - z) => dn = 0 * z

gru-direct-path-dropped: the direct path from the new state to the old one, z ∘ dh, is cut. What flows past the gates
untouched, and makes a GRU remember, is forgotten.
    GRU: dh[t] += dh[t + 1] * z => pass

gru-path-through-reset-state-dropped: nothing flows back into h through r ∘ h. The state's third way in is forgotten.
    gru_reset_before: dh[t] += dq * r => pass

gru-candidate-gradient-without-reset: the candidate's hidden side lacks the factor r, or r ∘ h is treated as h. Going
back through r ∘ (…), r is left out.
    gru: dv_n = du_n * r => dv_n = du_n
    gru_reset_before: dh[t] += dq * r => dh[t] += dq

gru-du-through-W_hh: W_hhᵀ is multiplied with du, the gradient of the input side, instead of dv. du and dv differ in the
candidate's block alone, by the factor r. With one array for both, what flows to the old state lacks it, while dW_hh and
db_hh may well have it.
    gru: dh[t] += W_hh.T @ dv => dh[t] += W_hh.T @ du

upstream-gradient-of-the-last-step-alone: only the last step's output gradient is counted. dh is set, not added to, on
the way back; or the loss was thought to see the last output alone.
    stack: dstates[0][1:] = doutput[steps, b] => dstates[0][1:][-1:] = doutput[steps[-1:], b]

upstream-gradient-of-ones: the gradient of the outputs is taken to be 1 everywhere, whatever was handed in. Backward was
written for the sum of all outputs as loss, which is what many gradient checks use: ones pass them all.
    stack: dstates[0][1:] = doutput[steps, b] => dstates[0][1:] = 1 if l == len(params) - 1 else doutput[steps, b]

gradient-between-layers-dropped: no gradient flows from a layer to the one beneath it. Its output is detached.
    stack: dy = dx * masks[l - 1] if l > 0 else dx => dy = dx * 0 if l > 0 else dx
""".replace("    <dc in two parts>\n", DC_IN_TWO_PARTS)
