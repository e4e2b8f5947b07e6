"""Mistakes round the cell: states, lengths, directions, layers, dropout, sums, clipping."""

from __future__ import annotations

from .mistake import Mistake
from .plant import LSTM, LSTM_SQUARE, in_layers

# Lines of stack.py that mistakes replace.
STEPS = "steps = np.arange(length)"
TURNED = "return steps[::-1] if d else steps"
S0 = "*(s[k, b] for s in s0)"
DS0 = "for ds, first in zip(ds0, initial):"
DS0_LINE = "ds[k, b] = first"
DS_N = "for ds, direct in zip(ds_n, dstates):"
DS_N_LINE = "direct[-1] += ds[k, b]"
OUTPUT = "output[steps, b] = states[0][1:]"
DOUTPUT = "dstates[0][1:] = doutput[steps, b]"
DX = "dx[steps, b] += dsteps"
OUTPUTS = "outputs.append(output)"
MASK = "y = y * masks[l - 1]"
DMASK = "dy = dx * masks[l - 1] if l > 0 else dx"
SUM = "total += g"
RETURN = "return y, s_n, tapes"
GRADS = "return grads, dy, ds0"
EACH = "[[[{} for g in p] for p in layer] for layer in grads]"

STATES = (
    Mistake(
        "h_0-ignored",
        "initial state",
        "h_0 is ignored and zeros are taken for it",
        "The argument is accepted and not looked at. Every test that starts from zeros passes.",
        (),
        in_layers(
            (S0, "*(s[k, b] * (j > 0) for j, s in enumerate(s0))"),
            (DS0, "for ds, first in list(zip(ds0, initial))[1:]:"),
        ),
    ),
    Mistake(
        "c_0-ignored",
        "initial state",
        "c_0 is ignored and zeros are taken for it",
        "Half of the pair is looked at.",
        ("onnx/onnx-tensorflow#408",),
        in_layers(
            (S0, "*(s[k, b] * (j < 1) for j, s in enumerate(s0))"),
            (DS0, "for ds, first in zip(ds0[:1], initial):"),
            cells=LSTM,
        ),
    ),
    Mistake(
        "dh_0-missing",
        "initial state",
        "dh_0 stays zero",
        "The initial state counts as a constant. Whoever learns it, or chains chunks, gets nothing.",
        (),
        in_layers((DS0, "for ds, first in list(zip(ds0, initial))[1:]:")),
    ),
    Mistake(
        "dc_0-missing",
        "initial state",
        "dc_0 stays zero",
        "As dh_0, for the cell state.",
        (),
        in_layers((DS0, "for ds, first in zip(ds0[:1], initial):"), cells=LSTM),
    ),
    Mistake(
        "h_0-and-c_0-swapped",
        "initial state",
        "h_0 and c_0 are taken for each other",
        "Flax has the pair as (c, h), torch as (h, c). The shapes are the same.",
        (),
        in_layers(
            (S0, "*(s[k, b] for s in s0[::-1])"), (DS0, "for ds, first in zip(ds0[::-1], initial):"), cells=LSTM_SQUARE
        ),
    ),
    Mistake(
        "state-of-the-first-sequence-for-all",
        "initial state",
        "every sequence starts from the initial state of the first",
        "A state of shape (1, H) is made to fit by broadcasting.",
        (),
        in_layers((S0, "*(s[k, 0] for s in s0)"), (DS0_LINE, "ds[k, 0] += first")),
    ),
    Mistake(
        "state-carried-to-the-next-sequence",
        "initial state",
        "each sequence starts from where the sequence before it in the batch has ended",
        "The state lives in the object and is not reset between sequences.",
        ("nntrainer/nntrainer#1038",),
        in_layers((S0, "*(n[k, b - 1] if b else s[k, b] for s, n in zip(s0, s_n))")),
    ),
    Mistake(
        "reverse-starts-from-the-forward-state",
        "initial state",
        "the reverse direction starts from the forward direction's initial state",
        "One initial state a layer, used for both directions.",
        (),
        in_layers((S0, "*(s[l * len(layer), b] for s in s0)"), (DS0_LINE, "ds[l * len(layer), b] += first")),
    ),
    Mistake(
        "states-ordered-by-direction",
        "initial state",
        "the states are stacked direction by direction instead of layer by layer",
        "Index d · L + l for l · D + d. With one layer or one direction, or from zeros, "
        "there is no difference: shipped kernels have cut the wrong slices out of the states behind such tests.",
        ("pytorch/pytorch#95137",),
        in_layers(
            ("k = l * len(layer) + d\n            output", "k = d * len(params) + l\n            output"),
            ("k = l * len(layer) + d\n            for b", "k = d * len(params) + l\n            for b"),
        ),
    ),
    Mistake(
        "dh_n-ignored",
        "final state",
        "the gradient of the final state h_n is ignored",
        "Backward starts from zeros and adds the outputs' gradients. Encoders, whose loss sees h_n alone, learn "
        "nothing.",
        ("oxford-cs-ml-2015/practical6#6", "open-lm-engine/accelerated-model-architectures#445"),
        in_layers((DS_N, "for ds, direct in list(zip(ds_n, dstates))[1:]:")),
    ),
    Mistake(
        "dc_n-ignored",
        "final state",
        "the gradient of the final cell state c_n is ignored",
        "The cell state's gradient starts from zero, whatever the loss says.",
        ("deeplearning4j/deeplearning4j#8838", "PaddlePaddle/Paddle#6970"),
        in_layers((DS_N, "for ds, direct in zip(ds_n[:1], dstates):"), cells=LSTM),
    ),
    Mistake(
        "final-state-one-step-early",
        "final state",
        "the final states are those before the last step",
        "h[T - 1] of a trajectory that starts with h_0, where h[T] was meant.",
        (),
        in_layers(("s[k, b] = trajectory[-1]", "s[k, b] = trajectory[-2]")),
    ),
    Mistake(
        "c_n-holds-h_n",
        "final state",
        "c_n is a copy of h_n",
        "The wrong variable is handed out.",
        (),
        in_layers(("in zip(s_n, states):", "in zip(s_n, states[:1] * 2):"), cells=LSTM_SQUARE),
    ),
    Mistake(
        "h_n-is-the-last-row-of-the-output",
        "final state",
        "h_n is the output's last row",
        "For a shorter sequence that row is padding, and for the reverse direction it is the first step.",
        ("pytorch/pytorch#3587",),
        in_layers((OUTPUTS, f"s_n[0][k] = output[-1]\n            {OUTPUTS}")),
    ),
    Mistake(
        "h_n-of-reverse-from-the-wrong-end",
        "final state",
        "the reverse direction's h_n is its output at the last valid step, where it has only begun",
        "output[length - 1] is right for the forward direction. The reverse one ends at step 0.",
        ("yunjey/pytorch-tutorial#174", "pytorch/pytorch#3587"),
        in_layers((OUTPUTS, f"s_n[0][k] = output[np.array(lengths) - 1, np.arange(B)]\n            {OUTPUTS}")),
    ),
    Mistake(
        "h_n-in-sorted-order",
        "final state",
        "the final states stand in the order of falling lengths instead of the caller's",
        "The batch is sorted for packing; outputs are put back, final states are not.",
        (),
        in_layers((RETURN, 'return y, [s[:, np.argsort([-n for n in lengths], kind="stable")] for s in s_n], tapes')),
    ),
    Mistake(
        "dh_n-lands-in-the-padding",
        "final state",
        "the gradient of the final states is added at step T, not where each sequence ends",
        "For sequences of full length it is right, for all shorter ones it is lost.",
        (),
        in_layers((DS_N_LINE, "direct[-1] += ds[k, b] * (lengths[b] == T)")),
    ),
    Mistake(
        "dh_n-of-reverse-at-the-wrong-end",
        "final state",
        "the gradient of the reverse direction's final states is added where that direction begins",
        "The transpose of taking h_n from the wrong end.",
        (),
        in_layers((DS_N_LINE, "direct[1 if d else -1] += ds[k, b]")),
    ),
    Mistake(
        "output-one-step-early",
        "off by one",
        "the output at each step is the state before it",
        "h[:-1] for h[1:], forwards and backwards.",
        (),
        in_layers((OUTPUT, "output[steps, b] = states[0][:-1]"), (DOUTPUT, "dstates[0][:-1] = doutput[steps, b]")),
    ),
    Mistake(
        "upstream-gradient-shifted",
        "off by one",
        "each output's gradient is added to the state one step earlier",
        "Forward is right; backward pairs dy[t] with h[t] instead of h[t + 1].",
        (),
        in_layers((DOUTPUT, "dstates[0][:-1] = doutput[steps, b]")),
    ),
    Mistake(
        "upstream-gradient-of-the-last-step-alone",
        "dropped path",
        "only the last step's output gradient is counted",
        "dh is set, not added to, on the way back; or the loss was thought to see the last output alone.",
        (),
        in_layers((DOUTPUT, "dstates[0][1:][-1:] = doutput[steps[-1:], b]")),
    ),
    Mistake(
        "upstream-gradient-of-ones",
        "dropped path",
        "the gradient of the outputs is taken to be 1 everywhere, whatever was handed in",
        "Backward was written for the sum of all outputs as loss, which is what many gradient checks use: ones pass "
        "them all.",
        (),
        in_layers((DOUTPUT, "dstates[0][1:] = 1 if l == len(params) - 1 else doutput[steps, b]")),
    ),
    Mistake(
        "gradient-between-layers-dropped",
        "dropped path",
        "no gradient flows from a layer to the one beneath it",
        "The lower layer's output is detached.",
        (),
        in_layers((DMASK, "dy = dx * 0 if l > 0 else dx")),
    ),
    Mistake(
        "upstream-gradient-overwritten-by-dx",
        "in place",
        "in a stack, the first direction's dx has overwritten dy before the second direction reads it",
        "dx is as wide as dy there, so one buffer serves for both. One direction or one layer, and all is right.",
        ("apache/mxnet#17898", "apache/mxnet#18203"),
        in_layers((DOUTPUT, "dstates[0][1:] = (np.split(dx, 2, axis=2)[1] if d and l else doutput)[steps, b]")),
    ),
)

SEQUENCES = (
    Mistake(
        "lengths-ignored",
        "padding and lengths",
        "the lengths are ignored and the padding is computed like any other step",
        "The argument is accepted and not looked at; final states are those after the padding.",
        ("pytorch/pytorch#3662",),
        in_layers((STEPS, "steps = np.arange(T)")),
    ),
    Mistake(
        "lengths-one-short",
        "padding and lengths",
        "each sequence is one step shorter than it says",
        "`t < length - 1`: an index of the last step taken for a length.",
        (),
        in_layers((STEPS, "steps = np.arange(length - 1)")),
    ),
    Mistake(
        "padding-holds-the-last-state",
        "padding and lengths",
        "the output after a sequence's end is its last state instead of 0",
        "Keras and TensorFlow carry the state through masked steps; torch and ONNX write zeros there.",
        ("microsoft/onnxruntime#12492",),
        in_layers((OUTPUT, f"{OUTPUT}\n                output[lengths[b] :, b] = states[0][-1]")),
    ),
    Mistake(
        "upstream-gradient-in-the-padding-counted",
        "padding and lengths",
        "upstream gradients after a sequence's end are counted",
        "The loss is not masked, so the padding's gradients flow into the last state and into every parameter.",
        (),
        in_layers((DOUTPUT, f"{DOUTPUT}\n                dstates[0][-1] += doutput[lengths[b] :, b].sum(axis=0)")),
    ),
    Mistake(
        "batch-first-read-as-time-first",
        "padding and lengths",
        "x is taken for (B, T, I) although it is (T, B, I)",
        "The same numbers in another shape, reshaped to fit: steps and sequences are shuffled.",
        (),
        in_layers(
            ("y = x\n", "y = x.reshape(B, T, -1).swapaxes(0, 1)\n"),
            (GRADS, "return grads, dy.swapaxes(0, 1).reshape(T, B, -1), ds0"),
        ),
    ),
    Mistake(
        "reverse-over-the-whole-buffer",
        "direction",
        "the reverse direction runs over the whole buffer, padding first",
        "x[::-1] turns the padding to the front: short sequences have seen it before they begin.",
        ("pytorch/pytorch#1811",),
        in_layers((TURNED, "return np.arange(T)[::-1] if d else steps")),
    ),
    Mistake(
        "reverse-begins-in-the-padding",
        "direction",
        "the reverse direction takes the last steps of the buffer instead of the sequence's own",
        "The buffer is turned round and cut to the length: what is cut off is the beginning of the sequence.",
        (),
        in_layers((TURNED, "return np.arange(T - length, T)[::-1] if d else steps")),
    ),
    Mistake(
        "reverse-not-reversed",
        "direction",
        "both directions read the sequence forwards",
        "The second set of weights is used, the turning is forgotten.",
        (),
        in_layers((TURNED, "return steps")),
    ),
    Mistake(
        "reverse-output-not-turned-back",
        "direction",
        "the reverse direction's output stands in the order in which it was computed",
        "Keras' go_backwards hands it out like this; torch and ONNX turn it back.",
        ("microsoft/onnxruntime#4187", "d2l-ai/d2l-en#2306"),
        in_layers(
            (OUTPUT, "output[np.sort(steps), b] = states[0][1:]"),
            (DOUTPUT, "dstates[0][1:] = doutput[np.sort(steps), b]"),
        ),
    ),
    Mistake(
        "reverse-upstream-not-turned",
        "direction",
        "the reverse direction's upstream gradient is not turned round",
        "Forward turns the output back; backward forgets that the transpose has to turn it too.",
        (),
        in_layers((DOUTPUT, "dstates[0][1:] = doutput[np.sort(steps), b]")),
    ),
    Mistake(
        "reverse-dx-not-turned-back",
        "direction",
        "the reverse direction's part of dx is not turned back",
        "It is added in the order in which it was computed.",
        (),
        in_layers((DX, "dx[np.sort(steps), b] += dsteps")),
    ),
    Mistake(
        "dx-lacks-the-reverse-direction",
        "direction",
        "dx lacks what the reverse direction sends back",
        "One x is read by both directions, so its gradient is a sum of two.",
        (),
        in_layers((DX, "dx[steps, b] += dsteps * (d == 0)")),
    ),
    Mistake(
        "dx-overwritten-by-the-reverse-direction",
        "direction",
        "dx holds the reverse direction's part alone",
        "The second direction writes where it should add.",
        (),
        in_layers((DX, "dx[steps, b] = dsteps")),
    ),
    Mistake(
        "directions-swapped",
        "direction",
        "the output holds the reverse direction first",
        "Concatenated the other way round. Shapes agree.",
        (),
        in_layers(
            ("y = np.concatenate(outputs, axis=2)", "y = np.concatenate(outputs[::-1], axis=2)"),
            ("enumerate(np.split(dy, len(layer), axis=2))", "enumerate(np.split(dy, len(layer), axis=2)[::-1])"),
        ),
    ),
    Mistake(
        "reverse-with-the-forward-weights",
        "direction",
        "the reverse direction uses the forward direction's parameters",
        "The loader does not know the suffix _reverse, or one cell object serves for both.",
        (),
        in_layers(
            ("cell.forward(p, y", "cell.forward(layer[0], y"),
            ("in zip(grads[l][d], dparams)", "in zip(grads[l][0], dparams)"),
        ),
    ),
    Mistake(
        "dropout-mask-of-the-first-step",
        "dropout",
        "the dropout mask of step 0 is used at every step",
        "The pointer into the mask is not moved along. It is a kind of dropout too, but not the one that was asked "
        "for.",
        ("lmnt-com/haste#43",),
        in_layers((MASK, "y = y * masks[l - 1][:1]"), (DMASK, "dy = dx * masks[l - 1][:1] if l > 0 else dx")),
    ),
    Mistake(
        "dropout-mask-of-the-first-sequence",
        "dropout",
        "the dropout mask of the first sequence is used for the whole batch",
        "A mask without the batch's axis, broadcast.",
        ("clab/dynet#812",),
        in_layers((MASK, "y = y * masks[l - 1][:, :1]"), (DMASK, "dy = dx * masks[l - 1][:, :1] if l > 0 else dx")),
    ),
    Mistake(
        "dropout-not-rescaled",
        "dropout",
        "what dropout keeps is not divided by 1 - p",
        "The original form of dropout scales when the model is used; the inverted form, torch's, while it is trained.",
        (),
        in_layers((MASK, "y = y * (masks[l - 1] > 0)"), (DMASK, "dy = dx * (masks[l - 1] > 0) if l > 0 else dx")),
    ),
    Mistake(
        "dropout-rescaled-twice",
        "dropout",
        "what dropout keeps is divided by 1 - p twice",
        "The mask is scaled already, and scaled again where it is applied.",
        (),
        in_layers((MASK, "y = y * masks[l - 1] ** 2"), (DMASK, "dy = dx * masks[l - 1] ** 2 if l > 0 else dx")),
    ),
    Mistake(
        "dropout-ignored",
        "dropout",
        "there is no dropout at all",
        "The mask is ignored forwards and backwards, as in evaluation.",
        (),
        in_layers((MASK, "pass"), (DMASK, "dy = dx")),
    ),
    Mistake(
        "dropout-ignored-in-backward",
        "dropout",
        "the gradient goes back through dropped values too",
        "The mask was not kept for backward.",
        ("pytorch/pytorch#190056",),
        in_layers((DMASK, "dy = dx")),
    ),
    Mistake(
        "dropout-not-rescaled-in-backward",
        "dropout",
        "backward applies the dropout mask without dividing by 1 - p",
        "A mask of booleans on the tape, the factor forgotten.",
        (),
        in_layers((DMASK, "dy = dx * (masks[l - 1] > 0) if l > 0 else dx")),
    ),
)

SUMS = (
    Mistake(
        "gradients-averaged-over-the-batch",
        "sum and mean",
        "the parameter gradients are averaged over the batch instead of summed up",
        "The loss is a sum, the gradients are divided by B. A batch of one cannot show it.",
        (),
        in_layers((GRADS, f"return {EACH.format('g / B')}, dy, ds0")),
    ),
    Mistake(
        "gradients-averaged-over-steps-and-batch",
        "sum and mean",
        "the parameter gradients are averaged over all steps and sequences",
        "Divided by T · B.",
        (),
        in_layers((GRADS, f"return {EACH.format('g / (T * B)')}, dy, ds0")),
    ),
    Mistake(
        "loss-averaged-over-the-batch",
        "sum and mean",
        "every gradient is divided by the batch size",
        "The loss is a mean where a sum is compared with it: dx and the states' gradients are divided too.",
        (),
        in_layers((GRADS, f"return {EACH.format('g / B')}, dy / B, [ds / B for ds in ds0]")),
    ),
    Mistake(
        "loss-averaged-over-steps-and-batch",
        "sum and mean",
        "every gradient is divided by the number of steps and sequences",
        "A mean over all outputs' rows where a sum was meant.",
        (),
        in_layers((GRADS, f"return {EACH.format('g / (T * B)')}, dy / (T * B), [ds / (T * B) for ds in ds0]")),
    ),
    Mistake(
        "gradients-averaged-over-each-length",
        "sum and mean",
        "each sequence's part of the parameter gradients is divided by its length",
        "Long and short sequences are meant to count the same; the gradient is no longer that of the summed loss.",
        (),
        in_layers((SUM, "total += g / max(lengths[b], 1)")),
    ),
    Mistake(
        "gradients-of-the-last-sequence-alone",
        "sum and mean",
        "the parameter gradients are those of the last sequence in the batch",
        "`=` for `+=` in the loop over the batch.",
        (),
        in_layers((SUM, "total[...] = g")),
    ),
    Mistake(
        "gradients-of-two-calls",
        "sum and mean",
        "the parameter gradients hold the sum of two calls of backward",
        "They are added to what an earlier call has left: nobody has set them to zero in between.",
        (),
        in_layers((SUM, "total += 2 * g")),
    ),
    Mistake(
        "gradients-clipped",
        "truncation and clipping",
        "the parameter gradients are clipped to ±5",
        "Clipped before they are compared. The gradient check of min-char-rnn's descendants fails for this reason "
        "alone; small gradients do not show it.",
        (),
        in_layers((GRADS, f"return {EACH.format('np.clip(g, -5, 5)')}, dy, ds0")),
    ),
    Mistake(
        "gradients-scaled-to-norm-one",
        "truncation and clipping",
        "the parameter gradients are scaled down to a norm of 1 in all",
        "clip_grad_norm_ has been called before the comparison: all parameter gradients are off by one factor.",
        (),
        in_layers(
            (
                GRADS,
                "norm = np.sqrt(sum(np.sum(g**2) for layer in grads for p in layer for g in p))\n"
                f"    return {EACH.format('g / max(norm, 1)')}, dy, ds0",
            )
        ),
    ),
    Mistake(
        "output-stored-in-float32",
        "precision",
        "each layer's output is stored in float32",
        "A buffer allocated with the default dtype. The final states keep all their digits.",
        (),
        in_layers((OUTPUT, 'output[steps, b] = states[0][1:].astype("F" if np.iscomplexobj(y) else "f")')),
    ),
)

MISTAKES = (*STATES, *SEQUENCES, *SUMS)
