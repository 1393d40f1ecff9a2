"""Sampling with vLLM: all requests at once, answers as they get ready.

The samples of one prompt share its reading.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from appliance.clock import Deadline
from appliance.engine.base import Completion, Request
from appliance.engine.sampling.vllm_engine import FinishedSample, LoadedAdapter, VllmEngine
from appliance.engine.sampling.vllm_search import VllmSearch

BEAT_S = 1.0
"""Seconds after which an empty list says that tokens are still coming."""


class VllmSampler:
    """A Sampler on the weights that the engine has at the time of the call.

    A list without completions is yielded about once a second while tokens come, so that a caller
    can tell a slow engine from a stuck one.
    """

    def __init__(
        self,
        engine: VllmEngine,
        *,
        stop_ids: tuple[int, ...],
        adapter: LoadedAdapter | None = None,
        most_rows: int | None = None,
    ) -> None:
        """adapter: put on top of the weights. most_rows: sequences at work at once; None leaves
        that to the engine.
        """
        self._engine = engine
        self._stop_ids = stop_ids
        self._adapter = adapter
        self._most_rows = most_rows

    def sample(
        self, requests: Sequence[Request], *, deadline: Deadline
    ) -> Iterator[list[Completion]]:
        beat = _Beat(self._engine, deadline)
        waiting = deque(i for i, request in enumerate(requests) if request.threshold is None)
        searches = len(waiting) < len(requests)
        names: dict[int, str] = {}  # of the requests at work, by their index

        try:
            while (waiting or names) and not deadline.is_past():
                while waiting and self._has_room(requests, names):
                    i = waiting.popleft()
                    names[i] = self._engine.submit(requests[i], i, self._adapter)

                finished = list(self._engine.step())
                for sample in finished:
                    names.pop(sample.key, None)

                if finished or beat.is_due():
                    beat.note()
                    yield [self._completion(sample) for sample in finished]
        finally:
            if names:
                self._engine.abort(list(names.values()))

        if searches:
            search = VllmSearch(
                self._engine,
                requests,
                stop_ids=self._stop_ids,
                adapter=self._adapter,
                most_rows=self._most_rows,
            )
            for found in search.run(deadline, beat.is_due):
                beat.note()
                yield found

    def _has_room(self, requests: Sequence[Request], names: dict[int, str]) -> bool:
        if self._most_rows is None or not names:
            return True
        return sum(requests[i].num_samples for i in names) < self._most_rows

    def _completion(self, sample: FinishedSample) -> Completion:
        return Completion(
            request_index=sample.key,
            ids=sample.tokens[:-1] if sample.is_stopped else sample.tokens,
            logprob=sample.logprob,
            num_tokens=len(sample.tokens),
            is_complete=sample.is_stopped,
        )


class _Beat:
    """Tells when it is time for a sign of life, which only tokens are."""

    def __init__(self, engine: VllmEngine, deadline: Deadline) -> None:
        self._engine = engine
        self._clock = deadline.clock
        self.note()

    def note(self) -> None:
        """Something was yielded."""
        self._at_s, self._num_tokens = self._clock.now(), self._engine.num_tokens

    def is_due(self) -> bool:
        has_written = self._engine.num_tokens > self._num_tokens
        return has_written and self._clock.now() - self._at_s >= BEAT_S
