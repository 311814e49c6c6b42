# Every target sets up what it needs: only Python 3.11 to 3.13 and make must be there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
JOBS ?= auto

.PHONY: demo test check bench clean

demo: $(VENV)/.base  ## train, freeze, connect and play an agent, and audit it
	$(BIN)/arena-core demo

test: $(VENV)/.dev  ## every test, and the coverage of the core
	$(BIN)/python -m pytest -n $(JOBS) --cov --cov-report=
	$(BIN)/coverage report --include='*/arena_core/domain/*,*/arena_core/application/*' \
		--fail-under=100 --skip-covered --show-missing

check: $(VENV)/.dev  ## style, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/.dev  ## the source of every figure in the documents
	$(BIN)/python bench/event_store.py
	$(BIN)/python bench/connect.py
	$(BIN)/python bench/data_plane.py

clean:  ## remove everything that these targets have made
	rm -rf $(VENV) .environments .hypothesis .mypy_cache .ruff_cache .pytest_cache \
		.import_linter_cache .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.base: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	touch $@
