"""vLLM in this process: started once, then fed requests, adapters and weights. The GPU and the CPU wheel have one Python API.

What was measured of it, and why it is called as it is here:
- An exception inside a step leaves it waiting for ever: every one becomes EngineLost, and the worker ends.
- An adapter that it does not take must be refused by `add_lora`; the same refusal inside a step loses the engine.
- On the CPU, rows without adapter come out wrong beside rows with one when all slots are taken: they never share a batch.
- On the CPU, a seeded prompt that is read in pieces raises: prompts are read whole.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.engine.adapters import AdapterCard
from appliance.engine.base import EngineSpec, Request
from appliance.engine.environment import VLLM, VLLM_CPU, unchanged
from appliance.engine.load_model import is_out_of_memory
from appliance.errors import EngineError, EngineLost, OutOfMemory, first_line

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Those that vLLM has slots for; a slot larger than the adapter is paid for in full."""
BLOCK_TOKENS = 32
MOST_BATCHED_TOKENS = 8192


@dataclass(frozen=True)
class Adapter:
    """An adapter that the engine holds. number: never used twice, as the engine caches by it."""

    card: AdapterCard
    number: int

    def request(self) -> Any:
        """The adapter as vLLM asks for it."""
        from vllm.lora.request import LoRARequest

        return LoRARequest(f"adapter-{self.number}", self.number, str(self.card.folder))


@dataclass(frozen=True)
class Answer:
    """What one sample of a request came to. tokens: stop token included. is_stopped: it was reached."""

    key: int
    tokens: tuple[int, ...]
    logprob: float
    is_stopped: bool


class VllmEngine:
    """slots_rank: the highest rank of adapters served on the fly; None starts the engine without slots for any, which is
    faster on a CPU. num_tokens: written since the start, the sign that it is alive."""

    def __init__(
        self,
        spec: EngineSpec,
        *,
        stop_ids: tuple[int, ...],
        slots_rank: int | None,
        num_slots: int = 4,
    ) -> None:
        is_cpu = spec.device == "cpu"
        for name, value in (VLLM | (VLLM_CPU if is_cpu else {})).items():
            os.environ.setdefault(name, value)
        os.environ.setdefault("VLLM_CACHE_ROOT", str(spec.scratch_dir / "vllm"))
        try:
            from vllm import LLM

            _look_at_the_model_here(spec)
            with _temporary_files_in(spec.scratch_dir), _nothing_preloaded():
                self._llm = LLM(**_arguments(spec, slots_rank=slots_rank, num_slots=num_slots))
        except Exception as fault:
            if is_out_of_memory(fault):
                raise OutOfMemory(f"no room for vLLM: {first_line(fault)}") from fault
            raise EngineError(
                f"vLLM does not start: {first_line(fault)}", remedy="--engine transformers"
            ) from fault
        self._engine: Any = self._llm.llm_engine
        self._stop_ids = stop_ids
        self._model_dir = spec.model_dir
        self.has_base_weights = True
        self.slots_rank = slots_rank
        self.num_tokens = 0
        self._next_number = 1
        self._next_request = 0
        self._count_tokens()

    def add(self, card: AdapterCard) -> Adapter:
        """Load an adapter. Raises EngineError when the engine refuses it; it then goes on as before."""
        adapter = Adapter(card, self._next_number)
        self._next_number += 1
        try:
            if not self._engine.add_lora(adapter.request()):
                raise ValueError("add_lora returned false")
        except Exception as fault:
            raise EngineError(
                f"vLLM refuses adapter {card.folder.name}: {first_line(fault)}"
            ) from fault
        return adapter

    def remove(self, adapter: Adapter) -> None:
        self._engine.remove_lora(adapter.number)

    def put_weights(self, weights: Sequence[tuple[str, Any]]) -> None:
        """Replace the weights by (name in the checkpoint, tensor) pairs; nothing cached before is used again.

        Raises EngineLost when it fails half-way.
        """
        self.has_base_weights = False
        self._reload(weights_iterator=list(weights))

    def put_base_weights(self) -> None:
        """Those of the model folder again."""
        self._reload(weights_path=str(self._model_dir))
        self.has_base_weights = True

    def _reload(self, **source: Any) -> None:
        try:
            self._llm.collective_rpc("reload_weights", kwargs=source)
            if not self._llm.reset_prefix_cache():
                raise RuntimeError("the prefix cache is in use")
        except Exception as fault:
            raise EngineLost(f"vLLM did not take new weights: {first_line(fault)}") from fault

    def submit(self, request: Request, key: int, adapter: Adapter | None) -> str:
        """Queue a request under a key; returns its name. Raises EngineError for one that the engine does not take."""
        lora = None if adapter is None else adapter.request()
        name = f"{key}:{self._next_request}"
        self._next_request += 1
        try:
            self._engine.add_request(
                name,
                {"prompt_token_ids": list(request.prompt_ids)},
                _sampling(request, self._stop_ids),
                lora_request=lora,
            )
        except ValueError as fault:  # checked before it is queued
            raise EngineError(f"vLLM does not take the request: {first_line(fault)}") from fault
        return name

    def step(self) -> Iterator[Answer]:
        """One step of the engine and the answers that it finished; those cut off give none."""
        import torch

        try:
            with torch.random.fork_rng(
                devices=[]
            ):  # rows with a seed of their own draw from the common generator as well
                outputs = self._engine.step()
        except Exception as fault:
            if is_out_of_memory(fault):
                raise OutOfMemory(f"no room for a step of vLLM: {first_line(fault)}") from fault
            raise EngineLost(
                f"a step of vLLM failed: {type(fault).__name__}: {first_line(fault)}"
            ) from fault
        for output in outputs:
            if output.finished:
                key = int(output.request_id.split(":")[0])
                for sample in output.outputs:
                    if sample.finish_reason in ("stop", "length"):
                        is_stopped = sample.finish_reason == "stop"
                        yield Answer(
                            key,
                            tuple(sample.token_ids),
                            float(sample.cumulative_logprob),
                            is_stopped,
                        )

    def abort(self, names: Sequence[str]) -> None:
        self._engine.abort_request(list(names), internal=False)

    def next_logprobs(
        self, prompt_ids: Sequence[int], adapter: Adapter | None, *, num_tokens: int
    ) -> dict[int, float]:
        """Log-probabilities of the likeliest next tokens."""
        from vllm import SamplingParams

        lora = None if adapter is None else adapter.request()
        params = SamplingParams(
            temperature=0.0, max_tokens=1, logprobs=num_tokens, detokenize=False
        )
        try:
            (output,) = self._llm.generate(
                [{"prompt_token_ids": list(prompt_ids)}], params, lora_request=lora, use_tqdm=False
            )
        except Exception as fault:
            raise EngineLost(
                f"a step of vLLM failed: {type(fault).__name__}: {first_line(fault)}"
            ) from fault
        return {token: found.logprob for token, found in output.outputs[0].logprobs[0].items()}

    def raw(self) -> Any:
        """vLLM's own LLM object, to measure against."""
        return self._llm

    def _count_tokens(self) -> None:
        """Steps come back also from an engine that does nothing any more; only tokens show that it works."""
        inner = self._engine.engine_core.get_output

        def counted() -> Any:
            outputs = inner()
            self.num_tokens += sum(len(o.new_token_ids) for o in outputs.outputs)
            return outputs

        self._engine.engine_core.get_output = counted


def _look_at_the_model_here(spec: EngineSpec) -> None:
    """vLLM asks a process of its own what its class for the model can do, which imports everything once more: half of the time
    to start. A class that is registered as such is asked in this process."""
    from vllm.model_executor.models.registry import ModelRegistry

    for name in json.loads((spec.model_dir / "config.json").read_text()).get("architectures") or ():
        if name in ModelRegistry.models:
            ModelRegistry.register_model(name, ModelRegistry.models[name].load_model_cls())


def _arguments(spec: EngineSpec, *, slots_rank: int | None, num_slots: int) -> dict[str, Any]:
    is_cpu = spec.device == "cpu"
    arguments: dict[str, Any] = {
        "model": str(spec.model_dir),
        "dtype": spec.autocast_dtype or spec.dtype,
        "seed": 0,
        "max_model_len": spec.max_seq_tokens,
        "max_num_seqs": spec.max_num_seqs,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "max_logprobs": 32,
    }
    if is_cpu:
        arguments |= {
            "enforce_eager": True,
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(spec.max_seq_tokens, MOST_BATCHED_TOKENS),
            "block_size": BLOCK_TOKENS,
        }
    else:
        arguments["gpu_memory_utilization"] = spec.memory_share
        arguments |= {"quantization": "bitsandbytes"} if spec.quantization == "nf4" else {}
    if spec.kv_cache_bytes is not None:
        arguments["kv_cache_memory_bytes"] = spec.kv_cache_bytes
    if slots_rank is not None:
        rank = next(r for r in RANKS if r >= slots_rank)
        arguments |= {
            "enable_lora": True,
            "max_loras": num_slots,
            "max_cpu_loras": 2 * num_slots,
            "max_lora_rank": rank,
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
    """vLLM leaves the file by which its processes meet."""
    folder.mkdir(parents=True, exist_ok=True)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _sampling(request: Request, stop_ids: tuple[int, ...]) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    is_greedy = request.temperature == 0
    return SamplingParams(
        n=request.num_samples,
        temperature=request.temperature,
        top_p=1.0 if is_greedy else request.top_p,
        seed=None if is_greedy else request.seed % (1 << 63),
        max_tokens=request.max_new_tokens,
        stop_token_ids=list(stop_ids),
        ignore_eos=True,  # the stop tokens are ours, not those of the generation configuration
        logprobs=0,
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        structured_outputs=StructuredOutputsParams(regex=request.pattern)
        if request.pattern
        else None,
    )
