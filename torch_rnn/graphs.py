"""CUDA graphs behind a plain call: a layer's hundreds of small kernels, captured once a shape and launched as one.

A step of a small layer keeps a GPU busy for a few microseconds, which is what launching a single kernel takes. A graph
holds all steps, forward or backward, and is launched at once.

A graph reads and writes the same memory every time. What comes in is copied there, and what goes out is copied from
there: so an output or a gradient stays what it is when the graph runs again, and gradients add up over several calls.
(Those of `torch.cuda.make_graphed_callables` do not: pytorch/pytorch#181723.)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import Module
from torch.utils._pytree import tree_flatten, tree_unflatten

from .bptt.function import transformed
from .fused import precision

WARM_UP = 3  # runs before a capture: libraries set themselves up in them, which no graph can hold


class CudaGraphs(Module):
    """A layer or cell, run by CUDA graphs where that is possible and as it is where not.

    The first call with tensors of new shapes captures a graph, which takes some twenty times as long as a call, and
    memory for as long as this module lives. Parameters stay those of the layer; train them as ever.

    What cannot be captured runs as it is: anything not on a GPU, a PackedSequence (its lengths are read in Python), and
    calls under `torch.func`, forward-mode differentiation, `torch.compile` or autocast, or inside another capture.

    Two things differ from a plain call. There are first derivatives only. And what backward needs is kept for the
    newest forward of the same shapes alone: backward has to follow before the next. Where it comes too late, it raises.

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
        key = str(structure), values, self.training, torch.is_grad_enabled(), precision(input.dtype)
        if key not in self._graphs:
            self._graphs[key] = _Graph(self.layer, tensors, structure)
        return self._graphs[key](tensors)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_graphs": {}}  # a copy, or what is read from a file, captures its own


class Passes(NamedTuple):
    """Forward and backward as graphs, and the memory that they read and write.

    Where an output has no gradient, there is None in `upstream`; `gradients` are those of the inputs, then those of the
    parameters, None where there is none.
    """

    inputs: list[Tensor]
    forward: Callable[[], Any]
    outputs: list[Tensor]
    upstream: list[Tensor | None]
    backward: Callable[[], Any]
    gradients: list[Tensor | None]


def captured(call: Callable[..., list[Tensor]], tensors: Sequence[Tensor], parameters: Sequence[Tensor]) -> Passes:
    """Capture a call with inputs and parameters, and its backward."""
    inputs = [z.detach().clone().requires_grad_(z.requires_grad) for z in tensors]
    # Leaves of their own on the parameters' memory: a user's leaf may accumulate on a stream that is not captured.
    operands = [*inputs, *(p.detach().requires_grad_(p.requires_grad) for p in parameters)]
    stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call, unused-ignore]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            outputs = call(*operands)
            gradients_of(outputs, operands, room_for_gradients(outputs))
        del outputs  # and what accumulates on this stream
    torch.cuda.current_stream().wait_stream(stream)
    forward, backward, pool = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    with torch.cuda.graph(forward, pool=pool):
        outputs = call(*operands)
    upstream = room_for_gradients(outputs)
    gradients: list[Tensor | None] = [None for _ in operands]
    if any(d is not None for d in upstream):  # of an empty graph PyTorch warns
        with torch.cuda.graph(backward, pool=pool):
            gradients = gradients_of(outputs, operands, upstream)
    return Passes(inputs, forward.replay, [z.detach() for z in outputs], upstream, backward.replay, gradients)


def room_for_gradients(outputs: Sequence[Tensor]) -> list[Tensor | None]:
    """Memory for what comes from above, None where nothing can."""
    return [torch.zeros_like(z) if z.requires_grad else None for z in outputs]


def gradients_of(
    outputs: Sequence[Tensor], operands: Sequence[Tensor], upstream: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Gradients, None where none is wanted. What is saved stays, so that backward may run again."""
    heads = [(z, d) for z, d in zip(outputs, upstream) if d is not None]
    if not heads:
        return [None for _ in operands]
    wanted = [z for z in operands if z.requires_grad]
    found = iter(torch.autograd.grad([z for z, _ in heads], wanted, [d for _, d in heads], retain_graph=True))
    return [next(found) if z.requires_grad else None for z in operands]


class _Graph:
    """One capture: the graphs of forward and backward for tensors of the same shapes."""

    def __init__(self, layer: Module, tensors: Sequence[Any], structure: Any) -> None:
        self.places = [k for k, t in enumerate(tensors) if isinstance(t, Tensor)]
        names, self.parameters = zip(*layer.named_parameters())
        self.latest = 0  # which forward the saved tensors are of
        self.results: Any = None
        fixed = [None if isinstance(t, Tensor) else t for t in tensors]

        def call(*operands: Tensor) -> list[Tensor]:
            arguments = list(fixed)
            for k, z in zip(self.places, operands):
                arguments[k] = z
            parameters = dict(zip(names, operands[len(self.places) :]))
            results = functional_call(layer, parameters, tree_unflatten(arguments, structure))
            outputs, self.results = tree_flatten(results)
            return outputs

        grad_mode = torch.is_grad_enabled()
        # What was made in inference mode could not be written outside; and to leave that switches gradients on.
        with torch.inference_mode(False), torch.set_grad_enabled(grad_mode):
            self.passes = captured(call, [tensors[k] for k in self.places], self.parameters)

    def __call__(self, tensors: Sequence[Any]) -> Any:
        outputs = _Replay.apply(self, *(tensors[k] for k in self.places), *self.parameters)  # type: ignore[no-untyped-call]
        return tree_unflatten(outputs, self.results)


class _Replay(torch.autograd.Function):
    """(graph, *inputs, *parameters) -> outputs."""

    @staticmethod
    def forward(ctx: Any, graph: _Graph, *operands: Tensor) -> tuple[Tensor, ...]:
        """By the graph of forward."""
        passes = graph.passes
        graph.latest += 1
        ctx.graph, ctx.number = graph, graph.latest
        torch._foreach_copy_(passes.inputs, list(operands[: len(passes.inputs)]))
        passes.forward()
        outputs = copies(passes.outputs)
        ctx.mark_non_differentiable(*(z for z, d in zip(outputs, passes.upstream) if d is None))
        return tuple(outputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *doutputs: Tensor) -> tuple[Tensor | None, ...]:
        """By the graph of backward."""
        passes = ctx.graph.passes
        if ctx.number != ctx.graph.latest:
            raise RuntimeError(
                "backward of a forward whose buffers another forward of the same shapes has used since: "
                "a CUDA graph has one set of them, so call backward first, or use the layer without CudaGraphs"
            )
        arriving = [(room, d) for room, d in zip(passes.upstream, doutputs) if room is not None]
        torch._foreach_copy_([room for room, _ in arriving], [d for _, d in arriving])
        passes.backward()
        found = iter(copies([z for z in passes.gradients if z is not None]))
        return None, *(None if z is None else next(found) for z in passes.gradients)


def copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of the same numbers in memory of their own, by a single kernel.

    Examples
    --------
    >>> copies([torch.tensor([1, 2]), torch.tensor([3])])
    [tensor([1, 2]), tensor([3])]
    """
    new = [torch.empty_like(z) for z in tensors]
    torch._foreach_copy_(new, list(tensors))
    return new


def capturable(input: Any) -> bool:
    """Whether a call can be a CUDA graph: a plain tensor on a GPU, and nobody looking into the operations."""
    return isinstance(input, Tensor) and input.is_cuda and not observed()


def observed() -> bool:
    """Whether somebody looks into the operations: a compiler, a transformation, autocast, another capture."""
    if torch.compiler.is_compiling():  # first: it need not look into the others
        return True
    return transformed() or torch.is_autocast_enabled("cuda") or torch.cuda.is_current_stream_capturing()


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
