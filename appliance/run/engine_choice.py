"""Which engine samples in this run, why, and what of the plan it is started with."""

from __future__ import annotations

from typing import Any

from appliance.config import Settings
from appliance.engine.sampling.vllm_engine import MOST_BATCHED_TOKENS
from appliance.errors import PrerequisiteError, UsageError
from appliance.machine.gpu import GIB
from appliance.machine.machine import Machine
from appliance.machine.software import installed_engines, vllm_fault
from appliance.sizing.choice import Choice
from appliance.sizing.plan import Plan

WINDOW_SLACK = 1.1
WINDOW_EXTRA_TOKENS = 2048
"""vLLM takes sequences this much longer than the longest task: views turn grids, and an answer is bounded by the largest grid
or a long program."""
STALL_BATCHES = 4
"""An engine is stuck after the time in which it could have read so many of its largest batches."""


def usable_engines(machine: Machine, asked: Settings) -> tuple[str, ...]:
    """Those that the plan may choose from. Raises PrerequisiteError when the one that is asked for cannot be used, UsageError
    for settings that exclude each other."""
    has_gpu, grammar = bool(machine.gpus), asked.sample.grammar
    if asked.model.engine == "transformers" and grammar != "none":
        raise UsageError(
            f"sample.grammar = {grammar} with --engine transformers",
            expected="vLLM, which alone forces answers into a grammar",
            remedy="leave model.engine at auto, or sample.grammar at none",
        )
    if asked.model.engine == "auto" and grammar == "none":
        return installed_engines(has_gpu=has_gpu)
    if asked.model.engine == "transformers":
        return ("transformers",)
    fault = vllm_fault(has_gpu=has_gpu)
    if fault:
        raise PrerequisiteError(
            f"{'--engine vllm' if asked.model.engine == 'vllm' else f'sample.grammar = {grammar}'}: {fault}",
            expected="vLLM for this machine",
            remedy="make engines (a GPU: make setup TARGET=gpu), or --engine auto",
        )
    return ("vllm",)


def choose_engine(machine: Machine, settings: Settings, sizing: Plan) -> Choice[str]:
    planned, asked = sizing.sample.engine, settings.model.engine
    if asked != "auto":
        return Choice(asked, "set by model.engine")
    if settings.sample.grammar != "none":
        return Choice("vllm", "sample.grammar needs it")
    if planned.value == "transformers":
        return Choice(planned.value, vllm_fault(has_gpu=bool(machine.gpus)) or planned.reason)
    if sizing.sample.residency.value == "in turns":
        return Choice(
            "transformers",
            f"vLLM would have to take turns with training: {sizing.sample.residency.reason}",
        )
    return planned


def vllm_setup(settings: Settings, sizing: Plan, *, has_gpu: bool) -> dict[str, Any]:
    """On a GPU vLLM's share of the memory says how much cache it has, on a CPU the bytes."""
    sample, serving = sizing.sample, settings.sample.serving
    longest = max(sizing.costs.sample.max_seq_tokens, sizing.costs.train.max_seq_tokens)
    window_tokens = int(WINDOW_SLACK * longest) + WINDOW_EXTRA_TOKENS
    window_bytes = (
        2 * sizing.costs.card.kv_bytes_per_token * window_tokens
    )  # float32 takes twice the 16 bits of the card
    largest_batch_s = MOST_BATCHED_TOKENS / max(1.0, sample.prefill_tokens_per_second)
    return {
        "serving": serving if serving != "auto" else "on-the-fly" if has_gpu else "merged",
        "window_tokens": window_tokens,
        "memory_share": sample.gpu_memory_utilization.value / settings.run.workers_per_card,
        "kv_cache_bytes": None
        if has_gpu
        else max(int(sample.memory.kv_gib * GIB), 2 * window_bytes),
        "max_num_seqs": sample.max_num_seqs.value,
        "stall_s": max(settings.sample.stall_s, STALL_BATCHES * largest_batch_s),
    }
