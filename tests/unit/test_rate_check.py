"""The check of the learning rate: what is asked, what it decides, and what a run makes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from appliance.arc.task import TaskSet
from appliance.clock import VirtualClock
from appliance.config import Layer
from appliance.machine.host import Host
from appliance.machine.imagined import imagined
from appliance.machine.machine import Machine
from appliance.machine.platforms import Platform
from appliance.machine.software import EVERYTHING
from appliance.record.coverage import coverage_of
from appliance.record.journal import Journal
from appliance.run.pool import Died
from appliance.run.rehearsal.fake_pool import FakePool, ImaginedCosts
from appliance.run.rehearsal.faults import Faults
from appliance.run.schedule.planned_costs import PlannedCosts
from appliance.run.schedule.rate_check import FACT, FEWEST_TASKS, RateCheck, Verdict, judge
from appliance.run.schedule.schedule import Schedule
from appliance.run.schedule.task_state import Assignment
from appliance.sizing.costs.model_card import load_card
from appliance.sizing.make_plan import make_plan
from appliance.sizing.request import PlanRequest
from appliance.solve.messages import Checked, Job
from tests.support.run_world import memory_journal, orchestrator, tasks

GIB = 1 << 30
HOST = Host("CPU", 4, "affinity", 32 * GIB, "physical", 30 * GIB, ())
MACHINE = imagined(Machine((), HOST, Platform()), "H100")
RATES = (1e-5, 3e-5, 9e-5)


def planned_of(task_set: TaskSet, **values: object) -> PlannedCosts:
    budget_s = 36_000.0
    given = {key.replace("__", "."): value for key, value in values.items()}
    layers = (Layer("test", {"strategy": "transduction", "run.budget_s": budget_s} | given),)
    request = PlanRequest(MACHINE, (load_card("arc-mini"),), EVERYTHING, task_set, layers, budget_s)
    return PlannedCosts.of(make_plan(request), task_set)


class Check:
    """A check over some tasks, with what it tells."""

    def __init__(
        self,
        num_tasks: int = 60,
        *,
        device_s: float = 36_000.0,
        is_given: bool = False,
        journal: Journal | None = None,
        **values: object,
    ) -> None:
        task_set = tasks(num_tasks)
        self.planned = planned_of(task_set, **values)
        self.schedule = Schedule(task_set, self.planned.settings, end_s=36_000, num_workers=2)
        self.journal = journal or memory_journal(task_set)
        self.told: list[str] = []
        self.check = RateCheck(
            self.schedule, self.journal, self.told.append, device_s=device_s, is_given=is_given
        )

    def next(self) -> Assignment | None:
        return self.check.next(self.planned, 0.0)

    def all(self) -> list[Assignment]:
        return list(iter(self.next, None))

    def answer(self, assignment: Assignment, untrained: float, *trained: float) -> None:
        task_id = assignment.tasks[0].task_id
        self.check.take(
            Checked(job_id=0, task_id=task_id, untrained=untrained, trained=list(trained))
        )


def said(untrained: float, *trained: float) -> Checked:
    return Checked(job_id=0, task_id="t", untrained=untrained, trained=list(trained))


def test_tasks_with_three_demonstrations_are_asked_as_long_as_they_will_be_trained() -> None:
    check = Check()
    given_out = check.all()
    assert len(given_out) == 8
    assert all(len(a.tasks[0].train) >= 3 for a in given_out)
    assert len({a.tasks[0].task_id for a in given_out}) == 8
    assert {a.num_steps for a in given_out} == {check.planned.steps_per_task}
    planned = check.planned.settings.train.learning_rate
    assert given_out[0].rates == pytest.approx((planned / 3, planned, 3 * planned))


@pytest.mark.parametrize("device_s", [30.0, 300.0, 3000.0, 30_000.0])
def test_it_takes_no_more_than_a_hundredth_of_the_time(device_s: float) -> None:
    check = Check(device_s=device_s)
    given_out = check.all()
    assert sum(a.expected_until_s for a in given_out) <= 0.01 * device_s
    if not given_out:
        assert "is not checked" in check.told[0]


def test_too_few_tasks_with_three_demonstrations_are_no_check() -> None:
    check = Check(num_tasks=2)
    assert check.all() == []
    assert "not checked" in check.told[0]


@pytest.mark.parametrize(
    "values",
    [{"train__check": "skip"}, {"train__enabled": False}, {"strategy": "search,induction"}],
)
def test_nothing_is_checked_where_nothing_could_be_learnt_from_it(
    values: dict[str, Any],
) -> None:
    if "strategy" in values:  # arc-mini writes no programs; the check does not ask why
        check = Check()
        check.schedule.settings = check.schedule.settings.model_copy(
            update={"strategy": ("induction",)}
        )
        check.check = RateCheck(
            check.schedule, check.journal, check.told.append, device_s=36_000.0, is_given=False
        )
    else:
        check = Check(**values)
    assert check.all() == []
    assert check.told == []


def test_a_rate_that_is_given_is_the_only_one_tried() -> None:
    check = Check(is_given=True, train__learning_rate=0.25)
    assert {a.rates for a in check.all()} == {(0.25,)}


@pytest.mark.parametrize(
    ("found", "taken"),
    [
        ([said(1.0, 0.9, 0.8, 0.5)] * 4, RATES[2]),
        ([said(1.0, 0.5, 0.8, 0.9)] * 4, RATES[0]),
        ([said(1.0, 0.9, 0.8, 0.79)] * 4, RATES[1]),  # better by less than the noise
        ([said(1.0, 0.9, 0.8, 0.1)] + [said(1.0, 0.9, 0.8, 0.85)] * 3, RATES[1]),  # on one alone
    ],
)
def test_another_rate_is_taken_where_it_is_clearly_better(
    found: list[Checked], taken: float
) -> None:
    assert judge(RATES, found) == Verdict(taken, is_harmful=False)


@pytest.mark.parametrize(
    ("found", "is_harmful"),
    [
        ([said(1.0, 1.3, 1.2, 1.4)] * 4, True),
        ([said(1.0, 0.9, 1.2, 1.4)] * 4, False),  # a third of the rate helps
        ([said(1.0, 0.8, 0.8, 0.8)] * 2 + [said(1.0, 2.0, 1.1, 2.0)] * 2, False),  # on a half
        ([said(1.0, 0.1, 0.1, 0.1)] + [said(1.0, 1.0, 1.1, 1.1)] * 3, False),  # the mean is better
    ],
)
def test_harm_is_what_most_tasks_and_their_mean_say(found: list[Checked], is_harmful: bool) -> None:
    assert judge(RATES, found).is_harmful == is_harmful


def test_the_verdict_is_told_kept_and_followed() -> None:
    check = Check()
    for assignment in check.all():
        check.answer(assignment, 1.0, 0.9, 0.8, 0.3)
    assert check.schedule.learning_rate == pytest.approx(3e-3)
    assert "0.300 at 0.003" in check.told[0] and "0.003 is taken" in check.told[0]

    # A run that is resumed goes on with it.
    again = Check(journal=check.journal)
    assert again.all() == []
    assert again.schedule.learning_rate == pytest.approx(3e-3)


def test_tasks_that_gave_nothing_do_not_decide() -> None:
    check = Check()
    given_out = check.all()
    for assignment in given_out[FEWEST_TASKS:]:
        check.check.lose(assignment, "out of memory")
    check.check.take(Checked(job_id=0, task_id="t", untrained=None, trained=[], reason="cut off"))
    for assignment in given_out[: FEWEST_TASKS - 1]:
        check.answer(assignment, 1.0, 9.0, 9.0, 9.0)
    assert "came to nothing" in check.told[-1]
    assert check.schedule.learning_rate is None
    assert check.journal.fact(FACT) is None


class CheckedPool(FakePool):
    """Keeps the jobs; its worker dies at the first job of a check, if asked to."""

    def __init__(self, *args: object, dies: bool = False, **named: object) -> None:
        super().__init__(*args, **named)  # type: ignore[arg-type]
        self.jobs: list[Job] = []
        self._dies = dies

    def submit(self, worker: int, job: Job) -> None:
        self.jobs.append(job)
        if job.stage == "check" and self._dies:
            self._dies = False
            self.put(worker, self._clock.now() + 1.0, Died(-9, "killed"))
            return
        super().submit(worker, job)


def whole_run(
    harm: float, *, dies: bool = False, **values: object
) -> tuple[CheckedPool, list[str], Journal]:
    """A run of ten hours over 30 tasks with two workers."""
    task_set, clock = tasks(30), VirtualClock()
    planned = planned_of(task_set, **values)
    true = ImaginedCosts(planned.task_costs(), planned.settings, load_s=2.0)
    pool = CheckedPool(true, clock, num_workers=2, faults=Faults({"harm": harm}), dies=dies)
    journal, told = memory_journal(task_set), list[str]()
    orchestrator(
        task_set, planned.settings, pool, clock, journal=journal, planned=planned, tell=told.append
    ).run()
    return pool, told, journal


def test_a_run_checks_after_the_probe_and_before_any_training() -> None:
    pool, told, _ = whole_run(harm=0.0)
    stages = [job.stage for job in pool.jobs]
    assert stages.count("check") == 8
    assert stages.index("probe") < stages.index("check") < stages.index("deep")
    assert any("0.001 stays" in text for text in told)

    deep = [job for job in pool.jobs if job.stage == "deep"]
    assert {job.learning_rate for job in deep} == {1e-3}
    assert any(job.train_until_s for job in deep)


def test_a_model_that_training_harms_answers_untrained_and_that_is_said_loudly() -> None:
    pool, told, journal = whole_run(harm=1.0)
    assert any("TRAINING AT TEST TIME HARMS THIS MODEL" in text for text in told)
    deep = [job for job in pool.jobs if job.stage == "deep"]
    assert deep and not any(job.train_until_s for job in deep)

    coverage = coverage_of(journal)
    assert coverage.trained == 0 and coverage.sampled == 30
    assert coverage.untrained_reasons == {"training harms this model": 30}


def test_told_otherwise_it_trains_all_the_same() -> None:
    pool, told, _ = whole_run(harm=1.0, train__check="tell")
    assert any("HARMS" in text for text in told)
    assert any(job.train_until_s for job in pool.jobs if job.stage == "deep")


def test_a_worker_that_dies_at_the_check_costs_one_task_of_it() -> None:
    _, told, journal = whole_run(harm=0.0, dies=True)
    assert any("check of the learning rate failed at" in text for text in told)
    assert any("checked on 7 tasks" in text for text in told)
    assert coverage_of(journal).deep == 30


def test_a_check_of_few_tasks_is_still_one() -> None:
    check = Check(num_tasks=20)
    few = replace(check.planned, steps_per_task=40)
    found = list(iter(lambda: check.check.next(few, 0.0), None))
    assert FEWEST_TASKS <= len(found) <= 8
