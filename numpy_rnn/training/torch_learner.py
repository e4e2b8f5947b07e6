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
from .processes import Alone
from .text import Batch


class TorchLearner:
    """Training in PyTorch; it starts from the same weights as `NumPyLearner` and reads and writes the same files.

    Parameters
    ----------
    config : Config
    vocabulary_size : int
    device : str
        "cpu" or "cuda". Files do not know of it.
    group : Alone or Together
        The processes that share the batches.
    """

    def __init__(self, config: Config, vocabulary_size: int, device: str = "cpu", group: Alone | None = None) -> None:
        self.device, self.group, self.batch = device, group or Alone(), config.batch
        self.model = LanguageModel(
            config.cell,
            vocabulary_size,
            config.hidden,
            config.layers,
            config.embedding,
            device,
            getattr(torch, config.dtype),
        )
        self._load_model(initial_model(config, vocabulary_size).state_dict())
        self.parallel = self.group.parallel(self.model)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.lr)
        self.max_norm = config.clip or math.inf
        self.state: Any = None

    def step(self, batch: Batch) -> Result:
        """Learn from a batch; change nothing if the result is not finite."""
        group, B = self.group, batch.symbols.shape[1]
        symbols, targets = self._share(batch)
        logits, state = self.parallel(symbols, None if batch.fresh else self.state)
        loss = cross_entropy(logits.flatten(0, 1), targets.flatten()) * group.scale(B)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        result = Result(group.total(loss.item())[0] / group.size, norm.item())
        if result.finite:
            self.state = _each(Tensor.detach, state)  # carried on as a number: truncated BPTT
            self.optimizer.step()
        return result

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> float:
        """Return the mean loss over batches, which are one text after the other; learn nothing."""
        total, count, state = 0.0, 0, None
        for batch in batches:
            symbols, targets = self._share(batch)
            logits, state = self.model(symbols, None if batch.fresh else state)
            total += cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item()
            count += batch.targets.size
        return self.group.total(total)[0] / count

    def state_dict(self) -> dict[str, Array]:
        """Return everything that has to be saved to go on later: `model.…`, `optimizer.…` and `state.…`."""
        optimizer: dict[str, Array] = {}
        for name, p in self.model.named_parameters():
            for memory, value in self.optimizer.state[p].items():
                if memory == "step":
                    optimizer["step"] = _array(value.long().reshape(1))  # one count for all, as in numpy_rnn.optim
                else:
                    optimizer[f"{memory}.{name}"] = _array(value)
        model = {name: _array(p) for name, p in self.model.named_parameters()}
        return pack(model, optimizer, _each(lambda s: _array(self.group.whole(s, self.batch)), self.state))

    def load_state_dict(self, tensors: dict[str, Array]) -> None:
        """Go on from what `state_dict` of a learner with the same config returned, in whatever backend."""
        model, optimizer, state = unpack(tensors)
        self._load_model(model)
        for name, p in self.model.named_parameters():
            self.optimizer.state[p] = {
                "step": torch.tensor(float(optimizer["step"][0])),
                "exp_avg": torch.tensor(optimizer[f"exp_avg.{name}"], device=self.device),
                "exp_avg_sq": torch.tensor(optimizer[f"exp_avg_sq.{name}"], device=self.device),
            }
        share = self.group.share(self.batch)
        self.state = _each(lambda s: torch.tensor(s[:, share], device=self.device), state)

    def _share(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Symbols and targets of the sequences that this process sees."""
        share = self.group.share(batch.symbols.shape[1])
        symbols, targets = (
            torch.as_tensor(s[:, share], dtype=torch.int64, device=self.device) for s in (batch.symbols, batch.targets)
        )
        return symbols, targets

    def _load_model(self, model: dict[str, Array]) -> None:
        self.model.load_state_dict({name: torch.tensor(value) for name, value in model.items()})


def _each(f: Callable[[Any], Any], state: Any) -> Any:
    """Apply f to h, to both of (h, c), or to nothing."""
    if state is None:
        return None
    return tuple(map(f, state)) if isinstance(state, tuple) else f(state)


def _array(tensor: Tensor) -> Array:
    return tensor.detach().cpu().numpy()
