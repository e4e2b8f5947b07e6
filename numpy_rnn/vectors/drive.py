"""Drives a port over its standard input and output: a JSON object a line, there and back.

A request says what to compute:

    {"case": …, "cell": …, "sizes": {"T": …, …}, "lengths": […], "bias": true,
     "tensors": {name: {"shape": …, "data": …}}}

with the parameters, x, h_0 (and c_0), doutput, dh_n (and dc_n), and the masks between layers, under the names of the
case. The answer is one line with whatever the port has computed, or why it has not:

    {"tensors": {name: nested lists, or {"shape": …, "data": …}}}     or     {"skip": "no peepholes"}

With the reference state injected, a case is sent as T cases of a single step, each from the state that the reference
had before it: then an error of one step cannot hide in those of the steps before.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..zoo.case import CELLS
from .check import Report, check
from .document import GIVEN, array, case_of, described
from .formats import parsed

Document = Mapping[str, Any]


class PortError(Exception):
    """The port does not answer as it should; the message says how."""


class Answer(NamedTuple):
    """What a port says to a case."""

    name: str
    report: Report | None
    skipped: str = ""  # why there is no report


class Port:
    """A running port.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    timeout : float
        Seconds that an answer may take.
    """

    def __init__(self, command: Sequence[str], timeout: float) -> None:
        self.command, self.timeout = command, timeout
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
            )
        except OSError as error:
            raise PortError(f"cannot start {command[0]}: {error.strerror}") from None

    def __enter__(self) -> Port:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def ask(self, request: Mapping[str, Any]) -> Any:
        """Send a request and wait for its answer.

        Raises
        ------
        PortError
            If the port ends, takes too long, or does not answer with a line of JSON.
        """
        name = self.command[0]
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        late = threading.Timer(self.timeout, self.process.kill)
        late.start()
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timely = late.is_alive()
            late.cancel()
        if not line:
            how = f"took more than {self.timeout:g} s" if not timely else f"ended with status {self.process.wait()}"
            raise PortError(f"{name} {how} at {request['case']}")
        try:
            return json.loads(line)
        except ValueError:
            raise PortError(f"{name} answered {line.strip()[:60]!r} to {request['case']}, expected JSON") from None


def request(document: Document) -> dict[str, Any]:
    """What a port gets to know of a case."""
    given = {
        name: {"shape": tensor["shape"], "data": tensor["data"]}
        for name, tensor in document["tensors"].items()
        if tensor["role"] in GIVEN
    }
    keys = ("cell", "sizes", "lengths", "bias")
    return {"case": document["name"], **{key: document[key] for key in keys}, "tensors": given}


def single_steps(document: Document) -> Iterator[Document]:
    """A case of one layer and one direction as T cases of one step, each from the reference's state before it."""
    sizes, tensors = document["sizes"], document["tensors"]
    if sizes["L"] > 1 or sizes["D"] > 1 or document["cell"] not in CELLS:
        return
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
            "tensors": described(step),
        }


def run(
    command: Sequence[str],
    documents: Sequence[Document],
    tier: str | float = "f64",
    inject: bool = False,
    timeout: float = 60.0,
) -> Iterator[Answer]:
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

    Yields
    ------
    Answer

    Raises
    ------
    PortError
        If the port does not answer as it should.
    """
    with Port(command, timeout) as port:
        for document in documents:
            for part in single_steps(document) if inject else [document]:
                found = port.ask(request(part))
                if isinstance(found, dict) and "skip" in found:
                    yield Answer(part["name"], None, str(found["skip"]))
                    continue
                try:
                    _, given = parsed(found, command[0])
                except ValueError as error:
                    raise PortError(f"{error}, at {part['name']}") from None
                yield Answer(part["name"], check(part, given, tier))
