"""Files: a case in other formats than its own JSON, and what a port has computed in any of them.

    json         the case's own file
    npz          NumPy: one float64 array a tensor
    safetensors  one float64 tensor a tensor
    c            C99: a header with one array a tensor, for programs without a file system
    bin          little-endian float64 in one file, and beside it a text that `fscanf` reads: a line `case NAME CELL`, a
                 line `sizes T B I H R L D`, a line `lengths …`, a line `tensors N`, and N lines with a tensor's name,
                 role, byte offset, number of dimensions, and dimensions

A port may answer in json, npz, safetensors, bin, or csv with lines `name,index,value`, the index counting entries in
row-major order.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..conventions import to_system
from ..numerics import Array
from .document import array, case_of, digest, text

Document = Mapping[str, Any]


def arrays_of(document: Document) -> dict[str, Array]:
    """All tensors of a case, float64."""
    return {name: array(tensor) for name, tensor in document["tensors"].items()}


def with_layout(document: Document, system: str) -> Document:
    """The same case with its parameters in another system's layout, too, as `keras.kernel` or `onnx.W_l1_reverse`.

    Where the system has one bias, it is the sum of both: `keras.bias`.

    Raises
    ------
    ConventionError
        If the system has no such cell, or cannot hold the parameters even so.
    """
    case = case_of(document)
    more = {}
    for l, layer in enumerate(case.params):
        for d, p in enumerate(layer):
            for name, value in to_system(system, case.cell, p._asdict(), merge=True).items():
                more[f"{system}.{case.parameter_name(name, l, d)}"] = {
                    "role": "parameter",
                    "axes": [f"{system}'s"] * value.ndim,
                    "shape": list(value.shape),
                    "data": value.ravel().tolist(),
                }
    found = {**document, "tensors": {**more, **document["tensors"]}}
    return {**found, "sha256": digest(found)}


def _write_json(document: Document, folder: Path) -> list[Path]:
    path = folder / f"{document['name']}.json"
    path.write_text(text(document), encoding="utf-8")
    return [path]


def _write_npz(document: Document, folder: Path) -> list[Path]:
    path = folder / f"{document['name']}.npz"
    np.savez(path, allow_pickle=False, **arrays_of(document))
    return [path]


def _write_safetensors(document: Document, folder: Path) -> list[Path]:
    path = folder / f"{document['name']}.safetensors"
    about = {key: value for key, value in document.items() if key != "tensors"}
    files.write(path, arrays_of(document), {"case": json.dumps(about)})
    return [path]


def _write_bin(document: Document, folder: Path) -> list[Path]:
    data, index = (folder / f"{document['name']}.{ending}" for ending in ("bin", "txt"))
    sizes = " ".join(map(str, document["sizes"].values()))
    lines = [f"case {document['name']} {document['cell']}", f"sizes {sizes}"]
    lines += [" ".join(map(str, ("lengths", *document["lengths"]))), f"tensors {len(document['tensors'])}"]
    offset, parts = 0, []
    for name, tensor in document["tensors"].items():
        values = array(tensor).astype("<f8").tobytes()
        lines.append(" ".join(map(str, (name, tensor["role"], offset, len(tensor["shape"]), *tensor["shape"]))))
        parts.append(values)
        offset += len(values)
    data.write_bytes(b"".join(parts))
    index.write_text("\n".join(lines) + "\n", encoding="ascii")
    return [data, index]


def _write_c(document: Document, folder: Path) -> list[Path]:
    path = folder / f"{document['name'].replace('-', '_')}.h"
    prefix = path.stem
    guard = f"NUMPY_RNN_{prefix.upper()}_H"
    lines = [
        f"/* {document['name']}: {document['shows']}. Golden vectors of numpy-rnn, suite {document['suite']}.",
        *(f"   {name}: {what}" for name, what in document["conventions"].items()),
        f"   lengths: {' '.join(map(str, document['lengths']))}  */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "#include <math.h>",
        "",
        f"enum {{ {', '.join(f'{prefix}_{name} = {size}' for name, size in document['sizes'].items())} }};",
        f"static const int {prefix}_lengths[] = {{{', '.join(map(str, document['lengths'])) or '0'}}};",
    ]
    for name, tensor in document["tensors"].items():
        axes = " ".join(f"{axis}[{size}]" for axis, size in zip(tensor["axes"], tensor["shape"]))
        lines += [
            "",
            f"/* {tensor['role']}: {axes}" + (f"; {tensor['equation']}" if "equation" in tensor else "") + " */",
        ]
        values = [_c_number(v) for v in tensor["data"]] or ["0"]  # C has no empty arrays
        lines.append(f"static const double {prefix}_{name.replace('.', '_')}[{len(values)}] = {{")
        lines += [f"    {', '.join(values[k : k + 4])}," for k in range(0, len(values), 4)]
        lines.append("};")
    path.write_text("\n".join([*lines, "", f"#endif /* {guard} */", ""]), encoding="utf-8")
    return [path]


def _c_number(value: float | str) -> str:
    """A number as C reads it.

    Examples
    --------
    >>> _c_number(1.5), _c_number("-inf"), _c_number("nan"), _c_number(3.0), _c_number(1e-40)
    ('1.5', '-INFINITY', 'NAN', '3.0', '1e-40')
    """
    if isinstance(value, str):
        return {"nan": "NAN", "inf": "INFINITY", "-inf": "-INFINITY"}[value]
    return repr(float(value))


WRITERS: dict[str, Callable[[Document, Path], list[Path]]] = {
    "json": _write_json,
    "npz": _write_npz,
    "safetensors": _write_safetensors,
    "c": _write_c,
    "bin": _write_bin,
}


def read(path: Path, shapes: Callable[[str], tuple[int, ...] | None]) -> tuple[str | None, dict[str, Array]]:
    """Read what a port has computed.

    Parameters
    ----------
    path : Path
        The ending says the format; of `bin` the .txt or the .bin.
    shapes : function of str
        The shape of a tensor, for formats that do not tell; None if it is unknown.

    Returns
    -------
    case : str or None
        Which case it says it is.
    tensors : dict of str to array

    Raises
    ------
    ValueError
        If the file is not what its ending says.
    OSError
        If it cannot be read.
    """
    readers = {".json": _read_json, ".npz": _read_npz, ".safetensors": _read_safetensors, ".csv": _read_csv}
    readers |= {".bin": _read_bin, ".txt": _read_bin}
    if path.suffix not in readers:
        raise ValueError(f"{path} has the ending {path.suffix!r}, expected one of {', '.join(readers)}")
    case, tensors = readers[path.suffix](path)
    for name, value in tensors.items():
        shape = shapes(name)
        if value.ndim == 1 and shape is not None and value.size == math.prod(shape):
            tensors[name] = value.reshape(shape)  # flat, row-major
    return case, tensors


def _read_json(path: Path) -> tuple[str | None, dict[str, Array]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    return parsed(found, str(path))


def parsed(found: Any, source: str) -> tuple[str | None, dict[str, Array]]:
    """A case's name and tensors from parsed JSON: names to nested lists, or to {"shape": …, "data": …}.

    Examples
    --------
    >>> parsed({"case": "gru-plain", "tensors": {"h_n": [[1, "nan"]]}}, "stdin")
    ('gru-plain', {'h_n': array([[ 1., nan]])})
    """
    if not isinstance(found, dict):
        raise ValueError(f"{source} holds a {type(found).__name__}, expected an object with names and numbers")
    case = found.get("case") or (found.get("name") if "tensors" in found else None)
    tensors = found.get("tensors", {name: value for name, value in found.items() if name != "case"})
    result = {}
    for name, value in tensors.items():
        data, shape = (value.get("data"), value.get("shape")) if isinstance(value, dict) else (value, None)
        try:
            numbers = np.array(data, dtype=object).astype(np.float64)
            result[name] = numbers if shape is None else numbers.reshape(shape)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{source}: {name} is no array of numbers: {error}") from None
    return case, result


def _read_npz(path: Path) -> tuple[str | None, dict[str, Array]]:
    try:
        with np.load(path, allow_pickle=False) as found:
            return None, {name: found[name].astype(np.float64) for name in found.files}
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is not npz: {error}") from None


def _read_safetensors(path: Path) -> tuple[str | None, dict[str, Array]]:
    tensors, _ = files.read(path)
    return None, {name: value.astype(np.float64) for name, value in tensors.items()}


def _read_csv(path: Path) -> tuple[str | None, dict[str, Array]]:
    found: dict[str, dict[int, float]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file), 1):
            if row == ["name", "index", "value"] or not row:
                continue
            try:
                name, index, value = row
                found.setdefault(name, {})[int(index)] = float(value)
            except ValueError:
                raise ValueError(f"{path}, line {number}: {','.join(row)!r}, expected name,index,value") from None
    for name, values in found.items():
        if sorted(values) != list(range(len(values))):
            raise ValueError(f"{path}: {name} has {len(values)} values, but not at the indices 0 … {len(values) - 1}")
    return None, {name: np.array([values[k] for k in range(len(values))]) for name, values in found.items()}


def _read_bin(path: Path) -> tuple[str | None, dict[str, Array]]:
    data, index = path.with_suffix(".bin").read_bytes(), path.with_suffix(".txt")
    found = {}
    for number, line in enumerate(index.read_text(encoding="ascii").splitlines(), 1):
        if line.split(" ")[0] in ("case", "sizes", "lengths", "tensors"):
            continue  # which answers may leave out
        try:
            name, _, offset, n, *shape = line.split()
            sizes = [int(s) for s in shape]
            if len(sizes) != int(n):
                raise ValueError
            values = np.frombuffer(data, "<f8", math.prod(sizes), int(offset)) if math.prod(sizes) else np.zeros(0)
        except ValueError:
            what = f"{line!r}, expected name role offset dimensions sizes…, all inside {path.with_suffix('.bin').name}"
            raise ValueError(f"{index}, line {number}: {what}") from None
        found[name] = values.reshape(sizes).astype(np.float64)
    return None, found
