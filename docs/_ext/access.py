"""Mends the finished pages for keyboards and screen readers where the theme and Sphinx leave something out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

MENDED = {
    # What can be scrolled can be reached by the keyboard.
    "<pre>": '<pre tabindex="0">',
    '<div class="table-wrapper': '<div tabindex="0" class="table-wrapper',
    '<p class="formula wide">': '<p class="formula wide" tabindex="0">',
    # The corner of a table is no heading of anything.
    '<th class="head"><p></p></th>': "<td></td>",
    **{f'<th class="head text-{side}"><p></p></th>': "<td></td>" for side in ("left", "center", "right")},
    # The two landmarks of one kind have a name each.
    '<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="All pages">',
    '<aside class="toc-drawer': '<aside aria-label="This page" class="toc-drawer',
    '<div id="search-results"></div>': '<h1>Search</h1>\n<div id="search-results"></div>',
}


def mend(app: Sphinx, exception: Exception | None) -> None:
    """Replace them in every page but those of `numpy-rnn trace`, which Sphinx has not made."""
    folder = Path(app.outdir)
    for path in folder.rglob("*.html") if exception is None else ():
        if path.relative_to(folder).parts[0] != "trace":
            text = old = path.read_text(encoding="utf-8")
            for found, better in MENDED.items():
                text = text.replace(found, better)
            if text != old:
                path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("build-finished", mend)
    return {"parallel_read_safe": True}
