"""`python -m numpy_rnn`, the same as `numpy-rnn`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command, or say what it needs."""
    try:
        from .cli import main as run
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in {"click", "rich"}:
            raise
        sys.exit(f"numpy-rnn: the command needs {missing}: pip install 'numpy-rnn[cli]'")
    run()


if __name__ == "__main__":
    main()
