"""What a search for answers above a threshold works on, whichever engine reads the model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from appliance.engine.base import Completion, Request


@dataclass(frozen=True)
class Beginning:
    """The first tokens of an answer, likelier than the threshold."""

    index: int  # of the request
    ids: tuple[int, ...] = ()
    logprob: float = 0.0

    def rest_of(self, request: Request) -> Request:
        """The request whose prompt ends with this beginning."""
        return replace(
            request,
            prompt_ids=request.prompt_ids + self.ids,
            max_new_tokens=request.max_new_tokens - len(self.ids),
        )


class Findings:
    """The answers found, and the tokens written for them, by request.

    Only the requests that have a threshold are searched.
    """

    def __init__(self, requests: Sequence[Request], stop_ids: tuple[int, ...]) -> None:
        self._requests = requests
        self._stop_ids = stop_ids
        self._found: list[list[Completion]] = [[] for _ in requests]
        self._num_tokens = [0] * len(requests)
        self._unended = {i for i, r in enumerate(requests) if r.threshold is not None}

    def beginnings(self) -> list[Beginning]:
        """What the search begins with, one for each request."""
        return [Beginning(index) for index in sorted(self._unended)]

    def floor(self, index: int) -> float:
        """Log of the request's threshold."""
        return _log_threshold(self._requests[index])

    def count(self, index: int) -> None:
        """A token was written for it."""
        self._num_tokens[index] += 1

    def is_spent(self, index: int) -> bool:
        """Its tokens are used up: only its likeliest beginning may go on, and only as long as no
        answer is found."""
        return self._num_tokens[index] >= self._requests[index].most_tokens

    def has_answer(self, index: int) -> bool:
        return bool(self._found[index])

    def longer(self, parent: Beginning, token: int, logprob: float) -> Beginning | None:
        """The beginning with one token more; None where that ends it, as an answer or by its
        length.

        logprob: of all its tokens.
        """
        num_tokens = len(parent.ids) + 1
        if token in self._stop_ids:
            self._found[parent.index].append(
                Completion(parent.index, parent.ids, logprob, num_tokens, is_complete=True)
            )
            return None
        if num_tokens >= self._requests[parent.index].max_new_tokens:
            return None
        return Beginning(parent.index, (*parent.ids, token), logprob)

    def ended(self, open_still: Iterable[int]) -> list[Completion]:
        """The completions of the requests that have ended since the last call.

        open_still: requests of which beginnings are left.
        """
        ended = self._unended.difference(open_still)
        self._unended -= ended
        return [completion for index in sorted(ended) for completion in self._all_of(index)]

    def cut_off(self) -> list[Completion]:
        """What was found for requests that have not ended."""
        return [replace(c, ends=False) for i in sorted(self._unended) for c in self._found[i]]

    def _all_of(self, index: int) -> list[Completion]:
        """At least one completion, the last of which ends the request."""
        found = self._found[index]
        if not found:
            floor = self.floor(index)
            return [Completion(index, (), floor, num_tokens=0, is_complete=False)]
        return [*(replace(c, ends=False) for c in found[:-1]), found[-1]]


def _log_threshold(request: Request) -> float:
    assert request.threshold is not None
    return math.log(request.threshold)
