# Parka. `make demo` and `make test` do all the set-up themselves; everything is written under .parka/.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
HOME_DIR := $(if $(PARKA_HOME),$(PARKA_HOME),.parka)
BIN := $(HOME_DIR)/venv/bin
BOOTSTRAP := platform/parka/embedded/bootstrap.py
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest
SIDE_BY_SIDE := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help setup setup-dev demo up test test-postgres test-slow test-torch check bench bench-trust bench-optimizer fmt lock openapi clean

help:             ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup:            ## make the environment to run Parka
	@$(PYTHON) $(BOOTSTRAP) run

setup-dev:        ## make the environment to work on Parka
	@$(PYTHON) $(BOOTSTRAP) dev

demo: setup       ## upload a real model, optimise it, show its scorecard; EXIT=1 stops after printing
	@$(BIN)/parka demo $(if $(EXIT),--exit)

up: setup         ## the platform on this machine, until Ctrl-C
	@$(BIN)/parka up

test: setup-dev   ## all tests: on SQLite, then those of the platform on PostgreSQL
	$(PYTEST) $(SIDE_BY_SIDE) -m "not slow and not torch"
	PARKA_TEST_DATABASE=postgres $(PYTEST) $(SIDE_BY_SIDE) -m "not slow and not browser and not torch" tests/platform tests/flows/test_main_flow.py

test-slow: setup-dev  ## the full simulations
	$(PYTEST) -m slow

test-torch:       ## what needs PyTorch; adds the torch extra (PARKA_TORCH_INDEX=URL names a further package index)
	@$(PYTHON) $(BOOTSTRAP) torch
	PARKA_REQUIRE_TORCH=1 $(PYTEST) -m "torch and not slow" tests/engine/torch

check: setup-dev  ## format, lint, types, layers, templates
	$(BIN)/ruff format --no-cache --check .
	$(BIN)/ruff check --no-cache .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/djlint --lint templates
	$(BIN)/python manage.py makemigrations --check --dry-run

bench: setup-dev  ## overhead of the harness, parity of the sandbox
	$(BIN)/python tests/benchmarks/bench_overhead.py
	$(BIN)/python tests/benchmarks/bench_sandbox_parity.py

bench-trust: setup-dev  ## A/A pairs: how often an interval wrongly excludes 1
	$(BIN)/python tests/benchmarks/bench_trust.py

bench-optimizer:  ## Parka beside other automatic tools on many models; hours (NAMES="S1 S2.rec" for some)
	@$(PYTHON) $(BOOTSTRAP) torch
	$(BIN)/python -m tests.benchmarks.optimizer_bench $(NAMES) --cache $(HOME_DIR)/bench

fmt: setup-dev    ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

UV_LOCK = $(BIN)/uv pip compile pyproject.toml requirements.in --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -q
EXTRAS = --extra web --extra agent --extra openvino --extra samples
lock: setup-dev   ## renew the locks
	$(UV_LOCK) $(EXTRAS) -o requirements.lock
	$(UV_LOCK) $(EXTRAS) --extra postgres --group dev -o requirements-dev.lock

openapi: setup-dev  ## renew openapi.yaml
	$(BIN)/python manage.py spectacular --file openapi.yaml --validate

clean:            ## remove everything Parka wrote here
	rm -rf $(HOME_DIR) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
