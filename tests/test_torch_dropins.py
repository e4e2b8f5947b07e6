"""The drop-ins for torch.nn's recurrent classes: first what PyTorch checks of its own classes, then what it does not.

PyTorch describes each of its modules by a `ModuleInfo`, constructor arguments, inputs and errors included, and runs the
same checks over all of them. The first half of this file makes those checks with our classes in place of torch.nn's.
Two of them are left out: in-place variants, which no recurrent class has, and moves between two GPUs. One is
made in another way, see `test_second_derivatives`.
"""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from itertools import product

import pytest
import torch
from support import assert_all_close
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence
from torch.testing._internal.common_modules import ModuleErrorEnum, module_db
from torch.testing._internal.common_utils import gradcheck, gradgradcheck
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

import torch_rnn

LAYERS = ["RNN", "LSTM", "GRU"]
CELLS = ["RNNCell", "LSTMCell", "GRUCell"]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


pytestmark = pytest.mark.usefixtures("tiny_tensors")


@pytest.fixture(params=["autograd", "manual"])
def way(request, monkeypatch):
    """How all classes do backpropagation through time unless a test says otherwise."""
    for name in LAYERS + CELLS:
        cls = getattr(torch_rnn, name)
        monkeypatch.setitem(cls.__init__.__kwdefaults__, "bptt", request.param)
        assert cls(2, 3, device="meta").bptt == request.param  # elsewhere in the signature it would change nothing
    return request.param


both_ways = pytest.mark.usefixtures("way")


# ---------------------------------------------------------------------------------------------------------------------
# PyTorch's checks
# ---------------------------------------------------------------------------------------------------------------------


def drop_in(info):
    """The ModuleInfo of a torch.nn class, with our class in its place."""
    info = copy.copy(info)
    info.module_cls = getattr(torch_rnn, info.module_cls.__name__)
    return info


INFOS = [drop_in(info) for info in module_db if info.module_cls in [getattr(nn, name) for name in LAYERS + CELLS]]


def cases(dtypes=(torch.float32, torch.float64)):
    """Mark a test to run for every class × dtype that PyTorch runs it for.

    In training mode: PyTorch's inputs have no dropout, so evaluation is the same, which
    `test_training_mode_matters_only_where_it_is_said_to` sees.
    """
    return pytest.mark.parametrize(
        ("info", "dtype"),
        [
            pytest.param(info, dtype, id=f"{info.module_cls.__name__}-{str(dtype)[6:]}")
            for info in INFOS
            for dtype in info.supported_dtypes("cpu")
            if dtype in dtypes
        ],
    )


def module_inputs(info, dtype, requires_grad=False):
    return info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=requires_grad, training=True)


def build(cls, module_input, dtype):
    arguments = module_input.constructor_input
    return cls(*arguments.args, **arguments.kwargs).to("cpu").to(dtype)


def theirs_like(ours):
    """torch.nn's module with the same options and parameters."""
    options = {name: getattr(ours, name) for name in ("input_size", "hidden_size", *ours._defaults)}
    for name in ("peephole", "reset_after", "bptt"):
        options.pop(name, None)
    if not isinstance(ours, torch_rnn.LSTM):
        options.pop("proj_size", None)
    if hasattr(ours, "nonlinearity"):
        options["nonlinearity"] = ours.nonlinearity
    theirs = getattr(nn, type(ours).__name__)(**options).to(next(ours.parameters()).dtype)
    theirs.load_state_dict(ours.state_dict())
    return theirs.train(ours.training)


def outputs_and_gradients(module, args, upstream):
    """All outputs; and gradients of all inputs and parameters for given upstream gradients of those outputs."""
    outputs = tree_leaves(module(*args))
    return outputs, torch.autograd.grad(outputs, [*tree_leaves(args), *module.parameters()], upstream)


def random_upstream(module, args):
    return [torch.randn_like(y) for y in tree_leaves(module(*args))]


def test_all_six_classes_are_under_test():
    assert sorted(info.module_cls.__name__ for info in INFOS) == sorted(LAYERS + CELLS)
    assert all(info.module_cls.__module__.startswith("torch_rnn.") for info in INFOS)
    assert not any(issubclass(info.module_cls, (nn.RNNBase, nn.RNNCellBase)) for info in INFOS)
    assert all(info.module_error_inputs_func and info.supports_gradgrad for info in INFOS)
    assert all(set(info.supported_dtypes("cpu")) == {torch.float32, torch.float64} for info in INFOS)


@pytest.mark.parametrize("name", LAYERS + CELLS)
def test_bptt_is_given_by_keyword_only(name):
    """torch.nn has no such argument, so by position none may be taken for it."""
    option = inspect.signature(getattr(torch_rnn, name)).parameters["bptt"]
    assert option.kind is inspect.Parameter.KEYWORD_ONLY
    assert option.default == "autograd"


@both_ways
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")  # torch.nn's
@cases()
def test_forward(info, dtype):
    for module_input in module_inputs(info, dtype):
        module = build(info.module_cls, module_input, dtype)
        args = module_input.forward_input.args
        before = copy.deepcopy(args)
        outputs = module(*args)
        assert_all_close(outputs, module_input.reference_fn(module, *args), TOLERANCE[dtype])
        assert_all_close(outputs, theirs_like(module)(*args), TOLERANCE[dtype])
        assert_all_close(args, before, 0.0)  # the inputs are as they were
        module.float() if dtype == torch.float32 else module.double()
        module(*args)
        assert all(p.dtype == dtype and p.device.type == "cpu" for p in module.parameters())


@cases()
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_factory_arguments(info, dtype, device):
    for module_input in module_inputs(info, dtype):
        arguments = module_input.constructor_input
        module = info.module_cls(*arguments.args, **arguments.kwargs, device=device, dtype=dtype)
        parameters = list(module.parameters())
        assert parameters
        assert all(p.dtype == dtype and p.device.type == device for p in parameters)
        assert not list(module.buffers())


@cases()
def test_repr(info, dtype):
    for module_input in module_inputs(info, dtype):
        module = build(info.module_cls, module_input, dtype)
        assert repr(module) == str(module) == repr(theirs_like(module))


@both_ways
@cases()
def test_save_load(info, dtype):
    for module_input in module_inputs(info, dtype):
        module = build(info.module_cls, module_input, dtype)
        args = module_input.forward_input.args
        file = io.BytesIO()
        torch.save(module, file)
        file.seek(0)
        saved = torch.load(file, weights_only=False)
        outputs = module(*args)
        for other in (saved, pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
            assert not set(module.parameters()) & set(other.parameters())
            assert_all_close(other(*args), outputs, 0.0)
        file = io.BytesIO()
        torch.save(module.state_dict(), file)
        for weights_only in (True, False):
            file.seek(0)
            assert_all_close(torch.load(file, weights_only=weights_only), dict(module.state_dict()), 0.0)


@both_ways
@cases()
def test_non_contiguous_tensors(info, dtype):
    def spaced(tensor):
        return tensor.repeat_interleave(2, dim=-1)[..., ::2].detach().requires_grad_(tensor.requires_grad)

    for module_input in module_inputs(info, dtype, requires_grad=True):
        module = build(info.module_cls, module_input, dtype)
        args = module_input.forward_input.args
        upstream = random_upstream(module, args)
        expected = outputs_and_gradients(module, args, upstream)
        spaced_args, spaced_upstream = tree_map(spaced, args), tree_map(spaced, upstream)
        assert not any(a.is_contiguous() for a in tree_leaves(spaced_args) if a.shape[-1] > 1)
        for a, up in product((args, spaced_args), (upstream, spaced_upstream)):
            assert_all_close(outputs_and_gradients(module, a, up), expected, TOLERANCE[dtype])


@both_ways
@cases(dtypes=[torch.float64])
def test_first_derivatives(info, dtype):
    """PyTorch's gradcheck takes gradients in batches, too, which is vmap, and by hand that is refused."""
    for module_input in module_inputs(info, dtype, requires_grad=True):
        module = build(info.module_cls, module_input, dtype)
        flat, spec = tree_flatten((module_input.forward_input.args, list(module.parameters())))

        def function(*flat, module=module, spec=spec):
            inputs, _ = tree_unflatten(flat, spec)  # parameters are perturbed in place
            return tree_leaves(module(*inputs))

        batched = {} if module.bptt == "autograd" else {"check_batched_grad": False}
        assert gradcheck(function, flat, fast_mode=info.gradcheck_fast_mode, **batched)


@cases(dtypes=[torch.float64])
def test_second_derivatives(info, dtype):
    """As PyTorch's, but all parameters are one vector, since the check runs a double backward for each argument."""
    for module_input in module_inputs(info, dtype, requires_grad=True):
        module = build(info.module_cls, module_input, dtype)
        args = module_input.forward_input.args
        names, parameters = zip(*module.named_parameters())
        vector = nn.utils.parameters_to_vector(parameters).detach().requires_grad_()
        flat, spec = tree_flatten(args)

        def function(vector, *flat, names=names, parameters=parameters, module=module, spec=spec):
            values = [v.view_as(p) for v, p in zip(vector.split([p.numel() for p in parameters]), parameters)]
            return tree_leaves(torch.func.functional_call(module, dict(zip(names, values)), tree_unflatten(flat, spec)))

        assert gradgradcheck(function, [vector, *flat], fast_mode=info.gradcheck_fast_mode)


@both_ways
@cases()
def test_memory_format(info, dtype):
    for module_input in module_inputs(info, dtype, requires_grad=True):
        module = build(info.module_cls, module_input, dtype)
        args = module_input.forward_input.args
        upstream = random_upstream(module, args)
        expected = outputs_and_gradients(module, args, upstream)
        for memory_format in (torch.preserve_format, torch.contiguous_format):
            module.to(memory_format=memory_format)
            got = outputs_and_gradients(module, args, upstream)
            assert_all_close(got, expected, TOLERANCE[dtype])
            assert all(t.is_contiguous() for t in tree_leaves(got))


@both_ways
@cases()
def test_training_mode_matters_only_where_it_is_said_to(info, dtype):
    for module_input in module_inputs(info, dtype):
        module = build(info.module_cls, module_input, dtype)
        args = module_input.forward_input.args
        assert_all_close(module.eval()(*args), module.train()(*args), 0.0)
        del module.training
        if not info.train_and_eval_differ:
            module(*args)  # would raise AttributeError where it is looked at
    if info.train_and_eval_differ:
        layer = info.module_cls(2, 3, num_layers=2, dropout=0.5, dtype=dtype)
        x = torch.randn(4, 5, 2, dtype=dtype)
        assert not torch.equal(layer.train()(x)[0], layer.eval()(x)[0])


@cases()
def test_device_context(info, dtype):
    for module_input in module_inputs(info, dtype):
        arguments = module_input.constructor_input
        on_cpu = info.module_cls(*arguments.args, **arguments.kwargs)
        with torch.device("meta"):
            on_meta = info.module_cls(*arguments.args, **arguments.kwargs)
        for p, q in zip(on_meta.parameters(), on_cpu.parameters(), strict=True):
            assert p.is_meta
            for attribute in ("shape", "dtype", "requires_grad", "is_leaf", "layout"):
                assert getattr(p, attribute) == getattr(q, attribute)
            assert p.stride() == q.stride()
            assert p.storage_offset() == q.storage_offset()


@both_ways
@cases()
def test_errors(info, dtype):
    errors = info.module_error_inputs_func(info, device="cpu", dtype=dtype, requires_grad=False, training=True)
    assert errors
    for error in errors:
        arguments, inputs = error.module_error_input.constructor_input, error.module_error_input.forward_input
        if error.error_on == ModuleErrorEnum.CONSTRUCTION_ERROR:
            with pytest.raises(error.error_type, match=error.error_regex):
                info.module_cls(*arguments.args, **arguments.kwargs)
        else:
            module = info.module_cls(*arguments.args, **arguments.kwargs)
            with pytest.raises(error.error_type, match=error.error_regex):
                module(*inputs.args, **inputs.kwargs)


@pytest.fixture(params=[False, True], ids=["set data", "swap tensors"])
def swap(request):
    """How `Module.to` replaces parameters."""
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(request.param)
    yield request.param
    torch.__future__.set_swap_module_params_on_conversion(before)


@both_ways
@pytest.mark.parametrize("set_grad", [False, True], ids=["no grad", "grad"])
@cases(dtypes=[torch.float32])
def test_to(info, dtype, swap, set_grad):
    for module_input in module_inputs(info, dtype):
        arguments = module_input.constructor_input
        module = info.module_cls(*arguments.args, **arguments.kwargs)
        parameters = list(module.parameters())
        if set_grad:
            for p in parameters:
                p.grad = torch.randn_like(p)
        elif swap:  # possible after a forward and a backward too
            sum(y.sum() for y in tree_leaves(module(*module_input.forward_input.args))).backward()
            module.to(torch.half).to(torch.float32)
        for other in info.dtypes:
            changes = other != parameters[0].dtype
            cdata = [p._cdata for p in parameters]
            grad_cdata = [p.grad._cdata for p in parameters if set_grad]
            module.to(device="cpu", dtype=other)
            assert all(
                p is q and isinstance(q, nn.Parameter) for p, q in zip(parameters, module.parameters(), strict=True)
            )
            assert all(p.dtype == other for p in parameters)
            assert all((p._cdata != c) == swap for p, c in zip(parameters, cdata, strict=True))
            if set_grad:
                assert all(p.grad.dtype == other for p in parameters)
                swapped = [p.grad._cdata != c for p, c in zip(parameters, grad_cdata, strict=True)]
                assert all(s == (swap and changes) for s in swapped)


@both_ways
@cases(dtypes=[torch.float32])
def test_to_empty(info, dtype, swap):
    for module_input in module_inputs(info, dtype):
        arguments = module_input.constructor_input
        with torch.device("meta"):
            module = info.module_cls(*arguments.args, **arguments.kwargs)
        before = list(module.parameters())
        cdata = [p._cdata for p in before]
        module.to_empty(device="cpu")
        after = list(module.parameters())
        assert all(isinstance(p, nn.Parameter) and p.device.type == "cpu" and p.dtype == dtype for p in after)
        assert all((p is q) == swap for p, q in zip(before, after, strict=True))
        assert all(p._cdata != c for p, c in zip(after, cdata, strict=True))
        module.reset_parameters()
        assert all(y.isfinite().all() for y in tree_leaves(module(*module_input.forward_input.args)))


@both_ways
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@cases()
def test_a_gpu_gives_the_same(info, dtype):
    for module_input in module_inputs(info, dtype, requires_grad=True):
        module = build(info.module_cls, module_input, dtype)
        args = module_input.forward_input.args
        upstream = random_upstream(module, args)
        expected = outputs_and_gradients(module, args, upstream)
        there = tree_map(lambda t: t.detach().cuda().requires_grad_(t.requires_grad), (args, upstream))
        assert_all_close(outputs_and_gradients(module.cuda(), *there), expected, 10 * TOLERANCE[dtype])
        assert_all_close(outputs_and_gradients(module.cpu(), args, upstream), expected, 0.0)


# ---------------------------------------------------------------------------------------------------------------------
# Values and gradients, held against torch.nn. By hand they are those of the loop, see test_manual.py, and whatever comes
# before and after the loop is the same code.
# ---------------------------------------------------------------------------------------------------------------------

T, B, I, H, R, L = 8, 5, 4, 9, 7, 3  # all distinct, and distinct from 2 L = 6
LENGTHS = {"sorted": [8, 8, 5, 3, 1], "unsorted": [3, 8, 1, 8, 5]}
VARIANTS = {
    "RNN tanh": ("RNN", {}),
    "RNN relu": ("RNN", {"nonlinearity": "relu"}),
    "LSTM": ("LSTM", {}),
    "LSTM projection": ("LSTM", {"proj_size": R}),
    "GRU": ("GRU", {}),
}
LAYOUTS = ["time first", "batch first", "one sequence", "sorted", "unsorted"]
each_variant = pytest.mark.parametrize("variant", VARIANTS)
each_layout = pytest.mark.parametrize("layout", LAYOUTS)


def pair_of_layers(variant, dtype=torch.float64, **options):
    """Our layer and torch.nn's, with the same parameters."""
    name, more = VARIANTS[variant]
    ours = getattr(torch_rnn, name)(I, H, **{"dtype": dtype, **more, **options})
    return ours, theirs_like(ours)


def random_input(layout, dtype=torch.float64):
    """A leaf tensor, and how it is given to a layer."""
    shape = {"batch first": (B, T, I), "one sequence": (T, I)}.get(layout, (T, B, I))
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    if layout in LENGTHS:
        lengths = torch.tensor(LENGTHS[layout])
        return x, lambda x: pack_padded_sequence(x, lengths, enforce_sorted=layout == "sorted")
    return x, lambda x: x


def random_state(layer, layout, dtype=torch.float64):
    """An initial state, as the layer wants it."""
    batch = () if layout == "one sequence" else (B,)
    rows = layer.num_layers * (2 if layer.bidirectional else 1)

    def state(size):
        return torch.randn(rows, *batch, size, dtype=dtype, requires_grad=True)

    if isinstance(layer, (torch_rnn.LSTM, nn.LSTM)):
        return state(layer.proj_size or H), state(H)
    return state(H)


def leaves(results):
    """The tensors in what a layer returns that may have a gradient."""
    y, s_n = results
    return [y.data if isinstance(y, PackedSequence) else y, *tree_leaves(s_n)]


def results_and_gradients(layer, x, given, hx, upstream):
    results = leaves(layer(given(x), hx))
    wanted = [x, *tree_leaves(hx), *layer.parameters()]
    return results, torch.autograd.grad(results, wanted, upstream)


@each_variant
@pytest.mark.parametrize("layout", ["sorted", "unsorted"])
def test_a_packed_sequence_comes_back_packed_the_same_way(variant, layout):
    ours, theirs = pair_of_layers(variant, bidirectional=True)
    x, given = random_input(layout)
    got, expected = ours(given(x))[0], theirs(given(x))[0]
    assert isinstance(got, PackedSequence)
    for field in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        a, b = getattr(got, field), getattr(expected, field)
        assert (a is None and b is None) or torch.equal(a, b)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")  # torch.nn's
@each_variant
@each_layout
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forwards", "both directions"])
@pytest.mark.parametrize(("bias", "p"), [(True, 0.0), (True, 0.4), (False, 1.0)], ids=["", "dropout", "no bias, all"])
def test_values_and_gradients_equal_torchs(variant, layout, bidirectional, bias, p):
    """Under the same seed dropout zeroes the same values."""
    options = {"num_layers": L, "bidirectional": bidirectional, "bias": bias, "dropout": p}
    ours, theirs = pair_of_layers(variant, **options, batch_first=layout == "batch first")
    x, given = random_input(layout)
    hx = random_state(ours, layout)
    upstream = [torch.randn_like(y) for y in leaves(theirs(given(x), hx))]
    results = []
    for layer in (ours, theirs):
        torch.manual_seed(5)
        results.append((*results_and_gradients(layer, x, given, hx, upstream), torch.rand(3)))
    assert_all_close(results[0], results[1], 1e-12)
    if p:
        assert not torch.allclose(results[0][0][0], leaves(ours.eval()(given(x), hx))[0])
    else:
        assert_all_close(leaves(ours(given(x))), leaves(theirs(given(x))), 1e-12)  # and from the state zero
        assert_all_close(ours.float()(given(x.float()))[1], theirs.float()(given(x.float()))[1], 1e-5)


@pytest.mark.parametrize("options", [{}, {"bias": False}], ids=["bias", "no bias"])
@pytest.mark.parametrize("batch", [(), (B,)], ids=["one sequence", "batch"])
@pytest.mark.parametrize("name", [*CELLS, "RNNCell relu"])
def test_cells_equal_torchs(name, batch, options):
    if name == "RNNCell relu":
        name, options = "RNNCell", {**options, "nonlinearity": "relu"}
    ours = getattr(torch_rnn, name)(I, H, **options, dtype=torch.float64)
    x, *hx = (torch.randn(*batch, n, dtype=torch.float64, requires_grad=True) for n in (I, H, H))
    hx = tuple(hx) if name == "LSTMCell" else hx[0]
    upstream = [torch.randn(*batch, H, dtype=torch.float64) for _ in tree_leaves(hx)]

    def everything(cell):
        results = tree_leaves(cell(x, hx))
        return results, torch.autograd.grad(results, [x, *tree_leaves(hx), *cell.parameters()], upstream)

    assert_all_close(everything(ours), everything(theirs_like(ours)), 1e-12)
    assert_all_close(ours(x), theirs_like(ours)(x), 1e-12)
    assert type(ours(x)) is type(theirs_like(ours)(x))


# ---------------------------------------------------------------------------------------------------------------------
# Parameters
# ---------------------------------------------------------------------------------------------------------------------

CONSTRUCTORS = [
    *((name, options) for name in LAYERS for options in ({}, {"bias": False, "num_layers": 2, "bidirectional": True})),
    ("LSTM", {"proj_size": R, "num_layers": 2, "bidirectional": True}),
    ("LSTM", {"proj_size": R, "bias": False}),
    ("RNN", {"nonlinearity": "relu", "dtype": torch.float64}),
    *((name, options) for name in CELLS for options in ({}, {"bias": False})),
]


@pytest.mark.parametrize(("name", "options"), CONSTRUCTORS, ids=str)
def test_the_same_seed_gives_the_same_initial_parameters(name, options):
    modules = []
    for package in (torch_rnn, nn):
        torch.manual_seed(3)
        modules.append(getattr(package, name)(I, H, **options))
    ours, theirs = modules
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert_all_close(list(ours.parameters()), list(theirs.parameters()), 0.0)
    if name in LAYERS:
        assert_all_close(ours.all_weights, theirs.all_weights, 0.0)
        assert ours.flatten_parameters() is None
    for attribute in ("bias_ih", "bias_hh", "bias_ih_l0"):  # without bias, cells have None and layers nothing
        assert hasattr(ours, attribute) == hasattr(theirs, attribute)
    ours.reset_parameters()
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())


@pytest.mark.parametrize("name", LAYERS)
def test_arguments_may_be_given_by_position(name):
    nonlinearity = ["relu"] if name == "RNN" else []
    projection = [2] if name == "LSTM" else []
    arguments = [I, H, 2, *nonlinearity, False, True, 0.25, True, *projection]
    ours, theirs = (getattr(package, name)(*arguments) for package in (torch_rnn, nn))
    assert repr(ours) == repr(theirs)
    for attribute in ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional"):
        assert getattr(ours, attribute) == getattr(theirs, attribute)
    assert ours.proj_size == theirs.proj_size
    on_meta = getattr(torch_rnn, name)(*arguments, "meta", torch.float64)
    assert all(p.is_meta and p.dtype == torch.float64 for p in on_meta.parameters())


def test_peephole_weights_follow_the_biases():
    layer = torch_rnn.LSTM(I, H, num_layers=2, bidirectional=True, peephole=True)
    expected = [
        f"{kind}_l{l}{suffix}"
        for l in range(2)
        for suffix in ("", "_reverse")
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_peephole")
    ]
    assert [name for name, _ in layer.named_parameters()] == expected
    assert layer.weight_peephole_l1_reverse.shape == (3 * H,)
    assert repr(layer) == f"LSTM({I}, {H}, num_layers=2, bidirectional=True, peephole=True)"
    assert repr(torch_rnn.GRU(I, H, reset_after=False)) == f"GRU({I}, {H}, reset_after=False)"


@each_variant
def test_functional_call_uses_the_parameters_it_is_given(variant):
    ours, theirs = pair_of_layers(variant, num_layers=2, bidirectional=True)
    other = {name: torch.randn_like(p) for name, p in ours.named_parameters()}
    x, _ = random_input("time first")
    got = torch.func.functional_call(ours, other, (x,))
    assert_all_close(got, torch.func.functional_call(theirs, other, (x,)), 1e-12)
    theirs.load_state_dict(other)
    assert_all_close(got, theirs(x), 1e-12)


@each_variant
def test_a_replaced_parameter_is_used(variant):
    ours, theirs = pair_of_layers(variant)
    x, _ = random_input("time first")
    for layer in (ours, theirs):
        torch.manual_seed(1)
        layer.weight_hh_l0 = nn.Parameter(torch.randn_like(layer.weight_hh_l0))
        torch.nn.utils.parametrizations.weight_norm(layer, "weight_ih_l0")
        with torch.no_grad():
            layer.parametrizations.weight_ih_l0.original0.mul_(2)
    assert_all_close(ours(x), theirs(x), 1e-12)


@each_variant
def test_gradients_of_each_sample_by_vmap(variant):
    layer, _ = pair_of_layers(variant, num_layers=2, bidirectional=True)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    x = random_input("batch first")[0].detach()

    def loss(parameters, sequence):
        output, _ = torch.func.functional_call(layer, parameters, (sequence,))
        return (output**3).sum()

    at_once = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    one_by_one = [torch.func.grad(loss)(parameters, sequence) for sequence in x]
    assert_all_close(at_once, {name: torch.stack([g[name] for g in one_by_one]) for name in parameters}, 1e-12)


@pytest.mark.parametrize("name", LAYERS + CELLS)
def test_export_of_a_forward(name):
    options = {"num_layers": 2, "bidirectional": True, "batch_first": True} if name in LAYERS else {}
    module = getattr(torch_rnn, name)(I, H, **options).eval()
    shape = (2, 3, I) if name in LAYERS else (2, I)
    exported = torch.export.export(module, (torch.randn(shape),)).module()
    x = torch.randn(shape)
    assert_all_close(exported(x), module(x), 1e-6)


def test_forwards_do_not_disturb_each_other():
    layer, _ = pair_of_layers("LSTM", num_layers=2, bidirectional=True)
    x, _ = random_input("time first")
    alone = torch.autograd.grad(layer(x)[0].sum(), x)[0]
    before = copy.copy(vars(layer))
    first, second = layer(x)[0], layer(2 * x)[0]
    assert vars(layer) == before  # nothing is kept on the layer
    torch.autograd.grad(second.sum(), x)
    assert_all_close(torch.autograd.grad(first.sum(), x)[0], alone, 0.0)


def test_forward_on_the_meta_device():
    for name in LAYERS:
        layer = getattr(torch_rnn, name)(I, H, num_layers=2, bidirectional=True, device="meta")
        y, _ = layer(torch.empty(T, B, I, device="meta"))
        assert y.is_meta
        assert y.shape == (T, B, 2 * H)


@pytest.mark.parametrize("name", LAYERS + CELLS)
def test_autocast(name):
    ours = getattr(torch_rnn, name)(I, H)
    x = torch.randn(3, B, I) if name in LAYERS else torch.randn(B, I)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = tree_leaves(ours(x))
        ours(x.bfloat16())  # what comes from another layer is bfloat16 while the parameters are not
        try:
            expected = tree_leaves(theirs_like(ours)(x))
        except RuntimeError as error:  # oneDNN has no bfloat16 LSTM for processors without AVX-512
            if "could not create a primitive" not in str(error):
                raise
            with torch.autocast("cpu", enabled=False):
                expected = tree_leaves(theirs_like(ours)(x))
    for a, b in zip(got, expected, strict=True):
        assert_all_close(a.float(), b.float(), 0.02)


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize(("name", "options"), [("LSTM", {"peephole": True}), ("GRU", {"reset_after": False})], ids=str)
def test_what_torch_nn_lacks_has_right_second_derivatives(name, options, bias):
    """Values and first derivatives are numpy_rnn's, see test_properties.py."""
    layer = getattr(torch_rnn, name)(2, 3, bidirectional=True, bias=bias, dtype=torch.float64, **options)
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert gradgradcheck(lambda x, *parameters: tree_leaves(layer(x)), [x, *layer.parameters()])


# ---------------------------------------------------------------------------------------------------------------------
# What is accepted and what is refused
# ---------------------------------------------------------------------------------------------------------------------


def r(*shape, **options):
    return torch.randn(*shape, **options)


def ints(*shape):
    return torch.ones(shape, dtype=torch.int64)


def packed(*lengths, size=3, enforce_sorted=False, **options):
    sequences = [torch.ones(n, size, **options) for n in lengths]
    return pack_sequence(sequences, enforce_sorted)


# In the tables, `m` is a layer (3, 5, num_layers=2) and `s` makes a state for it, for LSTM a pair.
ACCEPTED = {
    "no sequence": lambda m, s: m(r(6, 0, 3)),
    "one step": lambda m, s: m(r(1, 4, 3)),
    "by name": lambda m, s: m(input=r(6, 4, 3), hx=s(2, 4, 5)),
    "state None": lambda m, s: m(r(6, 4, 3), None),
    "packed, state": lambda m, s: m(packed(2, 4), s(2, 2, 5)),
    "expanded input": lambda m, s: m(r(1, 1, 3).expand(6, 4, 3)),
}
ACCEPTED_BY_LSTM = {
    "state in a list": lambda m, s: m(r(6, 4, 3), [r(2, 4, 5), r(2, 4, 5)]),
    "states of one sequence in one tensor": lambda m, s: m(r(6, 3), r(2, 2, 5)),
}
REFUSED = {
    "no step": lambda m, s: m(r(0, 4, 3)),
    "no step of one sequence": lambda m, s: m(r(0, 3)),
    "input of rank 1": lambda m, s: m(r(3)),
    "input of rank 4": lambda m, s: m(r(1, 6, 4, 3)),
    "input None": lambda m, s: m(None),
    "input a NumPy array": lambda m, s: m(r(6, 4, 3).numpy()),
    "too few features": lambda m, s: m(r(6, 4, 2)),
    "one feature": lambda m, s: m(r(6, 4, 1)),
    "input of another dtype": lambda m, s: m(r(6, 4, 3, dtype=torch.float64)),
    "input of integers": lambda m, s: m(ints(6, 4, 3)),
    "input on another device": lambda m, s: m(r(6, 4, 3, device="meta"), s(2, 4, 5)),
    "state of another batch": lambda m, s: m(r(6, 4, 3), s(2, 3, 5)),
    "state of batch 1": lambda m, s: m(r(6, 4, 3), s(2, 1, 5)),
    "state of too few layers": lambda m, s: m(r(6, 4, 3), s(1, 4, 5)),
    "state of other units": lambda m, s: m(r(6, 4, 3), s(2, 4, 6)),
    "state of one unit": lambda m, s: m(r(6, 4, 3), s(2, 4, 1)),
    "state of rank 2 for a batch": lambda m, s: m(r(6, 4, 3), s(2, 5)),
    "state of rank 3 for one sequence": lambda m, s: m(r(6, 3), s(2, 1, 5)),
    "state of other units for one sequence": lambda m, s: m(r(6, 3), s(2, 4)),
    "state of another dtype": lambda m, s: m(r(6, 4, 3), s(2, 4, 5, dtype=torch.float64)),
    "state of integers": lambda m, s: m(r(6, 4, 3), tree_map(lambda t: t.long(), s(2, 4, 5))),
    "state on another device": lambda m, s: m(r(6, 4, 3), s(2, 4, 5, device="meta")),
    "state of the wrong kind": lambda m, s: m(r(6, 4, 3), s(2, 4, 5)[0] if isinstance(m, LSTMS) else (r(2, 4, 5),) * 2),
    "packed, too few features": lambda m, s: m(packed(2, 4, size=2)),
    "packed, state of a smaller batch": lambda m, s: m(packed(2, 4), s(2, 1, 5)),
    "packed, state of other units": lambda m, s: m(packed(2, 4), s(2, 2, 6)),
    "packed, state of another dtype": lambda m, s: m(packed(2, 4), s(2, 2, 5, dtype=torch.float64)),
    "sorted, state of a larger batch": lambda m, s: m(packed(4, 2, enforce_sorted=True), s(2, 3, 5)),
    "sorted, state of a smaller batch": lambda m, s: m(packed(4, 2, enforce_sorted=True), s(2, 1, 5)),
}
REFUSED_BY_LSTM = {
    "memory of another batch": lambda m, s: m(r(6, 4, 3), (r(2, 4, 5), r(2, 3, 5))),
    "memory of one unit": lambda m, s: m(r(6, 4, 3), (r(2, 4, 5), r(2, 4, 1))),
    "memory of another dtype": lambda m, s: m(r(6, 4, 3), (r(2, 4, 5), r(2, 4, 5, dtype=torch.float64))),
    "three states": lambda m, s: m(r(6, 4, 3), (r(2, 4, 5),) * 3),
}
# Where torch.nn does otherwise: it takes the first rows of a state that has too many, and LSTM looks at no packed input.
REFUSED_BUT_NOT_AS_BY_TORCH = {
    "unsorted, state of a larger batch": (RuntimeError, LAYERS, lambda m, s: m(packed(2, 4), s(2, 3, 5))),
    "packed, input of another dtype": (ValueError, ["LSTM"], lambda m, s: m(packed(2, 4, dtype=torch.float64))),
    "packed, input of integers": (ValueError, ["LSTM"], lambda m, s: m(packed(2, 4, dtype=torch.int64))),
    "packed, state of rank 2": (RuntimeError, ["LSTM"], lambda m, s: m(packed(2, 4), s(2, 5))),
    "a pair of one": (RuntimeError, ["LSTM"], lambda m, s: m(r(6, 4, 3), (r(2, 4, 5),))),
}
LSTMS = (nn.LSTM, torch_rnn.LSTM)


def small(package, name):
    return getattr(package, name)(3, 5, **({"num_layers": 2} if name in LAYERS else {}))


def state_maker(name):
    def one(*shape, **options):
        return r(*shape, **options)

    def two(*shape, **options):
        return r(*shape, **options), r(*shape, **options)

    return two if name.startswith("LSTM") else one


def exception_of(call, *args):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is the question
        call(*args)
    return caught.value


@pytest.mark.parametrize("what", REFUSED_BUT_NOT_AS_BY_TORCH)
def test_layers_refuse_more_than_torchs(what):
    expected, names, call = REFUSED_BUT_NOT_AS_BY_TORCH[what]
    for name in names:
        with pytest.raises(expected, match=r"Expected hidden|does not match|pair"):
            call(getattr(torch_rnn, name)(3, 5, num_layers=2), state_maker(name))


def test_errors_say_what_came_and_what_was_expected():
    layer = torch_rnn.LSTM(3, 5, num_layers=2, bidirectional=True, proj_size=2)
    with pytest.raises(RuntimeError, match=r"Expected hidden\[0\] size \(4, 7, 2\), got \[4, 7, 5\]"):
        layer(r(6, 7, 3), (r(4, 7, 5), r(4, 7, 5)))
    with pytest.raises(RuntimeError, match=r"Expected hidden\[1\] size \(4, 5\), got \[4, 2\]"):
        layer(r(6, 3), (r(4, 2), r(4, 2)))
    with pytest.raises(RuntimeError, match=r"Expected hidden size \(1, 4, 5\), got \[1, 1, 5\]"):
        torch_rnn.GRU(3, 5)(r(6, 4, 3), r(1, 1, 5))
    with pytest.raises(RuntimeError, match=r"hidden\[1\] has dtype torch.float64, expected the input's, torch.float32"):
        torch_rnn.LSTM(3, 5)(r(1, 4, 3), (r(1, 4, 5), r(1, 4, 5, dtype=torch.float64)))  # could be computed
    with pytest.raises(RuntimeError, match="Expected sequence length to be larger than 0 in RNN"):
        torch_rnn.RNN(3, 5)(r(0, 4, 3))
    with pytest.raises(
        RuntimeError, match="Input and hidden tensors are not at the same device, found input tensor at"
    ):
        torch_rnn.RNN(3, 5)(r(6, 4, 3), r(1, 4, 5, device="meta"))
    with pytest.raises(RuntimeError, match="Input and parameter tensors are not at the same device, found input"):
        torch_rnn.RNN(3, 5, device="meta")(r(6, 4, 3))


BAD_OPTIONS = [
    {"input_size": 0},
    {"input_size": -3},
    {"input_size": 3.0},
    {"hidden_size": -5},
    {"hidden_size": "5"},
    {"num_layers": 0},
    {"num_layers": -1},
    {"num_layers": 1.5},
    {"num_layers": "2"},
    {"bias": 1},
    {"batch_first": None},
    {"dropout": -0.1},
    {"dropout": 1.1},
    {"dropout": float("nan")},
    {"dropout": "0.5"},
    {"dropout": True},
    {"dropout": None},
    {"proj_size": -1},
    {"proj_size": 5},
    {"proj_size": 2.0},
    {"dtype": torch.int64},
    {"no_such_option": 1},
]


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, options) for name in LAYERS for options in BAD_OPTIONS]
    + [
        ("RNN", {"nonlinearity": "sin"}),
        ("RNN", {"proj_size": 0}),
        ("GRU", {"proj_size": 0}),
        ("GRU", {"peephole": True}),
    ],
    ids=str,
)
def test_layers_refuse_the_same_options(name, options):
    options = {"input_size": 3, "hidden_size": 5, **options}
    error = exception_of(lambda: getattr(torch_rnn, name)(**options))
    if "peephole" not in options:
        assert type(error) is type(exception_of(lambda: getattr(nn, name)(**options)))


@pytest.mark.parametrize(
    ("error", "build"),
    [
        (ValueError, lambda: torch_rnn.LSTM(3, 5, peephole=True, proj_size=2)),
        (TypeError, lambda: torch_rnn.LSTM(3, 5, peephole=1)),
        (TypeError, lambda: torch_rnn.GRU(3, 5, reset_after=0)),
        (TypeError, lambda: torch_rnn.GRU(3, 5, 1, True, False, 0.0, False, None, None, True)),  # by keyword only
    ],
)
def test_the_additional_options_are_checked(error, build):
    with pytest.raises(error, match=r"peephole|reset_after|positional"):
        build()


@pytest.mark.parametrize("package", [torch_rnn, nn], ids=["ours", "theirs"])
def test_dropout_without_a_second_layer_is_warned_of(package):
    with pytest.warns(UserWarning, match=r"dropout.* num_layers=1") as caught:
        package.GRU(3, 5, dropout=0.5)
    assert len(caught) == 1


def test_the_warning_points_to_the_caller():
    for name in LAYERS:
        with pytest.warns(UserWarning, match="dropout") as caught:
            getattr(torch_rnn, name)(3, 5, dropout=0.5)
        assert caught[0].filename == __file__


def test_dropout_may_be_changed_later():
    ours, theirs = pair_of_layers("GRU", num_layers=2)
    x, _ = random_input("time first")
    results = []
    for layer in (ours, theirs):
        layer.dropout = 0.7
        torch.manual_seed(1)
        results.append(leaves(layer(x)))
    assert_all_close(results[0], results[1], 1e-12)


# In the tables, `m` is a cell (3, 5) and `s` makes a state for it, for LSTMCell a pair.
CELL_ACCEPTED = {
    "no sequence": lambda m, s: m(r(0, 3)),
    "by name": lambda m, s: m(input=r(4, 3), hx=s(4, 5)),
    "state None": lambda m, s: m(r(3), None),
}
CELL_ACCEPTED_BY_LSTM = {
    "state in a list": lambda m, s: m(r(4, 3), [r(4, 5), r(4, 5)]),
    "states of one sequence in one tensor": lambda m, s: m(r(3), r(2, 5)),
    "memory of another dtype": lambda m, s: m(r(4, 3), (r(4, 5), r(4, 5, dtype=torch.float64))),
}
CELL_REFUSED = {
    "input of rank 0": lambda m, s: m(torch.tensor(1.0)),
    "input of rank 3": lambda m, s: m(r(1, 4, 3)),
    "input None": lambda m, s: m(None),
    "input packed": lambda m, s: m(packed(4, 2)),
    "too few features": lambda m, s: m(r(4, 2)),
    "too few features of one sequence": lambda m, s: m(r(2)),
    "input of another dtype": lambda m, s: m(r(4, 3, dtype=torch.float64)),
    "input of integers": lambda m, s: m(ints(4, 3)),
    "state of another batch": lambda m, s: m(r(4, 3), s(3, 5)),
    "state of batch 1": lambda m, s: m(r(4, 3), s(1, 5)),
    "state of other units": lambda m, s: m(r(4, 3), s(4, 6)),
    "state of one unit": lambda m, s: m(r(4, 3), s(4, 1)),
    "state of rank 0": lambda m, s: m(r(4, 3), s()),
    "state of rank 1 for a batch": lambda m, s: m(r(4, 3), s(5)),
    "state of rank 2 for one sequence": lambda m, s: m(r(3), s(1, 5)),
    "state of rank 3": lambda m, s: m(r(4, 3), s(1, 4, 5)),
    "state of another dtype": lambda m, s: m(r(4, 3), s(4, 5, dtype=torch.float64)),
    "state of integers": lambda m, s: m(r(4, 3), tree_map(lambda t: t.long(), s(4, 5))),
}
CELL_REFUSED_BY_LSTM = {
    "memory of another batch": lambda m, s: m(r(4, 3), (r(4, 5), r(3, 5))),
    "memory of batch 1": lambda m, s: m(r(4, 3), (r(4, 5), r(1, 5))),
    "memory of one unit": lambda m, s: m(r(4, 3), (r(4, 5), r(4, 1))),
    "memory of rank 1": lambda m, s: m(r(4, 3), (r(4, 5), r(5))),
    "one state": lambda m, s: m(r(4, 3), (r(4, 5),)),
    "three states": lambda m, s: m(r(4, 3), (r(4, 5),) * 3),
}


def table(layers, lstm, cells, lstm_cell):
    rows = [(name, what, call) for name in LAYERS for what, call in layers.items()]
    rows += [(name, what, call) for name in CELLS for what, call in cells.items()]
    rows += [("LSTM", what, call) for what, call in lstm.items()]
    rows += [("LSTMCell", what, call) for what, call in lstm_cell.items()]
    return pytest.mark.parametrize(("name", "call"), [pytest.param(n, c, id=f"{n}: {w}") for n, w, c in rows])


@table(ACCEPTED, ACCEPTED_BY_LSTM, CELL_ACCEPTED, CELL_ACCEPTED_BY_LSTM)
def test_what_torchs_classes_accept_is_accepted(name, call):
    ours = small(torch_rnn, name)
    results = []
    for module in (ours, theirs_like(ours)):
        torch.manual_seed(2)
        result = call(module, state_maker(name))
        results.append(leaves(result) if name in LAYERS else tree_leaves(result))
    assert_all_close(results[0], results[1], 1e-5)
    assert [y.dtype for y in results[0]] == [y.dtype for y in results[1]]


@table(REFUSED, REFUSED_BY_LSTM, CELL_REFUSED, CELL_REFUSED_BY_LSTM)
def test_what_torchs_classes_refuse_is_refused(name, call):
    error = exception_of(call, small(torch_rnn, name), state_maker(name))
    assert type(error) is type(exception_of(call, small(nn, name), state_maker(name)))
    assert len(str(error)) > 20


@pytest.mark.parametrize("name", CELLS)
def test_a_state_of_rank_2_for_one_sequence_is_refused(name):
    # torch.nn.RNNCell(3, 5) returns (5, 5) for such a state, torch.nn.LSTMCell crashes the process.
    with pytest.raises(RuntimeError, match="as many dimensions as the input, 1, got 2"):
        getattr(torch_rnn, name)(3, 5)(r(3), state_maker(name)(5, 5))


def test_an_unknown_nonlinearity_is_refused():
    with pytest.raises(RuntimeError, match="Unknown nonlinearity: sin"):
        torch_rnn.RNNCell(3, 5, nonlinearity="sin")(r(4, 3))
    for options in ({"hidden_size": -5}, {"input_size": -3}):
        for name in CELLS:
            with pytest.raises(RuntimeError, match="negative"):
                getattr(torch_rnn, name)(**{"input_size": 3, "hidden_size": 5, **options})
