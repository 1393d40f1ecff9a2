"""Sampling with Transformers `generate`: KV cache, batches of prompts of like length, left padding.

The engine for machines where vLLM is not installed or does not repay its start-up. Log-
probabilities are taken step by step from the raw logits, so that memory does not grow with
vocabulary x length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from appliance.clock import Deadline
from appliance.engine.base import Completion, Request
from appliance.engine.device_faults import is_out_of_memory
from appliance.engine.sampling.batches import Batch, padded
from appliance.engine.sampling.threshold_search import ThresholdSearch
from appliance.errors import OutOfMemory
from appliance.seeds import seed_of

STRETCH = 16
"""Tokens written before the rows that are done leave the batch."""


class TransformersSampler:
    """A Sampler on whatever model `get_model` returns at the time of the call.

    It is the trainer's model, adapted or plain.
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
        """batch_tokens: upper bound for (prompt + new tokens) x rows of a batch, the size of its
        KV cache.

        takes_cache: the model's `forward` fills a cache of Transformers that it is given. It is
        then given ours (`kv_cache.py`), and a prompt of many samples is read once and its cache
        repeated (8 samples of 350 tokens each by arc-mini: 3.6 times as fast on a CPU). Without it
        a search above a threshold is not possible, and gives the greedy answer.
        """
        self._get_model = get_model
        self._takes_cache = takes_cache
        self._pad_id = pad_id
        self._stop_ids = stop_ids
        self._batch_tokens = batch_tokens

    def sample(
        self, requests: Sequence[Request], *, deadline: Deadline
    ) -> Iterator[list[Completion]]:
        written = [
            i for i, r in enumerate(requests) if r.threshold is None or not self._takes_cache
        ]
        try:
            for number, batch in enumerate(self._batches(requests, written)):
                if deadline.is_past():
                    return
                yield list(self._run(requests, batch, deadline, number))
            if len(written) < len(requests):
                yield from self._search(requests).run(deadline)
        except (RuntimeError, MemoryError) as fault:
            if not is_out_of_memory(fault):
                raise
            raise OutOfMemory(f"no room to sample {len(requests)} prompts") from fault

    def _search(self, requests: Sequence[Request]) -> ThresholdSearch:
        return ThresholdSearch(
            self._get_model(),
            requests,
            pad_id=self._pad_id,
            stop_ids=self._stop_ids,
            batch_tokens=self._batch_tokens,
        )

    def _batches(self, requests: Sequence[Request], indices: Sequence[int]) -> Iterator[list[int]]:
        """Indices of these requests, one for each row: a request of n samples takes n rows.

        The first row that is left begins a batch, and those that go with it fill it in the order in
        which they are asked. So what a deadline cuts off is what was asked last.
        """
        rows = [i for i in indices for _ in range(requests[i].num_samples)]
        while rows:
            batch, left = Batch(self._batch_tokens), []
            for i in rows:
                if not batch.takes(i, requests[i]):
                    left.append(i)
            yield batch.rows
            rows = left

    def _run(
        self, requests: Sequence[Request], batch: list[int], deadline: Deadline, number: int
    ) -> Iterator[Completion]:
        """number: of the batch. Several of them may ask the same prompt."""
        import torch
        from transformers import LogitsProcessorList

        model = self._get_model()
        device = next(model.parameters()).device
        asked = [requests[i] for i in batch]
        ids, mask = padded([r.prompt_ids for r in asked], pad_id=self._pad_id, device=device)
        answers = [_RowAnswer(request, self._stop_ids) for request in asked]

        # Seeded for this batch alone; outside of it the generators go on as if nothing had been.
        own_rng = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
        with torch.inference_mode(), own_rng:
            torch.manual_seed(seed_of(asked[0].seed, "batch", number) if number else asked[0].seed)
            cache = self._cache(model, ids, mask, batch)
            arguments = self._generate_arguments(asked[0], cache, deadline)

            rows = list(range(len(batch)))
            while rows and not deadline.is_past():
                # Without a cache of ours nothing carries over to a next call, so it is all in one.
                num_left = max(answers[row].num_left for row in rows)
                num_tokens = num_left if cache is None else min(num_left, STRETCH)
                recorder = _logprob_recorder()
                written = model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    max_new_tokens=num_tokens,
                    logits_processor=LogitsProcessorList([recorder]),
                    **arguments,
                )

                more_ids, logprobs = written[:, ids.shape[1] :].tolist(), recorder.close(written)
                for row, more, values in zip(rows, more_ids, logprobs, strict=True):
                    answers[row].add(more, values)

                # Rows that are done leave the batch.
                going = [n for n, row in enumerate(rows) if answers[row].num_left]
                num_written = written.shape[1] - ids.shape[1]
                mask = torch.nn.functional.pad(mask, (0, num_written), value=1)[going]
                ids = written[going]
                if cache is not None and 0 < len(going) < len(rows):
                    cache.batch_select_indices(torch.tensor(going, device=device))
                rows = [rows[n] for n in going]

        for index, answer in zip(batch, answers, strict=True):
            if answer.num_left:
                continue  # cut off by the deadline
            yield Completion(
                request_index=index,
                ids=tuple(answer.ids),
                logprob=answer.logprob,
                num_tokens=answer.num_tokens,
                is_complete=answer.is_complete,
            )

    def _generate_arguments(self, first: Request, cache: Any, deadline: Deadline) -> dict[str, Any]:
        """What every call of `generate` for a batch is told."""
        from transformers import StoppingCriteriaList

        arguments: dict[str, Any] = {
            "pad_token_id": self._pad_id,
            "eos_token_id": list(self._stop_ids),
            "stopping_criteria": StoppingCriteriaList([_stop_when_past(deadline)]),
            "use_cache": True,
            "do_sample": first.temperature > 0,
        }
        if first.temperature > 0:
            arguments |= {"temperature": first.temperature, "top_p": first.top_p, "top_k": 0}
        if cache is not None:
            arguments["past_key_values"] = cache
        return arguments

    def _cache(self, model: Any, ids: Any, mask: Any, batch: list[int]) -> Any:
        """A cache of ours, where the model takes one and its configuration names no other.

        Empty, or filled with all tokens but the last where rows share prompts.
        """
        if not self._takes_cache or model.generation_config.cache_implementation is not None:
            return None

        from appliance.engine.sampling.kv_cache import growing_cache

        cache = growing_cache(model.config)
        if len(set(batch)) < len(batch):
            _read_once(model, cache, ids, mask, batch)
        return cache


class _RowAnswer:
    """What a row has written so far. The log-probability counts the stop token as well."""

    def __init__(self, request: Request, stop_ids: tuple[int, ...]) -> None:
        self.ids: list[int] = []
        self.logprob = 0.0
        self.is_complete = False
        self._left = request.max_new_tokens
        self._stop_ids = stop_ids

    @property
    def num_left(self) -> int:
        """Tokens that the row may still write."""
        return 0 if self.is_complete else self._left

    @property
    def num_tokens(self) -> int:
        """Tokens written, the stop token included."""
        return len(self.ids) + self.is_complete

    def add(self, ids: Sequence[int], logprobs: Sequence[float]) -> None:
        """Add tokens; what follows the stop token or the last token asked for is left out."""
        for token, logprob in zip(ids, logprobs, strict=True):
            if not self.num_left:
                return

            self._left -= 1
            self.logprob += logprob
            if token in self._stop_ids:
                self.is_complete = True
            else:
                self.ids.append(token)


def _read_once(model: Any, cache: Any, ids: Any, mask: Any, batch: list[int]) -> None:
    """Fill the cache with all rows but for their last token; each prompt is read once."""
    import torch

    unique = list(dict.fromkeys(batch))
    firsts = [batch.index(i) for i in unique]
    known = mask[firsts, :-1]
    positions = (known.cumsum(-1) - 1).clamp(min=0)  # padding on the left does not count

    model(
        input_ids=ids[firsts, :-1],
        attention_mask=known,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    # Repeat each prompt's keys and values for its rows.
    cache.batch_select_indices(torch.tensor([unique.index(i) for i in batch], device=ids.device))


def _logprob_recorder() -> Any:
    """A logits processor that changes nothing and records.

    It keeps the log-probability of every token that was then chosen.
    """
    import torch
    from transformers import LogitsProcessor

    class Recorder(LogitsProcessor):  # type: ignore[misc]
        def __init__(self) -> None:
            self._last: torch.Tensor | None = None
            self._steps: list[torch.Tensor] = []

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            self._take(input_ids)  # its last token was chosen from the scores of the step before
            self._last = scores.float().log_softmax(-1)
            return scores

        def _take(self, input_ids: torch.Tensor) -> None:
            if self._last is not None:
                self._steps.append(self._last.gather(1, input_ids[:, -1:])[:, 0])

        def close(self, written: torch.Tensor) -> list[list[float]]:
            """Log-probabilities of what was written, (B, steps)."""
            self._take(written)
            if not self._steps:
                return [[] for _ in range(written.shape[0])]
            rows: list[list[float]] = torch.stack(self._steps, dim=1).tolist()
            return rows

    return Recorder()


def _stop_when_past(deadline: Deadline) -> Any:
    """A stopping criterion that ends all rows at the deadline."""
    import torch
    from transformers import StoppingCriteria

    class Stop(StoppingCriteria):  # type: ignore[misc]
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
            return torch.full((input_ids.shape[0],), deadline.is_past(), device=input_ids.device)

    return Stop()
