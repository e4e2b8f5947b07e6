"""Tensors in files: the safetensors format, written whole or not at all, checked before it is read.

Needs the `safetensors` library, which `pip install 'numpy-rnn[cli]'` brings.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..fast.numerics import Array

# The format's names for the dtypes that NumPy has too and that someone may want here.
_NAMES = {"F16": "float16", "F32": "float32", "F64": "float64", "I32": "int32", "I64": "int64", "U8": "uint8"}
DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(numpy_name) for name, numpy_name in _NAMES.items()}


class MissingLibraryError(ImportError):
    """A library that an extra brings is not installed; the message says what to install."""


def _safetensors() -> tuple[Any, Any]:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError:
        raise MissingLibraryError("reading and writing files needs safetensors: pip install 'numpy-rnn[cli]'") from None
    return safetensors, safetensors.numpy


def write(path: str | Path, tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors (float16, float32, float64, int32, int64 or uint8) and strings as safetensors, whole or not at all.

    Raises
    ------
    ValueError
        If an array has another dtype.
    OSError
        If the file cannot be written.
    MissingLibraryError
        If safetensors is not installed.
    """
    _, safetensors_numpy = _safetensors()
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES.values():
            raise ValueError(f"{name} has dtype {tensor.dtype}, a file can hold {', '.join(_NAMES.values())}")
    data = safetensors_numpy.save({k: np.asarray(v, order="C") for k, v in tensors.items()}, dict(metadata or {}))
    write_bytes(path, data)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file beside `path` and rename it when it is complete: what `path` held before stays until then."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def between_marks(path: str | Path, name: str) -> tuple[str, str, str]:
    """Split a document where it has a generated part: before it, the part, after it.

    The part `name` stands between the lines `<!-- NAME: begin -->` and `<!-- NAME: end -->`; ValueError if the file has
    not both, once each, in order.
    """
    text, begin, end = Path(path).read_text(encoding="utf-8"), f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{path} needs the lines {begin} and {end}, once each: what is generated goes between them")
    head, rest = text.split(begin)
    body, tail = rest.split(end)
    return head + begin, body, end + tail


def put_between_marks(path: str | Path, name: str, text: str) -> None:
    """Replace the generated part of a document, whole or not at all; see `between_marks`."""
    head, _, tail = between_marks(path, name)
    write_bytes(path, f"{head}\n\n{text}\n{tail}".encode())


def read_header(path: str | Path) -> tuple[dict[str, tuple[int, ...]], dict[str, np.dtype[Any]], dict[str, str]]:
    """What a safetensors file says it holds, shapes, dtypes and metadata by name; the tensors themselves are not read.

    Raises
    ------
    ValueError
        If it is not a complete safetensors file, or a tensor has a dtype that NumPy does not know.
    OSError
        If the file cannot be read.
    MissingLibraryError
        If safetensors is not installed.
    """
    with _opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        shapes = {name: tuple(s.get_shape()) for name, s in slices.items()}
        stored = {name: str(s.get_dtype()) for name, s in slices.items()}
        for name, dtype in stored.items():
            if dtype not in DTYPES:
                raise ValueError(f"{path}: {name} has dtype {dtype}, expected one of {', '.join(_NAMES.values())}")
        return shapes, {name: DTYPES[dtype] for name, dtype in stored.items()}, dict(file.metadata() or {})


def read(path: str | Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Read a whole safetensors file: tensors and metadata by name; errors are those of `read_header`."""
    shapes, _, metadata = read_header(path)
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in shapes}, metadata


def _opened(path: str | Path) -> Any:
    safetensors, _ = _safetensors()
    with Path(path).open("rb"):  # an OSError here says what is wrong and names the file
        pass
    try:
        return safetensors.safe_open(str(path), framework="np")
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a complete safetensors file ({error})") from None
