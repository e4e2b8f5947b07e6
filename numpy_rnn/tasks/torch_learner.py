"""The step of `learner` in PyTorch: torch_rnn's model, autograd, torch's losses, clipping and Adam.

Imported on demand: it is the one part of the tasks that needs PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from torch_rnn.network import Network

from ..numerics import Array
from ..training.learner import Result, pack, unpack
from .learner import Config, initial_model, mean_loss, model_arguments
from .objective import Batch, spans
from .task import Task


class TorchTaskLearner:
    """Training in PyTorch; it starts from the same weights as `TaskLearner` and reads and writes the same files.

    Parameters
    ----------
    config : Config
    task : Task
    """

    def __init__(self, config: Config, task: Task) -> None:
        self.parts, self.read = task.parts, task.read
        self.model = Network(**model_arguments(config, task), dtype=getattr(torch, config.dtype))
        self.load_model(initial_model(config, task).state_dict())
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        self.max_norm = config.clip or math.inf

    def step(self, batch: Batch) -> Result:
        """Learn from a batch; change nothing if the result is not finite."""
        loss = self._loss(self._output(batch), batch)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        result = Result(loss.item(), norm.item())
        if result.finite:
            self.optimizer.param_groups[0]["lr"] = batch.lr
            self.optimizer.step()
        return result

    @torch.no_grad()
    def output(self, batch: Batch) -> Array:
        """Return the model's output (T, B, O) or (B, O)."""
        return self._output(batch).numpy()

    def evaluate(self, batches: Iterable[Batch]) -> float:
        """Return the mean loss over batches; learn nothing."""
        return mean_loss(self, batches)

    def state_dict(self) -> dict[str, Array]:
        """Return everything that has to be saved to go on later: `model.…` and `optimizer.…`."""
        optimizer: dict[str, Array] = {}
        for name, p in self.model.named_parameters():
            for memory, value in self.optimizer.state[p].items():
                if memory == "step":
                    optimizer["step"] = value.long().reshape(1).numpy()  # one count for all, as in numpy_rnn.optim
                else:
                    optimizer[f"{memory}.{name}"] = value.detach().numpy()
        return pack({name: p.detach().numpy() for name, p in self.model.named_parameters()}, optimizer, None)

    def load_state_dict(self, tensors: dict[str, Array]) -> None:
        """Go on from what `state_dict` of a learner with the same config returned, in whatever backend."""
        model, optimizer, _ = unpack(tensors)
        self.load_model(model)
        for name, p in self.model.named_parameters():
            self.optimizer.state[p] = {
                "step": torch.tensor(float(optimizer["step"][0])),
                "exp_avg": torch.tensor(optimizer[f"exp_avg.{name}"]),
                "exp_avg_sq": torch.tensor(optimizer[f"exp_avg_sq.{name}"]),
            }

    def load_model(self, model: dict[str, Array]) -> None:
        """Take the model's weights alone."""
        self.model.load_state_dict({name: torch.tensor(value) for name, value in model.items()})

    def _output(self, batch: Batch) -> Tensor:
        lengths = None if batch.lengths is None else _tensor(batch.lengths)
        y: Tensor = self.model(_tensor(batch.x), lengths=lengths, read=self.read)[0]
        return y

    def _loss(self, y: Tensor, batch: Batch) -> Tensor:
        where: Any = torch.from_numpy(batch.valid) if y.dim() == 3 else slice(None)
        rows = y[where]
        total = rows.new_zeros(())
        for (part, span), target in zip(spans(self.parts), batch.target):
            function = mse_loss if part.kind == "numbers" else cross_entropy
            total = total + function(rows[:, span], _tensor(target)[where])
        return total


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(array.copy())  # of its own: an array may be read only, or run backwards
