"""Which task a search worker gets next: each task once, cheapest first.

Pure bookkeeping, driven by the clock it is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from appliance.run.schedule.repeated_faults import MAX_TRIES
from appliance.run.schedule.task_state import Assignment, TaskState

WALL_SLACK = 4.0
"""A search may take this many times its CPU seconds: beside device workers it gets what they leave
of its core, and one that is cut off gives nothing."""

CHECK_S = 5.0
"""And so many seconds more, in which its programs are run in the sandbox."""

MOST_SHARE = 0.6
"""Where a search goes first, it may take this part of the time at most: the model gets the rest."""


@dataclass(frozen=True)
class SearchShare:
    """What a search may use of a run."""

    num_workers: int  # processes
    cpu_s: float  # for each task
    is_first: bool  # before all work of the model, which shares its cores


class SearchQueue:
    """Hands out the searches of a run, and takes note of what became of them."""

    def __init__(
        self, states: Mapping[str, TaskState], share: SearchShare, *, has_model: bool
    ) -> None:
        """states: of all tasks, shared with the schedule. has_model: other work waits."""
        self.share = share
        self._states = states
        self._is_limited = share.is_first and has_model
        self._until_s = math.inf  # when the time of a search that goes first is over
        # Kept, for the orchestrator asks after every event.
        self._waiting = {id: s for id, s in states.items() if s.search.status == "waiting"}
        self._num_running = 0

    def next(self, now_s: float, last_s: float) -> Assignment | None:
        """The next job for an idle search worker, marked as running; None when there is none.

        last_s: when all jobs must be over.
        """
        self._begin(now_s, last_s)
        last_s = min(last_s, self._until_s)
        waiting = self.waiting()
        if not waiting or now_s >= last_s:
            return None

        # A task that cost a worker comes after all others.
        state = min(waiting, key=lambda s: (s.search.num_tries, s.task.num_cells(), s.task.task_id))
        self._set(state, "running")
        wall_s = WALL_SLACK * self.share.cpu_s + CHECK_S
        return Assignment(
            "search",
            (state.task,),
            0,
            until_s=min(last_s, now_s + wall_s),
            expected_until_s=min(last_s, now_s + self.share.cpu_s),
            cpu_s=self.share.cpu_s,
        )

    def _begin(self, now_s: float, last_s: float) -> None:
        """At the first job the time of a search that goes first is set."""
        if not self._is_limited or self._until_s < math.inf:
            return

        all_s = len(self.waiting()) * self.share.cpu_s / self.share.num_workers + CHECK_S
        self._until_s = now_s + min(all_s, MOST_SHARE * (last_s - now_s))

    def finished(self, assignment: Assignment) -> None:
        self._set(self._state(assignment), "done")

    def failed(self, assignment: Assignment) -> list[str]:
        """Its worker died, hung or failed. Returns the task if it is given up."""
        state = self._state(assignment)
        state.search.num_tries += 1
        is_lost = state.search.num_tries >= MAX_TRIES
        self._set(state, "failed" if is_lost else "waiting")
        return [assignment.tasks[0].task_id] if is_lost else []

    def mark_done(self, task_ids: Iterable[str]) -> None:
        """On resume: these tasks were searched."""
        for task_id in task_ids:
            self._set(self._states[task_id], "done")

    def end(self) -> None:
        """No worker is left that could search."""
        self._until_s = -math.inf

    def waiting(self) -> list[TaskState]:
        return list(self._waiting.values())

    def has_work(self, now_s: float) -> bool:
        """Whether a task waits and there is time for it."""
        return now_s < self._until_s and bool(self._waiting)

    def is_over(self, now_s: float) -> bool:
        """Whether nothing is searched any more."""
        return not self._num_running and not self.has_work(now_s)

    def _set(self, state: TaskState, status: str) -> None:
        self._num_running += (status == "running") - (state.search.status == "running")
        state.search.status = status
        if status == "waiting":
            self._waiting[state.task.task_id] = state
        else:
            self._waiting.pop(state.task.task_id, None)

    def _state(self, assignment: Assignment) -> TaskState:
        return self._states[assignment.tasks[0].task_id]
