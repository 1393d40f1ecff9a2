"""A run whose search workers, or workers with a model, are lost: the others go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from appliance.clock import VirtualClock
from appliance.errors import EngineError
from appliance.record.coverage import Coverage, coverage_of
from appliance.run.pool import Died
from appliance.run.rehearsal.fake_pool import FakePool, ImaginedCosts
from appliance.run.schedule.repeated_faults import MAX_TRIES
from appliance.run.schedule.search_queue import SearchShare
from appliance.solve.messages import Failed, Job
from tests.support.run_world import costs, memory_journal, orchestrator, settings, tasks

TASKS = tasks(6)
VICTIM = TASKS.ids()[3]
BUDGET_S = 600.0


class BreakingPool(FakePool):
    """One device worker and two search workers, some of which break."""

    def __init__(
        self,
        clock: VirtualClock,
        *,
        num_workers: int,
        dead_from: Callable[[int], float] = lambda worker: float("inf"),
        victims: Sequence[str] = (),
    ) -> None:
        """dead_from: instant from which a worker neither starts nor works. victims: tasks at which
        every search worker dies."""
        true = costs(TASKS, step_s=0.02, view_s=0.05)
        searches = dict.fromkeys(TASKS.ids(), 5.0)
        imagined = ImaginedCosts(true, settings(BUDGET_S), load_s=2.0, search=searches)
        super().__init__(imagined, clock, num_workers=num_workers, num_searching=2)
        self._clock_of_test, self._dead_from, self._victims = clock, dead_from, victims

    def start(self, worker: int) -> None:
        now_s = self._clock_of_test.now()
        if now_s >= self._dead_from(worker):
            failed = Failed(job_id=-1, kind="engine", message="nothing works here")
            self.put(worker, now_s + 0.5, failed)
        else:
            super().start(worker)

    def submit(self, worker: int, job: Job) -> None:
        now_s = self._clock_of_test.now()
        is_victim = job.stage == "search" and job.tasks[0].task_id in self._victims
        if is_victim or now_s >= self._dead_from(worker):
            self.put(worker, now_s + 0.5, Died(-9, "out of memory"))
        else:
            super().submit(worker, job)


@dataclass
class Told:
    """What came of a run."""

    coverage: Coverage
    failure: str = ""
    lines: list[str] = field(default_factory=list)

    def lines_with(self, words: str) -> list[str]:
        return [line for line in self.lines if words in line]


def run(
    *,
    strategy: str,
    is_first: bool = True,
    dead_from: Callable[[int], float] = lambda worker: float("inf"),
    victims: Sequence[str] = (),
) -> Told:
    clock, journal = VirtualClock(), memory_journal(TASKS)
    chosen = settings(BUDGET_S, strategy=strategy, run__rounds=1)
    journal.put_fact("strategy", list(chosen.strategy))
    num_workers = 1 if chosen.needs_model else 0
    pool = BreakingPool(clock, num_workers=num_workers, dead_from=dead_from, victims=victims)
    lines: list[str] = []
    share = SearchShare(2, 20.0, is_first)
    failure = ""
    try:
        orchestrator(
            TASKS, chosen, pool, clock, journal=journal, search=share, tell=lines.append
        ).run()
    except EngineError as fault:
        failure = str(fault)
    assert clock.now() <= BUDGET_S
    return Told(coverage_of(journal), failure, lines)


@pytest.mark.parametrize("strategy", ["search", "transduction,search"])
def test_a_task_that_kills_its_workers_is_given_up_after_two(strategy: str) -> None:
    told = run(strategy=strategy, victims=[VICTIM])
    assert (told.coverage.searched, told.coverage.search_lost) == (5, 1)
    assert told.failure == ""
    lost = told.lines_with(f"search {VICTIM}: search worker")
    assert len(lost) == MAX_TRIES
    assert "searched once more" in lost[0] and "given up" in lost[1]
    assert told.coverage.sampled == (0 if strategy == "search" else 6)


def test_tasks_that_all_kill_their_workers_cost_no_worker_its_place() -> None:
    told = run(strategy="search", victims=TASKS.ids())
    assert (told.coverage.searched, told.coverage.search_lost) == (0, len(TASKS))
    assert told.failure == ""
    assert not told.lines_with("go on")  # no worker was given up


def test_without_search_workers_the_model_does_not_wait(subtests: pytest.Subtests) -> None:
    for is_first in (True, False):
        with subtests.test(is_first=is_first):
            dead = run(
                strategy="transduction,search",
                is_first=is_first,
                dead_from=lambda worker: 0.0 if worker > 0 else float("inf"),
            )
            assert (dead.coverage.searched, dead.coverage.sampled) == (0, 6)
            assert dead.coverage.deep == 6
            assert "search worker" in dead.failure
            assert dead.lines_with("the rest of the run goes on without it")


def test_when_the_last_device_is_lost_the_search_goes_on() -> None:
    told = run(
        strategy="transduction,search",
        is_first=False,
        dead_from=lambda worker: 5.0 if worker == 0 else float("inf"),
    )
    assert told.coverage.searched == 6
    assert told.failure.startswith("worker 0 does not start")


def test_when_all_are_lost_the_run_ends_with_the_first_fault() -> None:
    told = run(strategy="transduction,search", is_first=False, dead_from=lambda worker: 4.0)
    assert "does not start" in told.failure
    assert told.coverage.searched < 6


def test_search_alone_without_workers_is_a_fault() -> None:
    told = run(strategy="search", dead_from=lambda worker: 0.0)
    assert told.failure.startswith("search worker")
    assert "nothing works here" in told.failure
