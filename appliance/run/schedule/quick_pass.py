"""The quick pass: the model as it is answers a few views of many tasks in one job."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.config import Settings
from appliance.run.schedule.measured_costs import Forecast
from appliance.run.schedule.task_state import Assignment, TaskState

QUICK_TASKS_PER_JOB = 16
"""Tasks of one quick job, whose prompts share the batches."""

FIRST_QUICK_TASKS = 2
"""Tasks of a quick job while there is no answer at all: the first ones come soon, and their time is
known for the jobs that follow."""

QUICK_ALL_BELOW_S = 4.0
"""A budget of fewer seconds per task goes to the quick pass first, all of it if need be."""

QUICK_PATIENCE = 4.0
"""A quick job may take this many times what a slow one is expected to."""

QUICK_LEAST_S = 10.0
"""And never less than this many seconds."""


class QuickPass:
    """The rules of the quick pass."""

    def __init__(
        self, states: Mapping[str, TaskState], settings: Settings, forecast: Forecast
    ) -> None:
        self._states = states
        self._settings = settings
        self._forecast = forecast

    def next(self, now_s: float, until_s: float, *, num_workers: int) -> Assignment | None:
        """The next job, which is over by then; None where no task waits for one."""
        waiting = self._waiting() if now_s < until_s else []
        if not waiting:
            return None

        # Tasks that made trouble come last, each in a job of its own.
        waiting.sort(
            key=lambda s: (s.quick.num_tries, s.quick.is_alone, s.quick.num_cut, s.is_found)
        )
        if waiting[0].quick.is_alone:
            chosen = waiting[:1]
        else:
            per_worker = -(-len(waiting) // max(1, num_workers))
            together = [s for s in waiting if not s.quick.is_alone]
            is_first = not any(s.quick.status == "done" for s in self._states.values())
            most = FIRST_QUICK_TASKS if is_first else QUICK_TASKS_PER_JOB
            chosen = together[: min(most, per_worker)]

        ids, all_ids = [s.task.task_id for s in chosen], [s.task.task_id for s in waiting]
        capacity_s = (until_s - now_s) * max(1, num_workers)
        num_views = self._settings.sample.quick_views
        if (self._forecast.sample_s("quick", all_ids, num_views) or 0.0) > capacity_s:
            num_views = 1

        # What is cut off gives nothing, so a job takes as many tasks as will have an answer.
        def is_too_long() -> bool:
            return (self._forecast.sample_s("quick", ids, num_views) or 0.0) > until_s - now_s

        while len(ids) > 1 and is_too_long():
            ids, chosen = ids[:-1], chosen[:-1]

        expected_s = self._forecast.sample_s("quick", ids, num_views)
        if expected_s is None:
            # Nothing is known yet: twice its part of the time by the size of its tasks.
            allowed_s = expected_s = 2 * capacity_s * self._size(ids) / self._size(all_ids)
        else:
            slow_s = self._forecast.slowness("quick") * expected_s
            allowed_s = max(QUICK_LEAST_S, QUICK_PATIENCE * slow_s)

        return Assignment(
            "quick",
            tuple(s.task for s in chosen),
            num_views,
            until_s=min(until_s, now_s + allowed_s),
            expected_until_s=min(until_s, now_s + expected_s),
            rung=max(s.quick.rung for s in chosen),
        )

    def end_s(
        self, began_s: float, last_s: float, *, num_workers: int, slowdown: float = 1.0
    ) -> float:
        """When the deep pass begins. began_s: when the first worker was ready. last_s: when all
        jobs must be over. slowdown: how many times as long all takes.

        While most tasks have no answer at all, the quick pass may take twice its part: a machine
        slower than planned must not end with a few trained adapters and guesses for all others.
        """
        num_open = len(self._waiting())
        if not num_open:
            return began_s

        whole_s = last_s - began_s
        num_all = sum(s.deep.status != "done" for s in self._states.values())

        is_scarce = whole_s * num_workers < slowdown * QUICK_ALL_BELOW_S * num_all
        if is_scarce or not self._settings.train.enabled:
            return last_s

        share = self._settings.run.quick_share * (2 if 2 * num_open > num_all else 1)
        return min(last_s, began_s + min(1.0, share) * whole_s)

    def _waiting(self) -> list[TaskState]:
        return [s for s in self._states.values() if _is_open(s)]

    def _size(self, task_ids: list[str]) -> float:
        return sum(self._forecast.size(t) for t in task_ids)


def _is_open(state: TaskState) -> bool:
    """Whether a quick job may still ask it. There is none where predictions are counted."""
    is_asked = state.quick.status == "waiting" and state.deep.status != "done"
    return is_asked and not state.is_counted
