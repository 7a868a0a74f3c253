# The commands that developers and CI share. PYTHON makes the environment; everything else runs inside it.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest

.PHONY: demo test test-slow test-runtime test-pi test-pi-slow check check-cost renew-cost format bench bench-proof clean

demo: $(STAMP)
	$(BIN)/pennyweight demo --force -o build/digits

test: $(STAMP)
	$(PYTEST) -m "not slow and not pi"

test-slow: $(STAMP)
	$(PYTEST) -m "slow and not pi"

# The runtime's tests from the built wheel, on every Python from 3.9 to 3.13 that is on this machine.
test-runtime: $(STAMP)
	$(BIN)/python tests/run_matrix.py

# The runtime on Raspberry-Pi-class targets, emulated; builds them first where the cache doesn't have them.
test-pi: $(STAMP)
	$(PYTEST) -m "pi and not slow" --capture=sys tests/pi

# What takes long on the targets: docs/raspberry-pi.md word for word, machines of 512 MB, and those of the runtime's tests
# that start a Python of their own.
test-pi-slow: $(STAMP)
	$(PYTEST) -m "pi and slow" --capture=sys tests/pi

bench: $(STAMP)
	$(BIN)/python -m pennyweight_benchmarks.runtime_cost -o build/bench/runtime_cost.json

# That the measuring measures right: A/A comparisons, independent tools, the time that parity takes.
bench-proof: $(STAMP)
	$(BIN)/python -m pennyweight_benchmarks.proofs
	$(BIN)/python -m pennyweight_benchmarks.export_memory

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Instructions on emulated Raspberry Pis against the kept figures; `make test-pi` tests the gate itself. Needs a C compiler.
check-cost: $(STAMP)
	$(BIN)/python tests/check_cost.py

renew-cost: $(STAMP)
	$(BIN)/python tests/check_cost.py --renew

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist

# Both distributions in one command: the workstation needs the runtime, and neither is on an index.
$(STAMP): pyproject.toml runtime/pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e "./runtime[engines,images]" -e ".[dev,legacy]"
	touch $(STAMP)
