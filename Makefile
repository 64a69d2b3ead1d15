# Everything on a bare machine: Python 3.11 or newer, and make. The first run installs into .venv and downloads the stack.

PYTHON ?= python3
ADDRESSES ?= 5000
HOME_DIR ?= .verteiler
INSTALLED := .venv/.installed
VERTEILER := .venv/bin/verteiler

.DEFAULT_GOAL := help
.PHONY: help demo test check up down bench install

help: ## what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

demo: $(INSTALLED) ## from nothing to the end: load, edit, unsubscribe, compare (ADDRESSES=5000)
	$(VERTEILER) demo --home $(HOME_DIR) --addresses $(ADDRESSES)

test: $(INSTALLED) ## every test, on the real stack
	.venv/bin/python -m pytest

check: $(INSTALLED) ## style, types, and the direction of imports
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

up: $(INSTALLED) ## start the stack and leave it running
	$(VERTEILER) up --home $(HOME_DIR) --detach

down: $(INSTALLED) ## stop it
	$(VERTEILER) down --home $(HOME_DIR)

bench: $(INSTALLED) ## measure, and print the figures as JSON
	.venv/bin/python -m tests.bench

install: $(INSTALLED) ## only install

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name it with make PYTHON=/path/to/python3"; exit 2; }
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --disable-pip-version-check --quiet --progress-bar on --require-hashes -r requirements.lock
	.venv/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	touch $(INSTALLED)
