"""Products of the passes by hand: by oneDNN they are as right as by torch.mm, and each is chosen where it should be."""

from __future__ import annotations

import platform

import pytest
import torch
from support import CELLS, assert_all_close, random_operands, results, spread, turned
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from torch_rnn import bptt
from torch_rnn.blocks import blocks_of
from torch_rnn.bptt import calls as by
from torch_rnn.bptt import passes, products

T, B, I, H, R = 9, 5, 19, 24, 18
each_cell = pytest.mark.parametrize("name", CELLS)
# PyTorch's own, when its flags are changed and put back.
pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN:UserWarning")
needs_onednn = pytest.mark.skipif(not products.onednn_is_there(), reason="needs a PyTorch with oneDNN")


@pytest.fixture
def quicker(monkeypatch):
    """On this processor oneDNN is quicker, whichever it is."""
    monkeypatch.setattr(products, "onednn_is_quicker", lambda: True)


@pytest.fixture
def always(quicker, monkeypatch):
    """Every product is large, and none of a step is for NumPy."""
    monkeypatch.setattr(by, "numpy_has", lambda *operands: False)
    monkeypatch.setattr(products, "LARGE", 1)
    for name in ("TURNED", "PIECES", "ADDED", "BROAD"):
        monkeypatch.setattr(products, name, 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


class Calls(list):
    """Which of both made the products that are made of something."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.watch(monkeypatch, products, "linear", "oneDNN")
        for owner, name in ((torch, "mm"), (torch, "addmm"), (torch.Tensor, "addmm_")):
            self.watch(monkeypatch, owner, name, "mm")

    def watch(self, monkeypatch, owner, name, by):
        """Have its calls recorded."""
        original = getattr(owner, name)

        def watched(*args, **kwargs):
            if all(z.numel() for z in args if torch.is_tensor(z)):
                self.append(by)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)


@pytest.fixture
def calls(monkeypatch):
    """Who makes the products."""
    return Calls(monkeypatch)


def operands_of(name, rows=None, T=T):
    """In float32."""
    return random_operands(name, (T, B, I, H, R), torch.float32, rows)


def exact(name, operands, upstream, blocks=None):
    """The same by autograd over the loop, in float64."""
    operands = [z.detach().double().requires_grad_() for z in operands]
    return results(name, bptt.by_loop, operands, [z.double() for z in upstream], blocks)


def assert_near(got, wanted):
    """By the norm of each, as a sum of many terms has not each number's precision; torch.mm is up to 1.8e-6 off here."""
    for z, w in zip(got, wanted):
        assert z.dtype is torch.float32
        assert (z.double() - w).norm() <= 4e-6 * w.norm()


@needs_onednn
@each_cell
@pytest.mark.parametrize("many", [1, 1000], ids=["matrices turned beforehand", "as they are"])
@pytest.mark.parametrize("columns", [2048, 10], ids=lambda n: f"{n} columns at a time")
def test_values_and_gradients_by_onednn(name, many, columns, always, calls, monkeypatch):
    monkeypatch.setattr(products, "MANY", many)
    monkeypatch.setattr(passes, "columns_at_a_time", lambda R: columns)
    operands, upstream = operands_of(name)
    got = results(name, bptt.by_hand, operands, upstream)
    assert set(calls) == {"oneDNN"}
    assert_near(got, exact(name, operands, upstream))


@needs_onednn
@each_cell
def test_sequences_of_different_lengths_by_onednn(name, always, calls):
    blocks = blocks_of(torch.tensor([5, 5, 4, 3, 3, 3, 3, 3, 3, 3, 3, 3, 1]))
    operands, upstream = operands_of(name, rows=sum(T * n for T, n in blocks))
    got = results(name, bptt.by_hand, operands, upstream, blocks)
    assert set(calls) == {"oneDNN"}
    assert_near(got, exact(name, operands, upstream, blocks))


@needs_onednn
@each_cell
def test_both_ways_and_each_time_the_same(name, always, calls):
    operands, upstream = operands_of(name)
    first = results(name, bptt.by_hand, operands, upstream)
    assert_all_close(results(name, bptt.by_hand, operands, upstream), first, 0)
    calls.clear()
    with torch.backends.mkldnn.flags(enabled=False):
        other = results(name, bptt.by_hand, operands, upstream)
    assert set(calls) == {"mm"}
    assert_near(other, [z.double() for z in first])


@needs_onednn
def test_weights_are_read_anew_at_every_call(always):
    operands, upstream = operands_of("lstm")
    results("lstm", bptt.by_hand, operands, upstream)
    with torch.no_grad():
        operands[2].mul_(-1)  # W_hh
    assert_near(results("lstm", bptt.by_hand, operands, upstream), exact("lstm", operands, upstream))


@needs_onednn
@each_cell
@pytest.mark.parametrize("order", [True, False], ids=["in oneDNN's order", "as they are"])
@pytest.mark.parametrize("laid_out", [turned, spread])
def test_operands_that_are_not_in_one_piece(name, laid_out, order, always, monkeypatch):
    """OneDNN must not get a matrix with something between its numbers: that takes a hundred times as long."""
    monkeypatch.setattr(products, "MANY", 1 if order else T + 1)
    operands, upstream = operands_of(name)
    apart = [laid_out(z.detach()).requires_grad_() for z in operands]
    assert not any(z.is_contiguous() for z in apart if z.ndim > 1)
    linear, matrices = products._linear, []

    def watched(x, W, *rest):
        matrices.append(W)
        return linear(x, W, *rest)

    monkeypatch.setattr(products, "_linear", watched)
    got = results(name, bptt.by_hand, apart, [laid_out(z) for z in upstream])
    assert_near(got, exact(name, operands, upstream))
    assert all(W.is_mkldnn or W.is_contiguous() or W.T.is_contiguous() for W in matrices)
    assert any(W.is_mkldnn for W in matrices) == order


@needs_onednn
@pytest.mark.parametrize("add", [True, False])
def test_gradients_of_all_inputs_are_made_piece_by_piece(add, quicker, calls, monkeypatch):
    for name, value in (("LARGE", 1), ("PIECES", 1), ("PIECE_NUMBERS", 30)):
        monkeypatch.setattr(products, name, value)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    generator = torch.Generator().manual_seed(0)
    da, W, dx = (torch.randn(*size, generator=generator) for size in ((5, 2, 4), (4, 7), (5, 2, 7)))
    wanted = da.double() @ W.double() + (dx.double() if add else 0)
    products.product(da, W, dx, add)
    assert calls == ["oneDNN"] * 3  # of 4, 4 and 2 rows
    assert_near([dx], [wanted])


@needs_onednn
def test_tensors_without_numbers(always):
    """As PyTorch's tools make them to learn of shapes alone."""
    with FakeTensorMode() as mode:
        operands, upstream = ([mode.from_tensor(z) for z in tensors] for tensors in operands_of("gru"))
        got = results("gru", bptt.by_hand, operands, upstream)
    assert [z.shape for z in got] == [z.shape for z in exact("gru", *operands_of("gru"))]


class OfItsOwn(torch.Tensor):
    """As libraries have them."""


@needs_onednn
def test_a_mode_that_counts_multiplications_counts_as_many(always, monkeypatch):
    operands, upstream = operands_of("rnn_tanh")
    counted = []
    for _ in range(2):
        with FlopCounterMode(display=False) as counter:
            results("rnn_tanh", bptt.by_hand, operands, upstream)
        counted.append(counter.get_total_flops())
        monkeypatch.setattr(products, "onednn_is_quicker", lambda: False)
    assert counted[0] == counted[1] > 0


def test_which_products_are_for_onednn(quicker, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    like = torch.empty(2)
    assert products.onednn(3 * products.LARGE, like)
    assert not products.onednn(3 * products.LARGE - 1, like)  # with each thread there must be more of them
    for other in (like.double(), like.half(), like.bfloat16(), like.to("meta")):
        assert not products.onednn(100 * products.LARGE, other)
    assert products.onednn(3 * products.LARGE, like, torch.nn.Parameter(like))
    assert not products.onednn(3 * products.LARGE, like, like.as_subclass(OfItsOwn))
    with torch.backends.mkldnn.flags(enabled=False):
        assert not products.onednn(100 * products.LARGE, like)
    monkeypatch.setattr(products, "onednn_is_quicker", lambda: False)
    assert not products.onednn(100 * products.LARGE, like)


@needs_onednn
def test_steps_of_a_few_sequences_stay_with_mm(quicker, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    M = torch.empty(256, 1024)
    assert M.numel() == products.SMALL
    assert type(products.times(M, 3, 100)) is products.Times
    assert type(products.times(M, 4, 100)) is products.TimesByOneDNN
    assert type(products.times(M, 4, 7)) is products.Times  # M would be turned for a few products, or in each
    assert type(products.times(M, 16, 7)) is products.TimesByOneDNN
    assert type(products.times(M.double(), 16, 100)) is products.Times
    assert products.times(M, 16, 100).M.is_mkldnn
    assert not products.times(torch.empty(257, 1024), 16, 100).M.is_mkldnn  # too much memory for a copy


def test_for_few_sequences_a_matrix_is_turned_for_mm_too():
    M = torch.empty(40, 30).T
    assert products.times(M, 3, 8).M.is_contiguous()
    assert products.times(M, 4, 8).M is M
    assert products.times(M, 3, 7).M is M  # for a few products


def test_a_matrix_is_made_ready_once_for_chunks_of_as_many_sequences():
    room, W, W_r = passes.Room(torch.empty(0), columns=8), torch.ones(3, 2), torch.ones(3, 4)
    ready = room.times(by.BY_TORCH, "W", W, 4, 2)
    assert room.times(by.BY_TORCH, "W", W, 4, 1) is ready
    assert room.times(by.BY_TORCH, "W_r", W_r, 4, 2).M is W_r
    assert room.times(by.BY_TORCH, "W", W, 3, 2) is not ready
    assert (
        type(room.times(by.BY_NUMPY, "W", W, 3, 2)) is products.TimesByNumPy
    )  # a chunk of fewer steps may be by torch
    assert type(room.times(by.BY_TORCH, "W", W, 3, 2)) is products.Times


@needs_onednn
@pytest.mark.parametrize(
    ("sizes", "times"),
    [
        ((192, 512, 128), 1),
        ((188, 512, 128), 0),  # fewer than 12 · 2**20 multiplications
        ((2048, 256, 127), 0),  # narrow
        ((64, 1032, 256), 2),  # more than 2**18 weights
        ((16, 4096, 256), 4),
        ((16, 4100, 256), -5),  # more than 2**20 weights
        ((192, 256, 256), -1),  # no higher than broad
    ],
)
def test_how_the_gradient_of_a_weight_is_made(sizes, times, quicker, calls, monkeypatch):
    """By how many products of oneDNN's, which come turned where that is quicker, the others not (negative here)."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    N, O, I = sizes
    generator = torch.Generator().manual_seed(N)
    da, x, W = (torch.randn(*size, generator=generator) for size in ((4, N // 4, O), (4, N // 4, I), (O, I)))
    dW = products.zeros_for(W, N)
    assert dW.is_contiguous() == (times <= 0)
    assert dW.T.is_contiguous() == (times > 0)
    wanted = 3 * da.flatten(0, 1).double().T @ x.flatten(0, 1).double()
    products.add_outer(da, x, dW)
    products.add_outer(2 * da, x, dW)
    assert calls == 2 * (["oneDNN"] * abs(times) or ["mm"])
    assert_near([dW], [wanted])
    assert products.laid_out(dW, W).is_contiguous()
    assert_all_close(products.laid_out(dW, W), dW, 0)


@needs_onednn
@pytest.mark.parametrize("turned_too", [True, False])
def test_gradients_one_below_the_other(turned_too, always, calls, monkeypatch):
    """Blocks of weights' gradients change places; small ones stay with mm, turned or not."""
    generator = torch.Generator().manual_seed(0)
    da, x = (torch.randn(*size, generator=generator) for size in ((5, 2, 7), (5, 2, 4)))
    dW = torch.zeros(4, 7).T if turned_too else torch.zeros(7, 4)
    wanted = da.flatten(0, 1).double().T @ x.flatten(0, 1).double()
    products.add_outer(da, x, dW[3:], dW[:3])
    assert_near([dW], [torch.cat([wanted[4:], wanted[:4]])])
    assert calls == ["oneDNN"] * 2
    monkeypatch.setattr(products, "LARGE", 10**9)
    products.add_outer(da, x, dW[3:], dW[:3])
    assert_near([dW], [2 * torch.cat([wanted[4:], wanted[:4]])])
    assert calls[2:] == ["mm"] * 2


@needs_onednn
@pytest.mark.parametrize("laid_out", [turned, spread, torch.Tensor.contiguous])
def test_gradients_are_laid_out_as_autograd_would(laid_out, always):
    """So that nobody has to turn them who adds them up."""
    operands, upstream = operands_of("lstm")
    apart = [laid_out(z.detach()).requires_grad_() for z in operands]
    got = results("lstm", bptt.by_hand, apart, upstream)[-len(operands) :]
    for z, dz in list(zip(apart, got))[1:5]:
        assert dz.stride() == (torch.empty_like(z).stride())


@pytest.mark.parametrize(
    ("text", "made"),
    [("vendor_id\t: AuthenticAMD\nmodel : 17", True), ("vendor_id\t: GenuineIntel", False), ("", False)],
)
def test_who_made_the_processor(text, made, tmp_path, monkeypatch):
    about = tmp_path / "cpuinfo"
    about.write_text(text)
    monkeypatch.setattr(products, "Path", lambda _: about)
    assert products.made_by_amd() is made
    monkeypatch.setattr(products, "Path", lambda _: tmp_path / "nothing")
    monkeypatch.setattr(platform, "processor", lambda: text)
    assert products.made_by_amd() is made
    monkeypatch.setattr(products, "Path", lambda _: tmp_path)  # which cannot be read as a file
    assert products.made_by_amd() is made


@pytest.mark.parametrize("missing", ["_linear", "_ordered"])
def test_without_the_private_calls_all_is_by_mm(missing, monkeypatch):
    monkeypatch.setattr(products, "made_by_amd", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch._C, "_has_mkldnn", True)
    monkeypatch.setattr(torch._C, "has_mkl", True)
    for name in ("_linear", "_ordered"):
        monkeypatch.setattr(products, name, torch.mm)
    ask = products.onednn_is_quicker.__wrapped__
    assert ask()
    with monkeypatch.context() as patch:
        patch.setattr(products, missing, None)
        assert not ask()
    for module, name, value in (
        (products, "made_by_amd", lambda: False),
        (torch._C, "has_mkl", False),
        (torch._C, "_has_mkldnn", False),
        (torch.backends.cpu, "get_cpu_capability", lambda: "AVX2"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            assert not ask()
