"""Profiles of hypothesis, and one random seed for a whole run, printed and repeatable, also over several processes."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
from pathlib import Path

import hypothesis
import pytest
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.database import DirectoryBasedExampleDatabase

# PyTorch's own test utilities, which test_torch_dropins.py needs, load a profile of theirs (10 examples, no database)
# when they are first imported. Let them do so before ours is loaded, not in the middle of the run.
with contextlib.suppress(ImportError):
    import torch.testing._internal.common_utils  # noqa: F401

HOME = Path(__file__).parents[1] / ".hypothesis"
set_hypothesis_home_dir(HOME)

# No deadline: a busy machine is no failure. (Without one, the health check for slow drawing waits for 30 seconds
# spent on ten draws that take ten milliseconds, so it may stay.) With the parent given, nothing is inherited from
# hypothesis' own "ci" profile, which loads itself where CI is set, and draws the same examples in every run.
_common = {
    "parent": hypothesis.settings.get_profile("default"),
    "deadline": None,
    "derandomize": False,
    "database": DirectoryBasedExampleDatabase(HOME / "examples"),
    "print_blob": True,
}
hypothesis.settings.register_profile("quick", max_examples=100, **_common)
# For `make mutation`, where it only matters that a test fails: making the example small takes ten times as long.
hypothesis.settings.register_profile("mutation", max_examples=100, phases=[hypothesis.Phase.generate], **_common)
hypothesis.settings.register_profile("thorough", max_examples=40_000, **_common)
# --hypothesis-profile, where given, is loaded later and wins.
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

SEED = pytest.StashKey[str]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Take the run's seed from the command line or, in a worker of xdist, from the main process; else draw one."""
    # A shell starts what it runs in the background with Ctrl-C ignored, and every child inherits that: the tests that
    # interrupt a command would wait for ever.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    given = getattr(config, "workerinput", {}).get("hypothesis_seed") or config.getoption("hypothesis_seed", None)
    config.stash[SEED] = given or str(secrets.randbelow(2**32))
    config.option.hypothesis_seed = config.stash[SEED]  # hypothesis' plugin reads it next, for runs within a test


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Hand the seed to a worker of xdist."""
    node.workerinput["hypothesis_seed"] = node.config.stash[SEED]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Seed each test by the run's seed and its own name: by the seed alone, all would draw the same cases."""
    function = getattr(item, "obj", None)
    if hypothesis.is_hypothesis_test(function):
        hypothesis.seed(f"{item.config.stash[SEED]} {item.name}")(getattr(function, "__func__", function))


def _line(config: pytest.Config) -> str:
    profile = hypothesis.settings.get_current_profile_name()
    return f"hypothesis: profile {profile}; the same cases again: --hypothesis-seed={config.stash[SEED]}"


def pytest_report_header(config: pytest.Config) -> str:
    return _line(config)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Once more at the end, where there was no header (-q)."""
    if config.option.verbose < 0:
        terminalreporter.write_line(_line(config))


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run `numpy-rnn` in this process, in an empty folder; returns status, stdout, stderr."""
    cli = pytest.importorskip("numpy_rnn.cli")
    monkeypatch.chdir(tmp_path)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["numpy-rnn", *map(str, args)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        if isinstance(exit_.value.code, str):
            return 1, out, err + exit_.value.code + "\n"
        return exit_.value.code or 0, out, err

    return run


@pytest.fixture
def tiny_tensors():
    """PyTorch on one thread, with the same random numbers every time."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def book(tmp_path):
    """A text of 748 characters: with `runs.TINY` its training part is 21 windows long, so 30 steps go round it."""
    from numpy_rnn.train.language import default_text

    path = tmp_path / "book.txt"
    path.write_text(default_text()[:748], encoding="utf-8")
    return path
