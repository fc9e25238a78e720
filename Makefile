# make export   installs into .venv and compiles the default model for Core ML
# make test     installs the tests' needs too, and runs linters, types and tests
# make mutate   plants faults in the compiler and counts those that the tests find; takes long
# make clean    removes what these made, and .venv

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: export test mutate clean

export: $(VENV)/installed
	$(BIN)/tm-export --target coreml

test: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadgroup

mutate: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/mutate.py --sample 300

# Stamps: once installed, nothing here needs a network until the pinned versions change.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	# PyTorch by itself first: it takes the CPU wheel that pip is configured to find, and the rest is content with it.
	$(BIN)/pip install -c constraints.txt torch
	$(BIN)/pip install -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) out .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info
