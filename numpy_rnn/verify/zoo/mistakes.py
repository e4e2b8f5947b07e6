"""The zoo's catalogue, read from three texts.

Each text has its mistakes in groups with a heading. A mistake is told in sentences, the first of which completes "the
numbers come out when …"; threads where people met it follow "Seen:". Then come the changes of the textbook:

    where: what stands there => what the mistake writes

"where" names one cell or several, a class for all its cells, "all", or "stack" for the module that runs a cell over
layers and sequences, followed by cells if not all can have the mistake. Letters in brackets are gates: the change is
made for each of them, and `$` stands for the letter. Further lines of what the mistake writes stand below its first.

An entry whose name has letters in brackets behind it stands for a mistake of each letter, which the sign in its name,
`$` or `%`, stands for everywhere in the entry; with two signs, of each two letters that differ.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from ...fast.registry import USER_FACING
from . import mistakes_cells, mistakes_layers, mistakes_weights
from .mistake import LAYERS, Change, Mistake, source, textbook_module

TOLD = re.compile(r"(?P<name>\S+): (?P<what>.*?)\. (?P<story>.*)")
SEVERAL = re.compile(r"([^\s\[]+)((?:\[\w+\])+)(?=: )")
CHANGE = re.compile(r"^    ([\w ]+)(?:\[(\w+)\])?: (.*?)\s+=> (.*(?:\n {11}.*)*)", re.MULTILINE)


def _read(text: str) -> Iterator[Mistake]:
    """The mistakes of a text, in its order."""
    group = ""
    for entry in itertools.chain.from_iterable(map(_for_each_letter, text.strip().split("\n\n"))):
        if entry.startswith("# "):
            group = entry[2:]
            continue
        matched = TOLD.fullmatch(" ".join(CHANGE.sub("", entry).split()))
        assert matched, entry
        changes: dict[str, tuple[Change, ...]] = {}
        for where, gates, original, broken in CHANGE.findall(entry):
            for cell in _cells(where):
                module = LAYERS if where.startswith(LAYERS) else textbook_module(cell)
                for gate in gates or "$":
                    change = _change(module, original.replace("$", gate), broken.replace("$", gate))
                    changes[cell] = (*changes.get(cell, ()), change)
        yield Mistake(group=group, changes=changes, **matched.groupdict())


def _for_each_letter(entry: str) -> Iterator[str]:
    """The entries that one stands for, itself if its name has no letters in brackets."""
    matched = SEVERAL.match(entry)
    if not matched:
        yield entry
        return
    name, brackets = matched.groups()
    for letters in itertools.product(*re.findall(r"\w+", brackets)):
        if len(set(letters)) == len(letters):
            told = name + entry[matched.end() :]
            for sign, letter in zip(re.findall("[$%]", name), letters):
                told = told.replace(sign, letter)
            yield told


def _cells(where: str) -> list[str]:
    """Names of the cells that a change is made in."""
    words = set(where.removeprefix(LAYERS).split() or ["all"])
    names = {cell: {"all", cell, facing.cls} for cell, facing in USER_FACING.items()}
    assert words <= set().union(*names.values()), where
    return [cell for cell in names if words & names[cell]]


def _change(module: str, original: str, broken: str) -> Change:
    """A change, its lines indented as the line of the textbook that they replace."""
    if "\n" in broken:
        line = next((line for line in source(module).splitlines() if original in line), "")
        broken = broken.replace("\n" + 11 * " ", "\n" + (len(line) - len(line.lstrip())) * " ")
    return Change(module, original, broken)


def _with_every_order(text: str, known: str, right: str) -> str:
    """A text with every other order of the gates, made from the entry of an order that it has."""
    stem, given = known[: -len(right)], known[-len(right) :]
    (entry,) = (e for e in text.split("\n\n") if e.startswith(f"{known}:"))
    entries = [entry]
    for order in map("".join, itertools.permutations(right)):
        if order != right and f"\n{stem}{order}:" not in text:
            _, *changes = entry.split("\n    ")
            what = f"the gates stand in the order {' '.join(order)} instead of {' '.join(right)}"
            entries.append(f"{stem}{order}: {what}. No system is known to have it.")
            gates = dict(zip(given, order))
            for change in changes:
                left, _, broken = change.partition(" => ")
                parts = re.split(rf"(?<=_h)([{right}])\b|(?<=_)([{right}])\b", broken)
                broken = "".join(gates.get(part, part) for part in parts if part)
                if "dv_n" in left:  # dv differs from du in n alone
                    broken = re.sub("d[uv]_n", "dv_n", re.sub("d[uv]_([rz])", r"du_\1", broken))
                entries[-1] += f"\n    {left} => {broken}"
    return text.replace(entry, "\n\n".join(entries))


_WEIGHTS = _with_every_order(mistakes_weights.TEXT, "lstm-gates-ifog", "ifgo")
_WEIGHTS = _with_every_order(_WEIGHTS, "gru-gates-zrn", "rzn")
MISTAKES = tuple(m for text in (_WEIGHTS, mistakes_cells.TEXT, mistakes_layers.TEXT) for m in _read(text))
_BY_NAME = {mistake.name: mistake for mistake in MISTAKES}


def mistakes(cell: str | None = None) -> tuple[Mistake, ...]:
    """The zoo's mistakes, all of them or those that one cell can have.

    Examples
    --------
    >>> len(mistakes()) >= 60
    True
    >>> [m.name for m in mistakes("rnn_relu") if m.name.startswith("relu-derivative")]
    ['relu-derivative-one-where-a-is-zero', 'relu-derivative-at-zero']
    """
    return tuple(m for m in MISTAKES if cell is None or cell in m.changes)


def mistake(name: str) -> Mistake:
    """One mistake by its name; ValueError if there is none of this name.

    Examples
    --------
    >>> mistake("gru-z-turned-around").what
    'z weighs the candidate and 1 - z the old state'
    """
    if name not in _BY_NAME:
        raise ValueError(f"the zoo has no mistake {name!r}")
    return _BY_NAME[name]
