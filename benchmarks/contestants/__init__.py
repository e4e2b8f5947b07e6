"""Who is measured. A contestant is a module with one function, `prepare`, that makes a `Ready` of a problem.

Whatever can be done before a layer sees its data belongs into `prepare`: converting weights, building a graph,
compiling. A call takes the data as the library's own arrays and gives all results of its mode.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ..points import Point
from ..problem import Array


class UnfitError(Exception):
    """A contestant does not take part in a setting; the message says why."""


class Ready(NamedTuple):
    """A contestant ready to run.

    Attributes
    ----------
    calls : mapping of mode to function without arguments
        Modes that the contestant does not have are missing.
    arrays : function
        Makes NumPy arrays, under the names of `problem.named`, of what a call returned. It is never timed.
    """

    calls: Mapping[str, Callable[[], Any]]
    arrays: Callable[[Any], dict[str, Array]]


class Contestant(NamedTuple):
    """Where a contestant stands and what it needs."""

    module: str
    packages: tuple[str, ...]  # as they are imported
    device: str = "cpu"  # "both" for those that run on a GPU, too
    bound: bool = False  # not a contestant, but what a contestant's time is compared with; it has no results
    calls: bool = False  # with one sequence, two inputs, two units: what it calls, at hardly any arithmetic


CONTESTANTS = {
    "numpy_rnn": Contestant("numpy_layer", ("numpy",)),
    "numpy_rnn-snapshots": Contestant("numpy_snapshots", ("numpy",)),
    "torch_rnn": Contestant("torch_bptt", ("torch",), "both"),
    "torch_rnn-graph": Contestant("torch_bptt_graph", ("torch",), "cuda"),
    "torch_rnn-captured": Contestant("torch_captured", ("torch",), "cuda"),
    "torch_rnn-steps": Contestant("torch_steps", ("torch",), "cuda"),
    "torch_rnn-steps-graph": Contestant("torch_steps_graph", ("torch",), "cuda"),
    "torch_rnn-loop": Contestant("torch_loop", ("torch",), "both"),
    "torch_rnn-compiled": Contestant("torch_compiled", ("torch",), "cuda"),
    "torch.nn": Contestant("torch_nn", ("torch",), "both"),
    "torch.nn-graph": Contestant("torch_nn_graph", ("torch",), "cuda"),
    "jax": Contestant("jax_scan", ("jax", "jaxlib")),
    "onnxruntime": Contestant("onnx_operator", ("onnx", "onnxruntime")),
    "autograd": Contestant("hips_autograd", ("autograd",)),
    "min-char-rnn": Contestant("min_char", ("numpy",)),
    "floor": Contestant("floor", ("numpy",), bound=True),
    "floor-calls": Contestant("floor", ("numpy",), bound=True, calls=True),
    "calls": Contestant("numpy_layer", ("numpy",), bound=True, calls=True),
    "layout": Contestant("layout", ("numpy",), bound=True),
    "passes": Contestant("passes", ("numpy",), bound=True),
    "torch-floor": Contestant("torch_floor", ("torch",), bound=True),
    "torch-floor-calls": Contestant("torch_floor", ("torch",), bound=True, calls=True),
    "torch-calls": Contestant("torch_bptt", ("torch",), bound=True, calls=True),
    "torch-passes": Contestant("torch_passes", ("torch",), bound=True),
    "plain": Contestant("plain", ("numpy",), bound=True),
}


def on_device(device: str) -> list[str]:
    """Names of the contestants that run on a device."""
    return [name for name, c in CONTESTANTS.items() if c.device in (device, "both")]


def counts_calls(name: str) -> bool:
    """Whether a contestant does no arithmetic to speak of.

    Examples
    --------
    >>> counts_calls("calls"), counts_calls("floor")
    (True, False)
    """
    return name in CONTESTANTS and CONTESTANTS[name].calls


def point_of(name: str, point: Point) -> Point:
    """The sizes that a contestant gets; of calls the smallest that are no special case: one unit takes longer than two.

    Examples
    --------
    >>> point_of("calls", Point(T=7, B=3, I=4, H=5, L=2))
    Point(T=7, B=1, I=2, H=2, L=2, D=1, ragged=False)
    """
    return point._replace(B=1, I=2, H=2, ragged=False) if counts_calls(name) else point


def missing(name: str) -> str | None:
    """The package that a contestant lacks here, if any.

    Examples
    --------
    >>> missing("numpy_rnn") is None
    True
    """
    packages = CONTESTANTS[name].packages if name in CONTESTANTS else ()
    return next((p for p in packages if importlib.util.find_spec(p) is None), None)


def load(name: str) -> ModuleType:
    """Import a contestant, or the one that a user wrote: a path to a Python file with `prepare`."""
    if name in CONTESTANTS:
        return importlib.import_module(f"{__name__}.{CONTESTANTS[name].module}")
    spec = importlib.util.spec_from_file_location(Path(name).stem, name)
    if spec is None or spec.loader is None:
        raise ValueError(f"{name} is no contestant and no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def versions(name: str) -> dict[str, str]:
    """Versions of NumPy and of the packages that a contestant uses."""
    packages = CONTESTANTS[name].packages if name in CONTESTANTS else ()
    return {p: importlib.metadata.version(p) for p in dict.fromkeys(("numpy", *packages))}
