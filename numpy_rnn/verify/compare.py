"""Holds numpy_rnn, torch_rnn and torch.nn against each other: same parameters, same input, same upstream gradients.

torch_rnn takes part twice: with autograd over the explicit loop, as by default, and with the backward pass by hand.

Importing this module needs NumPy alone; running a comparison imports torch and torch_rnn.
"""

from __future__ import annotations

import itertools
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ..fast.numerics import Array
from ..fast.registry import USER_FACING, Kind
from ..layers import recurrent as modules
from ..layers import scratch
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
    Setting("long", T=100, B=2, I=3, H=8),
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
    lengths: tuple[int, ...] | None
    states: tuple[Array, ...]  # initial ones
    doutput: Array
    dstates: tuple[Array, ...]  # gradients of the final ones


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
            if not kind.cls.endswith("Scratch"):
                answers["torch_rnn-manual"] = run_torch(problem, torch_rnn, device, bptt="manual")
            if kind.in_torch_nn:
                answers["torch.nn"] = run_torch(problem, torch.nn, device)
        for (left, a), (right, b) in itertools.combinations(answers.items(), 2):
            for tensor in a:
                worst = difference(a[tensor], b[tensor])
                yield Finding(cell, dtype, case.name, left, right, tensor, *worst, device)


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

    def like(a: Array) -> Array:
        return rng.standard_normal(a.shape).astype(dtype)

    finals = h_n if isinstance(h_n, tuple) else (h_n,)
    states, dstates = tuple(map(like, finals)), tuple(map(like, finals))
    return Problem(kind, arguments, model.state_dict(), x, case.lengths, states, like(output), dstates)


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
    kind, arguments, parameters, x, lengths, states, doutput, dstates = problem
    model = _numpy_model(kind, arguments, x.dtype.name, np.random.default_rng(0))
    model.load_state_dict(parameters)
    single = len(states) == 1
    h_0, dh_n = (states[0], dstates[0]) if single else (states, dstates)
    output, h_n, tape = model.forward(x, h_0, lengths) if lengths else model.forward(x, h_0)
    grads, dx, dh_0 = model.backward(tape, doutput, dh_n)
    h_n, dh_0 = ((h_n,), (dh_0,)) if single else (h_n, dh_0)
    return _named(output, h_n, dx, dh_0, grads)


def run_torch(problem: Problem, library: Any, device: str, **options: Any) -> dict[str, Array]:
    """The same by torch_rnn or torch.nn, through autograd."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    kind, arguments, parameters, x, lengths, states, doutput, dstates = problem

    def tensor(a: Array) -> torch.Tensor:
        return torch.tensor(a, device=device)

    model = getattr(library, kind.cls)(**arguments, **options).to(device, tensor(x).dtype)
    model.load_state_dict({name: tensor(p) for name, p in parameters.items()})
    tx = tensor(x).requires_grad_()
    initial = tuple(tensor(s).requires_grad_() for s in states)
    hidden = initial if len(initial) > 1 else initial[0]
    if lengths is None:
        output, final = model(tx, hidden)
    else:
        packed = pack_padded_sequence(tx, torch.tensor(lengths), enforce_sorted=False)
        packed_output, final = model(packed, hidden)
        output, _ = pad_packed_sequence(packed_output, total_length=len(x))
    final = final if isinstance(final, tuple) else (final,)
    names = list(parameters)
    weights = [model.get_parameter(name) for name in names]
    upstream = [tensor(g) for g in (doutput, *dstates)]
    dx, *rest = torch.autograd.grad([output, *final], [tx, *initial, *weights], upstream)
    dh_0, grads = rest[: len(initial)], dict(zip(names, rest[len(initial) :]))
    return {name: t.detach().cpu().numpy() for name, t in _named(output, final, dx, dh_0, grads).items()}


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
