"""Sampling with Transformers `generate`: KV cache, batches of prompts of like length, left padding.

The engine for machines where vLLM is not installed or does not repay its start-up. Log-probabilities are taken step by step
from the raw logits, so memory does not grow with vocabulary x length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from appliance.clock import Deadline
from appliance.engine.base import Completion, Request
from appliance.engine.model import is_out_of_memory
from appliance.errors import OutOfMemory

MAX_PADDING_RATIO = 1.25
MIN_PADDING = 32
"""A row joins a batch while its prompt is at most 1.25 x the shortest + 32 tokens: padding costs attention as text does."""


class TransformersSampler:
    """A Sampler on whatever model `get_model` returns at the time of the call (the trainer's, adapted or plain).

    batch_tokens: upper bound for (prompt + new tokens) x rows of one batch, the size of its KV cache. takes_cache: `forward`
    fills a cache of Transformers that it is given. Then it is given ours (`cache.py`), and a prompt of many samples is read
    once and its cache repeated (8 samples of 350 tokens each by arc-mini: 3.6 times as fast on a CPU).
    """

    def __init__(
        self,
        get_model: Callable[[], Any],
        *,
        pad_id: int,
        stop_ids: tuple[int, ...],
        batch_tokens: int,
        takes_cache: bool = True,
    ) -> None:
        self._get_model = get_model
        self._takes_cache = takes_cache
        self._pad_id = pad_id
        self._stop_ids = stop_ids
        self._batch_tokens = batch_tokens

    def sample(self, requests: Sequence[Request], *, deadline: Deadline) -> Iterator[list[Completion]]:
        for batch in self._batches(requests):
            if deadline.is_past():
                return
            try:
                yield list(self._run(requests, batch, deadline))
            except (RuntimeError, MemoryError) as fault:
                if not is_out_of_memory(fault):
                    raise
                raise OutOfMemory(f"no room to sample {len(batch)} prompts at once") from fault

    def _batches(self, requests: Sequence[Request]) -> Iterator[list[int]]:
        """Row indices (a request of n samples stands n times), shortest prompts first, within the token bound."""
        rows = [i for i, r in enumerate(requests) for _ in range(r.num_samples)]
        rows.sort(key=lambda i: (requests[i].temperature > 0, len(requests[i].prompt_ids), i))
        batch: list[int] = []
        for i in rows:
            if batch and not self._goes_with(requests, [*batch, i]):
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _goes_with(self, requests: Sequence[Request], batch: list[int]) -> bool:
        """Whether the last row may join: same sampling, not too much padding, within the token bound."""
        first, last = requests[batch[0]], requests[batch[-1]]
        if (first.temperature, first.top_p) != (last.temperature, last.top_p):
            return False
        width = len(last.prompt_ids)  # rows come shortest first
        if width > MAX_PADDING_RATIO * len(first.prompt_ids) + MIN_PADDING:
            return False
        longest = width + max(requests[i].max_new_tokens for i in batch)
        return longest * len(batch) <= self._batch_tokens

    def _run(self, requests: Sequence[Request], batch: list[int], deadline: Deadline) -> Iterator[Completion]:
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        from appliance.engine.cache import growing_cache

        model = self._get_model()
        device = next(model.parameters()).device
        width = max(len(requests[i].prompt_ids) for i in batch)
        ids = torch.full((len(batch), width), self._pad_id)
        mask = torch.zeros((len(batch), width), dtype=torch.long)
        for row, i in enumerate(batch):
            prompt = torch.tensor(requests[i].prompt_ids)
            ids[row, width - len(prompt) :] = prompt
            mask[row, width - len(prompt) :] = 1
        first = requests[batch[0]]
        recorder = _logprob_recorder(width)
        sampling: dict[str, Any] = {"do_sample": False}
        if first.temperature > 0:
            sampling = {"do_sample": True, "temperature": first.temperature, "top_p": first.top_p, "top_k": 0}
        with (
            torch.inference_mode(),
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        ):
            torch.manual_seed(first.seed)
            if self._takes_cache:
                sampling["past_key_values"] = cache = growing_cache(model.config)
                if len(set(batch)) < len(batch):
                    _read_once(model, cache, ids.to(device), mask.to(device), batch)
            written = model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                max_new_tokens=max(requests[i].max_new_tokens for i in batch),
                pad_token_id=self._pad_id,
                eos_token_id=list(self._stop_ids),
                logits_processor=LogitsProcessorList([recorder]),
                stopping_criteria=StoppingCriteriaList([_stop_when_past(deadline)]),
                use_cache=True,
                **sampling,
            )
        steps = recorder.close(written)
        for row, i in enumerate(batch):
            yield from self._completion(i, requests[i], written[row, width:].tolist(), steps[row])

    def _completion(
        self, index: int, request: Request, tokens: list[int], logprobs: list[float]
    ) -> Iterator[Completion]:
        tokens = tokens[: request.max_new_tokens]
        stop = next((t for t, token in enumerate(tokens) if token in self._stop_ids), None)
        if stop is None and len(tokens) < request.max_new_tokens:
            return  # cut off by the deadline
        num_tokens = len(tokens) if stop is None else stop + 1
        yield Completion(
            request_index=index,
            ids=tuple(tokens[:stop]),
            logprob=float(sum(logprobs[:num_tokens])),
            num_tokens=num_tokens,
            is_complete=stop is not None,
        )


def _read_once(model: Any, cache: Any, ids: Any, mask: Any, batch: list[int]) -> None:
    """Fills the cache with all rows but for their last token, each prompt read once."""
    import torch

    unique = list(dict.fromkeys(batch))
    firsts = [batch.index(i) for i in unique]
    known = mask[firsts, :-1]
    positions = (known.cumsum(-1) - 1).clamp(min=0)
    model(
        input_ids=ids[firsts, :-1],
        attention_mask=known,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    cache.batch_select_indices(torch.tensor([unique.index(i) for i in batch], device=ids.device))


def _logprob_recorder(prompt_width: int) -> Any:
    """A logits processor that changes nothing and keeps the log-probability of every token that was then chosen."""
    import torch
    from transformers import LogitsProcessor

    class Recorder(LogitsProcessor):  # type: ignore[misc]
        def __init__(self) -> None:
            self._last: torch.Tensor | None = None
            self._steps: list[torch.Tensor] = []

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            self._take(input_ids)
            self._last = scores.float().log_softmax(-1)
            return scores

        def _take(self, input_ids: torch.Tensor) -> None:
            if self._last is not None:
                self._steps.append(self._last.gather(1, input_ids[:, -1:])[:, 0])

        def close(self, written: torch.Tensor) -> list[list[float]]:
            """(B, steps) log-probabilities of written[:, prompt_width:]."""
            self._take(written)
            if not self._steps:
                return [[] for _ in range(written.shape[0])]
            rows: list[list[float]] = torch.stack(self._steps, dim=1).tolist()
            return rows

    return Recorder()


def _stop_when_past(deadline: Deadline) -> Any:
    import torch
    from transformers import StoppingCriteria

    class Stop(StoppingCriteria):  # type: ignore[misc]
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
            return torch.full((input_ids.shape[0],), deadline.is_past(), device=input_ids.device)

    return Stop()
