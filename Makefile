# Sallyport. `make help` lists the commands.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STATE_DIR ?= $(CURDIR)/var
export STATE_DIR

.PHONY: help run test check bench demo clean

help:  ## What each command does
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

run: $(VENV)/.run  ## Set everything up, start it, print what to do next (PORT, EDGE_PORT, TUNNEL_PORT, STATE_DIR)
	@exec $(BIN)/python -m controlplane.stack

test: $(VENV)/.dev  ## Install what is missing and run the whole suite: SQLite, then PostgreSQL and Redis
	@tools/system-packages.sh test
	$(BIN)/python -m tools.run_tests

check: $(VENV)/.dev  ## Lint, types, import rules, migrations, docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	DJANGO_SETTINGS_MODULE=tests.settings $(BIN)/python manage.py makemigrations --check --dry-run
	DJANGO_SETTINGS_MODULE=tests.settings $(BIN)/python manage.py check --fail-level WARNING
	$(BIN)/python -m tools.check_docs

bench: $(VENV)/.dev  ## Benchmarks: certificates, tunnel and policy decisions, each against an anchor of the same run
	@tools/system-packages.sh bench
	$(BIN)/python -m bench.certificates
	$(BIN)/python -m bench.tunnel
	$(BIN)/python -m bench.evaluation

demo: $(VENV)/.dev  ## A scripted first SSH login with a real sshd, identity provider and ssh client
	@tools/system-packages.sh demo
	$(BIN)/python -m demo.first_login

clean:  ## Remove the virtual environment and caches (state in STATE_DIR stays)
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@tools/system-packages.sh venv
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV) (once; about half a minute) …"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
