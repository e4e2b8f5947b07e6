"""Start here: every recurrence as a page of code, for one sequence, one step after the other, one equation a line.

Read `rnn` first, then `lstm` and `gru`; the others are their variants. Each file opens with its equations (1) … (n) and
their transposes (n') … (1'), and the number behind a line of code says which of them it is. A name that begins with d
is the gradient of the loss by the rest of the name. `stack` runs any of them over layers, directions and a batch.
"""

from . import gru, gru_reset_before, lstm, lstm_peephole, lstm_projection, rnn, stack

__all__ = ["gru", "gru_reset_before", "lstm", "lstm_peephole", "lstm_projection", "rnn", "stack"]
