"""Optimizers and gradient clipping: PyTorch's rules, in place, on dictionaries of arrays.

An optimizer is made from a model's `state_dict()`, which holds the model's own arrays, and changes those in place;
`step` takes the gradients by the same names, as the model's `backward` returns them. The arithmetic follows
PyTorch's order of operations, so that a run here and one there stay together to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..fast.numerics import Array
from .arguments import check_shapes

Tensors = Mapping[str, Array]


class Optimizer:
    """What SGD, Adagrad and Adam share: the parameters, the checks and the memory that has to be saved to resume.

    Parameters
    ----------
    params : mapping of str to array
        Changed in place by `step`.
    memory : dict of str to float
        What is remembered of each parameter, by PyTorch's names, and the number it starts from.
    lr, weight_decay : float
        Learning rate, which may be assigned between two steps, and the weight of the penalty; 0 or more.
    settings : float
        Others of the rule, 0 or more; all become attributes.
    """

    lr: float
    weight_decay: float

    def __init__(self, params: Tensors, memory: dict[str, float], **settings: float) -> None:
        for name, param in params.items():
            if not isinstance(param, np.ndarray) or not np.issubdtype(param.dtype, np.floating):
                raise ValueError(f"{name} is not an array of floating-point numbers")
        if not params:
            raise ValueError("there are no parameters to optimize")
        self.params, self._kinds = dict(params), list(memory)
        vars(self).update({name: _checked(name, value) for name, value in settings.items()})
        self._memory: dict[str, Array] = {"step": np.zeros(1, np.int64)} if memory else {}
        for name, param in self.params.items():
            self._memory |= {f"{kind}.{name}": np.full_like(param, start) for kind, start in memory.items()}

    def step(self, grads: Tensors) -> None:
        """Change every parameter in place by one step.

        `grads` has for each parameter the gradient of the loss, in its shape, and is left unchanged.

        Raises
        ------
        ValueError
            If a name is missing or unknown, or a gradient has another shape than its parameter. No parameter
            has been changed then.
        """
        check_shapes(_shapes(grads), _shapes(self.params), "gradient ")
        if self._memory:
            self._memory["step"] += 1
        for name, param in self.params.items():
            g = grads[name] + self.weight_decay * param if self.weight_decay else grads[name]  # (1)
            param -= self._update(g, *(self._memory[f"{kind}.{name}"] for kind in self._kinds))

    def _update(self, g: Array, *memory: Array) -> Array:
        """Bring the memory of one parameter up to date; return what is subtracted from the parameter."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Array]:
        """Return a copy of what the optimizer remembers between two steps, to resume from.

        Keys are such as `exp_avg.weight_hh_l0`: PyTorch's name of the memory, then the parameter's name. Learning rate
        and other settings belong to the constructor and are not among them.
        """
        return {name: value.copy() for name, value in self._memory.items()}

    def load_state_dict(self, mapping: Tensors) -> None:
        """Take up where another optimizer of the same kind and parameters left off.

        `mapping` is what its `state_dict()` returned.

        Raises
        ------
        ValueError
            If a name or a shape does not belong to this optimizer. Nothing has been changed then.
        """
        check_shapes(_shapes(mapping), _shapes(self._memory), "optimizer state ")
        self._memory = {name: np.array(mapping[name], like.dtype) for name, like in self._memory.items()}


class SGD(Optimizer):
    """Gradient descent with momentum (Sutskever et al., ICML 2013, in the form of torch.optim.SGD).

    With gradient g, parameter p and memory v, which is g after the first step:

        (1)   g = g + weight_decay · p
        (2)   v = momentum · v + (1 - dampening) · g
        (3)   g = g + momentum · v   if nesterov, otherwise g = v
        (4)   p = p - lr · g

    Without momentum (2) and (3) are left out and nothing is remembered.

    `params` and `lr` are those of `Optimizer`, the other arguments torch's.

    Parameters
    ----------
    nesterov : bool
        Needs a momentum, and a dampening of 0.

    Raises
    ------
    ValueError
        If a number is negative or not finite, or `nesterov` lacks what it needs.

    Examples
    --------
    >>> p = {"w": np.array([1.0])}
    >>> optimizer = SGD(p, lr=0.1, momentum=0.9)
    >>> for _ in range(2):
    ...     optimizer.step({"w": np.array([1.0])})
    >>> round(p["w"].item(), 6)  # 1 - 0.1 - 0.1 · 1.9
    0.71
    """

    momentum: float
    dampening: float

    def __init__(
        self,
        params: Tensors,
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        memory = {"momentum_buffer": 0.0} if momentum else {}
        super().__init__(params, memory, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay)
        self.nesterov = nesterov
        if nesterov and (not momentum or dampening):
            raise ValueError(f"nesterov needs a momentum above 0 and a dampening of 0, got {momentum} and {dampening}")

    def _update(self, g: Array, *memory: Array) -> Array:
        for v in memory:  # one, or none without momentum
            v *= self.momentum
            v += (1 - self.dampening if self._memory["step"] > 1 else 1.0) * g  # (2)
            g = g + self.momentum * v if self.nesterov else v  # (3)
        return float(self.lr) * g  # (4); a NumPy scalar would turn float32 into float64


class Adagrad(Optimizer):
    """Steps that shrink as gradients add up (Duchi, Hazan & Singer, JMLR 12, 2011, in the form of torch.optim.Adagrad).

    With gradient g, parameter p, memory G, which starts as `initial_accumulator_value`, and t = 1 at the first step:

        (1)   g = g + weight_decay · p
        (2)   G = G + g²
        (3)   p = p - lr / (1 + (t - 1) lr_decay) · g / (√G + eps)

    Code that divides by √(G + ε) instead, as min-char-rnn does, is this with `initial_accumulator_value` ε and `eps` 0.

    `params` and `lr` are those of `Optimizer`, the other arguments torch's.

    Raises
    ------
    ValueError
        If a number is negative or not finite.

    Examples
    --------
    >>> p = {"w": np.array([1.0])}
    >>> optimizer = Adagrad(p, lr=0.1)
    >>> for gradient in (3.0, 4.0):
    ...     optimizer.step({"w": np.array([gradient])})
    >>> round(p["w"].item(), 6)  # 1 - 0.1 · 3/3 - 0.1 · 4/5
    0.82
    """

    lr_decay: float
    eps: float

    def __init__(
        self,
        params: Tensors,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        start = _checked("initial_accumulator_value", initial_accumulator_value)
        super().__init__(params, {"sum": start}, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps)

    def _update(self, g: Array, *memory: Array) -> Array:
        (total,) = memory
        total += g * g  # (2)
        denominator = np.sqrt(total)
        denominator += self.eps
        step_size = float(self.lr) / (1 + (int(self._memory["step"][0]) - 1) * self.lr_decay)
        return step_size * (g / denominator)  # (3)


class Adam(Optimizer):
    """Adaptive moments (Kingma & Ba, ICLR 2015, arXiv 1412.6980 v9, in the form of torch.optim.Adam).

    With gradient g, parameter p, memories m and v, which start at 0, and t = 1 at the first step:

        (1)   g = g + weight_decay · p
        (2)   m = m + (1 - β₁)(g - m)
        (3)   v = β₂ v + (1 - β₂) g²
        (4)   p = p - lr / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + eps)

    `params` and `lr` are those of `Optimizer`, the other arguments torch's.

    Parameters
    ----------
    betas : (float, float)
        β₁ and β₂, 0 or more and less than 1.

    Raises
    ------
    ValueError
        If a number is negative or not finite, or a beta is 1 or more.

    Examples
    --------
    >>> p = {"w": np.array([1.0])}
    >>> Adam(p, lr=0.1).step({"w": np.array([30.0])})
    >>> round(p["w"].item(), 6)  # the first step has the size of lr, whatever the gradient
    0.9
    """

    eps: float

    def __init__(
        self,
        params: Tensors,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"exp_avg": 0.0, "exp_avg_sq": 0.0}, lr=lr, eps=eps, weight_decay=weight_decay)
        for i, beta in enumerate(betas):
            if not 0 <= beta < 1:
                raise ValueError(f"betas[{i}] is {beta}, expected 0 or more and less than 1")
        beta1, beta2 = betas
        self.betas = (float(beta1), float(beta2))

    def _update(self, g: Array, *memory: Array) -> Array:
        (m, v), (beta1, beta2), t = memory, self.betas, int(self._memory["step"][0])
        if beta1 > 0.5:
            m += (1 - beta1) * (g - m)  # (2)
        else:
            m[...] = g - (g - m) * beta1  # (2) from the nearer end, so that β₁ = 0 gives g itself
        v *= beta2
        v += (1 - beta2) * (g * g)  # (3)
        denominator = np.sqrt(v)
        denominator /= (1 - beta2**t) ** 0.5
        denominator += self.eps
        return float(self.lr) / (1 - beta1**t) * (m / denominator)  # (4)


def clip_grad_norm(grads: Tensors, max_norm: float) -> Any:
    """Scale all gradients in place so that their common norm is at most `max_norm`; torch's `clip_grad_norm_`.

        (N1)  norm = √ Σ g²                     over every number of every array
        (N2)  g    = g · min(1, max_norm / (norm + 1e-6))

    The numbers are those of docs/learn/derivation, page 6.

    An infinite `max_norm` only measures.

    Returns
    -------
    scalar
        The norm before clipping. If it is NaN so are all gradients afterwards, and if it is infinite they are 0
        (NaN where they were infinite): look at it before the next step.

    Raises
    ------
    ValueError
        If `max_norm` is negative or NaN.

    Examples
    --------
    >>> g = {"w": np.array([3.0, 0.0]), "b": np.array([4.0])}
    >>> float(clip_grad_norm(g, 1.0))
    5.0
    >>> g["b"].round(5).tolist()
    [0.8]
    """
    _checked("max_norm", max_norm, finite=False)
    if not grads:
        return 0.0
    norm = np.linalg.norm([np.linalg.norm(g.ravel()) for g in grads.values()])  # (N1)
    scale = float(np.minimum(max_norm / (norm + 1e-6), 1.0))  # (N2); NumPy's minimum passes NaN on, Python's does not
    for g in grads.values():
        np.multiply(g, scale, out=g)  # (N2)
    return norm


def clip_grad_value(grads: Tensors, value: float) -> None:
    """Cut every number of every gradient, in place, to -value … value (Q1); torch's `clip_grad_value_`.

    NaN stays NaN.

    Raises
    ------
    ValueError
        If `value` is negative or NaN.

    Examples
    --------
    >>> g = {"w": np.array([-7.0, 0.5])}
    >>> clip_grad_value(g, 1.0)
    >>> g["w"].tolist()
    [-1.0, 0.5]
    """
    value = _checked("value", value, finite=False)
    for g in grads.values():
        np.clip(g, -value, value, out=g)  # (Q1)


def _shapes(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    return {name: np.shape(tensor) for name, tensor in tensors.items()}


def _checked(name: str, value: float, *, finite: bool = True) -> float:
    if not value >= 0 or (finite and not math.isfinite(value)):
        raise ValueError(f"{name} is {value}, expected {'a finite number' if finite else 'a number'} of 0 or more")
    return float(value)
