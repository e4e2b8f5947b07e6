"""CUDA graphs behind a plain call. Without a GPU: all but the graphs themselves, in whose place operations are recorded
and run again.
"""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
from unittest import mock

import pytest
import torch
from support import assert_all_close, assert_close
from torch.nn.utils import prune
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import torch_rnn
from torch_rnn import graphs
from torch_rnn.bptt import calls

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
        self.operations.append((operation, args, kwargs or {}, torch.is_grad_enabled(), result))
        return result

    def replay(self):
        with torch.inference_mode():  # where tensors that were made in it may be written, too
            for operation, args, kwargs, grad_mode, result in self.operations:
                with torch.set_grad_enabled(grad_mode):  # which oneDNN's LSTM asks
                    again = operation(*args, **kwargs)
                pairs = zip(result, again) if isinstance(result, tuple) else [(result, again)]
                for returned, pair in zip(operation._schema.returns, pairs):
                    for old, new in zip(*map(tree_leaves, pair)):
                        if old is not None and returned.alias_info is None:  # neither a view nor written in place
                            old.copy_(new)


def record_in_place_of_cuda(monkeypatch):
    """Let whoever captures CUDA graphs do so on the CPU; the graphs, as they are made."""
    made = []
    monkeypatch.setattr(calls, "numpy_has", lambda *operands: False)  # as on a GPU

    def graph():
        made.append(Graph())
        return made[-1]

    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda: mock.Mock(spec=["wait_stream"]))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, pool=None, stream=None: graph)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)  # not there in a PyTorch for CPUs
    monkeypatch.setattr(graphs, "capturable", lambda input: isinstance(input, torch.Tensor) and not graphs.observed())
    return made


@pytest.fixture
def captures(monkeypatch):
    """Let captures run on the CPU; what is captured."""
    captures = []

    def captured(call, tensors, parameters, run=graphs.captured):
        captures.append([tuple(z.shape) for z in tensors])
        return run(call, tensors, parameters)

    record_in_place_of_cuda(monkeypatch)
    monkeypatch.setattr(graphs, "captured", captured)
    return captures


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


def test_given_states_and_their_gradients(captures):
    compare_with_states("cpu", 1e-12)


def compare_with_states(device, tolerance):
    """Layers and cells with an initial state, against themselves, random gradients arriving at output and final state."""
    for make, shape, states in [
        (lambda: torch_rnn.RNN(I, H, num_layers=2), (T, B, I), [(2, B, H)]),
        (lambda: torch_rnn.LSTM(I, H, proj_size=2), (T, B, I), [(1, B, 2), (1, B, H)]),
        (lambda: torch_rnn.GRUCell(I, H), (B, I), [(B, H)]),
        (lambda: torch_rnn.LSTMCell(I, H), (B, I), [(B, H), (B, H)]),
    ]:
        layer = make().to(device).double()
        graphed = graphs.CudaGraphs(layer)
        for _ in range(2):
            x, *s = (torch.randn(size, dtype=torch.float64, device=device) for size in (shape, *states))
            hx = s[0] if len(s) == 1 else tuple(s)
            given = [x, *s, *layer.parameters()]
            for z in given[: 1 + len(s)]:
                z.requires_grad_()
            expected = tree_leaves(layer(x, hx))
            upstream = [torch.randn_like(z) for z in expected]
            got = tree_leaves(graphed(x, hx))
            assert_all_close(got, expected, tolerance)
            gradients = [torch.autograd.grad(outputs, given, upstream) for outputs in (got, expected)]
            assert_all_close(*gradients, tolerance)
        assert len(graphed._graphs) == 1


def test_parameters_that_changed_before_backward_are_refused(captures):
    """As PyTorch refuses them: backward would read the new ones beside gates of the old ones."""
    graphed = graphs.CudaGraphs(torch_rnn.GRU(I, H))
    output, _ = graphed(torch.ones(T, B, I))
    with torch.no_grad():
        graphed.layer.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_gradients_go_to_the_parameters_that_the_layer_has_now(captures):
    layer = torch_rnn.GRU(I, H)
    graphed = graphs.CudaGraphs(layer)
    x = torch.randn(T, B, I)
    graphed(x)
    layer.weight_hh_l0 = torch.nn.Parameter(layer.weight_hh_l0.data)  # another one, at the same place
    graphed(x)[0].sum().backward()
    assert len(captures) == 1
    assert all(p.grad is not None for p in layer.parameters())


def test_graphs_of_parameters_that_have_moved_are_let_go(captures):
    graphed = graphs.CudaGraphs(torch_rnn.GRU(I, H))
    for _ in range(3):
        moved = {name: p.detach().clone() for name, p in graphed.named_parameters()}
        torch.func.functional_call(graphed, moved, (torch.ones(T, B, I),))
    assert len(captures) == 3
    assert len(graphed._graphs) == 1


class Masked(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mask", (torch.rand(3 * H, H) < 0.5).float())

    def forward(self, W):
        return W * self.mask


@pytest.mark.parametrize("bias", [True, False])
def test_what_is_put_upon_a_parameter_is_seen(bias, captures):
    layer = torch_rnn.GRU(I, H, bias=bias)
    graphed = graphs.CudaGraphs(layer)
    x = torch.randn(T, B, I)

    def same():
        assert_all_close(tree_leaves(graphed(x)), tree_leaves(layer(x)), 0.0)

    same()
    torch.nn.utils.parametrize.register_parametrization(layer, "weight_hh_l0", Masked())
    same()
    layer.parametrizations.weight_hh_l0[0].mask = torch.zeros(3 * H, H)  # elsewhere in memory
    same()
    layer.parametrizations.weight_hh_l0[0].mask.fill_(1)
    same()
    assert len(captures) == 3
    prune.l1_unstructured(layer, "weight_ih_l0", 0.5)  # by a hook
    same()
    assert len(captures) == 3


def test_modes_and_options_of_the_layer_are_seen(captures):
    layer = torch_rnn.RNN(I, H, num_layers=2, dropout=1.0)
    graphed = graphs.CudaGraphs(layer)
    x = torch.randn(T, B, I)

    def changed(name, value):
        setattr(layer, name, value)
        assert_all_close(tree_leaves(graphed(x)), tree_leaves(layer(x)), 0.0)

    graphed(x)
    layer.eval()
    assert_all_close(tree_leaves(graphed(x)), tree_leaves(layer(x)), 0.0)
    layer.train()
    for count, (name, value) in enumerate([("dropout", 0.0), ("nonlinearity", "relu"), ("bptt", "autograd")], 3):
        changed(name, value)
        assert len(captures) == count


def test_dropout_draws_anew_at_every_call(captures):
    """The recorded operations draw, as those of a CUDA graph do."""
    compare_with_masks("cpu")
    assert len(captures) == 2


def compare_with_masks(device):
    """A layer whose output is the mask of its dropout: 0 or 1 / (1 - p), others at every call, the same in backward."""
    p, units = 0.25, 16
    layer = torch_rnn.RNN(1, units, num_layers=2, nonlinearity="relu", dropout=p).to(device)
    with torch.no_grad():
        for z in layer.parameters():
            z.zero_()
        layer.bias_ih_l0.fill_(1)
        layer.weight_ih_l1.copy_(torch.eye(units))
    graphed = graphs.CudaGraphs(layer)
    x = torch.zeros(50, 8, 1, device=device)
    masks = []
    for _ in range(3):
        layer.zero_grad()
        mask, _ = graphed(x)
        mask.sum().backward()
        kept = mask.detach()[mask > 0]
        assert_close("what is kept", kept, torch.full_like(kept, 1 / (1 - p)), 1e-6)
        assert abs(kept.numel() / mask.numel() - (1 - p)) < 5 * (p * (1 - p) / mask.numel()) ** 0.5
        assert_close("gradient", layer.bias_ih_l0.grad, mask.sum((0, 1)), 1e-5)
        masks.append(mask.detach())
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(masks, 2))
    layer.eval()
    assert torch.equal(graphed(x)[0], torch.ones_like(mask))


@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward"])
def test_hooks_run_at_every_call(kind, captures):
    layer = torch_rnn.GRU(I, H)
    graphed = graphs.CudaGraphs(layer)
    calls = []
    getattr(layer, f"register_{kind}_hook")(lambda *args: calls.append(kind))
    for _ in range(3):
        graphed(torch.ones(T, B, I, requires_grad=True))[0].sum().backward()
    assert len(calls) == 3
    assert not captures


def test_second_derivatives_are_refused(captures):
    """Else a penalty on gradients would be a constant, and nobody would notice."""
    graphed = graphs.CudaGraphs(torch_rnn.GRU(I, H))
    x = torch.ones(T, B, I, requires_grad=True)
    with pytest.raises(RuntimeError, match="second derivatives are wanted"):
        torch.autograd.grad(graphed(x)[0].sum(), x, create_graph=True)


def test_the_callers_hooks_on_saved_tensors_stay_out_of_a_capture(captures):
    graphed = graphs.CudaGraphs(torch_rnn.GRU(I, H))
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda z: packed.append(z) or z, lambda z: z):
        output, _ = graphed(torch.ones(T, B, I))
    assert len(packed) == len(list(graphed.parameters()))
    output.sum().backward()


OBSERVERS = {
    "grad": lambda run, x: torch.func.grad(lambda x: run(x)[0].sin().sum())(x[0]),
    "vmap": lambda run, x: torch.func.vmap(run)(x),
    "jvp": lambda run, x: torch.func.jvp(run, (x[0],), (x[1],)),
}


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # of PyTorch's own
@pytest.mark.parametrize("look", OBSERVERS)
def test_who_transforms_a_layer_gets_it_as_it_is(look, captures):
    layer = torch_rnn.GRU(I, H)
    x = torch.randn(2, T, B, I)
    got, expected = (tree_leaves(OBSERVERS[look](run, x)) for run in (graphs.CudaGraphs(layer), layer))
    assert_all_close(got, expected, 0.0)
    assert not captures


def test_autocast_is_an_observer(captures):
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
def test_given_states_and_their_gradients_on_a_gpu():
    compare_with_states("cuda", 1e-12)


@on_a_gpu
def test_dropout_draws_anew_at_every_call_on_a_gpu():
    compare_with_masks("cuda")


@on_a_gpu
def test_a_gpu_that_is_not_the_current_one():
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    layers = [torch_rnn.GRU(I, H).to(device) for device in ("cuda:0", "cuda:1")]
    for layer in layers:
        graphed = graphs.CudaGraphs(layer)
        for _ in range(2):
            x = torch.randn(T, B, I, device=layer.weight_ih_l0.device)
            assert_all_close(tree_leaves(graphed(x)), tree_leaves(layer(x)), 1e-6)


@on_a_gpu
def test_without_gradients_on_a_gpu():
    layer = torch_rnn.GRU(I, H).cuda()
    graphed = graphs.CudaGraphs(layer)
    x = torch.randn(T, B, I, device="cuda")
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            assert_all_close(tree_leaves(graphed(x)), tree_leaves(layer(x)), 1e-6)
    assert len(graphed._graphs) == 1
