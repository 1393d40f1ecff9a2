"""The orchestrator's view of its workers: what each of them is doing and how often it failed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from appliance.arc.task import Task
from appliance.arc.vote import Candidate
from appliance.engine.base import NotTuned
from appliance.record.coverage import names_of
from appliance.run.schedule.task_state import Assignment
from appliance.sizing.memory_ladder import LAST_RUNG
from appliance.solve.messages import (
    Job,
    LeftOut,
    ProgramMessage,
    Sampled,
    Scored,
    Searched,
    Trained,
    Wrote,
)

Kind = Literal["device", "search"]
"""What a worker has: a device with a model, or only a core."""

Progress = Trained | LeftOut | Sampled | Scored | Wrote | Searched
"""What a worker says of a job on its way."""

State = Literal["down", "starting", "idle", "busy", "gone"]
"""Of a worker; "gone": not started again in this run."""


@dataclass
class Running:
    """A job that a worker has, and what it gave so far."""

    assignment: Assignment
    job: Job
    started_s: float  # instant
    worker: int = 0  # who has it
    candidates: list[Candidate] = field(default_factory=list)
    programs: list[ProgramMessage] = field(default_factory=list)
    trained: dict[str, Trained] = field(default_factory=dict)  # by task
    wrote: dict[str, Wrote] = field(default_factory=dict)  # by task
    searched: Searched | None = None
    # A job whose worker was lost is sent again: how often, and which tasks were complete by then.
    answered: list[str] = field(default_factory=list)
    num_resends: int = 0
    # Where predictions are counted: those that were there when the rest was sent last.
    num_grids_sent: int = 0
    num_programs_sent: int = 0
    # While the worker samples, it is stuck when nothing was heard for stall_s after heard_s.
    stall_s: float | None = None
    heard_s: float = 0.0  # instant of its last answers

    def take(self, event: Progress, *, now_s: float) -> None:
        """What the worker says of the job on its way."""
        match event:
            case Trained():
                self.trained[event.task_id] = event
            case Sampled():
                self.stall_s, self.heard_s = event.stall_s, now_s
                self.candidates += [c.candidate() for c in event.candidates]
                self.candidates += [c for p in event.programs for c in p.candidates()]
                self.programs += event.programs
            case Scored():
                self.candidates = event.on(self.candidates)
            case Wrote():
                self.wrote[event.task_id] = event
            case Searched():
                self.searched = event

    @property
    def name(self) -> str:
        """For people: what is done, and for which tasks."""
        assignment = self.assignment
        return f"{assignment.label} {names_of([task.task_id for task in assignment.tasks])}"

    def is_stuck(self, now_s: float) -> bool:
        return self.stall_s is not None and now_s >= self.heard_s + self.stall_s

    def found(self, task: Task) -> list[Candidate]:
        return [c for c in self.candidates if c.task_id == task.task_id]

    def written(self, task: Task) -> list[ProgramMessage]:
        return [p for p in self.programs if p.task_id == task.task_id]

    def training(self, task_id: str, *, is_wanted: bool) -> Trained | None:
        """How the task was trained; or why not, where training was wanted and got no time."""
        is_first = (self.assignment.stage, self.assignment.round) == ("deep", 1)
        has_adapter = self.job.train_until_s or self.job.adapter_sha
        if not is_wanted or not is_first or has_adapter:
            return self.trained.get(task_id)

        why = self.assignment.untrained or NotTuned("no time was left to train", "time")
        if self.assignment.rung >= LAST_RUNG:
            why = NotTuned("no room to train on any rung of the ladder", "memory")
        return Trained(
            job_id=self.job.job_id,
            task_id=task_id,
            seconds=0.0,
            reason=why.reason,
            cause=why.cause,
            blame=why.blame,
        )


@dataclass(frozen=True)
class TaskReport:
    """What a job found out about one task, for the display."""

    task: Task
    stage: str  # search, quick or deep
    trained: Trained | None  # None: training was not tried
    candidates: tuple[Candidate, ...]  # of this job alone
    seconds: float  # of the job, an equal part for each of its tasks
    round: int = 1  # deep jobs of this task, this one included
    searched: Searched | None = None


@dataclass
class WorkerState:
    """What one worker is doing, and how often it failed."""

    kind: Kind = "device"
    state: State = "down"
    since_s: float = 0.0  # instant of its last start
    num_starts: int = 0  # since it was last ready
    num_falls: int = 0  # deaths and hangs in a row, without those at the search of a task
    was_ready: bool = False  # at least once in this run
    num_done: int = 0  # jobs that it finished, those before a restart included
    running: Running | None = None

    def take(self) -> Running | None:
        """The job that it was at, which it has no more."""
        running, self.running = self.running, None
        return running


def views_answered(
    running: Running, complete: Sequence[str], samples_per_view: float
) -> dict[str, float]:
    """For each task of the job the number of views that were answered.

    It is a fraction where the job was cut off in the middle of a view.
    """
    asked = len(running.job.views)
    answered = {}

    for task in running.assignment.tasks:
        per_view = samples_per_view * len(task.test)
        num_grids = sum(grids_by_view(running.found(task), samples_per_view).values())
        is_all = task.task_id in complete and running.job.asks is None
        answered[task.task_id] = float(asked) if is_all else num_grids / per_view

    return answered


def grids_by_view(candidates: Iterable[Candidate], samples_per_view: float) -> Counter[str]:
    """Answers that a model wrote under each view, at most so many of a test output: a search above
    a threshold may give more."""
    each = Counter((c.view, c.test_index) for c in candidates if c.method == "transduction")
    most = math.ceil(samples_per_view)
    found: Counter[str] = Counter()
    for (view, _), num in each.items():
        found[view] += min(num, most)
    return found
