"""CUDA graphs behind a plain call: a layer's hundreds of small kernels, captured once a shape and launched as one.

A step of a small layer keeps a GPU busy for a few microseconds, which is what launching a single kernel takes. A graph
holds all steps, forward or backward, and is launched at once (PyTorch's `torch.cuda.make_graphed_callables`).
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.utils._pytree import tree_flatten, tree_unflatten


class CudaGraphs(Module):
    """A layer or cell, run by CUDA graphs where that is possible and as it is where not.

    The first call with tensors of new shapes captures a graph, which takes some twenty times as long as a call, and
    memory for as long as this module lives. Parameters stay those of the layer; train them as ever.

    What cannot be captured runs as it is: anything not on a GPU, a PackedSequence (its lengths are read in Python), and
    calls under autocast or inside another capture.

    Two things differ from a plain call. There are first derivatives only. And a graph has one set of buffers: backward
    has to follow before the next forward of the same shapes. Where it comes too late, it raises.

    Parameters
    ----------
    layer : Module
        An `RNN`, `LSTM` or `GRU`, or a cell.

    Examples
    --------
    >>> from torch_rnn import GRU
    >>> layer = CudaGraphs(GRU(10, 20))
    >>> output, h_n = layer(torch.randn(6, 3, 10))  # on the CPU: as it is
    >>> output.shape
    torch.Size([6, 3, 20])
    """

    def __init__(self, layer: Module) -> None:
        super().__init__()
        self.layer = layer
        self._graphs: dict[Hashable, _Graph] = {}

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Run the layer; arguments, results and errors are those of the layer.

        Raises
        ------
        RuntimeError
            In backward, if another forward of the same shapes has come in between.
        """
        if not capturable(input):
            return self.layer(input, hx)
        tensors, structure = tree_flatten((input, hx))
        values = *map(tensor_key, tensors), *((p.data_ptr(), p.requires_grad) for p in self.layer.parameters())
        key = str(structure), values, self.training, torch.is_grad_enabled()
        if key not in self._graphs:
            self._graphs[key] = _Graph(self.layer, tensors, structure)
        return self._graphs[key](tensors)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_graphs": {}}  # a copy, or what is read from a file, captures its own


class _Graph:
    """One capture: the graphs of forward and backward for tensors of the same shapes."""

    def __init__(self, layer: Module, tensors: Sequence[Any], structure: Any) -> None:
        self.places = [k for k, t in enumerate(tensors) if isinstance(t, Tensor)]
        call = _Call(layer, [None if isinstance(t, Tensor) else t for t in tensors], structure, self.places)
        samples = tuple(tensors[k].detach().clone().requires_grad_(tensors[k].requires_grad) for k in self.places)
        with warnings.catch_warnings():
            # It warms up on one stream and captures on another, of which newer versions of PyTorch warn.
            warnings.filterwarnings("ignore", "The AccumulateGrad node's stream does not match")
            self.replay: Any = torch.cuda.make_graphed_callables(call, samples)
        self.results = call.results
        self.latest = 0  # which forward the buffers hold

    def __call__(self, tensors: Sequence[Any]) -> Any:
        self.latest += 1
        this = self.latest

        def check(gradient: Tensor) -> None:
            if self.latest != this:
                raise RuntimeError(
                    "backward of a forward whose buffers another forward of the same shapes has used since: "
                    "a CUDA graph has one set of them, so call backward first, or use the layer without CudaGraphs"
                )

        outputs = self.replay(*(tensors[k] for k in self.places))
        copies = [output.clone() for output in outputs]  # the next replay writes where these stand
        for copy in copies:
            if copy.requires_grad:
                copy.register_hook(check)
        return tree_unflatten(copies, self.results)


class _Call(Module):
    """A layer's call as PyTorch captures it: tensors in, a tuple of tensors out."""

    def __init__(self, layer: Module, fixed: list[Any], structure: Any, places: Sequence[int]) -> None:
        super().__init__()
        self.layer, self.fixed, self.structure, self.places = layer, fixed, structure, places
        self.results: Any = None
        self.train(layer.training)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        arguments = list(self.fixed)
        for k, tensor in zip(self.places, tensors):
            arguments[k] = tensor
        outputs, self.results = tree_flatten(self.layer(*tree_unflatten(arguments, self.structure)))
        return tuple(outputs)


def capturable(input: Any) -> bool:
    """Whether a call can be a CUDA graph: a plain tensor on a GPU, and nobody looking into the operations."""
    if not isinstance(input, Tensor) or not input.is_cuda:
        return False
    busy = torch.cuda.is_current_stream_capturing() or torch.compiler.is_compiling()
    return not (busy or torch.is_autocast_enabled("cuda"))


def tensor_key(value: Any) -> Hashable:
    """What a capture depends on of an argument.

    Examples
    --------
    >>> tensor_key(torch.zeros(2, 3))
    (torch.Size([2, 3]), (3, 1), torch.float32, device(type='cpu'), False)
    """
    if not isinstance(value, Tensor):
        return repr(value)
    return value.shape, value.stride(), value.dtype, value.device, value.requires_grad
