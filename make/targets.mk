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
COMPETITION ?= arc-prize-2026
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

.PHONY: kaggle-pack
kaggle-pack: $(STAMP) ## Build the upload folder [KAGGLE_USER COMPETITION MODEL KAGGLE_PROFILE ...]
	"$(BIN)/appliance" pack kaggle --out "$(PACKAGE)" --owner "$(KAGGLE_USER)" \
		--competition $(COMPETITION) --profile $(KAGGLE_PROFILE) \
		$(if $(MODEL),--model "$(MODEL)") $(PACK_ARGS)

.PHONY: kaggle-check
kaggle-check: $(STAMP) ## Check every byte of the upload folder, and its metadata by Kaggle's rules
	"$(BIN)/appliance" pack kaggle --out "$(PACKAGE)" --check

$(KAGGLE): requirements/kaggle.txt
	@$(PYTHON) -m venv --clear $(KAGGLE_VENV)
	$(KAGGLE_VENV)/bin/python -m pip install --quiet --no-deps --require-hashes \
		-r requirements/kaggle.txt

# What every command that talks to Kaggle needs: a token, and a package that is whole and committed.
.PHONY: kaggle-ready
kaggle-ready: kaggle-check $(KAGGLE)
	@if [ -z "$${KAGGLE_API_TOKEN:-}$${KAGGLE_KEY:-}" ] &&
			[ ! -f "$${KAGGLE_CONFIG_DIR:-$$HOME/.kaggle}/kaggle.json" ] &&
			[ ! -f "$$HOME/.kaggle/access_token" ]; then
		echo "appliance: no Kaggle token; do: make one on your account's settings page" \
			"and put it into ~/.kaggle/" >&2
		exit 3
	fi
	if [ -n "$$(git status --porcelain --untracked-files=no)" ]; then
		echo "appliance: there are changes that are not committed; do: commit them and run" \
			"make kaggle-pack again, so that a commit names what was uploaded" >&2
		exit 3
	fi

.PHONY: kaggle-push
kaggle-push: kaggle-ready ## Upload dataset and notebook; Kaggle then starts the commit run
	@id=$$(sed -n 's/.*"id": "\(.*\)".*/\1/p' "$(PACKAGE)/dataset/dataset-metadata.json")
	flags=(-p "$(PACKAGE)/dataset" --dir-mode tar --keep-tabular)
	if $(KAGGLE) datasets status "$$id" >/dev/null 2>&1; then
		$(KAGGLE) datasets version "$${flags[@]}" -m "$$(git rev-parse --short HEAD)"
	else
		$(KAGGLE) datasets create "$${flags[@]}"
	fi
	until status=$$($(KAGGLE) datasets status "$$id" | tail -n 1) && [ "$$status" = ready ]; do
		case "$$status" in
			*fail*|*error*|*delete*)
				echo "appliance: Kaggle reports for dataset $$id: $$status;" \
					"do: look at its page on kaggle.com" >&2
				exit 3
		esac
		sleep 10
	done
	$(KAGGLE) kernels push -p "$(PACKAGE)/notebook"

.PHONY: kaggle-status
kaggle-status: kaggle-ready ## Show the notebook's run and your submissions
	@metadata="$(PACKAGE)/notebook/kernel-metadata.json"
	$(KAGGLE) kernels status "$$(sed -n 's/^ "id": "\(.*\)".*/\1/p' "$$metadata")"
	$(KAGGLE) competitions submissions $(COMPETITION)

.PHONY: kaggle-submit
kaggle-submit: kaggle-ready ## Submit a version of the notebook (few are allowed a day) [VERSION]
	@if [ -z "$(VERSION)" ]; then
		echo "appliance: no VERSION; do: make kaggle-submit VERSION=N, where N is the version" \
			"whose commit run is complete" >&2
		exit 2
	fi
	metadata="$(PACKAGE)/notebook/kernel-metadata.json"
	kernel=$$(sed -n 's/^ "id": "\(.*\)".*/\1/p' "$$metadata")
	if ! $(KAGGLE) kernels status "$$kernel" | grep -qi complete; then
		echo "appliance: the commit run of $$kernel is not complete; do: make kaggle-status" >&2
		exit 3
	fi
	$(KAGGLE) competitions submit $(COMPETITION) -f submission.json -k "$$kernel" \
		-v $(VERSION) -m "$$(git rev-parse --short HEAD)"

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
