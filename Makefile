# make demo      the main job, end to end          make proto   generated code from proto/
# make test      every check                            make clean   removes all that make made
# make test-all  with the slow tests too
# make fuzz      100,000 fuzzed frames             make docs    the site, in site

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Quiet, but with its progress where somebody watches.
PIP_INSTALL := if [ -t 1 ]; then quiet=; else quiet=--quiet; fi; \
	$(BIN)/python -m pip install --disable-pip-version-check $$quiet

.PHONY: demo test test-all fuzz check docs proto clean

demo: $(VENV)/.installed-demo
	$(BIN)/cactus demo

test: check
	$(BIN)/pytest

test-all: check $(VENV)/.installed-load
	$(BIN)/pytest -m ""

fuzz: $(VENV)/.installed-dev
	$(BIN)/pytest -s -m slow tests/integration/test_fuzzed_frames.py

check: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	$(BIN)/mkdocs build --strict

proto: $(VENV)/.installed-dev
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=. --pyi_out=. --grpc_python_out=. \
		cactus_core/wire/v1/speculation.proto

clean:
	rm -rf $(VENV) build site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Cactus needs Python 3.11 or newer, and $(PYTHON) is not: try  make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed-demo: pyproject.toml | $(VENV)/.made
	@echo "Installing Cactus into $(VENV): 2 to 5 minutes the first time, most of it PyTorch and Ray."
	@$(PIP_INSTALL) --editable '.[cluster]'
	@touch $@

$(VENV)/.installed-docs: pyproject.toml | $(VENV)/.made
	@echo "Installing what the documentation needs into $(VENV): some seconds."
	@$(PIP_INSTALL) --editable '.[docs]'
	@touch $@

$(VENV)/.installed-load: pyproject.toml $(VENV)/.installed-dev
	@$(PIP_INSTALL) --editable '.[load]'
	@touch $@

# `dev` holds all of `cluster` and `docs`, so that neither installs anything after the tests.
$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.made
	@echo "Installing what the tests need into $(VENV): a minute, or 2 to 5 the first time."
	@$(PIP_INSTALL) --editable '.[dev]'
	@touch $(VENV)/.installed-demo $(VENV)/.installed-docs $@
