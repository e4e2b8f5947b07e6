"""Whether a character of a program is in a keyword, name, string, comment, number, operator or white space.

Lines of Python's own standard library, which come with every Python (their text, and so the scores, differ a little
from version to version), tagged by its module `tokenize`. A line is read alone: whether an English line is part of a
comment or of a string that began lines above can only be guessed from how it looks. A character's tag often depends on
what comes after it (`print` and `printer`, the end of a string), so reading in both directions helps.
"""

from __future__ import annotations

import importlib.util
import io
import keyword
import token
import tokenize
from pathlib import Path

import numpy as np

from ...fast.numerics import Array
from ...layers.files import MissingLibraryError
from ..task import Outputs, Part, Split, Task, padded
from .baselines import frequencies

TAGS = ("white space", "keyword", "name", "string", "comment", "number", "operator")
# Old modules that change little. No module is in two splits.
TRAIN = ("textwrap", "shlex", "heapq", "bisect", "csv", "fractions", "calendar", "getopt", "queue", "sched", "string")
VALIDATION = ("random", "copy")
TEST = ("pprint", "statistics")
LONGEST = 100  # characters of a line; longer ones are left out


def load() -> Task:
    """Read the modules and make the task, or say what is missing."""
    lines = [[line for name in names for line in tagged(_source(name))] for names in (TRAIN, VALIDATION, TEST)]
    known = {c: k + 1 for k, c in enumerate(sorted({c for line, _ in lines[0] for c in line}))}  # 0: any other
    train, validation, test = (_split(part, known) for part in lines)
    return Task(
        "tags",
        "what each character of a line of Python belongs to",
        "the modules of Python's standard library, tagged by its module tokenize",
        train,
        validation,
        test,
        "every",
        (Part("tag", "classes", len(TAGS), labels=TAGS),),
        len(known) + 1,
        baselines,
    )


def tagged(source: str) -> list[tuple[str, Array]]:
    """Cut a program into lines, each with the index into `TAGS` of every character.

    Lines that are empty or longer than `LONGEST` are left out.

    Examples
    --------
    >>> [(line, tags)] = tagged("if x1 > 2:  # ?")
    >>> " ".join(TAGS[k][0] for k in tags)
    'k k w n n w o w n o w w c c c'
    """
    lines = source.splitlines()
    tags = [np.zeros(len(line), np.intp) for line in lines]
    for found in tokenize.generate_tokens(io.StringIO(source).readline):
        tag = _tag(found)
        (first, start), (last, stop) = found.start, found.end
        for row in range(first, last + 1) if tag else ():
            tags[row - 1][start if row == first else 0 : stop if row == last else None] = tag
    return [(line, tag) for line, tag in zip(lines, tags) if 0 < len(line) <= LONGEST]


def _tag(found: tokenize.TokenInfo) -> int:
    kind = token.tok_name[found.type]
    if kind == "NAME":
        return TAGS.index("keyword" if keyword.iskeyword(found.string) else "name")
    if kind == "STRING" or kind.startswith("FSTRING"):  # the latter since Python 3.12
        return TAGS.index("string")
    return {"COMMENT": 4, "NUMBER": 5, "OP": 6}.get(kind, 0)


def _source(name: str) -> str:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise MissingLibraryError(f"this Python was packaged without the text of its module {name}")
    return Path(spec.origin).read_text(encoding="utf-8")


def _split(lines: list[tuple[str, Array]], known: dict[str, int]) -> Split:
    x, lengths = padded([np.array([known.get(c, 0) for c in line]) for line, _ in lines], -1)
    target, _ = padded([tags for _, tags in lines], -1)
    return Split(x, lengths, (target,))


def baselines(task: Task) -> dict[str, Outputs]:
    """The most frequent tag of the character, and of the character with the two before it."""
    K = len(TAGS)
    classes = task.answers(task.train)[0]
    overall = frequencies([0] * len(classes), classes, K)[0]
    one = frequencies(_contexts(task.train, 0), classes, K)
    three = frequencies(_contexts(task.train, 2), classes, K)
    alone = [one.get(context, overall) for context in _contexts(task.test, 0)]
    together = [three.get(context, guess) for context, guess in zip(_contexts(task.test, 2), alone)]
    return {"tag of the character": [np.array(alone)], "tag of it and the two before": [np.array(together)]}


def _contexts(split: Split, before: int) -> list[tuple[int, ...]]:
    """Every character of every line with the `before` characters before it, -1 where there is none."""
    assert split.lengths is not None
    rows = [[-1] * before + x[:n].tolist() for x, n in zip(split.x, split.lengths)]
    return [tuple(row[t : t + before + 1]) for row in rows for t in range(len(row) - before)]
