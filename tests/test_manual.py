"""`bptt="manual"`: that it equals the loop under autograd, what it leaves alone, and what it refuses.

test_properties.py holds both against numpy_rnn and torch.nn over whatever hypothesis draws; here stands what those
cases do not reach. Each test of numbers runs for both texts, that of NumPy and that of PyTorch, which a CPU does not
use by itself.
"""

from __future__ import annotations

import io
import warnings

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import assert_all_close
from torch.autograd import forward_ad, gradcheck
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils._pytree import tree_leaves

import torch_rnn
from torch_rnn import manual

T, B, I, H, R = 5, 3, 7, 8, 6  # all distinct, and distinct from 2 layers and their 2 directions, 4
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning"),  # PyTorch's own, in forward mode
    pytest.mark.usefixtures("tiny_tensors"),
]
KINDS = {
    "RNN": ("RNN", {}),
    "RNN relu": ("RNN", {"nonlinearity": "relu"}),
    "LSTM": ("LSTM", {}),
    "LSTM projection": ("LSTM", {"proj_size": R}),
    "LSTM peephole": ("LSTM", {"peephole": True}),
    "GRU": ("GRU", {}),
    "GRU reset before": ("GRU", {"reset_after": False}),
    "RNNCell": ("RNNCell", {}),
    "LSTMCell": ("LSTMCell", {}),
    "GRUCell": ("GRUCell", {}),
}
BY_TORCH = ["RNN", "RNN relu", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"]
each_kind = pytest.mark.parametrize("kind", KINDS)
both_texts = pytest.mark.parametrize(
    ("kind", "text"), [(k, "NumPy") for k in KINDS] + [(k, "PyTorch") for k in BY_TORCH], indirect=["text"]
)


@pytest.fixture
def text(request, monkeypatch):
    """Which text computes by hand."""
    if request.param == "PyTorch":
        monkeypatch.setattr(manual, "passes_for", lambda cell, *_: manual.BY_TORCH[cell.name])


class Setting:
    """A layer by hand and the same by the loop, an input and a state, and a gradient for each result."""

    def __init__(self, kind, T=T, B=B, L=2, D=2, dtype=torch.float64, lengths=None, **options):
        name, more = KINDS[kind]
        step = name.endswith("Cell")
        if not step:
            options |= {"num_layers": L, "bidirectional": D == 2}
        make = getattr(torch_rnn, name)
        self.hand = make(I, H, dtype=dtype, bptt="manual", **more, **options)
        self.loop = make(I, H, dtype=dtype, bptt="autograd", **more, **options)
        self.loop.load_state_dict(self.hand.state_dict())
        units = [R if "projection" in kind else H, H][: 1 + ("LSTM" in kind)]
        rows = () if step else (L * D,)
        self.lengths = lengths
        self.x = torch.randn(*(() if step else (T,)), B, I, dtype=dtype, requires_grad=True)
        self.s0 = [torch.randn(*rows, B, u, dtype=dtype, requires_grad=True) for u in units]
        self.upstream = [torch.randn_like(y) for y in self.outputs(self.loop)]

    def outputs(self, layer, x=None, s0=None):
        """The results as a list of tensors."""
        x, s0 = self.x if x is None else x, self.s0 if s0 is None else s0
        hx = None if s0 == "zero" else s0[0] if len(s0) == 1 else tuple(s0)
        if self.lengths is not None:
            x = pack_padded_sequence(x, torch.tensor(self.lengths), enforce_sorted=False)
        results = layer(x, hx)
        if self.lengths is not None:
            return [results[0].data, *tree_leaves(results[1])]
        return tree_leaves(results)

    def operands(self, layer):
        return [self.x, *self.s0, *layer.parameters()]

    def everything(self, layer, **options):
        """Outputs and all gradients."""
        y = self.outputs(layer)
        return [*y, *torch.autograd.grad(y, self.operands(layer), self.upstream, **options)]


# ---- equal to the loop


@both_texts
@pytest.mark.parametrize(
    "sizes",
    [{}, {"T": 1}, {"B": 1}, {"L": 1, "D": 1}, {"bias": False}, {"B": 0, "T": 2}, {"T": 6, "B": 4, "lengths": [2, 6, 1, 2]}],
    ids=str,
)  # fmt: skip
def test_equals_the_loop(kind, text, sizes):
    if kind.endswith("Cell") and ("T" in sizes or "L" in sizes):
        pytest.skip("a cell has one step and one layer")
    s = Setting(kind, **sizes)
    assert_all_close(s.everything(s.hand), s.everything(s.loop), 1e-12)
    y, z = (s.outputs(layer, s0="zero") for layer in (s.hand, s.loop))
    assert_all_close(y, z, 1e-12)


@both_texts
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(data=st.data())
def test_whatever_is_missing(kind, text, data):
    """Some outputs get no gradient, some operands want none, and no tensor need be in one piece of memory."""
    torch.manual_seed(data.draw(st.integers(0, 99)))
    s = Setting(kind, T=3, B=2, L=1)
    reached = data.draw(st.sets(st.sampled_from(range(len(s.upstream))), min_size=1))
    spread = data.draw(st.booleans())
    found = []
    wants = data.draw(st.lists(st.booleans(), min_size=len(s.operands(s.hand)), max_size=len(s.operands(s.hand))))
    wants[data.draw(st.integers(0, len(wants) - 1))] = True
    for layer in (s.hand, s.loop):
        operands = s.operands(layer)
        for z, want in zip(operands, wants):
            z.requires_grad_(want)
        x, *s0 = (scattered(z) if spread else z for z in operands[: 1 + len(s.s0)])
        outputs = s.outputs(layer, x, s0)
        pairs = [(outputs[k], scattered(s.upstream[k]) if spread else s.upstream[k]) for k in sorted(reached)]
        pairs = [(y, up) for y, up in pairs if y.requires_grad]
        wanted = [z for z, want in zip(operands, wants) if want]
        if pairs:
            ys, ups = zip(*pairs)
            outputs += torch.autograd.grad(ys, wanted, ups, materialize_grads=True, allow_unused=True)
        found.append(outputs)
    assert_all_close(found[0], found[1], 1e-12)


def scattered(z):
    """The same numbers with NaN between them."""
    wide = torch.stack([z, torch.full_like(z, torch.nan)], dim=-1).flatten(-2)
    return wide[..., ::2]


def test_the_option_chooses():
    """Else the tests above would compare the loop with itself."""
    for kind in KINDS:
        s = Setting(kind, L=1, D=1)
        names = [{z.name() for z in nodes(s.outputs(layer))} for layer in (s.hand, s.loop)]
        assert "ForwardBackward" in names[0]
        assert "ForwardBackward" not in names[1]


def nodes(outputs):
    """All nodes of autograd's graph."""
    found, todo = set(), [y.grad_fn for y in outputs]
    while todo:
        if (node := todo.pop()) is not None and node not in found:
            found.add(node)
            todo += [n for n, _ in node.next_functions]
    return found


def test_each_device_and_dtype_has_its_text():
    cell = torch_rnn.lstm.LSTM

    def chosen(dtype, device="cpu", cell=cell):
        z = torch.empty(1, dtype=dtype, device=device)
        return manual.passes_for(cell, [z], z, [z])

    assert chosen(torch.float32) is chosen(torch.float64) is manual.by_numpy("lstm")
    assert chosen(torch.float32, "meta") is chosen(torch.bfloat16, "meta") is manual.BY_TORCH["lstm"]
    assert chosen(torch.float32, "meta", torch_rnn.lstm_peephole.LSTM_PEEPHOLE) is None
    for dtype in (torch.float16, torch.bfloat16, torch.complex128):
        assert chosen(dtype) is None
    z = torch.empty(1)
    assert manual.passes_for(cell, [z], z, [z.double()]) is None


# ---- what it leaves alone


@both_texts
def test_backward_runs_twice_changes_nothing_and_shares_no_memory(kind, text):
    s = Setting(kind, L=1, D=1)
    operands = s.operands(s.hand)
    before = [z.detach().clone() for z in (*operands, *s.upstream)]
    outputs = s.outputs(s.hand)
    values = [z.detach().clone() for z in outputs]
    first = torch.autograd.grad(outputs, operands, s.upstream, retain_graph=True)
    second = torch.autograd.grad(outputs, operands, s.upstream)
    assert_all_close(first, second, 0.0)
    assert_all_close([*operands, *s.upstream], before, 0.0)
    assert_all_close(outputs, values, 0.0)
    places = [z.untyped_storage().data_ptr() for z in (*outputs, *first, *second, *operands, *s.upstream)]
    # A layer of one step may give its only h both as output and as final state, as the loop does; here there are more.
    assert len(set(places)) == len(places)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(outputs, operands, s.upstream)


@both_texts
@pytest.mark.parametrize("what", ["output", "input", "parameter"])
def test_a_change_in_place_is_noticed(kind, text, what):
    s = Setting(kind, L=1, D=1)
    x = s.x.detach().clone()
    outputs = s.outputs(s.hand, x)
    changed = {"output": outputs[0], "input": x, "parameter": next(s.hand.parameters())}[what]
    if what == "output" and kind.endswith("Cell"):
        return  # a final state is a copy, of which backward knows nothing
    with torch.no_grad():
        changed.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(outputs[0], list(s.hand.parameters()), s.upstream[0])


@both_texts
def test_what_backward_needs_can_be_kept_elsewhere(kind, text):
    """All of it goes through the hooks of `torch.autograd.graph`, and so do checkpoints."""
    s = Setting(kind)
    expected = s.everything(s.hand)
    with torch.autograd.graph.save_on_cpu():
        assert_all_close(s.everything(s.hand), expected, 0.0)
    if text == "PyTorch":
        return
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda z: kept.append(z.numel()) or z, lambda z: z):
        s.outputs(s.hand)
    outputs = torch.utils.checkpoint.checkpoint(lambda x: s.outputs(s.hand, x), s.x, use_reentrant=False)
    assert_all_close(torch.autograd.grad(outputs, s.operands(s.hand), s.upstream), expected[len(outputs) :], 0.0)
    assert sum(kept) > len(outputs[0].flatten())


@each_kind
def test_results_are_the_same_every_time(kind):
    s = Setting(kind, dtype=torch.float32)
    expected = s.everything(s.hand)
    torch.use_deterministic_algorithms(True)  # also fills new memory with NaN, so what is not written shows
    try:
        assert_all_close(s.everything(s.hand), expected, 0.0)
    finally:
        torch.use_deterministic_algorithms(False)


@each_kind
def test_an_overflow_is_no_warning(kind):
    s = Setting(kind, dtype=torch.float32, L=1)
    with torch.no_grad():
        for p in s.hand.parameters():
            p.mul_(1e30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        s.everything(s.hand)


# ---- what goes through the loop, and what is refused


@each_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_loops(kind, dtype):
    s = Setting(kind, dtype=dtype, L=1)
    assert_all_close([z.float() for z in s.everything(s.hand)], [z.float() for z in s.everything(s.loop)], 0.0)


@each_kind
def test_autocast_is_the_loops(kind):
    s = Setting(kind, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, z = (s.outputs(layer) for layer in (s.hand, s.loop))
    assert [v.dtype for v in y] == [v.dtype for v in z]
    assert_all_close([v.float() for v in y], [v.float() for v in z], 0.0)


@pytest.mark.parametrize(
    ("kind", "bptt"),
    [("LSTM", "autograd"), ("GRU", "manual"), ("LSTMCell", "manual")],
)
def test_compiles_in_one_piece(kind, bptt):
    torch.compiler.reset()
    s = Setting(kind, T=3, L=1)
    layer = s.hand if bptt == "manual" else s.loop
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)  # fullgraph: a graph break is an error
    found = s.outputs(compiled)
    found += torch.autograd.grad(found, s.operands(layer), s.upstream)
    assert_all_close(found, s.everything(s.loop), 1e-12)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_trace_can_be_saved(kind):
    """By hand it would hold a Python function, which no file can."""
    s, file = Setting(kind, dtype=torch.float32), io.BytesIO()
    torch.jit.save(torch.jit.trace(s.hand, (s.x,), check_trace=False), file)
    file.seek(0)
    assert_all_close(tree_leaves(torch.jit.load(file)(s.x)), s.outputs(s.loop, s0="zero"), 1e-6)


def refused(what):
    return pytest.raises(RuntimeError, match=f'^bptt="manual" gives first derivatives only, and this is {what}: use')


@both_texts
def test_first_derivatives_by_torch_func(kind, text):
    """They, too, are first ones, though they are made to be differentiated again."""
    s = Setting(kind, T=3, L=1)
    by = [torch.func.grad(lambda x, m=m: sum((y**3).sum() for y in s.outputs(m, x)))(s.x) for m in (s.hand, s.loop)]
    assert_all_close(by[0], by[1], 1e-12)


@both_texts
def test_a_second_derivative_is_refused_in_a_sentence(kind, text):
    s = Setting(kind, L=1)
    first = torch.autograd.grad(s.outputs(s.hand), s.operands(s.hand), s.upstream, create_graph=True)
    assert_all_close(first, s.everything(s.loop)[len(s.upstream) :], 1e-12)  # to ask for the possibility is no mistake
    with refused("a second derivative"):
        torch.autograd.grad(first[0].sum(), s.x)


@both_texts
def test_vmap_and_forward_mode_are_refused_in_a_sentence(kind, text):
    s = Setting(kind, L=1)
    x, s0 = s.x.detach(), [z.detach() for z in s.s0]

    def call(x):
        return s.outputs(s.hand, x, s0)[0]

    with refused("torch.func.vmap"):
        torch.func.vmap(call)(torch.stack([x, x]))
    with refused("a forward-mode derivative"):
        torch.func.jvp(call, (x,), (x,))
    with refused("torch.func.vmap"):
        torch.func.jacrev(call)(x)
    with refused("a forward-mode derivative"), forward_ad.dual_level():
        call(forward_ad.make_dual(x, x))
    y = call(s.x)
    with refused("torch.func.vmap"):
        torch.func.vmap(lambda up: torch.autograd.grad(y, s.x, up, retain_graph=True))(torch.stack([y, y]).detach())
    with refused("is_grads_batched"):
        torch.autograd.grad(y, s.x, torch.stack([y, y]).detach(), is_grads_batched=True)


def test_an_unknown_way_is_refused():
    for name in ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"):
        with pytest.raises(ValueError, match=r"Unknown bptt 'magic'. Select from 'autograd' or 'manual'."):
            getattr(torch_rnn, name)(I, H, bptt="magic")
    layer = torch_rnn.GRU(I, H)
    layer.bptt = "manual"  # may be changed later, as other options
    assert repr(layer) == f"GRU({I}, {H}, bptt=manual)"
    assert any(node.name() == "ForwardBackward" for node in nodes([layer(torch.ones(T, B, I))[0]]))


# ---- by default


@each_kind
def test_all_derivatives_by_default(kind):
    """Forward mode, batches of either; gradgradcheck stands in test_torch_dropins.py."""
    s = Setting(kind, T=2, B=2, L=1)
    checks = dict.fromkeys(["check_forward_ad", "check_batched_grad", "check_batched_forward_grad"], True)
    assert gradcheck(lambda x, *s0: s.outputs(s.loop, x, s0), [s.x, *s.s0], fast_mode=True, **checks)


@both_texts
def test_packed_sequences_under_another_default_device(kind, text):
    """batch_sizes stay on the CPU, as they do in torch.nn."""
    if kind.endswith("Cell"):
        return
    name, options = KINDS[kind]
    packed = PackedSequence(torch.empty(7, I, device="meta"), torch.tensor([2, 2, 1, 1, 1]))
    layer = getattr(torch_rnn, name)(I, H, bidirectional=True, device="meta", bptt="manual", **options)
    with torch.device("meta"):
        output, _ = layer(packed)
    assert output.data.shape == (7, 2 * (R if "projection" in kind else H))


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
