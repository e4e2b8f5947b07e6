"""`python -m numpy_rnn.verify.zoo [FILE]` writes the catalogue of mistakes, to docs/bug-zoo.md by default."""

from __future__ import annotations

import sys
from pathlib import Path

from .report import kills, markdown


def main(arguments: list[str]) -> int:
    """Write the page; exit status 1 if a mistake survives all checks."""
    path = Path(arguments[0] if arguments else "docs/bug-zoo.md")
    found = kills()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(markdown(found), encoding="utf-8")
    survivors = [name for name, cells in found.items() if not all(cells.values())]
    if survivors:
        print(f"not killed: {', '.join(survivors)}", file=sys.stderr)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
