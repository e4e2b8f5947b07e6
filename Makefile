# Every target sets up what it needs in .venv and leaves nothing outside this folder.
PYTHON ?= python3
BIN := .venv/bin
LIGHT := .venv/.installed-light
STAMP := .venv/.installed
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_NO_CACHE_DIR = 1
# ONNX Runtime, which the tests use, keeps a database in the user's cache folder.
export XDG_CACHE_HOME := $(CURDIR)/build/cache

# The stamp is written only after a complete installation; one that failed says at which package, and the next make repeats
# it from the beginning, in a new environment, since pip does not notice files that an interrupted run left half-written.
define install
	@test -e .venv/.whole || { rm -rf .venv && $(PYTHON) -m venv .venv; }
	@rm -f .venv/.whole
	@mkdir -p build
	@echo "installing numpy-rnn[$(1)] into .venv; build/install.log has the details"
	@$(BIN)/python -m pip install --retries 8 --timeout 60 -c .constraints.txt -e '.[$(1)]' >build/install.log 2>&1 \
		&& $(BIN)/python -m pip check >>build/install.log 2>&1 || { \
		grep -E '^ *(Collecting|Downloading|Building|Installing|ERROR:)' build/install.log | tail -n 3; \
		echo "the installation failed at the package named last; build/install.log has the details, and make repeats it"; exit 1; }
	@touch .venv/.whole $@
endef
comma := ,

.PHONY: help demo test long fused gpu bench tasks accuracy picture mutation oldest interop lint wheel-test docs clean

help:  ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' Makefile | expand -t 16

demo: $(LIGHT)  ## a newcomer's first minute: a planted mistake is named, NumPy and PyTorch agree, a page, a model that writes
	@mkdir -p build
	@echo "1. A mistake is planted in the LSTM's backward pass, and named from the numbers alone."
	@$(BIN)/numpy-rnn zoo lstm-path-through-c-dropped
	@echo; echo "2. NumPy's hand-written gradients against PyTorch, cell by cell; the whole table: $(BIN)/numpy-rnn check"
	@$(BIN)/numpy-rnn check --brief
	@echo; echo "3. Every number of a small LSTM, forwards and backwards, as a page: open it in a browser."
	@$(BIN)/numpy-rnn trace --cell lstm --html build/trace.html --overwrite
	@echo; echo "4. A model learns a text by hand-written gradients, and writes."
	@$(BIN)/numpy-rnn train --steps 650 --lr 0.01 --schedule cosine --out build/demo.safetensors --overwrite
	@$(BIN)/numpy-rnn sample build/demo.safetensors --prompt "The " --length 300 --temperature 0.5

# One thread a process: two test processes with two BLAS threads each wait for one another.
test: $(STAMP) lint  ## lint, types and all quick tests; COVERAGE=1 counts the lines that they reach, which takes half as long again
	@mkdir -p build/coverage
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal --basetemp build/pytest $(if $(COVERAGE),--cov --cov-report term)

# Triton is 200 MB to download and 700 MB on the disk, which the other tests need not wait for.
fused:  ## the GPU kernels, through Triton's interpreter and its compiler, on the CPU (downloads Triton, 200 MB)
	$(PYTHON) -m venv build/fused
	build/fused/bin/python -m pip install --quiet -c .constraints.txt -e '.[gpu]' expecttest hypothesis pytest
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 build/fused/bin/python -m pytest -q --basetemp build/pytest tests/test_gpu_kernels.py tests/test_gpu.py

gpu: $(STAMP)  ## all that needs an NVIDIA GPU (and a PyTorch for CUDA): the check, the tests, the benchmarks against cuDNN
	$(BIN)/numpy-rnn check --device cuda
	$(BIN)/numpy-rnn check --device cuda --kernels
	$(BIN)/python -m pytest -q --basetemp build/pytest tests/test_on_gpu.py
	$(BIN)/python -m pytest -q --basetemp build/pytest -k "gpu or cuda" tests/test_gpu.py tests/test_processes.py tests/test_torch_dropins.py
	@mkdir -p build
	$(BIN)/numpy-rnn train --backend torch --device cuda --steps 20 --out build/gpu.safetensors --overwrite
	$(BIN)/python -m benchmarks --device cuda --json build/cuda.json

long: $(STAMP)  ## the tests that take half a minute or more each
	@mkdir -p build
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m long --basetemp build/pytest

bench: $(STAMP)  ## time everything (half an hour, on an idle machine) and write the site's page of benchmarks
	$(BIN)/python -m benchmarks --json benchmarks/results/cpu.json
	$(BIN)/python -m benchmarks report benchmarks/results/cpu.json benchmarks/results/cuda.json

# The command itself keeps small networks on one thread; the language model is worth two.
tasks: $(STAMP)  ## train every task with every cell and backend, 3 seeds (three quarters of an hour), and write the tables into docs/use/tasks.md
	$(BIN)/numpy-rnn task table --markdown docs/use/tasks.md

mutation: $(STAMP)  ## break textbook/ and the numerical core in thousands of places and count which breaks the tests notice
	@mkdir -p build
	HYPOTHESIS_PROFILE=mutation OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/mutmut run --max-children 2 >build/mutation.log 2>&1 || { tail -c 2000 build/mutation.log; exit 1; }
	$(BIN)/python tests/mutation.py

accuracy: $(STAMP)  ## measure the true rounding errors and write them into docs/verify/accuracy.md
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m numpy_rnn.verify.accuracy --markdown docs/verify/accuracy.md

picture: $(STAMP)  ## draw the README's picture of the page that numpy-rnn trace writes (needs Chromium)
	$(BIN)/python tests/trace_picture.py

# Anything from 3.10 to 3.12; newer ones have no wheels of the oldest torch.
OLDEST_PYTHON ?= python3
CORE_TESTS := $(addprefix tests/test_,$(addsuffix .py,cells deep modules truncated losses optim gradcheck scratch files \
	torch_scratch bad_input check network language train accuracy manual cli experiments gradflow gradflow_command \
	gpu ngrams processes properties tasks trace_command zoo))
oldest:  ## the core tests with the oldest NumPy and torch that setup.cfg allows (downloads some gigabytes)
	$(OLDEST_PYTHON) -m venv build/oldest
	build/oldest/bin/python -m pip install --quiet -c .constraints-oldest.txt -e '.[all]' pytest pytest-xdist hypothesis expecttest
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 build/oldest/bin/python -m pytest -q -n 2 --basetemp build/pytest $(CORE_TESTS)

# Keras, Flax, Equinox, Haiku, MLX, TensorFlow 1's cells and ONNX Runtime in an environment of their own; the tests use
# what they said. On Linux MLX's kernels come with its extra `cpu` only; TF1's cells are those that tf_keras carries on.
interop: $(STAMP)  ## ask other systems for known answers of their layers (downloads some gigabytes) and test against them
	$(PYTHON) -m venv build/interop
	build/interop/bin/python -m pip install --quiet -c .constraints-interop.txt keras flax equinox dm-haiku jax onnx onnxruntime torch 'mlx[cpu]' tensorflow tf_keras
	build/interop/bin/python tests/interop.py
	$(BIN)/python -m pytest -q --basetemp build/pytest tests/test_conventions.py

lint: $(STAMP)  ## ruff and mypy --strict
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(STAMP)  ## the site, into build/site: open build/site/index.html; then the tests of its pages in a browser
	$(BIN)/python docs/learn/pages.py
	$(BIN)/python tests/trace_picture.py
	$(BIN)/python -m sphinx -q -W --keep-going docs build/site
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m pages --basetemp build/pytest

wheel-test: $(STAMP)  ## build the wheel, install it with NumPy alone, use it
	@mkdir -p build && rm -rf build/lib build/wheel build/wheel-venv
	$(BIN)/python -m build --wheel --outdir build/wheel . >build/wheel.log 2>&1 || { cat build/wheel.log; exit 1; }
	$(PYTHON) -m venv build/wheel-venv
	build/wheel-venv/bin/python -m pip install --quiet -c .constraints.txt build/wheel/*.whl
	cd build && wheel-venv/bin/python ../.ci/wheel.py

clean:  ## remove what was built and installed here
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis mutants

# What the command needs: enough for the demo. Everything else comes with the first `make test`.
$(LIGHT): setup.cfg pyproject.toml .constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "numpy-rnn needs Python 3.10 or newer, this is " + sys.version.split()[0])'
	$(call install,torch$(comma)cli)

$(STAMP): $(LIGHT)
	$(call install,dev)
