# make quickstart   install, run the main job on the embedded tiny model, show the result
# make test         install, lint, run every test

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
TORCH  := $(shell sed -n 's/^torch==//p' constraints.txt)

.PHONY: quickstart test lint install install-dev clean

quickstart: install
	$(BIN)/mathreason run jobs/quickstart.yaml

# Files are shared out over processes; a file stays in one, with what its tests have in common.
test: lint
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/installed

install-dev: $(VENV)/installed-dev

$(VENV)/torch: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mathreason needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	@if command -v nvidia-smi > /dev/null; then \
	  echo "GPU found: installing the CUDA build of torch"; \
	  $(PIP) install -q torch==$(TORCH); \
	elif $(PIP) install -q torch==$(TORCH)+cpu 2> /dev/null; then \
	  echo "no GPU found: installed the CPU build of torch"; \
	else \
	  echo "no GPU found, and pip's indexes have no CPU build of torch: installing the default build,"; \
	  echo "which is larger and runs on the CPU too"; \
	  $(PIP) install -q torch==$(TORCH); \
	fi
	@touch $@

$(VENV)/installed: $(VENV)/torch pyproject.toml
	$(PIP) install -q -c constraints.txt -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
