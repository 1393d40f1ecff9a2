"""Workers that only cost time and memory, on a virtual clock: twelve hours pass in seconds.

When a job is handed in, all that it will do is worked out at once and queued as events with their
instants; the clock jumps from one event to the next. What is answered stands in fake_answers.py.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from appliance.arc.task import Task
from appliance.clock import VirtualClock
from appliance.config import Settings
from appliance.run.pool import Arrival, Died
from appliance.run.rehearsal.fake_answers import Answers, FakeAnswers
from appliance.run.rehearsal.faults import NO_FAULTS, Faults
from appliance.run.rehearsal.measuring_script import (
    FAULT,
    check_item,
    fault_item,
    is_faulty,
    probe_item,
)
from appliance.run.rehearsal.search_script import search_items
from appliance.run.rehearsal.work_item import WorkItem, log_normal
from appliance.run.schedule.measured_costs import TaskCost
from appliance.seeds import generator
from appliance.sizing.memory_ladder import LAST_RUNG
from appliance.solve.messages import (
    EpochMessage,
    Event,
    Failed,
    Finished,
    Job,
    Ready,
    Sampled,
    Trained,
    Wrote,
)

SAMPLE_SPREAD = 0.35
"""Sigma of the log-normal factor on a task's time to sample, which varies with what a model says.

With it the times per task have the quartiles of the 2025 winner's log (36, 52, 76, 125, 414 s)
within a seventh up to the third, and a longer tail."""

TRAIN_SPREAD = 0.1
"""The same for training and loading, whose times depend on little but lengths."""

BATCHES_PER_TASK = 4
"""Batches of views that a deep job samples for a task."""

LATENESS_S = 0.05
"""A worker notices a deadline this much late."""


@dataclass(frozen=True)
class ImaginedCosts:
    """What the work of the imagined workers really costs."""

    costs: Mapping[str, TaskCost]  # mean seconds of every task
    settings: Settings
    load_s: float = 10.0  # of a start
    job_s: float = 0.02  # of a job, beside its work
    sample_spread: float = SAMPLE_SPREAD
    train_spread: float = TRAIN_SPREAD
    search: Mapping[str, float] = field(default_factory=dict)  # CPU seconds of every task
    search_load_s: float = 1.0  # of a start of a search worker

    def sample_factor(self, seed: int, task_id: str) -> float:
        """A task's own slowness in sampling; over all tasks its mean is 1."""
        return _slowness(seed, task_id, self.sample_spread)


@lru_cache(maxsize=1024)  # a task has many jobs
def _slowness(seed: int, task_id: str, spread: float) -> float:
    return log_normal(generator(seed, task_id, "slowness"), spread)


@dataclass(frozen=True)
class Span:
    """What a device did from one instant to another."""

    worker: int
    kind: str  # load, search, quick, programs, train, sample, overhead; lost: a fault ended it
    from_s: float
    until_s: float
    task_id: str = ""
    num: int = 0  # training steps, or views that were answered
    is_again: bool = False  # in a further round

    @property
    def seconds(self) -> float:
        return self.until_s - self.from_s


@dataclass
class _Worker:
    life: int = 0  # counts starts and kills; events of an earlier life do not arrive
    hangs_since_s: float | None = None  # from this instant on, nothing comes from it
    busy_until_s: float = 0.0  # end of its last span


class FakePool:
    """A Pool whose every item follows from the costs, the faults and the seed.

    Its `spans` say what the devices did, for a timeline.
    """

    def __init__(
        self,
        true_costs: ImaginedCosts,
        clock: VirtualClock,
        *,
        num_workers: int,
        num_searching: int = 0,
        faults: Faults = NO_FAULTS,
        seed: int = 0,
        dies_at_s: float = math.inf,
        workers_per_device: int = 1,
        answers: Answers | None = None,
    ) -> None:
        """num_workers: with a device. num_searching: without one; they are numbered after the
        others. dies_at_s: instant from which the last device is gone for good, with all workers
        that share it. answers: what the workers say, by default invented.
        """
        self._true_costs = true_costs
        self._clock = clock
        self._faults = faults
        self._seed = seed
        self._dies_at_s = dies_at_s
        self._dying = range(num_workers - workers_per_device, num_workers)
        self._answers: Answers = answers or FakeAnswers(seed)
        self._num_devices = num_workers
        self._workers = [_Worker() for _ in range(num_workers + num_searching)]
        # Instant, count (so that events of one instant keep their order), worker, its life, event.
        self._queue: list[tuple[float, int, int, int, Event | Died]] = []
        self._count = itertools.count()
        self.spans: list[Span] = []

    @property
    def num_workers(self) -> int:
        return len(self._workers)

    def start(self, worker: int) -> None:
        now_s = self._clock.now()
        self._workers[worker] = _Worker(self._workers[worker].life + 1)
        rng = generator(self._seed, "start", next(self._count))
        true_costs = self._true_costs
        is_searching = worker >= self._num_devices
        load_s = true_costs.search_load_s if is_searching else true_costs.load_s
        load_s *= log_normal(rng, true_costs.train_spread)
        load_s *= 10 if rng.random() < self._faults.rate("slow-start") else 1

        if now_s >= self._death_s(worker):
            lost = Failed(job_id=-1, kind="device", message="no device was found")
            self.put(worker, now_s + 1.0, lost)
        elif rng.random() < self._faults.rate("no-start"):
            self._workers[worker].hangs_since_s = now_s
        else:
            self.spans.append(Span(worker, "load", now_s, now_s + load_s))
            self._workers[worker].busy_until_s = now_s + load_s
            self.put(worker, now_s + load_s, Ready(seconds=load_s, facts={"device": "imagined"}))

    def make_plain(self, worker: int, *parts: str) -> str:
        return ""  # an imagined worker has no engine that could fail

    def device_fault(self, worker: int) -> str:
        return ""  # its start tells

    def submit(self, worker: int, job: Job) -> None:
        now_s = self._clock.now()
        items = list(self._items(job, now_s))
        end_s = now_s + sum(item.seconds for item in items)

        # What befalls the worker under this job, and when.
        crash_s, hang_s = self._fate(job, now_s, end_s)
        break_s = min(crash_s, hang_s, max(now_s, self._death_s(worker)))

        at_s = now_s
        for item in items:
            until_s = at_s + item.seconds
            if until_s > break_s:
                self.spans.append(Span(worker, "lost", at_s, break_s, item.task_id))
                break
            # Each round has a seed of its own; the first has that of the run.
            is_again = job.seed != self._true_costs.settings.run.seed
            self.spans.append(
                Span(worker, item.kind, at_s, until_s, item.task_id, item.num, is_again)
            )
            self.put(worker, until_s, item.event)
            at_s = until_s
        self._workers[worker].busy_until_s = min(end_s, break_s)

        if break_s == hang_s < math.inf:
            self._workers[worker].hangs_since_s = break_s
        elif break_s < end_s:
            self.put(worker, break_s, Died(-9, "killed in a rehearsal"))

    def _fate(self, job: Job, now_s: float, end_s: float) -> tuple[float, float]:
        """When the worker crashes and when it hangs: one of the two at most, infinite for never."""
        crash, hang = self._faults.rate("crash"), self._faults.rate("hang")
        if not crash and not hang:
            return math.inf, math.inf  # a generator less for each of many thousand jobs

        rng = generator(self._seed, "fate", job.job_id)
        fate, at_s = rng.random(), now_s + rng.random() * (end_s - now_s)
        crashes, hangs = fate < crash, crash <= fate < crash + hang
        return at_s if crashes else math.inf, at_s if hangs else math.inf

    def _items(self, job: Job, now_s: float) -> Iterator[WorkItem]:
        if job.stage == "search":
            mean_s = self._true_costs.search[job.tasks[0].task_id]
            return search_items(job, now_s, mean_s, self._answers, seed=self._seed)
        is_training = job.stage == "check" or (job.stage == "probe" and job.train_until_s > 0)
        if is_training and is_faulty(job.tasks[0].task_id, self._faults, self._seed):
            return iter([fault_item(job)])
        if job.stage == "probe":
            return iter([probe_item(job, self._true_costs.costs)])
        if job.stage == "check":
            return iter([check_item(job, self._true_costs.costs, self._faults, seed=self._seed)])
        script = _JobScript(self._true_costs, self._faults, self._seed, job, now_s)
        return script.items(self._answers)

    def next_arrival(self, timeout_s: float) -> Arrival | None:
        until_s = self._clock.now() + timeout_s
        while self._queue and self._queue[0][0] <= until_s:
            at_s, _, worker, life, event = heapq.heappop(self._queue)
            self._clock.sleep(at_s - self._clock.now())
            if life == self._workers[worker].life:
                return worker, event

        self._clock.sleep(until_s - self._clock.now())
        return None

    def kill(self, worker: int) -> None:
        """What was not done by now is taken back from the timeline."""
        now_s = self._clock.now()
        state = self._workers[worker]
        if state.hangs_since_s is not None and state.hangs_since_s < now_s:
            self.spans.append(Span(worker, "lost", state.hangs_since_s, now_s))
        self._workers[worker] = _Worker(state.life + 1)
        if state.busy_until_s <= now_s:
            return

        for i in range(len(self.spans) - 1, -1, -1):
            span = self.spans[i]
            if span.worker == worker and span.until_s > now_s:
                self.spans[i] = Span(worker, "lost", min(span.from_s, now_s), now_s, span.task_id)
            elif span.worker == worker:
                break

    def close(self) -> None:
        for worker in range(len(self._workers)):
            self.kill(worker)

    def _death_s(self, worker: int) -> float:
        return self._dies_at_s if worker in self._dying else math.inf

    def put(self, worker: int, at_s: float, event: Event | Died) -> None:
        """Let an event of this worker arrive at that instant, unless it is killed before."""
        heapq.heappush(
            self._queue, (at_s, next(self._count), worker, self._workers[worker].life, event)
        )


class _JobScript:
    """One job from beginning to end, as if nothing broke the worker."""

    def __init__(
        self, true_costs: ImaginedCosts, faults: Faults, seed: int, job: Job, now_s: float
    ) -> None:
        self._true_costs = true_costs
        self._faults = faults
        self._seed = seed
        self._job = job
        self._at_s = now_s
        self._began_s = now_s

    def items(self, answers: Answers) -> Iterator[WorkItem]:
        """Start, programs, training, sampling and end; or start and failure, without memory."""
        job = self._job
        tasks = [message.task() for message in job.tasks]
        begun = Sampled(job_id=job.job_id, candidates=[])
        yield self._item("overhead", tasks[0].task_id, self._true_costs.job_s, begun)

        short = next((t for t in tasks if self._lacks_memory(t)), None)
        if short is not None:
            wasted_s = 2 * self._true_costs.costs[short.task_id].step
            failed = Failed(job_id=job.job_id, kind="memory", message="no room for a batch")
            yield self._item("lost", short.task_id, wasted_s, failed)
            return

        is_trained = bool(job.adapter_sha)
        if job.stage == "deep" and job.program_until_s > 0:
            yield self._writing(tasks[0])
        if job.stage == "deep" and job.train_until_s > 0:
            item = self._training(tasks[0])
            is_trained = item.num > 0
            yield item

        writes_grids = self._true_costs.settings.writes_grids
        complete = [] if writes_grids else [task.task_id for task in tasks]
        for task in tasks if writes_grids else ():
            asked = self._asked(task)
            num_answers = 0
            for batch in self._sampling(task, asked, answers, is_trained):
                num_answers += (
                    len(batch.event.candidates) if isinstance(batch.event, Sampled) else 0
                )
                yield batch
            if num_answers == len(asked):
                complete.append(task.task_id)

        for scored in answers.scored(job):
            yield self._item("overhead", scored.task_id, 0.0, scored)

        late_s = LATENESS_S if self._at_s >= job.deadline_s else 0.0
        seconds = self._at_s + late_s - self._began_s
        finished = Finished(job_id=job.job_id, complete=complete, seconds=seconds)
        yield self._item("overhead", tasks[0].task_id, late_s, finished)

    def _writing(self, task: Task) -> WorkItem:
        """Search for programs, for as long as it may: none of the imagined ones ever agree."""
        job = self._job
        seconds = max(0.0, min(job.program_until_s, job.deadline_s) - self._at_s)
        learns = self._true_costs.settings.learns
        epoch = EpochMessage(
            num_picked=int(learns),
            num_programs=0,
            num_fit=0,
            num_steps=int(learns),
            reason=None if learns else "learning from programs is switched off",
            cause=None if learns else "result",
        )
        found = Wrote(
            job_id=job.job_id,
            task_id=task.task_id,
            seconds=seconds,
            is_agreed=False,
            epochs=[epoch] if seconds else [],
        )
        return self._item("programs", task.task_id, seconds, found)

    def _training(self, task: Task) -> WorkItem:
        job, costs = self._job, self._true_costs
        rng = generator(self._seed, task.task_id, job.seed, "training")
        step_s = costs.costs[task.task_id].step * log_normal(rng, costs.train_spread)

        left_s = max(0.0, min(job.train_until_s, job.deadline_s) - self._at_s)
        most = job.steps_fold * costs.settings.train.max_steps
        num_steps = min(most, math.ceil(left_s / step_s))
        reason, cause = (None, None) if num_steps else ("no time for a single step", "time")
        if is_faulty(task.task_id, self._faults, self._seed):
            num_steps, reason, cause = 0, FAULT, "fault"
        seconds = num_steps * step_s

        event = Trained(
            job_id=job.job_id,
            task_id=task.task_id,
            seconds=seconds,
            loss_before=0.5,
            loss_after=0.5 * math.exp(-num_steps / 100),
            num_steps=num_steps,
            adapter_sha=f"imagined-{job.job_id}" if num_steps else "",
            reason=reason,
            cause=cause,
        )
        return self._item("train", task.task_id, seconds, event, num=num_steps)

    def _asked(self, task: Task) -> list[tuple[str, int]]:
        """View and test input of each answer that the job asks for, in the order of asking."""
        if self._job.asks is None:
            return [(view, i) for view in self._job.views for i in range(len(task.test))]
        return [(a.view, a.test_index) for a in self._job.asks for _ in range(a.num_samples)]

    def _sampling(
        self, task: Task, asked: list[tuple[str, int]], answers: Answers, is_trained: bool
    ) -> Iterator[WorkItem]:
        """Batches of answers until the deadline; a batch that it cuts off gives nothing."""
        job, sample = self._job, self._true_costs.settings.sample
        factor = self._true_costs.sample_factor(self._seed, task.task_id)
        num_batches = BATCHES_PER_TASK if job.stage == "deep" else 1
        size = max(1, math.ceil(len(asked) / len(task.test) / num_batches)) * len(task.test)
        kind = "quick" if job.stage == "quick" else "sample"

        per_view = len(task.test)
        if sample.predictions is not None:
            per_view *= max(1, sample.predictions // sample.views)

        for first in range(0, len(asked), size):
            some = asked[first : first + size]
            num_views = len(some) / per_view
            seconds = num_views * self._true_costs.costs[task.task_id].view * factor
            left_s = max(0.0, job.deadline_s - self._at_s)
            is_done = seconds <= left_s
            found = answers.of(task, some, job, is_trained=is_trained) if is_done else []
            event = Sampled(job_id=job.job_id, candidates=found)
            num = math.ceil(num_views) if found else 0
            yield self._item(kind, task.task_id, min(seconds, left_s), event, num=num)
            if not found:
                return

    def _lacks_memory(self, task: Task) -> bool:
        """Whether the task does not fit into memory on the rung of this job.

        A task struck by "oom" fits from a rung of its own on, which may lie below the last one. The
        quick pass fails only for a task that fits on none.
        """
        rate = self._faults.rate("oom")
        rng = generator(self._seed, task.task_id, "memory") if rate else None
        if rng is None or rng.random() >= rate:
            return False
        needed = int(rng.integers(1, LAST_RUNG + 2))
        return needed > (self._job.rung if self._job.stage == "deep" else LAST_RUNG)

    def _item(
        self, kind: str, task_id: str, seconds: float, event: Event, *, num: int = 0
    ) -> WorkItem:
        self._at_s += seconds
        return WorkItem(kind, task_id, seconds, event, num)
