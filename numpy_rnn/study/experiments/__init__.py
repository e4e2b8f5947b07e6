"""Experiments: what recurrent networks remember, and for how long; what clipping the gradient is good for.

`tasks` makes the sequences, `model` reads them, `training` learns from them and `explosion` lets the gradient explode,
all in NumPy with this package's own gradients; `figures` draws what came of it and needs Matplotlib.
`numpy-rnn experiment` runs them; docs/learn/experiments.md has what came of it.
"""
