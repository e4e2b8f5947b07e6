"""The published cases: files that come with the package. What they hold never changes."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

FOLDER = resources.files(__package__) / "published"


@cache
def names() -> tuple[str, ...]:
    """Names of all cases, by level."""
    index: list[str] = json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))["cases"]
    return tuple(index)


@cache
def case(name: str) -> dict[str, Any]:
    """A case's document.

    Raises
    ------
    KeyError
        If there is none of this name.
    """
    if name not in names():
        raise KeyError(name)
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


def all_cases() -> list[dict[str, Any]]:
    """All documents, by level."""
    return [case(name) for name in names()]
