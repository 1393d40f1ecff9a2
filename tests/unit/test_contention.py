"""Other work on the same cores: a run expects all to take longer, and still answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.clock import VirtualClock
from appliance.config import Settings
from appliance.machine.contention import MOST, slowdown
from appliance.machine.software import Software
from appliance.record.journal import Journal
from appliance.run.orchestrator import END_CPU_S
from appliance.run.probe import Prober
from appliance.run.rehearsal.fake_pool import FakePool, ImaginedCosts
from appliance.run.schedule.planned_costs import PROBE_SHARE
from appliance.run.schedule.quick_pass import FIRST_QUICK_TASKS
from appliance.run.schedule.schedule import Schedule
from appliance.sizing.pick_engine import on_busy_cores
from tests.support.run_world import costs, orchestrator, settings, tasks
from tests.unit.test_planned_costs import planned_costs_of


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("2000000000 6000000000 40", 4.0),
        ("2000000000 0 1", 1.0),
        ("1 90000000000 7", MOST),
        ("0 0 0", 1.0),
        ("a counter of another kind", 1.0),
    ],
)
def test_a_slowdown_is_what_was_waited_for_a_core(
    told: str, expected: float, tmp_path: Path
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/schedstat").write_text(told + "\n")
    assert slowdown(tmp_path) == expected


def test_a_system_that_does_not_tell_counts_as_quiet(tmp_path: Path) -> None:
    assert slowdown(tmp_path) == 1.0
    assert 1.0 <= slowdown() <= MOST


def prober_of(end_s: float) -> tuple[Prober, Schedule, list[str]]:
    task_set, told = tasks(6, most_side=20), list[str]()
    planned = planned_costs_of(task_set)
    schedule = Schedule(
        task_set, planned.settings, end_s=end_s, num_workers=2, costs=planned.task_costs()
    )
    journal = Journal(Path(":memory:"))
    return Prober(planned, schedule, journal, told.append, 2 * end_s), schedule, told


def test_the_first_worker_says_how_slow_all_will_be() -> None:
    prober, schedule, told = prober_of(600.0)
    (task_id, *_) = schedule.states
    forecast = schedule.forecast

    def expected_s() -> list[float]:
        return [forecast.step_s(task_id) or 0.0, forecast.sample_s("deep", [task_id], 1) or 0.0]

    quiet_s = expected_s()
    prober.expect(5.0)
    prober.expect(9.0)  # the second worker: its own start disturbed the first one's work
    assert expected_s() == pytest.approx([5 * seconds for seconds in quiet_s])
    assert len(told) == 1 and "5.0 times as long" in told[0]


def test_a_busy_machine_is_probed_on_a_task_that_fits_the_share_of_a_probe() -> None:
    quiet, _, _ = prober_of(600.0)
    busy, _, _ = prober_of(600.0)
    all_s = sorted(map(quiet.planned.probe_s, quiet.planned.lengths))
    slow = PROBE_SHARE * 1200.0 / all_s[2]  # so that the third task just fits
    busy.expect(slow)
    on_quiet, on_busy = quiet.next(0.0), busy.next(0.0)
    assert on_quiet and on_busy

    planned, task_id = busy.planned, on_busy.tasks[0].task_id
    assert planned.probe_s(task_id) <= PROBE_SHARE * 1200.0
    assert planned.probe_s(on_quiet.tasks[0].task_id) > PROBE_SHARE * 1200.0


def test_a_worker_that_had_its_core_changes_nothing() -> None:
    prober, _, told = prober_of(600.0)
    before = prober.planned
    prober.expect(1.1)
    assert prober.planned is before and told == []


def test_the_first_quick_jobs_are_small_so_that_answers_come_soon() -> None:
    task_set = tasks(12)
    schedule = Schedule(
        task_set,
        settings(600.0),
        end_s=600.0,
        num_workers=2,
        costs=costs(task_set, step_s=0.1, view_s=0.1),
    )
    first, second = schedule.next(0.0), schedule.next(0.0)
    assert first and second
    assert [len(job.tasks) for job in (first, second)] == [FIRST_QUICK_TASKS] * 2

    schedule.finished(first, [t.task_id for t in first.tasks], seconds=0.4)
    third = schedule.next(0.5)
    assert third and len(third.tasks) > FIRST_QUICK_TASKS


def test_a_quick_job_takes_no_more_tasks_than_its_time_holds() -> None:
    """A batch that is cut off gives no answer at all."""
    task_set = tasks(8)
    planned = costs(task_set, step_s=100.0, view_s=12.0)
    schedule = Schedule(task_set, settings(60.0), end_s=60.0, num_workers=1, costs=planned)
    now_s = 0.0
    while (job := schedule.next(now_s)) is not None and job.stage == "quick":
        needed_s = job.num_views * sum(planned[t.task_id].view for t in job.tasks)
        assert len(job.tasks) == 1 or now_s + needed_s <= job.until_s
        schedule.finished(job, [t.task_id for t in job.tasks], seconds=needed_s)
        now_s += needed_s
    assert sum(s.quick.status == "done" for s in schedule.states.values()) >= 3


def test_on_busy_cores_the_work_ends_earlier_so_that_the_command_ends_in_time() -> None:
    task_set, chosen = tasks(6), settings(100.0)
    true_costs = ImaginedCosts(costs(task_set, step_s=1.0, view_s=1.0), chosen, load_s=2.0)

    def ended_s(slow: float) -> float:
        clock = VirtualClock()
        pool = FakePool(true_costs, clock, num_workers=2)
        orchestrator(task_set, chosen, pool, clock, slowdown=slow).run()
        return clock.now()

    assert ended_s(20.0) <= 100.0 - 20.0 * END_CPU_S < ended_s(1.0)


def test_vllm_is_not_started_where_its_start_would_take_the_time() -> None:
    both, auto = Software(engines=("vllm", "transformers")), Settings()

    def engines(slow: float, chosen: Settings = auto) -> tuple[str, ...]:
        return on_busy_cores(both, chosen, slowdown=slow, budget_s=120.0).engines

    assert engines(1.0) == both.engines, "on a quiet machine the plan decides"
    assert engines(8.0) == ("transformers",)
    assert on_busy_cores(both, auto, slowdown=8.0, budget_s=36_000.0) == both
    asked = auto.model_copy(update={"model": auto.model.model_copy(update={"engine": "vllm"})})
    assert engines(8.0, asked) == both.engines

    why = on_busy_cores(both, auto, slowdown=8.0, budget_s=120.0).vllm_fault
    assert why and "8.0 times as long" in why


def test_on_busy_cores_every_task_is_asked_before_one_is_trained() -> None:
    def asked_first(slow: float) -> int:
        """Tasks that are asked before the first training, by a worker that needs 5 s for each."""
        task_set = tasks(16)
        planned = costs(task_set, step_s=0.1, view_s=5.0)
        schedule = Schedule(task_set, settings(100.0), end_s=100.0, num_workers=1, costs=planned)
        schedule.slowdown = slow
        now_s = 0.0
        while (job := schedule.next(now_s)) is not None and job.stage == "quick":
            seconds = 5.0 * len(job.tasks)
            now_s += seconds
            schedule.finished(job, [t.task_id for t in job.tasks], seconds=seconds)
        return sum(s.quick.status == "done" for s in schedule.states.values())

    assert asked_first(1.0) < asked_first(8.0) == 16
