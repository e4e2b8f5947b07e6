"""`python -m numpy_rnn.vectors` computes the suite anew and writes it where the package keeps it."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from .document import SCHEMA, document, text
from .suite import SUITE, suite


def main(folder: Path) -> int:
    """Write a file for each case, and an index with the hash of them all."""
    folder.mkdir(parents=True, exist_ok=True)
    found = [document(entry) for entry in suite()]
    for case in found:
        (folder / f"{case['name']}.json").write_text(text(case), encoding="utf-8")
    whole = hashlib.sha256("".join(case["sha256"] for case in found).encode()).hexdigest()
    index = {"suite": SUITE, "schema": SCHEMA, "sha256": whole, "cases": [case["name"] for case in found]}
    (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    print(f"{len(found)} cases in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).parent / "published"))
