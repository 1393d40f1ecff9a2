"""Is it always the same fault? Then more time does not help, and a run should say so at once.

A fault counts as the same where only numbers, paths and names of tasks differ. Every part of the
work is counted by itself, for sampling may go well while training does not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from appliance.errors import without_details

IN_A_ROW = 3
"""Tasks with the same fault, and none between them that went well. Two may have it by chance."""

MAX_TRIES = 2
"""A task gets so many tries: the first may have met a fault that passes. With fewer tasks than
IN_A_ROW, all of them must have failed at each of theirs."""


@dataclass
class _Streak:
    """The faults of one part of the work since a task last went well there."""

    signature: str = ""
    tries: Counter[str] = field(default_factory=Counter)  # by the first task of the job


class RepeatedFaults:
    """Counts the faults of a run, part by part."""

    def __init__(self, num_tasks: int) -> None:
        self._num_tasks = num_tasks
        self._streaks: dict[str, _Streak] = {}

    def met(self, part: str, message: str, task_ids: tuple[str, ...]) -> list[str]:
        """A job with these tasks failed at this part of the work.

        Returns the tasks that met this fault in a row if it is clear now that all of them would,
        else none.
        """
        found, streak = without_details(message, task_ids), self._streaks.get(part)
        if streak is None or streak.signature != found:
            streak = self._streaks[part] = _Streak(found)
        streak.tries[task_ids[0]] += 1

        is_by_all = len(streak.tries) == self._num_tasks
        is_clear = is_by_all and min(streak.tries.values()) >= MAX_TRIES
        return list(streak.tries) if len(streak.tries) >= IN_A_ROW or is_clear else []

    def went_well(self, part: str) -> None:
        """A task came through this part of the work."""
        self._streaks.pop(part, None)
