"""How fast the recurrent layers are, beside torch.nn and others, and how far from what the machine can do.

`python -m benchmarks` measures, `python -m benchmarks report` writes tables and plots from what was measured. How a
time comes about:

* Every contestant runs in a process of its own, which lives through the whole run (`worker`), in an environment free of
  variables that turn some libraries down and leave others alone (`environment`).
* They take turns, in rotating order, so that a machine that slows down slows all of them (`measure`). After its turn a
  contestant waits until its own threads sleep: those of BLAS and OpenMP spin for a tenth of a second.
* All get the same numbers (`problem`) and give the same gradients, and beside every time stands the error against
  float64. Who is beyond the bound is WRONG: a fast wrong answer does not count.
* What bounds a time from below is measured beside it: the matrix products alone (floor), these with the copies that
  their layout asks for (layout), everything between them for all steps at once (passes), and the calls of a layer of
  two units (calls), from which those of the products (floor-calls) are taken off where they would count twice. The same
  for torch_rnn (torch-floor, torch-passes, …), which holds vectors as its users do and copies nothing.
"""
