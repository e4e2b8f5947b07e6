"""Tasks on real sequences that a package ships: weather, prices, digits, voices, program text, prose; with baselines.

task            what a task is: three splits of sequences, what is asked of them, how an answer is scored
packages        files that installed packages carry
weather stocks digits vowels tags language    one task a file
baselines       what a recurrent network has to beat
objective       the scores
settings        what determines a run, and what `training` sees of a task
engine          a whole run, by `training`'s learners and loop
checkpoint      everything that a run needs to go on, in one file
ngrams bits     n-gram models of a text, and what a symbol costs in bits; `minchar`: min-char-rnn's setting
table           runs over tasks, cells, backends and seeds, as Markdown
figure          learning curves, and answers against the truth
"""

from __future__ import annotations

from collections.abc import Callable

from . import digits, language, stocks, tags, vowels, weather
from .task import Task

TASKS: dict[str, Callable[[], Task]] = {
    "weather": weather.load,
    "stocks": stocks.load,
    "digits": digits.load,
    "vowels": vowels.load,
    "tags": tags.load,
    "language": language.load,
}
