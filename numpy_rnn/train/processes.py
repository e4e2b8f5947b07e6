"""Several processes that train one model, each on its share of every batch.

`SingleProcess` is the case of one process, so that a learner need not know how many there are. `ProcessGroup` is what
`torchrun` starts: every process computes the gradient of its share, and the sum over the processes is that of the whole
batch. Importing this module needs no PyTorch.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Mapping
from typing import Any

# Words in the errors of PyTorch's communication (gloo, NCCL, its store) when another process is gone.
LOST = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe", "Socket", "TCPStore", "DistNetwork")


class SingleProcess:
    """The only process of a run."""

    rank = 0
    size = 1

    def share(self, B: int) -> slice:
        """Which sequences of a batch this process sees."""
        return slice(None)

    def sum_gradients(self, model: Any) -> None:
        """Replace the gradients in a model's parameters by their sums over the processes."""

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

    def leave(self) -> None:
        """Part from the others at the end of a run."""


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
        self.device = torch.device(device)
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.distributed.init_process_group("nccl" if self.device.type == "cuda" else "gloo", init_method="env://")

    def share(self, B: int) -> slice:
        """Which sequences of a batch this process sees: as many as the others, give or take one."""
        bounds = self._bounds(B)
        return slice(bounds[self.rank], bounds[self.rank + 1])

    def sum_gradients(self, model: Any) -> None:
        """Replace the gradients in a model's parameters by their sums over the processes, in one message for all."""
        gradients = [p.grad for p in model.parameters()]
        flat = self.torch.cat([g.flatten() for g in gradients])
        self.distributed.all_reduce(flat)
        for g, summed in zip(gradients, flat.split([g.numel() for g in gradients])):
            g.copy_(summed.view_as(g))

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
        sizes = [stop - start for start, stop in itertools.pairwise(self._bounds(B))]
        # All of one size, as all_gather wants them.
        padded = share.new_zeros(share.shape[0], max(sizes), share.shape[2])
        padded[:, : share.shape[1]] = share
        parts = [self.torch.empty_like(padded) for _ in sizes]
        self.distributed.all_gather(parts, padded)
        return self.torch.cat([part[:, :size] for part, size in zip(parts, sizes)], dim=1)

    def leave(self) -> None:
        """Part from the others; without this, threads of gloo's may outlive what they work on."""
        self.distributed.destroy_process_group()

    def _bounds(self, B: int) -> list[int]:
        return [B * rank // self.size for rank in range(self.size + 1)]

    def _reduced(self, numbers: Any, operation: str, dtype: Any) -> list[Any]:
        tensor = self.torch.tensor(numbers, dtype=dtype, device=self.device)
        self.distributed.all_reduce(tensor, getattr(self.distributed.ReduceOp, operation))
        reduced: list[Any] = tensor.tolist()
        return reduced


def started() -> int:
    """How many processes `torchrun` has started this one among; 1 if it has not."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def on_first_machine() -> bool:
    """Whether this process runs where the first one does, which writes the files."""
    return started() == 1 or os.environ["GROUP_RANK"] == "0"


def first(of: str = "RANK") -> bool:
    """Whether this is the process that shows the progress; `of` "LOCAL_RANK": the first one on its machine."""
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
