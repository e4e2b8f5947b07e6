"""How fast the recurrent layers are, beside torch.nn and others, and how far from what the machine can do.

`python -m benchmarks` measures, `python -m benchmarks report` writes the page of the site from what was measured.

* Every contestant (`contestants`) runs in a process of its own, which lives through the whole run (`worker`).
* They take turns, in rotating order, so that a machine that slows down slows all of them (`contest`). After its turn a
  contestant waits until its own threads sleep: those of BLAS and OpenMP spin for a tenth of a second.
* All get the same numbers (`problem`) and give the same gradients, and beside every time stands the error against
  float64. Who is beyond the bound is WRONG, and has no time.

Why not pyperf: it runs all processes of one benchmark before the next, and starts each anew. Contestants could take
turns only as whole processes, and a run would start more than a thousand, each importing torch or compiling with JAX.
"""
