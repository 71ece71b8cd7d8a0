# Every target makes its own virtual environment first; `make .venv` only installs.
PYTHON ?= python3
BIN := .venv/bin
DEMO_OUT ?= demo
# One process of tests for each core, at most 8: a process takes about 1 GB.
PYTEST := -m pytest -n logical --maxprocesses 8 --dist worksteal

.PHONY: demo test test-oldest lint docs bench fuzz clean

# GLAS=FOLDER with images of GlaS: the same on biopsies made of them, a second page.
demo: .venv
	$(BIN)/wsi-deform demo --out $(DEMO_OUT)
	$(if $(GLAS),$(BIN)/python -m pipelines.glas.demo --images "$(GLAS)" --out $(DEMO_OUT)/glas)

test: .venv
	$(BIN)/python $(PYTEST)

# The lowest versions that pyproject.toml allows; they have wheels for Python 3.11.
test-oldest: .venv-oldest
	.venv-oldest/bin/python $(PYTEST)

lint: .venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The pages of docs/ as build/docs/index.html, which needs no network. A link that leads nowhere is an error.
docs: .venv-docs
	rm -rf build/docs build/doctrees
	.venv-docs/bin/python -m sphinx -q -n -W --keep-going -b html -c docs -d build/doctrees . build/docs

bench: .venv
	$(BIN)/python -m pipelines.benchmarks

# 3,000 damaged files of every kind; the same ones every time. Some minutes.
fuzz: .venv
	$(BIN)/python -m pipelines.fuzz

.venv: pyproject.toml requirements.lock
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'wsi-deform needs Python 3.11 or newer; set PYTHON=')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch .venv

.venv-oldest: pyproject.toml requirements-oldest.lock
	$(PYTHON) -c "import sys; sys.exit(sys.version_info[:2] != (3, 11) and 'The oldest versions need Python 3.11; set PYTHON=')"
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --requirement requirements-oldest.lock
	.venv-oldest/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch .venv-oldest

.venv-docs: docs/requirements.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --requirement docs/requirements.txt
	touch .venv-docs

clean:
	rm -rf .venv .venv-oldest .venv-docs build *.egg-info .mypy_cache .ruff_cache .pytest_cache

# Pin every version anew. CUDA packages stay out: on a machine with a GPU torch brings its own.
.PHONY: lock
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --upgrade "setuptools>=77.0.1" "torch==2.13.0"
	build/lock/bin/python -m pip install --quiet ".[dev]"
	{ echo "# Made by 'make lock'. Every version that the tests run with."; $(FROZEN); } > requirements.lock
	rm -rf build/lock

FROZEN = build/lock/bin/python -m pip freeze --all --exclude wsi-deform --exclude pip \
	| sed -E 's/^torch==([0-9.]+).*/torch==\1/' | grep -viE '^(nvidia-|cuda-|triton)'

# What pyproject.toml asks for, each at its lowest; tools of `make lint`, and ONNX, which needs a newer torch, stay out.
define LOWEST
import re, tomllib
file = tomllib.load(open("pyproject.toml", "rb"))
project = file["project"]
extras = project["optional-dependencies"]
wanted = {*file["build-system"]["requires"], *project["dependencies"], *extras["remote"], *extras["dev"]}
print(*(one.replace(">=", "==") for one in sorted(wanted) if not re.match("import-linter|mypy|ruff|types-", one)), sep="\n")
endef
export LOWEST

# What these packages need themselves is the newest, but where that warns of an old caller: matplotlib 3.9 uses names of
# pyparsing, zarr 3.0 of numcodecs and typer 0.20 of click that are deprecated since.
.PHONY: lock-oldest
lock-oldest:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	$(PYTHON) -c "$$LOWEST" > build/oldest.txt
	build/lock/bin/python -m pip install --quiet --requirement build/oldest.txt "click<8.5" "numcodecs<0.16.4" "pyparsing<3.3"
	{ echo "# Made by 'make lock-oldest'. The lowest versions that pyproject.toml allows."; $(FROZEN); } \
	  > requirements-oldest.lock
	rm -rf build/lock build/oldest.txt
