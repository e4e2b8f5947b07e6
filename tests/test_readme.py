"""Every example and command of the README runs, in English and in Chinese, and what it quotes is what stands there."""

from __future__ import annotations

import contextlib
import inspect
import io
import pathlib
import re
import shlex

import pytest
from click.testing import CliRunner

from benchmarks import measurements, report
from numpy_rnn.cli import command
from numpy_rnn.textbook import rnn
from numpy_rnn.verify import zoo

ROOT = pathlib.Path(__file__).parents[1]
FILES = {"en": ROOT / "README.md", "zh": ROOT / "docs" / "README.zh.md"}
TEXTS = {language: path.read_text(encoding="utf-8") for language, path in FILES.items()}
in_both = pytest.mark.parametrize("language", TEXTS)


def blocks(readme: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w+)\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)


def commands(readme: str) -> list[str]:
    lines = [line for kind, code in blocks(readme) if kind in ("sh", "console") for line in code.splitlines()]
    return [line.removeprefix("$ ").split("  #")[0].rstrip() for line in lines]


@in_both
def test_it_is_short(language):
    assert len(TEXTS[language].splitlines()) <= 200


@in_both
def test_python_examples_print_what_stands_below_them(language):
    namespace: dict[str, object] = {}
    ran, found = 0, blocks(TEXTS[language])
    for (kind, code), (next_kind, expected) in zip(found, [*found[1:], ("", "")]):
        if kind == "python" and not code.startswith("def backward"):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(code, namespace)
            assert printed.getvalue() == (expected if next_kind == "text" else "")
            ran += 1
    assert ran == 3


@in_both
def test_the_manual_gradient_is_the_textbooks(language):
    assert f"```python\n{inspect.getsource(rnn.backward)}```" in TEXTS[language]


@in_both
def test_its_figures_are_those_of_the_measurements(language):
    results = measurements.load(ROOT / "benchmarks" / "results" / "cpu.json")
    assert report.readme_rows(results).strip() in TEXTS[language]
    assert str(len(zoo.mistakes())) in TEXTS[language]


def test_make_targets_exist():
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = [command.split()[1] for command in commands(TEXTS["en"]) if command.startswith("make")]
    assert named == ["demo", "test"]
    assert {*named, *re.findall(r"`make ([\w-]+)`", TEXTS["en"])} <= set(targets)


def test_commands_succeed_one_after_the_other(tmp_path, monkeypatch):
    """In one test: some go on from a file of an earlier one, and two test processes would tear them apart."""
    named = re.findall(r"`(numpy-rnn \w+ [^`]+)`", TEXTS["en"])
    lines = [c for c in [*commands(TEXTS["en"]), *named] if c.startswith("numpy-rnn") and "vectors check" not in c]
    assert len(lines) >= 8
    monkeypatch.chdir(tmp_path)
    for line in lines:
        done = CliRunner().invoke(command, shlex.split(line)[1:])
        assert done.exit_code == 0, f"{line}: {done.output}"


def test_both_languages_have_the_same_sections_examples_and_commands():
    def code(text):
        """The words but for the comments, so that running the English ones is running these."""
        return [line.split("#")[0].rstrip() for line in text.splitlines()]

    def shape(language):
        text = TEXTS[language]
        examples = [code(block) for kind, block in blocks(text) if kind in ("python", "console", "text")]
        return examples, commands(text), len(re.findall("^## ", text, re.MULTILINE)), text.count("\n|")

    assert shape("en") == shape("zh")
