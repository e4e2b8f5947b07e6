"""`numpy-rnn check` holds every number of numpy_rnn against PyTorch."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from ..fast.registry import CELLS, FAMILIES
from ..layers.files import MissingLibraryError
from ..verify.compare import CUDNN_FLOAT32, DTYPES, Finding, findings, training_findings
from ..verify.difference import TOLERANCES
from .options import CellName

# How a parameter's gradient is called in the table: by the mathematics' name, whatever layer and direction.
ROWS = {
    **{name: name for name in ("output", "h_n", "c_n", "dx", "dh_0", "dc_0")},
    r"d(weight_ih_.*|i2h\.weight)": "dW_ih",
    r"d(weight_hh_.*|h2h\.weight)": "dW_hh",
    r"d(bias_ih_.*|i2h\.bias)": "db_ih",
    r"d(bias_hh_.*|h2h\.bias)": "db_hh",
    r"dweight_hr_.*": "dW_hr",
    r"dweight_peephole_.*": "dP",
    r"dh2o\.weight": "dW_ho",
    r"dh2o\.bias": "db_o",
}
LABEL_WIDTH, FIGURE_WIDTH = len("float64"), len("2.2e-16") + 2


@click.command(short_help="Compare all outputs and gradients with PyTorch's.")
@click.option(
    "--cell",
    "names",
    multiple=True,
    type=CellName([*FAMILIES, *(name for name in CELLS if name not in FAMILIES)]),
    help="A cell, or a family of cells (rnn, lstm, gru); may be given several times. [default: all]",
)
@click.option("--dtype", "dtypes", multiple=True, type=click.Choice(DTYPES), help="[default: both]")
@click.option("--device", default="cpu", show_default=True, help="Where PyTorch computes: cpu or cuda.")
@click.option("--kernels", is_flag=True, help="Let torch_rnn run its kernels for NVIDIA GPUs.")
@click.option("--brief", is_flag=True, help="One line a cell instead of the tables.")
@click.option("--json", "as_json", is_flag=True, help="Print every single comparison as JSON.")
def check(
    names: tuple[str, ...], dtypes: tuple[str, ...], device: str, kernels: bool, brief: bool, as_json: bool
) -> None:
    """Compare every output and every gradient of numpy_rnn with PyTorch.

    The same parameters, inputs and upstream gradients go through numpy_rnn (gradients written by hand), torch_rnn
    (autograd through an explicit loop, and by hand) and torch.nn: one layer and stacked ones, both directions,
    sequences of different lengths, with and without bias, initial states and dropout, truncated, from snapshots,
    gradients at every state, and real text; then losses and optimizers. An error is the largest difference in a
    tensor relative to the tensor's largest entry. Exit status 0 means that all agree.
    """
    _prepare(device, kernels)
    cells = [c for c in CELLS if not names or c in names or any(n in FAMILIES and c.startswith(n) for n in names)]
    pairs = [(cell, dtype) for dtype in dtypes or DTYPES for cell in cells]
    found: list[Finding] = []
    errors = Console(stderr=True)
    bar = Progress(console=errors, transient=True, disable=not errors.is_terminal)
    with bar as progress:
        for cell, dtype in progress.track(pairs, description="comparing"):
            found.extend(findings(cell, dtype, device))
    training = [f for dtype in dtypes or DTYPES for f in training_findings(dtype)] if not names else []
    bad = [f for f in (*found, *training) if not f.ok]
    if as_json:
        click.echo(json.dumps(_document([*found, *training], device), indent=1))
    elif brief:
        _print_brief(found, cells)
    else:
        _print(found, cells, device)
    if not as_json:
        _print_brief(training, list(dict.fromkeys(f.cell for f in training)))
    for finding in bad[:10]:
        click.echo(f"numpy-rnn: {_sentence(finding)}", err=True)
    if len(bad) > 10:
        click.echo(f"numpy-rnn: and {len(bad) - 10} more", err=True)
    sys.exit(1 if bad else 0)


def _prepare(device: str, kernels: bool) -> None:
    try:
        import torch
    except ModuleNotFoundError:
        raise MissingLibraryError("comparing needs PyTorch: pip install 'numpy-rnn[torch]'") from None
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise click.UsageError(f"PyTorch cannot use device {device!r}: {str(error).splitlines()[0]}") from None
    if kernels:
        from torch_rnn import gpu

        try:
            gpu.enable()
        except RuntimeError as error:
            raise click.UsageError(str(error)) from None
    torch.set_num_threads(1)  # the cases are small: a second thread would cost more than it brings


def _row(tensor: str) -> str:
    return next(row for pattern, row in ROWS.items() if re.fullmatch(pattern, tensor))


def _worst(found: Sequence[Finding]) -> Finding:
    """The finding that is furthest beyond its tolerance."""
    return max(found, key=lambda f: f.error / f.tolerance)


def _print(found: Sequence[Finding], cells: Sequence[str], device: str) -> None:
    import torch

    console = Console()
    console.print("Worst error of each tensor, relative to its largest entry:", highlight=False)
    for fitting in _side_by_side(cells, console.width):
        console.print(_table(found, fitting))
    worst = _worst(found)
    n_bad = sum(not f.ok for f in found)
    cases = len({(f.cell, f.dtype, f.case) for f in found})
    console.print(
        f"{len(found)} comparisons in {cases} cases; numpy_rnn, torch_rnn, torch.nn {torch.__version__} on {device}: "
        + ("all agree." if not n_bad else f"{n_bad} beyond tolerance."),
        highlight=False,
    )
    console.print(f"Nearest to its tolerance: {_sentence(worst)}", highlight=False)
    if any(f.tolerance == CUDNN_FLOAT32 for f in found):
        console.print(
            f"torch.nn in float32 on {device} is cuDNN's, whose tanh and sigmoid are good to 1.1e-05 only in small "
            f"layers: {CUDNN_FLOAT32:.0e} holds for it, {TOLERANCES['float32']:.0e} among the others.",
            highlight=False,
        )


def _print_brief(found: Sequence[Finding], cells: Sequence[str]) -> None:
    """One line a cell: how many values and gradients were compared, and the worst error in each dtype."""
    for cell in cells:
        own = [f for f in found if f.cell == cell]
        worst = [_worst([f for f in own if f.dtype == dtype]) for dtype in dict.fromkeys(f.dtype for f in own)]
        errors = ", ".join(f"{f.dtype} {f.error:.0e} (at most {f.tolerance:.0e})" for f in worst)
        verdict = "agree" if all(f.ok for f in own) else "DIFFER"
        click.echo(f"{cell:16} {len(own):5} comparisons {verdict}: {errors}")


def _width(cell: str) -> int:
    return max(FIGURE_WIDTH, *map(len, cell.split("_")))


def _side_by_side(cells: Sequence[str], width: int) -> list[list[str]]:
    """The cells in groups whose tables fit the terminal; each column has one of space before it."""
    groups: list[list[str]] = [[]]
    for cell in cells:
        needed = LABEL_WIDTH + 2 + sum(_width(c) + 1 for c in [*groups[-1], cell])
        if needed > width and groups[-1]:
            groups.append([])
        groups[-1].append(cell)
    return groups


def _table(found: Sequence[Finding], cells: Sequence[str]) -> Table:
    """Tensors down, cells across, the tolerance above each block."""
    table = Table(box=SIMPLE, padding=0)
    table.add_column("", min_width=LABEL_WIDTH, no_wrap=True)
    for cell in cells:
        name = cell.replace("_", "\n")
        table.add_column(name, justify="right", vertical="bottom", min_width=_width(cell), no_wrap=True)
    for dtype in dict.fromkeys(f.dtype for f in found):
        # On a GPU the pairs with cuDNN have a tolerance of their own, which is the larger.
        most = [max(f.tolerance for f in found if f.dtype == dtype and f.cell == cell) for cell in cells]
        table.add_row(Text(dtype, style="bold"), *(Text(f"≤{tolerance:.0e}", style="dim") for tolerance in most))
        for row in dict.fromkeys(ROWS.values()):
            in_row = [f for f in found if f.dtype == dtype and f.cell in cells and _row(f.tensor) == row]
            if in_row:
                table.add_row(row, *(_cell_text([f for f in in_row if f.cell == cell]) for cell in cells))
        table.add_section()
    return table


def _cell_text(found: Sequence[Finding]) -> Text:
    if not found:
        return Text("·", style="dim")
    worst = _worst(found)
    return Text(f"{worst.error:.1e}", style="green" if worst.ok else "bold red")


def _sentence(f: Finding) -> str:
    relation = "within" if f.ok else "beyond"
    return (
        f"{f.cell}, {f.dtype}, {f.case}: {f.tensor} of {f.left} and {f.right} differ by {f.error:.1e}, "
        f"{relation} {f.tolerance:.0e}; worst at {list(f.where)}: {f.a:.9g} and {f.b:.9g}"
    )


def _document(found: Sequence[Finding], device: str) -> dict[str, object]:
    import torch

    return {
        "ok": all(f.ok for f in found),
        "device": device,
        "torch": torch.__version__,
        "comparisons": [
            {
                **f._asdict(),
                # JSON has no NaN and no infinity.
                **{k: v if abs(v) < float("inf") else str(v) for k, v in (("error", f.error), ("a", f.a), ("b", f.b))},
                "tolerance": f.tolerance,
                "ok": f.ok,
            }
            for f in found
        ],
    }
