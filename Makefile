# make ladder: set up, train the ladder, print a summary; data card.  make test: set up and run all tests.
# make test-fast: the tests that take seconds.  PYTHON=python3.12 names the Python of .venv.
export PYTHON
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

PIP := $(BIN)/pip --quiet
LOCKED := install --require-hashes --no-deps
# One package's lines of constraints.txt: its pin, and the hashes after it.
pin = sed -n '/^$(1)==/,/[^\\]$$/p' constraints.txt
CUDA_TORCH = $(BIN)/python -c 'import sys; from importlib.metadata import version; \
	sys.exit(sys.platform != "linux" or "+cpu" in version("torch"))'

.PHONY: ladder setup dev test test-fast lint lock licenses

ladder: setup
	@ladder check
	@ladder repro --jobs auto report card

setup: $(BIN)/.installed

dev: $(BIN)/.dev

# Every file is verified against the hashes in constraints.txt and locks/. The build backend comes first, so that source
# packages and the ladder are built with it instead of one that pip fetches unverified. torch is downloaded first and
# verified on its own: with hashes, pip prefers a file whose hash the index states over the one that the index ranks
# first (the CPU build). pip would compile every file on one core; compileall takes all cores. docs/supply-chain.md has
# more.
$(BIN)/.installed: pyproject.toml constraints.txt locks/cuda.txt
	@sh supply/venv.sh .venv
	$(call pin,setuptools) > .venv/setuptools.txt
	$(PIP) $(LOCKED) --requirement .venv/setuptools.txt
	$(call pin,torch) > .venv/torch.txt
	$(PIP) download --no-deps --only-binary :all: --dest .venv/torch "$$(sed 's/ .*//;q' .venv/torch.txt)"
	$(PIP) $(LOCKED) --no-compile --no-index --find-links .venv/torch --requirement .venv/torch.txt
	rm -r .venv/torch
	$(PIP) $(LOCKED) --no-compile --no-build-isolation --requirement constraints.txt
	! $(CUDA_TORCH) || $(PIP) $(LOCKED) --requirement locks/cuda.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	$(PIP) check
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib || true
	@touch $@

# What tests and linters need.
$(BIN)/.dev: $(BIN)/.installed locks/dev.txt
	$(PIP) $(LOCKED) --no-build-isolation --requirement locks/dev.txt
	$(PIP) check
	@touch $@

# make extra-pii: install an extra (gpu, cluster, docs, pii, s3, serve).
extra-%: setup locks/%.txt
	$(PIP) $(LOCKED) --no-build-isolation --requirement locks/$*.txt
	$(PIP) check

# make lock: resolve again, keeping versions where pyproject.toml allows it. make lock UPGRADE=--upgrade: the newest.
lock: .cache/tools/.installed
	python -m supply.lock --uv .cache/tools/bin/uv $(UPGRADE)

licenses: dev .cache/tools/.installed
	python -m supply.licenses --pip .cache/tools/bin/pip

.cache/tools/.installed: locks/tools.txt
	@sh supply/venv.sh .cache/tools
	.cache/tools/bin/pip --quiet $(LOCKED) --requirement $<
	@touch $@

# One process per core, at most four: each takes 1 to 2 GB.
PYTEST := pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: dev
	ruff check . && ruff format --check . && mypy
	$(PYTEST)

test-fast: dev
	$(PYTEST) -m 'not slow'

lint: dev
	ruff format . && ruff check --fix . && mypy
