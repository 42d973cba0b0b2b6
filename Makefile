# make run: the main job on embedded data.  make test: every check.  make help: the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help install run test lint docs bench faults clean

help:
	@echo "make run      train and test on the embedded data (sets up $(VENV) first)"
	@echo "make test     linter, formatter check, type check, tests"
	@echo "make lint     the first three of them"
	@echo "make docs     the site, into site/, which opens from disk; a warning is an error"
	@echo "make bench    time whole runs against one backbone pass, into experiments/benchmark/"
	@echo "make faults   kills, damaged files, races and power cuts, counted in experiments/faults/"
	@echo "make clean    remove $(VENV) and what tools left behind"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(READY)

run: $(READY)
	$(BIN)/python -m occ_lab.train

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(READY)
	$(BIN)/python -m benchmarks

faults: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m experiments.faults.study --again

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
