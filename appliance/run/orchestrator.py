"""The one process that owns the deadline. It gives out jobs, writes down what comes back, and keeps submission.json valid.

Single-threaded: wait for an event, a job's deadline or a signal; note it; rewrite the submission; give out the next job. It
never imports torch and never touches a device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from appliance.arc.submission import build, write_submission
from appliance.arc.task import Task, TaskSet
from appliance.arc.view import sampling_views
from appliance.arc.vote import Candidate
from appliance.clock import Clock, format_duration
from appliance.config import Settings
from appliance.errors import EngineError, InputError
from appliance.run.attempts import attempts_of
from appliance.run.journal import Journal, StageRow
from appliance.run.pool import Died, Pool
from appliance.run.schedule import Assignment, Schedule
from appliance.seeds import generator
from appliance.solve.ladder import RUNGS
from appliance.solve.messages import Failed, Finished, Job, Ready, Sampled, TaskMessage, Trained

GRACE_S = 10.0
"""A worker that is this late after its job's deadline hangs and is killed."""
START_LIMIT_S = 300.0
"""A worker that is not ready after this long is not going to be."""
MAX_STARTS_IN_A_ROW = 3
WRITE_EVERY_S = 1.0


@dataclass(frozen=True)
class TaskReport:
    """For the display: what is now known of a task. votes: candidates that say the first attempt, of all candidates."""

    task: Task
    stage: str
    trained: Trained | None
    candidates: tuple[Candidate, ...]
    seconds: float


@dataclass
class _Running:
    assignment: Assignment
    job: Job
    started_s: float
    candidates: list[Candidate] = field(default_factory=list)
    trained: dict[str, Trained] = field(default_factory=dict)


@dataclass
class _Slot:
    """One worker: "down", "starting", "idle" or "busy"."""

    state: str = "down"
    since_s: float = 0.0
    starts_in_a_row: int = 0
    running: _Running | None = None


class Orchestrator:
    """tell: lines for people, also journaled. show: reports per task. is_stopped: true once a signal asked to end."""

    def __init__(
        self,
        tasks: TaskSet,
        settings: Settings,
        *,
        out: Path,
        journal: Journal,
        pool: Pool,
        num_workers: int,
        clock: Clock,
        start_s: float,
        deadline_s: float,
        tell: Callable[[str], None],
        show: Callable[[TaskReport], None],
        is_stopped: Callable[[], bool],
    ) -> None:
        self._tasks = tasks
        self._settings = settings
        self._submission_path = out / "submission.json"
        self._journal = journal
        self._pool = pool
        self._clock = clock
        self._tell_out = tell
        self._show = show
        self._is_stopped = is_stopped
        end_s = deadline_s - settings.run.reserve_s
        self._schedule = Schedule.of(tasks, settings, start_s=start_s, end_s=end_s, num_workers=num_workers)
        self._slots = {worker: _Slot() for worker in range(num_workers)}
        self._next_job_id = 0
        self._attempts = attempts_of(journal.candidates(), settings.sample.selector)
        self._written_s = float("-inf")
        self._is_dirty = True
        self._resume()

    def write_submission(self) -> None:
        """The whole submission as it stands: votes where there are any, sensible fallbacks elsewhere."""
        write_submission(self._submission_path, build(self._tasks, self._attempts))
        self._written_s = self._clock.now()
        self._is_dirty = False

    def run(self) -> None:
        """Work until everything is done, the time is over, or a signal came. The submission is written in any case.

        Raises InputError or EngineError when no worker can be started at all, and PrerequisiteError when the disk is full.
        """
        try:
            for worker in self._slots:
                self._start(worker)
            while not self._is_stopped() and self._clock.now() < self._schedule.end_s:
                if not self._give_out():
                    break
                self._wait()
                self._reap_late()
                if self._is_dirty and self._clock.now() - self._written_s >= WRITE_EVERY_S:
                    self.write_submission()
        finally:
            self._pool.close()
            self._keep_partial_work()
            if self._is_dirty:
                self.write_submission()

    def _resume(self) -> None:
        """Stages that are done in the journal stay done."""
        known = set(self._tasks.ids())
        rows = [r for r in self._journal.stages() if r.status == "done" and r.task_id in known]
        for row in rows:
            if row.stage in ("quick", "deep"):
                self._schedule.mark_done(row.task_id, row.stage)
        if rows:
            num_deep = sum(r.stage == "deep" for r in rows)
            self._tell(f"resumed: {num_deep} of {len(known)} tasks are finished and stay as they are")

    def _give_out(self) -> bool:
        """Hand a job to every idle worker. False when nothing is left to do."""
        for worker, slot in self._slots.items():
            if slot.state == "idle":
                self._assign(worker, slot)
        return any(slot.state in ("busy", "starting") for slot in self._slots.values())

    def _assign(self, worker: int, slot: _Slot) -> None:
        now_s = self._clock.now()
        assignment = self._schedule.next(now_s)
        if assignment is None:
            return
        seed = self._settings.run.seed
        sample = self._settings.sample
        num_views = sample.quick_views if assignment.stage == "quick" else sample.views
        names: dict[str, None] = {}
        for task in assignment.tasks:
            rng = generator(seed, task.task_id, assignment.stage, "views")
            order = len(task.train) if assignment.stage == "deep" else 0
            for view in sampling_views(rng, num_views, order, keep_colours=sample.keep_colours):
                names[view.name] = None
            if assignment.stage == "quick":
                break  # one set of views serves all tasks of a quick job
        job = Job(
            job_id=self._next_job_id,
            stage="quick" if assignment.stage == "quick" else "deep",
            tasks=[TaskMessage.of(t) for t in assignment.tasks],
            views=list(names),
            deadline_s=assignment.until_s,
            train_until_s=now_s + assignment.train_s if assignment.train_s else 0.0,
            rung=assignment.rung,
            seed=seed,
        )
        self._next_job_id += 1
        slot.state, slot.since_s, slot.running = "busy", now_s, _Running(assignment, job, now_s)
        self._pool.submit(worker, job)

    def _wait(self) -> None:
        """Until something arrives or something is due, a second at most so that a signal is noticed."""
        now_s = self._clock.now()
        due = [self._schedule.end_s, now_s + 1.0]
        due += [s.running.job.deadline_s + GRACE_S for s in self._slots.values() if s.running]
        arrival = self._pool.next_arrival(max(0.0, min(due) - now_s))
        while arrival is not None:
            self._handle(*arrival)
            arrival = self._pool.next_arrival(0.0)

    def _handle(self, worker: int, event: object) -> None:
        slot = self._slots[worker]
        match event:
            case Ready():
                slot.state, slot.starts_in_a_row = "idle", 0
                self._journal.put_fact(f"worker-{worker}", event.facts)
                self._tell(f"worker {worker} ready after {format_duration(event.seconds)}: {event.facts}")
            case Trained():
                if slot.running:
                    slot.running.trained[event.task_id] = event
            case Sampled():
                if slot.running:
                    slot.running.candidates += [c.candidate() for c in event.candidates]
            case Finished():
                self._finish(slot, set(event.complete))
            case Failed(job_id=-1):
                self._pool.kill(worker)
                slot.state = "down"
                kind = InputError if event.kind == "input" else EngineError
                raise kind(f"worker {worker} cannot start: {event.message}", remedy="see the run's worker log")
            case Failed(kind="memory"):
                self._fall(slot, self._schedule.out_of_memory, event.message)
            case Failed():
                self._fall(slot, self._schedule.crashed, event.message)
            case Died():
                self._fall(slot, self._schedule.crashed, f"worker {worker} died with code {event.exit_code}")
                slot.state = "down"
                self._start(worker, log_tail=event.log_tail)

    def _finish(self, slot: _Slot, complete: set[str]) -> None:
        running = slot.running
        if running is None:
            return
        self._schedule.finished(running.assignment, complete)
        self._note(running, complete)
        slot.state, slot.running = "idle", None

    def _note(self, running: _Running, complete: set[str]) -> None:
        """Write down what a job gave, task by task, and take it into the vote."""
        assignment = running.assignment
        seconds = (self._clock.now() - running.started_s) / len(assignment.tasks)
        for task in assignment.tasks:
            trained = running.trained.get(task.task_id)
            if trained is not None:
                status = "done" if trained.reason is None else "failed"
                detail = trained.model_dump(exclude={"event", "job_id", "task_id", "seconds"}) | {
                    "rung": assignment.rung
                }
                self._journal.put_stage(StageRow(task.task_id, "train", status, trained.seconds, detail))
            found = [c for c in running.candidates if c.task_id == task.task_id]
            if not found and task.task_id not in complete:
                continue
            status = "done" if task.task_id in complete or (found and assignment.stage == "deep") else "partial"
            row = StageRow(task.task_id, assignment.stage, status, seconds, {"rung": assignment.rung})
            self._journal.put_stage(row, found)
            self._attempts |= attempts_of(self._journal.candidates(task.task_id), self._settings.sample.selector)
            self._is_dirty = True
            self._show(TaskReport(task, assignment.stage, trained, tuple(found), seconds))

    def _fall(self, slot: _Slot, rule: Callable[[Assignment], list[str]], message: str) -> None:
        """A job failed: keep what it gave, put its tasks back one rung down, or give them up."""
        running = slot.running
        if running is None:
            return
        lost = rule(running.assignment)
        names = ", ".join(t.task_id for t in running.assignment.tasks[:4])
        rung = RUNGS[self._schedule.states[running.assignment.tasks[0].task_id].rung]
        self._tell(f"{names}: {message}; " + ("given up" if lost else f"next try: {rung}"))
        self._journal_failure(running, lost, message)
        slot.state, slot.running = "idle", None

    def _journal_failure(self, running: _Running, lost: list[str], message: str) -> None:
        for task_id in lost:
            detail = {"reason": message, "rung": running.assignment.rung}
            self._journal.put_stage(StageRow(task_id, running.assignment.stage, "failed", 0.0, detail))

    def _reap_late(self) -> None:
        """Kill and restart workers that are past their job's deadline, or that never became ready."""
        now_s = self._clock.now()
        for worker, slot in self._slots.items():
            if slot.state == "busy" and slot.running and now_s > slot.running.job.deadline_s + GRACE_S:
                self._pool.kill(worker)
                late_s = now_s - slot.running.job.deadline_s
                self._fall(
                    slot, self._schedule.crashed, f"worker {worker} hung {late_s:.0f} s past its deadline, killed"
                )
                slot.state = "down"
                self._start(worker)
            elif slot.state == "starting" and now_s > slot.since_s + START_LIMIT_S:
                self._pool.kill(worker)
                slot.state = "down"
                self._start(worker)

    def _start(self, worker: int, *, log_tail: str = "") -> None:
        slot = self._slots[worker]
        slot.starts_in_a_row += 1
        if slot.starts_in_a_row > MAX_STARTS_IN_A_ROW:
            raise EngineError(
                f"worker {worker} does not start: {MAX_STARTS_IN_A_ROW} tries"
                + (f"; its log ends: {log_tail}" if log_tail else ""),
                remedy="read run/logs; appliance doctor names what is missing",
            )
        slot.state, slot.since_s, slot.running = "starting", self._clock.now(), None
        self._pool.start(worker)

    def _keep_partial_work(self) -> None:
        """At the end: candidates of jobs that were cut off still vote."""
        for slot in self._slots.values():
            if slot.running and slot.running.candidates:
                self._note_partial(slot.running)
                slot.running = None

    def _note_partial(self, running: _Running) -> None:
        for task in running.assignment.tasks:
            found = [c for c in running.candidates if c.task_id == task.task_id]
            if found:
                row = StageRow(
                    task.task_id, running.assignment.stage, "partial", 0.0, {"rung": running.assignment.rung}
                )
                self._journal.put_stage(row, found)
                self._attempts |= attempts_of(self._journal.candidates(task.task_id), self._settings.sample.selector)
                self._is_dirty = True

    def _tell(self, text: str) -> None:
        self._journal.put_event(self._clock.now(), text)
        self._tell_out(text)
