"""Sampling with vLLM: all requests at once, answers as they get ready, samples of one prompt share its reading."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from appliance.clock import Deadline
from appliance.engine.base import Completion, Request
from appliance.engine.sampling.vllm_engine import Adapter, Answer, VllmEngine

BEAT_S = 1.0


class VllmSampler:
    """A Sampler on the weights that the engine has at the time of the call, with `adapter` on top.

    stop_ids: not part of an answer. most_rows: sequences at work at once, the engine's own bound where None. A list without
    completions is yielded about once a second while tokens come, so that a caller can tell a slow engine from a stuck one.
    """

    def __init__(
        self,
        engine: VllmEngine,
        *,
        stop_ids: tuple[int, ...],
        adapter: Adapter | None = None,
        most_rows: int | None = None,
    ) -> None:
        self._engine = engine
        self._stop_ids = stop_ids
        self._adapter = adapter
        self._most_rows = most_rows

    def sample(
        self,
        requests: Sequence[Request],
        *,
        deadline: Deadline,
        adapters: Sequence[Adapter | None] | None = None,
    ) -> Iterator[list[Completion]]:
        """adapters: one for each request where they differ; those without adapter run after the others, never beside them."""
        worn = [self._adapter] * len(requests) if adapters is None else list(adapters)
        with_one = [i for i, adapter in enumerate(worn) if adapter is not None]
        without = [i for i, adapter in enumerate(worn) if adapter is None]
        for indices in (with_one, without):
            yield from self._run(requests, worn, deque(indices), deadline)

    def _run(
        self,
        requests: Sequence[Request],
        worn: Sequence[Adapter | None],
        waiting: deque[int],
        deadline: Deadline,
    ) -> Iterator[list[Completion]]:
        names: dict[int, str] = {}
        beat_s, tokens_then = deadline.clock.now(), self._engine.num_tokens
        try:
            while (waiting or names) and not deadline.is_past():
                while waiting and self._has_room(requests, names):
                    i = waiting.popleft()
                    names[i] = self._engine.submit(requests[i], i, worn[i])
                answers = list(self._engine.step())
                for answer in answers:
                    names.pop(answer.key, None)
                is_due = (
                    deadline.clock.now() - beat_s >= BEAT_S
                    and self._engine.num_tokens > tokens_then
                )
                if answers or is_due:
                    beat_s, tokens_then = deadline.clock.now(), self._engine.num_tokens
                    yield [self._completion(answer) for answer in answers]
        finally:
            if names:
                self._engine.abort(list(names.values()))

    def _has_room(self, requests: Sequence[Request], names: dict[int, str]) -> bool:
        return (
            self._most_rows is None
            or not names
            or sum(requests[i].num_samples for i in names) < self._most_rows
        )

    def _completion(self, answer: Answer) -> Completion:
        ids = answer.tokens[:-1] if answer.is_stopped else answer.tokens
        return Completion(
            request_index=answer.key,
            ids=ids,
            logprob=answer.logprob,
            num_tokens=len(answer.tokens),
            is_complete=answer.is_stopped,
        )
