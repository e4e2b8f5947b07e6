"""Kernels for NVIDIA GPUs, in Triton: the whole time loop of a cell in one launch, forward or backward.

Here stands what is inside the loop, equation by equation as in `torch_rnn.bptt`; the products over all steps stay
there. `torch_rnn.fused` decides when a kernel runs.

A program owns some rows of the batch, from the first step to the last, so programs never wait for one another. Within
a step it goes through the units tile by tile. A tile's pre-activations are one product, summed over tiles of W_hh that
come from wherever W_hh is: a small one stays in the multiprocessor's cache from step to step, a larger one streams from
the GPU's second-level cache at every step. The states of the step before are read where they were written, and a
barrier stands between the two. So registers and shared memory hold one tile of each, whatever H is.

Backward walks the same way: a step first fetches what step t+1 has sent back, W_hhᵀ da_{t+1}, then goes from (4') to
(2'). The sums over time, dW and db, are left to one product afterwards.

Sums, gates and gradients within a step are float32; what is kept has the type of the operands.
"""
