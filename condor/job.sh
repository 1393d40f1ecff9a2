#!/bin/sh
# job.sh COMMAND...: run a command in the slot of a batch job.
#
# Everything it writes lies below the job's own folder. `exec` puts the command in this script's
# place, because the soft kill of an eviction goes to the main process alone.
set -eu
scratch="${_CONDOR_SCRATCH_DIR:-$PWD}"
[ -w "$scratch" ] || scratch="$PWD"
cache="$scratch/cache"
mkdir -p "$scratch/home" "$scratch/tmp" "$cache"

export HOME="$scratch/home" TMPDIR="$scratch/tmp" USER="${USER:-appliance}"
export XDG_CACHE_HOME="$cache" HF_HOME="$cache/huggingface" VLLM_CACHE_ROOT="$cache/vllm"
export TRITON_CACHE_DIR="$cache/triton" TORCHINDUCTOR_CACHE_DIR="$cache/inductor"
export UNSLOTH_COMPILE_LOCATION="$cache/unsloth" UNSLOTH_DISABLE_STATISTICS=1
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 WANDB_MODE="${WANDB_MODE:-offline}"
export PYTHONNOUSERSITE=1 PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=PASSIVE
export PATH="/usr/local/appliance/bin:$PATH"

exec "$@"
