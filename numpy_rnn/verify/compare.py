"""Holds numpy_rnn, torch_rnn and torch.nn against each other: same parameters, same input, same upstream gradients.

torch_rnn takes part twice: with autograd over the explicit loop, as by default, and with the backward pass by hand.

Importing this module needs NumPy alone; running a comparison imports torch and torch_rnn.
"""

from __future__ import annotations

import itertools
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ..fast.numerics import Array
from ..fast.registry import USER_FACING, Kind
from ..fast.truncated import windows
from ..layers import losses, optim, scratch
from ..layers import recurrent as modules
from .difference import TOLERANCES, difference

# cuDNN's kernels for small layers (up to 192 units; RNN 384) compute tanh and sigmoid in float32 to no better than
# 1.1e-5 of the value: measured by cuDNN 9 on an H200, where the same layers with relu were exact, and those with more
# units, which it leaves to other kernels, right to 2e-7. So float32 of torch.nn on a GPU may differ by ten times that.
CUDNN_FLOAT32 = 1e-4
DTYPES = ("float64", "float32")


class Setting(NamedTuple):
    """Sizes and shape of one comparison."""

    name: str
    T: int
    B: int
    I: int
    H: int
    arguments: Mapping[str, Any] = {}
    lengths: tuple[int, ...] | None = None
    text: bool = False  # x is real text, one-hot
    initial: bool = True  # initial states are given
    final: bool = True  # gradients arrive at the final states
    snapshots: bool = False
    truncation: tuple[int, int] | None = None  # k1, k2
    every_state: bool = False  # gradients arrive at the states after every step, c included, not at the output alone


CASES = (
    Setting("one layer", T=7, B=3, I=4, H=5),
    Setting("no bias", T=6, B=2, I=3, H=4, arguments={"bias": False}),
    Setting("stacked", T=6, B=4, I=5, H=7, arguments={"num_layers": 3}),
    Setting("bidirectional", T=8, B=3, I=6, H=4, arguments={"bidirectional": True, "batch_first": True}),
    Setting("ragged lengths", T=9, B=5, I=3, H=6, lengths=(4, 9, 1, 6, 4)),
    Setting(
        "stacked, bidirectional, ragged",
        T=8,
        B=4,
        I=5,
        H=6,
        arguments={"num_layers": 2, "bidirectional": True},
        lengths=(3, 7, 7, 2),
    ),
    Setting("dropout", T=6, B=3, I=4, H=5, arguments={"num_layers": 3, "dropout": 0.4}),
    Setting("no initial, no final states", T=5, B=2, I=3, H=4, initial=False, final=False),
    Setting("truncated", T=9, B=2, I=3, H=4, arguments={"num_layers": 2}, truncation=(2, 5)),
    Setting("truncated, ragged", T=9, B=3, I=2, H=4, lengths=(5, 9, 3), truncation=(2, 5)),
    Setting("gradients at every state", T=5, B=2, I=3, H=4, every_state=True),
    Setting("wide", T=3, B=2, I=6, H=80),
    Setting("long", T=100, B=2, I=3, H=8, snapshots=True),
    Setting("real text", T=50, B=8, I=64, H=32, text=True),
)
SCRATCH_CASES = (
    Setting("from scratch, the article's sizes", T=6, B=3, I=10, H=20, arguments={"output_size": 5}),
    Setting("from scratch, real text", T=50, B=8, I=64, H=32, arguments={"output_size": 64}, text=True),
)


class Problem(NamedTuple):
    """One comparison's data, for any of the libraries."""

    kind: Kind
    arguments: dict[str, Any]
    parameters: dict[str, Array]
    x: Array
    states: tuple[Array, ...]  # initial ones; none if they are left out
    doutput: Array
    dstates: tuple[Array, ...]  # gradients of the final ones; likewise
    masks: list[Array] | None  # of dropout, the same for all
    setting: Setting


class Finding(NamedTuple):
    """How far two libraries are apart in one tensor."""

    cell: str
    dtype: str
    case: str
    left: str
    right: str
    tensor: str
    error: float  # max|left - right| / max|right|; infinite if there is a NaN
    where: tuple[int, ...]  # the worst entry is
    a: float  # there, of left
    b: float  # and of right
    device: str = "cpu"  # where torch has computed

    @property
    def tolerance(self) -> float:
        """What `error` may be."""
        by_cudnn = self.device.startswith("cuda") and "torch.nn" in (self.left, self.right)
        return CUDNN_FLOAT32 if by_cudnn and self.dtype == "float32" else TOLERANCES[self.dtype]

    @property
    def ok(self) -> bool:
        """Whether the two agree; a NaN never does."""
        return self.error <= self.tolerance


def findings(cell: str, dtype: str, device: str = "cpu") -> Iterator[Finding]:
    """Run all cases of one cell in one dtype through the libraries and compare them pair by pair.

    Parameters
    ----------
    cell : str
        A key of `USER_FACING`.
    dtype : "float64" or "float32"
    device : str
        Where torch computes, such as "cpu" or "cuda".

    Yields
    ------
    Finding
        For every case, pair of libraries and tensor.

    Raises
    ------
    ModuleNotFoundError
        If torch is not installed.
    """
    import torch

    import torch_rnn

    # torch says once that oneDNN does not do projections; that is nothing a user can act on.
    warnings.filterwarnings("ignore", "LSTM with projections is not supported with oneDNN")
    kind = USER_FACING[cell]
    cases = [(kind, case) for case in CASES]
    if kind.from_scratch:
        model = Kind(kind.from_scratch, {}, in_torch_nn=False)
        cases += [(model, case) for case in SCRATCH_CASES]
    for kind, case in cases:
        problem = make_problem(kind, case, dtype)
        answers = {"numpy_rnn": run_numpy(problem)}
        with full_precision():
            answers["torch_rnn"] = run_torch(problem, torch_rnn, device)
            if not kind.cls.endswith("Scratch") and not case.every_state:
                answers["torch_rnn-manual"] = run_torch(problem, torch_rnn, device, bptt="manual")
            # torch.nn draws dropout's masks itself, and keeps its states to itself.
            if kind.in_torch_nn and problem.masks is None and not case.every_state:
                answers["torch.nn"] = run_torch(problem, torch.nn, device)
        for (left, a), (right, b) in itertools.combinations(answers.items(), 2):
            for tensor in a:
                worst = difference(a[tensor], b[tensor])
                yield Finding(cell, dtype, case.name, left, right, tensor, *worst, device)


LOSSES: dict[str, Mapping[str, Any]] = {
    "softmax_cross_entropy": {"reduction": "mean"},
    "softmax_cross_entropy, sum, some ignored": {"reduction": "sum", "ignore_index": 1},
    "mean_squared_error": {"reduction": "mean"},
    "mean_squared_error, sum": {"reduction": "sum"},
}
OPTIMIZERS: dict[str, Mapping[str, Any]] = {
    "SGD": {"lr": 0.1, "weight_decay": 0.03},
    "SGD, momentum": {"lr": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.03},
    "SGD, Nesterov": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    "Adagrad": {"lr": 0.1, "weight_decay": 0.03, "lr_decay": 0.05, "initial_accumulator_value": 0.2, "eps": 1e-3},
    "Adam": {"lr": 0.05, "betas": (0.7, 0.95), "eps": 1e-3, "weight_decay": 0.03},
    "Adam, small betas": {"lr": 0.05, "betas": (0.3, 0.5)},
}


def training_findings(dtype: str) -> Iterator[Finding]:
    """Compare losses, optimizers and the clipping of gradients with torch's; yields one `Finding` a tensor."""
    for case, options in LOSSES.items():
        yield from _compared("losses", dtype, case, _loss_and_gradient(case.partition(",")[0], dtype, options))
    for case, options in OPTIMIZERS.items():
        yield from _compared("optimizers", dtype, case, _three_steps(case.partition(",")[0], dtype, options))


Pairs = dict[str, tuple[Array, Any]]  # ours and torch's


def _compared(kind: str, dtype: str, case: str, pairs: Pairs) -> Iterator[Finding]:
    for tensor, (ours, theirs) in pairs.items():
        worst = difference(np.asarray(ours), theirs.detach().numpy())
        yield Finding(kind, dtype, case, "numpy_rnn", "torch", tensor, *worst)


def _loss_and_gradient(name: str, dtype: str, options: Mapping[str, Any]) -> Pairs:
    import torch
    from torch.nn import functional

    rng = np.random.default_rng(5)
    y, target = rng.standard_normal((2, 4, 3, 5)).astype(dtype)
    ty: Any = torch.tensor(y, requires_grad=True)
    theirs: Any
    if name == "softmax_cross_entropy":
        target = rng.integers(5, size=(4, 3))
        theirs = functional.cross_entropy(ty.movedim(-1, 1), torch.tensor(target), **options)
    else:
        theirs = functional.mse_loss(ty, torch.tensor(target), **options)
    theirs.backward()
    value, gradient = getattr(losses, name)(y, target, **options)
    return {"loss": (value, theirs), "gradient": (gradient, ty.grad)}


def _three_steps(name: str, dtype: str, options: Mapping[str, Any]) -> Pairs:
    """Parameters after three steps with gradients that are clipped by norm and by value."""
    import torch
    from torch.nn import utils

    rng = np.random.default_rng(6)
    params = {"weight": rng.standard_normal((4, 3)).astype(dtype), "bias": rng.standard_normal(4).astype(dtype)}
    copies: dict[str, Any] = {key: torch.tensor(p, requires_grad=True) for key, p in params.items()}
    ours, theirs = getattr(optim, name)(params, **options), getattr(torch.optim, name)(copies.values(), **options)
    found: Pairs = {}
    for limit in (5.0, 500.0, 5.0):
        grads = {key: (10 * rng.standard_normal(p.shape)).astype(dtype) for key, p in params.items()}
        for key, g in grads.items():
            copies[key].grad = torch.tensor(g)
        norm, reference = optim.clip_grad_norm(grads, limit), utils.clip_grad_norm_(copies.values(), limit)
        found[f"norm before a clip at {limit:g}"] = (norm, reference)
        optim.clip_grad_value(grads, 2.0)
        utils.clip_grad_value_(copies.values(), 2.0)
        ours.step(grads)
        theirs.step()
    return {key: (p, copies[key]) for key, p in params.items()} | found


def make_problem(kind: Kind, case: Setting, dtype: str) -> Problem:
    """Random data of a case: every size distinct, states and both biases non-zero, every upstream gradient random."""
    arguments = {"input_size": case.I, "hidden_size": case.H, **kind.arguments, **case.arguments}
    rng = np.random.default_rng(zlib.crc32(f"{kind} {case.name}".encode()))
    model = _numpy_model(kind, arguments, dtype, rng)
    x = real_text(case.T, case.B, case.I) if case.text else rng.standard_normal((case.T, case.B, case.I))
    if arguments.get("batch_first") or isinstance(model, scratch.FromScratch):
        x = x.swapaxes(0, 1)
    x = np.ascontiguousarray(x, dtype)
    output, h_n = model(x, None, case.lengths) if case.lengths else model(x)
    if case.every_state:
        zeros = model.cell.State(*(np.zeros(s.shape[1:], dtype) for s in (h_n if isinstance(h_n, tuple) else (h_n,))))
        output = np.concatenate(model.cell.forward(model.params()[0][0], x, zeros)[0], axis=2)

    def like(a: Array) -> Array:
        return rng.standard_normal(a.shape).astype(dtype)

    finals = h_n if isinstance(h_n, tuple) else (h_n,)
    states, dstates = tuple(map(like, finals)), tuple(map(like, finals))
    width = output.shape[-1]
    layers = arguments.get("num_layers", 1) if arguments.get("dropout") else 1
    kept = [rng.random((case.T, case.B, width)) >= arguments["dropout"] for _ in range(layers - 1)]
    masks = [(mask / (1 - arguments["dropout"])).astype(dtype) for mask in kept] or None
    initial, final = states if case.initial else (), dstates if case.final else ()
    return Problem(kind, arguments, model.state_dict(), x, initial, like(output), final, masks, case)


def real_text(T: int, B: int, I: int) -> Array:
    """B stretches of T characters of the Python language reference, one-hot over its I most frequent characters.

    Returns
    -------
    array (T, B, I)
        A rarer character is a row of zeros.
    """
    from pydoc_data.topics import topics  # type: ignore[import-not-found, unused-ignore]

    text = topics["assignment"][: T * B]
    alphabet = sorted(set(text), key=lambda c: (-text.count(c), c))[:I]
    one_hot = np.array([[c == symbol for symbol in alphabet] for c in text], dtype=float)
    x = np.zeros((T, B, I))
    x[:, :, : len(alphabet)] = one_hot.reshape(B, T, len(alphabet)).swapaxes(0, 1)
    return x


def run_numpy(problem: Problem) -> dict[str, Array]:
    """Outputs, final states and all gradients by numpy_rnn, named."""
    kind, arguments, parameters, x, states, doutput, dstates, masks, setting = problem
    model = _numpy_model(kind, arguments, x.dtype.name, np.random.default_rng(0))
    model.load_state_dict(parameters)
    if masks is not None:
        model._masks = lambda T, B: masks
    if setting.every_state:
        states_0 = model.cell.State(*(s[0] for s in states))
        (params,) = model.params()[0]
        trajectory, tape = model.cell.forward(params, x, states_0)
        upstream = np.split(doutput, np.cumsum([s.shape[2] for s in states])[:-1], axis=2)
        grads, dx, ds0 = model.cell.backward(tape, model.cell.State(*upstream))
        ds0 = [ds[None] for ds in ds0]  # a layer's states have an axis of layers
        return _named(np.concatenate(trajectory, axis=2), (), dx, ds0, dict(zip(parameters, grads)))
    options: dict[str, Any] = {"snapshots": True} if setting.snapshots else {}
    if setting.lengths is not None:
        options["lengths"] = setting.lengths
    output, h_n, tape = model.forward(x, _as_taken(states), **options)
    if setting.truncation:
        k1, k2 = setting.truncation
        grads, dx, dh_0 = model.truncated_backward(tape, doutput, _as_taken(dstates), k1=k1, k2=k2)
    else:
        grads, dx, dh_0 = model.backward(tape, doutput, _as_taken(dstates))
    h_n, dh_0 = (a if isinstance(a, tuple) else (a,) for a in (h_n, dh_0))
    return _named(output, h_n, dx, dh_0 if states else (), grads)


def _as_taken(states: tuple[Any, ...]) -> Any:
    """States as a layer takes them: an LSTM's as a pair, None if there are none."""
    return states if len(states) > 1 else states[0] if states else None


def run_torch(problem: Problem, library: Any, device: str, **options: Any) -> dict[str, Array]:
    """The same by torch_rnn or torch.nn, through autograd."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    kind, arguments, parameters, x, states, doutput, dstates, masks, setting = problem

    def tensor(a: Array) -> torch.Tensor:
        return torch.tensor(a, device=device)

    model = getattr(library, kind.cls)(**arguments, **options).to(device, tensor(x).dtype)
    model.load_state_dict({name: tensor(p) for name, p in parameters.items()})
    if masks is not None:
        model._dropout_masks = lambda x: list(map(tensor, masks))
    tx = tensor(x).requires_grad_()
    initial = tuple(tensor(s).requires_grad_() for s in states)

    def run(x: torch.Tensor, hidden: Any) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        if setting.lengths is None:
            output, final = model(x, hidden)
        else:
            packed = pack_padded_sequence(x, torch.tensor(setting.lengths), enforce_sorted=False)
            packed_output, final = model(packed, hidden)
            output, _ = pad_packed_sequence(packed_output, total_length=len(x))
        return output, final if isinstance(final, tuple) else (final,)

    def all_states() -> torch.Tensor:
        params = model._all_params()[0][0]
        return torch.cat(list(model._cell.forward(params, tx, model._cell.State(*(s[0] for s in initial)))), dim=2)

    names = list(parameters)
    leaves = [tx, *initial, *(model.get_parameter(name) for name in names)]
    output, final = (all_states(), ()) if setting.every_state else run(tx, _as_taken(initial))
    upstream = [tensor(g) for g in (doutput, *(() if setting.every_state else dstates))]
    if setting.truncation is None:
        found = torch.autograd.grad([output, *final][: len(upstream)], leaves, upstream)
    else:
        found = tuple(map(torch.zeros_like, leaves))
        for outputs, gradients in _windows(model, tx, initial, upstream, setting):
            more = torch.autograd.grad(outputs, leaves, gradients, materialize_grads=True)
            found = tuple(map(torch.add, found, more))
    dx, *rest = found
    dh_0, grads = rest[: len(initial)], dict(zip(names, rest[len(initial) :]))
    return {name: t.detach().cpu().numpy() for name, t in _named(output, final, dx, dh_0, grads).items()}


def _windows(model: Any, x: Any, initial: Any, upstream: Sequence[Any], setting: Setting) -> Iterator[tuple[Any, Any]]:
    """What each window of truncation differentiates, and the gradients that arrive there: sequence by sequence."""
    import torch

    T, B = x.shape[:2]
    assert setting.truncation is not None
    for b, n in enumerate(setting.lengths or (T,) * B):
        for back, start, stop in windows(T, *setting.truncation):
            if start >= n:
                continue
            before = _as_taken(tuple(s[:, b : b + 1] for s in initial))
            if back:
                with torch.no_grad():
                    _, before = model(x[:back, b : b + 1], before)
            output, last = model(x[back : min(stop, n), b : b + 1], before)
            last = last if isinstance(last, tuple) else (last,)
            ends = n <= stop
            yield (
                [output[start - back :], *(last if ends else ())],
                [upstream[0][start : min(stop, n), b : b + 1], *(u[:, b : b + 1] for u in upstream[1:] if ends)],
            )


@contextmanager
def full_precision() -> Iterator[None]:
    """No TF32 on a GPU: it keeps 10 bits of the mantissa, and would drown what is compared here."""
    import torch

    flags: Any = torch.backends.cudnn.flags
    before, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, False
    try:
        with flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _named(output: Any, states: Any, dx: Any, dstates0: Any, grads: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "output": output,
        **dict(zip(("h_n", "c_n"), states)),
        "dx": dx,
        **dict(zip(("dh_0", "dc_0"), dstates0)),
        **{f"d{name}": g for name, g in grads.items()},
    }


def _numpy_model(kind: Kind, arguments: Mapping[str, Any], dtype: str, rng: np.random.Generator) -> Any:
    cls: Any = getattr(scratch if kind.cls.endswith("Scratch") else modules, kind.cls)
    return cls(**arguments, dtype=dtype, rng=rng)
