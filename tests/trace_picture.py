"""Draw the README's picture of the page that `numpy-rnn trace --html` writes: `make picture`."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from browser import MISSING, chromium, executable
from click.testing import CliRunner
from PIL import Image

from numpy_rnn.cli import command

WIDTH, HEIGHT, TOP = 1240, 940, 180  # of the picture; the heading above it is left out
MOMENT = 13  # backward, step 2, equation (3')


def main(target: Path) -> None:
    """Write the picture to `target`."""
    if executable() is None:
        sys.exit(MISSING)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        file = Path(folder) / "page.html"
        done = CliRunner().invoke(command, ["trace", "--cell", "lstm", "--html", str(file)])
        if done.exit_code:
            sys.exit(done.output)
        page = browser.new_page(viewport={"width": WIDTH, "height": TOP + HEIGHT}, color_scheme="light")
        page.goto(file.as_uri())
        page.get_by_role("slider").fill(str(MOMENT))
        page.get_by_role("slider").blur()
        page.locator("#values button.value.new[aria-label^='df_2']").hover()
        clip = {"x": 0, "y": TOP, "width": WIDTH, "height": HEIGHT}
        picture = Image.open(io.BytesIO(page.screenshot(clip=clip)))
    picture.convert("RGB").quantize(256).save(target, optimize=True)
    print(f"{target} is {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
