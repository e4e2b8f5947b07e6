"""Several processes that train one model, each on its share of every batch.

`Alone` is the case of one process, so that a learner need not know how many there are. `Together` is what `torchrun`
starts: DistributedDataParallel adds up the gradients (Li et al. 2020, arXiv:2006.15704), and whatever else belongs to
the whole batch goes through the few functions here. Importing this module needs no PyTorch.
"""

from __future__ import annotations

import atexit
import hashlib
import itertools
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

# Models in DistributedDataParallel, until the process ends. With the last of them the group of processes would go,
# which waits for its threads; one of these may wait for Python's lock, to let go of a tensor: neither would go on.
_KEPT: list[Any] = []
# Words in the errors of PyTorch's communication (gloo, NCCL, its store) when another process is gone.
LOST = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe", "Socket", "TCPStore", "DistNetwork")


class ProcessLostError(RuntimeError):
    """The processes of a run are not all there."""


class Alone:
    """The only process of a run."""

    rank = 0
    size = 1

    def gather(self, told_to_stop: Callable[[], bool]) -> None:
        """Wait until all processes are here. Before this, none of the others can be talked to.

        Raises
        ------
        ProcessLostError
            If this one is told to stop meanwhile.
        """

    def share(self, B: int) -> slice:
        """Which sequences of a batch this process sees."""
        return slice(None)

    def parallel(self, model: Any) -> Any:
        """Make a model whose backward leaves the gradients of the whole batch in the parameters."""
        return model

    def scale(self, B: int) -> float:
        """What the mean loss of this share is multiplied with before backward."""
        return 1.0

    def total(self, *numbers: float) -> list[float]:
        """Sums over the processes."""
        return list(numbers)

    def most(self, number: int) -> int:
        """The largest of all processes' numbers. None goes on before all have said theirs."""
        return number

    def differing(self, facts: Mapping[str, str]) -> list[str]:
        """Names of the facts that are not the same in all processes."""
        return []

    def whole(self, share: Any, B: int) -> Any:
        """Put the shares of a tensor (L, B, H) together."""
        return share

    def speaks(self) -> bool:
        """Whether this process may say what others on its machine may have found out, too: the first that asks."""
        return True

    def leave(self) -> None:
        """Part from the others at the end of a run."""


class Together(Alone):
    """One of the processes that `torchrun` started.

    Parameters
    ----------
    device : str
        "cpu", where processes talk by gloo, or "cuda", where they do by NCCL.
    """

    def __init__(self, device: str) -> None:
        import torch

        self.torch: Any = torch
        self.distributed: Any = torch.distributed
        self.device = torch.device(device)
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self._store: Any = None  # what all can write to; torchrun keeps it, so it stays whichever of the processes goes

    def gather(self, told_to_stop: Callable[[], bool]) -> None:
        """Wait until all processes are here.

        PyTorch would wait as well, but would not listen to signals: torchrun tells the others to stop if one fails.
        """
        store, *_ = next(self.distributed.rendezvous("env://"))
        # What an earlier attempt has written there, torchrun may have left.
        self._store = self.distributed.PrefixStore(f"numpy_rnn, attempt {attempt()}", store)
        self._store.add("here", 1)
        while self._store.add("here", 0) < self.size:
            if told_to_stop():
                raise ProcessLostError(f"told to stop before all of the {self.size} processes were here")
            time.sleep(0.02)
        backend = "nccl" if self.device.type == "cuda" else "gloo"
        self.distributed.init_process_group(backend, store=self._store, rank=self.rank, world_size=self.size)

    def share(self, B: int) -> slice:
        """Which sequences of a batch this process sees: as many as the others, give or take one."""
        bounds = self._bounds(B)
        return slice(bounds[self.rank], bounds[self.rank + 1])

    def parallel(self, model: Any) -> Any:
        """Wrap a model in DistributedDataParallel."""
        from torch.nn.parallel import DistributedDataParallel

        _KEPT.append(DistributedDataParallel(model, [self.device] if self.device.type == "cuda" else None))
        return _KEPT[-1]

    def scale(self, B: int) -> float:
        """Weight of this share in the mean over the batch, times the processes: DistributedDataParallel takes means."""
        bounds = self._bounds(B)
        return self.size * (bounds[self.rank + 1] - bounds[self.rank]) / B

    def total(self, *numbers: float) -> list[float]:
        """Sums over the processes, the same in all of them."""
        return self._reduced(numbers, "SUM", self.torch.float64)

    def most(self, number: int) -> int:
        """The largest of all processes' numbers. None goes on before all have said theirs."""
        return int(self._reduced([number], "MAX", self.torch.int64)[0])

    def differing(self, facts: Mapping[str, str]) -> list[str]:
        """Names of the facts that are not the same in all processes; the names are."""
        digests = [int.from_bytes(hashlib.sha256(fact.encode()).digest()[:7], "big") for fact in facts.values()]
        least, most = (self._reduced(digests, operation, self.torch.int64) for operation in ("MIN", "MAX"))
        return [name for name, a, b in zip(facts, least, most) if a != b]

    def whole(self, share: Any, B: int) -> Any:
        """Put the shares of a tensor (L, B, H) together."""
        bounds = self._bounds(B)
        sizes = [stop - start for start, stop in itertools.pairwise(bounds)]
        # All of one size, as all_gather wants them.
        padded = share.new_zeros(share.shape[0], max(sizes), share.shape[2])
        padded[:, : share.shape[1]] = share
        parts = [self.torch.empty_like(padded) for _ in sizes]
        self.distributed.all_gather(parts, padded)
        return self.torch.cat([part[:, :size] for part, size in zip(parts, sizes)], dim=1)

    def speaks(self) -> bool:
        """Whether this process may say what others on its machine may have found out, too: the first that asks."""
        if self._store is None:  # the others are not here yet
            return True
        try:
            return bool(self._store.add(f"said on machine {os.environ['GROUP_RANK']}", 1) == 1)
        except RuntimeError:  # the store is gone, too
            return True

    def leave(self) -> None:
        """Part from the others, as NCCL wants it; see `end` for what is left then."""
        self.distributed.destroy_process_group()

    def _bounds(self, B: int) -> list[int]:
        return [B * rank // self.size for rank in range(self.size + 1)]

    def _reduced(self, numbers: Any, operation: str, dtype: Any) -> list[Any]:
        tensor = self.torch.tensor(numbers, dtype=dtype, device=self.device)
        self.distributed.all_reduce(tensor, getattr(self.distributed.ReduceOp, operation))
        reduced: list[Any] = tensor.tolist()
        return reduced


def started() -> int:
    """How many processes `torchrun` has started this one among; 1 if it has not.

    Returns
    -------
    int
    """
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def end(status: int) -> NoReturn:
    """End this process at once, without taking Python down first: what was to be done at its exit is done.

    A thread of gloo's may still hold a tensor when the run is over. If it lets go of it while Python is being taken
    down, the process is aborted (https://github.com/pytorch/pytorch/issues/190489), and torchrun calls a good run a
    failure. `destroy_process_group` ends these threads only if nobody else has the group: DistributedDataParallel has,
    until here.

    Parameters
    ----------
    status : int
        What the process ends with.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def attempt() -> int:
    """How often torchrun (`--max-restarts`) has started the processes again, because one had failed."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def on_first_machine() -> bool:
    """Whether this process runs where the first one does, which writes the files."""
    return started() == 1 or os.environ["GROUP_RANK"] == "0"


def first(of: str = "RANK") -> bool:
    """Whether this is the process that shows the progress; `of` "LOCAL_RANK": the first one on its machine.

    Returns
    -------
    bool
    """
    return started() == 1 or os.environ[of] == "0"


def let_the_first_speak(seconds: float = 30.0) -> None:
    """Keep a mistake to oneself that all processes on a machine find: the first one says it, and ends the run.

    Whoever is not the first waits to be ended by torchrun, which does so as soon as one process has failed: were this
    one to fail before, torchrun might end the first one before it has spoken. It returns if that is long in coming.
    """
    if not first("LOCAL_RANK"):
        time.sleep(seconds)


def lost(error: RuntimeError) -> bool:
    """Whether an error of PyTorch's says that another process is gone.

    Examples
    --------
    >>> lost(RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"))
    True
    >>> lost(RuntimeError("shape '[3]' is invalid for input of size 4"))
    False
    """
    return any(word in f"{type(error).__name__}: {error}" for word in LOST)


def heard(error: RuntimeError) -> str:
    """The first sentence of an error of PyTorch's, without the place in its source.

    Examples
    --------
    >>> heard(RuntimeError("[/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4102. That is"))
    'Connection closed by peer [127.0.0.1]:4102'
    """
    line, *_ = [*str(error).strip().splitlines(), ""]
    return re.sub(r"^\[[^\]]*\.cc:\d+\] *", "", line).partition(". ")[0]
