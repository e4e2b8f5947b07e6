"""Several processes that train one model, each on its share of every batch.

`SingleProcess` is the case of one process, so that a learner need not know how many there are. `ProcessGroup` is what
`torchrun` starts: every process computes the gradient of its share, and the sum over the processes is that of the whole
batch. Importing this module needs no PyTorch.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Words in the errors of PyTorch's communication (gloo, NCCL, its store) when another process is gone.
LOST = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe", "Socket", "TCPStore", "DistNetwork")


class SingleProcess:
    """The only process of a run."""

    rank = 0
    size = 1

    def reduced(self, numbers: Sequence[float], operation: str) -> list[Any]:
        """The "SUM", "MIN" or "MAX" of each number over the processes, all whole or none; the same in all of them."""
        return list(numbers)

    def sum_gradients(self, model: Any) -> None:
        """Replace the gradients in a model's parameters by their sums over the processes."""

    def whole(self, share: Any, B: int) -> Any:
        """Put the shares of a tensor (L, B, H) together."""
        return share

    def leave(self) -> None:
        """Part from the others at the end of a run."""

    def share(self, B: int) -> slice:
        """Which sequences of a batch this process sees: as many as the others, give or take one."""
        return slice(B * self.rank // self.size, B * (self.rank + 1) // self.size)

    def most(self, number: int) -> int:
        """The largest of all processes' numbers. None goes on before all have said theirs."""
        return int(self.reduced([number], "MAX")[0])

    def differing(self, facts: Mapping[str, str]) -> list[str]:
        """Names of the facts that are not the same in all processes; the names are."""
        digests = [int.from_bytes(hashlib.sha256(fact.encode()).digest()[:7], "big") for fact in facts.values()]
        least, most = (self.reduced(digests, operation) for operation in ("MIN", "MAX"))
        return [name for name, a, b in zip(facts, least, most) if a != b]


class ProcessGroup(SingleProcess):
    """One of the processes that `torchrun` started; waits until all are there.

    Parameters
    ----------
    device : str
        "cpu", where processes talk by gloo, or "cuda", where they do by NCCL.
    """

    def __init__(self, device: str) -> None:
        import torch

        self.torch: Any = torch
        self.distributed: Any = torch.distributed
        self.device = device
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.distributed.init_process_group("nccl" if device == "cuda" else "gloo", init_method="env://")

    def reduced(self, numbers: Sequence[float], operation: str) -> list[Any]:
        """See `SingleProcess`."""
        tensor = self.torch.from_numpy(np.array(numbers)).to(self.device)
        self.distributed.all_reduce(tensor, getattr(self.distributed.ReduceOp, operation))
        reduced: list[Any] = tensor.tolist()
        return reduced

    def sum_gradients(self, model: Any) -> None:
        """See `SingleProcess`; one message has them all."""
        gradients = [p.grad for p in model.parameters()]
        flat = self.torch.cat([g.flatten() for g in gradients])
        self.distributed.all_reduce(flat)
        for g, summed in zip(gradients, flat.split([g.numel() for g in gradients])):
            g.copy_(summed.view_as(g))

    def whole(self, share: Any, B: int) -> Any:
        """See `SingleProcess`."""
        tensor = share.new_zeros(share.shape[0], B, share.shape[2])
        tensor[:, self.share(B)] = share
        self.distributed.all_reduce(tensor)  # the others have zeros where this one has its share
        return tensor

    def leave(self) -> None:
        """See `SingleProcess`; without this, threads of gloo's may outlive what they work on."""
        self.distributed.destroy_process_group()


def started() -> int:
    """How many processes `torchrun` has started this one among; 1 if it has not."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def first(of: str = "RANK") -> bool:
    """Whether this is the process that shows the progress.

    `of` "LOCAL_RANK": the first one on its machine; "GROUP_RANK": on the machine of the first one, which writes files.
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
