"""How certain the vote over a task is, so that spare time goes where it can change something."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from appliance.arc.task import Task
from appliance.arc.vote import FIRST, Candidate, least_weight
from appliance.run.schedule.ballot import Ballot

SETTLED_MARGIN = 0.8
"""All of four candidates agree, or 15 of 16: another run would say the same."""


class Certainty(NamedTuple):
    """Of the least certain test output. The margin is compared first, then the lead."""

    margin: float = 0.0  # of votes: how far the first grid leads the second, 0 to 1
    lead: float = 0.0  # of log probability, first grid over second, nats per token

    @property
    def is_settled(self) -> bool:
        return self.margin >= SETTLED_MARGIN


class TaskVotes:
    """The answers to all test outputs of a task, counted as they come."""

    def __init__(self, task: Task, candidates: Iterable[Candidate] = ()) -> None:
        self._ballots = [Ballot() for _ in task.test]
        self.add(candidates)

    def add(self, candidates: Iterable[Candidate]) -> None:
        known = (c for c in candidates if c.test_index < len(self._ballots))
        for candidate in known:
            self._ballots[candidate.test_index].add(candidate)

    def certainty(self) -> Certainty:
        """An output without candidates is as uncertain as can be."""
        return min(Certainty(ballot.margin(), ballot.lead()) for ballot in self._ballots)


def is_found(task: Task, candidates: Sequence[Candidate]) -> bool:
    """Whether a search without a model is sure of its answer to every test output."""
    return least_weight(len(task.test), candidates) > FIRST
