"""Mistakes around a cell: states, lengths, directions, dropout, sums over time. `mistakes` explains the notation."""

TEXT = """
# initial state

first-step-missing-in-dW_hh: dW_hh is summed up as if the initial state had been zero. Forward honours h_0; backward
takes zeros for it. Tests from the zero state cannot see it.
    RNN LSTM: np.outer(da, h[t]) => np.outer(da, h[t] * (t > 0))
    gru: np.outer(dv, h[t]) => np.outer(dv, h[t] * (t > 0))
    gru_reset_before[rz]: np.outer(du_$, h[t]) => np.outer(du_$, h[t] * (t > 0))
    gru_reset_before: np.outer(du_n, r * h[t]) => np.outer(du_n, r * h[t] * (t > 0))

lstm-first-step-missing-in-df: the forget gate's gradient is computed as if the initial cell state had been zero.
Forward honours c_0; backward takes zeros for it.
    LSTM: df = dc[t + 1] * c[t] => df = dc[t + 1] * c[t] * (t > 0)

h_0-ignored: h_0 is ignored and zeros are taken for it. Every test that starts from zeros passes.
    stack: *(s[k, b] for s in s0) => *(s[k, b] * (j > 0) for j, s in enumerate(s0))
    stack: for ds, first in zip(ds0, initial): => for ds, first in list(zip(ds0, initial))[1:]:

state-kept-between-calls: the initial state is the final state of a call before, which the layer has kept. A second call
with the same input gives other numbers than the first; h_0 is looked at in the first call alone.
    stack: s_n = [np.zeros_like(s) for s in s0]
           => if len(masks) < len(params):  # the call before
               s0 = forward(cell, params, x, s0, lengths, [*masks, None])[1]
           s_n = [np.zeros_like(s) for s in s0]

h_0-and-c_0-ignored: h_0 and c_0 are both ignored and zeros are taken for them. The loop begins with zeros, whatever was
handed in. Begin with the pair that was given.
    stack LSTM: *(s[k, b] for s in s0) => *(0 * s[k, b] for s in s0)
    stack LSTM: for ds, first in zip(ds0, initial): => for ds, first in ():

h-kept-between-calls: h starts from the final one of a call before, which the layer has kept, and c does not. Half of
the pair is reset between calls. Set both to what is given.
    stack LSTM: s_n = [np.zeros_like(s) for s in s0]
           => if len(masks) < len(params):  # the call before
               s0 = [forward(cell, params, x, s0, lengths, [*masks, None])[1][0], s0[1]]
           s_n = [np.zeros_like(s) for s in s0]

c-kept-between-calls: c starts from the final one of a call before, which the layer has kept, and h does not. Half of
the pair is reset between calls. Set both to what is given.
    stack LSTM: s_n = [np.zeros_like(s) for s in s0]
           => if len(masks) < len(params):  # the call before
               s0 = [s0[0], forward(cell, params, x, s0, lengths, [*masks, None])[1][1]]
           s_n = [np.zeros_like(s) for s in s0]

running-gradient-kept-between-calls: backward starts from the gradient with which a call before has ended, which the
layer has kept. dh, and dc with it, is an attribute that is not set to zero. Begin each call with the gradient of the
final state.
    stack: ds0 = [np.zeros_like(ds) for ds in ds_n]
           => if len(masks) < len(params):  # the call before
               before = backward(cell, params, tapes, dy, ds_n, lengths, [*masks, None])[2]
               ds_n = [ds + kept for ds, kept in zip(ds_n, before)]
           ds0 = [np.zeros_like(ds) for ds in ds_n]

running-dh-kept-between-calls: backward starts from the dh with which a call before has ended, which the layer has kept,
and from the right dc. One of the two attributes is not set to zero. Begin each call with the gradients of the final
states.
    stack LSTM: ds0 = [np.zeros_like(ds) for ds in ds_n]
           => if len(masks) < len(params):  # the call before
               before = backward(cell, params, tapes, dy, ds_n, lengths, [*masks, None])[2]
               ds_n = [ds_n[0] + before[0], ds_n[1]]
           ds0 = [np.zeros_like(ds) for ds in ds_n]

running-dc-kept-between-calls: backward starts from the dc with which a call before has ended, which the layer has kept,
and from the right dh. One of the two attributes is not set to zero. Begin each call with the gradients of the final
states.
    stack LSTM: ds0 = [np.zeros_like(ds) for ds in ds_n]
           => if len(masks) < len(params):  # the call before
               before = backward(cell, params, tapes, dy, ds_n, lengths, [*masks, None])[2]
               ds_n = [ds_n[0], ds_n[1] + before[1]]
           ds0 = [np.zeros_like(ds) for ds in ds_n]

dh_0-and-dc_0-missing: dh_0 and dc_0 both stay zero. What flows back beyond the first step is not handed out. Hand it
out.
    stack LSTM: for ds, first in zip(ds0, initial): => for ds, first in ():

c_0-ignored: c_0 is ignored and zeros are taken for it. Half of the pair is looked at. Seen: onnx/onnx-tensorflow#408.
    stack LSTM: *(s[k, b] for s in s0) => *(s[k, b] * (j < 1) for j, s in enumerate(s0))
    stack LSTM: for ds, first in zip(ds0, initial): => for ds, first in zip(ds0[:1], initial):

dh_0-missing: dh_0 stays zero. Whoever learns the initial state, or chains chunks, gets nothing.
    stack: for ds, first in zip(ds0, initial): => for ds, first in list(zip(ds0, initial))[1:]:

dc_0-missing: dc_0 stays zero. As dh_0, for the cell state.
    stack LSTM: for ds, first in zip(ds0, initial): => for ds, first in zip(ds0[:1], initial):

h_0-and-c_0-swapped: h_0 and c_0 are taken for each other. Flax has the pair as (c, h), torch as (h, c); shapes agree.
    stack lstm lstm_peephole: *(s[k, b] for s in s0) => *(s[k, b] for s in s0[::-1])
    stack lstm lstm_peephole: for ds, first in zip(ds0, initial): => for ds, first in zip(ds0[::-1], initial):

state-of-the-first-sequence-for-all: every sequence starts from the initial state of the first. A state of shape (1, H)
is made to fit by broadcasting.
    stack: *(s[k, b] for s in s0) => *(s[k, 0] for s in s0)
    stack: ds[k, b] = first => ds[k, 0] += first

state-carried-to-the-next-sequence: each sequence starts from where the sequence before it in the batch has ended. The
state lives in the object and is not reset between sequences. Seen: nntrainer/nntrainer#1038.
    stack: *(s[k, b] for s in s0) => *(n[k, b - 1] if b else s[k, b] for s, n in zip(s0, s_n))

reverse-starts-from-the-forward-state: the reverse direction starts from the forward direction's initial state. One
initial state a layer, used for both directions.
    stack: *(s[k, b] for s in s0) => *(s[l * len(layer), b] for s in s0)
    stack: ds[k, b] = first => ds[l * len(layer), b] += first

states-ordered-by-direction: the states are stacked direction by direction instead of layer by layer. Index d · L + l
for l · D + d. With one layer or one direction, or from zeros, there is no difference: shipped kernels have cut the
wrong slices out of the states behind such tests. Seen: pytorch/pytorch#95137.
    stack: *(s[k, b] for s in s0) => *(s[d * len(params) + l, b] for s in s0)
    stack: s[k, b] = trajectory[-1] => s[d * len(params) + l, b] = trajectory[-1]
    stack: direct[-1] += ds[k, b] => direct[-1] += ds[d * len(params) + l, b]
    stack: ds[k, b] = first => ds[d * len(params) + l, b] = first

# final state

dh_n-ignored: the gradient of the final state h_n is ignored. Backward starts from zeros and adds the outputs'
gradients. Encoders, whose loss sees h_n alone, learn nothing. Seen: oxford-cs-ml-2015/practical6#6,
open-lm-engine/accelerated-model-architectures#445.
    stack: for ds, direct in zip(ds_n, dstates): => for ds, direct in list(zip(ds_n, dstates))[1:]:

dc_n-ignored: the gradient of the final cell state c_n is ignored. The cell state's gradient starts from zero, whatever
the loss says. Seen: deeplearning4j/deeplearning4j#8838, PaddlePaddle/Paddle#6970.
    stack LSTM: for ds, direct in zip(ds_n, dstates): => for ds, direct in zip(ds_n[:1], dstates):

dh_n-and-dc_n-ignored: the gradients of h_n and c_n are both ignored. Backward starts from zeros, whatever was handed
in. Start from the pair that was given.
    stack LSTM: for ds, direct in zip(ds_n, dstates): => for ds, direct in ():

final-state-one-step-early: the final states are those before the last step. h[T - 1] of a trajectory that starts with
h_0, where h[T] was meant.
    stack: s[k, b] = trajectory[-1] => s[k, b] = trajectory[-2]

c_n-holds-h_n: c_n is a copy of h_n. The wrong variable is handed out.
    stack lstm lstm_peephole: in zip(s_n, states): => in zip(s_n, states[:1] * 2):

h_n-is-the-last-row-of-the-output: h_n is the output's last row. For a shorter sequence that row is padding, and for the
reverse direction it is the first step. Seen: pytorch/pytorch#3587.
    stack: outputs.append(output)
        => s_n[0][k] = output[-1]
           outputs.append(output)

h_n-of-reverse-from-the-wrong-end: the reverse direction's h_n is its output at the last valid step, where it has only
begun. output[length - 1] is right for the forward direction. The reverse one ends at step 0. Seen:
yunjey/pytorch-tutorial#174, pytorch/pytorch#3587.
    stack: outputs.append(output)
        => s_n[0][k] = output[np.array(lengths) - 1, np.arange(B)]
           outputs.append(output)

batch-in-sorted-order: outputs and final states stand in the order of falling lengths instead of the caller's. The batch
is sorted for packing and nothing is put back, so upstream gradients meet other sequences' outputs, and dx stands in
that order, too. Keep the order, and index with its inverse.
    stack: y = x
        => order = np.argsort([-n for n in lengths], kind="stable")
           s0, lengths = [s[:, order] for s in s0], [lengths[b] for b in order]
           y, masks = x[:, order], [m[:, order] for m in masks]
    stack: ds0 = [np.zeros_like(ds) for ds in ds_n]
        => order = np.argsort([-n for n in lengths], kind="stable")
           lengths, masks = [lengths[b] for b in order], [m[:, order] for m in masks]
           ds0 = [np.zeros_like(ds) for ds in ds_n]

outputs-in-sorted-order: outputs and final states are handed out in the order of falling lengths, and backward gets its
upstream gradients in the caller's order. The batch is sorted for packing and not put back, while gradients are. Index
with the order's inverse.
    stack: return y, s_n, tapes
        => order = np.argsort([-n for n in lengths], kind="stable")
           return y[:, order], [s[:, order] for s in s_n], tapes

gradients-in-sorted-order: dx and the initial states' gradients stand in the order of falling lengths instead of the
caller's. Forward puts its outputs back, and backward, which sorts as well, does not. Index with the order's inverse.
    stack: return grads, dy, ds0
        => order = np.argsort([-n for n in lengths], kind="stable")
           return grads, dy[:, order], [ds[:, order] for ds in ds0]

h_n-in-sorted-order: the final states stand in the order of falling lengths instead of the caller's. The batch is sorted
for packing; outputs are put back, final states are not.
    stack: return y, s_n, tapes
        => order = np.argsort([-n for n in lengths], kind="stable")
           return y, [s[:, order] for s in s_n], tapes

dh_n-lands-in-the-padding: the gradient of the final states is added at the end of the longest sequence, not where each
sequence ends. It is lost for all shorter ones, at max(lengths) as at T. Add it at each sequence's own last step.
    stack: direct[-1] += ds[k, b] => direct[-1] += ds[k, b] * (lengths[b] == max(lengths))

dh_n-flows-back-through-the-padding: the gradient of the final states is added after the padding, and flows back through
the padded steps. Backward walks over all T steps of every sequence, while forward has taken the state where it ends.
Add it at each sequence's own last step.
    stack: return steps[::-1] if d else steps => return np.append(steps[::-1] if d else steps, np.arange(length, T))
    stack: output[steps, b] = states[0][1:] => output[steps[: lengths[b]], b] = states[0][1 : lengths[b] + 1]
    stack: s[k, b] = trajectory[-1] => s[k, b] = trajectory[lengths[b]]
    stack: dstates[0][1:] = doutput[steps, b]
        => dstates[0][1 : lengths[b] + 1] = doutput[steps[: lengths[b]], b]

dh_n-of-reverse-at-the-wrong-end: the gradient of the reverse direction's final states is added where that direction
begins. The transpose of taking h_n from the wrong end.
    stack: direct[-1] += ds[k, b] => direct[1 if d else -1] += ds[k, b]

# padding and lengths

lengths-ignored: the lengths are ignored and the padding is computed like any other step. The argument is accepted and
not looked at; final states are those after the padding. Seen: pytorch/pytorch#3662.
    stack: steps = np.arange(length) => steps = np.arange(T)

lengths-one-short: each sequence is one step shorter than it says. An index is taken for a length.
    stack: steps = np.arange(length) => steps = np.arange(length - 1)

padding-holds-the-last-state: the output after a sequence's end is its last state instead of 0. Keras and TensorFlow
carry the state through masked steps; torch and ONNX write zeros there. Seen: microsoft/onnxruntime#12492.
    stack: output[steps, b] = states[0][1:]
        => output[steps, b] = states[0][1:]
           output[lengths[b] :, b] = states[0][-1]

upstream-gradient-in-the-padding-counted: upstream gradients after a sequence's end are counted. The loss is not masked,
so the padding's gradients flow into the last state and into every parameter.
    stack: dstates[0][1:] = doutput[steps, b]
        => dstates[0][1:] = doutput[steps, b]
           dstates[0][-1] += doutput[lengths[b] :, b].sum(axis=0)

batch-first-read-as-time-first: x is taken for (B, T, I) although it is (T, B, I). The same numbers in another shape,
reshaped to fit: steps and sequences are shuffled.
    stack: y = x => y = x.reshape(B, T, -1).swapaxes(0, 1)
    stack: return grads, dy, ds0 => return grads, dy.swapaxes(0, 1).reshape(T, B, -1), ds0

# direction

reverse-over-the-whole-buffer: the reverse direction runs over the whole buffer, padding first. x[::-1] turns the
padding to the front: short sequences have seen it before they begin. Seen: pytorch/pytorch#1811.
    stack: return steps[::-1] if d else steps => return np.arange(T)[::-1] if d else steps

reverse-begins-in-the-padding: the reverse direction takes the last steps of the buffer instead of the sequence's own.
The buffer is turned round and cut to the length: what is cut off is the beginning of the sequence.
    stack: return steps[::-1] if d else steps => return np.arange(T - length, T)[::-1] if d else steps

reverse-not-reversed: both directions read the sequence forwards. The turning is forgotten.
    stack: return steps[::-1] if d else steps => return steps

reverse-input-not-turned: the reverse direction reads the sequence forwards, and its output is turned round all the
same. Turning is needed twice, and the input's is forgotten. Turn the input, too.
    stack: cell.forward(p, y[steps, b] => cell.forward(p, y[np.sort(steps), b]
    stack: dx[steps, b] += dsteps => dx[np.sort(steps), b] += dsteps

reverse-output-not-turned-back: the reverse direction's output stands in the order in which it was computed. Keras'
go_backwards hands it out like this; torch and ONNX turn it back. Seen: microsoft/onnxruntime#4187, d2l-ai/d2l-en#2306.
    stack: output[steps, b] = states[0][1:] => output[np.sort(steps), b] = states[0][1:]
    stack: dstates[0][1:] = doutput[steps, b] => dstates[0][1:] = doutput[np.sort(steps), b]

reverse-upstream-not-turned: the reverse direction's upstream gradient is not turned round. Forward turns the output
back; backward forgets that the transpose has to turn it too.
    stack: dstates[0][1:] = doutput[steps, b] => dstates[0][1:] = doutput[np.sort(steps), b]

reverse-dx-not-turned-back: the reverse direction's part of dx is not turned back. It is added as it was computed.
    stack: dx[steps, b] += dsteps => dx[np.sort(steps), b] += dsteps

dx-lacks-the-reverse-direction: dx lacks what the reverse direction sends back. x is read by both directions.
    stack: dx[steps, b] += dsteps => dx[steps, b] += dsteps * (d == 0)

dx-overwritten-by-the-reverse-direction: dx holds the reverse direction's part alone. `=` stands for `+=`.
    stack: dx[steps, b] += dsteps => dx[steps, b] = dsteps

directions-swapped: the output holds the reverse direction first. Concatenated the other way round. Shapes agree.
    stack: y = np.concatenate(outputs, axis=2) => y = np.concatenate(outputs[::-1], axis=2)
    stack: enumerate(np.split(dy, len(layer), axis=2)) => enumerate(np.split(dy, len(layer), axis=2)[::-1])

reverse-with-the-forward-weights: the reverse direction uses the forward direction's parameters. The loader does not
know the suffix _reverse, or one cell object serves for both.
    stack: cell.forward(p, y => cell.forward(layer[0], y
    stack: in zip(grads[l][d], dparams) => in zip(grads[l][0], dparams)

# layers

gradients-of-layers-swapped: the first layer gets the last one's parameter gradients and the other way round, wherever
shapes agree. Backward fills a list from the last layer on, and the list is read from the first. Turn it round.
    stack: return grads, dy, ds0
        => two = [list(zip(*layers)) for layers in zip(grads, grads[::-1])]
           return [[[h if h.shape == g.shape else g for g, h in zip(p, q)] for p, q in layer] for layer in two], dy, ds0

gradients-of-layers-summed: every layer gets the sum of all layers' parameter gradients, wherever shapes agree. The
layers share one set of gradient arrays, as a list multiplied by a number does. Make arrays of its own for each.
    stack: return grads, dy, ds0
        => alike = lambda d, k, g: sum(layer[d][k] for layer in grads if layer[d][k].shape == g.shape)
           return [[[alike(d, k, g) for k, g in enumerate(p)] for d, p in enumerate(layer)] for layer in grads], dy, ds0

gradients-of-directions-swapped: each direction gets the other one's parameter gradients. Names or indices have been
mixed up where they are handed out. Exchange them.
    stack: return grads, dy, ds0 => return [layer[::-1] for layer in grads], dy, ds0

gradients-of-directions-summed: both directions get the sum of their parameter gradients. They share one set of gradient
arrays. Make arrays of its own for each.
    stack: return grads, dy, ds0
        => return [[[sum(g) for g in zip(*layer)] for _ in layer] for layer in grads], dy, ds0

# dropout

dropout-mask-of-the-first-step: the dropout mask of step 0 is used at every step. The pointer into the mask is not moved
along. It is a kind of dropout too, but not the one that was asked for. Seen: lmnt-com/haste#43.
    stack: y = y * masks[l - 1] => y = y * masks[l - 1][:1]
    stack: dy = dx * masks[l - 1] if l > 0 else dx => dy = dx * masks[l - 1][:1] if l > 0 else dx

dropout-mask-of-the-first-sequence: the dropout mask of the first sequence is used for the whole batch. A mask without
the batch's axis, broadcast. Seen: clab/dynet#812.
    stack: y = y * masks[l - 1] => y = y * masks[l - 1][:, :1]
    stack: dy = dx * masks[l - 1] if l > 0 else dx => dy = dx * masks[l - 1][:, :1] if l > 0 else dx

dropout-not-rescaled: what dropout keeps is not divided by 1 - p. The original form of dropout scales when the model is
used; the inverted form, torch's, while it is trained.
    stack: y = y * masks[l - 1] => y = y * (masks[l - 1] > 0)
    stack: dy = dx * masks[l - 1] if l > 0 else dx => dy = dx * (masks[l - 1] > 0) if l > 0 else dx

dropout-rescaled-twice: what dropout keeps is divided by 1 - p twice. The mask, scaled already, is scaled again.
    stack: y = y * masks[l - 1] => y = y * masks[l - 1] ** 2
    stack: dy = dx * masks[l - 1] if l > 0 else dx => dy = dx * masks[l - 1] ** 2 if l > 0 else dx

dropout-ignored: there is no dropout at all. The mask is ignored forwards and backwards, as in evaluation.
    stack: y = y * masks[l - 1] => pass
    stack: dy = dx * masks[l - 1] if l > 0 else dx => dy = dx

dropout-ignored-in-backward: the gradient goes back through dropped values too. The mask was not kept for backward.
Seen: pytorch/pytorch#190056.
    stack: dy = dx * masks[l - 1] if l > 0 else dx => dy = dx

dropout-not-rescaled-in-backward: backward applies the dropout mask without dividing by 1 - p. A mask of booleans on the
tape, the factor forgotten.
    stack: dy = dx * masks[l - 1] if l > 0 else dx => dy = dx * (masks[l - 1] > 0) if l > 0 else dx

# sum and mean

weight-gradient-of-the-first-step-alone: dW_ih and dW_hh hold the first step's part alone. `=` for `+=` in the loop over
time: each step replaces the sum, and the loop ends at step 0.
    all: dW_ih += => dW_ih[:] =
    RNN LSTM gru: dW_hh += => dW_hh[:] =
    gru_reset_before[rzn]: dW_h$ += => dW_h$[:] =

dW_hh-of-the-first-step-alone: dW_hh holds the first step's part alone. `=` for `+=` in one line of the loop over time.
    RNN LSTM gru: dW_hh += => dW_hh[:] =
    gru_reset_before[rzn]: dW_h$ += => dW_h$[:] =

dW_ih-of-the-first-step-alone: dW_ih holds the first step's part alone. `=` for `+=` in one line of the loop over time.
    all: dW_ih += => dW_ih[:] =

bias-gradient-of-the-first-step-alone: db_ih and db_hh hold the first step's part alone. As for the weights.
    all: db_ih += => db_ih[:] =
    all: db_hh += => db_hh[:] =

gradients-averaged-over-the-batch: the parameter gradients are averaged over the batch instead of summed up. The loss is
a sum, the gradients are divided by B. A batch of one cannot show it.
    stack: return grads, dy, ds0 => return [[[g / B for g in p] for p in layer] for layer in grads], dy, ds0

gradients-averaged-over-steps-and-batch: the parameter gradients are averaged over all steps and sequences. Divided by T
· B.
    stack: return grads, dy, ds0 => return [[[g / (T * B) for g in p] for p in layer] for layer in grads], dy, ds0

loss-averaged-over-the-batch: every gradient is divided by the batch size. The loss is a mean where a sum is compared
with it: dx and the states' gradients are divided too.
    stack: return grads, dy, ds0
        => return [[[g / B for g in p] for p in layer] for layer in grads], dy / B, [ds / B for ds in ds0]

loss-averaged-over-steps-and-batch: every gradient is divided by the number of steps and sequences. A mean over all
outputs' rows where a sum was meant.
    stack: return grads, dy, ds0
        => grads = [[[g / (T * B) for g in p] for p in layer] for layer in grads]
           return grads, dy / (T * B), [ds / (T * B) for ds in ds0]

gradients-averaged-over-each-length: each sequence's part of the parameter gradients is divided by its length. Long and
short sequences are meant to count the same; the gradient is no longer that of the summed loss.
    stack: total += g => total += g / max(lengths[b], 1)

gradients-of-the-last-sequence-alone: the parameter gradients are those of the last sequence in the batch. `=` for `+=`
in the loop over the batch.
    stack: total += g => total[...] = g

gradients-of-two-calls: the parameter gradients hold the sum of two calls of backward. They are added to what an earlier
call has left: nobody has set them to zero in between.
    stack: total += g => total += 2 * g

bias-gradient-summed-over-units: each entry of the bias gradients is the sum over all units. np.sum without an axis
makes one number of da, which is then spread over the vector. Sum over the batch alone: axis=0 of (B, H).
    RNN LSTM: db_ih += da => db_ih += da.sum()
    RNN LSTM: db_hh += da => db_hh += da.sum()
    GRU: db_ih += du => db_ih += du.sum()
    gru: db_hh += dv => db_hh += dv.sum()
    gru_reset_before: db_hh += du => db_hh += du.sum()

bias-gradient-summed-over-each-gate: each entry of the bias gradients is the sum over its gate's units. np.sum without
an axis makes one number of each gate's gradient. Sum over the batch alone: axis=0 of (B, H).
    LSTM: db_ih += da => db_ih += np.repeat([d.sum() for d in np.split(da, 4)], len(da) // 4)
    LSTM: db_hh += da => db_hh += np.repeat([d.sum() for d in np.split(da, 4)], len(da) // 4)
    GRU: db_ih += du => db_ih += np.repeat([d.sum() for d in np.split(du, 3)], len(du) // 3)
    gru: db_hh += dv => db_hh += np.repeat([d.sum() for d in np.split(dv, 3)], len(dv) // 3)
    gru_reset_before: db_hh += du => db_hh += np.repeat([d.sum() for d in np.split(du, 3)], len(du) // 3)

dx-of-two-calls: dx is doubled. It is added to what an earlier call has left. Make a new array, or set it to zero.
    stack: return grads, dy, ds0 => return grads, 2 * dy, ds0

# truncation and clipping

truncated-to-one-step: no gradient flows from one step to the one before it. The state is detached at every step. Every
single step is right, the sum over time is not. Seen: keras-team/keras#3669.
    RNN GRU: for t in reversed(range(len(x))):
        => for t in reversed(range(len(x))):
               dh[t + 1] = dh_loss[t + 1]
    LSTM: for t in reversed(range(len(x))):
        => for t in reversed(range(len(x))):
               dh[t + 1] = dh_loss[t + 1]
               dc[t + 1] = dc_loss[t + 1]

truncated-every-two-steps: the gradient is cut after every second step. Truncated backpropagation where the full one was
meant: the last steps are right, the older ones lack a part. Seen: tensorflow/tensorflow#107.
    RNN GRU: for t in reversed(range(len(x))):
        => for t in reversed(range(len(x))):
               if t % 2:
                   dh[t + 1] = dh_loss[t + 1]
    LSTM: for t in reversed(range(len(x))):
        => for t in reversed(range(len(x))):
               if t % 2:
                   dh[t + 1] = dh_loss[t + 1]
                   dc[t + 1] = dc_loss[t + 1]

running-gradient-clipped: the running gradient dh is clipped to ±1 at every step. Clipping inside the loop, as some
recipes have it, is no longer the gradient of the loss.
    all: for t in reversed(range(len(x))):
        => for t in reversed(range(len(x))):
               dh[t + 1] = np.clip(dh[t + 1], -1, 1)

gradients-clipped: the parameter gradients are clipped to ±5. Clipped before they are compared. The gradient check of
min-char-rnn's descendants fails for this reason alone; small gradients do not show it.
    stack: return grads, dy, ds0 => return [[[np.clip(g, -5, 5) for g in p] for p in layer] for layer in grads], dy, ds0

gradients-scaled-to-norm-one: the parameter gradients are scaled down to a norm of 1 in all. clip_grad_norm_ has been
called before the comparison: all parameter gradients are off by one factor.
    stack: return grads, dy, ds0
        => norm = np.sqrt(sum(np.sum(g**2) for layer in grads for p in layer for g in p))
           return [[[g / max(norm, 1) for g in p] for p in layer] for layer in grads], dy, ds0

# in place

initial-state-overwritten: the array of the initial state has been overwritten with the final one before backward reads
it. The caller's h_0 serves as the running state. The first step's part of the gradient is computed with the final
state, and the caller's array has changed.
    all: return (np.stack(list(h.values()))
        => h_0[...] = h[len(x)]
           return (np.stack(list(h.values()))

tape-holds-the-last-state: every state on the tape is the last one, because all of them are the same array. The state is
updated in place and appended to a list: T references to one buffer. Outputs had been copied, so forward looks right.
    all: (params, x, h => (params, x, dict.fromkeys(h, h[len(x)])

cache-of-the-last-step: backward finds what the last step has kept at every step: x, states and gates. One cell object
runs all steps and keeps its values in itself, so each step overwrites those of the step before. Keep them in a list,
one entry a step.
    RNN: for t in reversed(range(len(x))):
        => for t in reversed(range(len(x))):
               x = np.stack([tape[1][-1]] * len(x))
               h = dict.fromkeys(h, tape[2][len(x) - 1]) | {t + 1: tape[2][len(x)]}
    LSTM: for t in reversed(range(len(x))):
        => for t in reversed(range(len(x))):
               x, gates = np.stack([tape[1][-1]] * len(x)), [tape[4][-1]] * len(x)
               h = dict.fromkeys(h, tape[2][len(x) - 1]) | {t + 1: tape[2][len(x)]}
               c = dict.fromkeys(c, tape[3][len(x) - 1]) | {t + 1: tape[3][len(x)]}
    GRU: for t in reversed(range(len(x))):
        => for t in reversed(range(len(x))):
               x, gates = np.stack([tape[1][-1]] * len(x)), [tape[3][-1]] * len(x)
               h = dict.fromkeys(h, tape[2][len(x) - 1]) | {t + 1: tape[2][len(x)]}

cache-of-the-last-step-but-for-x: backward finds states and gates that the last step has kept at every step, and the
right x. The cell object keeps its values in itself, each step overwrites them, and x is handed to backward anew. Keep
them in a list, one entry a step.
    RNN: for t in reversed(range(len(x))):
        => for t in reversed(range(len(x))):
               h = dict.fromkeys(h, tape[2][len(x) - 1]) | {t + 1: tape[2][len(x)]}
    LSTM: for t in reversed(range(len(x))):
        => for t in reversed(range(len(x))):
               gates = [tape[4][-1]] * len(x)
               h = dict.fromkeys(h, tape[2][len(x) - 1]) | {t + 1: tape[2][len(x)]}
               c = dict.fromkeys(c, tape[3][len(x) - 1]) | {t + 1: tape[3][len(x)]}
    GRU: for t in reversed(range(len(x))):
        => for t in reversed(range(len(x))):
               gates = [tape[3][-1]] * len(x)
               h = dict.fromkeys(h, tape[2][len(x) - 1]) | {t + 1: tape[2][len(x)]}

gates-of-the-last-step: backward finds the last step's gates at every step, and the right x and states. The gates are
kept in the object and not in a list, so each step overwrites them. Keep them in a list, one entry a step.
    LSTM GRU: = gates[t] => = gates[-1]

output-holds-the-last-state: the output holds the last state at every step. The same list, handed out as the output.
    all: np.stack(list(h.values())) => np.stack([h_0] + [h[len(x)]] * len(x))

state-overwritten-unit-by-unit: h is overwritten unit by unit, so that a unit already sees the new values of those
before it. The loop over units is fused with the product that still needs the old state. Seen: onnx/onnx-mlir#367.
    RNN: h[t + 1] = f(a)
        => h[t + 1] = h[t] + 0 * a
           for k in range(len(a)):
               h[t + 1][k] = f(W_ih[k] @ x[t] + b_ih[k] + W_hh[k] @ h[t + 1] + b_hh[k])

upstream-gradient-overwritten-by-dx: in a stack, the first direction's dx has overwritten dy before the second direction
reads it. dx is as wide as dy there, so one buffer serves for both. One direction or one layer, and all is right. Seen:
apache/mxnet#17898, apache/mxnet#18203.
    stack: dstates[0][1:] = doutput[steps, b]
        => dstates[0][1:] = (np.split(dx, 2, axis=2)[1] if d and l else doutput)[steps, b]

# precision

gradients-summed-in-float32: the parameter gradients are summed up in float32. A buffer allocated with the default
dtype. Seven digits are right and the rest is not: a check at 1e-3 is green, and long sums lose more.
    all: np.zeros_like(w) for w in tape[0] => np.zeros_like(w, "f") for w in tape[0]

output-stored-in-float32: each layer's output is stored in float32. A buffer allocated with the default dtype. The final
states keep all their digits.
    stack: output[steps, b] = states[0][1:]
        => output[steps, b] = states[0][1:].astype("F" if np.iscomplexobj(y) else "f")
"""
