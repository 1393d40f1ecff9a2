"""The same fault at task after task: told once, and the end of the run; others are counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from appliance.clock import VirtualClock
from appliance.config import RunSettings
from appliance.errors import (
    EXIT_COVERAGE,
    EXIT_INPUT,
    EngineError,
    SameFault,
    without_details,
)
from appliance.record.coverage import Coverage, coverage_of
from appliance.record.journal import Journal
from appliance.run.pool import Died
from appliance.run.rehearsal.fake_pool import FakePool, ImaginedCosts
from appliance.run.rehearsal.faults import Faults
from appliance.run.rehearsal.rehearsal import Crew, rehearse
from appliance.run.schedule.repeated_faults import IN_A_ROW, RepeatedFaults
from appliance.solve.messages import Event, Failed, Finished, Job, LeftOut, Trained
from tests.support.run_world import costs, memory_journal, orchestrator, settings, tasks

BUDGET_S = 3600.0
TASKS = tasks(12)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("IndexError: index 513 of 512", "IndexError: index -7 of 64"),
        ("OSError: no /a/b/t1/x.json", "OSError: no /a/c-4.5/t2.json"),
        ("the adapter of t1 is 09ab77", "the adapter of t2 is 17fe03c2"),
        ("loss became nan at step 3", "loss became nan at step 40"),
    ],
)
def test_numbers_paths_and_tasks_do_not_make_another_fault(one: str, other: str) -> None:
    assert without_details(one, ["t1"]) == without_details(other, ["t2"])


def test_other_words_do() -> None:
    assert without_details("ValueError: a") != without_details("ValueError: b")
    assert without_details("KeyError: a") != without_details("ValueError: a")


def test_three_tasks_in_a_row_are_enough_and_one_that_goes_well_begins_anew() -> None:
    faults = RepeatedFaults(num_tasks=9)
    assert faults.met("deep", "E: 1", ("a",)) == []
    assert faults.met("deep", "E: 2", ("b",)) == []
    assert faults.met("deep", "E: 2", ("b",)) == [], "a second try is not a third task"
    faults.went_well("deep")
    assert faults.met("deep", "E: 3", ("c",)) == []
    assert faults.met("deep", "other", ("d",)) == []
    assert faults.met("deep", "E: 4", ("e",)) == []
    assert faults.met("quick", "E: 5", ("f",)) == [], "another part of the work"
    faults.went_well("quick")
    assert faults.met("deep", "E: 6", ("f",)) == []
    assert faults.met("deep", "E: 7", ("g",)) == ["e", "f", "g"]


@pytest.mark.parametrize("num_tasks", [1, 2])
def test_of_fewer_tasks_all_must_fail_twice(num_tasks: int) -> None:
    faults = RepeatedFaults(num_tasks)
    ids = [str(n) for n in range(num_tasks)]
    said = [faults.met("deep", "E", (task_id,)) for _ in range(2) for task_id in ids]
    assert said[-1] == ids and not any(said[:-1])


class FaultyPool(FakePool):
    """A job may give another event than it should: those that `fault` names."""

    def __init__(
        self,
        clock: VirtualClock,
        fault: Callable[[Job], Event | Died | None],
        *,
        plain: str = "",
        num_searching: int = 0,
    ) -> None:
        """plain: what stands in for the engines when they are made plain, once."""
        chosen = settings(BUDGET_S)
        true = costs(TASKS, step_s=0.02, view_s=0.05)
        search = dict.fromkeys(TASKS.ids(), 5.0)
        imagined = ImaginedCosts(true, chosen, load_s=2.0, search=search)
        super().__init__(imagined, clock, num_workers=1, num_searching=num_searching)
        self._clock_of_test, self._fault, self.plain = clock, fault, plain
        self.jobs: list[Job] = []

    def make_plain(self, worker: int, *parts: str) -> str:
        change, self.plain = self.plain, ""
        return change

    def submit(self, worker: int, job: Job) -> None:
        self.jobs.append(job)
        event, now_s = self._fault(job), self._clock_of_test.now()
        if event is None:
            super().submit(worker, job)
        elif isinstance(event, Trained | LeftOut):
            # The job goes on without it.
            self.put(worker, now_s + 0.1, event)
            ids = [task.task_id for task in job.tasks]
            self.put(worker, now_s + 0.2, Finished(job_id=job.job_id, complete=ids, seconds=0.2))
        else:
            self.put(worker, now_s + 0.1, event)


@dataclass
class Told:
    coverage: Coverage
    fault: EngineError | None
    seconds: float
    jobs: list[Job]
    lines: list[str] = field(default_factory=list)

    def tries(self, task_id: str, stage: str = "deep") -> list[int]:
        """The rung of each job that the task had alone."""
        alone = [j for j in self.jobs if j.stage == stage and len(j.tasks) == 1]
        return [j.rung for j in alone if j.tasks[0].task_id == task_id]


def run(
    fault: Callable[[Job], Event | Died | None],
    *,
    goes_on: bool = False,
    plain: str = "",
    journal: Journal | None = None,
    **values: object,
) -> Told:
    clock, lines = VirtualClock(), list[str]()
    journal = journal or memory_journal(TASKS)
    pool = FaultyPool(clock, fault, plain=plain)
    chosen = settings(BUDGET_S, run__rounds=1, strategy="transduction", **values)
    failure = None
    try:
        orchestrator(
            TASKS, chosen, pool, clock, journal=journal, tell=lines.append, goes_on=goes_on
        ).run()
    except EngineError as raised:
        failure = raised
    return Told(coverage_of(journal), failure, clock.now(), pool.jobs, lines)


def failed(job: Job, message: str = "ValueError: odd", kind: str = "engine") -> Failed:
    return Failed.model_validate({"job_id": job.job_id, "kind": kind, "message": message})


def untrained(job: Job) -> Trained | None:
    if job.stage != "deep" or not job.train_until_s:
        return None
    return Trained(
        job_id=job.job_id,
        task_id=job.tasks[0].task_id,
        seconds=0.1,
        reason=f"ValueError: row {job.job_id}",
        cause="fault",
    )


@pytest.mark.parametrize(("kind", "code"), [("engine", EXIT_COVERAGE), ("input", EXIT_INPUT)])
def test_a_fault_of_all_tasks_ends_the_run_in_its_first_minute(kind: str, code: int) -> None:
    told = run(lambda job: failed(job, f"ValueError: odd {job.job_id}", kind))
    assert isinstance(told.fault, SameFault) and told.fault.exit_code == code
    assert "ValueError: odd" in str(told.fault) and "3 tasks in a row" in str(told.fault)
    assert told.seconds < 60
    assert any(line.startswith("the run ends") for line in told.lines)


def test_a_fault_of_one_task_costs_that_task_alone_and_two_tries_on_its_rung() -> None:
    victim = TASKS.ids()[4]
    told = run(
        lambda job: failed(job) if victim in [t.task_id for t in job.tasks] else None,
    )
    assert told.fault is None
    assert told.tries(victim, "quick") == [0, 0]
    assert told.tries(victim) == [0, 0], "no rung of the memory ladder is tried"
    assert (told.coverage.sampled, told.coverage.trained) == (11, 11)
    assert told.coverage.given_up["deep: ValueError: odd"] == [victim]
    assert any(
        line.startswith("given up at deep") and victim in line for line in told.coverage.lines()
    )


def test_faults_of_many_tasks_are_named_a_few_of_them() -> None:
    ids = set(TASKS.ids()[::2])
    told = run(lambda job: untrained(job) if job.tasks[0].task_id in ids else None)
    assert told.fault is None and told.coverage.trained == 6
    (line,) = [line for line in told.coverage.lines() if line.startswith("given up at train")]
    assert "and 2 more" in line and "ValueError: row" in line
    assert "6 not trained: ValueError: row *" in " ".join(told.coverage.lines())


@pytest.mark.parametrize(("exit_code", "ends"), [(-11, True), (1, True), (-9, False), (-15, False)])
def test_workers_that_die_of_themselves_count_and_kills_from_outside_do_not(
    exit_code: int, ends: bool
) -> None:
    told = run(lambda job: Died(exit_code, "RuntimeError: x") if job.stage == "deep" else None)
    assert (told.fault is not None) == ends
    rungs = {rung for task_id in TASKS.ids() for rung in told.tries(task_id)}
    assert rungs == ({0} if ends else {0, 1}), "a kill is most likely a lack of memory"


def test_plainer_engines_stand_in_before_the_run_ends() -> None:
    state = {"is_broken": True}
    pools: list[str] = []

    def fault(job: Job) -> Event | None:
        if state["is_broken"] and job.stage == "quick":
            pools.append(job.stage)
            state["is_broken"] = len(pools) < 1 + IN_A_ROW
            return failed(job, "EngineError: vLLM does not take the request")
        return None

    told = run(fault, plain="transformers in place of vllm")
    assert told.fault is None
    assert told.coverage.sampled == len(TASKS)
    assert any("all go on with transformers in place of vllm" in line for line in told.lines)
    assert list(told.coverage.setbacks) == [
        "transformers in place of vllm, because tasks failed in the quick pass"
    ]


def test_a_run_that_nobody_can_start_again_answers_untrained_to_its_end() -> None:
    told = run(untrained, goes_on=True)
    assert isinstance(told.fault, SameFault) and told.fault.exit_code == EXIT_COVERAGE
    assert (told.coverage.deep, told.coverage.trained) == (12, 0)
    assert told.coverage.untrained_causes == {"fault": 12}
    trains = [job for job in told.jobs if job.stage == "deep" and job.train_until_s]
    assert len(trains) == IN_A_ROW, "nothing is trained any more"
    assert sum("nobody can start this run again" in line for line in told.lines) == 1


def test_there_an_input_that_is_at_fault_does_not_end_it_either() -> None:
    told = run(
        lambda job: failed(job, kind="input") if job.stage == "quick" else None, goes_on=True
    )
    assert told.fault is not None and told.fault.exit_code == EXIT_COVERAGE
    assert told.coverage.deep == 12


def test_what_always_fails_and_is_left_out_ends_the_run_as_well() -> None:
    def fault(job: Job) -> Event | None:
        if job.stage != "deep":
            return None
        return LeftOut(job_id=job.job_id, part="scores", message="KeyError: 'x'", blame="engine")

    told = run(fault)
    assert "at scoring answers" in str(told.fault)
    assert told.coverage.setbacks == {"answers were not scored: KeyError: 'x'": 3}


def test_after_the_fault_is_mended_the_same_run_trains_its_tasks(tmp_path: Path) -> None:
    journal = memory_journal(TASKS)
    broken = run(untrained, journal=journal)
    assert broken.fault is not None and broken.coverage.trained == 0
    assert broken.coverage.deep == IN_A_ROW - 1

    mended = run(lambda job: None, journal=journal)
    assert mended.fault is None
    assert (mended.coverage.trained, mended.coverage.deep) == (12, 12)
    assert mended.coverage.given_up == {}


@pytest.mark.parametrize("cause", ["length", "memory", "harm", "result", "fault"])
def test_nothing_trained_for_another_reason_than_time_is_a_shortfall(cause: str) -> None:
    def fault(job: Job) -> Event | None:
        event = untrained(job)
        return event and event.model_copy(
            update={"cause": cause, "reason": f"because {job.job_id}"}
        )

    floors = RunSettings()
    assert floors.min_trained_share == 0
    told = run(fault, goes_on=True)
    (line,) = told.coverage.shortfalls(floors, train_enabled=True)
    assert line.startswith("trained 0/12") and "because" in line
    assert told.coverage.shortfalls(floors, train_enabled=False) == []


def test_nothing_trained_for_want_of_time_is_none() -> None:
    def late(job: Job) -> Event | None:
        event = untrained(job)
        return event and event.model_copy(update={"cause": "time", "reason": "no time"})

    told = run(late)
    assert told.fault is None
    assert told.coverage.shortfalls(RunSettings(), train_enabled=True) == []


def test_a_rehearsal_plays_the_fault(tmp_path: Path) -> None:
    chosen = settings(BUDGET_S)
    true = ImaginedCosts(costs(TASKS, step_s=0.02, view_s=0.05), chosen, load_s=2.0)
    crew = Crew(chosen, true, num_workers=2)
    all_fail = rehearse(TASKS, crew, budget_s=BUDGET_S, faults=Faults({"fault": 1.0}))
    assert all_fail.failure is not None and "at training" in all_fail.failure
    assert all_fail.seconds < 60

    some_fail = rehearse(TASKS, crew, budget_s=BUDGET_S, faults=Faults({"fault": 0.2}))
    assert some_fail.failure is None
    assert 0 < some_fail.coverage.trained < len(TASKS) == some_fail.coverage.deep
