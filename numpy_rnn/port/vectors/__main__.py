"""Makes the suite anew: `python -m numpy_rnn.port.vectors` writes the cases where the package keeps them.

With a Markdown file as argument it writes the equations of all cells between two marks of that file instead.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from ...fast.registry import CELLS
from ...layers.files import put_between_marks
from .document import GATES, SCHEMA, document, text
from .suite import SUITE, suite
from .trace import equations, joined


def write(folder: Path) -> None:
    """Write a file for each case, and an index with the hash of them all."""
    folder.mkdir(parents=True, exist_ok=True)
    found = [document(entry) for entry in suite()]
    for case in found:
        (folder / f"{case['name']}.json").write_text(text(case), encoding="utf-8")
    whole = hashlib.sha256("".join(case["sha256"] for case in found).encode()).hexdigest()
    index = {"suite": SUITE, "schema": SCHEMA, "sha256": whole, "cases": [case["name"] for case in found]}
    (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    print(f"{len(found)} cases in {folder}")


def tables() -> Iterator[str]:
    """The equations of each cell, forward and backward, as Markdown."""
    for cell in CELLS:
        yield f"**{cell}**: {GATES[cell]}\n"
        yield "| forward, for t = 0 … T-1 | | backward, for t = T-1 … 0 | |\n|---|---|---|---|"
        forward, backward = ([*lines.items()] for lines in equations(cell).values())
        for k in range(max(len(forward), len(backward))):
            cells = [*(forward[k] if k < len(forward) else ("", "")), *(backward[k] if k < len(backward) else ("", ""))]
            yield "| " + " | ".join(f"`{c}`" if c else "" for c in cells) + " |"
        parts = [f"`{name} = ({', '.join(made_of)})`" for name, made_of in joined(cell).items()]
        if parts:
            yield f"\nwhere {' and '.join(parts)}, one under the other."
        yield ""


if __name__ == "__main__":
    if len(sys.argv) > 1:
        put_between_marks(sys.argv[1], "equations", "\n".join(tables()))
    else:
        write(Path(__file__).parent / "published")
