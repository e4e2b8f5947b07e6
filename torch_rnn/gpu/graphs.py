"""CUDA graphs behind a plain call: a layer's hundreds of small kernels, captured once a shape and launched as one.

A graph reads and writes the same memory every time. What comes in is copied there, and what goes out is copied from
there: so an output or a gradient stays what it is when the graph runs again, and gradients add up over several calls.
(Those of `torch.cuda.make_graphed_callables` do not: pytorch/pytorch#181723.)
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.autograd import set_detect_anomaly
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.nn import Module

from .tiles import precision

WARM_UP = 3  # runs before a capture: libraries set themselves up in them, which no graph can hold


class CudaGraphs(Module):
    """A layer or cell, run by CUDA graphs where that is possible and as it is where not.

    The first call with tensors of new shapes captures a graph, which takes some twenty times as long as a call, and
    memory for as long as this module lives. Parameters stay those of the layer; train them as always.

    What cannot be captured runs as it is: anything not on a GPU, a PackedSequence (its lengths are read in Python), and
    calls under `torch.compile` or autocast, or inside another capture.

    Four things differ from a plain call. There are first derivatives only, and none by `torch.func`. Hooks of the layer
    run at the capture only. What backward needs is kept for the newest forward of the same shapes alone: backward has
    to follow before the next, else it raises; so a checkpoint (`torch.utils.checkpoint`), which runs forward again in
    between, raises. And calls have to come one after another, on one stream or on streams that wait for each other.

    The layer's mode and options may be changed at any time: each has a graph of its own. Dropout draws anew at every
    call.

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
        self._places: Hashable = None  # where the layer's tensors are in memory, from which the graphs read

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Run the layer; arguments, results and errors are those of the layer."""
        tensors = [z for z in flat((input, hx)) if z is not None]
        if not all(isinstance(z, Tensor) for z in tensors) or not capturable(input):
            return self.layer(input, hx)
        parameters = dict(self.layer.named_parameters())
        places = tuple((name, z.data_ptr()) for name, z in chain(parameters.items(), self.layer.named_buffers()))
        if places != self._places:
            self._places = places
            self._graphs.clear()
        how = torch.is_grad_enabled(), precision(input.dtype), *map(options, self.layer.modules())
        key = *map(tensor_key, tensors), *(p.requires_grad for p in parameters.values()), how
        if key not in self._graphs:
            self._graphs[key] = _Graph(self.layer, tensors, (input, hx), parameters)
        return self._graphs[key](tensors, parameters.values())

    def __getstate__(self) -> dict[str, Any]:
        # A copy, or what is read from a file, captures its own.
        return {**self.__dict__, "_graphs": {}, "_places": None}


class _Graph:
    """One capture, for calls of one kind: the graphs of forward and backward, and what they read and write.

    Where an output has no gradient, there is None in `upstream`; `gradients` are those of the inputs, then those of the
    parameters, None where there is none.
    """

    def __init__(
        self, layer: Module, tensors: Sequence[Tensor], arguments: Any, parameters: Mapping[str, Tensor]
    ) -> None:
        self.latest = 0  # which forward the saved tensors are of
        grad_mode = torch.is_grad_enabled()
        with (
            torch.cuda.device_of(tensors[0]),  # type: ignore[no-untyped-call, unused-ignore]
            # What was made in inference mode could not be written outside; and to leave that switches gradients on.
            torch.inference_mode(False),
            torch.set_grad_enabled(grad_mode),
            # What the caller does with saved tensors, and his search for anomalies, stay out of a capture.
            saved_tensors_hooks(lambda z: z, lambda z: z),
            set_detect_anomaly(False),
        ):
            self.inputs = [z.detach().clone().requires_grad_(z.requires_grad) for z in tensors]
            # Leaves of their own on the parameters' memory: a user's may accumulate on a stream that is not captured.
            leaves = {name: p.detach().requires_grad_(p.requires_grad) for name, p in parameters.items()}
            self.capture(layer, rebuilt(arguments, iter(self.inputs)), leaves)

    def capture(self, layer: Module, arguments: Any, leaves: dict[str, Tensor]) -> None:
        """Capture a call, and its backward."""
        operands = [*self.inputs, *leaves.values()]
        stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call, unused-ignore]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                outputs = list(flat(functional_call(layer, leaves, arguments)))
                gradients_of(outputs, operands, room_for_gradients(outputs))
            del outputs  # and what accumulates on this stream
        torch.cuda.current_stream().wait_stream(stream)
        self.forward, self.backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        pool = torch.cuda.graph_pool_handle()
        with torch.cuda.graph(self.forward, pool=pool, stream=stream):
            results = functional_call(layer, leaves, arguments)
        outputs = list(flat(results))
        self.upstream = room_for_gradients(outputs)
        self.gradients: list[Tensor | None] = [None for _ in operands]
        if any(d is not None for d in self.upstream):  # of an empty graph PyTorch warns
            with torch.cuda.graph(self.backward, pool=pool, stream=stream):
                self.gradients = gradients_of(outputs, operands, self.upstream)
        self.outputs = [z.detach() for z in outputs]
        self.results = rebuilt(results, iter(self.outputs))  # which keep no history

    def __call__(self, tensors: Sequence[Tensor], parameters: Iterable[Tensor]) -> Any:
        outputs = _Replay.apply(self, *tensors, *parameters)  # type: ignore[no-untyped-call]
        return rebuilt(self.results, iter(outputs))


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


class _Replay(torch.autograd.Function):
    """(graph, *inputs, *parameters) -> outputs."""

    @staticmethod
    def forward(ctx: Any, graph: _Graph, *operands: Tensor) -> tuple[Tensor, ...]:
        """By the graph of forward."""
        graph.latest += 1
        ctx.graph, ctx.number = graph, graph.latest
        ctx.save_for_backward(*operands[len(graph.inputs) :])  # parameters: PyTorch says if they have changed
        for room, z in zip(graph.inputs, operands):
            room.detach().copy_(z)
        graph.forward.replay()
        outputs = [z.clone() for z in graph.outputs]
        ctx.mark_non_differentiable(*(z for z, d in zip(outputs, graph.upstream) if d is None))
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *doutputs: Tensor) -> tuple[Tensor | None, ...]:
        """By the graph of backward."""
        graph = ctx.graph
        if torch.is_grad_enabled():
            raise RuntimeError(
                "second derivatives are wanted (create_graph=True), and a CUDA graph has first ones only: "
                "use the layer without CudaGraphs"
            )
        if ctx.number != graph.latest:
            raise RuntimeError(
                "backward of a forward whose buffers another forward of the same shapes has used since: "
                "a CUDA graph has one set of them, so call backward first, or use the layer without CudaGraphs"
            )
        _ = ctx.saved_tensors
        for room, d in zip(graph.upstream, doutputs):
            if room is not None:
                room.copy_(d)
        graph.backward.replay()
        return None, *(None if z is None else z.clone() for z in graph.gradients)


def flat(nest: Any) -> Iterator[Any]:
    """What stands in nested tuples and lists."""
    if isinstance(nest, (tuple, list)):
        for part in nest:
            yield from flat(part)
    else:
        yield nest


def rebuilt(nest: Any, values: Iterator[Any]) -> Any:
    """Nested tuples with other values, None where there is None."""
    if isinstance(nest, (tuple, list)):
        return tuple(rebuilt(part, values) for part in nest)
    return None if nest is None else next(values)


def capturable(input: Tensor) -> bool:
    """Whether a call can be a CUDA graph: a tensor on a GPU, and nobody looking into the operations."""
    if torch.compiler.is_compiling() or not input.is_cuda:
        return False
    return not (torch.is_autocast_enabled("cuda") or torch.cuda.is_current_stream_capturing())


def options(module: Module) -> Hashable:
    """What a module is set to: its attributes that are numbers, words or switches."""
    return tuple((name, value) for name, value in vars(module).items() if isinstance(value, (int, float, str)))


def tensor_key(z: Tensor) -> Hashable:
    """What a capture depends on of an argument."""
    return z.shape, z.stride(), z.dtype, z.device, z.requires_grad
