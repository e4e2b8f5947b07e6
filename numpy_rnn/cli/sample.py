"""`numpy-rnn sample` lets a trained language model write."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import click
import numpy as np

from ..train.checkpoint import read_language_model
from ..train.language import generate


@click.command(context_settings={"show_default": True}, short_help="Let a model that train saved write.")
@click.argument("checkpoint", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--prompt", default="", help="What the text begins with; a new line by default.", show_default=False)
@click.option("--temperature", type=click.FloatRange(0), default=0.7, help="0 always takes the likeliest symbol.")
@click.option("--length", type=click.IntRange(0), default=500, help="Characters (or bytes) to write.")
@click.option("--seed", type=click.IntRange(0), default=0)
def sample(checkpoint: Path, prompt: str, temperature: float, length: int, seed: int) -> None:
    """Write text with a model that `train` saved to CHECKPOINT."""
    found, vocabulary = read_language_model(checkpoint)
    model = found.model()
    start = vocabulary.encode(prompt)
    if len(start) == 0:
        start = vocabulary.encode("\n") if ord("\n") in vocabulary.codes else np.array([0])
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a character shows a ? instead
    click.echo(prompt, nl=False)
    for piece in vocabulary.decode(generate(model, start, length, temperature, seed)):
        click.echo(piece, nl=False)
    click.echo()
