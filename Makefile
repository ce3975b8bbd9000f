# Two commands do everything: `make run` and `make test`. Both need Python 3.11 or newer and make; the tests also need
# Debian packages, which are installed where this runs as root and named where it does not.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
LOCK := $(PYTHON) -m venv $(VENV) && $(PIP) install --require-hashes -r
SELF := $(PIP) install --no-deps --no-build-isolation -e .

.PHONY: run run-mlflow test packages check bench drill peers docs lock clean

run: $(VENV)/run.done ## the demo, on embedded defaults
	$(BIN)/bridge demo

run-mlflow: $(VENV)/run.done $(VENV)-mlflow/done ## the demo with an MLflow server beside the container
	$(BIN)/bridge demo --mlflow

test: packages check ## everything that must hold: checks, then all tests with branch coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

packages: $(VENV)-mlflow/done ## the servers and the browser that the tests run, from Debian and PyPI
	sh tests/system_packages.sh

check: $(VENV)/dev.done ## style, types, layers, and docs that say what the code does
	$(BIN)/ruff format --check src tests examples benchmarks
	$(BIN)/ruff check src tests examples benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/house
	@! grep -nE 'https?://' requirements*.lock benchmarks/peers/*.lock

bench: $(VENV)/dev.done peers ## ratios, measured side by side in one run, into benchmarks/RESULTS.md
	$(BIN)/python benchmarks/run.py

drill: $(VENV)/dev.done ## the demo under random kill -9: [SECONDS=600] [SEED=…], every acknowledged sample once in the end
	$(BIN)/python benchmarks/drill.py --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

peers: $(VENV)/dev.done ## what `bench` compares bridge with, each in an environment of its own under .venv-peers
	$(BIN)/python benchmarks/peers/build.py

docs: $(VENV)/dev.done ## the generated pages under docs/
	$(BIN)/python -m tests.house.generated --write

# Needs uv; writes locks that name no index.
lock:
	uv pip compile --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
	  pyproject.toml --extra demo --extra lake --extra speed --group build -o requirements.lock
	uv pip compile --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
	  pyproject.toml --all-extras --group dev -o requirements-dev.lock
	echo 'mlflow>=3,<4' | uv pip compile --universal --generate-hashes --no-header --no-annotate \
	  --python-version 3.11 -o requirements-mlflow.lock -
	for peer in grafana_pandas fastapi_pandas; do uv pip compile -q --generate-hashes --no-header --no-annotate \
	  --python-version 3.11 benchmarks/peers/$$peer.in -o benchmarks/peers/$$peer.lock || exit 1; done

clean:
	rm -rf $(VENV) $(VENV)-mlflow $(VENV)-peers build dist .mypy_cache .ruff_cache .import_linter_cache .coverage .coverage.*

$(VENV)/run.done: requirements.lock pyproject.toml
	@echo "installing into $(VENV) (once, about a minute) …"
	@test -e $(VENV)/dev.done || { $(LOCK) requirements.lock && $(SELF); }
	@touch $@

$(VENV)/dev.done: requirements-dev.lock pyproject.toml
	@echo "installing into $(VENV) (once, a minute or two) …"
	$(LOCK) requirements-dev.lock && $(SELF)
	@touch $@

# MLflow's server pins what bridge does not, so it has a venv of its own: the tests and `run-mlflow` run it.
$(VENV)-mlflow/done: requirements-mlflow.lock
	@echo "installing into $(VENV)-mlflow (once, a minute or two) …"
	$(PYTHON) -m venv $(VENV)-mlflow
	$(VENV)-mlflow/bin/python -m pip --disable-pip-version-check -q install --require-hashes -r requirements-mlflow.lock
	@touch $@
