"""Every example of the README runs, and every line of code that it quotes exists."""

from __future__ import annotations

import contextlib
import io
import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_python_examples_print_what_stands_below_them():
    namespace: dict[str, object] = {}
    ran = 0
    for (language, code), (next_language, expected) in zip(BLOCKS, [*BLOCKS[1:], ("", "")]):
        if language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(code, namespace)
            assert printed.getvalue() == (expected if next_language == "text" else "")
            ran += 1
    assert ran >= 3


def commands() -> list[str]:
    lines = [line for language, code in BLOCKS if language in ("sh", "console") for line in code.splitlines()]
    return [line.removeprefix("$ ").split("  #")[0] for line in lines if re.match(r"(\$ )?(make|numpy-rnn)", line)]


def test_make_targets_exist():
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = [c.split()[1] for c in commands() if c.startswith("make")]
    assert {"demo", "test"} <= set(named) <= set(targets)


def test_commands_succeed_one_after_the_other(tmp_path):
    """In one test: some go on from a file of an earlier one, and two test processes would tear them apart."""
    lines = [c for c in commands() if c.startswith("numpy-rnn")]
    assert len(lines) >= 5
    for line in lines:
        command = [sys.executable, "-m", "numpy_rnn", *shlex.split(line)[1:]]
        # The demo writes to a folder that make has made.
        (tmp_path / "build").mkdir(exist_ok=True)
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}: {done.stderr}"


def test_the_table_of_gradients_quotes_the_code():
    source = " ".join((ROOT / "numpy_rnn" / "rnn.py").read_text().split())
    rows = re.findall(r"^\| (?:\(\d'\))? ?\|.*\| (`[^|]+`) \|$", README, re.MULTILINE)
    assert len(rows) == 7
    quotes = [code for row in rows for code in re.findall(r"`([^`]+)`", row)]
    assert len(quotes) == 10
    for code in quotes:
        assert source.count(code) == 1, code
