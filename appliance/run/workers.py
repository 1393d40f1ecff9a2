"""The workers of a run as planned: one per accelerator, or processes that share the cores.

Nothing is decided here; every value comes from the plan.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.engine.environment import (
    CACHES,
    CPU,
    QUIET_AND_OFFLINE,
    compile_caches,
    vllm_variables,
)
from appliance.engine.sampling.vllm_start import MOST_BATCHED_TOKENS
from appliance.errors import PrerequisiteError
from appliance.machine.gpu import GIB
from appliance.machine.machine import Machine
from appliance.machine.platforms import find_platform
from appliance.record.run_folder import RunFolder
from appliance.run.schedule.search_queue import SearchShare
from appliance.sizing.plan import AnyPlan, Plan
from appliance.solve.messages import SearchSetup, Setup

NEEDED = ("torch", "transformers", "peft", "safetensors")
"""Packages without which no worker can start."""

WINDOW_SLACK = 1.1
"""vLLM's longest sequence over the longest task: a turned grid may take more tokens."""

WINDOW_EXTRA_TOKENS = 2048
"""Tokens on top of that: an answer may be the largest grid, or a long program."""

STALL_BATCHES = 4
"""An engine counts as stuck after the time that reading this many of its largest batches takes."""

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}
"""For a search worker: numpy keeps to its core, and the same search gives the same answers."""


@dataclass(frozen=True)
class WorkerPlan:
    """One worker: what it is told at its start, and what is laid over its environment."""

    setup: Setup | SearchSetup
    environment: Mapping[str, str]


def check_engine_installed() -> None:
    """Raises PrerequisiteError naming the packages that are not installed. Imports none of them."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise PrerequisiteError(
            f"not installed: {', '.join(missing)}",
            expected="the packages of requirements/cpu.txt or requirements/gpu.txt",
            remedy=find_platform(os.environ).to_install("cpu"),
        )


def worker_plans(plan: Plan, *, model_dir: Path, folder: RunFolder) -> tuple[WorkerPlan, ...]:
    """One entry a worker, all alike but for their device."""
    has_gpu, precision = bool(plan.machine.gpus), plan.precision

    setup = Setup(
        settings=plan.settings,
        model_dir=str(model_dir.resolve()),
        adapters_dir=str(folder.adapters.resolve()),
        scratch_dir=str(folder.scratch.resolve()),
        device="cuda" if has_gpu else "cpu",
        dtype=precision.dtype.value,
        autocast_dtype=precision.autocast.value,
        quantization=precision.quantization.value,
        trainer=plan.train.trainer.value,
        num_threads=plan.threads.value,
        engine=plan.sample.engine.value,
        is_compared=plan.sample.is_compared,
        **(_vllm_setup(plan) if plan.sample.engine.value == "vllm" else {}),
    )

    return tuple(
        WorkerPlan(setup, _environment(plan.machine, index, setup, folder))
        for index in range(plan.workers.value)
    )


def search_share(plan: AnyPlan) -> SearchShare | None:
    """What the search of the run may use, None where nothing is searched."""
    if plan.search is None:
        return None
    search = plan.search
    return SearchShare(search.workers.value, search.seconds_per_task.value, search.is_first.value)


def search_plans(plan: AnyPlan) -> tuple[WorkerPlan, ...]:
    """One entry a search worker: a core each, and no model."""
    share = search_share(plan)
    if share is None:
        return ()

    is_beside = plan.settings.needs_model and not share.is_first
    setup = SearchSetup(settings=plan.settings, is_beside=is_beside)
    return (WorkerPlan(setup, dict(ONE_THREAD)),) * share.num_workers


def _vllm_setup(plan: Plan) -> dict[str, Any]:
    """On a GPU of its own vLLM's share of the memory says how much cache it has, else the bytes."""
    sample, costs, has_gpu = plan.sample, plan.costs, bool(plan.machine.gpus)
    longest = max(costs.sample.max_seq_tokens, costs.train.max_seq_tokens)
    window_tokens = int(WINDOW_SLACK * longest) + WINDOW_EXTRA_TOKENS

    # The card's figure is of 16 bits; on a CPU the cache may hold float32.
    window_bytes = costs.card.kv_bytes_per_token * window_tokens * (1 if has_gpu else 2)
    kv_cache_bytes = max(int(sample.memory.kv_gib * GIB), 2 * window_bytes)

    # The plan's card is already the part of one worker; vLLM wants its share of the whole card.
    num_sharing = plan.settings.run.workers_per_card
    memory_share = sample.gpu_memory_utilization.value / num_sharing
    largest_batch_s = MOST_BATCHED_TOKENS / max(1.0, sample.prefill_tokens_per_second)
    return {
        "serving": sample.serving.value,
        "window_tokens": window_tokens,
        "memory_share": memory_share,
        # Beside others vLLM must not size its cache by what it finds free: they start as well.
        "kv_cache_bytes": None if has_gpu and num_sharing == 1 else kv_cache_bytes,
        "max_num_seqs": sample.max_num_seqs.value,
        "sleeps": sample.residency.value == "in turns",
        "stall_s": max(plan.settings.sample.stall_s, STALL_BATCHES * largest_batch_s),
    }


def _environment(machine: Machine, index: int, setup: Setup, folder: RunFolder) -> dict[str, str]:
    """Offline, quiet, its own device, its share of the threads, and where compiled code is kept.

    On a CPU nothing that is worth keeping is compiled.
    """
    scratch = folder.scratch.resolve()
    if machine.gpus:
        caches = compile_caches(scratch)
    else:
        caches = {name: str(scratch / cache) for name, cache in CACHES.items()}
    threads = {"OMP_NUM_THREADS": str(setup.num_threads)}
    vllm = vllm_variables(device=setup.device, quantization=setup.quantization)
    environment = QUIET_AND_OFFLINE | CPU | vllm | caches | threads

    # By UUID: an index would count all cards, not only those that were left visible to us.
    if machine.gpus:
        return environment | {"CUDA_VISIBLE_DEVICES": machine.gpus[index].uuid}
    # Cards that cannot be used, or were lost, are hidden from libraries that would try them.
    return environment | {"CUDA_VISIBLE_DEVICES": ""}
