# make ladder: set up, climb, print the table.  make test: set up what is missing, run all tests.
PYTHON ?= python3.11
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: ladder setup test lint

ladder: setup
	@python -m ladder check
	dvc repro
	@python -m ladder table

setup: $(BIN)/.installed

$(BIN)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

test: setup
	ruff check . && ruff format --check . && mypy
	pytest

lint: setup
	ruff format . && ruff check --fix . && mypy
