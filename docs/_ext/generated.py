"""Pages that the code writes: the API reference, the bug zoo, the golden vectors' matrix and the trace pages."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from numpy_rnn.cli.trace import SEED
from numpy_rnn.fast.registry import CELLS
from numpy_rnn.port.vectors import matrix
from numpy_rnn.study.document import document, page
from numpy_rnn.study.verdict import verdict
from numpy_rnn.study.walk import small_case, walk
from numpy_rnn.verify import zoo
from numpy_rnn.verify.zoo import report

# What each page of the reference documents: packages by what they export, or module by module (`.*`).
API = {
    "layers": ["numpy_rnn", "numpy_rnn.layers.*"],
    "textbook": ["numpy_rnn.textbook.*"],
    "verify": ["numpy_rnn.verify.*"],
    "port": ["numpy_rnn.port.*"],
    "study": ["numpy_rnn.study.*", "numpy_rnn.study.gradflow.jacobians"],
    "train": ["numpy_rnn.train.*"],
    "torch_rnn": ["torch_rnn"],
}
DEFINED_TWICE = {"numpy_rnn.layers.recurrent", "numpy_rnn.layers.scratch"}  # as numpy_rnn exports all of it


def modules(name: str) -> Iterator[str]:
    """A module itself, or with .* the public ones of a package."""
    package = name.removesuffix(".*")
    yield package
    if name != package:
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            if "._" not in module.name and module.name not in DEFINED_TWICE:
                yield module.name


def described(module: str) -> str:
    """A module's docstring and those of its members."""
    return f"```{{eval-rst}}\n.. automodule:: {module}\n   :members:\n```\n"


def reference(names: list[str]) -> Callable[[int], str]:
    """A page of the API reference."""

    def write(step: int) -> str:
        first, *others = (module for name in names for module in modules(name))
        return f"# {first}\n\n{described(first)}" + "".join(f"\n## {m}\n\n{described(m)}" for m in others)

    return write


# By document: a function that writes it, of every `step`-th mistake.
PAGES: dict[str, Callable[[int], str]] = {
    **{f"api/{name}": reference(names) for name, names in API.items()},
    "verify/bug-zoo": lambda step: report.markdown(report.kills(zoo.mistakes()[::step])),
    "port/vectors-matrix": lambda step: matrix.markdown(zoo.mistakes()[::step]),
}


def read(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put what the code writes in the place of the page that stands for it."""
    if docname in PAGES:
        source[0] = PAGES[docname](app.config.every_nth_mistake)


def traces(app: Sphinx, exception: Exception | None) -> None:
    """The page of `numpy-rnn trace --html` for every cell."""
    if exception is None:
        folder = Path(app.outdir) / "trace"
        folder.mkdir(exist_ok=True)
        for cell in CELLS:
            found = walk(small_case(cell, steps=3, inputs=3, hidden=2, projection=1, seed=SEED))
            (folder / f"{cell}.html").write_text(page(document(found, verdict(found), SEED)), encoding="utf-8")


def language(app: Sphinx, docname: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Say which pages are Chinese."""
    if "/zh/" in docname or docname.endswith(".zh"):
        context["language"] = "zh-CN"


def skip(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """Leave out what NumPy's named tuples say of their fields, which is their number."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_config_value("every_nth_mistake", 1, "env", [int])
    app.connect("source-read", read, priority=400)
    app.connect("build-finished", traces)
    app.connect("html-page-context", language)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True}
