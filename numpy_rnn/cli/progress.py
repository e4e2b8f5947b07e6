"""What is seen of a training run, and how it is interrupted, saved and resumed."""

from __future__ import annotations

import importlib.util
import math
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..layers.files import MissingLibraryError
from ..train.checkpoint import Checkpoint, read_checkpoint
from ..train.learner import DisagreementError, DivergedError, History
from ..train.loop import Run
from ..train.processes import first, lost, started
from ..train.settings import Config
from .options import check_writable


class Interruption:
    """Turns SIGINT and SIGTERM into a wish to stop; a second one leaves at once."""

    def __init__(self) -> None:
        self.signal = 0  # that came to this process
        self.agreed = 0  # what the processes of a run agree on: another's signal may be known before one's own arrives
        self._handlers: dict[int, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            sys.exit(128 + number)
        self.signal = number

    def __enter__(self) -> Interruption:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


def bar(console: Console, *columns: Any) -> Progress:
    """Make a bar with a few words and the time left: on a terminal only, and gone at the end."""
    shown = (BarColumn(max(10, min(40, console.width - 60))), *columns, TextColumn("{task.description}"))
    return Progress(*shown, TimeRemainingColumn(), console=console, disable=not console.is_terminal, transient=True)


class Display:
    """Shows a run: a bar on a terminal, and with `lines` everywhere a line for each validation.

    If it ends early, one sentence says why.
    """

    def __init__(
        self, console: Console, run: Run, interruption: Interruption, out: Path | None, lines: bool = True
    ) -> None:
        self.run, self.interruption, self.out, self.lines = run, interruption, out, lines
        self.progress = bar(console, MofNCompleteColumn())
        vocabulary = run.task.vocabulary
        self.symbols = vocabulary.kind if vocabulary else "sequences"
        self.unit = f"bits per {vocabulary.kind[:-1]}" if vocabulary else "nats"
        self.scale = 1 / math.log(2) if vocabulary else 1.0  # of losses
        self.task = self.progress.add_task("", total=run.steps, completed=run.history.steps)
        self.before, self.start = run.history.steps, time.perf_counter()

    def introduce(self, title: str) -> None:
        """Say what is trained, and on what."""
        c, task = self.run.config, self.run.task
        layers = f"{c.layers} layer{'s' * (c.layers > 1)} of {c.hidden} units{' both ways' * c.bidirectional}"
        sizes = [s.text.size if task.vocabulary else len(s.x) for s in (task.train, task.validation)]
        self.say(f"{title}: {c.cell}, {layers}, {c.dtype}, {self.run.backend}, seed {c.seed}")
        self.say(f"{sizes[0]:,} and {sizes[1]:,} {self.symbols} to learn from and to validate; losses in {self.unit}")
        if self.before:
            self.say(f"going on after step {self.before}")

    def __enter__(self) -> Display:
        self.progress.start()
        self.start = time.perf_counter()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.progress.stop()
        run, kept = self.run, "nothing was saved"
        if isinstance(error, DisagreementError):
            raise click.ClickException(f"NumPy and PyTorch disagree at step {run.history.steps + 1}: {error}.")
        if isinstance(error, DivergedError):
            if run.saved:
                kept = f"{self.out} is kept as it was after step {run.saved}"
            raise click.ClickException(f"{error}; {kept}. A lower --lr or --clip may help.")
        if isinstance(error, RuntimeError) and started() > 1 and lost(error):
            if run.saved:
                kept = f"{self.out} holds step {run.saved}: go on from there with --resume"
            gone = f"another of the {started()} processes is gone, after step {run.history.steps}"
            click.ClickException(f"{gone}; {kept}.").show()  # at once: torchrun is about to end this process, too
            sys.exit(1)

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def watch(self, history: History, validated: bool) -> bool:
        """Show a step, and say whether it should be the last; on a narrow terminal without what matters least."""
        apart = self.run.learner.difference
        difference = "" if apart is None else f"  NumPy - PyTorch {apart:.1e}"
        words = f"{self.loss(history):.3f} {self.unit}{difference}"
        self.progress.update(self.task, completed=history.steps, description=words)
        if validated and self.lines:
            best = "  best" if history.best == len(history.validation) - 1 else ""
            line = f"step {history.steps:>6}  training {self.loss(history):.3f}"
            line += f"  validation {history.validation[-1][1] * self.scale:.3f}"
            console = self.progress.console
            for part in (f"  {self.speed:,.0f}/s", f"  gradient {history.training[-1].norm:.2f}", difference):
                if len(line + part + best) <= console.width or not console.is_terminal:
                    line += part
            self.say(line + best)
        return self.wants_to_stop()

    def wants_to_stop(self) -> bool:
        """Say whether this step should be the last, in all processes."""
        self.interruption.agreed = self.run.group.most(self.interruption.signal)
        return self.interruption.agreed != 0

    def stop(self, how: str) -> NoReturn:
        """Leave before the end, and say how to go on."""
        click.echo(f"stopped after step {self.run.history.steps} of {self.run.steps}; {how}", err=True)
        sys.exit(128 + self.interruption.agreed)

    def loss(self, history: History) -> float:
        """The mean training loss of the last steps: of an epoch at most, of 100 of a text."""
        steps = 100 if self.run.task.vocabulary else self.run.batches.per_epoch
        return history.recent_loss(steps) * self.scale

    @property
    def speed(self) -> float:
        """Symbols, or sequences, learnt from in a second, validations included."""
        learnt = (self.run.history.steps - self.before) * self.run.config.batch * max(self.run.config.seq_len, 1)
        return learnt / (time.perf_counter() - self.start)


def check_out(out: Path, resume: bool, overwrite: bool) -> None:
    """Find out before the work, not after it, whether its result can be saved."""
    if resume and overwrite:
        raise click.UsageError("--resume goes on from a file and --overwrite replaces it: only one of them can be.")
    if importlib.util.find_spec("safetensors") is None:
        raise MissingLibraryError("saving a model needs safetensors: pip install 'numpy-rnn[cli]'")
    if resume and not out.exists():
        raise click.UsageError(f"there is nothing to resume: {out} does not exist.")
    if not first("GROUP_RANK"):  # on another machine than that which writes
        return
    if out.exists() and not (resume or overwrite):
        raise click.UsageError(f"{out} exists: go on from it with --resume, or replace it with --overwrite.")
    check_writable(out)


def given(ctx: click.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    return ctx.get_parameter_source(name) not in (ParameterSource.DEFAULT, None)


def resumed(
    ctx: click.Context, path: Path, config: Config, steps: Callable[[Config], int | None]
) -> tuple[Checkpoint, Config, int, str]:
    """Read a checkpoint; take config, steps and backend from it, unless the command line says otherwise and may.

    `steps` are what the command line says, None if nothing.
    """
    before = read_checkpoint(path)
    if before.config.task != config.task:
        raise ValueError(f"{path} was trained on {before.config.task}, expected {config.task}")
    for name, old in asdict(before.config).items():
        new = getattr(config, name)
        if old != new and given(ctx, name):
            option = "--" + name.replace("_", "-")
            raise click.UsageError(f"{path} was trained with {option} {old}, it cannot go on with {new}.")
    config, n = before.config, steps(before.config) or before.steps
    if config.schedule == "cosine" and n != before.steps:
        raise click.UsageError(f"{path} was trained with --schedule cosine for {before.steps} steps, not for {n}.")
    if before.history.stalled(config.patience):
        raise click.UsageError(f"{path} has ended by --patience {config.patience}: it has nothing left to do.")
    if n <= before.history.steps:
        raise click.UsageError(f"{path} has taken all of its {before.history.steps} steps: it has nothing left to do.")
    return before, config, n, ctx.params["backend"] if given(ctx, "backend") else before.backend
