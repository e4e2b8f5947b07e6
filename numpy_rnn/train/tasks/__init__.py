"""Tasks on real sequences that a package ships: weather, prices, program text, prose; with baselines.

weather stocks tags language    one task a file
baselines       what a recurrent network has to beat; `ngrams`: the same for a text
scores          how a run and the baselines score on the test split, by the same code; tables
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
