"""Who is worked on next and for how long: pure bookkeeping over tasks, driven by the clock it is given.

Pass 1 ("quick"): the base model, few views, all tasks, cheapest first, many tasks a job. Pass 2 ("deep"): train, then sample
all views, one task a job, cheapest first; the time left is shared out anew at every dispatch, so what one task saves the
others get.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from appliance.arc.task import Task
from appliance.config import Settings
from appliance.solve.ladder import LAST_RUNG

QUICK_TASKS_PER_JOB = 16
QUICK_ALL_BELOW_S = 4.0
"""A budget of fewer seconds per task than this goes to the quick pass first, all of it if need be."""
DRAIN_S = 1.5
"""Jobs end this long before all work must be over, so that their last answers still arrive."""
COST_EXPONENT = 0.5
"""Share of time by cells ** 0.5: dear tasks get more, but not in proportion, for they rarely repay it."""
MAX_CRASHES = 2


@dataclass
class TaskState:
    """What has happened to one task. Stages are "waiting", "running", "done" or "failed"."""

    task: Task
    quick: str = "waiting"
    deep: str = "waiting"
    rung: int = 0
    crashes: int = 0

    @property
    def weight(self) -> float:
        return float(math.pow(self.task.num_cells(), COST_EXPONENT))


@dataclass(frozen=True)
class Assignment:
    """Tasks to work on in one job. train_s: how long training may take; until_s: when all of it must be over."""

    stage: str
    tasks: tuple[Task, ...]
    until_s: float
    train_s: float = 0.0
    rung: int = 0


@dataclass
class Schedule:
    """end_s: instant at which all work must be over (the deadline less the reserve for writing)."""

    settings: Settings
    start_s: float
    end_s: float
    num_workers: int
    states: dict[str, TaskState] = field(default_factory=dict)

    @staticmethod
    def of(tasks: Iterable[Task], settings: Settings, *, start_s: float, end_s: float, num_workers: int) -> Schedule:
        states = {t.task_id: TaskState(t) for t in sorted(tasks, key=lambda t: (t.num_cells(), t.task_id))}
        return Schedule(settings, start_s, end_s, num_workers, states)

    def next(self, now_s: float) -> Assignment | None:
        """The next job for an idle worker, marked as running; None when there is nothing left to do in time."""
        if now_s >= self.end_s - DRAIN_S:
            return None
        return self._next_quick(now_s) or self._next_deep(now_s)

    def _next_quick(self, now_s: float) -> Assignment | None:
        waiting = [s for s in self.states.values() if s.quick == "waiting"]
        until_s = self._quick_until_s()
        if not waiting or now_s >= until_s:
            return None
        chosen = waiting[: max(1, min(QUICK_TASKS_PER_JOB, -(-len(waiting) // self.num_workers)))]
        for state in chosen:
            state.quick = "running"
        return Assignment("quick", tuple(s.task for s in chosen), until_s, rung=max(s.rung for s in chosen))

    def _quick_until_s(self) -> float:
        whole_s = self.end_s - self.start_s
        if whole_s * self.num_workers < QUICK_ALL_BELOW_S * len(self.states) or not self.settings.train.enabled:
            return self.end_s - DRAIN_S
        return self.start_s + self.settings.run.quick_share * whole_s

    def _next_deep(self, now_s: float) -> Assignment | None:
        waiting = [s for s in self.states.values() if s.deep == "waiting"]
        if not waiting:
            return None
        train = self.settings.train
        state = waiting[0]
        left_s = self.end_s - DRAIN_S - now_s
        share_s = left_s * self.num_workers * state.weight / sum(s.weight for s in waiting)
        train_s = 0.0
        if train.enabled and state.rung < LAST_RUNG:
            least_s = train.min_seconds / max(train.max_share, 0.01)
            if least_s > left_s:
                return None
            share_s = max(share_s, least_s)
            train_s = min(share_s, left_s) * train.max_share
        state.deep = "running"
        return Assignment("deep", (state.task,), now_s + min(share_s, left_s), train_s, state.rung)

    def finished(self, assignment: Assignment, complete: Iterable[str]) -> None:
        """The job came back. Tasks that the quick pass cut off are not asked again by it; the deep pass will."""
        answered = set(complete)
        for task in assignment.tasks:
            state = self.states[task.task_id]
            if assignment.stage == "quick":
                state.quick = "done" if task.task_id in answered else "failed"
            else:
                state.deep = "done"

    def out_of_memory(self, assignment: Assignment) -> list[str]:
        """One rung down for its tasks; returns those that had no rung left and are given up for this stage."""
        lost = []
        for task in assignment.tasks:
            state = self.states[task.task_id]
            can_try = state.rung < LAST_RUNG
            state.rung = min(LAST_RUNG, state.rung + 1)
            self._requeue(state, assignment.stage, can_try)
            if not can_try:
                lost.append(task.task_id)
        return lost

    def crashed(self, assignment: Assignment) -> list[str]:
        """The worker died or failed under these tasks: once more, one rung down; twice is enough. Returns the given up."""
        lost = []
        for task in assignment.tasks:
            state = self.states[task.task_id]
            state.crashes += 1
            can_try = state.crashes < MAX_CRASHES
            state.rung = min(LAST_RUNG, state.rung + 1)
            self._requeue(state, assignment.stage, can_try)
            if not can_try:
                lost.append(task.task_id)
        return lost

    @staticmethod
    def _requeue(state: TaskState, stage: str, can_try: bool) -> None:
        status = "waiting" if can_try else "failed"
        if stage == "quick":
            state.quick = status
        else:
            state.deep = status

    def mark_done(self, task_id: str, stage: str) -> None:
        """On resume: this stage of this task is behind us."""
        state = self.states[task_id]
        if stage == "quick":
            state.quick = "done"
        else:
            state.deep = "done"
