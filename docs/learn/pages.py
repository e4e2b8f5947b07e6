"""Write what the pages beside this file quote: `python docs/learn/pages.py`, with --times the measured table too.

A page quotes between `<!-- NAME: begin -->` and `<!-- NAME: end -->`; tests/test_learn.py runs this and compares.
"""

import argparse
import ast
import difflib
import inspect
import re
import textwrap
from itertools import groupby, zip_longest
from pathlib import Path

import from_textbook_to_fast as steps

from numpy_rnn.textbook import gru, gru_reset_before, lstm

HERE = Path(__file__).parent
PAGES = sorted(HERE.glob("*.md"))


def code(function):
    """Return a function's lines, without its name and docstring."""
    lines = textwrap.dedent(inspect.getsource(function)).splitlines()
    first = ast.parse("\n".join(lines)).body[0].body[1]  # what follows the docstring
    return [line[4:] for line in lines[first.lineno - 1 :]]


def diff(old, new):
    """Show what a step changes."""
    lines = list(difflib.unified_diff(code(old), code(new), lineterm="", n=2))[2:]
    return "```diff\n" + "\n".join("…" if line.startswith("@@") else line for line in lines[1:]) + "\n```"


def python(*functions):
    """Show whole functions."""
    return "```python\n" + "\n\n\n".join(inspect.getsource(function).rstrip() for function in functions) + "\n```"


def equations(function):
    """Return the lines of a function's loop over time, each with its number: [("(1)", "a = …"), …]."""
    loop = next(node for node in ast.walk(ast.parse("\n".join(code(function)))) if isinstance(node, ast.For))
    found, number = [], ""
    for line in code(function)[loop.body[0].lineno - 1 : loop.end_lineno]:
        statement, _, remark = line.strip().partition("  # ")
        number = (re.match(r"\(\d'?\)", remark) or [number])[0]
        if "gates" not in statement:  # what is kept for the way back is no equation
            found.append((number, statement))
    return found


def side_by_side(left, right):
    """Set two functions' loops beside each other, equation by equation, and mark what differs."""
    columns = [{k: [s for _, s in g] for k, g in groupby(equations(f), lambda e: e[0])} for f in (left, right)]
    rows = ["| | `gru.py` | | `gru_reset_before.py` |", "|---|---|:-:|---|"]
    for number in dict.fromkeys([*columns[0], *columns[1]]):
        a, b = (column.get(number, []) for column in columns)
        for _, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
            for one, other in zip_longest(a[i:j], b[k:m]):
                cells = [f"`{text}`" if text else "" for text in (one, other)]
                rows.append(f"| {number} | {cells[0]} | {'' if one == other else '**≠**'} | {cells[1]} |")
    return "\n".join(rows)


def blocks():
    """Return every quotation by its name."""
    return {
        "step 1": diff(lstm.forward, steps.forward_1),
        "step 2": diff(steps.forward_1, steps.forward_2),
        "step 3": python(steps.factors) + "\n\n" + diff(lstm.backward, steps.backward_3),
        "step 4": diff(steps.backward_3, steps.backward_4),
        "step 5": diff(steps.forward_2, steps.forward_5) + "\n\n" + diff(steps.backward_4, steps.backward_5),
        "step 6": python(steps.sigmoids_first, steps.forward_6),
        "GRU forward": side_by_side(gru.forward, gru_reset_before.forward),
        "GRU backward": side_by_side(gru.backward, gru_reset_before.backward),
    }


def fill(text, quotations):
    """Put the quotations between their marks."""
    for name, quotation in quotations.items():
        pattern = rf"(<!-- {name}: begin -->\n).*?(\n?<!-- {name}: end -->)"
        text = re.sub(pattern, lambda m, q=quotation: f"{m[1]}\n{q}\n\n{m[2].lstrip()}", text, flags=re.S)
    return text


def main():
    """Write the pages."""
    parser = argparse.ArgumentParser(description="Write what the pages quote.")
    parser.add_argument("--times", action="store_true", help="measure the table of times, too; takes a minute")
    quotations = blocks()
    if parser.parse_args().times:
        table, machine = steps.table()
        quotations |= {"times": table, "machine": machine}
    for page in PAGES:
        page.write_text(fill(page.read_text("utf-8"), quotations), "utf-8")


if __name__ == "__main__":
    main()
