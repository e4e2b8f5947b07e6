"""`numpy-rnn train` fits a language model to real text."""

from __future__ import annotations

import importlib
import json
import math
import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from .. import __version__
from ..fast.memory import keep_freed_memory
from ..train.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from ..train.lockstep import Lockstep
from ..train.loop import Run, best_validation, require
from ..train.processes import ProcessGroup, SingleProcess, first, started
from ..train.settings import Config
from ..train.task import Task
from ..train.tasks.language import of
from ..train.text import read_text
from .options import with_settings
from .progress import Display, Interruption, check_out, given, resumed, shown

DEFAULTS = {
    "symbols": "characters",
    "cell": "gru",
    "layers": 1,
    "hidden": 128,
    "embedding": 64,
    "seq_len": 64,
    "batch": 32,
    "lr": 0.005,
    "schedule": "constant",
    "clip": 1.0,
    "patience": 0,
    "seed": 0,
    "dtype": "float32",
}


@click.command(context_settings={"show_default": True}, short_help="Train a model on a text, character by character.")
@click.option("--text", type=click.Path(path_type=Path), help="UTF-8 file to learn from.  [default: Python's own help]")
@with_settings(DEFAULTS, "bidirectional", "weight_decay")
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
        config = Config(task="text", bidirectional=False, weight_decay=0.0, **settings)
        before = read_checkpoint(out) if resume else None
        if before is not None:
            config, steps, backend = resumed(ctx, out, before, config, steps if given(ctx, "steps") else None)
        task = _task(text, config, before)
        group = _group(config, backend, device)
        _check_agreement(group, config, steps, interval, before, task)
        console = Console(stderr=as_json, quiet=not first())

        def make() -> Run:
            return Run(config, task, steps, interval, backend, device, group, before)

        with shown(make, console, interruption, str(text or "Python's own help"), out) as display:
            run = display.run
            run.train(display.watch, lambda checkpoint: write_checkpoint(out, checkpoint))
            group.leave()
        if first():
            _tell(display, out, as_json)
            if not run.complete:
                click.echo(f"stopped after step {run.history.steps} of {steps}; go on with: {_again(ctx)}", err=True)
    if not run.complete:
        sys.exit(128 + interruption.agreed)


def _task(path: Path | None, config: Config, before: Checkpoint | None) -> Task:
    """Read what is to be learnt; a run that goes on needs what it has learnt from."""
    task = of(read_text(path, config.symbols))._replace(name="text")
    if before is not None and before.sha256 != task.fingerprint:
        wanted = "the text given with --text" if path else "Python's own help, the default text,"
        raise click.UsageError(f"{wanted} is not the one that the checkpoint was trained on (they differ in SHA-256).")
    return task


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
    run, history, learner = display.run, display.run.history, display.run.learner
    best = best_validation(history) if history.validation else None
    if not as_json:
        kept = ""
        if best is not None and (step := history.validation[best][0]) != history.steps:
            kept = f", and that after {step}, the best, which `sample` uses"
        display.say(f"{out} holds the model after {history.steps} steps{kept}, {display.seconds:.1f} s")
        return
    losses = [loss / math.log(2) for _, loss in history.validation]
    document = {
        "path": str(out),
        "complete": run.complete,
        "steps": history.steps,
        "unit": display.unit,
        "training": display.loss(history),
        "validation": losses[-1] if losses else None,
        "best_step": None if best is None else history.validation[best][0],
        "best_validation": None if best is None else losses[best],
        "seconds": display.seconds,
        "symbols_per_second": display.speed,
        "backend": run.backend,
        "largest_difference": learner.difference if isinstance(learner, Lockstep) else None,
        "data_sha256": run.sha256,
        "config": asdict(run.config),
    }
    click.echo(json.dumps(document, indent=1))
