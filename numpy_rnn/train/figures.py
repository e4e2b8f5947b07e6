"""What all figures share: one look, and how they are written. Needs Matplotlib, which the extra `plot` brings."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import Any

from ..layers.files import MissingLibraryError, write_bytes

SUFFIXES = (".png", ".svg")
RC = {
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "numpy_rnn",  # the same data give the same file
}
WIDTH, DPI = 9.0, 120  # inches and dots: about as wide as a README is shown
# Okabe and Ito's colours, which all can tell apart.
ORANGE, BLUE, GREEN, PINK, YELLOW = "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00"


def matplotlib() -> Any:
    """Import Matplotlib, or raise `MissingLibraryError`."""
    # It makes a folder in the user's home for its list of fonts unless told otherwise.
    os.environ.setdefault("MPLCONFIGDIR", str(Path(tempfile.gettempdir()) / "numpy_rnn-matplotlib"))
    try:
        import matplotlib
        import matplotlib.figure
    except ModuleNotFoundError:
        raise MissingLibraryError("a figure needs Matplotlib: pip install 'numpy-rnn[plot]'") from None
    return matplotlib


def write(figure: Any, path: Path) -> None:
    """Write a figure in the format that the name's suffix says, whole or not at all."""
    data = io.BytesIO()
    # Without the date and the version of Matplotlib.
    metadata = {"Software": None} if path.suffix == ".png" else {"Date": None, "Creator": None}
    with matplotlib().rc_context(RC):
        figure.savefig(data, format=path.suffix[1:], dpi=DPI, metadata=metadata)
    write_bytes(path, data.getvalue())
