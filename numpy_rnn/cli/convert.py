"""`numpy-rnn convert` carries a layer's parameters from one system's layout to another's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import click

from ..fast.numerics import Array
from ..fast.registry import CELLS, TORCH_NAMES
from ..layers import files
from ..port.conventions import LAYOUTS, Arrays, ConventionError, fitting, from_system, to_system
from ..port.onnx_model import model
from .options import CellName

OTHERS = tuple(LAYOUTS)


@click.command(short_help="Convert weights between torch and other systems.")
@click.argument("source", metavar="IN", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--from", "source_system", type=click.Choice(OTHERS), required=True)
@click.option("--to", "target_system", type=click.Choice(OTHERS), required=True)
@click.option("--cell", type=CellName(), help="Needed only where the file does not tell it.")
@click.option("--hidden", type=click.IntRange(1), help="Units, where the file does not tell: cudnn.")
@click.option("--merge", is_flag=True, help="Add both biases up where the system has one.")
@click.option("--gradients", is_flag=True, help="What is converted are gradients.")
def convert(
    source: Path,
    target: Path,
    source_system: str,
    target_system: str,
    cell: str | None,
    hidden: int | None,
    merge: bool,
    gradients: bool,
) -> None:
    """Convert parameters, or their gradients, between torch and other systems.

    IN and OUT are safetensors. A file of torch is a state_dict (weight_ih_l0, ...). Others hold the system's own names;
    those of several layers or directions begin with l0/, l0_reverse/, l1/, and so on. With --to onnx and an OUT that
    ends in .onnx, it is a whole model, which ONNX Runtime runs.
    """
    if target.suffix == ".onnx" and (target_system != "onnx" or gradients):
        raise click.UsageError(f"{target} is to be a model: that takes --to onnx and parameters, not gradients.")
    given, _ = files.read(source)

    def converted(cell: str) -> Arrays | bytes:
        found: Arrays = {}
        for place, arrays in parts.items():
            params = from_system(source_system, cell, arrays, hidden, gradients=gradients)
            if target.suffix == ".onnx":
                found |= _placed(to_system("torch", cell, params), place, "torch", single=False)
            else:
                theirs = to_system(target_system, cell, params, gradients=gradients, merge=merge)
                found |= _placed(theirs, place, target_system, len(parts) == 1)
        return model(cell, found).SerializeToString() if target.suffix == ".onnx" else found

    try:
        parts = _parts(given, source_system)
        result = converted(cell) if cell else _whichever(parts, source_system, hidden, converted)
    except ConventionError as error:
        raise click.ClickException(f"{source}: {error}.") from None
    cells = f"{len(parts)} cell{'s' * (len(parts) > 1)}"
    if isinstance(result, bytes):
        files.write_bytes(target, result)
        click.echo(f"{target} is an ONNX model of {cells}")
    else:
        files.write(target, result)
        click.echo(f"{target} holds {len(result)} tensors of {cells}, as {target_system} has them")


def _whichever(
    parts: Mapping[str, Arrays], system: str, hidden: int | None, converted: Callable[[str], Arrays | bytes]
) -> Arrays | bytes:
    """What comes of a file whose cell is not said: of whichever cells it may be, if they all come to the same."""
    cells = [cell for cell in CELLS if all(cell in fitting(system, arrays, hidden) for arrays in parts.values())]
    if not cells:
        raise ConventionError(f"its {len(parts)} cells are of more than one kind")
    results = []
    for cell in cells:
        try:
            results.append(converted(cell))
        except ConventionError:
            if len(cells) == 1:
                raise
    if len(results) < len(cells) or any(not _equal(result, results[0]) for result in results):
        raise ConventionError(f"its parameters may be those of {' or '.join(cells)}: say which by --cell")
    return results[0]


def _equal(a: Arrays | bytes, b: Arrays | bytes) -> bool:
    if isinstance(a, bytes) or isinstance(b, bytes):
        return a == b
    return {name: v.tobytes() for name, v in a.items()} == {name: v.tobytes() for name, v in b.items()}


def _parts(given: Mapping[str, Array], system: str) -> dict[str, dict[str, Array]]:
    """A file's arrays by layer and direction: l0, l0_reverse, l1, ..."""
    found: dict[str, dict[str, Array]] = {}
    for name, value in given.items():
        if system == "torch":
            stem, _, place = name.partition("_l")
            if stem not in TORCH_NAMES.values():
                raise ConventionError(f"{name} is no parameter of a recurrent layer in torch")
            found.setdefault(f"l{place}" if place else "l0", {})[stem] = value
        else:
            place, slash, own = name.partition("/")
            found.setdefault(place if slash else "l0", {})[own if slash else name] = value
    if not found:
        raise ConventionError("there is no tensor")
    return found


def _placed(arrays: Mapping[str, Array], place: str, system: str, single: bool) -> dict[str, Array]:
    """The names that arrays of a layer and direction have in a file."""
    if system == "torch":
        return {f"{name}_{place}": value for name, value in arrays.items()}
    return {name if single else f"{place}/{name}": value for name, value in arrays.items()}
