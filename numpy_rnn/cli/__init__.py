"""The `numpy-rnn` command. Needs the extra `cli`; `numpy_rnn.__main__` says so where it is missing."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from .. import __version__
from ..layers.files import MissingLibraryError
from ..train.processes import let_the_first_speak
from .check import check
from .convert import convert
from .experiment import experiment
from .gradflow import gradflow
from .sample import sample
from .task import task
from .trace import trace
from .train import train
from .vectors import vectors
from .zoo import zoo


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="numpy-rnn")
def command() -> None:
    """Recurrent networks in pure NumPy with hand-written backpropagation through time, held against PyTorch."""


for subcommand in (check, trace, gradflow, experiment, train, sample, task, vectors, convert, zoo):
    command.add_command(subcommand)


def main() -> None:
    """Run the command; a user's mistake becomes one sentence on stderr and exit status 1 or 2, Ctrl-C 130."""
    try:
        sys.exit(command(prog_name="numpy-rnn", standalone_mode=False))
    except click.Abort:
        click.echo("numpy-rnn: interrupted", err=True)
        sys.exit(130)
    except (click.ClickException, ValueError, MissingLibraryError, MemoryError, OSError) as error:
        let_the_first_speak()
        fail(error)


def fail(error: Exception) -> NoReturn:
    """Say what is wrong, and end."""
    if isinstance(error, click.ClickException):
        error.show()
        sys.exit(error.exit_code)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"numpy-rnn: {where}{error.strerror or error}")
    what = "this does not fit into memory: " if isinstance(error, MemoryError) else ""
    sys.exit(f"numpy-rnn: {what}{error}")
