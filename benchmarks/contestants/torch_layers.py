"""What torch_rnn and torch.nn share: they have the same constructor, parameters and results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..problem import Array, Problem, named
from . import Ready

DTYPES = {"tf32": torch.float32}


def prepare_with(
    library: Any,
    problem: Problem,
    threads: int,
    device: str,
    wrap: Callable[[Any], Any] = lambda layer: layer,
    **options: Any,
) -> Ready:
    """Build a layer of a library; its backward is autograd's, or what autograd is told."""
    if device == "cpu":
        torch.set_num_threads(threads)
    _, _, I, H, L, D, _ = problem.point
    dtype = DTYPES.get(problem.dtype) or getattr(torch, problem.dtype)

    def tensor(a: Array) -> torch.Tensor:
        return torch.tensor(a, dtype=dtype, device=device)

    make = getattr(library, problem.cell.upper())
    layer = make(I, H, num_layers=L, bidirectional=D == 2, **options).to(device, dtype)
    layer.load_state_dict({name: tensor(p) for name, p in problem.parameters.items()})
    names = list(problem.parameters)
    weights = [layer.get_parameter(name) for name in names]
    x, lengths = tensor(problem.x).requires_grad_(), problem.point.lengths
    initial = tuple(tensor(s).requires_grad_() for s in problem.states)
    upstream = [tensor(g) for g in (problem.doutput, *problem.dstates)]
    sizes = None if lengths is None else torch.tensor(lengths)
    call = wrap(layer)

    def run() -> tuple[torch.Tensor, ...]:
        hidden = initial if len(initial) > 1 else initial[0]
        if sizes is None:
            output, final = call(x, hidden)
        else:
            packed_output, final = layer(pack_padded_sequence(x, sizes, enforce_sorted=False), hidden)
            output, _ = pad_packed_sequence(packed_output, total_length=len(x))
        return output, *(final if isinstance(final, tuple) else (final,))

    def forward() -> Any:
        with torch.inference_mode():
            return run()

    def both() -> Any:
        results = run()
        return results, torch.autograd.grad(results, [x, *initial, *weights], upstream)

    def arrays(result: Any) -> dict[str, Array]:
        if isinstance(result[0], torch.Tensor):
            output, *final = map(to_numpy, result)
            return named(output, final)
        (output, *final), (dx, *rest) = (map(to_numpy, part) for part in result)
        return named(output, final, dx, rest[: len(initial)], dict(zip(names, rest[len(initial) :])))

    return Ready({"forward": forward, "training-forward": run, "forward-backward": both}, arrays)


def to_numpy(t: torch.Tensor) -> Array:
    """Copy a tensor of any floating-point type and device."""
    t = t.detach().cpu()
    return (t if t.dtype == torch.float64 else t.float()).numpy()
