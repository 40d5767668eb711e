# Lastunit's commands. They need Python 3.11+, make and a package registry; nothing else.
#   make run     set up, then `lastunit up $(ARGS)`
#   make test    set up, then lint, types, the import rule and all tests; stops at the first that fails
#   make setup   the set-up alone; quick when there is nothing to do
#   make simulate SEEDS=1000   the deterministic simulation, with what it met (FIRST=…: another thousand)
#   make chaos MINUTES=30   the real thing under real faults, every buyer's history checked (SEED=…: another order)
#   make lock    resolve requirements/*.in again (needs uv); ARGS=--upgrade for newer versions
#   make debian  the packages the browser tests need, where there is apt and a root to use it
#   make clean   remove everything that can be made again; data directories stay

PYTHON ?= python3
UV ?= uv
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := setup
.PHONY: setup setup-dev venv run test simulate chaos lock debian clean

# What is installed is known by stamps that hold a checksum of what it was installed from: a fresh
# checkout touches every file's time, and must not cost an installation.
sum = $(shell cat $(1) | cksum | tr -d ' ')
VENV_KEY := $(CURDIR) $(shell $(PYTHON) -c 'import sys; print(sys.base_prefix, *sys.version_info[:3])')
RUNTIME_KEY := $(call sum,requirements/runtime.txt)
DEV_KEY := $(call sum,requirements/dev.txt)
PROJECT_KEY := $(call sum,pyproject.toml)
is = [ "$$(cat $(VENV)/$(1).stamp 2>/dev/null)" = "$(2)" ]
stamp = echo "$(2)" > $(VENV)/$(1).stamp
install = $(PIP) install --require-hashes --only-binary :all: --requirement requirements/$(1).txt
project = $(call is,project,$(PROJECT_KEY)) || { \
	$(PIP) install --no-deps --no-build-isolation --editable . && $(call stamp,project,$(PROJECT_KEY)); }

setup: venv
	@$(call is,runtime,$(RUNTIME_KEY)) || { \
		echo "installing what Lastunit runs on (about a minute) ..."; \
		$(call install,runtime) && $(call stamp,runtime,$(RUNTIME_KEY)); }
	@$(project)

# dev.txt holds runtime.txt whole, at the same versions.
setup-dev: venv
	@$(call is,dev,$(DEV_KEY)) || { \
		echo "installing what the tests run on (about a minute) ..."; \
		$(call install,dev) && $(call stamp,dev,$(DEV_KEY)) && $(call stamp,runtime,$(RUNTIME_KEY)); }
	@$(project)

# Made anew when the checkout has moved or Python has changed: its scripts hold absolute paths.
venv:
	@$(call is,venv,$(VENV_KEY)) || { \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Lastunit needs Python 3.11 or newer")' && \
		$(PYTHON) -m venv --clear $(VENV) && $(call stamp,venv,$(VENV_KEY)); }

run: setup
	@exec $(BIN)/lastunit up $(ARGS)

# Half of the tests wait for processes most of the time: two side by side use both cores of a small machine.
WORKERS ?= 2
test: setup-dev
	@echo "== ruff check"; $(BIN)/ruff check --quiet .
	@echo "== ruff format"; $(BIN)/ruff format --quiet --check .
	@echo "== mypy"; $(BIN)/mypy --no-error-summary
	@echo "== import-linter"; $(BIN)/lint-imports --no-logo
	@echo "== pytest"; $(BIN)/python -m pytest --quiet --numprocesses $(WORKERS) --dist loadfile $(ARGS)

SEEDS ?= 1000
FIRST ?= 0
simulate: setup-dev
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --first $(FIRST) --coverage

MINUTES ?= 30
SEED ?= 0
chaos: setup-dev
	@exec $(BIN)/python -m tests.chaos --minutes $(MINUTES) --seed $(SEED) --lost-answers $(ARGS)

compile = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --output-file requirements/$(1).txt requirements/$(1).in $(ARGS)
lock:
	$(call compile,runtime)
	$(call compile,dev)

debian:
	@if command -v chromium >/dev/null; then :; \
	elif [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo "no chromium, and no root with apt to install it: the browser tests will be skipped"; \
	else apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium; fi

clean:
	rm -rf $(VENV) *.egg-info build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
