"""Files that installed packages carry, read without importing the packages (which would take seconds)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ...layers.files import MissingLibraryError


def package_file(package: str, *parts: str) -> Path:
    """Find a file of an installed package, or raise `MissingLibraryError`, which says what to install.

    Examples
    --------
    >>> package_file("numpy_rnn", "train", "tasks", "packages.py").name
    'packages.py'
    """
    install = "pip install 'numpy-rnn[tasks]'"
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise MissingLibraryError(f"this task's data come with the package {package}: {install}")
    for folder in spec.submodule_search_locations or ():
        path = Path(folder, *parts)
        if path.is_file():
            return path
    raise MissingLibraryError(f"the installed {package} lacks {'/'.join(parts)}, use a tested version: {install}")
