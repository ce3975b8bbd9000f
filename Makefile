# Two commands do everything: `make run` and `make test`. Both need Python 3.11 or newer and make; the tests also need
# Debian packages, which are installed where this runs as root and named where it does not.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
LOCK := $(PYTHON) -m venv $(VENV) && $(PIP) install --require-hashes -r
SELF := $(PIP) install --no-deps --no-build-isolation -e .

.PHONY: run test packages check bench docs lock clean

run: $(VENV)/run.done ## the demo, on embedded defaults
	$(BIN)/bridge demo

test: packages check ## everything that must hold: checks, then all tests with branch coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

packages: ## the servers and the browser that the tests run, from Debian
	sh tests/system_packages.sh

check: $(VENV)/dev.done ## style, types, layers, and docs that say what the code does
	$(BIN)/ruff format --check src tests examples benchmarks
	$(BIN)/ruff check src tests examples benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/house
	@! grep -nE 'https?://' requirements*.lock

bench: $(VENV)/dev.done ## ratios, measured side by side in one run, into benchmarks/RESULTS.md
	$(BIN)/python benchmarks/run.py

docs: $(VENV)/dev.done ## the generated pages under docs/
	$(BIN)/python -m tests.house.generated --write

# Needs uv; writes locks that name no index.
lock:
	uv pip compile --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
	  pyproject.toml --extra demo --extra speed --group build -o requirements.lock
	uv pip compile --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
	  pyproject.toml --all-extras --group dev -o requirements-dev.lock

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .import_linter_cache .coverage .coverage.*

$(VENV)/run.done: requirements.lock pyproject.toml
	@echo "installing into $(VENV) (once, about a minute) …"
	test -e $(VENV)/dev.done || { $(LOCK) requirements.lock && $(SELF); }
	@touch $@

$(VENV)/dev.done: requirements-dev.lock pyproject.toml
	@echo "installing into $(VENV) (once, a minute or two) …"
	$(LOCK) requirements-dev.lock && $(SELF)
	@touch $@
