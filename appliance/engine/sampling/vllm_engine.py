"""vLLM in this process: started once, then fed requests, adapters and weights.

The packages for GPU and CPU have the same Python API. What was measured of it, and why it is called
as it is here:
- An exception inside a step leaves it waiting for ever. Every one becomes EngineLost, and the
  worker ends.
- An adapter that it does not take must be refused by `add_lora`; the same refusal inside a step
  loses the engine.
- On the CPU, rows without adapter come out wrong beside rows with one when all slots are taken.
  There is one slot, and what is sampled together has the same adapter, or none.
- On the CPU, a seeded prompt that is read in pieces raises. So prompts are read whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.engine.adapter.serving import AdapterCard
from appliance.engine.base import EngineSpec, Request
from appliance.engine.device_faults import is_out_of_memory
from appliance.engine.sampling.vllm_start import start_llm
from appliance.errors import EngineError, EngineLost, OutOfMemory, first_line


@dataclass(frozen=True)
class LoadedAdapter:
    """An adapter that the engine holds."""

    card: AdapterCard
    number: int  # never used twice, because the engine caches by it

    def request(self) -> Any:
        """The adapter as vLLM asks for it."""
        from vllm.lora.request import LoRARequest

        return LoRARequest(f"adapter-{self.number}", self.number, str(self.card.folder))


@dataclass(frozen=True)
class FinishedSample:
    """One sample of a request, written to its end."""

    key: int  # of the request
    tokens: tuple[int, ...]  # stop token included
    logprob: float
    is_stopped: bool  # the stop token was reached


@dataclass(frozen=True)
class WrittenToken:
    """One more token of a request that is asked for its tokens."""

    key: int  # of the request
    token: int
    likely: Mapping[int, float]  # log-probability of the likeliest tokens, and of this one


class VllmEngine:
    """vLLM with a model loaded.

    `num_tokens` counts the tokens written since the start: the sign that the engine is alive. While
    it sleeps (`is_asleep`) nothing may be asked of it.
    """

    def __init__(
        self, spec: EngineSpec, *, stop_ids: tuple[int, ...], slots_rank: int | None
    ) -> None:
        """slots_rank: highest rank of adapters served on the fly. None starts the engine without
        a slot for one, which is faster on a CPU.

        Raises EngineError when vLLM does not start, OutOfMemory when it has no room.
        """
        self._llm = start_llm(spec, slots_rank=slots_rank)
        self._engine: Any = self._llm.llm_engine
        self._stop_ids = stop_ids
        self._model_dir = spec.model_dir
        self.has_base_weights = True
        self.slots_rank = slots_rank
        self.is_asleep = False
        self._sleeps = spec.sleeps
        self.num_tokens = 0
        self._next_number = 1
        self._next_request = 0
        self._count_tokens()

    def sleep(self) -> None:
        """Leave the GPU to training, where the spec says so, until `wake_up`.

        Weights and adapters go to the host, the cache is dropped; what CUDA and its graphs hold
        stays. vLLM for the CPU goes through the same, but keeps its memory. Raises EngineLost when
        it fails.
        """
        if self._sleeps and not self.is_asleep:
            self.is_asleep = True
            self._change_state(lambda: self._llm.sleep(level=1))

    def wake_up(self) -> None:
        """Come back with the same weights and adapters.

        Raises EngineLost when it fails, for want of memory above all.
        """
        import torch

        if self.is_asleep:
            torch.cuda.empty_cache()  # what training has freed; nothing where there is no GPU
            self._change_state(self._llm.wake_up)
            self.is_asleep = False

    def _change_state(self, change: Callable[[], object]) -> None:
        try:
            change()
        except Exception as fault:
            raise EngineLost(
                f"vLLM does not share the GPU with training: {first_line(fault)}",
                remedy="--engine transformers",
            ) from fault

    def _check_awake(self) -> None:
        if self.is_asleep:
            raise EngineLost("vLLM was asked while it sleeps", expected="wake_up before")

    def add(self, card: AdapterCard) -> LoadedAdapter:
        """Load an adapter.

        Raises EngineError when the engine refuses it; the engine then goes on as before.
        """
        self._check_awake()
        adapter = LoadedAdapter(card, self._next_number)
        self._next_number += 1

        try:
            if not self._engine.add_lora(adapter.request()):
                raise ValueError("add_lora returned false")
        except Exception as fault:
            raise EngineError(
                f"vLLM refuses adapter {card.folder.name}: {first_line(fault)}"
            ) from fault
        return adapter

    def remove(self, adapter: LoadedAdapter) -> None:
        self._check_awake()
        self._engine.remove_lora(adapter.number)

    def put_weights(self, weights: Iterable[tuple[str, Any]]) -> None:
        """Replace the weights by (name in the checkpoint, tensor) pairs, which are read once.

        What was cached with the old ones is not used again. Raises EngineLost when it fails
        half-way.
        """
        self.has_base_weights = False
        self._reload(weights_iterator=iter(weights))

    def put_base_weights(self) -> None:
        """Go back to the weights of the model folder. Raises EngineLost when it fails half-way."""
        self._reload(weights_path=str(self._model_dir))
        self.has_base_weights = True

    def _reload(self, **source: Any) -> None:
        self._check_awake()
        try:
            self._llm.collective_rpc("reload_weights", kwargs=source)
            if not self._llm.reset_prefix_cache():
                raise RuntimeError("the prefix cache is in use")
        except Exception as fault:
            raise EngineLost(f"vLLM did not take new weights: {first_line(fault)}") from fault

    def submit(self, request: Request, key: int, adapter: LoadedAdapter | None) -> str:
        """Queue a request under a key; returns its name, by which it can be aborted.

        Raises EngineError for a request that the engine does not take.
        """
        return self._submit(request, key, adapter, _sampling(request, self._stop_ids))

    def submit_for_tokens(
        self, request: Request, key: int, adapter: LoadedAdapter | None, *, num_likely: int
    ) -> str:
        """Queue a request to be written greedily, for `step_tokens`; returns its name.

        num_likely: tokens told at every step, at most `MOST_LIKELY` (vllm_start.py). Raises
        EngineError for a request that the engine does not take.
        """
        return self._submit(request, key, adapter, _token_by_token(request, num_likely))

    def _submit(
        self, request: Request, key: int, adapter: LoadedAdapter | None, params: Any
    ) -> str:
        self._check_awake()
        lora = None if adapter is None else adapter.request()
        name = f"{key}:{self._next_request}"
        self._next_request += 1

        prompt = {"prompt_token_ids": list(request.prompt_ids)}
        try:
            self._engine.add_request(name, prompt, params, lora_request=lora)
        except ValueError as fault:  # checked before it is queued
            raise EngineError(f"vLLM does not take the request: {first_line(fault)}") from fault
        return name

    def step(self) -> Iterator[FinishedSample]:
        """One step of the engine, and the samples that it finished; those cut off give none.

        Raises EngineLost when the step fails, OutOfMemory when there is no room for it.
        """
        for output in self._step():
            if not output.finished:
                continue
            for sample in output.outputs:
                if sample.finish_reason in ("stop", "length"):
                    yield FinishedSample(
                        key=_key_of(output),
                        tokens=tuple(sample.token_ids),
                        logprob=float(sample.cumulative_logprob),
                        is_stopped=sample.finish_reason == "stop",
                    )

    def step_tokens(self) -> Iterator[WrittenToken]:
        """One step of the engine, and the tokens that it wrote. Raises as `step` does."""
        for output in self._step():
            (sample,) = output.outputs
            for token, row in zip(sample.token_ids, sample.logprobs or (), strict=True):
                likely = {other: float(value.logprob) for other, value in row.items()}
                yield WrittenToken(_key_of(output), int(token), likely)

    def _step(self) -> Sequence[Any]:
        """What the engine gives out."""
        import torch

        try:
            # Rows with a seed of their own draw from the common generator as well.
            with torch.random.fork_rng(devices=[]):
                outputs: Sequence[Any] = self._engine.step()
        except Exception as fault:
            if is_out_of_memory(fault):
                raise OutOfMemory(f"no room for a step of vLLM: {first_line(fault)}") from fault
            raise EngineLost(
                f"a step of vLLM failed: {type(fault).__name__}: {first_line(fault)}"
            ) from fault

        return outputs

    def abort(self, names: Sequence[str]) -> None:
        self._engine.abort_request(list(names), internal=False)

    def next_logprobs(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: LoadedAdapter | None,
        *,
        num_tokens: int,
    ) -> list[dict[int, float]]:
        """Log-probabilities of the likeliest next tokens after each prompt.

        Raises EngineLost when the step fails.
        """
        from vllm import SamplingParams

        self._check_awake()
        lora = None if adapter is None else adapter.request()
        params = SamplingParams(
            temperature=0.0, max_tokens=1, logprobs=num_tokens, detokenize=False
        )

        try:
            outputs = self._llm.generate(
                [{"prompt_token_ids": list(ids)} for ids in prompts],
                params,
                lora_request=lora,
                use_tqdm=False,
            )
        except Exception as fault:
            raise EngineLost(
                f"a step of vLLM failed: {type(fault).__name__}: {first_line(fault)}"
            ) from fault

        found = [output.outputs[0].logprobs[0] for output in outputs]
        return [{token: value.logprob for token, value in row.items()} for row in found]

    def close(self) -> None:
        """End the engine and give back its memory; nothing can be asked of it afterwards."""
        self._engine.engine_core.shutdown()
        del self._llm, self._engine

    def raw(self) -> Any:
        """vLLM's own LLM object, to measure against."""
        return self._llm

    def _count_tokens(self) -> None:
        """Count every token that the engine writes.

        Steps come back also from an engine that does nothing any more; only tokens show that it
        works.
        """
        inner = self._engine.engine_core.get_output

        def counted() -> Any:
            outputs = inner()
            self.num_tokens += sum(len(o.new_token_ids) for o in outputs.outputs)
            return outputs

        self._engine.engine_core.get_output = counted


def _sampling(request: Request, stop_ids: tuple[int, ...]) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    is_greedy = request.temperature == 0
    pattern = StructuredOutputsParams(regex=request.pattern) if request.pattern else None
    return SamplingParams(
        n=request.num_samples,
        temperature=request.temperature,
        top_p=1.0 if is_greedy else request.top_p,
        seed=None if is_greedy else request.seed % (1 << 63),
        max_tokens=request.max_new_tokens,
        stop_token_ids=list(stop_ids),
        ignore_eos=True,  # the stop tokens are ours, not those of the model's configuration
        logprobs=0,
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        structured_outputs=pattern,
    )


def _token_by_token(request: Request, num_likely: int) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=0.0,
        max_tokens=request.max_new_tokens,
        ignore_eos=True,  # whoever reads the tokens ends it at a stop token
        logprobs=num_likely,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )


def _key_of(output: Any) -> int:
    return int(output.request_id.split(":")[0])
