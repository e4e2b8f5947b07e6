"""A walk as one page that needs nothing but a browser: no network, no build step."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any


def page(document: Mapping[str, Any]) -> str:
    """The whole page.

    Parameters
    ----------
    document : mapping
        As `document.document` returns it.

    Returns
    -------
    str
        HTML with its style, its script and the numbers inside.
    """
    folder = files(__package__)
    text = {kind: folder.joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")}
    # "<" could end the script element from inside a string.
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {"cell": html.escape(document["cell"]), "style": text["css"], "script": text["js"], "data": data}
    before, *rest = text["html"].split("{{")
    return before + "".join(parts[name] + after for name, _, after in (part.partition("}}") for part in rest))
