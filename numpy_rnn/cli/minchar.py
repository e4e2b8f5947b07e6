"""`numpy-rnn minchar` trains as min-char-rnn does, and shows the loss that it shows."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from ..train import figures
from ..train.language import KINDS, generate
from ..train.loop import DivergedError, History, run
from ..train.tasks.minchar import HIDDEN, WINDOW, Learner, initial_model, smooth, streams
from ..train.text import Text, read_text, validation_batches
from ..train.threads import fitting_threads
from .figure import writable
from .progress import training_bar
from .train import Interruption


@click.command(context_settings={"show_default": True})
@click.option("--text", type=click.Path(path_type=Path), help="UTF-8 file to learn from.  [default: Python's own help]")
@click.option("--symbols", type=click.Choice(KINDS), default="characters", help="What the model reads and writes.")
@click.option("--steps", type=click.IntRange(1), default=20_000, help="Windows of 25 symbols.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the initial weights and of what it writes.")
@click.option("--interval", type=click.IntRange(1), default=1000, help="Steps between two lines.")
@click.option("--length", type=click.IntRange(0), default=200, help="Characters (or bytes) to write at the end.")
@click.option(
    "--figure",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=writable,
    help="Draw the loss: .png or .svg. An old one is replaced.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, progress on stderr.")
def minchar(
    text: Path | None,
    symbols: str,
    steps: int,
    seed: int,
    interval: int,
    length: int,
    figure: Path | None,
    as_json: bool,
) -> None:
    """Train in the setting of min-char-rnn, the one-file language model of A. Karpathy (2015).

    One layer of 100 tanh units, windows of 25 characters of one stream, Adagrad with a learning rate of 0.1, each
    number of a gradient cut to ±5. "smooth" is the loss as min-char-rnn prints it: natural units for a window of 25,
    smoothed over a thousand steps, at first that of guessing. The last tenth of the text is not learned from: it is
    for validation, read as by `numpy-rnn ngrams`, so that the figures compare.
    """
    read = read_text(text, symbols)
    learner, windows = Learner(initial_model(len(read.vocabulary), seed)), streams(read.training)
    history, console = History([], []), Console(stderr=as_json)
    with Interruption() as interruption:
        with fitting_threads(1, HIDDEN), Display(console, read, steps, interruption) as display:
            try:
                complete = run(
                    learner,
                    windows.batch,
                    lambda: validation_batches(read.validation, B=1, T=512),
                    lambda history: None,
                    history,
                    steps,
                    interval,
                    display,
                )
            except DivergedError as error:
                raise click.ClickException(f"{error}.") from None
        written = _written(learner, read, length, seed)
        if figure is not None:
            figures.write(_drawn(history, read), figure)
    if as_json:
        click.echo(json.dumps(_document(history, read, complete, written, figure), indent=1))
    elif written:
        click.echo(f"----\n{written}\n----")
    if figure is not None and not as_json:
        click.echo(f"{figure} holds the figure")
    if not complete:
        click.echo(f"stopped after step {history.steps} of {steps}", err=True)
        sys.exit(128 + interruption.signal)


class Display:
    """What is seen of a run: a bar on a terminal, and everywhere a line for each validation."""

    def __init__(self, console: Console, text: Text, steps: int, interruption: Interruption) -> None:
        self.text, self.steps, self.interruption = text, steps, interruption
        self.progress = training_bar(console)

    def __enter__(self) -> Display:
        vocabulary, guessing = self.text.vocabulary, WINDOW * math.log(len(self.text.vocabulary))
        self.progress.start()
        self.say(f"{len(vocabulary)} different {vocabulary.kind}; guessing costs {guessing:.3f} a window")
        self.task = self.progress.add_task("", total=self.steps)
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def stepped(self, history: History) -> None:
        """Take note of a step."""
        self.progress.update(self.task, completed=history.steps)

    def validated(self, history: History) -> None:
        """Take note of a validation."""
        loss = _smooth(history, self.text)[-1]
        bits = loss / WINDOW / math.log(2)
        validation = history.validation[-1][1] / math.log(2)
        unit = _unit(self.text)
        self.say(f"step {history.steps:>6}  smooth {loss:7.3f}  = {bits:.3f}, validation {validation:.3f} {unit}")

    def wants_to_stop(self) -> bool:
        """Say whether this step should be the last."""
        return self.interruption.signal != 0


def _smooth(history: History, text: Text) -> Any:
    return smooth([result.loss for result in history.training], len(text.vocabulary))


def _unit(text: Text) -> str:
    return "bits per character" if text.vocabulary.kind == "characters" else "bits per byte"


def _written(learner: Learner, text: Text, length: int, seed: int) -> str:
    """Let the model go on from the first symbol of the text."""
    return "".join(text.vocabulary.decode(generate(learner.model, text.training[:1], length, 1.0, seed)))


def _drawn(history: History, text: Text) -> Any:
    """Draw the smooth loss of every step, and each validation."""
    matplotlib = figures.matplotlib()
    with matplotlib.rc_context(figures.RC):
        figure = matplotlib.figure.Figure(figsize=(figures.WIDTH, figures.WIDTH / 2.5), layout="constrained")
        axes = figure.add_subplot()
        bits = _smooth(history, text) / WINDOW / math.log(2)
        axes.plot(np.arange(1, len(bits) + 1), bits, color=figures.BLUE, label="smooth loss of training")
        if history.validation:
            steps, losses = np.array(history.validation).T
            axes.plot(steps, losses / math.log(2), "o", color=figures.ORANGE, markersize=3, label="validation")
        axes.set_xlabel(f"step, of {WINDOW} {text.vocabulary.kind}")
        axes.set_ylabel(_unit(text))
        axes.legend()
    return figure


def _document(history: History, text: Text, complete: bool, written: str, figure: Path | None) -> dict[str, Any]:
    curve = _smooth(history, text)
    return {
        "complete": complete,
        "steps": history.steps,
        "text_sha256": text.sha256,
        "vocabulary_size": len(text.vocabulary),
        "unit": _unit(text),
        "smooth_loss": curve[-1],
        "training": curve[-1] / WINDOW / math.log(2),
        "validation": history.validation[-1][1] / math.log(2) if history.validation else None,
        "curve": [
            {"step": step, "smooth_loss": curve[step - 1], "validation": loss / math.log(2)}
            for step, loss in history.validation
        ],
        "written": written,
        "figure": None if figure is None else str(figure),
    }
