#!/bin/sh
# job.sh COMMAND...: run a command in the slot of a batch job. All that it writes lies below the job's own folder, and the
# soft kill of an eviction, which goes to the main process alone, reaches the command because it takes this one's place.
set -eu
scratch="${_CONDOR_SCRATCH_DIR:-$PWD}"
[ -w "$scratch" ] || scratch="$PWD"
mkdir -p "$scratch/home" "$scratch/tmp" "$scratch/cache"
export HOME="$scratch/home" TMPDIR="$scratch/tmp" XDG_CACHE_HOME="$scratch/cache" USER="${USER:-appliance}"
export HF_HOME="$scratch/cache/huggingface" TRITON_CACHE_DIR="$scratch/cache/triton"
export TORCHINDUCTOR_CACHE_DIR="$scratch/cache/inductor" VLLM_CACHE_ROOT="$scratch/cache/vllm"
export UNSLOTH_COMPILE_LOCATION="$scratch/cache/unsloth" UNSLOTH_DISABLE_STATISTICS=1
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 PYTHONNOUSERSITE=1 PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=PASSIVE
export PATH="/usr/local/appliance/bin:$PATH"
exec "$@"
