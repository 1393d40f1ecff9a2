"""The votes over one test output, counted as they come: how far the first grid leads the second.

A run asks after every job, and a task may have thousands of answers by then, so nothing is counted
twice. Which grids are handed in is decided in vote.py, over all candidates at once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from appliance.arc.grid import grid_key
from appliance.arc.vote import Candidate, is_proven

Key = tuple[int, int, bytes] | None
"""Of a grid; None where the answer was no grid."""


class Ballot:
    """All candidates for one test output so far."""

    def __init__(self, candidates: Iterable[Candidate] = ()) -> None:
        self._logprobs: dict[Key, list[float]] = {}  # per token, of each grid's voters
        self._weights: dict[Key, list[float]] = {}  # of a search without a model
        # Who votes in the margin: see there.
        self._proven: Counter[Key] = Counter()
        self._written: Counter[Key] = Counter()
        self._grids: Counter[Key] = Counter()
        self._likeliest: dict[tuple[str, str | int], tuple[float, Key]] = {}  # by view and adapter
        for candidate in candidates:
            self.add(candidate)

    def add(self, candidate: Candidate) -> None:
        key = None if candidate.grid is None else grid_key(candidate.grid)
        if key is not None:
            self._logprobs.setdefault(key, [])
        if candidate.weight is not None:
            self._weights.setdefault(key, []).append(candidate.weight)
            return

        if key is not None:
            self._logprobs[key].append(candidate.mean_logprob)
        self._written[key] += 1
        if is_proven(candidate):
            self._proven[key] += 1
        if candidate.demo_score is None:
            self._vote_of_view(candidate, key)

    def _vote_of_view(self, candidate: Candidate, key: Key) -> None:
        """Of each view and adapter the likeliest answer votes; all that have no view do."""
        has_view = candidate.view != ""
        voter = candidate.view, candidate.adapter if has_view else len(self._likeliest)
        before = self._likeliest.get(voter)
        if before is not None:
            if candidate.logprob <= before[0]:
                return
            self._grids[before[1]] -= 1

        self._likeliest[voter] = candidate.logprob, key
        self._grids[key] += 1

    def margin(self) -> float:
        """How certain the vote is, from 0 (nothing read, or a tie) towards 1.

        The votes by which the first grid leads the second, divided by the number of votes plus one:
        few votes, and those without a grid, make it less certain. Where a view gave several
        answers, the likeliest one votes. Only programs that fit all demonstrations count, where
        there are any; else only grids of transduction, where there are any: a program that is wrong
        on a demonstration casts no doubt on those. What a search found without a model does not
        count: its weight says how certain it is.
        """
        votes = next((v for v in (self._proven, self._grids) if v), self._written)
        of_grids = sorted((n for key, n in votes.items() if key is not None), reverse=True)
        first, second = ([*of_grids, 0, 0])[:2]
        return (first - second) / (votes.total() + 1)

    def lead(self) -> float:
        """Nats a token by which the first grid, by votes and then by `vote.mean_logprob`, leads the
        second; 0 where there is no second, or no figure."""
        ranked = sorted(self._logprobs, key=self._rank)[:2]
        if len(ranked) < 2:
            return 0.0
        first, second = (self._mean_logprob(key) for key in ranked)
        lead = first - second
        return lead if math.isfinite(lead) else 0.0

    def _rank(self, key: Key) -> tuple[int, float, float, tuple[int, int, bytes]]:
        """As `vote.by_votes_then_logprob` ranks, the first grid first."""
        weights = self._weights.get(key, [])
        num_votes = len(self._logprobs[key]) + len(weights)
        assert key is not None
        return -num_votes, -self._mean_logprob(key), -math.fsum(weights), key

    def _mean_logprob(self, key: Key) -> float:
        figures = self._logprobs[key]
        if not figures or -math.inf in figures:
            return -math.inf
        return math.fsum(figures) / len(figures)
