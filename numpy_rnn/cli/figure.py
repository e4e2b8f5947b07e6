"""What commands that draw share: the option that names the file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from ..train import figures


def writable(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Find out before the work, not after it, whether a figure can be drawn and written; a click callback."""
    if value is None:
        return None
    if value.suffix not in figures.SUFFIXES:
        raise click.BadParameter(f"{value}: the name must end in {' or '.join(figures.SUFFIXES)}.", ctx, param)
    figures.matplotlib()
    try:
        with tempfile.TemporaryFile(dir=value.parent):
            pass
    except OSError as error:
        raise click.BadParameter(f"cannot write to {value.parent}: {error.strerror}.", ctx, param) from None
    return value
