"""Every answer above a threshold, by vLLM.

Each beginning is written on greedily, and vLLM tells the likeliest other tokens at every step. Of
those that are above the threshold a beginning of its own is written on in turn; what they share is
in vLLM's cache. A token above the threshold t is among the 1 / t likeliest, so none is missed.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence

from appliance.clock import Deadline
from appliance.engine.base import Completion, Request
from appliance.engine.sampling.findings import Beginning, Findings
from appliance.engine.sampling.vllm_engine import LoadedAdapter, VllmEngine, WrittenToken


class VllmSearch:
    """The search for the answers to those requests that have a threshold."""

    def __init__(
        self,
        engine: VllmEngine,
        requests: Sequence[Request],
        *,
        stop_ids: tuple[int, ...],
        adapter: LoadedAdapter | None,
        most_rows: int | None,
    ) -> None:
        """most_rows: beginnings at work at once; None leaves that to the engine."""
        self._engine = engine
        self._requests = requests
        self._adapter = adapter
        self._most_rows = most_rows
        self._findings = Findings(requests, stop_ids)
        self._waiting: list[tuple[float, int, Beginning]] = []  # a heap, the likeliest first
        self._num_begun = 0
        self._writing: dict[int, Beginning] = {}  # by the key that the engine knows it by
        self._names: dict[int, str] = {}

        for beginning in self._findings.beginnings():
            self._wait(beginning)

    def run(self, deadline: Deadline, is_due: Callable[[], bool]) -> Iterator[list[Completion]]:
        """The completions of each request, once all of them are known.

        At the deadline come those that are found by then, marked as not the last ones. is_due:
        whether a list without completions should tell that tokens are coming.
        """
        try:
            while (self._waiting or self._writing) and not deadline.is_past():
                while self._waiting and self._has_room():
                    self._begin(heapq.heappop(self._waiting)[-1])

                for written in self._engine.step_tokens():
                    self._note(written)

                ended = self._findings.ended(self._open())
                if ended or is_due():
                    yield ended
        finally:
            self._stop(list(self._writing))

        cut = self._findings.cut_off()
        if cut:
            yield cut

    def _has_room(self) -> bool:
        return self._most_rows is None or len(self._writing) < self._most_rows

    def _wait(self, beginning: Beginning) -> None:
        self._num_begun += 1
        heapq.heappush(self._waiting, (-beginning.logprob, self._num_begun, beginning))

    def _begin(self, beginning: Beginning) -> None:
        request = beginning.rest_of(self._requests[beginning.index])
        key = self._num_begun = self._num_begun + 1
        self._names[key] = self._engine.submit_for_tokens(
            request, key, self._adapter, num_likely=math.floor(1 / (request.threshold or 1))
        )
        self._writing[key] = beginning

    def _note(self, written: WrittenToken) -> None:
        """One more token of a beginning; what else could stand there is begun as well."""
        beginning = self._writing.get(written.key)
        if beginning is None:  # stopped meanwhile
            return
        findings, index = self._findings, beginning.index
        findings.count(index)

        for token, logprob in written.likely.items():
            total = beginning.logprob + logprob
            if token != written.token and total >= findings.floor(index):
                other = findings.longer(beginning, token, total)
                if other is not None:
                    self._wait(other)

        total = beginning.logprob + written.likely[written.token]
        longer = None
        if total >= findings.floor(index):
            longer = findings.longer(beginning, written.token, total)
        if longer is not None:
            self._writing[written.key] = longer
        else:
            self._stop([written.key])

        if findings.is_spent(index):
            self._close(index)

    def _close(self, index: int) -> None:
        """Leave the likeliest beginning of a request whose tokens are spent, none if it has an
        answer."""
        keys = [key for key, b in self._writing.items() if b.index == index]
        waiting = [entry for entry in self._waiting if entry[-1].index == index]
        others = [entry for entry in self._waiting if entry[-1].index != index]

        left: list[tuple[float, int, Beginning]] = []
        if not self._findings.has_answer(index):
            if keys:
                keys.remove(max(keys, key=lambda key: self._writing[key].logprob))
            else:
                left = sorted(waiting)[:1]
        self._stop(keys)
        self._waiting = [*others, *left]
        heapq.heapify(self._waiting)

    def _stop(self, keys: Sequence[int]) -> None:
        for key in keys:
            self._writing.pop(key)
        if keys:
            self._engine.abort([self._names.pop(key) for key in keys])

    def _open(self) -> set[int]:
        """The requests of which beginnings are left."""
        return {b.index for *_, b in self._waiting} | {b.index for b in self._writing.values()}
