# Everything a newcomer needs. `make demo` runs the whole pipeline on real data; `make help` lists the rest.
#
# The environment lives in .venv and is rebuilt only when a lock file or pyproject.toml changes. Nothing is installed
# outside it. PYTHON=/path/to/python chooses another interpreter; PYTEST_ARGS="-k asha" narrows the tests.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTHON ?=
JOBS ?= 3
PYTEST_ARGS ?=

# more threads than cores make small trainings many times slower; nothing is reported to anyone
export OMP_NUM_THREADS := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true

.PHONY: help setup setup-dev demo test soak check format lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{ printf "  make %-10s %s\n", $$1, $$2 }'

setup: $(VENV)/.runtime ## make .venv with the pinned versions and the project

setup-dev: $(VENV)/.dev ## the same, with the tools for development

demo: $(VENV)/.runtime ## the whole pipeline on handwritten digits, under two minutes
	@$(BIN)/ziggurat run examples/digits.yaml

test: $(VENV)/.dev ## the test suite, about six minutes on two cores
	@$(BIN)/python -m pytest -m "not soak" -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

soak: $(VENV)/.dev ## the tests that wait long for real clusters: Ray, Slurm's pre-emption, machines that are lost
	@$(BIN)/python -m pytest -m soak $(PYTEST_ARGS)

check: $(VENV)/.dev ## format, lint, types, import directions, what infra/ holds, commands of the README
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/shellcheck .ci/run infra/*.sh infra/*/*.sbatch
	@$(BIN)/hadolint infra/Dockerfile
	@$(BIN)/yamllint --strict -c infra/yamllint.yaml infra deployments examples
	@$(BIN)/check-jsonschema -q --builtin-schema vendor.compose-spec infra/compose.yaml infra/compose.gpu.yaml
	@$(BIN)/cfn-lint infra/aws-batch/template.yaml
	@$(BIN)/kubernetes-validate --strict --quiet --no-warn infra/kubernetes/*.yaml
	@$(BIN)/python -m pytest -q tests/test_readme.py

format: $(VENV)/.dev ## rewrite the code in the agreed format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: ## resolve all versions anew into the lock files
	@infra/lock.sh "$$(infra/find-python.sh "$(PYTHON)")"

clean: ## remove .venv and caches; runs are kept
	@rm -rf $(VENV) build ./*.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# The interpreter of an environment can vanish with an upgrade of the system: such an environment is made anew.
$(VENV)/.runtime: requirements.lock pyproject.toml
	@if ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
		python="$$(infra/find-python.sh "$(PYTHON)")"; \
		echo "making $(VENV) with $$("$$python" --version)"; \
		rm -rf $(VENV); \
		"$$python" -m venv $(VENV); \
	fi
	@echo "installing $$(grep -c == requirements.lock) packages into $(VENV); a minute or two the first time"
	@$(PIP) install -qq -r requirements.lock
	@$(PIP) install -qq --no-deps --no-build-isolation -e .
	@$(PIP) check
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@echo "installing $$(grep -c == requirements-dev.lock) packages for development"
	@$(PIP) install -qq -r requirements.lock -r requirements-dev.lock
	@$(PIP) check
	@touch $@
