"""The one process that owns the deadline: it gives out jobs, takes in results, and ends in time.

Single-threaded: wait for an event, a job's deadline or a signal; note it; rewrite the submission;
give out the next job. It never imports torch and never touches a device. results.py keeps what jobs
gave, worker_life.py starts and restarts workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from appliance.arc.submission import build, write_submission
from appliance.arc.task import TaskSet
from appliance.clock import Clock, format_duration
from appliance.config import Settings
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder
from appliance.record.setbacks import note_setback
from appliance.record.standing import SOURCES_FACT
from appliance.run.jobs import NOTHING_DONE, Done, job_of
from appliance.run.ledger import Attempts, Ledger
from appliance.run.pool import Pool
from appliance.run.probe import Prober
from appliance.run.results import Results
from appliance.run.schedule.further_rounds import Gains
from appliance.run.schedule.measured_costs import TaskCost
from appliance.run.schedule.planned_costs import PlannedCosts
from appliance.run.schedule.rate_check import RateCheck
from appliance.run.schedule.schedule import DRAIN_S, Schedule
from appliance.run.schedule.search_queue import SearchShare
from appliance.run.schedule.task_state import Assignment
from appliance.run.worker_life import WorkerLife
from appliance.run.worker_state import Kind, Running, TaskReport, WorkerState
from appliance.sizing.steps_and_views import reserve_s
from appliance.solve.messages import (
    Checked,
    Finished,
    KnownProgram,
    LeftOut,
    Probed,
    Ready,
    Sampled,
    Scored,
    Searched,
    Trained,
    Wrote,
)

POLL_S = 1.0
"""A signal is noticed after this many seconds at most."""

KNOWN_PER_PICKED = 4
"""Earlier programs given to a job for each one that it trains on: some of them are alike."""

LATENESS_SLACK = 10.0
"""On a busy machine this process wakes up late. The run ends this many times that earlier."""

END_CPU_S = 0.4
"""What comes after the work in any case: to end the workers, to report, and to end this process."""

FURTHER_ROUNDS = "further_rounds"
"""The fact of the journal that holds what they gave."""

SLOW_WRITES = 2
"""On a slow disk the reserve for the last write is this many of its slowest writes."""


@dataclass(frozen=True)
class RunWork:
    """What is worked on, and where it is kept."""

    tasks: TaskSet
    settings: Settings
    folder: RunFolder
    journal: Journal


@dataclass(frozen=True)
class RunTime:
    """The time of a run, by its clock: Unix seconds, or those of a rehearsal."""

    clock: Clock
    start_s: float  # when the command began
    deadline_s: float  # when everything must be written
    # How many times as long as it computes this process takes, because others have the cores too.
    slowdown: Callable[[], float] = lambda: 1.0


class Listener(Protocol):
    """Who is told of a run: a display, or nobody."""

    def tell(self, text: str) -> None:
        """A line about the run."""

    def show(self, report: TaskReport) -> None:
        """What a job gave for one of its tasks."""

    def beat(self, workers: Mapping[int, WorkerState]) -> None:
        """What the workers do at the moment: told after every wait."""


class Orchestrator:
    """Works on a run's tasks with a pool of workers until all is done or the time is over."""

    def __init__(
        self,
        work: RunWork,
        pool: Pool,
        time: RunTime,
        listener: Listener,
        *,
        is_stopped: Callable[[], bool],
        planned: PlannedCosts | None = None,
        is_rate_given: bool = False,
        costs: Mapping[str, TaskCost] | None = None,
        search: SearchShare | None = None,
        can_replan: bool = False,
        goes_on: bool = False,
        write: Callable[[Callable[[], Attempts]], None] | None = None,
        poll_s: float = POLL_S,
    ) -> None:
        """is_stopped: true once a signal asked to end.

        planned: what the plan expects of each task, to be corrected by a probe on the device. With
        it, the planned learning rate is checked as well.
        is_rate_given: the user set the learning rate, and no other one is tried.

        costs: the same without memory, taken as it is. Without both, costs are learnt from the
        first jobs.

        search: of a search without a model. Its workers are the last ones of the pool.

        can_replan: whoever runs this has another plan for the case that no device is left, so the
        search is not waited for then.

        goes_on: nobody can start this run again, so a part of the work that always fails is left
        out; else it ends the run.

        write: puts a submission in place, see `Ledger`; by default submission.json in the folder.
        """
        self._work, self._pool, self._listener = work, pool, listener
        self._clock, self._deadline_s, self._slowdown = time.clock, time.deadline_s, time.slowdown
        self._is_stopped, self._poll_s = is_stopped, poll_s
        self._reserve_s = reserve_s(work.settings, time.deadline_s - time.start_s)
        num_devices = pool.num_workers - (search.num_workers if search else 0)
        self._workers = {
            worker: WorkerState("device" if worker < num_devices else "search")
            for worker in range(pool.num_workers)
        }
        self._next_job_id = 0
        self._lateness_s = 0.0  # the latest that this process was woken up

        # All work must be over before the last write.
        end_s = time.deadline_s - self._reserve_s
        self._schedule = Schedule(
            work.tasks,
            work.settings,
            end_s=end_s,
            num_workers=num_devices,
            costs=planned.task_costs() if planned else costs,
            search=search,
        )

        def write_file(attempts: Callable[[], Attempts]) -> None:
            write_submission(work.folder.submission, build(work.tasks, attempts()))

        self._ledger = Ledger(
            work.tasks,
            work.journal,
            selector=work.settings.sample.selector,
            clock=time.clock,
            write=write or write_file,
        )
        self._results = Results(
            work.settings, self._schedule, self._ledger, time.clock, listener.show
        )
        self._resume()

        # After the resume: the probe says on which rung the tasks that are left begin.
        device_s = (end_s - time.start_s) * num_devices
        self._prober: Prober | None = None
        self._rate_check: RateCheck | None = None
        if planned is not None:
            self._prober = Prober(planned, self._schedule, work.journal, self._tell, device_s)
            self._rate_check = RateCheck(
                self._schedule, work.journal, self._tell, device_s=device_s, is_given=is_rate_given
            )
        self._life = WorkerLife(
            self._workers,
            pool,
            self._schedule,
            self._results,
            self._prober,
            self._rate_check,
            time.clock,
            self._tell,
            self._set_back,
            can_replan=can_replan,
            goes_on=goes_on,
        )

    def run(self) -> None:
        """Work until everything is done, the time is over, or a signal came.

        The submission is written in any case.

        Raises InputError for a model that no worker can load, EngineError when no worker of a kind
        is left (DeviceLost for those with a device) or every task meets the same fault (SameFault),
        and OutputError when the disk is full.
        """
        try:
            search = self._schedule.search
            if search and not search.is_over(self._clock.now()):
                self._start("search")
            if not self._is_search_first():
                self._start("device")

            while not self._is_stopped() and self._clock.now() < self._schedule.end_s:
                if not self._give_out():
                    self._tell_early_end()
                    break

                self._listener.beat(self._workers)
                self._wait()
                self._life.reap_late()
                self._ledger.write_if_due()
                self._move_end()

            jobs = {str(worker): state.num_done for worker, state in self._workers.items()}
            self._work.journal.put_fact("jobs", jobs)
            self._tell_gains()
            if self._life.fault is not None:
                raise self._life.fault
        finally:
            # Written first: to kill workers may take seconds on a busy machine.
            self._ledger.write()
            self._pool.close()
            for state in self._workers.values():
                self._results.keep_partial(state.take())
            self._ledger.write()
            self._work.journal.put_fact(SOURCES_FACT, dict(self._ledger.sources()))

    def _resume(self) -> None:
        """Stages that are done in the journal stay done, and what others gave stays too.

        Adapters do not travel from one batch slot to the next: a task whose adapter is gone trains
        anew in its next round. A fault may be mended by now: a task that was answered untrained
        because of one is trained and answered anew.
        """
        schedule, folder = self._schedule, self._work.folder
        known = [row for row in self._work.journal.stages() if row.task_id in schedule.states]
        faulty = {
            row.task_id
            for row in known
            if row.stage == "train" and row.round == 1 and row.detail.get("cause") == "fault"
        }
        trained = {
            (row.task_id, row.round)
            for row in known
            if (row.stage, row.status) == ("train", "done")
        }
        for row in known:
            is_cut = row.status == "partial" or (row.task_id, row.round) in trained
            if row.stage == "deep" and is_cut and row.task_id not in faulty:
                schedule.mark_cut(row.task_id, row.round)

        # The adapter of the last training is the one that lies in the folder.
        whole = (row for row in known if row.status == "done")
        stay = (row for row in whole if row.stage != "deep" or row.task_id not in faulty)
        rows = sorted(stay, key=lambda row: row.round)
        for row in rows:
            if row.stage == "quick":
                schedule.mark_done(row.task_id, "quick")
            elif row.stage == "deep":
                schedule.mark_done(row.task_id, "deep", number=row.round, seconds=row.seconds)
            elif row.stage == "search" and schedule.search:
                schedule.search.mark_done([row.task_id])
            elif row.stage == "train" and folder.has_adapter(row.task_id):
                schedule.set_adapter(row.task_id, row.detail["adapter_sha"])

        schedule.further.gains = self._work.journal.fact(FURTHER_ROUNDS, Gains | None) or Gains()
        for task_id, certainty in self._ledger.certainties.items():
            schedule.set_certainty(task_id, certainty)
        for task_id in self._ledger.found:
            schedule.set_found(task_id)

        if rows:
            num_deep = sum((row.stage, row.round) == ("deep", 1) for row in rows)
            num_searched = sum(row.stage == "search" for row in rows)
            num_tasks, done = len(self._work.tasks), []
            if self._work.settings.needs_model:
                done.append(f"{num_deep} of {num_tasks} tasks are finished")
            if schedule.search:
                done.append(f"{num_searched} of {num_tasks} are searched")
            self._tell(f"resumed: {' and '.join(done)} and stay as they are")

    def _start(self, kind: Kind) -> None:
        for worker, state in self._workers.items():
            if state.kind == kind and state.state == "down":
                self._life.start(worker)

    def _is_search_first(self) -> bool:
        """Whether the model waits until a search on the same cores is over."""
        search = self._schedule.search
        return bool(search and search.share.is_first and not search.is_over(self._clock.now()))

    def _take_turns(self) -> None:
        """When the search is over its workers end; a model that waited for the cores is loaded."""
        search, now_s = self._schedule.search, self._clock.now()
        if search is None:
            return

        if search.is_over(now_s):
            if any(s.kind == "search" and s.state != "gone" for s in self._workers.values()):
                num_left = len(search.waiting())
                if num_left:
                    self._tell(f"the time of the search is over: {num_left} tasks not searched")
                self._life.retire()
            self._start("device")
        elif not search.has_work(now_s):
            self._start("device")  # it loads while the last searches end

    def _give_out(self) -> bool:
        """Hand a job to every idle worker. False when nothing is left to do."""
        self._take_turns()
        for worker, state in self._workers.items():
            if state.state == "idle":
                self._assign(worker, state)
        return any(state.state in ("busy", "starting") for state in self._workers.values())

    def _assign(self, worker: int, state: WorkerState) -> None:
        now_s = self._clock.now()

        assignment = self._next(state.kind, now_s)
        if assignment is None:
            return

        job = job_of(
            assignment,
            self._work.settings,
            job_id=self._next_job_id,
            now_s=now_s,
            known=self._known(assignment),
            done=self._done(assignment),
            plain_because=self._prober.plain_because if self._prober else "",
        )
        self._next_job_id += 1
        state.state, state.running = "busy", Running(assignment, job, now_s, worker)
        self._pool.submit(worker, job)

    def _next(self, kind: Kind, now_s: float) -> Assignment | None:
        if kind == "search":
            return self._schedule.next_search(now_s)
        if self._is_search_first():
            return None

        # The probe goes before all tasks: it corrects what they are given.
        probe = self._prober.next(now_s) if self._prober else None
        return probe or self._next_check(now_s) or self._schedule.next(now_s)

    def _next_check(self, now_s: float) -> Assignment | None:
        """A part of the check of the learning rate, which needs what the probe found."""
        if self._prober is None or self._rate_check is None or not self._prober.is_over:
            return None
        return self._rate_check.next(self._prober.planned, now_s)

    def _known(self, assignment: Assignment) -> list[KnownProgram]:
        """Programs that writing goes on from."""
        if not assignment.program_s:
            return []
        limit = KNOWN_PER_PICKED * self._work.settings.program.picked
        return self._ledger.known_programs(assignment.tasks[0].task_id, limit)

    def _done(self, assignment: Assignment) -> Done:
        """What earlier rounds gave, where predictions are counted."""
        if self._work.settings.sample.predictions is None or assignment.stage != "deep":
            return NOTHING_DONE
        task_id, journal = assignment.tasks[0].task_id, self._work.journal
        return Done(
            journal.num_answers(task_id, before_round=assignment.round),
            journal.num_programs(task_id, before_round=assignment.round),
        )

    def _wait(self) -> None:
        """Until something arrives or is due, but no longer than a signal may wait."""
        now_s = self._clock.now()
        due = [self._schedule.end_s, now_s + self._poll_s, *self._life.limits_s()]
        arrival = self._pool.next_arrival(max(0.0, min(due) - now_s))
        if arrival is None:
            # Nothing came, so the wait should have ended when something was due.
            late_s = self._clock.now() - max(now_s, min(due))
            self._lateness_s = max(self._lateness_s, late_s)

        # Take in all that is there before jobs are given out again.
        while arrival is not None:
            self._handle(*arrival)
            arrival = self._pool.next_arrival(0.0)

    def _handle(self, worker: int, event: object) -> None:
        """Pass an event on: answers to the running job, ends to the results, faults to the life."""
        state = self._workers[worker]
        running = state.running
        match event:
            case Ready():
                facts = {"seconds": round(event.seconds, 1), **event.facts}
                self._work.journal.put_fact(f"worker-{worker}", facts)
                self._life.ready(worker, event)
                if self._prober and state.kind == "device":
                    self._prober.expect(event.slowdown)
            case Probed():
                if self._prober and running:
                    seconds = self._clock.now() - running.started_s
                    self._prober.take(event, seconds=seconds)
                    self._life.went_well(running)
                state.state, state.running = "idle", None
            case Checked():
                if self._rate_check and running:
                    self._rate_check.take(event)
                    if event.reason is None:
                        self._life.went_well(running)
                state.state, state.running = "idle", None
            case Sampled() | Searched():
                if running:
                    running.take(event, now_s=self._clock.now())
            case Trained() | LeftOut() | Scored() | Wrote():
                if running:
                    running.take(event, now_s=self._clock.now())
                    self._life.went_on(running, event)
            case Finished():
                if running:
                    if running.candidates or event.complete:  # else its time was too short
                        self._life.went_well(running)
                    self._results.finish(running, event)
                    state.state, state.running, state.num_falls = "idle", None, 0
                    state.num_done += 1
            case _:
                self._life.trouble(worker, event)

    def _move_end(self) -> None:
        """The end comes earlier on a slow disk, on busy cores, and where this process is woken up
        late.
        """
        kept_s = SLOW_WRITES * self._ledger.slowest_write_s + LATENESS_SLACK * self._lateness_s
        ending_s = END_CPU_S * self._slowdown()
        self._schedule.end_s = self._deadline_s - max(self._reserve_s, kept_s, ending_s)

    def _tell_early_end(self) -> None:
        left_s = self._schedule.end_s - DRAIN_S - self._clock.now()
        if left_s > 0:
            why = "every task is searched"
            if self._work.settings.needs_model:
                why = self._schedule.further.why_over(self._schedule.states)
            self._tell(f"stopping {format_duration(left_s)} early: {why}")

    def _tell_gains(self) -> None:
        """What further rounds gave, in this start and in those before it."""
        gains = self._schedule.further.gains
        if gains.num:
            self._work.journal.put_fact(FURTHER_ROUNDS, gains.model_dump())
            self._tell(gains.text())

    def _set_back(self, text: str) -> None:
        """Count it for the end of the run."""
        note_setback(self._work.journal, text)

    def _tell(self, text: str) -> None:
        """To people, and to the journal."""
        self._work.journal.put_event(self._clock.now(), text)
        self._listener.tell(text)
