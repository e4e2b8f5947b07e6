"""Run by `make wheel-test` where the wheel is installed and NumPy is all that came with it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import pathlib
import subprocess
import sys

import numpy as np

import numpy_rnn

where = pathlib.Path(numpy_rnn.__file__).parent
assert "site-packages" in str(where), f"not the installed package: {where}"
assert (where / "py.typed").exists()
assert (where.parent / "torch_rnn" / "py.typed").exists()
assert all((where / "study" / f"page.{kind}").exists() for kind in ("html", "css", "js"))
assert numpy_rnn.__version__ == importlib.metadata.version("numpy-rnn")
assert not any(importlib.util.find_spec(name) for name in ("torch", "click", "rich", "safetensors"))

output, _, tape = (layer := numpy_rnn.LSTM(2, 3, rng=0)).forward(np.ones((4, 1, 2), np.float32))
grads, _, _ = layer.backward(tape, np.ones_like(output))
assert all(np.isfinite(g).all() for g in grads.values())

command = pathlib.Path(sys.executable).with_name("numpy-rnn")
done = subprocess.run([command, "check"], capture_output=True, text=True, check=False)
assert (done.returncode, done.stderr) == (1, "numpy-rnn: the command needs click: pip install 'numpy-rnn[cli]'\n"), done
print("the wheel works with NumPy alone")
