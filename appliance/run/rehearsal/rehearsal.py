"""A run in advance: the real orchestrator, schedule and journal, on a virtual clock.

Only the workers are imagined: they take time and may fail, and do nothing else.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.arc.submission import build, score, validate
from appliance.arc.task import TaskSet
from appliance.clock import VirtualClock
from appliance.config import Settings
from appliance.errors import ApplianceError, DeviceLost, EngineError
from appliance.record.coverage import PREDICTIONS, Coverage, coverage_of
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder
from appliance.record.setbacks import go_on_with_cpu
from appliance.run.console import NoDisplay
from appliance.run.ledger import Attempts
from appliance.run.orchestrator import POLL_S, Orchestrator, RunTime, RunWork
from appliance.run.rehearsal.fake_answers import Answers
from appliance.run.rehearsal.fake_pool import FakePool, ImaginedCosts, Span
from appliance.run.rehearsal.faults import Faults
from appliance.run.rehearsal.recorded_answers import RecordedAnswers, Records
from appliance.run.schedule.measured_costs import TaskCost
from appliance.run.schedule.planned_costs import PlannedCosts
from appliance.run.schedule.rate_check import FACT as CHECKED_RATE
from appliance.run.schedule.schedule import DRAIN_S
from appliance.run.schedule.search_queue import SearchShare

PASSES = ("search", "quick", "deep", "third")
"""Stages of a run; "third" are the further rounds after the first deep one."""

IN_MEMORY = Path(":memory:")
"""The path under which SQLite keeps a journal in memory."""

POLLS = 5000
"""How often a rehearsal looks for signals at most: often costs time, and nobody waits for it."""


@dataclass(frozen=True)
class Rehearsal:
    """What happened in a run that was rehearsed."""

    budget_s: float
    seconds: float  # from the start to the last write
    num_workers: int  # with a device
    num_searching: int  # search workers, numbered after the others
    spans: tuple[Span, ...]  # what the devices did
    coverage: Coverage
    failure: str | None  # why the run gave up, None when it did not
    messages: tuple[tuple[float, str], ...]  # what it told, with the instant
    submission_faults: tuple[str, ...]  # of the last submission, which must be valid
    num_writes: int  # of the submission
    # Share of the test outputs that the submission solves; None where answers are invented, or no
    # solution is known.
    score: float | None

    def of_pass(self, name: str) -> list[Span]:
        """Spans of work in that pass."""
        if name in ("search", "quick"):
            return [s for s in self.spans if s.kind == name]
        kinds = ("programs", "train", "sample")
        return [s for s in self.spans if s.kind in kinds and s.is_again == (name == "third")]

    def seconds_by_task(self, name: str) -> dict[str, float]:
        """Device seconds that each task took in that pass."""
        taken: dict[str, float] = {}
        for span in self.of_pass(name):
            taken[span.task_id] = taken.get(span.task_id, 0.0) + span.seconds
        return taken

    def done_by_task(self, kind: str, name: str) -> dict[str, int]:
        """Training steps or answered views of each task in that pass.

        kind: of the span: "train", or "sample" and "quick".
        """
        done: dict[str, int] = {}
        for span in self.of_pass(name):
            if span.kind == kind:
                done[span.task_id] = done.get(span.task_id, 0) + span.num
        return done

    def idle_shares(self) -> list[float]:
        """The part of its time that each device had nothing to do; each search worker, where
        there is no device.

        Its time goes from its first start until all work has to be over; for a device that died,
        until its last span.
        """
        shares = []
        for worker in range(self.num_workers or self.num_searching):
            own = [s for s in self.spans if s.worker == worker]
            if not own:
                shares.append(1.0)
                continue

            is_alive = any(s.until_s >= own[-1].until_s and s.kind != "lost" for s in own)
            end_s = self.seconds - DRAIN_S if is_alive else own[-1].until_s
            whole_s = max(1e-9, end_s - own[0].from_s)
            shares.append(max(0.0, 1.0 - sum(s.seconds for s in own) / whole_s))

        return shares


@dataclass
class _ImaginedFile:
    """In place of submission.json: how often it was written, and what was in it last."""

    clock: VirtualClock
    write_s: float  # that a write takes
    num_writes: int = 0
    attempts: Callable[[], Attempts] = dict  # that of the last write, asked for at the end

    def write(self, attempts: Callable[[], Attempts]) -> None:
        self.clock.sleep(self.write_s)
        self.num_writes, self.attempts = self.num_writes + 1, attempts


@dataclass(frozen=True)
class Crew:
    """The workers of a rehearsal, and what the orchestrator believes of them beforehand."""

    settings: Settings
    true_costs: ImaginedCosts  # what the work really takes
    num_workers: int  # with a device
    workers_per_device: int = 1
    # What the plan expects of each task: with it, the run begins as a real one does, with a probe
    # and a check of the learning rate.
    planned: PlannedCosts | None = None
    is_rate_given: bool = False  # the user set the learning rate
    costs: Mapping[str, TaskCost] | None = None  # the same without a probe, None: to be found out
    search: SearchShare | None = None  # what a search without a model may use

    @property
    def model(self) -> str | None:
        return self.planned.costs.card.name if self.planned else None

    @property
    def num_searching(self) -> int:
        return self.search.num_workers if self.search else 0


def rehearse(
    tasks: TaskSet,
    crew: Crew,
    *,
    budget_s: float,
    faults: Faults,
    seed: int = 0,
    journal_path: Path = IN_MEMORY,
    polls: int = POLLS,
    on_cpu: Callable[[float], Crew] | None = None,
    records: Records | None = None,
    watch: Callable[[float], None] = lambda seconds: None,
) -> Rehearsal:
    """One run on a virtual clock.

    records: what answers are drawn from; None: they are invented. watch: is told now and then how
    many seconds have been played.
    on_cpu: who goes on for so many seconds once all devices are lost; None: nobody.
    """
    clock = VirtualClock()
    file = _ImaginedFile(clock, write_s=faults.rate("slow-disk"))
    journal = Journal(journal_path)
    journal.put_tasks(tasks)
    journal.put_fact("strategy", list(crew.settings.strategy))
    if not crew.settings.writes_programs:  # imagined workers write none
        journal.put_fact(PREDICTIONS, crew.settings.sample.predictions)
    answers = None
    if records is not None:
        answers = RecordedAnswers(records, tasks, crew.settings.run.seed, seed)
    scene = _Scene(tasks, budget_s, faults, seed, polls, clock, journal, file, answers, watch)

    death = faults.rate("device-death")
    dies_at_s = death * budget_s if death else math.inf
    num_workers, num_searching = crew.num_workers, crew.num_searching
    try:
        spans, fault = scene.play(crew, dies_at_s=dies_at_s, can_replan=on_cpu is not None)
        others = None
        if isinstance(fault, DeviceLost) and on_cpu is not None:
            with contextlib.suppress(ApplianceError):  # no other plan: the loss stands
                others = on_cpu(budget_s - clock.now())
        if others is not None and isinstance(fault, DeviceLost):
            go_on_with_cpu(journal, fault, now_s=clock.now())
            if others.model != crew.model:
                journal.put_fact(CHECKED_RATE, None)  # of another model it says nothing
            more, fault = scene.play(others)
            spans = _beside(spans, num_workers, more, others)
            num_workers += others.num_workers
            num_searching = max(num_searching, others.num_searching)
        coverage = coverage_of(journal)
        messages = tuple(journal.events())
    finally:
        journal.close()

    submission = build(tasks, file.attempts())
    solved = None
    if records is not None and tasks.solutions:
        solved = score(submission, tasks.solutions)["by_output"]

    return Rehearsal(
        budget_s=budget_s,
        seconds=clock.now(),
        num_workers=num_workers,
        num_searching=num_searching,
        spans=tuple(spans),
        coverage=coverage,
        failure=str(fault) if fault else None,
        messages=messages,
        submission_faults=tuple(validate(submission, tasks)),
        num_writes=file.num_writes,
        score=solved,
    )


@dataclass(frozen=True)
class _Scene:
    """What the crews of one rehearsal share."""

    tasks: TaskSet
    budget_s: float
    faults: Faults
    seed: int
    polls: int
    clock: VirtualClock
    journal: Journal
    file: _ImaginedFile
    answers: Answers | None
    watch: Callable[[float], None]

    def play(
        self, crew: Crew, *, dies_at_s: float = math.inf, can_replan: bool = False
    ) -> tuple[list[Span], EngineError | None]:
        """From now until the work is done or given up. What the crew did, and why it gave up.

        dies_at_s, can_replan: see `FakePool` and `Orchestrator`.
        """
        stop = self.faults.rate("sigterm")
        pool = FakePool(
            crew.true_costs,
            self.clock,
            num_workers=crew.num_workers,
            num_searching=crew.num_searching,
            faults=self.faults,
            seed=self.seed,
            dies_at_s=dies_at_s,
            workers_per_device=crew.workers_per_device,
            answers=self.answers,
        )

        def is_stopped() -> bool:
            self.watch(self.clock.now())
            return 0 < stop * self.budget_s <= self.clock.now()

        orchestrator = Orchestrator(
            RunWork(self.tasks, crew.settings, RunFolder(Path()), self.journal),
            pool,
            RunTime(self.clock, self.clock.now(), self.budget_s),
            NoDisplay(),
            is_stopped=is_stopped,
            planned=crew.planned,
            is_rate_given=crew.is_rate_given,
            costs=crew.costs,
            search=crew.search,
            can_replan=can_replan,
            write=self.file.write,
            poll_s=max(POLL_S, self.budget_s / self.polls),
        )
        try:
            orchestrator.run()
        except EngineError as fault:
            return pool.spans, fault
        return pool.spans, None


def _beside(
    spans: Sequence[Span], num_devices: int, more: Sequence[Span], others: Crew
) -> list[Span]:
    """All spans with workers numbered anew: devices, those that went on, and the search workers.

    num_devices: of the first crew. Search workers of both share their numbers.
    """
    more_devices = others.num_workers

    def moved(span: Span, by: int) -> Span:
        return replace(span, worker=span.worker + by)

    first = [moved(s, more_devices if s.worker >= num_devices else 0) for s in spans]
    return first + [moved(s, num_devices) for s in more]


@dataclass(frozen=True)
class Baseline:
    """What static plans would have lost."""

    share_s: float  # an equal share of the time for each task
    out_of_share: int  # tasks that need more than that
    not_reached: int  # tasks without time when each device works through its list without a limit


def static_baseline(
    tasks: TaskSet,
    settings: Settings,
    true_costs: ImaginedCosts,
    *,
    num_workers: int,
    budget_s: float,
    seed: int,
) -> Baseline:
    """The usual public way: the same steps and views for all tasks, the list split beforehand.

    Times are those of the rehearsal of that seed.
    """
    free_s = budget_s - true_costs.load_s - settings.run.reserve_s
    share_s = free_s * num_workers / len(tasks)

    need_s = []
    for task in tasks:
        cost = true_costs.costs[task.task_id]
        train_s = settings.train.max_steps * cost.step if settings.train.enabled else 0.0
        need_s.append(
            train_s
            + settings.sample.views * cost.view * true_costs.sample_factor(seed, task.task_id)
        )

    not_reached = 0
    for worker in range(num_workers):
        used_s = 0.0
        for needed_s in need_s[worker::num_workers]:
            used_s += needed_s
            not_reached += used_s > free_s

    return Baseline(share_s, sum(n > share_s for n in need_s), not_reached)


def timeline(rehearsal: Rehearsal, *, width: int) -> Iterator[str]:
    """One line a worker, with a letter for what it did most in each part of the time.

    L load, f find programs by search, q quick pass, p write programs, t train, s sample, capitals
    the same in a further round, x lost to a fault, "." nothing.
    """
    cell_s = rehearsal.budget_s / width
    by_worker: dict[int, list[Span]] = defaultdict(list)
    for span in rehearsal.spans:
        if span.kind != "overhead":
            by_worker[span.worker].append(span)

    for worker in range(rehearsal.num_workers + rehearsal.num_searching):
        shares: list[dict[str, float]] = [{} for _ in range(width)]  # of a part: letter, seconds
        for span in by_worker[worker]:
            letter = _letter(span)
            for cell in range(
                int(span.from_s / cell_s), min(width, int(span.until_s / cell_s) + 1)
            ):
                inside = min(span.until_s, (cell + 1) * cell_s) - max(span.from_s, cell * cell_s)
                shares[cell][letter] = shares[cell].get(letter, 0.0) + inside
        yield "".join(
            max(s, key=lambda letter: s[letter]) if sum(s.values()) > cell_s / 4 else "."
            for s in shares
        )


_LETTERS = {
    "load": "L",
    "search": "f",
    "quick": "q",
    "programs": "p",
    "train": "t",
    "sample": "s",
    "lost": "x",
}
"""By the kind of a span."""


def _letter(span: Span) -> str:
    letter = _LETTERS[span.kind]
    return letter.upper() if span.is_again else letter


def spread(values: list[float]) -> tuple[float, float, float, float]:
    """Least, median, mean, most; zeros when there are no values."""
    if not values:
        return 0.0, 0.0, 0.0, 0.0
    return min(values), statistics.median(values), statistics.fmean(values), max(values)
