"""Experiments: what recurrent networks remember, and for how long; what clipping the gradient is good for.

`tasks` makes the sequences, `training` learns from them with the loop and the learner of `numpy_rnn.train`; `figures`
draws what came of it. `numpy-rnn experiment` runs them; docs/learn/experiments.md has what came of it.
"""
