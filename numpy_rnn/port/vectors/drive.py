"""Drives a port over its standard input and output: a JSON object a line, there and back.

A request says what to compute:

    {"case": …, "cell": …, "sizes": {"T": …, …}, "lengths": […], "bias": true,
     "tensors": {name: {"shape": …, "data": …}}}

with the parameters, x, h_0 (and c_0), doutput, dh_n (and dc_n), and the masks between layers, under the names of the
case. The answer is one line with whatever the port has computed, or why it has not:

    {"tensors": {name: numbers, nested or flat, or {"shape": …, "data": …}}}     or     {"skip": "no peepholes"}

The port runs in a process group of its own, which is killed as a whole: a shell script around it leaves nothing behind.
One that crashes, or does not answer in time, has failed that case, and is started anew for the next.

With the reference state injected, a case is sent as T cases of a single step, each from the state that the reference
had before it: then an error of one step cannot hide in those of the steps before.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ...fast.registry import CELLS
from .check import Report, check
from .document import GIVEN, array, case_of, described
from .formats import parsed, shaped

Document = Mapping[str, Any]


FAILURES = 3  # in a row, after which a port is not started again


class PortError(Exception):
    """The port does not answer as it should; the message says how."""


class Answer(NamedTuple):
    """What a port says to a case."""

    name: str
    report: Report | None
    skipped: str = ""  # why there is no report: the port's own words, or why nothing was asked
    failed: str = ""  # why there is no report: how the port failed


class Port:
    """A running port, in a process group of its own.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    timeout : float
        Seconds that an answer may take.

    Raises
    ------
    PortError
        If it cannot be started.
    """

    def __init__(self, command: Sequence[str], timeout: float) -> None:
        self.command, self.timeout = command, timeout
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            raise PortError(f"cannot start {command[0]}: {error.strerror}") from None
        self.chunks: queue.SimpleQueue[bytes] = queue.SimpleQueue()  # what it has written; b"" at the end
        self.unread = b""
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        """Read what the port writes, in a thread of its own: nobody waits for whoever holds the pipe's other end."""
        assert self.process.stdout is not None
        while chunk := os.read(self.process.stdout.fileno(), 1 << 16):
            self.chunks.put(chunk)
        self.chunks.put(b"")

    def __enter__(self) -> Port:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the port, at once."""
        self._kill()
        self.process.wait()
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # what it has not read
            self.process.stdin.close()
        self.listener.join(1)  # longer, only if something has left the group and still holds the pipe
        if not self.listener.is_alive() and self.process.stdout:
            self.process.stdout.close()

    def _kill(self) -> None:
        """End the port and all that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()

    def ask(self, request: Mapping[str, Any]) -> Any:
        """Send a request and wait for its answer.

        Raises
        ------
        PortError
            If the port ends, takes too long, or does not answer with a line of JSON.
        """
        deadline = time.monotonic() + self.timeout
        late = threading.Timer(self.timeout, self._kill)  # a port that does not even read
        late.daemon = True
        late.start()
        try:
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; how, is said below
        finally:
            late.cancel()
        line = self._line(deadline, request["case"])
        try:
            return json.loads(line)
        except ValueError:
            raise PortError(
                f"{self.command[0]} answered {_shown(line)} to {request['case']}, {_no_json(line)}"
            ) from None

    def _line(self, deadline: float, case: str) -> str:
        """The next line that the port writes."""
        name, said = self.command[0], f"{self.timeout:g} s"
        while b"\n" not in self.unread:
            try:
                chunk = self.chunks.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                if not self.unread:
                    why = f"took more than {said} at {case}; does it flush its output after each line (fflush(stdout))?"
                    raise PortError(f"{name} {why}") from None
                begun = f"wrote {len(self.unread)} bytes and no end of line within {said} at {case}"
                raise PortError(f"{name} {begun}; does it flush its output (fflush(stdout))?") from None
            if not chunk:
                if time.monotonic() >= deadline:
                    raise PortError(f"{name} took more than {said} at {case}, and has not read all of it")
                if self.unread:
                    break  # the last line, without its end
                raise PortError(f"{name} {self._ended(deadline)} at {case}")
            self.unread += chunk
        line, _, self.unread = self.unread.partition(b"\n")
        return line.decode(errors="replace")

    def _ended(self, deadline: float) -> str:
        """How the port ended, whose output is at its end."""
        try:
            status = self.process.wait(max(deadline - time.monotonic(), 1))
        except subprocess.TimeoutExpired:
            return "closed its output"
        if status >= 0:
            # A shell says 128 + n where what it ran was killed by signal n.
            return f"ended with status {status}" + (f" ({signal_name(status - 128)})" if status > 128 else "")
        return f"was killed by {signal_name(-status)}"


def signal_name(number: int) -> str:
    """A signal's number in words.

    Examples
    --------
    >>> signal_name(11)
    'signal 11: segmentation fault'
    """
    words = signal.strsignal(number) if number in signal.valid_signals() else None
    return f"signal {number}: {words.lower()}" if words else f"signal {number}"


def _shown(line: str) -> str:
    text = line.strip()
    return repr(text if len(text) <= 60 else f"{text[:60]} …")


def _no_json(line: str) -> str:
    """What is wrong with a line that is no JSON, as far as C's printf is the reason."""
    bare = re.search(r"(?<=[\[,:\s])[-+]?(nan(\([^)]*\))?|inf(inity)?)(?=[\],}\s])", line, re.IGNORECASE)
    if bare:
        right = "NaN" if "nan" in bare[0].lower() else "Infinity or -Infinity"
        return f"in which {bare[0]!r} is not JSON: write {right}"
    return "expected JSON, all in one line"


def request(document: Document) -> dict[str, Any]:
    """What a port gets to know of a case."""
    given = {
        name: {"shape": tensor["shape"], "data": tensor["data"]}
        for name, tensor in document["tensors"].items()
        if tensor["role"] in GIVEN
    }
    keys = ("cell", "sizes", "lengths", "bias")
    return {"case": document["name"], **{key: document[key] for key in keys}, "tensors": given}


def not_injectable(document: Document) -> str:
    """Why a case cannot be sent step by step; "" if it can.

    Examples
    --------
    >>> from numpy_rnn.port.vectors import cases
    >>> not_injectable(cases.case("gru-stacked")), not_injectable(cases.case("gru-plain"))
    ('2 layers', '')
    """
    sizes = document["sizes"]
    if document["cell"] not in CELLS:
        return "an optimizer"
    if sizes["L"] > 1:
        return f"{sizes['L']} layers"
    if sizes["D"] > 1:
        return "two directions"
    return "" if max(document["lengths"], default=0) else "no steps"


def single_steps(document: Document) -> Iterator[Document]:
    """A case of one layer and one direction as T cases of one step, each from the reference's state before it."""
    sizes, tensors = document["sizes"], document["tensors"]
    states = [name for name in ("h", "c") if name in tensors]
    for t in range(sizes["T"]):
        alive = [b for b, n in enumerate(document["lengths"]) if t < n]
        if not alive:
            return
        case = case_of(document)
        before = [array(tensors[s])[t - 1] if t else array(tensors[f"{s}_0"])[0] for s in states]
        step = case._replace(
            name=f"{document['name']}, step {t} alone",
            x=case.x[t : t + 1, alive],
            s0=tuple(s[None, alive] for s in before),
            doutput=case.doutput[t : t + 1, alive],
            ds_n=tuple(ds[:, alive] for ds in case.ds_n),
            lengths=(1,) * len(alive),
        )
        yield {
            **document,
            "name": step.name,
            "sizes": {**sizes, "T": 1, "B": len(alive)},
            "lengths": [1] * len(alive),
            "step": t,
            "alive": alive,
            "tensors": described(step),
        }


def run(
    command: Sequence[str],
    documents: Sequence[Document],
    tier: str | float = "f64",
    inject: bool = False,
    timeout: float = 60.0,
) -> Generator[Answer, None, None]:
    """Send cases to a port, one after the other, and judge its answers.

    Parameters
    ----------
    command : sequence of str
    documents : sequence of documents
    tier : str or float
        As `check` takes it.
    inject : bool
        Whether each step starts from the reference's state.
    timeout : float
        Seconds that an answer may take.

    Raises
    ------
    PortError
        If the port cannot be started, or has failed `FAILURES` times in a row.
    """
    port: Port | None = None
    failures = 0
    try:
        for document in documents:
            if inject and (why := not_injectable(document)):
                yield Answer(document["name"], None, f"cannot be injected: {why}")
                continue
            for part in single_steps(document) if inject else [document]:
                port = port or Port(command, timeout)
                try:
                    answer = _answer(port, part, tier)
                    failures = 0
                except PortError as error:
                    answer = Answer(part["name"], None, failed=str(error))
                    failures += 1
                    port.close()
                    port = None
                if answer.skipped:
                    yield answer._replace(name=document["name"])
                    break  # so the case's other steps are
                yield answer
                if failures == FAILURES:
                    raise PortError(f"{command[0]} failed {FAILURES} times in a row, and is not started again")
    finally:
        if port:
            port.close()


def _answer(port: Port, document: Document, tier: str | float) -> Answer:
    """What the port says to a case, judged."""
    name, found = document["name"], port.ask(request(document))
    if isinstance(found, dict) and "skip" in found:
        return Answer(name, None, str(found["skip"]))
    if isinstance(found, dict) and "tensors" not in found:
        raise PortError(f'{port.command[0]} answered {name} without "tensors" or "skip"')
    try:
        _, given = parsed(found, port.command[0])
    except ValueError as error:
        raise PortError(f"{error}, at {name}") from None
    shapes = {n: tuple(t["shape"]) for n, t in document["tensors"].items()}
    return Answer(name, check(document, shaped(given, shapes.get), tier))
