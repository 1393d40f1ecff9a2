"""The one process that owns the deadline. It gives out jobs, writes down what comes back, and keeps submission.json valid.

Single-threaded: wait for an event, a job's deadline or a signal; note it; rewrite the submission; give out the next job. It
never imports torch and never touches a device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from appliance.arc.submission import build, write_submission
from appliance.arc.task import TaskSet
from appliance.clock import Clock, format_duration
from appliance.config import Settings
from appliance.errors import EngineError, InputError
from appliance.record.journal import Journal, split_stage_name
from appliance.record.run_folder import RunFolder
from appliance.run.jobs import job_of
from appliance.run.ledger import Attempts, Ledger
from appliance.run.pool import SAFE_TRAINER, Died, Pool
from appliance.run.probe import Prober
from appliance.run.resend import remaining_job
from appliance.run.schedule.measured_costs import TaskCost
from appliance.run.schedule.planned_costs import Prospect
from appliance.run.schedule.schedule import DRAIN_S, Schedule
from appliance.run.schedule.task_state import Assignment
from appliance.run.worker_state import Running, TaskReport, WorkerState, views_answered
from appliance.sizing.memory_ladder import RUNGS
from appliance.solve.messages import (
    Failed,
    Finished,
    KnownProgram,
    Probed,
    Ready,
    Sampled,
    Scored,
    Searched,
    Trained,
)

GRACE_S = 10.0
"""A worker that is this late after its job's deadline, and what its last step may take, hangs and is killed."""
START_LIMIT_S = 300.0
"""A worker that is not ready after this long is not going to be."""
PROBE_GRACE = 20
"""A probe may be late by so many times its longest step or batch."""
POLL_S = 1.0
"""A signal is noticed after so many seconds at most."""
MAX_STARTS = 3
MAX_FALLS = 5
"""A worker that does not start so often, or dies under so many jobs in a row while others live, is not used again."""
KNOWN_PER_PICKED = 4
"""A search is told of so many earlier programs for each one that it learns from: some of them are alike."""
LATENESS_SLACK = 10.0
"""On a busy machine this process wakes up late: the end is planned so many times that much earlier."""
RESERVE_SHARE = 0.1
"""The reserve for the last write is at most this part of a short budget; on a slow disk it is two of its writes."""


class Orchestrator:
    """tell: lines for people, also journaled. show: reports per task. is_stopped: true once a signal asked to end.
    costs: what the plan expects of each task. prospect: the same with memory, to be corrected by a probe. write: puts a
    submission in place, by default out/submission.json."""

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
        costs: Mapping[str, TaskCost] | None = None,
        prospect: Prospect | None = None,
        write: Callable[[Attempts], None] | None = None,
        poll_s: float = POLL_S,
    ) -> None:
        self._tasks = tasks
        self._settings = settings
        self._journal = journal
        self._pool = pool
        self._clock = clock
        self._tell_out = tell
        self._show = show
        self._is_stopped = is_stopped
        self._poll_s = poll_s
        self._deadline_s = deadline_s
        self._reserve_s = min(settings.run.reserve_s, RESERVE_SHARE * (deadline_s - start_s))
        end_s = deadline_s - self._reserve_s
        costs = prospect.task_costs() if prospect else costs
        self._schedule = Schedule(
            tasks, settings, end_s=end_s, num_workers=num_workers, costs=costs
        )
        self._slots = {worker: WorkerState() for worker in range(num_workers)}
        self._next_job_id = 0
        self._lateness_s = 0.0
        folder = RunFolder(out)
        write = write or (
            lambda attempts: write_submission(folder.submission, build(tasks, attempts))
        )
        self._ledger = Ledger(
            tasks, journal, selector=settings.sample.selector, clock=clock, write=write
        )
        self._resume(folder.adapters)
        device_s = (end_s - start_s) * num_workers
        self._prober = (
            None
            if prospect is None
            else Prober(prospect, self._schedule, journal, self._tell, device_s)
        )

    def run(self) -> None:
        """Work until everything is done, the time is over, or a signal came. The submission is written in any case.

        Raises InputError or EngineError when no worker can be started at all, and PrerequisiteError when the disk is full.
        """
        try:
            for worker in self._slots:
                self._start(worker)
            while not self._is_stopped() and self._clock.now() < self._schedule.end_s:
                if not self._give_out():
                    self._tell_early_end()
                    break
                self._wait()
                self._reap_late()
                self._ledger.write_if_due()
                reserve_s = max(
                    self._reserve_s,
                    2 * self._ledger.slowest_write_s + LATENESS_SLACK * self._lateness_s,
                )
                self._schedule.end_s = self._deadline_s - reserve_s
        finally:
            self._ledger.write()  # to kill workers may take seconds on a busy machine
            self._pool.close()
            for slot in self._slots.values():
                self._keep_partial(slot)
            self._ledger.write()

    def _resume(self, adapters: Path) -> None:
        """Stages that are done in the journal stay done. Adapters do not travel from one batch slot to the next: a task whose
        adapter is gone trains anew in its next round."""
        rows = [
            r
            for r in self._journal.stages()
            if r.status == "done" and r.task_id in self._schedule.states
        ]
        for row in rows:
            stage, number = split_stage_name(row.stage)
            if stage == "quick":
                self._schedule.mark_done(row.task_id, "quick")
            elif stage == "deep":
                self._schedule.mark_done(row.task_id, "deep", number=number, seconds=row.seconds)
            elif stage == "train" and any((adapters / row.task_id).glob("*.safetensors")):
                self._schedule.set_adapter(row.task_id, row.detail["adapter_sha"])
        for task_id, certainty in self._ledger.certainties.items():
            self._schedule.set_certainty(task_id, certainty)
        if rows:
            num_deep = sum(r.stage == "deep" for r in rows)
            self._tell(
                f"resumed: {num_deep} of {len(self._tasks)} tasks are finished and stay as they are"
            )

    def _give_out(self) -> bool:
        """Hand a job to every idle worker. False when nothing is left to do."""
        for worker, slot in self._slots.items():
            if slot.state == "idle":
                self._assign(worker, slot)
        return any(slot.state in ("busy", "starting") for slot in self._slots.values())

    def _assign(self, worker: int, slot: WorkerState) -> None:
        now_s = self._clock.now()
        assignment = (self._prober and self._prober.next(now_s)) or self._schedule.next(now_s)
        if assignment is None:
            return
        job = job_of(
            assignment,
            self._settings,
            job_id=self._next_job_id,
            now_s=now_s,
            known=self._known(assignment),
        )
        self._next_job_id += 1
        slot.state, slot.running = "busy", Running(assignment, job, now_s)
        self._pool.submit(worker, job)

    def _known(self, assignment: Assignment) -> list[KnownProgram]:
        """Programs that a search goes on from."""
        if not assignment.program_s:
            return []
        limit = KNOWN_PER_PICKED * self._settings.program.picked
        return self._ledger.known_programs(assignment.tasks[0].task_id, limit)

    def _wait(self) -> None:
        """Until something arrives or something is due, but not so long that a signal would be noticed late."""
        now_s = self._clock.now()
        due = [self._schedule.end_s, now_s + self._poll_s]
        due += [self._limit_s(s.running) for s in self._slots.values() if s.running]
        arrival = self._pool.next_arrival(max(0.0, min(due) - now_s))
        if arrival is None:
            self._lateness_s = max(self._lateness_s, self._clock.now() - max(now_s, min(due)))
        while arrival is not None:
            self._handle(*arrival)
            arrival = self._pool.next_arrival(0.0)

    def _handle(self, worker: int, event: object) -> None:
        slot = self._slots[worker]
        match event:
            case Ready():
                slot.state, slot.num_starts, slot.was_ready = "idle", 0, True
                if slot.running:  # what remains of the job that its forerunner was lost under
                    slot.state = "busy"
                    self._pool.submit(worker, slot.running.job)
                self._journal.put_fact(f"worker-{worker}", event.facts)
                self._tell(
                    f"worker {worker} ready after {format_duration(event.seconds)}: {event.facts}"
                )
            case Probed():
                if self._prober and slot.running:
                    self._prober.take(event, seconds=self._clock.now() - slot.running.started_s)
                slot.state, slot.running = "idle", None
            case Trained():
                if slot.running:
                    slot.running.trained[event.task_id] = event
            case Sampled():
                if slot.running:
                    slot.running.stall_s, slot.running.heard_s = event.stall_s, self._clock.now()
                    slot.running.candidates += [c.candidate() for c in event.candidates]
                    slot.running.candidates += [c for p in event.programs for c in p.candidates()]
                    slot.running.programs += event.programs
            case Scored():
                if slot.running:
                    slot.running.candidates = event.on(slot.running.candidates)
            case Searched():
                if slot.running:
                    slot.running.searched[event.task_id] = event
            case Finished():
                self._finish(slot, event)
            case Failed(job_id=-1, kind="input"):
                raise InputError(
                    f"worker {worker} cannot start: {event.message}",
                    remedy="see the run's worker log",
                )
            case Failed(job_id=-1):
                self._pool.kill(worker)
                if event.kind == "trainer":
                    self._tell(
                        f"worker {worker}: {event.message}; it starts again with the trainer {SAFE_TRAINER}"
                    )
                elif event.kind != "memory" and not slot.was_ready:
                    slot.num_starts = MAX_STARTS  # another try would find the same
                self._start(worker, why=event.message)
            case Failed(kind="memory"):
                self._fall(slot, self._schedule.out_of_memory, event.message)
            case Failed():
                self._fall(slot, self._schedule.crashed, event.message)
            case Died():
                last_line = event.log_tail.splitlines()[-1:] or ["no last words"]
                self._lose(
                    worker,
                    f"worker {worker} died with code {event.exit_code} ({last_line[0]})",
                    event.log_tail,
                )

    def _finish(self, slot: WorkerState, event: Finished) -> None:
        running = slot.running
        if running is None:
            return
        assignment = running.assignment
        event = event.model_copy(update={"complete": [*running.answered, *event.complete]})
        is_empty = not running.candidates and not event.complete
        self._schedule.finished(
            assignment, event.complete, seconds=event.seconds, is_empty=is_empty
        )
        self._measure(running, event)
        for task in assignment.tasks:
            found = running.found(task)
            is_done = task.task_id in event.complete or (found and assignment.stage == "deep")
            status = "done" if is_done else "partial" if found else "failed"
            reason = None if is_done or found else "no answer in its time"
            self._note(
                running, status, task.task_id, reason=reason, how=event.how, refused=event.refused
            )
        slot.state, slot.running, slot.num_falls = "idle", None, 0

    def _measure(self, running: Running, event: Finished) -> None:
        """What the job took goes into the forecast of those to come."""
        forecast, assignment = self._schedule.forecast, running.assignment
        for task_id, trained in running.trained.items():
            forecast.note_training(task_id, trained.num_steps, trained.seconds)
        aside_s = [t.seconds for t in running.trained.values()] + [
            s.seconds for s in running.searched.values()
        ]
        sampling_s = event.seconds - sum(aside_s)
        views = views_answered(running, event.complete, self._settings.sample.samples_per_view)
        forecast.note_sampling(assignment.stage, views, sampling_s)

    def _note(
        self,
        running: Running,
        status: str,
        task_id: str,
        *,
        reason: str | None = None,
        how: str = "",
        refused: Sequence[str] = (),
    ) -> None:
        """Write down what a job gave for one of its tasks, and take it into the vote."""
        assignment, task = running.assignment, self._schedule.states[task_id].task
        found = running.found(task)
        trained = running.training(task_id, is_wanted=self._settings.train.enabled)
        if trained and trained.adapter_sha:
            self._schedule.set_adapter(task_id, trained.adapter_sha)
        seconds = (self._clock.now() - running.started_s) / len(assignment.tasks)
        self._ledger.put(
            assignment,
            task,
            status,
            candidates=found,
            programs=running.written(task),
            trained=trained,
            searched=running.searched.get(task_id),
            seconds=seconds,
            reason=reason,
            how=how,
            refused=refused,
        )
        if task_id in self._ledger.certainties:
            self._schedule.set_certainty(task_id, self._ledger.certainties[task_id])
        if found or status != "failed":
            self._show(
                TaskReport(task, assignment.stage, trained, tuple(found), seconds, assignment.round)
            )

    def _fall(
        self, slot: WorkerState, rule: Callable[[Assignment], list[str]], message: str
    ) -> None:
        """A job failed: keep what it gave, put its tasks back one rung down, or give them up."""
        running = slot.running
        if running is None:
            return
        assignment = running.assignment
        if assignment.stage == "probe" and self._prober:
            slot.state, slot.running = "idle", None
            self._prober.lose(assignment, message, is_memory=rule == self._schedule.out_of_memory)
            return
        self._keep_partial(slot)
        lost = rule(assignment)
        names = ", ".join(t.task_id for t in assignment.tasks[:4]) + (
            ", ..." if len(assignment.tasks) > 4 else ""
        )
        if lost:
            then = "given up"
        elif len(assignment.tasks) > 1:
            then = "each is tried alone"
        else:
            progress = self._schedule.states[assignment.tasks[0].task_id].of(assignment.stage)
            then = f"next try: {RUNGS[progress.rung].name}"
        self._tell(f"{assignment.name} {names}: {message}; {then}")
        for task_id in lost:
            if not running.found(self._schedule.states[task_id].task):
                self._note(running, "failed", task_id, reason=message)
        slot.state = "idle"

    def _keep_partial(self, slot: WorkerState) -> None:
        """Candidates of a job that was cut off still vote."""
        running, slot.running = slot.running, None
        for task in running.assignment.tasks if running else ():
            if running and running.found(task):
                self._note(running, "partial", task.task_id)

    def _limit_s(self, running: Running) -> float:
        """A worker that has not reported back by then hangs. It looks at the clock between steps and batches, which on a busy
        machine take their time; a probe is the first work of all and may be slower still."""
        slow_s = self._schedule.longest_wait_s(running.assignment)
        return (
            running.job.deadline_s
            + GRACE_S
            + (PROBE_GRACE if running.assignment.stage == "probe" else 2) * slow_s
        )

    def _reap_late(self) -> None:
        """Kill and restart workers that are past their job's deadline, or that never became ready."""
        now_s = self._clock.now()
        for worker, slot in self._slots.items():
            if slot.running and now_s >= self._limit_s(slot.running):
                self._pool.kill(worker)
                late_s = now_s - slot.running.job.deadline_s
                slot.running.stall_s = None  # no time is left to ask again
                message = f"worker {worker} hung {late_s:.0f} s past its deadline, killed"
                self._lose(worker, message, message)
            elif slot.running and slot.running.is_stuck(now_s):
                self._pool.kill(worker)
                message = f"worker {worker} wrote nothing for {now_s - slot.running.heard_s:.0f} s, killed"
                self._lose(worker, message, message)
            elif slot.state == "starting" and now_s >= slot.since_s + START_LIMIT_S:
                self._pool.kill(worker)
                self._start(worker, why=f"not ready after {START_LIMIT_S:.0f} s")

    def _lose(self, worker: int, message: str, why: str) -> None:
        """The worker is gone: the next one gets what remains of its job, or the job has failed."""
        slot = self._slots[worker]
        running = slot.running
        settings = self._settings
        samples = settings.sample.samples_per_view if settings.writes_grids else 0
        programs = settings.program.quick_samples if settings.writes_programs else 0
        job = (
            remaining_job(running, samples_per_view=samples, quick_programs=programs)
            if running
            else None
        )
        if running and job:
            running.job = job
            what = (
                f"programs, beginning with {len(job.known)},"
                if job.program_until_s
                else f"{len(job.views)} views"
            )
            self._tell(f"{running.assignment.name}: {message}; {what} are asked again")
        else:
            self._fall(slot, self._schedule.crashed, message)
        slot.num_falls += 1
        self._start(worker, why=why)

    def _start(self, worker: int, *, why: str = "") -> None:
        """(Re)start a worker, unless it has failed too often."""
        slot = self._slots[worker]
        slot.state = "down"
        others = any(s.state != "gone" for s in self._slots.values() if s is not slot)
        if slot.num_starts >= MAX_STARTS or (others and slot.num_falls >= MAX_FALLS):
            self._give_up(worker, why)
            return
        slot.state, slot.since_s = "starting", self._clock.now()
        slot.num_starts += 1
        self._pool.start(worker)

    def _give_up(self, worker: int, why: str) -> None:
        self._fall(self._slots[worker], self._schedule.crashed, why)
        self._slots[worker].state = "gone"
        self._schedule.num_workers = sum(s.state != "gone" for s in self._slots.values())
        if self._schedule.num_workers == 0:
            raise EngineError(
                f"worker {worker} does not start" + (f": {why}" if why else ""),
                remedy="read run/logs; appliance doctor names what is missing",
            )
        self._tell(
            f"worker {worker} is given up ({why}); {self._schedule.num_workers} go on without it"
        )

    def _tell_early_end(self) -> None:
        left_s = self._schedule.end_s - DRAIN_S - self._clock.now()
        if left_s > 0:
            self._tell(
                f"nothing is left that {format_duration(left_s)} are enough for and that could improve"
            )

    def _tell(self, text: str) -> None:
        self._journal.put_event(self._clock.now(), text)
        self._tell_out(text)
