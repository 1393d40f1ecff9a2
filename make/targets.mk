# Docker, Apptainer, HTCondor, Kaggle. Included by the Makefile; `make help` lists the commands.
# The first that answers: the docker command is often there without its daemon.
ENGINE ?= $(firstword $(foreach e,docker podman buildah,$(if $(shell $(e) info >/dev/null 2>&1 && echo yes),$(e))))
IMAGE ?= arc-appliance:$(TARGET)
SIF ?= build/arc-appliance-$(TARGET).sif
BASE ?= python:3.11-slim-bookworm
# Further arguments of the image builders, such as mounts for a folder of wheels or certificates of their own.
IMAGE_ARGS ?=
SIF_ARGS ?=

# The folder that condor_submit_dag is run in, and how many jobs share the tasks.
DAG ?= out/condor
SHARDS ?= 10
CONDOR_IMAGE ?= $(SIF)
CONDOR_PROFILE ?= chtc-short

# Kaggle: KAGGLE_USER is the name in the address of your profile; the token lies where the kaggle command looks for it.
PACKAGE ?= out/kaggle
KAGGLE_USER ?=
COMPETITION ?= arc-prize-2026
KAGGLE_PROFILE ?= kaggle-l4x4
PACK_ARGS ?=
KAGGLE_VENV := build/kaggle
KAGGLE := $(KAGGLE_VENV)/bin/kaggle

# $(call need,COMMAND,how to get it)
need = command -v $(1) >/dev/null || { echo "appliance: $(1) is not installed; do: $(2)" >&2; exit 3; }

.PHONY: image
image: ## Build the Docker image (TARGET, ENGINE, BASE, IMAGE, IMAGE_ARGS)
	@[ -n "$(ENGINE)" ] || { echo "appliance: no docker, podman or buildah answers; do: install or start one of them (docs/docker.md)" >&2; exit 3; }
	$(ENGINE) $(if $(filter buildah,$(ENGINE)),bud,build) --build-arg TARGET=$(TARGET) --build-arg BASE=$(BASE) \
		--build-arg REVISION=$$(git rev-parse --short HEAD 2>/dev/null || echo unknown) $(IMAGE_ARGS) -t $(IMAGE) .

.PHONY: sif
sif: ## Build the Apptainer image (TARGET, BASE, SIF, SIF_ARGS)
	@$(call need,apptainer,see docs/apptainer.md)
	mkdir -p $(dir $(SIF))
	apptainer build --force --build-arg TARGET=$(TARGET) --build-arg BASE=$(BASE) $(SIF_ARGS) $(SIF) apptainer.def

.PHONY: condor-pack
condor-pack: $(STAMP) ## Render DAG/ for HTCondor (TASKS, SHARDS, MODEL, BUDGET, CONDOR_IMAGE, CONDOR_PROFILE, DAG, ARGS)
	"$(BIN)/appliance" pack condor --tasks "$(TASKS)" --shards $(SHARDS) --image "$(CONDOR_IMAGE)" --out "$(DAG)" \
		--profile $(CONDOR_PROFILE) $(if $(filter command line,$(origin BUDGET)),--budget $(BUDGET)) \
		$(if $(MODEL),--model "$(MODEL)") $(ARGS)

.PHONY: condor-submit
condor-submit: ## Hand DAG/ to HTCondor
	@$(call need,condor_submit_dag,run this on an access point of your pool)
	[ -f "$(DAG)/appliance.dag" ] || { echo "appliance: no $(DAG)/appliance.dag; do: make condor-pack DAG=$(DAG)" >&2; exit 3; }
	cd "$(DAG)" && condor_submit_dag appliance.dag

.PHONY: condor-status
condor-status: ## The jobs of the DAG, why some are held, and the last line of each shard
	@$(call need,condor_q,run this on an access point of your pool)
	condor_q -nobatch -dag
	condor_q -hold -af:jh HoldReason
	shopt -s nullglob; logs=("$(DAG)"/logs/*.out)
	[ $${#logs[@]} -gt 0 ] || echo "no job of $(DAG) has started yet"
	for log in "$${logs[@]}"; do echo "$$(basename "$$log" .out): $$(tail -n 1 "$$log")"; done

.PHONY: condor-fetch
condor-fetch: $(STAMP) ## Vote over what has come back so far and write OUT/submission.json
	mkdir -p "$(OUT)"
	shopt -s nullglob; runs=("$(DAG)"/shard-*/run/journal.sqlite); runs=("$${runs[@]%/run/journal.sqlite}")
	[ $${#runs[@]} -gt 0 ] || { echo "appliance: no shard of $(DAG) has come back; do: make condor-status DAG=$(DAG)" >&2; exit 3; }
	"$(BIN)/appliance" vote "$${runs[@]}" --tasks "$(DAG)/tasks.json" --out "$(OUT)/submission.json"
	"$(BIN)/appliance" validate "$(OUT)/submission.json" --tasks "$(DAG)/tasks.json"

.PHONY: kaggle-pack
kaggle-pack: $(STAMP) ## Make PACKAGE/dataset and PACKAGE/notebook (KAGGLE_USER, COMPETITION, MODEL, KAGGLE_PROFILE, PACK_ARGS)
	"$(BIN)/appliance" pack kaggle --out "$(PACKAGE)" --owner "$(KAGGLE_USER)" --competition $(COMPETITION) \
		--profile $(KAGGLE_PROFILE) $(if $(MODEL),--model "$(MODEL)") $(PACK_ARGS)

.PHONY: kaggle-check
kaggle-check: $(STAMP) ## Check PACKAGE byte for byte, and its metadata by Kaggle's rules
	"$(BIN)/appliance" pack kaggle --out "$(PACKAGE)" --check

$(KAGGLE): requirements/kaggle.txt
	$(PYTHON) -m venv --clear $(KAGGLE_VENV)
	$(KAGGLE_VENV)/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements/kaggle.txt

# Only for what talks to Kaggle: a token, and a package that is whole and committed.
.PHONY: kaggle-ready
kaggle-ready: kaggle-check $(KAGGLE)
	@[ -n "$${KAGGLE_API_TOKEN:-}$${KAGGLE_KEY:-}" ] || [ -f "$${KAGGLE_CONFIG_DIR:-$$HOME/.kaggle}/kaggle.json" ] || [ -f "$$HOME/.kaggle/access_token" ] || \
		{ echo "appliance: no Kaggle token; do: make one on your account's settings page and put it into ~/.kaggle/" >&2; exit 3; }
	[ -z "$$(git status --porcelain --untracked-files=no)" ] || { echo "appliance: changes that are not committed; do: commit them and pack anew, so that the run can be told later" >&2; exit 3; }

.PHONY: kaggle-push
kaggle-push: kaggle-ready ## Upload the dataset (a new version if it is there) and the notebook, which starts its commit run
	id=$$(sed -n 's/.*"id": "\(.*\)".*/\1/p' "$(PACKAGE)/dataset/dataset-metadata.json")
	if $(KAGGLE) datasets status "$$id" >/dev/null 2>&1; then
		$(KAGGLE) datasets version -p "$(PACKAGE)/dataset" --dir-mode tar --keep-tabular -m "$$(git rev-parse --short HEAD)"
	else
		$(KAGGLE) datasets create -p "$(PACKAGE)/dataset" --dir-mode tar --keep-tabular
	fi
	until status=$$($(KAGGLE) datasets status "$$id" | tail -n 1) && [ "$$status" = ready ]; do
		case "$$status" in *fail*|*error*|*delete*) echo "appliance: Kaggle says of $$id: $$status; do: look at its page" >&2; exit 3;; esac
		sleep 10
	done
	$(KAGGLE) kernels push -p "$(PACKAGE)/notebook"

.PHONY: kaggle-status
kaggle-status: kaggle-ready ## The notebook's run, and the competition's submissions
	$(KAGGLE) kernels status "$$(sed -n 's/^ "id": "\(.*\)".*/\1/p' "$(PACKAGE)/notebook/kernel-metadata.json")"
	$(KAGGLE) competitions submissions $(COMPETITION)

.PHONY: kaggle-submit
kaggle-submit: kaggle-ready ## Submit VERSION of the notebook to the competition (a scarce daily slot)
	@[ -n "$(VERSION)" ] || { echo "appliance: no VERSION; do: make kaggle-submit VERSION=N with the version whose commit run is complete" >&2; exit 2; }
	kernel=$$(sed -n 's/^ "id": "\(.*\)".*/\1/p' "$(PACKAGE)/notebook/kernel-metadata.json")
	$(KAGGLE) kernels status "$$kernel" | grep -qi complete || { echo "appliance: the commit run of $$kernel is not complete; do: make kaggle-status" >&2; exit 3; }
	$(KAGGLE) competitions submit $(COMPETITION) -f submission.json -k "$$kernel" -v $(VERSION) -m "$$(git rev-parse --short HEAD)"

.PHONY: gpu-check
gpu-check: $(STAMP) ## Engines, memory and speed on this machine's NVIDIA GPU, in ten minutes (TARGET=gpu, GPU_CHECK)
	"$(BIN)/python" -m bench.gpu_check $(GPU_CHECK)

build/hpc/python: requirements/hpc.txt
	$(PYTHON) -m pip install --quiet --upgrade --target $@ --no-deps --require-hashes -r requirements/hpc.txt
	touch $@

.PHONY: test-hpc
test-hpc: $(STAMP) build/hpc/python ## Real pool, real images, simulated Kaggle (root, Debian packages; what is missing is skipped with a reason)
	PYTHONPATH=build/hpc/python "$(BIN)/python" -m pytest tests/hpc -rs
