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
import io
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...fast.numerics import Array
from ...layers import files
from ..conventions import to_system
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
    ending = path.suffix.lower()
    if not path.is_file():
        raise ValueError(f"{path}: no such file or folder")
    if ending not in readers:
        raise ValueError(f"{path} has the ending {path.suffix!r}, expected one of {', '.join(readers)}")
    if not path.stat().st_size and ending != ".bin":
        raise ValueError(f"{path} is empty: did the port write anything?")
    case, tensors = readers[ending](path)
    return case, shaped(tensors, shapes)


def shaped(tensors: dict[str, Array], shapes: Callable[[str], tuple[int, ...] | None]) -> dict[str, Array]:
    """Flat lists of numbers, row-major, in the shapes that they should have, where their lengths are right."""
    for name, value in tensors.items():
        shape = shapes(name)
        if value.ndim == 1 and shape is not None and value.size == math.prod(shape):
            tensors[name] = value.reshape(shape)
    return tensors


def _text(path: Path, encoding: str) -> str:
    try:
        return path.read_text(encoding=encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text: byte {error.start} is {error.object[error.start]:#04x}") from None


def _read_json(path: Path) -> tuple[str | None, dict[str, Array]]:
    content = _text(path, "utf-8")
    try:
        found = json.loads(content)
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
    if not isinstance(found.get("tensors", {}), dict):
        raise ValueError(f'{source}: "tensors" is no object with names and numbers')
    tensors = found.get("tensors", {name: value for name, value in found.items() if name != "case"})
    result = {}
    for name, value in tensors.items():
        data, shape = (value.get("data"), value.get("shape")) if isinstance(value, dict) else (value, None)
        try:
            numbers = np.array(data, dtype=object).astype(np.float64)
            result[name] = numbers if shape is None else numbers.reshape(shape)
        except (TypeError, ValueError):
            why = _no_array(data, shape)
            raise ValueError(f"{source}: {name} is no array of numbers{why}") from None
    return case, result


def _no_array(data: Any, shape: Any) -> str:
    """Why numbers from JSON are no array.

    Examples
    --------
    >>> _no_array([[1], [1, 2]], None), _no_array([1, "x"], None), _no_array([1, 2], [3])
    (': its lists have different lengths', ": it holds 'x'", ': 2 numbers are not of shape [3]')
    """
    leaves, level = [], [data]
    while level:
        leaves += [part for part in level if not isinstance(part, list)]
        level = [part for one in level if isinstance(one, list) for part in one]
    for leaf in leaves:
        try:
            float("nan" if leaf is None else leaf)
        except (TypeError, ValueError):
            return f": it holds {leaf!r}"[:60]
    return (
        ": its lists have different lengths" if shape is None else f": {len(leaves)} numbers are not of shape {shape}"
    )


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
    for number, row in enumerate(csv.reader(io.StringIO(_text(path, "utf-8-sig"), newline="")), 1):
        if row == ["name", "index", "value"] or not row:
            continue
        try:
            name, index, value = row
            at, parsed_value = int(index), _value(value)
        except ValueError:
            raise ValueError(f"{path}, line {number}: {','.join(row)!r}, expected name,index,value") from None
        if at in found.setdefault(name.strip(), {}):
            raise ValueError(f"{path}, line {number}: {name.strip()} has index {at} twice")
        found[name.strip()][at] = parsed_value
    for name, values in found.items():
        if missing := sorted(set(range(len(values))) - set(values)):
            if min(values) == 1:
                raise ValueError(f"{path}: the indices of {name} begin at 1, expected 0")
            whole = f"it has {len(values)} values, the largest index is {max(values)}"
            raise ValueError(f"{path}: {name} lacks index {missing[0]}: {whole}")
    return None, {name: np.array([values[k] for k in range(len(values))]) for name, values in found.items()}


def _value(text: str) -> float:
    """A number as any C library prints it.

    Examples
    --------
    >>> _value("-1.5e3"), _value("-nan(ind)"), _value("1.#INF"), _value(" inf")
    (-1500.0, nan, inf, inf)
    """
    text = text.strip().lower()
    if re.fullmatch(r"[-+]?(nan(\(.*\))?|1\.#(qnan|snan|ind)0*)", text):
        return math.nan
    return float(text.replace("1.#inf", "inf"))


def _read_bin(path: Path) -> tuple[str | None, dict[str, Array]]:
    index, binary = path.with_suffix(".txt"), path.with_suffix(".bin")
    for one, other in ((index, binary), (binary, index)):
        if not one.is_file():
            raise ValueError(f"{other} needs {one.name} beside it, which is not there (text with numbers is .csv)")
    case, data, found = None, binary.read_bytes(), {}
    for number, line in enumerate(_text(index, "utf-8").splitlines(), 1):
        if line.split(" ")[0] in ("case", "sizes", "lengths", "tensors"):  # which answers may leave out
            case = line.split()[1] if line.startswith("case ") and len(line.split()) > 1 else case
            continue
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
    return case, found
