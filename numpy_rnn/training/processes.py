"""Several processes that train one model, each on its share of every batch.

`Alone` is the case of one process, so that a learner need not know how many there are. `Together` is what `torchrun`
starts: DistributedDataParallel adds up the gradients (Li et al. 2020, arXiv:2006.15704), and whatever else belongs to
the whole batch goes through the few functions here. Importing this module needs no PyTorch.
"""

from __future__ import annotations

import atexit
import itertools
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

# Models in DistributedDataParallel, until the process ends. With the last of them the group of processes would go,
# which waits for its threads; one of these may wait for Python's lock, to let go of a tensor: neither would go on.
_KEPT: list[Any] = []
# Words in the errors of PyTorch's communication (gloo, NCCL, its store) when another process is gone.
LOST = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe", "Socket", "TCPStore", "DistNetwork")


class ProcessLostError(RuntimeError):
    """Another process of the run has ended before its time."""


class Alone:
    """The only process of a run."""

    rank = 0
    size = 1

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
        """The largest of all processes' numbers."""
        return number

    def whole(self, share: Any, B: int) -> Any:
        """Put the shares of a tensor (L, B, H) together."""
        return share

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

        self.torch, self.distributed = torch, torch.distributed
        self.device = torch.device(device)
        _listening(lambda: self.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo"))
        self.rank, self.size = self.distributed.get_rank(), self.distributed.get_world_size()

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
        return self._reduced(numbers, self.distributed.ReduceOp.SUM)

    def most(self, number: int) -> int:
        """The largest of all processes' numbers."""
        return int(self._reduced((number,), self.distributed.ReduceOp.MAX)[0])

    def whole(self, share: Any, B: int) -> Any:
        """Put the shares of a tensor (L, B, H) together."""
        bounds = self._bounds(B)
        sizes = [stop - start for start, stop in itertools.pairwise(bounds)]
        # All of one size, as all_gather wants them.
        padded = share.new_zeros(share.shape[0], max(sizes), share.shape[2])
        padded[:, : share.shape[1]] = share
        parts = [self.torch.empty_like(padded) for _ in sizes]
        _listening(lambda: self.distributed.all_gather(parts, padded))
        return self.torch.cat([part[:, :size] for part, size in zip(parts, sizes)], dim=1)

    def leave(self) -> None:
        """Part from the others, as NCCL wants it; see `end` for what is left then."""
        self.distributed.destroy_process_group()

    def _bounds(self, B: int) -> list[int]:
        return [B * rank // self.size for rank in range(self.size + 1)]

    def _reduced(self, numbers: tuple[float, ...], operation: Any) -> list[float]:
        tensor = self.torch.tensor(numbers, dtype=self.torch.float64, device=self.device)
        _listening(lambda: self.distributed.all_reduce(tensor, operation))
        return tensor.tolist()


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


def first(of: str = "RANK") -> bool:
    """Whether this is the process that shows the progress; `of` "LOCAL_RANK": the first one on its machine.

    Returns
    -------
    bool
    """
    return started() == 1 or os.environ[of] == "0"


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


def _listening(talk: Callable[[], Any]) -> None:
    """Talk to the other processes.

    Raises
    ------
    ProcessLostError
        If one of them is gone.
    """
    try:
        talk()
    except RuntimeError as error:
        if lost(error):
            raise ProcessLostError(str(error)) from error
        raise
