"""Small runs of `numpy-rnn train`, for the tests: their options, and comparisons of what they leave."""

from __future__ import annotations

import numpy as np
import pytest

from numpy_rnn.train.batches import Batches
from numpy_rnn.train.checkpoint import read_checkpoint
from numpy_rnn.train.loop import Run

TINY = ["--hidden", "8", "--embedding", "4", "--batch", "4", "--seq-len", "8", "--interval", "10"]


def trial(config, task, epochs, backend="numpy", watch=lambda history, validated: False, before=None, save=None):
    """Make a run of at most so many epochs, and train to the end."""
    run = Run(config, task, epochs * Batches(task.train, config).per_epoch, backend=backend, before=before)
    run.train(watch, save)
    return run


def assert_one_sentence(err, *parts):
    """An error is a sentence (after click's usage hint), never a stack trace."""
    lines = [line for line in err.splitlines() if not line.startswith(("Usage:", "Try "))]
    assert len([line for line in lines if line]) == 1, err
    for part in parts:
        assert part in err


def assert_same_run(first, second):
    """Weights, optimizer, carried states and history are the same, bit for bit."""
    a, b = read_checkpoint(first), read_checkpoint(second)
    assert (a.config, a.history.training) == (b.config, b.history.training)
    assert set(a.tensors) == set(b.tensors)
    for name, tensor in a.tensors.items():
        np.testing.assert_array_equal(tensor, b.tensors[name], err_msg=name)


def assert_nearly_same_run(first, second, tolerance):
    """The same, but for rounding, and for when there were validations."""
    a, b = read_checkpoint(first), read_checkpoint(second)
    assert a.config == b.config
    np.testing.assert_allclose(a.history.training, b.history.training, rtol=0, atol=tolerance)
    found = dict(a.history.validation)
    for step, loss in b.history.validation:
        assert loss == pytest.approx(found.get(step, loss), abs=tolerance)
    assert set(a.tensors) == set(b.tensors)
    for name, tensor in a.tensors.items():
        np.testing.assert_allclose(tensor, b.tensors[name], rtol=0, atol=tolerance, err_msg=name)
