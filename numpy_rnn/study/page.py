"""A walk as one page that needs nothing but a browser: no network, no build step."""

from __future__ import annotations

import html
import json
import re
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
    template, style, script = (folder.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    # "<" could end the script element from inside a string.
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {"cell": html.escape(document["cell"]), "style": style, "script": script, "data": data}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)
