# Everything lives in .venv; nothing else has to be installed than Python 3.11+, make and git.
# pip installs, not uv: it is pip that knows a private index when a machine has one.
PYTHON ?= python3
VENV := .venv
BENCH_VENV := .venv-bench
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test test-ray test-extras soak bench check constraints clean

demo: $(VENV)/installed
	@$(BIN)/python examples/image-classifier/demo.py

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m "not elsewhere" --numprocesses auto --dist worksteal $(PYTEST_ARGS)

# Whole operators with workers on other machines: stations on this one, then real Ray on several nodes of it, one test
# after the other, which needs root and `ip` (iproute2).
test-ray: $(VENV)/installed-ray
	$(BIN)/python -m pytest -m elsewhere --numprocesses auto --dist worksteal $(PYTEST_ARGS)
	$(BIN)/python -m pytest tests/ray $(PYTEST_ARGS)

# Gigabytes are installed for these: what they leave is kept only if they fail.
test-extras: $(VENV)/installed-dev
	$(BIN)/python -m pytest tests/extras --override-ini tmp_path_retention_policy=failed $(PYTEST_ARGS)

# Kills every kind of process at random, for SOAK_MINUTES (10), and says what was survived.
soak: $(VENV)/installed-dev
	$(BIN)/python tests/soak.py

# Beside what people would use instead, three quarters of an hour; make bench BENCH_ARGS="W1 W4 --peers pool" is less.
bench: $(BENCH_VENV)/installed
	$(BENCH_VENV)/bin/python -m benchmarks $(BENCH_ARGS)

check: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	@! grep -nE '://|^-|file:' constraints.txt || { echo "constraints.txt must hold names and versions only" >&2; exit 1; }

# Without pip's and uv's own settings: what this machine's indexes add is nobody else's.
constraints: $(VENV)/installed-dev
	$(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --upgrade --group dev --extra ray pyproject.toml \
		--python-version 3.11 --output-file constraints.txt

clean:
	rm -rf $(VENV) $(BENCH_VENV) .demo dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf examples/image-classifier/images examples/image-classifier/model.onnx
	rm -rf examples/iris-classifier/sklearn/model.joblib examples/iris-classifier/tensorflow/model
	find src tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed; name it: make PYTHON=python3.12")'
	@echo "making an environment for cortex in $(VENV) (about half a minute)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	@$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@$(PIP) install --upgrade 'pip>=25.1'  # the first that knows dependency groups
	@$(PIP) install --constraint constraints.txt --group dev
	@touch $@

$(VENV)/installed-ray: $(VENV)/installed-dev
	@echo "installing Ray in $(VENV) (300 MB)"
	@$(PIP) install --constraint constraints.txt --editable '.[ray]'
	@touch $@

$(BENCH_VENV)/installed: pyproject.toml constraints.txt benchmarks/requirements.txt
	@echo "making an environment for the benchmarks in $(BENCH_VENV) (a gigabyte, about a minute)"
	@$(PYTHON) -m venv $(BENCH_VENV)
	@$(BENCH_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt --editable .
	@$(BENCH_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --requirement benchmarks/requirements.txt
	@touch $@
