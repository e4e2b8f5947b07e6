"""What every model has in common: named parameters, in torch's names, that can be read, set, saved and loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from ..fast.numerics import Array
from . import files
from .arguments import check_dtype, check_shapes

Seed = int | np.random.Generator | None
M = TypeVar("M", bound="Module")


class Module:
    """A model: parameters by name, the arguments it was made with, and whether it is training.

    Parameters
    ----------
    arguments : dict
        The constructor's `locals()`: all but `dtype` and `rng` are the `config`, and attributes of the model. From
        `rng` come the initial values and the dropout masks; the same seed gives the same values in every dtype, up to
        rounding.
    """

    _classes: ClassVar[dict[str, type[Any]]] = {}

    def __init_subclass__(cls, abstract: bool = False) -> None:
        """Remember the classes that a file may hold."""
        if not abstract:
            cls._classes[cls.__name__] = cls

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.config = {k: v for k, v in arguments.items() if k not in ("self", "__class__", "dtype", "rng")}
        bounds = self.parameter_bounds(self.config)
        vars(self).update(self.config)
        self.dtype = check_dtype(arguments["dtype"])
        self.training = True
        self._rng = np.random.default_rng(arguments["rng"])
        self._parameters = {
            name: self._rng.uniform(-bound, bound, shape).astype(self.dtype) for name, (shape, bound) in bounds.items()
        }

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.config.items())
        return f"{type(self).__name__}({arguments}, dtype={self.dtype})"

    def train(self: M, mode: bool = True) -> M:
        """Switch dropout on (or off); returns the model itself."""
        self.training = mode
        return self

    def eval(self: M) -> M:
        """Switch dropout off; returns the model itself."""
        return self.train(False)

    def state_dict(self) -> dict[str, Array]:
        """Return the parameters by name, the model's own arrays: to change one in place is to change the model."""
        return dict(self._parameters)

    def load_state_dict(self, mapping: Mapping[str, Any]) -> None:
        """Copy parameters in, by name, converted to the model's dtype; all of them or, on an error, none.

        Parameters
        ----------
        mapping : mapping of str to array or torch tensor
            Such as `state_dict()` of a model like this, here or in PyTorch.

        Raises
        ------
        ValueError
            If a name is missing or unknown, or an array has the wrong shape or is not of real or complex numbers.
        """
        arrays = {name: _as_numpy(name, value) for name, value in mapping.items()}
        check_shapes({n: a.shape for n, a in arrays.items()}, {n: p.shape for n, p in self._parameters.items()})
        for name, array in arrays.items():
            if np.iscomplexobj(array) and not np.issubdtype(self.dtype, np.complexfloating):
                raise ValueError(f"{name} has dtype {array.dtype}, which {self.dtype} cannot hold")
        for name, parameter in self._parameters.items():
            parameter[...] = arrays[name]

    def save(self, path: str | Path) -> None:
        """Write parameters and constructor arguments to a safetensors file, whole or not at all.

        Raises
        ------
        ValueError
            If the dtype is one that the format does not have (complex, long double).
        OSError
            If the file cannot be written.
        ImportError
            If safetensors is not installed; the message says how to install it.
        """
        model = {"class": type(self).__name__, "config": self.config}
        files.write(path, self._parameters, {"numpy_rnn": json.dumps(model)})

    @classmethod
    def load(cls: type[M], path: str | Path) -> M:
        """Make the model that `save` wrote.

        Names, shapes and dtypes are compared with what the constructor arguments call for before anything
        is allocated.

        The file has to hold the class on which `load` is called; `numpy_rnn.load` takes whatever class it holds.

        Raises
        ------
        ValueError
            If the file is not complete, not a model, a model of another class, or inconsistent.
        OSError
            If the file cannot be read.
        ImportError
            If safetensors is not installed; the message says how to install it.
        """
        shapes, dtypes, metadata = files.read_header(path)
        name, config = _described_model(path, metadata)
        classes = {n: c for n, c in cls._classes.items() if issubclass(c, cls)}
        if name not in classes:
            raise ValueError(f"{path} holds a model of class {name!r}, expected {' or '.join(sorted(classes))}")
        if len(set(dtypes.values())) != 1 or not np.issubdtype(dtype := next(iter(dtypes.values())), np.floating):
            raise ValueError(f"{path} holds {sorted({str(d) for d in dtypes.values()})}, expected one float dtype")
        try:
            bounds = classes[name].parameter_bounds(config)
            check_shapes(shapes, {n: shape for n, (shape, _) in bounds.items()})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} does not hold the {name} that it describes: {error}") from None
        model: M = cls._classes[name](**config, dtype=dtype, rng=0)
        model.load_state_dict(files.read(path)[0])
        return model

    def _check_tape(self, tape: Any, kind: type) -> None:
        """Refuse what `forward` of this very model has not returned; a tape knows its `owner`."""
        if not isinstance(tape, kind) or getattr(tape, "owner", None) is not self:
            owner = repr(getattr(tape, "owner", None)) if isinstance(tape, kind) else f"a {type(tape).__name__}"
            raise ValueError(f"the tape comes from {owner}, expected one from this model's own forward, {self!r}")

    @classmethod
    def parameter_bounds(cls, config: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], float]]:
        """Of each parameter its shape and the half-width of the uniform distribution that it starts from.

        Checks the constructor's arguments, `config`.
        """
        raise NotImplementedError


def _described_model(path: str | Path, metadata: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    try:
        model = json.loads(metadata["numpy_rnn"])
        return str(model["class"]), dict(model["config"])
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path} holds tensors, but no model that numpy_rnn saved") from None


def _as_numpy(name: str, value: Any) -> Array:
    # A torch tensor may ask for a gradient or live on a GPU; it is known by its methods, so torch is not imported.
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value  # exact; NumPy has no bfloat16
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.number):
        raise ValueError(f"{name} is a {type(value).__name__} of dtype {array.dtype}, expected an array of numbers")
    return array
