# make ladder: set up, climb, print the table; the card of the data.  make guide: climb every method too.  make test: set up, run all tests.
PYTHON ?= python3.11
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: ladder guide setup test lint

ladder: setup
	@python -m ladder check
	dvc repro report card
	@python -m ladder table

guide: setup
	@python -m ladder check
	dvc repro
	@cat report/guide.md

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
