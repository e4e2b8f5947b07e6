"""The step of `learner` in PyTorch: torch_rnn's model, autograd, torch.optim.Adam and torch's clipping.

Imported on demand: it is the one part of training that needs PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from torch_rnn.language import LanguageModel

from ..numerics import Array
from .learner import Config, Result, initial_model, pack, unpack
from .text import Batch


class TorchLearner:
    """Training in PyTorch; it starts from the same weights as `NumPyLearner` and reads and writes the same files.

    Parameters
    ----------
    config : Config
    vocabulary_size : int
    """

    def __init__(self, config: Config, vocabulary_size: int) -> None:
        self.model = LanguageModel(
            config.cell,
            vocabulary_size,
            config.hidden,
            config.layers,
            config.embedding,
            dtype=getattr(torch, config.dtype),
        )
        self._load_model(initial_model(config, vocabulary_size).state_dict())
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.lr)
        self.max_norm = config.clip or math.inf
        self.state: Any = None

    def step(self, batch: Batch) -> Result:
        """Learn from a batch; change nothing if the result is not finite."""
        state = None if batch.fresh else self.state
        logits, state = self.model(_tensor(batch.symbols), state)
        loss = cross_entropy(logits.flatten(0, 1), _tensor(batch.targets).flatten())
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        result = Result(loss.item(), norm.item())
        if result.finite:
            self.state = _each(Tensor.detach, state)  # carried on as a number: truncated BPTT
            self.optimizer.step()
        return result

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> float:
        """Return the mean loss over batches, which are one text after the other; learn nothing."""
        total, count, state = 0.0, 0, None
        for batch in batches:
            logits, state = self.model(_tensor(batch.symbols), None if batch.fresh else state)
            targets = _tensor(batch.targets).flatten()
            total += cross_entropy(logits.flatten(0, 1), targets, reduction="sum").item()
            count += batch.targets.size
        return total / count

    def state_dict(self) -> dict[str, Array]:
        """Return everything that has to be saved to go on later: `model.…`, `optimizer.…` and `state.…`."""
        optimizer: dict[str, Array] = {}
        for name, p in self.model.named_parameters():
            for memory, value in self.optimizer.state[p].items():
                if memory == "step":
                    optimizer["step"] = value.long().reshape(1).numpy()  # one count for all, as in numpy_rnn.optim
                else:
                    optimizer[f"{memory}.{name}"] = value.numpy()
        model = {name: p.detach().numpy() for name, p in self.model.named_parameters()}
        return pack(model, optimizer, _each(Tensor.numpy, self.state))

    def load_state_dict(self, tensors: dict[str, Array]) -> None:
        """Go on from what `state_dict` of a learner with the same config returned, in whatever backend."""
        model, optimizer, state = unpack(tensors)
        self._load_model(model)
        for name, p in self.model.named_parameters():
            self.optimizer.state[p] = {
                "step": torch.tensor(float(optimizer["step"][0])),
                "exp_avg": torch.tensor(optimizer[f"exp_avg.{name}"]),
                "exp_avg_sq": torch.tensor(optimizer[f"exp_avg_sq.{name}"]),
            }
        self.state = _each(torch.tensor, state)

    def _load_model(self, model: dict[str, Array]) -> None:
        self.model.load_state_dict({name: torch.tensor(value) for name, value in model.items()})


def _each(f: Callable[[Any], Any], state: Any) -> Any:
    """Apply f to h, to both of (h, c), or to nothing."""
    if state is None:
        return None
    return tuple(map(f, state)) if isinstance(state, tuple) else f(state)


def _tensor(symbols: Array) -> Tensor:
    return torch.as_tensor(symbols, dtype=torch.int64)
