"""What all commands of `numpy-rnn` have in common: how they end."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from numpy_rnn import cli
from numpy_rnn.cli.options import CellName


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (None, 0, ""),
        (KeyboardInterrupt(), 130, "\nnumpy-rnn: interrupted\n"),
        (ValueError("T is 0, expected at least 1"), "numpy-rnn: T is 0, expected at least 1", ""),
        (OSError(28, "No space left on device", "out.npz"), "numpy-rnn: out.npz: No space left on device", ""),
        (click.ClickException("in.npz: there is no tensor."), 1, "Error: in.npz: there is no tensor.\n"),
    ],
)
def test_every_command_ends_with_one_sentence_and_a_status(monkeypatch, capsys, raised, status, said):
    @click.command()
    def ended():
        if raised:
            raise raised

    monkeypatch.setitem(cli.command.commands, "ended", ended)
    monkeypatch.setattr("sys.argv", ["numpy-rnn", "ended"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert (end.value.code or 0) == status  # a text is printed by the interpreter, with status 1
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--version"], 0, ""),
        (["--help"], 0, ""),
        (["--nope"], 2, "No such option"),
        (["check", "--nope"], 2, "--nope"),
    ],
)
def test_help_and_a_wrong_word_have_their_statuses(monkeypatch, capsys, arguments, status, said):
    monkeypatch.setattr("sys.argv", ["numpy-rnn", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert (end.value.code or 0) == status
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [(["--version"], 0, ""), (["--nope"], 2, "No such option"), (["sample", "missing"], 1, "No such file")],
)
def test_one_of_several_processes_has_the_same_statuses(arguments, status, said):
    env = {**os.environ, "TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    command = [sys.executable, "-m", "numpy_rnn", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_zoo_lists_plants_and_names(command):
    status, out, _ = command("zoo", "--cell", "gru")
    assert status == 0
    assert "gru-z-turned-around" in out
    assert "lstm-" not in out
    status, out, _ = command("zoo", "lstm-path-through-c-dropped")
    assert status == 0
    assert "-        dc[t] += dc[t + 1] * f" in out
    assert "First wrong number, of the case 'plain': dx[2, 1, 1]" in out
    assert out.count("(lstm-path-through-c-dropped)") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["zoo", "nope"], "the zoo has no mistake 'nope'; `numpy-rnn zoo` lists them all"),
        (["zoo", "lstm-path-through-c-dropped", "--cell", "gru"], "gru cannot have lstm-path-through-c-dropped, only"),
    ],
)
def test_a_wrong_question_to_the_zoo_gets_a_sentence(command, arguments, said):
    status, _, err = command(*arguments)
    assert status == 2
    assert said in err


def options_named_cell(group=cli.command):
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from options_named_cell(command)
        yield from (option for option in command.params if "--cell" in option.opts)


@pytest.mark.parametrize("given", ["lstm", "LSTM", "Lstm"])
def test_every_command_reads_the_name_of_a_cell_in_any_case(given):
    options = [option for option in options_named_cell() if isinstance(option.type, CellName)]
    assert len(options) >= 6
    assert {option.type.convert(given, option, None) for option in options} == {"lstm"}


def test_a_cell_that_there_is_not_is_answered_by_one_sentence():
    for option in options_named_cell():
        if isinstance(option.type, CellName):
            with pytest.raises(click.BadParameter) as error:
                option.type.convert("elman", option, None)
            assert error.value.message == f"cell is 'elman', expected {', '.join(option.type.choices)}."


def test_rnn_is_the_cell_with_tanh():
    assert CellName(["rnn", "lstm"]).convert("RNN_tanh", None, None) == "rnn"
    assert CellName(["rnn_tanh", "lstm"]).convert("RNN", None, None) == "rnn_tanh"


def groups(group, path=()):
    yield [*path], group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from groups(command, [*path, name])


@pytest.mark.parametrize(
    ("path", "group"), list(groups(cli.command)), ids=lambda x: "-".join(x) if x and isinstance(x, list) else ""
)
def test_every_command_is_explained_in_a_line_of_80_columns(path, group):
    done = CliRunner().invoke(cli.command, [*path, "--help"], terminal_width=80)
    assert done.exit_code == 0
    lines = done.output.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in lines] == group.list_commands(None)  # none goes on in a second line
    assert all(len(line.split()) > 3 and line.endswith((".", "?")) and "..." not in line for line in lines)
