"""Mistakes in how parameters are read. `mistakes` explains the notation."""

TEXT = """
# gate order

lstm-gates-ifog: the gates stand in the order i f o g instead of i f g o. The order of CS231n and ncnn. Candidate and
output gate change places, so a sigmoid squashes what tanh should. Outputs stay small. Seen: apple/coremltools#93.
    LSTM: a_i, a_f, a_g, a_o = np.split => a_i, a_f, a_o, a_g = np.split
    LSTM: [da_i, da_f, da_g, da_o] => [da_i, da_f, da_o, da_g]

lstm-gates-iofg: the gates stand in the order i o f g instead of i f g o. ONNX's order, i o f c, read as if it were
torch's, or the other way round. Three of four blocks are wrong; networks still run, and speech recognisers have been
shipped that way. Seen: CrispStrobe/CrispASR#106.
    LSTM: a_i, a_f, a_g, a_o = np.split => a_i, a_o, a_f, a_g = np.split
    LSTM: [da_i, da_f, da_g, da_o] => [da_i, da_o, da_f, da_g]

lstm-gates-igfo: the gates stand in the order i g f o instead of i f g o. The order of TensorFlow's BasicLSTMCell (i j f
o), Haiku and haste: candidate before forget gate. Seen: tensorflow/tensorflow#29308.
    LSTM: a_i, a_f, a_g, a_o = np.split => a_i, a_g, a_f, a_o = np.split
    LSTM: [da_i, da_f, da_g, da_o] => [da_i, da_g, da_f, da_o]

lstm-gates-figo: the gates stand in the order f i g o instead of i f g o. Input and forget gate change places: what
should be kept is overwritten. Two sigmoids of the same shape, so nothing but values can show it. Seen: NX-AI/xlstm#98.
    LSTM: a_i, a_f, a_g, a_o = np.split => a_f, a_i, a_g, a_o = np.split
    LSTM: [da_i, da_f, da_g, da_o] => [da_f, da_i, da_g, da_o]

lstm-gates-fiog: the gates stand in the order f i o g instead of i f g o. Forget gate first, as many textbooks write the
equations down, and the candidate last.
    LSTM: a_i, a_f, a_g, a_o = np.split => a_f, a_i, a_o, a_g = np.split
    LSTM: [da_i, da_f, da_g, da_o] => [da_f, da_i, da_o, da_g]

lstm-gates-ofig: the gates stand in the order o f i g instead of i f g o. The output gate first, the candidate last: the
order of the letters in some papers' figures.
    LSTM: a_i, a_f, a_g, a_o = np.split => a_o, a_f, a_i, a_g = np.split
    LSTM: [da_i, da_f, da_g, da_o] => [da_o, da_f, da_i, da_g]

gru-gates-zrn: the gates stand in the order z r n instead of r z n. The order of Keras, ONNX, haste and RTNeural. Reset
and update gate change places.
    GRU: u_r, u_z, u_n = np.split => u_z, u_r, u_n = np.split
    gru: v_r, v_z, v_n = np.split => v_z, v_r, v_n = np.split
    GRU: [du_r, du_z, du_n] => [du_z, du_r, du_n]
    gru: [du_r, du_z, dv_n] => [du_z, du_r, dv_n]
    gru_reset_before: (W_hr, W_hz, W_hn), (b_hr, b_hz, b_hn) => (W_hz, W_hr, W_hn), (b_hz, b_hr, b_hn)
    gru_reset_before: (W_hr, W_hz, W_hn), (dW_hr, dW_hz, dW_hn) => (W_hz, W_hr, W_hn), (dW_hz, dW_hr, dW_hn)

gru-gates-rnz: the gates stand in the order r n z instead of r z n. The candidate between the gates: a tanh is taken
where the update gate should be.
    GRU: u_r, u_z, u_n = np.split => u_r, u_n, u_z = np.split
    gru: v_r, v_z, v_n = np.split => v_r, v_n, v_z = np.split
    GRU: [du_r, du_z, du_n] => [du_r, du_n, du_z]
    gru: [du_r, du_z, dv_n] => [du_r, dv_n, du_z]
    gru_reset_before: (W_hr, W_hz, W_hn), (b_hr, b_hz, b_hn) => (W_hr, W_hn, W_hz), (b_hr, b_hn, b_hz)
    gru_reset_before: (W_hr, W_hz, W_hn), (dW_hr, dW_hz, dW_hn) => (W_hr, W_hn, W_hz), (dW_hr, dW_hn, dW_hz)

gru-gates-nzr: the gates stand in the order n z r instead of r z n. The candidate first. Nothing in the shapes tells.
    GRU: u_r, u_z, u_n = np.split => u_n, u_z, u_r = np.split
    gru: v_r, v_z, v_n = np.split => v_n, v_z, v_r = np.split
    GRU: [du_r, du_z, du_n] => [du_n, du_z, du_r]
    gru: [du_r, du_z, dv_n] => [dv_n, du_z, du_r]
    gru_reset_before: (W_hr, W_hz, W_hn), (b_hr, b_hz, b_hn) => (W_hn, W_hz, W_hr), (b_hn, b_hz, b_hr)
    gru_reset_before: (W_hr, W_hz, W_hn), (dW_hr, dW_hz, dW_hn) => (W_hn, W_hz, W_hr), (dW_hn, dW_hz, dW_hr)

peephole-order-iof: the peephole weights stand in the order i o f instead of i f o. ONNX stores them like this.
Peepholes are small at first, so a freshly initialised network hardly shows it.
    lstm_peephole: P_i, P_f, P_o = np.split(P, 3) => P_i, P_o, P_f = np.split(P, 3)
    lstm_peephole: (P_i, P_f, P_o), (dP_i, dP_f, dP_o) => (P_i, P_o, P_f), (dP_i, dP_o, dP_f)

# transposition

W_hh-transposed: W_hh is transposed, each gate's square block by itself. The transpose fits wherever the block does: `h
@ W` for `W @ h`, or a file in Keras' layout. The gradient is the wrong forward's own and passes a gradient check.
    RNN: + W_hh @ h[t] => + W_hh.T @ h[t]
    RNN: dh[t] += W_hh.T @ da => dh[t] += W_hh @ da
    RNN: dW_hh += np.outer(da, h[t]) => dW_hh += np.outer(h[t], da)
    lstm lstm_peephole: W_hh @ h[t] => np.concatenate([h[t] @ W for W in np.split(W_hh, 4)])
    lstm lstm_peephole: dh[t] += W_hh.T @ da => dh[t] += sum(W @ d for W, d in zip(np.split(W_hh, 4), np.split(da, 4)))
    lstm lstm_peephole: dW_hh += np.outer(da, h[t])
        => dW_hh += np.concatenate([np.outer(h[t], d) for d in np.split(da, 4)])
    gru: W_hh @ h[t] => np.concatenate([h[t] @ W for W in np.split(W_hh, 3)])
    gru: dh[t] += W_hh.T @ dv => dh[t] += sum(W @ d for W, d in zip(np.split(W_hh, 3), np.split(dv, 3)))
    gru: dW_hh += np.outer(dv, h[t]) => dW_hh += np.concatenate([np.outer(h[t], d) for d in np.split(dv, 3)])
    gru_reset_before: = np.split(W_hh, 3), np.split(b_hh, 3) => = [W.T for W in np.split(W_hh, 3)], np.split(b_hh, 3)
    gru_reset_before: = np.split(W_hh, 3), np.split(dW_hh, 3)
        => = [W.T for W in np.split(W_hh, 3)], [W.T for W in np.split(dW_hh, 3)]

W_hh-not-transposed-in-backward: the gradient goes back through W_hh instead of its transpose. Backward multiplies with
W_hh where its transpose belongs. Square blocks fit both ways. The last step is still right; every earlier one is not.
    RNN: dh[t] += W_hh.T @ da => dh[t] += W_hh @ da
    lstm lstm_peephole: dh[t] += W_hh.T @ da => dh[t] += sum(W @ d for W, d in zip(np.split(W_hh, 4), np.split(da, 4)))
    gru: dh[t] += W_hh.T @ dv => dh[t] += sum(W @ d for W, d in zip(np.split(W_hh, 3), np.split(dv, 3)))
    gru_reset_before: dq = W_hn.T @ du_n => dq = W_hn @ du_n
    gru_reset_before: dh[t] += W_hr.T @ du_r + W_hz.T @ du_z => dh[t] += W_hr @ du_r + W_hz @ du_z

dW_hh-transposed: dW_hh is transposed, each gate's block by itself. Outer product the wrong way round: h daᵀ for da hᵀ.
All else is right, dW_hh has the right shape and norm.
    RNN: dW_hh += np.outer(da, h[t]) => dW_hh += np.outer(h[t], da)
    lstm lstm_peephole: dW_hh += np.outer(da, h[t])
        => dW_hh += np.concatenate([np.outer(h[t], d) for d in np.split(da, 4)])
    gru: dW_hh += np.outer(dv, h[t]) => dW_hh += np.concatenate([np.outer(h[t], d) for d in np.split(dv, 3)])
    gru_reset_before: np.split(dW_hh, 3) => [W.T for W in np.split(dW_hh, 3)]

W_ih-in-the-other-layout: W_ih is read as if it were stored (inputs, gates) instead of (gates, inputs). A flat file of
(GH, I) numbers is read as (I, GH) and transposed into shape. The shape is right, the numbers are shuffled. Constant
weights, as in Keras' and WebNN's tests, cannot show it.
    all: W_ih @ x[t] => W_ih.reshape(W_ih.shape[::-1]).T @ x[t]
    all: W_ih.T @ d => W_ih.reshape(W_ih.shape[::-1]) @ d
    RNN LSTM: np.outer(da, x[t]) => np.outer(x[t], da).reshape(W_ih.shape)
    GRU: np.outer(du, x[t]) => np.outer(x[t], du).reshape(W_ih.shape)

W_hh-in-the-other-layout: W_hh is read as if it were stored (units, gates) instead of (gates, units). (GH, H) numbers
are taken for (H, GH). Unlike the transposition of each block, this mixes the gates.
    LSTM gru: W_hh @ h[t] => W_hh.reshape(W_hh.shape[::-1]).T @ h[t]
    LSTM gru: W_hh.T @ d => W_hh.reshape(W_hh.shape[::-1]) @ d
    LSTM: np.outer(da, h[t]) => np.outer(h[t], da).reshape(W_hh.shape)
    gru: np.outer(dv, h[t]) => np.outer(h[t], dv).reshape(W_hh.shape)
    gru_reset_before: np.split(W_hh, 3), np.split(b_hh, 3)
        => np.split(W_hh.reshape(W_hh.shape[::-1]).T, 3), np.split(b_hh, 3)
    gru_reset_before: np.split(W_hh, 3), np.split(dW_hh, 3)
        => np.split(W_hh.reshape(W_hh.shape[::-1]).T, 3), np.split(dW_hh.reshape(dW_hh.shape[::-1]).T, 3)

dW_ih-in-the-other-layout: dW_ih is written as (inputs, gates) and handed out as (gates, inputs). The gradient is summed
up in the other layout and reshaped instead of transposed. Its norm is right, so training curves look plausible.
    RNN LSTM: np.outer(da, x[t]) => np.outer(x[t], da).reshape(W_ih.shape)
    GRU: np.outer(du, x[t]) => np.outer(x[t], du).reshape(W_ih.shape)

W_ih-reshaped-for-transposed: W_ih comes from a file that has it as (inputs, gates), and was reshaped to (gates, inputs)
instead of transposed. The shape is right, the numbers are shuffled. Load W.T, not W.reshape(…).
    all: W_ih @ x[t] => W_ih.T.reshape(W_ih.shape) @ x[t]
    all: W_ih.T @ d => W_ih.T.reshape(W_ih.shape).T @ d
    RNN LSTM: np.outer(da, x[t]) => np.outer(da, x[t]).reshape(W_ih.shape[::-1]).T
    GRU: np.outer(du, x[t]) => np.outer(du, x[t]).reshape(W_ih.shape[::-1]).T

W_hh-reshaped-for-transposed: W_hh comes from a file that has it as (units, gates), and was reshaped to (gates, units)
instead of transposed. The shape is right, the numbers are shuffled. Load W.T, not W.reshape(…).
    LSTM gru: W_hh @ h[t] => W_hh.T.reshape(W_hh.shape) @ h[t]
    LSTM gru: W_hh.T @ d => W_hh.T.reshape(W_hh.shape).T @ d
    LSTM: np.outer(da, h[t]) => np.outer(da, h[t]).reshape(W_hh.shape[::-1]).T
    gru: np.outer(dv, h[t]) => np.outer(dv, h[t]).reshape(W_hh.shape[::-1]).T
    gru_reset_before: np.split(W_hh, 3), np.split(b_hh, 3) => np.split(W_hh.T.reshape(W_hh.shape), 3), np.split(b_hh, 3)
    gru_reset_before: np.split(W_hh, 3), np.split(dW_hh, 3)
        => np.split(W_hh.T.reshape(W_hh.shape), 3), np.split(dW_hh, 3)
    gru_reset_before: return (dW_ih, dW_hh, => return (dW_ih, dW_hh.reshape(W_hh.shape[::-1]).T,

W_ih-in-the-other-layout-by-gate: each gate's block of W_ih is read as if it were stored (inputs, units) instead of
(units, inputs). reshape in place of a transpose, gate by gate: the numbers are shuffled within each block. Transpose.
    LSTM: W_ih @ x[t] => np.concatenate([W.reshape(W.shape[::-1]).T @ x[t] for W in np.split(W_ih, 4)])
    LSTM: W_ih.T @ da => sum(W.reshape(W.shape[::-1]) @ v for W, v in zip(np.split(W_ih, 4), np.split(da, 4)))
    LSTM: np.outer(da, x[t]) => np.concatenate([np.outer(x[t], d).reshape(len(d), -1) for d in np.split(da, 4)])
    GRU: W_ih @ x[t] => np.concatenate([W.reshape(W.shape[::-1]).T @ x[t] for W in np.split(W_ih, 3)])
    GRU: W_ih.T @ du => sum(W.reshape(W.shape[::-1]) @ v for W, v in zip(np.split(W_ih, 3), np.split(du, 3)))
    GRU: np.outer(du, x[t]) => np.concatenate([np.outer(x[t], d).reshape(len(d), -1) for d in np.split(du, 3)])

W_ih-reshaped-for-transposed-by-gate: each gate's block of W_ih comes from a file that has it as (inputs, units), and
was reshaped to (units, inputs) instead of transposed. The numbers are shuffled within each block. Transpose.
    LSTM: W_ih @ x[t] => np.concatenate([W.T.reshape(W.shape) @ x[t] for W in np.split(W_ih, 4)])
    LSTM: W_ih.T @ da => sum(W.T.reshape(W.shape).T @ v for W, v in zip(np.split(W_ih, 4), np.split(da, 4)))
    LSTM: np.outer(da, x[t]) => np.concatenate([np.outer(d, x[t]).reshape(len(x[t]), -1).T for d in np.split(da, 4)])
    GRU: W_ih @ x[t] => np.concatenate([W.T.reshape(W.shape) @ x[t] for W in np.split(W_ih, 3)])
    GRU: W_ih.T @ du => sum(W.T.reshape(W.shape).T @ v for W, v in zip(np.split(W_ih, 3), np.split(du, 3)))
    GRU: np.outer(du, x[t]) => np.concatenate([np.outer(d, x[t]).reshape(len(x[t]), -1).T for d in np.split(du, 3)])

dW_hh-in-the-other-layout: dW_hh is written as (units, gates) and handed out as (gates, units). The gradient is summed
up in the other layout and reshaped instead of transposed. Transpose.
    LSTM: np.outer(da, h[t]) => np.outer(h[t], da).reshape(W_hh.shape)
    gru: np.outer(dv, h[t]) => np.outer(h[t], dv).reshape(W_hh.shape)
    gru_reset_before: np.split(W_hh, 3), np.split(dW_hh, 3)
        => np.split(W_hh, 3), np.split(dW_hh.reshape(dW_hh.shape[::-1]).T, 3)

dW_ih-in-the-other-layout-by-gate: each gate's block of dW_ih is written as (inputs, units) and handed out as (units,
inputs). The gradient is summed up in the other layout and reshaped instead of transposed, gate by gate. Transpose.
    LSTM: np.outer(da, x[t]) => np.concatenate([np.outer(x[t], d).reshape(len(d), -1) for d in np.split(da, 4)])
    GRU: np.outer(du, x[t]) => np.concatenate([np.outer(x[t], d).reshape(len(d), -1) for d in np.split(du, 3)])

projection-in-the-other-layout: W_hr is read as if it were stored (memory, output) instead of (output, memory). The
projection's numbers are taken for the transposed layout.
    lstm_projection: W_hr @ m => W_hr.reshape(W_hr.shape[::-1]).T @ m
    lstm_projection: dm = W_hr.T @ dh[t + 1] => dm = W_hr.reshape(W_hr.shape[::-1]) @ dh[t + 1]
    lstm_projection: np.outer(dh[t + 1], m) => np.outer(m, dh[t + 1]).reshape(W_hr.shape)

# loading

W_hh-not-loaded: W_hh is zero. The weights of the recurrence were not loaded, under another name perhaps, and stayed
what they were. Look at what load_state_dict, or your own loop, has left out.
    RNN LSTM gru: W_hh @ h[t] => 0 * W_hh @ h[t]
    RNN LSTM: dh[t] += W_hh.T @ da => pass
    gru: dh[t] += W_hh.T @ dv => pass
    gru_reset_before: np.split(W_hh, 3), np.split(b_hh, 3) => np.split(0 * W_hh, 3), np.split(b_hh, 3)
    gru_reset_before: np.split(W_hh, 3), np.split(dW_hh, 3) => np.split(0 * W_hh, 3), np.split(dW_hh, 3)

W_hh-and-b_hh-not-loaded: W_hh and b_hh are zero. The whole hidden side was not loaded, and stayed what it was. Look at
what load_state_dict, or your own loop, has left out.
    RNN LSTM gru: W_hh @ h[t] + b_hh => 0 * W_hh @ h[t]
    RNN LSTM: dh[t] += W_hh.T @ da => pass
    gru: dh[t] += W_hh.T @ dv => pass
    gru_reset_before: np.split(W_hh, 3), np.split(b_hh, 3) => np.split(0 * W_hh, 3), np.split(0 * b_hh, 3)
    gru_reset_before: np.split(W_hh, 3), np.split(dW_hh, 3) => np.split(0 * W_hh, 3), np.split(dW_hh, 3)

# bias

b_hh-lost: the second bias b_hh is left out. A converter or a framework with one bias drops the other. As long as biases
are zero, as at initialisation, everything agrees. Seen: google/flax#5594, tensorflow/tfjs#2442.
    RNN LSTM gru: W_hh @ h[t] + b_hh => W_hh @ h[t]
    gru_reset_before: np.split(b_hh, 3) => np.split(0 * b_hh, 3)
    all: db_hh += => db_hh += 0 *

b_ih-lost: the first bias b_ih is left out. Harmless while biases are zero, wrong in every output once they are trained.
    all: W_ih @ x[t] + b_ih => W_ih @ x[t]
    all: db_ih += => db_ih += 0 *

b_ih-used-for-both: b_ih is added a second time where b_hh belongs. Equal biases in a test hide it.
    RNN LSTM gru: W_hh @ h[t] + b_hh => W_hh @ h[t] + b_ih
    gru_reset_before: np.split(b_hh, 3) => np.split(b_ih, 3)

merged-bias-added-twice: the merged bias b_ih + b_hh is added on both sides. The biases are merged when the weights are
loaded, and the cell, which expects two, gets the sum twice.
    RNN LSTM: b_ih + W_hh @ h[t] + b_hh => (b_ih + b_hh) + W_hh @ h[t] + (b_ih + b_hh)
    RNN LSTM: db_ih += => db_ih += 2 *
    RNN LSTM: db_hh += => db_hh += 2 *

b_hh-skipped-while-state-is-zero: the whole hidden side, b_hh with it, is skipped while the state is zero. `if state is
None` spares a product with zeros, and spares b_hh too. Only the first step of a run from the zero state is wrong, so
tests with a given state pass. Seen: ml-explore/mlx#3249.
    RNN LSTM: b_ih + W_hh @ h[t] + b_hh => b_ih + (W_hh @ h[t] + b_hh if np.any(h[t]) else 0)
    gru: W_hh @ h[t] + b_hh => W_hh @ h[t] + b_hh * bool(np.any(h[t]))
    gru_reset_before: v_r, v_z = W_hr @ h[t] + b_hr, W_hz @ h[t] + b_hz
        => v_r, v_z = ((W @ h[t] + b) * bool(np.any(h[t])) for W, b in ((W_hr, b_hr), (W_hz, b_hz)))

gru-b_hn-skipped-while-state-is-zero: b_hn alone is skipped while the state is zero. The candidate's hidden side is left
out on the first step of a run without a state; the gates keep their biases. Seen: ml-explore/mlx#3249.
    gru: n = np.tanh(u_n + r * v_n) => n = np.tanh(u_n + r * v_n * bool(np.any(h[t])))

gru-b_hn-lost: b_hn alone of the second bias is left out. The two biases of r and z add up, so whoever keeps one for
each gate has nowhere to put b_hn, which stands beside W_hn h. As long as biases are zero, everything agrees.
    gru: n = np.tanh(u_n + r * v_n)
        => v_n = v_n - np.split(b_hh, 3)[2]
           n = np.tanh(u_n + r * v_n)
    gru: db_hh += dv => db_hh += np.concatenate([du_r, du_z, 0 * dv_n])
    gru_reset_before: v_n = W_hn @ q + b_hn => v_n = W_hn @ q
    gru_reset_before: db_hh += du => db_hh += np.concatenate([du_r, du_z, 0 * du_n])

gru-b_hn-outside-the-reset: b_hn is added outside the product with r, as if it could be merged with b_in. With one bias
a gate, b_hn ends up beside b_in. In the gates that is the same, in the candidate it is not: there b_hn is multiplied by
r. Seen: patrick-kidger/equinox#1003.
    gru: n = np.tanh(u_n + r * v_n)
        => v_n = v_n - np.split(b_hh, 3)[2]
           n = np.tanh(u_n + r * v_n + np.split(b_hh, 3)[2])
    gru: db_hh += dv => db_hh += du

gru-db_hn-without-reset: the gradient of b_hn lacks the factor r. Forward is right; backward gives both biases the same
gradient, as is right for RNN and LSTM only.
    gru: db_hh += dv => db_hh += du

bias-gradient-halved: both bias gradients are halved. One bias is split into two halves, and its gradient with it. But
each bias stands in the sum on its own and gets the whole gradient.
    all: db_ih += => db_ih += 0.5 *
    all: db_hh += => db_hh += 0.5 *

bias-gradient-doubled: both bias gradients are doubled. Two biases share one gradient array, and both add to it.
    all: db_ih += => db_ih += 2 *
    all: db_hh += => db_hh += 2 *

db_hh-missing: db_hh stays zero. The second bias is used forwards and forgotten backwards. Seen: apache/mxnet#17818.
    all: db_hh += => db_hh += 0 *

lstm-bias-gradient-of-the-wrong-gate: the biases of the gates i and o get the gradient of the gate f. Three nearly equal
lines, copied, and the letter changed in only one of them. Seen: hanbt/learn_dl#53.
    LSTM: db_ih += da => db_ih += np.concatenate([da_f, da_f, da_g, da_f])
    LSTM: db_hh += da => db_hh += np.concatenate([da_f, da_f, da_g, da_f])

bias-after-the-activation: the biases are added after σ, tanh or relu, and not before. f(W x + W h) + b: the parentheses
close too early, and gates leave the range from 0 to 1. Put the biases inside.
    all: = params
        => = params
           b, b_ih, b_hh = b_ih + b_hh, 0 * b_ih, 0 * b_hh
    RNN: h[t + 1] = f(a) => h[t + 1] = f(a) + b
    RNN: df(h[t + 1]) => df(h[t + 1] - tape[0][2] - tape[0][3])
    RNN: db_ih += da => db_ih += dh[t + 1]
    RNN: db_hh += da => db_hh += dh[t + 1]
    lstm lstm_projection[ifo]: sigmoid(a_$) => sigmoid(a_$) + np.split(b, 4)["ifgo".index("$")]
    lstm_peephole[if]: sigmoid(a_$ + P_$ * c[t]) => sigmoid(a_$ + P_$ * c[t]) + np.split(b, 4)["ifgo".index("$")]
    lstm_peephole: sigmoid(a_o + P_o * c[t + 1]) => sigmoid(a_o + P_o * c[t + 1]) + np.split(b, 4)[3]
    LSTM: np.tanh(a_g) => np.tanh(a_g) + np.split(b, 4)[2]
    LSTM: do = d
        => b_i, b_f, b_g, b_o = np.split(tape[0][2] + tape[0][3], 4)
           do = d
    LSTM[ifo]: d$ * $ * (1 - $) => d$ * ($ - b_$) * (1 - ($ - b_$))
    LSTM: dg * (1 - g**2) => dg * (1 - (g - b_g) ** 2)
    LSTM: db_ih += da => db_ih += np.concatenate([di, df, dg, do])
    LSTM: db_hh += da => db_hh += np.concatenate([di, df, dg, do])
    GRU: sigmoid(u_r + v_r) => sigmoid(u_r + v_r) + np.split(b, 3)[0]
    GRU: sigmoid(u_z + v_z) => sigmoid(u_z + v_z) + np.split(b, 3)[1]
    gru: np.tanh(u_n + r * v_n) => np.tanh(u_n + r * v_n) + np.split(b, 3)[2]
    gru_reset_before: np.tanh(u_n + v_n) => np.tanh(u_n + v_n) + np.split(b, 3)[2]
    GRU: dn = d
        => b_r, b_z, b_n = np.split(tape[0][2] + tape[0][3], 3)
           dn = d
    GRU[rz]: d$ * $ * (1 - $) => d$ * ($ - b_$) * (1 - ($ - b_$))
    GRU: dn * (1 - n**2) => dn * (1 - (n - b_n) ** 2)
    GRU: db_ih += du => db_ih += np.concatenate([dr, dz, dn])
    gru: db_hh += dv => db_hh += np.concatenate([dr, dz, dn])
    gru_reset_before: db_hh += du => db_hh += np.concatenate([dr, dz, dn])

bias-after-the-sigmoid: the gates' biases are added after σ, and not before; the candidate's is where it belongs. σ(W x
+ W h) + b: the parentheses close too early, and gates leave the range from 0 to 1. Put the biases inside.
    LSTM: = params
        => = params
           b_i, b_f, b_g, b_o = np.split(b_ih + b_hh, 4)
    lstm lstm_projection[ifo]: sigmoid(a_$) => sigmoid(a_$ - b_$) + b_$
    lstm_peephole[if]: sigmoid(a_$ + P_$ * c[t]) => sigmoid(a_$ - b_$ + P_$ * c[t]) + b_$
    lstm_peephole: sigmoid(a_o + P_o * c[t + 1]) => sigmoid(a_o - b_o + P_o * c[t + 1]) + b_o
    LSTM: do = d
        => b_i, b_f, b_g, b_o = np.split(tape[0][2] + tape[0][3], 4)
           do = d
    LSTM[ifo]: d$ * $ * (1 - $) => d$ * ($ - b_$) * (1 - ($ - b_$))
    LSTM: db_ih += da => db_ih += np.concatenate([di, df, da_g, do])
    LSTM: db_hh += da => db_hh += np.concatenate([di, df, da_g, do])
    GRU: = params
        => = params
           b_r, b_z, b_n = np.split(b_ih + b_hh, 3)
    GRU[rz]: sigmoid(u_$ + v_$) => sigmoid(u_$ + v_$ - b_$) + b_$
    GRU: dn = d
        => b_r, b_z, b_n = np.split(tape[0][2] + tape[0][3], 3)
           dn = d
    GRU[rz]: d$ * $ * (1 - $) => d$ * ($ - b_$) * (1 - ($ - b_$))
    GRU: db_ih += du => db_ih += np.concatenate([dr, dz, du_n])
    gru: db_hh += dv => db_hh += np.concatenate([dr, dz, dv_n])
    gru_reset_before: db_hh += du => db_hh += np.concatenate([dr, dz, du_n])

lstm-bias-of-$-after-the-sigmoid[ifo]: the bias of the gate $ is added after σ, and not before. σ(W x + W h) + b: the
parentheses close too early in this line alone. Put the bias inside.
    lstm lstm_projection: = params
        => = params
           b_$ = np.split(b_ih + b_hh, 4)["ifgo".index("$")]
    lstm lstm_projection: sigmoid(a_$) => sigmoid(a_$ - b_$) + b_$
    lstm lstm_projection: do = d
        => b_$ = np.split(tape[0][2] + tape[0][3], 4)["ifgo".index("$")]
           do = d
    lstm lstm_projection: d$ * $ * (1 - $) => d$ * ($ - b_$) * (1 - ($ - b_$))
    lstm lstm_projection: db_ih += da
        => db_ih += da
           np.split(db_ih, 4)["ifgo".index("$")][:] += d$ - da_$
    lstm lstm_projection: db_hh += da
        => db_hh += da
           np.split(db_hh, 4)["ifgo".index("$")][:] += d$ - da_$

lstm-forget-bias-after-the-sigmoid: the forget gate's bias of 1 is added after σ: (f + 1) ∘ c. A parenthesis closes too
early, and the cell state grows. Add it to the pre-activation, or to the stored bias.
    LSTM: f * c[t] + i * g => (f + 1) * c[t] + i * g
    LSTM: dc[t] += dc[t + 1] * f => dc[t] += dc[t + 1] * (f + 1)

lstm-forget-bias-added: 1 is added to the forget gate's pre-activation at run time. TensorFlow 1 and Haiku add a forget
bias of 1 in the cell, not in the stored bias. Weights taken from there, or brought there, are off by it. Seen:
tensorflow/tensorflow#5090, apple/coremltools#309.
    lstm lstm_projection: sigmoid(a_f) => sigmoid(a_f + 1)
    lstm_peephole: sigmoid(a_f + P_f * c[t]) => sigmoid(a_f + P_f * c[t] + 1)

lstm-forget-bias-lost: the 1 that the cell adds to the forget gate's pre-activation at run time is missing. Weights from
TensorFlow 1 or Haiku, whose cells add a forget bias of 1 that is not in the stored bias, need it added to theirs. Seen:
keras-team/keras#10179, tensorflow/tensorflow#29622.
    lstm lstm_projection: sigmoid(a_f) => sigmoid(a_f - 1)
    lstm_peephole: sigmoid(a_f + P_f * c[t]) => sigmoid(a_f + P_f * c[t] - 1)
"""
