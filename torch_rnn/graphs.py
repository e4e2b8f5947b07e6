"""CUDA graphs behind a plain call: a layer's hundreds of small kernels, captured once a shape and launched as one.

A step of a small layer keeps a GPU busy for a few microseconds, which is what launching a single kernel takes. A graph
holds all steps, forward or backward, and is launched at once.

A graph reads and writes the same memory every time. What comes in is copied there, and what goes out is copied from
there: so an output or a gradient stays what it is when the graph runs again, and gradients add up over several calls.
(Those of `torch.cuda.make_graphed_callables` do not: pytorch/pytorch#181723.)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import set_detect_anomaly
from torch.autograd.graph import saved_tensors_hooks
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

    What cannot be captured runs as it is: anything not on a GPU, a PackedSequence (its lengths are read in Python), a
    layer with hooks (which are Python, too), and calls under `torch.func`, forward-mode differentiation,
    `torch.compile` or autocast, or inside another capture.

    Three things differ from a plain call. There are first derivatives only. What backward needs is kept for the newest
    forward of the same shapes alone: backward has to follow before the next, else it raises; so a checkpoint
    (`torch.utils.checkpoint`), which runs forward again in between, raises. And calls have to come one after another,
    on one stream or on streams that wait for each other.

    The layer's mode and options may be changed at any time: each has a graph of its own. Dropout draws anew at every
    call, for PyTorch lets a graph's random numbers begin where its default generator stands, and moves this on. (The
    first call of a kind draws for its warm-up, too: from the same seed it leaves the generator elsewhere than a plain
    call.)

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
        """Run the layer; arguments, results and errors are those of the layer.

        Raises
        ------
        RuntimeError
            In backward, if another forward of the same shapes has come in between, a parameter has been changed since,
            or second derivatives are wanted.
        """
        parameters: dict[str, Tensor] = dict(self.layer.named_parameters())
        if not capturable(input) or not parameters or hooked(self.layer):
            return self.layer(input, hx)
        places = tuple((name, z.data_ptr()) for name, z in chain(parameters.items(), self.layer.named_buffers()))
        if places != self._places:
            self._places = places
            self._graphs.clear()
        tensors, structure = tree_flatten((input, hx))
        how = torch.is_grad_enabled(), precision(input.dtype), *map(options, self.layer.modules())
        key = str(structure), *map(tensor_key, tensors), *(p.requires_grad for p in parameters.values()), how
        if key not in self._graphs:
            self._graphs[key] = _Graph(self.layer, tensors, structure, parameters)
        return self._graphs[key](tensors, parameters.values())

    def __getstate__(self) -> dict[str, Any]:
        # A copy, or what is read from a file, captures its own.
        return {**self.__dict__, "_graphs": {}, "_places": None}


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
    with torch.cuda.device_of(operands[0]), unobserved():  # type: ignore[no-untyped-call, unused-ignore]
        stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call, unused-ignore]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                outputs = call(*operands)
                gradients_of(outputs, operands, room_for_gradients(outputs))
            del outputs  # and what accumulates on this stream
        torch.cuda.current_stream().wait_stream(stream)
        forward, backward, pool = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        with torch.cuda.graph(forward, pool=pool, stream=stream):
            outputs = call(*operands)
        upstream = room_for_gradients(outputs)
        gradients: list[Tensor | None] = [None for _ in operands]
        if any(d is not None for d in upstream):  # of an empty graph PyTorch warns
            with torch.cuda.graph(backward, pool=pool, stream=stream):
                gradients = gradients_of(outputs, operands, upstream)
    return Passes(inputs, forward.replay, [z.detach() for z in outputs], upstream, backward.replay, gradients)


@contextmanager
def unobserved() -> Iterator[None]:
    """Keep what the caller does with saved tensors, and his search for anomalies, out of a capture."""
    with saved_tensors_hooks(lambda z: z, lambda z: z), set_detect_anomaly(False):
        yield


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

    def __init__(self, layer: Module, tensors: Sequence[Any], structure: Any, parameters: Mapping[str, Tensor]) -> None:
        self.places = [k for k, t in enumerate(tensors) if isinstance(t, Tensor)]
        self.latest = 0  # which forward the saved tensors are of
        self.results: Any = None
        fixed = [None if isinstance(t, Tensor) else t for t in tensors]
        names = list(parameters)

        def call(*operands: Tensor) -> list[Tensor]:
            arguments = list(fixed)
            for k, z in zip(self.places, operands):
                arguments[k] = z
            given = dict(zip(names, operands[len(self.places) :]))
            results = functional_call(layer, given, tree_unflatten(arguments, structure))
            outputs, self.results = tree_flatten(results)
            return outputs

        grad_mode = torch.is_grad_enabled()
        # What was made in inference mode could not be written outside; and to leave that switches gradients on.
        with torch.inference_mode(False), torch.set_grad_enabled(grad_mode):
            self.passes = captured(call, [tensors[k] for k in self.places], [*parameters.values()])

    def __call__(self, tensors: Sequence[Any], parameters: Iterable[Tensor]) -> Any:
        outputs = _Replay.apply(self, *(tensors[k] for k in self.places), *parameters)  # type: ignore[no-untyped-call]
        return tree_unflatten(outputs, self.results)


class _Replay(torch.autograd.Function):
    """(graph, *inputs, *parameters) -> outputs."""

    @staticmethod
    def forward(ctx: Any, graph: _Graph, *operands: Tensor) -> tuple[Tensor, ...]:
        """By the graph of forward."""
        passes = graph.passes
        graph.latest += 1
        ctx.graph, ctx.number = graph, graph.latest
        inputs, parameters = operands[: len(passes.inputs)], operands[len(passes.inputs) :]
        ctx.save_for_backward(*parameters)  # which backward reads where they are: PyTorch says if they have changed
        torch._foreach_copy_(passes.inputs, list(inputs))
        passes.forward()
        outputs = copies(passes.outputs)
        ctx.mark_non_differentiable(*(z for z, d in zip(outputs, passes.upstream) if d is None))
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *doutputs: Tensor) -> tuple[Tensor | None, ...]:
        """By the graph of backward."""
        passes = ctx.graph.passes
        if torch.is_grad_enabled():
            raise RuntimeError(
                "second derivatives are wanted (create_graph=True), and a CUDA graph has first ones only: "
                "use the layer without CudaGraphs"
            )
        if ctx.number != ctx.graph.latest:
            raise RuntimeError(
                "backward of a forward whose buffers another forward of the same shapes has used since: "
                "a CUDA graph has one set of them, so call backward first, or use the layer without CudaGraphs"
            )
        _ = ctx.saved_tensors
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


def hooked(layer: Module) -> bool:
    """Whether a layer or a part of it has hooks, which a graph would leave out."""
    return any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
        for module in layer.modules()
    )


def options(module: Module) -> Hashable:
    """What a module is set to: its attributes that are numbers, words or switches.

    Examples
    --------
    >>> options(torch.nn.Dropout(0.5))
    (('training', True), ('p', 0.5), ('inplace', False))
    """
    return tuple((name, value) for name, value in vars(module).items() if isinstance(value, (int, float, str)))


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
