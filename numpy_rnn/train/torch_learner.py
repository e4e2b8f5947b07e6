"""The step of `learner` in PyTorch: torch_rnn's network, autograd, torch's losses, clipping and Adam; and in both.

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
from .batches import Batch
from .learner import DisagreementError, Learner, Result, Weights, pack, unpack
from .processes import SingleProcess
from .settings import Config
from .task import Asked, spans

# Largest difference of two losses over the first steps of a run. Training amplifies rounding as it amplifies
# everything: with the default settings RNN, LSTM and GRU stay within 2e-15 (float32: 2e-6) for 200 steps, but the
# float64 LSTM is at 8e-7 after 300 and at 6e-3 after 500. So later a difference is shown, but not judged.
TOLERANCES = {"float64": 1e-9, "float32": 1e-4}
JUDGED_STEPS = 200
# Relative difference of loss and gradient norm, each from the same weights: some hundred times what is measured.
SAME = {"float64": 1e-12, "float32": 1e-4}


class TorchLearner(Learner):
    """The same in PyTorch, from the same weights and with the same files.

    Parameters
    ----------
    config, task
        As `Learner` takes them.
    device : str
        "cpu" or "cuda". Files do not know of it.
    group : SingleProcess, optional
        The processes that share the streams of a text.
    """

    def __init__(self, config: Config, task: Asked, device: str = "cpu", group: SingleProcess | None = None) -> None:
        super().__init__(config, task)
        self.device, self.group = device, group or SingleProcess()
        sizes, dtype, initial = config.network(**task.sizes), getattr(torch, config.dtype), self.model.state_dict()
        self.model = Network(**sizes, bptt="manual", device=device, dtype=dtype)  # the quicker way
        self.load_model(initial)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay)

    def step(self, batch: Batch, lr: float) -> Result:
        """See `Learner`."""
        group, B = self.group, batch.x.shape[1]
        mine = self._share(batch)
        y, state = self._run(mine, self.state)
        # The mean over the whole batch is the sum of the processes' means, each weighted by its share of the sequences.
        loss = self._loss(y, mine) * (y.shape[-2] / B)
        self.optimizer.zero_grad()
        loss.backward()
        group.sum_gradients(self.model)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        result = Result(group.reduced([loss.item()], "SUM")[0], norm.item())
        if result.finite:
            # Carried on as a number: truncated BPTT.
            self.state = _each(Tensor.detach, state) if self.config.seq_len else None
            self.optimizer.param_groups[0]["lr"] = lr
            self.optimizer.step()
        return result

    def outputs(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Array]]:
        """See `Learner`."""
        state = None
        for mine in map(self._share, batches):
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
        return pack(model, optimizer, _each(lambda s: _array(self.group.whole(s, self.config.batch)), self.state))

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
        share = self.group.share(self.config.batch)
        self.state = _each(lambda s: torch.tensor(s[:, share], device=self.device), state)

    def load_model(self, model: Weights) -> None:
        """See `Learner`."""
        self.model.load_state_dict({name: torch.tensor(value) for name, value in model.items()})

    def _share(self, batch: Batch) -> Batch:
        """Of the streams of a text those of this process."""
        if self.group.size == 1:
            return batch
        share = self.group.share(batch.x.shape[1])
        return batch._replace(x=batch.x[:, share], target=(batch.target[0][:, share],))

    def _run(self, batch: Batch, state: Any) -> tuple[Tensor, Any]:
        lengths = None if batch.lengths is None else torch.from_numpy(batch.lengths.copy())
        y, state = self.model(self._tensor(batch.x), None if batch.fresh else state, lengths, self.task.read)
        return y, state

    def _loss(self, y: Tensor, batch: Batch) -> Tensor:
        """Compute what `learner.loss` does, for autograd."""
        where: Any = ...
        if y.dim() == 3 and batch.lengths is not None:
            where = torch.from_numpy(batch.valid).to(self.device)
        rows = y[where]
        total = rows.new_zeros(())
        for (part, span), target in zip(spans(self.task.parts), batch.target):
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


class Lockstep(Learner):
    """Training in NumPy, and in PyTorch beside it, which follows and is compared."""

    def __init__(self, config: Config, task: Asked) -> None:
        super().__init__(config, task)
        self.other = TorchLearner(config, task)
        self.steps = 0
        self.difference: float = 0.0

    def step(self, batch: Batch, lr: float) -> Result:
        """Learn from a batch twice.

        Raises
        ------
        DisagreementError
            If the losses are further apart than the tolerance, and this is one of the first steps.
        """
        result, other = super().step(batch, lr), self.other.step(batch, lr)
        difference, tolerance = abs(result.loss - other.loss), TOLERANCES[self.config.dtype]
        self.difference = max(self.difference, difference)
        self.steps += 1
        # A first loss that is not finite is for the loop to report; `not <=` catches NaN in the second alone.
        if self.steps <= JUDGED_STEPS and result.finite and not difference <= tolerance:
            raise DisagreementError(
                f"the losses are {result.loss!r} and {other.loss!r}, {difference:.1e} apart, beyond {tolerance:.0e}; "
                f"{self._diagnosis(batch, lr)}"
            )
        return result

    def _diagnosis(self, batch: Batch, lr: float) -> str:
        """Compare one step from equal weights: that tells a wrong computation from rounding that has grown."""
        self.other.load_state_dict(self.state_dict())
        ours, theirs = super().step(batch, lr), self.other.step(batch, lr)
        relative = max(abs(a - b) / abs(a) for a, b in zip(ours, theirs))
        if relative <= SAME[self.config.dtype]:
            return (
                f"from equal weights a step agrees to {relative:.1e}, so this is rounding that training has amplified, "
                f"which a smaller learning rate delays"
            )
        return f"even from equal weights a step differs by {relative:.1e}, so one of them computes something else"

    def load_state_dict(self, tensors: dict[str, Array]) -> None:
        """Let both go on from there."""
        super().load_state_dict(tensors)
        self.other.load_state_dict(tensors)
