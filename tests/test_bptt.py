"""Backpropagation through time by hand in PyTorch: against numpy_rnn, against the loop, and under every transform."""

from __future__ import annotations

import contextlib
import io
import math
from functools import partial

import pytest
import torch
from support import (
    CELLS,
    assert_all_close,
    assert_backward_can_be_run_again,
    by_numpy,
    function_of,
    output_units,
    random_params,
    random_state,
    rng_of,
    tensor,
)
from torch.autograd import forward_ad
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.testing._internal.common_utils import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import torch_rnn
from torch_rnn import bptt
from torch_rnn.blocks import batch_sizes_of, blocks_of
from torch_rnn.bptt import calls, function, passes
from torch_rnn.modules import to_caller

T, B, I, H, R = 5, 3, 7, 8, 6  # all distinct, and distinct from 2 layers and their 2 directions, 4
# PyTorch's own, where forward mode looks for its formulas.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Please use `torch.vmap`:FutureWarning"),  # gradcheck's own call, in PyTorch 2.4
    pytest.mark.usefixtures("tiny_tensors"),
]
each_cell = pytest.mark.parametrize("name", CELLS)


@pytest.fixture(autouse=True, params=["NumPy", "PyTorch"])
def library(request, monkeypatch):
    """What steps call, however few they are."""
    monkeypatch.setattr(calls, "MANY", 1)
    monkeypatch.setattr(calls, "LEAST", 1)
    if request.param == "PyTorch":
        monkeypatch.setattr(calls, "numpy_has", lambda *operands: False)


def problem(name, T=T, B=B):
    cell = CELLS[name][0]
    rng = rng_of(name, T, B)
    params = random_params(cell, I, H, R, rng)
    s0, ds_n = (random_state(cell, (B,), H, R, rng) for _ in range(2))
    x, dy = rng.standard_normal((T, B, I)), rng.standard_normal((T, B, output_units(cell, H, R)))
    return params, x, s0, dy, ds_n


def operands_of(name, **sizes):
    """x, the parameters and the initial state as leaves, and random gradients of the outputs and the final state."""
    params, x, s0, dy, ds_n = problem(name, **sizes)
    return [tensor(a) for a in (x, *params, *s0)], [torch.tensor(a) for a in (dy, *ds_n)]


def loss_of(name, run=bptt.by_hand):
    return lambda *operands: sum((z**3).sum() for z in function_of(name, run)(*operands))


def test_every_cell_has_its_passes_by_hand():
    assert sorted(bptt.MANUAL) == sorted(CELLS)


@each_cell
@pytest.mark.parametrize("sizes", [{}, {"T": 1}, {"B": 1}, {"T": 1, "B": 1}], ids=str)
@pytest.mark.parametrize("columns", [2048, 6, 1], ids=lambda n: f"{n} columns at a time")
def test_values_and_gradients_equal_numpys(name, sizes, columns, monkeypatch):
    monkeypatch.setattr(passes, "columns_at_a_time", lambda R: columns)
    operands, upstream = operands_of(name, **sizes)
    outputs = function_of(name)(*operands)
    values, gradients = by_numpy(name, operands, upstream)
    assert_all_close(outputs, values, 1e-14, "values")
    assert_all_close(torch.autograd.grad(outputs, operands, upstream), gradients, 1e-13, "gradients")


@each_cell
def test_no_sequence_at_all(name):
    operands, upstream = operands_of(name, B=0)
    x, *grads = torch.autograd.grad(function_of(name)(*operands), operands, upstream)
    assert x.shape == (T, 0, I)
    assert not any(g.any() for g in grads)


@each_cell
def test_each_output_alone_has_its_gradients(name):
    operands, upstream = operands_of(name)
    for k, up in enumerate(upstream):
        by = [
            torch.autograd.grad(function_of(name, run)(*operands)[k], operands, up, materialize_grads=True)
            for run in (bptt.by_hand, bptt.by_loop)
        ]
        assert_all_close(by[0], by[1], 1e-13)


@each_cell
def test_backward_can_be_run_again_and_changes_no_argument(name):
    operands, upstream = operands_of(name)
    assert_backward_can_be_run_again(name, operands, upstream)


@each_cell
def test_who_wants_no_gradient_gets_none(name):
    operands, upstream = operands_of(name)
    outputs = function_of(name)(operands[0].detach(), *operands[1:])
    expected = torch.autograd.grad(function_of(name, bptt.by_loop)(*operands), operands, upstream)
    assert_all_close(torch.autograd.grad(outputs, operands[1:], upstream), expected[1:], 1e-13)
    outputs = function_of(name)(operands[0], *(z.detach() for z in operands[1:]))
    assert_all_close(torch.autograd.grad(outputs, operands[:1], upstream), expected[:1], 1e-13)
    assert not any(z.requires_grad for z in function_of(name)(*(z.detach() for z in operands)))


def test_the_gradient_of_x_is_not_computed_in_vain(monkeypatch):
    seen = []
    backward = bptt.MANUAL["lstm"].backward

    def watched(*args):
        _, part, *_ = args
        seen.append(part.dx)
        return backward(*args)

    monkeypatch.setitem(bptt.MANUAL, "lstm", bptt.MANUAL["lstm"]._replace(backward=watched))
    operands, upstream = operands_of("lstm")
    torch.autograd.grad(function_of("lstm")(operands[0].detach(), *operands[1:]), operands[1:], upstream)
    torch.autograd.grad(function_of("lstm")(*operands), operands, upstream)
    assert seen[0] is None
    assert seen[1].shape == (T, B, I)


@each_cell
def test_no_more_is_saved_than_backward_needs(name):
    """In units of T·B·H beside the operands, the outputs among them; the loop saves more."""
    operands, _ = operands_of(name)
    own = {z.untyped_storage().data_ptr() for z in operands}
    used = {}
    for run in (bptt.by_hand, bptt.by_loop):
        kept = {}

        def pack(z, kept=kept):
            kept[z.untyped_storage().data_ptr()] = z.untyped_storage().nbytes()
            return z

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda z: z):
            outputs = function_of(name, run)(*operands)
        used[run] = sum(size for place, size in kept.items() if place not in own) / (T * B * H * 8)
        assert outputs[0].requires_grad
    most = {"lstm": 6, "lstm_peephole": 6, "lstm_projection": 6 + R / H, "gru": 5, "gru_reset_before": 5}
    assert used[bptt.by_hand] == pytest.approx(most.get(name, 1))  # gates, c, h; or m, too; or gates, v_n or q, h; or h
    assert used[bptt.by_hand] <= used[bptt.by_loop]


class Products(TorchDispatchMode):
    """Counts matrix products."""

    names = ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "vdot", "addr")

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        with self:  # an operation that consists of others, which may be products, as linear does
            result = operation.decompose(*args, **(kwargs or {}))
        if result is not NotImplemented:
            return result
        self.count += operation.name().removeprefix("aten::").split(".")[0].rstrip("_") in self.names
        return operation(*args, **(kwargs or {}))


# Of forward and of backward: products at every step, and products over all steps at once.
PRODUCTS = {
    "rnn_tanh": ((1, 1), (1, 3)),  # W_hh h; W_ih x. W_hhᵀ da; dW_ih, dW_hh, dx
    "rnn_relu": ((1, 1), (1, 3)),
    "lstm": ((1, 1), (1, 3)),
    "lstm_projection": ((2, 1), (2, 4)),  # W_hr m; W_hrᵀ dh and dW_hr
    "lstm_peephole": ((1, 1), (1, 3)),
    "gru": ((2, 1), (1, 5)),  # r and z by themselves; dW_ih and dx in two parts
    "gru_reset_before": ((2, 1), (2, 4)),  # r and z by themselves, there and back; dW_hh of n
}


@each_cell
@pytest.mark.parametrize("copied", [0, 2**14])
@pytest.mark.parametrize("T", [4, 8])
def test_what_needs_no_state_is_one_product_for_all_steps(name, T, copied, monkeypatch):
    monkeypatch.setattr(passes, "COPIED", copied)
    operands, upstream = operands_of(name, T=T)
    with Products() as forward:
        outputs = function_of(name)(*operands)
    assert passes.chunk_length(outputs[0], blocks=4) >= T  # a chunk has its own
    with Products() as backward:
        torch.autograd.grad(outputs, operands, upstream)
    own = 0 if copied else 1  # product of dW_hh for the first step, whose state is elsewhere
    assert [forward.count, backward.count - own] == [every * T + once for every, once in PRODUCTS[name]]


class Allocations(TorchDispatchMode):
    """Bytes that operations take for what they return, operation by operation."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        given = places((args, kwargs))
        self.sizes += [size for place, size in places(result).items() if place not in given]
        return result


def places(tree):
    """Where the tensors in a tree have their memory, and how many bytes."""
    memory = (z.untyped_storage() for z in tree_leaves(tree) if isinstance(z, torch.Tensor))
    return {m.data_ptr(): m.nbytes() for m in memory}


# What backward needs for itself, in a chunk's T·B·H.
ROOM = {
    "rnn_tanh": 1,
    "rnn_relu": 1,
    "lstm": 5,  # da of four gates, dc_dh
    "lstm_projection": 5 + R / H,  # dh, too
    "lstm_peephole": 6,  # dc_dc, too
    "gru": 4,
    "gru_reset_before": 3,
}


@each_cell
@pytest.mark.parametrize("chunks", [1, 2, 3, 5])
def test_chunks_are_of_one_length_and_all_use_the_same_memory(name, chunks, monkeypatch):
    T, B = 40, 6
    length = math.ceil(T / chunks)
    monkeypatch.setattr(passes, "COPIED", 0)
    columns = (T // chunks + 1) * B  # 5 chunks of 9 would leave one of 4
    monkeypatch.setattr(passes, "columns_at_a_time", lambda R: columns)
    (x, *rest), upstream = operands_of(name, T=T, B=B)
    outputs = function_of(name)(x.detach(), *rest)
    with Allocations() as taken:
        torch.autograd.grad(outputs, rest, upstream)
    gradients = max(z.nbytes for z in rest)
    assert sum(size for size in taken.sizes if size > gradients) == ROOM[name] * length * B * H * 8


# Sequences of 5, 3, 3, 1 and no step, and the rows of each: step 0 of four of them, step 1 of three, …
LENGTHS = [5, 3, 3, 1, 0]
BLOCKS = blocks_of(batch_sizes_of(torch.tensor(LENGTHS)))
ROWS = [[0, 4, 7, 10, 11], [1, 5, 8], [2, 6, 9], [3]]


def operands_of_rows(name):
    """As `operands_of`, x and the gradients of the outputs being rows."""
    (x, *rest), (dy, *ds_n) = operands_of(name, B=len(LENGTHS))
    rows, upstream = (z.detach().flatten(0, 1)[: sum(LENGTHS)] for z in (x, dy))
    return [rows.requires_grad_(), *rest], [upstream, *ds_n]


def one_by_one(name, operands, upstream):
    """Values and gradients by numpy_rnn, which gets each sequence alone."""
    fields = len(CELLS[name][0].State._fields)
    (x, *rest), (dy, *ds_n) = operands, upstream
    params, s0 = rest[:-fields], rest[-fields:]
    y, dx, grads = torch.zeros_like(dy), torch.zeros_like(x), [torch.zeros_like(p) for p in params]
    s_n, ds0 = [s.detach().clone() for s in s0], [ds.clone() for ds in ds_n]
    for b, rows in enumerate(ROWS):
        values, gradients = by_numpy(
            name,
            [x[rows][:, None], *params, *(s[b : b + 1] for s in s0)],
            [dy[rows][:, None], *(ds[b : b + 1] for ds in ds_n)],
        )
        values, gradients = ([torch.tensor(z) for z in some] for some in (values, gradients))
        y[rows], dx[rows] = values[0][:, 0], gradients[0][:, 0]
        for total, one in zip(grads, gradients[1:-fields]):
            total += one
        for all_, one in zip([*s_n, *ds0], [*values[1:], *gradients[-fields:]]):
            all_[b] = one[0]
    return [y, *s_n], [dx, *grads, *ds0]


@each_cell
@pytest.mark.parametrize("run", [bptt.by_hand, bptt.by_loop])
@pytest.mark.parametrize("columns", [2048, 3, 1], ids=lambda n: f"{n} columns at a time")
def test_sequences_of_different_lengths(name, run, columns, monkeypatch):
    monkeypatch.setattr(passes, "columns_at_a_time", lambda R: columns)
    operands, upstream = operands_of_rows(name)
    values, gradients = one_by_one(name, operands, upstream)
    before = [z.detach().clone() for z in (*operands, *upstream)]
    outputs = function_of(name, run, BLOCKS)(*operands)
    for _ in range(2):
        found = torch.autograd.grad(outputs, operands, upstream, retain_graph=True)
        assert_all_close(found, gradients, 1e-13, "gradients")
    assert_all_close(outputs, values, 1e-14, "values")
    assert_all_close([*operands, *upstream], before, 0.0, "arguments")


@each_cell
def test_sequences_of_different_lengths_are_one_function(name):
    (x, *rest), upstream = operands_of_rows(name)
    y, *s_n = function_of(name, bptt.by_hand, BLOCKS)(x.detach(), *rest)
    assert [z.grad_fn.name() for z in (y, *s_n)] == ["ForwardBackward"] * (1 + len(s_n))
    torch.autograd.grad((y, *s_n), rest, upstream)


@each_cell
@pytest.mark.parametrize("chunk", [512, 90], ids=lambda n: f"chunks of {n} columns")
def test_blocks_use_the_same_memory(name, chunk, monkeypatch):
    """That of the largest, which is neither the first nor the last."""
    monkeypatch.setattr(passes, "COPIED", 0)
    monkeypatch.setattr(passes, "columns_at_a_time", lambda R: chunk)
    B = 18
    lengths = torch.tensor([80] + 5 * [60] + 6 * [40] + 6 * [5])
    blocks = blocks_of(batch_sizes_of(lengths))
    assert [steps * n for steps, n in blocks] == [90, 420, 120, 20]
    (x, *rest), (dy, *ds_n) = operands_of(name, T=80, B=B)
    x, dy = (z.detach().flatten(0, 1)[: lengths.sum()] for z in (x, dy))
    outputs = function_of(name, bptt.by_hand, blocks)(x, *rest)
    with Allocations() as taken:
        torch.autograd.grad(outputs, rest, [dy, *ds_n])
    gradients = max(z.nbytes for z in rest)
    assert sum(size for size in taken.sizes if size > gradients) == ROOM[name] * min(420, chunk // 18 * 18) * H * 8


def test_packed_sequences_under_another_default_device():
    """batch_sizes stay on the CPU, as they do in torch.nn."""
    packed = PackedSequence(torch.empty(7, I, device="meta"), torch.tensor([2, 2, 1, 1, 1]))
    layer = torch_rnn.LSTM(I, H, bidirectional=True, device="meta")
    with torch.device("meta"):
        output, (h_n, _) = layer(packed)
    assert (output.data.shape, h_n.shape) == ((7, 2 * H), (2, 2, H))


@each_cell
def test_derivatives_of_sequences_of_different_lengths(name):
    operands, _ = operands_of_rows(name)
    function = function_of(name, bptt.by_hand, BLOCKS)
    assert gradcheck(function, operands, fast_mode=True, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(function, operands, fast_mode=True, check_fwd_over_rev=True)


@each_cell
def test_an_ensemble_of_sequences_of_different_lengths(name):
    (x, *rest), _ = operands_of_rows(name)
    xs = torch.stack([x, -x, 2 * x]).detach()
    by = []
    for run in (bptt.by_hand, bptt.by_loop):
        function = function_of(name, run, BLOCKS)
        by.append(torch.func.vmap(torch.func.grad(lambda x, f=function: sum((z**3).sum() for z in f(x, *rest))))(xs))
    assert_all_close(by[0], by[1], 1e-12)


@each_cell
def test_changing_an_output_in_place_is_noticed(name):
    operands, upstream = operands_of(name)
    y, *_ = function_of(name)(*operands)
    y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(y, operands, upstream[0])


@each_cell
def test_a_tensor_that_torch_func_left_behind(name):
    """Outside of the transformation it is what it wraps, a number without a history."""
    operands, upstream = operands_of(name)
    outputs = function_of(name)(*operands)
    expected = [*outputs, *torch.autograd.grad(outputs, operands[1:], upstream)]
    left_behind = []

    def square(x):
        left_behind.append(x * 1)
        return (x * x).sum()

    torch.func.grad(square)(operands[0].detach())
    (x,) = left_behind
    assert torch._C._functorch.is_functorch_wrapped_tensor(x)
    outputs = function_of(name)(x, *operands[1:])
    assert_all_close([*outputs, *torch.autograd.grad(outputs, operands[1:], upstream)], expected, 0.0)
    history, _ = outputs[0].grad_fn.next_functions[0]
    assert history is None


@each_cell
def test_first_derivatives_in_both_modes(name):
    operands, _ = operands_of(name, T=3, B=2)
    assert gradcheck(function_of(name), operands, fast_mode=True, check_forward_ad=True)
    assert gradcheck(
        function_of(name), operands, fast_mode=True, check_batched_grad=True, check_batched_forward_grad=True,
        check_forward_ad=True,
    )  # fmt: skip


@each_cell
def test_second_derivatives_in_both_modes(name):
    operands, _ = operands_of(name, T=3, B=2)
    assert gradgradcheck(function_of(name), operands, fast_mode=True, check_fwd_over_rev=True)


@each_cell
def test_third_derivatives(name):
    operands, _ = operands_of(name, T=3, B=2)
    by = []
    for run in (bptt.by_hand, bptt.by_loop):
        first = torch.autograd.grad(loss_of(name, run)(*operands), operands, create_graph=True)
        second = torch.autograd.grad(sum((g**2).sum() for g in first), operands, create_graph=True)
        by.append(torch.autograd.grad(sum((g**2).sum() for g in second), operands))
    assert_all_close(by[0], by[1], 1e-12)


def of_x(name, run, result, rest):
    return lambda x: result(name, run)(x, *rest)


TRANSFORMS = {
    "grad": lambda name, run, x, xs, rest: torch.func.grad(of_x(name, run, loss_of, rest))(x),
    "vmap": lambda name, run, x, xs, rest: torch.func.vmap(of_x(name, run, loss_of, rest))(xs),
    "vmap of vmap": lambda name, run, x, xs, rest: torch.func.vmap(torch.func.vmap(of_x(name, run, loss_of, rest)))(
        xs.expand(2, *xs.shape)
    ),
    "vmap of grad": lambda name, run, x, xs, rest: torch.func.vmap(torch.func.grad(of_x(name, run, loss_of, rest)))(xs),
    "jvp": lambda name, run, x, xs, rest: torch.func.jvp(of_x(name, run, function_of, rest), (x,), (xs[0],)),
    "jacrev": lambda name, run, x, xs, rest: torch.func.jacrev(of_x(name, run, function_of, rest))(x),
    "jacfwd": lambda name, run, x, xs, rest: torch.func.jacfwd(of_x(name, run, function_of, rest))(x),
    "hessian": lambda name, run, x, xs, rest: torch.func.hessian(of_x(name, run, loss_of, rest))(x),
    "autograd over vmap": lambda name, run, x, xs, rest: torch.autograd.grad(
        torch.func.vmap(of_x(name, run, loss_of, rest))(xs).sum(), rest
    ),
    "batched gradients": lambda name, run, x, xs, rest: torch.autograd.grad(
        function_of(name, run)(x, *rest)[0], rest, torch.ones(2, T, B, R if "proj" in name else H).double().cumsum(0),
        is_grads_batched=True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("transform", TRANSFORMS)
@each_cell
def test_transforms_of_torch_func(name, transform):
    (x, *rest), _ = operands_of(name)
    xs = torch.randn(4, *x.shape, dtype=x.dtype)
    by = [TRANSFORMS[transform](name, run, x, xs, rest) for run in (bptt.by_hand, bptt.by_loop)]
    assert_all_close(by[0], by[1], 1e-12)


@each_cell
def test_vmap_over_each_operand_alone(name):
    """Along one dimension of this and another of that, and the gradients with it."""
    operands, upstream = operands_of(name, T=3, B=2)

    def pulled(run, k, z):
        outputs, pull = torch.func.vjp(function_of(name, run), *operands[:k], z, *operands[k + 1 :])
        return outputs, pull(tuple(upstream))

    for k, z in enumerate(operands):
        values = torch.randn(4, *z.shape, dtype=z.dtype)
        where = k % (z.dim() + 1)
        by_hand = torch.func.vmap(partial(pulled, bptt.by_hand, k), in_dims=where)(values.movedim(0, where))
        one_by_one = [pulled(bptt.by_loop, k, value) for value in values]
        assert_all_close(by_hand, tree_map(lambda *z: torch.stack(z), *one_by_one), 1e-12, f"operand {k}")


@each_cell
def test_reverse_over_forward_mode(name):
    """By all operands, along all at once."""
    operands, _ = operands_of(name, T=3, B=2)
    along = tuple(torch.randn_like(z) for z in operands)
    by = [
        torch.func.grad(
            lambda *operands, run=run: torch.func.jvp(loss_of(name, run), operands, along)[1],
            argnums=tuple(range(len(operands))),
        )(*operands)
        for run in (bptt.by_hand, bptt.by_loop)
    ]
    assert_all_close(by[0], by[1], 1e-12)


LAYERS = {
    "RNN": lambda **options: torch_rnn.RNN(I, H, **options),
    "RNN relu": lambda **options: torch_rnn.RNN(I, H, nonlinearity="relu", **options),
    "LSTM": lambda **options: torch_rnn.LSTM(I, H, **options),
    "LSTM projection": lambda **options: torch_rnn.LSTM(I, H, proj_size=R, **options),
    "LSTM peephole": lambda **options: torch_rnn.LSTM(I, H, peephole=True, **options),
    "GRU": lambda **options: torch_rnn.GRU(I, H, **options),
    "GRU reset before": lambda **options: torch_rnn.GRU(I, H, reset_after=False, **options),
    "RNNCell": lambda **options: torch_rnn.RNNCell(I, H, **options),
    "LSTMCell": lambda **options: torch_rnn.LSTMCell(I, H, **options),
    "GRUCell": lambda **options: torch_rnn.GRUCell(I, H, **options),
}
each_layer = pytest.mark.parametrize("layer", LAYERS)


def both_layers(layer, **options):
    """The same layer by hand and by autograd."""
    ours, other = LAYERS[layer](**options, bptt="manual"), LAYERS[layer](**options, bptt="autograd")
    other.load_state_dict(ours.state_dict())
    return ours, other


def layer_problem(layer, T=3, B=5, dtype=torch.float64):
    """Both of `both_layers`, the layers two deep and in both directions; x and h_0, c_0; random upstream gradients."""
    one_step = "Cell" in layer
    ours, other = both_layers(layer, dtype=dtype, **({} if one_step else {"num_layers": 2, "bidirectional": True}))
    rows, steps = ((), ()) if one_step else ((4,), (T,))
    units = (R if "projection" in layer else H, H) if "LSTM" in layer else (H,)
    shapes = (*steps, B, I), *((*rows, B, u) for u in units)
    operands = [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]
    return ours, other, operands, [torch.randn_like(y) for y in outputs_of(ours, *operands)]


def outputs_of(module, x, *s0):
    return tree_leaves(module(x, to_caller(s0)))


def results_and_gradients(module, operands, upstream):
    outputs = outputs_of(module, *operands)
    return outputs, torch.autograd.grad(outputs, [*operands, *module.parameters()], upstream)


def functional(module):
    """(parameters by name, x, *s0) -> [y, *s_n]."""

    def call(parameters, x, *s0):
        return tree_leaves(torch.func.functional_call(module, parameters, (x, to_caller(s0))))

    return call


@each_layer
def test_second_derivatives_of_a_whole_layer(layer):
    ours, _, operands, _ = layer_problem(layer)
    names, parameters = zip(*ours.named_parameters())

    def function(vector, *operands):  # all parameters are one, since the check differentiates by each argument alone
        values = [v.view_as(p) for v, p in zip(vector.split([p.numel() for p in parameters]), parameters)]
        return functional(ours)(dict(zip(names, values)), *operands)

    vector = torch.nn.utils.parameters_to_vector(parameters).detach().requires_grad_()
    assert gradgradcheck(function, [vector, *operands], fast_mode=True)  # upstream gradients are its own, random


@each_layer
def test_forward_mode_of_a_whole_layer(layer):
    """As the loop's, and the transpose of reverse mode, since both share all that is around the cells."""
    ours, other, operands, upstream = layer_problem(layer)
    primals = tree_map(torch.Tensor.detach, (dict(ours.named_parameters()), *operands))
    tangents = tree_map(torch.randn_like, primals)
    by = [torch.func.jvp(functional(module), primals, tangents) for module in (ours, other)]
    assert_all_close(by[0], by[1], 1e-12)
    pushed = sum((u * t).sum() for u, t in zip(upstream, by[0][1]))
    gradients = results_and_gradients(other, operands, upstream)[1]
    pulled = sum((g * t).sum() for g, t in zip(gradients, [*tangents[1:], *tangents[0].values()]))
    torch.testing.assert_close(pushed, pulled, rtol=1e-9, atol=0)


@each_layer
def test_an_ensemble_by_vmap(layer):
    """Two layers that read the same input, each from an initial state of its own."""
    ours, others, operands, _ = zip(*(layer_problem(layer) for _ in range(2)))
    x, states = operands[0][0], [own[1:] for own in operands]
    parameters, _ = torch.func.stack_module_state(ours)
    s0 = [torch.stack(s) for s in zip(*states)]
    in_dims = (0, None, *(0 for _ in s0))
    outputs = torch.func.vmap(functional(ours[0]), in_dims)(parameters, x, *s0)
    upstream = [torch.randn_like(y) for y in outputs]
    gradients = torch.autograd.grad(outputs, [x, *s0, *parameters.values()], upstream)

    one_by_one = [
        results_and_gradients(other, [x, *own], [u[k] for u in upstream])
        for k, (other, own) in enumerate(zip(others, states))
    ]
    values, (dx, *expected) = tree_map(lambda *z: torch.stack(z), *one_by_one)
    assert_all_close(outputs, values, 1e-12, "values")
    assert_all_close(gradients, [dx.sum(0), *expected], 1e-12, "gradients")


@each_layer
def test_compiles_in_one_piece(layer):
    torch._dynamo.reset()
    ours, other = both_layers(layer, dtype=torch.float64)
    x = torch.randn((B, I) if "Cell" in layer else (T, B, I), dtype=torch.float64, requires_grad=True)
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)  # fullgraph: a graph break is an error
    y, z = (tree_leaves(module(x)) for module in (compiled, other))
    assert_all_close(y, z, 1e-12)
    by = [torch.autograd.grad(sum(v.sum() for v in r), [x, *m.parameters()]) for r, m in ((y, ours), (z, other))]
    assert_all_close(by[0], by[1], 1e-12)


@pytest.mark.parametrize("layer", ["RNN", "LSTM", "GRU"])
def test_two_layers_in_both_directions_compile_in_one_piece(layer):
    torch._dynamo.reset()
    ours, _, operands, upstream = layer_problem(layer)
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    by = [results_and_gradients(module, operands, upstream) for module in (compiled, ours)]
    assert_all_close(by[0], by[1], 1e-12)


@each_layer
def test_autocast_gives_what_the_loop_gives(layer):
    ours, other = both_layers(layer)
    x = torch.randn((B, I) if "Cell" in layer else (T, B, I))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, z = (tree_leaves(module(x)) for module in (ours, other))
    assert [v.dtype for v in y] == [v.dtype for v in z]
    assert_all_close([v.float() for v in y], [v.float() for v in z], 0.0)


@pytest.mark.parametrize("inside", [False, True], ids=["backward outside", "backward inside"])
@each_layer
def test_gradients_under_autocast(layer, inside):
    """As the loop's, and float32's as far as bfloat16 goes."""
    ours, other, operands, upstream = layer_problem(layer, dtype=torch.float32)
    _, exact = results_and_gradients(ours, operands, upstream)
    by = []
    for module in (ours, other):
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.autocast("cpu", dtype=torch.bfloat16))
            outputs = outputs_of(module, *operands)
            if not inside:
                stack.close()
            up = [u.to(y.dtype) for u, y in zip(upstream, outputs)]
            by.append(torch.autograd.grad(outputs, [*operands, *module.parameters()], up))
    assert {g.dtype for g in by[0]} == {torch.float32}
    assert_all_close(by[0], by[1], 0.0)
    if layer != "RNN relu":  # whose derivative jumps where a sign changes
        assert_all_close(by[0], exact, 0.03)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)  # also fills new memory with NaN, so what is not written shows
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@each_layer
def test_deterministic_mode(layer):
    ours, other = both_layers(layer, dtype=torch.float64)
    x = torch.randn((B, I) if "Cell" in layer else (T, B, I), dtype=torch.float64)
    by = []
    with deterministic():
        for module in (ours, ours, other):
            y = tree_leaves(module(x))
            by.append([*y, *torch.autograd.grad(sum((v**2).sum() for v in y), list(module.parameters()))])
    assert_all_close(by[0], by[1], 0.0)
    assert_all_close(by[0], by[2], 1e-12)


@pytest.mark.parametrize("layer", [layer for layer in LAYERS if "Cell" not in layer])
def test_deterministic_mode_changes_no_bit_of_sequences_of_several_lengths(layer):
    ours, _, (x, *s0), _ = layer_problem(layer, T=9)
    lengths = torch.tensor([4, 9, 1, 9, 6])

    def outputs():
        y, s_n = ours(pack_padded_sequence(x, lengths, enforce_sorted=False), to_caller(s0))
        return [y.data, *tree_leaves(s_n)]

    upstream = [torch.randn_like(y) for y in outputs()]

    def everything():
        y = outputs()
        return y, torch.autograd.grad(y, [x, *s0, *ours.parameters()], upstream)

    expected = everything()
    with deterministic():
        assert_all_close(everything(), expected, 0.0)
        assert_all_close(everything(), expected, 0.0)


def test_complex_numbers_go_through_the_loop():
    (x, *rest), _ = operands_of("gru")
    operands = [z.detach().to(torch.complex128) for z in (x, *rest)]
    operands[0] += 1e-30j
    by_hand, by_loop = (function_of("gru", run)(*operands) for run in (bptt.by_hand, bptt.by_loop))
    assert_all_close(by_hand, by_loop, 0.0)
    assert by_hand[0].imag.any()


@each_cell
def test_half_precisions(name):
    """Close to float64 as far as a dtype of so few digits goes, and no worse than the loop by more than a little."""
    operands, upstream = operands_of(name, T=8)
    exact = function_of(name, bptt.by_loop)(*operands)
    exact = [*exact, *torch.autograd.grad(exact, operands, [u[:8] for u in operands_of(name, T=8)[1]])]
    for dtype, digits in ((torch.bfloat16, 2**-8), (torch.float16, 2**-11), (torch.float32, 2**-24)):
        low = [z.detach().to(dtype).requires_grad_() for z in operands]
        worst = {}
        for run in (bptt.by_hand, bptt.by_loop):
            outputs = function_of(name, run)(*low)
            found = [*outputs, *torch.autograd.grad(outputs, low, [u.to(dtype) for u in upstream])]
            assert {z.dtype for z in found} == {dtype}
            worst[run] = max(
                ((z.double() - e).abs().max() / e.abs().max()).item() for z, e in zip(found, exact) if e.numel()
            )
        assert worst[bptt.by_hand] < 100 * digits
        assert worst[bptt.by_hand] < 3 * worst[bptt.by_loop]


def test_half_precision_adds_up_many_steps(monkeypatch):
    """In chunks a bias's gradient of ones would stop at 256, where the next number of bfloat16 is 258."""
    monkeypatch.setattr(passes, "columns_at_a_time", lambda R: 1)
    layer = torch_rnn.RNN(1, 4, dtype=torch.bfloat16)
    for p in layer.parameters():
        p.data.zero_()
    x = torch.ones(1024, 1, 1, dtype=torch.bfloat16)
    layer(x)[0].backward(torch.ones(1024, 1, 4, dtype=torch.bfloat16))
    for p in (layer.bias_ih_l0, layer.bias_hh_l0, layer.weight_ih_l0):
        assert torch.equal(p.grad, torch.full_like(p, 1024))


def test_half_precision_adds_up_many_blocks():
    """1 + 2 + … + 200, each of which bfloat16 holds, and of their sum it shall miss the last rounding only."""
    layer = torch_rnn.RNN(1, 4, dtype=torch.bfloat16)
    for p in layer.parameters():
        p.data.zero_()
    packed = pack_padded_sequence(torch.ones(200, 200, 1, dtype=torch.bfloat16), torch.arange(200, 0, -1))
    output, _ = layer(packed)
    output.data.backward(torch.ones_like(output.data))
    for p in (layer.bias_ih_l0, layer.bias_hh_l0, layer.weight_ih_l0):
        assert torch.equal(p.grad, torch.full_like(p, 20100))


@pytest.mark.parametrize("layer", ["RNN", "LSTM", "GRU"])
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # the number of steps is fixed in it
def test_a_trace_can_be_saved(layer):
    """By hand it would hold a Python function, which no file can."""
    module = getattr(torch_rnn, layer)(I, H, num_layers=2, bidirectional=True)
    x = torch.randn(T, B, I)
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, (x,), check_trace=False), file)
    file.seek(0)
    assert_all_close(tree_leaves(torch.jit.load(file)(x)), tree_leaves(module(x)), 1e-6)


@each_cell
def test_second_derivatives_need_no_pass_for_zeros(name, monkeypatch):
    """Backward reads y, but does not depend on it beyond x, the parameters and the initial state."""
    operands, upstream = operands_of(name, T=4, B=2)
    first = torch.autograd.grad(function_of(name)(*operands), operands, upstream, create_graph=True)
    monkeypatch.setattr(function.Backward, "forward", lambda *args: pytest.fail("a pass by hand, for zeros"))
    torch.autograd.grad([z for z in first if z.requires_grad], operands, [z for z in first if z.requires_grad])


def test_a_parametrization_is_asked_once_a_call():
    calls = []

    class Counted(torch.nn.Module):
        def forward(self, W):
            calls.append(W.shape)
            return W

    layer = torch_rnn.GRU(I, H, num_layers=2)
    torch.nn.utils.parametrize.register_parametrization(layer, "weight_ih_l0", Counted())
    calls.clear()
    layer(torch.randn(T, B, I))
    layer(pack_padded_sequence(torch.randn(T, B, I), [T, 3, 2]))
    assert calls == [(3 * H, I)] * 2


def test_an_unknown_way_is_refused():
    for name in ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"):
        with pytest.raises(ValueError, match=r"Unknown bptt 'magic'. Select from 'manual' or 'autograd'."):
            getattr(torch_rnn, name)(I, H, bptt="magic")
    layer = torch_rnn.GRU(I, H)
    layer.bptt = "autograd"  # may be changed later, as other options
    assert repr(layer) == f"GRU({I}, {H}, bptt=autograd)"
    assert type(layer(torch.ones(T, B, I))[0].grad_fn).__name__ != "ForwardBackward"


def test_the_option_chooses():
    x = torch.ones(T, B, I)
    names = [type(torch_rnn.LSTM(I, H, bptt=way)(x)[0].grad_fn).__name__ for way in ("manual", "autograd")]
    assert names[0] == "ForwardBackward"
    assert names[1] != "ForwardBackward"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each_cell
def test_second_derivatives_on_a_gpu(name):
    """cuDNN refuses them."""
    operands = [z.detach().cuda().requires_grad_() for z in operands_of(name, T=3, B=2)[0]]
    assert gradcheck(function_of(name), operands, fast_mode=True)
    assert gradgradcheck(function_of(name), operands, fast_mode=True)


@pytest.mark.parametrize("guarded", [True, False])
@each_cell
def test_no_operation_by_hand_asks_autograd(name, guarded, monkeypatch):
    """Nor does a result depend on that: where PyTorch has no such guard, there is none."""
    operands, upstream = operands_of(name, T=4, B=2)
    expected = torch.autograd.grad(function_of(name)(*operands), operands, upstream)
    skipped = []
    cell = CELLS[name][1]
    manual = bptt.MANUAL[cell.name]

    def watched(way):
        def run(*arguments):
            keys = torch._C.DispatchKey.AutogradFunctionality, torch._C.DispatchKey.ADInplaceOrView
            skipped.append([torch._C._dispatch_tls_is_dispatch_key_excluded(key) for key in keys])
            return way(*arguments)

        return run

    if not guarded:
        monkeypatch.setattr(bptt.function, "below_autograd", contextlib.nullcontext)
        monkeypatch.setattr(bptt.function, "exclude", contextlib.nullcontext)
        monkeypatch.setattr(bptt.function, "quick_apply", bptt.function.Forward.apply)
    monkeypatch.setitem(
        bptt.MANUAL, cell.name, manual._replace(forward=watched(manual.forward), backward=watched(manual.backward))
    )
    gradients = torch.autograd.grad(function_of(name)(*operands), operands, upstream)
    assert skipped == [[guarded, guarded]] * 2
    assert_all_close(gradients, expected, 0.0)


@each_cell
def test_backward_alone_can_be_vectorized(name):
    """`vmap` around nothing but a call of backward."""
    operands, upstream = operands_of(name, T=4, B=2)
    outputs = function_of(name)(*operands)

    def pull(*gradients):
        return torch.autograd.grad(outputs, operands, gradients, retain_graph=True)

    several = [torch.stack([g, 2 * g, -g]) for g in upstream]
    expected = [torch.stack([g, 2 * g, -g]) for g in pull(*upstream)]
    assert_all_close(torch.func.vmap(pull)(*several), expected, 1e-12)


@each_cell
def test_backward_alone_can_be_pushed_forward(name):
    """It is linear in the upstream gradients: their tangents come through as the gradients themselves do."""
    operands, upstream = operands_of(name, T=4, B=2)
    outputs = function_of(name)(*operands)
    tangents = [torch.randn_like(g) for g in upstream]
    expected = torch.autograd.grad(outputs, operands, tangents, retain_graph=True)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(g, t) for g, t in zip(upstream, tangents)]
        gradients = torch.autograd.grad(outputs, operands, duals)
        found = [forward_ad.unpack_dual(g).tangent for g in gradients]
        assert all(t is not None for t in found)
        assert_all_close(found, expected, 1e-12)
