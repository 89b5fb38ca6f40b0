# Two commands matter: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The distribution's interpreter comes first: it is built with optimisations, which many self-built ones are not.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3.11) $(shell command -v python3.11 || command -v python3))
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := airflow,pandas,demo
PACKAGING := setup.cfg pyproject.toml constraints.txt

# A recipe line that needs uv starts with $(FIND_UV). It changes nothing outside this folder: where uv is missing, the
# first pip that answers puts it under .uv/. pip's --target is allowed on "externally managed" systems. uv trusts the
# certificates that the machine trusts: behind a company's proxy its own list is not enough.
define FIND_UV
UV=uv; if ! uv --version >/dev/null 2>&1; then UV=.uv/bin/uv; fi; \
if ! $$UV --version >/dev/null 2>&1; then \
  echo "installing uv into .uv/"; \
  export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore; \
  for pip in "$(PYTHON) -m pip" "python3 -m pip" pip3 pip; do \
    if $$pip --version >/dev/null 2>&1; then $$pip install --quiet --target .uv --upgrade uv && break; fi; \
  done; \
  if test -d .uv; then echo '*' > .uv/.gitignore; fi; \
fi; \
$$UV --version >/dev/null 2>&1 || { echo "neither uv nor pip works here: install one, e.g. apt-get install python3-pip" >&2; exit 2; }; \
export UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=true;
endef

.PHONY: help
help:
	@echo "make demo         set everything up, then run examples/digits three times: computed, reused, both"
	@echo "make test         set everything up, then run the whole test suite (ARGS='-k name' narrows it)"
	@echo "make lint         ruff: style and format"
	@echo "make types        mypy: strict outside airflow_mlpipe/engine/"
	@echo "make floors       import-linter: who may import whom"
	@echo "make check        lint, types, floors and test"
	@echo "make format       let ruff rewrite what it can"
	@echo "make compose-demo start docker-compose.yaml, with secrets made for it, and run examples/digits on it"
	@echo "make emulators    install servers that stand for S3, Azure and Google Cloud Storage; without them their tests skip"
	@echo "make constraints  pin what setup.cfg asks for and constraints.txt lacks; UPGRADE=1 moves all pins"
	@echo "make clean        remove the environment, caches and the embedded workspace"

.PHONY: demo
demo: $(VENV)/demo.stamp
	@$(BIN)/python examples/digits/demo.py

COMPOSE := docker compose
.PHONY: compose-demo
compose-demo:
	@deploy/secrets.sh
	@$(COMPOSE) up --detach --build
	@for parameters in "" "" "--parameter regularization=1.0"; do \
	  $(COMPOSE) run --rm --no-deps client mlpipe run examples/digits/pipeline.py $$parameters; \
	done
	@echo "the UI: http://$$($(COMPOSE) port api-server 8080), user admin, password MLPIPE_ADMIN_PASSWORD in .env"

.PHONY: test
test: $(VENV)/dev.stamp
	@# One process more than there are cores: half of the time a test waits for processes of its own.
	@# In their order: by default the files with the fewest tests come last, and these take longest.
	@$(BIN)/python -m pytest --numprocesses=$$(( $$(nproc) < 4 ? $$(nproc) + 1 : 4 )) \
	  --dist=loadfile --no-loadscope-reorder $(ARGS)

.PHONY: lint
lint: $(VENV)/dev.stamp
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: types
types: $(VENV)/dev.stamp
	@$(BIN)/mypy

.PHONY: floors
floors: $(VENV)/dev.stamp
	@$(BIN)/lint-imports

.PHONY: check
check: lint types floors test

.PHONY: format
format: $(VENV)/dev.stamp
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: constraints
constraints:
	@cp constraints.txt .constraints.new
	@$(FIND_UV) $$UV pip compile --quiet setup.cfg --all-extras --python "$(PYTHON)" $(if $(UPGRADE),--upgrade) \
	  --no-header --no-annotate --output-file .constraints.new >/dev/null
	@sed -i '/^[^#]/,$$d' constraints.txt && cat .constraints.new >>constraints.txt && rm .constraints.new

# Each in an environment of its own: what they need does not fit beside Airflow, and is no part of the product.
EMULATORS := $(VENV)/emulators
.PHONY: emulators
emulators: $(EMULATORS)/moto.stamp $(EMULATORS)/gcs.stamp $(EMULATORS)/azurite.stamp

$(EMULATORS)/moto.stamp: | $(BIN)/python
	@$(FIND_UV) $$UV venv --quiet --allow-existing --python "$(PYTHON)" $(EMULATORS)/moto; \
	  $$UV pip install --quiet --python $(EMULATORS)/moto/bin/python 'moto[server,s3]>=5.2'
	@touch $@

$(EMULATORS)/gcs.stamp: | $(BIN)/python
	@$(FIND_UV) $$UV venv --quiet --allow-existing --python "$(PYTHON)" $(EMULATORS)/gcs; \
	  $$UV pip install --quiet --python $(EMULATORS)/gcs/bin/python gcp-storage-emulator
	@touch $@

$(EMULATORS)/azurite.stamp: | $(BIN)/python
	@if command -v npm >/dev/null 2>&1; then \
	  npm install --silent --no-audit --no-fund --prefix $(EMULATORS)/azurite azurite@3; touch $@; \
	else echo "npm is not installed: the tests of Azure will skip (apt-get install npm)"; fi

.PHONY: clean
clean:
	rm -rf $(VENV) .uv .mlpipe build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "no python3.11 found: install it, or say make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is not Python 3.11 or newer: say make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(FIND_UV) $$UV venv --quiet --allow-existing --python "$(PYTHON)" $(VENV)

# --compile-bytecode: the first import of Airflow takes half as long, and the demo is the first import.
$(VENV)/demo.stamp: $(PACKAGING) | $(BIN)/python
	@echo "installing airflow-mlpipe[$(EXTRAS)] into $(VENV)/ (about a minute the first time)"
	@$(FIND_UV) $$UV pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/demo.stamp
	@echo "installing the test tools into $(VENV)/"
	@$(FIND_UV) $$UV pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt -e '.[$(EXTRAS),celery,postgres,s3,azure,gcs,http,mount,ssh,databricks,hdinsight,synapse,dev]'
	@touch $@
