"""`numpy-rnn train` fits a language model to real text."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import math
import os
import shlex
import signal
import sys
import tempfile
import time
from dataclasses import asdict, fields
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import click
from click.core import ParameterSource
from rich.console import Console

from .. import __version__
from ..fast.memory import keep_freed_memory
from ..layers.files import MissingLibraryError
from ..layers.network import CELLS
from ..train.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from ..train.events import recorded, writer_class
from ..train.language import KINDS
from ..train.learner import Learner, NumPyLearner, Weights
from ..train.lockstep import DisagreementError, Lockstep
from ..train.loop import DivergedError, History, Observer, State, best_validation, fit, stalled
from ..train.processes import Alone, ProcessLostError, Together, attempt, first, heard, lost, on_first_machine, started
from ..train.schedule import SCHEDULES, learning_rate
from ..train.settings import Config, problem
from ..train.text import Streams, Text, read_text, validation_batches
from ..train.threads import fitting_threads
from .progress import training_bar

BACKENDS = ("numpy", "torch", "both")
DEVICES = ("cpu", "cuda")


def finite(ctx: click.Context, param: click.Parameter, value: float) -> float:
    """Refuse NaN and infinity; a click callback."""
    if not math.isfinite(value):  # which a FloatRange lets through
        raise click.BadParameter(f"{value} is not a finite number.", ctx, param)
    return value


def events_folder(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Find out before the work whether event files can be written; a click callback."""
    if value is not None:
        writer_class()
    return value


@click.command(context_settings={"show_default": True})
@click.option("--text", type=click.Path(path_type=Path), help="UTF-8 file to learn from.  [default: Python's own help]")
@click.option("--symbols", type=click.Choice(KINDS), default="characters", help="What the model reads and writes.")
@click.option("--cell", type=click.Choice(list(CELLS)), default="gru", help="Kind of recurrent layer.")
@click.option("--layers", type=click.IntRange(1), default=1, help="Layers on top of each other.")
@click.option("--hidden", type=click.IntRange(1), default=128, help="Units of a layer.")
@click.option("--embedding", type=click.IntRange(1), default=64, help="Numbers that stand for a symbol.")
@click.option("--seq-len", type=click.IntRange(1), default=64, help="Symbols of a window.")
@click.option("--batch", type=click.IntRange(1), default=32, help="Windows of a step.")
@click.option("--steps", type=click.IntRange(1), default=2000, help="Steps in all, those before --resume included.")
@click.option("--lr", type=click.FloatRange(0, min_open=True), default=0.005, callback=finite, help="Adam's step.")
@click.option("--schedule", type=click.Choice(SCHEDULES), default="constant", help="cosine: --lr falls to 0.")
@click.option("--clip", type=click.FloatRange(0), default=1.0, callback=finite, help="Gradient's norm; 0: no limit.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the initial weights, in both backends.")
@click.option("--dtype", type=click.Choice(["float32", "float64"]), default="float32", help="Precision of all numbers.")
@click.option("--backend", type=click.Choice(BACKENDS), default="numpy", help="both: in lockstep, and compared.")
@click.option("--device", type=click.Choice(DEVICES), default="cpu", help="Where --backend torch computes.")
@click.option("--interval", type=click.IntRange(1), default=100, help="Steps between validations and saves.")
@click.option(
    "--patience",
    type=click.IntRange(0),
    default=0,
    help="Validations without a better one; 0: no limit.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("model.safetensors"),
    help="Where the model goes, with everything that --resume needs.",
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint --out.")
@click.option("--overwrite", is_flag=True, help="Replace --out if it exists.")
@click.option(
    "--tensorboard",
    type=click.Path(file_okay=False, path_type=Path),
    callback=events_folder,
    help="Folder for event files, of every step.",
)
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
    tensorboard: Path | None,
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
    standing = Standing(out)
    if resume and overwrite:
        raise click.UsageError("--resume goes on from a file and --overwrite replaces it: only one of them can be.")
    with Interruption() as interruption, standing:
        check_out(out, resume, overwrite or attempt() > 0)
        before = read_checkpoint(out) if resume else None
        if before is not None:
            settings, steps, backend = _resumed(ctx, before, settings, steps, backend, out)
        config = Config(**settings)
        group = standing.group = _group(config, backend, device)
        content = _text(text, config, before)
        if attempt() > 0 and not resume:
            before = _own(out, overwrite, config, steps, content)
        standing.goes_on(before)
        group.gather(lambda: interruption.signal != 0)
        _check_agreement(standing, config, steps, interval, content)
        job = _job(config, steps, backend, device, content, group, before)
        standing.history = job.history
        console = Console(stderr=as_json, quiet=not first())
        with fitting_threads(config.batch, config.hidden), Display(console, job, interruption) as display:
            folder = tensorboard if first() else None
            with recorded(display, folder, job.history.steps, lambda k: learning_rate(config, k, steps)) as observer:
                complete = _run(job, standing, interval, observer)
        group.leave()
        _tell(job, display, out, complete, as_json)
        if first() and not complete:
            click.echo(f"stopped after step {job.history.steps} of {steps}; go on with: {_again(ctx)}", err=True)
    if not complete:
        sys.exit(128 + interruption.agreed)


class Standing:
    """How far a run has come and what of it is saved; says so, and ends, where another process is gone."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.group = Alone()
        self.history = History([], [])
        self.saved = 0  # steps that the file holds

    def goes_on(self, before: Checkpoint | None) -> None:
        """Take note of the checkpoint that the run goes on from."""
        if before is not None:
            self.history, self.saved = before.history, before.history.steps

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ProcessLostError):
            what = str(error)
        elif isinstance(error, RuntimeError) and started() > 1 and lost(error):
            what = f"another of the {started()} processes is gone, after step {self.history.steps} ({heard(error)})"
        else:
            return
        if self.group.speaks():
            kept = f"{self.out} holds step {self.saved}: go on from there with --resume"
            click.ClickException(f"{what}; {kept if self.saved else 'nothing was saved yet'}.").show()
        sys.exit(1)


class Job(NamedTuple):
    """A run, ready to start."""

    config: Config
    steps: int
    backend: str
    text: Text
    streams: Streams
    learner: Learner
    history: History
    best: Weights
    group: Alone

    @property
    def unit(self) -> str:
        """What losses are measured in."""
        return "bits per character" if self.config.symbols == "characters" else "bits per byte"


def check_out(out: Path, resume: bool, overwrite: bool) -> None:
    """Find out before the work, not after it, whether its result can be saved."""
    try:
        import safetensors  # noqa: F401
    except ModuleNotFoundError:
        raise MissingLibraryError("saving a model needs safetensors: pip install 'numpy-rnn[cli]'") from None
    if resume and not out.exists():
        raise click.UsageError(f"there is nothing to resume: {out} does not exist.")
    if not on_first_machine():  # which alone writes
        return
    if out.exists() and not (resume or overwrite):
        raise _exists(out)
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise click.UsageError(f"cannot write to {out.parent}: {error.strerror}.") from None


def _exists(out: Path) -> click.UsageError:
    return click.UsageError(f"{out} exists: go on from it with --resume, or replace it with --overwrite.")


def _own(out: Path, overwrite: bool, config: Config, steps: int, text: Text) -> Checkpoint | None:
    """After a restart by torchrun: what this very run has saved, if it has come to that.

    What a run of the same settings on the same text has saved is as good: it would come to the same numbers.
    """
    if not out.exists():
        return None
    with contextlib.suppress(ValueError):  # it is no checkpoint
        before = read_checkpoint(out)
        same = (before.config, before.steps, before.sha256) == (config, steps, text.sha256)
        if same and before.history.steps < steps:
            return before
    if not overwrite:
        raise _exists(out)
    return None


def _given(ctx: click.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    return ctx.get_parameter_source(name) is not ParameterSource.DEFAULT


def _resumed(
    ctx: click.Context, before: Checkpoint, settings: dict[str, Any], steps: int, backend: str, out: Path
) -> tuple[dict[str, Any], int, str]:
    """Take settings, steps and backend from the checkpoint, unless the command line says otherwise and may."""
    stored = asdict(before.config)
    for field in fields(Config):
        name, value = field.name, settings[field.name]
        if _given(ctx, name) and value != stored[name]:
            option = "--" + name.replace("_", "-")
            raise click.UsageError(f"{out} was trained with {option} {stored[name]}, it cannot go on with {value}.")
    steps = steps if _given(ctx, "steps") else before.steps
    if before.config.schedule == "cosine" and steps != before.steps:
        raise click.UsageError(f"{out} was trained with --schedule cosine for --steps {before.steps}, not for {steps}.")
    if stalled(before.history, before.config.patience):
        raise click.UsageError(f"{out} has ended by --patience {before.config.patience}: it has nothing left to do.")
    if steps <= before.history.steps:
        raise click.UsageError(f"{out} has taken {before.history.steps} steps already: give a larger --steps.")
    return stored, steps, backend if _given(ctx, "backend") else before.backend


def _group(config: Config, backend: str, device: str) -> Alone:
    """Find the other processes, if there are any, and whether they and the device can be used."""
    size = started()
    if backend != "torch" and (size > 1 or device != "cpu"):
        what = f"{size} processes" if size > 1 else f"--device {device}"
        raise click.UsageError(f"{what} can be used with --backend torch only, not with {backend}.")
    if size > config.batch:
        raise click.UsageError(f"{size} processes cannot share a --batch of {config.batch}: each needs a window.")
    if device == "cuda":
        _take_gpu(_torch(backend))
    if size == 1:
        return Alone()
    _torch(backend)
    return Together(device)


def _take_gpu(torch: Any) -> None:
    """Compute on the GPU of this process, which is that of its number among those on its machine."""
    if not torch.cuda.is_available():
        raise click.UsageError("--device cuda: PyTorch finds no GPU here.")
    size, there = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if size > there:
        raise click.UsageError(f"--device cuda: {size} processes need a GPU each, PyTorch finds {there} here.")
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


def _text(path: Path | None, config: Config, before: Checkpoint | None) -> Text:
    """Read what is to be learnt; a run that goes on needs what it has learnt from."""
    text = read_text(path, config.symbols)
    if before is not None and before.sha256 != text.sha256:
        wanted = "the text given with --text" if path else "Python's own help, the default text,"
        raise click.UsageError(f"{wanted} is not the one that the checkpoint was trained on (they differ in SHA-256).")
    return text


def _check_agreement(standing: Standing, config: Config, steps: int, interval: int, text: Text) -> None:
    """Refuse processes that would train something else than one another."""
    group, out = standing.group, standing.out
    facts = {
        "version of numpy_rnn": __version__,
        "settings": repr(config),
        "--steps": str(steps),
        "--interval": str(interval),
        "text": text.sha256,
        "checkpoint": hashlib.sha256(out.read_bytes()).hexdigest() if standing.saved else "none",
    }
    if names := group.differing(facts):
        raise click.UsageError(
            f"the {group.size} processes were not given the same: they differ in {', '.join(names)}. "
            "All need the same options, the same text and, to go on, the same checkpoint."
        )


def _job(
    config: Config, steps: int, backend: str, device: str, text: Text, group: Alone, before: Checkpoint | None
) -> Job:
    streams = Streams(text.training, config.batch, config.seq_len)
    try:
        learner = _learner(config, backend, device, group, len(text.vocabulary))
    except MemoryError as error:
        raise click.UsageError(f"the model does not fit into memory: {error}") from None
    if before is None:
        return Job(config, steps, backend, text, streams, learner, History([], []), {}, group)
    learner.load_state_dict(before.tensors)
    return Job(config, steps, backend, text, streams, learner, before.history, before.best, group)


def _learner(config: Config, backend: str, device: str, group: Alone, vocabulary_size: int) -> Learner:
    what = problem(config, vocabulary_size)
    if backend == "numpy":
        return NumPyLearner(what)
    _torch(backend)
    from ..train.torch_learner import TorchLearner

    learner = TorchLearner(what, device, group)
    if backend == "torch":
        return learner
    return Lockstep(NumPyLearner(what), learner, config.dtype)


def _torch(backend: str) -> Any:
    """Import PyTorch."""
    try:
        return importlib.import_module("torch")
    except ModuleNotFoundError:
        raise MissingLibraryError(f"--backend {backend} needs PyTorch: pip install 'numpy-rnn[torch]'") from None


def _run(job: Job, standing: Standing, interval: int, observer: Observer) -> bool:
    config, steps, backend, text, streams, learner, history, best, group = job
    out = standing.out

    def save(state: State) -> None:
        if group.rank == 0:
            write_checkpoint(out, Checkpoint(config, steps, backend, text.sha256, text.vocabulary, *state))
        group.most(0)  # so that none counts on a file before it is there
        standing.saved = state.history.steps

    try:
        _, complete = fit(
            learner,
            lambda step: streams.batch(step)._replace(lr=learning_rate(config, step, steps)),
            lambda: validation_batches(text.validation, config.batch, config.seq_len),
            save,
            history,
            best,
            steps,
            interval,
            config.patience,
            observer,
        )
        return complete
    except DivergedError as error:
        saved = standing.saved
        kept = f"{out} is kept as it was after step {saved}" if saved else "nothing was saved yet"
        raise click.ClickException(f"{error}; {kept}. A lower --lr or --clip may help.") from None
    except DisagreementError as error:
        raise click.ClickException(f"NumPy and PyTorch disagree at step {history.steps + 1}: {error}.") from None


class Interruption:
    """Turns SIGINT and SIGTERM into a wish to stop; a second one leaves at once.

    What the processes of a run agree on is kept apart from what this one was told: another's signal may be known before
    one's own arrives, which is then not a second one.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.agreed = 0
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


class Display:
    """What is seen of a run: a bar on a terminal, and everywhere a line for each validation."""

    def __init__(self, console: Console, job: Job, interruption: Interruption) -> None:
        self.job, self.interruption = job, interruption
        self.progress = training_bar(console)
        self.symbols = 0  # learnt from in this run
        self.busy = 0.0  # seconds of learning

    def __enter__(self) -> Display:
        config, text, backend = self.job.config, self.job.text, self.job.backend
        layers = f"{config.layers} layer{'s' * (config.layers > 1)} of {config.hidden} units"
        known = f"{len(text.vocabulary)} different {config.symbols}"
        sizes = f"{len(text.training)} to learn from, {len(text.validation)} to validate"
        done = f"; going on after step {self.job.history.steps}" if self.job.history.steps else ""
        self.progress.start()
        self.say(f"{config.cell}, {layers}, {config.dtype}, {backend}; {known}, {sizes}{done}")
        self.task = self.progress.add_task("", total=self.job.steps, completed=self.job.history.steps)
        self.start = self.mark = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.start
        self.progress.stop()

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def stepped(self, history: History) -> None:
        """Take note of a step."""
        now = time.perf_counter()
        self.busy += now - self.mark
        self.mark = now
        self.symbols += self.job.config.batch * self.job.config.seq_len
        status = f"{_bits(history.recent_loss()):.3f} {self.job.unit}, {self._speed()}{self._difference()}"
        self.progress.update(self.task, completed=history.steps, description=status)

    def validated(self, history: History) -> None:
        """Take note of a validation."""
        self.mark = time.perf_counter()
        training, validation = _bits(history.recent_loss()), _bits(history.validation[-1][1])
        self.say(
            f"step {history.steps:>6}  training {training:.3f}  validation {validation:.3f} {self.job.unit}  "
            f"gradient norm {history.training[-1].norm:.2f}  {self._speed()}{self._difference()}"
        )

    def wants_to_stop(self) -> bool:
        """Say whether this step should be the last, in all processes."""
        self.interruption.agreed = self.job.group.most(self.interruption.signal)
        return self.interruption.agreed != 0

    @property
    def speed(self) -> float:
        """Symbols learnt from in a second."""
        return self.symbols / self.busy if self.busy else 0.0

    def _speed(self) -> str:
        return f"{self.speed:,.0f} {self.job.config.symbols}/s"

    def _difference(self) -> str:
        learner = self.job.learner
        return f"  NumPy - PyTorch at most {learner.difference:.1e}" if isinstance(learner, Lockstep) else ""


def _again(ctx: click.Context) -> str:
    """The command that goes on with a run: what its file does not know is given again."""
    again = ["train", "--resume", "--out", str(ctx.params["out"])]
    for name in ("text", "device", "interval", "tensorboard"):
        if _given(ctx, name):
            again += [f"--{name}", str(ctx.params[name])]
    if started() == 1:
        return shlex.join(["numpy-rnn", *again])
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    machines = "--standalone" if here == started() else "…"  # which of several, the user knows
    return f"torchrun {machines} --nproc-per-node {here} -m numpy_rnn {shlex.join(again)}"


def _bits(loss: float) -> float:
    return loss / math.log(2)


def _tell(job: Job, display: Display, out: Path, complete: bool, as_json: bool) -> None:
    if as_json and first():
        click.echo(json.dumps(_document(job, display, out, complete), indent=1))
    elif not as_json:
        best = ""
        if job.history.validation and (step := _best_step(job.history)) != job.history.steps:
            best = f", and that after {step}, the best, which `sample` uses"
        display.say(f"{out} holds the model after {job.history.steps} steps{best}, {display.seconds:.1f} s")


def _best_step(history: History) -> int:
    """After how many steps the validation was best."""
    return history.validation[best_validation(history)][0]


def _document(job: Job, display: Display, out: Path, complete: bool) -> dict[str, Any]:
    history, learner = job.history, job.learner
    return {
        "path": str(out),
        "complete": complete,
        "steps": history.steps,
        "unit": job.unit,
        "training": _bits(history.recent_loss()),
        "validation": _bits(history.validation[-1][1]) if history.validation else None,
        "best_step": _best_step(history) if history.validation else None,
        "best_validation": _bits(min(loss for _, loss in history.validation)) if history.validation else None,
        "seconds": display.seconds,
        "symbols_per_second": display.speed,
        "backend": job.backend,
        "largest_difference": learner.difference if isinstance(learner, Lockstep) else None,
        "text_sha256": job.text.sha256,
        "config": asdict(job.config),
    }
