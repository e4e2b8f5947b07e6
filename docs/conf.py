"""The site. `make docs` builds it into build/site; neither to be built nor to be read does it need a network."""

import sys
from importlib.resources import files
from pathlib import Path

import numpy_rnn

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "numpy-rnn"
author = "the authors of numpy-rnn"
release = numpy_rnn.__version__
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
extensions += ["access", "formulas", "generated"]  # of docs/_ext
exclude_patterns = ["README.zh.md"]
smartquotes = False
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
toc_object_entries = False
numpydoc_show_class_members = False
autodoc_typehints = "none"  # the docstrings say it, with shapes
html_theme = "furo"
html_title = "numpy-rnn"
html_static_path = ["_static", str(files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf")]
html_favicon = "_static/icon.svg"
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
