"""What other suites of test vectors can see: the zoo's mistakes run on their problems.

    python tests/suites.py docs/port/vectors-suites.md

ONNX's node tests are taken from the installed package. Keras' problems are built anew from what its tests say of
themselves: all weights of a kind equal, inputs 0, 1, 2, …; see keras/src/layers/rnn/{lstm,gru,simple_rnn}_test.py. So
are WebNN's, see webnn/conformance_tests/{lstm,gru}.https.any.js of the web platform tests, and rten's, which draws torch's
random numbers from a seed, see pytorch-ref-tests/rnn.py. A mistake is seen if it moves what the suite compares by more than the suite's own tolerance.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from numpy_rnn.fast.registry import CELLS
from numpy_rnn.port.conventions import from_system
from numpy_rnn.port.vectors import cases
from numpy_rnn.port.vectors.check import TIERS
from numpy_rnn.port.vectors.document import case_of
from numpy_rnn.verify import zoo
from numpy_rnn.verify.zoo import Case


class Compared(NamedTuple):
    """A suite's problem, and which of the results it looks at."""

    case: Case
    results: tuple[str, ...] | None  # None: all
    tolerance: float


def made(name: str, cell: str, params: list[dict[str, Any]], x: Any, states: Any = None, lengths: Any = None) -> Case:
    """A case of one layer; upstream gradients are never compared."""
    kind = CELLS[cell]
    T, B, _ = x.shape
    H, D = params[0]["W_hh"].shape[1], len(params)
    zeros = [np.zeros((D, B, H)) for _ in kind.State._fields]
    s0 = tuple(zeros if states is None else [np.asarray(s, float) for s in states])
    layer = [kind.Params(**{f: np.asarray(a, float) for f, a in p.items()}) for p in params]
    return Case(name, cell, [layer], np.asarray(x, float), s0, np.zeros((T, B, D * H)), tuple(zeros), lengths)


def onnx_node_tests() -> Iterator[Compared]:
    """The recurrent operators' node tests of the onnx package."""
    np.random.seed(0)  # some of them draw numbers
    for op in ("rnn", "gru", "lstm"):
        module = importlib.import_module(f"onnx.backend.test.case.node.{op}")
        found: list[Any] = []
        module.expect = lambda node, inputs, outputs, name, found=found, **_: found.append((node, inputs, name))
        for cls in vars(module).values():
            if isinstance(cls, type) and cls.__module__ == module.__name__:
                for name in [n for n in vars(cls) if n.startswith("export")]:
                    getattr(cls, name)()
        for node, inputs, name in found:
            given = dict(zip([i for i in node.input if i], inputs))
            options = {a.name: a for a in node.attribute}
            cell = {"rnn": "rnn_tanh", "gru": "gru_reset_before", "lstm": "lstm"}[op]
            if "linear_before_reset" in options and options["linear_before_reset"].i:
                cell = "gru"
            cell = "lstm_peephole" if "P" in given else cell
            D, GH, _ = given["W"].shape
            B = given.get("B", np.zeros((D, 2 * GH)))
            params = []
            for d in range(D):
                keys = {"W": given["W"], "R": given["R"], "B": B, **({"P": given["P"]} if "P" in given else {})}
                params.append(from_system("onnx", cell, {k: v[d : d + 1] for k, v in keys.items()}))
            x = given["X"].swapaxes(0, 1) if "layout" in options and options["layout"].i else given["X"]
            if "direction" in options and options["direction"].s == b"reverse":
                x = x[::-1]
            results = {"Y": "output", "Y_h": "h_n", "Y_c": "c_n"}
            yield Compared(made(name, cell, params, x), tuple(results[o] for o in node.output if o), 1e-3)


def keras_tests() -> Iterator[Compared]:
    """Keras' own tests of LSTM, GRU and SimpleRNN, as far as they compare numbers."""
    for cell, gates in (("lstm", 4), ("gru", 3), ("gru_reset_before", 3), ("rnn_tanh", 1)):
        for name, (B, T, I, H), lengths in (
            ("correctness", (3, 6, 4, 3), None),
            ("initial state", (2, 4, 3, 2), None),
            ("masking", (2, 4, 3, 2), (3, 2)),
        ):
            x = np.arange(B * T * I).reshape(B, T, I).swapaxes(0, 1)
            bias = np.full((2, gates * H) if cell == "gru" else gates * H, 0.03)
            if cell == "lstm":
                bias[H : 2 * H] = 1  # Keras' unit_forget_bias
            theirs = {
                "kernel": np.full((I, gates * H), 0.01),
                "recurrent_kernel": np.full((H, gates * H), 0.02),
                "bias": bias,
            }
            params = [from_system("keras", cell, theirs)]
            states = None
            if name == "initial state":
                states = [np.arange(B * H).reshape(1, B, H)] * len(CELLS[cell].State._fields)
            results = ("output",) if name == "masking" else ("h_n",)
            yield Compared(made(f"keras {cell} {name}", cell, params, x, states, lengths), results, 1e-5)


def webnn_tests() -> Iterator[Compared]:
    """WebNN's conformance tests of lstm and gru: one step, every gate with the same weights, states zero.

    WebNN runs them with relu in place of σ and tanh; here they run with σ and tanh, which can see no less.
    """
    W = np.tile([[1, -1], [2, -2]], (4, 1))
    b = np.tile([1, 2], 4)
    p = {"W_ih": W, "W_hh": np.full((8, 2), 0.1), "b_ih": b, "b_hh": b}
    x = np.array([[[1, 2], [2, 1]]])
    yield Compared(made("webnn lstm", "lstm", [p], x), ("output", "h_n", "c_n"), 1e-6)
    peepholes = {**p, "P": np.zeros(6)}
    yield Compared(made("webnn lstm, peepholes", "lstm_peephole", [peepholes], x), ("output", "h_n", "c_n"), 1e-6)
    W = np.tile([[1, -1], [2, -2], [0.5, -0.5], [0, 0.1]], (3, 1))
    b = np.array([1, 1, 1, 1, 1, 2, 1, 2, 0.5, 0.5, 0.5, 0.5])  # r, z, n
    p = {"W_ih": W, "W_hh": np.full((12, 4), 0.1), "b_ih": b, "b_hh": b}
    yield Compared(made("webnn gru", "gru", [p], np.array([[[1, 2], [2, 1], [1, 1]]])), ("output", "h_n"), 1e-6)


def rten_tests() -> Iterator[Compared]:
    """rten's reference tests of LSTM and GRU: torch's random weights, one sequence, only the output is compared."""
    torch.manual_seed(1234)
    T, I, H = 7, 10, 5
    x = torch.rand(T, I).numpy()[:, None]
    h_0, c_0 = torch.rand(1, H).numpy()[None], torch.rand(1, H).numpy()[None]
    for op in ("LSTM", "GRU"):
        one, both = (getattr(torch.nn, op)(I, H, bidirectional=d == 2) for d in (1, 2))
        for name, layer, states in (
            ("forwards", one, None),
            ("bidirectional", both, None),
            ("initial", one, [h_0, c_0] if op == "LSTM" else [h_0]),
        ):
            weights = {n: p.detach().numpy() for n, p in layer.named_parameters()}
            fields = {"W_ih": "weight_ih", "W_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh"}
            suffixes = ["_l0", "_l0_reverse"][: 2 if layer.bidirectional else 1]
            params = [{f: weights[n + suffix] for f, n in fields.items()} for suffix in suffixes]
            yield Compared(made(f"rten {op} {name}", op.lower(), params, x, states), ("output",), 1e-4)


def ours() -> Iterator[Compared]:
    """The golden vectors, results alone, but for the optional ones."""
    for document in cases.all_cases():
        if document["cell"] in CELLS and not document["optional"]:
            yield Compared(case_of(document), None, 100 * TIERS["f32"])


def seen(problems: list[Compared]) -> set[str]:
    """Names of the mistakes that some problem shows."""
    found = set()
    with np.errstate(all="ignore"):
        for mistake in zoo.mistakes():
            for case, results, tolerance in problems:
                if case.cell not in mistake.cells:
                    continue
                right, wrong = zoo.machine(case.cell).run(case), zoo.machine(case.cell, mistake).run(case)
                names = [name for name in results or right if name in right]
                if any(np.shape(wrong[n]) != right[n].shape or moved(wrong[n], right[n]) > tolerance for n in names):
                    found.add(mistake.name)
                    break
    return found


def moved(wrong: Any, right: Any) -> float:
    """max|wrong - right| / max|right|; infinite for a NaN."""
    if right.size == 0:
        return 0.0
    error = np.max(np.abs(wrong - right)) / (np.max(np.abs(right)) or 1)
    return np.inf if np.isnan(error) else float(error)


HEAD = """# What other suites can see

Written by `python tests/suites.py`: the zoo's mistakes, run on other suites' own problems. A mistake is seen if it moves what the
suite compares by more than the suite allows. "Values" are mistakes that show in outputs or final states at all, on our cases;
"gradients" those that show in gradients alone. Mistakes of precision are left out.

"""


def page() -> str:
    """The page."""
    suites = {
        f"ONNX {importlib.metadata.version('onnx')}, node tests": list(onnx_node_tests()),
        "Keras 3, tests of LSTM, GRU, SimpleRNN": list(keras_tests()),
        "WebNN, conformance tests of lstm and gru": list(webnn_tests()),
        "rten, reference tests of LSTM and GRU": list(rten_tests()),
        "the golden vectors, results alone": list(ours()),
    }
    everything = {m.name for m in zoo.mistakes() if m.group != "precision"}
    values = seen([p._replace(results=("output", "h_n", "c_n")) for p in ours()])
    found = {name: seen(problems) & everything for name, problems in suites.items()}
    lines = ["| suite | problems | mistakes in values seen | mistakes in gradients seen |", "|---|--:|--:|--:|"]
    for name, names in found.items():
        forward = f"{len(names & values)} of {len(values)}"
        backward = f"{len(names - values)} of {len(everything - values)}"
        lines.append(f"| {name} | {len(suites[name])} | {forward} | {backward} |")
    lines += ["", "Not seen, of those that show in values:", ""]
    for name, names in list(found.items())[:-1]:
        lines += [f"* **{name}**: {', '.join(f'`{m}`' for m in sorted(values - names))}"]
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
