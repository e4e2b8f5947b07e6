"""The step of `learner` in PyTorch: torch_rnn's network, autograd, torch's losses, clipping and Adam.

Imported on demand: it is the one part of training that needs PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from torch_rnn.network import Network

from ..fast.numerics import Array
from .learner import Learner, Problem, Result, pack, unpack
from .objective import Batch, spans
from .processes import SingleProcess


class TorchLearner(Learner):
    """Training in PyTorch; it starts from the same weights as `NumPyLearner` and reads and writes the same files.

    Parameters
    ----------
    problem : Problem
    device : str
        "cpu" or "cuda". Files do not know of it.
    group : SingleProcess or ProcessGroup
        The processes that share the batches; several share those whose sequences are of one length.
    """

    def __init__(self, problem: Problem, device: str = "cpu", group: SingleProcess | None = None) -> None:
        super().__init__(problem, group)
        self.device = device
        dtype = getattr(torch, problem.dtype)
        self.model = Network(**problem.network, bptt="manual", device=device, dtype=dtype)  # the quicker way
        self.load_model(problem.initial_network().state_dict())
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=problem.lr, weight_decay=problem.weight_decay)
        self.batch = 0  # B of the last batch, which the carried states are of
        self.state: Any = None

    def step(self, batch: Batch) -> Result:
        """See `Learner`."""
        group, self.batch = self.group, batch.x.shape[1]
        mine = batch.share(group.share(self.batch))
        y, state = self._run(mine, self.state)
        # The mean over the whole batch is the sum of the processes' means, each weighted by its share of the sequences.
        loss = self._loss(y, mine) * (y.shape[-2] / self.batch)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        group.sum_gradients(self.model)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.problem.max_norm)
        result = Result(group.total(loss.item())[0], norm.item())
        if result.finite:
            # Carried on as a number: truncated BPTT.
            self.state = _each(Tensor.detach, state) if self.problem.carried else None
            if batch.lr is not None:
                self.optimizer.param_groups[0]["lr"] = batch.lr
            self.optimizer.step()
        return result

    def outputs(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Array]]:
        """See `Learner`."""
        state = None
        for batch in batches:
            mine = batch.share(self.group.share(batch.x.shape[1]))
            with torch.no_grad():
                y, state = self._run(mine, state)
            yield mine, _array(y)

    def state_dict(self) -> dict[str, Array]:
        """See `Learner`."""
        optimizer: dict[str, Array] = {}
        for name, p in self.model.named_parameters():
            for memory, value in self.optimizer.state[p].items():
                if memory == "step":
                    optimizer["step"] = _array(value.long().reshape(1))  # one count for all, as in layers.optim
                else:
                    optimizer[f"{memory}.{name}"] = _array(value)
        model = {name: _array(p) for name, p in self.model.named_parameters()}
        return pack(model, optimizer, _each(lambda s: _array(self.group.whole(s, self.batch)), self.state))

    def load_state_dict(self, tensors: dict[str, Array]) -> None:
        """See `Learner`."""
        model, optimizer, state = unpack(tensors)
        self.load_model(model)
        for name, p in self.model.named_parameters():
            self.optimizer.state[p] = {
                "step": torch.tensor(float(optimizer["step"][0])),
                "exp_avg": torch.tensor(optimizer[f"exp_avg.{name}"], device=self.device),
                "exp_avg_sq": torch.tensor(optimizer[f"exp_avg_sq.{name}"], device=self.device),
            }
        if state is not None:
            self.batch = (state[0] if isinstance(state, tuple) else state).shape[1]
        share = self.group.share(self.batch)
        self.state = _each(lambda s: torch.tensor(s[:, share], device=self.device), state)

    def load_model(self, model: dict[str, Array]) -> None:
        """See `Learner`."""
        self.model.load_state_dict({name: torch.tensor(value) for name, value in model.items()})

    def _run(self, batch: Batch, state: Any) -> tuple[Tensor, Any]:
        lengths = None if batch.lengths is None else torch.from_numpy(batch.lengths.copy())
        y, state = self.model(self._tensor(batch.x), None if batch.fresh else state, lengths, self.problem.read)
        return y, state

    def _loss(self, y: Tensor, batch: Batch) -> Tensor:
        """Compute what `objective.loss` does, for autograd."""
        where: Any = ...
        if y.dim() == 3 and batch.lengths is not None:
            where = torch.from_numpy(batch.valid).to(self.device)
        rows = y[where]
        total = rows.new_zeros(())
        for (part, span), target in zip(spans(self.problem.parts), batch.target):
            right = self._tensor(target)[where]
            if part.kind == "numbers":
                total = total + mse_loss(rows[..., span], right)
            else:
                total = total + cross_entropy(rows[..., span].flatten(0, -2), right.flatten())
        return total

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(array.copy()).to(self.device)  # of its own: it may be read only, or run backwards


def _each(f: Callable[[Any], Any], state: Any) -> Any:
    """Apply f to h, to both of (h, c), or to nothing."""
    if state is None:
        return None
    return tuple(map(f, state)) if isinstance(state, tuple) else f(state)


def _array(tensor: Tensor) -> Array:
    return tensor.detach().cpu().numpy()
