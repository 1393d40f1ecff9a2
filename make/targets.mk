# Docker, Apptainer, HTCondor, Kaggle and GPU machines. The Makefile includes this file.

# The first of the three that answers: often `docker` is installed but its daemon does not run.
ENGINE ?= $(firstword $(foreach e,docker podman buildah,$(if $(shell $(e) info >/dev/null 2>&1 \
	&& echo yes),$(e))))
IMAGE ?= arc-appliance:$(TARGET)
SIF ?= build/arc-appliance-$(TARGET).sif
BASE ?= python:3.11-slim-bookworm
# More arguments for the image builders, for example to mount a folder of wheels or certificates.
IMAGE_ARGS ?=
SIF_ARGS ?=

# DAG is the folder where condor_submit_dag runs; SHARDS is the number of jobs. Without a profile an
# image for GPUs gets slots with one, and any other slots without.
DAG ?= out/condor
SHARDS ?= 10
CONDOR_IMAGE ?= $(SIF)
CONDOR_PROFILE ?= $(or $(PROFILE),$(if $(findstring gpu,$(notdir $(CONDOR_IMAGE))),chtc-short,$\
	ospool-medium))
MODEL_FROM ?=

# KAGGLE_USER is the name in the address of your Kaggle profile. Your token lies in ~/.kaggle/.
PACKAGE ?= out/kaggle
KAGGLE_USER ?=
COMPETITION ?= arc-prize-2026-arc-agi-2
KAGGLE_PROFILE ?= kaggle-l4x4
PACK_ARGS ?=
# Packed corpora that go to a bare GPU machine, each DIR or DIR:N for at most N pairs of a family.
CORPORA ?=
RECIPE ?=
CARRY_ARGS ?=
KAGGLE_VENV := build/kaggle
KAGGLE := $(KAGGLE_VENV)/bin/kaggle

# $(call need,COMMAND,how to get it): stop where a command is not installed.
need = command -v $(1) >/dev/null || \
	{ echo "appliance: $(1) is not installed; do: $(2)" >&2; exit 3; }

# $(call not_built,COMMAND,PAGE): what to look at first; the builder itself has said what happened.
not_built = { code=$$?; echo "appliance: not built; where the registry of $(BASE) does not answer, \
	do: make $(1) BASE=an image that can be reached (docs/$(2).md)" >&2; exit $$code; }

##@ Images

.PHONY: image
image: ## Build the Docker image [TARGET ENGINE BASE IMAGE IMAGE_ARGS]
	@if [ -z "$(ENGINE)" ]; then
		echo "appliance: none of docker, podman and buildah answers;" \
			"do: install or start one of them (docs/docker.md)" >&2
		exit 3
	fi
	$(ENGINE) $(if $(filter buildah,$(ENGINE)),bud,build) \
		--build-arg TARGET=$(TARGET) --build-arg BASE=$(BASE) \
		--build-arg REVISION=$$(git rev-parse --short HEAD 2>/dev/null || echo unknown) \
		$(IMAGE_ARGS) -t $(IMAGE) . || $(call not_built,image,docker)

.PHONY: sif
sif: ## Build the Apptainer image [TARGET BASE SIF SIF_ARGS]
	@$(call need,apptainer,see docs/apptainer.md)
	mkdir -p $(dir $(SIF))
	apptainer build --force --build-arg TARGET=$(TARGET) --build-arg BASE=$(BASE) \
		$(SIF_ARGS) $(SIF) apptainer.def || $(call not_built,sif,apptainer)

##@ HTCondor

.PHONY: condor-pack
condor-pack: $(STAMP) ## Write the jobs into DAG/ [TASKS SHARDS MODEL BUDGET CONDOR_IMAGE PROFILE ...]
	@$(call takes,TASKS ONLY LIMIT DEMO SHARDS MODEL MODEL_FROM STRATEGY BUDGET CONDOR_IMAGE SIF \
		CONDOR_PROFILE PROFILE DAG ARGS)
	$(RUN)
	run pack condor --tasks "$(TASKS)" --shards $(SHARDS) \
		$(if $(call given,ONLY),$(if $(ONLY),--only "$(ONLY)")) \
		$(if $(call given,LIMIT),$(if $(LIMIT),--limit $(LIMIT))) \
		--image "$(CONDOR_IMAGE)" --out "$(DAG)" --profile $(CONDOR_PROFILE) \
		$(if $(call given,BUDGET),--budget $(BUDGET)) \
		$(if $(MODEL),--model "$(MODEL)") $(if $(MODEL_FROM),--model-from "$(MODEL_FROM)") \
		$(if $(STRATEGY),--strategy $(STRATEGY)) $(ARGS)

.PHONY: condor-submit
condor-submit: ## Submit the jobs in DAG/ (on an access point of your pool)
	@$(call takes,DAG)
	$(call need,condor_submit_dag,run this on an access point of your pool)
	if [ ! -f "$(DAG)/appliance.dag" ]; then
		echo "appliance: no $(DAG)/appliance.dag; do: make condor-pack DAG=$(DAG)" >&2
		exit 3
	fi
	cd "$(DAG)" && condor_submit_dag appliance.dag

.PHONY: condor-status
condor-status: $(STAMP) ## Show the jobs, why some are held, and how far the shards came [DAG]
	@$(call takes,DAG)
	$(call need,condor_q,run this on an access point of your pool)
	condor_q -nobatch -dag
	condor_q -hold -af:jh HoldReason
	"$(BIN)/python" -m appliance.pack.merge "$(DAG)"
	echo "what a job that runs prints: condor_tail JOB"

.PHONY: condor-fetch
condor-fetch: $(STAMP) ## Vote over what there is of the shards, at any time, into OUT/ [DAG OUT]
	@$(call takes,DAG OUT)
	"$(BIN)/python" -m appliance.pack.merge "$(DAG)" \
		--out "$(if $(call given,OUT),$(OUT),$(DAG)/fetched)"

##@ Kaggle

# Any .venv will do: TARGET is that of the package here.
SOME_VENV := $(or $(firstword $(wildcard $(VENV)/.installed-*)),$(STAMP))

PACK_NAMES := PACKAGE KAGGLE_USER COMPETITION KAGGLE_PROFILE MODEL STRATEGY BUDGET TARGET PACK_ARGS
PACK_WORDS = --owner "$(KAGGLE_USER)" --competition $(COMPETITION) --profile $(KAGGLE_PROFILE) \
	$(if $(MODEL),--model "$(MODEL)") $(if $(STRATEGY),--strategy $(STRATEGY)) \
	$(if $(call given,TARGET),--target $(TARGET)) \
	$(if $(call given,BUDGET),--budget $(BUDGET)) $(PACK_ARGS)
WALK = "$(BIN)/python" -m make.kaggle --package "$(PACKAGE)" --kaggle $(KAGGLE)

$(KAGGLE): requirements/kaggle.txt
	@$(PYTHON) -m venv --clear $(KAGGLE_VENV)
	$(KAGGLE_VENV)/bin/python -m pip install --quiet --no-deps --require-hashes \
		-r requirements/kaggle.txt

.PHONY: kaggle
kaggle: $(SOME_VENV) $(KAGGLE) ## Pack, upload, run and (SUBMIT=1) submit, each once [KAGGLE_USER ...]
	@$(call takes,$(PACK_NAMES) SUBMIT)
	$(WALK) all --competition $(COMPETITION) --submit "$(or $(SUBMIT),0)" -- $(PACK_WORDS)

.PHONY: kaggle-pack
kaggle-pack: $(SOME_VENV) ## Build the upload folder [KAGGLE_USER COMPETITION MODEL TARGET ...]
	@$(call takes,$(PACK_NAMES))
	"$(BIN)/appliance" pack kaggle --out "$(PACKAGE)" $(PACK_WORDS)

.PHONY: kaggle-check
kaggle-check: $(SOME_VENV) ## Check every byte of the upload folder, and its metadata
	@$(call takes,PACKAGE)
	"$(BIN)/appliance" pack kaggle --out "$(PACKAGE)" --check

.PHONY: kaggle-push
kaggle-push: $(SOME_VENV) $(KAGGLE) ## Upload dataset and notebook; Kaggle then starts the commit run
	@$(call takes,PACKAGE)
	$(WALK) push

.PHONY: kaggle-status
kaggle-status: $(SOME_VENV) $(KAGGLE) ## Show the dataset, the notebook's run and your submissions
	@$(call takes,PACKAGE)
	$(WALK) status

.PHONY: kaggle-submit
kaggle-submit: $(SOME_VENV) $(KAGGLE) ## Submit the pushed notebook (few are allowed a day) [VERSION]
	@$(call takes,PACKAGE VERSION)
	if [ -z "$(VERSION)" ]; then
		echo "appliance: no VERSION; do: make kaggle-submit VERSION=N, where N is the version" \
			"whose commit run is complete" >&2
		exit 2
	fi
	$(WALK) submit --version "$(VERSION)"

##@ Checks that need special machines

.PHONY: gpu-check
gpu-check: $(STAMP) ## Test engines, memory and speed on this NVIDIA GPU, twenty minutes [TARGET=gpu]
	"$(BIN)/python" -m bench.gpu_check $(GPU_CHECK)

.PHONY: gpu-train
gpu-train: $(STAMP) ## Collect what a bare GPU machine needs, print how to run [CORPORA RECIPE WITH]
	@"$(BIN)/python" make/carry.py $(foreach c,$(CORPORA),--corpus "$(c)") \
		$(if $(RECIPE),--recipe "$(RECIPE)") $(foreach w,$(WITH),--with "$(w)") $(CARRY_ARGS)

build/hpc/python: requirements/hpc.txt
	@$(PYTHON) -m pip install --quiet --upgrade --target $@ --no-deps --require-hashes \
		-r requirements/hpc.txt
	touch $@

.PHONY: test-hpc
test-hpc: $(STAMP) build/hpc/python ## Test a real HTCondor pool, real images, a mock Kaggle (root)
	PYTHONPATH=build/hpc/python "$(BIN)/python" -m pytest tests/hpc -rs
