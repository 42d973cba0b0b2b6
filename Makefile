# make run: the main job on embedded data.  make test: every check.  make help: the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --constraint constraints.txt --editable
DEV := $(VENV)/.dev
# What a run needs is there as well where everything is.
RUN := $(if $(wildcard $(DEV)),$(DEV),$(VENV)/.run)
LOWEST ?= .venv-lowest
NEWEST ?= .venv-newest

.PHONY: help install install-dev run test lint test-lowest test-newest docs bench faults gpu clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) .
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) '.[dev]'
	@touch $@

install: $(RUN) ## set up .venv with what training and prediction need

install-dev: $(DEV) ## set up .venv with all extras and the tools of the checks

run: $(RUN) ## train and test on the embedded data (sets up .venv first)
	$(BIN)/python -m occ_lab.train

lint: $(DEV) ## linter, formatter check, type check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint ## every check: make lint, then all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-lowest: ## tests with the lowest supported dependencies, in .venv-lowest (PYTHON=python3.10)
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install packaging
	$(LOWEST)/bin/python -m pip install --no-deps --editable .
	$(LOWEST)/bin/python -m experiments.versions.lowest > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --constraint $(LOWEST)/constraints.txt --editable '.[dev]'
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m experiments.versions.study lowest

test-newest: ## the same tests with constraints.txt, for another Python (PYTHON=python3.13)
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --constraint constraints.txt --editable '.[dev]'
	OMP_NUM_THREADS=1 $(NEWEST)/bin/python -m experiments.versions.study newest

docs: $(DEV) ## the site, into site/, which opens from disk; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(DEV) ## time whole runs against one backbone pass, into experiments/benchmark/
	$(BIN)/python -m benchmarks

faults: $(DEV) ## kills, damaged files, races and power cuts, counted in experiments/faults/
	OMP_NUM_THREADS=1 $(BIN)/python -m experiments.faults.study --again

gpu: $(DEV) ## every check that needs a GPU, into experiments/gpu/ (nothing where there is none)
	$(BIN)/python -m experiments.gpu.study

clean: ## remove .venv and what tools left behind
	rm -rf $(VENV) $(LOWEST) $(NEWEST) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
