"""Recurrent layers as a textbook has them: one sequence, one step after the other, every gate by its name.

One module a cell (named like the cells of numpy_rnn) and `layers`, which runs a stack of them over a batch. Nothing is
hoisted out of a loop and nothing is shared, so that each line stands for one equation and each classic mistake is a
change of one line or two. They are slow and not meant for use: they are what the zoo's mistakes are planted in.
"""
