"""Training on a task: fresh sequences at every step, and now and then a score on sequences kept aside."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from ...fast.registry import FAMILIES
from ...layers.network import Network
from ...layers.optim import SGD
from ...train.batches import Batch
from ...train.learner import History, Result
from ...train.learner import Learner as NumPyLearner
from ...train.settings import Config
from .tasks import TASKS

# The network's cell of every start: the plain ones, and those with initial values of their own.
CELLS = {**{name: name for name in FAMILIES}, "lstm-chrono": "lstm", "gru-chrono": "gru", "irnn": "rnn_relu"}
LAYER = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
IRNN_WEIGHT = 0.001  # standard deviation of the weights from the input
# Of Adam: the best of 0.001, 0.003 and 0.01, as docs/learn/experiments.md tells; the chrono cells and "irnn" at copying
# have those of a task or cell that is next to them.
LEARNING_RATES = {
    "adding": {"rnn": 0.003, "lstm": 0.01, "gru": 0.01, "lstm-chrono": 0.01, "gru-chrono": 0.01, "irnn": 0.003},
    "copying": {"rnn": 0.01, "lstm": 0.01, "gru": 0.01, "lstm-chrono": 0.01, "gru-chrono": 0.01, "irnn": 0.003},
    "lag": {"rnn": 0.01, "lstm": 0.003, "gru": 0.01, "lstm-chrono": 0.01, "gru-chrono": 0.01, "irnn": 0.003},
}
KEPT_ASIDE = 500  # sequences that nothing is learnt from


@dataclass(frozen=True)
class Settings:
    """What determines a run: two runs with the same settings end the same."""

    task: str
    cell: str
    lag: int
    hidden: int
    batch: int
    steps: int
    lr: float
    clip: float  # largest norm of the gradient; 0: no limit
    seed: int
    interval: int  # steps between two scores
    optimizer: Literal["adam", "sgd"] = "adam"


class Run(NamedTuple):
    """What came of a training."""

    settings: Settings
    results: list[Result]  # of each step the loss before it and the gradient's norm before clipping
    curve: list[tuple[int, float]]  # after how many steps, score on the sequences kept aside
    complete: bool  # it was not interrupted
    seconds: float

    @property
    def score(self) -> float:
        """The last one."""
        return self.curve[-1][1]

    @property
    def steps(self) -> int:
        """How many were taken: fewer than were granted if the task was solved before, or the loss not finite."""
        return self.curve[-1][0]

    @property
    def solved(self) -> bool:
        """Whether the last score is as good as the task asks."""
        return TASKS[self.settings.task].solves(self.score, self.settings.lag)

    @property
    def burst(self) -> int | None:
        """The first step, counted from 1, at which the loss or the gradient's norm was infinite or not a number."""
        return None if all(r.finite for r in self.results[-1:]) else len(self.results)

    @property
    def largest_norm(self) -> float:
        """The largest finite norm of a gradient."""
        return max((r.norm for r in self.results if math.isfinite(r.norm)), default=math.nan)


def initial_network(cell: str, sizes: dict[str, Any], memory: int, rng: np.random.Generator) -> Network:
    """Make a network that training starts from.

    Parameters
    ----------
    cell : str
        One of `CELLS`. All start as torch.nn's layers do, uniform in ±1/√H, but for: "lstm", whose forget gates have a
        bias of 1 (Gers, Schmidhuber & Cummins 2000; Jozefowicz, Zaremba & Sutskever, ICML 2015); "lstm-chrono" and
        "gru-chrono", see `memory` (Tallec & Ollivier, arXiv 1804.11188 v1); "irnn", a relu RNN with W_hh = 1, W_ih
        normal with deviation 0.001 and biases 0 (Le, Jaitly & Hinton, arXiv 1504.00941 v2).
    sizes : dict
        Arguments of `Network` besides the cell.
    memory : int
        How many steps the chrono cells are to hold, at least 2: the bias of their forget gates (the GRU's z, which in
        torch.nn's form keeps) is log u with u uniform in [1, memory - 1], that of the LSTM's input gates -log u.
    rng : numpy.random.Generator

    Examples
    --------
    >>> sizes = {"input_size": 2, "hidden_size": 3, "output_size": 1}
    >>> network = initial_network("irnn", sizes, memory=2, rng=np.random.default_rng(0))
    >>> network.state_dict()["rnn.weight_hh_l0"].tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    network, H = Network(CELLS[cell], **sizes, dtype=np.float32, rng=rng), sizes["hidden_size"]
    W_ih, W_hh, b_ih, b_hh = (network.state_dict()[f"rnn.{name}_l0"] for name in LAYER)
    held = np.log(rng.uniform(1, memory - 1, H)) if "chrono" in cell else 1
    if cell.startswith("lstm"):
        b_ih[H : 2 * H], b_hh[H : 2 * H] = held, 0  # f
    if cell == "lstm-chrono":
        b_ih[:H], b_hh[:H] = -held, 0  # i
    if cell == "gru-chrono":
        b_ih[H : 2 * H], b_hh[H : 2 * H] = held, 0  # z
    if cell == "irnn":
        W_ih[...] = IRNN_WEIGHT * rng.standard_normal(W_ih.shape)
        W_hh[...] = np.eye(H)
        b_ih[...] = b_hh[...] = 0
    return network


class Learner(NumPyLearner):
    """The learner of `train`, on a task of this package; what it evaluates is the task's score."""

    def __init__(self, settings: Settings) -> None:
        # The initial weights, the sequences to learn from and those kept aside are independent of one another.
        initial, self._learning, aside = (np.random.default_rng([settings.seed, k]) for k in range(3))
        self.experiment, self.settings = TASKS[settings.task], settings
        sizes = {**self.experiment.sizes, "hidden_size": settings.hidden}
        model = initial_network(settings.cell, sizes, max(settings.lag, 2), initial)
        optimizer = SGD(model.state_dict(), settings.lr) if settings.optimizer == "sgd" else None
        config = Config(settings.task, lr=settings.lr, clip=settings.clip)
        super().__init__(config, self.experiment, model, optimizer)
        self.aside = self.experiment.batch(settings.lag, KEPT_ASIDE, aside)

    def batch(self, step: int) -> Batch:
        """Make the fresh sequences of a step."""
        return self.experiment.batch(self.settings.lag, self.settings.batch, self._learning)

    def evaluate(self, batches: Iterable[Batch]) -> float:
        """Return the mean score over batches."""
        return float(np.mean([self.experiment.score(y, batch) for batch, y in self.outputs(batches)]))


def train(settings: Settings, stepped: Callable[[History], bool] = lambda history: True) -> Run:
    """Train a network until the task is solved, the steps are used up or a number is no longer finite.

    By plain gradient descent the last is easily seen. The gradient that has come back over k steps holds a product of
    k factors W_hhᵀ f'(a_t). Where these are larger than 1 on average it grows exponentially with k. tanh holds it down,
    since tanh' is near 0 where the states are large; relu does not, so that one step along such a gradient throws the
    weights so far that the next states, which grow as W_hhᵏ, are no longer numbers. Scaling the gradient to a norm of
    at most 1 keeps its direction and takes a step of bounded length (Pascanu, Mikolov & Bengio, ICML 2013, arXiv
    1211.5063 v2, section 3.2).

    Parameters
    ----------
    settings : Settings
    stepped : function of History
        Called after each step with all that has happened; returns whether to go on.

    Raises
    ------
    ValueError
        If a setting is out of range.

    Examples
    --------
    >>> without = Settings("adding", "irnn", 100, 32, 32, 50, lr=0.3, clip=0, seed=0, interval=50, optimizer="sgd")
    >>> train(without).burst
    2
    >>> from dataclasses import replace
    >>> train(replace(without, clip=1)).burst is None
    True
    """
    start, learner = time.perf_counter(), Learner(settings)
    results: list[Result] = []
    curve = [(0, learner.evaluate([learner.aside]))]
    complete = True
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is looked at instead
        for step in range(1, settings.steps + 1):
            results.append(learner.step(learner.batch(step), settings.lr))
            if not results[-1].finite:
                curve.append((step - 1, math.nan))
                break
            if due := step % settings.interval == 0 or step == settings.steps:
                curve.append((step, learner.evaluate([learner.aside])))
            complete = stepped(History(results, curve))
            if not complete or (due and learner.experiment.solves(curve[-1][1], settings.lag)):
                break
    return Run(settings, results, curve, complete, time.perf_counter() - start)
