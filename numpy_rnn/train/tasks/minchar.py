"""The setting of min-char-rnn, with this project's layers, gradients and optimizer.

A. Karpathy's "minimal character-level language model" (gist.github.com/karpathy/d4dee566867f8291f086, July 2015) is one
file of NumPy from which many have learned what a recurrent network does. What it computes, in its own names:

    (1)   h_{t+1}  = tanh(Wxh x_t + Whh h_t + bh)      x_t one-hot, so that Wxh x_t is a column of Wxh
    (2)   logits_t = Why h_{t+1} + by
    (3)   loss     = Σ_t -log softmax(logits_t)[next symbol]      a sum over the window, in nats; no mean

    (4)   each number of each gradient is cut to ±5
    (5)   G = G + g²,    p = p - 0.1 · g / √(G + 1e-8)              Adagrad, with ε under the root
    (6)   smooth = 0.999 smooth + 0.001 loss                     at first 25 log K, what guessing among K symbols costs

100 units; windows of 25 symbols of one stream; h carried on from window to window, and zero again where the text
begins anew; weights 0.01 times a standard normal number, biases zero; float64.

(1) and (2) are `language.LanguageModel` with two parameters that never change: the embedding is the identity, so that
row s of it is the one-hot x, and b_hh is 0. There are two biases in this project and one bh there; Adagrad on both,
which have the same gradient, would move their sum twice as far. So b_ih is bh.

(5) is `optim.Adagrad` with G starting at 1e-8 and no ε of its own; torch.optim.Adagrad's ε stands outside the root.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...fast.numerics import Array
from ...layers.module import Seed
from ...layers.optim import Adagrad, clip_grad_value
from ..language import LanguageModel, network_arguments
from ..learner import NumPyLearner, Problem, Weights
from ..objective import Part
from ..text import Streams

HIDDEN, WINDOW, LR, CLIP, EPS, INITIAL, SMOOTHING = 100, 25, 0.1, 5.0, 1e-8, 0.01, 0.999
# Theirs and ours, in the order in which the weights are drawn.
WEIGHTS = {"Wxh": "rnn.weight_ih_l0", "Whh": "rnn.weight_hh_l0", "Why": "head.weight"}
BIASES = {"bh": "rnn.bias_ih_l0", "by": "head.bias"}
NAMES = {**WEIGHTS, **BIASES}


def initial_model(vocabulary_size: int, rng: Seed = None, hidden_size: int = HIDDEN) -> LanguageModel:
    """Make the model that training starts from.

    Parameters
    ----------
    vocabulary_size : int
        K.
    rng : int, numpy.random.Generator or None
        Wxh, Whh and Why are drawn from it, in this order.
    hidden_size : int
        H.

    Returns
    -------
    LanguageModel
        In float64; its embedding is the identity, its biases are 0.

    Examples
    --------
    >>> model = initial_model(vocabulary_size=7, rng=0)
    >>> {theirs: model.state_dict()[ours].shape for theirs, ours in NAMES.items()}
    {'Wxh': (100, 7), 'Whh': (100, 100), 'Why': (7, 100), 'bh': (100,), 'by': (7,)}
    """
    model = LanguageModel("rnn", vocabulary_size, hidden_size, embedding_size=vocabulary_size, dtype=np.float64, rng=0)
    rng = np.random.default_rng(rng)
    parameters = model.state_dict()
    for parameter in parameters.values():
        parameter[...] = 0
    parameters["embedding.weight"][...] = np.eye(vocabulary_size)
    for name in WEIGHTS.values():
        parameters[name][...] = INITIAL * rng.standard_normal(parameters[name].shape)
    return model


def streams(symbols: Array) -> Streams:
    """Cut a text as min-char-rnn does: one stream, windows of 25.

    The window that begins at p is read if p + 26 < n, though p + 26 = n would do: the last symbol is never a target.

    Parameters
    ----------
    symbols : integer array (number of symbols,)

    Returns
    -------
    training.text.Streams

    Raises
    ------
    ValueError
        If there are fewer than 27 symbols.
    """
    if len(symbols) < WINDOW + 2:
        raise ValueError(f"there are {len(symbols)} symbols to learn from, expected at least {WINDOW + 2}")
    return Streams(symbols[:-1], 1, WINDOW)


class Learner(NumPyLearner):
    """Training as min-char-rnn does: the loss (3) of a whole window, (4) and (5) in place of a norm and Adam.

    Parameters
    ----------
    model : LanguageModel
        As `initial_model` made it; changed in place.

    Examples
    --------
    >>> learner = Learner(initial_model(vocabulary_size=3, rng=0))
    >>> text = streams(np.arange(60) % 3)
    >>> losses = [learner.step(text.batch(step)).loss for step in range(200)]
    >>> round(losses[0] / 25, 1), round(losses[-1] / 25, 1)  # log 3 at first
    (1.1, 0.0)
    """

    def __init__(self, model: LanguageModel) -> None:
        K, parameters = model.output_size, model.state_dict()
        problem = Problem(
            network=network_arguments(model.config),
            parts=(Part("next symbol", "symbols", K),),
            read="every",
            carried=True,
            lr=LR,
            weight_decay=0.0,
            clip=0.0,  # of the norm
            seed=0,
            dtype="float64",
            reduction="sum",  # (3)
        )
        super().__init__(problem, model)
        trained = {name: parameters[name] for name in NAMES.values()}
        self.optimizer = Adagrad(trained, LR, initial_accumulator_value=EPS, eps=0.0)  # (5)

    def limit(self, grads: Weights) -> float:
        """Keep the gradients of what is trained, and cut each of their numbers (4); return their norm before."""
        for name in grads.keys() - NAMES.values():
            del grads[name]
        norm = float(np.linalg.norm([np.linalg.norm(grads[name]) for name in NAMES.values()]))
        clip_grad_value(grads, CLIP)
        return norm


def smooth(losses: Sequence[float], vocabulary_size: int) -> Array:
    """Smooth loss after each step, (6): the curve that min-char-rnn prints.

    Parameters
    ----------
    losses : sequence of float
        Of windows of 25, in nats.
    vocabulary_size : int
        K.

    Returns
    -------
    float64 array (number of losses,)

    Examples
    --------
    >>> smooth([0.0, 0.0], vocabulary_size=2).round(4).tolist()  # 25 log 2 = 17.3287 at first
    [17.3114, 17.294]
    """
    value, values = WINDOW * math.log(vocabulary_size), []
    for loss in losses:
        value = SMOOTHING * value + (1 - SMOOTHING) * loss
        values.append(value)
    return np.array(values)
