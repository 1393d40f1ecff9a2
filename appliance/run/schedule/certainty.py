"""How certain the vote over a task is, so that spare time goes where it can change something."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from appliance.arc.task import Task
from appliance.arc.vote import (
    FIRST,
    Candidate,
    by_votes_then_logprob,
    group_by_output,
    least_weight,
    margin,
)

SETTLED_MARGIN = 0.8
"""All of four candidates agree, or 15 of 16: another run would say the same."""


class Certainty(NamedTuple):
    """Of the least certain test output. The margin is compared first, then the lead."""

    margin: float = 0.0  # of votes: how far the first grid leads the second, 0 to 1
    lead: float = 0.0  # of log probability, first grid over second, nats per token

    @property
    def is_settled(self) -> bool:
        return self.margin >= SETTLED_MARGIN


def certainty_of(task: Task, candidates: Sequence[Candidate]) -> Certainty:
    """An output without candidates is as uncertain as can be."""
    groups = group_by_output(candidates)
    return min(_certainty(groups.get((task.task_id, i), ())) for i in range(len(task.test)))


def is_found(task: Task, candidates: Sequence[Candidate]) -> bool:
    """Whether a search without a model is sure of its answer to every test output."""
    return least_weight(len(task.test), candidates) > FIRST


def _certainty(candidates: Sequence[Candidate]) -> Certainty:
    ranked = by_votes_then_logprob(candidates)
    lead = ranked[0].mean_logprob() - ranked[1].mean_logprob() if len(ranked) > 1 else 0.0
    return Certainty(margin(candidates), lead if math.isfinite(lead) else 0.0)
