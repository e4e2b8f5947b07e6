"""Score of the last mutation run; `make mutation` calls it. Every survivor must be explained in docs/verify/mutation.md.

Exit status 0 only if at least 98 % of the mutants are killed and no survivor is unexplained.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
GOAL = 0.98


def mutmut(*arguments: str) -> str:
    command = [pathlib.Path(sys.executable).with_name("mutmut"), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def change(mutant: str) -> tuple[str, str, str]:
    """File, line as it is, line as the mutant has it (empty: the mutant drops it)."""
    lines = mutmut("show", mutant).splitlines()
    file = next(line for line in lines if line.startswith("--- ")).removeprefix("--- ")
    before, after = (
        " ".join(" ".join(line[1:] for line in lines if line[:1] == sign and line[:3] != 3 * sign).split())
        for sign in "-+"
    )
    return file, before, after


def main() -> None:
    mutmut("export-cicd-stats")
    stats = json.loads((ROOT / "mutants" / "mutmut-cicd-stats.json").read_text())
    survivors = [line.split(":")[0].strip() for line in mutmut("results").splitlines() if line.endswith(": survived")]
    killed = stats["killed"] + stats["timeout"] + stats["segfault"]
    score = killed / stats["total"]
    print(f"{killed} of {stats['total']} mutants killed, {score:.1%} (goal {GOAL:.0%})")
    explained = " ".join((ROOT / "docs" / "verify" / "mutation.md").read_text().split())
    unexplained = 0
    for file, before, after in map(change, survivors):
        # As the page quotes it; the diff, not the mutant's number, which moves with every edit.
        if f"`{after}`" not in explained:
            unexplained += 1
            print(f"survived, not explained in docs/verify/mutation.md: {file}\n  - {before}\n  + {after}")
    untested = stats["total"] - killed - stats["survived"]
    if untested:
        print(f"{untested} mutants were not run to an end")
    sys.exit(score < GOAL or unexplained > 0 or untested > 0)


if __name__ == "__main__":
    main()
