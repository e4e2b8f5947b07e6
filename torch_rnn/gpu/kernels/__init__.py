"""Kernels for NVIDIA GPUs, in Triton: the whole time loop of a cell in one launch, forward or backward.

Here stands what is inside the loop, equation by equation as in `torch_rnn.manual`; the products over all steps
stay there. `tiles` decides whether a kernel can run, and on how many programs; `loops` launches it.

A program owns some units of some sequences, from the first step to the last, and keeps its part of W_hh on its
multiprocessor: nothing is read again but what a step has changed. The states (or, backwards, the gradients of the
pre-activations) go through the GPU's memory, where the programs with the same sequences read one another's; these wait
for one another once a step. So all programs have to run at the same time, which a cooperative launch promises.

Backward walks the same way: a step first fetches what step t+1 has sent back, W_hhᵀ da_{t+1}, then goes from (4') to
(2').

Sums, gates and gradients within a step are float32; what is kept has the type of the operands.
"""

import torch
import triton.language as tl

from . import gru, lstm, rnn

KERNELS = {
    (module.__name__.split(".")[-1], way): getattr(module, way)
    for module in (rnn, lstm, gru)
    for way in ("forward", "backward")
}
FACTORS = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
