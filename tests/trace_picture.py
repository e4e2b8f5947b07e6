"""Draw the README's picture of the page that `numpy-rnn trace --html` writes: `make picture`."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

from browser import MISSING, chromium, executable

from numpy_rnn.cli.trace import SEED
from numpy_rnn.study.document import document, page
from numpy_rnn.study.verdict import BY_HAND, Verdict, verdict
from numpy_rnn.study.walk import small_case, walk

PICTURE = Path(__file__).parents[1] / "docs" / "plots" / "trace.png"
SIZE = (1100, 720)
MOMENT = 18  # backward, step 1, equation (3')
CASE = small_case("lstm", steps=3, inputs=3, hidden=2, projection=1, seed=SEED)


def fingerprint() -> str:
    """A digest of all that the picture shows: the page's sources, the equations, the code beside them, the numbers.

    Fonts and browsers differ from machine to machine, so pixels cannot be compared, nor can the last bits of numbers.
    """
    shown = _rounded(document(walk(CASE), Verdict({BY_HAND: {}}, ""), SEED))
    sources = [
        files("numpy_rnn.study").joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    ]
    return hashlib.sha256(json.dumps([SIZE, MOMENT, shown, sources]).encode()).hexdigest()


def _rounded(value: Any) -> Any:
    """The same with four decimals, which is what the page shows."""
    if isinstance(value, dict):
        return {key: _rounded(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(v) for v in value]
    return round(value, 4) + 0.0 if isinstance(value, float) else value  # no -0.0


def drawn() -> str:
    """The digest that stands in the picture; "" if it has none."""
    from PIL import Image

    with Image.open(PICTURE) as picture:
        return str(picture.text.get("page", ""))


def main() -> None:
    """Write the picture, unless it shows the page as it is."""
    from PIL import Image, PngImagePlugin

    if PICTURE.exists() and drawn() == fingerprint():
        print(f"{PICTURE.name} shows the page as it is")
        return
    if executable() is None:
        sys.exit(MISSING)
    found = walk(CASE)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        file = Path(folder) / "page.html"
        file.write_text(page(document(found, verdict(found), SEED)), encoding="utf-8")
        window = browser.new_page(viewport=dict(zip(("width", "height"), SIZE)), color_scheme="light")
        window.goto(f"{file.as_uri()}#moment={MOMENT}")
        picture = Image.open(io.BytesIO(window.screenshot()))
    info = PngImagePlugin.PngInfo()
    info.add_text("page", fingerprint())
    picture.convert("RGB").quantize(256).save(PICTURE, optimize=True, pnginfo=info)
    print(f"{PICTURE.name} is {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
