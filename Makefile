# The one task runner. `make` alone lists what it does.
#
# Every target brings what it needs into ./.venv and ./.tools, once, and again only when pyproject.toml or a file of
# tools/ changed. Nothing is installed outside the repository.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV ?= .venv
TOOLS ?= .tools
DATA ?= demo-data
JOBS ?= 2
ARGS ?=

BIN := $(VENV)/bin
PIP_OPTIONS := --quiet --disable-pip-version-check --no-input
# Stand-ins for the secrets that docker-compose.yml requires.
COMPOSE_VALUES := LARVIK_TOKEN=x POSTGRES_PASSWORD=x S3_ACCESS_KEY=x S3_SECRET_KEY=x
# The program itself: the command that its wheel installs forgets the exit code.
COMPOSE = $$($(BIN)/python -c 'import compose; print(compose.__path__[0])')/docker-compose
APT_DEMO := apt-get install -y make git python3 python3-venv
APT_TEST := $(APT_DEMO) default-jdk-headless maven nodejs npm

export PYTHONUNBUFFERED := 1

# $(call need,COMMAND,WHAT IT IS FOR,APT LINE)
need = command -v $(1) > /dev/null || { echo "$(1) is missing: $(2). On Debian: $(3)" >&2; exit 1; }

.PHONY: help demo test check bench soak proto serve java typescript format clean

help: ## list the targets
	@echo "make TARGET; the first run sets up what it needs"
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) \
	  | awk -F ':.*## ' '{ printf "  %-11s %s\n", $$1, $$2 }'
	@echo "On Debian 12, for demo and serve: $(APT_DEMO)"
	@echo "             for everything else: $(APT_TEST)"

##  What people run

demo: $(VENV)/.demo-ready ## start a server, import a real image, run the example, write demo.png
	@$(BIN)/python client/examples/demo.py $(ARGS)

serve: $(VENV)/.demo-ready ## serve a folder on the loopback (DATA=demo-data, ARGS="--port 7410")
	@$(BIN)/larvik serve --data $(DATA) $(ARGS)

##  What developers and CI run

test: need-test $(VENV)/.ready $(TOOLS)/.ngff-ready $(TOOLS)/.bioformats-ready ## run every test, Java and Node included
	@$(BIN)/pytest -n $(JOBS) --dist loadfile $(ARGS)

check: $(VENV)/.ready $(TOOLS)/.protoc-ready ## prove format, lint, types, layers, contract, generated code, deployment files
	@echo "check: format"
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --diff .; exit 1; }
	@echo "check: lint"
	@$(BIN)/ruff check --quiet .
	@echo "check: types"
	@$(BIN)/mypy --no-error-summary
	@echo "check: layers"
	@report=$$($(BIN)/lint-imports --no-cache) || { echo "$$report"; exit 1; }
	@echo "check: contract and generated code"
	@$(BIN)/buf lint protos
	@release=$$(git describe --tags --abbrev=0 --match 'v*' 2> /dev/null || true); \
	  [ -z "$$release" ] || $(BIN)/buf breaking protos --against ".git#tag=$$release,subdir=protos"
	@$(TOOLS)/protoc/bin/python tools/generate_protos.py --check
	@echo "check: tables of docs/models.md"
	@$(BIN)/python -m larvik.models.docs --check
	@echo "check: deployment files"
	@$(COMPOSE_VALUES) $(COMPOSE) --file docker-compose.yml config --quiet
	@$(BIN)/hadolint deploy/Dockerfile
	@$(BIN)/yamllint --strict docker-compose.yml deploy protos
	@echo "Everything checked."

bench: $(VENV)/.ready $(TOOLS)/.peers-ready ## measure beside the peers; figures go to benchmarks/results and docs/performance.md
	@$(BIN)/python benchmarks/run.py $(ARGS)

soak: need-test $(VENV)/.ready ## hours instead of minutes: fuzzing, hundreds of kills
	@$(BIN)/pytest -m soak --hypothesis-profile=soak --timeout=0 $(ARGS)

proto: $(TOOLS)/.protoc-ready ## generate larvik/proto from protos/
	@$(TOOLS)/protoc/bin/python tools/generate_protos.py

java: ## build the Java client and its examples
	@$(call need,javac,a Java Development Kit builds the Java client,$(APT_TEST))
	@$(call need,mvn,Maven builds the Java client,$(APT_TEST))
	@mvn --batch-mode --quiet --file client/java/pom.xml package

typescript: ## build the TypeScript client and its examples
	@$(call need,node,Node.js runs the TypeScript client,$(APT_TEST))
	@$(call need,npm,npm builds the TypeScript client,$(APT_TEST))
	@cd client/typescript && npm ci --no-audit --no-fund --silent && npm run build --silent

format: $(VENV)/.ready ## format the code and apply safe fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean: ## remove everything that make and the tools made
	@rm -rf $(VENV) $(TOOLS) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  .import_linter_cache demo-data demo.png client/java/target client/typescript/node_modules client/typescript/dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

##  What they stand on

.PHONY: need-python need-test

need-python:
	@$(call need,$(PYTHON),Larvik is written in Python,$(APT_DEMO))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
	  "Larvik needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { echo \
	  "$(PYTHON) cannot make virtual environments. On Debian: $(APT_DEMO)" >&2; exit 1; }

need-test:
	@$(call need,javac,a Java Development Kit builds the Java client,$(APT_TEST))
	@$(call need,mvn,Maven builds the Java client,$(APT_TEST))
	@$(call need,node,Node.js runs the TypeScript client,$(APT_TEST))
	@$(call need,npm,npm builds the TypeScript client,$(APT_TEST))

$(BIN)/python: | need-python
	@echo "Making a virtual environment in $(VENV)."
	@$(PYTHON) -m venv $(VENV)

# Two stamps, so that `make demo` need not wait for compilers and linters.
$(VENV)/.demo-ready: pyproject.toml | $(BIN)/python
	@echo "Installing Larvik and the libraries it runs with into $(VENV) (a minute or two, once)."
	@$(BIN)/python -m pip install $(PIP_OPTIONS) --editable '.[all]'
	@touch $@

$(VENV)/.ready: pyproject.toml | $(BIN)/python
	@echo "Installing Larvik with its test servers and tools into $(VENV) (two to three minutes, once)."
	@$(BIN)/python -m pip install $(PIP_OPTIONS) --editable '.[all,testing,dev]'
	@touch $@ $(VENV)/.demo-ready

$(TOOLS)/.%-ready: tools/requirements-%.txt | need-python
	@echo "Installing $* into $(TOOLS)/$*."
	@$(PYTHON) -m venv --clear $(TOOLS)/$*
	@$(TOOLS)/$*/bin/python -m pip install $(PIP_OPTIONS) $(if $(filter bioformats,$*),--no-deps) --requirement $<
	@touch $@
