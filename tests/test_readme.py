"""Every example of the README runs, in English and in Chinese, and every line of code that it quotes exists."""

from __future__ import annotations

import contextlib
import io
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from numpy_rnn.train.tasks import TASKS
from numpy_rnn.train.tasks.table import MARKS

ROOT = pathlib.Path(__file__).parents[1]
README, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/README.zh.md"))
in_both = pytest.mark.parametrize("readme", [README, CHINESE], ids=["en", "zh"])


def blocks(readme: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w+)\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)


@in_both
def test_python_examples_print_what_stands_below_them(readme):
    namespace: dict[str, object] = {}
    ran, found = 0, blocks(readme)
    for (language, code), (next_language, expected) in zip(found, [*found[1:], ("", "")]):
        if language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(code, namespace)
            assert printed.getvalue() == (expected if next_language == "text" else "")
            ran += 1
    assert ran >= 3


def commands(readme: str) -> list[str]:
    lines = [line for language, code in blocks(readme) if language in ("sh", "console") for line in code.splitlines()]
    return [line.removeprefix("$ ").split("  #")[0] for line in lines if re.match(r"(\$ )?(make|numpy-rnn)", line)]


def test_make_targets_exist():
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = [c.split()[1] for c in commands(README) if c.startswith("make")]
    assert {"demo", "test"} <= set(named) <= set(targets)


def test_commands_succeed_one_after_the_other(tmp_path):
    """In one test: some go on from a file of an earlier one, and two test processes would tear them apart."""
    lines = [c for c in commands(README) if c.startswith("numpy-rnn")]
    assert len(lines) >= 5
    for line in lines:
        command = [sys.executable, "-m", "numpy_rnn", *shlex.split(line)[1:]]
        # The demo writes to a folder that make has made.
        (tmp_path / "build").mkdir(exist_ok=True)
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}: {done.stderr}"


def test_the_chinese_readme_has_the_same_examples_and_commands():
    """In the same words but for the comments, so that running the English ones is running these."""

    def code(text):
        return [line.split("#")[0].rstrip() for line in text.splitlines()]

    english, chinese = (
        [code(text) for language, text in blocks(readme) if language in ("python", "console")]
        for readme in (README, CHINESE)
    )
    assert chinese == english
    assert [c.rstrip() for c in commands(CHINESE)] == [c.rstrip() for c in commands(README)]


@in_both
def test_the_table_of_gradients_quotes_the_code(readme):
    source = " ".join((ROOT / "numpy_rnn" / "textbook" / "rnn.py").read_text().split())
    rows = re.findall(r"^\| (?:\(\d'\))? ?\|.*\| (`[^|]+`) \|$", readme, re.MULTILINE)
    assert len(rows) == 7
    quotes = [code for row in rows for code in re.findall(r"`([^`]+)`", row)]
    assert len(quotes) == 9
    for code in quotes:
        assert source.count(code) == 1, code


def test_the_readme_has_the_tables_of_the_tasks_as_they_were_measured():
    measured, shown = (
        page.split(MARKS[0])[1].split(MARKS[1])[0]
        for page in ((ROOT / "docs" / "use" / "tasks.md").read_text(encoding="utf-8"), README)
    )
    assert shown == measured
    for cell in ("rnn", "lstm", "gru"):
        assert all(measured.count(f"| {cell} | {backend} |") == len(TASKS) for backend in ("numpy", "torch"))
