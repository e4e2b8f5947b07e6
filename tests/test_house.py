"""The house stands as DESIGN has it: imports lead down only, NumPy's half needs no PyTorch, links lead somewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import numpy_rnn

PACKAGE = Path(numpy_rnn.__file__).parent
# From the ground floor up; a floor may use those below it and itself.
FLOORS = ("textbook", "fast", "layers", "verify", "train", "port", "study", "cli")
# They compare or train with PyTorch when they are asked to, and import it then.
WITH_TORCH = {"verify/compare.py", "train/torch_learner.py", "cli/check.py"}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Absolute names of the modules that a file imports, and whether it does so when it is imported itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    outside = set(tree.body)
    package = ("numpy_rnn", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in outside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((f"{module}.{alias.name}", node in outside) for alias in node.names)


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_lead_down(floor):
    above = FLOORS[FLOORS.index(floor) + 1 :]
    for path in (PACKAGE / floor).rglob("*.py"):
        for name, _ in imports(path):
            assert name.split(".")[1:2] not in [[f] for f in above if name.startswith("numpy_rnn.")], f"{path}: {name}"


def test_pytorch_is_asked_for_by_few():
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] == "torch_rnn" for name, _ in imports(path))
    }
    assert found == WITH_TORCH
    for path in PACKAGE.rglob("*.py"):
        eager = [
            name for name, at_import in imports(path) if at_import and name.split(".")[0] in ("torch", "torch_rnn")
        ]
        assert not eager or path.name == "torch_learner.py", f"{path}: {eager}"


def test_links_of_documents_lead_somewhere():
    def slug(heading: str) -> str:
        return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")

    root, checked = PACKAGE.parent, 0
    for document in (*root.glob("*.md"), *(root / "docs").rglob("*.md")):
        text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\((?![a-z]+:)([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            file = document.parent / path if path else document
            assert file.exists(), f"{document}: {target}"
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
            assert not anchor or anchor in map(slug, headings), f"{document}: {target}"
            checked += 1
    assert checked > 200
