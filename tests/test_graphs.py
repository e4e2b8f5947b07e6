"""CUDA graphs behind a plain call. Without a GPU: everything round the capture, with the call itself in its place."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from support import assert_all_close
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


@pytest.fixture
def captures(monkeypatch):
    """What is captured; a replay calls the layer anew and, like a graph, writes into one set of buffers."""
    calls = []

    def capture(call, samples):
        calls.append([tuple(s.shape) for s in samples])
        buffers = [z.detach().clone() for z in call(*samples)]

        def replay(*tensors):
            outputs = call(*tensors)
            for buffer, output in zip(buffers, outputs):
                buffer.copy_(output.detach())
            return tuple(buffer if not o.requires_grad else o + 0 * buffer for buffer, o in zip(buffers, outputs))

        return replay

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    monkeypatch.setattr(graphs, "capturable", lambda input: isinstance(input, torch.Tensor))
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


def test_without_a_gpu_the_layer_runs_as_it_is():
    assert not graphs.capturable(torch.ones(T, B, I))
    packed = torch.nn.utils.rnn.pack_sequence([torch.ones(3, I), torch.ones(2, I)])
    assert not graphs.capturable(packed)
    graphed = graphs.CudaGraphs(torch_rnn.GRU(I, H))
    assert_all_close(graphed(packed)[1], graphed.layer(packed)[1], 0.0)
    assert not graphed._graphs


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
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
