"""Train `numpy-rnn train`'s model in NumPy and in torch.nn, in turn, in one process: `python -m benchmarks.language`.

The twin in PyTorch is what one would write there: nn.Embedding, nn.RNN or nn.GRU, nn.Linear, cross_entropy, backward,
clip_grad_norm_, Adam, all eager. It begins with the same weights and sees the same batches, and its losses must be the
same. Two threads wait for one another and mean something on an idle machine only; `--threads 1` leaves them out.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import threadpoolctl  # type: ignore[import-untyped, unused-ignore]
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from numpy_rnn.train.learner import NumPyLearner
from numpy_rnn.train.objective import Batch
from numpy_rnn.train.settings import Config, initial_model, problem
from numpy_rnn.train.text import Streams, read_text

TOLERANCE = 1e-4  # of the losses, relative, over the few steps that are compared; float32
NN: dict[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class Twin(nn.Module):
    """The model, and a step of training, in torch.nn.

    Parameters
    ----------
    config : Config
    vocabulary_size : int
    """

    def __init__(self, config: Config, vocabulary_size: int) -> None:
        super().__init__()
        dtype = getattr(torch, config.dtype)
        self.embedding = nn.Embedding(vocabulary_size, config.embedding, dtype=dtype)
        self.rnn = NN[config.cell](config.embedding, config.hidden, config.layers, dtype=dtype)
        self.head = nn.Linear(config.hidden, vocabulary_size, dtype=dtype)
        initial = initial_model(config, vocabulary_size).state_dict()
        self.load_state_dict({name: torch.tensor(value) for name, value in initial.items()})
        self.optimizer = torch.optim.Adam(self.parameters(), lr=config.lr)
        self.max_norm = config.clip or math.inf
        self.state: Any = None

    def step(self, batch: Batch) -> float:
        """Learn from a batch; return the loss."""
        symbols, targets = torch.from_numpy(batch.x), torch.from_numpy(batch.target[0])
        y, state = self.rnn(self.embedding(symbols), None if batch.fresh else self.state)
        loss = cross_entropy(self.head(y).flatten(0, 1), targets.flatten())
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters(), self.max_norm)
        self.optimizer.step()
        self.state = state.detach() if isinstance(state, Tensor) else tuple(s.detach() for s in state)
        return loss.item()


class Contestant(NamedTuple):
    """Something that takes steps of training, on so many threads."""

    name: str
    step: Callable[[Batch], float]
    threads: int


def contestants(config: Config, vocabulary_size: int, threads: Sequence[int]) -> list[Contestant]:
    """NumPy and torch.nn, each on each number of threads.

    Parameters
    ----------
    config : Config
    vocabulary_size : int
    threads : sequence of int

    Returns
    -------
    list of Contestant
    """

    def ours() -> Callable[[Batch], float]:
        learner = NumPyLearner(problem(config, vocabulary_size))
        return lambda batch: learner.step(batch).loss

    made: dict[str, Callable[[], Callable[[Batch], float]]] = {
        "numpy_rnn": ours,
        "torch.nn": lambda: Twin(config, vocabulary_size).step,
    }
    return [Contestant(name, make(), n) for n in threads for name, make in made.items()]


def seconds(contestant: Contestant, batches: list[Batch]) -> tuple[float, list[float]]:
    """Take steps; return seconds for each in the mean, and the losses."""
    torch.set_num_threads(contestant.threads)
    limit: AbstractContextManager[Any] = (
        threadpoolctl.threadpool_limits(contestant.threads, "blas") if contestant.name == "numpy_rnn" else nullcontext()
    )
    with limit:
        start = time.perf_counter()
        losses = [contestant.step(batch) for batch in batches]
        return (time.perf_counter() - start) / len(batches), losses


def measure(config: Config, steps: int, repeats: int, threads: Sequence[int]) -> dict[str, Any]:
    """Let all take the same steps in turn, after five to warm up.

    Parameters
    ----------
    config : Config
    steps : int
        That each takes in a turn.
    repeats : int
        Turns.
    threads : sequence of int

    Returns
    -------
    dict
        Milliseconds a step of each turn, and of each turn torch.nn's time / numpy_rnn's, each at its better number of
        threads.

    Raises
    ------
    ArithmeticError
        If the losses of the warm-up differ.
    """
    text = read_text(None, config.symbols)
    streams = Streams(text.training, config.batch, config.seq_len)
    everyone = contestants(config, len(text.vocabulary), threads)
    first = [seconds(c, [streams.batch(k) for k in range(5)])[1] for c in everyone]
    for c, losses in zip(everyone, first):
        if not np.allclose(losses, first[0], rtol=TOLERANCE, atol=0):
            raise ArithmeticError(f"{c.name} has losses {losses}, {everyone[0].name} {first[0]}")
    turns: list[list[float]] = []
    for turn in range(repeats):
        batches = [streams.batch(5 + turn * steps + k) for k in range(steps)]
        turns.append([1e3 * seconds(c, batches)[0] for c in everyone])
    best = [
        {name: min(t for c, t in zip(everyone, turn) if c.name == name) for name in ("numpy_rnn", "torch.nn")}
        for turn in turns
    ]
    return {
        "cell": config.cell,
        "milliseconds": {f"{c.name}, {c.threads}": [turn[k] for turn in turns] for k, c in enumerate(everyone)},
        "ratios": [b["torch.nn"] / b["numpy_rnn"] for b in best],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", action="append", choices=list(NN), help="may be repeated; default: rnn and gru")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--steps", type=int, default=60, help="in a turn")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--threads", action="append", type=int, choices=(1, 2), help="may be repeated; default: 1 and 2"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results = []
    for cell in args.cell or ("rnn", "gru"):
        # Everything else as `numpy-rnn train` has it by default.
        config = Config(cell, 1, args.hidden, 64, 64, 32, 0.005, 1.0, 0, "float32", "characters")
        results.append(measure(config, args.steps, args.repeats, args.threads or (1, 2)))
    if args.json:
        print(json.dumps(results, indent=1))
        return
    for result in results:
        print(f"{result['cell']}, milliseconds a step in each of {args.repeats} turns:")
        for name, times in result["milliseconds"].items():
            print(f"  {name + ' thread' + 's' * name.endswith('2'):20}", *(f"{t:7.2f}" for t in times))
        ratios = result["ratios"]
        print(f"  torch.nn / numpy_rnn, each at its better number of threads: {statistics.median(ratios):.2f}", end=" ")
        print(f"({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
