# Every target makes its own virtual environment first; `make .venv` only installs.
PYTHON ?= python3
BIN := .venv/bin
DEMO_OUT ?= demo

.PHONY: demo test lint bench clean

demo: .venv
	$(BIN)/wsi-deform demo --out $(DEMO_OUT)

test: .venv
	$(BIN)/python -m pytest

lint: .venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv
	$(BIN)/python -m pipelines.benchmarks

.venv: pyproject.toml requirements.lock
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'wsi-deform needs Python 3.11 or newer; set PYTHON=')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch .venv

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache

# Pin every version anew. CUDA packages stay out: on a machine with a GPU torch brings its own.
.PHONY: lock
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --upgrade "setuptools>=77" "torch==2.13.0"
	build/lock/bin/python -m pip install --quiet ".[dev]"
	{ echo "# Made by 'make lock'. Every version that the tests run with."; \
	  build/lock/bin/python -m pip freeze --all --exclude wsi-deform --exclude pip \
	  | sed -E 's/^torch==([0-9.]+).*/torch==\1/' | grep -viE '^(nvidia-|cuda-|triton)'; } > requirements.lock
	rm -rf build/lock
