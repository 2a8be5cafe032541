# make ladder: set up, train the ladder, print the table; data card.  make test: set up and run all tests.
# make test-fast: set up and run the tests that take seconds.
PYTHON ?= python3.11
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

PIP := $(BIN)/pip --quiet
LOCKED := install --require-hashes --no-deps
# One package's lines of constraints.txt: its pin, and the hashes after it.
pin = sed -n '/^$(1)==/,/[^\\]$$/p' constraints.txt
CUDA_TORCH = $(BIN)/python -c 'import sys; from importlib.metadata import version; \
	sys.exit(sys.platform != "linux" or "+cpu" in version("torch"))'

.PHONY: ladder setup test test-fast lint lock licenses

ladder: setup
	@ladder check
	@ladder repro report card
	@ladder table

setup: $(BIN)/.installed

# Every file is verified against the hashes in constraints.txt and locks/. The build backend comes first, so that source
# packages and the ladder are built with it instead of one that pip fetches unverified. torch is downloaded first and
# verified on its own: with hashes, pip prefers a file whose hash the index states over the one that the index ranks
# first (the CPU build). docs/supply-chain.md has more.
$(BIN)/.installed: pyproject.toml constraints.txt locks/cuda.txt
	$(PYTHON) -m venv .venv
	$(call pin,setuptools) > .venv/setuptools.txt
	$(PIP) $(LOCKED) --requirement .venv/setuptools.txt
	$(call pin,torch) > .venv/torch.txt
	$(PIP) download --no-deps --only-binary :all: --dest .venv/torch "$$(sed 's/ .*//;q' .venv/torch.txt)"
	$(PIP) $(LOCKED) --no-index --find-links .venv/torch --requirement .venv/torch.txt
	rm -r .venv/torch
	$(PIP) $(LOCKED) --no-build-isolation --requirement constraints.txt
	! $(CUDA_TORCH) || $(PIP) $(LOCKED) --requirement locks/cuda.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	$(PIP) check
	@touch $@

# make extra-pii: install an extra (gpu, cluster, docs, pii, s3).
extra-%: setup locks/%.txt
	$(PIP) $(LOCKED) --no-build-isolation --requirement locks/$*.txt
	$(PIP) check

# make lock: resolve again, keeping versions where pyproject.toml allows it. make lock UPGRADE=--upgrade: the newest.
lock: .cache/tools/.installed
	python -m supply.lock --uv .cache/tools/bin/uv $(UPGRADE)

licenses: setup .cache/tools/.installed
	python -m supply.licenses --pip .cache/tools/bin/pip

.cache/tools/.installed: locks/tools.txt
	$(PYTHON) -m venv .cache/tools
	.cache/tools/bin/pip --quiet $(LOCKED) --requirement $<
	@touch $@

# One process per core, at most four: each takes 1 to 2 GB.
PYTEST := pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: setup
	ruff check . && ruff format --check . && mypy
	$(PYTEST)

test-fast: setup
	$(PYTEST) -m 'not slow'

lint: setup
	ruff format . && ruff check --fix . && mypy
