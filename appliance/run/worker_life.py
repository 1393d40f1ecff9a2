"""The life of workers: started, ready, late, lost, restarted, given up if that does not help."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from appliance.clock import Clock, format_duration
from appliance.engine.base import Blame, Cause
from appliance.errors import DeviceLost, EngineError, InputError
from appliance.run.fault_watch import PARTS, FaultWatch
from appliance.run.pool import PLAIN, Died, Pool
from appliance.run.probe import Prober
from appliance.run.results import Results
from appliance.run.schedule.rate_check import RateCheck
from appliance.run.schedule.schedule import Schedule
from appliance.run.schedule.task_state import Assignment
from appliance.run.screen.worker_text import facts_text
from appliance.run.worker_state import Kind, Running, WorkerState
from appliance.sizing.memory_ladder import RUNGS
from appliance.solve.messages import Failed, Job, LeftOut, Ready, Scored, Trained, Wrote

GRACE_S = 10.0
"""A worker is killed this long after its job's deadline and the time of its last step."""

START_LIMIT_S = 300.0
"""A worker that is not ready after this long is started anew."""

SLOW_STEPS = 2
"""A job may be late by this many of its longest steps: a worker looks at the clock between them."""

SLOW_STEPS_OF_PROBE = 20
"""The same for a probe, which is the first work of all and may be slower still."""

MAX_STARTS = 3
"""Failed starts in a row before a worker is given up."""

MAX_FALLS = 5
"""Consecutive losses before a worker is given up, while other workers live. A search worker that is
lost at a task does not count: the task is given up after two tries, and the next may go well."""

PLAIN_PARTS = {"training": ("trainer",), "quick": ("engine",), "deep": ("engine",), "search": ()}
"""What a plainer one may stand in for where this part always fails; elsewhere for all."""

Rule = Callable[[Assignment], list[str]]
"""Of the schedule: what becomes of the tasks of a failed job. Returns those given up."""


class WorkerLife:
    """Watches over all workers. The orchestrator, which hands out jobs, shares their states."""

    def __init__(
        self,
        workers: Mapping[int, WorkerState],
        pool: Pool,
        schedule: Schedule,
        results: Results,
        prober: Prober | None,
        rate_check: RateCheck | None,
        clock: Clock,
        tell: Callable[[str], None],
        set_back: Callable[[str], None],
        *,
        can_replan: bool = False,
        goes_on: bool = False,
    ) -> None:
        """set_back: counts what was meant to be used and is not. can_replan, goes_on: see
        Orchestrator.
        """
        self._workers = workers
        self._pool = pool
        self._schedule = schedule
        self._results = results
        self._prober = prober
        self._rate_check = rate_check
        self._clock = clock
        self._tell = tell
        self._set_back = set_back
        self._can_replan = can_replan
        self._goes_on = goes_on
        self._watch = FaultWatch(
            schedule, tell, set_back, make_plain=self._make_all_plain, goes_on=goes_on
        )
        self._lost: EngineError | None = None  # no worker of one kind is left

    def start(self, worker: int, *, why: str = "") -> None:
        """(Re)start a worker, unless it has failed too often.

        Raises EngineError when no worker is left that has work, DeviceLost when none is left with a
        device and another plan can be made.
        """
        state = self._workers[worker]
        state.state = "down"

        # A worker that keeps losing jobs costs time; the last one is kept all the same.
        others = any(s is not state for s in self._alive(state.kind))
        if state.num_starts >= MAX_STARTS or (others and state.num_falls >= MAX_FALLS):
            self._give_up(worker, why)
            return

        state.state, state.since_s = "starting", self._clock.now()
        state.num_starts += 1
        self._pool.start(worker)

    def ready(self, worker: int, event: Ready) -> None:
        """It has loaded the model and takes jobs."""
        state = self._workers[worker]
        state.state, state.num_starts, state.was_ready = "idle", 0, True

        if state.running:
            # The worker before it was lost at this job: here is the rest of it.
            state.state = "busy"
            self._pool.submit(worker, state.running.job)

        if state.kind == "device":
            seconds = format_duration(event.seconds)
            self._tell(f"worker {worker} ready after {seconds}: {facts_text(event.facts)}")

    def retire(self) -> None:
        """End the search workers, which have nothing more to do: others need their cores."""
        for worker, state in self._workers.items():
            if state.kind == "search" and state.state != "gone":
                self._pool.kill(worker)
                state.state = "gone"

    def trouble(self, worker: int, event: object) -> None:
        """A worker failed at its start, failed at a job, or died.

        Raises InputError for a model or adapter that no worker can load, SameFault where every task
        meets the same fault.
        """
        state = self._workers[worker]
        match event:
            case Failed(job_id=-1, kind="input") if not self._goes_on:
                raise InputError(
                    f"{self._name(worker)} cannot start: {event.message}",
                    remedy="see the run's worker log",
                )
            case Failed(job_id=-1):
                self._pool.kill(worker)
                self._failed_at_start(worker, event)
            case Failed(kind="memory"):
                self._fall(state, self._schedule.out_of_memory, event.message)
            case Failed(kind="adapter"):
                self._fall(state, self._schedule.adapter_lost, event.message)
            case Failed():
                told: Blame = "input" if event.kind == "input" else "engine"
                self._fall(state, self._schedule.crashed, event.message, blame=told)
            case Died() if state.state == "starting":
                self._lost_at_start(worker, event.how)
            case Died():
                message = f"{self._name(worker)} died: it {event.how}"
                self._lose(worker, message, event.how, died=event)

    @property
    def fault(self) -> EngineError | None:
        """What is raised at the end of a run that went on with what was left."""
        return self._lost or self._watch.fault

    def went_on(self, running: Running, event: Trained | LeftOut | Scored | Wrote) -> None:
        """A part of a job went well, or was left out. Raises SameFault as `trouble`."""
        self._watch.went_on(running, event)

    def went_well(self, running: Running) -> None:
        """A job came to its end."""
        self._watch.went_well(running)

    def limits_s(self) -> list[float]:
        """Instants at which a worker that is still busy counts as hung."""
        return [self._limit_s(s.running) for s in self._workers.values() if s.running]

    def reap_late(self) -> None:
        """Kill and restart workers that hang, wrote nothing for too long, or never became ready."""
        now_s = self._clock.now()
        for worker, state in self._workers.items():
            running = state.running
            late_s = now_s - running.job.deadline_s if running else 0.0
            if running and late_s >= GRACE_S and now_s >= self._limit_s(running):
                running.stall_s = None  # no time is left to ask again
                name = self._name(worker)
                self._kill(worker, f"{name} hung {late_s:.0f} s past its deadline, killed")
            elif running and running.is_stuck(now_s):
                silent_s = now_s - running.heard_s
                self._kill(worker, f"worker {worker} wrote nothing for {silent_s:.0f} s, killed")
            elif state.state == "starting" and now_s >= state.since_s + START_LIMIT_S:
                self._pool.kill(worker)
                self._lost_at_start(worker, f"was not ready after {START_LIMIT_S:.0f} s")

    def _failed_at_start(self, worker: int, event: Failed) -> None:
        """It said itself, before any job, why it does not start."""
        state = self._workers[worker]
        # A card that worked may be busy for a moment after the end of its last process.
        if event.kind == "device" and state.num_starts > int(state.was_ready):
            self._give_up(worker, event.message, self._schedule.put_back)
            return

        # The folder of the model stays as it is, whichever engine reads it.
        if event.kind == "input":
            self._give_up(worker, event.message, self._schedule.put_back)
            return

        # Memory may be there again in a moment; all else would be the same at another try.
        if event.kind not in ("memory", "device"):
            parts = ("trainer",) if event.kind == "trainer" else ()
            is_plainer = self._make_plain(worker, event.message, *parts)
            if not is_plainer and not state.was_ready:
                state.num_starts = MAX_STARTS
        self.start(worker, why=event.message)

    def _lost_at_start(self, worker: int, how: str) -> None:
        """It ended or hung before it was ready, and did not say why: an engine may be the cause.

        One that has started before gets a second try as it was.
        """
        state = self._workers[worker]
        state.num_falls += 1
        if not self._is_device_gone(worker):
            if state.num_starts > int(state.was_ready):
                self._make_plain(worker, f"{how} before it was ready")
            self.start(worker, why=how)

    def _make_plain(self, worker: int, why: str, *parts: str) -> bool:
        """Whether its next start is with plainer engines; people are told, and it is counted."""
        change = self._pool.make_plain(worker, *parts)
        if change:
            self._tell(f"{self._name(worker)}: {why}; it starts again with {change}")
            self._set_back(f"{change}, because a worker did not start")
        return bool(change)

    def _is_device_gone(self, worker: int) -> bool:
        """Whether the driver does not list it any more; its worker is given up then."""
        fault = self._pool.device_fault(worker)
        if fault:
            self._give_up(worker, fault, self._schedule.put_back)
        return bool(fault)

    def _limit_s(self, running: Running) -> float:
        is_probe = running.assignment.stage == "probe"
        slow_steps = SLOW_STEPS_OF_PROBE if is_probe else SLOW_STEPS
        slow_s = slow_steps * self._schedule.longest_wait_s(running.assignment)
        return running.job.deadline_s + GRACE_S + slow_s

    def _kill(self, worker: int, message: str) -> None:
        self._pool.kill(worker)
        self._lose(worker, message, message)

    def _lose(self, worker: int, message: str, why: str, *, died: Died | None = None) -> None:
        """The worker is gone: the next one gets what remains of its job, or the job has failed."""
        if self._is_device_gone(worker):
            return

        state = self._workers[worker]
        was_searching = state.kind == "search" and state.running is not None
        job = self._results.remaining(state.running)
        if state.running and job:
            state.running.job = job
            label = state.running.assignment.label
            self._tell(f"{label}: {message}; {_what_remains(job)} are asked again")
        else:
            # A kill from outside, and a worker of ours that hung, say nothing of other tasks.
            is_own = died is not None and not died.is_killed
            is_killed = died is not None and died.is_killed
            self._fall(
                state,
                self._schedule.killed if is_killed else self._schedule.crashed,
                message,
                blame="engine" if is_own else None,
                fault=died.fault if died else "",
            )

        if not was_searching:
            state.num_falls += 1
        if state.state != "starting":  # else all were started anew with plainer engines
            self.start(worker, why=why)

    def _fall(
        self,
        state: WorkerState,
        rule: Rule,
        message: str,
        *,
        blame: Blame | None = None,
        fault: str = "",
    ) -> None:
        """A job failed: keep what it gave, put its tasks back, or give them up.

        blame: for a fault that other tasks may meet as well. fault: what they have in common, by
        default the message.
        """
        running = state.take()
        if running is None:
            return

        assignment = running.assignment
        state.state = "idle"
        is_memory = rule == self._schedule.out_of_memory
        if assignment.stage == "probe" and self._prober:
            is_told = blame is not None and not fault
            self._prober.lose(assignment, message, is_memory=is_memory, is_told=is_told)
        elif assignment.stage == "check" and self._rate_check:
            self._rate_check.lose(assignment, message)
        else:
            self._results.keep_partial(running)
            lost = rule(assignment)
            self._tell(f"{running.name}: {message}; {self._follows(assignment, rule, lost)}")
            for task_id in lost:
                cause: Cause = "memory" if is_memory else "fault"
                self._results.give_up(running, task_id, message, cause)

        if blame is not None:
            self._watch.failed(running, assignment.stage, fault or message, blame)

    def _follows(self, assignment: Assignment, rule: Rule, lost: list[str]) -> str:
        if lost:
            return "given up"
        if rule == self._schedule.put_back:
            return "left to another device"
        if rule == self._schedule.adapter_lost:
            return "it is trained anew"
        if len(assignment.tasks) > 1:
            return "each task is tried alone"
        if assignment.stage == "search":
            return "searched once more"
        if rule == self._schedule.crashed:
            return "tried once more, after the others"
        progress = self._schedule.states[assignment.tasks[0].task_id].of(assignment.stage)
        return f"next try: {RUNGS[progress.rung].name}"

    def _make_all_plain(self, part: str, why: str) -> bool:
        """Whether all workers with a device start anew with plainer engines for this part."""
        parts = PLAIN_PARTS.get(part, tuple(PLAIN))
        devices = [w for w, s in self._workers.items() if s.kind == "device" and s.state != "gone"]
        changes = [c for w in devices if parts and (c := self._pool.make_plain(w, *parts))]
        if not changes:
            return False

        self._tell(f"{PARTS[part]} tasks fail again and again: {why}; all go on with {changes[0]}")
        self._set_back(f"{changes[0]}, because tasks failed {PARTS[part]}")
        for worker in devices:
            self._pool.kill(worker)
            self._fall(self._workers[worker], self._schedule.put_back, "its engine is replaced")
            self.start(worker)
        return True

    def _give_up(self, worker: int, why: str, rule: Rule | None = None) -> None:
        """rule: what becomes of the tasks that it has; by default that of a crash."""
        state = self._workers[worker]
        self._fall(state, rule or self._schedule.crashed, why)
        state.state = "gone"

        left = len(self._alive(state.kind))
        if state.kind == "device":
            self._schedule.num_workers = left
        elif not left and self._schedule.search:
            self._schedule.search.end()
        if left:
            self._tell(f"{self._name(worker)} is given up ({why}); the other {left} go on")
            self._set_back(f"a {state.kind} worker was given up: {why}")
            return

        kind = DeviceLost if state.kind == "device" else EngineError
        fault = kind(
            f"{self._name(worker)} does not start" + (f": {why}" if why else ""),
            remedy="read run/logs; appliance doctor names what is missing",
        )
        if self._can_replan and isinstance(fault, DeviceLost):
            raise fault
        if not any(s.state != "gone" for s in self._workers.values()):
            raise self._lost or fault

        self._tell(f"{fault}; the rest of the run goes on without it")
        self._lost = self._lost or fault

    def _alive(self, kind: Kind) -> list[WorkerState]:
        return [s for s in self._workers.values() if s.kind == kind and s.state != "gone"]

    def _name(self, worker: int) -> str:
        kind = "search worker" if self._workers[worker].kind == "search" else "worker"
        return f"{kind} {worker}"


def _what_remains(job: Job) -> str:
    if job.program_until_s:
        return f"programs, beginning with {len(job.known)},"
    return f"{len(job.views)} views"
