# `make demo` and `make test` do all their set-up in a bare clone; they need Python >= 3.11 and nothing else.
# Another Python: make test PYTHON=python3.12     Arguments: make test ARGS="-k attfind -x"

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
APT := DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=0 -o Acquire::http::Timeout=10

.DELETE_ON_ERROR:
.PHONY: help setup demo test chromium check docs format

help:
	@echo "make demo    train, search, explain and report on drawn images (no GPU, no download)"
	@echo "make test    every test that needs no GPU; skipped ones are listed with their reason"
	@echo "make check   lint, format, types, floors"
	@echo "make docs    the documentation, into docs/_build/html"
	@echo "make format  let ruff mend what it can"

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("StylEx needs Python 3.11 or newer, $(PYTHON) is %d.%d: install one and name it, as in: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@echo "installing StylEx into $(VENV) (PyTorch is large: some minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/python -m stylex demo $(ARGS)

# the browser tests need Chromium; where it can be had neither here nor by apt they are skipped, and this says why
chromium:
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit; done; \
	if ! command -v apt-get >/dev/null; then why="there is no apt-get here to install it"; \
	elif [ "$$(id -u)" != 0 ]; then why="only root may install it, as in: sudo apt-get install chromium"; \
	elif echo "installing Chromium for the browser tests" && $(APT) update >/dev/null 2>&1; \
		$(APT) install -y --no-install-recommends chromium >/dev/null 2>&1; then exit; \
	else why="apt-get could not install it: no network, or no such package"; fi; \
	echo "no Chromium, so the browser tests are skipped: $$why"

test: $(INSTALLED) chromium
	@$(BIN)/python -m pytest -m "not gpu" -ra -n 2 --dist loadfile $(ARGS)

check: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@$(BIN)/lint-imports --no-logo

docs: $(INSTALLED)
	@$(BIN)/python -m sphinx -q -W --keep-going docs docs/_build/html
	@echo "docs/_build/html/index.html"

format: $(INSTALLED)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
