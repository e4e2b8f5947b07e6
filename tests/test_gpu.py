"""torch_rnn.gpu without a GPU and without Triton: the switch, where kernels run, and all of CUDA graphs but the graphs
themselves, in whose place operations are recorded and run again.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
import io
import itertools
import subprocess
import sys
import types
from unittest import mock

import pytest
import torch
from gpu_problems import NAMES, problem, results, rounded, ways
from support import assert_all_close, assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import torch_rnn
from torch_rnn import gpu, manual
from torch_rnn.gpu import graphs, loops, tiles

T, B, I, H = 5, 3, 4, 6
each_cell = pytest.mark.parametrize("name", NAMES)
H200 = tiles.Chip(multiprocessors=132, shared=232448)


class Wrapped(torch.Tensor):
    """A tensor of somebody else's, as a distributed or fake one is."""


# ---- the switch


def test_nothing_of_it_is_imported_unless_somebody_asks():
    program = (
        "import sys, torch, torch_rnn, torch_rnn.network; "
        "torch_rnn.LSTM(2, 3, bptt='manual')(torch.ones(4, 1, 2))[0].sum().backward(); "
        "print([name for name in sys.modules if name.startswith(('torch_rnn.gpu', 'triton'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.fixture
def enabled(monkeypatch):
    """The kernels on, as with Triton; the switch is set back afterwards."""
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "3.6.0")
    gpu.enable()
    # On a CPU manual would take NumPy's loops.
    monkeypatch.setattr(manual, "passes_for", lambda cell, *_: manual.BY_TORCH.get(cell.name))
    yield
    gpu.disable()


def test_the_switch_can_be_turned_and_turned_back(monkeypatch):
    before = dict(manual.BY_TORCH)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "3.10.0+git")
    gpu.enable()
    gpu.enable()
    assert set(manual.BY_TORCH) == set(before) == set(NAMES)
    assert all(manual.BY_TORCH[name] is not before[name] for name in NAMES)
    gpu.disable()
    assert before == manual.BY_TORCH
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "3.5.1+git")
    with pytest.raises(RuntimeError, match=r"need Triton 3.6, this is 3.5.1\+git"):
        gpu.enable()
    monkeypatch.setattr(importlib.metadata, "version", mock.Mock(side_effect=importlib.metadata.PackageNotFoundError))
    with pytest.raises(RuntimeError, match=r"need Triton: pip install 'numpy-rnn\[gpu\]'"):
        gpu.enable()
    assert before == manual.BY_TORCH


# ---- where kernels run


@pytest.fixture
def launched(monkeypatch, enabled):
    """Let kernels be launched on the CPU, where they do nothing; with what."""
    told = []

    def launch(name, T, B, operands, **constants):
        told.append((" ".join(name), T, B, constants))
        assert all(z.dtype in (operands[0].dtype, torch.float32) for z in operands)
        operands[-1].zero_()

    monkeypatch.setattr(tiles, "DEVICES", ("cpu",))
    monkeypatch.setattr(tiles, "chip", lambda _: H200)
    monkeypatch.setattr(loops, "launch", launch)
    return told


@each_cell
@pytest.mark.parametrize("dtype", tiles.DTYPES, ids=str)
def test_forward_and_backward_are_a_kernel_each(name, dtype, launched):
    results(name, *rounded(problem(name, 5, 3, 4, 9), dtype))
    relu = {"RELU": name == "rnn_relu"} if "rnn" in name else {}
    assert launched == [(way, 5, 3, relu) for way in ways(name)]


@each_cell
def test_elsewhere_the_loops_run(name, launched, monkeypatch):
    operands, upstream = rounded(problem(name, 3, 2, 4, 9), torch.float32)
    monkeypatch.setattr(tiles, "tile", lambda *_: None)
    found = results(name, operands, upstream)
    assert launched == []
    gpu.disable()
    assert_all_close(found, results(name, operands, upstream), 0.0)
    torch_rnn.LSTM(5, 9)(torch.randn(4, 3, 5))[0].sum().backward()  # bptt="autograd"
    assert launched == []


def test_what_stands_in_the_way(launched, monkeypatch):
    def obstacle(W, *others, B=3):
        return tiles.obstacle("lstm", B, W, *others)

    W = torch.zeros(32, 8)
    assert obstacle(W, torch.nn.Parameter(torch.zeros(3))) is None
    assert obstacle(W.double()) == "no kernel for torch.float64"
    assert obstacle(W, torch.zeros(0, 8)) == "an operand is empty"
    assert obstacle(W, torch.zeros(3).half()).startswith("operands differ: torch.float32 on cpu, torch.float16")
    assert obstacle(W, torch.zeros(3, device="meta")).endswith("on meta")
    large = torch.zeros(4096, 1024)
    assert obstacle(large) == "3 sequences and W_hh (4096, 1024) do not fit 132 multiprocessors"
    assert obstacle(large.bfloat16(), B=64) is None
    assert obstacle(large.bfloat16(), B=65) == "65 sequences and W_hh (4096, 1024) do not fit 132 multiprocessors"
    assert obstacle(W, torch.zeros(3).as_subclass(Wrapped)) == "an operand is a Wrapped"
    monkeypatch.setattr(tiles, "DEVICES", ("cuda",))
    assert obstacle(W) == "on cpu"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Turing")
    turing = mock.Mock(device=torch.device("cuda"), dtype=torch.float32)
    assert obstacle(turing) == "Turing has no tensor cores for these products"


def test_what_a_gpu_has(monkeypatch):
    found = types.SimpleNamespace(multi_processor_count=108, shared_memory_per_block_optin=166912)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: found)
    chip = tiles.chip.__wrapped__
    assert chip(torch.device("cuda")) == tiles.Chip(108, 166912)
    del found.shared_memory_per_block_optin  # an older PyTorch does not say
    assert chip(torch.device("cuda")) == tiles.Chip(108, 101376)


@pytest.mark.parametrize("name", [("rnn", "forward"), ("lstm", "forward"), ("gru", "backward")], ids=" ".join)
@pytest.mark.parametrize(("dtype", "precision"), [(torch.float32, "tf32x3"), (torch.bfloat16, "ieee")], ids=str)
def test_programs_fit_the_chip(name, dtype, precision):
    """All at the same time, each with its part of W_hh in the memory that there is; the fewer sequences the better."""
    for H, B in itertools.product((1, 16, 45, 192, 256, 512, 1024), (1, 16, 17, 64, 300, 2000)):
        tile = tiles.tile(name, dtype, precision, H, B, H200)
        if tile is None:
            assert H * B > 256 * 64 or H == 1024, (H, B)
            continue
        columns = tile.units * (4 if name == ("lstm", "forward") else 1)
        matrix = H * columns * (3 if name[1] == "backward" else 1) * (8 if precision == "tf32x3" else 2)
        assert -(-H // tile.units) * -(-B // tile.rows) <= H200.multiprocessors
        assert matrix <= tile.shared <= H200.shared
        if tile.rows == 32:
            assert -(-H // tile.units) * -(-B // 16) > H200.multiprocessors
    assert tiles.tile(name, dtype, precision, 1024, 10**6, H200) is None


@pytest.mark.parametrize("allowed", [False, True])
def test_precision_of_products(allowed, monkeypatch):
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    try:
        matmul.allow_tf32 = allowed
        assert tiles.precision(torch.float32) == ("tf32" if allowed else "tf32x3")
        assert tiles.precision(torch.float16) == tiles.precision(torch.bfloat16) == "ieee"
    finally:
        matmul.allow_tf32 = before


@pytest.mark.parametrize("dtype", tiles.DTYPES, ids=str)
def test_what_is_not_written_is_a_nan_with_all_bits_set(dtype):
    z = loops.unwritten(torch.zeros(1, dtype=dtype), 2, 3)
    assert (z.shape, z.dtype) == ((2, 3), dtype)
    assert z.isnan().all()
    assert (z.view(torch.uint8) == 255).all()


# ---- CUDA graphs

LAYERS = {
    "RNN": (lambda: torch_rnn.RNN(I, H, num_layers=2), (T, B, I), [(2, B, H)]),
    "LSTM": (lambda: torch_rnn.LSTM(I, H, bidirectional=True, proj_size=2), (T, B, I), [(2, B, 2), (2, B, H)]),
    "GRU by hand": (lambda: torch_rnn.GRU(I, H, batch_first=True, bptt="manual"), (B, T, I), [(1, B, H)]),
    "LSTMCell": (lambda: torch_rnn.LSTMCell(I, H), (B, I), [(B, H), (B, H)]),
}
each_layer = pytest.mark.parametrize("layer", LAYERS)
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
each_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=on_a_gpu)])


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
        with torch.inference_mode():  # where tensors that were made in it may be written, too
            for operation, args, kwargs, result in self.operations:
                again = operation(*args, **kwargs)
                pairs = zip(result, again) if isinstance(result, tuple) else [(result, again)]
                for returned, pair in zip(operation._schema.returns, pairs):
                    for old, new in zip(*map(tree_leaves, pair)):
                        if old is not None and returned.alias_info is None:  # neither a view nor written in place
                            old.copy_(new)


@pytest.fixture
def captures(monkeypatch):
    """Let captures run on the CPU; the shapes of what is captured."""
    captures = []

    def capture(graph, *args, run=graphs._Graph.capture):
        captures.append([tuple(z.shape) for z in graph.inputs])
        run(graph, *args)

    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda: mock.Mock(spec=["wait_stream"]))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, pool=None, stream=None: graph)
    monkeypatch.setattr(graphs, "capturable", lambda input: not torch.is_autocast_enabled("cuda"))
    monkeypatch.setattr(manual, "passes_for", lambda cell, *_: manual.BY_TORCH.get(cell.name))  # as on a GPU
    monkeypatch.setattr(graphs._Graph, "capture", capture)
    return captures


@pytest.fixture
def recorded(request, device):
    """On a CPU, what is recorded; on a GPU, graphs."""
    return request.getfixturevalue("captures") if device == "cpu" else None


@each_device
@each_layer
@pytest.mark.parametrize("from_zero", [True, False], ids=["from zero", "state given"])
def test_results_gradients_and_their_sums_are_the_layers(layer, from_zero, device, recorded):
    """Over calls whose outputs and gradients are kept, whose parameters change, and whose .grad add up."""
    make, shape, states = LAYERS[layer]
    plain = make().to(device).double()
    graphed = gpu.CudaGraphs(copy.deepcopy(plain))
    kept = []
    for call in range(3):
        given = [torch.randn(s, dtype=torch.float64, device=device) for s in (shape, *states)]
        for module in (plain, graphed):
            x, *s0 = (z.clone().requires_grad_() for z in given)
            hx = None if from_zero else s0[0] if len(s0) == 1 else tuple(s0)
            outputs = module(x, hx)
            assert type(outputs) is (type(module(x, hx)) if module is plain else type(plain(x, hx)))
            outputs = tree_leaves(outputs)
            upstream = [torch.sin((k + 1) * (call + 1) * y.detach() + k) for k, y in enumerate(outputs)]
            operands = [x, *(() if from_zero else s0), *module.parameters()]
            if module is graphed:
                outputs = tree_leaves(graphed(x, hx))
            first = torch.autograd.grad(outputs, operands, upstream, retain_graph=True)
            torch.autograd.backward(outputs, upstream)
            kept.append([*outputs, *first, x.grad])
            with torch.no_grad():
                for p in module.parameters():  # as an optimizer does
                    p.mul_(0.9)
    for expected, got in zip(kept[::2], kept[1::2]):
        assert_all_close(got, expected, 1e-12)
    assert_all_close(*[[p.grad for p in module.parameters()] for module in (graphed, plain)], 1e-12)
    assert len(graphed._graphs) == 1


def test_a_graph_is_captured_once_for_each_kind_of_call(captures):
    layer = torch_rnn.LSTM(I, H)
    graphed = gpu.CudaGraphs(layer)
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
    assert len(graphed._graphs) == 1  # the old ones are let go


@each_device
def test_what_needs_no_gradient_gets_none(device, recorded):
    layer = torch_rnn.LSTM(I, H).to(device)
    graphed = gpu.CudaGraphs(layer)
    layer.weight_hh_l0.requires_grad_(False)
    x = torch.randn(T, B, I, device=device)
    graphed(x)[0].sum().backward()
    assert layer.weight_hh_l0.grad is None
    assert layer.weight_ih_l0.grad is not None
    layer.requires_grad_(False)
    assert not any(z.requires_grad for z in tree_leaves(graphed(x)))
    for mode in (torch.inference_mode, torch.no_grad):
        # The same memory: what was made in inference mode could not be written outside.
        with mode():
            first = graphed(x)
            before = copy.deepcopy(first)
            assert_all_close(tree_leaves(first), tree_leaves(layer(x)), 1e-6)
            graphed(2 * x)
        assert_all_close(tree_leaves(first), tree_leaves(before), 0.0)


def test_a_backward_that_comes_too_late_raises(captures):
    graphed = gpu.CudaGraphs(torch_rnn.GRU(I, H))
    first, _ = graphed(torch.ones(T, B, I))
    second, _ = graphed(torch.zeros(T, B, I))
    with pytest.raises(RuntimeError, match="another forward of the same shapes has used since"):
        first.sum().backward()
    second.sum().backward()
    third, _ = graphed(torch.ones(T, B, I))
    fourth, _ = graphed(torch.ones(T + 1, B, I))  # another graph, other buffers
    (third.sum() + fourth.sum()).backward()


def test_parameters_that_changed_before_backward_are_refused(captures):
    """As PyTorch refuses them: backward would read the new ones beside gates of the old ones."""
    graphed = gpu.CudaGraphs(torch_rnn.GRU(I, H))
    output, _ = graphed(torch.ones(T, B, I))
    with torch.no_grad():
        graphed.layer.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_gradients_go_to_the_parameters_that_the_layer_has_now(captures):
    layer = torch_rnn.GRU(I, H)
    graphed = gpu.CudaGraphs(layer)
    x = torch.randn(T, B, I)
    graphed(x)
    layer.weight_hh_l0 = torch.nn.Parameter(layer.weight_hh_l0.data)  # another one, at the same place
    graphed(x)[0].sum().backward()
    assert len(captures) == 1
    assert all(p.grad is not None for p in layer.parameters())


class Masked(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mask", (torch.rand(3 * H, H) < 0.5).float())

    def forward(self, W):
        return W * self.mask


def test_what_is_put_upon_a_parameter_and_options_are_seen(captures):
    layer = torch_rnn.GRU(I, H, num_layers=2, dropout=1.0)
    graphed = gpu.CudaGraphs(layer)
    x = torch.randn(T, B, I)

    def same(count):
        assert_all_close(tree_leaves(graphed(x)), tree_leaves(layer(x)), 0.0)
        assert len(captures) == count

    same(1)
    torch.nn.utils.parametrize.register_parametrization(layer, "weight_hh_l0", Masked())
    same(2)
    layer.parametrizations.weight_hh_l0[0].mask = torch.zeros(3 * H, H)  # elsewhere in memory
    same(3)
    layer.parametrizations.weight_hh_l0[0].mask.fill_(1)
    same(3)
    layer.eval()
    same(4)
    layer.train().dropout = 0.0
    same(5)
    layer.bptt = "manual"
    same(6)


@each_device
def test_dropout_draws_anew_at_every_call(device, recorded):
    """A layer whose output is the mask of its dropout: 0 or 1 / (1 - p), others at every call, the same in backward."""
    p, units = 0.25, 16
    layer = torch_rnn.RNN(1, units, num_layers=2, nonlinearity="relu", dropout=p).to(device)
    with torch.no_grad():
        for z in layer.parameters():
            z.zero_()
        layer.bias_ih_l0.fill_(1)
        layer.weight_ih_l1.copy_(torch.eye(units))
    graphed = gpu.CudaGraphs(layer)
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


def test_what_is_refused_is_said(captures):
    """Else a penalty on gradients would be a constant, and nobody would notice."""
    graphed = gpu.CudaGraphs(torch_rnn.GRU(I, H))
    x = torch.ones(T, B, I, requires_grad=True)
    with pytest.raises(RuntimeError, match="second derivatives are wanted"):
        torch.autograd.grad(graphed(x)[0].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="functorch"):
        torch.func.grad(lambda x: graphed(x)[0].sum())(x)
    with pytest.raises(RuntimeError, match=r"input.size\(-1\) must be equal to input_size. Expected 4, got 5"):
        graphed(torch.ones(T, B, I + 1))


def test_the_callers_hooks_on_saved_tensors_stay_out_of_a_capture(captures):
    graphed = gpu.CudaGraphs(torch_rnn.GRU(I, H))
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda z: packed.append(z) or z, lambda z: z):
        output, _ = graphed(torch.ones(T, B, I))
    assert len(packed) == len(list(graphed.parameters()))
    output.sum().backward()


def test_a_graph_keeps_the_precision_of_its_products(captures):
    """TF32 switched on later makes another graph, and off again the first one."""
    graphed = gpu.CudaGraphs(torch_rnn.GRU(I, H))
    before = torch.get_float32_matmul_precision()
    try:
        for precision, count in [("highest", 1), ("high", 2), ("highest", 2)]:
            torch.set_float32_matmul_precision(precision)
            graphed(torch.ones(T, B, I))
            assert len(captures) == count
    finally:
        torch.set_float32_matmul_precision(before)


def test_copies_and_files_leave_the_graphs_behind(captures):
    graphed = gpu.CudaGraphs(torch_rnn.GRU(I, H))
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
    packed = torch.nn.utils.rnn.pack_sequence([torch.ones(3, I), torch.ones(2, I)])
    graphed = gpu.CudaGraphs(torch_rnn.GRU(I, H))
    for x in (torch.ones(T, B, I), packed):
        assert_all_close(graphed(x)[1], graphed.layer(x)[1], 0.0)
    with pytest.raises(AttributeError):
        graphed(None)
    assert not graphed._graphs


@pytest.mark.parametrize("observer", ["nobody", "autocast", "capture", "compiler"])
def test_who_looks_into_the_operations_gets_the_layer_as_it_is(observer, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: observer == "capture")
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: observer == "autocast")
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: observer == "compiler")
    assert graphs.capturable(mock.Mock(is_cuda=True)) is (observer == "nobody")
    assert not graphs.capturable(torch.ones(T, B, I))
