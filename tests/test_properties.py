"""What must hold for whatever hypothesis draws: agreement with PyTorch, and invariants that need no oracle.

Every test runs through `numpy_rnn.fast.deep` and through the layers RNN, LSTM and GRU, as the case says. `strategies` draws
the cases, conftest.py says how many and prints the seed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, assume, example, given, settings
from hypothesis import strategies as st
from strategies import (
    LAYOUTS,
    MISSING,
    Layer,
    Problem,
    Setting,
    build,
    by_name,
    cases,
    gradients,
    layer_of,
    network,
    padding,
    run,
    values,
)
from support import CELLS, padded, tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import numpy_rnn
import torch_rnn
from numpy_rnn.fast.registry import USER_FACING
from torch_rnn import manual
from torch_rnn.deep import by_loop

# torch says once that oneDNN does not do projections; nothing follows from it here.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

Array = np.ndarray
Answer = dict[str, Array]

# On `scales`, over 4000 draws of a test: half of all answers are within 3 units of rounding (2.2e-16 or 1.2e-7), 999 of
# 1000 within 20; the worst were 4.4e-15 and 1.7e-6. More than ten times that is no accident, even in a long night:
TOLERANCES = {"float64": 1e-13, "float32": 2e-5}

CHOICE = st.integers(0, 99)  # where to split, how to permute …: what a test draws besides its case

# hypothesis shrinks towards 1 and may miss a corner in a short run: these are run every time.
PINS = [
    Setting(
        *(cell, 5, 4, 3, 6, 2),
        L=2,
        D=2,
        lengths=(3, 0, 5, 1),
        through="deep" if k % 2 else "layer",
        masks=k % 2 == 1,
        batch_first=k % 3 == 0,
        layouts=("Fortran", "strided", "backwards", "read-only"),
        seed=k,
    )
    for k, cell in enumerate(CELLS)
] + [Setting("lstm", 4, 2, 5, 3, 6, D=2), Setting("gru", 6, 3, 2, 5, 4, L=3, D=2, missing=("doutput",))]


def pinned(ragged: bool = False, **changes: Any) -> Callable[[Any], Any]:
    """Run a test on PINS too (`ragged`: on those with lengths), with fields changed and further arguments set."""
    fields_changed = {name: value for name, value in changes.items() if name in Setting._fields}
    arguments = {name: value for name, value in changes.items() if name not in Setting._fields}

    def decorate(test: Any) -> Any:
        for case in PINS:
            if case.lengths or not ragged:
                test = example(case=case._replace(**fields_changed), **arguments)(test)
        return test

    return decorate


def fewer(part: int) -> Any:
    """Settings for a test whose cases take long: only one `part`th of the profile's examples."""
    return settings(max_examples=max(1, settings().max_examples // part))


def scales(expected: Answer) -> dict[str, float]:
    """What an error in each tensor is measured by: its largest entry.

    But a tensor of a few entries may be small only because large terms cancelled, of which the rounding errors
    remain: so at least 1 for states, and a tenth of the largest gradient of all for gradients.
    """
    largest = {name: float(np.max(np.abs(a), initial=0)) for name, a in expected.items()}
    least = 0.1 * max((size for name, size in largest.items() if name.startswith("d")), default=0)
    return {name: max(size, least if name.startswith("d") else 1) or 1 for name, size in largest.items()}


def errors(got: Answer, expected: Answer) -> dict[str, float]:
    """Largest difference in each tensor relative to its scale; NaN if there is a NaN."""
    assert got.keys() == expected.keys()
    for name, a in expected.items():
        assert got[name].shape == a.shape, f"{name} has shape {got[name].shape}, expected {a.shape}"
    scale = scales(expected)
    return {name: float(np.max(np.abs(got[name] - a), initial=0)) / scale[name] for name, a in expected.items()}


def assert_same(got: Answer, expected: Answer, dtype: str = "float64") -> None:
    for name, error in errors(got, expected).items():
        assert error <= TOLERANCES[dtype], f"{name} is off by {error:.2e}"


def bits(answer: Answer) -> dict[str, tuple[Any, ...]]:
    return {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in answer.items()}


def add(a: Answer, b: Answer) -> Answer:
    return {name: a[name] + b[name] for name in a}


def fields(s: Any, f: Callable[[Array], Array]) -> Any:
    """A State whose every field is f of that of `s`."""
    return type(s)(*map(f, s))


# ---- against PyTorch


def to_torch(nest: Any) -> Any:
    """A copy as tensors that ask for a gradient: torch takes neither negative strides nor read-only arrays."""
    return [to_torch(a) for a in nest] if isinstance(nest, (list, tuple)) else tensor(np.array(nest))


def autograd(outputs: Answer, upstream: list[Array], leaves: Answer) -> Answer:
    """Outputs and, named with a d before, gradients of the leaves."""
    # Where all sequences are empty, the output is a constant and torch wants to hear nothing of it.
    reached = [(out, torch.tensor(np.array(up))) for out, up in zip(outputs.values(), upstream) if out.requires_grad]
    grads = torch.autograd.grad(
        [out for out, _ in reached],
        list(leaves.values()),
        [up for _, up in reached],
        allow_unused=True,
        materialize_grads=True,
    )
    answer = {**outputs, **{f"d{name}": g for name, g in zip(leaves, grads)}}
    return {name: t.detach().numpy() for name, t in answer.items()}


def by_mirror(case: Setting, p: Problem, run: Any) -> Answer:
    """The case by torch_rnn.deep, which takes all there is: masks, every cell."""
    mirror = CELLS[case.cell][1]
    params = [[mirror.Params(*to_torch(direction)) for direction in layer] for layer in p.params]
    x, s0 = to_torch(p.x), mirror.State(*to_torch(p.s0))
    masks = None if p.masks is None else [torch.tensor(np.array(mask)) for mask in p.masks]
    y, s_n = padded(mirror, params, x, s0, p.lengths, masks, run)
    leaves = {"x": x, **{f"{field}_0": s for field, s in s0._asdict().items()}, **by_name(params)}
    return autograd(values(y, s_n), [p.dy, *p.ds_n], leaves)


def by_library(case: Setting, p: Problem, library: Any, **options: Any) -> Answer:
    """The case by a layer of torch_rnn or torch.nn, as users call it: laid out as the case says, packed if ragged."""
    layer = layer_of(case, p.params, library, dtype=getattr(torch, case.dtype), **options)
    own = dict(layer.named_parameters())
    layer.load_state_dict({name: to_torch(a) for name, a in by_name(p.params).items() if name in own})
    x, s0 = to_torch(p.x), to_torch(p.s0)
    single = case.single
    inside = x[:, 0] if single else x.transpose(0, 1) if case.batch_first else x
    h_0 = [s[:, 0] if single else s for s in s0]
    if case.lengths is not None:
        inside = pack_padded_sequence(inside, torch.tensor(case.lengths), case.batch_first, enforce_sorted=False)
    y, h_n = layer(inside, tuple(h_0) if len(h_0) > 1 else h_0[0])
    if case.lengths is not None:
        y, _ = pad_packed_sequence(y, case.batch_first, total_length=case.T)
    y = y[:, None] if single else y.transpose(0, 1) if case.batch_first else y
    s_n = [s[:, None] if single else s for s in (h_n if isinstance(h_n, tuple) else (h_n,))]
    State = CELLS[case.cell][1].State
    leaves = {"x": x, **dict(zip(("h_0", "c_0"), s0)), **own}
    return autograd(values(y, State(*s_n)), [p.dy, *p.ds_n], leaves)


def relu_arguments(case: Setting, p: Problem) -> Array:
    """Of a relu, the size of all it is applied to; else none."""
    if case.cell != "rnn_relu":
        return np.ones(0)
    *_, tape = numpy_rnn.fast.deep.forward(CELLS[case.cell][0], p.params, *p[1:5])
    blocks = [block for kept in tape.kept for block in kept]
    linear = [b.x @ b.params.W_ih.T + b.params.b_ih + b.h[:-1] @ b.params.W_hh.T + b.params.b_hh for b in blocks]
    return np.concatenate([np.ones(0), *(np.abs(a).ravel() for a in linear)])


def assume_that_both_see_the_same_branch(case: Setting, p: Problem) -> None:
    """In float32, rounding alone may put two libraries on different sides of relu's kink, once in 10⁶ units."""
    if case.dtype == "float32":
        arguments = relu_arguments(case, p)
        assume(np.all((arguments > 1e-4) | (arguments == 0)))


@pinned()
@pinned(dtype="float32")
@given(case=cases(dtypes=("float64", "float32")))
def test_equals_the_mirror(case):
    p = build(case)
    assume_that_both_see_the_same_branch(case, p)
    got = run(network(case, p.params), p)
    assert {a.dtype.name for a in got.values()} == {case.dtype}
    for way in (by_loop, manual.run):
        expected = by_mirror(case, p, way)
        assert_same(got, {name: expected[name] for name in got}, case.dtype)


@pinned(through="layer", masks=False, lengths=None)
@pinned(through="layer", masks=False, T=7, B=3, lengths=(5, 1, 6))
@given(case=cases(dtypes=("float64", "float32"), through=("layer",), empty=False))
def test_equals_the_layers_of_torch(case):
    p = build(case)
    assume_that_both_see_the_same_branch(case, p)
    got = run(network(case, p.params), p)
    assert_same(got, by_library(case, p, torch_rnn), case.dtype)
    assert_same(got, by_library(case, p, torch_rnn, bptt="manual"), case.dtype)
    if USER_FACING[case.cell].in_torch_nn:
        assert_same(got, by_library(case, p, torch.nn), case.dtype)


# ---- invariants


def piece(p: Problem, start: int, stop: int) -> Problem:
    """Steps start … stop-1; the states are still those of the whole."""
    lengths = None if p.lengths is None else np.clip(p.lengths - start, 0, stop - start)
    masks = None if p.masks is None else [mask[start:stop] for mask in p.masks]
    return p._replace(x=p.x[start:stop], lengths=lengths, masks=masks, dy=p.dy[start:stop])


@pinned(choice=2, D=1)
@given(case=cases(D=(1,)), choice=CHOICE)
def test_a_sequence_split_at_any_step_is_one_run(case, choice):
    p = build(case)
    net = network(case, p.params)
    t = choice % (case.T + 1)
    first, second = piece(p, 0, t), piece(p, t, case.T)
    y1, s_t, tape1 = net.forward(first.x, p.s0, first.lengths, first.masks)
    y2, s_n, tape2 = net.forward(second.x, s_t, second.lengths, second.masks)
    grads2, dx2, ds_t = net.backward(tape2, second.dy, p.ds_n)
    grads1, dx1, ds0 = net.backward(tape1, first.dy, ds_t)
    got = values(np.concatenate([y1, y2]), s_n)
    got |= gradients(add(grads1, grads2), np.concatenate([dx1, dx2]), ds0)
    assert_same(got, run(net, p))


def sequence(p: Problem, b: int, n: int) -> Problem:
    """The n valid steps of sequence b, as a batch of one."""
    one = slice(b, b + 1)
    return p._replace(
        x=p.x[:n, one],
        s0=fields(p.s0, lambda a: a[:, one]),
        lengths=None,
        masks=None if p.masks is None else [mask[:n, one] for mask in p.masks],
        dy=p.dy[:n, one],
        ds_n=fields(p.ds_n, lambda a: a[:, one]),
    )


@pinned(ragged=True)
@given(case=cases(ragged=True))
def test_a_padded_batch_is_each_sequence_alone(case):
    p = build(case, hole=np.nan)
    net = network(case, p.params)
    whole = run(net, p)
    got = {name: np.zeros_like(a) for name, a in whole.items()}
    for b, n in enumerate(case.lengths):
        for name, a in run(net, sequence(p, b, n)).items():
            got[name][(slice(0, len(a)), slice(b, b + 1)) if a.ndim == 3 else ...] += a
    assert_same(got, whole)


@pinned(ragged=True, hole=np.nan)
@given(case=cases(ragged=True), hole=st.sampled_from([np.nan, np.inf, -np.inf, 1e300]))
def test_whatever_stands_in_the_padding_changes_no_bit(case, hole):
    clean, dirty = build(case, hole=0.5), build(case, hole=hole)
    answer = run(network(case, dirty.params), dirty)
    assert bits(answer) == bits(run(network(case, clean.params), clean))
    after = padding(dirty.lengths, case.T)
    assert not answer["output"][after].any()
    assert not answer["dx"][after].any()


@pinned(choice=1)
@given(case=cases(), choice=CHOICE)
def test_permuting_the_batch_permutes_everything(case, choice):
    p = build(case)
    order = np.random.default_rng(choice).permutation(case.B)
    permuted = Problem(
        p.params,
        p.x[:, order],
        fields(p.s0, lambda a: a[:, order]),
        None if p.lengths is None else p.lengths[order],
        None if p.masks is None else [mask[:, order] for mask in p.masks],
        p.dy[:, order],
        fields(p.ds_n, lambda a: a[:, order]),
    )
    net = network(case, p.params)
    expected = {name: a[:, order] if a.ndim == 3 else a for name, a in run(net, p).items()}
    assert_same(run(net, permuted), expected)


def turned(a: Array, lengths: Array | None) -> Array:
    """Each sequence of a (T, B, ·) from its end to its start; what stands after it stays."""
    a = a.copy()
    for b, n in enumerate([len(a)] * a.shape[1] if lengths is None else lengths):
        a[:n, b] = a[:n, b][::-1].copy()
    return a


@pinned(L=1)
@given(case=cases(L=(1,), D=(2,)))
def test_a_bidirectional_layer_is_two_runs(case):
    p = build(case)
    ((forth, back),) = p.params
    dy_forth, dy_back = np.split(p.dy, 2, axis=2)
    a = run(network(case, [[forth]]), _direction(p, 0)._replace(dy=dy_forth))
    there = _direction(p, 1)._replace(x=turned(p.x, p.lengths), dy=turned(dy_back, p.lengths))
    b = run(network(case, [[back]]), there)
    b["output"], b["dx"] = turned(b["output"], p.lengths), turned(b["dx"], p.lengths)

    got = {"output": np.concatenate([a.pop("output"), b.pop("output")], axis=2), "dx": a.pop("dx") + b.pop("dx")}
    for name in a:
        if "_l0" in name:
            got |= {name: a[name], f"{name}_reverse": b[name]}
        else:
            got[name] = np.concatenate([a[name], b[name]])
    assert_same(got, run(network(case, p.params), p))


def _direction(p: Problem, d: int) -> Problem:
    return p._replace(s0=_layer(p.s0, d, 1), ds_n=_layer(p.ds_n, d, 1))


@pinned()
@given(case=cases(L=(2, 3)))
def test_a_stack_is_layer_by_layer(case):
    p = build(case)
    nets = [network(case, [layer]) for layer in p.params]
    y, finals, tapes = p.x, [], []
    for l, net in enumerate(nets):
        y = y * p.masks[l - 1] if l > 0 and p.masks is not None else y
        y, s_n, tape = net.forward(y, _layer(p.s0, l, case.D), p.lengths)
        finals.append(s_n)
        tapes.append(tape)
    got, dy, initials = values(y, _joined(finals)), p.dy, []
    for l in reversed(range(case.L)):
        grads, dy, ds0 = nets[l].backward(tapes[l], dy, _layer(p.ds_n, l, case.D))
        dy = dy * p.masks[l - 1] if l > 0 and p.masks is not None else dy
        initials.insert(0, ds0)
        got |= {f"d{name}".replace("_l0", f"_l{l}"): g for name, g in grads.items()}
    got |= gradients({}, dy, _joined(initials))
    assert_same(got, run(network(case, p.params), p))


def _layer(s: Any, l: int, D: int) -> Any:
    return fields(s, lambda a: a[l * D : (l + 1) * D])


def _joined(states: list[Any]) -> Any:
    return type(states[0])(*map(np.concatenate, zip(*states)))


@pinned()
@pinned(missing=MISSING)
@given(case=cases(dtypes=("float64", "float32")))
def test_zero_upstream_gives_exactly_zero(case):
    p = build(case)
    net = network(case, p.params)
    *_, tape = net.forward(*p[1:5])
    for name, g in gradients(*net.backward(tape, 0 * p.dy, fields(p.ds_n, np.zeros_like))).items():
        assert not g.any(), name


@fewer(4)
@pinned()
@given(case=cases())
def test_gradients_sum_over_steps_and_sequences(case):
    """The whole gradient is the sum of those of each output and each final state, which reach only their own past."""
    p = build(case)
    net = network(case, p.params)
    *_, tape = net.forward(*p[1:5])
    whole = gradients(*net.backward(tape, p.dy, p.ds_n))
    total = {name: np.zeros_like(a) for name, a in whole.items()}
    for t, b in np.ndindex(case.T + 1, case.B):
        dy, ds_n = np.zeros_like(p.dy), fields(p.ds_n, np.zeros_like)
        for part, all_of_it in zip([dy] if t < case.T else ds_n, [p.dy] if t < case.T else p.ds_n):
            part[t if t < case.T else slice(None), b] = all_of_it[t if t < case.T else slice(None), b]
        one = gradients(*net.backward(tape, dy, ds_n))
        others = np.arange(case.B) != b
        for name, a in one.items():
            assert a.ndim < 3 or not a[:, others].any(), f"{name} of other sequences than {b}"
        if case.D == 1:
            assert not one["dx"][t + 1 :].any(), f"dx of steps after {t}"
        total = add(total, one)
    assert_same(total, whole)


def snapshot(arrays: list[Array]) -> list[Any]:
    """Values, layout and flags of arrays, and what stands between the entries of those that are views."""
    state = []
    for a in arrays:
        flags = a.flags
        base = a.base.tobytes() if isinstance(a.base, np.ndarray) else b""
        state.append((a.tobytes(), base, a.shape, a.strides, flags.writeable, flags.c_contiguous, flags.f_contiguous))
    return state


@pinned()
@given(case=cases(dtypes=("float64", "float32")))
def test_inputs_stay_untouched_and_results_are_the_callers_own(case):
    p = build(case, hole=np.nan)
    net = network(case, p.params)
    given_arrays = [p.x, *p.s0, *(p.masks or []), p.dy, *p.ds_n, *by_name(p.params).values()]
    given_arrays += [] if p.lengths is None else [p.lengths]
    given_arrays += list(net.layer.state_dict().values()) if isinstance(net, Layer) else []
    before = snapshot(given_arrays)
    y, s_n, tape = net.forward(*p[1:5])
    answer = gradients(*net.backward(tape, p.dy, p.ds_n))
    assert snapshot(given_arrays) == before

    results = [y, *s_n, *answer.values()]
    for k, a in enumerate(results):
        assert a.flags.writeable
        assert not any(np.shares_memory(a, b) for b in given_arrays + results[:k])
    expected = bits(answer)
    for a in results:
        a[...] = np.nan  # nor does the tape live in them
    assert bits(gradients(*net.backward(tape, p.dy, p.ds_n))) == expected


@pinned()
@given(case=cases(dtypes=("float64", "float32")))
def test_the_same_input_gives_the_same_bits(case):
    first, second = build(case), build(case)
    net = network(case, first.params)
    expected = bits(run(net, first))
    assert bits(run(net, first)) == expected
    assert bits(run(network(case, second.params), second)) == expected


@contextmanager
def eager_switching() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@fewer(4)
@pinned()
@given(case=cases(dtypes=("float64", "float32")))
def test_8_threads_at_once_give_the_bits_of_one(case):
    """They share one layer and, for a second backward, one tape."""
    p = build(case)
    net = network(case, p.params)
    *_, shared = net.forward(*p[1:5])
    scaled = [p._replace(x=p.x * k, dy=p.dy * k) for k in range(1, 9)]
    start = Barrier(len(scaled))

    def both(q: Problem) -> list[Any]:
        return [bits(run(net, q)), bits(gradients(*net.backward(shared, q.dy, q.ds_n)))]

    def at_once(q: Problem) -> list[Any]:
        start.wait(timeout=60)
        return both(q)

    expected = [both(q) for q in scaled]
    with eager_switching(), ThreadPoolExecutor(len(scaled)) as pool:
        got = list(pool.map(at_once, scaled))
    assert got == expected


@pinned(choice=7, D=1)
@given(case=cases(D=(1,)), choice=CHOICE)
def test_truncation_that_reaches_back_to_the_start_is_none(case, choice):
    p = build(case)
    net = network(case, p.params)
    *_, tape = net.forward(*p[1:5])
    k1 = 1 + choice % (case.T + 2)
    k2 = max(case.T, k1) + choice % 3
    got = gradients(*net.truncated_backward(tape, p.dy, p.ds_n, k1, k2))
    assert_same(got, gradients(*net.backward(tape, p.dy, p.ds_n)))


# ---- the generators and the profiles are tested too


REACHED: dict[str, Callable[[Setting], bool]] = {
    **{cell: lambda case, cell=cell: case.cell == cell and case.T >= 2 and case.B >= 2 for cell in CELLS},
    **{dtype: lambda case, dtype=dtype: case.dtype == dtype for dtype in ("float64", "float32")},
    **{way: lambda case, way=way: case.through == way for way in ("layer", "deep")},
    **{name: lambda case, name=name: name in case.missing for name in MISSING},
    **{
        f"{name} at place {k}": lambda case, name=name, k=k: case.layouts[k] == name
        for name in LAYOUTS
        for k in range(4)
    },
    "nothing missing": lambda case: not case.missing,
    "nothing given, no loss": lambda case: set(case.missing) == set(MISSING),
    "lengths of three kinds, one of them 0": lambda case: (
        case.lengths is not None and 0 in case.lengths and len(set(case.lengths)) >= 3
    ),
    "all sequences empty": lambda case: case.T > 0 and case.lengths is not None and not any(case.lengths),
    "no step": lambda case: case.T == 0,
    "one sequence": lambda case: case.B == 1,
    "one input": lambda case: case.I == 1,
    "one unit": lambda case: case.H == 1,
    "square weights": lambda case: case.I == case.H > 1,
    "no batch axis": lambda case: case.single,
    "masks between layers": lambda case: case.masks and case.L > 1,
    "no bias": lambda case: not case.bias,
    "batch first, ragged": lambda case: case.batch_first and case.lengths is not None,
    "three layers, two directions": lambda case: (case.L, case.D) == (3, 2),
}


def test_cases_reach_every_corner_and_most_have_distinct_sizes():
    found = []

    # Draws of one run resemble one another, so a count may be small by chance; none in a thousand is not chance.
    @settings(max_examples=1000, database=None, phases=[Phase.generate])
    @given(cases(dtypes=("float64", "float32")))
    def collect(case):
        found.append(case)

    collect()
    assert [what for what, reached in REACHED.items() if not any(map(reached, found))] == []
    # In 60 runs never less than 0.61.
    assert np.mean([len({case.T, case.B, case.I, case.H, case.R}) == 5 for case in found]) > 0.4
    assert np.mean([case.T >= 2 and case.B >= 2 for case in found]) > 0.4


def test_data_hides_nothing():
    """States non-zero, biases distinct, and every layout is what its name says."""
    case = PINS[0]._replace(masks=True, batch_first=False, layouts=("C",) * 4)
    p = build(case)
    arrays = [p.x, *p.s0, p.dy, *p.ds_n, *by_name(p.params).values()]
    assert all(a.all() and len(np.unique(a)) == a.size for a in arrays)
    assert not any(np.array_equal(a, b) for k, a in enumerate(arrays) for b in arrays[:k])
    assert all(0 < mask.mean() < 1 / 0.7 for mask in p.masks)

    for name, layout in LAYOUTS.items():
        a = layout(p.x)
        assert np.array_equal(a, p.x)
        assert not np.shares_memory(a, p.x)
        assert a.flags.c_contiguous == (name in ("C", "read-only"))
        assert a.flags.f_contiguous == (name == "Fortran")
        assert a.flags.writeable == (name != "read-only")
        assert all(stride < 0 for stride in a.strides) == (name == "backwards")
        assert (min(map(abs, a.strides)) > a.itemsize) == (name == "strided")


def test_the_noise_is_measured_where_it_is_and_a_small_error_is_seen():
    case = PINS[2]
    p = build(case)
    expected = run(network(case, p.params), p)
    assert all(error == 0 for error in errors(expected, expected).values())
    for name, a in expected.items():
        wrong = a.copy()
        wrong[np.unravel_index(np.argmax(np.abs(a)), a.shape)] *= 1 + 1e-11
        with pytest.raises(AssertionError, match=f"^{name} is off by"):
            assert_same(expected | {name: wrong}, expected)
        wrong.flat[-1] = np.nan
        with pytest.raises(AssertionError, match=f"^{name} is off by nan"):
            assert_same(expected | {name: wrong}, expected)


SUITE = """
import hypothesis, hypothesis.strategies as st

@hypothesis.given(st.integers(0, 99))
def test_one(n):
    print("one", n)

@hypothesis.given(st.integers(0, 99))
def test_other(n):
    print("other", n)
"""


def run_suite(where: Path, *arguments: str) -> tuple[str, list[list[str]]]:
    """The seed that a run of SUITE reports, and what each of its tests draws."""
    (where / "tests").mkdir(exist_ok=True)
    (where / "tests" / "conftest.py").write_bytes(Path(__file__).with_name("conftest.py").read_bytes())
    (where / "tests" / "test_suite.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-rP", "-p", "no:cacheprovider", "--rootdir", str(where), *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "HYPOTHESIS"))}
    done = subprocess.run(
        [*command, str(where / "tests")],
        cwd=where,
        env=environment | {"CI": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (seed,) = set(re.findall(r"--hypothesis-seed=(\d+)", done.stdout))
    return seed, [re.findall(rf"^{name} (\d+)$", done.stdout, re.MULTILINE) for name in ("one", "other")]


@pytest.mark.long
def test_the_printed_seed_repeats_a_run_also_in_ci_and_on_two_processes(tmp_path):
    seed, draws = run_suite(tmp_path, "-n", "2")
    assert draws[0] != draws[1]
    assert min(map(len, draws)) >= 20
    again = run_suite(tmp_path, "-q", f"--hypothesis-seed={seed}")
    assert again == (seed, draws)


def test_a_profile_of_our_own_is_in_force():
    current = settings()
    assert not current.derandomize
    assert current.deadline is None
    assert current.max_examples >= 100
    if settings.get_current_profile_name() in ("quick", "thorough"):
        assert Path(current.database.path).is_relative_to(Path(__file__).parents[1])
