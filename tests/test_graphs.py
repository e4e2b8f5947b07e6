"""CUDA graphs behind a plain call. Without a GPU: all but the graphs themselves, in whose place operations are recorded
and run again.
"""

from __future__ import annotations

import contextlib
import copy
import io
from unittest import mock

import pytest
import torch
from support import assert_all_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import torch_rnn
from torch_rnn import graphs

T, B, I, H = 5, 3, 4, 6
LAYERS = {
    "RNN": (lambda: torch_rnn.RNN(I, H), (T, B, I)),
    "LSTM": (lambda: torch_rnn.LSTM(I, H, num_layers=2, bidirectional=True), (T, B, I)),
    "GRU batch first": (lambda: torch_rnn.GRU(I, H, batch_first=True), (B, T, I)),
    "LSTMCell": (lambda: torch_rnn.LSTMCell(I, H), (B, I)),
}
each_layer = pytest.mark.parametrize("layer", LAYERS)


class Graph(TorchDispatchMode):
    """In place of a CUDA graph: records every operation, and replays them into the same memory."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        with self:  # an operation that consists of others, which may copy or not, as reshape does
            result = operation.decompose(*args, **(kwargs or {}))
        if result is not NotImplemented:
            return result
        result = operation(*args, **(kwargs or {}))
        self.operations.append((operation, args, kwargs or {}, result))
        return result

    def replay(self):
        with torch.no_grad():
            for operation, args, kwargs, result in self.operations:
                again = operation(*args, **kwargs)
                pairs = zip(result, again) if isinstance(result, tuple) else [(result, again)]
                for returned, (old, new) in zip(operation._schema.returns, pairs):
                    if returned.alias_info is None:  # neither a view nor written in place
                        old.copy_(new)


@pytest.fixture
def captures(monkeypatch):
    """Let captures run on the CPU; what is captured."""
    calls = []

    def captured(call, tensors, parameters, run=graphs.captured):
        calls.append([tuple(z.shape) for z in tensors])
        return run(call, tensors, parameters)

    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda: mock.Mock(spec=["wait_stream"]))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, pool: graph)
    monkeypatch.setattr(graphs, "captured", captured)
    monkeypatch.setattr(graphs, "capturable", lambda input: isinstance(input, torch.Tensor) and not graphs.observed())
    return calls


def results_and_gradients(module, x):
    outputs = tree_leaves(module(x))
    loss = sum((z * (k + 1)).sum() for k, z in enumerate(outputs))
    return outputs, torch.autograd.grad(loss, [x, *module.parameters()])


@each_layer
def test_the_results_are_the_layers(layer, captures):
    make, shape = LAYERS[layer]
    plain = make()
    graphed = graphs.CudaGraphs(plain)
    x = torch.randn(shape, requires_grad=True)
    for _ in range(2):
        assert_all_close(results_and_gradients(graphed, x), results_and_gradients(plain, x), 1e-6)
    got, expected = graphed(x), plain(x)
    assert type(got) is type(expected)
    if isinstance(got, tuple):
        assert [type(part) for part in got] == [type(part) for part in expected]
    assert len(captures) == 1


def test_a_graph_is_captured_once_for_each_kind_of_call(captures):
    layer = torch_rnn.LSTM(I, H)
    graphed = graphs.CudaGraphs(layer)
    x, s = torch.randn(T, B, I), (torch.randn(1, B, H), torch.randn(1, B, H))

    def without_gradients():
        with torch.no_grad():
            graphed(x)

    calls = [
        lambda: graphed(x),
        lambda: graphed(x[:3]),  # another shape
        lambda: graphed(x, s),  # with a state
        lambda: graphed(x.clone().requires_grad_()),
        without_gradients,
        lambda: graphed.eval()(x),
        lambda: graphed.train()(x.transpose(0, 1).contiguous().transpose(0, 1)),  # other strides
        lambda: layer.weight_hh_l0.requires_grad_(False) is graphed(x),
    ]
    for k, call in enumerate(calls, 1):
        call()
        assert len(captures) == k
    layer.weight_hh_l0.requires_grad_(True)
    for call in calls:
        call()
    assert len(captures) == len(calls)
    layer.weight_hh_l0 = torch.nn.Parameter(
        torch.zeros(4 * H, H)
    )  # elsewhere in memory: a graph would read the old one
    assert torch.equal(graphed(x)[0], layer(x)[0])
    assert len(captures) == len(calls) + 1


def test_an_output_keeps_its_numbers_when_the_graph_runs_again(captures):
    graphed = graphs.CudaGraphs(torch_rnn.GRU(I, H))
    with torch.no_grad():
        first, _ = graphed(torch.ones(T, B, I))
        before = first.clone()
        graphed(torch.zeros(T, B, I))
    assert torch.equal(first, before)


@each_layer
def test_gradients_add_up_and_stay(layer, captures):
    compare_over_several_calls(layer, "cpu", 1e-6)


def compare_over_several_calls(layer, device, tolerance):
    """Gradients kept from earlier calls, `.grad` added up over calls, backward twice, parameters that change, against the
    layer as it is.
    """
    make, shape = LAYERS[layer]
    plain = make().to(device).double()
    graphed = graphs.CudaGraphs(copy.deepcopy(plain))
    generator = torch.Generator().manual_seed(4)
    kept = []
    for call in range(3):
        x = torch.randn(shape, dtype=torch.float64, generator=generator).to(device)
        for module in (plain, graphed):
            z = x.clone().requires_grad_()
            outputs = tree_leaves(module(z))
            upstream = [torch.sin((k + 1) * (call + 1) * o.detach() + k) for k, o in enumerate(outputs)]
            first = torch.autograd.grad(outputs, [z, *module.parameters()], upstream, retain_graph=True)
            torch.autograd.backward(outputs, upstream)
            kept.append([*outputs, *first, z.grad])
            with torch.no_grad():
                for p in module.parameters():  # as an optimizer does
                    p.mul_(0.9)
    for expected, got in zip(kept[::2], kept[1::2]):
        assert_all_close(got, expected, tolerance)
    added = [[p.grad for p in module.parameters()] for module in (graphed, plain)]
    assert_all_close(*added, tolerance)
    graphed.zero_grad(set_to_none=False)
    assert all(p.grad.count_nonzero() == 0 for p in graphed.parameters())
    graphed(x)[0].sum().backward()
    plain.zero_grad()
    plain(x)[0].sum().backward()
    assert_all_close(*[[p.grad for p in module.parameters()] for module in (graphed, plain)], tolerance)


def test_what_needs_no_gradient_gets_none(captures):
    layer = torch_rnn.LSTM(I, H)
    graphed = graphs.CudaGraphs(layer)
    layer.weight_hh_l0.requires_grad_(False)
    x = torch.randn(T, B, I)
    graphed(x)[0].sum().backward()
    assert layer.weight_hh_l0.grad is None
    assert layer.weight_ih_l0.grad is not None
    layer.requires_grad_(False)
    assert not any(z.requires_grad for z in tree_leaves(graphed(x)))
    for wants_gradients in (False, True):
        layer.requires_grad_(wants_gradients)
        z = x.clone().requires_grad_(wants_gradients)
        with torch.inference_mode():
            first = graphed(z)
        *_, latest = graphed._graphs.values()
        assert latest.passes.upstream == [None] * 3  # no backward was captured
        with torch.no_grad():
            second = graphed(z)  # the same memory: what was made in inference mode could not be written outside
        assert_all_close(tree_leaves(first), tree_leaves(second), 0.0)


def test_a_backward_that_comes_too_late_raises(captures):
    graphed = graphs.CudaGraphs(torch_rnn.GRU(I, H))
    first, _ = graphed(torch.ones(T, B, I))
    second, _ = graphed(torch.zeros(T, B, I))
    with pytest.raises(RuntimeError, match="another forward of the same shapes has used since"):
        first.sum().backward()
    second.sum().backward()
    third, _ = graphed(torch.ones(T, B, I))
    fourth, _ = graphed(torch.ones(T + 1, B, I))  # another graph, other buffers
    (third.sum() + fourth.sum()).backward()


def test_errors_are_the_layers(captures):
    graphed = graphs.CudaGraphs(torch_rnn.GRU(I, H))
    with pytest.raises(RuntimeError, match=r"input.size\(-1\) must be equal to input_size. Expected 4, got 5"):
        graphed(torch.ones(T, B, I + 1))


def test_copies_and_files_leave_the_graphs_behind(captures):
    graphed = graphs.CudaGraphs(torch_rnn.GRU(I, H))
    x = torch.randn(T, B, I)
    expected = graphed(x)
    file = io.BytesIO()
    torch.save(graphed, file)
    file.seek(0)
    for other in (copy.deepcopy(graphed), torch.load(file, weights_only=False)):
        assert not other._graphs
        assert_all_close(other(x), expected, 0.0)
    assert list(graphed.state_dict()) == [f"layer.{name}" for name in graphed.layer.state_dict()]


OBSERVERS = {
    "grad": lambda run, x: torch.func.grad(lambda x: run(x)[0].sin().sum())(x[0]),
    "vmap": lambda run, x: torch.func.vmap(run)(x),
    "jvp": lambda run, x: torch.func.jvp(run, (x[0],), (x[1],)),
}


@pytest.mark.parametrize("look", OBSERVERS)
def test_who_transforms_a_layer_gets_it_as_it_is(look, captures):
    layer = torch_rnn.GRU(I, H)
    x = torch.randn(2, T, B, I)
    got, expected = (tree_leaves(OBSERVERS[look](run, x)) for run in (graphs.CudaGraphs(layer), layer))
    assert_all_close(got, expected, 0.0)
    assert not captures


def test_autocast_is_an_observer():
    assert not graphs.observed()
    torch.set_autocast_enabled("cuda", True)
    try:
        assert graphs.observed()
    finally:
        torch.set_autocast_enabled("cuda", False)


def test_a_graph_keeps_the_precision_of_its_products(captures):
    """TF32 switched on later makes another graph, and off again the first one."""
    graphed = graphs.CudaGraphs(torch_rnn.GRU(I, H))
    before = torch.get_float32_matmul_precision()
    try:
        for precision, count in [("highest", 1), ("high", 2), ("highest", 2)]:
            torch.set_float32_matmul_precision(precision)
            graphed(torch.ones(T, B, I))
            assert len(captures) == count
    finally:
        torch.set_float32_matmul_precision(before)


def test_without_a_gpu_the_layer_runs_as_it_is():
    assert not graphs.capturable(torch.ones(T, B, I))
    packed = torch.nn.utils.rnn.pack_sequence([torch.ones(3, I), torch.ones(2, I)])
    assert not graphs.capturable(packed)
    graphed = graphs.CudaGraphs(torch_rnn.GRU(I, H))
    assert_all_close(graphed(packed)[1], graphed.layer(packed)[1], 0.0)
    assert not graphed._graphs


on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@on_a_gpu
@each_layer
def test_on_a_gpu(layer):
    make, shape = LAYERS[layer]
    plain = make().cuda().double()
    graphed = graphs.CudaGraphs(plain)
    for seed in range(3):
        torch.manual_seed(seed)
        x = torch.randn(shape, dtype=torch.float64, device="cuda", requires_grad=True)
        assert_all_close(results_and_gradients(graphed, x), results_and_gradients(plain, x), 1e-12)
    assert len(graphed._graphs) == 1


@on_a_gpu
@each_layer
def test_gradients_add_up_and_stay_on_a_gpu(layer):
    compare_over_several_calls(layer, "cuda", 1e-12)


@on_a_gpu
def test_without_gradients_on_a_gpu():
    layer = torch_rnn.GRU(I, H).cuda()
    graphed = graphs.CudaGraphs(layer)
    x = torch.randn(T, B, I, device="cuda")
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            assert_all_close(tree_leaves(graphed(x)), tree_leaves(layer(x)), 1e-6)
    assert len(graphed._graphs) == 1
