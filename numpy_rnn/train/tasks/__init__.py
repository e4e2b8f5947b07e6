"""Tasks on real sequences that a package ships: weather, prices, program text, prose; with baselines.

weather stocks tags language    one task a file
packages        files that installed packages carry
baselines       what a recurrent network has to beat; `ngrams`: the same for a text
scores          what is reported of a network and of a baseline, by the same code
trial           a whole run and its scores on the test split
table           runs over tasks, cells, backends and seeds, as Markdown
figure          learning curves, and answers against the truth
"""

from __future__ import annotations

from collections.abc import Callable

from ..task import Task
from . import language, stocks, tags, weather

TASKS: dict[str, Callable[[], Task]] = {
    "weather": weather.load,
    "stocks": stocks.load,
    "tags": tags.load,
    "language": language.load,
}
