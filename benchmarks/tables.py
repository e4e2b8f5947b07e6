"""Tables of what was measured, for the terminal and as Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from . import fit
from .points import GROUPS, Point
from .results import Measurement, Results, in_order, times_as_long
from .targets import NN_WAYS, TORCH_WAYS, Target, gpu_ratio, gpu_targets, targets

MODE_NAMES = {
    "forward": "forward",
    "training-forward": "forward for training",
    "forward-backward": "forward + backward",
}
ABSENT = "·"
COLUMN_GAP = 2  # between columns, as the terminal shows them
SUMMARY = ("numpy_rnn", "torch.nn", "ratio", "floor", "× floor", "calls", "µs/step", "error", "memory")
LEGEND = (
    "Time: median ± half the distance of the quartiles. Ratios are medians over turns, in each of which all "
    "contestants come right after one another. Ratio: torch.nn's time / numpy_rnn's; above 1 numpy_rnn is faster. "
    "Floor: the matrix products alone, by the same BLAS. × floor: numpy_rnn's time / floor. Calls: numpy_rnn "
    "with B = 1, I = H = 2, its calls of NumPy without their arithmetic. µs/step: numpy_rnn's time / T. Error: "
    "numpy_rnn's worst max|a - b| / max|b| of all values and gradients, against float64. Memory: peak beyond what "
    "was resident before, numpy_rnn / torch.nn; of torch_rnn and its loop over the CPU's grid, in float32 with two "
    "threads, the median of five processes that do nothing else. On the CPU, torch's float32 LSTM is oneDNN's."
)


class Table(NamedTuple):
    """What is printed; the first `labels` columns are text, the others figures."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    labels: int = 1
    footer: Sequence[str] = ()


# ---- figures as text


def duration(seconds: float) -> str:
    """Three digits and a unit.

    Examples
    --------
    >>> duration(1.2345e-5), duration(0.25), duration(12.34), duration(0.9996e-3)
    ('12.3 µs', '250 ms', '12.3 s', '1.00 ms')
    """
    for factor, unit in ((1e6, "µs"), (1e3, "ms"), (1.0, "s")):
        if seconds * factor < 999.5 or unit == "s":
            return f"{digits(seconds * factor)} {unit}"
    raise AssertionError  # the last unit fits all


def digits(value: float) -> str:
    """Three significant digits, never an exponent.

    Examples
    --------
    >>> digits(0.1234), digits(9.999), digits(1234.5)
    ('0.123', '10.0', '1234')
    """
    if not math.isfinite(value):
        return str(value)
    magnitude = math.floor(math.log10(abs(float(f"{value:.2e}")))) if value else 0
    return f"{value:.{max(0, 2 - magnitude)}f}"


def size(count: float | None) -> str:
    """Bytes with a unit.

    Examples
    --------
    >>> size(None), size(0), size(3_500_000)
    ('·', '< 0.1 MiB', '3.3 MiB')
    """
    if count is None:
        return ABSENT
    MiB = count / 2**20
    return "< 0.1 MiB" if MiB < 0.1 else f"{MiB:.1f} MiB" if MiB < 100 else f"{MiB / 1024:.2f} GiB"


def time_text(m: Measurement | None, spread: bool = False, error: bool = False) -> str:
    """A measurement's time, or why there is none; on request with its spread, with its error against float64."""
    if m is None:
        return ABSENT
    if m.status != "ok":
        return "WRONG" if m.status == "wrong" else "not run"
    text = duration(m.seconds) + (f" ±{100 * m.spread:.0f}%" if spread and len(m.samples) > 1 else "")
    return text + (f", {m.error:.0e}" if error and m.error is not None else "")


# ---- which tables there are


def all_tables(results: Results) -> Iterator[Table]:
    """Everything, the most important first."""
    threads, device = main_threads(results), results.environment["device"]
    if device == "cpu":
        yield from target_tables(results, threads)
        yield from summaries(results, threads)
        yield from torch_summaries(results, threads)
    else:
        yield from gpu_target_tables(results)
        yield from gpu_summaries(results)
    yield from extras(results, threads)
    yield from fits(results)
    yield from everyone(results)


def main_threads(results: Results) -> int:
    """The largest number of threads, which the main tables show."""
    return max((m.threads for m in results.measurements), default=1)


def main_points(results: Results) -> list[Point]:
    """Plain points that were measured, but for those that are there for a plot only."""
    grid = set(GROUPS["grid"])
    plots = {p for group in ("units", "sequences", "steps") for p in GROUPS[group]}
    measured = in_order(m.sizes for m in results.measurements)
    plain = [p for p in measured if p[4:] == (1, 1, False) and (p in grid or p not in plots)]
    order = list(GROUPS["grid"])
    return sorted(plain, key=lambda p: order.index(p) if p in order else len(order))


def target_tables(results: Results, threads: int) -> Iterator[Table]:
    """What numpy_rnn and torch_rnn are meant to reach."""
    rows = []
    for t in targets(results, threads):
        if t.value is not None:
            bound = ABSENT if t.limit is None else f"{t.limit:.2f}{t.unit}"
            result = target_text(t, t.value), "reached" if t.reached else "not reached"
            rows.append([t.text, bound_text(t), *result, bound])
    if rows:
        header = ["", "target", "measured", "", "at best"]
        footer = [
            "At best: what it would be if numpy_rnn took no more time than its products, with vectors as rows or, each "
            "copied once, as columns, whichever is quicker (results that lack the layout: without copies); every "
            "sum, product and activation of all steps at once; and its calls. torch_rnn likewise, as rows."
        ]
        yield Table(f"Targets, {_threads(threads)}", header, rows, footer=footer)


def beside_tables(results: Results, beside: Mapping[str, Results], threads: int) -> Iterator[Table]:
    """The targets that results have reached, and beside them those of other results, by the names of their files."""
    others = {name: {t.text: t for t in targets(other, main_threads(other))} for name, other in beside.items()}
    rows = []
    for target in targets(results, threads):
        found = [target, *(of_one.get(target.text) for of_one in others.values())]
        if any(t and t.value is not None for t in found):
            rows.append([target.text, bound_text(target), *map(_with_limit, found)])
    if rows and beside:
        names = ("these", *(f"{name}, {other.environment['date'][:10]}" for name, other in beside.items()))
        footer = ["In brackets: at best, as above. ✓ reached. Each with the code of its day."]
        yield Table("The targets on other processors", ["", "target", *names], rows, footer=footer)


def _with_limit(target: Target | None) -> str:
    if target is None or target.value is None:
        return ABSENT
    text = target_text(target, target.value) + (" ✓" if target.reached else "")
    return text if target.limit is None else f"{text} ({target.limit:.2f})"


def bound_text(target: Target) -> str:
    """What a figure is meant to be.

    Examples
    --------
    >>> bound_text(Target("peak memory", None, 0.5, at_least=False, unit="×"))
    '≤ 0.5×'
    """
    return f"{'≥' if target.at_least else '≤'} {target.bound:g}{target.unit}"


def target_text(target: Target, value: float) -> str:
    """A target's figure to two places, or to so many that it is seen on which side of the bound it is.

    Examples
    --------
    >>> target = Target("peak memory", None, 0.5, at_least=False, unit="×")
    >>> target_text(target, 0.4996), target_text(target, 0.5012)
    ('0.50×', '0.501×')
    """
    texts = (f"{value:.{places}f}" for places in range(2, 16))
    reached = target._replace(value=value).reached
    return next(t for t in texts if target._replace(value=float(t)).reached == reached) + target.unit


def gpu_target_tables(results: Results) -> Iterator[Table]:
    """What torch_rnn is meant to reach on a GPU."""
    rows = [
        [t.text, bound_text(t), target_text(t, t.value), "reached" if t.reached else "not reached"]
        for t in gpu_targets(results)
        if t.value is not None
    ]
    if rows:
        footer = [
            "torch.nn by the quicker of its ways: eager, or a whole call captured in a CUDA graph. torch_rnn by the "
            "quickest of three: these two, and CudaGraphs; by a plain call, as users make it: eager, or CudaGraphs. "
            "Nothing is said of a zone of which a point was not measured."
        ]
        yield Table("Targets, cuda", ["", "target", "measured", ""], rows, footer=footer)


def gpu_summaries(results: Results) -> Iterator[Table]:
    """torch_rnn in all its ways beside torch.nn in both of its, forward + backward: a table for each dtype."""
    ways = (*TORCH_WAYS, "torch_rnn-steps", "torch_rnn-steps-graph", *NN_WAYS)
    for dtype in in_order(m.dtype for m in results.measurements):
        rows = []
        used = [w for w in ways if results.find(dtype=dtype, device="cuda", contestant=w)]
        for cell in in_order(m.cell for m in results.measurements):
            for point in in_order(m.sizes for m in results.measurements if m.sizes[4:] == (1, 1, False)):
                where = dict(cell=cell, dtype=dtype, device="cuda", point=point.name, mode="forward-backward")
                measured = [_any(results, **where, contestant=way) for way in used]
                if any(measured):
                    ratio = gpu_ratio(results, cell, dtype, point)
                    times = [time_text(m, spread=True) for m in measured]
                    rows.append([cell, point.name, *times, f"{ratio:.2f}" if ratio else ABSENT])
        if rows:
            title = f"torch_rnn beside torch.nn, {dtype}, cuda, forward + backward"
            yield Table(title, ["", "point", *used, "nn / ours"], rows, labels=2)


def summaries(results: Results, threads: int) -> Iterator[Table]:
    """numpy_rnn beside torch.nn and the floor, forward + backward: a table for each cell and dtype."""
    header = [
        "T",
        "B",
        "I",
        "H",
        "numpy_rnn",
        "torch.nn",
        "ratio",
        "floor",
        "× floor",
        "calls",
        "µs/step",
        "error",
        "memory",
    ]
    for dtype in in_order(m.dtype for m in results.measurements):
        for cell in in_order(m.cell for m in results.measurements):
            rows, ratios = [], []
            at = results.part(cell=cell, dtype=dtype)
            for point in main_points(results):
                row, ratio = summary_row(at, cell, dtype, threads, point)
                if row:
                    rows.append(row)
                    ratios += [ratio] if ratio else []
            footer = []
            if ratios:
                mean, worst = statistics.geometric_mean(ratios), min(ratios)
                footer = [f"Ratio to torch.nn: geometric mean {mean:.2f}, worst {worst:.2f}"]
            if rows:
                title = f"{cell.upper()}, {dtype}, {_threads(threads)}, forward + backward"
                yield Table(title, header, rows, labels=0, footer=footer)


def torch_summaries(results: Results, threads: int) -> Iterator[Table]:
    """torch_rnn by hand beside its own loop and torch.nn, forward + backward: a table for each dtype."""
    header = ["", "point", "torch_rnn", "torch_rnn-loop", "torch.nn", "loop / ours", "nn / ours", "memory"]
    for dtype in in_order(m.dtype for m in results.measurements):
        rows = []
        for cell in in_order(m.cell for m in results.measurements):
            at = results.part(cell=cell, dtype=dtype, threads=threads, mode="forward-backward")
            for point in main_points(results):
                contestants = ("torch_rnn", "torch_rnn-loop", "torch.nn")
                measured = [_any(at, point=point.name, contestant=c) for c in contestants]
                if measured[0]:
                    ratios = [_quotient(other, measured[0]) for other in measured[1:]]
                    rows.append(
                        [cell, point.name, *(time_text(m, spread=True) for m in measured)]
                        + [f"{ratio:.2f}" if ratio else ABSENT for ratio in ratios]
                        + [" / ".join(size(m.memory) if m else ABSENT for m in measured)]
                    )
        if rows:
            title = f"torch_rnn by hand, {dtype}, {_threads(threads)}, forward + backward"
            yield Table(title, header, rows, labels=2)


def summary_row(results: Results, cell: str, dtype: str, threads: int, point: Point) -> tuple[list[str], float | None]:
    """One line of a summary, empty if nothing was measured, and the ratio to torch.nn if there is one."""
    where = dict(cell=cell, dtype=dtype, threads=threads, point=point.name, mode="forward-backward")
    names = ("numpy_rnn", "torch.nn", "floor", "calls")
    ours, theirs, floor, calls = (_any(results, **where, contestant=c) for c in names)
    if not (ours or theirs):
        return [], None
    ratio, distance = _quotient(theirs, ours), _quotient(ours, floor)
    memory = [size(m.memory) if m else ABSENT for m in (ours, theirs)]
    row = [*map(str, point[:4]), time_text(ours, spread=True), time_text(theirs, spread=True)]
    row += [f"{ratio:.2f}" if ratio else ABSENT, time_text(floor), f"{distance:.2f}" if distance else ABSENT]
    row += [time_text(calls)]
    row += [digits(ours.seconds / point.T * 1e6) if ours and ours.status == "ok" else ABSENT]
    row += [f"{ours.error:.1e}" if ours and ours.error is not None else ABSENT, " / ".join(memory)]
    return row, ratio


def extras(results: Results, threads: int) -> Iterator[Table]:
    """Layers, directions and ragged lengths, and what they cost beside the plain layer of the same sizes."""
    rows = []
    special = in_order((m.dtype, m.cell, m.sizes) for m in results.measurements if m.sizes[4:] != (1, 1, False))
    for dtype, cell, point in special:
        where = dict(cell=cell, dtype=dtype, threads=threads, mode="forward-backward")
        row, _ = summary_row(results, cell, dtype, threads, point)
        ours = results.find(**where, point=point.name, contestant="numpy_rnn")
        plain = results.find(**where, point=point.name, contestant="plain")
        if row:
            cost = _quotient(ours, plain)
            rows.append([f"{cell} {dtype}", point.name, *row[4:], f"{cost:.2f}" if cost else ABSENT])
    header = ["", "point", *SUMMARY]
    if rows:
        title = f"Layers (L), directions (D), ragged lengths, {_threads(threads)}, forward + backward"
        yield Table(title, [*header, "× plain"], rows, labels=2)


def fits(results: Results) -> Iterator[Table]:
    """Time = a + b·T."""
    rows = [
        [
            f"{line.cell} {line.dtype}",
            f"B = {line.B}, I = {line.I}, H = {line.H}",
            MODE_NAMES[line.mode],
            line.contestant,
            f"{line.threads}",
            f"{line.steps[0]:,} to {line.steps[-1]:,}",
            digits(line.fit.a * 1e6),
            digits(line.fit.b * 1e6),
            f"{100 * line.fit.deviation:.0f}%",
        ]
        for line in fit.lines(results)
    ]
    header = ["", "sizes", "mode", "contestant", "threads", "T", "a, µs", "b, µs/step", "off by at most"]
    if rows:
        yield Table("time = a + b·T", header, rows, labels=4)


def everyone(results: Results) -> Iterator[Table]:
    """Every contestant in every mode: time and error against float64."""
    contestants = in_order(m.contestant for m in results.measurements)
    found = {m.key: m for m in results.measurements}
    settings = in_order((m.mode, m.dtype, m.threads, m.device) for m in results.measurements)
    for mode, dtype, threads, device in settings:
        rows: list[list[str]] = []
        at = results.select(mode=mode, dtype=dtype, threads=threads, device=device)
        used = [c for c in contestants if any(m.contestant == c for m in at)]
        for cell, point in in_order((m.cell, m.point) for m in at):
            keys = [(cell, point, dtype, threads, device, c, mode) for c in used]
            rows.append([cell, point, *(time_text(found.get(key), error=True) for key in keys)])
        where = _threads(threads) if device == "cpu" else device
        yield Table(
            f"All contestants, {MODE_NAMES[mode]}, {dtype}, {where}: time, error", ["", "point", *used], rows, labels=2
        )


def contests(results: Results, threads: int) -> Iterator[Table]:
    """Every contestant at the main points: inference, and forward + backward."""
    wanted = {p.name for p in main_points(results)}
    for mode in ("forward", "forward-backward"):
        for dtype in in_order(m.dtype for m in results.measurements):
            at = [m for m in results.select(mode=mode, dtype=dtype, threads=threads) if m.point in wanted]
            yield from everyone(results._replace(measurements=at))


def errors(results: Results) -> Iterator[Table]:
    """Errors of every contestant: the worst of each cell and dtype, and where."""
    rows = []
    for dtype, cell in in_order((m.dtype, m.cell) for m in results.measurements):
        for c in in_order(m.contestant for m in results.select(dtype=dtype, cell=cell)):
            at = [m for m in results.select(dtype=dtype, cell=cell, contestant=c) if m.error is not None]
            if at:
                worst = max(at, key=lambda m: m.error or 0)
                rows.append([f"{cell} {dtype}", c, worst.point, worst.tensor or "", f"{worst.error:.1e}"])
    if rows:
        header = ["", "contestant", "worst at", "tensor", "error"]
        yield Table("Errors against float64, the worst of all points and modes", header, rows, labels=4)


def problems(results: Results) -> list[str]:
    """A sentence for all that is wrong or was not run."""
    words = {"wrong": "WRONG", "not run": "not run"}
    return [
        f"{words[m.status]}: {m.contestant}, {MODE_NAMES[m.mode]}, {m.setting.label}: {m.note}"
        for m in sorted(results.measurements, key=lambda m: m.status != "wrong")
        if m.status != "ok"
    ]


def _any(results: Results, **wanted: object) -> Measurement | None:
    return next(iter(results.select(**wanted)), None)


def _quotient(a: Measurement | None, b: Measurement | None) -> float | None:
    if a is None or b is None or a.status != "ok" or b.status != "ok":
        return None
    return times_as_long(a, b)


def _threads(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"


# ---- how they look


def show(table: Table, console: Console) -> None:
    """Print a table, in several parts if it is too wide; figures on the right, what is bad in red."""
    for part in parts(table, console.width):
        rich = RichTable(title=part.title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0), title_style="bold")
        for k, name in enumerate(part.header):
            rich.add_column(name, justify="left" if k < part.labels else "right", no_wrap=k >= part.labels)
        for row in part.rows:
            rich.add_row(*(Text(value, style="bold red" if value in ("WRONG", "not reached") else "") for value in row))
        console.print(rich)
    for line in table.footer:
        console.print(line, highlight=False)


def parts(table: Table, width: int) -> list[Table]:
    """Cut a table that is wider than the terminal into parts side by side, each with the labels.

    Examples
    --------
    >>> wide = Table("Times", ["cell", "numpy_rnn", "torch.nn"], [["rnn", "1 µs", "2 µs"]])
    >>> [part.header for part in parts(wide, width=80)]
    [['cell', 'numpy_rnn', 'torch.nn']]
    >>> [part.header for part in parts(wide, width=20)]
    [['cell', 'numpy_rnn'], ['cell', 'torch.nn']]
    """
    lines = [table.header, *table.rows]
    widths = [max(len(line[k]) for line in lines) + COLUMN_GAP for k in range(len(table.header))]
    labels = list(range(table.labels))
    widths[: table.labels] = [min(w, width // 3) for w in widths[: table.labels]]  # long ones run over several lines
    groups: list[list[int]] = [[]]
    for k in range(table.labels, len(widths)):
        if groups[-1] and COLUMN_GAP + sum(widths[j] for j in (*labels, *groups[-1], k)) > width:
            groups.append([])
        groups[-1].append(k)
    return [
        table._replace(
            title=table.title if group is groups[0] else f"{table.title} (continued)",
            header=[table.header[k] for k in (*labels, *group)],
            rows=[[row[k] for k in (*labels, *group)] for row in table.rows],
        )
        for group in groups
    ]


def markdown(table: Table) -> str:
    """Write a table as Markdown, its title in bold above it.

    Examples
    --------
    >>> print(markdown(Table("Times", ["cell", "time"], [["rnn", "1 µs"]])))
    **Times**
    <BLANKLINE>
    | cell | time |
    |---|--:|
    | rnn | 1 µs |
    """
    rule = "|".join("---" if k < table.labels else "--:" for k in range(len(table.header)))
    lines = [f"**{table.title}**", "", f"| {' | '.join(table.header)} |", f"|{rule}|"]
    lines += [f"| {' | '.join(row)} |" for row in table.rows]
    return "\n".join([*lines, *(f"\n{line}" for line in table.footer)])
