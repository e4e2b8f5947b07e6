"""The parent's side of a contestant's process."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from .environment import child_environment
from .problem import Setting

ROOT = Path(__file__).parents[1]
START_LIMIT = 120.0  # seconds: importing may be slow on a cold disk


class ChildError(Exception):
    """A contestant's process failed; the message says how."""


class Child:
    """A process of `worker` that is asked one thing at a time."""

    def __init__(self, contestant: str, threads: int, scratch: Path) -> None:
        self.setting: Setting | None = None  # what it was set up for last
        self._errors = tempfile.TemporaryFile("w+", dir=scratch)  # noqa: SIM115, closed in `close`
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", contestant],
            cwd=ROOT,
            env=child_environment(threads, str(scratch)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self._ready = False

    def ask(self, limit: float, **command: Any) -> dict[str, Any]:
        """Send a command and wait for the answer.

        Raises
        ------
        ChildError
            If the command failed, the process ended, or there was no answer within `limit` seconds. The process is
            of no use after the last two; `alive` tells.
        """
        self.wait()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # that it has ended is noticed when there is no answer
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        return self._receive(limit)

    def wait(self) -> None:
        """Wait until the process has imported what it needs, so that it no longer disturbs others."""
        if not self._ready:
            self._receive(START_LIMIT)
            self._ready = True

    @property
    def alive(self) -> bool:
        """Whether it can be asked more."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._errors.close()

    def _read(self) -> None:
        """Hand lines on from the process; an empty one when it has ended."""
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):  # closed meanwhile
            for line in self._process.stdout:
                self._answers.put(line)
        self._answers.put("")

    def _receive(self, limit: float) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=limit)
        except queue.Empty:
            self._process.kill()
            self._process.wait()
            raise ChildError(f"took more than {limit:.0f} s") from None
        if not line:
            self._process.wait()
            raise ChildError(f"its process ended, status {self._process.returncode}{self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise ChildError(answer["failed"])
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return f": {lines[-1][:200]}" if lines else ""
