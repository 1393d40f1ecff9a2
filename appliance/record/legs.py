"""How long a run has worked: it may have been stopped and started again, any number of times.

Each start is a *leg*. A leg ends with the last thing that the journal tells of it, so that the
night between a kill and the next start does not count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from appliance.record.journal import Journal

_STARTS = "starts"
"""Fact of the journal: Unix seconds at which each leg began. Older journals have none."""


def note_start(journal: Journal, at_s: float) -> None:
    journal.put_fact(_STARTS, [*_starts(journal), at_s])


@dataclass(frozen=True)
class Legs:
    """Beginning and end of each leg, in Unix seconds, in their order."""

    spans: tuple[tuple[float, float], ...]

    @property
    def total_s(self) -> float:
        return sum(end_s - begin_s for begin_s, end_s in self.spans)

    def worked_s(self, at_s: float) -> float:
        """Seconds that the run had worked at that moment (Unix seconds)."""
        return sum(min(at_s, end_s) - begin_s for begin_s, end_s in self.spans if at_s > begin_s)


def legs_of(journal: Journal) -> Legs:
    """The legs that the journal tells of; none where it is an older one."""
    starts = sorted(_starts(journal))
    moments = [row.at_s for row in journal.stages() if row.at_s is not None]
    moments += [at_s for at_s, _ in journal.events()]

    spans = []
    for begin_s, next_s in pairwise([*starts, math.inf]):
        told = [at_s for at_s in moments if begin_s <= at_s < next_s]
        spans.append((begin_s, max(told, default=begin_s)))
    return Legs(tuple(spans))


def _starts(journal: Journal) -> list[float]:
    return journal.fact(_STARTS, list[float] | None) or []
