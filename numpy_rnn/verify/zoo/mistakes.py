"""All mistakes of the zoo."""

from __future__ import annotations

from . import mistakes_cells, mistakes_layers, mistakes_weights
from .mistake import Mistake

MISTAKES: tuple[Mistake, ...] = (*mistakes_weights.MISTAKES, *mistakes_cells.MISTAKES, *mistakes_layers.MISTAKES)
_BY_NAME = {mistake.name: mistake for mistake in MISTAKES}


def mistakes(cell: str | None = None) -> tuple[Mistake, ...]:
    """The zoo's mistakes, all of them or those that one cell can have.

    Examples
    --------
    >>> len(mistakes()) >= 60
    True
    >>> [m.name for m in mistakes("rnn_relu") if m.group == "activation derivative"]
    ['relu-derivative-at-zero', 'rnn-derivative-of-the-old-state']
    """
    return tuple(m for m in MISTAKES if cell is None or cell in m.changes)


def mistake(name: str) -> Mistake:
    """One mistake by its name.

    Raises
    ------
    ValueError
        If there is none of this name.

    Examples
    --------
    >>> mistake("gru-z-turned-around").what
    'z weighs the candidate and 1 - z the old state'
    """
    if name not in _BY_NAME:
        raise ValueError(f"the zoo has no mistake {name!r}")
    return _BY_NAME[name]
