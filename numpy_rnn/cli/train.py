"""`numpy-rnn train` fits a language model to real text."""

from __future__ import annotations

import importlib
import json
import math
import os
import shlex
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from .. import __version__
from ..fast.memory import keep_freed_memory
from ..train.checkpoint import Checkpoint, write_checkpoint
from ..train.language import read_text
from ..train.loop import Run, require
from ..train.processes import ProcessGroup, SingleProcess, first, started
from ..train.settings import Config
from ..train.task import Task
from ..train.tasks.language import of
from .options import with_settings
from .progress import Display, Interruption, check_out, given, resumed

HELP = "Python's own help"  # the text by default


@click.command(context_settings={"show_default": True}, short_help="Train a model on a text, character by character.")
@click.option("--text", type=click.Path(path_type=Path), help=f"UTF-8 file to learn from.  [default: {HELP}]")
@with_settings("text", "bidirectional", "weight_decay")
@click.option("--steps", type=click.IntRange(1), default=2000, help="Steps in all, those before --resume included.")
@click.option("--backend", type=click.Choice(["numpy", "torch", "both"]), default="numpy", help="both: in lockstep.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where --backend torch computes.")
@click.option("--interval", type=click.IntRange(1), default=100, help="Steps between validations and saves.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default="model.safetensors", help="The model.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint --out.")
@click.option("--overwrite", is_flag=True, help="Replace --out if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, progress on stderr.")
@click.pass_context
def train(
    ctx: click.Context,
    /,
    text: Path | None,
    steps: int,
    backend: str,
    device: str,
    interval: int,
    out: Path,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train a model that predicts the next character of a text, and save it to continue or to `sample` from.

    Losses are in bits per character (or byte), that of training as the mean of the last 100 steps; the last tenth of
    the text is for validation. The weights that do best there are kept beside the last, and are what `sample` uses.
    Ctrl-C saves and leaves; --resume goes on, and ends with the same weights as a run that was never interrupted.
    Started by torchrun, --backend torch trains in several processes, which share each batch.
    """
    keep_freed_memory()
    with Interruption() as interruption:
        check_out(out, resume, overwrite)
        config, before, source = Config.of("text", **settings), None, str(text or HELP)
        if resume:
            asked = steps if given(ctx, "steps") else None
            before, config, steps, backend = resumed(ctx, out, config, lambda _: asked)
        task = of(*read_text(text, config.symbols), name="text", source=source, tested=False)
        group = _group(config, backend, device)
        _check_agreement(group, config, steps, interval, before, task)
        run = Run(config, task, steps, interval, backend, device, group, before)
        with Display(Console(stderr=as_json, quiet=not first()), run, interruption, out) as display:
            display.introduce(source)
            run.train(display.watch, partial(write_checkpoint, out))
            group.leave()
        if first():
            _tell(display, out, as_json)
        if not run.complete:
            display.stop(f"go on with: {_again(ctx)}")


def _group(config: Config, backend: str, device: str) -> SingleProcess:
    """Find the other processes, if there are any, and whether they and the device can be used."""
    size = started()
    require(backend)
    if backend != "torch" and (size > 1 or device != "cpu"):
        what = f"{size} processes" if size > 1 else f"--device {device}"
        raise click.UsageError(f"{what} can be used with --backend torch only, not with {backend}.")
    if size > config.batch:
        raise click.UsageError(f"{size} processes cannot share a --batch of {config.batch}: each needs a window.")
    if device == "cuda":
        _take_gpu(importlib.import_module("torch").cuda)
    return SingleProcess() if size == 1 else ProcessGroup(device)


def _take_gpu(cuda: Any) -> None:
    """Compute on the GPU of this process, which is that of its number among those on its machine."""
    if not cuda.is_available():
        raise click.UsageError("--device cuda: PyTorch finds no GPU here.")
    size, there = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), cuda.device_count()
    if size > there:
        raise click.UsageError(f"--device cuda: {size} processes need a GPU each, PyTorch finds {there} here.")
    cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


def _check_agreement(
    group: SingleProcess, config: Config, steps: int, interval: int, before: Checkpoint | None, task: Task
) -> None:
    """Refuse processes that would train something else than one another."""
    facts = {
        "version of numpy_rnn": __version__,
        "settings": repr(config),
        "--steps": str(steps),
        "--interval": str(interval),
        "text": task.fingerprint,
        "checkpoint": repr(before.history.training[-1:]) if before else "",
    }
    if names := group.differing(facts):
        what = f"the {group.size} processes were not given the same: they differ in {', '.join(names)}"
        raise click.ClickException(f"{what}. All need the same options, text and, to go on, checkpoint.")


def _again(ctx: click.Context) -> str:
    """The command that goes on with a run: what its file does not know is given again."""
    again = ["train", "--resume", "--out", str(ctx.params["out"])]
    for name in ("text", "device", "interval"):
        if given(ctx, name):
            again += [f"--{name}", str(ctx.params[name])]
    if started() == 1:
        return shlex.join(["numpy-rnn", *again])
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    machines = "--standalone" if here == started() else "…"  # which of several, the user knows
    return f"torchrun {machines} --nproc-per-node {here} -m numpy_rnn {shlex.join(again)}"


def _tell(display: Display, out: Path, as_json: bool) -> None:
    run, history = display.run, display.run.history
    best_step, best = history.validation[history.best] if history.validation else (None, None)
    if not as_json:
        kept = ""
        if best_step not in (None, history.steps):
            kept = f", and that after {best_step}, the best, which `sample` uses"
        display.say(f"{out} holds the model after {history.steps} steps{kept}, {run.seconds:.1f} s")
        return
    document = {
        "path": str(out),
        "complete": run.complete,
        "steps": history.steps,
        "unit": display.unit,
        "training": display.loss(history),
        "validation": history.validation[-1][1] / math.log(2) if history.validation else None,
        "best_step": best_step,
        "best_validation": None if best is None else best / math.log(2),
        "seconds": run.seconds,
        "symbols_per_second": display.speed,
        "backend": run.backend,
        "largest_difference": run.learner.difference,
        "data_sha256": run.sha256,
        "config": asdict(run.config),
    }
    click.echo(json.dumps(document, indent=1))
