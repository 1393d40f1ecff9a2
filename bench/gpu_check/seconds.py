"""How long each part of the check may take, so that the whole never takes longer than it may.

Parts run in the order of their importance. Each has twice the time that it usually takes, and ends
when it is done; one that there is no time for is left out by name, and a shorter one after it may
still run.
"""

from __future__ import annotations

ALL_S = {"cuda": 1180.0, "cpu": 3600.0}
"""Seconds for everything; on a card twenty minutes, less start and end of the check itself."""

SLACK = 2.0
"""A part is stopped when it takes so many times its usual time: cards and hosts differ."""

GRACE_S = 15.0
"""A run may end so long after its budget, when all of it is killed.

A worker itself is killed 10 s after the deadline of its job (run/worker_life.py).
"""

LEAST_SHARE = 0.7
"""With less than this share of its usual time a part would only be cut off."""


def budget_s(usual_s: float, left_s: float) -> float | None:
    """Seconds for a part that usually takes so long, None where too few are left to begin it.

    left_s: until the end of everything. The part, killed GRACE_S after its budget, is over by then.
    """
    budget = min(SLACK * usual_s, left_s - GRACE_S)
    return budget if budget >= LEAST_SHARE * usual_s else None
