# Every target sets up what it needs: only Python 3.11 to 3.13 and make must be there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# One more than there are processors: many tests wait for processes of their own.
JOBS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')
# Tests of one module stay together, for they share a server, until a process is idle.
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
FUZZ_SECONDS ?= 60

# The tests start hundreds of processes: each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo demo-pipeline test check fuzz nightly bench bench-peers soak clean

demo: $(VENV)/.base  ## train, freeze, connect and play an agent, and audit it
	$(BIN)/arena-core demo

demo-pipeline: $(VENV)/.training  ## train a classifier and a policy over it, and put it live
	$(BIN)/arena-core demo --pipeline

# Tracing takes as long as the tests themselves: what is quick runs all of the core.
test: $(VENV)/.dev  ## every test, and the coverage of the core
	$(PYTEST) -m "not slow and not end_to_end" --cov --cov-report=
	$(BIN)/coverage report --fail-under=100 --skip-covered --show-missing
	$(PYTEST) -m "slow or end_to_end"

check: $(VENV)/.dev  ## style, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

fuzz: $(VENV)/.fuzz  ## whatever bytes strangers send, for FUZZ_SECONDS; on Linux, x86-64
	mkdir -p .fuzz
	PYTHONPATH=tests $(BIN)/python tests/fuzz/fuzz_requests.py .fuzz \
		-max_total_time=$(FUZZ_SECONDS) -artifact_prefix=.fuzz/ -max_len=2000 -verbosity=0 \
		-print_final_stats=1

nightly: $(VENV)/.dev $(VENV)/.fuzz  ## what takes longer: the API and its parsers, 15 minutes each; agilerl
	ARENA_TEST_SCHEMATHESIS_S=900 $(BIN)/python -m pytest tests/end_to_end/test_schemathesis.py
	ARENA_TEST_AGILERL=1 $(BIN)/python -m pytest tests/end_to_end/test_agilerl_recipe.py
	$(MAKE) fuzz FUZZ_SECONDS=900
	$(MAKE) soak

bench: $(VENV)/.dev  ## the source of every figure in the documents
	$(BIN)/python bench/event_store.py
	$(BIN)/python bench/connect.py
	$(BIN)/python bench/data_plane.py
	$(BIN)/python bench/fidelity.py
	$(BIN)/python bench/control_plane.py
	$(BIN)/python bench/identity.py
	$(BIN)/python bench/open_inference.py
	$(BIN)/python bench/pipelines.py

bench-peers: $(VENV)/.dev  ## the data plane beside other servers; OPTIONS="--help"
	PYTHONPATH=bench $(BIN)/python -m peers.run $(OPTIONS)

soak: $(VENV)/.dev  ## 15 minutes of swaps, rollbacks and rotations under load; overload; guards
	$(BIN)/python bench/soak.py
	$(BIN)/python bench/overload.py
	$(BIN)/python bench/guards.py

clean:  ## remove everything that these targets have made
	rm -rf $(VENV) .environments .fuzz .hypothesis .mypy_cache .ruff_cache .pytest_cache \
		.import_linter_cache .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.base: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

$(VENV)/.training: $(VENV)/.base
	$(PIP) install --constraint constraints.txt --editable '.[latent-ppo]'
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	touch $@

$(VENV)/.fuzz: $(VENV)/.base
	$(PIP) install --constraint constraints.txt --editable '.[fuzz]'
	touch $@
