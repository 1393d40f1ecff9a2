"""How vLLM is started in this process: with what arguments, and what it is kept from."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from appliance.engine.adapter.serving import RANKS
from appliance.engine.base import EngineSpec
from appliance.engine.device_faults import is_out_of_memory
from appliance.engine.environment import hide_flashinfer, unchanged, vllm_variables
from appliance.engine.folder.weights import has_own_head
from appliance.errors import EngineError, OutOfMemory, first_line

BLOCK_TOKENS = 32
"""Tokens of one block of the cache on a CPU."""

MOST_BATCHED_TOKENS = 8192
"""Prompt tokens that one step may read, where no single prompt is longer."""

MOST_LIKELY = 32
"""Likeliest tokens that a step may tell."""


def start_llm(spec: EngineSpec, *, slots_rank: int | None) -> Any:
    """vLLM's own LLM object.

    slots_rank: highest rank of adapters served on the fly, None for none. Raises EngineError when
    it does not start, OutOfMemory when it has no room.
    """
    variables = vllm_variables(device=spec.device, quantization=spec.quantization)
    for name, value in variables.items():
        # Empty is as good as unset: an engine before this one needed no plug-in.
        os.environ[name] = os.environ.get(name) or value
    os.environ.setdefault("VLLM_CACHE_ROOT", str(spec.scratch_dir / "vllm"))
    hide_flashinfer()

    try:
        from vllm import LLM

        _register_model_class(spec)
        with _temporary_files_in(spec.scratch_dir), _nothing_preloaded():
            return LLM(**_arguments(spec, slots_rank=slots_rank))
    except Exception as fault:
        if is_out_of_memory(fault):
            raise OutOfMemory(f"no room for vLLM: {first_line(fault)}") from fault
        raise EngineError(
            f"vLLM does not start: {first_line(fault)}", remedy="--engine transformers"
        ) from fault


def _register_model_class(spec: EngineSpec) -> None:
    """Register the model's class, so that vLLM asks it in this process what it can do.

    Else vLLM starts a process of its own to ask, which imports everything once more and takes half
    of the time to start.
    """
    from vllm.model_executor.models.registry import ModelRegistry

    for name in json.loads((spec.model_dir / "config.json").read_text()).get("architectures") or ():
        if name in ModelRegistry.models:
            ModelRegistry.register_model(name, ModelRegistry.models[name].load_model_cls())


def _arguments(spec: EngineSpec, *, slots_rank: int | None) -> dict[str, Any]:
    """What vLLM is started with."""
    arguments: dict[str, Any] = {
        "model": str(spec.model_dir),
        "dtype": spec.autocast_dtype or spec.dtype,
        "trust_remote_code": False,
        "seed": 0,
        "max_model_len": spec.max_seq_tokens,
        "max_num_seqs": spec.max_num_seqs,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "max_logprobs": MOST_LIKELY,
    }

    if spec.device == "cpu":
        arguments |= {
            "enforce_eager": True,
            "enable_chunked_prefill": False,  # see vllm_engine.py: prompts are read whole
            "max_num_batched_tokens": max(spec.max_seq_tokens, MOST_BATCHED_TOKENS),
            "block_size": BLOCK_TOKENS,
        }
    else:
        arguments["gpu_memory_utilization"] = spec.memory_share
        arguments["enable_sleep_mode"] = spec.sleeps

    if has_own_head(spec.model_dir):
        # As Transformers does, with which the adapters are trained.
        arguments["hf_overrides"] = {"tie_word_embeddings": False}
    if spec.quantization == "nf4":
        arguments["quantization"] = "bitsandbytes"
    if spec.kv_cache_bytes is not None:
        arguments["kv_cache_memory_bytes"] = spec.kv_cache_bytes
    if slots_rank is not None:
        # One slot, because one task's adapter samples at a time. Each takes the memory of an
        # adapter of the highest rank: at rank 256, half a gigabyte beside 4 billion parameters.
        arguments |= {
            "enable_lora": True,
            "max_loras": 1,
            "max_cpu_loras": 1,
            "max_lora_rank": next(r for r in RANKS if r >= slots_rank),
        }

    return arguments


@contextmanager
def _nothing_preloaded() -> Iterator[None]:
    """Keep vLLM from setting LD_PRELOAD while it starts.

    On a CPU it does so for worker processes of its own, of which there are none here. What this
    process starts would load the allocator and OpenMP for nothing: lscpu, the sandbox. And where
    the path of the installation has a space or a colon, which LD_PRELOAD takes for the end of a
    name, the loader would complain in each of them ("cannot be preloaded").
    """
    from vllm.platforms import current_platform

    platform = type(current_platform)
    inner = platform.__dict__.get("check_and_update_config")
    if inner is None:
        yield
        return

    def checked(cls: Any, *given: Any, **named: Any) -> Any:
        with unchanged("LD_PRELOAD"):
            return inner.__get__(None, cls)(*given, **named)

    platform.check_and_update_config = classmethod(checked)
    try:
        yield
    finally:
        platform.check_and_update_config = inner


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Have Python make temporary files in this folder.

    vLLM leaves one behind, by which its processes meet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
